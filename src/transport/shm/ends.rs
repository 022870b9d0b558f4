//! One end of one link: which slot a message takes, and what the budget is charged for it.
//!
//! ```text
//!   up to 48 bytes    in the line
//!   up to 4 KiB       a small shuttle that this rank holds, else the small slot whose turn it is (of 16)
//!   above             a large shuttle that it holds and has paid for, else the large slot whose turn it is (of 4, or of 2)
//! ```

use super::distance::{Distance, timed};
use super::layout::{
    LARGE_SHUTTLES, PAGE, SHUTTLES, SLOT_BYTES, SMALL_SHUTTLE_BYTES, SMALL_SHUTTLES, SMALL_SLOT_BYTES, SMALL_SLOTS,
};
use super::ring::{IN_LINE, INLINE, LINES, Line, PAST, Reader, Released, SLOTS, Writer};
use super::segment::Segment;
use super::shuttle::{self, BadReturn, Shuttles};
use super::staging::Budget;
use crate::transport::{Outgoing, PAST_CACHES};
use std::ptr::{null, null_mut};

/// Large slots have the numbers below SLOTS, small ones those from there to here, then come the shuttles as the writer numbers them.
const SLOT_NUMBERS: u32 = SLOTS + LINES;

/// In place of a number: no slot, no shuttle, no link.
pub(super) const NONE: u32 = u32::MAX - 1;

/// What the small slots and small shuttles of a link take from the budget.
const SMALL_CHARGE: usize = LARGE_SHUTTLES - SMALL_SLOTS + SHUTTLES as usize * SMALL_SHUTTLE_BYTES;

/// One outgoing link: this rank writes.
#[derive(Debug)]
pub(super) struct Out {
    pub writer: Writer,
    lines: *const Line,
    slots: *mut u8,
    /// The slots of the link back, where there is one reader.
    back: *mut u8,
    /// What this rank says of its reading of the link back, where there is one reader.
    own: *const Released,
    /// Bytes of each slot that the budget has been charged for.
    charged: u32,
    /// Slots in use: SLOTS, or MIN_SLOTS where memory is short.
    depth: u32,
    /// Whether the budget has been charged for the small slots.
    has_small: bool,
    /// The slot of the message that is being written, or NONE.
    pub slot: u32,
    pub shuttles: Shuttles,
    /// Whether shuttles were returned of late, and did not come with messages: then all goes this way.
    one_way: bool,
    pub distance: Distance,
    /// Whether what is written for the reader goes round the caches: one way, and far.
    pub past_caches: bool,
    /// The ranks that read, each with its counter.
    pub readers: Readers,
}

/// One incoming link: this rank reads.
#[derive(Debug)]
pub(super) struct In {
    pub reader: Reader,
    lines: *const Line,
    slots: *mut u8,
    pub counter: *const Released,
    /// The number of the link back among the outgoing ones, or NONE.
    pub back: u32,
    /// The message under way: the shuttle that it came in, or NONE; where it lies, null: in its line; and its length.
    pub came: u32,
    pub came_at: *mut u8,
    pub came_len: usize,
    /// Whether it was written round the caches.
    pub came_past: bool,
    /// The number that the next message of the link back had when a message was released last.
    pub answered: u32,
}

/// Who reads a link. A pair needs no list.
#[derive(Debug)]
pub(super) enum Readers {
    One(u32, *const Released),
    Many(Vec<(u32, *const Released)>),
}

impl Readers {
    pub fn each(&self) -> impl Iterator<Item = (u32, &Released)> {
        let (one, many): (Option<(u32, *const Released)>, &[_]) = match self {
            Readers::One(rank, counter) => (Some((*rank, *counter)), &[]),
            Readers::Many(list) => (None, list),
        };
        // SAFETY: counters lie in the segment, which `ShmLinks` keeps mapped; they are atomics, valid whatever others write.
        one.into_iter().chain(many.iter().copied()).map(|(rank, counter)| (rank, unsafe { &*counter }))
    }
}

/// The link back of one with one reader: its slots, and the counter of this rank, which reads it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Back {
    pub slots: *mut u8,
    pub counter: *const Released,
}

