//! All links of one rank over a segment: the contract of `crate::transport` on top of `ring`.

use super::ends::{Back, In, NONE, Out, Readers, Spot, spot};
use super::handback::hand_back;
use super::layout::{LANES, SLOT_BYTES};
use super::ring::{IN_LINE, INLINE, PAST};
use super::segment::{HEAP_SPAN, Segment};
use super::shuttle;
use super::staging::Budget;
use super::status::{Header, Status};
use crate::error::{Error, Place};
use crate::plan::{Group, World};
use crate::sys::barrier;
use crate::sys::process::Watched;
use crate::sys::remote;
use crate::transport::{Blocked, Incoming, Links, Message, Outgoing, Shared};
use std::sync::Arc;

/// Boards a rank has in each lane.
const BOARDS: usize = 3;

/// Heaps that the ranks of a communicator can address: a segment, and the numbers that the ranks have there.
pub type Heaps = Vec<(Arc<Segment>, Vec<u32>)>;

/// One rank's ends of all links of a host.
#[derive(Debug)]
pub struct ShmLinks {
    rank: u32,
    size: u32,
    out: Vec<Out>,
    incoming: Vec<In>,
    budget: Arc<Budget>,
    segment: Arc<Segment>,
    /// Parts of the segment that every call touches.
    header: *const Header,
    status: *const Status,
    /// This communicator's segment first, then those it was split from, each with its ranks' numbers there.
    heaps: Heaps,
    /// The other ranks' processes; None for this rank and for threads of this process.
    processes: Vec<Option<Arc<Watched>>>,
    /// Processors that all ranks of the host together may use.
    processors: u32,
    /// From how many bytes on ranks copy from each other's private memory; 0: never, or they can't.
    fetch_from: u64,
    /// Whether what was reserved last is better written round the caches.
    past_caches: bool,
}

// SAFETY: the raw pointers point into the segment, which the Arc keeps mapped and which is accessed by atomics and by the protocol of
// `ring` only; nothing in here is bound to a thread.
unsafe impl Send for ShmLinks {}

impl ShmLinks {
    /// The ends of rank `rank` of a segment. `world` gives the boards their readers and must be the same on all ranks.
    pub fn new(segment: Arc<Segment>, rank: u32, world: &World, budget: Arc<Budget>) -> ShmLinks {
        let size = segment.ranks();
        assert!(rank < size && world.size() == size);
        // A publisher that is not registered would not see who lies down.
        barrier::register();
        let mut out = Vec::new();
        let mut incoming = Vec::new();
        for lane in 0..LANES {
            let first = out.len() as u32;
            out.extend((0..size).map(|to| {
                let link = Outgoing::Pair(to);
                let readers = Readers::One(to, segment.released(lane, rank, link, to));
                // The link to oneself is its own link back.
                let back = (to != rank).then(|| Back::of(&segment, lane, rank, to, Outgoing::Pair(rank)));
                Out::new(&segment, lane, rank, link, readers, back)
            }));
            out.extend(GROUPS.map(|group| board(&segment, lane, rank, world, group)));
            let back = |index: u32| if out[index as usize].shuttles.count(true) > 0 { index } else { NONE };
            let pair = |from| In::new(&segment, lane, from, Outgoing::Pair(rank), rank, back(first + from));
            incoming.extend((0..size).map(pair));
            for group in GROUPS {
                // The board of a group of two is a link to the other one, and his is the link back.
                let back = back(first + size + group as u32);
                let board = |from| In::new(&segment, lane, from, Outgoing::Board(group), rank, back);
                incoming.extend((0..size).map(board));
            }
        }
        let heaps = vec![(segment.clone(), (0..size).collect())];
        let processes = vec![None; size as usize];
        let processors = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let (header, status): (*const _, *const _) = (segment.header(), segment.status(rank));
        ShmLinks {
            rank,
            size,
            out,
            incoming,
            budget,
            segment,
            header,
            status,
            heaps,
            processes,
            processors,
            fetch_from: 0,
            past_caches: false,
        }
    }

    /// Watches the processes of the other ranks, which live now; `pids` has one for each rank.
    pub fn watch(&mut self, pids: &[i32]) {
        let own = std::process::id() as i32;
        self.processes = pids.iter().map(|pid| (*pid != own).then(|| Watched::open(*pid))).collect();
    }

    /// How many processors all ranks of the host together may use; the same on all.
    pub fn share_processors(&mut self, processors: u32) {
        self.processors = processors;
    }

