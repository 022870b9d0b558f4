//! The reference: threads of one process, one mutex, a queue for each link. Slow and obvious; every other implementation is compared with it.

use super::{Abort, Blocked, Entered, Incoming, Links, Message, Outgoing, Shared, Trouble, Watch};
use crate::error::Error;
use crate::plan::{MIN_SLOTS, World};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest wait for ranks that copy: who takes longer has panicked in between.
const COPYING: Duration = Duration::from_secs(10);

/// A link's identity: lane, writer, and where it goes.
type Key = (u32, u32, u32, u8);

fn key(lane: u32, writer: u32, link: Outgoing) -> Key {
    match link {
        Outgoing::Pair(to) => (lane, writer, to, 0),
        Outgoing::Board(group) => (lane, writer, 0, 1 + group as u8),
    }
}

/// A message on its way; boards share one between their readers.
type Packet = Arc<(Vec<u8>, u32)>;

/// What all ranks of a world share.
#[derive(Debug, Default)]
struct Hub {
    /// For each link and reader: the messages that this reader has not released.
    queues: BTreeMap<(Key, u32), VecDeque<Packet>>,
    calls: Vec<BTreeMap<u64, Entered>>,
    finished: Vec<u64>,
    waiting_for: Vec<Option<u32>>,
    left: Vec<bool>,
    /// Who reads or writes other ranks' buffers now.
    in_windows: Vec<bool>,
    abort: Option<Abort>,
    /// Counts everything that happens, so that a sleeper can tell whether it missed something.
    events: u64,
}

/// What all ranks of a world share, and the way to wake them.
#[derive(Debug, Default)]
struct Meeting {
    hub: Mutex<Hub>,
    changed: Condvar,
}

impl Meeting {
    fn lock(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Hub) -> R) -> R {
        let mut hub = self.lock();
        hub.events += 1;
        let result = change(&mut hub);
        self.changed.notify_all();
        result
    }
}

/// One rank's ends.
#[derive(Debug)]
pub struct LocalLinks {
    rank: u32,
    groups: World,
    slots: usize,
    world: Arc<Meeting>,
    /// Messages being written.
    drafts: BTreeMap<Key, Vec<u8>>,
    /// Messages shown by `peek`, so that their bytes stay where they are.
    shown: BTreeMap<Key, Packet>,
    /// The events before `doze`: what has happened since then keeps this rank awake.
    seen: u64,
    /// What the others can do with this rank's buffers.
    reach: Reach,
}

/// What a rank's buffers are to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Out of reach.
    None,
    /// Copied from.
    Fetched,
    /// Read and written where they lie.
    Mapped,
}

/// The way to a world beside one rank's ends.
#[derive(Clone, Debug)]
pub struct LocalDoor {
    rank: u32,
    world: Arc<Meeting>,
}

impl LocalLinks {
    /// A world of that many ranks in one domain, with the least number of slots that plans are proved with.
    pub fn world(ranks: u32) -> Vec<LocalLinks> {
        LocalLinks::world_of(&World::flat(ranks), MIN_SLOTS)
    }

    /// A world of ranks in domains, with that many slots a link.
    pub fn world_of(groups: &World, slots: u32) -> Vec<LocalLinks> {
        let ranks = groups.size();
        let hub = Hub {
            calls: vec![BTreeMap::new(); ranks as usize],
            finished: vec![0; ranks as usize],
            waiting_for: vec![None; ranks as usize],
            left: vec![false; ranks as usize],
            in_windows: vec![false; ranks as usize],
            ..Hub::default()
        };
        let world = Arc::new(Meeting { hub: Mutex::new(hub), changed: Condvar::new() });
        let links = |rank| LocalLinks {
            rank,
            groups: groups.clone(),
            slots: slots as usize,
            world: world.clone(),
            drafts: BTreeMap::new(),
            shown: BTreeMap::new(),
            seen: 0,
            reach: Reach::None,
        };
        (0..ranks).map(links).collect()
    }

    /// Lets every rank reach every buffer of this one.
    ///
    /// # Safety
    /// Every buffer that is passed to a call stays allocated until all ranks of the world are gone: a rank that is late may read it, or write
    /// to it, after the call has failed here.
    pub unsafe fn share_everything(mut self, reach: Reach) -> LocalLinks {
        self.reach = reach;
        self
    }

