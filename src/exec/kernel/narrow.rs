//! Floats narrower than `f32`: into `f32` exactly, and back with one rounding to the nearest, ties to even.
//!
//! Arithmetic without branches, so that the compiler makes vectors of it. One description serves three formats:
//!
//! ```text
//!            sign  exponent  fraction   bias   above the largest
//!   f16        1       5        10       15    infinity
//!   f8e5m2     1       5         2       15    the largest finite (saturates, as CUDA's conversion does)
//!   f8e4m3     1       4         3        7    the largest finite; no infinity, one NaN
//! ```
//!
//! `bf16` is the upper half of an `f32` and needs no description.

#[cfg(target_arch = "x86_64")]
mod eighths;

#[cfg(target_arch = "x86_64")]
use super::level::{Isa, Level};
use super::number::Number;
#[cfg(target_arch = "x86_64")]
use super::number::{BLOCK, round_each, widen_each};
use float8::{F8E4M3, F8E5M2};
use half::{bf16, f16};

/// The bits of an infinite `f32`; more is a NaN.
const INFINITY: u32 = 0x7F80_0000;

/// A narrow format.
trait Format {
    /// Bits of the fraction.
    const FRACTION: u32;
    /// What is added to the exponent.
    const BIAS: u32;
    /// The sign bit.
    const SIGN: u32;
    /// Magnitudes from here on are infinite or NaN.
    const SPECIAL: u32;
    /// What a finite number above the largest becomes.
    const OVERFLOW: u32;
    /// The magnitude of a special value in `f32`.
    fn widen_special(magnitude: u32) -> u32;
    /// The NaN for an `f32` NaN of that magnitude.
    fn nan(magnitude: u32) -> u32;
}

struct Half;
impl Format for Half {
    const FRACTION: u32 = 10;
    const BIAS: u32 = 15;
    const SIGN: u32 = 0x8000;
    const SPECIAL: u32 = 0x7C00;
    const OVERFLOW: u32 = 0x7C00;
    // A signalling NaN becomes quiet, as the processor's own conversion does it.
    #[inline(always)]
    fn widen_special(magnitude: u32) -> u32 {
        let quiet = if magnitude > Self::SPECIAL { 0x0040_0000 } else { 0 };
        INFINITY | magnitude << 13 | quiet
    }
    #[inline(always)]
    fn nan(magnitude: u32) -> u32 {
        0x7E00 | magnitude >> 13 & 0x3FF
    }
}

struct E5M2;
impl Format for E5M2 {
    const FRACTION: u32 = 2;
    const BIAS: u32 = 15;
    const SIGN: u32 = 0x80;
    const SPECIAL: u32 = 0x7C;
    const OVERFLOW: u32 = 0x7B;
    // It is the upper half of an `f16`, and so is its NaN.
    #[inline(always)]
    fn widen_special(magnitude: u32) -> u32 {
        Half::widen_special(magnitude << 8)
    }
    #[inline(always)]
    fn nan(magnitude: u32) -> u32 {
        0x7E | magnitude >> 21 & 3
    }
}

struct E4M3;
impl Format for E4M3 {
    const FRACTION: u32 = 3;
    const BIAS: u32 = 7;
    const SIGN: u32 = 0x80;
    const SPECIAL: u32 = 0x7F;
    const OVERFLOW: u32 = 0x7E;
    #[inline(always)]
    fn widen_special(_: u32) -> u32 {
        0x7FFF_E000
    }
    #[inline(always)]
    fn nan(_: u32) -> u32 {
        0x7F
    }
}

/// The `f32` with the value of `bits`.
#[inline(always)]
fn widen<F: Format>(bits: u32) -> f32 {
    let (magnitude, sign) = (bits & (F::SIGN - 1), bits & F::SIGN);
    let normal = (magnitude << (23 - F::FRACTION)) + ((127 - F::BIAS) << 23);
    // A subnormal is its fraction times a power of two, and that product is exact.
    let unit = f32::from_bits((127 + 1 - F::BIAS - F::FRACTION) << 23);
    let subnormal = (magnitude as i32 as f32 * unit).to_bits();
    let finite = if magnitude >> F::FRACTION == 0 { subnormal } else { normal };
    let wide = if magnitude >= F::SPECIAL { F::widen_special(magnitude) } else { finite };
    f32::from_bits(wide | sign << F::SIGN.leading_zeros())
}

