//! Noticing that this process is a fork: what its parent shares with others is not its own.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// Forks between the process that first asked and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// How often the line of processes down to this one has forked since the first call. Who keeps the number sees later whether he is still
/// in the process that asked: one relaxed load.
#[inline]
pub fn generation() -> u32 {
    static WATCHING: Once = Once::new();
    if !WATCHING.is_completed() {
        WATCHING.call_once(|| {
            // SAFETY: the handler is a plain function that stays valid until the process ends; it makes one atomic addition, which is
            // allowed between fork and exec.
            unsafe { libc::pthread_atfork(None, None, Some(count)) };
        });
    }
    FORKS.load(Ordering::Relaxed)
}

extern "C" fn count() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
