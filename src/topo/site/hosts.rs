//! Lists of hosts as Slurm writes them: `node[001-016,020],login3`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// A list names at most so many hosts: a line of a site is a rack or so.
pub const MOST_HOSTS: usize = 4096;

/// The most bytes of a host's name (a domain name has at most 253).
const LONGEST_NAME: usize = 253;

/// The hosts of a list, in its order; or what is wrong with it.
pub fn expand(list: &str) -> Result<Vec<String>, String> {
    let mut hosts = Vec::new();
    for entry in entries(list)? {
        if entry.is_empty() {
            return Err(format!("'{list}' has an empty name in it"));
        }
        let names = names(entry)?;
        if hosts.len() + names.len() > MOST_HOSTS {
            return Err(format!("more than {MOST_HOSTS} hosts in one list"));
        }
        hosts.extend(names);
    }
    Ok(hosts)
}

/// What is between the commas outside of brackets.
fn entries(list: &str) -> Result<Vec<&str>, String> {
    let (mut inside, mut start, mut entries) = (false, 0, Vec::new());
    for (at, letter) in list.char_indices() {
        match letter {
            '[' if !inside => inside = true,
            ']' if inside => inside = false,
            '[' | ']' => return Err(format!("'{list}' has brackets that don't match")),
            ',' if !inside => {
                entries.push(&list[start..at]);
                start = at + 1;
            }
            _ if letter.is_ascii_graphic() && letter != '/' => {}
            _ => return Err(format!("'{}' has {letter:?} in it", list.escape_default())),
        }
    }
    if inside {
        return Err(format!("'{list}' has brackets that don't match"));
    }
    entries.push(&list[start..]);
    Ok(entries)
}

/// The hosts of one entry, whose brackets match: each pair of brackets multiplies them.
fn names(entry: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::from([String::new()]);
    let mut rest = entry;
    while !rest.is_empty() {
        let (literal, brackets) = rest.split_once('[').unwrap_or((rest, ""));
        for name in &mut names {
            name.push_str(literal);
            if name.len() > LONGEST_NAME {
                return Err(format!("a host's name has at most {LONGEST_NAME} bytes"));
            }
        }
        if brackets.is_empty() {
            break;
        }
        let (ranges, behind) = brackets.split_once(']').unwrap_or((brackets, ""));
        let numbers = numbers(ranges)?;
        if names.len() * numbers.len() > MOST_HOSTS {
            return Err(format!("more than {MOST_HOSTS} hosts in one list"));
        }
        let with = |name: &String| numbers.iter().map(|number| format!("{name}{number}")).collect::<Vec<_>>();
        names = names.iter().flat_map(with).collect();
        rest = behind;
    }
    Ok(names)
}

/// The numbers of `001-016,020`, each as wide as it is written.
fn numbers(ranges: &str) -> Result<Vec<String>, String> {
    let mut numbers = Vec::new();
    for range in ranges.split(',') {
        let wrong = || format!("'[{ranges}]' should be numbers and ranges of them, as [001-016,020]");
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let digits =
            |text: &str| !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(first) || !digits(last) {
            return Err(wrong());
        }
        let (from, to): (u64, u64) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if from > to {
            return Err(format!("'[{ranges}]' has a range that ends before it begins"));
        }
        if to - from >= (MOST_HOSTS - numbers.len()) as u64 {
            return Err(format!("more than {MOST_HOSTS} hosts in one list"));
        }
        let width = first.len();
        numbers.extend((from..=to).map(|number| format!("{number:0width$}")));
    }
    Ok(numbers)
}

/// The list of those hosts, in their order, with ranges where numbers follow each other.
pub fn compress(hosts: &[&str]) -> String {
    let mut list = String::new();
    let mut at = 0;
    while at < hosts.len() {
        let many = hosts[at..].windows(2).take_while(|pair| follows(pair[0], pair[1])).count() + 1;
        let comma = if at == 0 { "" } else { "," };
        let (prefix, first) = split(hosts[at]);
        let (_, last) = split(hosts[at + many - 1]);
        let _ = match many {
            1 => write!(list, "{comma}{}", hosts[at]),
            _ => write!(list, "{comma}{prefix}[{first}-{last}]"),
        };
        at += many;
    }
    list
}

/// A name's digits at its end, as many as are read as a number, and what is before them.
fn split(name: &str) -> (&str, &str) {
    let digits = name.bytes().rev().take(18).take_while(u8::is_ascii_digit).count();
    name.split_at(name.len() - digits)
}

/// Whether the second name is the first with the next number, as wide.
fn follows(one: &str, next: &str) -> bool {
    let ((prefix, number), (other, after)) = (split(one), split(next));
    let (Ok(before), Ok(now)) = (number.parse::<u64>(), after.parse::<u64>()) else { return false };
    // 9 is followed by 10, and 09 is; 9 by 010 is not.
    let alike = number.len() == after.len() || number.len() < after.len() && !after.starts_with('0');
    prefix == other && now == before + 1 && alike
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_expand_as_slurm_means_them() {
        let list = |text: &str| expand(text).unwrap().join(" ");
        assert_eq!(list("node[001-003,010],login3"), "node001 node002 node003 node010 login3");
        assert_eq!(list("n[9-11]"), "n9 n10 n11");
        assert_eq!(list("r[1-2]n[0-1].site"), "r1n0.site r1n1.site r2n0.site r2n1.site");
        assert_eq!(list("alone"), "alone");
    }

    #[test]
    fn nonsense_is_refused_and_no_list_is_long() {
        let wrong = |text: &str| expand(text).unwrap_err();
        assert!(wrong("").contains("empty") && wrong("a,,b").contains("empty"));
        for text in ["n[1-2", "n]1[", "n[[1]]"] {
            assert!(wrong(text).contains("don't match"), "{text}");
        }
        for text in ["n[]", "n[a]", "n[1-]", "n[1-2-3]", "n[-1]", "n[9999999999999999999]"] {
            assert!(wrong(text).contains("should be numbers"), "{text}");
        }
        assert!(wrong("n[5-3]").contains("before it begins"));
        for text in ["n[0-4096]", "n[1-100]x[1-100]", "n[0-999999999999999999]", "a[1-4000],b[1-4000]"] {
            assert!(wrong(text).contains("more than 4096"), "{text}");
        }
        assert!(wrong(&"x".repeat(300)).contains("at most 253"));
        assert!(wrong("a/b").contains("'/'"));
    }

    #[test]
    fn what_follows_each_other_is_written_as_a_range() {
        assert_eq!(compress(&["n08", "n09", "n10", "n12", "x"]), "n[08-10],n12,x");
        assert_eq!(compress(&["n8", "n9", "n10"]), "n[8-10]");
        assert_eq!(compress(&["n09", "n010", "7", "8"]), "n09,n010,[7-8]");
    }

    proptest! {
        #[test]
        fn a_list_survives_being_written_and_read(hosts in proptest::collection::vec("[an][0-9.]{0,3}[0-9]{0,3}", 1..30)) {
            let names: Vec<&str> = hosts.iter().map(|host| &host[..]).collect();
            prop_assert_eq!(expand(&compress(&names)), Ok(hosts.clone()));
        }
    }
}
