//! What the loops need of an element type, and the arithmetic in which its elements are combined.

use super::level::Isa;

/// Elements that a loop takes at a time. 64 of any type fill whole cache lines, and are enough for the compiler to make
/// a vector loop of them (with 16 it unrolls first, and then shuffles single lanes; seen with rustc 1.95).
pub(super) const BLOCK: usize = 64;

/// An element type: how it gets into the arithmetic that combines it, and out again.
pub(super) trait Number: Copy + 'static {
    /// What elements are combined in: `f32` for floats narrower than it, else the type itself.
    type Wide: Wide;

    /// All bits zero: what fills the unused part of the last block.
    const ZERO: Self;

    /// Into the arithmetic. Exact.
    fn widen(self) -> Self::Wide;

    /// Out of it: the one rounding of a fold.
    fn round(wide: Self::Wide) -> Self;

    /// A block of [`Number::widen`]; a type whose conversion the processor knows does better. The elements may change places within the
    /// block: only [`Number::round_block`] puts them back.
    #[inline(always)]
    fn widen_block<L: Isa>(block: [Self; BLOCK]) -> [Self::Wide; BLOCK] {
        widen_each(block)
    }

    /// A block of [`Number::round`]. `ONE_NAN`: a NaN among the values is the canonical one; a type whose rounding must look for others saves
    /// that.
    #[inline(always)]
    fn round_block<L: Isa, const ONE_NAN: bool>(wide: [Self::Wide; BLOCK]) -> [Self; BLOCK] {
        round_each(wide)
    }
}

/// Each element of a block into the arithmetic.
#[inline(always)]
pub(super) fn widen_each<T: Number>(block: [T; BLOCK]) -> [T::Wide; BLOCK] {
    let mut wide = [T::ZERO.widen(); BLOCK];
    for i in 0..BLOCK {
        wide[i] = block[i].widen();
    }
    wide
}

/// Each element of a block out of it.
#[inline(always)]
pub(super) fn round_each<T: Number>(wide: [T::Wide; BLOCK]) -> [T; BLOCK] {
    let mut block = [T::ZERO; BLOCK];
    for i in 0..BLOCK {
        block[i] = T::round(wide[i]);
    }
    block
}

/// The arithmetic. Each operation has one result for given bits (but for the payload and sign of a NaN, see
/// [`Wide::canonical`]), whatever the processor.
pub(super) trait Wide: Copy + 'static {
    /// `self + other`, wrapping.
    fn add(self, other: Self) -> Self;
    /// `self * other`, wrapping.
    fn multiply(self, other: Self) -> Self;
    /// The smaller; NaN where either is NaN; -0 is smaller than +0.
    fn least(self, other: Self) -> Self;
    /// The larger; NaN where either is NaN; +0 is larger than -0.
    fn most(self, other: Self) -> Self;
    /// `self / ranks`; integers truncate towards zero. `ranks` is not zero.
    fn divide(self, ranks: u32) -> Self;
    /// The one NaN in place of any. Which operand's payload a processor hands on, and the sign of a NaN that it makes,
    /// depend on the order that the compiler gives to the operands of an instruction, and on the architecture.
    fn canonical(self) -> Self;
    /// The factor of a pre-multiplied sum from the bits that the kernel keeps it in.
    fn from_factor(bits: u64) -> Self;
}

macro_rules! itself {
    ($($number:ty: $zero:expr,)*) => {$(
        impl Number for $number {
            type Wide = $number;
            const ZERO: $number = $zero;
            #[inline(always)]
            fn widen(self) -> $number {
                self
            }
            #[inline(always)]
            fn round(wide: $number) -> $number {
                wide
            }
        }
    )*};
}

itself!(i8: 0, u8: 0, i32: 0, u32: 0, i64: 0, u64: 0, f32: 0.0, f64: 0.0,);

