//! A clock that somebody else moves: worlds of ranks run in one thread in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The time since a world began. Copies show the same time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// What time it is.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// Moves it forward to that time; never back.
    pub fn move_to(&self, now: Duration) {
        self.0.fetch_max(now.as_nanos() as u64, Ordering::Relaxed);
    }
}
