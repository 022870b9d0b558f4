//! Sets of hardware threads, as the kernel writes them: `0-3,8`.

use alloc::vec::Vec;
use core::fmt;

/// Numbers of hardware threads are below this; a list that names more is refused.
pub const MAX_CPUS: u32 = 65_536;

/// A set of hardware threads, by number. It takes memory for each run of numbers, not for each number: seven letters name 65 536 of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CpuSet(Vec<Run>);

/// From its first to its last.
type Run = (u32, u32);

impl CpuSet {
    /// Reads a list as `0-3,8`. Nothing when it makes no sense; an empty text is the empty set.
    pub fn parse(list: &str) -> Option<CpuSet> {
        let mut runs = Vec::new();
        for part in list.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (first.trim().parse().ok()?, last.trim().parse().ok()?),
                None => (part.trim().parse::<u32>().ok()?, part.trim().parse::<u32>().ok()?),
            };
            if first > last || last >= MAX_CPUS {
                return None;
            }
            runs.push((first, last));
        }
        Some(CpuSet::of_runs(runs))
    }

    /// Runs in any order, which may overlap or touch.
    fn of_runs(mut runs: Vec<Run>) -> CpuSet {
        runs.sort_unstable();
        let mut merged: Vec<Run> = Vec::new();
        for (first, last) in runs {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        CpuSet(merged)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.iter().map(|(first, last)| (last - first + 1) as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether that one is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= cpu);
        after > 0 && cpu <= self.0[after - 1].1
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// The smallest.
    pub fn first(&self) -> Option<u32> {
        self.0.first().map(|(first, _)| *first)
    }

    /// The largest.
    pub fn last(&self) -> Option<u32> {
        self.0.last().map(|(_, last)| *last)
    }

    /// What is in either.
    pub fn union(&self, other: &CpuSet) -> CpuSet {
        CpuSet::of_runs(self.0.iter().chain(&other.0).copied().collect())
    }

    /// Whether all of it is in the other one.
    pub fn is_within(&self, other: &CpuSet) -> bool {
        self.intersection(other) == *self
    }

    /// What is in both.
    pub fn intersection(&self, other: &CpuSet) -> CpuSet {
        let (mut runs, mut a, mut b) = (Vec::new(), 0, 0);
        while let (Some(one), Some(two)) = (self.0.get(a), other.0.get(b)) {
            let (first, last) = (one.0.max(two.0), one.1.min(two.1));
            if first <= last {
                runs.push((first, last));
            }
            // Whichever ends first can't meet anything else.
            if one.1 < two.1 { a += 1 } else { b += 1 }
        }
        CpuSet(runs)
    }

    /// A number that is in two of the sets, with the places of both.
    pub(super) fn shared<'a>(sets: impl Iterator<Item = &'a CpuSet>) -> Option<(u32, usize, usize)> {
        let numbered = sets.enumerate().flat_map(|(place, set)| set.0.iter().map(move |run| (*run, place)));
        let mut runs: Vec<(Run, usize)> = numbered.collect();
        runs.sort_unstable();
        // The run so far that ends last: if the next one meets any, it meets that.
        let mut reach: Option<(Run, usize)> = None;
        for (run, place) in runs {
            if let Some((before, other)) = reach.filter(|(before, _)| run.0 <= before.1) {
                return Some((run.0.max(before.0), other, place));
            }
            reach = Some((run, place));
        }
        None
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> CpuSet {
        let mut runs: Vec<Run> = Vec::new();
        for cpu in cpus.into_iter().filter(|&cpu| cpu < MAX_CPUS) {
            match runs.last_mut() {
                Some(before) if cpu == before.1 + 1 => before.1 = cpu,
                _ => runs.push((cpu, cpu)),
            }
        }
        CpuSet::of_runs(runs)
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_back_in_their_shortest_form() {
        for (given, written) in [("0-3,8\n", "0-3,8"), ("8,1,0,2,3", "0-3,8"), ("5", "5"), ("", ""), ("1-1,2-4", "1-4")]
        {
            assert_eq!(CpuSet::parse(given).unwrap().to_string(), written, "{given:?}");
        }
    }

    #[test]
    fn nonsense_is_refused_without_being_expanded() {
        for nonsense in ["a", "3-1", "0-99999999", "1,,x", "-", "1-", "4294967296", "0-3:2"] {
            assert_eq!(CpuSet::parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn sets_meet_and_join() {
        let (a, b) = (CpuSet::parse("0-3").unwrap(), CpuSet::parse("2-5").unwrap());
        assert_eq!(a.intersection(&b).to_string(), "2-3");
        assert_eq!(a.union(&b).to_string(), "0-5");
        assert!(a.intersection(&b).is_within(&a) && !a.is_within(&b));
        assert_eq!((b.first(), b.last(), b.len(), b.contains(6)), (Some(2), Some(5), 4, false));
        let (odd, wide) = (CpuSet::parse("1,3,5,7-9").unwrap(), CpuSet::parse("0-4,8-65535").unwrap());
        assert_eq!(odd.intersection(&wide).to_string(), "1,3,8-9");
        assert_eq!(odd.union(&wide).to_string(), "0-5,7-65535");
        assert_eq!((0..12).filter(|cpu| odd.contains(*cpu)).collect::<Vec<_>>(), [1, 3, 5, 7, 8, 9]);
    }

    #[test]
    fn a_number_in_two_sets_is_found_wherever_they_are() {
        let sets = |lists: &[&str]| lists.iter().map(|list| CpuSet::parse(list).unwrap()).collect::<Vec<_>>();
        assert_eq!(CpuSet::shared(sets(&["0-3", "8-9", "4-7"]).iter()), None);
        assert_eq!(CpuSet::shared(sets(&["5-6", "0-3", "3"]).iter()), Some((3, 1, 2)));
        assert_eq!(CpuSet::shared(sets(&["0-9", "20", "12,4"]).iter()), Some((4, 0, 2)));
    }
}
