//! Two binary trees: latency of a logarithm, and both directions of every link busy.
//!
//! ```text
//!   9 ranks, root 0         0                              0
//!   first tree              |       second tree            |
//!                           8       (labels mirrored)      1
//!                         4                                  5
//!                     2       6                          3       7
//!                   1   3   5   7                      2   4   6   8
//! ```
//!
//! The labels 1 … N are the nodes of an in-order binary tree: the level of a label is its number of trailing zero bits, and what lies
//! past N is clipped. The second tree takes the labels in mirror order, so that a leaf of one tree is (nearly always) an inner node of
//! the other. Even channels use the first tree, odd ones the second, each with its share of the data.
//!
//! Chunks go up and come down again in a pipeline. At depth `d`, up(t) has the time `t - d` and down(t) the time `t + d`; a rank runs
//! its steps in the order of their times, so down(t) follows up(t + 2d). A step waits for steps of earlier times only: up(t) for
//! its children's up(t) and, with two slots, for its parent's up(t - 2); down(t) for its parent's down(t) and its children's
//! down(t - 2). So nobody waits in a circle.

use super::cut::Cut;
use super::lane::{Seat, message_first};
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
    pub(super) mirrored: bool,
    pub(super) root: u32,
    pub(super) cut: Cut,
    /// Where this channel's partial results of one chunk lie in the scratch memory.
    pub(super) scratch_at: u64,
    pub(super) finish: Flags,
}

/// A place in the tree: places of the neighbours, children in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    parent: Option<u32>,
    children: [u32; 2],
    child_count: u32,
    depth: u64,
}

impl Tree {
    #[inline(never)]
    pub(super) fn count(&self, seat: Seat) -> u64 {
        let node = self.node(seat);
        let each = match self.way {
            Way::AllReduce => node.ups() + node.downs(true),
            Way::Reduce => node.ups(),
            Way::Broadcast => node.downs(false),
        };
        self.cut.round_count() * each
    }

    #[inline(never)]
    pub(super) fn step(&self, seat: Seat, index: u64) -> Step {
        let node = self.node(seat);
        match self.way {
            Way::Reduce => {
                let (round, sub) = divide(index, node.ups());
                self.up(seat, &node, round, sub)
            }
            Way::Broadcast => {
                let (round, sub) = divide(index, node.downs(false));
                self.down(&node, round, sub)
            }
            Way::AllReduce if node.parent.is_none() => self.up(seat, &node, index, 0),
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
        let step = match node.parent {
            _ if sub > 0 => step.read(Space::Output, piece.output),
            Some(parent) => step.take_pair(parent).write(Space::Output, piece.output),
            None => step.read(Space::Input, piece.input).write(Space::Output, piece.output),
        };
        if (sub as u32) < node.child_count { step.put_pair(node.children[sub as usize]) } else { step }
    }

    /// Walks from the root to the seat: as many turns as the seat is deep.
    fn node(&self, seat: Seat) -> Node {
        let labels = seat.size - 1;
        let top = 1u32 << labels.ilog2();
        let place = |label| self.place(label, seat.size);
        let own = self.label(seat);
        if own == 0 {
            return Node { parent: None, children: [place(top), 0], child_count: 1, depth: 0 };
        }
        let (mut parent, mut at, mut depth) = (0, top, 1);
        while at != own {
            parent = at;
            let level = at.trailing_zeros();
            at = if own < at { at - (1 << (level - 1)) } else { right_child(at, level, labels) };
            depth += 1;
        }
        let level = own.trailing_zeros();
        let mut node = Node { parent: Some(place(parent)), children: [0, 0], child_count: 0, depth };
        if level > 0 {
            node.children[0] = place(own - (1 << (level - 1)));
            node.child_count = 1;
            if own < labels {
                node.children[1] = place(right_child(own, level, labels));
                node.child_count = 2;
                node.children.sort_unstable();
            }
        }
        node
    }

    /// 0 for the root, else from 1.
    fn label(&self, seat: Seat) -> u32 {
        let label = if seat.place >= self.root { seat.place - self.root } else { seat.place + seat.size - self.root };
        let labels = seat.size - 1;
        match label {
            0 => 0,
            _ if !self.mirrored => label,
            _ if labels.is_multiple_of(2) => labels + 1 - label,
            _ => label % labels + 1,
        }
    }

    fn place(&self, label: u32, size: u32) -> u32 {
        let labels = size - 1;
        let straight = match label {
            0 => 0,
            _ if !self.mirrored => label,
            _ if labels.is_multiple_of(2) => labels + 1 - label,
            1 => labels,
            _ => label - 1,
        };
        let left = size - self.root;
        if straight < left { straight + self.root } else { straight - left }
    }
}

/// The top of what lies right of a node of that level; there is something.
fn right_child(at: u32, level: u32, labels: u32) -> u32 {
    at + (1 << (level - 1).min((labels - at).ilog2()))
}

impl Node {
    fn ups(&self) -> u64 {
        u64::from(self.child_count.max(1))
    }

    /// The root of an all-reduce hands down in its last step up.
    fn downs(&self, all_reduce: bool) -> u64 {
        if all_reduce && self.parent.is_none() { 0 } else { u64::from(self.child_count.max(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn tree(mirrored: bool, root: u32) -> Tree {
        let cut = Cut::span(0, 1, 1);
        Tree { way: Way::AllReduce, mirrored, root, cut, scratch_at: 0, finish: Flags::NONE }
    }

    #[test]
    fn parents_and_children_agree_and_depth_is_a_logarithm() {
        for size in 2..200u32 {
            for (mirrored, root) in [(false, 0), (true, 0), (false, size / 2), (true, size - 1)] {
                let tree = tree(mirrored, root);
                let node = |place| tree.node(Seat { place, size });
                let mut children = 0;
                for place in 0..size {
                    let own = node(place);
                    assert_eq!(tree.place(tree.label(Seat { place, size }), size), place);
                    assert_eq!(own.parent.is_none(), place == root);
                    assert!(own.depth <= u64::from(size.ilog2()) + 1);
                    for &child in &own.children[..own.child_count as usize] {
                        assert_eq!(node(child).parent, Some(place));
                        assert_eq!(node(child).depth, own.depth + 1);
                        children += 1;
                    }
                }
                assert_eq!(children, size - 1);
            }
        }
    }

    #[test]
    fn hardly_anybody_carries_a_load_in_both_trees() {
        for size in 3..100u32 {
            let (first, second) = (tree(false, 0), tree(true, 0));
            let inner = |tree: &Tree, place| tree.node(Seat { place, size }).child_count > 0;
            let both = (1..size).filter(|&place| inner(&first, place) && inner(&second, place)).count();
            assert!(both <= 1, "{size}: {both}");
        }
    }

    #[test]
    fn the_picture_is_right() {
        let first = |place| tree(false, 0).node(Seat { place, size: 9 });
        assert_eq!(
            (first(8).parent, first(4).parent, first(6).parent, first(7).parent),
            (Some(0), Some(8), Some(4), Some(6))
        );
        let second = |place| tree(true, 0).node(Seat { place, size: 9 });
        assert_eq!((second(1).parent, second(5).parent, second(7).parent), (Some(0), Some(1), Some(5)));
        assert_eq!(vec![second(3).children], vec![[2, 4]]);
    }
}
