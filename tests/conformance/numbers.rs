//! The oracle's arithmetic, written apart from the library's kernels, and where inputs come from.

use float8::{F8E4M3, F8E5M2};
use half::{bf16, f16};
use ringtree::{Element, Reduction};
use std::fmt::Debug;
use std::sync::OnceLock;

/// A hash of some numbers: all chance in this suite comes from here, so a seed replays everything.
pub fn hash(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0x9e37_79b9_7f4a_7c15, |state, number| {
        let mut z = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A sequence of numbers by chance.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64, name: &str) -> Chance {
        Chance(name.bytes().fold(seed, |state, byte| hash(&[state, u64::from(byte)])))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = hash(&[self.0, 1]);
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// Which element of which rank, for inputs.
#[derive(Clone, Copy)]
pub struct Source {
    pub salt: u64,
    pub rank: usize,
    pub ranks: usize,
    pub reduction: Reduction,
}

/// What inputs look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The result is the same in whatever order it is computed: integers, or floats whose every partial result is exact.
    Exact,
    /// Floats that round.
    General,
}

/// An element type with the oracle's view of it.
pub trait Number: Element + Debug + PartialEq {
    /// Element `at` of a rank's input.
    fn input(source: Source, at: usize, shape: Shape) -> Self;
    /// The reduction in the order of rank: one accumulator, one rounding at the end.
    fn fold(operands: &[Self], reduction: Reduction, factors: &[i64]) -> Self;
    /// Whether `self` is as near to the exact result as rounding at every step allows.
    fn is_near(self, operands: &[Self], reduction: Reduction, factors: &[i64]) -> bool;
}

fn bits_of(source: Source, at: usize) -> u64 {
    hash(&[source.salt, source.rank as u64, at as u64])
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn input(source: Source, at: usize, _: Shape) -> Self {
                bits_of(source, at) as $type
            }

            fn fold(operands: &[Self], reduction: Reduction, factors: &[i64]) -> Self {
                let scaled = operands.iter().zip(factors).map(|(x, factor)| x.wrapping_mul(*factor as $type));
                let sum = |all: &mut dyn Iterator<Item = $type>| all.fold(0, <$type>::wrapping_add);
                match reduction {
                    Reduction::Sum => sum(&mut operands.iter().copied()),
                    Reduction::Product => operands.iter().fold(1, |all, x| all.wrapping_mul(*x)),
                    Reduction::Max => *operands.iter().max().unwrap(),
                    Reduction::Min => *operands.iter().min().unwrap(),
                    Reduction::Average => sum(&mut operands.iter().copied()).wrapping_div(operands.len() as $type),
                    Reduction::PreMulSum => sum(&mut { scaled }),
                }
            }

            fn is_near(self, operands: &[Self], reduction: Reduction, factors: &[i64]) -> bool {
                self == Self::fold(operands, reduction, factors)
            }
        }
    )*};
}

integers!(i8, u8, i32, u32, i64, u64);

/// What the oracle must know of a float type.
trait Float: Copy {
    /// Half a unit in the last place of 1.
    const ROUNDOFF: f64;
    /// The least positive number.
    const LEAST: f64;
    /// Inputs of exact sums are whole numbers up to `MOST`, of at most `MANY` ranks.
    const MOST: u64;
    const MANY: usize;
    /// Whether sums are made in f64.
    const DOUBLE: bool;
    fn wide(self) -> f64;
    /// To the nearest, ties to even.
    fn narrow(wide: f64) -> Self;
}

