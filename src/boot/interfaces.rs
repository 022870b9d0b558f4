//! The network interfaces of this host, and which of their addresses others are told.
//!
//! ```text
//!   RINGTREE_ADDRESS            that one
//!   all ranks on one host       the loopback
//!   RINGTREE_INTERFACE          those whose names begin so; `^` in front: all others; `=` in front: exactly those names
//!   otherwise                   all that are up and lead out of this host, the one of the default route first
//! ```

use super::config::BootConfig;
use crate::{Error, Result};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// An address of this host and the part of it, in bits, that all addresses of its network share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) ip: IpAddr,
    pub(crate) prefix: u8,
}

impl Site {
    /// One whose network is not known.
    pub(crate) fn alone(ip: IpAddr) -> Site {
        Site { ip, prefix: if ip.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether that address is reached without a router.
    pub(crate) fn is_beside(&self, other: IpAddr) -> bool {
        let (bits, own, theirs) = match (self.ip, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (32, u128::from(own.to_bits()), u128::from(other.to_bits())),
            (IpAddr::V6(own), IpAddr::V6(other)) => (128, own.to_bits(), other.to_bits()),
            _ => return false,
        };
        let rest = bits - u32::from(self.prefix).min(bits);
        rest >= 128 || own >> rest == theirs >> rest
    }
}

/// An interface that is up, with one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) site: Site,
}

/// Interfaces of container engines, hypervisors and overlays: they lead nowhere, or only to where another one leads too.
const INWARD: [&str; 12] =
    ["docker", "br-", "virbr", "veth", "vnet", "cni", "flannel", "cali", "podman", "lxc", "lxd", "kube"];

/// A choice of interfaces by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// As it was written.
    text: String,
    parts: Vec<String>,
    but: bool,
    exactly: bool,
}

impl Names {
    /// Reads `eth`, `eth0,eth1`, `=eth0`, `^docker,lo`, `^=eth3`.
    pub(crate) fn parse(text: &str) -> Option<Names> {
        let rest = text.trim();
        let (but, rest) = rest.strip_prefix('^').map_or((false, rest), |rest| (true, rest));
        let (exactly, rest) = rest.strip_prefix('=').map_or((false, rest), |rest| (true, rest));
        let parts: Vec<String> = rest.split(',').map(|part| part.trim().to_string()).collect();
        let sound = |part: &String| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c == '^');
        parts.iter().all(sound).then(|| Names { text: text.trim().to_string(), parts, but, exactly })
    }

    /// Whether a port of a device is meant: `mlx5_0` means all of it, `mlx5_0:1` one port.
    pub(crate) fn takes_port(&self, device: &str, port: u8) -> bool {
        let is = |part: &String| {
            let (name, number) = part.split_once(':').map_or((part.as_str(), None), |(name, port)| (name, Some(port)));
            let named = if self.exactly { device == name } else { device.starts_with(name) };
            named && number.is_none_or(|number| number == port.to_string())
        };
        self.parts.iter().any(is) != self.but
    }

    fn take(&self, name: &str) -> bool {
        let is = |part: &String| if self.exactly { name == part } else { name.starts_with(part.as_str()) };
        self.parts.iter().any(is) != self.but
    }
}

/// Which addresses of interfaces are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Reads `4`, `ipv4`, `AF_INET`, `6`, `ipv6`, `AF_INET6`.
    pub(crate) fn parse(text: &str) -> Option<Family> {
        match text.trim().to_ascii_lowercase().as_str() {
            "4" | "ipv4" | "af_inet" => Some(Family::V4),
            "6" | "ipv6" | "af_inet6" => Some(Family::V6),
            _ => None,
        }
    }
}

