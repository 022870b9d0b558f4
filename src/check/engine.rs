//! Runs all lists of steps against each other until nobody can go on.
//!
//! A list of steps never looks at data to decide what to do, and links are FIFOs that block: such a network of processes (Kahn's)
//! comes to the same end in whatever order its processes run. So one schedule shows what every schedule does. A worker that does
//! something wrong stops there, the others go on; then the verdict does not depend on the schedule either.

use super::clocks::{Clocks, Epoch};
use super::expect::Expect;
use super::links::{Key, Links};
use super::memory::Memory;
use super::perform::Taken;
use super::program::Program;
use super::shape;
use super::value::{Arithmetic, Value};
use super::verdict::{At, Report, Violation, Where, Wrong};
use super::{Options, Schedule};
use crate::plan::{Flags, Step};
use crate::types::Collective;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// How a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// Waits on that link: for a free slot, else for a message.
    Blocked {
        key: Key,
        for_slot: bool,
    },
    Done,
    /// Did something wrong.
    Halted,
}

/// One list of steps: a channel of a rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worker {
    pub index: u64,
    /// The step under way.
    pub step: Option<Step>,
    pub state: State,
    /// Links of that step whose message is there.
    pub ready_links: u32,
    pub filling: u32,
    pub holding: u32,
}

pub(super) struct Engine<'a, P> {
    pub program: &'a P,
    pub arithmetic: Arithmetic,
    pub ranks: u32,
    pub channels: u32,
    pub workers: Vec<Worker>,
    pub memories: Vec<Memory>,
    pub links: Links,
    pub clocks: Option<Clocks>,
    /// Of each worker, of each rank: whether its places have come.
    pub opened: Vec<bool>,
    /// The values of the step that is being done, and the links that it takes from.
    pub values: Vec<Value>,
    pub taken: Vec<Taken>,
    pub report: Report,
    ready: VecDeque<u32>,
    schedule: Schedule,
    found: Option<Violation>,
}

/// What became of an attempt to do a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Done,
    Blocked { key: Key, for_slot: bool },
}

impl<'a, P: Program> Engine<'a, P> {
    pub fn new(program: &'a P, options: &Options, expect: &Expect<'_, P>, windows: bool) -> Result<Self, Violation> {
        let (ranks, channels) = (program.world().size(), program.channels());
        let call = program.call(0);
        let memories = super::limits::memories(program, options, expect)?;
        let workers = ranks as usize * channels as usize;
        // What links may send from where it lies is looked after in programs that are small: larger ones have the same steps.
        let watches = windows || super::limits::fits_races(workers, &memories);
        let mut clocks = (watches || call.collective == Collective::Barrier).then(|| Clocks::new(workers));
        if watches && let Some(clocks) = &mut clocks {
            clocks.watch(&memories);
        }
        let worker = Worker { index: 0, step: None, state: State::Ready, ready_links: 0, filling: 0, holding: 0 };
        Ok(Engine {
            program,
            arithmetic: Arithmetic::of(call.collective.reduces(), call.dtype, call.reduction),
            ranks,
            channels,
            workers: alloc::vec![worker; workers],
            memories,
            links: Links::new(options.slots.max(program.slots())),
            clocks,
            opened: alloc::vec![false; if windows { workers * ranks as usize } else { 0 }],
            values: Vec::new(),
            taken: Vec::new(),
            report: Report { windows, ..Report::default() },
            ready: (0..workers as u32).collect(),
            schedule: options.schedule,
            found: None,
        })
    }

    pub fn at(&self, worker: u32) -> At {
        let (rank, channel) = (worker / self.channels, worker % self.channels);
        At { rank, channel, index: self.workers[worker as usize].index }
    }

    pub fn at_epoch(&self, epoch: Epoch) -> At {
        let (rank, channel) = (epoch.worker / self.channels, epoch.worker % self.channels);
        At { rank, channel, index: u64::from(epoch.time).saturating_sub(1) }
    }

    fn next_ready(&mut self) -> Option<u32> {
        match &mut self.schedule {
            Schedule::OldestFirst => self.ready.pop_front(),
            Schedule::NewestFirst => self.ready.pop_back(),
            Schedule::Seeded(seed) => {
                *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                let pick = (*seed >> 33) as usize % self.ready.len().max(1);
                self.ready.swap_remove_back(pick)
            }
        }
    }

    /// Runs to the end. `Ok(false)`: the program uses windows and has to be run with clocks.
    pub fn run(&mut self) -> bool {
        let one_by_one = matches!(self.schedule, Schedule::Seeded(_));
        while let Some(worker) = self.next_ready() {
            loop {
                match self.advance(worker) {
                    Advance::Went if one_by_one => {
                        self.ready.push_back(worker);
                        break;
                    }
                    Advance::Went => {}
                    Advance::Stopped => break,
                    Advance::NeedsClocks => return false,
                }
            }
        }
        true
    }

