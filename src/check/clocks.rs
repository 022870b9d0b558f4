//! Who knows of what: vector clocks over the lists of steps, and the races that they find.
//!
//! Each list of steps (a worker: one channel of one rank) counts its own steps. A message carries its sender's clock, a slot given back
//! carries its readers' clocks to the writer that fills it next. An access is ordered after another if its worker knows of that step.

use super::memory::{Cell, Memory};
use alloc::vec::Vec;

/// A step of a worker: its number from 1, which is that worker's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Epoch {
    pub worker: u32,
    pub time: u32,
}

/// The accesses to one rank's memory.
#[derive(Debug)]
struct Accesses {
    last_write: Vec<Epoch>,
    /// Of each element, of each worker: its last read since the last write.
    reads: Vec<u32>,
    /// Of each worker of another rank: its last access.
    last_by: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Clocks {
    workers: usize,
    /// Row `w`: what worker `w` knows.
    now: Vec<u32>,
    /// Of slot `s`: what came with its message; what its readers knew when they gave it back. Empty: nothing.
    messages: Vec<Vec<u32>>,
    credits: Vec<Vec<u32>>,
    /// Rows to use again.
    spare: Vec<Vec<u32>>,
    accesses: Vec<Accesses>,
}

impl Clocks {
    /// Clocks without races: who knows of whom.
    pub fn new(workers: usize) -> Clocks {
        Clocks {
            workers,
            now: alloc::vec![0; workers * workers],
            messages: Vec::new(),
            credits: Vec::new(),
            spare: Vec::new(),
            accesses: Vec::new(),
        }
    }

    /// Looks for races in these memories too.
    pub fn watch(&mut self, memories: &[Memory]) {
        let workers = self.workers;
        let watched = memories.iter().map(|memory| {
            let len = memory.layout().user_len() as usize;
            Accesses {
                last_write: alloc::vec![Epoch::default(); len],
                reads: alloc::vec![0; len * workers],
                last_by: alloc::vec![0; workers],
            }
        });
        self.accesses = watched.collect();
    }

    /// Whether races are looked for.
    pub fn watches(&self) -> bool {
        !self.accesses.is_empty()
    }

    fn row(&self, of: usize) -> core::ops::Range<usize> {
        of * self.workers..(of + 1) * self.workers
    }

    pub fn knows(&self, worker: u32, of: u32) -> u32 {
        self.now[worker as usize * self.workers + of as usize]
    }

    /// A worker begins a step.
    pub fn begin(&mut self, worker: u32, time: u32) {
        self.now[worker as usize * self.workers + worker as usize] = time;
    }

    fn reach(&mut self, slot: usize) {
        if self.messages.len() <= slot {
            self.messages.resize(slot + 1, Vec::new());
            self.credits.resize(slot + 1, Vec::new());
        }
    }

    /// The worker takes a free slot.
    pub fn credit(&mut self, worker: u32, slot: usize) {
        self.reach(slot);
        let to = self.row(worker as usize);
        join(&mut self.now[to], &self.credits[slot]);
        self.credits[slot].fill(0);
    }

    /// The worker publishes the slot.
    pub fn signal(&mut self, worker: u32, slot: usize) {
        self.reach(slot);
        let mut row = self.spare.pop().unwrap_or_default();
        row.clear();
        row.extend_from_slice(&self.now[self.row(worker as usize)]);
        self.messages[slot] = row;
    }

    /// The worker takes the message in hand.
    pub fn take(&mut self, worker: u32, slot: usize) {
        let to = self.row(worker as usize);
        join(&mut self.now[to], &self.messages[slot]);
    }

    /// The worker gives the message back; `last`: as the last of its readers. What credits carry matters to races only.
    pub fn release(&mut self, worker: u32, slot: usize, last: bool) {
        if self.watches() {
            let from = self.row(worker as usize);
            self.credits[slot].resize(self.workers, 0);
            join(&mut self.credits[slot], &self.now[from]);
        }
        if last {
            self.spare.push(core::mem::take(&mut self.messages[slot]));
        }
    }

