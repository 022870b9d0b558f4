//! The links of a job while it is interpreted: FIFOs of few slots, made when first used and forgotten when idle.
//!
//! ```text
//!   number:   head            sent
//!              │ held, unread  │ being filled
//!      free    ▼               ▼
//!    ───────[ k ][ k+1 ] ...  [ ]       at most `slots` between head and the slot being filled
//!              ▲
//!        each reader has taken `next` messages, and holds the last of these if `held`
//! ```

use super::value::Value;
use super::verdict::LinkName;
use crate::plan::{Group, Space};
use alloc::vec::Vec;

/// The name of a link on a channel, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Key {
    /// No link: the mark of an empty place in the table.
    const NONE: Key = Key(u64::MAX);

    #[inline]
    pub fn pair(from: u32, to: u32, channel: u32) -> Key {
        Key(u64::from(from) | u64::from(to) << 24 | u64::from(channel) << 48)
    }

    #[inline]
    pub fn board(from: u32, group: Group, channel: u32) -> Key {
        Key(u64::from(from) | (group as u64) << 24 | u64::from(channel) << 48 | 1 << 62)
    }

    #[inline]
    pub fn channel(self) -> u32 {
        (self.0 >> 48) as u32 & 0xff
    }

    /// The rank that fills the link.
    #[inline]
    pub fn writer(self) -> u32 {
        self.0 as u32 & 0xff_ffff
    }

    pub fn name(self) -> LinkName {
        let (from, second) = (self.0 as u32 & 0xff_ffff, (self.0 >> 24) as u32 & 0xff_ffff);
        if self.0 >> 62 == 0 {
            return LinkName::Pair { from, to: second };
        }
        let group = match second {
            0 => Group::World,
            1 => Group::Inner,
            _ => Group::Outer,
        };
        LinkName::Board { from, group }
    }

    #[inline]
    fn hash(self) -> usize {
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24) as usize
    }
}

/// One message, or one that is being filled.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub values: Vec<Value>,
    /// It tells where buffers lie.
    pub places: bool,
    /// Where its bytes lie in its writer's buffers, if links may take them from there: space, element, count.
    pub lent: Option<(Space, u64, u32)>,
    released: u32,
}

/// How far one reader is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reader {
    next: u32,
    pub cursor: u32,
    pub held: bool,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    key: Key,
    audience: u32,
    first_reader: u32,
    head: u32,
    sent: u32,
    open: bool,
}

/// A link in this interpretation. Good until the next [`Links::forget_when_crowded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkId(u32);

/// When more pair links than this are there, idle ones are forgotten: all-to-all among 4096 ranks has 16 million.
const MANY_LINKS: usize = 1 << 17;

/// All links.
#[derive(Debug)]
pub(super) struct Links {
    slots_each: u32,
    table: Vec<(Key, u32)>,
    links: Vec<Link>,
    slots: Vec<Slot>,
    readers: Vec<Reader>,
    free: Vec<u32>,
    /// Memory of messages that were given back, for the next ones.
    spare: Vec<Vec<Value>>,
    sweep_at: usize,
    in_use: u64,
    most_in_use: u64,
}

impl Links {
    pub fn new(slots_each: u32) -> Links {
        Links {
            slots_each,
            table: alloc::vec![(Key::NONE, 0); 64],
            links: Vec::new(),
            slots: Vec::new(),
            readers: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            sweep_at: MANY_LINKS,
            in_use: 0,
            most_in_use: 0,
        }
    }

    /// The link of that name; `audience` is how many read it.
    #[inline]
    pub fn find(&mut self, key: Key, audience: u32) -> LinkId {
        let mut at = key.hash() & (self.table.len() - 1);
        loop {
            let (found, id) = self.table[at];
            if found == key {
                return LinkId(id);
            }
            if found == Key::NONE {
                break;
            }
            at = (at + 1) & (self.table.len() - 1);
        }
        let id = self.make(key, audience);
        if self.count() * 2 > self.table.len() {
            let size = self.table.len() * 2;
            self.rebuild_table(size);
        } else {
            self.enter(key, id);
        }
        LinkId(id)
    }

    fn make(&mut self, key: Key, audience: u32) -> u32 {
        if audience == 1
            && let Some(id) = self.free.pop()
        {
            let link = &mut self.links[id as usize];
            self.readers[link.first_reader as usize] = Reader::default();
            *link = Link { key, audience, first_reader: link.first_reader, head: 0, sent: 0, open: false };
            return id;
        }
        let id = self.links.len() as u32;
        let first_reader = self.readers.len() as u32;
        self.readers.resize(self.readers.len() + audience as usize, Reader::default());
        self.slots.resize(self.slots.len() + self.slots_each as usize, Slot::default());
        self.links.push(Link { key, audience, first_reader, head: 0, sent: 0, open: false });
        id
    }

    fn enter(&mut self, key: Key, id: u32) {
        let mut at = key.hash() & (self.table.len() - 1);
        while self.table[at].0 != Key::NONE {
            at = (at + 1) & (self.table.len() - 1);
        }
        self.table[at] = (key, id);
    }

    fn rebuild_table(&mut self, size: usize) {
        self.table.clear();
        self.table.resize(size, (Key::NONE, 0));
        for id in 0..self.links.len() {
            let key = self.links[id].key;
            if key != Key::NONE {
                self.enter(key, id as u32);
            }
        }
    }

