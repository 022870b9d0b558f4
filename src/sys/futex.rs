//! Sleeping on a word of shared memory.

use super::sync::AtomicU32;
use std::time::Duration;

/// Sleeps while the word is `expected`, at most `limit`. Returns after a wake-up, a change, a signal or the limit: look again.
#[cfg(not(loom))]
pub fn wait(word: &AtomicU32, expected: u32, limit: Duration) {
    let timeout = libc::timespec {
        tv_sec: limit.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos()),
    };
    // SAFETY: the word is alive for the whole call because it is borrowed, the timeout is on this stack; the kernel only reads both.
    // The word may be shared with other processes, so the operation is not the private one.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, &raw const timeout);
    }
}

/// Wakes everybody who sleeps on the word.
#[cfg(not(loom))]
pub fn wake(word: &AtomicU32) {
    // SAFETY: the word is borrowed for the whole call; the kernel uses its address only.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX);
    }
}

#[cfg(loom)]
loom::lazy_static! {
    /// Where all sleepers of a model are.
    static ref QUEUE: (loom::sync::Mutex<()>, loom::sync::Condvar) = Default::default();
}

/// Sleeps while the word is `expected`, for ever if need be: a lost wake-up is a deadlock. A word that has changed already returns without
/// any order between this thread and the one that has changed it.
#[cfg(loom)]
pub fn wait(word: &AtomicU32, expected: u32, _limit: Duration) {
    if word.load(super::sync::Ordering::Relaxed) != expected {
        return;
    }
    let (lock, changed) = &*QUEUE;
    let mut held = lock.lock().unwrap();
    while word.load(super::sync::Ordering::Relaxed) == expected {
        held = changed.wait(held).unwrap();
    }
}

/// Wakes everybody: who sleeps on another word goes on sleeping.
#[cfg(loom)]
pub fn wake(_word: &AtomicU32) {
    let (lock, changed) = &*QUEUE;
    drop(lock.lock().unwrap());
    changed.notify_all();
}
