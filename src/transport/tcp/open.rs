//! How a rank's office comes to be: it listens, the ranks tell each other where, the service begins.

use super::dialer::{Dialer, context};
use super::office::{Address, At, Office};
use super::service::{Service, above};
use crate::boot::BootConfig;
use crate::boot::gate::Gate;
use crate::boot::host::{Listener, host_name, listen_tcp, random};
use crate::boot::interfaces::{Site, sites};
use crate::boot::wire::{Secret, derive};
use crate::error::{Error, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A rank that listens and does not know the others yet.
pub(crate) struct Opening {
    listeners: Vec<Listener>,
    at: Vec<At>,
    streams: u8,
}

impl Opening {
    /// Listens at the addresses of this host that others are to use.
    pub(crate) fn listen(config: &BootConfig) -> Result<Opening> {
        let (mut listeners, mut at) = (Vec::new(), Vec::new());
        for Site { ip, prefix } in sites(config)? {
            let (socket, listener) = listen_tcp(SocketAddr::new(ip, 0))?;
            listeners.push(Listener::Tcp(listener));
            at.push(At { socket, prefix });
        }
        Ok(Opening { listeners, at, streams: config.sockets.unwrap_or(1) })
    }

    /// Where the others reach this rank.
    pub(crate) fn address(&self) -> Address {
        Address { at: self.at.clone(), streams: self.streams, pid: std::process::id(), host: host_name() }
    }

    /// Begins the service, and makes the contact to the rank above. All ranks listen by now, at `addresses`.
    pub(crate) fn open(
        self,
        rank: u32,
        secret: &Secret,
        addresses: Vec<Address>,
        timeout: Duration,
    ) -> Result<Arc<Office>> {
        let secret = derive(secret, &[b"ringtree links"]);
        let gate = Gate::new(self.listeners, &secret, &context(rank));
        let office = Office::new(rank, addresses).map_err(|errno| {
            Error::from_errno("making an event descriptor", errno as i32, "Raise the limit of open files (`ulimit -n`)")
        })?;
        let office = Arc::new(office);
        let dialer = Dialer::new(office.clone(), secret, timeout);
        let mut service = Service::new(office.clone(), gate, dialer);
        // The one above answers from its own service, which may begin later than this: its listener is there.
        if let Some(above) = above(rank) {
            service.begin_with(above).map_err(|how| {
                Error::start(
                    format!("rank {rank} can't reach rank {above}: {how}"),
                    "Look at that rank's output; set RINGTREE_ADDRESS on its host to an address that all hosts reach",
                )
            })?;
        }
        let thread = std::thread::Builder::new().name(format!("ringtree tcp {rank}").chars().take(15).collect());
        let spawned = thread.stack_size(512 * 1024).spawn(move || service.run());
        spawned.map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
            Error::from_errno("starting the links' thread", errno, "Raise the limit of processes (`ulimit -u`)")
        })?;
        Ok(office)
    }
}

/// The offices of ranks that are threads of this process.
pub(crate) fn world(size: u32, timeout: Duration) -> Result<Vec<Arc<Office>>> {
    world_seen(size, timeout, &mut |_, addresses| addresses)
}

/// The same where each rank sees the others at the addresses that it is given in place of theirs.
pub(crate) fn world_seen(
    size: u32,
    timeout: Duration,
    seen: &mut dyn FnMut(u32, Vec<Address>) -> Vec<Address>,
) -> Result<Vec<Arc<Office>>> {
    let secret: Secret = random()?;
    let config = BootConfig { one_host: true, ..BootConfig::from_env()? };
    let listen = |_| Opening::listen(&config);
    let openings = (0..size).map(listen).collect::<Result<Vec<_>>>()?;
    let addresses: Vec<Address> = openings.iter().map(Opening::address).collect();
    let open = |(rank, opening): (usize, Opening)| {
        opening.open(rank as u32, &secret, seen(rank as u32, addresses.clone()), timeout)
    };
    openings.into_iter().enumerate().map(open).collect()
}
