//! What hangs in the PCI tree and matters here: GPUs and network interfaces.

use super::pci::Address;
use alloc::string::String;
use alloc::vec::Vec;

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpu {
    /// Index into [`super::Host::pci`].
    pub pci: u32,
    /// The number that its driver gives it.
    pub dev: u32,
    /// Its architecture, as 90; 0 when unknown.
    pub sm: u32,
    /// The rank that uses it, if that is known.
    pub rank: Option<u32>,
    /// Whether network interfaces can read and write its memory.
    pub gdr: bool,
    /// Its links to other GPUs, to switches between them, or to processors.
    pub links: Vec<NvLink>,
    /// A coherent link to the processor, in megabytes a second; 0 where there is none.
    pub c2c: u32,
}

/// Links of a GPU that go to the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvLink {
    /// The other end, which need not be in this host's tree: switches are not.
    pub target: Address,
    /// How many.
    pub count: u32,
    /// The class of the other end: 0x03…… a GPU, 0x068000 a switch, 0x06…… a processor. 0 when unknown.
    pub class: u32,
}

impl NvLink {
    /// Whether it goes to a switch.
    pub fn is_to_switch(&self) -> bool {
        self.class == 0x068000
    }
}

impl Gpu {
    /// Megabytes a second of one link of a GPU of that architecture.
    pub fn link_bandwidth(&self) -> u32 {
        match self.sm {
            60..70 => 18_000,
            86 => 12_000,
            0..90 => 20_000,
            90..100 => 20_600,
            _ => 40_100,
        }
    }

    /// Megabytes a second from here to another GPU over links straight to it, and over switches.
    pub fn bandwidth_to(&self, other: Address) -> (u32, u32) {
        let sum = |counts: &mut dyn Iterator<Item = u32>| counts.fold(0u32, u32::saturating_add);
        let straight = sum(&mut self.links.iter().filter(|link| link.target == other).map(|link| link.count));
        let switched = sum(&mut self.links.iter().filter(|link| link.is_to_switch()).map(|link| link.count));
        (straight.saturating_mul(self.link_bandwidth()), switched.saturating_mul(self.link_bandwidth()))
    }
}

/// A network controller with the interfaces that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    /// Index into [`super::Host::pci`]; nothing for one that is no PCI function, or where a virtual machine hides that.
    pub pci: Option<u32>,
    /// Index into [`super::Host::nodes`]: the node that it is nearest to.
    pub node: u32,
    /// Its interfaces, or the ports of its RDMA device.
    pub nets: Vec<Net>,
}

/// What traffic goes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetKind {
    /// It was not said.
    #[default]
    Unknown,
    /// A network interface for sockets.
    Socket,
    /// A port of an RDMA device on InfiniBand.
    InfiniBand,
    /// A port of an RDMA device on Ethernet.
    Roce,
    /// A port of an RDMA device over TCP.
    Iwarp,
}

impl NetKind {
    /// All of them.
    pub const ALL: [NetKind; 5] =
        [NetKind::Unknown, NetKind::Socket, NetKind::InfiniBand, NetKind::Roce, NetKind::Iwarp];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            NetKind::Unknown => "unknown",
            NetKind::Socket => "socket",
            NetKind::InfiniBand => "infiniband",
            NetKind::Roce => "roce",
            NetKind::Iwarp => "iwarp",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<NetKind> {
        NetKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A network interface, or a port of an RDMA device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Net {
    /// Its name, without spaces.
    pub name: String,
    /// The number that a transport gives it.
    pub dev: u32,
    /// What goes over it.
    pub kind: NetKind,
    /// Megabits a second; 0 when unknown.
    pub speed: u32,
    /// The port of the device.
    pub port: u32,
    /// The device's own number in the world, 0 when unknown. Ports of one device have the same.
    pub guid: u64,
    /// Nanoseconds that it adds, 0 when unknown.
    pub latency: u32,
    /// Connections that it carries, 0 when unknown.
    pub connections: u32,
    /// Whether it can read and write the memory of GPUs.
    pub gdr: bool,
    /// Whether its switches reduce.
    pub collective: bool,
    /// The rail of a rail-optimised fabric that it is on, and the plane.
    pub rail: Option<u32>,
    /// See there.
    pub plane: Option<u32>,
    /// Whether it is up, as far as that is known.
    pub down: bool,
}
