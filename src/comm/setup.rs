//! How a communicator comes to be, and how it goes.

use super::engine::Engine;
use super::hosts::{Crowd, Far, can_protect, nics, no_device};
use super::split::Kind;
use super::{Communicator, Shared, neighbours};
use crate::boot::BootConfig;
use crate::config::{Config, Fetch, Transport};
use crate::error::{Error, Result};
use crate::exec::{Session, Settings, USUAL_CACHE};
use crate::plan::{MIN_SLOTS, Medium, Tuning, World};
use crate::sys::process::Watched;
use crate::topo::detect::last_level_cache;
use crate::transport::local::{LocalDoor, LocalLinks};
use crate::transport::shm::{Budget, HeapAllocator, Heaps, Holder, Life, POINT_TO_POINT, Segment, ShmLinks, Shown};
use crate::transport::{Abort, Links, Watch, tcp};
use std::path::Path;
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError, Weak};

/// The way to a communicator's peers beside its links: usable while another thread is inside an operation.
pub(super) trait Door: Send + Sync {
    /// Ends the communicator for all ranks.
    fn abort(&self, reason: &str);
    /// Says that this rank takes part no more.
    fn leave(&self);
    /// Ends the communicator for all ranks because of an error that names who is to blame.
    fn end_because(&self, error: &Error);
    /// Why the communicator is of no further use, as far as can be seen without an operation: it was ended, or the process of one of
    /// these ranks is gone. The rank is one of the communicator's.
    fn ended(&self, ranks: &[usize]) -> Option<(usize, String)>;
}

impl Door for LocalDoor {
    fn abort(&self, reason: &str) {
        self.abort(reason);
    }

    fn leave(&self) {
        self.leave();
    }

    fn end_because(&self, error: &Error) {
        self.abort(&error.to_string());
    }

    fn ended(&self, _ranks: &[usize]) -> Option<(usize, String)> {
        None
    }
}

pub(super) struct ShmDoor {
    segment: Arc<Segment>,
    /// This rank, and its number in the segment.
    rank: u32,
    place: u32,
    /// The other ranks' processes, each at the number of its rank.
    processes: Vec<Option<Arc<Watched>>>,
}

impl ShmDoor {
    /// Of links between all ranks.
    fn of_all(links: &ShmLinks) -> ShmDoor {
        ShmDoor::of_some(links, &(0..links.size()).collect::<Vec<_>>())
    }

    /// Of links between these ranks, in the order of their numbers in the segment.
    pub(super) fn of_some(links: &ShmLinks, ranks: &[u32]) -> ShmDoor {
        let mut processes = vec![None; ranks.iter().max().map_or(0, |last| *last as usize + 1)];
        for (place, rank) in ranks.iter().enumerate() {
            processes[*rank as usize] = links.process(place as u32).map(|process| Watched::open(process.pid()));
        }
        let place = links.rank();
        ShmDoor { segment: links.segment().clone(), rank: ranks[place as usize], place, processes }
    }

    /// Ends the communicator for all ranks of this host.
    pub(super) fn spread(&self, abort: &Abort) {
        if !self.segment.is_inherited() {
            self.segment.abort(abort);
        }
    }
}

impl Door for ShmDoor {
    fn abort(&self, reason: &str) {
        let (by, text) = (self.rank, reason.into());
        self.spread(&Abort { by, kind: Abort::CALLED, culprit: by, other: by, text });
    }

    fn leave(&self) {
        if self.segment.is_inherited() {
            return;
        }
        self.segment.status(self.place).set_life(Life::Left);
        self.segment.wake_all();
    }

    fn end_because(&self, error: &Error) {
        self.spread(&abort_because(self.rank, error));
    }

    fn ended(&self, ranks: &[usize]) -> Option<(usize, String)> {
        if let Some(by) = self.segment.header().aborter() {
            return Some((by as usize, "it has ended the communicator that is being split".into()));
        }
        ranks.iter().find_map(|rank| {
            let process = self.processes.get(*rank)?.as_ref().filter(|process| process.gone())?;
            Some((*rank, format!("process {} on this host has ended (killed, crashed or exited)", process.pid())))
        })
    }
}

