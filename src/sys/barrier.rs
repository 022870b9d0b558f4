//! An asymmetric fence: whoever goes to sleep pays, whoever publishes does not.
//!
//! A publisher stores its flag, then looks whether somebody sleeps. A sleeper says that it sleeps, then looks at the flag once more.
//! Each must see the other's store or the wake-up is lost, which takes a full fence on both sides: about 20 ns on every message, for a
//! case that comes once in a long wait. `membarrier(GLOBAL_EXPEDITED)` on the sleeper's side runs that fence on all processors that run
//! a registered process, so the publisher needs none. Where the call is not allowed, sleepers look again every millisecond.
//!
//! loom has no such fence: there both sides run a sequentially consistent one.

#[cfg(not(loom))]
mod asymmetric {
    use std::sync::OnceLock;
    use std::sync::atomic::{Ordering, compiler_fence, fence};

    const CMD_GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
    const CMD_REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

    /// Registers this process as a publisher, once. False: the kernel or a seccomp filter refuses the call.
    pub fn register() -> bool {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        *REGISTERED.get_or_init(|| membarrier(CMD_REGISTER_GLOBAL_EXPEDITED) && fence_everybody())
    }

    /// A full fence here and on every processor that runs a registered process now.
    pub fn fence_everybody() -> bool {
        fence(Ordering::SeqCst);
        membarrier(CMD_GLOBAL_EXPEDITED)
    }

    /// The other side of it, for free: what comes before comes before what follows, as `fence_everybody` on another processor sees it,
    /// if that call is allowed.
    #[inline(always)]
    pub fn order_this() {
        compiler_fence(Ordering::SeqCst);
    }

    /// The same, also where the call is not allowed.
    #[inline(always)]
    pub fn fence_this() {
        if register() { order_this() } else { fence(Ordering::SeqCst) }
    }

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: membarrier takes integers only and touches no memory of this process.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }
}

#[cfg(loom)]
mod asymmetric {
    use loom::sync::atomic::{Ordering, fence};

    /// Nothing to register.
    pub fn register() -> bool {
        true
    }

    /// A full fence.
    pub fn fence_everybody() -> bool {
        fence(Ordering::SeqCst);
        true
    }

    /// A full fence, which the other side's would have run here.
    pub fn order_this() {
        fence(Ordering::SeqCst);
    }

    /// The same.
    pub fn fence_this() {
        fence(Ordering::SeqCst);
    }
}

pub use asymmetric::{fence_everybody, fence_this, order_this, register};
