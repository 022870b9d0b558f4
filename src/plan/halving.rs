//! Recursive halving and doubling: partners at distances of powers of two, any number of ranks.
//!
//! ```text
//!   all-reduce of 4 slices a b c d among 4 ranks
//!     halving, distance 2     0 <-> 2, 1 <-> 3     0,1 reduce a b      2,3 reduce c d
//!     halving, distance 1     0 <-> 1, 2 <-> 3     0: a   1: b         2: c   3: d
//!     doubling, distance 1    0 <-> 1, 2 <-> 3     0,1 have a b        2,3 have c d
//!     doubling, distance 2    0 <-> 2, 1 <-> 3     all have a b c d
//!
//!   7 ranks: the first ranks lead a spare each, so that a power of two is left
//!     (0,1) (2,3) (4,5) 6     a spare hands its data in before, and gets the result after
//! ```
//!
//! A short all-reduce exchanges the whole vector at every distance instead, in half as many exchanges; both partners put the lower
//! one's operand first and get the same bits. Reduce-scatter is the halving, all-gather the doubling; the blocks of a leader and its
//! spare lie side by side. Put `k` goes before take `k` in every exchange, so with two slots a step waits for earlier ones only. Over
//! sockets, whose links hold more, several puts go before the first take.

use super::lane::{Seat, message_first};
use super::shard::{Slices, Turn, turn};
use super::{Flags, Space, Step};
use alloc::vec::Vec;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Halving, then doubling.
    AllReduce,
    /// The whole vector at every distance.
    Exchange,
    /// Halving of blocks.
    ReduceScatter,
    /// Doubling of blocks.
    AllGather,
}

/// The halving algorithm, for groups of one size.
#[derive(Clone, Debug)]
pub(super) struct Halving {
    way: Way,
    size: u32,
    /// The largest power of two that is not above the size.
    power: u32,
    data: Data,
    chunk: u64,
    /// By how many chunks putting leads taking.
    ahead: u64,
    runs: Vec<Run>,
    finish: Flags,
}

/// Where the data of each leader begins.
#[derive(Clone, Debug)]
enum Data {
    Vector { at: u64, slices: Slices },
    Blocks { count: u64 },
}

/// One phase, as long for all who take part in it.
#[derive(Clone, Copy, Debug)]
struct Run {
    phase: Phase,
    rounds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// All-gather: a leader's own block goes to its place.
    Own,
    /// A spare hands in what it has.
    HandIn,
    /// Partners at that distance each reduce one half of what both have.
    Halve(u32),
    /// Partners at that distance reduce all of it.
    Swap(u32),
    /// Partners at that distance give each other what they have.
    Double(u32),
    /// Reduce-scatter: a leader with a spare keeps its own block.
    Keep,
    /// A spare gets its result.
    HandOut,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Takes part: number among the leaders, whether it leads a spare.
    Leader(u32, bool),
    Spare,
}

impl Halving {
    /// All-reduce of `len` elements at `at`; `exchange`: all of them at every distance.
    pub(super) fn vector(
        size: u32,
        at: u64,
        len: u64,
        unit: u64,
        chunk: u64,
        exchange: bool,
        finish: Flags,
    ) -> Halving {
        let slices = Slices::new(len, 1 << size.ilog2(), unit);
        let way = if exchange { Way::Exchange } else { Way::AllReduce };
        Halving::new(way, size, Data::Vector { at, slices }, chunk, finish)
    }

    /// Reduce-scatter or all-gather of blocks of `count` elements.
    pub(super) fn blocks(way: Way, size: u32, count: u64, chunk: u64, finish: Flags) -> Halving {
        Halving::new(way, size, Data::Blocks { count }, chunk, finish)
    }

    fn new(way: Way, size: u32, data: Data, chunk: u64, finish: Flags) -> Halving {
        let power = 1 << size.ilog2();
        let (ahead, runs) = (0, Vec::new());
        let mut halving = Halving { way, size, power, data, chunk, ahead, runs, finish };
        let levels = power.trailing_zeros();
        let up = (0..levels).map(|level| 1u32 << level);
        let mut phases = Vec::new();
        match way {
            Way::AllReduce => {
                phases.push(Phase::HandIn);
                phases.extend(up.clone().rev().map(Phase::Halve));
                phases.extend(up.map(Phase::Double));
            }
            Way::Exchange => {
                phases.push(Phase::HandIn);
                phases.extend(up.map(Phase::Swap));
            }
            Way::ReduceScatter => {
                phases.push(Phase::HandIn);
                phases.extend(up.rev().map(Phase::Halve));
                phases.push(Phase::Keep);
            }
            Way::AllGather => {
                phases.extend([Phase::Own, Phase::HandIn]);
                phases.extend(up.map(Phase::Double));
            }
        }
        phases.push(Phase::HandOut);
        halving.runs =
            phases.into_iter().map(|phase| Run { phase, rounds: halving.longest(phase).div_ceil(chunk) }).collect();
        halving
    }