impl Back {
    /// The link by which the only reader of one writes to `rank`.
    pub fn of(segment: &Segment, lane: u32, rank: u32, reader: u32, link: Outgoing) -> Back {
        Back { slots: segment.slots(lane, reader, link), counter: segment.released(lane, reader, link, rank) }
    }
}

/// Where a slot or shuttle lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// So many bytes into the slots of the link itself: one of its slots.
    Slot(usize),
    /// A shuttle, by the writer's number.
    Shuttle(u32),
}

/// The number of a shuttle among all slots, as messages carry it.
#[inline(always)]
pub(super) fn number_of(shuttle: u32) -> u32 {
    SLOT_NUMBERS + shuttle
}

/// What a slot's number means, if a message of `len` bytes fits there.
#[inline(always)]
pub(super) fn spot(slot: u32, len: usize) -> Option<Spot> {
    const SHUTTLE_END: u32 = SLOT_NUMBERS + shuttle::ALL;
    match slot {
        0..SLOTS if len <= SLOT_BYTES => Some(Spot::Slot(slot as usize * SLOT_BYTES)),
        SLOTS..SLOT_NUMBERS if len <= SMALL_SLOT_BYTES => {
            Some(Spot::Slot(SMALL_SLOTS + (slot - SLOTS) as usize * SMALL_SLOT_BYTES))
        }
        SLOT_NUMBERS..SHUTTLE_END if shuttle::fits(slot - SLOT_NUMBERS, len) => {
            Some(Spot::Shuttle(slot - SLOT_NUMBERS))
        }
        _ => None,
    }
}

impl Out {
    /// `back`: the slots of the link back and this rank's counter there, where there is one reader.
    pub fn new(segment: &Segment, lane: u32, rank: u32, link: Outgoing, readers: Readers, back: Option<Back>) -> Out {
        let Back { slots: back, counter: own } = back.unwrap_or(Back { slots: null_mut(), counter: null() });
        Out {
            writer: Writer::default(),
            lines: segment.lines(lane, rank, link),
            slots: segment.slots(lane, rank, link),
            back,
            own,
            charged: 0,
            depth: SLOTS,
            has_small: false,
            slot: NONE,
            shuttles: Shuttles::new(!back.is_null()),
            one_way: false,
            distance: Distance::default(),
            past_caches: false,
            readers,
        }
    }

    /// The slot for the next message, if there is room for it and it is paid for, by what is known without looking.
    #[inline(always)]
    pub fn choose(&self, len: usize) -> Option<u32> {
        if len <= INLINE {
            return self.writer.has_room(LINES).then_some(IN_LINE);
        }
        let small = len <= SMALL_SLOT_BYTES && self.has_small;
        if let Some(shuttle) = self.shuttles.pick(small, len) {
            return self.writer.has_room(LINES).then_some(number_of(shuttle));
        }
        // Whoever had this slot before is released: a large one when fewer than `depth` messages of any kind are on their way, a small
        // one when fewer than LINES are.
        let next = self.writer.next();
        if small {
            self.writer.has_room(LINES).then_some(SLOTS + next % LINES)
        } else {
            (self.charged as usize >= len && self.writer.has_room(self.depth)).then_some(next % self.depth)
        }
    }

    /// Where the message of `len` bytes goes that takes the slot of that number.
    #[inline(always)]
    pub fn place(&self, slot: u32, len: usize) -> *mut u8 {
        if slot == IN_LINE {
            // SAFETY: `choose` has found room, the line is that of the next message, and this is the only writer of the ring.
            return unsafe { self.writer.inline(self.line()) };
        }
        match spot(slot, len) {
            Some(Spot::Slot(at)) => self.slots.wrapping_add(at),
            Some(Spot::Shuttle(shuttle)) => self.shuttle(shuttle),
            None => unreachable!("a message of {len} bytes in slot {slot}, which was chosen for it"),
        }
    }

