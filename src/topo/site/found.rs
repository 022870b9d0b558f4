//! A host's location out of the environment that schedulers give to its processes.

use super::{Location, MOST_LEVELS};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Out of Slurm's SLURM_TOPOLOGY_ADDR and SLURM_TOPOLOGY_ADDR_PATTERN, as `core.leaf2.node12` and `switch.switch.node`: everything but
/// the node. Where a cluster has more switches above each other than [`MOST_LEVELS`], those next to the node count.
pub fn of_slurm(address: &str, pattern: &str) -> Result<Location, String> {
    let kinds: Vec<&str> = pattern.split('.').collect();
    // A node's name may have dots of its own, and comes last.
    let names: Vec<&str> = address.splitn(kinds.len(), '.').collect();
    if names.len() != kinds.len() || kinds.last() != Some(&"node") || kinds.len() > 64 {
        return Err(format!(
            "'{}' is not of the form '{}', which should end with 'node'",
            address.escape_default(),
            pattern.escape_default()
        ));
    }
    let groups = &names[..names.len() - 1];
    Location::of(&groups[groups.len().saturating_sub(MOST_LEVELS)..])
}

/// Out of variables that somebody has set to the names of groups, the outermost first, as the labels of a Kubernetes node. One that is not
/// set, or empty, stands for a group that nobody knows; behind the last that is set there are none.
pub fn of_variables(names: &[&str], variable: impl Fn(&str) -> Option<String>) -> Result<Location, String> {
    let values: Vec<String> = names.iter().map(|name| variable(name).unwrap_or_default()).collect();
    let known = values.iter().rposition(|value| !value.trim().is_empty()).map_or(0, |last| last + 1);
    let groups: Vec<&str> =
        values[..known].iter().map(|value| if value.trim().is_empty() { "?" } else { value.trim() }).collect();
    let culprit = |wrong: String| {
        let which = names.iter().zip(&groups).find(|(_, group)| Location::of(&[group]).is_err());
        which.map_or_else(|| wrong.clone(), |(name, _)| format!("{name}: {wrong}"))
    };
    Location::of(&groups).map_err(culprit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn what_slurm_says_of_a_node_is_its_switches() {
        let of = |address, pattern| of_slurm(address, pattern).map(|location| location.to_string());
        assert_eq!(of("s0.s2.node12", "switch.switch.node").unwrap(), "s0/s2");
        assert_eq!(of("s[0-1].s2.node12.example.com", "switch.switch.node").unwrap(), "s[0-1]/s2");
        assert_eq!(of("b1.node3", "block.node").unwrap(), "b1");
        assert_eq!(of("node12", "node").unwrap(), "unknown");
        assert_eq!(of("a.b.c.d.e.f.g.h.i.n", "s.s.s.s.s.s.s.s.s.node").unwrap(), "b/c/d/e/f/g/h/i");
        for (address, pattern) in [("s0", "switch.node"), ("s0.n1", "switch.switch"), ("", ""), ("s0..n", "s.s.node")] {
            assert!(of(address, pattern).is_err(), "{address} {pattern}");
        }
    }

    #[test]
    fn labels_are_names_in_the_order_that_was_asked_for() {
        let find = |name: &str| match name {
            "REGION" => Some("eu-1".to_string()),
            "LEAF" => Some("leaf7".to_string()),
            "EMPTY" => Some(" ".to_string()),
            "ODD" => Some("a b".to_string()),
            _ => None,
        };
        let of = |names: &[&str]| of_variables(names, find).map(|location| location.to_string());
        assert_eq!(of(&["REGION", "LEAF"]).unwrap(), "eu-1/leaf7");
        assert_eq!(of(&["REGION", "ZONE", "LEAF"]).unwrap(), "eu-1/?/leaf7");
        assert_eq!(of(&["REGION", "ZONE", "EMPTY"]).unwrap(), "eu-1");
        assert_eq!(of(&["ZONE"]).unwrap(), "unknown");
        assert!(of(&["REGION", "ODD"]).unwrap_err().starts_with("ODD: "));
    }
}
