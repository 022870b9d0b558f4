//! Which ranks are near each other, where somebody says so.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// The domains of a communicator's ranks: ranks of one domain share a cache, or the memory of a NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Domains {
    /// What the processors say that each rank is bound to. Threads of one process are in one domain.
    #[default]
    Auto,
    /// All ranks in one domain.
    Flat,
    /// Domains of so many consecutive ranks.
    Sizes(Vec<u32>),
}

impl Domains {
    /// How many ranks the sizes are for; none where no sizes are given.
    fn ranks(&self) -> Option<u64> {
        match self {
            Domains::Sizes(sizes) => Some(sizes.iter().copied().map(u64::from).sum()),
            Domains::Auto | Domains::Flat => None,
        }
    }

    /// Refuses sizes that are not those of so many ranks.
    pub(crate) fn check(&self, ranks: u32) -> Result<()> {
        let why = match self.ranks() {
            Some(sum) if sum != u64::from(ranks) => format!("these are {sum} ranks, and there are {ranks}"),
            Some(_) if matches!(self, Domains::Sizes(sizes) if sizes.contains(&0)) => "no domain has 0 ranks".into(),
            _ => return Ok(()),
        };
        Err(Error::Choice {
            what: format!("RINGTREE_DOMAINS (or the same setting in code) is '{self}': {why}"),
            advice: format!("Give sizes that add up to {ranks}, or flat, or auto"),
        })
    }

    /// A number that two ranks have in common when they ask for the same (FNV-1a of its text).
    pub(crate) fn digest(&self) -> u64 {
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.to_string().bytes().fold(0xcbf2_9ce4_8422_2325, fold)
    }
}

impl fmt::Display for Domains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domains::Auto => f.pad("auto"),
            Domains::Flat => f.pad("flat"),
            Domains::Sizes(sizes) => f.pad(&sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        }
    }
}

impl FromStr for Domains {
    type Err = Error;

    fn from_str(text: &str) -> Result<Domains> {
        let size = |size: &str| size.trim().parse().ok().filter(|size| *size > 0);
        let sizes = || text.split(',').map(size).collect::<Option<Vec<u32>>>();
        match text.trim() {
            "auto" => Ok(Domains::Auto),
            "flat" => Ok(Domains::Flat),
            _ => sizes().map(Domains::Sizes).ok_or_else(|| Error::Choice {
                what: format!("RINGTREE_DOMAINS is '{text}'"),
                advice: "Set it to auto, flat, or the sizes of the domains, as 4,4".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["auto", "flat", "8", "4,4", "1,2,3"] {
            assert_eq!(text.parse::<Domains>().unwrap().to_string(), text);
        }
        assert_eq!(" 4, 4 ".parse::<Domains>().unwrap(), Domains::Sizes(vec![4, 4]));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in ["", "4,", "4,0", "-1", "4;4", "both", "99999999999"] {
            let message = text.parse::<Domains>().unwrap_err().to_string();
            assert!(message.contains("RINGTREE_DOMAINS") && message.contains("4,4"), "{text}: {message}");
        }
    }

    #[test]
    fn sizes_must_be_those_of_all_ranks() {
        let domains = Domains::Sizes(vec![4, 4]);
        assert!(domains.check(8).is_ok() && Domains::Auto.check(3).is_ok());
        let message = domains.check(6).unwrap_err().to_string();
        assert!(message.contains("'4,4'") && message.contains("8 ranks, and there are 6"), "{message}");
        assert!(Domains::Sizes(vec![4, 0]).check(4).is_err());
        assert!(Domains::Sizes(vec![u32::MAX, u32::MAX, 10]).check(8).is_err());
    }

    #[test]
    fn settings_that_differ_have_different_numbers() {
        let all = ["auto", "flat", "4,4", "44", "4,4,4", "2,6"].map(|text| text.parse::<Domains>().unwrap().digest());
        assert!(all.iter().enumerate().all(|(place, one)| !all[..place].contains(one)));
    }
}
