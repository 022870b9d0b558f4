//! Where a host is: names from the outermost group that it is in to the innermost one, as `pod1/rack3`.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// The most groups, one within the other, that a host is in.
pub const MOST_LEVELS: usize = 8;

/// The most coordinates in a torus.
pub const MOST_DIMENSIONS: usize = 7;

/// The most bytes of a name.
const LONGEST_NAME: usize = 128;

/// What is written where nobody knows.
const UNKNOWN: &str = "unknown";

/// Names of groups, the outermost first. The last one may be coordinates in a torus, as `2,0,1`. No names: nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location(Vec<String>);

impl Location {
    /// From names, the outermost first; or what is wrong with one of them.
    pub fn of(names: &[&str]) -> Result<Location, String> {
        if names.len() > MOST_LEVELS {
            return Err(format!("{} names are too many: a host is in at most {MOST_LEVELS} groups", names.len()));
        }
        for name in names {
            if name.is_empty() {
                return Err("a name is empty".to_owned());
            }
            if name.len() > LONGEST_NAME {
                return Err(format!("a name has {} bytes, and at most {LONGEST_NAME} are taken", name.len()));
            }
            if let Some(odd) = name.chars().find(|letter| !letter.is_ascii_graphic() || *letter == '/') {
                return Err(format!("'{}' has {odd:?} in it", name.escape_default()));
            }
        }
        Ok(Location(names.iter().map(|name| (*name).to_owned()).collect()))
    }

    /// The names, the outermost first.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether nobody knows.
    pub fn is_unknown(&self) -> bool {
        self.0.is_empty()
    }

    /// The coordinates that the last name is, if it is some: two numbers or more.
    pub fn coordinates(&self) -> Option<Vec<u32>> {
        let name = self.0.last().filter(|name| name.contains(','))?;
        let numbers = name.split(',').map(|number| number.parse().ok()).collect::<Option<Vec<u32>>>()?;
        (numbers.len() <= MOST_DIMENSIONS).then_some(numbers)
    }

    /// What ranks tell each other of it.
    pub fn mark(&self) -> Mark {
        let mut levels = [0; MOST_LEVELS];
        // FNV-1a over all names so far: groups are the same where all names from the outermost one on are.
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let mut hash = 0xcbf2_9ce4_8422_2325;
        for (level, name) in levels.iter_mut().zip(&self.0) {
            hash = name.bytes().chain([b'/']).fold(hash, fold);
            *level = hash.max(1);
        }
        let mut coordinates = [0; MOST_DIMENSIONS];
        let known = self.coordinates().unwrap_or_default();
        coordinates[..known.len()].copy_from_slice(&known);
        Mark::new(levels, coordinates, known.len() as u32)
    }
}

impl FromStr for Location {
    type Err = String;

    /// Reads `pod1/rack3`, or `unknown`.
    fn from_str(text: &str) -> Result<Location, String> {
        let text = text.trim();
        if text == UNKNOWN {
            return Ok(Location::default());
        }
        if text.len() > MOST_LEVELS * (LONGEST_NAME + 1) {
            return Err(format!("{} bytes are too many", text.len()));
        }
        Location::of(&text.split('/').collect::<Vec<_>>())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.pad(UNKNOWN) } else { f.pad(&self.0.join("/")) }
    }
}

/// A location in numbers: equal ones stand for equal names, all that an order needs. Of a fixed size, so that ranks can tell each other,
/// and nothing in it is an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// A number for each group, the outermost first; 0: none, and none further in.
    levels: [u64; MOST_LEVELS],
    coordinates: [u32; MOST_DIMENSIONS],
    /// How many of the coordinates count.
    dimensions: u32,
}

impl Mark {
    /// From what another rank may have told.
    pub fn new(mut levels: [u64; MOST_LEVELS], mut coordinates: [u32; MOST_DIMENSIONS], dimensions: u32) -> Mark {
        let depth = levels.iter().take_while(|level| **level != 0).count();
        levels[depth..].fill(0);
        let dimensions = dimensions.min(MOST_DIMENSIONS as u32);
        coordinates[dimensions as usize..].fill(0);
        Mark { levels, coordinates, dimensions }
    }

    /// The numbers of the groups.
    pub fn levels(&self) -> [u64; MOST_LEVELS] {
        self.levels
    }

    /// The coordinates, with zeros behind, and how many count.
    pub fn coordinates(&self) -> ([u32; MOST_DIMENSIONS], u32) {
        (self.coordinates, self.dimensions)
    }

    /// In how many groups the host is.
    pub(super) fn depth(&self) -> usize {
        self.levels.iter().take_while(|level| **level != 0).count()
    }

    /// The number of the group at that level; 0: none.
    pub(super) fn level(&self, level: usize) -> u64 {
        self.levels.get(level).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["rack1", "pod1/rack3", "fabric/2,0,1", "a/b/c/d/e/f/g/h"] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        assert_eq!(" pod1/rack3 ".parse::<Location>().unwrap().names(), ["pod1", "rack3"]);
        assert_eq!(Location::default().to_string().parse(), Ok(Location::default()));
    }

    #[test]
    fn nonsense_is_refused_with_what_is_wrong_with_it() {
        let wrong = |text: &str| text.parse::<Location>().unwrap_err();
        assert!(wrong("").contains("empty") && wrong("pod1//rack").contains("empty"));
        assert!(wrong("no such thing").contains("' '"));
        assert!(wrong("a/b/c/d/e/f/g/h/i").contains("at most 8"));
        assert!(wrong(&"x".repeat(200)).contains("200 bytes"));
        assert!(wrong("pod\u{e9}").contains("\\u{e9}"));
    }

    #[test]
    fn only_the_last_name_is_coordinates_and_only_if_all_of_it_are_numbers() {
        let of = |text: &str| text.parse::<Location>().unwrap().coordinates();
        assert_eq!(of("fabric/2,0,1"), Some(vec![2, 0, 1]));
        assert_eq!([of("fabric/7"), of("1,2/rack"), of("1,x"), of("1,"), of("1,2,3,4,5,6,7,8")], [const { None }; 5]);
    }

    #[test]
    fn marks_are_equal_where_names_are_and_groups_of_one_name_in_two_pods_are_not() {
        let mark = |text: &str| text.parse::<Location>().unwrap().mark();
        assert_eq!(mark("pod1/rack1"), mark("pod1/rack1"));
        assert_eq!(mark("pod1/rack1").level(0), mark("pod1/rack2").level(0));
        assert_ne!(mark("pod1/rack1").level(1), mark("pod2/rack1").level(1));
        assert_ne!(mark("ab/c").level(1), mark("a/bc").level(1));
        assert_eq!((mark("a/b").depth(), Location::default().mark()), (2, Mark::default()));
    }

    #[test]
    fn a_mark_with_holes_or_too_many_coordinates_is_put_right() {
        let mut levels = [7; MOST_LEVELS];
        levels[2] = 0;
        let mark = Mark::new(levels, [5; MOST_DIMENSIONS], u32::MAX);
        assert_eq!((mark.depth(), mark.level(3), mark.level(99)), (2, 0, 0));
        assert_eq!(mark.coordinates(), ([5; MOST_DIMENSIONS], MOST_DIMENSIONS as u32));
        assert_eq!(Mark::new([0; MOST_LEVELS], [5; MOST_DIMENSIONS], 0), Mark::default());
    }
}