    /// The memory of a shuttle, by this rank's number.
    #[inline(always)]
    pub fn shuttle(&self, shuttle: u32) -> *mut u8 {
        let (index, own) = shuttle::seat(shuttle);
        let side = if own { self.slots } else { self.back };
        let (small, large) = (SMALL_SHUTTLES + index * SMALL_SHUTTLE_BYTES, LARGE_SHUTTLES + index * SLOT_BYTES);
        side.wrapping_add(if shuttle::is_small(shuttle) { small } else { large })
    }

    /// Publishes the message of `len` bytes in the slot that was chosen for it.
    ///
    /// # Safety
    /// `choose` found room for this message, and it has been written.
    #[inline(always)]
    pub unsafe fn publish(&mut self, len: usize, tag: u32) {
        let line = self.line() as *const Line;
        if let Some(shuttle) = self.slot.checked_sub(SLOT_NUMBERS).filter(|shuttle| *shuttle < shuttle::ALL) {
            self.shuttles.send(shuttle);
        }
        // What lies in the line is shorter.
        let past = if self.past_caches && len >= PAST_CACHES { PAST } else { 0 };
        // SAFETY: the caller's contract; the line lives as long as the segment.
        unsafe { self.writer.publish(&*line, len as u32, self.slot | past, tag) };
        self.slot = NONE;
    }

    /// Bytes that this link has of the budget.
    pub fn charge(&self) -> usize {
        let small = if self.has_small { SMALL_CHARGE } else { 0 };
        self.charged as usize * self.depth as usize + self.shuttles.bytes * SHUTTLES as usize + small
    }

    /// How many messages of `len` bytes may be on their way once they are paid for; nothing: the budget has no memory for them now.
    pub fn pay(&mut self, len: usize, budget: &Budget) -> Option<u32> {
        if len <= INLINE || self.can_be_small(len, budget) {
            return Some(LINES);
        }
        if self.shuttles.count(false) > 0 && self.pay_shuttles(len, |bytes| budget.take(bytes)) {
            return Some(LINES);
        }
        (self.charged as usize >= len || self.pay_slots(len, budget)).then_some(self.depth)
    }

    /// Whether a message of `len` bytes goes through a small slot: where the budget has none for them, it takes a large one.
    fn can_be_small(&mut self, len: usize, budget: &Budget) -> bool {
        if len <= SMALL_SLOT_BYTES && !self.has_small {
            self.has_small = budget.try_take(SMALL_CHARGE);
        }
        len <= SMALL_SLOT_BYTES && self.has_small
    }

    /// Takes what this rank's share of the large shuttles needs more for messages of `len` bytes.
    fn pay_shuttles(&mut self, len: usize, take: impl FnOnce(usize) -> bool) -> bool {
        let pages = len.next_multiple_of(PAGE);
        if pages > self.shuttles.bytes {
            if !take((pages - self.shuttles.bytes) * SHUTTLES as usize) {
                return false;
            }
            self.shuttles.bytes = pages;
        }
        true
    }

