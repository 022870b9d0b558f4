//! The order in which a ring visits hosts: it leaves no group before it has been to all of it.
//!
//! ```text
//!   hosts as they come     a: pod1/rack1   b: pod2/rack1   c: pod1/rack2   d: ?   e: pod1/rack1   f: ?
//!   the order              a e | c || b || d f         || border of a pod, | of a rack
//!
//!   a torus of 2 × 3       0,0 ─ 0,1 ─ 0,2             a snake: each step is to a neighbour, the last one too where one side is even
//!                           │           │
//!                          1,0 ─ 1,1 ─ 1,2
//! ```
//!
//! Groups come in the order of their first host, so that what is in good order already stays as it is. Hosts of which nobody knows where they
//! are make a group of their own in the group that is known.

use super::location::{MOST_DIMENSIONS, MOST_LEVELS, Mark};
use alloc::vec::Vec;

/// An order of hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The hosts as they are visited.
    pub visits: Vec<u32>,
    /// For each kind of groups, the outermost first: the visits with which a group begins.
    pub borders: Vec<Vec<u32>>,
}

impl Order {
    /// Of hosts that are there.
    pub fn of(marks: &[Mark]) -> Order {
        let mut order = Order { visits: Vec::with_capacity(marks.len()), borders: Vec::new() };
        order.visit(marks, (0..marks.len() as u32).collect(), 0);
        order
    }

    /// The number of the visit to each host.
    pub fn turns(&self) -> Vec<u32> {
        let mut turns = alloc::vec![0; self.visits.len()];
        for (turn, &host) in self.visits.iter().enumerate() {
            turns[host as usize] = turn as u32;
        }
        turns
    }

    /// Visits hosts that are in one group at all levels above that one. Goes no deeper than there are levels.
    fn visit(&mut self, marks: &[Mark], mut hosts: Vec<u32>, level: usize) {
        let group = |host: &u32| marks[*host as usize].level(level);
        if level == MOST_LEVELS || hosts.len() < 2 || hosts.iter().all(|host| group(host) == 0) {
            return self.visits.append(&mut hosts);
        }
        // The sort keeps the order of hosts of one group.
        hosts.sort_by_key(group);
        let mut groups: Vec<&[u32]> = hosts.chunk_by(|a, b| group(a) == group(b)).collect();
        groups.sort_by_key(|members| members[0]);
        let ends_here = |members: &&[u32]| marks[members[0] as usize].depth() == level + 1;
        let dimensions = |members: &[u32]| marks[members[0] as usize].coordinates().1;
        let first = dimensions(groups[0]);
        if first > 0 && groups.iter().all(|members| ends_here(members) && dimensions(members) == first) {
            snake(&mut groups, |members| marks[members[0] as usize].coordinates().0, first);
        }
        for members in groups {
            if self.borders.len() <= level {
                self.borders.resize(level + 1, Vec::new());
            }
            self.borders[level].push(self.visits.len() as u32);
            self.visit(marks, members.to_vec(), level + 1);
        }
    }
}

/// Sorts by coordinates so that neighbours in the list are neighbours in a torus: there and back again. A side of even length goes
/// outermost, since then the last is a neighbour of the first.
fn snake<T>(things: &mut [T], at: impl Fn(&T) -> [u32; MOST_DIMENSIONS] + Copy, dimensions: u32) {
    let mut sides: Vec<usize> = (0..(dimensions as usize).min(MOST_DIMENSIONS)).collect();
    let length = |side: &usize| {
        let mut all: Vec<u32> = things.iter().map(|thing| at(thing)[*side]).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    };
    if let Some(even) = sides.iter().position(|side| length(side).is_multiple_of(2)) {
        sides[..=even].rotate_right(1);
    }
    wind(things, at, &sides);
}

