//! All links of one rank over a segment: the contract of `crate::transport` on top of `ring`.

use super::layout::{LANES, LINK_BYTES, PAGE, SLOT_BYTES, SMALL_SLOT_BYTES};
use super::ring::{IN_LINE, INLINE, LINES, Line, Reader, Released, SLOTS, Writer};
use super::segment::{HEAP_SPAN, Segment};
use super::staging::Budget;
use crate::error::{Error, Place};
use crate::plan::{Group, World};
use crate::sys::barrier;
use crate::sys::process::Watched;
use crate::sys::remote;
use crate::transport::{Blocked, Incoming, Links, Message, Outgoing, Shared};
use std::sync::Arc;

/// Boards a rank has in each lane.
const BOARDS: usize = 3;

/// Large slots have the numbers below SLOTS, small ones those from there to here.
const SLOT_NUMBERS: u32 = SLOTS + LINES;

/// In place of a slot's number: no message is being written.
const NONE: u32 = u32::MAX - 1;

/// What the small slots of a link take from the budget.
const SMALL_CHARGE: usize = LINK_BYTES - SLOTS as usize * SLOT_BYTES;

/// One outgoing link: this rank writes.
#[derive(Debug)]
struct Out {
    writer: Writer,
    lines: *const Line,
    slots: *mut u8,
    /// Bytes of each slot that the budget has been charged for.
    charged: u32,
    /// Slots in use: SLOTS, or MIN_SLOTS where memory is short.
    depth: u32,
    /// Whether the budget has been charged for the small slots.
    has_small: bool,
    /// The slot of the message that is being written, or NONE.
    slot: u32,
    /// The ranks that read, each with its counter.
    readers: Readers,
}

/// One incoming link: this rank reads.
#[derive(Debug)]
struct In {
    reader: Reader,
    lines: *const Line,
    slots: *const u8,
    counter: *const Released,
}

/// Who reads a link. A pair needs no list.
#[derive(Debug)]
enum Readers {
    One(u32, *const Released),
    Many(Vec<(u32, *const Released)>),
}

impl Readers {
    fn each(&self) -> impl Iterator<Item = (u32, &Released)> {
        let (one, many): (Option<(u32, *const Released)>, &[_]) = match self {
            Readers::One(rank, counter) => (Some((*rank, *counter)), &[]),
            Readers::Many(list) => (None, list),
        };
        // SAFETY: counters lie in the segment, which `ShmLinks` keeps mapped; they are atomics, valid whatever others write.
        one.into_iter().chain(many.iter().copied()).map(|(rank, counter)| (rank, unsafe { &*counter }))
    }
}

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
    /// This communicator's segment first, then those it was split from, each with its ranks' numbers there.
    heaps: Heaps,
    /// The other ranks' processes; None for this rank and for threads of this process.
    processes: Vec<Option<Arc<Watched>>>,
    /// Processors that all ranks of the host together may use.
    processors: u32,
    /// From how many bytes on ranks copy from each other's private memory; 0: never, or they can't.
    fetch_from: u64,
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
            out.extend((0..size).map(|to| {
                let link = Outgoing::Pair(to);
                Out::new(&segment, lane, rank, link, Readers::One(to, segment.released(lane, rank, link, to)))
            }));
            for group in [Group::World, Group::Inner, Group::Outer] {
                let link = Outgoing::Board(group);
                let readers = world.members(group, rank).iter().filter(|reader| *reader != rank);
                let readers = readers.map(|reader| (reader, segment.released(lane, rank, link, reader))).collect();
                out.push(Out::new(&segment, lane, rank, link, Readers::Many(readers)));
            }
            incoming.extend((0..size).map(|from| In::new(&segment, lane, from, Outgoing::Pair(rank), rank)));
            for group in [Group::World, Group::Inner, Group::Outer] {
                incoming.extend((0..size).map(|from| In::new(&segment, lane, from, Outgoing::Board(group), rank)));
            }
        }
        let heaps = vec![(segment.clone(), (0..size).collect())];
        let processes = vec![None; size as usize];
        let processors = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let fetch_from = 0;
        ShmLinks { rank, size, out, incoming, budget, segment, heaps, processes, processors, fetch_from }
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
            if out.charge() > 0 && out.slot == NONE && out.writer.idle(out.readers.each().map(|(_, counter)| counter)) {
                self.segment.discard(out.slots, LINK_BYTES);
                self.budget.put_back(out.charge());
                (out.charged, out.depth, out.has_small) = (0, SLOTS, false);
            }
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
        let small = len <= INLINE || self.out[index].can_be_small(len, &self.budget);
        if !small && !self.charge(index, len) {
            return Err(Error::Choice {
                what: format!(
                    "the staging budget of {} bytes is used up by operations under way ({} bytes used)",
                    self.budget.limit(),
                    self.budget.used()
                ),
                advice: "Raise RINGTREE_STAGING, or run fewer communicators at the same time".into(),
            });
        }
        let depth = if small { LINES } else { self.out[index].depth };
        self.look(index, depth)
    }

    /// Who holds the oldest message where `depth` of them may be on their way, if there is no room for another.
    fn look(&mut self, index: usize, depth: u32) -> Result<Option<Blocked>, Error> {
        let out = &mut self.out[index];
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

    /// Has the budget charged for large slots of `len` bytes, if need be with what this rank's own idle links give back: other
    /// communicators can't ask this one while it is in an operation.
    fn charge(&mut self, index: usize, len: usize) -> bool {
        let charged = |out: &mut Out, budget: &Budget| out.charged as usize >= len || out.charge_for(len, budget);
        if charged(&mut self.out[index], &self.budget) {
            return true;
        }
        self.give_back();
        charged(&mut self.out[index], &self.budget)
    }

    #[cold]
    fn wake(&self, rank: u32) {
        self.segment.status(rank).bell.ring();
    }

    /// Wakes the readers of a link if anybody sleeps at all.
    #[inline(always)]
    fn wake_readers(&self, index: usize) {
        if self.segment.header().sleepers.any() {
            for (rank, _) in self.out[index].readers.each() {
                self.wake(rank);
            }
        }
    }
}