/// What rank `by` says to all because of an error that names who is to blame.
pub(super) fn abort_because(by: u32, error: &Error) -> Abort {
    let (kind, culprit, text) = match error {
        Error::PeerLost { rank, how, .. } => (Abort::LOST, *rank as u32, how.clone()),
        Error::Aborted { rank, reason, .. } => (Abort::CALLED, *rank as u32, reason.clone()),
        Error::Timeout { ranks, waiting_for, .. } if !ranks.is_empty() => {
            (Abort::TIMEOUT, ranks[0] as u32, waiting_for.clone())
        }
        other => (Abort::CALLED, by, other.to_string()),
    };
    Abort { by, kind, culprit, other: culprit, text }
}

/// Everything that a new communicator is made of.
pub(super) struct Parts {
    pub engine: Box<dyn Engine>,
    pub door: Arc<dyn Door>,
    pub heap: super::registered::Heap,
    pub heaps: Heaps,
    pub windows: bool,
    pub kind: Kind,
    pub world: World,
    pub config: Config,
}

impl Communicator {
    /// Communicators of `size` ranks that are threads of this process, one for each.
    pub fn local(size: usize) -> Result<Vec<Communicator>> {
        Communicator::local_with(size, &Config::from_env()?)
    }

    /// The same with these settings.
    pub fn local_with(size: usize, config: &Config) -> Result<Vec<Communicator>> {
        let ranks = u32::try_from(size)
            .ok()
            .filter(|ranks| (1..=4096).contains(ranks))
            .ok_or_else(|| Error::misuse(format!("a communicator of {size} threads"), "Ask for 1 to 4096"))?;
        can_protect(config)?;
        let world = neighbours::of_threads(&config.domains, ranks)?;
        if config.transport == Transport::Local {
            let links = LocalLinks::world_of(&world, MIN_SLOTS);
            return Ok(links.into_iter().map(|links| over_reference(links, config, &world)).collect());
        }
        if matches!(config.transport, Transport::Tcp | Transport::Verbs) {
            let nics = nics(config, &BootConfig::from_env()?);
            if config.transport == Transport::Verbs && nics.is_empty() {
                return Err(no_device(0));
            }
            let offices = tcp::world(ranks, config.init_timeout)?;
            let (world, crowd, media) = (&world, Crowd::of_threads(ranks), [Medium::Loopback; 2]);
            let far = |office| {
                let nics = nics.clone();
                Far { office, config, world, crowd, kind: Kind::Sockets, media, nics }
            };
            return Ok(offices.into_iter().map(|office| far(office).over_sockets()).collect());
        }
        let segment = Arc::new(Segment::private(ranks)?);
        Ok((0..ranks)
            .map(|rank| {
                let mut links = ShmLinks::new(segment.clone(), rank, &world, Budget::process().clone());
                if let Fetch::From(bytes) = config.fetch
                    && links.can_fetch(&vec![Shown::own(); size])
                {
                    links.allow_fetching(bytes.max(1));
                }
                over_shm(links, config, &world, false)
            })
            .collect())
    }
}

/// A communicator over the reference links of that world.
pub(super) fn over_reference(links: LocalLinks, config: &Config, world: &World) -> Communicator {
    let door = Arc::new(links.door());
    let engine = Box::new(Session::new(links, settings(config, world, false, 1)));
    Communicator::over(Parts {
        engine,
        door,
        heap: None,
        heaps: Vec::new(),
        windows: false,
        kind: Kind::Reference,
        world: world.clone(),
        config: config.clone(),
    })
}

/// The part of what a control group's memory limit leaves that the slots of one process may take: other ranks are in the group too, and
/// the program itself needs memory.
const SHARE: u64 = 8;

