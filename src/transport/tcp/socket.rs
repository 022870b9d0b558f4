//! One data socket: what is being sent over it, and what is coming in.
//!
//! ```text
//!   in:   │header│payload │header│payload …      what is ahead of a payload's end is read into a small buffer,
//!                 └─> straight to its place       the payload itself to where it belongs
//! ```

use super::frame::{Frame, HEADER};
use super::inbox::Carrier;
use super::peer::Parcel;
use crate::sys::stream;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

/// Bytes read ahead of what is known to come: whole small messages, so that each costs one system call.
const AHEAD: usize = 4096 + HEADER;

/// What is being sent.
#[derive(Debug)]
struct Sending {
    header: [u8; HEADER],
    at: *const u8,
    len: usize,
    done: usize,
    /// The message, if it is one.
    parcel: Option<Parcel>,
}

/// The payload that is coming in.
#[derive(Debug)]
pub(super) struct Coming {
    pub(super) frame: Frame,
    /// Where its next byte goes; null: nowhere.
    pub(super) at: *mut u8,
    pub(super) left: usize,
}

/// A data socket.
#[derive(Debug)]
pub(super) struct Socket {
    fd: Arc<OwnedFd>,
    /// Its number in this rank's life.
    pub(super) carrier: Carrier,
    /// Its number among those of the same two ranks.
    pub(super) index: u8,
    /// When it was made, as its maker counts.
    pub(super) turn: u64,
    /// There is a later one in its place: only what still comes over it is taken.
    pub(super) retired: bool,
    /// Each with the next behind it: as many as there are go with one system call.
    sending: VecDeque<Sending>,
    ahead: Box<[u8; AHEAD]>,
    from: usize,
    to: usize,
    pub(super) coming: Option<Coming>,
}

/// The most frames that go with one system call.
const TOGETHER: usize = 16;

impl Socket {
    pub(super) fn new(fd: OwnedFd, carrier: Carrier, index: u8, turn: u64) -> Socket {
        let ahead = Box::new([0; AHEAD]);
        Socket {
            fd: Arc::new(fd),
            carrier,
            index,
            turn,
            retired: false,
            sending: VecDeque::new(),
            ahead,
            from: 0,
            to: 0,
            coming: None,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The same, for as long as it lives.
    pub(super) fn share(&self) -> Weak<OwnedFd> {
        Arc::downgrade(&self.fd)
    }

    /// Whether something is half sent.
    pub(super) fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }

    /// Whether another frame can go with those that are being sent.
    pub(super) fn has_room(&self) -> bool {
        self.sending.len() < TOGETHER
    }

    /// The messages that are being sent.
    pub(super) fn half_sent(&self) -> impl Iterator<Item = Parcel> + Clone {
        self.sending.iter().filter_map(|sending| sending.parcel)
    }

    /// Puts a frame behind those that are being sent; there is room.
    pub(super) fn begin(&mut self, frame: &Frame, at: *const u8, parcel: Option<Parcel>) {
        let header = frame.encode();
        self.sending.push_back(Sending { header, at, len: frame.len as usize, done: 0, parcel });
    }

    /// Sends nothing more. The messages that were being sent.
    pub(super) fn stop(&mut self) -> Vec<Parcel> {
        self.sending.drain(..).filter_map(|sending| sending.parcel).collect()
    }

    /// Sends what the socket takes now, and hands over each message of which it has taken all. Whether it would take more.
    pub(super) fn go_on(&mut self, mut taken: impl FnMut(Parcel)) -> Result<bool, Errno> {
        while !self.sending.is_empty() {
            let mut parts = [stream::part(std::ptr::null(), 0); 2 * TOGETHER];
            for (pair, sending) in parts.chunks_exact_mut(2).zip(&self.sending) {
                let head = &sending.header[sending.done.min(HEADER)..];
                let body = sending.done.saturating_sub(HEADER);
                pair[0] = stream::part(head.as_ptr(), head.len());
                pair[1] = stream::part(sending.at.wrapping_add(body), sending.len - body);
            }
            let parts = &mut parts[..2 * self.sending.len()];
            let wanted: usize = parts.iter().map(|part| part.iov_len).sum();
            // SAFETY: the headers are the socket's own; messages have `len` bytes, which stay where they are until the reader has released them.
            let mut sent = match unsafe { stream::send(self.fd.as_fd(), parts) } {
                Ok(sent) => sent,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(false),
                Err(errno) => return Err(errno),
            };
            let full = sent < wanted;
            while let Some(first) = self.sending.front_mut() {
                let left = HEADER + first.len - first.done;
                if sent < left {
                    first.done += sent;
                    break;
                }
                sent -= left;
                if let Some(parcel) = self.sending.pop_front().and_then(|sending| sending.parcel) {
                    taken(parcel);
                }
            }
            if full {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes in what has come, once. The number of bytes, 0: nothing has.
    pub(super) fn read(&mut self) -> Result<usize, Errno> {
        // What goes nowhere is read ahead and forgotten.
        let (into, want) = match &self.coming {
            Some(coming) if !coming.at.is_null() => (coming.at, coming.left),
            _ => (std::ptr::null_mut(), 0),
        };
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
        let room = &mut self.ahead[self.to..];
        let parts = [(into, want), (room.as_mut_ptr(), room.len())];
        let limit = want + room.len();
        // SAFETY: `coming` has room for what is left of it, which `Inbox::open` gave it and nobody else uses; the rest is this socket's own.
        let count = match unsafe { stream::receive(self.fd.as_fd(), parts) } {
            Ok(0) if limit > 0 => return Err(Errno::ECONNRESET),
            Ok(count) => count,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(0),
            Err(errno) => return Err(errno),
        };
        let payload = count.min(want);
        if payload > 0
            && let Some(coming) = &mut self.coming
        {
            coming.left -= payload;
            coming.at = coming.at.wrapping_add(payload);
        }
        self.to += count - payload;
        Ok(count)
    }

    /// The next header among what was read, once the payload before it is complete.
    pub(super) fn next_header(&mut self) -> Option<[u8; HEADER]> {
        let header = *self.ahead[self.from..self.to].first_chunk::<HEADER>()?;
        self.from += HEADER;
        Some(header)
    }

    /// Moves what was read of a payload to its place. Whether it is complete.
    pub(super) fn fill(&mut self) -> bool {
        let Some(coming) = &mut self.coming else { return true };
        let here = &self.ahead[self.from..self.to];
        let here = &here[..here.len().min(coming.left)];
        if !coming.at.is_null() {
            // SAFETY: as in `read`; the buffer is no part of it.
            unsafe { std::ptr::copy_nonoverlapping(here.as_ptr(), coming.at, here.len()) };
            coming.at = coming.at.wrapping_add(here.len());
        }
        coming.left -= here.len();
        self.from += here.len();
        coming.left == 0
    }

    /// Makes room behind the part of a header that was read.
    pub(super) fn compact(&mut self) {
        if self.from > 0 {
            self.ahead.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
    }
}