macro_rules! floats {
    ($($type:ty: roundoff $roundoff:literal, least $least:literal, whole $most:literal of $many:literal, $double:literal,
        $wide:expr, $narrow:expr;)*) => {$(
        impl Float for $type {
            const ROUNDOFF: f64 = $roundoff;
            const LEAST: f64 = $least;
            const MOST: u64 = $most;
            const MANY: usize = $many;
            const DOUBLE: bool = $double;
            fn wide(self) -> f64 {
                ($wide)(self)
            }
            fn narrow(wide: f64) -> Self {
                ($narrow)(wide)
            }
        }

        impl Number for $type {
            fn input(source: Source, at: usize, shape: Shape) -> Self {
                float_input(source, at, shape)
            }
            fn fold(operands: &[Self], reduction: Reduction, factors: &[i64]) -> Self {
                float_fold(operands, reduction, factors)
            }
            fn is_near(self, operands: &[Self], reduction: Reduction, factors: &[i64]) -> bool {
                float_is_near(self, operands, reduction, factors)
            }
        }
    )*};
}

floats! {
    f64: roundoff 1.1102230246251565e-16, least 5e-324, whole 1000000000 of 99, true, |x| x, |x| x;
    f32: roundoff 5.960464477539063e-8, least 1.401298464324817e-45, whole 100000 of 99, false, f64::from, |x| x as f32;
    f16: roundoff 4.8828125e-4, least 5.960464477539063e-8, whole 100 of 20, false, f16::to_f64, |x: f64| f16::from_f32(x as f32);
    bf16: roundoff 3.90625e-3, least 9.183549615799121e-41, whole 15 of 17, false, bf16::to_f64, |x: f64| bf16::from_f32(x as f32);
    F8E4M3: roundoff 0.0625, least 1.953125e-3, whole 2 of 8, false,
        |x: F8E4M3| byte_to_float(x.to_bits(), 3), |x| F8E4M3::from_bits(float_to_byte(x, 3));
    F8E5M2: roundoff 0.125, least 1.52587890625e-5, whole 2 of 4, false,
        |x: F8E5M2| byte_to_float(x.to_bits(), 2), |x| F8E5M2::from_bits(float_to_byte(x, 2));
}

/// The value of an 8-bit float with so many bits of mantissa: 3 has no infinities, 2 is like IEEE.
pub fn byte_to_float(byte: u8, mantissa_bits: u32) -> f64 {
    let sign = if byte & 0x80 != 0 { -1.0 } else { 1.0 };
    let scale = 1u32 << mantissa_bits;
    let (exponent, mantissa) = (u32::from(byte & 0x7f) / scale, u32::from(byte & 0x7f) % scale);
    let (bias, top) = if mantissa_bits == 3 { (7, 15) } else { (15, 31) };
    match (exponent, mantissa) {
        (15, 7) if mantissa_bits == 3 => f64::NAN,
        (e, 0) if e == top && mantissa_bits == 2 => sign * f64::INFINITY,
        (e, _) if e == top && mantissa_bits == 2 => f64::NAN,
        (0, m) => sign * f64::from(m) / f64::from(scale) * 2f64.powi(1 - bias),
        (e, m) => sign * (1.0 + f64::from(m) / f64::from(scale)) * 2f64.powi(e as i32 - bias),
    }
}

/// The values of the finite codes without sign, which ascend.
fn byte_values(mantissa_bits: u32) -> &'static [f64] {
    static VALUES: OnceLock<[Vec<f64>; 2]> = OnceLock::new();
    let make = |bits| (0..0x80).map(|code| byte_to_float(code, bits)).filter(|value| value.is_finite()).collect();
    &VALUES.get_or_init(|| [make(2), make(3)])[mantissa_bits as usize - 2]
}

/// The nearest 8-bit float, ties to the even code; what is too large becomes the largest finite one.
pub fn float_to_byte(wide: f64, mantissa_bits: u32) -> u8 {
    if wide.is_nan() {
        return if mantissa_bits == 3 { 0x7f } else { 0x7e };
    }
    let sign = if wide.is_sign_negative() { 0x80 } else { 0 };
    let values = byte_values(mantissa_bits);
    let above = values.partition_point(|value| *value < wide.abs()).min(values.len() - 1);
    let below = above.saturating_sub(1);
    let (up, down) = ((values[above] - wide.abs()).abs(), (wide.abs() - values[below]).abs());
    let code = if up < down || up == down && above % 2 == 0 { above } else { below };
    sign | code as u8
}

