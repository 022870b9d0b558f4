//! The reduce kernels: how elements are combined, and copied.
//!
//! # What a reduction computes
//!
//! - **Integers** wrap. An average divides the wrapped sum by the number of ranks and truncates towards zero.
//! - **`f32` and `f64`** are combined in their own type, `f16`, `bf16`, `f8e4m3` and `f8e5m2` in `f32`: all operands of
//!   one fold from left to right, then **one** rounding to the element type, to the nearest, ties to even. Subnormals
//!   are kept.
//! - **8-bit floats saturate** in that rounding, as CUDA's conversion does: what is too large, infinity included,
//!   becomes the largest finite number (448, 57344) with its sign. A NaN stays a NaN.
//! - **Minimum and maximum**: a NaN in any operand gives a NaN; -0 is smaller than +0. So the result does not depend on
//!   the order.
//! - **Average**: the sum, then a true division by the number of ranks, before the rounding.
//! - **Pre-multiplied sum**: each rank's own input times that rank's factor (in `f32` for `f32` and narrower types, to
//!   which the factor is rounded; in `f64` for `f64`; wrapping for integers), rounded to the element type, because the
//!   same contribution is a message to other ranks; then the sum.
//! - **One operand** that is neither scaled nor divided is copied bit by bit: the payload of a NaN, and an infinity of
//!   `f8e5m2`, are kept.
//!
//! # Which bits are guaranteed
//!
//! A result depends on the values, their order and their number alone: not on addresses, alignment, the number or kind
//! of sinks, the vector instructions (see [`Level`]) or the architecture. All sinks of a fold get the same bits. That
//! holds for NaNs too: a NaN that a fold computes is always the positive quiet one without payload (`f32` 0x7FC00000,
//! `f64` 0x7FF8000000000000, `f16` 0x7E00, `bf16` 0x7FC0, `f8e4m3` 0x7F, `f8e5m2` 0x7E). So ranks that compute the same
//! fold redundantly, on unequal processors, agree on every bit.
//!
//! The arithmetic assumes the default floating-point environment (round to nearest, subnormals on) in the calling
//! thread, as all Rust code does.
//!
//! # How it is built
//!
//! ```text
//!   Kernel ── select: type × reduction × level ──> a loop of fold ── made of ──> number, narrow: widen, combine, round
//!   copy ──────────────────────────────────────────────────────────────────────> short, or stream: non-temporal stores
//! ```
//!
//! Everything goes through raw pointers by value: the memory may be mapped by other processes, so no reference to it is
//! ever formed.

mod fold;
mod level;
mod narrow;
mod number;
mod select;
mod short;
mod stream;
#[cfg(test)]
mod tests;

pub use level::Level;
pub use stream::{copy, copy_to_one};

use crate::error::{Error, Result};
use crate::types::{DataType, ReduceOp, Reduction, Scalar};
use fold::Work;
use select::{Run, select};

/// Where an operand of a fold lies. Any alignment will do.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// Its first byte.
    pub at: *const u8,
    /// A rank's own input, which a pre-multiplied sum scales. No other reduction looks at it.
    pub raw: bool,
}

/// Where a result goes. Any alignment will do.
#[derive(Clone, Copy, Debug)]
pub struct Sink {
    /// Its first byte.
    pub at: *mut u8,
    /// Write round the caches: worth it where the sink is larger than they are and is not read soon.
    pub stream: bool,
    /// What will be read next, or null: while this sink is written, as much of that is fetched, so that reading from memory, writing to it
    /// and arithmetic overlap. Only a hint: the address need not be valid.
    pub ahead: *const u8,
}

impl Sink {
    /// Written as usual.
    #[inline(always)]
    pub fn cached(at: *mut u8) -> Sink {
        Sink { at, stream: false, ahead: std::ptr::null() }
    }

    /// Written round the caches if `stream` says so.
    #[inline(always)]
    pub fn new(at: *mut u8, stream: bool) -> Sink {
        Sink { at, stream, ahead: std::ptr::null() }
    }
}

/// A reduction made ready: element type, operation, number of ranks, this rank's factor and the processor's
/// instructions are resolved once per call.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    run: Run,
    dtype: DataType,
    reduction: Reduction,
    level: Level,
    ranks: u32,
    factor: Option<u64>,
}

impl Kernel {
    /// A kernel with the best instructions that the processor has and `RINGTREE_SIMD` allows.
    pub fn new(dtype: DataType, op: ReduceOp, ranks: u32) -> Result<Kernel> {
        Kernel::at_level(Level::of_this_process()?, dtype, op, ranks)
    }

