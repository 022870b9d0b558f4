//! What is different where ranks share cores and talk over memory: what all ranks of a core do counts, and who waits lets the others run.
//!
//! Measured with 3 and 4 ranks on two cores of a Zen 5 that share a cache, each rank bound to one, in microseconds:
//!
//! ```text
//!   all-reduce       oneshot  twoshot  ring  tree  halving       broadcast        oneshot  ring  tree
//!   3, 256 KiB          37       32     32    19      29         3, 8 B             0.24   0.15  0.47
//!   3, 1 MiB           142      103     99    89     121         3, 256 KiB           17     12    12
//!   4, 256 KiB          44       35     35    30      26         4, 8 B             0.25   0.27  0.61
//!   4, 1 MiB           276      187    198   162     127         4, 256 KiB           21     33    27
//! ```

use super::{Scene, Work, times};
use crate::plan::Algorithm;
use crate::types::Collective;

/// The vectors, slots and results of three or four ranks that reduce so much are more than most caches hold.
const LONG_BYTES: u64 = 8 << 20;

/// Three ranks broadcast longer vectors by trees rather than in chains.
const CHAIN_BYTES: u64 = 512 << 10;

impl Scene {
    /// The work of an algorithm where ranks share cores.
    pub(super) fn crowded(&self, algorithm: Algorithm, work: Work) -> Work {
        let (n, v, r) = (self.ranks, self.bytes, self.messages(self.bytes));
        let others = v / n * (n - 1) + v % n;
        match (self.collective, algorithm) {
            // An owner waits for the pieces of all others, some of which have no turn just now.
            (Collective::AllReduce, Algorithm::TwoShot) => Work { copied: work.copied.saturating_add(others), ..work },
            // Each rank folds all vectors, while others of its core want the cache. 64 KiB of three ranks on two cores of a Zen 4: 29 us, by a
            // tree 15.
            (Collective::AllReduce, Algorithm::OneShot) => Work { copied: work.copied.saturating_add(v / 4), ..work },
            // Of all ranks together: all but the root send up and take what comes down, half of them pass it on.
            (Collective::AllReduce, Algorithm::Tree) => {
                Work { copied: 2 * others + times(v / n, n / 2), folded: others, ..work }
            }
            // Partners hand the same slots to and fro, and a core's cache keeps them.
            (Collective::AllReduce, Algorithm::Halving) if v > self.exchange_bytes() => {
                let messages = times(self.levels().saturating_add(r), 4);
                let spares = if n.is_power_of_two() { Work::default() } else { Work::of(2, times(r, 4), v, 0) };
                Work::of(2 * self.levels(), messages, 2 * others, others).and(spares)
            }
            // What doesn't stay in any cache is best sent on at once: 16 MiB of 3 ranks by a ring 1612 us, in two shots 2859.
            (Collective::ReduceScatter, Algorithm::TwoShot) if times(v, n) > LONG_BYTES => {
                Work { copied: work.copied.saturating_add(work.copied / 4), ..work }
            }
            // Whoever passes on waits for a turn for each message. 1 MiB of three ranks on two cores of a Zen 4: 114 to 196 us, by a tree 115 to
            // 128.
            (Collective::Broadcast, Algorithm::Tree) if n == 3 && v > CHAIN_BYTES => {
                Work { exchanges: r, copied: work.copied - work.copied / 16, ..work }
            }
            // A board is free again when the last of its readers has had a turn; in a chain every link holds messages.
            (Collective::Broadcast, Algorithm::OneShot) => Work { exchanges: r.saturating_add(3), ..work },
            (Collective::Broadcast, Algorithm::Tree) => Work { exchanges: r.saturating_add(2 * self.levels()), ..work },
            _ => work,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{Algorithm, Plan, Tuning, World};
    use crate::types::{Call, Collective, DataType, Reduction};

    fn chosen(collective: Collective, ranks: u32, bytes: u64, cores: u32) -> Algorithm {
        let call = Call::new(collective, DataType::F32, Reduction::Sum, 0, bytes / 4);
        let tuning = Tuning { cores, ..Tuning::default() };
        Plan::new(&World::flat(ranks), &call, &tuning).expect("a plan").algorithm()
    }

    #[test]
    fn long_vectors_of_a_crowd_go_by_trees_or_by_halving_and_of_others_in_two_shots() {
        for shift in 18..=22 {
            let chosen = |ranks, cores| chosen(Collective::AllReduce, ranks, 1 << shift, cores);
            assert_eq!([chosen(3, 2), chosen(4, 2)], [Algorithm::Tree, Algorithm::Halving], "{}", 1 << shift);
            assert_eq!([chosen(3, 3), chosen(4, 4)], [Algorithm::TwoShot; 2], "{}", 1 << shift);
        }
    }

    #[test]
    fn blocks_that_no_cache_holds_are_reduced_in_a_ring() {
        for (shift, expected) in [(20, Algorithm::TwoShot), (24, Algorithm::Ring)] {
            assert_eq!(chosen(Collective::ReduceScatter, 3, (1 << shift) / 3, 2), expected, "{}", 1 << shift);
            assert_eq!(chosen(Collective::ReduceScatter, 3, (1 << shift) / 3, 3), Algorithm::TwoShot, "{}", 1 << shift);
        }
    }

    #[test]
    fn three_ranks_on_two_cores_broadcast_in_a_chain_and_what_is_long_by_a_tree() {
        for shift in 3..=22 {
            let chosen = |ranks, cores| chosen(Collective::Broadcast, ranks, 1 << shift, cores);
            let three = if shift < 20 { Algorithm::Ring } else { Algorithm::Tree };
            let expected = [three, Algorithm::OneShot, Algorithm::OneShot];
            assert_eq!([chosen(3, 2), chosen(4, 2), chosen(3, 3)], expected, "{}", 1 << shift);
        }
    }
}