/// The value of the format nearest to `value`.
#[inline(always)]
fn round<F: Format>(value: f32) -> u32 {
    let (magnitude, sign) = (value.to_bits() & 0x7FFF_FFFF, value.to_bits() >> 31);
    let cut = 23 - F::FRACTION;
    // Half of what is cut off is added, less one bit where the kept part is even; a carry into the exponent is right.
    let rounded = (magnitude + ((1 << (cut - 1)) - 1) + (magnitude >> cut & 1)) >> cut;
    let normal = rounded.wrapping_sub((127 - F::BIAS) << F::FRACTION).min(F::OVERFLOW);
    // Below the smallest normal number: beside this power of two, the processor's addition cuts off exactly the bits
    // that don't fit.
    let beside = f32::from_bits((127 + 23 + 1 - F::BIAS - F::FRACTION) << 23);
    let subnormal = (f32::from_bits(magnitude) + beside).to_bits().wrapping_sub(beside.to_bits());
    let finite = if magnitude < (127 + 1 - F::BIAS) << 23 { subnormal } else { normal };
    let narrow = if magnitude > INFINITY { F::nan(magnitude) } else { finite };
    narrow | if sign != 0 { F::SIGN } else { 0 }
}

macro_rules! f8 {
    ($($number:ident: $format:ident, $widen:ident, $round:ident;)*) => {$(
        impl Number for $number {
            type Wide = f32;
            const ZERO: $number = $number::from_bits(0);
            #[inline(always)]
            fn widen(self) -> f32 {
                widen::<$format>(u32::from(self.to_bits()))
            }
            #[inline(always)]
            fn round(wide: f32) -> $number {
                $number::from_bits(round::<$format>(wide) as u8)
            }
            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            fn widen_block<L: Isa>(block: [$number; BLOCK]) -> [f32; BLOCK] {
                match L::LEVEL {
                    // SAFETY: code generic over an `Isa` runs only where its level is available; both have the instructions of AVX2 and F16C.
                    Level::Avx512 | Level::Avx2 => unsafe { eighths::$widen(block) },
                    _ => widen_each(block),
                }
            }
            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            fn round_block<L: Isa, const ONE_NAN: bool>(wide: [f32; BLOCK]) -> [$number; BLOCK] {
                match L::LEVEL {
                    // SAFETY: as in `widen_block`.
                    Level::Avx512 | Level::Avx2 => unsafe { eighths::$round(wide) },
                    _ => round_each(wide),
                }
            }
        }
    )*};
}

f8!(F8E4M3: E4M3, widen_e4m3, round_e4m3; F8E5M2: E5M2, widen_e5m2, round_e5m2;);