    /// A read of elements of the memory of rank `owner`: the element and the write that races with it, if any.
    pub fn read(&mut self, worker: u32, owner: u32, first: Cell, len: u32) -> Option<(usize, Epoch)> {
        let known = self.row(worker as usize);
        let accesses = &mut self.accesses[owner as usize];
        let time = self.now[known.clone()][worker as usize];
        accesses.last_by[worker as usize] = time;
        let Cell::User(first) = first else { return None };
        for cell in first..first + len as usize {
            let last = accesses.last_write[cell];
            if last.time > self.now[known.clone()][last.worker as usize] {
                return Some((cell - first, last));
            }
            accesses.reads[cell * self.workers + worker as usize] = time;
        }
        None
    }

    /// A write, likewise; what races with it may be a read.
    pub fn write(&mut self, worker: u32, owner: u32, first: Cell, len: u32) -> Option<(usize, Epoch)> {
        let now = &self.now[self.row(worker as usize)];
        let accesses = &mut self.accesses[owner as usize];
        let time = now[worker as usize];
        accesses.last_by[worker as usize] = time;
        let Cell::User(first) = first else { return None };
        for cell in first..first + len as usize {
            let last = accesses.last_write[cell];
            if last.time > now[last.worker as usize] {
                return Some((cell - first, last));
            }
            let reads = &mut accesses.reads[cell * self.workers..(cell + 1) * self.workers];
            if let Some(reader) = (0..self.workers).find(|&reader| reads[reader] > now[reader]) {
                return Some((cell - first, Epoch { worker: reader as u32, time: reads[reader] }));
            }
            reads.fill(0);
            accesses.last_write[cell] = Epoch { worker, time };
        }
        None
    }

    /// A reader takes elements that lie in the memory of rank `owner`: the element and the write that may come before, if any.
    pub fn lend(&mut self, worker: u32, owner: u32, first: Cell, len: u32) -> Option<(usize, Epoch)> {
        let known = self.row(worker as usize);
        let accesses = &mut self.accesses[owner as usize];
        let Cell::User(first) = first else { return None };
        for cell in first..first + len as usize {
            let last = accesses.last_write[cell];
            if last.time > self.now[known.clone()][last.worker as usize] {
                return Some((cell - first, last));
            }
            accesses.reads[cell * self.workers + worker as usize] = self.now[known.clone()][worker as usize];
        }
        None
    }

    /// A write to memory that may be lent: the element and the reader that may not have it yet, if any.
    pub fn overwrite(&mut self, worker: u32, owner: u32, first: Cell, len: u32) -> Option<(usize, Epoch)> {
        let now = &self.now[self.row(worker as usize)];
        let accesses = &mut self.accesses[owner as usize];
        let Cell::User(first) = first else { return None };
        for cell in first..first + len as usize {
            let reads = &mut accesses.reads[cell * self.workers..(cell + 1) * self.workers];
            if let Some(reader) = (0..self.workers).find(|&reader| reads[reader] > now[reader]) {
                return Some((cell - first, Epoch { worker: reader as u32, time: reads[reader] }));
            }
            reads.fill(0);
            accesses.last_write[cell] = Epoch { worker, time: now[worker as usize] };
        }
        None
    }

    /// A worker whose last access to the memory of `owner` is not ordered before the end of that rank, whose workers these are.
    pub fn outlives(&self, owner: u32, own: core::ops::Range<u32>) -> Option<Epoch> {
        let last_by = &self.accesses[owner as usize].last_by;
        let unknown = |worker: &u32| {
            let known = own.clone().map(|own| self.knows(own, *worker)).max().unwrap_or(0);
            last_by[*worker as usize] > known
        };
        let worker = (0..self.workers as u32).find(unknown)?;
        Some(Epoch { worker, time: last_by[worker as usize] })
    }
}

fn join(to: &mut [u32], from: &[u32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = (*to).max(*from);
    }
}
