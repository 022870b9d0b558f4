//! Going to sleep and being woken, without a fence on the publisher's side and without a lost wake-up.
//!
//! ```text
//!   sleeper                                   publisher (of a message, or of a released slot)
//!   asleep = 1, sleepers += 1                 publish
//!   ── fence for everybody ──                 ── compiler's order only ──
//!   look once more: nothing there             sleepers = 0?  yes: done
//!   sleep while asleep is 1   <── wake ──     no: asleep = 0, wake who has slept
//! ```
//!
//! Either the publisher sees the sleeper or the sleeper sees what was published: between the two looks at the other's word lies a full
//! fence on both sides, of which the publisher's is run by the sleeper (`sys::barrier`). Checked by loom in `tests/loom.rs`, which
//! knows no asymmetric fence: there it is a sequentially consistent fence on both sides.

use crate::sys::barrier;
use crate::sys::futex;
use crate::sys::sync::{AtomicU32, Ordering};
use std::time::Duration;

/// The longest sleep where sleepers can't make publishers see them (no membarrier).
const BLIND_SLEEP: Duration = Duration::from_millis(1);

/// How many ranks sleep or are about to: while there are none, a publisher need not look further.
#[derive(Debug)]
#[repr(transparent)]
pub struct Sleepers(AtomicU32);

impl Sleepers {
    /// None, as zeroed shared memory holds.
    pub fn none() -> Sleepers {
        Sleepers(AtomicU32::new(0))
    }

    /// Whether somebody has to be woken, asked by a rank that has published something just now.
    #[inline(always)]
    pub fn any(&self) -> bool {
        barrier::order_this();
        self.0.load(Ordering::Relaxed) != 0
    }
}

/// What one rank sleeps on: 1 while it sleeps or is about to.
#[derive(Debug)]
#[repr(transparent)]
pub struct Bell(AtomicU32);

impl Bell {
    /// Awake, as zeroed shared memory holds.
    pub fn silent() -> Bell {
        Bell(AtomicU32::new(0))
    }

    /// Says that this rank is about to sleep. What was published before is visible afterwards; who publishes later rings.
    pub fn lie_down(&self, sleepers: &Sleepers) {
        // Exchanges, also where a store would do: loom does not order stores among the exchanges of others.
        self.0.swap(1, Ordering::Relaxed);
        sleepers.0.fetch_add(1, Ordering::Relaxed);
        barrier::fence_everybody();
    }

    /// Sleeps until somebody rings, at most that long. `lie_down` and a look around have come before.
    pub fn sleep(&self, limit: Duration) {
        let limit = if barrier::register() { limit } else { limit.min(BLIND_SLEEP) };
        futex::wait(&self.0, 1, limit);
    }

    /// Takes `lie_down` back.
    pub fn rise(&self, sleepers: &Sleepers) {
        self.0.swap(0, Ordering::Relaxed);
        sleepers.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wakes the rank that sleeps on this, if it does.
    pub fn ring(&self) {
        if self.0.swap(0, Ordering::Relaxed) != 0 {
            futex::wake(&self.0);
        }
    }
}
