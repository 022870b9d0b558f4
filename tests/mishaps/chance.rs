//! Numbers from a seed: what a test does by chance, it does again when the seed is given again.

use std::sync::OnceLock;

/// The variable that holds the seed of a run.
pub const SEED: &str = "RINGTREE_TEST_SEED";

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// From that seed; `use_of` keeps several uses of one seed apart.
    pub fn new(seed: u64, use_of: u64) -> Chance {
        Chance(seed ^ use_of.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number from 1 to `most`, as often small as large: its length is what is drawn.
    pub fn size(&mut self, most: u64) -> u64 {
        let bits = self.below(u64::from(most.ilog2()) + 1) as u32;
        (1 + self.below(1 << bits) + ((1 << bits) >> 1)).min(most)
    }
}

/// The seed of this run: the environment's, or a new one. It is printed, so that a failure can be had again.
pub fn seed() -> u64 {
    static CHOSEN: OnceLock<u64> = OnceLock::new();
    let seed = *CHOSEN.get_or_init(|| match std::env::var(SEED) {
        Ok(text) => text.trim().parse().unwrap_or_else(|_| panic!("{SEED} is '{text}', expected a number")),
        Err(_) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            now.as_nanos() as u64 % 1_000_000_000
        }
    });
    println!("{SEED}={seed}");
    seed
}
