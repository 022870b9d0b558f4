//! Which of a port's addresses (GIDs) to use. RoCE ports have one entry for each address of their network interface and each version of the
//! protocol; in a container the table also has entries of interfaces that are elsewhere.
//!
//! ```text
//!   asked for by index            that one
//!   InfiniBand                    the first: the port's own
//!   RoCE, of an interface here    version 2 before 1; IPv4, then IPv6 of the world, then of the link alone
//! ```

use std::net::{IpAddr, Ipv6Addr};

/// An entry of a port's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) index: u8,
    pub(crate) gid: [u8; 16],
    /// As the kernel calls it: `IB/RoCE v1`, `RoCE v2`.
    pub(crate) kind: String,
    /// The network interface, if it can be seen from here.
    pub(crate) interface: Option<String>,
}

impl Entry {
    fn is_second_version(&self) -> bool {
        self.kind.ends_with("v2")
    }

    /// The address that the entry stands for.
    fn ip(&self) -> IpAddr {
        let ip = Ipv6Addr::from(self.gid);
        ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
    }

    /// Lower is better.
    fn rank(&self, own: &[IpAddr]) -> Option<(bool, u8, u8)> {
        self.interface.as_ref()?;
        let (family, there) = match self.ip() {
            IpAddr::V4(ip) => (0, own.contains(&IpAddr::V4(ip))),
            // Made from the hardware address: nobody assigned it, and it is there as long as the interface is.
            IpAddr::V6(ip) if ip.is_unicast_link_local() => (2, true),
            IpAddr::V6(ip) => (1, own.contains(&IpAddr::V6(ip))),
        };
        there.then_some((!self.is_second_version(), family, self.index))
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.kind, self.ip())?;
        if let Some(interface) = &self.interface {
            write!(f, " on {interface}")?;
        }
        write!(f, ", entry {}", self.index)
    }
}

/// The entry to use, or why there is none. `own`: the addresses that this process sees on its interfaces.
pub(crate) fn choose(entries: &[Entry], roce: bool, own: &[IpAddr], wish: Option<u8>) -> Result<Entry, String> {
    if let Some(index) = wish {
        let found = entries.iter().find(|entry| entry.index == index);
        return found.cloned().ok_or_else(|| format!("its table of addresses has no entry {index}"));
    }
    if !roce {
        return entries.first().cloned().ok_or_else(|| "it has no address".into());
    }
    let best = entries.iter().filter_map(|entry| Some((entry.rank(own)?, entry))).min_by_key(|(rank, _)| *rank);
    best.map(|(_, entry)| entry.clone()).ok_or_else(|| {
        "none of its addresses belongs to an interface of this network namespace (give the container the interface, or set \
         RINGTREE_GID_INDEX)"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u8, ip: &str, kind: &str, interface: Option<&str>) -> Entry {
        let gid = match ip.parse().unwrap() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        Entry { index, gid, kind: kind.into(), interface: interface.map(str::to_string) }
    }

    const V1: &str = "IB/RoCE v1";
    const V2: &str = "RoCE v2";

    fn chosen(entries: &[Entry], own: &[&str]) -> Result<u8, String> {
        let own: Vec<IpAddr> = own.iter().map(|ip| ip.parse().unwrap()).collect();
        choose(entries, true, &own, None).map(|entry| entry.index)
    }

    #[test]
    fn version_2_with_the_ipv4_address_of_an_interface_here_is_best() {
        let table = [
            entry(0, "fe80::1", V1, Some("eth0")),
            entry(1, "fe80::1", V2, Some("eth0")),
            entry(2, "10.0.0.5", V1, Some("eth0")),
            entry(3, "10.0.0.5", V2, Some("eth0")),
            entry(4, "fd00::5", V2, Some("eth0")),
        ];
        assert_eq!(chosen(&table, &["10.0.0.5", "fd00::5"]), Ok(3));
        assert_eq!(chosen(&table[..2], &[]), Ok(1), "only what is made from the hardware address");
        assert_eq!(chosen(&table[..3], &["10.0.0.5"]), Ok(1), "version 2 before an address");
    }

    #[test]
    fn entries_of_other_network_namespaces_are_left_alone() {
        let table = [
            entry(1, "10.0.0.5", V2, None),
            entry(3, "10.7.0.9", V2, Some("net1")),
            entry(5, "10.7.0.8", V2, Some("net1")),
        ];
        assert_eq!(chosen(&table, &["10.7.0.8"]), Ok(5), "of several addresses the one that is here");
        let message = chosen(&table[..1], &["10.0.0.5"]).unwrap_err();
        assert!(message.contains("network namespace"), "{message}");
    }

    #[test]
    fn an_index_that_was_asked_for_wins_if_it_is_there() {
        let table = [entry(0, "fe80::1", V1, Some("eth0")), entry(7, "10.0.0.5", V2, None)];
        assert_eq!(choose(&table, true, &[], Some(7)).map(|entry| entry.index), Ok(7));
        assert!(choose(&table, true, &[], Some(3)).unwrap_err().contains("no entry 3"));
        assert_eq!(choose(&table, false, &[], None).map(|entry| entry.index), Ok(0), "InfiniBand");
    }
}
