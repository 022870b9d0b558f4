//! Plans: pure data that says what every rank does. No I/O, no clock, no environment, no floating point that two hosts could decide
//! differently. The same plan is executed, proved (`crate::check`), simulated (`crate::sim`) and lowered to devices.
//!
//! A plan is small. The steps of one rank come from [`Plan::step`], a pure function of (rank, channel, index): nothing is stored for the
//! whole job, and any reader can look at any step without going through the others.
//!
//! | file | idea |
//! |---|---|
//! | `step` | the one kind of instruction |
//! | `layout` | which ranks are near each other, and in which order rings visit them |
//! | `tuning` | what may be asked for, and how a plan refuses |
//! | `shard` | every rounding rule: slices, chunks, rounds |
//! | `cut` | which elements each message carries |
//! | `costs` | what links cost: the one table of constants |
//! | `profile` | costs as text |
//! | `choose`, and in it `crowd` `domains` `wire` | the cost model and the choice |
//! | `lane` `build` | what one channel does, and how it is put together |
//! | `digest` | the number that ranks compare |
//! | `direct` `twoshot` `owner` `star` `pairwise` | everybody meets everybody: one algorithm each, its drawing above its code |
//! | `ring` `tree` `halving` `bruck` `barrier` | neighbours in a pattern, likewise; `shape` is that of trees |
//! | `hierarchy` | the others in domains and between them |
//!
//! # Buffers
//!
//! Lengths in elements, for `n` ranks and a call of `count`; "root" means that the other ranks have none. Blocks lie one after the other in
//! the order of rank, also those of unequal length.
//!
//! | collective | input | output | in place, this memory overlaps |
//! |---|---|---|---|
//! | all_reduce | `count` | `count` | all |
//! | broadcast | `count`, root | `count` | all, on the root |
//! | reduce | `count` | `count`, root | all, on the root |
//! | all_gather | `count` | `n·count` | input = own block of the output |
//! | reduce_scatter | `n·count` | `count` | output = own block of the input |
//! | gather | `count` | `n·count`, root | input = own block of the output, on the root |
//! | scatter | `n·count`, root | `count` | output = own block of the input, on the root |
//! | all_to_all | `n·count` | `n·count` | never in place |
//!
//! Every plan is right in place and out of place, also when ranks differ. A step that copies a place of the input to the same place of the
//! output moves nothing in place, but it still multiplies (a pre-multiplied sum) and finishes (an average of one rank).
#![forbid(unsafe_code)]

mod barrier;
mod bruck;
mod build;
mod choose;
mod costs;
mod cut;
mod digest;
mod direct;
mod halving;
mod hierarchy;
mod lane;
mod layout;
mod owner;
mod pairwise;
mod profile;
mod ring;
mod shape;
mod shard;
mod star;
mod step;
mod tree;
mod tuning;
mod twoshot;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trial;

pub use choose::Candidate;
pub use costs::{Constant, Costs};
pub use layout::{MOST_LEVELS, Members, MembersIter, World};
pub use profile::{MOST_PROFILE_BYTES, ProfileError};
pub(crate) use shard::MOST_AHEAD;
pub use shard::{BORDER_BYTES, CHUNK_BYTES, MOST_CHUNK_BYTES, MOST_ELEMENTS, MOST_SLOT_BYTES};
pub use step::{Flags, Group, Put, Space, Step, Take};
pub use tuning::{Algorithm, Medium, PlanError, Tuning};

use crate::types::{Call, Collective};
use alloc::string::String;
use alloc::vec::Vec;
use build::Job;
use digest::Digest;
use lane::Track;

/// Every link holds at least so many messages; with exactly so many no plan deadlocks whose ranks talk through memory.
pub const MIN_SLOTS: u32 = 2;

/// The same over sockets, which need no memory for messages that lie with the caller.
pub const MIN_SENT_SLOTS: u32 = 16;

/// The most channels of a plan.
pub const MOST_CHANNELS: u32 = 64;

/// The most ranks of a world.
pub const MOST_RANKS: u32 = 1 << 20;

