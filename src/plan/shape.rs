//! The shape of trees: two binary ones, in each group of ranks (rack, host) and between groups, so that a group is entered once.
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
//! the other.
//!
//! ```text
//!   racks {0 1 2} {3 4 5 6} {7 8}, root 0:   between racks  0 ── 7 ── 3        in racks  0 ── 2 ── 1    3 ── 5 ── 4, 6    7 ── 8
//!   second tree:                             between racks  0 ── 6 ── 8        in racks  0 ── 1 ── 2    6 ── 3 ── 4, 5    8 ── 7
//! ```
//!
//! Where there are groups, the same tree joins one rank of each: the root for its own, else the first, in the second tree the last. In each
//! group it goes on from that rank, through as many kinds of groups as there are. So as many edges cross borders as there are groups to
//! enter, which is the least there can be, and no node has more than two children but those that enter groups.

use super::MOST_LEVELS;
use super::lane::Seat;
use alloc::vec::Vec;

/// Two in the outermost tree of which a place is no root, and one in each tree further in: of groups, of domains, of ranks.
const MOST_CHILDREN: usize = 2 + MOST_LEVELS + 1;

/// One of the trees.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) mirrored: bool,
    pub(super) root: u32,
    /// Groups of places, the outermost first: the first place of each. Each list refines the one before it.
    pub(super) nest: Vec<Vec<u32>>,
}

/// A place in the tree: places of the neighbours, children in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) parent: Option<u32>,
    pub(super) children: [u32; MOST_CHILDREN],
    pub(super) child_count: u32,
    pub(super) depth: u64,
}

impl Shape {
    /// Walks from the root to the seat: as many turns as the seat is deep.
    pub(super) fn node(&self, seat: Seat) -> Node {
        let mut node = Node { parent: None, children: [0; MOST_CHILDREN], child_count: 0, depth: 0 };
        let mut whole = Groups { starts: &[], start: 0, end: seat.size };
        // Where the group that the seat is in is entered.
        let mut entry = self.root;
        for starts in self.nest.iter().map(|starts| &starts[..]).chain([&[][..]]) {
            let groups = whole.divided(starts);
            let labels = Labels { size: groups.count(), root: groups.index(entry), mirrored: self.mirrored };
            let entry_of = |label| groups.entry(labels.place(label), entry, self.mirrored);
            let own = groups.index(seat.place);
            let here = groups.entry(own, entry, self.mirrored);
            if labels.size > 1 {
                let knot = labels.knot(labels.label(own));
                node.depth += knot.depth;
                if here == seat.place {
                    node.parent = knot.parent.map(entry_of).or(node.parent);
                    knot.children.into_iter().flatten().for_each(|child| node.add(entry_of(child)));
                }
            }
            entry = here;
            whole = groups.group(own);
        }
        node.children[..node.child_count as usize].sort_unstable();
        node
    }
}

impl Node {
    fn add(&mut self, child: u32) {
        self.children[self.child_count as usize] = child;
        self.child_count += 1;
    }
}

/// A stretch of places, divided into groups. No starts: each place is one.
#[derive(Clone, Copy)]
struct Groups<'a> {
    starts: &'a [u32],
    start: u32,
    end: u32,
}

impl<'a> Groups<'a> {
    fn divided(self, starts: &'a [u32]) -> Groups<'a> {
        let at = |place: u32| starts.partition_point(|&start| start < place);
        Groups { starts: &starts[at(self.start)..at(self.end)], ..self }
    }

    fn count(&self) -> u32 {
        if self.starts.is_empty() { self.end - self.start } else { self.starts.len() as u32 }
    }

    /// The group of that place.
    fn index(&self, place: u32) -> u32 {
        match self.starts {
            [] => place - self.start,
            starts => starts.partition_point(|&start| start <= place) as u32 - 1,
        }
    }

    /// That group, not divided yet.
    fn group(&self, index: u32) -> Groups<'a> {
        let start = |index: u32| match self.starts {
            [] => self.start + index,
            starts => starts.get(index as usize).copied().unwrap_or(self.end),
        };
        Groups { starts: &[], start: start(index), end: start(index + 1) }
    }

    /// Where that group is entered, if the whole is entered there.
    fn entry(&self, index: u32, entry: u32, mirrored: bool) -> u32 {
        let Groups { start, end, .. } = self.group(index);
        match (start..end).contains(&entry) {
            true => entry,
            false if mirrored => end - 1,
            false => start,
        }
    }
}

/// The labels of some places, of which there are two or more: 0 for the root, else from 1.
#[derive(Clone, Copy)]
struct Labels {
    size: u32,
    root: u32,
    mirrored: bool,
}

/// A label in the tree: labels of the neighbours.
struct Knot {
    parent: Option<u32>,
    children: [Option<u32>; 2],
    depth: u64,
}

impl Labels {
    fn knot(self, own: u32) -> Knot {
        let labels = self.size - 1;
        let top = 1u32 << labels.ilog2();
        if own == 0 {
            return Knot { parent: None, children: [Some(top), None], depth: 0 };
        }
        let (mut parent, mut at, mut depth) = (0, top, 1);
        while at != own {
            parent = at;
            let level = at.trailing_zeros();
            at = if own < at { at - (1 << (level - 1)) } else { right_child(at, level, labels) };
            depth += 1;
        }
        let level = own.trailing_zeros();
        let left = (level > 0).then(|| own - (1 << (level - 1)));
        let right = (level > 0 && own < labels).then(|| right_child(own, level, labels));
        Knot { parent: Some(parent), children: [left, right], depth }
    }