macro_rules! integers {
    // `$quotient`: a type in which the division is done. There is no vector division of integers. A float with more
    // than twice the bits of the dividend gives the exact truncated quotient: the true one is at least 1/divisor below
    // the next integer, which is farther than the rounding can carry it. (For 8 bits in f32: a divisor above 2^24 is
    // rounded, but the quotient is 0 anyway.)
    ($($number:ty: $quotient:ty,)*) => {$(
        impl Wide for $number {
            #[inline(always)]
            fn add(self, other: $number) -> $number {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn multiply(self, other: $number) -> $number {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn least(self, other: $number) -> $number {
                self.min(other)
            }
            #[inline(always)]
            fn most(self, other: $number) -> $number {
                self.max(other)
            }
            #[inline(always)]
            fn divide(self, ranks: u32) -> $number {
                (self as $quotient / ranks as $quotient) as $number
            }
            #[inline(always)]
            fn canonical(self) -> $number {
                self
            }
            #[inline(always)]
            fn from_factor(bits: u64) -> $number {
                bits as $number
            }
        }
    )*};
}

integers!(i8: f32, u8: f32, i32: f64, u32: f64, i64: i64, u64: u64,);

macro_rules! floats {
    ($($number:ident: $bits:ty, $nan:literal;)*) => {$(
        impl Wide for $number {
            #[inline(always)]
            fn add(self, other: $number) -> $number {
                self + other
            }
            #[inline(always)]
            fn multiply(self, other: $number) -> $number {
                self * other
            }
            // Neither is smaller: they are equal, and their bits too unless one is -0 and one +0; or one is a NaN, and
            // a NaN with more bits set is still one. The bits of both together are right in each case.
            #[inline(always)]
            fn least(self, other: $number) -> $number {
                if self < other {
                    self
                } else if other < self {
                    other
                } else {
                    $number::from_bits(self.to_bits() | other.to_bits())
                }
            }
            #[inline(always)]
            fn most(self, other: $number) -> $number {
                -(-self).least(-other)
            }
            #[inline(always)]
            fn divide(self, ranks: u32) -> $number {
                self / ranks as $number
            }
            #[inline(always)]
            fn canonical(self) -> $number {
                if self.is_nan() { $number::from_bits($nan) } else { self }
            }
            #[inline(always)]
            fn from_factor(bits: u64) -> $number {
                $number::from_bits(bits as $bits)
            }
        }
    )*};
}

floats!(f32: u32, 0x7FC0_0000; f64: u64, 0x7FF8_0000_0000_0000;);

/// How two operands become one.
pub(super) trait Combine: Copy + 'static {
    /// Whether this is the sum, which an average divides at the end.
    const SUMS: bool = false;
    /// `a` comes first.
    fn combine<A: Wide>(a: A, b: A) -> A;
}

macro_rules! combinations {
    ($($name:ident: $method:ident, $sums:literal;)*) => {$(
        #[derive(Clone, Copy)]
        pub(super) struct $name;
        impl Combine for $name {
            const SUMS: bool = $sums;
            #[inline(always)]
            fn combine<A: Wide>(a: A, b: A) -> A {
                a.$method(b)
            }
        }
    )*};
}

combinations!(Sum: add, true; Product: multiply, false; Least: least, false; Most: most, false;);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_averages_truncate_exactly_for_every_8_bit_sum_and_at_the_edges_of_32_bits() {
        let divisors = [1u32, 2, 3, 5, 7, 127, 128, 255, 256, 65537, (1 << 24) + 1, u32::MAX];
        for ranks in divisors {
            for x in 0..=255u8 {
                assert_eq!(u64::from(x.divide(ranks)), u64::from(x) / u64::from(ranks));
                assert_eq!(i64::from((x as i8).divide(ranks)), i64::from(x as i8) / i64::from(ranks));
            }
            let near = |x: u32| (-3i32..=3).map(move |d| x.wrapping_add_signed(d));
            for x in [0, 1 << 31, ranks, ranks.wrapping_mul(2), ranks.wrapping_mul(u32::MAX / ranks)]
                .into_iter()
                .flat_map(near)
            {
                assert_eq!(u64::from(x.divide(ranks)), u64::from(x) / u64::from(ranks), "{x} / {ranks}");
                assert_eq!(
                    i64::from((x as i32).divide(ranks)),
                    i64::from(x as i32) / i64::from(ranks),
                    "{x} / {ranks}"
                );
            }
        }
    }

    #[test]
    fn minus_zero_is_the_smaller_zero_in_either_order() {
        for (a, b) in [(0.0f32, -0.0f32), (-0.0, 0.0)] {
            assert!(a.least(b).is_sign_negative() && a.most(b).is_sign_positive());
        }
    }
}
