//! How near things of a host are to each other, and what fits through between them.
//!
//! ```text
//!   Same        NvLink          OneSwitch        Switches          HostBridge          System
//!   the same    a link, or a    one PCI switch   several, below    a root complex      two root complexes and
//!   thing       switch of them  above both       one of them       above both          what is between sockets
//! ```

use super::pci::Pci;
use super::{Gpu, Host};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Something of a host that data comes from or goes to, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// A NUMA node: its processors and its memory.
    Node(u32),
    /// A GPU.
    Gpu(u32),
    /// A network controller.
    Nic(u32),
}

/// What lies between two spots, from near to far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Nothing.
    Same,
    /// Links between GPUs, or a switch of them.
    NvLink,
    /// Another GPU that has links to both.
    NvBridge,
    /// A coherent link between a GPU and its processor.
    Coherent,
    /// One PCI switch.
    OneSwitch,
    /// Several PCI switches.
    Switches,
    /// The root complex of a node.
    HostBridge,
    /// Two root complexes.
    System,
}

impl Way {
    /// The letters that NCCL's logs have for it.
    pub fn letters(self) -> &'static str {
        match self {
            Way::Same => "LOC",
            Way::NvLink => "NVL",
            Way::NvBridge => "NVB",
            Way::Coherent => "C2C",
            Way::OneSwitch => "PIX",
            Way::Switches => "PXB",
            Way::HostBridge => "PHB",
            Way::System => "SYS",
        }
    }
}

/// A way with its narrowest part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// What lies between.
    pub way: Way,
    /// Megabytes a second through the narrowest part; `u32::MAX` where nothing limits it.
    pub bandwidth: u32,
}

/// A network interface as it is reached from somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Index into [`Host::nics`].
    pub nic: u32,
    /// Index into its interfaces.
    pub net: u32,
    /// How.
    pub route: Route,
}

/// What the processors are, where that is known; empty and 0 where it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processor {
    /// `x86_64`, `arm64`, `ppc64`.
    pub arch: String,
    /// `GenuineIntel`, `AuthenticAMD`.
    pub vendor: String,
    /// Its family.
    pub family: u32,
    /// Its model.
    pub model: u32,
}

impl Processor {
    /// Megabytes a second between two sockets. Facts about makes, as NCCL has them.
    pub fn interconnect(&self) -> u32 {
        match (self.arch.as_str(), self.vendor.as_str(), self.family, self.model) {
            ("ppc64", ..) => 32_000,
            ("x86_64", "AuthenticAMD", 26 | 0xbf, _) => 32_000,
            ("x86_64", "AuthenticAMD", 25 | 0xaf, _) => 24_000,
            ("x86_64", "AuthenticAMD", ..) => 16_000,
            ("x86_64", "GenuineIntel", 6, 0xad..=0xaf | 0xcf..) => 40_000,
            ("x86_64", "GenuineIntel", 6, 0x8f..) => 22_000,
            ("x86_64", "GenuineIntel", 6, 0x55..) => 10_000,
            _ => 6_000,
        }
    }
}

impl Host {
    /// The way from one spot to another; nothing when there is no such spot.
    pub fn route(&self, from: Spot, to: Spot) -> Option<Route> {
        let (a, b) = (self.chain(from)?, self.chain(to)?);
        if from == to {
            return Some(Route { way: Way::Same, bandwidth: u32::MAX });
        }
        let direct = match (from, to) {
            (Spot::Gpu(one), Spot::Gpu(other)) => self.between_gpus(one, other),
            (Spot::Gpu(gpu), Spot::Node(node)) | (Spot::Node(node), Spot::Gpu(gpu)) => self.coherent(gpu, node),
            _ => None,
        };
        Some(direct.unwrap_or_else(|| self.over_pci(&a, &b)))
    }

    /// The network interfaces that are not known to be down, from the nearest to the farthest; of two that are as near, the wider first.
    pub fn nets_from(&self, spot: Spot) -> Vec<Reach> {
        let mut all = Vec::new();
        for (nic, controller) in self.nics.iter().enumerate() {
            let Some(route) = self.route(spot, Spot::Nic(nic as u32)) else { continue };
            for (net, interface) in controller.nets.iter().enumerate().filter(|(_, net)| !net.down) {
                let own = if interface.speed > 0 { interface.speed / 8 } else { u32::MAX };
                let route = Route { bandwidth: route.bandwidth.min(own), ..route };
                all.push(Reach { nic: nic as u32, net: net as u32, route });
            }
        }
        all.sort_by_key(|reach| (reach.route.way, Reverse(reach.route.bandwidth), reach.nic, reach.net));
        all
    }

