//! What every rank of a host is doing, and who aborted. Written by each rank on its own cache lines with plain stores; read by others
//! only when something takes long or does not fit, to name the culprit.

use super::bell::{Bell, Sleepers};
use crate::sys::barrier;
use crate::sys::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::transport::{Abort, Entered};
use std::time::{Duration, Instant};

/// Calls that a rank's status remembers.
const RECORDS: usize = if cfg!(loom) { 1 } else { 4 };

/// Bytes of the message of an abort.
const TEXT: usize = if cfg!(loom) { 16 } else { 960 };

/// How long a rank that has claimed the abort may take to say why, before it counts as gone itself.
const TELLING: Duration = Duration::from_millis(200);

/// Where a rank is in the life of a communicator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Life {
    /// Not mapped yet.
    Absent = 0,
    /// Taking part.
    Present = 1,
    /// Has dropped its communicator.
    Left = 2,
}

/// The segment's first page.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Header {
    /// How many ranks sleep or are about to.
    pub sleepers: Sleepers,
    _apart: [u32; 15],
    /// 0, or who aborted first, plus one.
    aborter: AtomicU32,
    /// 1: the record below is complete.
    told: AtomicU32,
    kind: AtomicU32,
    culprit: AtomicU32,
    other: AtomicU32,
    len: AtomicU32,
    _apart_too: [u32; 10],
    text: [AtomicU64; TEXT / 8],
}

impl Header {
    /// Whether somebody has aborted.
    #[inline]
    pub fn aborted(&self) -> bool {
        self.aborter.load(Ordering::Relaxed) != 0
    }

