//! Logarithmic all-gather and reduce-scatter for any number of ranks, after Bruck; nothing is rotated, blocks lie where they belong.
//!
//! ```text
//!   all-gather, 6 ranks: who has which blocks       rank 0   rank 1   rank 4   rank 5
//!     at first                                      0        1        4        5
//!     distance 1: put all to p - 1, take from p + 1 01       12       45       50
//!     distance 2: put all to p - 2, take from p + 2 0123     1234     4501     5012
//!     distance 4: put two to p - 4, take from p + 4 012345   123450   450123   501234
//! ```
//!
//! Rank `p` speaks of block `p + o` as its offset `o`, so a range of offsets may wrap round the end of the vector: then one message is
//! written, or read, by two steps.
//!
//! Reduce-scatter is the same film backwards: from the largest distance down, rank `p` puts its partial results of the offsets
//! `d ..` to `p + d` and folds what `p - d` puts into its own. An offset that has not been folded yet is still in the input, the others
//! are in scratch memory, so a message may also change its source once.
//!
//! Levels follow each other, each with its own partners; put `k` goes before take `k`, so with two slots a step waits for earlier
//! ones only.

use super::lane::{Seat, after, before, message_first};
use super::{Flags, Space, Step};
use alloc::vec::Vec;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    AllGather,
    ReduceScatter,
}

/// The logarithmic algorithm, for groups of one size.
#[derive(Clone, Debug)]
pub(super) struct Bruck {
    way: Way,
    size: u32,
    /// Elements of a block.
    count: u64,
    chunk: u64,
    levels: Vec<Level>,
    finish: Flags,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    distance: u32,
    /// Blocks that travel.
    blocks: u32,
    /// Reduce-scatter: the offsets below this one have been folded before.
    folded: u32,
}

/// A range of offsets of one rank, in elements, and the positions in it where a step must end.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// The first element, counted from offset 0.
    first: u64,
    len: u64,
    /// Ascending; `len` means none.
    cuts: [u64; 2],
}

/// A part of a message that one step moves.
struct Part {
    /// From the start of the span.
    at: u64,
    len: u64,
    first: bool,
    last: bool,
}

impl Span {
    /// Whether a message has to be moved by one step more because of that cut.
    fn splits(&self, chunk: u64, which: usize) -> bool {
        let cut = self.cuts[which];
        cut < self.len && !cut.is_multiple_of(chunk) && (which == 0 || cut != self.cuts[0])
    }

    /// How many more steps the messages before that one take.
    fn extra(&self, chunk: u64, message: u64) -> u64 {
        (0..2).filter(|&which| self.splits(chunk, which) && self.cuts[which] < message * chunk).count() as u64
    }

    fn part(&self, chunk: u64, message: u64, part: u64) -> Part {
        let start = message * chunk;
        let end = (start + chunk).min(self.len);
        let mut edges = [start, end, end, end];
        let mut used = 1;
        for which in 0..2 {
            let cut = self.cuts[which];
            if self.splits(chunk, which) && start < cut && cut < end {
                edges[used] = cut;
                used += 1;
            }
        }
        let part = part as usize;
        Part { at: edges[part], len: edges[part + 1] - edges[part], first: part == 0, last: part + 1 == used }
    }
}

impl Bruck {
    /// For blocks of `count` elements.
    pub(super) fn new(way: Way, size: u32, count: u64, chunk: u64, finish: Flags) -> Bruck {
        let depth = size.next_power_of_two().trailing_zeros();
        let top = depth.saturating_sub(1);
        let blocks = |level: u32| (1u32 << level).min(size - (1 << level));
        let level = |number: u32| Level {
            distance: 1 << number,
            blocks: blocks(number),
            folded: match top - number {
                0 => 0,
                1 => blocks(top),
                _ => 2 << number,
            },
        };
        let mut levels: Vec<Level> = (0..depth).map(level).collect();
        if way == Way::ReduceScatter {
            levels.reverse();
        }
        Bruck { way, size, count, chunk, levels, finish }
    }

    fn messages(&self, level: &Level) -> u64 {
        (u64::from(level.blocks) * self.count).div_ceil(self.chunk)
    }

    /// What goes out, and what comes in.
    fn spans(&self, level: &Level, place: u32) -> (Span, Span) {
        let far = self.span(level, place, level.distance);
        let near = self.span(level, place, 0);
        if self.way == Way::AllGather { (near, far) } else { (far, near) }
    }