    fn advance(&mut self, worker: u32) -> Advance {
        let state = &self.workers[worker as usize];
        let step = match state.step {
            Some(step) => step,
            None => {
                let at = self.at(worker);
                let Some(step) = self.program.step(at.rank, at.channel, at.index) else {
                    self.finish(worker);
                    return Advance::Stopped;
                };
                if !self.report.windows && (shape::uses_windows(&step) || step.flags.has(Flags::PLACES)) {
                    return Advance::NeedsClocks;
                }
                if let Err(wrong) = shape::check(&step, at.rank, self.program.world(), self.arithmetic.reduces) {
                    self.halt(worker, Some(step), wrong);
                    return Advance::Stopped;
                }
                self.workers[worker as usize].step = Some(step);
                step
            }
        };
        match self.attempt(worker, &step) {
            Ok(Attempt::Done) => {
                self.report.steps += 1;
                let state = &mut self.workers[worker as usize];
                (state.index, state.step, state.ready_links) = (state.index + 1, None, 0);
                Advance::Went
            }
            Ok(Attempt::Blocked { key, for_slot }) => {
                self.workers[worker as usize].state = State::Blocked { key, for_slot };
                Advance::Stopped
            }
            Err(wrong) => {
                self.halt(worker, Some(step), wrong);
                Advance::Stopped
            }
        }
    }

    fn finish(&mut self, worker: u32) {
        let at = self.at(worker);
        let state = self.workers[worker as usize];
        let mine = |key: &Key| key.channel() == at.channel;
        if state.filling > 0 {
            let writer = |key: &Key| mine(key) && key.writer() == at.rank;
            let open = self.links.open_links().filter(writer).min_by_key(|key| key.name());
            if let Some(key) = open {
                return self.halt(worker, None, Wrong::LeftUnsent(key.name()));
            }
        }
        if state.holding > 0 {
            let world = self.program.world();
            let reader = |(key, place): &(Key, u32)| mine(key) && shape::reader(world, *key, *place) == at.rank;
            let held = self.links.held_links().filter(reader).min_by_key(|(key, _)| key.name());
            if let Some((key, _)) = held {
                return self.halt(worker, None, Wrong::LeftHeld(key.name()));
            }
        }
        self.workers[worker as usize].state = State::Done;
    }

    fn halt(&mut self, worker: u32, step: Option<Step>, wrong: Wrong) {
        self.workers[worker as usize].state = State::Halted;
        self.find(Violation { place: Where::Step(self.at(worker)), step, wrong });
    }

    /// Keeps the first of all violations, in an order that the schedule has no part in.
    fn find(&mut self, violation: Violation) {
        let rank = |violation: &Violation| (!violation.wrong.is_race(), violation.place);
        if self.found.as_ref().is_none_or(|found| rank(&violation) < rank(found)) {
            self.found = Some(violation);
        }
    }

    /// Lets a worker go on that waits for that.
    pub fn wake(&mut self, worker: u32, key: Key, for_slot: bool) {
        let state = &mut self.workers[worker as usize].state;
        if *state == (State::Blocked { key, for_slot }) {
            *state = State::Ready;
            self.ready.push_back(worker);
        }
    }

    /// What is there to say after the last step.
    pub fn conclude(mut self, expect: &Expect<'_, P>, options: &Options) -> Result<Report, Violation> {
        if let Some(found) = self.found.take() {
            return Err(found);
        }
        if let Some(violation) = super::stuck::find(&self) {
            return Err(violation);
        }
        let unread = self.links.unread_links().min_by_key(|(key, _)| key.name());
        if let Some((key, messages)) = unread {
            let wrong = Wrong::LeftUnread { link: key.name(), messages };
            return Err(Violation { place: Where::Rank(key.writer()), step: None, wrong });
        }
        self.check_ends()?;
        expect.check(&self.memories, self.arithmetic, options.reproducible)?;
        self.report.most_slots = self.links.most_in_use();
        Ok(self.report)
    }

    /// Whether ranks end no sooner than they may.
    fn check_ends(&self) -> Result<(), Violation> {
        let Some(clocks) = &self.clocks else { return Ok(()) };
        let own = |rank: u32| rank * self.channels..(rank + 1) * self.channels;
        for rank in 0..self.ranks {
            if self.report.windows
                && clocks.watches()
                && let Some(epoch) = clocks.outlives(rank, own(rank))
            {
                let at = self.at_epoch(epoch);
                let step = self.program.step(at.rank, at.channel, at.index);
                return Err(Violation { place: Where::Step(at), step, wrong: Wrong::OutlivesOwner { owner: rank } });
            }
            if self.program.call(rank).collective != Collective::Barrier {
                continue;
            }
            let heard =
                |other: &u32| own(rank).any(|own_worker| own(*other).any(|of| clocks.knows(own_worker, of) > 0));
            if let Some(missing) = (0..self.ranks).find(|other| *other != rank && !heard(other)) {
                let wrong = Wrong::LeavesEarly { rank, missing };
                return Err(Violation { place: Where::Rank(rank), step: None, wrong });
            }
        }
        Ok(())
    }
}

enum Advance {
    Went,
    Stopped,
    NeedsClocks,
}
