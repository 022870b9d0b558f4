//! The one part of [`crate::topo`] that looks at the machine.
//!
//! Everything is read below a directory, `/` in earnest and a fake tree in tests; what can't be seen there is listed in
//! [`Found::unseen`] with the reason, and never ends the program: containers hide parts of /sys, and odd machines leave files out.
//!
//! | file | idea |
//! |---|---|
//! | `read` | bounded reading of small files, and the list of what was not there |
//! | `host` | sysfs to [`Host`]: packages, nodes, caches, cores |
//! | `pci` | sysfs to its PCI tree |
//! | `nets` | sysfs to its network interfaces and RDMA devices |
//! | `home` | the cache and the node that a rank is bound to |
//! | `limits` | what the kernel lets this process use |
//! | `cgroup` | quota and memory limit of the control group, versions 1 and 2 |
//! | `room` | what the memory limit still leaves |

mod cgroup;
mod home;
mod host;
mod limits;
mod nets;
mod pci;
mod read;
mod room;

pub use cgroup::Quota;
pub use home::{Home, home, rdma_distance};
pub use limits::own_processors;
pub use limits::{Huge, HugePool, Limit, Limits, Shm};
pub use read::Unseen;
pub use room::Room;

use super::graph::Host;
use read::Tree;
use std::path::Path;

/// What was found on this machine.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The host; at least one core, made up when nothing could be seen.
    pub host: Host,
    /// What this process may use of it.
    pub limits: Limits,
    /// What could not be seen.
    pub unseen: Vec<Unseen>,
}

/// Looks at this machine, or at a tree of files laid out like one.
pub fn detect(root: &Path) -> Found {
    let mut tree = Tree::at(root);
    let mut host = host::read_host(&mut tree);
    pci::read_functions(&tree, &mut host);
    nets::read_interfaces(&tree, &mut host);
    nets::read_rdma(&tree, &mut host);
    let limits = limits::read_limits(&mut tree);
    Found { host, limits, unseen: tree.unseen }
}

/// Bytes of the last-level cache of the first processor: asked at every start, so the rest of the host is not looked at.
pub fn last_level_cache(root: &Path) -> Option<u64> {
    host::last_level(&Tree::at(root), 0).map(|cache| cache.bytes).filter(|bytes| *bytes > 0)
}

/// What the memory limit of this process's control group still leaves; nothing where there is no limit.
pub fn memory_room(root: &Path) -> Option<Room> {
    room::read_room(&mut Tree::at(root))
}

