//! What domains cost: flat algorithms that cross their borders, and the hierarchy that keeps within them.

use super::{LinkClass, Scene, Work, times};
use crate::plan::{Algorithm, World};
use crate::types::Collective;
use alloc::vec::Vec;

impl Scene {
    /// The links that a flat algorithm goes over. Where everybody meets everybody, some peers are near and most are far; a pattern of
    /// neighbours goes as fast as its slowest link.
    pub(super) fn links(&self, world: &World, algorithm: Algorithm) -> LinkClass {
        use Algorithm::*;
        let [near, far] = [self.near, self.class];
        // Over sockets a board goes to all its readers alike.
        if world.domain_count() < 2 || far.sends() || !matches!(algorithm, OneShot | TwoShot | Owner | Star | Pairwise)
        {
            return far;
        }
        let peers = (self.ranks - 1).max(1);
        let near_peers = u64::from(world.full_rails().max(1)) - 1;
        let mean = |near: u64, far: u64| (near * near_peers + far * (peers - near_peers)) / peers;
        LinkClass {
            name: "shared memory and between domains",
            latency_ns: far.latency_ns,
            turn_ns: far.turn_ns,
            message_ns: mean(near.message_ns, far.message_ns),
            signal_ns: mean(near.signal_ns, far.signal_ns),
            copy_ps: mean(near.copy_ps, far.copy_ps),
            fold_ps: mean(near.fold_ps, far.fold_ps),
            post_ns: 0,
            sent_ps: 0,
        }
    }

    /// Inner and outer stages of a hierarchy, each in its class. In the inner ones each rail has its ranks and wards of every domain as
    /// blocks, each a message of its own.
    pub(super) fn layers(&self, world: &World) -> Vec<(LinkClass, Work)> {
        let rails = u64::from(world.full_rails().max(1));
        let domains = u64::from(world.domain_count());
        let rows = u64::from(world.largest_domain()).div_ceil(rails);
        let inner = Scene { ranks: u64::from(world.largest_domain()), class: self.near, ..*self };
        let outer = Scene { ranks: domains, ..*self };
        let served = Scene { ranks: rails, ..inner };
        let exchange = outer.exchange_bytes();
        let of = |scene: Scene, bytes: u64| Scene { bytes, ..scene };
        let slice = self.bytes.div_ceil(rails);
        let blocks = times(rows, domains);
        let wards = if rows > 1 { served.wards(rows) } else { Work::default() };
        let direct = Algorithm::OneShot;
        use Collective::{AllGather, AllReduce, Broadcast, ReduceScatter, Scatter};
        let (first, second, third) = match self.collective {
            AllReduce => (
                of(inner, slice).priced(ReduceScatter, Algorithm::TwoShot),
                of(outer, slice)
                    .priced(AllReduce, if slice <= exchange { Algorithm::Halving } else { Algorithm::TwoShot }),
                of(served, slice).priced(AllGather, direct),
            ),
            ReduceScatter => (
                inner.priced(ReduceScatter, Algorithm::TwoShot).for_blocks(blocks),
                outer.priced(ReduceScatter, Algorithm::TwoShot).for_blocks(rows),
                wards,
            ),
            AllGather => (
                wards,
                outer.priced(AllGather, direct).for_blocks(rows),
                served.priced(AllGather, direct).for_blocks(blocks),
            ),
            _ => (
                of(inner, slice).priced(Scatter, Algorithm::Star),
                of(outer, slice).priced(Broadcast, direct),
                of(served, slice).priced(AllGather, direct),
            ),
        };
        alloc::vec![(inner.class, first), (outer.class, second), (inner.class, third)]
    }

    /// A rail's blocks of wards, taken in or handed over.
    fn wards(&self, rows: u64) -> Work {
        let (b, r) = (self.bytes, self.messages(self.bytes));
        Work { exchanges: 1, messages: times(r, rows), copied: times(b, rows), ..Work::default() }
    }
}

