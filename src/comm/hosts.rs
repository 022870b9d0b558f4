//! Communicators over sockets: ranks of any hosts that reach each other.

use super::Communicator;
use super::neighbours;
use super::processes::Card;
use super::setup::{Door, Parts, abort_because, settings};
use super::split::{Kind, Parent};
use crate::boot::host::listen_address;
use crate::boot::{BootConfig, Rendezvous};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::exec::Session;
use crate::plan::World;
use crate::transport::tcp::{Address, Office, Opening, TcpLinks};
use crate::transport::{Abort, Watch};
use std::sync::Arc;

struct TcpDoor(Arc<Office>);

impl Door for TcpDoor {
    fn abort(&self, reason: &str) {
        let by = self.0.rank();
        self.0.abort(&Abort { by, kind: Abort::CALLED, culprit: by, other: by, text: reason.into() });
    }

    fn leave(&self) {
        self.0.leave();
    }

    fn end_because(&self, error: &Error) {
        self.0.abort(&abort_because(self.0.rank(), error));
    }

    fn ended(&self, ranks: &[usize]) -> Option<(usize, String)> {
        if let Some(by) = self.0.aborter() {
            return Some((by as usize, "it has ended the communicator that is being split".into()));
        }
        ranks.iter().find_map(|rank| Some((*rank, self.0.is_lost(*rank as u32)?)))
    }
}

/// A communicator over sockets. `crowd`: ranks of this host and their processors; None: all ranks are threads of this process.
pub(super) fn over_sockets(
    office: Arc<Office>,
    config: &Config,
    world: &World,
    crowd: Option<(u32, u32)>,
) -> Communicator {
    let processors = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let links = TcpLinks::new(office.clone(), world, crowd.unwrap_or((world.size(), processors)));
    let processors = links.crowd().1;
    let engine = Box::new(Session::new(links, settings(config, world, false, processors)));
    let kind = crowd.map_or(Kind::Sockets, |(near, _)| Kind::Processes { one_host: near == world.size() });
    let (heap, heaps, windows) = (None, Vec::new(), false);
    let (world, config) = (world.clone(), config.clone());
    Communicator::over(Parts { engine, door: Arc::new(TcpDoor(office)), heap, heaps, windows, kind, world, config })
}

/// The ranks of a meeting over sockets: they listen, and tell each other where.
pub(super) fn join_over_sockets(
    meeting: &mut Rendezvous,
    config: &Config,
    cards: &[Card],
    parent: Option<&Parent>,
) -> Result<Communicator> {
    let (rank, size) = (meeting.rank(), meeting.size());
    let mut boot = BootConfig::from_env()?;
    let near: Vec<usize> = (0..size).filter(|peer| meeting.same_host(*peer)).collect();
    boot.one_host = near.len() == size;
    let opening = Opening::listen(&[listen_address(&boot).ip()])?;
    let told = meeting.all_gather(&opening.address().encode())?;
    let addresses = told.iter().enumerate().map(|(rank, bytes)| {
        let nonsense = || {
            let what = "addresses of its sockets that make no sense".into();
            Error::Corrupt { place: Default::default(), rank, what }
        };
        Address::decode(bytes).ok_or_else(nonsense)
    });
    let addresses = addresses.collect::<Result<Vec<_>>>()?;
    let world = match parent {
        Some(parent) => parent.world(),
        None => neighbours::of_hosts(&config.domains, &meeting.hosts())?,
    };
    let near_cards = near.iter().map(|peer| &cards[*peer]);
    let crowd = (near.len() as u32, super::processes::processors(near_cards));
    let office = opening.open(rank as u32, &meeting.secret, addresses, config.init_timeout)?;
    Ok(over_sockets(office, config, &world, Some(crowd)))
}
