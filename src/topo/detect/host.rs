//! sysfs to [`Host`].

use super::read::Tree;
use crate::topo::graph::{Cache, Core, CpuSet, Host, Node, Package, Processor};

/// Cache directories of a processor that are looked at; real machines have four or five.
const MAX_CACHES: usize = 16;

/// The host below that root: valid, and with at least one core, however little could be seen.
pub(super) fn read_host(tree: &mut Tree) -> Host {
    let online = tree.parsed("sys/devices/system/cpu/online", non_empty_list);
    let online = online.unwrap_or_else(|| [0].into_iter().collect());
    let mut host = Host { name: host_name(tree), processor: processor(tree), ..Host::default() };
    read_nodes(tree, &mut host, &online);
    // What is the same for every processor is noted once, not a thousand times.
    let (mut odd_cores, mut odd_caches) = (0, 0);
    for cpu in online.iter() {
        if host.core_of(cpu).is_some() {
            continue;
        }
        let siblings = tree.peek(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
        let siblings = siblings.and_then(|list| CpuSet::parse(&list)).filter(|set| set.contains(cpu));
        odd_cores += u32::from(siblings.is_none());
        // A sibling that another core already has would belong to two.
        let free = |other: u32| online.contains(other) && (other == cpu || host.core_of(other).is_none());
        let cpus =
            siblings.map_or_else(|| [cpu].into_iter().collect(), |set| set.iter().filter(|&c| free(c)).collect());
        let (package, node) = (package_of(tree, &mut host, cpu), node_of(&host, cpu));
        let cache = cache_of(tree, &mut host, cpu, &online, &mut odd_caches);
        host.cores.push(Core { cpus, package, node, cache });
    }
    complete(&mut host);
    if odd_cores > 0 {
        tree.miss(
            "which hardware threads share a core",
            format!("sysfs does not say for {odd_cores} of {}", online.len()),
        );
    }
    if odd_caches > 0 {
        let why = format!("sysfs does not say for {odd_caches} cores; each is taken to be alone");
        tree.miss("which cores share a cache", why);
    }
    host
}

fn non_empty_list(text: &str) -> Option<CpuSet> {
    CpuSet::parse(text).filter(|set| !set.is_empty())
}

/// What the processors are, as far as the first of them says.
fn processor(tree: &Tree) -> Processor {
    let text = tree.peek("proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let number = |name: &str| field(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    // The names that NCCL has for them.
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "powerpc64" => "ppc64",
        other => other,
    };
    let vendor = field("vendor_id").unwrap_or_default();
    let vendor = vendor.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    Processor { arch: arch.to_string(), vendor, family: number("cpu family"), model: number("model") }
}

fn host_name(tree: &Tree) -> String {
    let name = tree.peek("proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).take(255).collect()
}

fn read_nodes(tree: &mut Tree, host: &mut Host, online: &CpuSet) {
    let ids = tree.parsed("sys/devices/system/node/online", non_empty_list);
    for id in ids.iter().flat_map(CpuSet::iter) {
        let dir = format!("sys/devices/system/node/node{id}");
        let cpus = tree.peek(&format!("{dir}/cpulist")).and_then(|list| CpuSet::parse(&list)).unwrap_or_default();
        let memory = tree.peek(&format!("{dir}/meminfo")).and_then(|text| node_memory(&text)).unwrap_or(0);
        let distances = tree.peek(&format!("{dir}/distance")).unwrap_or_default();
        let distances: Result<Vec<u32>, _> = distances.split_ascii_whitespace().map(str::parse).collect();
        let distances = distances.unwrap_or_default();
        host.nodes.push(Node { id, cpus: cpus.intersection(online), memory, distances });
    }
    if host.nodes.is_empty() {
        host.nodes.push(Node { cpus: online.clone(), ..Node::default() });
    }
}

/// `Node 0 MemTotal:  1024 kB` in bytes.
fn node_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.contains("MemTotal:"))?;
    let kib: u64 = line.split("MemTotal:").nth(1)?.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

fn node_of(host: &Host, cpu: u32) -> u32 {
    host.nodes.iter().position(|node| node.cpus.contains(cpu)).unwrap_or(0) as u32
}

fn package_of(tree: &Tree, host: &mut Host, cpu: u32) -> u32 {
    let id = tree.peek(&format!("sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"));
    // Virtual machines say -1.
    let id: u32 = id.and_then(|id| id.trim().parse().ok()).unwrap_or(0);
    let at = host.packages.iter().position(|package| package.id == id).unwrap_or_else(|| {
        host.packages.push(Package { id, cpus: CpuSet::default() });
        host.packages.len() - 1
    });
    at as u32
}

fn cache_of(tree: &Tree, host: &mut Host, cpu: u32, online: &CpuSet, odd: &mut u32) -> u32 {
    if let Some(at) = host.caches.iter().position(|cache| cache.cpus.contains(cpu)) {
        return at as u32;
    }
    let last = last_level(tree, cpu).unwrap_or_else(|| {
        *odd += 1;
        Cache { level: 0, bytes: 0, cpus: [cpu].into_iter().collect() }
    });
    let free = |other: u32| online.contains(other) && !host.caches.iter().any(|cache| cache.cpus.contains(other));
    let cpus = last.cpus.iter().filter(|&other| free(other)).collect();
    host.caches.push(Cache { cpus, ..last });
    host.caches.len() as u32 - 1
}

/// The cache of the highest level that sysfs shows for that processor.
pub(super) fn last_level(tree: &Tree, cpu: u32) -> Option<Cache> {
    let dir = format!("sys/devices/system/cpu/cpu{cpu}/cache");
    let indexes = tree.names(&dir).into_iter().filter(|name| name.starts_with("index")).take(MAX_CACHES);
    let caches = indexes.filter_map(|index| {
        let read = |file: &str| tree.peek(&format!("{dir}/{index}/{file}"));
        if read("type")?.trim() == "Instruction" {
            return None;
        }
        let cpus = CpuSet::parse(&read("shared_cpu_list")?).filter(|set| set.contains(cpu))?;
        let bytes = read("size").and_then(|size| cache_bytes(size.trim())).unwrap_or(0);
        Some(Cache { level: read("level")?.trim().parse().ok()?, bytes, cpus })
    });
    caches.max_by_key(|cache| cache.level)
}

/// `32768K` in bytes.
fn cache_bytes(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Packages learn their processors from the cores.
fn complete(host: &mut Host) {
    for (at, package) in host.packages.iter_mut().enumerate() {
        let mine = host.cores.iter().filter(|core| core.package == at as u32);
        package.cpus = mine.flat_map(|core| core.cpus.iter()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(cache_bytes("32768K"), Some(32 << 20));
        assert_eq!(cache_bytes("2M"), Some(2 << 20));
        assert_eq!(cache_bytes("512"), Some(512));
        assert_eq!((cache_bytes("K"), cache_bytes(""), cache_bytes("99999999999999999999M")), (None, None, None));
    }

    #[test]
    fn the_make_of_the_processor_is_read() {
        let fake = super::super::tests::Fake::new("make");
        let made = fake
            .file(
                "proc/cpuinfo",
                "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: EPYC\n",
            )
            .detect()
            .host
            .processor;
        assert_eq!((made.vendor.as_str(), made.family, made.model), ("AuthenticAMD", 25, 17));
        assert!(!made.arch.is_empty());
    }

    #[test]
    fn node_memory_is_the_total() {
        assert_eq!(node_memory("Node 0 MemTotal:       1024 kB\n"), Some(1 << 20));
        assert_eq!(node_memory("Node 0 MemFree: 3 kB"), None);
    }
}
