//! Which ranks are near each other.
//!
//! ```text
//!                place 0   place 1   place 2
//!   domain 0       0         1         2         an inner group is a row,
//!   domain 1       3         4                   an outer group (a rail) is a column:
//!   domain 2       5         6         7         {0,3,5}, {1,4,6} and {2,7}
//!
//!   the tour       0 1 2 | 3 4 | 5 6 7           a ring goes round domain by domain, in each ascending
//! ```
//!
//! Domains are numbered as the tour visits them. Where somebody knows which domains are near each other (racks, pods: `topo::site`), the
//! tour leaves none of these groups before it has been to all of it, and a tree enters each once. Sets of ranks ascend all the same, and
//! so does a fold of all of a set.

use super::Group;
use alloc::vec::Vec;
use core::slice;

/// The most kinds of groups that domains are in.
pub const MOST_LEVELS: usize = 8;

/// The ranks of a communicator and the domains (caches, NUMA nodes, hosts) that they share.
///
/// Two worlds are equal when they divide the same ranks into the same sets, visit them in the same order, and group them alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    size: u32,
    /// Nothing where all ranks share one domain, which then costs no memory.
    rows: Option<Rows>,
}

/// The ranks sorted by row and by column.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rows {
    /// Domain and place of each rank.
    seat_of: Vec<(u32, u32)>,
    /// The ranks of domain 0, then those of domain 1, and so on; ascending in each.
    by_domain: Vec<u32>,
    domain_starts: Vec<u32>,
    /// The ranks of place 0, then those of place 1, and so on; ascending in each.
    by_place: Vec<u32>,
    place_starts: Vec<u32>,
    /// Groups of domains, the outermost first: the first domain of each. Each list refines the one before it.
    borders: Vec<Vec<u32>>,
}

impl World {
    /// All ranks in one domain.
    pub fn flat(size: u32) -> World {
        World { size, rows: None }
    }

    /// Domains of consecutive ranks, of those sizes.
    pub fn domains(sizes: &[u32]) -> World {
        let mut domain_of = Vec::new();
        for (domain, &size) in sizes.iter().enumerate() {
            domain_of.extend((0..size).map(|_| domain as u32));
        }
        World::from_domains(&domain_of)
    }

    /// Any division: the domain of each rank. The numbers are names only: domains are visited in the order of their lowest rank.
    pub fn from_domains(domain_of: &[u32]) -> World {
        World::divided(domain_of, |members| members[0], &[])
    }

    /// Any division: the domain of each rank, where domains are visited in the order of their numbers. `borders` tells of groups of domains
    /// (pods, then racks), the outermost first: the numbers at which one begins. At most [`MOST_LEVELS`] of them count.
    pub fn in_order(domain_of: &[u32], borders: &[Vec<u32>]) -> World {
        World::divided(domain_of, |members| domain_of[members[0] as usize], borders)
    }

    fn divided(domain_of: &[u32], order: impl Fn(&[u32]) -> u32, borders: &[Vec<u32>]) -> World {
        let size = domain_of.len() as u32;
        let mut ranks: Vec<u32> = (0..size).collect();
        ranks.sort_by_key(|&rank| (domain_of[rank as usize], rank));
        let name = |members: &[u32]| domain_of[members[0] as usize];
        let mut domains: Vec<&[u32]> =
            ranks.chunk_by(|&a, &b| domain_of[a as usize] == domain_of[b as usize]).collect();
        let borders = refined(borders, &domains.iter().map(|members| name(members)).collect::<Vec<_>>());
        domains.sort_by_key(|members| order(members));
        if domains.len() < 2 {
            return World::flat(size);
        }
        let mut seat_of = alloc::vec![(0, 0); size as usize];
        let mut by_domain = Vec::with_capacity(size as usize);
        let mut domain_starts = alloc::vec![0];
        for (domain, members) in domains.iter().enumerate() {
            for (place, &rank) in members.iter().enumerate() {
                seat_of[rank as usize] = (domain as u32, place as u32);
            }
            by_domain.extend_from_slice(members);
            domain_starts.push(by_domain.len() as u32);
        }
        let mut by_place: Vec<u32> = (0..size).collect();
        by_place.sort_by_key(|&rank| (seat_of[rank as usize].1, rank));
        let mut place_starts = alloc::vec![0];
        for column in by_place.chunk_by(|&a, &b| seat_of[a as usize].1 == seat_of[b as usize].1) {
            place_starts.push(place_starts[place_starts.len() - 1] + column.len() as u32);
        }
        World { size, rows: Some(Rows { seat_of, by_domain, domain_starts, by_place, place_starts, borders }) }
    }