impl Out {
    fn new(segment: &Segment, lane: u32, rank: u32, link: Outgoing, readers: Readers) -> Out {
        Out {
            writer: Writer::default(),
            lines: segment.lines(lane, rank, link),
            slots: segment.slots(lane, rank, link),
            charged: 0,
            depth: SLOTS,
            has_small: false,
            slot: NONE,
            readers,
        }
    }

    /// Bytes that this link has of the budget.
    fn charge(&self) -> usize {
        let small = if self.has_small { SMALL_CHARGE } else { 0 };
        self.charged as usize * self.depth as usize + small
    }

    /// Whether a message of `len` bytes goes through a small slot: where the budget has none for them, it takes a large one.
    fn can_be_small(&mut self, len: usize, budget: &Budget) -> bool {
        if len <= SMALL_SLOT_BYTES && !self.has_small {
            self.has_small = budget.try_take(SMALL_CHARGE);
        }
        len <= SMALL_SLOT_BYTES && self.has_small
    }

    /// Where the slot of that number begins, if a message of `len` bytes fits in it.
    #[inline(always)]
    fn place_of(slot: u32, len: usize) -> Option<usize> {
        match slot {
            0..SLOTS if len <= SLOT_BYTES => Some(slot as usize * SLOT_BYTES),
            SLOTS..SLOT_NUMBERS if len <= SMALL_SLOT_BYTES => {
                Some(SLOTS as usize * SLOT_BYTES + (slot - SLOTS) as usize * SMALL_SLOT_BYTES)
            }
            _ => None,
        }
    }

    /// Takes from the budget what slots of `len` bytes need more: all slots, or as many as plans are proved with.
    fn charge_for(&mut self, len: usize, budget: &Budget) -> bool {
        let pages = len.next_multiple_of(PAGE);
        let more = pages * self.depth as usize - self.charged as usize * self.depth as usize;
        if budget.take(more) {
            self.charged = pages as u32;
            return true;
        }
        // Fewer slots only while no large one is in use: the slot of a message must not change under a reader.
        let fewer = crate::plan::MIN_SLOTS;
        if self.charged == 0 && budget.take(pages * fewer as usize) {
            self.charged = pages as u32;
            self.depth = fewer;
            return true;
        }
        false
    }

