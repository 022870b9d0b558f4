//! One send or receive under way. Messages of a pair of ranks go in order over the point-to-point lane; a long one goes in chunks.
//!
//! ```text
//!   send:     [chunk 0][chunk 1] … [chunk k]          each up to CHUNK bytes, tagged with what is sent
//!   receive:  takes exactly as many, and refuses a first chunk that belongs to something else
//! ```

use super::job::{Fault, Progress};
use super::kernel::{self, Sink};
use crate::transport::{Blocked, Incoming, Links, Outgoing};
use crate::types::DataType;

/// Bytes of a chunk. Measured with 16 MiB each way between two cores of an EPYC (family 26): 64 KiB to 512 KiB are within the noise,
/// 1 MiB is twice as slow, and four slots of 64 KiB stay in the second-level cache.
const CHUNK: usize = 64 << 10;

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
    started: bool,
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
        Point { direction, peer, dtype, count, at, bytes: count as usize * dtype.size(), done: 0, started: false }
    }

    /// Type and count in 32 bits: what both sides must agree on, and can still be named when they don't.
    fn tag(&self) -> u32 {
        (self.dtype as u32) << 24 | (self.count as u32 & 0xff_ffff)
    }

    /// The same from the tag of a message of that length, in words.
    pub fn describe_tag(tag: u32, len: usize) -> String {
        let count = tag & 0xff_ffff;
        match DataType::from_number((tag >> 24) as u8) {
            Some(dtype) if count as usize * dtype.size() == len => format!("{count} {dtype}"),
            Some(dtype) if len <= CHUNK => format!("{count} {dtype} (modulo 2^24)"),
            _ => format!("a message of {len} bytes of another kind"),
        }
    }

    /// Does what can be done now.
    pub fn poll<L: Links>(&mut self, links: &mut L, lane: u32) -> Result<Progress, Fault> {
        let mut moved = false;
        while !self.started || self.done < self.bytes {
            let len = (self.bytes - self.done).min(CHUNK);
            let blocked = match self.direction {
                Direction::Send => self.send_chunk(links, lane, len)?,
                Direction::Receive => self.receive_chunk(links, lane, len)?,
            };
            if let Some(on) = blocked {
                return Ok(Progress::Blocked { on, moved });
            }
            self.started = true;
            self.done += len;
            moved = true;
        }
        Ok(Progress::Done)
    }

    fn send_chunk<L: Links>(&mut self, links: &mut L, lane: u32, len: usize) -> Result<Option<Blocked>, Fault> {
        let link = Outgoing::Pair(self.peer);
        let slot = match links.reserve(lane, link, len)? {
            Ok(slot) => slot,
            Err(blocked) => return Ok(Some(blocked)),
        };
        let sink = Sink { at: slot, stream: false };
        // SAFETY: the caller lent `bytes` bytes at `at`, of which `done + len` are inside; the slot was reserved for `len`.
        unsafe { kernel::copy(self.at.wrapping_add(self.done), &[sink], len) };
        links.publish(lane, link, len, self.tag())?;
        Ok(None)
    }

    fn receive_chunk<L: Links>(&mut self, links: &mut L, lane: u32, len: usize) -> Result<Option<Blocked>, Fault> {
        let link = Incoming::Pair(self.peer);
        let Some(message) = links.peek(lane, link)? else { return Ok(Some(Blocked::Message(link))) };
        if message.tag != self.tag() || message.len != len {
            return Err(Fault::Stranger { rank: self.peer, tag: message.tag, len: message.len, expected: len });
        }
        let sink = Sink { at: self.at.wrapping_add(self.done), stream: self.bytes >= super::session::STREAM_FROM };
        // SAFETY: the message has exactly `len` bytes, and the caller lent `bytes` bytes at `at`, of which `done + len` are inside.
        unsafe { kernel::copy(message.at, &[sink], len) };
        links.release(lane, link);
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
