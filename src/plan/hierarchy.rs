//! Hierarchy: an inner algorithm in each domain and an outer one between them. Nothing is repeated here: a stage runs an algorithm of
//! another file in a group, with places mapped to ranks and buffers to buffers.
//!
//! ```text
//!                    rail 0   rail 1
//!   domain 0           0 ─────── 1          inner: 1  everybody in a domain, fast links
//!                      │         │          outer: 2  the ranks of a rail, one in each domain
//!   domain 1           2 ─────── 3  4
//!
//!   all-reduce       1 reduce-scatter a slice to each rail, 2 all-reduce the slice, 1 all-gather
//!   reduce-scatter   1 reduce-scatter a rail's blocks to it, 2 reduce-scatter each its own
//!   all-gather       2 all-gather a rail's blocks, 1 all-gather all rails
//!   broadcast        1 scatter a slice to each rail, 2 broadcast the slice, 1 all-gather
//! ```
//!
//! Over a network each of two channels does its share in parts. While one waits for the network with a part, the other is inside the domain
//! with one of its own, so that both levels are busy:
//!
//! ```text
//!   channel 0   1111 2222 1111   1111 2222 1111
//!   channel 1   1111      2222 1111 1111  2222 1111
//! ```
//!
//! There are as many rails as the smallest domain has ranks. In a larger domain the ranks past them (4 above) are wards: ward `j + q·k`
//! of `k` rails belongs to rail `j`, which carries its block as row `q`, and hands it over inside the domain.

use super::build::{Job, Share};
use super::cut::{Block, Cut};
use super::direct::Direct;
use super::halving::Halving;
use super::lane::{Lane, Seat};
use super::layout::Members;
use super::ring::{self, Ring};
use super::shape::Shape;
use super::shard::{Slices, divide};
use super::star::{self, Star};
use super::tree::{self, Tree};
use super::twoshot::TwoShot;
use super::{Flags, Group, Space, Step, World};
use crate::types::Collective;
use alloc::vec::Vec;

/// Up to so many domains meet directly; more go round a ring, or down a tree.
const DIRECT_DOMAINS: u32 = 8;

/// The stages of one channel, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Hierarchy {
    stages: Vec<Stage>,
    /// Ranks of a smaller place have so much scratch memory.
    rails: u32,
    scratch: u64,
}

/// One algorithm in the groups of one kind.
#[derive(Clone, Debug)]
struct Stage {
    scope: Scope,
    /// What the algorithm calls its input and its output.
    input: Space,
    output: Space,
}

#[derive(Clone, Debug)]
enum Scope {
    /// In every domain.
    Inner(Lane),
    /// In one domain.
    InnerOf(u32, Lane),
    /// On every rail, one lane each.
    Outer(Vec<Lane>),
    /// Between the rails and their wards.
    Wards(Wards),
}

/// Handing blocks to wards (after a reduce-scatter), or taking them from wards (before an all-gather).
#[derive(Clone, Debug)]
struct Wards {
    rails: u32,
    /// The share of each block that this channel moves, and the whole block.
    share: Share,
    count: u64,
    chunk: u64,
    /// Handing over: where in scratch memory the row of results begins. None: taking in.
    results: Option<u64>,
}

impl Hierarchy {
    /// The stages of a call on one channel, part by part.
    pub(super) fn new(job: &Job<'_>, share: Share) -> Hierarchy {
        let rails = job.world.full_rails();
        let cuts = Slices::new(share.len, job.parts, job.unit());
        let (mut stages, mut scratch) = (Vec::new(), 0);
        for part in 0..u64::from(job.parts) {
            let part = Share { at: share.at + cuts.start(part), len: cuts.length(part) };
            let plan = Layers { job, share: part, rails };
            stages.extend(match job.call.collective {
                Collective::AllReduce => plan.all_reduce(),
                Collective::ReduceScatter => {
                    scratch = plan.scratch_at() + plan.scratch_each() * part.len;
                    plan.reduce_scatter()
                }
                Collective::AllGather => plan.all_gather(),
                _ => plan.broadcast(),
            });
        }
        Hierarchy { stages, rails, scratch }
    }