    /// Lets ranks copy from each other's private memory from so many bytes on; all ranks have seen that they can.
    pub fn allow_fetching(&mut self, from: u64) {
        self.fetch_from = from;
    }

    /// From how many bytes on they do; 0: never.
    pub fn fetch_from(&self) -> u64 {
        self.fetch_from
    }

    /// (ranks, processors that they share)
    pub(super) fn crowding(&self) -> (u32, u32) {
        (self.size, self.processors)
    }

    /// The process of another rank, if it isn't this one.
    pub fn process(&self, rank: u32) -> Option<&Watched> {
        self.processes.get(rank as usize)?.as_deref()
    }

    /// The segment's first page.
    #[inline(always)]
    pub(super) fn header(&self) -> &Header {
        // SAFETY: it lies in the segment, which lives as long as `self`.
        unsafe { &*self.header }
    }

    /// This rank's status.
    #[inline(always)]
    pub(super) fn own_status(&self) -> &Status {
        // SAFETY: as for the header.
        unsafe { &*self.status }
    }

    /// The segment.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// The heaps that this rank and its peers can address.
    pub fn heaps(&self) -> &[(Arc<Segment>, Vec<u32>)] {
        &self.heaps
    }

    /// Also lets memory of the communicator that this one was split from serve; `ranks` are our ranks' numbers there.
    pub fn inherit_heaps(&mut self, parent: &[(Arc<Segment>, Vec<u32>)], ranks: &[usize]) {
        for (segment, numbers) in parent {
            let numbers = ranks.iter().map(|rank| numbers[*rank]).collect();
            self.heaps.push((segment.clone(), numbers));
        }
    }

    /// Gives the pages of slots back that nobody is using.
    pub fn give_back(&mut self) {
        for out in &mut self.out {
            self.budget.put_back(out.give_back(&self.segment));
        }
    }

    #[inline(always)]
    fn out_index(&self, lane: u32, link: Outgoing) -> usize {
        let within = match link {
            Outgoing::Pair(to) => {
                assert!(to < self.size);
                to as usize
            }
            Outgoing::Board(group) => self.size as usize + group as usize,
        };
        lane as usize * (self.size as usize + BOARDS) + within
    }

    #[inline(always)]
    fn in_index(&self, lane: u32, link: Incoming) -> usize {
        let within = match link {
            Incoming::Pair(from) => from as usize,
            Incoming::Board(from, group) => {
                assert!(from < self.size);
                self.size as usize * (1 + group as usize) + from as usize
            }
        };
        lane as usize * self.size as usize * (1 + BOARDS) + within
    }

    fn corrupt(&self, rank: u32, what: String) -> Error {
        let place = Place { rank: self.rank as usize, size: self.size as usize, ..Place::default() };
        Error::Corrupt { place: Box::new(place), rank: rank as usize, what }
    }

    /// The slow half of `reserve`: looks at the readers' counters and charges the budget.
    #[cold]
    fn make_room(&mut self, index: usize, len: usize) -> Result<Option<Blocked>, Error> {
        if len > SLOT_BYTES {
            return Err(Error::misuse(
                format!("a message of {len} bytes does not fit in a slot of {SLOT_BYTES}"),
                "Choose a smaller chunk (RINGTREE_CHUNK)",
            ));
        }
        let depth = match self.out[index].pay(len, &self.budget) {
            Some(depth) => depth,
            None => self.pay_by_giving_back(index, len)?,
        };
        self.look(index, depth)
    }

    /// Other communicators can't ask this one for memory while it is in an operation: its own idle links give theirs back.
    fn pay_by_giving_back(&mut self, index: usize, len: usize) -> Result<u32, Error> {
        self.give_back();
        self.out[index].pay(len, &self.budget).ok_or_else(|| Error::Choice {
            what: format!(
                "the staging budget of {} bytes is used up by operations under way ({} bytes used)",
                self.budget.limit(),
                self.budget.used()
            ),
            advice: "Raise RINGTREE_STAGING, or run fewer communicators at the same time".into(),
        })
    }

