//! The ways from one rank to another, where hosts have several interfaces.
//!
//! ```text
//!   10.0.0.5 ───── network 0 ───── 10.0.0.6     a path joins two addresses of one network: a rail stays a rail;
//!   10.1.0.5 ───── network 1 ───── 10.1.0.6     where no network is shared, the addresses in their order, by routers
//! ```

use super::office::Address;
use std::net::{IpAddr, SocketAddr};

/// One way to another rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// The address to leave this host from, where there is a choice.
    pub(super) from: Option<IpAddr>,
    /// Where the other listens.
    pub(super) to: SocketAddr,
}

/// All ways from a rank at `own` to one at `theirs`; at least one. Those of rails come first.
pub(super) fn paths(own: &Address, theirs: &Address) -> Vec<Path> {
    let has = |address: &Address, ip: IpAddr| address.at.iter().any(|at| at.socket.ip() == ip);
    // An address that both have is inside each of two hosts, as that of a bridge of containers, or both are on one.
    let one_host = own.at.iter().all(|at| has(theirs, at.socket.ip()));
    let useful = theirs.at.iter().filter(|at| one_host || !has(own, at.socket.ip()));
    let mut rails: Vec<Path> = Vec::new();
    for at in useful {
        let to = at.socket;
        let beside: Vec<IpAddr> =
            own.at.iter().map(|own| own.site()).filter(|own| own.is_beside(to.ip())).map(|own| own.ip).collect();
        // Two interfaces in one network: each of ours to one of theirs.
        let used = rails.iter().filter(|path| path.from.is_some_and(|ip| beside.contains(&ip))).count();
        if !beside.is_empty() {
            rails.push(Path { from: Some(beside[used % beside.len()]), to });
        }
    }
    if !rails.is_empty() {
        return rails;
    }
    let same_family = |at: &&SocketAddr, from: IpAddr| at.is_ipv4() == from.is_ipv4();
    let reached: Vec<SocketAddr> = theirs.at.iter().map(|at| at.socket).collect();
    let several = own.at.len() > 1;
    let routed = own.at.iter().map(|at| at.socket.ip()).enumerate().filter_map(|(place, from)| {
        let fitting: Vec<&SocketAddr> = reached.iter().filter(|at| same_family(at, from)).collect();
        let to = **fitting.get(place % fitting.len().max(1))?;
        Some(Path { from: several.then_some(from), to })
    });
    let routed: Vec<Path> = routed.collect();
    if routed.is_empty() { vec![Path { from: None, to: reached[0] }] } else { routed }
}

/// Sockets between two ranks: one for small messages, and for long ones as many as somebody asks for, or one for each way. The same on both
/// ranks.
pub(super) fn sockets(one: &Address, other: &Address) -> u8 {
    let ways = one.at.len().min(other.at.len()).max(1) as u8;
    1 + ways.max(one.streams).max(other.streams)
}

#[cfg(test)]
mod tests {
    use super::super::office::At;
    use super::*;

    fn rank(at: &[(&str, u8)]) -> Address {
        let at =
            at.iter().map(|(text, prefix)| At { socket: SocketAddr::new(text.parse().unwrap(), 7), prefix: *prefix });
        Address { at: at.collect(), streams: 1, pid: 1, host: "h".into() }
    }

    fn ways(own: &Address, theirs: &Address) -> Vec<String> {
        let text = |path: &Path| match path.from {
            Some(from) => format!("{from} {}", path.to.ip()),
            None => path.to.ip().to_string(),
        };
        paths(own, theirs).iter().map(text).collect()
    }

    #[test]
    fn rails_keep_to_themselves_and_what_only_looks_shared_is_left_out() {
        let a = rank(&[("10.0.0.5", 24), ("10.1.0.5", 24), ("172.17.0.1", 16)]);
        let b = rank(&[("10.1.0.6", 24), ("10.0.0.6", 24), ("172.17.0.1", 16)]);
        assert_eq!(ways(&a, &b), ["10.1.0.5 10.1.0.6", "10.0.0.5 10.0.0.6"]);
        assert_eq!(sockets(&a, &b), 4);
        assert_eq!(sockets(&a, &b), sockets(&b, &a));
    }

    #[test]
    fn two_interfaces_in_one_network_are_both_used() {
        let a = rank(&[("10.0.0.5", 16), ("10.0.1.5", 16)]);
        let b = rank(&[("10.0.0.6", 16), ("10.0.1.6", 16)]);
        assert_eq!(ways(&a, &b), ["10.0.0.5 10.0.0.6", "10.0.1.5 10.0.1.6"]);
    }

    #[test]
    fn without_a_shared_network_addresses_meet_in_their_order() {
        let (a, b) = (rank(&[("10.0.0.5", 24)]), rank(&[("10.2.0.6", 24), ("10.3.0.6", 24)]));
        assert_eq!(ways(&a, &b), ["10.2.0.6"]);
        assert_eq!(ways(&b, &a), ["10.2.0.6 10.0.0.5", "10.3.0.6 10.0.0.5"]);
        let (a, b) = (rank(&[("10.0.0.5", 32)]), rank(&[("fd00::6", 128)]));
        assert_eq!(ways(&a, &b), ["fd00::6"], "it is tried, and fails by name");
    }

    #[test]
    fn ranks_of_one_host_meet_at_its_own_addresses() {
        let a = rank(&[("127.0.0.1", 8)]);
        assert_eq!(ways(&a, &a), ["127.0.0.1 127.0.0.1"]);
        let a = rank(&[("10.0.0.5", 24), ("10.1.0.5", 24)]);
        assert_eq!(ways(&a, &a), ["10.0.0.5 10.0.0.5", "10.1.0.5 10.1.0.5"]);
    }
}
