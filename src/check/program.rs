//! What is proved: anything that yields steps.

use crate::plan::{Step, World};
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
}
