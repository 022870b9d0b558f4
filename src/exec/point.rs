//! One send or receive under way. Messages of a pair of ranks go in order over the point-to-point lane; a long one goes in chunks.
//!
//! ```text
//!   send:     [chunk 0][chunk 1] … [chunk k]          each up to CHUNK bytes, tagged with what is sent
//!   receive:  takes exactly as many, and refuses a first chunk that belongs to something else
//!
//!   where ranks can copy from each other's memory and that is faster:
//!   send:     [where it lies] ............ waits until that message is released
//!   receive:  copies from there, piece by piece, then releases it
//! ```

use super::cursor::{WHERE_IT_LIES, fetch};
use super::job::Fault;
use super::kernel::{self, Sink};
use crate::plan::{MOST_AHEAD, MOST_CHUNK_BYTES, MOST_SLOT_BYTES};
use crate::transport::{Blocked, Incoming, Links, Outgoing, PAST_CACHES};
use crate::types::DataType;

/// Bytes of a chunk of a short message; from `LONG` on chunks are as long as the links' messages may be. 1 MiB each way between two near cores
/// of a Zen 2: 154 us in chunks of 64 KiB, 99 us in chunks of 128; a message of one or two chunks overlaps better when they are short. Between
/// two of a Zen 3, in chunks of 64 KiB and in long ones: 256 KiB over TCP 165 and 225 us, 384 KiB 235 and 168 (through memory 36 and 33),
/// 448 KiB 285 and 244 (46 and 39); 320 KiB 186 either way (28 and 30).
const CHUNK: usize = 64 << 10;
const LONG: usize = 320 << 10;

/// From so many bytes on a message may be sent from where it lies: its send ends when the other rank has taken it. Over TCP that is as fast
/// as a copy; over Soft-RoCE, one way, in parts of what `ib_write_bw` gets: 128 KiB 1.09 (copied 0.90), 256 KiB 0.93 (0.87).
const LENT_FROM: usize = 128 << 10;

/// Bytes copied from another rank's memory at a time: the waiting ranks' deadlines are looked at in between.
const FETCHED: usize = 1 << 20;

/// From how many bytes on a received message is written round the caches. A rank that receives usually sends as much: from three quarters
/// of the cache on, for all that the ranks send and receive. Between two near cores of a Zen 2 with 16 MiB, without and with: 2 MiB 113 and
/// 240 us, 3 MiB 360 and 360, 3.5 MiB 540 and 424, 4 MiB 600 and 450, 5 MiB 925 and 570.
pub(super) fn received_round_caches_from(cache: usize, ranks: u32) -> usize {
    cache / 8 * 3 / ranks.max(1) as usize
}

/// The bit of a tag that says: this message tells where what is sent lies.
const PLACE: u32 = 1 << 30;

/// Such a message.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Place {
    at: u64,
    /// All of it: the tag has the count modulo 2^24 only.
    bytes: u64,
}

const _: () = assert!(size_of::<Place>() <= crate::transport::SMALL);

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From this rank.
    Send,
    /// To this rank.
    Receive,
}

/// A send or a receive.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Which way.
    pub direction: Direction,
    /// The other rank.
    pub peer: u32,
    /// Element type.
    pub dtype: DataType,
    /// Elements.
    pub count: u64,
    at: *mut u8,
    bytes: usize,
    done: usize,
    fetch: Fetch,
}

/// How far a message has come that is copied straight from its sender's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetch {
    /// Not that way, or not begun.
    No,
    /// Its place has been told; the receiver is copying.
    Told,
    /// It is copied from this address.
    From(u64),
}

/// What the points of a session have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Post {
    /// The lane of point-to-point traffic.
    pub(super) lane: u32,
    /// Messages of at least so many bytes are received with stores round the caches.
    pub(super) stream_from: usize,
    /// What a send of this rank reads next, or null.
    pub(super) ahead: *const u8,
    /// Messages of at least so many bytes are copied straight from the sender's memory; 0: none.
    pub(super) fetch_from: u64,
}

/// How far a point got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// A chunk has moved, and there are more.
    Moved,
    /// All has moved.
    Done,
    /// Something is missing.
    Blocked(Blocked),
}

// SAFETY: the pointer is to a buffer that the session's caller lends for the time of the operation.
unsafe impl Send for Point {}

impl Point {
    /// To send `count` elements at `at`.
    pub fn send(peer: u32, at: *const u8, count: u64, dtype: DataType) -> Point {
        Point::new(Direction::Send, peer, at.cast_mut(), count, dtype)
    }

    /// To receive `count` elements at `at`.
    pub fn receive(peer: u32, at: *mut u8, count: u64, dtype: DataType) -> Point {
        Point::new(Direction::Receive, peer, at, count, dtype)
    }

    fn new(direction: Direction, peer: u32, at: *mut u8, count: u64, dtype: DataType) -> Point {
        Point { direction, peer, dtype, count, at, bytes: count as usize * dtype.size(), done: 0, fetch: Fetch::No }
    }

