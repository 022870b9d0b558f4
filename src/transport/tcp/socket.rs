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
    sending: Option<Sending>,
    ahead: Box<[u8; AHEAD]>,
    from: usize,
    to: usize,
    pub(super) coming: Option<Coming>,
}

/// How far sending got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// There was nothing to send, or it was news.
    Nothing,
    /// All of that message.
    All(Parcel),
    /// The socket takes no more now.
    Full,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd, carrier: Carrier, index: u8, turn: u64) -> Socket {
        let ahead = Box::new([0; AHEAD]);
        Socket {
            fd: Arc::new(fd),
            carrier,
            index,
            turn,
            retired: false,
            sending: None,
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
        self.sending.is_some()
    }

    /// The message that is half sent.
    pub(super) fn half_sent(&self) -> Option<Parcel> {
        self.sending.as_ref().and_then(|sending| sending.parcel)
    }

    /// Begins to send; nothing is being sent.
    pub(super) fn begin(&mut self, frame: &Frame, at: *const u8, parcel: Option<Parcel>) {
        let header = frame.encode();
        self.sending = Some(Sending { header, at, len: frame.len as usize, done: 0, parcel });
    }

    /// Sends nothing more. The message that was half sent.
    pub(super) fn stop(&mut self) -> Option<Parcel> {
        self.sending.take().and_then(|sending| sending.parcel)
    }

    /// Sends what the socket takes now.
    pub(super) fn go_on(&mut self) -> Result<Sent, Errno> {
        let Some(sending) = &mut self.sending else { return Ok(Sent::Nothing) };
        loop {
            let head = &sending.header[sending.done.min(HEADER)..];
            let body = sending.done.saturating_sub(HEADER);
            let parts = [(head.as_ptr(), head.len()), (sending.at.wrapping_add(body), sending.len - body)];
            // SAFETY: the header is its own; the message has `len` bytes, which stay where they are until the reader has released it.
            match unsafe { stream::send(self.fd.as_fd(), parts) } {
                Ok(sent) => sending.done += sent,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(Sent::Full),
                Err(errno) => return Err(errno),
            }
            if sending.done == HEADER + sending.len {
                let parcel = self.sending.take().and_then(|sending| sending.parcel);
                return Ok(parcel.map_or(Sent::Nothing, Sent::All));
            }
        }
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