    /// A kernel with just these instructions, or an error where the processor lacks them.
    pub fn at_level(level: Level, dtype: DataType, op: ReduceOp, ranks: u32) -> Result<Kernel> {
        if !level.available() {
            return Err(Error::Choice {
                what: format!("this processor can't run reduce kernels at level {level}"),
                advice: "Choose a lower level; portable is always there".into(),
            });
        }
        if ranks == 0 {
            return Err(Error::misuse("a reduction over 0 ranks", "Give the size of the communicator"));
        }
        let factor = match op {
            ReduceOp::PreMulSum(scalar) => Some(factor_bits(dtype, scalar)?),
            _ => None,
        };
        let reduction = op.reduction();
        Ok(Kernel { run: select(level, dtype, reduction), dtype, reduction, level, ranks, factor })
    }

    /// The instructions that it uses.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The element type.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// Whether a rank's own input must pass through a fold before anybody else may add it up: a pre-multiplied sum
    /// scales it.
    pub fn needs_scaling(&self) -> bool {
        self.reduction == Reduction::PreMulSum
    }

    /// Combines element `i` of the operands in their order, for each `i` below `count`, and writes the result to
    /// element `i` of every sink. `finish` says that this makes the final value: an average divides. No heap is used.
    /// The non-temporal stores of streamed sinks are fenced at the end.
    ///
    /// # Panics
    ///
    /// Without an operand.
    ///
    /// # Safety
    ///
    /// Each operand is valid for reads, each sink for writes of `count` elements, and nobody else writes an operand or
    /// touches a sink meanwhile. A sink is exactly one of the operands or overlaps none; sinks do not overlap each
    /// other.
    pub unsafe fn fold(&self, operands: &[Operand], sinks: &[Sink], count: usize, finish: bool) {
        assert!(!operands.is_empty(), "a fold needs an operand");
        let divisor = (finish && self.reduction == Reduction::Average).then_some(self.ranks);
        match operands {
            [only] if divisor.is_none() && !(only.raw && self.needs_scaling()) => {
                // SAFETY: the caller's contract is that of `copy` for one operand of `count` elements.
                unsafe { copy(only.at, sinks, count * self.dtype.size()) }
            }
            _ => {
                let work = Work { operands, sinks, count, divisor, factor: self.factor };
                // SAFETY: the caller's contract; `at_level` has seen that the processor has the instructions of `run`.
                unsafe { (self.run)(&work) }
            }
        }
    }
}

/// The factor of a pre-multiplied sum as the bits of the type in which it multiplies.
fn factor_bits(dtype: DataType, scalar: Scalar) -> Result<u64> {
    let unfit = |what: String, advice: &str| Err(Error::misuse(what, advice));
    match scalar {
        Scalar::Float(value) if dtype == DataType::F64 => Ok(value.to_bits()),
        Scalar::Float(value) if dtype.is_float() => Ok(u64::from((value as f32).to_bits())),
        Scalar::Float(value) => match whole(dtype, value) {
            Some(integer) => Ok(integer as u64),
            None => unfit(
                format!("a pre-multiplied sum of {dtype} with the factor {value}, which is no {dtype}"),
                "Give a whole number within the range of the element type, or use a float type",
            ),
        },
        Scalar::Integer(value) if !dtype.is_float() => Ok(value as u64),
        Scalar::Integer(value) => {
            let (double, single) = (value as f64, value as f32);
            let exact = if dtype == DataType::F64 { double as i128 } else { single as i128 } == i128::from(value);
            match exact {
                true if dtype == DataType::F64 => Ok(double.to_bits()),
                true => Ok(u64::from(single.to_bits())),
                false => unfit(
                    format!("a pre-multiplied sum of {dtype} with the factor {value}, which has too many digits"),
                    "Give the factor as a float, which is rounded",
                ),
            }
        }
    }
}

/// The float as an integer of that type, if it is one.
fn whole(dtype: DataType, value: f64) -> Option<i128> {
    let bits = 8 * dtype.size() as u32;
    let (least, most) = match dtype {
        DataType::I8 | DataType::I32 | DataType::I64 => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
        _ => (0, (1i128 << bits) - 1),
    };
    let integer = value as i128;
    (integer as f64 == value && (least..=most).contains(&integer)).then_some(integer)
}