    /// How many ranks there are.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// How many domains there are.
    pub fn domain_count(&self) -> u32 {
        self.rows.as_ref().map_or(self.size.min(1), |rows| rows.domain_starts.len() as u32 - 1)
    }

    /// The ranks of that domain, ascending; none for a number that no domain has.
    pub fn domain(&self, domain: u32) -> Members<'_> {
        match &self.rows {
            None if domain == 0 => Members(Set::Range(self.size)),
            None => Members(Set::List(&[])),
            Some(rows) => Members(Set::List(cut(&rows.by_domain, &rows.domain_starts, domain))),
        }
    }

    /// The domain of that rank, and its place among the domain's ranks.
    pub fn seat(&self, rank: u32) -> (u32, u32) {
        match &self.rows {
            None => (0, rank),
            Some(rows) => rows.seat_of.get(rank as usize).copied().unwrap_or((0, 0)),
        }
    }

    /// The number of that rank on the tour.
    pub fn stop(&self, rank: u32) -> u32 {
        let Some(rows) = &self.rows else { return rank };
        let (domain, place) = self.seat(rank);
        rows.domain_starts[domain as usize] + place
    }

    /// The rank with that number on the tour.
    pub fn at_stop(&self, stop: u32) -> Option<u32> {
        match &self.rows {
            None => (stop < self.size).then_some(stop),
            Some(rows) => rows.by_domain.get(stop as usize).copied(),
        }
    }

    /// Whether the tour visits the ranks in their own order.
    pub(super) fn ascends(&self) -> bool {
        self.rows.as_ref().is_none_or(|rows| rows.by_domain.is_sorted())
    }

    /// Whether there is more to know than the domains of the ranks: an order, or groups of domains.
    pub fn has_order(&self) -> bool {
        !self.ascends() || !self.borders().is_empty()
    }

    /// Groups of domains, the outermost first: the first domain of each. Each list refines the one before it; the last is coarser than
    /// the domains.
    pub fn borders(&self) -> &[Vec<u32>] {
        self.rows.as_ref().map_or(&[], |rows| &rows.borders)
    }

    /// The same in stops of the tour, and the domains as the innermost groups.
    pub(super) fn borders_of_stops(&self) -> Vec<Vec<u32>> {
        let Some(rows) = &self.rows else { return Vec::new() };
        let starts = &rows.domain_starts[..rows.domain_starts.len() - 1];
        let stops = |level: &Vec<u32>| level.iter().map(|&domain| starts[domain as usize]).collect();
        rows.borders.iter().map(stops).chain([starts.to_vec()]).collect()
    }

    /// The set of that kind that the rank belongs to.
    pub fn members(&self, group: Group, rank: u32) -> Members<'_> {
        match (group, &self.rows) {
            (Group::World, _) | (Group::Inner, None) => Members(Set::Range(self.size)),
            (Group::Outer, None) => Members(Set::One(rank)),
            (Group::Inner, Some(_)) => self.domain(self.seat(rank).0),
            (Group::Outer, Some(rows)) => {
                Members(Set::List(cut(&rows.by_place, &rows.place_starts, self.seat(rank).1)))
            }
        }
    }

    /// The domain of each rank; nothing where there is one domain.
    pub(super) fn domain_of(&self) -> Vec<u32> {
        self.rows.iter().flat_map(|rows| rows.seat_of.iter().map(|seat| seat.0)).collect()
    }

    /// The size of the smallest domain: so many rails reach every domain.
    pub(super) fn full_rails(&self) -> u32 {
        (0..self.domain_count()).map(|domain| self.domain(domain).len()).min().unwrap_or(0)
    }

    /// The size of the largest domain.
    pub(super) fn largest_domain(&self) -> u32 {
        (0..self.domain_count()).map(|domain| self.domain(domain).len()).max().unwrap_or(0)
    }
}

