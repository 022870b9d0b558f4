//! A writer's end of a link: the messages that some reader has not released. They stay where they are until then, so that they can be sent
//! again when a connection is lost.
//!
//! ```text
//!   seq     n-3   n-2   n-1 │ n            slot of message k: k modulo SLOTS
//!         ┌─────┬─────┬─────┼ ─ ─ ┐
//!         │ own │ lent│ own │ next          own: a copy in the slot; lent: only its address
//!         └─────┴─────┴─────┴ ─ ─ ┘
//!   released by every reader up to here: the slot can be used again
//! ```

use super::room::Room;
use super::sums::sum;

/// Messages of a link that may be under way. With messages of 256 KiB that is 4 MiB: 100 Gb/s over a round trip of 320 us.
pub(super) const SLOTS: u32 = crate::plan::MIN_SENT_SLOTS;

#[derive(Debug)]
struct Slot {
    room: Room,
    /// Where the message lies, if not in the room.
    lent: *const u8,
    tag: u32,
    /// Its checksum when it was published, where there are any.
    sum: u32,
}

/// The messages of one link that were written.
#[derive(Debug)]
pub(super) struct Outbox {
    slots: Vec<Slot>,
    /// The number of the next message.
    next: u32,
}

/// A message that was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letter {
    pub(super) at: *const u8,
    pub(super) tag: u32,
    pub(super) sum: u32,
    pub(super) lent: bool,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox { slots: Vec::new(), next: 0 }
    }

    /// The number of the next message.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Whether the next message has a slot, with so many released by the slowest reader.
    pub(super) fn has_room(&self, released: u32) -> bool {
        self.next.wrapping_sub(released) < SLOTS
    }

    /// The next message's slot, which is free.
    fn slot(&mut self) -> &mut Slot {
        let index = (self.next % SLOTS) as usize;
        while self.slots.len() <= index {
            self.slots.push(Slot { room: Room::to_send(), lent: std::ptr::null(), tag: 0, sum: 0 });
        }
        &mut self.slots[index]
    }

    /// Memory for the next message; the slot is free.
    pub(super) fn reserve(&mut self, len: usize) -> *mut u8 {
        let slot = self.slot();
        slot.lent = std::ptr::null();
        slot.room.of(len)
    }

    /// The next message lies there, and stays there until it is released; the slot is free.
    pub(super) fn lend(&mut self, at: *const u8) {
        self.slot().lent = at;
    }

    /// The message is written. Returns its number, and whether it is lent.
    pub(super) fn seal(&mut self, tag: u32) -> (u32, bool) {
        let number = self.next;
        let slot = self.slot();
        slot.tag = tag;
        let lent = !slot.lent.is_null();
        self.next = number.wrapping_add(1);
        (number, lent)
    }

    /// Notes the checksum of a message that was written with that length.
    pub(super) fn sum_up(&mut self, seq: u32, len: usize) {
        let at = self.letter(seq).at;
        // SAFETY: a message lies where it was written or lent until it is released.
        self.slots[(seq % SLOTS) as usize].sum = unsafe { sum(at, len) };
    }

    /// A message that is not released.
    pub(super) fn letter(&self, seq: u32) -> Letter {
        let slot = &self.slots[(seq % SLOTS) as usize];
        let lent = !slot.lent.is_null();
        Letter { at: if lent { slot.lent } else { slot.room.start() }, tag: slot.tag, sum: slot.sum, lent }
    }
}