    /// The way to the world beside these ends.
    pub fn door(&self) -> LocalDoor {
        LocalDoor { rank: self.rank, world: self.world.clone() }
    }

    fn readers(&self, link: Outgoing) -> Vec<u32> {
        match link {
            Outgoing::Pair(to) => vec![to],
            Outgoing::Board(group) => {
                self.groups.members(group, self.rank).iter().filter(|reader| *reader != self.rank).collect()
            }
        }
    }
}

impl LocalDoor {
    /// Ends the world for all its ranks.
    pub fn abort(&self, reason: &str) {
        let abort =
            Abort { by: self.rank, kind: Abort::CALLED, culprit: self.rank, other: self.rank, text: reason.into() };
        self.world.change(|hub| hub.abort.get_or_insert(abort).clone());
    }

    /// Says that this rank takes part no more.
    pub fn leave(&self) {
        self.world.change(|hub| hub.left[self.rank as usize] = true);
    }
}

fn incoming_key(lane: u32, rank: u32, link: Incoming) -> Key {
    match link {
        Incoming::Pair(from) => key(lane, from, Outgoing::Pair(rank)),
        Incoming::Board(from, group) => key(lane, from, Outgoing::Board(group)),
    }
}

impl Links for LocalLinks {
    fn rank(&self) -> u32 {
        self.rank
    }

    fn size(&self) -> u32 {
        self.groups.size()
    }

    fn reserve(&mut self, lane: u32, link: Outgoing, len: usize) -> Result<Result<*mut u8, Blocked>, Error> {
        let key = key(lane, self.rank, link);
        let readers = self.readers(link);
        let hub = self.world.lock();
        let full = |reader: &u32| hub.queues.get(&(key, *reader)).is_some_and(|queue| queue.len() >= self.slots);
        if let Some(reader) = readers.into_iter().find(full) {
            return Ok(Err(Blocked::Slot(reader)));
        }
        drop(hub);
        let draft = self.drafts.entry(key).or_default();
        draft.resize(len, 0);
        Ok(Ok(draft.as_mut_ptr()))
    }

    fn publish(&mut self, lane: u32, link: Outgoing, len: usize, tag: u32) -> Result<(), Error> {
        let key = key(lane, self.rank, link);
        let mut bytes = self.drafts.remove(&key).unwrap_or_default();
        bytes.truncate(len);
        let packet = Arc::new((bytes, tag));
        let readers = self.readers(link);
        self.world.change(|hub| {
            for reader in readers {
                hub.queues.entry((key, reader)).or_default().push_back(packet.clone());
            }
        });
        Ok(())
    }

    fn peek(&mut self, lane: u32, link: Incoming) -> Result<Option<Message>, Error> {
        let key = incoming_key(lane, self.rank, link);
        let mut hub = self.world.lock();
        let Some(packet) = hub.queues.entry((key, self.rank)).or_default().front().cloned() else { return Ok(None) };
        drop(hub);
        let message = Message { at: packet.0.as_ptr(), len: packet.0.len(), tag: packet.1 };
        self.shown.insert(key, packet);
        Ok(Some(message))
    }

    fn release(&mut self, lane: u32, link: Incoming) {
        let key = incoming_key(lane, self.rank, link);
        self.shown.remove(&key);
        let rank = self.rank;
        self.world.change(|hub| hub.queues.entry((key, rank)).or_default().pop_front());
    }

    fn share(&self, at: *const u8, _len: usize) -> Shared {
        let at = at.expose_provenance() as u64;
        match self.reach {
            Reach::None => Shared::NOWHERE,
            Reach::Fetched => Shared { heap: Shared::PRIVATE, at },
            Reach::Mapped => Shared { heap: 0, at: at + 1 },
        }
    }

    fn resolve(&mut self, _owner: u32, place: Shared, _len: usize) -> Option<*mut u8> {
        Some(std::ptr::with_exposed_provenance_mut(usize::try_from(place.at.checked_sub(1)?).ok()?))
    }

    unsafe fn fetch(&mut self, _owner: u32, at: u64, into: *mut u8, len: usize) -> Result<(), Error> {
        let from = std::ptr::with_exposed_provenance::<u8>(at as usize);
        // SAFETY: the caller vouches for `into`; whoever made these links promised that buffers stay allocated (`share_everything`), and
        // the executor compares the length with what the plan says of that buffer.
        unsafe { std::ptr::copy(from, into, len) };
        Ok(())
    }

