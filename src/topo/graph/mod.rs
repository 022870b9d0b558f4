//! One host as data.
//!
//! ```text
//!   host
//!    ├─ package 0 ──────────────┬─ package 1 …          a socket
//!    │   ├─ node 0 ─────┐       │                        memory that is near
//!    │   │   ├─ cache 0 │       │                        cores that share their last-level cache
//!    │   │   │   ├─ core 0: cpus 0, 4                    hardware threads of one core
//!    │   │   │   └─ core 1: cpus 1, 5
//!    │   │   └─ cache 1 …
//! ```
//!
//! The levels are lists that point at each other by index, not a tree: on some machines a node spans packages, on others a cache
//! spans nodes. PCI functions, GPUs and network controllers are further lists; a function hangs at a node.
//!
//! | file | idea |
//! |---|---|
//! | `cpuset` | sets of hardware threads |
//! | `pci` | the PCI tree |
//! | `devices` | GPUs and network interfaces |
//! | `route` | how near things are, and what fits through between them |
//! | `text` `devices_text` | the text form |
#![forbid(unsafe_code)]

mod cpuset;
mod devices;
mod devices_text;
mod pci;
mod route;
mod text;

pub use cpuset::{CpuSet, MAX_CPUS};
pub use devices::{Gpu, Net, NetKind, Nic, NvLink};
pub use pci::{Address, NoAddress, Pci, parse_speed, speed_text};
pub use route::{Processor, Reach, Route, Spot, Way};
pub use text::ParseError;

use alloc::string::String;
use alloc::vec::Vec;

/// Functions of a PCI tree are at most so deep: who walks it may do so without care.
pub const MAX_LEVELS: u32 = 32;

/// A socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// The number that the system gives it.
    pub id: u32,
    /// Its hardware threads.
    pub cpus: CpuSet,
}

/// A NUMA node: processors and the memory that is near them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The number that the system gives it.
    pub id: u32,
    /// Its hardware threads; empty for a node of memory alone.
    pub cpus: CpuSet,
    /// Its memory in bytes, 0 when unknown.
    pub memory: u64,
    /// The firmware's distances to the nodes, in their order here; 10 is local. Empty when unknown.
    pub distances: Vec<u32>,
}

/// A last-level cache and who shares it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// 1, 2, 3 …; 0 when unknown.
    pub level: u8,
    /// Its size in bytes, 0 when unknown.
    pub bytes: u64,
    /// The hardware threads that share it.
    pub cpus: CpuSet,
}

/// A core with its hardware threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Core {
    /// Its hardware threads.
    pub cpus: CpuSet,
    /// Index into [`Host::packages`].
    pub package: u32,
    /// Index into [`Host::nodes`].
    pub node: u32,
    /// Index into [`Host::caches`].
    pub cache: u32,
}

/// One host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name, without spaces; empty when unknown.
    pub name: String,
    /// Its sockets.
    pub packages: Vec<Package>,
    /// Its NUMA nodes.
    pub nodes: Vec<Node>,
    /// Its last-level caches.
    pub caches: Vec<Cache>,
    /// Its cores.
    pub cores: Vec<Core>,
    /// What its processors are.
    pub processor: Processor,
    /// Its PCI functions, a parent before its children. Only those that matter: GPUs, network controllers and what is above them.
    pub pci: Vec<Pci>,
    /// Its GPUs.
    pub gpus: Vec<Gpu>,
    /// Its network controllers.
    pub nics: Vec<Nic>,
}

/// How far apart two hardware threads are, from near to far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// The same hardware thread.
    SameCpu,
    /// Hardware threads of one core.
    SameCore,
    /// Cores that share their last-level cache.
    SharedCache,
    /// Cores of one NUMA node.
    SameNode,
    /// Cores of one socket.
    SamePackage,
    /// Another socket.
    OtherPackage,
}

impl Host {
    /// The core that a hardware thread belongs to.
    pub fn core_of(&self, cpu: u32) -> Option<&Core> {
        self.cores.iter().find(|core| core.cpus.contains(cpu))
    }

    /// Every hardware thread.
    pub fn cpus(&self) -> CpuSet {
        self.cores.iter().flat_map(|core| core.cpus.iter()).collect()
    }

    /// How far apart two hardware threads are; nothing when one of them is not of this host.
    pub fn distance(&self, a: u32, b: u32) -> Option<Distance> {
        let (one, other) = (self.core_of(a)?, self.core_of(b)?);
        Some(if a == b {
            Distance::SameCpu
        } else if one.cpus == other.cpus {
            Distance::SameCore
        } else if one.cache == other.cache {
            Distance::SharedCache
        } else if one.node == other.node {
            Distance::SameNode
        } else if one.package == other.package {
            Distance::SamePackage
        } else {
            Distance::OtherPackage
        })
    }

