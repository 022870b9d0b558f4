//! Which ranks are near each other.
//!
//! ```text
//!                place 0   place 1   place 2
//!   domain 0       0         1         2         an inner group is a row,
//!   domain 1       3         4                   an outer group (a rail) is a column:
//!   domain 2       5         6         7         {0,3,5}, {1,4,6} and {2,7}
//! ```

use super::Group;
use alloc::vec::Vec;
use core::slice;

/// The ranks of a communicator and the domains (caches, NUMA nodes, hosts) that they share.
///
/// Two worlds are equal when they divide the same ranks into the same sets: domains are numbered in the order of their lowest rank.
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
    /// Place of each rank among those of its own place.
    rail_place: Vec<u32>,
    /// The ranks of domain 0, then those of domain 1, and so on; ascending in each.
    by_domain: Vec<u32>,
    domain_starts: Vec<u32>,
    /// The ranks of place 0, then those of place 1, and so on; ascending in each.
    by_place: Vec<u32>,
    place_starts: Vec<u32>,
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

    /// Any division: the domain of each rank. The numbers are names only.
    pub fn from_domains(domain_of: &[u32]) -> World {
        let size = domain_of.len() as u32;
        let mut ranks: Vec<u32> = (0..size).collect();
        ranks.sort_by_key(|&rank| (domain_of[rank as usize], rank));
        let mut domains: Vec<&[u32]> =
            ranks.chunk_by(|&a, &b| domain_of[a as usize] == domain_of[b as usize]).collect();
        domains.sort_by_key(|members| members[0]);
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
        let mut rail_place = alloc::vec![0; size as usize];
        let mut place_starts = alloc::vec![0];
        for column in by_place.chunk_by(|&a, &b| seat_of[a as usize].1 == seat_of[b as usize].1) {
            for (place, &rank) in column.iter().enumerate() {
                rail_place[rank as usize] = place as u32;
            }
            place_starts.push(place_starts[place_starts.len() - 1] + column.len() as u32);
        }
        World { size, rows: Some(Rows { seat_of, rail_place, by_domain, domain_starts, by_place, place_starts }) }
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

    /// The place of that rank in its outer group.
    pub(super) fn rail_place(&self, rank: u32) -> u32 {
        self.rows.as_ref().and_then(|rows| rows.rail_place.get(rank as usize).copied()).unwrap_or(0)
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
    fn a_world_of_nobody_has_no_domain() {
        assert_eq!(World::flat(0).domain_count(), 0);
        assert_eq!(World::domains(&[]), World::flat(0));
    }
}
