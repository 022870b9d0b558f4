//! Memory of the program that the kernel tells the end of. A buffer that is sent from twice is watched from then on, and known (`known`) until
//! the program gives any of it back.
//!
//! ```text
//!   sent from once ──> a candidate
//!   it, or a part of it, again ──> that is watched, and known. Never more than that: only of what is lent just now is it sure that nobody
//!                                  gives it back between a look at it and the kernel's promise to tell
//!   munmap, madvise, mremap, … ──> the thread that does so waits until the watcher has read of it, which ends the span meanwhile:
//!                                  when the call returns, nobody finds the span any more; nor does while it is under way
//! ```
//!
//! The watcher allocates nothing: who waits for it may hold the allocator's lock.

use super::fork;
use super::known::{self, Span};
use super::userfault::{Userfault, is_private, pages};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Ranges that are remembered after they were sent from once: the buffers of a few calls.
const CANDIDATES: usize = 32;

/// Messages from memory that can't be watched until that is tried again: a look at all mappings of the process.
const REFUSED_FOR: u32 = 4096;

/// What the kernel has told, and to which process of a line of forks.
struct Watcher {
    userfault: Userfault,
    generation: u32,
}

/// The watcher of this process; nothing: the kernel has none, or allows none.
fn watcher() -> Option<&'static Watcher> {
    static WATCHER: OnceLock<Option<Watcher>> = OnceLock::new();
    static BEGUN: OnceLock<bool> = OnceLock::new();
    let open = || {
        let opened = Userfault::new().inspect_err(|errno| {
            log::info!(
                "memory can't be watched (userfaultfd: {}): only memory from `alloc` is sent by RDMA devices from where it lies",
                errno.desc()
            );
        });
        Some(Watcher { userfault: opened.ok()?, generation: fork::generation() })
    };
    let watcher = WATCHER.get_or_init(open).as_ref()?;
    let began = *BEGUN.get_or_init(|| begin(watcher));
    // The kernel would watch the memory of the process that has opened it.
    (began && watcher.generation == fork::generation()).then_some(watcher)
}

/// Starts the thread that hears what the kernel tells. Signals are for other threads.
fn begin(watcher: &'static Watcher) -> bool {
    let mut before = SigSet::empty();
    let masked = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before));
    let began = std::thread::Builder::new().name("ringtree-memory".into()).spawn(|| hear(&watcher.userfault));
    if masked.is_ok() {
        let _as_it_was = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    }
    began.inspect_err(|error| log::info!("memory can't be watched (no thread: {error})")).is_ok()
}

/// Hears what the kernel tells, as long as there is the process: no rank waits here, and whoever gives memory back waits for this thread alone.
fn hear(userfault: &Userfault) {
    loop {
        let mut fds = [PollFd::new(userfault.as_fd(), PollFlags::POLLIN)];
        let _ready_or_interrupted = poll(&mut fds, PollTimeout::NONE);
        // Read under the lock: who gave memory back goes on when that is read, and then finds the lock taken or the span gone.
        let mut spans = known::spans();
        while let Some(event) = userfault.next() {
            if let Some((at, len)) = event.range() {
                known::end(&mut spans, at, len);
            }
        }
    }
}

/// Ranges that were sent from.
#[derive(Debug)]
struct Candidates {
    /// Beginning and length of those that were sent from once; no bytes: none.
    once: [(usize, usize); CANDIDATES],
    /// Those that can't be watched, and for how many questions more that is taken for granted.
    refused: [(usize, usize, u32); CANDIDATES],
    next: usize,
}

/// What becomes of a range that was sent from.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is to be watched.
    Watch,
    /// It is sent as it was.
    Leave,
}

impl Candidates {
    const NONE: Candidates = Candidates { once: [(0, 0); CANDIDATES], refused: [(0, 0, 0); CANDIDATES], next: 0 };

    /// Notes that a range was sent from: the second time it is to be watched.
    fn note(&mut self, at: usize, len: usize) -> Verdict {
        let covers = |from: usize, room: usize| from <= at && at + len <= from + room;
        if let Some(refused) = self.refused.iter_mut().find(|(from, room, left)| *left > 0 && covers(*from, *room)) {
            refused.2 -= 1;
            return Verdict::Leave;
        }
        if let Some(before) = self.once.iter_mut().find(|(from, room)| covers(*from, *room)) {
            *before = (0, 0);
            return Verdict::Watch;
        }
        self.once[self.next] = (at, len);
        self.next = (self.next + 1) % CANDIDATES;
        Verdict::Leave
    }

    /// Notes that a range can't be watched.
    fn refuse(&mut self, at: usize, len: usize) {
        if let Some(slot) = self.refused.iter_mut().min_by_key(|(.., left)| *left) {
            *slot = (at, len, REFUSED_FOR);
        }
    }
}

static SENT_FROM: Mutex<Candidates> = Mutex::new(Candidates::NONE);

fn candidates() -> MutexGuard<'static, Candidates> {
    SENT_FROM.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The span that covers that range. None is found while the kernel is about to tell of the end of any: what lies there now may be another
/// thread's new memory.
pub fn find(at: usize, len: usize) -> Option<Span> {
    find_among(&known::spans(), at, len)
}

/// The same among the spans of the table, which is held.
fn find_among(spans: &[Span], at: usize, len: usize) -> Option<Span> {
    let span = known::find(spans, at, len)?;
    (!span.watched || watcher().is_some_and(|watcher| watcher.userfault.is_steady())).then_some(span)
}

/// Messages are to be sent from there: a buffer that is lent now, as a whole. The second time it is watched.
pub fn sent_from(at: *const u8, len: usize) {
    let Some(watcher) = watcher() else { return };
    let Some((at, len)) = pages(at.addr(), len).filter(|(at, len)| find(*at, *len).is_none()) else { return };
    let verdict = candidates().note(at, len);
    if verdict == Verdict::Watch
        && let Err(why) = watch(watcher, at, len)
    {
        log::debug!("{len} bytes at {at:#x} are not watched: {why}");
        candidates().refuse(at, len);
    }
}

/// Watches a range and makes it known; or why not.
fn watch(watcher: &Watcher, at: usize, len: usize) -> Result<(), String> {
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(|error| error.to_string())?;
    if !is_private(&maps, at, len) {
        return Err("they are not memory of this process alone that it may write".into());
    }
    watcher.userfault.watch(at, len).map_err(|errno| errno.desc().to_string())?;
    known::add(&mut known::spans(), at, len, true).map(drop).ok_or_else(|| "too much memory is known already".into())
}

#[cfg(test)]
mod tests;
