//! What goes over sockets: there a message to many is sent to each of them, and every byte costs both kernels work.
//!
//! ```text
//!   oneshot    everything to everybody          n-1 posts of v
//!   ring       the next one only                n-1 posts of v/n, twice for an all-reduce
//!   halving    a partner a level                log n posts
//! ```

use super::{Scene, Work, times};
use crate::plan::Algorithm;
use crate::types::Collective;

/// All blocks together: longer ones wait for each other at every level. Reduce-scatter of two ranks of a Zen 5, twoshot and halving: 1 MiB
/// 132 and 149 us, 4 MiB 534 and 982; of four ranks on its two cores, 1 MiB: 414 and 456.
const LEVEL_BYTES: u64 = 512 << 10;

/// All blocks together that a crowd gathers level by level.
const GATHERED_BYTES: u64 = 4 << 20;

/// Two ranks reduce vectors of up to so many bytes in halves, each sent at once, and longer ones by a ring, which takes a piece while it is in
/// the cache. Two cores of a Zen 4, one-shot, halving and ring: 512 KiB 169 us, 173, 170; 1 MiB 381, 303, 323; 2 MiB 730, 568, 653; 4 MiB
/// 1776, 1482, 1408; 16 MiB 7767, 7630, 6539.
const HALVES_OF_TWO_BYTES: u64 = 3 << 20;

/// Longer vectors don't stay in the cache (16 MiB of two ranks, of everything that they touch) from one phase of a halving to the next.
const HALVING_BYTES: u64 = 2 << 20;

impl Scene {
    /// The work of one algorithm with what it sends, on its busiest rank.
    pub(super) fn priced(&self, collective: Collective, algorithm: Algorithm) -> Work {
        let scene = Scene { collective, ..*self };
        let work = scene.work(algorithm);
        if !scene.class.sends() {
            return if scene.ranks_a_core > 1 { scene.crowded(algorithm, work) } else { work };
        }
        let (posts, sent) = scene.wire(algorithm);
        Work { posts, sent, ..work }
    }

    /// Messages that take so many bytes, at least one a level.
    fn level_posts(&self, bytes: u64) -> u64 {
        (self.levels().max(1) - 1).saturating_add(self.messages(bytes).max(1))
    }

    /// Blocks that go level by level.
    fn in_levels(&self, algorithm: Algorithm) -> (u64, u64) {
        let (n, v, crowded) = (self.ranks, self.bytes, self.ranks_a_core > 1);
        let (blocks, vector) = (times(v, n - 1), times(v, n));
        let halving = algorithm == Algorithm::Halving;
        let gathers = halving && self.collective == Collective::AllGather && crowded && n > 2 && n.is_power_of_two();
        // In a crowd whoever waits for one rank instead of all others waits less. All-gather of four ranks on two cores of a Zen 5, by
        // halving and in one shot: 256 KiB 102 and 92 us, 1 MiB 265 and 290, 2 MiB 670 and 800, 4 MiB 978 and 1039, 16 MiB 5369 and 4426.
        if gathers && vector > LEVEL_BYTES && vector <= GATHERED_BYTES {
            return (self.levels(), blocks / 8 * 7);
        }
        let spare = if !halving || n.is_power_of_two() { 0 } else { vector };
        let bytes = blocks.saturating_add(spare);
        (self.level_posts(bytes), if vector > LEVEL_BYTES { bytes.saturating_add(bytes / 2) } else { bytes })
    }

    /// How often two ranks send a half, where they send it twice: that which is best as often as they do. Up to a border everything at once is
    /// as good as anything: it waits once, and both cores work all the time.
    fn of_two(&self, algorithm: Algorithm) -> u64 {
        let best = if self.bytes <= HALVES_OF_TWO_BYTES { Algorithm::Halving } else { Algorithm::Ring };
        if self.bytes > LEVEL_BYTES && algorithm == best { 2 } else { 4 }
    }

