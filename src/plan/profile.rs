//! Profiles: costs as text, which `ringtree tune` writes and later runs read.
//!
//! ```text
//!   ringtree-profile 1
//!   # measured on …
//!   memory.latency_ns 60
//!   memory.copy_ps 100
//! ```
//!
//! One constant a line; what is not there is as built in. `#` begins a comment. The reader takes nothing that it does not understand.

use super::Costs;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::{self, Write};

/// The first line.
const VERSION: &str = "ringtree-profile 1";

/// The longest profile, in bytes. All constants with a comment each take a tenth of it.
pub const MOST_PROFILE_BYTES: usize = 64 << 10;

/// Why a text is no profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileError {
    /// The line, from 1; 0: the whole text.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.why),
            line => write!(f, "line {line}: {}", self.why),
        }
    }
}

impl core::error::Error for ProfileError {}

impl Costs {
    /// Reads a profile.
    pub fn from_profile(text: &str) -> Result<Costs, ProfileError> {
        let fail = |line, why| Err(ProfileError { line, why });
        if text.len() > MOST_PROFILE_BYTES {
            return fail(0, format!("it has {} bytes, a profile has at most {MOST_PROFILE_BYTES}", text.len()));
        }
        let mut costs = Costs::default();
        let mut seen = BTreeSet::new();
        let mut begun = false;
        for (place, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            match (begun, line) {
                (_, "") => {}
                (false, VERSION) => begun = true,
                (false, other) => {
                    let other = shown(other);
                    return fail(place + 1, format!("a profile begins with '{VERSION}', this is '{other}'"));
                }
                (true, line) => {
                    let name = costs.take(line).map_err(|why| ProfileError { line: place + 1, why })?;
                    if !seen.insert(name) {
                        return fail(place + 1, format!("{} is there twice", shown(name)));
                    }
                }
            }
        }
        if begun { Ok(costs) } else { fail(0, format!("a profile begins with '{VERSION}', and this has no line")) }
    }

    /// One line of a profile: sets what it says, and returns the constant's name.
    fn take<'l>(&mut self, line: &'l str) -> Result<&'l str, String> {
        let mut words = line.split_whitespace();
        let (Some(name), Some(text), None) = (words.next(), words.next(), words.next()) else {
            return Err(format!("'{}' is not a name and a number, as 'memory.copy_ps 100'", shown(line)));
        };
        let found = self
            .constants()
            .find(|constant| name.split_once('.').is_some_and(|names| names == (constant.class, constant.quantity)));
        let Some(constant) = found else {
            return Err(format!("there is no constant '{}'; `ringtree tune` writes all that there are", shown(name)));
        };
        let (least, most) = constant.limits;
        match text.parse::<u64>().ok().filter(|value| self.set(constant.class, constant.quantity, *value)) {
            Some(_) => Ok(name),
            None => Err(format!("{name} is '{}', it must be a whole number from {least} to {most}", shown(text))),
        }
    }

    /// The profile of these costs. Each line of `comment` becomes a comment.
    pub fn to_profile(&self, comment: &str) -> String {
        let mut text = String::from(VERSION) + "\n";
        for line in comment.lines() {
            let _ = writeln!(text, "# {line}");
        }
        for constant in self.constants() {
            let _ = writeln!(text, "{}.{} {}", constant.class, constant.quantity, constant.value);
        }
        text
    }
}

/// Of what somebody wrote: enough to find it by.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_default).collect::<String>().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut costs = Costs::default();
        assert!(costs.set("loopback", "sent_ps", 333) && costs.set("memory", "turn_ns", 777));
        let text = costs.to_profile("measured on a host\nat some time");
        assert!(text.contains("\n# at some time\n") && text.contains("\nloopback.sent_ps 333\n"), "{text}");
        assert_eq!(Costs::from_profile(&text), Ok(costs));
    }

    #[test]
    fn what_is_not_said_is_as_built_in() {
        let costs = Costs::from_profile("# mine\n\nringtree-profile 1\n  pair.copy_ps\t20 # as measured\n").unwrap();
        assert_ne!(costs, Costs::default());
        assert!(costs.constants().zip(Costs::built_in().constants()).filter(|(a, b)| a != b).count() == 1);
    }

    #[test]
    fn nonsense_is_refused_with_its_line_and_the_reason() {
        for (lines, expected) in [
            ("", "has no line"),
            (
                "ringtree-profile 2\n",
                "line 1: a profile begins with 'ringtree-profile 1', this is 'ringtree-profile 2'",
            ),
            ("memory.copy_ps 1\n", "line 1: a profile begins"),
            (
                "ringtree-profile 1\nmemory.copy_ps 0\n",
                "line 2: memory.copy_ps is '0', it must be a whole number from 1",
            ),
            ("ringtree-profile 1\n\npair.latency_ns 2000000000\n", "line 3: pair.latency_ns is '2000000000'"),
            ("ringtree-profile 1\npair.latency_ns -1\n", "line 2: pair.latency_ns is '-1'"),
            ("ringtree-profile 1\npair.latency_ns 1.5\n", "line 2: pair.latency_ns is '1.5'"),
            ("ringtree-profile 1\npair.latency_ns\n", "line 2: 'pair.latency_ns' is not a name and a number"),
            ("ringtree-profile 1\npair.latency_ns 1 2\n", "is not a name and a number"),
            ("ringtree-profile 1\nmemory.post_ns 5\n", "line 2: there is no constant 'memory.post_ns'"),
            ("ringtree-profile 1\nnvlink.copy_ps 5\n", "line 2: there is no constant 'nvlink.copy_ps'"),
            ("ringtree-profile 1\npair.copy_ps 5\npair.copy_ps 5\n", "line 3: pair.copy_ps is there twice"),
            ("ringtree-profile 1\nringtree-profile 1\n", "line 2: there is no constant 'ringtree-profile'"),
        ] {
            let message = Costs::from_profile(lines).unwrap_err().to_string();
            assert!(message.contains(expected), "{lines:?}: {message}");
        }
        let long = "# x\n".repeat(MOST_PROFILE_BYTES);
        assert!(Costs::from_profile(&long).unwrap_err().to_string().contains("at most 65536"));
    }
}