impl Work {
    /// The same for so many blocks one after the other, with one wait.
    fn for_blocks(self, blocks: u64) -> Work {
        Work {
            exchanges: self.exchanges,
            messages: times(self.messages, blocks),
            signals: times(self.signals, blocks),
            copied: times(self.copied, blocks),
            folded: times(self.folded, blocks),
            posts: times(self.posts, blocks),
            sent: times(self.sent, blocks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Candidate;
    use super::*;
    use crate::plan::{Plan, Tuning};
    use crate::types::{Call, DataType, Reduction};

    const LAYERED: [Collective; 4] =
        [Collective::AllReduce, Collective::ReduceScatter, Collective::AllGather, Collective::Broadcast];

    fn call(collective: Collective, bytes: u64) -> Call {
        Call::new(collective, DataType::F32, Reduction::Sum, 0, bytes / 4)
    }

    fn chosen(collective: Collective, domains: &[u32], bytes: u64) -> Algorithm {
        let plan = Plan::new(&World::domains(domains), &call(collective, bytes), &Tuning::default());
        plan.expect("a plan").algorithm()
    }

    #[test]
    fn two_domains_of_four_reduce_long_vectors_in_layers_and_short_ones_at_once() {
        for shift in 17..=30 {
            assert_eq!(chosen(Collective::AllReduce, &[4, 4], 1 << shift), Algorithm::Hierarchy, "{}", 1 << shift);
            assert_eq!(chosen(Collective::ReduceScatter, &[4, 4], 1 << shift), Algorithm::Hierarchy, "{}", 1 << shift);
        }
        for bytes in [4, 8, 64] {
            assert_eq!(chosen(Collective::AllReduce, &[4, 4], bytes), Algorithm::OneShot, "{bytes}");
        }
        assert_eq!(chosen(Collective::AllGather, &[8, 8], 1 << 24), Algorithm::Hierarchy);
        assert_eq!(chosen(Collective::Broadcast, &[8, 8], 1 << 24), Algorithm::Hierarchy);
    }

    #[test]
    fn worlds_of_three_and_domains_of_very_unequal_size_stay_flat() {
        for domains in [&[2, 1][..], &[1, 2], &[1, 7], &[12, 1]] {
            for collective in LAYERED {
                for shift in 3..=30 {
                    let algorithm = chosen(collective, domains, 1 << shift);
                    assert_ne!(algorithm, Algorithm::Hierarchy, "{collective} {domains:?} {}", 1u64 << shift);
                }
            }
        }
    }

    #[test]
    fn a_flat_algorithm_costs_more_where_some_links_are_slow_but_not_more_than_if_all_were() {
        let domains = [World::flat(8), World::domains(&[4, 4]), World::domains(&[1; 8])];
        for collective in Collective::ALL {
            let bytes = if collective == Collective::Barrier { 0 } else { 1 << 20 };
            let [near, mixed, far] = [0, 1, 2]
                .map(|world: usize| Plan::candidates(&domains[world], &call(collective, bytes), &Tuning::default()));
            for flat in near {
                let cost = |all: &[Candidate]| {
                    all.iter().find(|other| other.algorithm == flat.algorithm).map(|other| other.nanoseconds)
                };
                let costs = [Some(flat.nanoseconds), cost(&mixed), cost(&far)];
                assert!(costs[0] < costs[1] && costs[1] <= costs[2], "{collective} {}: {costs:?}", flat.algorithm);
            }
        }
    }

    #[test]
    fn a_hierarchy_says_what_it_does_in_each_class() {
        let world = World::domains(&[4, 4]);
        let plan = Plan::new(&world, &call(Collective::AllReduce, 1 << 20), &Tuning::default()).expect("a plan");
        let text = plan.explain();
        assert!(text.starts_with("hierarchy is the cheapest"), "{text}");
        assert!(text.contains("in shared memory; ") && text.contains("in between domains; "), "{text}");
    }
}