/// Fits the process's budget for slots to the memory limit of its control group, where the user has not set it.
fn fit_budget() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let budget = Budget::process();
        let room = crate::topo::detect::memory_room(Path::new("/"));
        let Some(room) = room else { return };
        if std::env::var_os("RINGTREE_STAGING").is_none() {
            let share = usize::try_from(room.left / SHARE).unwrap_or(usize::MAX);
            budget.set_limit(budget.limit().min(share));
        } else if budget.limit() as u64 > room.left {
            log::warn!(
                "RINGTREE_STAGING is {} bytes, the memory limit of the control group {} leaves {}: the kernel may kill this process",
                budget.limit(),
                room.folder,
                room.left
            );
        }
    });
}

/// A communicator over the links of one host, made for that world.
pub(super) fn over_shm(links: ShmLinks, config: &Config, world: &World, windows: bool) -> Communicator {
    fit_budget();
    let (segment, rank) = (links.segment().clone(), links.rank());
    segment.status(rank).set_life(Life::Present);
    let heap = Some(HeapAllocator::new(segment.clone(), rank));
    let heaps = links.heaps().to_vec();
    let (processors, fetch_from) = (links.crowd().1, links.fetch_from());
    let kind = if segment.is_private() {
        Kind::Threads { processors, fetch_from }
    } else {
        Kind::Processes { one_host: true }
    };
    let mut settings = settings(config, world, windows, processors);
    settings.tuning.fetch_from = fetch_from;
    let door = Arc::new(ShmDoor::of_all(&links));
    let engine = Box::new(Session::new(links, settings));
    Communicator::over(Parts { engine, door, heap, heaps, windows, kind, world: world.clone(), config: config.clone() })
}

/// The processors that this thread may run on, a bit each; the first 1024.
pub(super) fn processor_mask() -> [u64; 16] {
    let mut mask = [0u64; 16];
    if let Ok(set) = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)) {
        for cpu in (0..1024).filter(|cpu| set.is_set(*cpu).unwrap_or(false)) {
            mask[cpu / 64] |= 1 << (cpu % 64);
        }
    }
    mask
}

pub(super) fn settings(config: &Config, world: &World, windows: bool, cores: u32) -> Settings {
    let tuning = Tuning {
        algorithm: config.algorithm,
        chunk_bytes: config.chunk_bytes,
        reproducible: config.reproducible,
        windows,
        cores,
        costs: config.costs.clone(),
        ..Tuning::default()
    };
    Settings {
        name: config.name.clone(),
        world: world.clone(),
        tuning,
        timeout: config.timeout,
        point_lane: POINT_TO_POINT,
        cache: cache_bytes(),
    }
}

/// Bytes of this machine's last-level cache.
pub(super) fn cache_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    let seen = || last_level_cache(Path::new("/")).and_then(|bytes| usize::try_from(bytes).ok());
    *BYTES.get_or_init(|| seen().unwrap_or(USUAL_CACHE))
}

impl Holder for Shared {
    fn give_back(&self, _budget: &Budget) {
        if let Some(mut engine) = self.engine.try_lock() {
            engine.give_back();
        }
    }
}

/// All communicators of this process, for its end.
static LIVING: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// Takes a new communicator into the books: the budget may ask it for memory, and peers hear of it when this process exits.
pub(super) fn remember(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    Budget::process().add_holder(weak.clone());
    let mut living = LIVING.lock().unwrap_or_else(PoisonError::into_inner);
    living.retain(|shared| shared.strong_count() > 0);
    living.push(weak);
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        // SAFETY: `say_goodbye` is a plain function that stays valid until the process ends.
        unsafe { libc::atexit(say_goodbye) };
    });
}

/// Runs when the process exits without dropping its communicators: peers see a rank that left, not one that crashed.
extern "C" fn say_goodbye() {
    if let Ok(living) = LIVING.try_lock() {
        living.iter().filter_map(Weak::upgrade).for_each(|shared| shared.part());
    }
}