fn float_input<T: Float>(source: Source, at: usize, shape: Shape) -> T {
    let bits = bits_of(source, at);
    let sign = if bits & 1 == 0 { 1.0 } else { -1.0 };
    let fraction = (bits >> 11) as f64 / (1u64 << 53) as f64;
    let turn = (source.rank + at + source.salt as usize % 64) % source.ranks;
    match (source.reduction, shape) {
        // Few factors that are no units, so that no partial product is too large or too small for eight bits.
        (Reduction::Product, Shape::Exact) if turn < 3 => {
            T::narrow(if bits & 2 == 0 { 2.0 * sign } else { 0.5 * sign })
        }
        (Reduction::Product, Shape::Exact) => T::narrow(sign),
        (Reduction::Product, Shape::General) => T::narrow(sign * (0.75 + fraction / 2.0)),
        (_, Shape::General) | (Reduction::Min | Reduction::Max, _) => T::narrow(sign * fraction),
        (_, Shape::Exact) if turn < T::MANY => T::narrow(sign * ((bits >> 8) % (T::MOST + 1)) as f64),
        (_, Shape::Exact) => T::narrow(0.0),
    }
}

/// One step in the accumulator's precision.
fn step<T: Float>(wide: f64) -> f64 {
    // A sum, product or quotient of two f32 in f64, rounded to f32, is that of f32: f64 has more than twice the bits.
    if T::DOUBLE { wide } else { f64::from(wide as f32) }
}

fn float_fold<T: Float>(operands: &[T], reduction: Reduction, factors: &[i64]) -> T {
    let wide: Vec<f64> = operands.iter().map(|x| x.wide()).collect();
    let all = |combine: &dyn Fn(f64, f64) -> f64| wide.iter().copied().reduce(combine).unwrap();
    let smaller = |a: f64, b: f64| a < b || a == b && a.is_sign_negative();
    let any_nan = wide.iter().any(|x| x.is_nan());
    T::narrow(match reduction {
        Reduction::Sum => all(&|a, b| step::<T>(a + b)),
        Reduction::Product => all(&|a, b| step::<T>(a * b)),
        Reduction::Max | Reduction::Min if any_nan => f64::NAN,
        Reduction::Max => all(&|a, b| if smaller(a, b) { b } else { a }),
        Reduction::Min => all(&|a, b| if smaller(a, b) { a } else { b }),
        Reduction::Average => step::<T>(all(&|a, b| step::<T>(a + b)) / operands.len() as f64),
        Reduction::PreMulSum => {
            let scaled = wide.iter().zip(factors).map(|(x, factor)| step::<T>(x * *factor as f64));
            scaled.reduce(|a, b| step::<T>(a + b)).unwrap()
        }
    })
}

fn float_is_near<T: Float + PartialEq>(got: T, operands: &[T], reduction: Reduction, factors: &[i64]) -> bool {
    let wide: Vec<f64> = operands.iter().map(|x| x.wide()).collect();
    let ranks = wide.len() as f64;
    let scaled: Vec<f64> = wide.iter().zip(factors).map(|(x, factor)| x * *factor as f64).collect();
    let total = |list: &[f64]| (list.iter().sum::<f64>(), list.iter().map(|x| x.abs()).sum::<f64>());
    let (exact, size) = match reduction {
        Reduction::Sum => total(&wide),
        Reduction::Average => (total(&wide).0 / ranks, total(&wide).1 / ranks),
        Reduction::PreMulSum => total(&scaled),
        Reduction::Product => (wide.iter().product(), wide.iter().product::<f64>().abs()),
        Reduction::Max | Reduction::Min => return got == float_fold(operands, reduction, factors),
    };
    // At most one rounding for each operand and two at the end, each relative to the size of a partial result.
    let allowed = (ranks + 2.0) * (T::ROUNDOFF * size * 1.01 + T::LEAST);
    (got.wide() - exact).abs() <= allowed
}
