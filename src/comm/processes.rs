//! Communicators whose ranks are processes: they meet (`boot`), agree on what must be the same everywhere, and map one segment.

use super::hosts::{can_protect, join_over_hosts, no_device};
use super::setup::over_shm;
use super::split::Parent;
use super::{Communicator, neighbours, setup};
use crate::boot::{BootConfig, Known, Launch, Meeting, Rendezvous, UniqueId, join, join_knowing};
use crate::config::{Config, Fetch, Protection, Transport};
use crate::error::{Error, Result};
use crate::plan::Costs;
use crate::topo::site::{MOST_DIMENSIONS, MOST_LEVELS, Mark};
use crate::transport::Watch;
use crate::transport::shm::{Budget, Segment, ShmLinks, Shown};
use bytemuck::{Pod, Zeroable};
use std::os::fd::AsFd;
use std::sync::Arc;

/// What every rank tells all others at the start.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Card {
    /// Of the layout of shared memory and messages: different ones don't understand each other.
    format: u64,
    /// Settings that plans depend on: they must agree.
    reproducible: u32,
    algorithm: u32,
    chunk_bytes: u32,
    /// Processors that this rank may use at the same time, where a quota allows fewer than the mask.
    quota: u32,
    /// A digest of the setting, which must agree too.
    domains: u64,
    /// The cache and the node that this rank is bound to.
    home: [u32; 2],
    /// The processors that this rank may run on, a bit each.
    processors: [u64; 16],
    /// [`Config::fetch`] as a number: it must agree.
    fetch: u64,
    /// Bytes of the last-level cache.
    cache: u64,
    /// Which links: it must agree.
    transport: u64,
    /// Of what links cost by its profile: it must agree.
    costs: u64,
    /// [`Config::protection`]: it must agree.
    protection: u64,
    /// Whether this rank has an RDMA device that is ready, where that was asked for.
    has_rdma: u64,
    /// Where the host of this rank is in its site.
    groups: [u64; MOST_LEVELS],
    coordinates: [u32; MOST_DIMENSIONS],
    dimensions: u32,
    /// For the others to see whether they can copy from this process's memory.
    shown: Shown,
}

const FORMAT: u64 = 8;

/// From how many bytes on, of all that a rank sends at a time, ranks that share processors copy from each other: where what all ranks send,
/// what lies in slots and what they receive don't fit in the last-level cache together. Within it slots are faster, since shuttles; beyond
/// it one copy costs less than two, and a rank need not wait for another's turn to be served. Through slots and directly, two cores of a
/// Zen 2 with a cache of 16 MiB, all-to-all of 4 ranks: 512 KiB 73 and 119 us, 1 MiB 179 and 223, 1.25 MiB 288 and 285, 2 MiB 755 and 502; of
/// 8 ranks: 512 KiB 188 and 273, 640 KiB 363 and 339, 1 MiB 775 and 553; send and receive of 8 ranks: 512 KiB 210 and 261, 1 MiB 771 and
/// 517. Where every rank has a processor, slots are faster at every size but the largest, also between cores that share no cache (all-to-all
/// of 256 KiB: 18 us, copied directly 23).
fn crowded_fetch_from(cache: u64, ranks: u32) -> u64 {
    (cache / (3 * u64::from(ranks.max(1)))).max(1)
}

impl Communicator {
    /// This rank's end of a communicator of `size` processes (or threads) that all know the same id. Returns when all have come.
    pub fn new(id: &UniqueId, rank: usize, size: usize) -> Result<Communicator> {
        Communicator::with_config(id, rank, size, &Config::from_env()?)
    }

    /// The same with these settings.
    pub fn with_config(id: &UniqueId, rank: usize, size: usize, config: &Config) -> Result<Communicator> {
        let mut boot = BootConfig::from_env()?;
        boot.timeout = config.init_timeout;
        let meeting = join(id, rank, size, &boot)?;
        meet(meeting, config, None)
    }
}

impl Communicator {
    /// The communicator of all ranks of the job that this process was started in.
    pub fn from_env() -> Result<Communicator> {
        let found = Communicator::try_from_env(&Config::from_env()?)?;
        found.ok_or_else(|| {
            Error::start(
                "no launcher has told this process its rank",
                "Start it with `ringtree run -g N -- program`, torchrun, srun or mpirun, or use Communicator::new",
            )
        })
    }

    /// The same with these settings; None: no launcher has started this process.
    pub fn try_from_env(config: &Config) -> Result<Option<Communicator>> {
        let Some(launch) = crate::boot::detect(&|name| std::env::var(name).ok())? else { return Ok(None) };
        let mut boot = BootConfig::from_env()?;
        boot.timeout = config.init_timeout;
        boot.one_host |= launch.is_one_host();
        require_secret(config, &boot, &launch)?;
        let id = crate::boot::meet(&launch, &boot)?;
        let creator = if matches!(launch.meeting, Meeting::Id(_)) { None } else { Some(0) };
        let known = Known { creator, ..Known::nothing() };
        meet(join_knowing(&id, launch.rank, launch.size, &boot, known)?, config, None).map(Some)
    }
}