    /// The same where links hold so many messages that several chunks may be under way.
    pub(super) fn ahead(self, chunks: u64) -> Halving {
        Halving { ahead: chunks, ..self }
    }

    /// The most elements that anybody moves in a phase: the first leaders have the most.
    fn longest(&self, phase: Phase) -> u64 {
        let whole = self.edge(self.power) - self.edge(0);
        let block = match self.data {
            Data::Blocks { count } => count,
            Data::Vector { .. } => whole,
        };
        match phase {
            Phase::Own | Phase::Keep => block,
            Phase::HandIn if self.way == Way::AllGather => block,
            Phase::HandOut if self.way == Way::ReduceScatter => block,
            Phase::HandIn | Phase::HandOut | Phase::Swap(_) => whole,
            Phase::Halve(distance) | Phase::Double(distance) => self.edge(distance) - self.edge(0),
        }
    }

    fn spares(&self) -> u32 {
        self.size - self.power
    }

    fn role(&self, place: u32) -> Role {
        let spares = self.spares();
        if place >= 2 * spares {
            Role::Leader(place - spares, false)
        } else if place.is_multiple_of(2) {
            Role::Leader(place / 2, true)
        } else {
            Role::Spare
        }
    }

    /// The place of a leader.
    fn place(&self, leader: u32) -> u32 {
        if leader < self.spares() { 2 * leader } else { leader + self.spares() }
    }

    /// Where the data of a leader begins; that of the last one ends at `edge(power)`.
    fn edge(&self, leader: u32) -> u64 {
        match &self.data {
            Data::Vector { at, slices } => at + slices.start(u64::from(leader)),
            Data::Blocks { count } => u64::from(self.place(leader)) * count,
        }
    }

    fn steps_of(&self, run: &Run, role: Role) -> u64 {
        match (run.phase, role) {
            (Phase::HandIn | Phase::HandOut, Role::Spare | Role::Leader(_, true)) => run.rounds,
            (Phase::Keep, Role::Leader(_, true)) | (Phase::Own, Role::Leader(..)) => run.rounds,
            (Phase::Halve(_) | Phase::Swap(_) | Phase::Double(_), Role::Leader(..)) => 2 * run.rounds,
            _ => 0,
        }
    }

    #[inline(never)]
    pub(super) fn count(&self, seat: Seat) -> u64 {
        let role = self.role(seat.place);
        self.runs.iter().map(|run| self.steps_of(run, role)).sum()
    }

    #[inline(never)]
    pub(super) fn step(&self, seat: Seat, mut index: u64) -> Step {
        let role = self.role(seat.place);
        for run in &self.runs {
            let steps = self.steps_of(run, role);
            if index < steps {
                return match role {
                    Role::Spare => self.spare(seat, run.phase, index),
                    Role::Leader(number, spare) => self.leader(seat, (number, spare), run, index),
                };
            }
            index -= steps;
        }
        Step::of(0)
    }

    /// The longest message.
    pub(super) fn slot(&self) -> u32 {
        let phases = self.runs.iter().filter(|run| {
            self.spares() > 0 || matches!(run.phase, Phase::Halve(_) | Phase::Swap(_) | Phase::Double(_))
        });
        phases.map(|run| self.longest(run.phase)).max().unwrap_or(0).min(self.chunk) as u32
    }

    /// Elements of scratch memory: a reduce-scatter keeps its partial results there.
    pub(super) fn scratch(&self, seat: Seat) -> u64 {
        match self.role(seat.place) {
            Role::Leader(number, spare) if self.way == Way::ReduceScatter && (spare || self.power > 2) => {
                let half = self.power / 2;
                let end = if spare || number >= half { self.edge(self.power) } else { self.edge(half) };
                end - self.scratch_base(number, spare)
            }
            _ => 0,
        }
    }

    /// What scratch element 0 stands for: the begin of the half that is kept first, or of everything with a spare's data in it.
    fn scratch_base(&self, number: u32, spare: bool) -> u64 {
        if !spare && number >= self.power / 2 { self.edge(self.power / 2) } else { 0 }
    }

    /// Chunk `round` of a range.
    fn chunk(&self, range: (u64, u64), round: u64) -> (u64, u32) {
        let at = (range.0 + round * self.chunk).min(range.1);
        (at, (range.1 - at).min(self.chunk) as u32)
    }

    fn block(&self, place: u32) -> (u64, u64) {
        match self.data {
            Data::Blocks { count } => (u64::from(place) * count, (u64::from(place) + 1) * count),
            Data::Vector { .. } => (self.edge(0), self.edge(self.power)),
        }
    }