/// All interfaces that are up and running, with their addresses.
fn all() -> Vec<Interface> {
    let found = match getifaddrs() {
        Ok(found) => found,
        Err(errno) => {
            log::warn!("the addresses of this host can't be read ({})", errno.desc());
            return Vec::new();
        }
    };
    let running = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    let up = found.filter(|one| one.flags.contains(running));
    let interface = |one: nix::ifaddrs::InterfaceAddress| {
        let ip = ip_of(&one.address?)?;
        let prefix = one.netmask.as_ref().and_then(ip_of).map(|mask| match mask {
            IpAddr::V4(mask) => mask.to_bits().leading_ones() as u8,
            IpAddr::V6(mask) => mask.to_bits().leading_ones() as u8,
        });
        let site = prefix.map_or(Site::alone(ip), |prefix| Site { ip, prefix });
        Some(Interface { name: one.interface_name, site })
    };
    up.filter_map(interface).collect()
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// The addresses of this host, with their interfaces.
pub(crate) fn addresses() -> Vec<(String, IpAddr)> {
    all().into_iter().map(|one| (one.name, one.site.ip)).collect()
}

/// The most addresses of a rank that others are told.
pub(crate) const MOST_SITES: usize = 8;

/// The addresses of this host that others reach it at, the one that others should try first at the front. Never none.
pub(crate) fn sites(config: &BootConfig) -> Result<Vec<Site>> {
    if let Some(address) = config.address {
        return Ok(vec![Site::alone(address.ip())]);
    }
    if config.one_host {
        return Ok(vec![Site { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), prefix: 8 }]);
    }
    let mut chosen = choose(all(), config.interfaces.as_ref(), config.family, default_route(config.family))?;
    chosen.truncate(MOST_SITES);
    Ok(chosen)
}

/// The useful ones of these interfaces, the one with that address first.
fn choose(
    all: Vec<Interface>,
    names: Option<&Names>,
    family: Option<Family>,
    first: Option<IpAddr>,
) -> Result<Vec<Site>> {
    let local = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let inward = |name: &str| INWARD.iter().any(|part| name.starts_with(part));
    let taken = |one: &&Interface| match names {
        Some(names) => names.take(&one.name),
        None => !one.site.ip.is_loopback() && (!inward(&one.name) || Some(one.site.ip) == first),
    };
    let of_family = |one: &&Interface| match family {
        Some(Family::V4) => one.site.ip.is_ipv4(),
        Some(Family::V6) => one.site.ip.is_ipv6(),
        None => true,
    };
    let mut taken: Vec<&Interface> =
        all.iter().filter(|one| !local(one.site.ip)).filter(taken).filter(of_family).collect();
    // One address of an interface is enough, and the older family is routed everywhere.
    taken.sort_by_key(|one| (Some(one.site.ip) != first, one.site.ip.is_ipv6()));
    let mut chosen: Vec<&Interface> = Vec::new();
    for one in taken {
        if !chosen.iter().any(|other| other.name == one.name) {
            chosen.push(one);
        }
    }
    if chosen.is_empty() && (names.is_some() || family.is_some()) {
        return Err(nothing_fits(&all, names, family));
    }
    if chosen.is_empty() {
        log::warn!("this host has no address that others could reach: only ranks of this host can join");
        return Ok(vec![Site { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), prefix: 8 }]);
    }
    Ok(chosen.iter().map(|one| one.site).collect())
}

fn nothing_fits(all: &[Interface], names: Option<&Names>, family: Option<Family>) -> Error {
    let there: Vec<String> = all.iter().map(|one| format!("{} ({})", one.name, one.site.ip)).collect();
    let of_names = names.map_or(String::new(), |names| format!(" that RINGTREE_INTERFACE '{}' means", names.text));
    let of_family = match family {
        Some(Family::V4) => " with an IPv4 address",
        Some(Family::V6) => " with an IPv6 address",
        None => "",
    };
    Error::Choice {
        what: format!(
            "this host has no interface{of_names}{of_family}: up are {}",
            if there.is_empty() { "none".into() } else { there.join(", ") }
        ),
        advice: "Change RINGTREE_INTERFACE (or NCCL_SOCKET_IFNAME) and RINGTREE_FAMILY (or NCCL_SOCKET_FAMILY)".into(),
    }
}