/// Refuses to encrypt with keys that everybody on the network could know: without a secret of the job's own, the launcher's channel carries
/// the id from which they follow.
pub(super) fn require_secret(config: &Config, boot: &BootConfig, launch: &Launch) -> Result<()> {
    let is_told = boot.one_host || launch.size == 1 || matches!(launch.meeting, Meeting::Id(_));
    if config.protection != Protection::Encrypted || boot.secret.is_some() || is_told {
        return Ok(());
    }
    Err(Error::Choice {
        what: "RINGTREE_PROTECTION is encrypted, and the job has no secret from which keys could follow".into(),
        advice: "Set RINGTREE_SECRET_FILE (or RINGTREE_SECRET) to the same secret on all ranks".into(),
    })
}

/// From the meeting to the communicator; whatever fails here is told to all.
pub(super) fn meet(mut meeting: Rendezvous, config: &Config, parent: Option<&Parent>) -> Result<Communicator> {
    match share(&mut meeting, config, parent) {
        Ok(communicator) => {
            // Nobody leaves before all have marked themselves present: from here on deaths are noticed by the communicator.
            if let Err(error) = meeting.barrier() {
                // Some may have heard that all are present, and wait for this rank there.
                communicator.shared.door.end_because(&error);
                return Err(error);
            }
            Ok(communicator)
        }
        Err(error) => {
            if error.culprits().is_empty() {
                meeting.fail(&error.to_string());
            }
            Err(error)
        }
    }
}

fn share(meeting: &mut Rendezvous, config: &Config, parent: Option<&Parent>) -> Result<Communicator> {
    let (rank, size) = (meeting.rank(), meeting.size());
    if config.transport == Transport::Local {
        return Err(Error::Choice {
            what: "the transport 'local' joins threads of one process, and this rank is a process of its own".into(),
            advice: "Choose 'shm' or 'auto', or use Communicator::local".into(),
        });
    }
    can_protect(config)?;
    let cards = meeting.all_gather(bytemuck::bytes_of(&Card::own(config)?))?;
    let cards = read_cards(&cards)?;
    if let (Transport::Verbs, Some(without)) = (config.transport, cards.iter().position(|card| card.has_rdma == 0)) {
        return Err(no_device(without));
    }
    let far = (0..size).find(|peer| !meeting.same_host(*peer));
    match (config.transport, far) {
        (Transport::Shm, Some(far)) => {
            return Err(Error::Choice {
                what: format!(
                    "RINGTREE_TRANSPORT is shm, and rank {far} is on another host than rank {rank} {}",
                    "(or in another pid namespace, or of another user)"
                ),
                advice: "Choose 'auto' (shared memory within a host, sockets between hosts) or 'tcp'".into(),
            });
        }
        (Transport::Tcp | Transport::Verbs, _) | (_, Some(_)) => {
            return join_over_hosts(meeting, config, &cards, parent);
        }
        _ => {}
    }
    let world = match parent {
        Some(parent) => parent.world(),
        None => neighbours::chosen(&config.domains, &cards.iter().map(|card| card.home).collect::<Vec<_>>())?,
    };
    let everybody: Vec<usize> = (0..size).collect();
    let segment = match segment_of(meeting, &everybody)? {
        Some(segment) => segment,
        None => Arc::new(Segment::create(size as u32)?),
    };
    let own = std::process::id() as i32;
    let pids: Vec<i32> = (0..size).map(|peer| meeting.peer_pid(peer).unwrap_or(own)).collect();
    let mut links = ShmLinks::new(segment, rank as u32, &world, Budget::process().clone());
    links.watch(&pids);
    links.share_processors(processors(cards.iter()));
    let fetch_from = agree_on_fetching(meeting, &links, config, &cards)?;
    links.allow_fetching(fetch_from);
    let windows = parent.is_some_and(|parent| parent.lend(&mut links));
    Ok(over_shm(links, config, &world, windows))
}

/// The segment that these ranks of this host share, among which this one is; nothing for a rank that is alone.
pub(super) fn segment_of(meeting: &mut Rendezvous, ranks: &[usize]) -> Result<Option<Arc<Segment>>> {
    let (first, size) = (ranks[0], ranks.len() as u32);
    if size < 2 {
        return Ok(None);
    }
    if meeting.rank() != first {
        return Segment::adopt(meeting.receive_fd(first)?, size).map(Arc::new).map(Some);
    }
    let segment = Segment::create(size)?;
    if let Some(file) = segment.file() {
        meeting.share_fd(ranks, file.as_fd())?;
    }
    Ok(Some(Arc::new(segment)))
}

