//! The ring: each rank hears its left neighbour and speaks to its right one. The most bandwidth, and latency in proportion to the ranks.
//!
//! ```text
//!   reduce-scatter of one round, 4 ranks        all-gather of one round
//!   step   rank 0   rank 1   rank 2   rank 3    step   rank 0   rank 1   rank 2   rank 3
//!    0     put 3    put 0    put 1    put 2      0     put 0    put 1    put 2    put 3
//!    1     add 2    add 3    add 0    add 1      1     pass 3   pass 0   pass 1   pass 2
//!    2     add 1    add 2    add 3    add 0      2     pass 2   pass 3   pass 0   pass 1
//!    3     keep 0   keep 1   keep 2   keep 3     3     keep 1   keep 2   keep 3   keep 0
//! ```
//!
//! All-reduce is both, where `keep` of the first is already `put` of the second. Broadcast and reduce are chains through the same
//! neighbours, pipelined by chunks. Nobody waits in a circle with two slots: take number `q` needs put number `q` of the left
//! neighbour, and put number `q` needs take number `q - 2` of the right one, and both lie earlier in the common order of steps.

use super::cut::Cut;
use super::lane::{Seat, after, before, message_first};
use super::shard::divide;
use super::{Flags, Space, Step};

/// What goes round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Reduce-scatter, then all-gather.
    AllReduce,
    /// Every block is reduced on its way to its owner.
    ReduceScatter,
    /// Every block visits everybody.
    AllGather,
    /// A chain from that place.
    Broadcast(u32),
    /// A chain to that place.
    Reduce(u32),
}

/// The ring.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pub(super) way: Way,
    pub(super) cut: Cut,
    pub(super) finish: Flags,
}

impl Ring {
    #[inline]
    pub(super) fn count(&self, seat: Seat) -> u64 {
        self.cut.round_count() * self.per_round(seat)
    }

    fn per_round(&self, seat: Seat) -> u64 {
        let size = u64::from(seat.size);
        match self.way {
            Way::AllReduce => 2 * size - 1,
            Way::ReduceScatter | Way::AllGather => size,
            Way::Broadcast(_) | Way::Reduce(_) => 1,
        }
    }

    #[inline]
    pub(super) fn step(&self, seat: Seat, index: u64) -> Step {
        let (round, sub) = divide(index, self.per_round(seat));
        let sub = sub as u32;
        match self.way {
            Way::AllReduce if sub < seat.size => self.add(seat, round, sub, true),
            Way::AllReduce => self.pass(seat, round, sub + 1 - seat.size),
            Way::ReduceScatter => self.add(seat, round, sub, false),
            Way::AllGather => self.pass(seat, round, sub),
            Way::Broadcast(root) => self.hand_down(seat, round, root),
            Way::Reduce(root) => self.hand_in(seat, round, root),
        }
    }

    /// Step `sub` of a reduce-scatter; `share`: the last one begins an all-gather too.
    #[inline]
    fn add(&self, seat: Seat, round: u64, sub: u32, share: bool) -> Step {
        let (left, right) = (before(seat, 1), after(seat, 1));
        let piece = self.cut.piece(round, before(seat, 1 + sub));
        let step = Step::of(piece.len).read(Space::Input, piece.input);
        if sub == 0 {
            return step.put_pair(right);
        }
        let step = step.take_pair(left).also(message_first(left, seat));
        if sub + 1 < seat.size {
            return step.put_pair(right);
        }
        let step = step.write(Space::Output, piece.output).also(self.finish);
        if share { step.put_pair(right) } else { step }
    }

    /// Step `sub` of an all-gather.
    #[inline]
    fn pass(&self, seat: Seat, round: u64, sub: u32) -> Step {
        let (left, right) = (before(seat, 1), after(seat, 1));
        let piece = self.cut.piece(round, before(seat, sub));
        let step = Step::of(piece.len).write(Space::Output, piece.output);
        if sub == 0 {
            return step.read(Space::Input, piece.input).put_pair(right);
        }
        let step = step.take_pair(left);
        if sub + 1 < seat.size { step.put_pair(right) } else { step }
    }

    fn hand_down(&self, seat: Seat, round: u64, root: u32) -> Step {
        let (left, right) = (before(seat, 1), after(seat, 1));
        let piece = self.cut.piece(round, 0);
        let step = Step::of(piece.len).write(Space::Output, piece.output);
        if seat.place == root {
            step.read(Space::Input, piece.input).put_pair(right)
        } else if right == root {
            step.take_pair(left)
        } else {
            step.take_pair(left).put_pair(right)
        }
    }

    fn hand_in(&self, seat: Seat, round: u64, root: u32) -> Step {
        let (left, right) = (before(seat, 1), after(seat, 1));
        let piece = self.cut.piece(round, 0);
        let step = Step::of(piece.len).read(Space::Input, piece.input);
        if left == root {
            return step.put_pair(right);
        }
        let step = step.take_pair(left).also(message_first(left, seat));
        if seat.place == root {
            step.write(Space::Output, piece.output).also(self.finish)
        } else {
            step.put_pair(right)
        }
    }
}
