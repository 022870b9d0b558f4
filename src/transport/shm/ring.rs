//! One link: a ring of cache lines.
//!
//! ```text
//!   writer: sent = 7                 lines (64 bytes each)                     readers: released
//!              │        ┌───────┬───────┬───────┬───────┬─ ─ ─ ─ ┐             A: 6   B: 5
//!              └──────> │ seq 8 │ seq 5 │ seq 6 │ seq 7 │         │  <────────────┘      │
//!                       └───────┴───────┴───────┴───────┴─ ─ ─ ─ ┘ <───────────────────┘
//! ```
//!
//! Message number s (from 1, wrapping) lies in line s mod LINES. Its line is free when every reader has released s - LINES. The header
//! word `seq | tag` is written last, with release order, and tells the reader in the same cache line that came over anyway that the rest
//! is there: a small message costs one cache-line transfer. A reader's `released` counter is a line of its own, which the writer looks
//! at only when it seems to have run out of lines or slots.
//!
//! A writer may trust nobody: a `released` counter that runs ahead of what was sent, or behind what was known, is a fault.

use crate::sys::sync::{AtomicU32, AtomicU64, Ordering, UnsafeCell};

/// Lines in a ring: messages of at most [`INLINE`] bytes that may be on their way.
pub const LINES: u32 = if cfg!(loom) { 2 } else { 16 };

/// Slots in a ring: larger messages that may be on their way. A power of two below LINES.
pub const SLOTS: u32 = if cfg!(loom) { 1 } else { 4 };

/// Bytes that fit in a line.
pub const INLINE: usize = 48;

/// In place of a slot's number: the message lies in the line.
pub const IN_LINE: u32 = u32::MAX;

/// Added to a slot's number: the message was written round the caches.
pub const PAST: u32 = 1 << 30;

/// One line of a ring.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Line {
    header: AtomicU64,
    body: UnsafeCell<Body>,
}

/// What a line carries.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Body {
    /// Length of the message in bytes.
    pub len: u32,
    /// The slot it lies in, with or without [`PAST`], or [`IN_LINE`].
    pub slot: u32,
    /// The message, if it is small.
    pub inline: [u8; INLINE],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Line>() == 64);

/// How far a reader has released, on a line of its own; which shuttles it has returned: a bit flips for each; and which of those that were
/// returned to it on the link back it has taken up: the bit then is what that of the returns is.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Released {
    messages: AtomicU32,
    shuttles: AtomicU32,
    taken: AtomicU32,
}

impl Line {
    /// An unused line, as zeroed shared memory holds.
    pub fn empty() -> Line {
        Line { header: AtomicU64::new(0), body: UnsafeCell::new(Body { len: 0, slot: 0, inline: [0; INLINE] }) }
    }
}

impl Released {
    /// Nothing released, as zeroed shared memory holds.
    pub fn none() -> Released {
        Released { messages: AtomicU32::new(0), shuttles: AtomicU32::new(0), taken: AtomicU32::new(0) }
    }

    /// The reader gives back a shuttle, which it has read. `shuttle` is the number that the writer gives to it.
    pub fn return_shuttle(&self, shuttle: u32) {
        self.flip_returned(1 << shuttle);
    }

    /// The reader returns some, or takes its returns back.
    pub(super) fn flip_returned(&self, shuttles: u32) {
        // The reader is the only one who writes the word.
        self.shuttles.store(self.shuttles.load(Ordering::Relaxed) ^ shuttles, Ordering::Release);
    }

    /// A word in which the bit of a shuttle has flipped once for each time that it was returned.
    pub fn returned(&self) -> u32 {
        self.shuttles.load(Ordering::Acquire)
    }

    /// Says what has been taken up, in the state of the word of returns on the link back.
    pub(super) fn take_up(&self, state: u32) {
        self.taken.store(state, Ordering::Release);
    }

    /// What was said so.
    pub(super) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Acquire)
    }
}

/// A counter that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCounter {
    /// Which reader.
    pub reader: usize,
    /// What the reader claims to have released.
    pub claimed: u32,
    /// What was sent.
    pub sent: u32,
}

/// The writer's private end.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    sent: u32,
    /// Every reader has released at least up to here.
    floor: u32,
}

impl Writer {
    /// The number that the next message gets.
    pub fn next(&self) -> u32 {
        self.sent.wrapping_add(1)
    }

