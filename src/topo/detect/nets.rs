//! sysfs to network interfaces, and to the ports of RDMA devices.

use super::pci::place;
use super::read::Tree;
use crate::topo::graph::{Host, Net, NetKind, Nic};

const INTERFACES: &str = "sys/class/net";
const RDMA: &str = "sys/class/infiniband";

/// Adds every interface that traffic can go over by itself: those with hardware below them, but not those that are tied together into
/// another one, which then stands for them. In a container there may be none with hardware, and then whatever is not the loopback counts.
pub(super) fn read_interfaces(tree: &Tree, host: &mut Host) {
    let mut dev = 0;
    let names = tree.names(INTERFACES);
    let any = names.iter().any(|name| hardware(tree, name, 0).is_some());
    for name in names {
        let hardware = hardware(tree, &name, 0);
        if hardware.is_none() && any {
            continue;
        }
        let path = format!("{INTERFACES}/{name}");
        let value = |file: &str| tree.peek(&format!("{path}/{file}")).map(|text| text.trim().to_string());
        // Their own kind of link layer; see if_arp.h.
        let loopback = value("type").as_deref() == Some("772");
        if loopback || is_part(tree, &path) || !tree.exists(&format!("{path}/operstate")) {
            continue;
        }
        let net = Net {
            name: word(&name),
            dev,
            kind: NetKind::Socket,
            // Nothing, or -1, from one that is down or has no such thing as a speed.
            speed: value("speed").and_then(|speed| speed.parse().ok()).unwrap_or(0),
            port: value("dev_port").and_then(|port| port.parse::<u32>().ok()).unwrap_or(0).saturating_add(1),
            down: value("operstate")
                .is_some_and(|state| matches!(state.as_str(), "down" | "lowerlayerdown" | "notpresent")),
            ..Net::default()
        };
        dev += 1;
        let pci = hardware.and_then(|device| place(tree, host, &device));
        attach(host, pci, None, net);
    }
}

/// The device of an interface, or of the first one below it that has one: a bond, a bridge, a VLAN is where that is.
fn hardware(tree: &Tree, name: &str, depth: u32) -> Option<String> {
    const DEEPEST: u32 = 4;
    let path = format!("{INTERFACES}/{name}");
    let device = format!("{path}/device");
    if tree.exists(&device) {
        return Some(device);
    }
    let entries = tree.names(&path);
    let mut below = entries.iter().filter_map(|entry| entry.strip_prefix("lower_")).filter(|_| depth < DEEPEST);
    below.find_map(|below| hardware(tree, below, depth + 1))
}

/// Whether an interface is a part of a bond, a bridge or a pair with a virtual function, which has its address. A routing domain has not.
fn is_part(tree: &Tree, path: &str) -> bool {
    let master = tree.peek(&format!("{path}/master/uevent"));
    master.is_some_and(|events| !events.lines().any(|line| line == "DEVTYPE=vrf"))
}

/// Adds every port of every RDMA device.
pub(super) fn read_rdma(tree: &Tree, host: &mut Host) {
    let mut dev = 0;
    for name in tree.names(RDMA) {
        let path = format!("{RDMA}/{name}");
        let value = |file: &str| tree.peek(&format!("{path}/{file}")).map(|text| text.trim().to_string());
        let guid =
            value("node_guid").and_then(|guid| u64::from_str_radix(&guid.replace(':', ""), 16).ok()).unwrap_or(0);
        let iwarp = value("node_type").is_some_and(|kind| kind.starts_with("4:"));
        // One made of software is where its interface is.
        let below = value("parent").filter(|_| !tree.exists(&format!("{path}/device")));
        let device =
            below.as_ref().map_or_else(|| format!("{path}/device"), |name| format!("{INTERFACES}/{name}/device"));
        let pci = place(tree, host, &device);
        for port in tree.names(&format!("{path}/ports")) {
            let Ok(number) = port.parse() else { continue };
            let of_port = |file: &str| value(&format!("ports/{port}/{file}"));
            let kind = match of_port("link_layer").as_deref() {
                _ if iwarp => NetKind::Iwarp,
                Some("InfiniBand") => NetKind::InfiniBand,
                Some("Ethernet") => NetKind::Roce,
                _ => NetKind::Unknown,
            };
            let net = Net {
                name: word(&name),
                dev,
                kind,
                speed: of_port("rate").and_then(|rate| megabits(&rate)).unwrap_or(0),
                port: number,
                guid,
                down: of_port("state").is_some_and(|state| !state.starts_with("4:")),
                ..Net::default()
            };
            dev += 1;
            attach(host, pci, below.as_deref(), net);
        }
    }
}