fn wind<T>(things: &mut [T], at: impl Fn(&T) -> [u32; MOST_DIMENSIONS] + Copy, sides: &[usize]) {
    let Some((&side, inner)) = sides.split_first() else { return };
    things.sort_by_key(|thing| at(thing)[side]);
    for (line, things) in things.chunk_by_mut(|a, b| at(a)[side] == at(b)[side]).enumerate() {
        wind(things, at, inner);
        if line % 2 == 1 {
            things.reverse();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Location;
    use super::*;
    use alloc::format;
    use alloc::vec;
    use proptest::prelude::*;

    fn order(locations: &[&str]) -> Order {
        let mark = |text: &&str| text.parse::<Location>().unwrap_or_default().mark();
        Order::of(&locations.iter().map(mark).collect::<Vec<_>>())
    }

    #[test]
    fn the_picture_is_right() {
        let order = order(&["pod1/rack1", "pod2/rack1", "pod1/rack2", "", "pod1/rack1", ""]);
        assert_eq!(order.visits, vec![0, 4, 2, 1, 3, 5]);
        assert_eq!(order.borders, vec![vec![0, 3, 4], vec![0, 2]]);
        assert_eq!(order.turns(), vec![0, 3, 2, 4, 1, 5]);
    }

    #[test]
    fn what_is_in_order_stays_and_unknown_places_change_nothing() {
        assert_eq!(order(&["a", "a", "b", "b"]).visits, vec![0, 1, 2, 3]);
        assert_eq!(order(&["", "", ""]), Order { visits: vec![0, 1, 2], borders: vec![] });
        assert_eq!(Order::of(&[]), Order::default());
        assert_eq!(order(&["pod1", "pod1/r", "pod1", "pod1/r"]).visits, vec![0, 2, 1, 3]);
    }

    #[test]
    fn a_snake_goes_to_neighbours_and_comes_home_where_a_side_is_even() {
        for sides in [[4, 4, 1], [2, 3, 1], [3, 2, 1], [3, 3, 2], [2, 2, 2], [5, 3, 4], [3, 3, 3], [1, 6, 1]] {
            let mut all = Vec::new();
            for x in 0..sides[0] {
                for y in 0..sides[1] {
                    all.extend((0..sides[2]).map(|z| [x, y, z]));
                }
            }
            // Shuffled, but always alike.
            all.sort_by_key(|at: &[u32; 3]| (at[0] * 7 + at[1] * 5 + at[2] * 3) % 11);
            let names: Vec<_> = all.iter().map(|[x, y, z]| format!("t/{x},{y},{z}")).collect();
            let visits = order(&names.iter().map(|name| &name[..]).collect::<Vec<_>>()).visits;
            let apart = |a: u32, b: u32, side: u32| a.abs_diff(b).min(side - a.abs_diff(b));
            let hops = |from: u32, to: u32| -> u32 {
                (0..3).map(|i| apart(all[from as usize][i], all[to as usize][i], sides[i])).sum()
            };
            let even = sides.iter().any(|side| side % 2 == 0);
            assert!(visits.windows(2).all(|pair| hops(pair[0], pair[1]) == 1), "{sides:?}");
            assert!(!even || hops(visits[visits.len() - 1], visits[0]) == 1, "{sides:?}");
        }
    }

    proptest! {
        #[test]
        fn every_group_is_visited_in_one_go(paths in proptest::collection::vec("([ab](/[cd](/[ef])?)?)?", 0..40)) {
            let locations: Vec<Location> = paths.iter().map(|path| path.parse().unwrap_or_default()).collect();
            let order = Order::of(&locations.iter().map(Location::mark).collect::<Vec<_>>());
            let mut sorted = order.visits.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..paths.len() as u32).collect::<Vec<_>>());
            for level in 1..4 {
                let names = |host: &u32| {
                    let names = locations[*host as usize].names();
                    names[..names.len().min(level)].to_vec()
                };
                let mut seen: Vec<_> = order.visits.iter().map(names).collect();
                seen.dedup();
                let stretches = seen.len();
                seen.sort();
                seen.dedup();
                prop_assert_eq!(stretches, seen.len());
            }
        }
    }
}
