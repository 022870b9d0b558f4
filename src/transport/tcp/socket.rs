//! One data socket: what is being sent over it, and what is coming in.
//!
//! ```text
//!   in:   │header│payload │header│payload …      what is ahead of a payload's end is read into a small buffer,
//!                 └─> straight to its place       the payload itself to where it belongs
//! ```
//!
//! An encrypted socket is the same with records between these and the kernel: what a record says goes where what was read would go.

use super::cipher::{self, Cipher};
use super::frame::{Frame, HEADER};
use super::peer::{Carrier, Nonsense, Parcel};
use super::sums::{SUMMED, broken_header, header, sum, without_sums};
use crate::boot::wire::DataKeys;
use crate::config::Protection;
use crate::plan::MOST_CHUNK_BYTES;
use crate::sys::stream;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

/// Bytes read ahead of what is known to come: whole small messages, so that each costs one system call.
const AHEAD: usize = 4096 + HEADER;

/// What is done to the bytes of a socket.
#[derive(Debug)]
pub(super) enum Guard {
    Nothing,
    /// Headers have checksums.
    Sums,
    Cipher(Box<Cipher>),
}

impl Guard {
    pub(super) fn new(protection: Protection, keys: &DataKeys) -> Guard {
        match protection {
            Protection::Plain => Guard::Nothing,
            Protection::Checksum => Guard::Sums,
            Protection::Encrypted => Guard::Cipher(Box::new(Cipher::new(keys))),
        }
    }
}

/// What is being sent.
#[derive(Debug)]
struct Sending {
    header: [u8; SUMMED],
    at: *const u8,
    len: usize,
    /// Bytes that the kernel has taken, or that are encrypted.
    done: usize,
    /// Where it ends in what is encrypted.
    end: usize,
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
    guard: Guard,
    /// Bytes of a header.
    head: usize,
    ahead: Box<[u8]>,
    from: usize,
    to: usize,
    pub(super) coming: Option<Coming>,
    /// A message whose memory has changed between two parts of it that the kernel took.
    pub(super) changed: Option<Parcel>,
}

impl Sending {
    /// Whether the message is not what was summed up any more.
    fn has_changed(&self) -> bool {
        // SAFETY: as in `go_on`.
        let now = unsafe { sum(self.at, self.len) };
        self.header[HEADER..HEADER + 4] != now.to_le_bytes()
    }

    /// Encrypts as much as there is room for. Whether that is all of it.
    ///
    /// # Safety
    /// `at` is valid for reads of `len` bytes.
    unsafe fn encrypt(&mut self, head: usize, out: &mut cipher::Outgoing) -> bool {
        while self.done < head + self.len {
            let body = self.done.saturating_sub(head);
            let (at, len) = match self.header[..head].get(self.done..) {
                Some(rest @ [_, ..]) => (rest.as_ptr(), rest.len()),
                _ => (self.at.wrapping_add(body), self.len - body),
            };
            // SAFETY: the rest of the header, or what the caller vouches for.
            let count = unsafe { out.put(at, len) };
            self.done += count;
            if count < len {
                return false;
            }
            self.end = out.end();
        }
        true
    }
}

/// The most frames that go with one system call.
const TOGETHER: usize = 16;

