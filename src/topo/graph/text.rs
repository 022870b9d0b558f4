//! The text form of a host: one line a thing, in the order of its index, so that a line can be read without the others.
//!
//! ```text
//! ringtree-host 1
//! name node17
//! package 0 cpus 0-1
//! node 0 memory 25275518976 distances 10 cpus 0-1
//! cache 0 level 3 bytes 33554432 cpus 0-1
//! core 0 package 0 node 0 cache 0 cpus 0
//! ```

use super::{Cache, Core, CpuSet, Host, Node, Package, devices_text};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// More lines than this are refused.
const MAX_LINES: usize = 1 << 16;

/// What a line may tell of.
const KINDS: &str = "name, package, node, cache, core, processor, pci, gpu, nic, net";

/// Why a text is not a host, in this form or another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, counted from 1; 0 for the whole.
    pub line: usize,
    /// What is wrong and what was expected.
    pub what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl core::error::Error for ParseError {}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ringtree-host 1")?;
        if !self.name.is_empty() {
            writeln!(f, "name {}", self.name)?;
        }
        for package in &self.packages {
            writeln!(f, "package {} cpus {}", package.id, package.cpus)?;
        }
        for node in &self.nodes {
            let distances: Vec<String> = node.distances.iter().map(u32::to_string).collect();
            // A line is words: an empty list in its middle needs one.
            let distances = if distances.is_empty() { "-".to_string() } else { distances.join(",") };
            writeln!(f, "node {} memory {} distances {distances} cpus {}", node.id, node.memory, node.cpus)?;
        }
        for (index, cache) in self.caches.iter().enumerate() {
            writeln!(f, "cache {index} level {} bytes {} cpus {}", cache.level, cache.bytes, cache.cpus)?;
        }
        for (index, core) in self.cores.iter().enumerate() {
            let Core { package, node, cache, cpus } = core;
            writeln!(f, "core {index} package {package} node {node} cache {cache} cpus {cpus}")?;
        }
        devices_text::write(self, f)
    }
}

/// The words of one line: a kind, a number, then pairs of key and value.
pub(super) struct Line<'a> {
    pub(super) words: Vec<&'a str>,
}

impl<'a> Line<'a> {
    pub(super) fn value(&self, key: &str) -> Result<&'a str, String> {
        let at = self.words.iter().skip(2).step_by(2).position(|word| *word == key);
        let at = at.ok_or_else(|| format!("'{key}' is missing"))?;
        // An empty value is written as nothing at all, which only the last key of a line can have.
        Ok(self.words.get(2 + 2 * at + 1).copied().unwrap_or(""))
    }

    pub(super) fn number<T: core::str::FromStr>(&self, key: &str) -> Result<T, String> {
        let value = self.value(key)?;
        value.parse().map_err(|_| format!("'{key}' should be a number in range, and is '{value}'"))
    }

    fn cpus(&self) -> Result<CpuSet, String> {
        let value = self.value("cpus")?;
        CpuSet::parse(value).ok_or_else(|| format!("'cpus' should be a list as 0-3,8, and is '{value}'"))
    }

    fn id(&self) -> Result<u32, String> {
        let word = self.words.get(1).copied().unwrap_or("");
        word.parse().map_err(|_| format!("a number should follow '{}', and '{word}' does", self.words[0]))
    }

    pub(super) fn index(&self, expected: usize) -> Result<(), String> {
        let id = self.id()? as usize;
        if id == expected { Ok(()) } else { Err(format!("number {id} where {expected} is next")) }
    }
}

impl Host {
    /// Reads what [`Host`]'s `Display` wrote. Empty lines and lines that begin with `#` are left out.
    pub fn parse(text: &str) -> Result<Host, ParseError> {
        let mut host = Host::default();
        let mut headed = false;
        for (number, line) in text.lines().enumerate() {
            let fail = |what: String| ParseError { line: number + 1, what };
            if number >= MAX_LINES {
                return Err(fail(format!("more than {MAX_LINES} lines")));
            }
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words.first() {
                None => continue,
                Some(word) if word.starts_with('#') => continue,
                Some(_) if !headed => {
                    if words != ["ringtree-host", "1"] {
                        return Err(fail("the first line should be 'ringtree-host 1'".into()));
                    }
                    headed = true;
                }
                Some(_) => host.add(&Line { words }).map_err(fail)?,
            }
        }
        if !headed {
            return Err(ParseError {
                line: 0,
                what: "the text is empty; it should begin with 'ringtree-host 1'".into(),
            });
        }
        host.validate().map_err(|what| ParseError { line: 0, what })?;
        Ok(host)
    }

    fn add(&mut self, line: &Line<'_>) -> Result<(), String> {
        match line.words[0] {
            "name" => self.name = line.words.get(1).copied().unwrap_or("").to_string(),
            "package" => self.packages.push(Package { id: line.id()?, cpus: line.cpus()? }),
            "node" => {
                let list = line.value("distances")?.split(',').filter(|word| *word != "-");
                let distances: Result<Vec<u32>, _> = list.map(str::parse).collect();
                let distances = distances.map_err(|_| "'distances' should be numbers with commas".to_string())?;
                self.nodes.push(Node { id: line.id()?, cpus: line.cpus()?, memory: line.number("memory")?, distances });
            }
            "cache" => {
                line.index(self.caches.len())?;
                let (level, bytes) = (line.number("level")?, line.number("bytes")?);
                self.caches.push(Cache { level, bytes, cpus: line.cpus()? });
            }
            "core" => {
                line.index(self.cores.len())?;
                let (package, node, cache) = (line.number("package")?, line.number("node")?, line.number("cache")?);
                self.cores.push(Core { cpus: line.cpus()?, package, node, cache });
            }
            _ if devices_text::add(self, line)? => {}
            other => return Err(format!("'{other}' is none of {KINDS}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::two_sockets;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_survives_being_written_and_read() {
        let host = two_sockets();
        assert_eq!(Host::parse(&host.to_string()), Ok(host));
    }

    #[test]
    fn unknown_distances_and_memory_without_cpus_survive_too() {
        let mut host = two_sockets();
        host.nodes.push(Node { id: 7, memory: 1 << 40, ..Node::default() });
        assert_eq!(Host::parse(&host.to_string()), Ok(host));
    }

    #[test]
    fn an_error_names_the_line_and_what_was_expected() {
        let fail = |text: &str| Host::parse(text).unwrap_err().to_string();
        assert!(fail("").contains("ringtree-host 1"));
        assert!(fail("hello").starts_with("line 1:"));
        assert_eq!(fail("ringtree-host 1\n\nfan 0"), format!("line 3: 'fan' is none of {KINDS}"));
        assert!(fail("ringtree-host 1\npackage x cpus 0").contains("'x'"));
        assert!(fail("ringtree-host 1\ncache 1 level 3 bytes 5 cpus 0").contains("where 0 is next"));
        assert!(fail("ringtree-host 1\ncore 0 package 0 node 0 cache 0 cpus 0").contains("names package 0 of 0"));
    }

    const LINE: &str = "(core|cache|node|package|name|pci|gpu|nic|net|processor)?[ 0-9a-z,:./*-]{0,60}";

    proptest! {
        #[test]
        fn garbage_never_panics(lines in proptest::collection::vec(LINE, 0..20)) {
            let _ = Host::parse(&format!("ringtree-host 1\n{}", lines.join("\n")));
        }
    }
}