    /// Who holds the oldest message where `depth` of them may be on their way, if there is no room for another.
    fn look(&mut self, index: usize, depth: u32) -> Result<Option<Blocked>, Error> {
        let out = &mut self.out[index];
        if let Err(bad) = out.collect_shuttles() {
            let reader = out.readers.each().next().map_or(self.rank, |(rank, _)| rank);
            return Err(self.corrupt(reader, format!("shuttle {}, which it did not have", bad.shuttle)));
        }
        match out.writer.look(depth, out.readers.each().map(|(_, counter)| counter)) {
            Ok(None) => Ok(None),
            Ok(Some(reader)) => {
                let rank = out.readers.each().nth(reader).map_or(self.rank, |(rank, _)| rank);
                Ok(Some(Blocked::Slot(rank)))
            }
            Err(bad) => {
                let reader = out.readers.each().nth(bad.reader).map_or(self.rank, |(rank, _)| rank);
                let what = format!("a counter of {} released messages where {} were sent", bad.claimed, bad.sent);
                Err(self.corrupt(reader, what))
            }
        }
    }

    #[cold]
    fn wake(&self, rank: u32) {
        self.segment.status(rank).bell.ring();
    }

    /// Wakes the readers of a link if anybody sleeps at all.
    #[inline(always)]
    fn wake_readers(&self, index: usize) {
        if self.header().sleepers.any() {
            for (rank, _) in self.out[index].readers.each() {
                self.wake(rank);
            }
        }
    }
}

/// All boards of a rank, in the order of their numbers.
const GROUPS: [Group; BOARDS] = [Group::World, Group::Inner, Group::Outer];

/// The board of a rank in a lane for a group.
fn board(segment: &Segment, lane: u32, rank: u32, world: &World, group: Group) -> Out {
    let link = Outgoing::Board(group);
    let others = world.members(group, rank).iter().filter(|reader| *reader != rank);
    let others = others.map(|reader| (reader, segment.released(lane, rank, link, reader))).collect::<Vec<_>>();
    let (readers, back) = match others[..] {
        [(other, counter)] => (Readers::One(other, counter), Some(Back::of(segment, lane, rank, other, link))),
        _ => (Readers::Many(others), None),
    };
    Out::new(segment, lane, rank, link, readers, back)
}

impl Links for ShmLinks {
    fn rank(&self) -> u32 {
        self.rank
    }

    fn size(&self) -> u32 {
        self.size
    }

    #[inline(always)]
    fn reserve(&mut self, lane: u32, link: Outgoing, len: usize) -> Result<Result<*mut u8, Blocked>, Error> {
        let index = self.out_index(lane, link);
        let slot = match self.out[index].choose(len) {
            Some(slot) => slot,
            None => {
                if let Some(blocked) = self.make_room(index, len)? {
                    return Ok(Err(blocked));
                }
                self.out[index].choose(len).unwrap_or_else(|| unreachable!("room for {len} bytes was made"))
            }
        };
        let out = &mut self.out[index];
        out.slot = slot;
        self.past_caches = out.past_caches;
        Ok(Ok(out.place(slot, len)))
    }

    #[inline(always)]
    fn past_caches(&self) -> bool {
        self.past_caches
    }

    #[inline(always)]
    fn publish(&mut self, lane: u32, link: Outgoing, len: usize, tag: u32) -> Result<(), Error> {
        let index = self.out_index(lane, link);
        // SAFETY: `reserve` found room for this message and the executor has filled it.
        unsafe { self.out[index].publish(len, tag) };
        self.wake_readers(index);
        Ok(())
    }

    #[inline(always)]
    fn peek(&mut self, lane: u32, link: Incoming) -> Result<Option<Message>, Error> {
        let index = self.in_index(lane, link);
        let incoming = &mut self.incoming[index];
        let Some(notice) = incoming.reader.peek(incoming.line()) else { return Ok(None) };
        let (len, tag) = (notice.len as usize, notice.tag);
        // Whoever looks twice at a peer that lies may see two different messages: what is released is what was seen last.
        (incoming.came, incoming.came_at) = (NONE, std::ptr::null_mut());
        crate::sys::cache::fetch(incoming.next_line().cast());
        if notice.slot == IN_LINE && len <= INLINE {
            return Ok(Some(Message { at: notice.inline, len, tag }));
        }
        incoming.came_past = notice.slot & PAST != 0;
        match spot(notice.slot & !PAST, len) {
            Some(Spot::Slot(at)) => {
                (incoming.came_at, incoming.came_len) = (incoming.slot(at), len);
                Ok(Some(Message { at: incoming.came_at, len, tag }))
            }
            // One that this rank holds can't come from anybody else.
            Some(Spot::Shuttle(shuttle))
                if incoming.back != NONE
                    && !self.out[incoming.back as usize].shuttles.holds(shuttle::seen_by_peer(shuttle)) =>
            {
                (incoming.came, incoming.came_len) = (shuttle::seen_by_peer(shuttle), len);
                incoming.came_at = self.out[incoming.back as usize].shuttle(incoming.came);
                Ok(Some(Message { at: incoming.came_at, len, tag }))
            }
            _ => Err(self.corrupt(link.rank(), format!("a message of {len} bytes in slot {}", notice.slot))),
        }
    }