    /// Messages, each to one rank, and their bytes.
    fn wire(&self, algorithm: Algorithm) -> (u64, u64) {
        let (n, v, r) = (self.ranks, self.bytes, self.messages(self.bytes));
        let rounds = v.div_ceil(times(self.chunk, n));
        let others = v / n * (n - 1) + v % n;
        // What doesn't stay in a crowd's caches costs more, but in a ring, which takes it up at once. All-reduce of four ranks on two cores of a
        // Zen 5, by halving, a tree and a ring: 4 MiB 2.4 ms, 2.8 and 2.4, 16 MiB 11.8, 12.4 and 10.4; of three 16 MiB 13.2, 9.8 and 8.6.
        let cold = if v > GATHERED_BYTES { others / 2 } else { 0 };
        match (self.collective, algorithm) {
            (Collective::AllReduce, Algorithm::TwoShot | Algorithm::Ring) if n == 2 => {
                (times(rounds, 2), times(others, self.of_two(algorithm)))
            }
            // An owner waits for the pieces of all others before it goes on. All-reduce of 4 ranks on 2 cores: 1 MiB 934 us, by a ring 689,
            // which sends as much.
            (Collective::AllReduce, Algorithm::TwoShot) => (times(rounds, 2 * (n - 1)), 3 * others),
            (Collective::AllReduce, Algorithm::Ring) => (times(rounds, 2 * (n - 1)), 2 * others),
            // All ranks of a core together send as much as a ring, in fewer and longer messages. Three ranks on two cores of a Zen 5: 1 MiB
            // 465 us, by a ring 542, by halving 562; 16 MiB 9.2 ms, 9.9, 13.0. Four: 14.4, 15.5, 14.4.
            (Collective::AllReduce, Algorithm::Tree) if self.ranks_a_core > 1 && v > LEVEL_BYTES => {
                (times(self.messages(v / 2).max(1), 4 * (n - 1)) / n, 2 * others + cold)
            }
            (Collective::AllReduce, Algorithm::Tree) => (times(self.messages(v / 2).max(1), 5), 2 * v),
            (Collective::AllReduce, Algorithm::Halving) if v <= self.exchange_bytes() => {
                // In a crowd all messages of all ranks count, and spares have two. Three ranks on two cores of a Zen 5, 32 KiB: 35 us, in one
                // shot 41.
                if self.ranks_a_core > 1 {
                    let pairs = 1 << n.ilog2();
                    let all = times(pairs, n.ilog2().into()) + 2 * (n - pairs);
                    return (all / n, times(v, all) / n);
                }
                let posts = self.levels() + if n.is_power_of_two() { 0 } else { 2 };
                (posts, times(v, posts))
            }
            (Collective::AllReduce, Algorithm::Halving) if n == 2 => (2, times(others, self.of_two(algorithm))),
            // All ranks of a core together send as much as a ring, but a spare's partner sends more.
            (Collective::AllReduce, Algorithm::Halving) if self.ranks_a_core > 1 => {
                let spare = if n.is_power_of_two() { 0 } else { others };
                (2 * self.levels(), 2 * others + spare + cold)
            }
            (Collective::AllReduce, Algorithm::Halving) => {
                // The messages of a phase go together. Of vectors that don't stay in the cache between two phases every byte costs more.
                let spare = if n.is_power_of_two() { 0 } else { v };
                let sent = 2 * (others + spare);
                (2 * self.levels(), if v > HALVING_BYTES { sent + sent / 2 } else { sent })
            }
            (Collective::AllGather | Collective::ReduceScatter, Algorithm::Halving | Algorithm::Bruck) => {
                self.in_levels(algorithm)
            }
            // Each waits for the block of everybody. Reduce-scatter of 256 KiB of four ranks on two cores of a Zen 5: 141 us, by halving 107; of
            // three 107, by a ring 102.
            (Collective::ReduceScatter, Algorithm::TwoShot) if n > 2 && times(v, n) <= LEVEL_BYTES => {
                (times(r.max(1), n - 1), times(v, n - 1) + times(v, n - 1) / 4)
            }
            // What everybody folds is posted from a copy.
            (Collective::AllReduce, Algorithm::OneShot) => (times(r.max(1), n - 1), times(v, n - 1) + v / 2),
            (Collective::Broadcast | Collective::Reduce, Algorithm::Ring) => (r, v),
            // In a crowd trees send no more, and who passes on waits less often. 16 MiB of four ranks on two cores of a Zen 5: 8.6 ms, by a
            // ring 9.9, of three 6.4 and 6.0.
            (Collective::Broadcast, Algorithm::Tree) if self.ranks_a_core > 1 && n > 3 && v > LEVEL_BYTES => {
                (r, v - v / 8)
            }
            (Collective::Broadcast | Collective::Reduce, Algorithm::Tree) => (times(r, 2), times(v, 2)),
            (Collective::Barrier, Algorithm::OneShot) => (n - 1, 0),
            (Collective::Barrier, _) => (self.levels(), 0),
            // Everything to everybody, or to and from one.
            _ => (times(r.max(1), n - 1), times(v, n - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{Algorithm, Medium, Plan, Tuning, World};
    use crate::types::{Call, Collective, DataType, Reduction};

    fn chosen(collective: Collective, world: &World, bytes: u64, media: [Medium; 2], cores: u32) -> Algorithm {
        let call = Call::new(collective, DataType::F32, Reduction::Sum, 0, bytes / 4);
        let [inside, between] = media;
        let tuning = Tuning { inside, between, cores, ..Tuning::default() };
        Plan::new(world, &call, &tuning).expect("a plan").algorithm()
    }

    #[test]
    fn four_ranks_over_sockets_reduce_short_vectors_by_halving_and_long_ones_by_neighbours() {
        for media in [[Medium::Loopback; 2], [Medium::Network; 2]] {
            let algorithm = |bytes| chosen(Collective::AllReduce, &World::flat(4), bytes, media, 2);
            for shift in 3..=12 {
                assert!(matches!(algorithm(1 << shift), Algorithm::Halving | Algorithm::OneShot), "{}", 1 << shift);
            }
            for shift in 20..=28 {
                assert!(matches!(algorithm(1 << shift), Algorithm::Halving | Algorithm::Ring), "{}", 1 << shift);
            }
        }
    }

    #[test]
    fn hosts_reduce_within_before_they_reduce_between() {
        for bytes in [1 << 10, 1 << 16, 1 << 20, 1 << 26] {
            for domains in [&[2, 2][..], &[4, 4], &[8; 16]] {
                let world = World::domains(domains);
                let algorithm = chosen(Collective::AllReduce, &world, bytes, [Medium::Memory, Medium::Network], 0);
                assert_eq!(algorithm, Algorithm::Hierarchy, "{domains:?}, {bytes}");
            }
        }
    }

    #[test]
    fn a_barrier_of_many_hosts_takes_rounds() {
        assert_eq!(chosen(Collective::Barrier, &World::flat(64), 0, [Medium::Network; 2], 0), Algorithm::Bruck);
    }
}
