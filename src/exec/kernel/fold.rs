//! The loops.
//!
//! ```text
//!   two operands, the step of a ring or tree             any number of operands
//!
//!   block of a ─┐                                        span of a ─> widen ─> sums (4 KiB, stays in the L1 cache)
//!               ├ widen, combine, round ─> sinks         span of b ─> widen, combine ─┘ │
//!   block of b ─┘                                        span of … ─> widen, combine ───┘
//!   whole blocks, in registers from load to store        sums ─> divide, round ─> span of results (L1) ─> sinks
//! ```
//!
//! Both work on blocks of [`BLOCK`] elements that are copied out of the operands and into the sinks by value. So the
//! compiler need not prove that a sink is not an operand, and the in-place loop is the vector loop. The last, partial
//! block is filled up with zeros and goes through the same instructions, or through the same arithmetic element by element where
//! there are few. Which of the two loops
//! runs is a matter of speed: the arithmetic on an element is the same, down to the bits of a NaN.

use super::level::Isa;
use super::number::{BLOCK, Combine, Number, Wide};
use super::stream::{LINE, ahead_of, fence, put, store_line};
use super::{Operand, Sink};
use crate::sys::cache::fetch;
use std::mem::MaybeUninit;
use std::ptr;

/// Bytes of sums that are kept between operands: an eighth of a small L1 cache, so that operands and results fit beside
/// them.
const SPAN_BYTES: usize = 4096;

/// Up to so many elements are taken one by one: a block that is filled up costs about 125 instructions, an element about 8. All-reduce of
/// 16 f32 between two near cores of a Zen 2: 170 ns, 180 as a block.
const FEW: usize = 16;

/// One fold, with what the kernel adds to the caller's arguments.
pub(super) struct Work<'a> {
    /// At least one.
    pub operands: &'a [Operand],
    pub sinks: &'a [Sink],
    /// Elements.
    pub count: usize,
    /// Where this fold makes the final value of an average. Not zero.
    pub divisor: Option<u32>,
    /// Where this is a pre-multiplied sum: the bits of the factor.
    pub factor: Option<u64>,
}

/// Runs one fold at one level.
///
/// # Safety
///
/// The contract of [`super::Kernel::fold`], and the level `L` is available.
#[inline(always)]
pub(super) unsafe fn run<T: Number, O: Combine, L: Isa>(work: &Work<'_>) {
    debug_assert!(L::LEVEL.available());
    let aligned = |sink: &Sink| !sink.stream || sink.at.addr().is_multiple_of(LINE);
    let done = match (work.operands, work.sinks) {
        // SAFETY: the caller's contract, passed on.
        ([a, b], [to]) if work.factor.is_none() && !to.stream => unsafe { pair::<T, O, L>(work, a.at, b.at, to) },
        // SAFETY: as above; every sink that is to be streamed to is aligned to lines.
        ([a, b], sinks) if work.factor.is_none() && sinks.iter().all(aligned) => unsafe {
            pair_to_all::<T, O, L>(work, a.at, b.at)
        },
        _ => 0,
    };
    // SAFETY: as above.
    unsafe {
        match work.count - done {
            0 => {}
            1..=FEW => few::<T, O>(work, done),
            _ => many::<T, O, L>(work, done),
        }
    }
    fence(work.sinks);
}

/// The elements from `start` on, one by one: the same arithmetic as that of a block, without filling one up.
///
/// # Safety
///
/// As for [`run`].
#[inline]
unsafe fn few<T: Number, O: Combine>(work: &Work<'_>, start: usize) {
    let factor = work.factor.map(T::Wide::from_factor);
    if let ([a, b], [to], None, None) = (work.operands, work.sinks, factor, work.divisor) {
        for i in start..work.count {
            // SAFETY: as below.
            unsafe {
                let (a, b) = (a.at.cast::<T>().add(i).read_unaligned(), b.at.cast::<T>().add(i).read_unaligned());
                to.at.cast::<T>().add(i).write_unaligned(T::round(O::combine(a.widen(), b.widen()).canonical()));
            }
        }
        return;
    }
    for i in start..work.count {
        // SAFETY: `i < count`; all operands are read before a sink, which may be one of them, is written.
        unsafe {
            let read = |operand: &Operand| {
                let wide = ptr::read_unaligned(operand.at.cast::<T>().add(i)).widen();
                match factor {
                    Some(factor) if operand.raw => T::round(wide.multiply(factor)).widen(),
                    _ => wide,
                }
            };
            let mut sum = read(&work.operands[0]);
            for operand in &work.operands[1..] {
                sum = O::combine(sum, read(operand));
            }
            if O::SUMS
                && let Some(ranks) = work.divisor
            {
                sum = sum.divide(ranks);
            }
            let result = T::round(sum.canonical());
            for sink in work.sinks {
                ptr::write_unaligned(sink.at.cast::<T>().add(i), result);
            }
        }
    }
}