/// Groups as lists of first domains, of what tells groups: the domains' names, ascending, and at which names groups begin. What divides
/// nothing, or no more than another list does, is left out.
fn refined(borders: &[Vec<u32>], names: &[u32]) -> Vec<Vec<u32>> {
    let mut levels: Vec<Vec<u32>> = Vec::new();
    for level in borders.iter().take(MOST_LEVELS) {
        let index = |&border: &u32| names.partition_point(|&name| name < border) as u32;
        let mut starts: Vec<u32> = level.iter().map(index).filter(|&start| (start as usize) < names.len()).collect();
        starts.extend(levels.last().into_iter().flatten());
        starts.push(0);
        starts.sort_unstable();
        starts.dedup();
        let divides = starts.len() > 1 && starts.len() < names.len();
        if divides && levels.last() != Some(&starts) {
            levels.push(starts);
        }
    }
    levels
}

fn cut<'a>(ranks: &'a [u32], starts: &[u32], index: u32) -> &'a [u32] {
    match starts.get(index as usize..index as usize + 2) {
        Some(ends) => &ranks[ends[0] as usize..ends[1] as usize],
        None => &[],
    }
}

/// A set of ranks in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members<'a>(Set<'a>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set<'a> {
    /// All ranks below that one.
    Range(u32),
    One(u32),
    List(&'a [u32]),
}

impl<'a> Members<'a> {
    /// How many there are.
    pub fn len(&self) -> u32 {
        match self.0 {
            Set::Range(end) => end,
            Set::One(_) => 1,
            Set::List(ranks) => ranks.len() as u32,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rank at that place.
    pub fn get(&self, place: u32) -> Option<u32> {
        match self.0 {
            Set::Range(end) => (place < end).then_some(place),
            Set::One(rank) => (place == 0).then_some(rank),
            Set::List(ranks) => ranks.get(place as usize).copied(),
        }
    }

    /// The place of that rank.
    pub fn position(&self, rank: u32) -> Option<u32> {
        match self.0 {
            Set::Range(end) => (rank < end).then_some(rank),
            Set::One(only) => (rank == only).then_some(0),
            Set::List(ranks) => ranks.binary_search(&rank).ok().map(|place| place as u32),
        }
    }

    /// All of them.
    pub fn iter(&self) -> MembersIter<'a> {
        match self.0 {
            Set::Range(end) => MembersIter { range: 0..end, list: [].iter() },
            Set::One(rank) => MembersIter { range: rank..rank + 1, list: [].iter() },
            Set::List(ranks) => MembersIter { range: 0..0, list: ranks.iter() },
        }
    }
}

impl<'a> IntoIterator for Members<'a> {
    type Item = u32;
    type IntoIter = MembersIter<'a>;

    fn into_iter(self) -> MembersIter<'a> {
        self.iter()
    }
}

/// The ranks of a set, one after the other.
#[derive(Clone, Debug)]
pub struct MembersIter<'a> {
    range: core::ops::Range<u32>,
    list: slice::Iter<'a, u32>,
}

impl Iterator for MembersIter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.range.next().or_else(|| self.list.next().copied())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.range.len() + self.list.len();
        (left, Some(left))
    }
}

