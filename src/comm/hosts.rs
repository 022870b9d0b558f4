//! Communicators whose ranks are on several hosts, or talk over sockets for another reason.

use super::Communicator;
use super::neighbours;
use super::processes::{Card, processors, segment_of};
use super::setup::{Door, Parts, ShmDoor, abort_because, settings};
use super::split::{Kind, Parent};
use crate::boot::{BootConfig, Rendezvous};
use crate::config::{Config, Protection, Transport};
use crate::error::{Error, Result};
use crate::exec::Session;
use crate::plan::{Medium, World};
use crate::topo::site::Mark;
use crate::transport::mixed::MixedLinks;
use crate::transport::shm::{Budget, Life, ShmLinks};
use crate::transport::tcp::{Address, Office, Opening, TcpLinks};
use crate::transport::verbs::{self, Nic};
use crate::transport::{Abort, Watch};
use std::sync::{Arc, Once};

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

/// The way to ranks of this host and to those of others.
struct MixedDoor(ShmDoor, TcpDoor);

impl Door for MixedDoor {
    fn abort(&self, reason: &str) {
        let by = self.1.0.rank();
        self.spread(&Abort { by, kind: Abort::CALLED, culprit: by, other: by, text: reason.into() });
    }

    fn leave(&self) {
        self.0.leave();
        self.1.leave();
    }

    fn end_because(&self, error: &Error) {
        self.spread(&abort_because(self.1.0.rank(), error));
    }

    fn ended(&self, ranks: &[usize]) -> Option<(usize, String)> {
        self.1.ended(ranks).or_else(|| self.0.ended(ranks))
    }
}

impl MixedDoor {
    fn spread(&self, abort: &Abort) {
        self.0.spread(abort);
        self.1.0.abort(abort);
    }
}

/// How many ranks there are for how many processors: what one rank sees of its host, and what plans take all hosts to be.
#[derive(Clone, Copy)]
pub(super) struct Crowd {
    /// Ranks of this host, and their processors.
    near: (u32, u32),
    /// Processors of all ranks, if every host were as crowded as the most crowded one.
    all: u32,
}

impl Crowd {
    /// All ranks are threads of this process.
    pub(super) fn of_threads(ranks: u32) -> Crowd {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        Crowd { near: (ranks, cores), all: cores }
    }

    /// What all cards together say, the same on every rank but for its own host.
    fn of_cards(cards: &[Card], hosts: &[u32], rank: usize) -> Crowd {
        let ranks = cards.len() as u32;
        let on = |host: u32| cards.iter().zip(hosts).filter(move |(_, on)| **on == host).map(|(card, _)| card);
        let crowd = |host: u32| (on(host).count() as u32, processors(on(host)));
        let share = |(here, cores): (u32, u32)| (u64::from(ranks) * u64::from(cores) / u64::from(here)) as u32;
        let all = hosts.iter().map(|host| share(crowd(*host))).min().unwrap_or(1);
        Crowd { near: crowd(hosts[rank]), all: all.max(1) }
    }
}

/// What a communicator over several hosts is made with.
pub(super) struct Far<'c> {
    pub(super) office: Arc<Office>,
    pub(super) config: &'c Config,
    pub(super) world: &'c World,
    pub(super) crowd: Crowd,
    pub(super) kind: Kind,
    /// What ranks of one domain talk over, and those of different ones.
    pub(super) media: [Medium; 2],
    /// Ports of RDMA devices to use.
    pub(super) nics: Vec<Arc<Nic>>,
}

impl Far<'_> {
    fn links(&self) -> TcpLinks {
        TcpLinks::new(self.office.clone(), self.world, self.crowd.near, &self.nics, self.config.protection)
    }

    /// A communicator over sockets alone.
    pub(super) fn over_sockets(self) -> Communicator {
        let links = self.links();
        let door = TcpDoor(self.office.clone());
        self.over(links, door)
    }

    /// A communicator over shared memory with `ranks`, among which this rank is, and over sockets with all others.
    fn over_both(self, near: ShmLinks, ranks: &[u32]) -> Communicator {
        let (segment, place) = (near.segment().clone(), crate::transport::Links::rank(&near));
        segment.status(place).set_life(Life::Present);
        let far = self.links();
        let door = MixedDoor(ShmDoor::of_some(&near, ranks), TcpDoor(self.office.clone()));
        let links = MixedLinks::new(near, far, self.world, ranks);
        self.over(links, door)
    }

    fn over<L>(self, links: L, door: impl Door + 'static) -> Communicator
    where
        L: Watch + super::engine::GiveBack + Send + 'static,
    {
        let Far { config, world, kind, .. } = self;
        let mut settings = settings(config, world, false, self.crowd.all);
        [settings.tuning.inside, settings.tuning.between] = self.media;
        let engine = Box::new(Session::new(links, settings));
        let (heap, heaps, windows) = (None, Vec::new(), false);
        let (world, config) = (world.clone(), config.clone());
        Communicator::over(Parts { engine, door: Arc::new(door), heap, heaps, windows, kind, world, config })
    }
}