    #[inline(always)]
    fn release(&mut self, lane: u32, link: Incoming) {
        let index = self.in_index(lane, link);
        let incoming = &mut self.incoming[index];
        // SAFETY: the counter lies in the mapped segment and is an atomic.
        let counter = unsafe { &*incoming.counter };
        let at = std::mem::replace(&mut incoming.came_at, std::ptr::null_mut());
        if incoming.back != NONE {
            if !at.is_null() {
                let (shuttle, len) = (std::mem::replace(&mut incoming.came, NONE), incoming.came_len);
                let back = &mut self.out[incoming.back as usize];
                if shuttle == NONE || !back.keep_shuttle(shuttle, len) {
                    if !incoming.came_past {
                        // SAFETY: `peek` has seen that the message lies in a slot or shuttle, whose only reader is this rank; whoever
                        // asked to release it reads it no more, and its writer waits for the release or the return below.
                        unsafe { hand_back(at, len) };
                    }
                    if shuttle != NONE {
                        back.receive_slowly(shuttle, len, &self.budget, counter);
                    }
                }
            }
            // Where traffic goes to and fro, a line is long forgotten when its turn comes again.
            let answered = self.out[incoming.back as usize].writer.next();
            if incoming.answered == answered {
                incoming.reader.hand_back(incoming.line());
            }
            incoming.answered = answered;
        }
        incoming.reader.release(counter);
        if self.header().sleepers.any() {
            self.wake(link.rank());
        }
    }

    fn share(&self, at: *const u8, len: usize) -> Shared {
        for (number, (segment, ranks)) in self.heaps.iter().enumerate() {
            let Some(heap) = segment.heap_if_mapped() else { continue };
            let begin = heap.base() as usize + segment.heap_offset(ranks[self.rank as usize]);
            if let Some(offset) = (at as usize).checked_sub(begin)
                && offset.checked_add(len).is_some_and(|end| end <= HEAP_SPAN)
            {
                return Shared { heap: number as u64, at: offset as u64 + 1 };
            }
        }
        if self.fetch_from > 0 { Shared { heap: Shared::PRIVATE, at: at.addr() as u64 } } else { Shared::NOWHERE }
    }

    fn resolve(&mut self, owner: u32, place: Shared, len: usize) -> Option<*mut u8> {
        let offset = usize::try_from(place.at.checked_sub(1)?).ok()?;
        let (segment, ranks) = self.heaps.get(usize::try_from(place.heap).ok()?)?;
        let owner = *ranks.get(owner as usize)?;
        if offset.checked_add(len)? > HEAP_SPAN {
            return None;
        }
        segment.heap()?.range(segment.heap_offset(owner) + offset, len)
    }

    unsafe fn fetch(&mut self, owner: u32, at: u64, into: *mut u8, len: usize) -> Result<(), Error> {
        let pid = self.process(owner).map_or(std::process::id() as i32, Watched::pid);
        // SAFETY: the caller vouches for `into`.
        let fetched = unsafe { remote::read(pid, at, into, len) };
        fetched.map_err(|errno| {
            let (place, rank) = (Box::new(Place::default()), owner as usize);
            match errno {
                libc::ESRCH => Error::PeerLost { place, rank, how: format!("process {pid} on this host has ended") },
                libc::EFAULT => Error::Corrupt { place, rank, what: "an address that is not in its memory".into() },
                _ => Error::from_errno(
                    format!("cannot copy from rank {owner}'s memory (process_vm_readv)"),
                    errno,
                    "Set RINGTREE_FETCH=off on all ranks",
                ),
            }
        })
    }

    fn drained(&mut self, lane: u32, link: Outgoing) -> Result<Option<Blocked>, Error> {
        let index = self.out_index(lane, link);
        self.look(index, 1)
    }

    fn message_limit(&self, _peer: u32) -> usize {
        SLOT_BYTES
    }

    #[inline]
    fn enter_windows(&mut self) -> bool {
        self.own_status().enter_windows(self.header())
    }

    #[inline]
    fn leave_windows(&mut self) {
        self.own_status().leave_windows();
    }
}

impl Drop for ShmLinks {
    fn drop(&mut self) {
        for out in &self.out {
            self.budget.put_back(out.charge());
        }
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