impl ExactSizeIterator for MembersIter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn list(members: Members<'_>) -> Vec<u32> {
        for (place, rank) in members.iter().enumerate() {
            assert_eq!(members.get(place as u32), Some(rank));
            assert_eq!(members.position(rank), Some(place as u32));
        }
        assert_eq!(members.get(members.len()), None);
        members.iter().collect()
    }

    #[test]
    fn a_rail_reaches_the_domains_that_are_large_enough() {
        let world = World::domains(&[3, 2, 3]);
        assert_eq!((world.size(), world.domain_count()), (8, 3));
        assert_eq!(list(world.members(Group::Inner, 4)), vec![3, 4]);
        assert_eq!(list(world.members(Group::Outer, 4)), vec![1, 4, 6]);
        assert_eq!(list(world.members(Group::Outer, 7)), vec![2, 7]);
        assert_eq!(list(world.members(Group::World, 7)), (0..8).collect::<Vec<_>>());
        assert_eq!((world.full_rails(), world.largest_domain()), (2, 3));
    }

    #[test]
    fn one_domain_is_the_whole_world_and_every_rail_one_rank() {
        let world = World::flat(4);
        assert_eq!(world, World::domains(&[4]));
        assert_eq!(world, World::domains(&[0, 4, 0]));
        assert_eq!(world.domain_count(), 1);
        assert_eq!(list(world.members(Group::Inner, 2)), vec![0, 1, 2, 3]);
        assert_eq!(list(world.members(Group::Outer, 2)), vec![2]);
    }

    #[test]
    fn the_names_of_domains_do_not_matter_and_members_ascend() {
        let world = World::from_domains(&[9, 3, 9, 3, 7]);
        assert_eq!(world, World::from_domains(&[0, 1, 0, 1, 2]));
        assert_ne!(world, World::from_domains(&[0, 1, 0, 2, 2]));
        assert_eq!(list(world.members(Group::Inner, 3)), vec![1, 3]);
        assert_eq!(list(world.members(Group::Outer, 0)), vec![0, 1, 4]);
        assert_eq!(world.seat(2), (0, 1));
    }

    #[test]
    fn the_tour_visits_domains_in_the_order_of_their_numbers_and_sets_ascend_all_the_same() {
        let world = World::in_order(&[2, 0, 1, 2, 0, 1], &[vec![0, 2]]);
        let tour: Vec<u32> = (0..6).filter_map(|stop| world.at_stop(stop)).collect();
        assert_eq!(tour, vec![1, 4, 2, 5, 0, 3]);
        assert_eq!(world.at_stop(6), None);
        assert!((0..6).all(|rank| world.at_stop(world.stop(rank)) == Some(rank)));
        assert_eq!(list(world.members(Group::Outer, 0)), vec![0, 1, 2]);
        assert_eq!((world.seat(3), world.borders()), ((2, 1), &[vec![0, 2]][..]));
        assert_eq!(world.borders_of_stops(), vec![vec![0, 4], vec![0, 2, 4]]);
        assert!(world.has_order() && !World::from_domains(&[0, 0, 1, 1]).has_order());
        assert_ne!(world, World::from_domains(&[2, 0, 1, 2, 0, 1]));
    }

    #[test]
    fn groups_that_divide_nothing_or_overlap_are_put_right() {
        let levels = [vec![], vec![0], vec![0, 2], vec![2], vec![0, 3], vec![0, 1, 2, 3], vec![9]];
        let world = World::in_order(&[0, 1, 2, 3], &levels);
        assert_eq!(world.borders(), &[vec![0, 2], vec![0, 2, 3]]);
    }

    #[test]
    fn a_world_of_nobody_has_no_domain() {
        assert_eq!(World::flat(0).domain_count(), 0);
        assert_eq!(World::domains(&[]), World::flat(0));
    }
}
