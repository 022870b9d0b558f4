//! Trees: latency of a logarithm, and both directions of every link busy. Even channels use the first of two, odd ones the second, each
//! with its share of the data; `shape` draws them.
//!
//! Chunks go up and come down again in a pipeline. At depth `d`, up(t) has the time `t - d` and down(t) the time `t + d`; a rank runs
//! its steps in the order of their times, so down(t) follows up(t + 2d). A step waits for steps of earlier times only: up(t) for
//! its children's up(t) and, with two slots, for its parent's up(t - 2); down(t) for its parent's down(t) and its children's
//! down(t - 2). So nobody waits in a circle.

use super::cut::Cut;
use super::lane::{Seat, message_first};
use super::shape::{Node, Shape};
use super::shard::{Turn, divide, turn};
use super::{Flags, Space, Step};

/// Which ways the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Up and down.
    AllReduce,
    /// Up.
    Reduce,
    /// Down.
    Broadcast,
}

/// One of the trees.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) way: Way,
    pub(super) shape: Shape,
    pub(super) cut: Cut,
    /// Where this channel's partial results of one chunk lie in the scratch memory.
    pub(super) scratch_at: u64,
    pub(super) finish: Flags,
}

impl Tree {
    #[inline(never)]
    pub(super) fn count(&self, seat: Seat) -> u64 {
        let node = self.shape.node(seat);
        let each = match self.way {
            Way::AllReduce => node.ups() + node.downs(true),
            Way::Reduce => node.ups(),
            Way::Broadcast => node.downs(false),
        };
        self.cut.round_count() * each
    }

    #[inline(never)]
    pub(super) fn step(&self, seat: Seat, index: u64) -> Step {
        let node = self.shape.node(seat);
        match self.way {
            Way::Reduce => {
                let (round, sub) = divide(index, node.ups());
                self.up(seat, &node, round, sub)
            }
            Way::Broadcast => {
                let (round, sub) = divide(index, node.downs(false));
                self.down(&node, round, sub)
            }
            Way::AllReduce => match turn(index, self.cut.round_count(), 2 * node.depth, node.ups(), node.downs(true)) {
                Turn::Head(round, sub) => self.up(seat, &node, round, sub),
                Turn::Tail(round, sub) => self.down(&node, round, sub),
            },
        }
    }

    /// Elements of scratch memory: a node with two children keeps a chunk between them.
    pub(super) fn scratch(&self) -> u64 {
        if self.way == Way::Broadcast { 0 } else { self.scratch_at + u64::from(self.cut.longest()) }
    }

    fn up(&self, seat: Seat, node: &Node, round: u64, sub: u64) -> Step {
        let piece = self.cut.piece(round, 0);
        let step = Step::of(piece.len);
        let step =
            if sub == 0 { step.read(Space::Input, piece.input) } else { step.read(Space::Scratch, self.scratch_at) };
        let step = if node.child_count > 0 {
            let from = node.children[sub as usize];
            step.take_pair(from).also(message_first(from, seat))
        } else {
            step
        };
        match node.parent {
            _ if sub + 1 < node.ups() => step.write(Space::Scratch, self.scratch_at),
            Some(parent) => step.put_pair(parent),
            None => {
                let step = step.write(Space::Output, piece.output).also(self.finish);
                if self.way == Way::AllReduce { step.put_pair(node.children[0]) } else { step }
            }
        }
    }

    fn down(&self, node: &Node, round: u64, sub: u64) -> Step {
        let piece = self.cut.piece(round, 0);
        let step = Step::of(piece.len);
        // The root of an all-reduce has served its first child with its last step up.
        let sub = if self.way == Way::AllReduce && node.parent.is_none() { sub + 1 } else { sub };
        let step = match node.parent {
            _ if sub > 0 => step.read(Space::Output, piece.output),
            Some(parent) => step.take_pair(parent).write(Space::Output, piece.output),
            None => step.read(Space::Input, piece.input).write(Space::Output, piece.output),
        };
        if (sub as u32) < node.child_count { step.put_pair(node.children[sub as usize]) } else { step }
    }
}

impl Node {
    fn ups(&self) -> u64 {
        u64::from(self.child_count.max(1))
    }

    /// The root of an all-reduce hands down to its first child in its last step up.
    fn downs(&self, all_reduce: bool) -> u64 {
        if all_reduce && self.parent.is_none() {
            u64::from(self.child_count) - 1
        } else {
            u64::from(self.child_count.max(1))
        }
    }
}