/// Changes whenever the steps of some plan change: ranks with different versions of the library must not run together.
const VERSION: u64 = 7;

/// What every rank does for one call.
#[derive(Clone, Debug)]
pub struct Plan {
    world: World,
    call: Call,
    tuning: Tuning,
    algorithm: Algorithm,
    /// Elements of a message.
    chunk: u64,
    slot_len: u32,
    /// What each channel does.
    tracks: Vec<Track>,
}

impl Plan {
    /// The plan of a call: the cheapest algorithm, or the one that was asked for.
    pub fn new(world: &World, call: &Call, tuning: &Tuning) -> Result<Plan, PlanError> {
        check_call(world, call)?;
        let chunk_bytes = check_tuning(call, tuning)?;
        let algorithm = match tuning.algorithm {
            Some(algorithm) => match choose::refusal(algorithm, world, call, tuning) {
                Some(why) => return Err(PlanError::Refused { algorithm, collective: call.collective, why }),
                None => algorithm,
            },
            None => {
                let candidates = choose::candidates(world, call, tuning, chunk_bytes);
                choose::cheapest(&candidates).map_or(Algorithm::OneShot, |candidate| candidate.algorithm)
            }
        };
        let chunk = shard::chunk_elements(chunk_bytes, call.dtype);
        check_steps(world, call, chunk)?;
        let parts = build::parts(algorithm, call, tuning, world.size(), chunk);
        let channels = build::channels(algorithm, call, tuning, parts);
        let sends = tuning.medium(world) != Medium::Memory;
        let ahead = shard::ahead_bytes(tuning);
        let job = Job { world, call, chunk, sends, ahead, channels, parts };
        let tracks: Vec<Track> = (0..channels).map(|channel| job.track(algorithm, channel)).collect();
        let slot_len = tracks.iter().map(Track::longest).max().unwrap_or(0);
        Ok(Plan {
            world: world.clone(),
            call: call.clone(),
            tuning: tuning.clone(),
            algorithm,
            chunk,
            slot_len,
            tracks,
        })
    }

    /// Every algorithm that can do the call with what it would cost, in the order of their numbers; empty for a call that has no plan.
    pub fn candidates(world: &World, call: &Call, tuning: &Tuning) -> Vec<Candidate> {
        match (check_call(world, call), check_tuning(call, tuning)) {
            (Ok(()), Ok(chunk_bytes)) => choose::candidates(world, call, tuning, chunk_bytes),
            _ => Vec::new(),
        }
    }

    /// One step of a rank on a channel; nothing past the end.
    #[inline]
    pub fn step(&self, rank: u32, channel: u32, index: u64) -> Option<Step> {
        let track = self.tracks.get(channel as usize)?;
        let there = rank < self.world.size() && index < track.count(&self.world, rank);
        if there { Some(track.step(&self.world, rank, index)) } else { None }
    }