    #[inline(never)]
    pub(super) fn count(&self, world: &World, rank: u32) -> u64 {
        self.stages.iter().map(|stage| stage.count(world, rank)).sum()
    }

    #[inline(never)]
    pub(super) fn step(&self, world: &World, rank: u32, mut index: u64) -> Step {
        for stage in &self.stages {
            let steps = stage.count(world, rank);
            if index < steps {
                return stage.step(world, rank, index).unwrap_or(Step::of(0));
            }
            index -= steps;
        }
        Step::of(0)
    }

    /// The longest message.
    pub(super) fn longest(&self) -> u32 {
        let longest = |stage: &Stage| match &stage.scope {
            Scope::Inner(lane) | Scope::InnerOf(_, lane) => lane.longest(),
            Scope::Outer(lanes) => lanes.iter().map(Lane::longest).max().unwrap_or(0),
            Scope::Wards(wards) => wards.share.len.min(wards.chunk) as u32,
        };
        self.stages.iter().map(longest).max().unwrap_or(0)
    }

    /// Elements of scratch memory.
    pub(super) fn scratch(&self, world: &World, rank: u32) -> u64 {
        if world.seat(rank).1 < self.rails { self.scratch } else { 0 }
    }
}

impl Stage {
    fn lane(&self, world: &World, rank: u32) -> Option<(&Lane, Seat)> {
        let (domain, place) = world.seat(rank);
        let inner = || Seat { place, size: world.domain(domain).len() };
        match &self.scope {
            Scope::Inner(lane) => Some((lane, inner())),
            Scope::InnerOf(only, lane) => (domain == *only).then(|| (lane, inner())),
            Scope::Outer(lanes) => {
                let seat = Seat { place: domain, size: world.domain_count() };
                lanes.get(place as usize).map(|lane| (lane, seat))
            }
            Scope::Wards(_) => None,
        }
    }

    fn count(&self, world: &World, rank: u32) -> u64 {
        match &self.scope {
            Scope::Wards(wards) => {
                let (domain, place) = world.seat(rank);
                wards.count(Seat { place, size: world.domain(domain).len() })
            }
            _ => self.lane(world, rank).map_or(0, |(lane, seat)| lane.count(seat)),
        }
    }

    /// The algorithm's step with ranks for places, and this stage's buffers for the algorithm's.
    fn step(&self, world: &World, rank: u32, index: u64) -> Option<Step> {
        if let Scope::Wards(wards) = &self.scope {
            let (domain, place) = world.seat(rank);
            return wards.step(world.domain(domain), place, index);
        }
        let (lane, seat) = self.lane(world, rank)?;
        let (domain, place) = world.seat(rank);
        let group = if matches!(self.scope, Scope::Outer(_)) { Group::Outer } else { Group::Inner };
        // On a rail each domain has one rank: places there are the numbers of domains, in the order of the tour.
        let member = |other: u32| match group {
            Group::Outer => world.domain(other).get(place),
            _ => world.domain(domain).get(other),
        };
        let mut step = lane.step(seat, index);
        step.from = member(step.from)?;
        step.to = member(step.to)?;
        let renamed = |space| match space {
            Space::Input => self.input,
            Space::Output => self.output,
            other => other,
        };
        let step = step.read(renamed(step.src()), step.src_at).write(renamed(step.dst()), step.dst_at).among(group);
        let same = step.src() == step.dst() && step.src_at == step.dst_at;
        let idle = same && step.take == super::Take::Nothing && !step.flags.has(Flags::FINISH);
        Some(if idle { step.write(Space::Nothing, 0) } else { step })
    }
}

impl Wards {
    fn rounds(&self) -> u64 {
        self.share.len.div_ceil(self.chunk)
    }