    /// Says why the communicator ends. False: somebody else was first.
    pub fn abort(&self, abort: &Abort) -> bool {
        if self.aborter.compare_exchange(0, abort.by + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let text = abort.text.as_bytes();
        let text = &text[..text.len().min(TEXT)];
        for (word, chunk) in self.text.iter().zip(text.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        self.len.store(text.len() as u32, Ordering::Relaxed);
        self.kind.store(abort.kind, Ordering::Relaxed);
        self.culprit.store(abort.culprit, Ordering::Relaxed);
        self.other.store(abort.other, Ordering::Relaxed);
        self.told.store(1, Ordering::Release);
        true
    }

    /// The reason, once it is complete. A rank that died between claiming the abort and telling leaves none.
    pub fn reason(&self) -> Option<Abort> {
        if self.told.load(Ordering::Acquire) == 0 {
            return None;
        }
        let len = (self.len.load(Ordering::Relaxed) as usize).min(TEXT);
        let bytes: Vec<u8> =
            self.text.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).take(len).collect();
        Some(Abort {
            by: self.aborter.load(Ordering::Relaxed).saturating_sub(1),
            kind: self.kind.load(Ordering::Relaxed),
            culprit: self.culprit.load(Ordering::Relaxed),
            other: self.other.load(Ordering::Relaxed),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// The reason, waiting a little for whoever is just writing it. One that ended before it could is to blame itself.
    pub fn await_reason(&self) -> Option<Abort> {
        let by = self.aborter()?;
        let began = Instant::now();
        loop {
            if let Some(reason) = self.reason() {
                return Some(reason);
            }
            if began.elapsed() > TELLING {
                let text = "it ended before it could say why".into();
                return Some(Abort { by, kind: 0, culprit: by, other: by, text });
            }
            std::thread::yield_now();
        }
    }

    /// Who claimed the abort, whether or not it could tell why.
    pub fn aborter(&self) -> Option<u32> {
        self.aborter.load(Ordering::Relaxed).checked_sub(1)
    }
}

/// One rank's part.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Status {
    /// What the rank sleeps on.
    pub bell: Bell,
    life: AtomicU32,
    /// The rank waited for, plus one; 0: not waiting, or not for long.
    waiting_for: AtomicU32,
    /// 1 while the rank reads or writes other ranks' buffers.
    in_windows: AtomicU32,
    entered: AtomicU64,
    finished: AtomicU64,
    _apart: [u64; 4],
    records: [Record; RECORDS],
}

#[derive(Debug)]
#[repr(C)]
struct Record {
    number: AtomicU64,
    digest: AtomicU64,
    count: AtomicU64,
    /// collective | dtype << 8 | reduction << 16 | shape << 24 | root << 32
    kinds: AtomicU64,
}

impl Record {
    /// Whether it says the same of the call, its number apart.
    #[inline(always)]
    fn tells(&self, entered: &Entered) -> bool {
        (self.digest.load(Ordering::Relaxed) == entered.digest)
            & (self.count.load(Ordering::Relaxed) == entered.count)
            & (self.kinds.load(Ordering::Relaxed) == entered.kinds)
    }
}

impl Status {
    /// Says where this rank is in its life.
    pub fn set_life(&self, life: Life) {
        self.life.store(life as u32, Ordering::Release);
    }

    /// Where that rank is in its life; nonsense counts as present.
    pub fn life(&self) -> Life {
        match self.life.load(Ordering::Acquire) {
            0 => Life::Absent,
            2 => Life::Left,
            _ => Life::Present,
        }
    }

    /// Notes that this rank begins a call: a handful of stores to its own cache line.
    #[inline]
    pub fn enter(&self, entered: &Entered) {
        let record = &self.records[entered.number as usize % RECORDS];
        // Most calls are like the one that many before: then the number is all that changes.
        if !record.tells(entered) {
            record.number.store(0, Ordering::Relaxed);
            fence(Ordering::Release);
            record.digest.store(entered.digest, Ordering::Relaxed);
            record.count.store(entered.count, Ordering::Relaxed);
            record.kinds.store(entered.kinds, Ordering::Relaxed);
        }
        record.number.store(entered.number, Ordering::Release);
        self.entered.store(entered.number, Ordering::Release);
    }

    /// Notes that this rank has ended that call.
    #[inline]
    pub fn finish(&self, number: u64) {
        self.finished.store(number, Ordering::Release);
    }

    /// How a rank that has dropped its communicator went.
    pub fn left(&self) -> Option<String> {
        (self.life() == Life::Left).then(|| format!("it left the communicator after operation {}", self.progress().1))
    }

    /// What the rank is doing, as seen from a wait in that call; `who`: its process in words.
    pub fn describe(&self, number: u64, who: &str) -> String {
        let (entered, finished) = self.progress();
        match self.call(entered) {
            Some(call) if entered > finished => format!("in operation {entered}, {call}{who}"),
            _ if entered < number => format!("has not entered operation {number} (last was {entered}){who}"),
            _ => format!("after operation {entered}{who}"),
        }
    }

    /// The number of the last call it has entered, and of the last it has ended.
    pub fn progress(&self) -> (u64, u64) {
        (self.entered.load(Ordering::Acquire), self.finished.load(Ordering::Acquire))
    }

    /// What that rank did under that number, if it remembers.
    pub fn call(&self, number: u64) -> Option<Entered> {
        let record = &self.records[number as usize % RECORDS];
        if number == 0 || record.number.load(Ordering::Acquire) != number {
            return None;
        }
        let (count, kinds) = (record.count.load(Ordering::Relaxed), record.kinds.load(Ordering::Relaxed));
        let entered = Entered { number, digest: record.digest.load(Ordering::Relaxed), count, kinds };
        fence(Ordering::Acquire);
        (record.number.load(Ordering::Relaxed) == number).then_some(entered)
    }

    /// Says that this rank is about to read or write other ranks' buffers. False: the communicator has ended, they may be gone. Either
    /// this rank sees the abort here, or whoever has seen it and run `fence_everybody` sees this rank inside.
    #[inline]
    pub fn enter_windows(&self, header: &Header) -> bool {
        self.in_windows.store(1, Ordering::Relaxed);
        barrier::fence_this();
        let open = !header.aborted();
        if !open {
            self.leave_windows();
        }
        open
    }

    /// Says that this rank has done what it did there.
    #[inline]
    pub fn leave_windows(&self) {
        self.in_windows.store(0, Ordering::Release);
    }

    /// Whether that rank reads or writes other ranks' buffers.
    pub fn in_windows(&self) -> bool {
        self.in_windows.load(Ordering::Acquire) != 0
    }

    /// Says for whom this rank has been waiting for long; None: no more.
    pub fn set_waiting_for(&self, rank: Option<u32>) {
        self.waiting_for.store(rank.map_or(0, |rank| rank + 1), Ordering::Relaxed);
    }

    /// For whom that rank is waiting, if for long.
    pub fn waiting_for(&self) -> Option<u32> {
        self.waiting_for.load(Ordering::Relaxed).checked_sub(1)
    }
}

impl Default for Header {
    /// As zeroed shared memory is.
    fn default() -> Header {
        let zero = || AtomicU32::new(0);
        Header {
            sleepers: Sleepers::none(),
            _apart: [0; 15],
            aborter: zero(),
            told: zero(),
            kind: zero(),
            culprit: zero(),
            other: zero(),
            len: zero(),
            _apart_too: [0; 10],
            text: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Default for Status {
    /// As zeroed shared memory is.
    fn default() -> Status {
        let (zero, long) = (|| AtomicU32::new(0), || AtomicU64::new(0));
        let record = || Record { number: long(), digest: long(), count: long(), kinds: long() };
        Status {
            bell: Bell::silent(),
            life: zero(),
            waiting_for: zero(),
            in_windows: zero(),
            entered: long(),
            finished: long(),
            _apart: [0; 4],
            records: std::array::from_fn(|_| record()),
        }
    }
}
