//! Where the outcome of an operation in the background is left, and waited for.

use crate::error::Result;
use crate::sys::sync::{Condvar, Mutex};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How an operation ended, once it has.
#[derive(Debug)]
pub struct Completion {
    outcome: Mutex<Option<Result<()>>>,
    ended: Condvar,
}

impl Default for Completion {
    /// Not ended.
    fn default() -> Completion {
        Completion { outcome: Mutex::new(None), ended: Condvar::new() }
    }
}

impl Completion {
    /// It has ended so.
    pub fn end(&self, outcome: Result<()>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.ended.notify_all();
    }

    /// The outcome, if it has ended.
    pub fn test(&self) -> Option<Result<()>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The outcome, or None at the limit.
    pub fn wait(&self, limit: Option<Duration>) -> Option<Result<()>> {
        let began = Instant::now();
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        while outcome.is_none() {
            outcome = match limit {
                None => self.ended.wait(outcome).unwrap_or_else(PoisonError::into_inner),
                Some(limit) => {
                    let left = limit.checked_sub(began.elapsed())?;
                    self.ended.wait_timeout(outcome, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        outcome.clone()
    }
}
