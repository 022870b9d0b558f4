//! Everything that a rank can be doing when something happens: a mix of operations of all sizes, the same on all ranks.

use crate::chance::Chance;
use crate::roles::{describe, say};
use ringtree::{Communicator, ReduceOp, Registered, Result};

/// The most elements (f32) of one buffer: 8 MiB.
const MOST: u64 = 2 << 20;

/// A rank's way through the mix.
pub struct Mix {
    communicator: Communicator,
    chance: Chance,
    plain: Vec<f32>,
    other: Vec<f32>,
    registered: Registered<f32>,
    second: Registered<f32>,
}

impl Mix {
    /// Of that communicator; all ranks with the same seed.
    pub fn new(communicator: Communicator, seed: u64) -> Result<Mix> {
        let (registered, second) = (communicator.alloc(MOST as usize)?, communicator.alloc(MOST as usize)?);
        let (plain, other) = (vec![1.0; MOST as usize], vec![1.0; MOST as usize]);
        Ok(Mix { communicator, chance: Chance::new(seed, 1), plain, other, registered, second })
    }

    /// One operation of the mix.
    pub fn step(&mut self) -> Result<()> {
        let ranks = self.communicator.size();
        let count = self.chance.size(MOST) as usize;
        let each = (count / ranks).max(1);
        let (kind, choice) = (self.chance.below(16), self.chance.below(1 << 20) as usize);
        let root = choice % ranks;
        let (all, comm) = (each * ranks, &self.communicator);
        let (plain, other) = (&mut self.plain, &mut self.other);
        match kind {
            0 | 1 => comm.all_reduce(&mut plain[..count], ReduceOp::Sum),
            2 => comm.all_gather(&other[..each], &mut plain[..all]),
            3 => comm.reduce_scatter(&plain[..all], &mut other[..each], ReduceOp::Max),
            4 => comm.broadcast(&mut plain[..count], root),
            5 => comm.all_to_all(&plain[..all], &mut other[..all]),
            6 => self.around(count),
            7 | 8 => self.in_the_background(count),
            9 | 10 => comm.all_reduce(&mut self.registered[..count], ReduceOp::Sum),
            11 => comm.all_gather(&self.second[..each], &mut self.registered[..all]),
            12 => comm.reduce(&mut plain[..count.min(1 << 12)], ReduceOp::Sum, root),
            13 => comm.barrier(),
            14 => comm.alloc::<f32>(each).map(drop),
            // A new communicator takes as long as many operations: a fourth of its share.
            _ if choice % 4 == 0 => self.apart(count, choice),
            _ => comm.all_reduce(&mut plain[..count.min(2)], ReduceOp::Sum),
        }
    }

    /// Every rank sends to the next one.
    fn around(&mut self, count: usize) -> Result<()> {
        let (rank, ranks) = (self.communicator.rank(), self.communicator.size());
        let (next, last) = ((rank + 1) % ranks, (rank + ranks - 1) % ranks);
        self.communicator.send_recv(&self.plain[..count], next, &mut self.other[..count], last)
    }

    /// Two operations at the same time, while this thread does something else.
    fn in_the_background(&mut self, count: usize) -> Result<()> {
        let first = self.communicator.all_reduce_async(vec![1f32; count], ReduceOp::Sum)?;
        let second = self.communicator.broadcast_async(vec![1f32; count.min(1000)], 0)?;
        std::thread::yield_now();
        let outcome = first.wait().map(drop);
        second.wait().map(drop).and(outcome)
    }

    /// In a new communicator: of all ranks, or of every second.
    fn apart(&mut self, count: usize, choice: usize) -> Result<()> {
        let rank = self.communicator.rank();
        let child = match choice / 4 % 2 {
            0 => self.communicator.duplicate()?,
            _ => {
                let child = self.communicator.split(Some(rank as u32 % 2), rank as i32)?;
                child.expect("a rank with a color has a communicator")
            }
        };
        // Its error may be one of half of the ranks. The other half goes on with the next operation, and there all must hear of it.
        if let Err(error) = child.all_reduce(&mut self.plain[..count], ReduceOp::Sum) {
            say("child", &describe(&error));
        }
        Ok(())
    }
}