/// Puts an interface to the controller that has it: that of a function, or of another interface, or one of its own.
fn attach(host: &mut Host, pci: Option<u32>, beside: Option<&str>, net: Net) {
    let has = |nic: &Nic| match pci {
        Some(_) => nic.pci == pci,
        None => nic.nets.iter().any(|other| Some(other.name.as_str()) == beside),
    };
    match host.nics.iter_mut().find(|nic| has(nic)) {
        Some(nic) => nic.nets.push(net),
        None => {
            let node = pci.map_or(0, |at| host.pci[at as usize].node);
            host.nics.push(Nic { pci, node, nets: vec![net] });
        }
    }
}

/// `100 Gb/sec (4X EDR)`, `2.5 Gb/sec (1X SDR)`.
fn megabits(rate: &str) -> Option<u32> {
    let (number, unit) = rate.split_once(' ')?;
    let gigabits: f64 = number.parse().ok().filter(|_| unit.starts_with("Gb/sec"))?;
    (0.0..1e6).contains(&gigabits).then(|| (gigabits * 1e3).round() as u32)
}

fn word(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::Fake;
    use super::*;
    use crate::topo::graph::{Spot, Way};

    /// A switch with a GPU and an RDMA device with its interface, and a card of its own at the second node.
    fn machine(fake: &Fake) -> &Fake {
        let at = "sys/devices/pci0000:16/0000:16:02.0/0000:17:00.0";
        let function = |path: &str, class: &str, speed: &str, node: &str| {
            let name = path.rsplit('/').next().unwrap().to_string();
            fake.file(&format!("{path}/class"), format!("{class}\n"))
                .file(&format!("{path}/vendor"), "0x15b3\n")
                .file(&format!("{path}/max_link_speed"), format!("{speed}\n"))
                .file(&format!("{path}/max_link_width"), "16\n")
                .file(&format!("{path}/numa_node"), format!("{node}\n"))
                .link(&format!("sys/bus/pci/devices/{name}"), path);
        };
        fake.processors()
            .file("sys/devices/system/node/online", "0-1\n")
            .file("sys/devices/system/node/node0/cpulist", "0-3\n")
            .file("sys/devices/system/node/node1/cpulist", "4-7\n");
        function("sys/devices/pci0000:16/0000:16:02.0", "0x060400", "16.0 GT/s PCIe", "0");
        function(at, "0x060400", "32.0 GT/s PCIe", "0");
        for (port, device, class) in [("18:00", "19:00", "0x030200"), ("18:01", "1a:00", "0x020000")] {
            function(&format!("{at}/0000:{port}.0"), "0x060400", "32.0 GT/s PCIe", "0");
            function(&format!("{at}/0000:{port}.0/0000:{device}.0"), class, "32.0 GT/s PCIe", "0");
        }
        function("sys/devices/pci0000:80/0000:80:01.0/0000:81:00.0", "0x020000", "8.0 GT/s PCIe", "1");
        let card = format!("{at}/0000:18:01.0/0000:1a:00.0");
        interface(fake, "ens1", &card, "100000", "up");
        interface(fake, "eth0", "sys/devices/pci0000:80/0000:80:01.0/0000:81:00.0/virtio3", "-1", "up");
        interface(fake, "eth1", "sys/devices/pci0000:80/0000:80:01.0/0000:81:00.0/virtio3", "10000", "down");
        fake.file("sys/class/net/lo/type", "772\n").file("sys/class/net/lo/operstate", "unknown\n");
        fake.file(&format!("{card}/infiniband/mlx5_0/node_guid"), "0c42:a103:0065:3bc0\n")
            .file(&format!("{card}/infiniband/mlx5_0/node_type"), "1: CA\n")
            .file(&format!("{card}/infiniband/mlx5_0/ports/1/state"), "4: ACTIVE\n")
            .file(&format!("{card}/infiniband/mlx5_0/ports/1/rate"), "100 Gb/sec (4X EDR)\n")
            .file(&format!("{card}/infiniband/mlx5_0/ports/1/link_layer"), "Ethernet\n")
            .link(&format!("{card}/infiniband/mlx5_0/device"), &card)
            .link("sys/class/infiniband/mlx5_0", &format!("{card}/infiniband/mlx5_0"))
    }

    fn interface(fake: &Fake, name: &str, device: &str, speed: &str, state: &str) {
        let path = format!("{device}/net/{name}");
        fake.file(&format!("{path}/type"), "1\n")
            .file(&format!("{path}/speed"), format!("{speed}\n"))
            .file(&format!("{path}/operstate"), format!("{state}\n"))
            .link(&format!("{path}/device"), device)
            .link(&format!("sys/class/net/{name}"), &path);
    }

    #[test]
    fn switches_count_once_and_interfaces_find_their_function() {
        let fake = Fake::new("pci");
        let host = machine(&fake).detect().host;
        assert_eq!(host.validate(), Ok(()));
        let tree: Vec<(String, Option<u32>, u32)> =
            host.pci.iter().map(|pci| (pci.address.to_string(), pci.parent, pci.node)).collect();
        let expected = [
            ("0000:17:00.0", None, 0),
            ("0000:19:00.0", Some(0), 0),
            ("0000:1a:00.0", Some(0), 0),
            ("0000:81:00.0", None, 1),
        ];
        assert_eq!(tree, expected.map(|(address, parent, node)| (address.to_string(), parent, node)));
        // The root port is slower than the switch.
        assert_eq!((host.pci[0].speed, host.pci[1].speed, host.pci[1].width), (16_000, 32_000, 16));
        let nets: Vec<Vec<&str>> =
            host.nics.iter().map(|nic| nic.nets.iter().map(|net| net.name.as_str()).collect()).collect();
        assert_eq!(nets, [vec!["ens1", "mlx5_0"], vec!["eth0", "eth1"]]);
        let rdma = &host.nics[0].nets[1];
        assert_eq!((rdma.kind, rdma.speed, rdma.port, rdma.guid), (NetKind::Roce, 100_000, 1, 0x0c42_a103_0065_3bc0));
        assert_eq!((host.nics[1].nets[0].speed, host.nics[1].nets[1].down), (0, true));
        assert_eq!(host.route(Spot::Nic(0), Spot::Nic(1)).unwrap().way, Way::System);
        assert_eq!(host.nets_from(Spot::Node(1))[0].nic, 1);
    }

    #[test]
    fn a_bond_stands_for_its_parts_and_what_has_no_hardware_is_left_out() {
        let fake = Fake::new("bond");
        machine(&fake);
        for name in ["bond0", "docker0", "veth7", "ifb0", "vlan5", "vrf1"] {
            let path = format!("sys/class/net/{name}");
            fake.file(&format!("{path}/operstate"), "up").file(&format!("{path}/speed"), "10000");
        }
        fake.file("sys/class/net/bond0/uevent", "INTERFACE=bond0\nDEVTYPE=bond\n")
            .file("sys/class/net/vrf1/uevent", "DEVTYPE=vrf\nINTERFACE=vrf1\n")
            .link("sys/class/net/bond0/lower_ens1", "sys/class/net/ens1")
            .link("sys/class/net/ens1/master", "sys/class/net/bond0")
            .link("sys/class/net/vlan5/lower_bond0", "sys/class/net/bond0")
            .link("sys/class/net/docker0/lower_veth7", "sys/class/net/veth7")
            .link("sys/class/net/eth0/master", "sys/class/net/vrf1");
        let host = fake.detect().host;
        let with = |name: &str| host.nics.iter().find(|nic| nic.nets.iter().any(|net| net.name == name));
        assert_eq!(with("bond0").and_then(|nic| nic.pci), Some(2));
        assert_eq!(with("vlan5").and_then(|nic| nic.pci), Some(2));
        assert!(with("eth0").is_some(), "a routing domain does not take its address");
        for gone in ["ens1", "docker0", "veth7", "ifb0", "lo"] {
            assert!(with(gone).is_none(), "{gone}");
        }
    }

    #[test]
    fn in_a_container_what_is_there_counts() {
        let fake = Fake::new("pod");
        fake.processors().file("sys/class/net/eth0/operstate", "up\n").file("sys/class/net/lo/type", "772\n");
        fake.file("sys/class/net/lo/operstate", "unknown\n");
        let host = fake.detect().host;
        assert_eq!((host.nics.len(), host.nics[0].nets[0].name.as_str()), (1, "eth0"));
    }

    #[test]
    fn devices_of_software_are_beside_their_interface() {
        let fake = Fake::new("rxe");
        fake.processors()
            .file("sys/class/net/eth0/operstate", "unknown\n")
            .file("sys/class/infiniband/rxe0/parent", "eth0\n");
        fake.file("sys/class/infiniband/rxe0/ports/1/link_layer", "Ethernet\n")
            .file("sys/class/infiniband/siw0/node_type", "4: RNIC\n");
        fake.file("sys/class/infiniband/siw0/ports/1/state", "1: DOWN\n")
            .file("sys/class/infiniband/siw0/parent", "eth7\n");
        let host = fake.detect().host;
        assert_eq!(host.nics.len(), 2);
        assert_eq!((host.nics[0].nets[0].name.as_str(), host.nics[0].nets[1].name.as_str()), ("eth0", "rxe0"));
        let siw = &host.nics[1].nets[0];
        assert_eq!((siw.kind, siw.down), (NetKind::Iwarp, true));
    }

    #[test]
    fn rates_are_read_with_a_fraction_and_refused_without_a_unit() {
        assert_eq!((megabits("2.5 Gb/sec (1X SDR)"), megabits("400 Gb/sec (4X NDR)")), (Some(2_500), Some(400_000)));
        assert_eq!(
            (megabits("100"), megabits("x Gb/sec"), megabits("-1 Gb/sec"), megabits("")),
            (None, None, None, None)
        );
    }
}