impl Found {
    /// How many hardware threads this process can keep busy: those of its affinity mask, less where a quota is lower.
    /// At least one.
    pub fn usable_cpus(&self) -> u32 {
        let cpus = self.host.cpus();
        let mine = match &self.limits.affinity {
            Some(mask) => cpus.intersection(mask).len().max(1),
            None => cpus.len(),
        };
        let quota = self.limits.quota.map_or(u64::MAX, |quota| quota.milli_cpus.div_ceil(1000));
        (mine as u64).min(quota).max(1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::CpuSet;
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// A directory of this test alone, removed with it.
    pub(super) struct Fake(PathBuf);

    impl Fake {
        pub(super) fn new(name: &str) -> Fake {
            let dir = std::env::temp_dir().join(format!("ringtree-topo-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            Fake(dir)
        }

        pub(super) fn file(&self, path: &str, text: impl AsRef<[u8]>) -> &Fake {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        /// A link to another path of the tree.
        pub(super) fn link(&self, path: &str, to: &str) -> &Fake {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(self.0.join(to), path).unwrap();
            self
        }

        /// Four cores of two threads, two per last-level cache, one node.
        pub(super) fn processors(&self) -> &Fake {
            self.file("sys/devices/system/cpu/online", "0-7\n");
            for cpu in 0..8u32 {
                let (core, cache) = (cpu % 4, cpu % 4 / 2);
                let dir = format!("sys/devices/system/cpu/cpu{cpu}");
                self.file(&format!("{dir}/topology/physical_package_id"), "0\n")
                    .file(&format!("{dir}/topology/thread_siblings_list"), format!("{core},{}\n", core + 4))
                    .file(&format!("{dir}/cache/index0/level"), "1\n")
                    .file(&format!("{dir}/cache/index0/type"), "Data\n")
                    .file(&format!("{dir}/cache/index0/shared_cpu_list"), format!("{core},{}\n", core + 4))
                    .file(&format!("{dir}/cache/index3/level"), "3\n")
                    .file(&format!("{dir}/cache/index3/type"), "Unified\n")
                    .file(&format!("{dir}/cache/index3/size"), "32768K\n")
                    .file(
                        &format!("{dir}/cache/index3/shared_cpu_list"),
                        format!("{0}-{1},{2}-{3}\n", cache * 2, cache * 2 + 1, cache * 2 + 4, cache * 2 + 5),
                    );
            }
            self.file("sys/devices/system/node/online", "0\n")
                .file("sys/devices/system/node/node0/cpulist", "0-7\n")
                .file("sys/devices/system/node/node0/distance", "10\n")
                .file("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       1024 kB\nNode 0 MemFree: 1 kB\n")
        }

        pub(super) fn detect(&self) -> Found {
            detect(&self.0)
        }

        pub(super) fn rdma_distance(&self, cpus: &CpuSet, device: &str) -> Option<u32> {
            rdma_distance(&self.0, cpus, device)
        }

        pub(super) fn home(&self, cpus: &CpuSet) -> Home {
            home(&self.0, cpus)
        }

        pub(super) fn room(&self) -> Option<Room> {
            memory_room(&self.0)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_empty_tree_gives_one_core_and_says_what_was_missing() {
        let fake = Fake::new("empty");
        let found = fake.detect();
        assert_eq!(found.host.cores.len(), 1);
        assert_eq!(found.host.validate(), Ok(()));
        assert_eq!(found.usable_cpus(), 1);
        let named: Vec<&str> = found.unseen.iter().map(|unseen| unseen.what.as_str()).collect();
        for what in ["sys/devices/system/cpu/online", "proc/self/limits", "proc/self/cgroup", "proc/meminfo"] {
            assert!(named.iter().any(|name| name.contains(what)), "{what} is not in {named:?}");
        }
    }

    #[test]
    fn a_cache_without_a_size_has_none() {
        let fake = Fake::new("cache-size");
        assert_eq!(last_level_cache(&fake.0), None);
        assert_eq!(last_level_cache(&fake.processors().0), Some(32 << 20));
        fake.file("sys/devices/system/cpu/cpu0/cache/index3/size", "many\n");
        assert_eq!(last_level_cache(&fake.0), None);
    }

    #[test]
    fn cores_caches_and_the_node_come_from_sysfs() {
        let fake = Fake::new("cores");
        let found = fake.processors().detect();
        assert_eq!(found.host.validate(), Ok(()));
        let cores: Vec<String> = found.host.cores.iter().map(|core| core.cpus.to_string()).collect();
        assert_eq!(cores, ["0,4", "1,5", "2,6", "3,7"]);
        let caches: Vec<(u8, u64, String)> =
            found.host.caches.iter().map(|cache| (cache.level, cache.bytes, cache.cpus.to_string())).collect();
        assert_eq!(caches, [(3, 32 << 20, "0-1,4-5".to_string()), (3, 32 << 20, "2-3,6-7".to_string())]);
        assert_eq!((found.host.nodes.len(), found.host.nodes[0].memory), (1, 1 << 20));
        assert_eq!(found.host.domain_sizes(&CpuSet::parse("0-3").unwrap()), [2, 2]);
    }

    #[test]
    fn the_lower_of_affinity_and_quota_is_what_can_be_used() {
        let fake = Fake::new("usable");
        fake.processors().file("proc/thread-self/status", "Name:\tx\nCpus_allowed_list:\t0-5\n");
        assert_eq!(fake.detect().usable_cpus(), 6);
        fake.file("proc/self/cgroup", "0::/job\n")
            .file("proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
            .file("sys/fs/cgroup/job/cpu.max", "250000 100000\n");
        assert_eq!(fake.detect().usable_cpus(), 3);
    }

    #[test]
    fn garbage_in_every_file_is_survived() {
        let fake = Fake::new("garbage");
        fake.processors();
        let garbage = [0xffu8, 0, b'-', b'9', b'\n', b',', 0x80, b':', b' '].repeat(50);
        for path in [
            "sys/devices/system/cpu/online",
            "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
            "sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list",
            "sys/devices/system/cpu/cpu0/cache/index3/size",
            "sys/devices/system/node/online",
            "sys/devices/system/node/node0/meminfo",
            "sys/devices/system/node/node0/distance",
            "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "sys/kernel/mm/transparent_hugepage/enabled",
            "proc/self/limits",
            "proc/self/cgroup",
            "proc/self/mountinfo",
            "proc/thread-self/status",
            "proc/meminfo",
            "proc/sys/kernel/yama/ptrace_scope",
        ] {
            fake.file(path, &garbage);
            let found = fake.detect();
            assert_eq!(found.host.validate(), Ok(()), "garbage in {path}");
            assert!(found.usable_cpus() >= 1);
        }
    }

    #[test]
    fn this_machine_is_seen() {
        let found = detect(Path::new("/"));
        assert_eq!(found.host.validate(), Ok(()));
        assert!(found.limits.affinity.is_some_and(|mask| !mask.is_empty()));
        assert!(found.limits.nofile.is_some());
    }
}