    fn count(&self, seat: Seat) -> u64 {
        if seat.place >= self.rails {
            return self.rounds();
        }
        self.rounds() * u64::from(1 + (seat.size - 1 - seat.place) / self.rails)
    }

    fn step(&self, domain: Members<'_>, place: u32, index: u64) -> Option<Step> {
        let (row, round) = divide(index, self.rounds());
        let done = round * self.chunk;
        let step = Step::of((self.share.len - done).min(self.chunk) as u32).among(Group::Inner);
        let local = self.share.at + done;
        if place >= self.rails {
            let owner = domain.get(place % self.rails)?;
            return Some(match self.results {
                None => step.read(Space::Input, local).put_pair(owner),
                Some(_) => step.take_pair(owner).write(Space::Output, local),
            });
        }
        let rank = domain.get(place + row as u32 * self.rails)?;
        Some(match self.results {
            None => {
                let step = step.write(Space::Output, u64::from(rank) * self.count + local);
                if row == 0 { step.read(Space::Input, local) } else { step.take_pair(rank) }
            }
            Some(results) => {
                let step = step.read(Space::Scratch, results + row * self.share.len + done);
                if row == 0 { step.write(Space::Output, local) } else { step.put_pair(rank) }
            }
        })
    }
}

/// What the stages of a channel are built from.
struct Layers<'a> {
    job: &'a Job<'a>,
    share: Share,
    rails: u32,
}

