//! The file of a site.
//!
//! ```text
//! ringtree-site 1
//! # Two racks of a pod, and one of another. Names are yours: the outermost first, at most eight of them.
//! fabric rail-optimised
//! rails 8
//! place pod1/rack1 node[001-016]
//! place pod1/rack2 node[017-031],login3
//! place pod2/rack3 node[033-048]
//! ```
//!
//! In a torus the last name is a host's coordinates, as many for each: `place tower/2,0,1 node17`.

use super::{Fabric, Location, Site, hosts};
use crate::topo::graph::ParseError;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::fmt;

/// More lines than this are refused.
const MAX_LINES: usize = 1 << 16;

/// More hosts than this are.
const MAX_HOSTS: usize = 1 << 17;

/// More rails than this are.
const MAX_RAILS: u32 = 64;

const HEADER: &str = "ringtree-site 1";

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}\nfabric {}", self.fabric)?;
        if self.rails > 0 {
            writeln!(f, "rails {}", self.rails)?;
        }
        for together in self.hosts.chunk_by(|one, next| one.1 == next.1) {
            for part in together.chunks(hosts::MOST_HOSTS) {
                let names: alloc::vec::Vec<&str> = part.iter().map(|(name, _)| &name[..]).collect();
                writeln!(f, "place {} {}", self.places[part[0].1], hosts::compress(&names))?;
            }
        }
        Ok(())
    }
}