    /// Type and count in 31 bits: what both sides must agree on, and can still be named when they don't. The last bit says that these
    /// `len` bytes are the last, so that counts that differ by a multiple of 2^24 differ too.
    fn tag(&self, len: usize) -> u32 {
        let last = self.done + len == self.bytes;
        u32::from(last) << 31 | self.kind()
    }

    fn kind(&self) -> u32 {
        (self.dtype as u32) << 24 | (self.count as u32 & 0xff_ffff)
    }

    /// The same from the tag of a message of that length, in words.
    pub fn describe_tag(tag: u32, len: usize) -> String {
        let count = tag & 0xff_ffff;
        match DataType::from_number((tag >> 24 & 0x3f) as u8) {
            Some(dtype) if count as usize * dtype.size() == len => format!("{count} {dtype}"),
            Some(dtype) if tag & PLACE != 0 && len > size_of::<Place>() => format!("{} {dtype}", len / dtype.size()),
            Some(dtype) if tag & PLACE != 0 => format!("{count} {dtype}"),
            Some(dtype) if len <= MOST_CHUNK_BYTES as usize => format!("{count} {dtype} (modulo 2^24)"),
            _ => format!("a message of {len} bytes of another kind"),
        }
    }

    /// Moves one chunk, of a long send over sockets a few, if that can be done now, and says whether all has moved. `post`: how this rank
    /// streams what it receives.
    #[inline]
    pub(super) fn advance<L: Links>(&mut self, links: &mut L, post: &Post) -> Result<Advance, Fault> {
        if post.fetch_from > 0 && self.bytes as u64 >= post.fetch_from {
            return match self.direction {
                Direction::Send => self.lend(links, post.lane),
                Direction::Receive => self.fetch(links, post.lane),
            };
        }
        let most =
            if self.bytes >= LONG { links.message_limit(self.peer).min(MOST_CHUNK_BYTES as usize) } else { CHUNK };
        let outcome = self.move_chunk(links, post, most)?;
        match outcome {
            Advance::Moved if self.direction == Direction::Send && most > MOST_SLOT_BYTES as usize => {
                self.send_more(links, post, most)
            }
            outcome => Ok(outcome),
        }
    }

    /// As in plans: over sockets two ranks that both send, and then both take, are faster than those that do so by turns.
    #[inline(never)]
    fn send_more<L: Links>(&mut self, links: &mut L, post: &Post, most: usize) -> Result<Advance, Fault> {
        for _ in 1..MOST_AHEAD {
            match self.move_chunk(links, post, most)? {
                Advance::Moved => {}
                Advance::Blocked(_) => break,
                Advance::Done => return Ok(Advance::Done),
            }
        }
        Ok(Advance::Moved)
    }

    #[inline(always)]
    fn move_chunk<L: Links>(&mut self, links: &mut L, post: &Post, most: usize) -> Result<Advance, Fault> {
        let len = (self.bytes - self.done).min(most);
        let blocked = match self.direction {
            Direction::Send => self.send_chunk(links, post.lane, len)?,
            Direction::Receive => self.receive_chunk(links, post, len)?,
        };
        if let Some(on) = blocked {
            return Ok(Advance::Blocked(on));
        }
        self.done += len;
        Ok(if self.done == self.bytes { Advance::Done } else { Advance::Moved })
    }

    /// What it lends, if it does.
    pub(super) fn lends(&self) -> Option<(*const u8, usize)> {
        (self.direction == Direction::Send && self.bytes >= LENT_FROM).then_some((self.at.cast_const(), self.bytes))
    }

    /// What a send reads next.
    pub(super) fn reads_next(&self) -> *const u8 {
        self.at.wrapping_add(self.done)
    }

    /// Tells where the message lies, and waits until it has been copied: its place is released then.
    fn lend<L: Links>(&mut self, links: &mut L, lane: u32) -> Result<Advance, Fault> {
        let link = Outgoing::Pair(self.peer);
        if self.fetch == Fetch::No {
            let place = Place { at: self.at.expose_provenance() as u64, bytes: self.bytes as u64 };
            let slot = match links.reserve(lane, link, size_of::<Place>())? {
                Ok(slot) => slot,
                Err(blocked) => return Ok(Advance::Blocked(blocked)),
            };
            // SAFETY: the slot was reserved with this size; it may be misaligned.
            unsafe { slot.cast::<Place>().write_unaligned(place) };
            links.publish(lane, link, size_of::<Place>(), PLACE | self.kind())?;
            self.fetch = Fetch::Told;
            return Ok(Advance::Moved);
        }
        Ok(links.drained(lane, link)?.map_or(Advance::Done, Advance::Blocked))
    }