/// The address that the default route would use. Connecting a datagram socket sends nothing, but the kernel chooses. The far addresses are
/// of the ranges reserved for documentation.
fn default_route(family: Option<Family>) -> Option<IpAddr> {
    let ask = |here: &str, far: &str| {
        let socket = UdpSocket::bind(here).ok()?;
        socket.connect(far).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
    };
    let v4 = || ask("0.0.0.0:0", "192.0.2.1:9");
    let v6 = || ask("[::]:0", "[2001:db8::1]:9");
    match family {
        Some(Family::V4) => v4(),
        Some(Family::V6) => v6(),
        None => v4().or_else(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(list: &[(&str, &str, u8)]) -> Vec<Interface> {
        let one = |(name, ip, prefix): &(&str, &str, u8)| Interface {
            name: name.to_string(),
            site: Site { ip: ip.parse().unwrap(), prefix: *prefix },
        };
        list.iter().map(one).collect()
    }

    fn host() -> Vec<Interface> {
        there(&[
            ("lo", "127.0.0.1", 8),
            ("eth0", "10.0.0.5", 24),
            ("eth1", "10.1.0.5", 24),
            ("docker0", "172.17.0.1", 16),
            ("lo", "::1", 128),
            ("eth0", "fd00::5", 64),
            ("eth1", "fe80::7", 64),
            ("ib0", "192.168.9.5", 24),
        ])
    }

    fn chosen(names: Option<&str>, family: Option<Family>, first: Option<&str>) -> Result<Vec<String>> {
        let names = names.map(|text| Names::parse(text).unwrap());
        let sites = choose(host(), names.as_ref(), family, first.map(|ip| ip.parse().unwrap()))?;
        Ok(sites.iter().map(|site| site.ip.to_string()).collect())
    }

    #[test]
    fn what_leads_out_is_taken_and_the_default_route_comes_first() {
        assert_eq!(chosen(None, None, Some("10.1.0.5")).unwrap(), ["10.1.0.5", "10.0.0.5", "192.168.9.5"]);
        assert_eq!(chosen(None, Some(Family::V6), None).unwrap(), ["fd00::5"]);
        let only_a_bridge = there(&[("lo", "127.0.0.1", 8), ("br-3", "10.9.0.1", 24)]);
        let ip = "10.9.0.1".parse().unwrap();
        assert_eq!(choose(only_a_bridge, None, None, Some(ip)).unwrap(), [Site { ip, prefix: 24 }]);
        assert_eq!(choose(there(&[("lo", "127.0.0.1", 8)]), None, None, None).unwrap()[0].ip.to_string(), "127.0.0.1");
    }

    #[test]
    fn names_choose_by_beginning_exactly_or_by_exclusion() {
        assert_eq!(chosen(Some("eth"), None, None).unwrap(), ["10.0.0.5", "10.1.0.5"]);
        assert_eq!(chosen(Some("ib,eth1"), None, None).unwrap(), ["10.1.0.5", "192.168.9.5"]);
        assert_eq!(chosen(Some("=eth0"), None, None).unwrap(), ["10.0.0.5"]);
        assert_eq!(chosen(Some("^lo,docker,ib"), None, None).unwrap(), ["10.0.0.5", "10.1.0.5"]);
        assert_eq!(chosen(Some("lo"), None, None).unwrap(), ["127.0.0.1"]);
        assert_eq!(chosen(Some("^=eth0"), Some(Family::V4), None).unwrap().len(), 4);
        for nonsense in ["", "^", "=", "eth0,,eth1", "a b", "eth0,^eth1"] {
            assert_eq!(Names::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn ports_are_chosen_as_interfaces_are_and_by_number() {
        let takes = |text: &str, device: &str, port: u8| Names::parse(text).unwrap().takes_port(device, port);
        assert!(takes("mlx5", "mlx5_3", 2) && takes("mlx5_0:1,mlx5_1:1", "mlx5_1", 1));
        assert!(!takes("mlx5_0:1,mlx5_1:1", "mlx5_1", 2) && !takes("=mlx5_1", "mlx5_10", 1));
        assert!(takes("^mlx5_0:1", "mlx5_0", 2) && !takes("^=mlx5_0", "mlx5_0", 1));
    }

    #[test]
    fn a_choice_that_leaves_nothing_says_what_there_is() {
        let message = chosen(Some("ens"), None, None).unwrap_err().to_string();
        assert!(message.contains("'ens'") && message.contains("eth1 (10.1.0.5)"), "{message}");
        let message = chosen(Some("ib0"), Some(Family::V6), None).unwrap_err().to_string();
        assert!(message.contains("IPv6"), "{message}");
    }

    #[test]
    fn networks_are_told_apart_by_their_prefixes() {
        let site = Site { ip: "10.0.3.5".parse().unwrap(), prefix: 22 };
        for (other, beside) in [("10.0.0.1", true), ("10.0.4.1", false), ("fd00::1", false)] {
            assert_eq!(site.is_beside(other.parse().unwrap()), beside, "{other}");
        }
        assert!(Site { ip: "fd00::1".parse().unwrap(), prefix: 0 }.is_beside("::1".parse().unwrap()));
        assert!(!Site::alone("10.0.0.1".parse().unwrap()).is_beside("10.0.0.2".parse().unwrap()));
    }
}
