//! An asymmetric fence: whoever goes to sleep pays, whoever publishes does not.
//!
//! A publisher stores its flag, then looks whether somebody sleeps. A sleeper says that it sleeps, then looks at the flag once more.
//! Each must see the other's store or the wake-up is lost, which takes a full fence on both sides: about 20 ns on every message, for a
//! case that comes once in a long wait. `membarrier(GLOBAL_EXPEDITED)` on the sleeper's side runs that fence on all processors that run
//! a registered process, so the publisher needs none. Where the call is not allowed, sleepers look again every millisecond.

use std::sync::OnceLock;
use std::sync::atomic::{Ordering, compiler_fence, fence};

const CMD_GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
const CMD_REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

/// Registers this process as a publisher, once. False: the kernel or a seccomp filter refuses the call.
pub fn register() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| membarrier(CMD_REGISTER_GLOBAL_EXPEDITED) && fence_everybody())
}

/// A full fence on every processor that runs a registered process now.
pub fn fence_everybody() -> bool {
    membarrier(CMD_GLOBAL_EXPEDITED)
}

/// The other side of it: what this processor does before comes before what it does after, as `fence_everybody` on another one sees it.
#[inline(always)]
pub fn fence_this() {
    if register() { compiler_fence(Ordering::SeqCst) } else { fence(Ordering::SeqCst) }
}

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: membarrier takes integers only and touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}
