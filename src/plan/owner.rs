//! Owner computes, in windows: every rank reads and writes the others' buffers where they lie. No staging, no slot.
//!
//! ```text
//!   1  places:  everybody tells everybody where its buffers are, and that they may be used
//!   2  rank s folds slice s of all inputs, in the order of rank, and stores it to all outputs:
//!
//!        in 0  [ . s . ] ─┐             ┌─> out 0  [ . s . ]
//!        in 1  [ . s . ] ─┼─> rank s ───┼─> out 1  [ . s . ]
//!        in 2  [ . s . ] ─┘             └─> out 2  [ . s . ]
//!
//!   3  leave:   nobody's buffers are touched after everybody has said so
//! ```
//!
//! In place is right because only rank `s` touches slice `s`, and reads an element of all inputs before it stores that element.
//! All-gather, broadcast and all-to-all take what they need from the others' inputs in step 2, beginning with the next rank.

use super::cut::Cut;
use super::lane::{Seat, after, alone};
use super::shard::divide;
use super::{Flags, Space, Step};

/// What is done between the meetings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Fold the own slice, store it everywhere.
    AllReduce,
    /// Fold the own block, keep it.
    ReduceScatter,
    /// Take every rank's block.
    AllGather,
    /// Take this rank's block of every rank.
    AllToAll,
    /// Take the data of that place.
    Broadcast(u32),
}

/// The owner algorithm.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) way: Way,
    pub(super) cut: Cut,
    pub(super) finish: Flags,
}

impl Owner {
    #[inline(never)]
    pub(super) fn count(&self, seat: Seat) -> u64 {
        4 + self.moves(seat)
    }

    fn moves(&self, seat: Seat) -> u64 {
        let each = if matches!(self.way, Way::AllGather | Way::AllToAll) { u64::from(seat.size) } else { 1 };
        self.cut.round_count() * each
    }

    #[inline(never)]
    pub(super) fn step(&self, seat: Seat, index: u64) -> Step {
        match index {
            0 => return Step::of(0).put_board().also(Flags::PLACES),
            1 => return Step::of(0).fold_boards().also(Flags::PLACES),
            _ => {}
        }
        match (index - 2).checked_sub(self.moves(seat)) {
            None => self.moved(seat, index - 2),
            Some(0) => Step::of(0).put_board(),
            Some(_) => Step::of(0).fold_boards(),
        }
    }

    fn moved(&self, seat: Seat, index: u64) -> Step {
        match self.way {
            Way::AllReduce | Way::ReduceScatter => {
                let piece = self.cut.piece(index, seat.place);
                let step = Step::of(piece.len)
                    .read(Space::Input, piece.input)
                    .fold_windows()
                    .write(Space::Output, piece.output)
                    .also(self.finish);
                if self.way == Way::AllReduce { step.put_windows() } else { step }
            }
            Way::Broadcast(root) if seat.place == root => alone(&self.cut, Flags::NONE, root, index),
            Way::Broadcast(root) => {
                let piece = self.cut.piece(index, root);
                Step::of(piece.len).take_window(root, piece.input).write(Space::Output, piece.output)
            }
            Way::AllGather | Way::AllToAll => {
                let (round, sub) = divide(index, u64::from(seat.size));
                if sub == 0 {
                    return alone(&self.cut, Flags::NONE, seat.place, round);
                }
                let from = after(seat, sub as u32);
                let piece = self.cut.piece(round, from);
                let wanted = if self.way == Way::AllGather { from } else { seat.place };
                let at = self.cut.piece(round, wanted).input;
                Step::of(piece.len).take_window(from, at).write(Space::Output, piece.output)
            }
        }
    }
}