impl Socket {
    pub(super) fn new(fd: OwnedFd, carrier: Carrier, index: u8, turn: u64, guard: Guard) -> Socket {
        let (head, room) = match guard {
            Guard::Nothing => (HEADER, AHEAD),
            Guard::Sums => (SUMMED, AHEAD + SUMMED - HEADER),
            Guard::Cipher(_) => (HEADER, cipher::MOST + HEADER),
        };
        Socket {
            fd: Arc::new(fd),
            carrier,
            index,
            turn,
            retired: false,
            sending: VecDeque::new(),
            guard,
            head,
            ahead: vec![0; room].into_boxed_slice(),
            from: 0,
            to: 0,
            coming: None,
            changed: None,
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

    /// Bytes that are before the next frame: with this end, or with its kernel.
    pub(super) fn before_next(&self) -> usize {
        let here: usize = self.sending.iter().map(|sending| sending.len).sum();
        here + stream::unacknowledged(self.fd()).unwrap_or(usize::MAX / 2)
    }

    /// The messages that are being sent.
    pub(super) fn half_sent(&self) -> impl Iterator<Item = Parcel> + Clone {
        self.sending.iter().filter_map(|sending| sending.parcel)
    }

    /// Puts a frame behind those that are being sent; there is room.
    pub(super) fn begin(&mut self, frame: &Frame, at: *const u8, parcel: Option<Parcel>) {
        let (header, _) = header(frame, matches!(self.guard, Guard::Sums));
        self.sending.push_back(Sending { header, at, len: frame.len as usize, done: 0, end: 0, parcel });
    }

    /// Sends nothing more. The messages that were being sent.
    pub(super) fn stop(&mut self) -> Vec<Parcel> {
        self.sending.drain(..).filter_map(|sending| sending.parcel).collect()
    }

    /// Sends what the socket takes now, and hands over each message of which it has taken all. Whether it would take more.
    pub(super) fn go_on(&mut self, mut taken: impl FnMut(Parcel)) -> Result<bool, Errno> {
        if matches!(self.guard, Guard::Cipher(_)) {
            return self.go_on_encrypted(taken);
        }
        let head_len = self.head;
        while !self.sending.is_empty() {
            let mut parts = [stream::part(std::ptr::null(), 0); 2 * TOGETHER];
            for (pair, sending) in parts.chunks_exact_mut(2).zip(&self.sending) {
                let head = &sending.header[sending.done.min(head_len)..head_len];
                let body = sending.done.saturating_sub(head_len);
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
                let left = head_len + first.len - first.done;
                if sent < left {
                    first.done += sent;
                    break;
                }
                sent -= left;
                let Some(gone) = self.sending.pop_front() else { break };
                if let Some(parcel) = gone.parcel {
                    // A part of it waited: what the kernel took then may not be what was summed up.
                    if gone.done > head_len && matches!(self.guard, Guard::Sums) && gone.has_changed() {
                        self.changed = Some(parcel);
                    }
                    taken(parcel);
                }
            }
            if full {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The same over an encrypted socket: what is encrypted is sent before more is.
    fn go_on_encrypted(&mut self, mut taken: impl FnMut(Parcel)) -> Result<bool, Errno> {
        let Guard::Cipher(cipher) = &mut self.guard else { return Ok(true) };
        let (out, head) = (&mut cipher.out, self.head);
        loop {
            if out.rest().is_empty() {
                for sending in &mut self.sending {
                    // SAFETY: as in `go_on`.
                    if !unsafe { sending.encrypt(head, out) } {
                        break;
                    }
                }
                out.close();
            }
            if out.rest().is_empty() {
                return Ok(true);
            }
            let mut parts = [stream::part(out.rest().as_ptr(), out.rest().len())];
            // SAFETY: the bytes are the cipher's own.
            match unsafe { stream::send(self.fd.as_fd(), &mut parts) } {
                Ok(count) => {
                    let sent = out.advance(count);
                    let is_gone = |first: &Sending| first.done == head + first.len && first.end <= sent;
                    while let Some(gone) = self.sending.pop_front_if(|first| is_gone(first)) {
                        gone.parcel.into_iter().for_each(&mut taken);
                    }
                    if !out.rest().is_empty() {
                        return Ok(false);
                    }
                }
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Takes in what has come, once. The number of bytes, 0: nothing has.
    pub(super) fn read(&mut self) -> Result<Result<usize, Errno>, Nonsense> {
        match self.guard {
            Guard::Cipher(_) => self.read_record(),
            _ => Ok(self.read_bytes()),
        }
    }

    /// The next record is put where bytes would be read to: the rest of a payload to its place, what is behind it ahead.
    fn read_record(&mut self) -> Result<Result<usize, Errno>, Nonsense> {
        let Guard::Cipher(cipher) = &mut self.guard else { return Ok(Ok(0)) };
        let Some(plain) = cipher.into.next()? else {
            let room = cipher.into.room();
            let parts = [(std::ptr::null_mut(), 0), (room.as_mut_ptr(), room.len())];
            // SAFETY: the room is the cipher's own.
            return Ok(match unsafe { stream::receive(self.fd.as_fd(), parts) } {
                Ok(0) => Err(Errno::ECONNRESET),
                Ok(count) => {
                    cipher.into.came(count);
                    Ok(count)
                }
                Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
                Err(errno) => Err(errno),
            });
        };
        let mut behind = plain;
        if let Some(coming) = &mut self.coming
            && !coming.at.is_null()
        {
            let (own, rest) = plain.split_at(plain.len().min(coming.left));
            // SAFETY: as in `read_bytes`.
            unsafe { std::ptr::copy_nonoverlapping(own.as_ptr(), coming.at, own.len()) };
            coming.left -= own.len();
            coming.at = coming.at.wrapping_add(own.len());
            behind = rest;
        }
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
        // There is room for a record behind a part of a header, and more than that is never left.
        self.ahead[self.to..self.to + behind.len()].copy_from_slice(behind);
        self.to += behind.len();
        Ok(Ok(plain.len()))
    }

    fn read_bytes(&mut self) -> Result<usize, Errno> {
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

    /// The next frame among what was read, once the payload before it is complete.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, Nonsense> {
        let here = &self.ahead[self.from..self.to];
        let (header, sum) = match self.guard {
            Guard::Sums => {
                let Some(summed) = here.first_chunk::<SUMMED>() else { return Ok(None) };
                without_sums(summed).ok_or_else(|| broken_header("socket", self.index))?
            }
            _ => match here.first_chunk::<HEADER>() {
                Some(header) => (*header, 0),
                None => return Ok(None),
            },
        };
        self.from += self.head;
        let frame = Frame::decode(&header, MOST_CHUNK_BYTES as usize);
        let frame = frame.ok_or("a header that no rank would send")?;
        Ok(Some(Frame { sum, ..frame }))
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
