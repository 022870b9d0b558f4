//! Two-shot: each rank owns a slice of every round, folds everybody's raw input of it, and shows the result. Two exchanges, but every
//! element is reduced once only.
//!
//! ```text
//!   round t        slice 0   slice 1   slice 2
//!   rank 0         (own)     ─> 1      ─> 2          A: each slice goes to its owner over a pair link
//!   rank 1         ─> 0      (own)     ─> 2          B: the owner folds in the order of rank, keeps and posts the result
//!   rank 2         ─> 0      ─> 1      (own)         C: everybody takes the boards of the others
//!
//!   pipelined by one round:    A0 | A1 B0 C0 | A2 B1 C1 | B2 C2
//! ```
//!
//! Number the half rounds A0, A1, B0, C0, A2, … in the order above, the same for all. With two slots each of them waits for earlier
//! numbers only: B(t) and C(t) for A(t) and B(t); the credits of A(t+1) and B(t) for B(t-1) and C(t-2). So nobody waits in a circle.
//!
//! Over sockets, whose links hold more, several rounds of A go before the first of B.
//!
//! A place that owns nothing runs the same order without its part of B.
//!
//! Reduce-scatter is A and B, with the blocks as slices.

use super::cut::Cut;
use super::lane::{Seat, other};
use super::shard::{Turn, turn};
use super::{Flags, Space, Step};

/// The two-shot algorithm.
#[derive(Clone, Debug)]
pub(super) struct TwoShot {
    pub(super) cut: Cut,
    /// The first so many places own slices: all of them, but for the inner stages of a hierarchy.
    pub(super) owners: u32,
    /// Whether the owners show their results (all-reduce) or keep them (reduce-scatter).
    pub(super) share: bool,
    /// The flags of the folds.
    pub(super) finish: Flags,
}

impl TwoShot {
    /// Owners other than this seat, and whether it is one itself.
    #[inline]
    fn owners(&self, seat: Seat) -> (u64, bool) {
        let own = seat.place < self.owners;
        (u64::from(self.owners) - u64::from(own), own)
    }

    /// Steps of the second half of a round.
    #[inline]
    fn tail(&self, seat: Seat) -> u64 {
        let (others, own) = self.owners(seat);
        u64::from(own) + if self.share { others } else { 0 }
    }

    #[inline]
    pub(super) fn count(&self, seat: Seat) -> u64 {
        self.cut.round_count() * (self.owners(seat).0 + self.tail(seat))
    }

    #[inline]
    pub(super) fn step(&self, seat: Seat, index: u64) -> Step {
        let (others, own) = self.owners(seat);
        match turn(index, self.cut.round_count(), self.cut.lag(), others, self.tail(seat)) {
            Turn::Head(round, sub) => {
                let to = other(seat, self.owners, sub as u32);
                let piece = self.cut.piece(round, to);
                Step::of(piece.len).read(Space::Input, piece.input).put_pair(to)
            }
            Turn::Tail(round, 0) if own => {
                let piece = self.cut.piece(round, seat.place);
                let step = Step::of(piece.len)
                    .read(Space::Input, piece.input)
                    .write(Space::Output, piece.output)
                    .also(self.finish);
                if seat.size == 1 {
                    return step;
                }
                let step = step.fold_pairs();
                if self.share { step.put_board() } else { step }
            }
            Turn::Tail(round, sub) => {
                let from = other(seat, self.owners, sub as u32 - u32::from(own));
                let piece = self.cut.piece(round, from);
                Step::of(piece.len).take_board(from).write(Space::Output, piece.output)
            }
        }
    }
}