    fn spare(&self, seat: Seat, phase: Phase, index: u64) -> Step {
        let leader = seat.place - 1;
        let own = self.block(seat.place);
        let whole = (self.edge(0), self.edge(self.power));
        let block_only =
            matches!((phase, self.way), (Phase::HandIn, Way::AllGather) | (Phase::HandOut, Way::ReduceScatter));
        let (at, len) = self.chunk(if block_only { own } else { whole }, index);
        let at = if block_only { at - own.0 } else { at };
        if phase == Phase::HandIn {
            Step::of(len).read(Space::Input, at).put_pair(leader)
        } else {
            Step::of(len).take_pair(leader).write(Space::Output, at)
        }
    }

    /// Where a leader has its partial results: space, and what is added to a position in the vector.
    fn partial(&self, number: u32, spare: bool, at: u64) -> (Space, u64) {
        match self.way {
            Way::ReduceScatter => (Space::Scratch, at - self.scratch_base(number, spare)),
            _ => (Space::Output, at),
        }
    }

    fn leader(&self, seat: Seat, (number, spare): (u32, bool), run: &Run, index: u64) -> Step {
        let whole = (self.edge(0), self.edge(self.power));
        let own = self.block(seat.place);
        match run.phase {
            Phase::Own => {
                let (at, len) = self.chunk(own, index);
                Step::of(len).read(Space::Input, at - own.0).write(Space::Output, at)
            }
            Phase::HandIn if self.way == Way::AllGather => {
                let (at, len) = self.chunk(self.block(seat.place + 1), index);
                Step::of(len).take_pair(seat.place + 1).write(Space::Output, at)
            }
            Phase::HandIn => {
                let (at, len) = self.chunk(whole, index);
                let (space, to) = self.partial(number, spare, at);
                Step::of(len).read(Space::Input, at).take_pair(seat.place + 1).write(space, to)
            }
            Phase::Keep => {
                let (at, len) = self.chunk(own, index);
                let (space, from) = self.partial(number, spare, at);
                Step::of(len).read(space, from).write(Space::Output, at - own.0)
            }
            Phase::HandOut => {
                let range = if self.way == Way::ReduceScatter { self.block(seat.place + 1) } else { whole };
                let (at, len) = self.chunk(range, index);
                let (space, from) = self.partial(number, spare, at);
                Step::of(len).read(space, from).put_pair(seat.place + 1)
            }
            Phase::Halve(distance) | Phase::Swap(distance) | Phase::Double(distance) => {
                let turn = turn(index, run.rounds, self.ahead, 1, 1);
                self.exchange(seat, (number, spare), run.phase, distance, turn)
            }
        }
    }

    fn exchange(&self, seat: Seat, (number, spare): (u32, bool), phase: Phase, distance: u32, turn: Turn) -> Step {
        let partner = self.place(number ^ distance);
        let whole = (self.edge(0), self.edge(self.power));
        let part = |leader: u32| {
            let first = leader & !(distance - 1);
            (self.edge(first), self.edge(first + distance))
        };
        let (mine, theirs) = (part(number), part(number ^ distance));
        let (put, take) = match phase {
            Phase::Halve(_) => (theirs, mine),
            Phase::Swap(_) => (whole, whole),
            _ => (mine, theirs),
        };
        let (puts, range, round) = match turn {
            Turn::Head(round, _) => (true, put, round),
            Turn::Tail(round, _) => (false, take, round),
        };
        let (at, len) = self.chunk(range, round);
        let partial = || self.partial(number, spare, at);
        let first = match phase {
            Phase::Halve(_) => distance == self.power / 2 && !spare,
            Phase::Swap(_) => distance == 1 && !spare,
            _ => false,
        };
        let source = if first { (Space::Input, at) } else { partial() };
        if puts {
            let step = Step::of(len).read(source.0, source.1).put_pair(partner);
            // What comes back from the partner is added to it, whether or not the partner has it.
            return if matches!(phase, Phase::Swap(_)) { step.also(Flags::COPY) } else { step };
        }
        let step = Step::of(len).take_pair(partner);
        if matches!(phase, Phase::Double(_)) {
            return step.write(Space::Output, at);
        }
        let step = step.read(source.0, source.1).also(message_first(partner, seat));
        let last = match phase {
            Phase::Halve(_) => distance == 1,
            _ => distance == self.power / 2,
        };
        let step = if last { step.also(self.finish) } else { step };
        if last && self.way == Way::ReduceScatter && !spare {
            return step.write(Space::Output, at - self.block(seat.place).0);
        }
        let partial = partial();
        step.write(partial.0, partial.1)
    }
}