/// The error of a job that is to use RDMA where that rank has no device.
pub(super) fn no_device(rank: usize) -> Error {
    Error::Choice {
        what: format!("RINGTREE_TRANSPORT is verbs, and rank {rank} has no RDMA device that is ready"),
        advice: "`ringtree doctor` on its host says what is missing; or choose 'auto' or 'tcp'".into(),
    }
}

/// The ports of RDMA devices that a communicator uses.
pub(super) fn nics(config: &Config, boot: &BootConfig) -> Vec<Arc<Nic>> {
    if config.transport == Transport::Tcp {
        return Vec::new();
    }
    let ready = verbs::ready(boot);
    if config.protection == Protection::Encrypted && !ready.is_empty() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| log::warn!("verbs: not used, sockets carry everything: RINGTREE_PROTECTION is encrypted"));
        return Vec::new();
    }
    ready
}

/// Refuses RDMA that is to be encrypted: a device sends what lies in memory.
pub(super) fn can_protect(config: &Config) -> Result<()> {
    if (config.transport, config.protection) != (Transport::Verbs, Protection::Encrypted) {
        return Ok(());
    }
    Err(Error::Choice {
        what: "RINGTREE_TRANSPORT is verbs and RINGTREE_PROTECTION is encrypted, and what goes over RDMA can't be encrypted".into(),
        advice: "Choose the transport 'auto' or 'tcp', or the protection 'checksum'".into(),
    })
}

/// What the ranks of that world talk over, on those hosts: within domains, and between them. Where a domain reaches over several hosts, the
/// slowest counts.
fn media(config: &Config, world: &World, hosts: &[u32]) -> [Medium; 2] {
    let several = |ranks: &mut dyn Iterator<Item = u32>| {
        let mut hosts = ranks.map(|rank| hosts[rank as usize]);
        let first = hosts.next();
        hosts.any(|host| Some(host) != first)
    };
    let here = match config.transport {
        Transport::Tcp | Transport::Verbs => Medium::Loopback,
        _ => Medium::Memory,
    };
    let over = |several| if several { Medium::Network } else { here };
    let wide = (0..world.domain_count()).any(|domain| several(&mut world.domain(domain).iter()));
    [over(wide), over(several(&mut (0..world.size())))]
}

/// The ranks of a meeting, on several hosts or told to use sockets: they listen, and tell each other where.
pub(super) fn join_over_hosts(
    meeting: &mut Rendezvous,
    config: &Config,
    cards: &[Card],
    parent: Option<&Parent>,
) -> Result<Communicator> {
    let (rank, size) = (meeting.rank(), meeting.size());
    let hosts = meeting.hosts();
    let near: Vec<usize> = (0..size).filter(|peer| meeting.same_host(*peer)).collect();
    let one_host = near.len() == size;
    let mut boot = BootConfig::from_env()?;
    boot.one_host = one_host;
    let opening = Opening::listen(&boot)?;
    let told = meeting.all_gather(&opening.address().encode())?;
    let addresses = told.iter().enumerate().map(|(rank, bytes)| {
        let nonsense = || {
            let what = "addresses of its sockets that make no sense".into();
            Error::Corrupt { place: Default::default(), rank, what }
        };
        Address::decode(bytes).ok_or_else(nonsense)
    });
    let addresses = addresses.collect::<Result<Vec<_>>>()?;
    let marks: Vec<Mark> = cards.iter().map(Card::mark).collect();
    let world = match parent {
        Some(parent) => parent.world_on_hosts(&marks),
        None => neighbours::of_hosts(&config.domains, &hosts, &marks)?,
    };
    let segment = match config.transport {
        Transport::Tcp | Transport::Verbs => None,
        _ => segment_of(meeting, &near)?,
    };
    let office = opening.open(rank as u32, &meeting.secret, addresses, config.init_timeout)?;
    let far = Far {
        office,
        config,
        world: &world,
        crowd: Crowd::of_cards(cards, &hosts, rank),
        kind: Kind::Processes { one_host },
        media: media(config, &world, &hosts),
        nics: nics(config, &boot),
    };
    let Some(segment) = segment else { return Ok(far.over_sockets()) };
    let ranks: Vec<u32> = near.iter().map(|rank| *rank as u32).collect();
    let place = near.iter().position(|other| *other == rank).unwrap_or(0);
    let inner = MixedLinks::world_of_host(&world, &ranks);
    let mut links = ShmLinks::new(segment, place as u32, &inner, Budget::process().clone());
    let own = std::process::id() as i32;
    links.watch(&near.iter().map(|rank| meeting.peer_pid(*rank).unwrap_or(own)).collect::<Vec<_>>());
    links.share_processors(far.crowd.near.1);
    Ok(far.over_both(links, &ranks))
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;
