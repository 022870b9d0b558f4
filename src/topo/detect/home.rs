//! Where a rank lives: the last-level cache and the NUMA node that its processors are in, and how far RDMA devices are from there. A few files
//! of one processor are read, not the whole host: every rank looks at its start.

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
    let list = tree.peek(&format!("sys/devices/system/node/node{}/cpulist", node_number(tree, cpu)?))?;
    CpuSet::parse(&list).filter(|set| set.contains(cpu))
}

/// The kernel's number of that processor's node.
fn node_number(tree: &Tree, cpu: u32) -> Option<u32> {
    let names = tree.names(&format!("sys/devices/system/cpu/cpu{cpu}"));
    names.iter().find_map(|name| name.strip_prefix("node")?.parse().ok())
}

/// How far an RDMA device is from the node that has all these processors, as the firmware tells it: 10 is there, 20 about twice as far. None:
/// the processors lie in several nodes, or nobody tells.
pub fn rdma_distance(root: &Path, cpus: &CpuSet, device: &str) -> Option<u32> {
    let tree = Tree::at(root);
    let first = cpus.first()?;
    let own = node_number(&tree, first).filter(|_| node_of(&tree, first).is_some_and(|node| cpus.is_within(&node)))?;
    let path = format!("sys/class/infiniband/{device}");
    // One made of software is where its interface is.
    let beside = tree.peek(&format!("{path}/parent")).map(|name| format!("sys/class/net/{}/device", name.trim()));
    let place = if tree.exists(&format!("{path}/device")) { format!("{path}/device") } else { beside? };
    let node: usize = tree.peek(&format!("{place}/numa_node"))?.trim().parse().ok()?;
    let distances = tree.peek(&format!("sys/devices/system/node/node{own}/distance"))?;
    distances.split_ascii_whitespace().nth(node)?.parse().ok()
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
    fn a_device_is_as_far_as_the_firmware_says_from_a_rank_that_is_bound_to_a_node() {
        let fake = Fake::new("rdma-distance");
        fake.file("sys/devices/system/node/node0/distance", "10 12 32 32\n");
        fake.file("sys/devices/system/node/node1/distance", "12 10 32 32\n");
        for (cpu, node) in [(0, 0), (1, 0), (2, 1)] {
            let list = if node == 0 { "0-1\n" } else { "2\n" };
            fake.file(&format!("sys/devices/system/cpu/cpu{cpu}/node{node}/cpulist"), list);
            fake.file(&format!("sys/devices/system/node/node{node}/cpulist"), list);
        }
        for (name, node) in [("mlx5_0", "1\n"), ("mlx5_1", "3\n"), ("mlx5_2", "-1\n"), ("mlx5_3", "9\n")] {
            fake.file(&format!("sys/class/infiniband/{name}/device/numa_node"), node);
        }
        fake.file("sys/class/infiniband/rxe0/parent", "eth0\n").file("sys/class/net/eth0/device/numa_node", "0\n");
        let distance = |cpus: &str, name: &str| fake.rdma_distance(&CpuSet::parse(cpus).unwrap(), name);
        assert_eq!(
            [distance("0", "mlx5_0"), distance("0-1", "mlx5_1"), distance("2", "mlx5_0")],
            [Some(12), Some(32), Some(10)]
        );
        assert_eq!([distance("1", "rxe0"), distance("2", "rxe0")], [Some(10), Some(12)]);
        for unknown in ["mlx5_2", "mlx5_3", "mlx5_4"] {
            assert_eq!(distance("0", unknown), None, "{unknown}");
        }
        assert_eq!(distance("0,2", "mlx5_0"), None, "bound to no node");
    }

    #[test]
    fn this_machine_has_a_place_for_each_processor() {
        let one = CpuSet::parse("0").unwrap();
        let Home { cache, node } = home(Path::new("/"), &one);
        assert!(cache.is_none_or(|first| first == 0) && node.is_none_or(|first| first == 0));
    }
}
