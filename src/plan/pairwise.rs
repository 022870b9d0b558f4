//! Pairwise exchange: in phase `k` everybody sends to the rank `k` further on and hears the one `k` back.
//!
//! ```text
//!   4 ranks    phase 1            phase 2            phase 3
//!              0 -> 1 -> 2        0 <-> 2            0 <- 1 <- 2
//!              ^         v        1 <-> 3            v         ^
//!              3 <───────┘                           3 ────────┘
//!
//!   chunks of a phase:   put 0, take 0, put 1, take 1, put 2, …
//!
//!   small blocks:        put to all, take from all
//! ```
//!
//! Order the steps by (phase, chunk, put before take). A take waits for the put of the same phase and chunk, a put with two slots for
//! the take two chunks earlier on the same link: always for something earlier, also where the two sides of a rank are unequal.
//!
//! Small blocks need no phases: everybody puts its one message to each, which waits for nobody, and then takes. Where ranks share a
//! processor each of them then runs once a call, not once a phase.

use super::build::COPY_ELEMENTS;
use super::lane::{Seat, after, before};
use super::shard::divide;
use super::{Space, Step};
use alloc::vec::Vec;

/// All-to-all.
#[derive(Clone, Debug)]
pub(super) enum Pairwise {
    /// The elements `at..at + len` of blocks of `count`. `together`: all is put before anything is taken; `len` is then at most a chunk.
    Equal { at: u64, len: u64, count: u64, chunk: u64, together: bool },
    /// Blocks of any length, this rank's own lists. The last message of every pair is shorter than a chunk, if need be empty: so the two
    /// sides see where they disagree, also by whole chunks.
    Unequal { send: Lots, receive: Lots, chunk: u64 },
}

/// Blocks of any length, and how many messages go before each.
#[derive(Clone, Debug)]
pub(super) struct Lots {
    blocks: Vec<(u64, u64)>,
    before: Vec<u64>,
}

impl Lots {
    /// From the places and lengths of the blocks.
    pub(super) fn new(blocks: Vec<(u64, u64)>, chunk: u64) -> Lots {
        let mut before = Vec::with_capacity(blocks.len() + 1);
        let mut sum = 0;
        for &(_, len) in &blocks {
            before.push(sum);
            sum += len / chunk + 1;
        }
        before.push(sum);
        Lots { blocks, before }
    }

    /// Messages of `many` ranks from `first` on, round the group.
    fn messages(&self, first: u32, many: u32) -> u64 {
        let size = self.blocks.len() as u32;
        let sum = |place: u32| self.before[place as usize];
        match first + many {
            end if end <= size => sum(end) - sum(first),
            end => sum(size) - sum(first) + sum(end - size),
        }
    }
}

impl Pairwise {
    #[inline(never)]
    pub(super) fn count(&self, seat: Seat) -> u64 {
        let others = seat.size - 1;
        self.copies(seat) + self.exchanged(seat, others)
    }

    /// Steps that copy the own block.
    fn copies(&self, seat: Seat) -> u64 {
        self.own(seat).2.div_ceil(COPY_ELEMENTS)
    }

    /// The own block: from, to, elements.
    fn own(&self, seat: Seat) -> (u64, u64, u64) {
        match self {
            Pairwise::Equal { at, len, count, .. } => {
                let at = at + u64::from(seat.place) * count;
                (at, at, *len)
            }
            Pairwise::Unequal { send, receive, .. } => {
                let (from, to) = (send.blocks[seat.place as usize], receive.blocks[seat.place as usize]);
                (from.0, to.0, from.1.min(to.1))
            }
        }
    }

    /// Steps of the first `phases` phases.
    fn exchanged(&self, seat: Seat, phases: u32) -> u64 {
        match self {
            Pairwise::Equal { len, chunk, .. } => u64::from(phases) * 2 * len.div_ceil(*chunk),
            Pairwise::Unequal { send, receive, .. } => {
                let first = after(seat, 1);
                send.messages(first, phases) + receive.messages(before(seat, phases), phases)
            }
        }
    }

    #[inline(never)]
    pub(super) fn step(&self, seat: Seat, index: u64) -> Step {
        let copies = self.copies(seat);
        if index < copies {
            let (from, to, len) = self.own(seat);
            let done = index * COPY_ELEMENTS;
            let step = Step::of((len - done).min(COPY_ELEMENTS) as u32);
            return step.read(Space::Input, from + done).write(Space::Output, to + done);
        }
        let index = index - copies;
        match self {
            Pairwise::Equal { together: true, .. } => {
                let others = u64::from(seat.size - 1);
                let puts = index < others;
                let phase = if puts { index } else { index - others };
                self.exchange(seat, phase as u32 + 1, 0, puts)
            }
            Pairwise::Equal { len, chunk, .. } => {
                let (phase, turn) = divide(index, 2 * len.div_ceil(*chunk));
                self.exchange(seat, phase as u32 + 1, turn / 2, turn.is_multiple_of(2))
            }
            Pairwise::Unequal { send, receive, .. } => {
                let (mut low, mut high) = (0, seat.size - 2);
                while low < high {
                    let middle = (low + high).div_ceil(2);
                    if self.exchanged(seat, middle) <= index { low = middle } else { high = middle - 1 }
                }
                let turn = index - self.exchanged(seat, low);
                let phase = low + 1;
                let puts = send.messages(after(seat, phase), 1);
                let takes = receive.messages(before(seat, phase), 1);
                let paired = 2 * puts.min(takes);
                if turn < paired {
                    self.exchange(seat, phase, turn / 2, turn.is_multiple_of(2))
                } else {
                    self.exchange(seat, phase, turn - paired / 2, puts > takes)
                }
            }
        }
    }

    /// One message of a phase.
    fn exchange(&self, seat: Seat, phase: u32, round: u64, puts: bool) -> Step {
        let other = if puts { after(seat, phase) } else { before(seat, phase) };
        let (at, len, chunk) = match self {
            Pairwise::Equal { at, len, count, chunk, .. } => (at + u64::from(other) * count, *len, *chunk),
            Pairwise::Unequal { send, receive, chunk } => {
                let (at, len) = (if puts { send } else { receive }).blocks[other as usize];
                (at, len, *chunk)
            }
        };
        let done = round * chunk;
        let step = Step::of((len - done).min(chunk) as u32);
        if puts {
            step.read(Space::Input, at + done).put_pair(other)
        } else {
            step.take_pair(other).write(Space::Output, at + done)
        }
    }

    /// The longest message. Ranks don't know each other's counts, so it is a whole chunk where these may differ.
    pub(super) fn slot(&self) -> u32 {
        match self {
            Pairwise::Equal { len, chunk, .. } => (*len).min(*chunk) as u32,
            Pairwise::Unequal { chunk, .. } => *chunk as u32,
        }
    }
}
