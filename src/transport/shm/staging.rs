//! The process's budget for slots: one number for all communicators, charged when a link's slots are first touched (or touched further
//! than before), given back when the communicator goes, or when another one needs the memory and this one has nothing on its way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// The default budget: 128 MiB a process.
const DEFAULT: usize = 128 << 20;

/// Somebody who may hold slots that are not in use.
pub trait Holder: Send + Sync {
    /// Gives back what isn't in use right now, without waiting for anybody.
    fn give_back(&self, budget: &Budget);
}

/// A budget of bytes.
#[derive(Default)]
pub struct Budget {
    limit: AtomicUsize,
    used: AtomicUsize,
    peak: AtomicUsize,
    holders: Mutex<Vec<Weak<dyn Holder>>>,
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Budget({} of {} bytes)", self.used(), self.limit())
    }
}

impl Budget {
    /// The budget of this process, from RINGTREE_STAGING (bytes, or with K, M, G) when it is first asked for.
    pub fn process() -> &'static Arc<Budget> {
        static PROCESS: OnceLock<Arc<Budget>> = OnceLock::new();
        PROCESS.get_or_init(|| {
            let text = std::env::var("RINGTREE_STAGING").ok();
            let limit = text.as_deref().and_then(crate::config::parse_bytes).unwrap_or(DEFAULT);
            Arc::new(Budget::new(limit))
        })
    }

    /// A budget of its own.
    pub fn new(limit: usize) -> Budget {
        Budget { limit: AtomicUsize::new(limit), ..Budget::default() }
    }

    /// What may be used.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes what may be used; what is in use stays.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// What is used.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The most that was ever used.
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Somebody to ask when memory is short.
    pub fn add_holder(&self, holder: Weak<dyn Holder>) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.retain(|holder| holder.strong_count() > 0);
        holders.push(holder);
    }

    /// Takes that much, after asking the others to give back if need be. False: it can't be had now.
    pub fn take(&self, bytes: usize) -> bool {
        if self.try_take(bytes) {
            return true;
        }
        let holders: Vec<_> = {
            let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
            holders.iter().filter_map(Weak::upgrade).collect()
        };
        for holder in holders {
            holder.give_back(self);
            if self.try_take(bytes) {
                return true;
            }
        }
        false
    }

    /// The same without asking anybody.
    pub fn try_take(&self, bytes: usize) -> bool {
        let limit = self.limit();
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= limit)
        });
        if let Ok(before) = taken {
            self.peak.fetch_max(before + bytes, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    /// Returns what was taken.
    pub fn put_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hoarder(Mutex<usize>);

    impl Holder for Hoarder {
        fn give_back(&self, budget: &Budget) {
            budget.put_back(std::mem::take(&mut *self.0.lock().unwrap()));
        }
    }

    #[test]
    fn memory_that_others_do_not_need_is_asked_back_before_a_refusal() {
        let budget = Budget::new(100);
        let hoarder = Arc::new(Hoarder(Mutex::new(80)));
        assert!(budget.take(80));
        let weak: Weak<dyn Holder> = Arc::downgrade(&(hoarder.clone() as Arc<dyn Holder>));
        budget.add_holder(weak);
        assert!(budget.take(90));
        assert_eq!(budget.used(), 90);
        assert!(!budget.take(11), "the limit holds");
        assert_eq!(budget.peak(), 90);
    }
}