    /// How many of the given hardware threads lie in each cache domain, for the domains that have any: what
    /// [`crate::plan`] takes as the sizes of its inner groups when ranks are placed in this order.
    pub fn domain_sizes(&self, among: &CpuSet) -> Vec<u32> {
        let sizes = self.caches.iter().map(|cache| cache.cpus.iter().filter(|&cpu| among.contains(cpu)).count() as u32);
        sizes.filter(|&size| size > 0).collect()
    }

    /// Whether every index points at something and every hardware thread belongs to one core; if not, what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        use alloc::format;
        for (index, core) in self.cores.iter().enumerate() {
            let within = |what: &str, at: u32, len: usize| {
                if (at as usize) < len { Ok(()) } else { Err(format!("core {index} names {what} {at} of {len}")) }
            };
            within("package", core.package, self.packages.len())?;
            within("node", core.node, self.nodes.len())?;
            within("cache", core.cache, self.caches.len())?;
            if core.cpus.is_empty() {
                return Err(format!("core {index} has no cpu"));
            }
        }
        if let Some((twice, ..)) = CpuSet::shared(self.cores.iter().map(|core| &core.cpus)) {
            return Err(format!("cpu {twice} belongs to two cores"));
        }
        self.validate_devices()
    }

    fn validate_devices(&self) -> Result<(), String> {
        use alloc::format;
        let node = |what: &str, index: usize, node: u32| match self.nodes.get(node as usize) {
            Some(_) => Ok(()),
            None => Err(format!("{what} {index} names node {node} of {}", self.nodes.len())),
        };
        let pci = |what: &str, index: usize, at: u32| match self.pci.get(at as usize) {
            Some(_) => Ok(()),
            None => Err(format!("{what} {index} names pci {at} of {}", self.pci.len())),
        };
        let mut levels: Vec<u32> = Vec::with_capacity(self.pci.len());
        for (index, function) in self.pci.iter().enumerate() {
            node("pci", index, function.node)?;
            let above = function.parent.and_then(|parent| levels.get(parent as usize)).map_or(0, |level| level + 1);
            if above >= MAX_LEVELS {
                return Err(format!("pci {index} is {above} levels deep; no machine has {MAX_LEVELS}"));
            }
            levels.push(above);
            let Some(parent) = function.parent else { continue };
            if parent as usize >= index {
                return Err(format!("pci {index} hangs below {parent}, which comes after it"));
            }
            if self.pci[parent as usize].node != function.node {
                return Err(format!("pci {index} is at another node than {parent}, which is above it"));
            }
        }
        for (index, gpu) in self.gpus.iter().enumerate() {
            pci("gpu", index, gpu.pci)?;
        }
        for (index, nic) in self.nics.iter().enumerate() {
            node("nic", index, nic.node)?;
            nic.pci.map_or(Ok(()), |at| pci("nic", index, at))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets of two cache domains of two cores with two hardware threads: cpu c and c + 8 are siblings.
    pub(super) fn two_sockets() -> Host {
        let set = |list: &str| CpuSet::parse(list).unwrap();
        let core = |c: u32| Core { cpus: [c, c + 8].into_iter().collect(), package: c / 4, node: c / 4, cache: c / 2 };
        let cache = |list| Cache { level: 3, bytes: 32 << 20, cpus: set(list) };
        Host {
            name: "pair".into(),
            packages: vec![Package { id: 0, cpus: set("0-3,8-11") }, Package { id: 1, cpus: set("4-7,12-15") }],
            nodes: vec![
                Node { id: 0, cpus: set("0-3,8-11"), memory: 64 << 30, distances: vec![10, 21] },
                Node { id: 1, cpus: set("4-7,12-15"), memory: 64 << 30, distances: vec![21, 10] },
            ],
            caches: vec![cache("0-1,8-9"), cache("2-3,10-11"), cache("4-5,12-13"), cache("6-7,14-15")],
            cores: (0..8).map(core).collect(),
            ..Host::default()
        }
    }

    /// The same with GPUs and network controllers.
    ///
    /// ```text
    ///   node 0                                        node 1
    ///    ├─ switch 16 ─┬─ gpu 0 (4 links to gpu 1)      └─ switch 86 ─┬─ switch 87 ── gpu 2
    ///    │             └─ nic 0                                       └─ nic 2
    ///    ├─ nic 1, two interfaces
    ///    └─ gpu 1 (2 links to gpu 2)
    /// ```
    pub(super) fn accelerated() -> Host {
        let function = |address: &str, class: u32, speed: u32, parent: Option<u32>, node: u32| Pci {
            address: address.parse().unwrap(),
            class,
            ids: [0x10de, 0x20b0, 0, 0],
            speed,
            width: 16,
            parent,
            node,
        };
        let link = |target: &str, count| NvLink { target: target.parse().unwrap(), count, class: 0x030200 };
        let gpu = |pci, dev, links| Gpu { pci, dev, sm: 80, rank: Some(dev), gdr: true, links, c2c: 0 };
        let net = |name: &str, speed| Net { name: name.into(), speed, port: 1, ..Net::default() };
        Host {
            processor: Processor { arch: "x86_64".into(), vendor: "GenuineIntel".into(), family: 6, model: 85 },
            pci: vec![
                function("0000:16:00.0", 0x060400, 16_000, None, 0),
                function("0000:18:00.0", 0x030200, 16_000, Some(0), 0),
                function("0000:1a:00.0", 0x020700, 16_000, Some(0), 0),
                function("0000:3a:00.0", 0x020000, 8_000, None, 0),
                function("0000:3b:00.0", 0x030200, 8_000, None, 0),
                function("0000:86:00.0", 0x060400, 16_000, None, 1),
                function("0000:87:00.0", 0x060400, 16_000, Some(5), 1),
                function("0000:88:00.0", 0x030200, 16_000, Some(6), 1),
                function("0000:8a:00.0", 0x020700, 16_000, Some(5), 1),
            ],
            gpus: vec![
                gpu(1, 0, vec![link("0000:3b:00.0", 4)]),
                gpu(4, 1, vec![link("0000:18:00.0", 4), link("0000:88:00.0", 2)]),
                gpu(7, 2, vec![link("0000:3b:00.0", 2)]),
            ],
            nics: vec![
                Nic { pci: Some(2), node: 0, nets: vec![net("mlx5_0", 200_000)] },
                Nic { pci: Some(3), node: 0, nets: vec![net("eth0", 10_000), net("eth1", 100_000)] },
                Nic { pci: Some(8), node: 1, nets: vec![net("mlx5_1", 200_000)] },
            ],
            ..two_sockets()
        }
    }

    #[test]
    fn distances_grow_from_sibling_to_the_other_socket() {
        let host = two_sockets();
        let to = |cpu| host.distance(0, cpu);
        assert_eq!(to(0), Some(Distance::SameCpu));
        assert_eq!(to(8), Some(Distance::SameCore));
        assert_eq!(to(9), Some(Distance::SharedCache));
        assert_eq!(to(2), Some(Distance::SameNode));
        assert_eq!(to(15), Some(Distance::OtherPackage));
        assert_eq!(to(16), None);
    }

    #[test]
    fn domain_sizes_count_only_the_cpus_that_may_be_used() {
        let host = two_sockets();
        assert_eq!(host.domain_sizes(&host.cpus()), [4, 4, 4, 4]);
        assert_eq!(host.domain_sizes(&CpuSet::parse("0,1,2,7").unwrap()), [2, 1, 1]);
    }

    #[test]
    fn devices_with_loose_ends_are_named() {
        let broken = |change: fn(&mut Host)| {
            let mut host = accelerated();
            assert_eq!(host.validate(), Ok(()));
            change(&mut host);
            host.validate().unwrap_err()
        };
        assert_eq!(broken(|host| host.pci[1].parent = Some(1)), "pci 1 hangs below 1, which comes after it");
        let chain = |host: &mut Host| {
            let link = |parent| Pci { parent, ..Pci::default() };
            host.pci = (0..40).map(|index: u32| link(index.checked_sub(1))).collect();
        };
        assert_eq!(broken(chain), "pci 32 is 32 levels deep; no machine has 32");
        assert_eq!(broken(|host| host.pci[3].node = 2), "pci 3 names node 2 of 2");
        assert_eq!(broken(|host| host.pci[1].node = 1), "pci 1 is at another node than 0, which is above it");
        assert_eq!(broken(|host| host.gpus[2].pci = 9), "gpu 2 names pci 9 of 9");
        assert_eq!(broken(|host| host.nics[0].pci = Some(9)), "nic 0 names pci 9 of 9");
        assert_eq!(broken(|host| host.nics[1].node = 7), "nic 1 names node 7 of 2");
    }

    #[test]
    fn a_host_with_loose_ends_is_named_as_such() {
        let mut host = two_sockets();
        assert_eq!(host.validate(), Ok(()));
        host.cores[3].cache = 4;
        assert_eq!(host.validate().unwrap_err(), "core 3 names cache 4 of 4");
        host.cores[3].cache = 1;
        host.cores[3].cpus = CpuSet::parse("2").unwrap();
        assert_eq!(host.validate().unwrap_err(), "cpu 2 belongs to two cores");
    }
}