    /// Copies a piece of the message from where the sender said that it lies.
    fn fetch<L: Links>(&mut self, links: &mut L, lane: u32) -> Result<Advance, Fault> {
        let link = Incoming::Pair(self.peer);
        let from = match self.fetch {
            Fetch::From(from) => from,
            _ => {
                let Some(message) = links.peek(lane, link)? else {
                    return Ok(Advance::Blocked(Blocked::Message(link)));
                };
                let (rank, tag, len) = (self.peer, message.tag, message.len);
                if tag != PLACE | self.kind() || len != size_of::<Place>() {
                    return Err(Fault::Stranger { rank, tag, len, expected: size_of::<Place>() });
                }
                // SAFETY: the message has that length; any bytes make a place, and the address is for the system to judge.
                let place = unsafe { message.at.cast::<Place>().read_unaligned() };
                if place.bytes != self.bytes as u64 {
                    return Err(Fault::Stranger { rank, tag, len: place.bytes as usize, expected: self.bytes });
                }
                place.at
            }
        };
        self.fetch = Fetch::From(from);
        let len = (self.bytes - self.done).min(FETCHED);
        let (at, into) = (from.wrapping_add(self.done as u64), self.at.wrapping_add(self.done));
        // SAFETY: the caller lent `bytes` bytes at `at`, of which `done + len` are inside.
        unsafe { fetch(links, self.peer, at, into, len)? };
        self.done += len;
        if self.done < self.bytes {
            return Ok(Advance::Moved);
        }
        links.release(lane, link);
        Ok(Advance::Done)
    }

    #[inline]
    fn send_chunk<L: Links>(&mut self, links: &mut L, lane: u32, len: usize) -> Result<Option<Blocked>, Fault> {
        let link = Outgoing::Pair(self.peer);
        let from = self.at.wrapping_add(self.done);
        let reserved = match self.bytes >= LENT_FROM {
            true => links.reserve_from(lane, link, from, len)?,
            false => links.reserve(lane, link, len)?,
        };
        let slot = match reserved {
            Ok(slot) => slot,
            Err(blocked) => return Ok(Some(blocked)),
        };
        let sink = Sink::new(slot, len >= PAST_CACHES && links.past_caches());
        // SAFETY: the caller lent `bytes` bytes at `at`, of which `done + len` are inside; the slot was reserved for `len`.
        unsafe { kernel::copy_to_one(from, sink, len) };
        links.publish(lane, link, len, self.tag(len))?;
        Ok(None)
    }

    #[inline]
    fn receive_chunk<L: Links>(&mut self, links: &mut L, post: &Post, len: usize) -> Result<Option<Blocked>, Fault> {
        let link = Incoming::Pair(self.peer);
        let message = match self.bytes >= WHERE_IT_LIES {
            true => links.peek_into(post.lane, link, self.at.wrapping_add(self.done), len)?,
            false => links.peek(post.lane, link)?,
        };
        let Some(message) = message else { return Ok(Some(Blocked::Message(link))) };
        if message.tag != self.tag(len) || message.len != len {
            return Err(Fault::Stranger { rank: self.peer, tag: message.tag, len: message.len, expected: len });
        }
        let stream = self.bytes >= post.stream_from;
        let sink = Sink { at: self.at.wrapping_add(self.done), stream, ahead: post.ahead };
        // SAFETY: the message has exactly `len` bytes, and the caller lent `bytes` bytes at `at`, of which `done + len` are inside.
        unsafe { kernel::copy_to_one(message.at, sink, len) };
        links.release(post.lane, link);
        Ok(None)
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (verb, way) = match self.direction {
            Direction::Send => ("send", "to"),
            Direction::Receive => ("receive", "from"),
        };
        write!(f, "{verb} of {} {} {way} rank {}", self.count, self.dtype, self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::local::{LocalLinks, Reach};

    /// A sender and a receiver of so many bytes, one turn each.
    fn one_turn(sent: u64, received: u64, fetch_from: u64) -> Result<Advance, Fault> {
        let (from, mut into) = (vec![7u8; sent as usize], vec![0u8; received as usize]);
        let mut links = LocalLinks::world(2).into_iter().map(|links| {
            // SAFETY: both buffers live to the end of this function, as the links do.
            unsafe { links.share_everything(Reach::Fetched) }
        });
        let (mut first, mut second) = (links.next().unwrap(), links.next().unwrap());
        let post = Post { lane: 0, stream_from: usize::MAX, ahead: std::ptr::null(), fetch_from };
        let mut send = Point::send(1, from.as_ptr(), sent, DataType::U8);
        let mut receive = Point::receive(0, into.as_mut_ptr(), received, DataType::U8);
        assert_ne!(send.advance(&mut first, &post)?, Advance::Blocked(Blocked::Slot(1)));
        receive.advance(&mut second, &post)
    }

    #[test]
    fn counts_that_differ_by_what_a_tag_leaves_out_are_a_disagreement() {
        const WRAPS: u64 = 1 << 24;
        for fetch_from in [0, 1] {
            for (sent, received) in [(WRAPS + 8, 8), (8, WRAPS + 8), (WRAPS + (64 << 10), 64 << 10)] {
                let outcome = one_turn(sent, received, fetch_from);
                assert!(matches!(outcome, Err(Fault::Stranger { rank: 0, .. })), "{sent} {received} {outcome:?}");
            }
            assert_eq!(one_turn(8, 8, fetch_from).unwrap(), Advance::Done);
        }
    }
}