/// From how many bytes on the ranks copy from each other's private memory; 0: never. The same on all.
fn agree_on_fetching(meeting: &mut Rendezvous, links: &ShmLinks, config: &Config, cards: &[Card]) -> Result<u64> {
    let shown: Vec<Shown> = cards.iter().map(|card| card.shown).collect();
    let wanted = config.fetch != Fetch::Off && shown.len() > 1;
    let can = wanted && links.can_fetch(&shown);
    let all = meeting.all_gather(&[u8::from(can)])?;
    let can = all.iter().all(|answer| matches!(answer.as_slice(), [1]));
    let (ranks, processors) = links.crowd();
    Ok(match config.fetch {
        Fetch::From(bytes) if can => bytes.max(1),
        Fetch::Auto if can && ranks > processors => {
            let smallest = cards.iter().map(|card| card.cache).min().unwrap_or(0);
            crowded_fetch_from(smallest, ranks)
        }
        _ => 0,
    })
}

impl Card {
    /// Where the host of that rank is.
    pub(super) fn mark(&self) -> Mark {
        Mark::new(self.groups, self.coordinates, self.dimensions)
    }

    fn own(config: &Config) -> Result<Card> {
        let asked = config.transport == Transport::Verbs;
        let has_rdma = asked && !super::hosts::nics(config, &BootConfig::from_env()?).is_empty();
        let mask = setup::processor_mask();
        let allowed: u32 = mask.iter().map(|word| word.count_ones()).sum();
        let usable = std::thread::available_parallelism().map_or(allowed, |cores| cores.get() as u32);
        let mark = config.location.mark();
        let (coordinates, dimensions) = mark.coordinates();
        Ok(Card {
            format: FORMAT,
            reproducible: u32::from(config.reproducible),
            algorithm: config.algorithm.map_or(0, |algorithm| algorithm as u32 + 1),
            chunk_bytes: config.chunk_bytes.unwrap_or(0),
            quota: if usable < allowed { usable } else { u32::MAX },
            domains: config.domains.digest(),
            home: neighbours::own_home(),
            processors: mask,
            fetch: match config.fetch {
                Fetch::Auto => u64::MAX,
                Fetch::Off => 0,
                Fetch::From(bytes) => bytes,
            },
            cache: setup::cache_bytes() as u64,
            transport: config.transport as u64,
            costs: config.costs.as_deref().unwrap_or(Costs::built_in()).digest(),
            protection: config.protection as u64,
            has_rdma: u64::from(has_rdma),
            groups: mark.levels(),
            coordinates,
            dimensions,
            shown: Shown::own(),
        })
    }
}

/// The cards of all ranks, which must agree on what plans depend on.
fn read_cards(cards: &[Vec<u8>]) -> Result<Vec<Card>> {
    let mut read = Vec::with_capacity(cards.len());
    for (rank, bytes) in cards.iter().enumerate() {
        let card: Card = bytemuck::try_pod_read_unaligned(bytes)
            .ok()
            .filter(|card: &Card| card.format == FORMAT)
            .ok_or_else(|| {
                Error::start(
                    format!("rank {rank} runs another version of the library"),
                    "Use the same version on all ranks",
                )
            })?;
        read.push(card);
        let first = read[0];
        for (name, theirs, ours) in [
            ("RINGTREE_REPRODUCIBLE", card.reproducible.into(), first.reproducible.into()),
            ("RINGTREE_ALGORITHM", card.algorithm.into(), first.algorithm.into()),
            ("RINGTREE_CHUNK", card.chunk_bytes.into(), first.chunk_bytes.into()),
            ("RINGTREE_DOMAINS", card.domains, first.domains),
            ("RINGTREE_FETCH", card.fetch, first.fetch),
            ("RINGTREE_TRANSPORT", card.transport, first.transport),
            // What it says, not where it lies.
            ("RINGTREE_PROFILE", card.costs, first.costs),
            ("RINGTREE_PROTECTION", card.protection, first.protection),
        ] {
            if theirs != ours {
                return Err(Error::start(
                    format!("{name} (or the same setting in code) differs between rank 0 and rank {rank}"),
                    "Give all ranks the same settings",
                ));
            }
        }
    }
    Ok(read)
}

/// How many processors ranks of one host together may use.
pub(super) fn processors<'c>(cards: impl Iterator<Item = &'c Card> + Clone) -> u32 {
    let all = |word: usize| cards.clone().fold(0, |all, card| all | card.processors[word]);
    let union = (0..16).map(|word| all(word).count_ones()).sum::<u32>();
    let quota = cards.map(|card| card.quota).min().unwrap_or(u32::MAX);
    union.min(quota).max(1)
}
