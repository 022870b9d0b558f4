//! What is proved: anything that yields steps.

use crate::plan::{Plan, Step, World};
use crate::types::Call;
use alloc::vec::Vec;

/// A source of steps with the call that they should carry out. A [`crate::plan::Plan`] is one; so is a list of steps.
pub trait Program {
    /// The ranks.
    fn world(&self) -> &World;
    /// The call as that rank makes it. It differs between ranks in the count lists of an unequal all-to-all only.
    fn call(&self, rank: u32) -> &Call;
    /// How many lists of steps each rank has.
    fn channels(&self) -> u32;
    /// A step, or nothing after the last.
    fn step(&self, rank: u32, channel: u32, index: u64) -> Option<Step>;
    /// Elements of the input.
    fn input_len(&self, rank: u32) -> u64;
    /// Elements of the output.
    fn output_len(&self, rank: u32) -> u64;
    /// Elements of the scratch memory.
    fn scratch_len(&self, rank: u32) -> u64;
    /// Elements of a slot: the longest message.
    fn slot_len(&self) -> u64;
    /// Messages that each link holds at least.
    fn slots(&self) -> u32;
}

/// A program written out step by step, which can be altered.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The ranks.
    pub world: World,
    /// The call of each rank.
    pub calls: Vec<Call>,
    /// Elements of a slot.
    pub slot_len: u64,
    /// Slots of each link, at least.
    pub slots: u32,
    /// Elements of the input, the output and the scratch memory of each rank.
    pub lens: Vec<[u64; 3]>,
    /// The steps: of each rank, of each channel.
    pub steps: Vec<Vec<Vec<Step>>>,
}

impl Listed {
    /// A copy of a program. Its memory is that of all steps together, so it is for small ones.
    pub fn of(program: &impl Program) -> Listed {
        let ranks = 0..program.world().size();
        let list = |rank, channel| (0..).map_while(|index| program.step(rank, channel, index)).collect();
        Listed {
            world: program.world().clone(),
            calls: ranks.clone().map(|rank| program.call(rank).clone()).collect(),
            slot_len: program.slot_len(),
            slots: program.slots(),
            lens: ranks
                .clone()
                .map(|rank| [program.input_len(rank), program.output_len(rank), program.scratch_len(rank)])
                .collect(),
            steps: ranks.map(|rank| (0..program.channels()).map(|channel| list(rank, channel)).collect()).collect(),
        }
    }
}

impl Program for Listed {
    fn world(&self) -> &World {
        &self.world
    }

    fn call(&self, rank: u32) -> &Call {
        &self.calls[rank as usize]
    }

    fn channels(&self) -> u32 {
        self.steps.first().map_or(0, |channels| channels.len() as u32)
    }

    fn step(&self, rank: u32, channel: u32, index: u64) -> Option<Step> {
        self.steps[rank as usize][channel as usize].get(index as usize).copied()
    }

    fn input_len(&self, rank: u32) -> u64 {
        self.lens[rank as usize][0]
    }

    fn output_len(&self, rank: u32) -> u64 {
        self.lens[rank as usize][1]
    }

    fn scratch_len(&self, rank: u32) -> u64 {
        self.lens[rank as usize][2]
    }

    fn slot_len(&self) -> u64 {
        self.slot_len
    }

    fn slots(&self) -> u32 {
        self.slots
    }
}

impl Program for Plan {
    fn world(&self) -> &World {
        Plan::world(self)
    }

    fn call(&self, _rank: u32) -> &Call {
        Plan::call(self)
    }

    fn channels(&self) -> u32 {
        Plan::channels(self)
    }

    fn step(&self, rank: u32, channel: u32, index: u64) -> Option<Step> {
        Plan::step(self, rank, channel, index)
    }

    fn input_len(&self, rank: u32) -> u64 {
        Plan::input_len(self, rank)
    }

    fn output_len(&self, rank: u32) -> u64 {
        Plan::output_len(self, rank)
    }

    fn scratch_len(&self, rank: u32) -> u64 {
        Plan::scratch_len(self, rank)
    }

    fn slot_len(&self) -> u64 {
        u64::from(Plan::slot_len(self))
    }

    fn slots(&self) -> u32 {
        Plan::slots(self)
    }
}

/// The plans of all ranks where each made its own: for an unequal all-to-all, of which each rank knows its own counts only.
#[derive(Clone, Debug)]
pub struct Together {
    plans: Vec<Plan>,
}

impl Together {
    /// The plan of each rank, in the order of ranks. Nothing unless there is one for each rank of the first plan's world.
    pub fn of(plans: Vec<Plan>) -> Option<Together> {
        let complete = plans.first().is_some_and(|plan| plan.world().size() as usize == plans.len());
        let alike = plans.windows(2).all(|pair| pair[0].world() == pair[1].world());
        (complete && alike).then_some(Together { plans })
    }

    fn plan(&self, rank: u32) -> &Plan {
        &self.plans[rank as usize]
    }
}

impl Program for Together {
    fn world(&self) -> &World {
        self.plans[0].world()
    }

    fn call(&self, rank: u32) -> &Call {
        self.plan(rank).call()
    }

    fn channels(&self) -> u32 {
        self.plans.iter().map(Plan::channels).max().unwrap_or(0)
    }

    fn step(&self, rank: u32, channel: u32, index: u64) -> Option<Step> {
        self.plan(rank).step(rank, channel, index)
    }

    fn input_len(&self, rank: u32) -> u64 {
        self.plan(rank).input_len(rank)
    }

    fn output_len(&self, rank: u32) -> u64 {
        self.plan(rank).output_len(rank)
    }

    fn scratch_len(&self, rank: u32) -> u64 {
        self.plan(rank).scratch_len(rank)
    }

    /// The largest that any rank asks for.
    fn slot_len(&self) -> u64 {
        self.plans.iter().map(|plan| u64::from(plan.slot_len())).max().unwrap_or(0)
    }

    /// The most that any rank asks for.
    fn slots(&self) -> u32 {
        self.plans.iter().map(Plan::slots).max().unwrap_or(0)
    }
}