impl Layers<'_> {
    fn world(&self) -> &World {
        self.job.world
    }

    fn domains(&self) -> u32 {
        self.world().domain_count()
    }

    /// Ranks of a domain that one rail serves at most: itself and its wards.
    fn rows(&self) -> u32 {
        self.world().largest_domain().div_ceil(self.rails)
    }

    fn direct(&self) -> bool {
        self.domains() <= DIRECT_DOMAINS
    }

    /// A vector, one slice a rail.
    fn slices(&self) -> Cut {
        Cut::slices(self.share.at, self.share.len, self.rails, self.job.chunk, self.job.unit())
    }

    /// One lane a rail, from its slice of the vector.
    fn on_slices(&self, lane: impl Fn(Share) -> Lane) -> Vec<Lane> {
        let slices = Slices::new(self.share.len, self.rails, self.job.unit());
        let part = |rail: u32| {
            let index = u64::from(rail);
            Share { at: self.share.at + slices.start(index), len: slices.length(index) }
        };
        (0..self.rails).map(|rail| lane(part(rail))).collect()
    }

    /// The rank of that domain that the rail serves as that row, if there is one.
    fn served(&self, domain: u32, rail: u32, row: u32) -> Option<u32> {
        self.world().domain(domain).get(rail + row * self.rails)
    }

    fn gathered(&self, cut: Cut) -> Stage {
        Stage {
            scope: Scope::Inner(Lane::Direct(Direct::Gather(cut, self.rails))),
            input: Space::Output,
            output: Space::Output,
        }
    }

    fn all_reduce(&self) -> Vec<Stage> {
        let inner = TwoShot { cut: self.slices(), owners: self.rails, share: false, finish: Flags::NONE };
        let outer = self.on_slices(|part| self.outer_all_reduce(part));
        alloc::vec![
            Stage { scope: Scope::Inner(Lane::TwoShot(inner)), input: Space::Input, output: Space::Output },
            Stage { scope: Scope::Outer(outer), input: Space::Output, output: Space::Output },
            self.gathered(self.slices()),
        ]
    }

    fn outer_all_reduce(&self, part: Share) -> Lane {
        let Job { chunk, .. } = *self.job;
        let (size, unit, finish) = (self.domains(), self.job.unit(), self.job.finish());
        if part.len <= self.job.exchange_elements(size) {
            return Lane::Halving(Halving::vector(size, part.at, part.len, unit, chunk, true, finish));
        }
        if self.direct() {
            let cut = Cut::rounds(part.at, part.len, chunk, size, unit);
            return Lane::TwoShot(TwoShot { cut, owners: size, share: true, finish });
        }
        let cut = Cut::rounds(part.at, part.len, chunk * u64::from(size), size, unit);
        Lane::Ring(Ring { way: ring::Way::AllReduce, cut, finish })
    }

    fn broadcast(&self) -> Vec<Stage> {
        let (domain, place) = self.world().seat(self.job.call.root);
        let inner = Star { way: star::Way::Scatter, root: place, cut: self.slices(), finish: Flags::NONE };
        let outer = self.on_slices(|part| {
            let cut = Cut::span(part.at, part.len, self.job.chunk);
            if self.direct() {
                return Lane::Direct(Direct::Spread(cut, domain));
            }
            let shape = Shape { mirrored: false, root: domain, nest: self.world().borders().to_vec() };
            Lane::Tree(Tree { way: tree::Way::Broadcast, shape, cut, scratch_at: 0, finish: Flags::NONE })
        });
        alloc::vec![
            Stage { scope: Scope::InnerOf(domain, Lane::Star(inner)), input: Space::Input, output: Space::Output },
            Stage { scope: Scope::Outer(outer), input: Space::Output, output: Space::Output },
            self.gathered(self.slices()),
        ]
    }

    /// Rows of blocks that the rails of a domain share out: row by row, domain by domain.
    fn inner_blocks(&self, block: impl Fn(u32, u32, u32) -> Block) -> Cut {
        let mut blocks = Vec::with_capacity((self.rows() * self.domains() * self.rails) as usize);
        for row in 0..self.rows() {
            for domain in 0..self.domains() {
                blocks.extend((0..self.rails).map(|rail| self.filled(domain, rail, row, &block)));
            }
        }
        Cut::grid(blocks, self.rails, self.job.chunk)
    }

    /// Rows of blocks that the domains exchange on a rail.
    fn outer_blocks(&self, rail: u32, block: impl Fn(u32, u32, u32) -> Block) -> Cut {
        let rows = (0..self.rows()).flat_map(|row| (0..self.domains()).map(move |domain| (row, domain)));
        let blocks = rows.map(|(row, domain)| self.filled(domain, rail, row, &block)).collect();
        Cut::grid(blocks, self.domains(), self.job.chunk)
    }

    fn filled(&self, domain: u32, rail: u32, row: u32, block: &impl Fn(u32, u32, u32) -> Block) -> Block {
        match self.served(domain, rail, row) {
            Some(rank) => block(rank, domain, row),
            None => Block { input: 0, output: 0, len: 0 },
        }
    }

    /// Scratch elements that a reduce-scatter needs for each element of its share: all blocks of a rail, and the row of results.
    fn scratch_each(&self) -> u64 {
        let rows = u64::from(self.rows());
        rows * u64::from(self.domains()) + if rows > 1 { rows } else { 0 }
    }

    /// Where this channel's scratch memory begins: after that of the shares before it.
    fn scratch_at(&self) -> u64 {
        self.scratch_each() * self.share.at
    }

    fn reduce_scatter(&self) -> Vec<Stage> {
        let Share { at, len } = self.share;
        let count = self.job.call.count;
        let domains = u64::from(self.domains());
        let partial = |domain, row| self.scratch_at() + (u64::from(row) * domains + u64::from(domain)) * len;
        let results = self.scratch_at() + u64::from(self.rows()) * domains * len;
        let wards = self.rows() > 1;
        let inner = self.inner_blocks(|rank, domain, row| Block {
            input: u64::from(rank) * count + at,
            output: partial(domain, row),
            len,
        });
        let outer = |rail| {
            let cut = self.outer_blocks(rail, |_, domain, row| Block {
                input: partial(domain, row),
                output: if wards { results + u64::from(row) * len } else { at },
                len,
            });
            if self.direct() {
                return Lane::TwoShot(TwoShot { cut, owners: self.domains(), share: false, finish: self.job.finish() });
            }
            Lane::Ring(Ring { way: ring::Way::ReduceScatter, cut, finish: self.job.finish() })
        };
        let inner = Lane::TwoShot(TwoShot { cut: inner, owners: self.rails, share: false, finish: Flags::NONE });
        let output = if wards { Space::Scratch } else { Space::Output };
        let mut stages = alloc::vec![
            Stage { scope: Scope::Inner(inner), input: Space::Input, output: Space::Scratch },
            Stage { scope: Scope::Outer((0..self.rails).map(outer).collect()), input: Space::Scratch, output },
        ];
        if wards {
            stages.push(self.wards(Some(results)));
        }
        stages
    }

    fn all_gather(&self) -> Vec<Stage> {
        let Share { at, len } = self.share;
        let count = self.job.call.count;
        let wards = self.rows() > 1;
        let home = |rank| u64::from(rank) * count + at;
        let outer = |rail| {
            let cut = self.outer_blocks(rail, |rank, _, _| Block {
                input: if wards { home(rank) } else { at },
                output: home(rank),
                len,
            });
            if self.direct() {
                return Lane::Direct(Direct::Gather(cut, self.domains()));
            }
            Lane::Ring(Ring { way: ring::Way::AllGather, cut, finish: Flags::NONE })
        };
        let inner = self.inner_blocks(|rank, _, _| Block { input: home(rank), output: home(rank), len });
        let input = if wards { Space::Output } else { Space::Input };
        let mut stages = Vec::new();
        if wards {
            stages.push(self.wards(None));
        }
        let outer = Scope::Outer((0..self.rails).map(outer).collect());
        stages.push(Stage { scope: outer, input, output: Space::Output });
        stages.push(self.gathered(inner));
        stages
    }

    fn wards(&self, results: Option<u64>) -> Stage {
        let Job { chunk, .. } = *self.job;
        let wards = Wards { rails: self.rails, share: self.share, count: self.job.call.count, chunk, results };
        Stage { scope: Scope::Wards(wards), input: Space::Input, output: Space::Output }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{Algorithm, Group, Medium, Plan, Put, Tuning, World};
    use crate::types::{Call, Collective, DataType, Reduction};

    /// For each channel of a plan the groups that rank 0 sends in, each once in a row.
    fn levels(collective: Collective, count: u64, between: Medium) -> Vec<Vec<Group>> {
        let call = Call::new(collective, DataType::F32, Reduction::Sum, 0, count);
        let tuning = Tuning { algorithm: Some(Algorithm::Hierarchy), between, ..Tuning::default() };
        let plan = Plan::new(&World::domains(&[2, 2]), &call, &tuning).expect("a plan");
        let sends = |channel| plan.steps(0, channel).filter(|step| step.put != Put::Nothing).map(|step| step.group());
        let levels = (0..plan.channels()).map(|channel| {
            let mut groups: Vec<Group> = sends(channel).collect();
            groups.dedup();
            groups
        });
        levels.collect()
    }

    #[test]
    fn a_long_vector_goes_over_a_network_in_parts_on_two_channels_and_within_a_host_at_once() {
        for collective in [Collective::AllReduce, Collective::AllGather, Collective::ReduceScatter] {
            let parts = levels(collective, 4 << 20, Medium::Network);
            assert_eq!(parts.len(), 2, "{collective}: so that one is inside while the other is outside");
            for channel in parts {
                let outside = channel.iter().filter(|group| **group == Group::Outer).count();
                assert_eq!(outside, 8, "{collective}: {channel:?}");
            }
            let whole = levels(collective, 4 << 20, Medium::Memory);
            assert_eq!(whole.len(), 1);
            assert_eq!(whole[0].iter().filter(|group| **group == Group::Outer).count(), 1, "{collective}");
            assert_eq!(levels(collective, 1 << 10, Medium::Network).len(), 1, "a short one is not worth it");
        }
    }
}