/// The whole blocks of two operands into one sink. Returns the number of elements that are done.
///
/// # Safety
///
/// As for [`run`]; `a`, `b` and `sink` are the operands and the sink.
#[inline(always)]
unsafe fn pair<T: Number, O: Combine, L: Isa>(work: &Work<'_>, a: *const u8, b: *const u8, sink: &Sink) -> usize {
    let to = sink.at;
    let blocks = work.count / BLOCK;
    for i in 0..blocks {
        let at = i * size_of::<[T; BLOCK]>();
        // SAFETY: block `i` ends within `count` elements. Both operands are read before the sink, which may be one of
        // them, is written.
        unsafe {
            // All-reduce of 16 MiB of bf16 in place between two near cores of a Zen 2: 2.19 ms in place of 2.67.
            if !sink.ahead.is_null() {
                for line in (0..size_of::<[T; BLOCK]>()).step_by(LINE) {
                    fetch(sink.ahead.wrapping_add(at + line));
                }
            }
            let result = merged::<T, O, L>(read_block(a.add(at)), read_block(b.add(at)), work.divisor);
            ptr::write_unaligned(to.add(at).cast(), result);
        }
    }
    blocks * BLOCK
}

/// The whole blocks of two operands into any number of sinks; those that are streamed to are aligned to lines. Returns
/// the number of elements that are done.
///
/// # Safety
///
/// As for [`run`]; `a` and `b` are the operands.
#[inline(always)]
unsafe fn pair_to_all<T: Number, O: Combine, L: Isa>(work: &Work<'_>, a: *const u8, b: *const u8) -> usize {
    let blocks = work.count / BLOCK;
    for i in 0..blocks {
        let at = i * size_of::<[T; BLOCK]>();
        // SAFETY: as in `pair`. A block is a whole number of lines, so every line of an aligned sink is aligned.
        unsafe {
            let result = merged::<T, O, L>(read_block(a.add(at)), read_block(b.add(at)), work.divisor);
            for sink in work.sinks {
                if sink.stream {
                    let ahead = ahead_of(sink, at);
                    for line in (0..size_of::<[T; BLOCK]>()).step_by(LINE) {
                        if !ahead.is_null() {
                            fetch(ahead.wrapping_add(line));
                        }
                        store_line::<L>(sink.at.add(at + line), result.as_ptr().cast::<u8>().add(line));
                    }
                } else {
                    ptr::write_unaligned(sink.at.add(at).cast(), result);
                }
            }
        }
    }
    blocks * BLOCK
}

/// Two blocks into one.
#[inline(always)]
fn merged<T: Number, O: Combine, L: Isa>(a: [T; BLOCK], b: [T; BLOCK], divisor: Option<u32>) -> [T; BLOCK] {
    let sums = combined::<T, O>(T::widen_block::<L>(a), T::widen_block::<L>(b));
    finished::<T, O, L>(sums, divisor)
}

/// One block after the other, element by element.
#[inline(always)]
fn combined<T: Number, O: Combine>(mut a: [T::Wide; BLOCK], b: [T::Wide; BLOCK]) -> [T::Wide; BLOCK] {
    for i in 0..BLOCK {
        a[i] = O::combine(a[i], b[i]);
    }
    a
}

/// The division of an average, the one NaN, and the one rounding.
#[inline(always)]
fn finished<T: Number, O: Combine, L: Isa>(mut sums: [T::Wide; BLOCK], divisor: Option<u32>) -> [T; BLOCK] {
    if O::SUMS
        && let Some(ranks) = divisor
    {
        for sum in &mut sums {
            *sum = sum.divide(ranks);
        }
    }
    for sum in &mut sums {
        *sum = sum.canonical();
    }
    T::round_block::<L, true>(sums)
}

/// A block out of an operand.
///
/// # Safety
///
/// `at` is valid for reads of a block; it needs no alignment.
#[inline(always)]
unsafe fn read_block<T: Number>(at: *const u8) -> [T; BLOCK] {
    // SAFETY: the caller vouches for the memory; every bit pattern is a `T`.
    unsafe { ptr::read_unaligned(at.cast()) }
}

/// The first `rest` elements of a block, the others zero.
///
/// # Safety
///
/// `at` is valid for reads of `rest` elements, and `rest` is at most [`BLOCK`].
#[inline(always)]
unsafe fn read_part<T: Number>(at: *const u8, rest: usize) -> [T; BLOCK] {
    let mut block = [T::ZERO; BLOCK];
    // SAFETY: `rest` elements at both ends; the block is this function's own.
    unsafe { ptr::copy_nonoverlapping(at, block.as_mut_ptr().cast(), rest * size_of::<T>()) };
    block
}

