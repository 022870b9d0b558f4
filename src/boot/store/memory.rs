//! The store of threads in one process.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Store, absent, check};
use crate::Result;

/// A store inside this process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    values: Mutex<BTreeMap<String, Vec<u8>>>,
    changed: Condvar,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// A thread that panicked while it held the lock has left whole entries: nothing is ever half done here.
    fn values(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.values.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Store for MemoryStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        check(key, value)?;
        self.values().insert(key.to_string(), value.to_vec());
        self.changed.notify_all();
        Ok(())
    }

    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        check(key, &[])?;
        let deadline = Instant::now() + timeout;
        let mut values = self.values();
        loop {
            if let Some(value) = values.get(key) {
                return Ok(value.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(absent("this process's store", key, timeout));
            }
            values = match self.changed.wait_timeout(values, left) {
                Ok((values, _)) => values,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn delete(&self, key: &str) -> Result<bool> {
        check(key, &[])?;
        Ok(self.values().remove(key).is_some())
    }
}