    /// Whether there is room for another message when `depth` may be outstanding, by what is known without looking.
    #[inline(always)]
    pub fn has_room(&self, depth: u32) -> bool {
        self.sent.wrapping_sub(self.floor) < depth
    }

    /// Whether the only reader has released anything since the last look.
    pub fn has_news(&self, reader: &Released) -> bool {
        reader.messages.load(Ordering::Relaxed) != self.floor
    }

    /// Looks at all readers' counters. Ok(None): there is room; Ok(Some(i)): reader i holds the oldest message.
    pub fn look<'a>(
        &mut self,
        depth: u32,
        readers: impl Iterator<Item = &'a Released>,
    ) -> Result<Option<usize>, BadCounter> {
        let mut most = 0;
        let mut slowest = None;
        for (i, reader) in readers.enumerate() {
            let claimed = reader.messages.load(Ordering::Acquire);
            let outstanding = self.sent.wrapping_sub(claimed);
            if outstanding > self.sent.wrapping_sub(self.floor) {
                return Err(BadCounter { reader: i, claimed, sent: self.sent });
            }
            if outstanding >= most {
                most = outstanding;
                slowest = Some(i);
            }
        }
        self.floor = self.sent.wrapping_sub(most);
        Ok(if most < depth { None } else { slowest })
    }

    /// Whether everything that was sent has been released by everybody, by looking.
    pub fn idle<'a>(&mut self, readers: impl Iterator<Item = &'a Released>) -> bool {
        matches!(self.look(1, readers), Ok(None))
    }

    /// The inline part of the next message's line.
    ///
    /// # Safety
    /// There is room (`has_room` or `look` said so since the last publish), `line` is the line of message `next()`, and nobody else writes to
    /// this ring.
    #[inline(always)]
    pub unsafe fn inline(&self, line: &Line) -> *mut u8 {
        // The pointer leaves the closure; by the caller's promise no reader looks at the body before `publish`.
        line.body.with_mut(|body| body.cast::<u8>().wrapping_add(8))
    }

    /// Publishes the next message.
    ///
    /// # Safety
    /// As for `inline`; the message's bytes have been written, to the line or to the slot of that number.
    #[inline(always)]
    pub unsafe fn publish(&mut self, line: &Line, len: u32, slot: u32, tag: u32) {
        line.body.with_mut(|body| {
            // SAFETY: there is room, so every reader has released the line's last message, and none reads the body before the
            // header below says that it may.
            unsafe {
                (&raw mut (*body).len).write(len);
                (&raw mut (*body).slot).write(slot);
            }
        });
        self.sent = self.sent.wrapping_add(1);
        line.header.store(u64::from(self.sent) | u64::from(tag) << 32, Ordering::Release);
    }
}

/// A reader's private end.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    released: u32,
}

/// What a line says of its message.
#[derive(Clone, Copy, Debug)]
pub struct Notice {
    /// The message's bytes if they fit in the line.
    pub inline: *const u8,
    /// Its length as the writer claims.
    pub len: u32,
    /// Its slot as the writer claims, with or without [`PAST`].
    pub slot: u32,
    /// Its tag.
    pub tag: u32,
}

impl Reader {
    /// The number of the next message.
    #[inline(always)]
    pub fn next(&self) -> u32 {
        self.released.wrapping_add(1)
    }

    /// The next message if it has come. `line` is the line of message `next()`.
    #[inline(always)]
    pub fn peek(&self, line: &Line) -> Option<Notice> {
        let header = line.header.load(Ordering::Acquire);
        if header as u32 != self.next() {
            return None;
        }
        let (len, slot) = line.body.with(|body| {
            // SAFETY: the header names this message, so the writer has finished the body and will not touch it before this reader has
            // released it.
            // Read once: a writer that lies may change them.
            unsafe { ((&raw const (*body).len).read_volatile(), (&raw const (*body).slot).read_volatile()) }
        });
        let inline = line.body.with(|body| body.cast::<u8>().wrapping_add(8));
        Some(Notice { inline, len, slot, tag: (header >> 32) as u32 })
    }

    /// Writes to the line of the next message, which has been read, as it is: its only reader hands it back written (`handback`). Comes
    /// before `release`.
    #[inline(always)]
    pub fn hand_back(&self, line: &Line) {
        line.header.store(line.header.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Gives the message back.
    #[inline(always)]
    pub fn release(&mut self, counter: &Released) {
        self.released = self.released.wrapping_add(1);
        counter.messages.store(self.released, Ordering::Release);
    }
}