/// Memory in this thread's stack that blocks are kept in between passes.
#[repr(align(64))]
struct Bench<const BYTES: usize>(MaybeUninit<[u8; BYTES]>);

impl<const BYTES: usize> Bench<BYTES> {
    #[inline(always)]
    fn new() -> Bench<BYTES> {
        Bench(MaybeUninit::uninit())
    }

    /// The place of block `i`.
    #[inline(always)]
    fn block<B>(&mut self, i: usize) -> *mut B {
        debug_assert!((i + 1) * size_of::<B>() <= BYTES);
        self.0.as_mut_ptr().cast::<B>().wrapping_add(i)
    }
}

/// Any number of operands and sinks, scaled or not, span by span, from element `start` on.
///
/// # Safety
///
/// As for [`run`].
#[inline(always)]
unsafe fn many<T: Number, O: Combine, L: Isa>(work: &Work<'_>, mut start: usize) {
    let span = SPAN_BYTES / size_of::<T::Wide>();
    let mut sums = Bench::<SPAN_BYTES>::new();
    let mut results = Bench::<SPAN_BYTES>::new();
    while start < work.count {
        let length = span.min(work.count - start);
        let at = start * size_of::<T>();
        // SAFETY: `start + length <= count`. All operands of the span are read before a sink, which may be one of them,
        // is written.
        unsafe {
            first::<T, L>(&mut sums, work, at, length);
            // Up to three operands a pass, so that the sums are loaded and stored once for them.
            let mut others = &work.operands[1..];
            while let [a, b, c, rest @ ..] = others {
                next::<T, O, L, 3>(&mut sums, [*a, *b, *c], work.factor, at, length);
                others = rest;
            }
            for operand in others {
                next::<T, O, L, 1>(&mut sums, [*operand], work.factor, at, length);
            }
            for i in 0..length.div_ceil(BLOCK) {
                let result: [T; BLOCK] = finished::<T, O, L>(*sums.block(i), work.divisor);
                results.block::<[T; BLOCK]>(i).write(result);
            }
            put(results.block(0), work.sinks, at, length * size_of::<T>());
        }
        start += length;
    }
}

/// Sets the sums of a span to the first operand.
///
/// # Safety
///
/// The first operand is valid for reads of `length` elements from byte `at` on; `length` is at most a span.
#[inline(always)]
unsafe fn first<T: Number, L: Isa>(sums: &mut Bench<SPAN_BYTES>, work: &Work<'_>, at: usize, length: usize) {
    for i in 0..length.div_ceil(BLOCK) {
        // SAFETY: block `i` begins within `length` elements; the sums hold a span.
        unsafe {
            let block = widened::<T, L>(&work.operands[0], work.factor, at, i, length);
            sums.block::<[T::Wide; BLOCK]>(i).write(block);
        }
    }
}

/// Adds the next `N` operands to the sums of a span, in their order.
///
/// # Safety
///
/// The operands are valid for reads of `length` elements from byte `at` on; `length` is at most a span, which [`first`]
/// has set.
#[inline(always)]
unsafe fn next<T: Number, O: Combine, L: Isa, const N: usize>(
    sums: &mut Bench<SPAN_BYTES>,
    operands: [Operand; N],
    factor: Option<u64>,
    at: usize,
    length: usize,
) {
    for i in 0..length.div_ceil(BLOCK) {
        let place = sums.block::<[T::Wide; BLOCK]>(i);
        // SAFETY: block `i` begins within `length` elements, and `first` has written that block of the sums.
        unsafe {
            let mut sum = place.read();
            for operand in &operands {
                sum = combined::<T, O>(sum, widened::<T, L>(operand, factor, at, i, length));
            }
            place.write(sum);
        }
    }
}

/// Block `i` of an operand's span, scaled if it is raw and there is a factor.
///
/// # Safety
///
/// The operand is valid for reads of `length` elements from byte `at` on, and `i * BLOCK < length`.
#[inline(always)]
unsafe fn widened<T: Number, L: Isa>(
    operand: &Operand,
    factor: Option<u64>,
    at: usize,
    i: usize,
    length: usize,
) -> [T::Wide; BLOCK] {
    // SAFETY: the block begins within the span; a block that does not end there is read in part.
    let block = unsafe {
        let from = operand.at.add(at + i * size_of::<[T; BLOCK]>());
        match length - i * BLOCK {
            rest if rest < BLOCK => read_part(from, rest),
            _ => read_block(from),
        }
    };
    let mut wide = T::widen_block::<L>(block);
    if operand.raw
        && let Some(bits) = factor
    {
        let factor = T::Wide::from_factor(bits);
        for value in &mut wide {
            *value = value.multiply(factor);
        }
        // Rounded to the element type at once: the same contribution may reach another rank as a message.
        wide = T::widen_block::<L>(T::round_block::<L, false>(wide));
    }
    wide
}