    /// The steps of a rank on a channel, in order.
    pub fn steps(&self, rank: u32, channel: u32) -> Steps<'_> {
        Steps { plan: self, rank, channel, next: 0, end: self.step_count(rank, channel) }
    }

    /// How many steps a rank has on a channel.
    pub fn step_count(&self, rank: u32, channel: u32) -> u64 {
        match self.tracks.get(channel as usize) {
            Some(track) if rank < self.world.size() => track.count(&self.world, rank),
            _ => 0,
        }
    }

    /// How many channels there are; they run independently of each other.
    pub fn channels(&self) -> u32 {
        self.tracks.len() as u32
    }

    /// The call.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// The ranks.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What was asked for.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether ranks that can't address each other's inputs copy from them all the same, by the system.
    pub fn fetches(&self) -> bool {
        self.algorithm == Algorithm::Owner && choose::fetches(&self.world, &self.call, &self.tuning)
    }

    /// Elements of that rank's send buffer. For an unequal all-to-all: of the rank whose counts the call has.
    pub fn input_len(&self, rank: u32) -> u64 {
        let Call { count, root, .. } = self.call;
        match self.call.collective {
            Collective::AllReduce | Collective::Reduce => count,
            Collective::Broadcast if rank == root => count,
            Collective::AllGather | Collective::Gather => self.block_len(rank),
            Collective::Scatter if rank == root => self.blocks_len(),
            Collective::ReduceScatter | Collective::AllToAll => self.blocks_len(),
            Collective::Broadcast | Collective::Scatter | Collective::Barrier => 0,
        }
    }

    /// Elements of that rank's receive buffer. For an unequal all-to-all: of the rank whose counts the call has.
    pub fn output_len(&self, rank: u32) -> u64 {
        let Call { count, root, .. } = self.call;
        match self.call.collective {
            Collective::AllReduce | Collective::Broadcast => count,
            Collective::Reduce if rank == root => count,
            Collective::AllGather => self.blocks_len(),
            Collective::Gather if rank == root => self.blocks_len(),
            Collective::ReduceScatter | Collective::Scatter => self.block_len(rank),
            Collective::AllToAll => match &self.call.receive_counts {
                Some(counts) => counts.iter().sum(),
                None => self.blocks_len(),
            },
            Collective::Reduce | Collective::Gather | Collective::Barrier => 0,
        }
    }

    /// Elements of private memory that the steps of that rank need.
    pub fn scratch_len(&self, rank: u32) -> u64 {
        if rank >= self.world.size() {
            return 0;
        }
        self.tracks.iter().map(|track| track.scratch(&self.world, rank)).max().unwrap_or(0)
    }

    /// The most elements of any one message.
    pub fn slot_len(&self) -> u32 {
        self.slot_len
    }

    /// Messages that each link must hold.
    pub fn slots(&self) -> u32 {
        if shard::has_memory(&self.tuning) { MIN_SLOTS } else { MIN_SENT_SLOTS }
    }

    /// A number of everything that ranks must agree on: two ranks with the same number run the same plan. Of an unequal all-to-all
    /// it covers what all ranks know, which excludes the counts.
    pub fn digest(&self) -> u64 {
        let call = &self.call;
        let shared = if call.receive_counts.is_some() { &[][..] } else { call.counts.as_deref().unwrap_or(&[]) };
        let world = &self.world;
        let digest = Digest::new()
            .word(VERSION)
            .word(call.collective as u64)
            .word(call.dtype as u64)
            .word(call.reduction as u64)
            .word(u64::from(call.root))
            .word(call.count)
            .word(u64::from(call.counts.is_some()))
            .list(shared.iter().copied())
            .word(u64::from(world.size()))
            .word(u64::from(world.domain_count()))
            .list(world.domain_of().into_iter().map(u64::from))
            .word(self.algorithm as u64)
            .word(self.chunk)
            .word(u64::from(self.channels()))
            .word(u64::from(self.tuning.reproducible))
            .word(u64::from(self.fetches()))
            .word(u64::from(self.slots()))
            .word(world.borders().len() as u64);
        let groups = |digest: Digest, level: &Vec<u32>| digest.list(level.iter().copied().map(u64::from));
        world.borders().iter().fold(digest, groups).finish()
    }

    /// Why this algorithm, in one paragraph.
    pub fn explain(&self) -> String {
        let candidates = Plan::candidates(&self.world, &self.call, &self.tuning);
        choose::explain(self.algorithm, self.tuning.algorithm.is_some(), &candidates)
    }

    /// Elements of the block of that rank.
    fn block_len(&self, rank: u32) -> u64 {
        match &self.call.counts {
            Some(counts) => counts.get(rank as usize).copied().unwrap_or(0),
            None => self.call.count,
        }
    }

    /// Elements of all blocks.
    fn blocks_len(&self) -> u64 {
        match &self.call.counts {
            Some(counts) => counts.iter().sum(),
            None => self.call.count * u64::from(self.world.size()),
        }
    }
}

/// The steps of one rank on one channel.
#[derive(Clone, Debug)]
pub struct Steps<'a> {
    plan: &'a Plan,
    rank: u32,
    channel: u32,
    next: u64,
    end: u64,
}