    #[inline(always)]
    fn line(&self) -> &Line {
        // SAFETY: the index is below LINES, the ring lies in the segment that `ShmLinks` keeps mapped, and a Line is valid whatever
        // others write to it.
        unsafe { &*self.lines.add((self.writer.next() % LINES) as usize) }
    }
}

impl In {
    fn new(segment: &Segment, lane: u32, from: u32, link: Outgoing, rank: u32) -> In {
        In {
            reader: Reader::default(),
            lines: segment.lines(lane, from, link),
            slots: segment.slots(lane, from, link),
            counter: segment.released(lane, from, link, rank),
        }
    }

    #[inline(always)]
    fn line(&self) -> &Line {
        // SAFETY: as for `Out::line`.
        unsafe { &*self.lines.add((self.reader.next() % LINES) as usize) }
    }
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
        let out = &self.out[index];
        let ready = if len <= INLINE || len <= SMALL_SLOT_BYTES && out.has_small {
            out.writer.has_room(LINES)
        } else {
            out.charged as usize >= len && out.writer.has_room(out.depth)
        };
        if !ready && let Some(blocked) = self.make_room(index, len)? {
            return Ok(Err(blocked));
        }
        let out = &mut self.out[index];
        if len <= INLINE {
            out.slot = IN_LINE;
            // SAFETY: there is room, the line is that of the next message, and this is the only writer of the ring.
            return Ok(Ok(unsafe { out.writer.inline(out.line()) }));
        }
        // Whoever had this slot before is released: a large one when fewer than `depth` messages of any kind are on their way, a small
        // one when fewer than LINES are.
        let next = out.writer.next();
        let small = len <= SMALL_SLOT_BYTES && out.has_small;
        out.slot = if small { SLOTS + next % LINES } else { next % out.depth };
        let place = Out::place_of(out.slot, len).unwrap_or(0);
        // SAFETY: the layout gives every link LINK_BYTES, in which `place_of` finds each slot; `make_room` has refused a longer message.
        Ok(Ok(unsafe { out.slots.add(place) }))
    }

    #[inline(always)]
    fn publish(&mut self, lane: u32, link: Outgoing, len: usize, tag: u32) -> Result<(), Error> {
        let index = self.out_index(lane, link);
        let out = &mut self.out[index];
        let line = out.line() as *const Line;
        // SAFETY: `reserve` found room for this message and the executor has filled it; the line lives as long as the segment.
        unsafe { out.writer.publish(&*line, len as u32, out.slot, tag) };
        out.slot = NONE;
        self.wake_readers(index);
        Ok(())
    }

    #[inline(always)]
    fn peek(&mut self, lane: u32, link: Incoming) -> Result<Option<Message>, Error> {
        let incoming = &self.incoming[self.in_index(lane, link)];
        let Some(notice) = incoming.reader.peek(incoming.line()) else { return Ok(None) };
        let len = notice.len as usize;
        if notice.slot == IN_LINE && len <= INLINE {
            return Ok(Some(Message { at: notice.inline, len, tag: notice.tag }));
        }
        let Some(place) = Out::place_of(notice.slot, len) else {
            return Err(self.corrupt(link.rank(), format!("a message of {len} bytes in slot {}", notice.slot)));
        };
        // SAFETY: the slot number and length were just checked against the layout.
        let at = unsafe { incoming.slots.add(place) };
        Ok(Some(Message { at, len, tag: notice.tag }))
    }

    #[inline(always)]
    fn release(&mut self, lane: u32, link: Incoming) {
        let index = self.in_index(lane, link);
        let incoming = &mut self.incoming[index];
        // SAFETY: the counter lies in the mapped segment and is an atomic.
        incoming.reader.release(unsafe { &*incoming.counter });
        if self.segment.header().sleepers.any() {
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

    fn message_limit(&self) -> usize {
        SLOT_BYTES
    }

    #[inline]
    fn enter_windows(&mut self) -> bool {
        self.segment.status(self.rank).enter_windows(self.segment.header())
    }

    #[inline]
    fn leave_windows(&mut self) {
        self.segment.status(self.rank).leave_windows();
    }
}

impl Drop for ShmLinks {
    fn drop(&mut self) {
        for out in &self.out {
            self.budget.put_back(out.charge());
        }
    }
}