    /// The functions from a spot up to its root complex, and the node of that.
    fn chain(&self, spot: Spot) -> Option<Chain<'_>> {
        let (mut at, node, coherent) = match spot {
            Spot::Node(node) => (None, node, 0),
            Spot::Gpu(gpu) => {
                let Gpu { pci, c2c, .. } = *self.gpus.get(gpu as usize)?;
                (Some(pci), self.pci.get(pci as usize)?.node, c2c)
            }
            Spot::Nic(nic) => {
                let nic = self.nics.get(nic as usize)?;
                (nic.pci, nic.node, 0)
            }
        };
        self.nodes.get(node as usize)?;
        let mut functions = Vec::new();
        while let Some(index) = at {
            let function = self.pci.get(index as usize)?;
            functions.push((index, function));
            // A parent comes before its children.
            at = function.parent.filter(|parent| *parent < index);
        }
        Some(Chain { functions, node, coherent })
    }

    fn between_gpus(&self, one: u32, other: u32) -> Option<Route> {
        let gpu = |index: u32| self.gpus.get(index as usize);
        let address = |index: u32| Some(self.pci.get(gpu(index)?.pci as usize)?.address);
        let direct = |from: u32, to: u32| -> Option<u32> {
            let (there, over_switch) = gpu(from)?.bandwidth_to(address(to)?);
            let (_, back_over_switch) = gpu(to)?.bandwidth_to(address(from)?);
            let widest = there.max(over_switch.min(back_over_switch));
            (widest > 0).then_some(widest)
        };
        if let Some(bandwidth) = direct(one, other) {
            return Some(Route { way: Way::NvLink, bandwidth });
        }
        let bridges = (0..self.gpus.len() as u32).filter(|third| *third != one && *third != other);
        let over = bridges.filter_map(|third| Some(direct(one, third)?.min(direct(third, other)?)));
        over.max().map(|bandwidth| Route { way: Way::NvBridge, bandwidth })
    }

    fn coherent(&self, gpu: u32, node: u32) -> Option<Route> {
        let gpu = self.gpus.get(gpu as usize)?;
        let near = self.pci.get(gpu.pci as usize)?.node == node && gpu.c2c > 0;
        near.then_some(Route { way: Way::Coherent, bandwidth: gpu.c2c })
    }

    fn over_pci(&self, a: &Chain<'_>, b: &Chain<'_>) -> Route {
        let common = a.functions.iter().find(|(index, _)| b.functions.iter().any(|(other, _)| other == index));
        let below = |chain: &Chain<'_>| -> (u32, usize) {
            let until = chain.functions.iter().position(|(index, _)| common.is_some_and(|(shared, _)| shared == index));
            let crossed = &chain.functions[..until.unwrap_or(chain.functions.len())];
            let narrowest = crossed.iter().map(|(_, function)| function.bandwidth()).min().unwrap_or(u32::MAX);
            // Over the root complex a coherent GPU goes by its own link to the processor.
            let narrowest = if common.is_none() && chain.coherent > 0 { chain.coherent } else { narrowest };
            // The first is the spot itself, the others are switches, whatever a file calls them.
            (narrowest, crossed.len().saturating_sub(1))
        };
        let ((left, left_switches), (right, right_switches)) = (below(a), below(b));
        let bandwidth = left.min(right);
        let card = |chain: &Chain<'_>| {
            let address = chain.functions.first()?.1.address;
            Some((address.domain, address.bus, address.device))
        };
        let way = match common {
            // Ports of one card need not go up to the root complex.
            None if card(a).is_some() && card(a) == card(b) => Way::OneSwitch,
            Some(_) if left_switches + right_switches == 0 => Way::OneSwitch,
            Some(_) => Way::Switches,
            None if a.node == b.node => Way::HostBridge,
            None => return Route { way: Way::System, bandwidth: bandwidth.min(self.processor.interconnect()) },
        };
        Route { way, bandwidth }
    }
}

/// What is above a spot.
struct Chain<'a> {
    functions: Vec<(u32, &'a Pci)>,
    node: u32,
    /// The bandwidth of a coherent GPU's link to its processor.
    coherent: u32,
}

#[cfg(test)]
mod tests {
    use super::super::tests::accelerated;
    use super::*;