    fn span(&self, level: &Level, place: u32, offset: u32) -> Span {
        let len = u64::from(level.blocks) * self.count;
        let first = u64::from(offset) * self.count;
        let start = u64::from(place) + u64::from(offset);
        let within = |blocks: u64, from: u64| match blocks.checked_sub(from) {
            Some(left) if left > 0 => (left * self.count).min(len),
            _ => len,
        };
        let wrap = within(u64::from(self.size), start);
        let change = match self.way {
            Way::AllGather => len,
            Way::ReduceScatter => within(u64::from(level.folded), u64::from(offset)),
        };
        Span { first, len, cuts: [wrap.min(change), wrap.max(change)] }
    }

    fn steps_of(&self, level: &Level, seat: Seat) -> u64 {
        let messages = self.messages(level);
        let (put, take) = self.spans(level, seat.place);
        2 * messages + put.extra(self.chunk, messages) + take.extra(self.chunk, messages)
    }

    #[inline(never)]
    pub(super) fn count(&self, seat: Seat) -> u64 {
        self.levels.iter().map(|level| self.steps_of(level, seat)).sum()
    }

    #[inline(never)]
    pub(super) fn step(&self, seat: Seat, mut index: u64) -> Step {
        for level in &self.levels {
            let steps = self.steps_of(level, seat);
            if index < steps {
                return self.step_of(level, seat, index);
            }
            index -= steps;
        }
        Step::of(0)
    }

    fn step_of(&self, level: &Level, seat: Seat, index: u64) -> Step {
        let (put, take) = self.spans(level, seat.place);
        let start = |message: u64| 2 * message + put.extra(self.chunk, message) + take.extra(self.chunk, message);
        let mut message = index / 2;
        while start(message) > index {
            message -= 1;
        }
        let part = index - start(message);
        let puts = 1 + put.extra(self.chunk, message + 1) - put.extra(self.chunk, message);
        if part < puts {
            self.put(level, seat, put.first, put.part(self.chunk, message, part))
        } else {
            self.take(level, seat, take.first, take.part(self.chunk, message, part - puts))
        }
    }

    /// Where an element, counted from offset 0, lies in the vector of all blocks.
    fn position(&self, seat: Seat, element: u64) -> u64 {
        let whole = u64::from(self.size) * self.count;
        let at = u64::from(seat.place) * self.count + element;
        if at < whole { at } else { at - whole }
    }

    /// Reduce-scatter: the rank's partial result of an element, or its raw input.
    fn source(&self, level: &Level, seat: Seat, element: u64) -> (Space, u64) {
        if element < u64::from(level.folded) * self.count {
            (Space::Scratch, element)
        } else {
            (Space::Input, self.position(seat, element))
        }
    }

    fn put(&self, level: &Level, seat: Seat, first: u64, part: Part) -> Step {
        let element = first + part.at;
        let step = Step::of(part.len as u32);
        let step = match self.way {
            Way::ReduceScatter => {
                let (space, at) = self.source(level, seat, element);
                step.read(space, at).put_pair(after(seat, level.distance))
            }
            Way::AllGather => {
                let at = self.position(seat, element);
                let step = if level.distance == 1 {
                    step.read(Space::Input, element).write(Space::Output, at)
                } else {
                    step.read(Space::Output, at)
                };
                step.put_pair(before(seat, level.distance))
            }
        };
        let step = if part.first { step } else { step.but_not(Flags::CREDIT) };
        if part.last { step } else { step.but_not(Flags::SIGNAL) }
    }

    fn take(&self, level: &Level, seat: Seat, first: u64, part: Part) -> Step {
        let element = first + part.at;
        let step = Step::of(part.len as u32);
        let step = match self.way {
            Way::AllGather => {
                step.take_pair(after(seat, level.distance)).write(Space::Output, self.position(seat, element))
            }
            Way::ReduceScatter => {
                let from = before(seat, level.distance);
                let (space, at) = self.source(level, seat, element);
                let step = step.read(space, at).take_pair(from).also(message_first(from, seat));
                if level.distance == 1 {
                    step.write(Space::Output, element).also(self.finish)
                } else {
                    step.write(Space::Scratch, element)
                }
            }
        };
        let step = if part.first { step } else { step.but_not(Flags::AWAIT) };
        if part.last { step } else { step.but_not(Flags::RELEASE) }
    }

    /// The longest message.
    pub(super) fn slot(&self) -> u32 {
        let longest = self.levels.iter().map(|level| u64::from(level.blocks) * self.count).max().unwrap_or(0);
        longest.min(self.chunk) as u32
    }

    /// Elements of scratch memory: the partial results of the first offsets.
    pub(super) fn scratch(&self) -> u64 {
        match self.way {
            Way::AllGather => 0,
            Way::ReduceScatter => {
                self.levels.iter().map(|level| u64::from(level.folded) * self.count).max().unwrap_or(0)
            }
        }
    }
}
