//! The slots of one link.
//!
//! ```text
//!            first                 credited
//!              │                      │
//!   messages   ■  ■  ■  ■  □  □  ·  · ·       ■ published   □ being filled
//!              │     └ awaited by a reader
//!              └ not yet released by every reader
//! ```
//!
//! A slot is free again when every reader has released it; with `slots` slots, message `m` needs the slot of message `m - slots`.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Names an actor: rank × channels + channel.
pub(super) type Actor = usize;

/// One message under way.
#[derive(Clone, Copy, Debug)]
struct Slot {
    sent: Option<u64>,
    readers_left: u32,
    freed: u64,
}

/// How far one reader has come.
#[derive(Clone, Copy, Debug, Default)]
struct Reader {
    awaited: u64,
    released: u64,
}

/// The state of one link on one channel.
#[derive(Debug, Default)]
pub(super) struct Link {
    slots: VecDeque<Slot>,
    first: u64,
    signalled: u64,
    readers: BTreeMap<u32, Reader>,
    /// Who waits for something to change here.
    waiting: Vec<Actor>,
}

impl Link {
    /// When the next slot can be filled: now known, or not yet.
    pub(super) fn credit(&self, capacity: u64) -> Option<u64> {
        let next = self.first + self.slots.len() as u64;
        match next.checked_sub(capacity) {
            None => Some(0),
            Some(before) if before < self.first => Some(0),
            Some(before) => {
                let slot = &self.slots[(before - self.first) as usize];
                (slot.readers_left == 0).then_some(slot.freed)
            }
        }
    }

    /// Takes the next slot.
    pub(super) fn fill(&mut self, capacity: u64, readers: u32) {
        self.slots.push_back(Slot { sent: None, readers_left: readers, freed: 0 });
        while self.slots.len() as u64 > capacity {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// Publishes the slot that was filled last, and says who may want to know. False when none is being filled.
    pub(super) fn signal(&mut self, at: u64) -> Option<Vec<Actor>> {
        let index = self.signalled.checked_sub(self.first)?;
        let slot = self.slots.get_mut(index as usize)?;
        slot.sent = Some(at);
        self.signalled += 1;
        Some(core::mem::take(&mut self.waiting))
    }

    /// When the next message of that reader was sent, if it was.
    pub(super) fn next_message(&self, reader: u32) -> Option<u64> {
        let awaited = self.readers.get(&reader).map_or(0, |reader| reader.awaited);
        self.slots.get(awaited.checked_sub(self.first)? as usize)?.sent
    }

    /// That reader has seen its next message.
    pub(super) fn take(&mut self, reader: u32) {
        self.readers.entry(reader).or_default().awaited += 1;
    }

    /// That reader gives its oldest message back. Nothing when it holds none.
    pub(super) fn release(&mut self, reader: u32, at: u64) -> Option<Vec<Actor>> {
        let state = self.readers.get_mut(&reader).filter(|state| state.released < state.awaited)?;
        let index = state.released.checked_sub(self.first)?;
        state.released += 1;
        let slot = self.slots.get_mut(index as usize)?;
        slot.readers_left = slot.readers_left.checked_sub(1)?;
        slot.freed = slot.freed.max(at);
        Some(if slot.readers_left == 0 { core::mem::take(&mut self.waiting) } else { Vec::new() })
    }

    /// Puts an actor to sleep until something changes here.
    pub(super) fn wait(&mut self, actor: Actor) {
        self.waiting.push(actor);
    }
}
