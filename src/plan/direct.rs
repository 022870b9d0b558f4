//! One-shot over boards: everybody shows its data to everybody, and each rank takes or folds what it needs. One exchange.
//!
//! ```text
//!   rank 0   in ──post──> board 0 ─┬─────────┬─> fold (own, 0, 1, 2 in the order of rank) ──> out
//!   rank 1   in ──post──> board 1 ─┼─────────┼─> fold ──> out
//!   rank 2   in ──post──> board 2 ─┴─────────┴─> fold ──> out
//!
//!   pipelined by one chunk, which two slots allow:    P0 | P1 F0 | P2 F1 | P3 F2 | F3
//! ```
//!
//! Over sockets, whose links hold more, an all-gather posts several chunks before it takes the first.
//!
//! All-gather takes each board into its place instead of folding. Broadcast posts on the root's board alone. A barrier folds nothing.
//! In place is right because chunk `t` of the output is written after chunk `t` of the input was posted, and nobody reads it later: the post
//! has a copy of its own. Nothing that a rank folds says that the others have got what it posted.

use super::cut::Cut;
use super::lane::{Seat, other};
use super::shard::{Turn, turn};
use super::{Flags, Space, Step};

/// The one-shot algorithm.
#[derive(Clone, Debug)]
pub(super) enum Direct {
    /// All-reduce; the flags of the folds.
    Reduce(Cut, Flags),
    /// All-gather of the blocks of the first so many places: all of them, but for the inner stages of a hierarchy.
    Gather(Cut, u32),
    /// Broadcast from that place.
    Spread(Cut, u32),
    /// A barrier.
    Meet,
}

impl Direct {
    #[inline]
    pub(super) fn count(&self) -> u64 {
        match self {
            Direct::Reduce(cut, _) => 2 * cut.round_count(),
            Direct::Gather(cut, owners) => cut.round_count() * u64::from(*owners),
            Direct::Spread(cut, _) => cut.round_count(),
            Direct::Meet => 2,
        }
    }

    #[inline]
    pub(super) fn step(&self, seat: Seat, index: u64) -> Step {
        match self {
            Direct::Reduce(cut, finish) => reduce(cut, *finish, index),
            Direct::Gather(cut, owners) => gather(cut, *owners, seat, index),
            Direct::Spread(cut, root) => {
                let piece = cut.first(index);
                let step = Step::of(piece.len).write(Space::Output, piece.output);
                if seat.place == *root {
                    step.read(Space::Input, piece.input).put_board()
                } else {
                    step.take_board(*root)
                }
            }
            Direct::Meet if index == 0 => Step::of(0).put_board(),
            Direct::Meet => Step::of(0).fold_boards(),
        }
    }
}

/// `P0 | P1 F0 | P2 F1 | … | F(last)`: odd steps post, even ones fold, but for the first and the last.
#[inline]
fn reduce(cut: &Cut, finish: Flags, index: u64) -> Step {
    let end = index + 1 == 2 * cut.round_count();
    let posts = index == 0 || (!index.is_multiple_of(2) && !end);
    let round = if posts || end { index.div_ceil(2) - u64::from(end) } else { index / 2 - 1 };
    let piece = cut.first(round);
    let step = Step::of(piece.len).read(Space::Input, piece.input);
    if posts {
        step.put_board().also(Flags::COPY)
    } else {
        step.fold_boards().write(Space::Output, piece.output).also(finish)
    }
}

#[inline]
fn gather(cut: &Cut, owners: u32, seat: Seat, index: u64) -> Step {
    let own = u64::from(seat.place < owners);
    match turn(index, cut.round_count(), cut.lag(), own, u64::from(owners) - own) {
        Turn::Head(round, _) => {
            let piece = cut.piece(round, seat.place);
            let step = Step::of(piece.len).read(Space::Input, piece.input).write(Space::Output, piece.output);
            if seat.size > 1 { step.put_board() } else { step }
        }
        Turn::Tail(round, sub) => {
            let from = other(seat, owners, sub as u32);
            let piece = cut.piece(round, from);
            Step::of(piece.len).take_board(from).write(Space::Output, piece.output)
        }
    }
}