    fn drained(&mut self, lane: u32, link: Outgoing) -> Result<Option<Blocked>, Error> {
        let key = key(lane, self.rank, link);
        let hub = self.world.lock();
        let holds = |reader: &u32| hub.queues.get(&(key, *reader)).is_some_and(|queue| !queue.is_empty());
        Ok(self.readers(link).into_iter().find(holds).map(Blocked::Slot))
    }

    fn message_limit(&self, _peer: u32) -> usize {
        usize::MAX
    }

    fn enter_windows(&mut self) -> bool {
        let mut hub = self.world.lock();
        hub.in_windows[self.rank as usize] = hub.abort.is_none();
        hub.abort.is_none()
    }

    fn leave_windows(&mut self) {
        self.world.change(|hub| hub.in_windows[self.rank as usize] = false);
    }
}

impl Watch for LocalLinks {
    fn announce(&mut self, entered: &Entered) {
        self.world.change(|hub| {
            let calls = &mut hub.calls[self.rank as usize];
            calls.insert(entered.number, *entered);
            while calls.len() > 4 {
                calls.pop_first();
            }
        });
    }

    fn finish(&mut self, number: u64) {
        self.world.change(|hub| hub.finished[self.rank as usize] = number);
    }

    fn finished(&self, rank: u32) -> u64 {
        self.world.lock().finished[rank as usize]
    }

    fn aborted(&self) -> bool {
        self.world.lock().abort.is_some()
    }

    fn trouble(&mut self, number: u64, blocked: Blocked) -> Option<Trouble> {
        let hub = self.world.lock();
        if let Some(abort) = &hub.abort {
            return Some(Trouble::Aborted(abort.clone()));
        }
        let rank = blocked.rank();
        if hub.left[rank as usize] {
            return Some(Trouble::Lost { rank, how: "it left the communicator".into() });
        }
        let ours = hub.calls[self.rank as usize].get(&number)?;
        let others = (0..self.size()).filter_map(|rank| Some((rank, *hub.calls[rank as usize].get(&number)?)));
        let (rank, theirs) = { others }.find(|(_, theirs)| theirs.digest != ours.digest)?;
        Some(Trouble::Disagreement { rank, theirs })
    }

    fn entered(&self, rank: u32, number: u64) -> Option<Entered> {
        self.world.lock().calls[rank as usize].get(&number).copied()
    }

    fn waiting_for(&self, rank: u32) -> Option<u32> {
        *self.world.lock().waiting_for.get(rank as usize)?
    }

    fn stopped(&self, _rank: u32) -> bool {
        false // A thread is not stopped alone.
    }

    fn describe(&self, rank: u32, _number: u64) -> String {
        let hub = self.world.lock();
        let last = hub.calls.get(rank as usize).and_then(|calls| calls.last_key_value());
        last.map_or("has not entered any operation".into(), |(number, call)| {
            format!("last seen in operation {number}, {call}")
        })
    }

    fn doze(&mut self, blocked: Blocked) {
        let rank = self.rank as usize;
        let mut hub = self.world.lock();
        hub.waiting_for[rank] = Some(blocked.rank());
        self.seen = hub.events;
    }

    fn sleep(&mut self, limit: Duration) {
        let hub = self.world.lock();
        if hub.events == self.seen {
            let _woken_or_limit = self.world.changed.wait_timeout(hub, limit);
        }
    }

    fn rise(&mut self) {}

    fn go_on(&mut self) {
        self.world.lock().waiting_for[self.rank as usize] = None;
    }

    fn abort(&mut self, abort: Abort) -> Abort {
        self.world.change(|hub| hub.abort.get_or_insert(abort).clone())
    }

    fn withdraw(&mut self) {
        self.leave_windows();
        let mut hub = self.world.lock();
        let inside = |hub: &mut Hub| hub.in_windows.iter().zip(&hub.left).any(|(inside, left)| *inside && !left);
        let waited = self.world.changed.wait_timeout_while(hub, COPYING, |hub| inside(hub));
        hub = waited.unwrap_or_else(PoisonError::into_inner).0;
        drop(hub);
    }

    fn crowd(&self) -> (u32, u32) {
        (self.size(), 1)
    }
}