    /// Drops idle links if there are many: one of one reader remembers nothing then, so it need not be kept.
    #[inline]
    pub fn forget_when_crowded(&mut self) {
        if self.count() < self.sweep_at {
            return;
        }
        for id in 0..self.links.len() {
            let link = &mut self.links[id];
            if link.key != Key::NONE && link.audience == 1 && link.head == link.sent && !link.open {
                link.key = Key::NONE;
                self.free.push(id as u32);
            }
        }
        self.sweep_at = MANY_LINKS.max(self.count() * 2);
        let size = self.table.len();
        self.rebuild_table(size);
    }

    #[inline]
    fn slot_index(&self, id: LinkId, number: u32) -> usize {
        id.0 as usize * self.slots_each as usize + (number % self.slots_each) as usize
    }

    #[inline]
    pub fn key(&self, id: LinkId) -> Key {
        self.links[id.0 as usize].key
    }

    #[inline]
    pub fn is_open(&self, id: LinkId) -> bool {
        self.links[id.0 as usize].open
    }

    #[inline]
    pub fn has_credit(&self, id: LinkId) -> bool {
        let link = &self.links[id.0 as usize];
        link.sent - link.head < self.slots_each
    }

    /// Begins to fill a slot. Returns its number in the arena, for clocks.
    #[inline]
    pub fn open(&mut self, id: LinkId, places: bool) -> usize {
        let index = self.slot_index(id, self.links[id.0 as usize].sent);
        self.links[id.0 as usize].open = true;
        let values = self.spare.pop().unwrap_or_default();
        self.slots[index] = Slot { values, places, lent: None, released: 0 };
        self.in_use += 1;
        self.most_in_use = self.most_in_use.max(self.in_use);
        index
    }

    /// The slot that is being filled.
    #[inline]
    pub fn filling(&mut self, id: LinkId) -> &mut Slot {
        let index = self.slot_index(id, self.links[id.0 as usize].sent);
        &mut self.slots[index]
    }

    /// Publishes the slot that is being filled. Returns its number in the arena.
    #[inline]
    pub fn publish(&mut self, id: LinkId) -> usize {
        let index = self.slot_index(id, self.links[id.0 as usize].sent);
        let link = &mut self.links[id.0 as usize];
        link.open = false;
        link.sent += 1;
        if link.audience == 0 {
            link.head = link.sent;
            self.in_use -= 1;
        }
        index
    }

    #[inline]
    pub fn reader(&mut self, id: LinkId, reader: u32) -> &mut Reader {
        &mut self.readers[(self.links[id.0 as usize].first_reader + reader) as usize]
    }

    #[inline]
    pub fn has_message(&self, id: LinkId, reader: u32) -> bool {
        let link = &self.links[id.0 as usize];
        self.readers[(link.first_reader + reader) as usize].next < link.sent
    }

    /// Takes the next message in hand. Returns its slot's number in the arena.
    #[inline]
    pub fn hold(&mut self, id: LinkId, reader: u32) -> usize {
        let state = self.reader(id, reader);
        let number = state.next;
        *state = Reader { next: number + 1, cursor: 0, held: true };
        self.slot_index(id, number)
    }

    /// The message that is held, and how far it has been read.
    #[inline]
    pub fn held(&self, id: LinkId, reader: u32) -> (&Slot, u32) {
        let state = self.readers[(self.links[id.0 as usize].first_reader + reader) as usize];
        (&self.slots[self.slot_index(id, state.next - 1)], state.cursor)
    }

    /// Gives the held message back. Returns its slot's number in the arena, and whether a slot became free.
    #[inline]
    pub fn release(&mut self, id: LinkId, reader: u32) -> (usize, bool) {
        let state = self.reader(id, reader);
        state.held = false;
        let index = {
            let number = state.next - 1;
            self.slot_index(id, number)
        };
        self.slots[index].released += 1;
        let Link { audience, mut head, sent, .. } = self.links[id.0 as usize];
        let before = head;
        while head < sent && self.slots[self.slot_index(id, head)].released == audience {
            let freed = self.slot_index(id, head);
            let mut values = core::mem::take(&mut self.slots[freed].values);
            values.clear();
            self.spare.push(values);
            head += 1;
        }
        self.links[id.0 as usize].head = head;
        self.in_use -= u64::from(head - before);
        (index, head > before)
    }

    /// How many links are remembered.
    #[inline]
    pub fn count(&self) -> usize {
        self.links.len() - self.free.len()
    }

    pub fn most_in_use(&self) -> u64 {
        self.most_in_use
    }

    /// The place of the first reader that has not given back the oldest message.
    pub fn slowest_reader(&self, key: Key) -> Option<u32> {
        let link = self.links.iter().find(|link| link.key == key)?;
        (0..link.audience).find(|reader| {
            let state = self.readers[(link.first_reader + reader) as usize];
            state.next <= link.head || (state.next == link.head + 1 && state.held)
        })
    }

    /// Every link with a slot half filled.
    pub fn open_links(&self) -> impl Iterator<Item = Key> + '_ {
        self.links.iter().filter(|link| link.key != Key::NONE && link.open).map(|link| link.key)
    }

    /// Every link and reader that holds a message.
    pub fn held_links(&self) -> impl Iterator<Item = (Key, u32)> + '_ {
        let known = self.links.iter().filter(|link| link.key != Key::NONE);
        let places = known.flat_map(|link| (0..link.audience).map(move |place| (link, place)));
        let held = places.filter(|(link, place)| self.readers[(link.first_reader + place) as usize].held);
        held.map(|(link, place)| (link.key, place))
    }

    /// Every link with messages that were not given back, and how many.
    pub fn unread_links(&self) -> impl Iterator<Item = (Key, u32)> + '_ {
        let known = self.links.iter().filter(|link| link.key != Key::NONE && link.head < link.sent);
        known.map(|link| (link.key, link.sent - link.head))
    }
}
