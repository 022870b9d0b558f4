//! Sets of hardware threads, as the kernel writes them: `0-3,8`.

use alloc::vec::Vec;
use core::fmt;

/// Numbers of hardware threads are below this; a list that names more is refused, so that no text makes us allocate much.
pub const MAX_CPUS: u32 = 65_536;

/// A set of hardware threads, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CpuSet(Vec<u32>);

impl CpuSet {
    /// Reads a list as `0-3,8`. Nothing when it makes no sense; an empty text is the empty set.
    pub fn parse(list: &str) -> Option<CpuSet> {
        let mut cpus = Vec::new();
        for part in list.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (first.trim().parse().ok()?, last.trim().parse().ok()?),
                None => (part.trim().parse::<u32>().ok()?, part.trim().parse::<u32>().ok()?),
            };
            if first > last || last >= MAX_CPUS || cpus.len() > MAX_CPUS as usize {
                return None;
            }
            cpus.extend(first..=last);
        }
        Some(cpus.into_iter().collect())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether that one is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// The smallest.
    pub fn first(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// What is in either.
    pub fn union(&self, other: &CpuSet) -> CpuSet {
        self.iter().chain(other.iter()).collect()
    }

    /// Whether all of it is in the other one.
    pub fn is_within(&self, other: &CpuSet) -> bool {
        self.iter().all(|cpu| other.contains(cpu))
    }

    /// What is in both.
    pub fn intersection(&self, other: &CpuSet) -> CpuSet {
        self.iter().filter(|&cpu| other.contains(cpu)).collect()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> CpuSet {
        let mut cpus: Vec<u32> = cpus.into_iter().filter(|&cpu| cpu < MAX_CPUS).collect();
        cpus.sort_unstable();
        cpus.dedup();
        CpuSet(cpus)
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = 0;
        while at < self.0.len() {
            let first = self.0[at];
            while at + 1 < self.0.len() && self.0[at + 1] == self.0[at] + 1 {
                at += 1;
            }
            let comma = if first == self.0[0] { "" } else { "," };
            match self.0[at] - first {
                0 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{}", self.0[at])?,
            }
            at += 1;
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
        assert_eq!((b.first(), b.len(), b.contains(6)), (Some(2), 4, false));
    }
}