impl Number for bf16 {
    type Wide = f32;
    const ZERO: bf16 = bf16::from_bits(0);
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    // Not the instruction for it (vcvtneps2bf16), which takes subnormals for zero.
    #[inline(always)]
    fn round(wide: f32) -> bf16 {
        let bits = wide.to_bits();
        let nearest = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
        let narrow = if bits & 0x7FFF_FFFF > INFINITY { bits | 0x40_0000 } else { nearest };
        bf16::from_bits((narrow >> 16) as u16)
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn widen_block<L: Isa>(block: [bf16; BLOCK]) -> [f32; BLOCK] {
        match L::LEVEL {
            // SAFETY: code generic over an `Isa` runs only where its level is available; both have the instructions of AVX2.
            Level::Avx512 | Level::Avx2 => unsafe { halves::widen(block) },
            _ => widen_each(block),
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn round_block<L: Isa, const ONE_NAN: bool>(wide: [f32; BLOCK]) -> [bf16; BLOCK] {
        match L::LEVEL {
            // SAFETY: as in `widen_block`.
            Level::Avx512 | Level::Avx2 => unsafe { halves::round::<ONE_NAN>(wide) },
            _ => round_each(wide),
        }
    }
}

impl Number for f16 {
    type Wide = f32;
    const ZERO: f16 = f16::from_bits(0);
    #[inline(always)]
    fn widen(self) -> f32 {
        widen::<Half>(u32::from(self.to_bits()))
    }
    #[inline(always)]
    fn round(wide: f32) -> f16 {
        f16::from_bits(round::<Half>(wide) as u16)
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn widen_block<L: Isa>(block: [f16; BLOCK]) -> [f32; BLOCK] {
        match L::LEVEL {
            // SAFETY: code generic over an `Isa` runs only where its level is available, and this is that level.
            Level::Avx512 => unsafe { x86::widen_512(block) },
            // SAFETY: as above.
            Level::Avx2 => unsafe { x86::widen_256(block) },
            _ => widen_each(block),
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn round_block<L: Isa, const ONE_NAN: bool>(wide: [f32; BLOCK]) -> [f16; BLOCK] {
        match L::LEVEL {
            // SAFETY: as in `widen_block`.
            Level::Avx512 => unsafe { x86::round_512(wide) },
            // SAFETY: as in `widen_block`.
            Level::Avx2 => unsafe { x86::round_256(wide) },
            _ => round_each(wide),
        }
    }
}

/// `bf16` two by two: a word of 32 bits holds a pair, and each of the two is widened and rounded where it stands, without the shuffles
/// that would bring them into line.
///
/// ```text
///   8 words   [ 1 0 | 3 2 | 5 4 | … ]  ── << 16 ──────> 0 2 4 … (8 singles)
///                                      ── mask ───────> 1 3 5 … (8 singles)
/// ```
///
/// All-reduce of 16 MiB of bf16 between two near cores of a Zen 2: out of place 2.42 ms in place of 3.54, in place 2.70 in place of 4.25.
#[cfg(target_arch = "x86_64")]
mod halves {
    use super::{BLOCK, bf16};
    use std::arch::x86_64::*;

    /// Pairs in a vector.
    const WORDS: usize = 8;

    /// # Safety
    ///
    /// The processor has AVX2.
    #[inline(always)]
    pub(super) unsafe fn widen(block: [bf16; BLOCK]) -> [f32; BLOCK] {
        let mut wide = [0f32; BLOCK];
        for i in (0..BLOCK).step_by(2 * WORDS) {
            // SAFETY: `i + 16 <= BLOCK`, loads and stores take any alignment, the caller answers for the processor.
            unsafe {
                let words = _mm256_loadu_si256(block.as_ptr().add(i).cast());
                let even = _mm256_slli_epi32::<16>(words);
                let odd = _mm256_and_si256(words, _mm256_set1_epi32(!0xFFFF));
                _mm256_storeu_si256(wide.as_mut_ptr().add(i).cast(), even);
                _mm256_storeu_si256(wide.as_mut_ptr().add(i + WORDS).cast(), odd);
            }
        }
        wide
    }

    /// `ONE_NAN`: a NaN can only be the canonical one, which rounds like a number.
    ///
    /// # Safety
    ///
    /// The processor has AVX2.
    #[inline(always)]
    pub(super) unsafe fn round<const ONE_NAN: bool>(wide: [f32; BLOCK]) -> [bf16; BLOCK] {
        let mut block = [bf16::from_bits(0); BLOCK];
        for i in (0..BLOCK).step_by(2 * WORDS) {
            // SAFETY: as in `widen`.
            unsafe {
                let even = nearest::<ONE_NAN>(_mm256_loadu_ps(wide.as_ptr().add(i)));
                let odd = nearest::<ONE_NAN>(_mm256_loadu_ps(wide.as_ptr().add(i + WORDS)));
                let words = _mm256_blend_epi16::<0xAA>(_mm256_srli_epi32::<16>(even), odd);
                _mm256_storeu_si256(block.as_mut_ptr().add(i).cast(), words);
            }
        }
        block
    }

    /// The rounded value in the upper half of each word.
    ///
    /// # Safety
    ///
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn nearest<const ONE_NAN: bool>(wide: __m256) -> __m256i {
        // SAFETY: the caller answers for the processor.
        unsafe {
            let bits = _mm256_castps_si256(wide);
            let even = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let nearest = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), even);
            if ONE_NAN {
                return nearest;
            }
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(wide, wide));
            _mm256_blendv_epi8(nearest, quiet, nan)
        }
    }
}

/// The processor's own conversions of half precision, which the compiler does not find by itself.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK, f16};
    use std::arch::x86_64::*;

    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;

    macro_rules! conversions {
        ($widen:ident, $round:ident, $lanes:literal: $load_half:ident, $to_single:ident, $store_single:ident,
         $load_single:ident, $to_half:ident, $store_half:ident) => {
            /// # Safety
            ///
            /// The processor has the instructions.
            #[inline(always)]
            pub(super) unsafe fn $widen(block: [f16; BLOCK]) -> [f32; BLOCK] {
                let mut wide = [0f32; BLOCK];
                for i in (0..BLOCK).step_by($lanes) {
                    // SAFETY: `i + $lanes <= BLOCK`, the loads and stores take any alignment, the caller answers for
                    // the processor.
                    unsafe {
                        let lanes = $to_single($load_half(block.as_ptr().add(i).cast()));
                        $store_single(wide.as_mut_ptr().add(i), lanes);
                    }
                }
                wide
            }

            /// # Safety
            ///
            /// The processor has the instructions.
            #[inline(always)]
            pub(super) unsafe fn $round(wide: [f32; BLOCK]) -> [f16; BLOCK] {
                let mut block = [f16::from_bits(0); BLOCK];
                for i in (0..BLOCK).step_by($lanes) {
                    // SAFETY: as in the function above.
                    unsafe {
                        let lanes = $to_half::<NEAREST>($load_single(wide.as_ptr().add(i)));
                        $store_half(block.as_mut_ptr().add(i).cast(), lanes);
                    }
                }
                block
            }
        };
    }

    conversions!(widen_512, round_512, 16: _mm256_loadu_si256, _mm512_cvtph_ps, _mm512_storeu_ps,
        _mm512_loadu_ps, _mm512_cvtps_ph, _mm256_storeu_si256);
    conversions!(widen_256, round_256, 8: _mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps,
        _mm256_loadu_ps, _mm256_cvtps_ph, _mm_storeu_si128);
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "x86_64")]
    use crate::exec::kernel::level::{Avx2, Avx512};
    use crate::exec::kernel::level::{Isa, Level, Portable};
    use crate::exec::kernel::number::{BLOCK, Wide};

