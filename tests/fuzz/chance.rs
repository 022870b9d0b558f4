//! Garbage that is nearly right: what was written properly, changed in a few places. The same seed gives the same garbage.

/// A stream of choices (splitmix64).
pub struct Chance(u64);

/// Numbers at which readers go wrong.
const EDGES: [&str; 14] = [
    "0",
    "-1",
    "1",
    "255",
    "65535",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999999999",
    "1e309",
    "0x",
    "",
];

impl Chance {
    pub fn new(seed: u64, case: u64) -> Chance {
        Chance(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// From 0 to below `end`; 0 if there is nothing below it.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.word() % end as u64) as usize }
    }

    /// One of the samples, changed in up to six places. `words` are what the reader looks for.
    pub fn garbage(&mut self, samples: &[Vec<u8>], words: &[&str], most: usize) -> Vec<u8> {
        let mut bytes = samples[self.below(samples.len())].clone();
        // One in sixteen stays as it is: a reader that refuses everything would be found.
        for _ in 0..self.below(16).min(6) {
            self.change(&mut bytes, samples, words);
        }
        bytes.truncate(most);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, samples: &[Vec<u8>], words: &[&str]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(40)).min(bytes.len());
        match self.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.word() as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let copy = bytes[at..end].to_vec();
                let again = 1 + self.below(8);
                bytes.splice(at..at, copy.repeat(again));
            }
            4 => {
                let word = words[self.below(words.len())];
                bytes.splice(at..at, word.bytes());
            }
            5 => {
                // A number's place taken by one at an edge.
                let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let edge = EDGES[self.below(EDGES.len())];
                bytes.splice(at..at + digits, edge.bytes());
            }
            6 => bytes.truncate(at),
            7 => {
                let other = &samples[self.below(samples.len())];
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                // Four bytes as a length would be.
                let number = [0, 1, 0xff, 0x8000_0000u32, u32::MAX][self.below(5)].to_le_bytes();
                let end = (at + 4).min(bytes.len());
                bytes.splice(at..end, number);
            }
        }
    }
}