    fn label(self, place: u32) -> u32 {
        let label = if place >= self.root { place - self.root } else { place + self.size - self.root };
        let labels = self.size - 1;
        match label {
            0 => 0,
            _ if !self.mirrored => label,
            _ if labels.is_multiple_of(2) => labels + 1 - label,
            _ => label % labels + 1,
        }
    }

    fn place(self, label: u32) -> u32 {
        let labels = self.size - 1;
        let straight = match label {
            0 => 0,
            _ if !self.mirrored => label,
            _ if labels.is_multiple_of(2) => labels + 1 - label,
            1 => labels,
            _ => label - 1,
        };
        let left = self.size - self.root;
        if straight < left { straight + self.root } else { straight - left }
    }
}

/// The top of what lies right of a node of that level; there is something.
fn right_child(at: u32, level: u32, labels: u32) -> u32 {
    at + (1 << (level - 1).min((labels - at).ilog2()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn shape(mirrored: bool, root: u32, nest: &[&[u32]]) -> Shape {
        Shape { mirrored, root, nest: nest.iter().map(|starts| starts.to_vec()).collect() }
    }

    fn children(node: &Node) -> &[u32] {
        &node.children[..node.child_count as usize]
    }

    /// Checks that it is a tree with that root, and gives the greatest depth.
    fn checked(shape: &Shape, size: u32) -> u64 {
        let node = |place| shape.node(Seat { place, size });
        let (mut edges, mut deepest) = (0, 0);
        for place in 0..size {
            let own = node(place);
            assert_eq!(own.parent.is_none(), place == shape.root);
            deepest = deepest.max(own.depth);
            for &child in children(&own) {
                assert_eq!(node(child).parent, Some(place), "{shape:?}");
                assert_eq!(node(child).depth, own.depth + 1);
                edges += 1;
            }
        }
        assert_eq!(edges, size - 1);
        deepest
    }

    #[test]
    fn parents_and_children_agree_and_depth_is_a_logarithm() {
        for size in 2..200u32 {
            for (mirrored, root) in [(false, 0), (true, 0), (false, size / 2), (true, size - 1)] {
                let shape = shape(mirrored, root, &[]);
                let labels = Labels { size, root, mirrored };
                assert!((0..size).all(|place| labels.place(labels.label(place)) == place));
                assert!(checked(&shape, size) <= u64::from(size.ilog2()) + 1);
            }
        }
    }

    #[test]
    fn hardly_anybody_carries_a_load_in_both_trees() {
        for size in 3..100u32 {
            let (first, second) = (shape(false, 0, &[]), shape(true, 0, &[]));
            let inner = |shape: &Shape, place| shape.node(Seat { place, size }).child_count > 0;
            let both = (1..size).filter(|&place| inner(&first, place) && inner(&second, place)).count();
            assert!(both <= 1, "{size}: {both}");
        }
    }

    #[test]
    fn the_pictures_are_right() {
        let first = |place| shape(false, 0, &[]).node(Seat { place, size: 9 });
        assert_eq!([8, 4, 6, 7].map(|place| first(place).parent), [Some(0), Some(8), Some(4), Some(6)]);
        let second = |place| shape(true, 0, &[]).node(Seat { place, size: 9 });
        assert_eq!([1, 5, 7].map(|place| second(place).parent), [Some(0), Some(1), Some(5)]);
        assert_eq!(children(&second(3)), [2, 4]);
        let racks: &[&[u32]] = &[&[0, 3, 7]];
        let list = |mirrored, place| children(&shape(mirrored, 0, racks).node(Seat { place, size: 9 })).to_vec();
        assert_eq!([0, 7, 3].map(|place| list(false, place)), [vec![2, 7], vec![3, 8], vec![5]]);
        assert_eq!([2, 5].map(|place| list(false, place)), [vec![1], vec![4, 6]]);
        assert_eq!([0, 6, 8].map(|place| list(true, place)), [vec![1, 6], vec![3, 8], vec![7]]);
        assert_eq!([1, 3].map(|place| list(true, place)), [vec![2], vec![4, 5]]);
    }

    #[test]
    fn each_group_is_entered_once_from_every_root_and_depth_stays_a_sum_of_logarithms() {
        let (pods, racks, hosts): (&[u32], &[u32], &[u32]) =
            (&[0, 11, 24], &[0, 4, 11, 12, 20, 24], &[0, 2, 4, 5, 9, 11, 12, 15, 18, 20, 24, 26]);
        let size = 29;
        for nest in [&[pods][..], &[racks], &[pods, racks], &[pods, racks, hosts], &[hosts]] {
            for root in 0..size {
                for mirrored in [false, true] {
                    let shape = shape(mirrored, root, nest);
                    assert!(checked(&shape, size) <= 10, "{nest:?} {root}");
                    for starts in nest {
                        let group = |place: u32| starts.partition_point(|&start| start <= place);
                        let node = |place| shape.node(Seat { place, size });
                        let enters = |place: &u32| node(*place).parent.is_some_and(|up| group(up) != group(*place));
                        assert_eq!((0..size).filter(enters).count(), starts.len() - 1, "{nest:?} {root} {mirrored}");
                    }
                }
            }
        }
    }
}
