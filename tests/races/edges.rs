//! What ThreadSanitizer doesn't see of the standard library, told to it. `tests/tsan` compiles this file and links it in.
//!
//! The standard library comes without instrumentation. What of it is generic or inlined is compiled into our crates, and seen: the fast
//! ways of a mutex, channels, `Arc`. What is called is not seen: a mutex that is contended is taken in there, and what its last holder
//! did looks like a race. So each such call is wrapped (`--wrap` of the linker), and says here what the call's documentation promises,
//! and no more. Nothing of ringtree is mentioned: its own atomics, and its memory, ThreadSanitizer sees as they are.
//!
//! The words in capitals stand for mangled names, which `tests/tsan` looks up in the toolchain's library.

#![no_std]

use core::time::Duration;

/// A word of memory that is synchronised on. Only its address counts.
type Word = u8;

unsafe extern "C" {
    safe fn __tsan_acquire(word: *const Word);
    safe fn __tsan_release(word: *const Word);
    fn __real___tsan_atomic64_fetch_sub(word: *mut u64, value: u64, order: i32) -> u64;
}

unsafe extern "Rust" {
    #[link_name = "__real_LOCK_CONTENDED"]
    safe fn lock_contended(mutex: *const Word);
    #[link_name = "__real_READ_CONTENDED"]
    safe fn read_contended(lock: *const Word);
    #[link_name = "__real_WRITE_CONTENDED"]
    safe fn write_contended(lock: *const Word);
    #[link_name = "__real_CONDVAR_WAIT_TIMEOUT"]
    safe fn condvar_wait_timeout(condvar: *const Word, mutex: *const Word, limit: Duration) -> bool;
    #[link_name = "__real_CONDVAR_WAIT"]
    safe fn condvar_wait(condvar: *const Word, mutex: *const Word);
    #[link_name = "__real_ONCE_CALL"]
    safe fn once_call(once: *const Word, again: bool, first: &mut dyn FnMut(*const Word));
    #[link_name = "__real_SCOPE_DECREMENT"]
    safe fn scope_decrement(scope: *const Word, panicked: bool);
}

/// `Mutex::lock` where the mutex is held: whoever unlocked it came before.
#[unsafe(export_name = "__wrap_LOCK_CONTENDED")]
fn wrap_lock_contended(mutex: *const Word) {
    lock_contended(mutex);
    __tsan_acquire(mutex);
}

/// `RwLock::read` where the lock is held.
#[unsafe(export_name = "__wrap_READ_CONTENDED")]
fn wrap_read_contended(lock: *const Word) {
    read_contended(lock);
    __tsan_acquire(lock);
}

/// `RwLock::write` where the lock is held.
#[unsafe(export_name = "__wrap_WRITE_CONTENDED")]
fn wrap_write_contended(lock: *const Word) {
    write_contended(lock);
    __tsan_acquire(lock);
}

/// `Condvar::wait` unlocks the mutex and locks it again.
#[unsafe(export_name = "__wrap_CONDVAR_WAIT")]
fn wrap_condvar_wait(condvar: *const Word, mutex: *const Word) {
    __tsan_release(mutex);
    condvar_wait(condvar, mutex);
    __tsan_acquire(mutex);
}

/// `Condvar::wait_timeout` does the same.
#[unsafe(export_name = "__wrap_CONDVAR_WAIT_TIMEOUT")]
fn wrap_condvar_wait_timeout(condvar: *const Word, mutex: *const Word, limit: Duration) -> bool {
    __tsan_release(mutex);
    let in_time = condvar_wait_timeout(condvar, mutex, limit);
    __tsan_acquire(mutex);
    in_time
}

/// `Once::call_once`, and `OnceLock` and `LazyLock` by it: what the first caller does comes before whoever finds it done.
#[unsafe(export_name = "__wrap_ONCE_CALL")]
fn wrap_once_call(once: *const Word, again: bool, first: &mut dyn FnMut(*const Word)) {
    let mut and_tell = |state: *const Word| {
        first(state);
        __tsan_release(once);
    };
    once_call(once, again, &mut and_tell);
    __tsan_acquire(once);
}

/// A thread of a scope has ended: that comes before the end of `thread::scope`, which reads the counter with acquire order. Where the
/// counter lies within the first words of the scope's data is the library's business, so all of them are released.
#[unsafe(export_name = "__wrap_SCOPE_DECREMENT")]
fn wrap_scope_decrement(scope: *const Word, panicked: bool) {
    for word in 0..3 {
        __tsan_release(scope.wrapping_add(8 * word));
    }
    scope_decrement(scope, panicked);
}

/// `Arc::drop` decrements with release order and runs an acquire fence before it frees, and ThreadSanitizer knows no fences: the
/// decrement gets both orders. ringtree has no decrement with release order of its own (`tests/tsan` looks).
///
/// # Safety
/// As for the function that it wraps: `word` is an atomic.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap___tsan_atomic64_fetch_sub(word: *mut u64, value: u64, order: i32) -> u64 {
    const RELEASE: i32 = 3;
    const BOTH: i32 = 4;
    // SAFETY: the caller's promise.
    unsafe { __real___tsan_atomic64_fetch_sub(word, value, if order == RELEASE { BOTH } else { order }) }
}