    fn same(is: f32, should: f32) -> bool {
        is.to_bits() == should.to_bits() || is.is_nan() && should.is_nan()
    }

    /// Every `f32` that is a narrow value, halfway between two, or a few bits beside either; the specials; and a walk
    /// over all others.
    fn singles<T: Number<Wide = f32>>(every: impl Iterator<Item = T>) -> Vec<f32> {
        let mut singles = vec![
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            f32::from_bits(0x7F80_0001),
            f32::from_bits(0xFFC1_2345),
        ];
        let mut finite: Vec<f32> = every.map(T::widen).filter(|x| x.is_finite() && *x >= 0.0).collect();
        finite.sort_by(f32::total_cmp);
        let last = finite[finite.len() - 1];
        finite.push(last + (last - finite[finite.len() - 2]));
        for pair in finite.windows(2) {
            let half = (f64::from(pair[0]) + f64::from(pair[1])) / 2.0;
            for middle in [pair[0], half as f32, pair[1]] {
                for off in -2..=2 {
                    let bits = middle.to_bits().wrapping_add_signed(off);
                    singles.extend([f32::from_bits(bits), f32::from_bits(bits ^ 0x8000_0000)]);
                }
            }
        }
        // About two million patterns, from every exponent, with all fraction bits in motion.
        singles.extend((0..1u32 << 21).map(|i| f32::from_bits(i.wrapping_mul(2047).wrapping_add(i >> 3))));
        singles.resize(singles.len().next_multiple_of(BLOCK), 0.0);
        singles
    }

    /// Where each place of a block is after `widen_block`: values that every format has and rounds to themselves go through it.
    fn places<L: Isa, T: Number<Wide = f32>>() -> [usize; BLOCK] {
        let mut places = [BLOCK; BLOCK];
        for place in 0..BLOCK {
            let mut block = [T::ZERO; BLOCK];
            block[place] = T::round(1.0);
            places[place] = T::widen_block::<L>(block).iter().position(|one| *one == 1.0).unwrap();
        }
        places
    }

    fn widening_is<L: Isa, T: Number<Wide = f32>>(every: &[T], should: impl Fn(T) -> f32) {
        let places = places::<L, T>();
        for block in every.chunks_exact(BLOCK) {
            let wide = T::widen_block::<L>(block.try_into().unwrap());
            for (&narrow, is) in block.iter().zip(places.map(|place| wide[place])) {
                assert!(same(is, should(narrow)), "{}: {is:e}, expected {:e}", L::LEVEL, should(narrow));
            }
        }
    }