impl Site {
    /// Reads a file of a site. Empty lines and lines that begin with `#` are left out.
    pub fn parse(text: &str) -> Result<Site, ParseError> {
        let mut site = Site::default();
        // The line that named each host.
        let mut named = BTreeMap::new();
        let mut headed = false;
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            let fail = |what: String| ParseError { line: line_number, what };
            if number >= MAX_LINES {
                return Err(fail(format!("more than {MAX_LINES} lines")));
            }
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !headed {
                if line.split_ascii_whitespace().ne(HEADER.split(' ')) {
                    return Err(fail(format!("the first line should be '{HEADER}'")));
                }
                headed = true;
                continue;
            }
            site.add(line, line_number, &mut named).map_err(fail)?;
        }
        if !headed {
            let what = format!("the text is empty; it should begin with '{HEADER}'");
            return Err(ParseError { line: 0, what });
        }
        site.check_coordinates(&named)?;
        Ok(site)
    }

    fn add(&mut self, line: &str, number: usize, named: &mut BTreeMap<String, usize>) -> Result<(), String> {
        let (kind, rest) = line.split_once(|letter: char| letter.is_ascii_whitespace()).unwrap_or((line, ""));
        let rest = rest.trim();
        match kind {
            "fabric" => {
                let known = || Fabric::ALL.map(Fabric::name).join(", ");
                let fabric = Fabric::ALL.into_iter().find(|fabric| fabric.name() == rest);
                self.fabric = fabric.ok_or_else(|| format!("'{rest}' is no kind of fabric: {}", known()))?;
            }
            "rails" => {
                let rails = rest.parse().ok().filter(|rails| (1..=MAX_RAILS).contains(rails));
                self.rails =
                    rails.ok_or_else(|| format!("'rails' should be from 1 to {MAX_RAILS}, and is '{rest}'"))?;
            }
            "place" => self.add_place(rest, number, named)?,
            other => return Err(format!("'{other}' is none of fabric, rails, place")),
        }
        Ok(())
    }

    fn add_place(&mut self, rest: &str, number: usize, named: &mut BTreeMap<String, usize>) -> Result<(), String> {
        let (location, lists) = rest
            .split_once(|letter: char| letter.is_ascii_whitespace())
            .ok_or("'place' should be followed by names as pod1/rack3 and a list of hosts as node[001-016]")?;
        let location: Location = location.parse().map_err(|wrong| format!("'{location}': {wrong}"))?;
        if self.places.last() != Some(&location) {
            self.places.push(location);
        }
        let place = self.places.len() - 1;
        for list in lists.split_ascii_whitespace() {
            for host in hosts::expand(list)? {
                if let Some(before) = named.insert(host.clone(), number) {
                    return Err(format!("'{host}' has a place already, in line {before}"));
                }
                if self.hosts.len() == MAX_HOSTS {
                    return Err(format!("more than {MAX_HOSTS} hosts"));
                }
                self.hosts.push((host, place));
            }
        }
        Ok(())
    }

    /// In a torus everybody has coordinates, and as many.
    fn check_coordinates(&self, named: &BTreeMap<String, usize>) -> Result<(), ParseError> {
        if self.fabric != Fabric::Torus {
            return Ok(());
        }
        let dimensions = |location: &Location| location.coordinates().map_or(0, |coordinates| coordinates.len());
        let first = self.places.first().map_or(0, dimensions);
        for (host, location) in self.hosts() {
            if dimensions(location) == 0 || dimensions(location) != first {
                let what = format!(
                    "in a torus the last name is coordinates, as 2,0,1, as many for all, and '{location}' has others"
                );
                return Err(ParseError { line: named.get(host).copied().unwrap_or(0), what });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    const SAMPLE: &str = "ringtree-site 1\n# comment\n\nfabric rail-optimised\nrails 8\nplace pod1/rack1 node[001-016]\n\
        place pod1/rack2 node[017-031],login3 spare\nplace pod2/rack3 node[033-048]\n";

    #[test]
    fn hosts_are_where_the_file_says_and_what_is_written_is_read_back() {
        let site = Site::parse(SAMPLE).unwrap();
        assert_eq!((site.fabric, site.rails, site.hosts().len()), (Fabric::RailOptimised, 8, 49));
        let at = |name: &str| site.find(name).map(ToString::to_string);
        assert_eq!(at("node016").as_deref(), Some("pod1/rack1"));
        assert_eq!(at("login3.example.com").as_deref(), Some("pod1/rack2"));
        assert_eq!((at("node049"), at("node032")), (None, None));
        assert_eq!(Site::parse(&site.to_string()), Ok(site));
    }

    #[test]
    fn a_name_in_full_finds_that_host_alone() {
        let site = Site::parse("ringtree-site 1\nplace a n1.x\nplace b n1.y\nplace c n2").unwrap();
        let at = |name: &str| site.find(name).map(ToString::to_string);
        assert_eq!((at("n1.y").as_deref(), at("n1.z"), at("n1").as_deref()), (Some("b"), None, Some("a")));
        assert_eq!(at("n2.z").as_deref(), Some("c"));
    }

    #[test]
    fn an_error_names_the_line_and_what_was_expected() {
        let fail = |text: &str| Site::parse(text).unwrap_err().to_string();
        let line = |text: &str| fail(&format!("{HEADER}\n{text}"));
        assert!(fail("").contains(HEADER) && fail("place a b").starts_with("line 1:"));
        assert_eq!(line("\nrack r1 node1"), "line 3: 'rack' is none of fabric, rails, place");
        assert!(line("fabric mesh").contains("'mesh'") && line("fabric mesh").contains("torus"));
        assert!(line("rails 0").contains("from 1 to 64"));
        assert!(line("place rack1").contains("node[001-016]"));
        assert!(line("place a//b node1").contains("a name is empty"));
        assert!(line("place a node[1-").contains("don't match"));
        assert_eq!(line("place a n[1-3]\nplace b n2"), "line 3: 'n2' has a place already, in line 2");
        assert!(line("fabric torus\nplace t/1,2 a\nplace t/3 b").starts_with("line 4: in a torus"));
        assert!(line("fabric torus\nplace t/1,2 a\nplace t/1,2,3 b").starts_with("line 4: in a torus"));
    }

    const LINE: &str = "(place|fabric|rails|#)?[ 0-9a-z,/\\[\\]-]{0,60}";

    proptest! {
        #[test]
        fn garbage_never_panics(lines in proptest::collection::vec(LINE, 0..20)) {
            let _ = Site::parse(&format!("{HEADER}\n{}", lines.join("\n")));
        }
    }
}
