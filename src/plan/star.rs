//! The star: everybody exchanges with the root alone, over pair links. Right for few ranks, and the only shape of gather and scatter.
//!
//! ```text
//!        1   2                 1   2
//!         \ /                   ^ ^
//!          v                    |/
//!    3 ──> 0 <── 4        3 <── 0 ──> 4
//!    reduce, gather          scatter
//! ```

use super::cut::Cut;
use super::lane::{Seat, after};
use super::shard::divide;
use super::{Flags, Space, Step};

/// What the root does with the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Folds it in the order of rank.
    Reduce,
    /// Puts it side by side.
    Gather,
    /// Deals it out.
    Scatter,
}

/// The star.
#[derive(Clone, Debug)]
pub(super) struct Star {
    pub(super) way: Way,
    pub(super) root: u32,
    pub(super) cut: Cut,
    pub(super) finish: Flags,
}

impl Star {
    #[inline(never)]
    pub(super) fn count(&self, seat: Seat) -> u64 {
        let each = if seat.place == self.root && self.way != Way::Reduce { u64::from(seat.size) } else { 1 };
        self.cut.round_count() * each
    }

    #[inline(never)]
    pub(super) fn step(&self, seat: Seat, index: u64) -> Step {
        if seat.place != self.root {
            let piece = self.cut.piece(index, seat.place);
            let step = Step::of(piece.len);
            return match self.way {
                Way::Reduce | Way::Gather => step.read(Space::Input, piece.input).put_pair(self.root),
                Way::Scatter => step.take_pair(self.root).write(Space::Output, piece.output),
            };
        }
        if self.way == Way::Reduce {
            let piece = self.cut.piece(index, seat.place);
            return Step::of(piece.len)
                .read(Space::Input, piece.input)
                .fold_pairs()
                .write(Space::Output, piece.output)
                .also(self.finish);
        }
        let (round, sub) = divide(index, u64::from(seat.size));
        let other = after(seat, sub as u32);
        let piece = self.cut.piece(round, other);
        let step = Step::of(piece.len);
        match self.way {
            _ if sub == 0 => step.read(Space::Input, piece.input).write(Space::Output, piece.output),
            Way::Scatter => step.read(Space::Input, piece.input).put_pair(other),
            _ => step.take_pair(other).write(Space::Output, piece.output),
        }
    }
}
