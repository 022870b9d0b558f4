//! The number that ranks compare before they run a plan for the first time.
//!
//! The state starts at 0; each word `w` makes it `mix(state + GOLDEN ^ w)` (wrapping), where `mix` is the finisher of splitmix64:
//! `z ^= z >> 30; z *= 0xbf58476d1ce4e5b9; z ^= z >> 27; z *= 0x94d049bb133111eb; z ^= z >> 31`. Lists are preceded by their length.
//! It guards against mistakes, not against attackers.

/// 2^64 divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A digest in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest(u64);

impl Digest {
    /// Of nothing yet.
    pub(super) const fn new() -> Digest {
        Digest(0)
    }

    /// With one more word.
    pub(super) const fn word(self, word: u64) -> Digest {
        let mut z = self.0.wrapping_add(GOLDEN) ^ word;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Digest(z ^ (z >> 31))
    }

    /// With a list.
    pub(super) fn list(self, words: impl ExactSizeIterator<Item = u64>) -> Digest {
        let start = self.word(words.len() as u64);
        words.fold(start, Digest::word)
    }

    /// The number.
    pub(super) const fn finish(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixing_function_never_changes() {
        assert_eq!(Digest::new().word(0).finish(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(Digest::new().word(1).word(2).finish(), Digest::new().word(1).word(2).finish());
        assert_ne!(Digest::new().word(1).word(2).finish(), Digest::new().word(2).word(1).finish());
    }

    #[test]
    fn lists_know_where_they_end() {
        let split = |a: &[u64], b: &[u64]| Digest::new().list(a.iter().copied()).list(b.iter().copied()).finish();
        assert_ne!(split(&[1], &[]), split(&[], &[1]));
        assert_ne!(split(&[1, 2], &[3]), split(&[1], &[2, 3]));
    }
}