    fn way(host: &Host, from: Spot, to: Spot) -> (Way, u32) {
        let route = host.route(from, to).unwrap();
        (route.way, route.bandwidth)
    }

    #[test]
    fn ways_grow_from_the_same_switch_to_the_other_socket() {
        let host = accelerated();
        assert_eq!(way(&host, Spot::Gpu(0), Spot::Gpu(0)), (Way::Same, u32::MAX));
        assert_eq!(way(&host, Spot::Gpu(0), Spot::Nic(0)), (Way::OneSwitch, 24_000));
        assert_eq!(way(&host, Spot::Gpu(0), Spot::Nic(1)), (Way::HostBridge, 12_000));
        assert_eq!(way(&host, Spot::Gpu(0), Spot::Nic(2)), (Way::System, 10_000));
        assert_eq!(way(&host, Spot::Gpu(2), Spot::Nic(2)), (Way::Switches, 24_000));
        assert_eq!(way(&host, Spot::Node(0), Spot::Gpu(0)), (Way::HostBridge, 24_000));
        assert_eq!(way(&host, Spot::Node(0), Spot::Node(1)), (Way::System, 10_000));
        assert_eq!(host.route(Spot::Gpu(9), Spot::Node(0)), None);
        assert_eq!(host.route(Spot::Node(0), Spot::Node(2)), None);
    }

    #[test]
    fn links_between_gpus_come_before_pci_and_another_gpu_can_bridge() {
        let mut host = accelerated();
        assert_eq!(way(&host, Spot::Gpu(0), Spot::Gpu(1)), (Way::NvLink, 80_000));
        assert_eq!(way(&host, Spot::Gpu(0), Spot::Gpu(2)), (Way::NvBridge, 40_000));
        host.gpus[0].links.clear();
        host.gpus[1].links.retain(|link| link.count == 2);
        assert_eq!(way(&host, Spot::Gpu(0), Spot::Gpu(2)).0, Way::System);
    }

    #[test]
    fn a_switch_is_as_wide_as_the_narrower_side() {
        let mut host = accelerated();
        let switch = |count| super::super::NvLink { target: "0000:c0:00.0".parse().unwrap(), count, class: 0x068000 };
        host.gpus[0].links = alloc::vec![switch(12)];
        host.gpus[2].links = alloc::vec![switch(6), switch(2)];
        assert_eq!(way(&host, Spot::Gpu(0), Spot::Gpu(2)), (Way::NvLink, 160_000));
    }

    #[test]
    fn a_coherent_gpu_is_nearer_to_its_own_processor_than_to_the_other() {
        let mut host = accelerated();
        host.gpus[0].c2c = 450_000;
        assert_eq!(way(&host, Spot::Node(0), Spot::Gpu(0)), (Way::Coherent, 450_000));
        assert_eq!(way(&host, Spot::Gpu(0), Spot::Node(1)).0, Way::System);
    }

    #[test]
    fn a_coherent_gpu_reaches_a_card_by_way_of_its_processor() {
        let mut host = accelerated();
        // Its PCI link is there for show.
        (host.gpus[1].c2c, host.pci[4].speed, host.pci[4].width) = (450_000, 2_500, 1);
        assert_eq!(way(&host, Spot::Gpu(1), Spot::Nic(1)), (Way::HostBridge, 12_000));
    }

    #[test]
    fn ports_of_one_card_are_nearer_to_each_other_than_to_other_cards() {
        let mut host = accelerated();
        host.pci[8].address = "0000:3a:00.1".parse().unwrap();
        (host.pci[8].parent, host.pci[8].node, host.nics[2].node) = (None, 0, 0);
        assert_eq!(way(&host, Spot::Nic(1), Spot::Nic(2)).0, Way::OneSwitch);
        assert_eq!(way(&host, Spot::Nic(0), Spot::Nic(2)).0, Way::HostBridge);
    }

    #[test]
    fn the_nearest_interface_that_is_up_comes_first_and_the_wider_of_two() {
        let mut host = accelerated();
        let order =
            |host: &Host, spot| host.nets_from(spot).iter().map(|reach| (reach.nic, reach.net)).collect::<Vec<_>>();
        assert_eq!(order(&host, Spot::Gpu(0)), [(0, 0), (1, 1), (1, 0), (2, 0)]);
        assert_eq!(order(&host, Spot::Gpu(2)), [(2, 0), (0, 0), (1, 1), (1, 0)]);
        host.nics[0].nets[0].down = true;
        assert_eq!(order(&host, Spot::Node(0))[0], (1, 1));
    }
}