impl Iterator for Steps<'_> {
    type Item = Step;

    #[inline]
    fn next(&mut self) -> Option<Step> {
        if self.next >= self.end {
            return None;
        }
        let step = self.plan.tracks.get(self.channel as usize)?.step(&self.plan.world, self.rank, self.next);
        self.next += 1;
        Some(step)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.end - self.next);
        (left.unwrap_or(usize::MAX), left.ok())
    }
}

/// Refuses calls that make no sense in this world, and vectors whose offsets or steps could overflow.
fn check_call(world: &World, call: &Call) -> Result<(), PlanError> {
    let size = world.size();
    if size == 0 {
        return Err(PlanError::Nobody);
    }
    if size > MOST_RANKS {
        return Err(PlanError::Setting { name: "the number of ranks", value: size, most: MOST_RANKS });
    }
    if call.root >= size {
        return Err(PlanError::Root { root: call.root, size });
    }
    let wrong = |why| Err(PlanError::Counts { why });
    let all_to_all = call.collective == Collective::AllToAll;
    let most_blocks = if call.collective.has_blocks() { u64::from(size) } else { 1 };
    let too_long = |elements: Option<u64>| match elements {
        Some(elements) if elements <= MOST_ELEMENTS => Ok(()),
        elements => Err(PlanError::TooLong { elements: elements.unwrap_or(u64::MAX) }),
    };
    let sum = |counts: &[u64]| counts.iter().try_fold(0u64, |sum, &count| sum.checked_add(count));
    match (&call.counts, &call.receive_counts) {
        (None, None) => too_long(call.count.checked_mul(most_blocks)),
        (None, Some(_)) => wrong("receive counts need send counts"),
        (Some(_), _) if !call.collective.has_blocks() => {
            wrong("this collective has no blocks, so it takes no list of counts")
        }
        (Some(_), _) if call.count != 0 => wrong("a call with a list of counts has 0 as its count"),
        (Some(counts), _) if counts.len() != size as usize => wrong("the list of counts must have one entry a rank"),
        (Some(_), Some(_)) if !all_to_all => wrong("receive counts are for all-to-all only"),
        (Some(_), None) if all_to_all => wrong("an unequal all-to-all needs receive counts too"),
        (Some(_), Some(receive)) if receive.len() != size as usize => {
            wrong("the list of receive counts must have one entry a rank")
        }
        (Some(counts), receive) => {
            too_long(sum(counts))?;
            too_long(receive.as_deref().map_or(Some(0), sum))
        }
    }
}

/// Refuses vectors in so many chunks that step numbers could overflow. Flat algorithms have at most four steps a chunk and rank; a
/// hierarchy of very unequal domains carries every rank's block through every rank of a domain.
fn check_steps(world: &World, call: &Call, chunk: u64) -> Result<(), PlanError> {
    let sum = |counts: &Option<Vec<u64>>| counts.iter().flatten().sum::<u64>();
    let elements = call.count.max(sum(&call.counts)).max(sum(&call.receive_counts));
    let ranks = u64::from(world.size()) + 4;
    match (elements / chunk + ranks).checked_mul(4 * ranks * ranks) {
        Some(steps) if steps < 1 << 62 => Ok(()),
        _ => Err(PlanError::TooLong { elements }),
    }
}

/// Refuses settings out of range; the bytes of a message otherwise.
fn check_tuning(call: &Call, tuning: &Tuning) -> Result<u64, PlanError> {
    let within = |name, value: Option<u32>, most| match value {
        Some(value) if value == 0 || value > most => Err(PlanError::Setting { name, value, most }),
        _ => Ok(()),
    };
    within("chunk_bytes", tuning.chunk_bytes, shard::most_chunk(tuning))?;
    within("channels", tuning.channels, MOST_CHANNELS)?;
    Ok(u64::from(tuning.chunk_bytes.unwrap_or(shard::usual_chunk(call, tuning))))
}
