//! Which host this is, and at which of its addresses others reach it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;

use nix::errno::Errno;
use nix::sys::socket::{Backlog, listen};

use super::config::BootConfig;
use super::message::{Endpoint, HostMark, UnixName};
use super::rendezvous::{Peer, Rendezvous};
use super::wire::derive;
use crate::{Error, Result};

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::start(format!("the kernel gives no random bytes ({error})"), "Allow the getrandom system call")
    })?;
    Ok(bytes)
}

/// The error number, if this process or the system has no descriptors left.
pub(crate) fn out_of_descriptors(error: &std::io::Error) -> Option<Errno> {
    match error.raw_os_error() {
        Some(libc::EMFILE) => Some(Errno::EMFILE),
        Some(libc::ENFILE) => Some(Errno::ENFILE),
        _ => None,
    }
}

/// The mark that processes share which see the same boot of the same machine, the same process ids, the same abstract Unix sockets (they
/// belong to a network namespace) and the same user. Where the kernel hides any of these, the mark is random: no process shares it, and
/// TCP serves.
pub(crate) fn host_mark() -> Result<HostMark> {
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id");
    // A random mark would only put the error off, to a place where it says something else.
    if let Some(errno) = boot.as_ref().err().and_then(out_of_descriptors) {
        let what = "reading /proc/sys/kernel/random/boot_id";
        return Err(Error::from_errno(
            what,
            errno as i32,
            "Raise the limit of open files of this process (`ulimit -n`)",
        ));
    }
    let (pids, net) = (std::fs::read_link("/proc/self/ns/pid"), std::fs::read_link("/proc/self/ns/net"));
    let (Ok(boot), Ok(pids), Ok(net)) = (boot, pids, net) else { return random() };
    let user = nix::unistd::geteuid().as_raw().to_le_bytes();
    let whole = derive(
        b"ringtree host",
        &[&boot, pids.as_os_str().as_encoded_bytes(), net.as_os_str().as_encoded_bytes(), &user],
    );
    let mut mark = [0; 16];
    mark.copy_from_slice(&whole[..16]);
    Ok(mark)
}

/// This host's name, for messages only.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(64).collect();
    if name.is_empty() { "unknown host".to_string() } else { name }
}

/// The full name of the abstract Unix socket with that random part.
pub(crate) fn socket_name(name: &UnixName) -> Vec<u8> {
    let mut full = b"ringtree.".to_vec();
    for byte in name {
        full.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    full
}

/// The address that others reach this host at.
pub(crate) fn listen_address(config: &BootConfig) -> SocketAddr {
    if let Some(address) = config.address {
        return address;
    }
    let ip = match config.one_host {
        true => None,
        false => default_route_address().or_else(|| {
            let table = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
            first_outward_address(&table).map(IpAddr::V4)
        }),
    };
    SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), 0)
}

/// Connecting a datagram socket sends nothing, but the kernel chooses the address that the default route would use. The far addresses are
/// of the ranges reserved for documentation.
fn default_route_address() -> Option<IpAddr> {
    let ask = |here: &str, far: &str| {
        let socket = UdpSocket::bind(here).ok()?;
        socket.connect(far).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
    };
    ask("0.0.0.0:0", "192.0.2.1:9").or_else(|| ask("[::]:0", "[2001:db8::1]:9"))
}

/// The first address of this host that is not loopback, from the kernel's routing table: an address line `|-- 10.0.0.5`, then
/// `/32 host LOCAL`.
fn first_outward_address(table: &str) -> Option<Ipv4Addr> {
    let mut last = None;
    for line in table.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL") {
            match last {
                Some(address) if !address.is_loopback() => return Some(address),
                _ => {}
            }
        }
    }
    None
}

impl Rendezvous {
    /// A number for the host of each rank, in the order in which hosts come up.
    pub(crate) fn hosts(&self) -> Vec<u32> {
        let mut known: Vec<HostMark> = Vec::new();
        let number = |peer: &Peer| {
            let at = known.iter().position(|mark| *mark == peer.host);
            at.unwrap_or_else(|| {
                known.push(peer.host);
                known.len() - 1
            }) as u32
        };
        self.peers.iter().map(number).collect()
    }
}

/// A socket that takes connections.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Opens the listeners of an endpoint. The Unix socket must be had; TCP where it can (a host without network still starts its own ranks).
pub(crate) fn listen_here(config: &BootConfig) -> Result<(Endpoint, Vec<Listener>)> {
    let unix = random()?;
    let mut listeners = vec![Listener::Unix(listen_unix(&socket_name(&unix))?)];
    let wanted = listen_address(config);
    let tcp = match listen_tcp(wanted) {
        Ok((address, listener)) => {
            listeners.push(Listener::Tcp(listener));
            Some(address)
        }
        Err(error) if config.address.is_some() => return Err(error),
        Err(error) => {
            log::warn!("bootstrap: no TCP ({error}): only ranks of this host can join");
            None
        }
    };
    Ok((Endpoint { host: host_mark()?, unix, tcp }, listeners))
}

/// A listening abstract Unix socket.
pub(crate) fn listen_unix(name: &[u8]) -> Result<UnixListener> {
    let failed = |error: std::io::Error| {
        Error::from_errno(
            format!("listening on the abstract Unix socket @{}", String::from_utf8_lossy(name)),
            error.raw_os_error().unwrap_or(libc::EINVAL),
            "Look for another process that uses this name (`ss -xl`), and for the limit of open files (`ulimit -n`)",
        )
    };
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).map_err(failed)?;
    let listener = UnixListener::bind_addr(&address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    // Hundreds of ranks knock at the same time.
    listen(&listener, Backlog::MAXCONN).map_err(|errno| failed(errno.into()))?;
    Ok(listener)
}

/// A listening TCP socket, and the address it has now.
pub(crate) fn listen_tcp(wanted: SocketAddr) -> Result<(SocketAddr, TcpListener)> {
    let failed = |error: std::io::Error| {
        Error::from_errno(
            format!("listening on {wanted}"),
            error.raw_os_error().unwrap_or(libc::EINVAL),
            "Set RINGTREE_ADDRESS to a free address of this host",
        )
    };
    let listener = TcpListener::bind(wanted).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    listen(&listener, Backlog::MAXCONN).map_err(|errno| failed(errno.into()))?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_one_host_share_its_mark() {
        assert_eq!(host_mark().unwrap(), host_mark().unwrap());
    }

    #[test]
    fn a_job_on_one_host_listens_on_loopback_and_a_chosen_address_wins() {
        let one = BootConfig { one_host: true, ..BootConfig::default() };
        assert!(listen_address(&one).ip().is_loopback());
        let chosen = BootConfig { address: Some("127.0.0.9:0".parse().unwrap()), ..one };
        assert_eq!(listen_address(&chosen).ip().to_string(), "127.0.0.9");
    }

    #[test]
    fn the_first_address_that_is_not_loopback_is_found_in_the_routing_table() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.4.0.0\n        /16 link UNICAST\n     \
                     |-- 10.4.7.9\n        /32 host LOCAL\n";
        assert_eq!(first_outward_address(table), Some(Ipv4Addr::new(10, 4, 7, 9)));
        assert_eq!(first_outward_address("|-- 127.0.0.1\n /32 host LOCAL\n"), None);
    }
}
