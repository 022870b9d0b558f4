//! Where a rank lives: the last-level cache and the NUMA node that its processors are in. A few files of one processor are read, not the
//! whole host: every rank looks at its start.

use super::host::last_level;
use super::read::Tree;
use crate::topo::graph::CpuSet;
use std::path::Path;

/// Where a set of processors lies. Caches and nodes are known by their lowest processor, which all ranks of a host see alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// The last-level cache that all of them share; none where they lie in several, or where caches can't be seen.
    pub cache: Option<u32>,
    /// The NUMA node that has all of them; none where they lie in several, or where nodes can't be seen.
    pub node: Option<u32>,
}

/// Where these processors lie on this machine, or in a tree of files laid out like one.
pub fn home(root: &Path, cpus: &CpuSet) -> Home {
    let tree = Tree::at(root);
    let Some(first) = cpus.first() else { return Home::default() };
    let whole = |domain: CpuSet| if cpus.is_within(&domain) { domain.first() } else { None };
    Home {
        cache: last_level(&tree, first).and_then(|cache| whole(cache.cpus)),
        node: node_of(&tree, first).and_then(whole),
    }
}

/// The processors of that processor's node.
fn node_of(tree: &Tree, cpu: u32) -> Option<CpuSet> {
    let names = tree.names(&format!("sys/devices/system/cpu/cpu{cpu}"));
    let is_node = |name: &&String| name.strip_prefix("node").is_some_and(|id| id.parse::<u32>().is_ok());
    let list = tree.peek(&format!("sys/devices/system/node/{}/cpulist", names.iter().find(is_node)?))?;
    CpuSet::parse(&list).filter(|set| set.contains(cpu))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Fake;
    use super::*;

    fn lives(fake: &Fake, cpus: &str) -> (Option<u32>, Option<u32>) {
        let Home { cache, node } = fake.home(&CpuSet::parse(cpus).unwrap());
        (cache, node)
    }

    #[test]
    fn processors_of_one_cache_live_there_and_others_in_their_node() {
        let fake = Fake::new("home");
        fake.processors();
        for cpu in 0..8 {
            fake.file(&format!("sys/devices/system/cpu/cpu{cpu}/node0/cpulist"), "0-7\n");
        }
        assert_eq!(lives(&fake, "1"), (Some(0), Some(0)));
        assert_eq!(lives(&fake, "0-1,4"), (Some(0), Some(0)));
        assert_eq!(lives(&fake, "2,7"), (Some(2), Some(0)));
        assert_eq!(lives(&fake, "0-2"), (None, Some(0)));
        assert_eq!(lives(&fake, "0-8"), (None, None));
    }

    #[test]
    fn what_cannot_be_seen_is_not_known() {
        let fake = Fake::new("homeless");
        assert_eq!(lives(&fake, "0"), (None, None));
        assert_eq!(lives(&fake, ""), (None, None));
        fake.processors();
        assert_eq!(lives(&fake, "0"), (Some(0), None));
        fake.file("sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list", "nonsense\n");
        assert_eq!(lives(&fake, "1"), (Some(0), None));
    }

    #[test]
    fn this_machine_has_a_place_for_each_processor() {
        let one = CpuSet::parse("0").unwrap();
        let Home { cache, node } = home(Path::new("/"), &one);
        assert!(cache.is_none_or(|first| first == 0) && node.is_none_or(|first| first == 0));
    }
}
