//! What the kernel lets this process use.

use super::cgroup::{Quota, read_grants};
use super::read::Tree;
use crate::topo::graph::CpuSet;
use std::path::Path;

/// A resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What holds now; nothing is unlimited.
    pub soft: Option<u64>,
    /// Up to where this process may raise it; nothing is unlimited.
    pub hard: Option<u64>,
}

/// The file system of /dev/shm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shm {
    /// Its size in bytes.
    pub total: u64,
    /// What this user can still write.
    pub free: u64,
}

/// A pool of reserved huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePool {
    /// Bytes of one page.
    pub page: u64,
    /// Pages reserved.
    pub total: u64,
    /// Pages not in use.
    pub free: u64,
}

/// Huge pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Huge {
    /// The reserved pools (hugetlbfs).
    pub pools: Vec<HugePool>,
    /// Transparent huge pages for private memory: `always`, `madvise` or `never`.
    pub private: Option<String>,
    /// The same for shared memory (memfd, /dev/shm): `always`, `within_size`, `advise`, `never`, `deny`, `force`.
    pub shared: Option<String>,
}

/// What limits this process. Nothing means: not seen, or no limit; [`super::Found::unseen`] tells the first from the second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The hardware threads that the scheduler may use for this thread.
    pub affinity: Option<CpuSet>,
    /// Processor time of the control group.
    pub quota: Option<Quota>,
    /// Memory limit of the control group.
    pub group_memory: Option<u64>,
    /// Memory of the machine.
    pub memory: Option<u64>,
    /// Memory that could be had now.
    pub available: Option<u64>,
    /// Memory that may be locked, in bytes; RDMA and io_uring need it.
    pub memlock: Option<Limit>,
    /// Open files.
    pub nofile: Option<Limit>,
    /// /dev/shm.
    pub shm: Option<Shm>,
    /// Huge pages.
    pub huge: Huge,
    /// Yama's restriction of ptrace, which process_vm_readv obeys: 0 none, 1 only of descendants, 2 only with privilege, 3 never.
    pub ptrace_scope: Option<u8>,
    /// Signs that this is a container; empty when there is none.
    pub container: Vec<String>,
}

pub(super) fn read_limits(tree: &mut Tree) -> Limits {
    let grants = read_grants(tree);
    let meminfo = tree.text("proc/meminfo").unwrap_or_default();
    let resource = tree.text("proc/self/limits");
    let mut limit = |name: &str| {
        let found = parse_limit(resource.as_deref()?, name);
        if found.is_none() {
            tree.miss(name, "proc/self/limits does not tell it");
        }
        found
    };
    let (memlock, nofile) = (limit("Max locked memory"), limit("Max open files"));
    Limits {
        affinity: affinity(tree),
        quota: grants.quota,
        group_memory: grants.memory,
        memory: kib(&meminfo, "MemTotal:"),
        available: kib(&meminfo, "MemAvailable:"),
        memlock,
        nofile,
        shm: shm(tree),
        huge: huge(tree),
        ptrace_scope: tree.peek("proc/sys/kernel/yama/ptrace_scope").and_then(|text| text.trim().parse().ok()),
        container: container(tree, &grants.path),
    }
}

/// The processors that this thread may run on.
pub fn own_processors() -> Option<CpuSet> {
    affinity(&mut Tree::at(Path::new("/")))
}

/// The mask of this thread, from procfs, which has no limit on the number of processors; the system call where /proc is hidden.
fn affinity(tree: &mut Tree) -> Option<CpuSet> {
    let status = tree.peek("proc/thread-self/status").or_else(|| tree.peek("proc/self/status"));
    let listed = status.as_deref().and_then(allowed_cpus);
    let asked = || {
        let mask = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).ok()?;
        let count = nix::sched::CpuSet::count();
        Some((0..count).filter(|&cpu| mask.is_set(cpu).unwrap_or(false)).map(|cpu| cpu as u32).collect())
    };
    let mask = listed.or_else(|| if tree.is_real() { asked() } else { None });
    if mask.is_none() {
        tree.miss("affinity mask", "neither procfs nor the system call tells it");
    }
    mask
}

fn allowed_cpus(status: &str) -> Option<CpuSet> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    CpuSet::parse(list).filter(|set| !set.is_empty())
}