    fn rounding_is<L: Isa, T: Number<Wide = f32>>(
        singles: &[f32],
        bits: impl Fn(T) -> u32,
        should: impl Fn(f32) -> u32,
    ) {
        let places = places::<L, T>();
        let canonical = |block: [f32; BLOCK]| block.map(Wide::canonical);
        for block in singles.chunks_exact(BLOCK) {
            let mut wide = [0.0; BLOCK];
            places.iter().zip(block).for_each(|(place, single)| wide[*place] = *single);
            let narrow = T::round_block::<L, false>(wide);
            let one_nan = T::round_block::<L, true>(canonical(wide));
            for ((&single, is), finished) in block.iter().zip(narrow).zip(one_nan) {
                assert_eq!(
                    bits(finished),
                    should(single.canonical()),
                    "{}: {single:e}, without a look for NaN",
                    L::LEVEL
                );
                let (is, should) = (bits(is), should(single));
                assert!(
                    is == should,
                    "{}: {single:e} ({:#x}) became {is:#x}, expected {should:#x}",
                    L::LEVEL,
                    single.to_bits()
                );
            }
        }
    }

    fn conversions_are<T: Number<Wide = f32>>(
        every: Vec<T>,
        bits: impl Fn(T) -> u32 + Copy,
        widen: impl Fn(T) -> f32 + Copy,
        round: impl Fn(f32) -> u32 + Copy,
    ) {
        let singles = singles(every.iter().copied());
        #[cfg(target_arch = "aarch64")]
        {
            widening_is::<Neon, T>(&every, widen);
            rounding_is::<Neon, T>(&singles, bits, round);
        }
        widening_is::<Portable, T>(&every, widen);
        rounding_is::<Portable, T>(&singles, bits, round);
        #[cfg(target_arch = "x86_64")]
        if Level::Avx2.available() {
            widening_is::<Avx2, T>(&every, widen);
            rounding_is::<Avx2, T>(&singles, bits, round);
        }
        #[cfg(target_arch = "x86_64")]
        if Level::Avx512.available() {
            widening_is::<Avx512, T>(&every, widen);
            rounding_is::<Avx512, T>(&singles, bits, round);
        }
    }

    #[test]
    fn f16_converts_as_the_half_crate_does_for_every_pattern_and_at_every_tie() {
        let every = (0..=u16::MAX).map(f16::from_bits).collect();
        conversions_are(every, |x: f16| x.to_bits().into(), f16::to_f32, |x| f16::from_f32(x).to_bits().into());
    }

    #[test]
    fn bf16_converts_as_the_half_crate_does_for_every_pattern_and_at_every_tie() {
        let every = (0..=u16::MAX).map(bf16::from_bits).collect();
        conversions_are(every, |x: bf16| x.to_bits().into(), bf16::to_f32, |x| bf16::from_f32(x).to_bits().into());
    }

    #[test]
    fn f8e4m3_converts_as_the_float8_crate_does_for_every_pattern_and_at_every_tie() {
        let every = (0..=u8::MAX).map(F8E4M3::from_bits).collect();
        conversions_are(
            every,
            |x: F8E4M3| x.to_bits().into(),
            |x| x.to_f32(),
            |x| F8E4M3::from_f32(x).to_bits().into(),
        );
    }

    #[test]
    fn f8e5m2_converts_as_the_float8_crate_does_for_every_pattern_and_at_every_tie() {
        let every = (0..=u8::MAX).map(F8E5M2::from_bits).collect();
        conversions_are(
            every,
            |x: F8E5M2| x.to_bits().into(),
            |x| x.to_f32(),
            |x| F8E5M2::from_f32(x).to_bits().into(),
        );
    }

    #[test]
    fn what_is_too_large_for_8_bits_saturates() {
        for (large, e4m3, e5m2) in [(f32::INFINITY, 0x7E, 0x7B), (464.5, 0x7E, 0x5F), (f32::MIN, 0xFE, 0xFB)] {
            assert_eq!(<F8E4M3 as Number>::round(large).to_bits(), e4m3);
            assert_eq!(<F8E5M2 as Number>::round(large).to_bits(), e5m2);
        }
    }

    #[test]
    fn subnormal_bf16_survives_a_sum() {
        let smallest = bf16::from_bits(1);
        assert_eq!(<bf16 as Number>::round(Number::widen(smallest) + 0.0).to_bits(), 1);
    }
}
