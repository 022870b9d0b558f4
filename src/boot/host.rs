//! Which host this is, and at which of its addresses others reach it.

use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;

use nix::errno::Errno;
use nix::sys::socket::{Backlog, listen};

use super::config::BootConfig;
use super::interfaces::sites;
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

/// Variables that make hosts of parts of a machine: processes with different values share nothing but the network. They divide only: those
/// with one value still have to be on one machine.
pub(crate) const HOST_NAMES: [&str; 2] = ["RINGTREE_HOST", "NCCL_HOSTID"];

/// The mark that processes share which see the same boot of the same machine, the same process ids, the same abstract Unix sockets (they
/// belong to a network namespace) and the same user, and which were told the same name of a host, if any. Where the kernel hides any of
/// these, the mark is random: no process shares it, and TCP serves.
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
    let told = HOST_NAMES.iter().find_map(std::env::var_os).unwrap_or_default();
    let whole = derive(
        b"ringtree host",
        &[
            &boot,
            pids.as_os_str().as_encoded_bytes(),
            net.as_os_str().as_encoded_bytes(),
            &user,
            told.as_encoded_bytes(),
        ],
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

/// The address that others reach this host at first.
pub(crate) fn listen_address(config: &BootConfig) -> Result<SocketAddr> {
    match config.address {
        Some(address) => Ok(address),
        None => Ok(SocketAddr::new(sites(config)?[0].ip, 0)),
    }
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
    let wanted = listen_address(config)?;
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
        assert!(listen_address(&one).unwrap().ip().is_loopback());
        let chosen = BootConfig { address: Some("127.0.0.9:0".parse().unwrap()), ..one };
        assert_eq!(listen_address(&chosen).unwrap().ip().to_string(), "127.0.0.9");
    }
}