    /// Takes from the budget what slots of `len` bytes need more: all slots, or as many as plans are proved with.
    fn pay_slots(&mut self, len: usize, budget: &Budget) -> bool {
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

    /// A shuttle has come with a message of `len` bytes, which has been read. Whether it stays here, because there is room for it and it is
    /// paid for.
    #[inline(always)]
    pub fn keep_shuttle(&mut self, shuttle: u32, len: usize) -> bool {
        let paid = if shuttle::is_small(shuttle) { self.has_small } else { self.shuttles.bytes >= len };
        let kept = paid && self.shuttles.keep(shuttle);
        if kept {
            (self.one_way, self.past_caches) = (false, false);
        }
        kept
    }

    /// The same for one that does not stay without more: it is paid for, or else it goes back, already handed back.
    #[cold]
    pub fn receive_slowly(&mut self, shuttle: u32, len: usize, budget: &Budget, returns: &Released) {
        let small = shuttle::is_small(shuttle);
        let paid = self.shuttles.count(small) < SHUTTLES
            && if small {
                self.can_be_small(1, budget)
            } else {
                self.pay_shuttles(len, |bytes| budget.try_take(bytes))
            };
        if !(paid && self.shuttles.keep(shuttle)) {
            returns.return_shuttle(shuttle::seen_by_peer(shuttle));
        }
    }

    /// Takes the shuttles up that the reader has returned.
    pub fn collect_shuttles(&mut self) -> Result<(), BadReturn> {
        let Some((theirs, own)) = both(&self.readers, self.own) else { return Ok(()) };
        // Unless the line was in this core's own cache.
        if self.one_way
            && let (_, ticks) = timed(|| theirs.returned())
            && self.writer.has_news(theirs)
        {
            self.distance.note(ticks);
        }
        self.one_way |= self.shuttles.collect(theirs, own)?;
        self.past_caches = self.one_way && self.distance.is_far();
        Ok(())
    }

    /// Gives the pages back of what nobody is using, and says to how many bytes of the budget they belong.
    pub fn give_back(&mut self, segment: &Segment) -> usize {
        let before = self.charge();
        let idle = self.slot == NONE && self.writer.idle(self.readers.each().map(|(_, counter)| counter));
        if before == 0 || !idle || self.collect_shuttles().is_err() {
            return 0;
        }
        let whole = |out: &Out, kind| out.shuttles.count(kind) >= SHUTTLES || out.own.is_null();
        if let Some((theirs, own)) = both(&self.readers, self.own)
            && !(whole(self, false) && whole(self, true))
        {
            self.shuttles.take_back(theirs, own);
        }
        let (large, small) = (whole(self, false), whole(self, true));
        // What the budget has been charged for and is on its way here stays charged.
        for shuttle in self.shuttles.all() {
            match shuttle::is_small(shuttle) {
                true if small && self.has_small => segment.discard(self.shuttle(shuttle), SMALL_SHUTTLE_BYTES),
                false if large && self.shuttles.bytes > 0 => segment.discard(self.shuttle(shuttle), SLOT_BYTES),
                _ => {}
            }
        }
        if self.charged > 0 {
            segment.discard(self.slots, SMALL_SLOTS);
        }
        if small && self.has_small {
            segment.discard(self.slots.wrapping_add(SMALL_SLOTS), LARGE_SHUTTLES - SMALL_SLOTS);
            self.has_small = false;
        }
        if large {
            self.shuttles.bytes = 0;
        }
        (self.charged, self.depth) = (0, SLOTS);
        before - self.charge()
    }

    #[inline(always)]
    fn line(&self) -> &Line {
        // SAFETY: the index is below LINES, the ring lies in the segment that `ShmLinks` keeps mapped, and a Line is valid whatever
        // others write to it.
        unsafe { &*self.lines.add((self.writer.next() % LINES) as usize) }
    }
}

/// What the only reader of a link says, and what this rank says as the reader of the link back. None: there are several readers.
fn both(readers: &Readers, own: *const Released) -> Option<(&Released, &Released)> {
    let Readers::One(_, theirs) = readers else { return None };
    // SAFETY: as in `Readers::each`; `own` is null or like that.
    unsafe { Some((&**theirs, own.as_ref()?)) }
}

impl In {
    /// `back`: the number of the link back, or NONE where this rank isn't the only reader.
    pub fn new(segment: &Segment, lane: u32, from: u32, link: Outgoing, rank: u32, back: u32) -> In {
        In {
            reader: Reader::default(),
            lines: segment.lines(lane, from, link),
            slots: segment.slots(lane, from, link),
            counter: segment.released(lane, from, link, rank),
            back,
            came: NONE,
            came_at: null_mut(),
            came_len: 0,
            came_past: false,
            answered: 0,
        }
    }

    /// The memory of a slot, by where it lies.
    #[inline(always)]
    pub fn slot(&self, at: usize) -> *mut u8 {
        self.slots.wrapping_add(at)
    }

    /// The line of the message after the next one.
    #[inline(always)]
    pub fn next_line(&self) -> *const Line {
        self.lines.wrapping_add((self.reader.next().wrapping_add(1) % LINES) as usize)
    }

    #[inline(always)]
    pub fn line(&self) -> &Line {
        // SAFETY: as for `Out::line`.
        unsafe { &*self.lines.add((self.reader.next() % LINES) as usize) }
    }
}