/// `Max open files  1024  524288  files` of /proc/self/limits.
fn parse_limit(text: &str, name: &str) -> Option<Limit> {
    let mut words = text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace();
    let mut value = || match words.next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some(Limit { soft: value()?, hard: value()? })
}

/// `MemTotal:  1024 kB` in bytes.
fn kib(meminfo: &str, name: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn shm(tree: &mut Tree) -> Option<Shm> {
    match nix::sys::statvfs::statvfs(&tree.path("dev/shm")) {
        Ok(stat) => {
            let block = stat.fragment_size();
            let bytes = |blocks: u64| blocks.saturating_mul(block);
            Some(Shm { total: bytes(stat.blocks()), free: bytes(stat.blocks_available()) })
        }
        Err(error) => {
            tree.miss("dev/shm", error.desc());
            None
        }
    }
}

fn huge(tree: &mut Tree) -> Huge {
    let dir = "sys/kernel/mm/hugepages";
    let pools = tree.names(dir).into_iter().filter_map(|name| {
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let read = |file: &str| tree.peek(&format!("{dir}/{name}/{file}"))?.trim().parse::<u64>().ok();
        Some(HugePool { page: kib.checked_mul(1024)?, total: read("nr_hugepages")?, free: read("free_hugepages")? })
    });
    let pools = pools.collect();
    let dir = "sys/kernel/mm/transparent_hugepage";
    let private = tree.parsed(&format!("{dir}/enabled"), chosen);
    let shared = tree.parsed(&format!("{dir}/shmem_enabled"), chosen);
    Huge { pools, private, shared }
}

/// The word in brackets: `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let word = text.split_once('[')?.1.split_once(']')?.0;
    (!word.is_empty() && word.len() < 32 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .then(|| word.into())
}

fn container(tree: &Tree, group: &str) -> Vec<String> {
    let mut signs = Vec::new();
    for file in [".dockerenv", "run/.containerenv"] {
        if tree.exists(file) {
            signs.push(format!("/{file} is there"));
        }
    }
    for word in ["docker", "kubepods", "containerd", "lxc", "libpod"] {
        if group.contains(word) {
            signs.push(format!("its control group is named {word}"));
        }
    }
    if tree.exists("var/run/secrets/kubernetes.io") {
        signs.push("/var/run/secrets/kubernetes.io is there".to_string());
    }
    signs
}

#[cfg(test)]
mod tests {
    use super::super::tests::Fake;
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max open files            1024                 524288               files     \n\
        Max locked memory         65536                unlimited            bytes     \n";

    #[test]
    fn resource_limits_are_read_with_unlimited() {
        assert_eq!(parse_limit(LIMITS, "Max open files"), Some(Limit { soft: Some(1024), hard: Some(524288) }));
        assert_eq!(parse_limit(LIMITS, "Max locked memory"), Some(Limit { soft: Some(65536), hard: None }));
        assert_eq!(parse_limit(LIMITS, "Max nonsense"), None);
        assert_eq!(parse_limit("Max open files x y", "Max open files"), None);
    }

    #[test]
    fn the_chosen_setting_is_the_one_in_brackets() {
        assert_eq!(chosen("always within_size [advise] never").as_deref(), Some("advise"));
        assert_eq!((chosen("always never"), chosen("[]"), chosen("[<script>]")), (None, None, None));
    }

    #[test]
    fn huge_page_pools_memory_and_yama_are_found() {
        let fake = Fake::new("limits");
        fake.file("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n")
            .file("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "500\n")
            .file("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
            .file("proc/meminfo", "MemTotal:       2048 kB\nMemAvailable:   1024 kB\n")
            .file("proc/self/limits", LIMITS)
            .file("proc/sys/kernel/yama/ptrace_scope", "1\n")
            .file(".dockerenv", "");
        let found = fake.detect();
        let limits = &found.limits;
        assert_eq!(limits.huge.pools, [HugePool { page: 2 << 20, total: 512, free: 500 }]);
        assert_eq!((limits.huge.private.as_deref(), limits.huge.shared.as_deref()), (Some("madvise"), None));
        assert_eq!((limits.memory, limits.available), (Some(2 << 20), Some(1 << 20)));
        assert_eq!(limits.ptrace_scope, Some(1));
        assert_eq!(limits.container, ["/.dockerenv is there"]);
        assert!(found.unseen.iter().any(|unseen| unseen.what.ends_with("shmem_enabled")));
    }
}
