//! A lock that leans towards the thread that always takes it: for that thread it costs two plain stores.
//!
//! A mutex costs two locked instructions, and each waits until every earlier store has reached the cache. On the path of a message one of
//! those stores is to a line that the reader has: the lock makes its way between the cores part of the call, where it could go on while
//! the next call begins.
//!
//! ```text
//!   home thread                          any other thread
//!   inside = 1                           takes its turn, by way of a mutex
//!   ── compiler's order only ──          open = 0
//!   open? yes: has the lock              ── fence for everybody ──
//!   …                                    waits while inside is 1
//!   inside = 0                           has the lock
//!   ── compiler's order only ──
//!   open? no: wakes who sleeps
//! ```
//!
//! Either the home thread sees that the lock is no longer open to it, or the other one sees it inside (`sys::barrier`). The home thread
//! then takes turns like the others, and opens its short way again once it has had several without anybody between. A lock has one home for
//! life, the first thread that came so often: the words of one that is still on its way in can't be handed to another.

use super::barrier;
use super::futex;
use super::sync::{AtomicU32, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, UnsafeCell};
use std::ops::{Deref, DerefMut};
use std::sync::TryLockError;
use std::time::Duration;

/// Turns in a row after which a thread's way is open: to close it again takes an interrupt on every processor.
const STREAK: u32 = if cfg!(loom) { 1 } else { 16 };

/// The longest sleep before another look; a wake-up comes first.
const LOOK: Duration = Duration::from_millis(100);

/// What stands in for a fence that the kernel refuses after all.
const UNFENCED: Duration = Duration::from_millis(10);

/// No thread's number.
const NOBODY: u64 = 0;

/// The lock and what it guards.
pub struct Biased<T> {
    /// The number of the home thread.
    home: AtomicU64,
    /// 1: the home thread need not take turns. Set by that thread alone, cleared by any other, both in their turn.
    open: AtomicU32,
    /// 1: the home thread has the lock by its short way, or looks whether it may. Written by that thread alone.
    inside: AtomicU32,
    turns: Mutex<Turns>,
    ended: Condvar,
    value: UnsafeCell<T>,
}

/// Whose turn it is.
#[derive(Debug, Default)]
struct Turns {
    /// Whether somebody's turn has begun and not ended.
    taken: bool,
    /// Who took the last turn, and how many in a row.
    by: u64,
    number: u32,
}

/// The lock while a thread has it. No more than a pointer and a flag: it stays in registers.
pub struct Held<'l, T> {
    lock: &'l Biased<T>,
    /// Whether it came by the home thread's short way.
    short: bool,
    /// To be dropped by the thread that has it.
    _here: std::marker::PhantomData<*const ()>,
}

// SAFETY: as a mutex: the value is reached by one thread at a time, which may differ from one time to the next.
unsafe impl<T: Send> Sync for Biased<T> {}
// SAFETY: nothing but the value matters to where it is.
unsafe impl<T: Send> Send for Biased<T> {}

impl<T> Biased<T> {
    /// A lock without a home.
    pub fn new(value: T) -> Biased<T> {
        Biased {
            home: AtomicU64::new(NOBODY),
            open: AtomicU32::new(0),
            inside: AtomicU32::new(0),
            turns: Mutex::default(),
            ended: Condvar::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock: as long as whoever has it takes, which in a communicator is an operation with a deadline. A panic of who had it
    /// before is that one's business.
    #[inline(always)]
    pub fn lock(&self) -> Held<'_, T> {
        self.lock_as(number_of_this_thread())
    }

    /// The same for the thread of that number, which no other thread has or had: threads of a model have no others.
    #[cfg(loom)]
    pub fn lock_in_model(&self, me: u64) -> Held<'_, T> {
        self.lock_as(me)
    }

    #[inline(always)]
    fn lock_as(&self, me: u64) -> Held<'_, T> {
        let short = self.enter(me);
        if !short {
            self.wait_for_turn(me);
        }
        self.held(short)
    }

    /// The lock if nobody has it. Waits for nobody, and leaves the home thread's way open while that thread is inside.
    pub fn try_lock(&self) -> Option<Held<'_, T>> {
        let me = number_of_this_thread();
        if self.enter(me) {
            return Some(self.held(true));
        }
        if self.inside.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let mut turns = match self.turns.try_lock() {
            Ok(turns) => turns,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if turns.taken {
            return None;
        }
        self.begin_turn(&mut turns, me);
        drop(turns);
        let held = self.held(false);
        (self.inside.load(Ordering::Acquire) == 0).then_some(held)
    }

    #[inline(always)]
    fn held(&self, short: bool) -> Held<'_, T> {
        Held { lock: self, short, _here: std::marker::PhantomData }
    }

    /// The home thread's short way.
    #[inline(always)]
    fn enter(&self, me: u64) -> bool {
        // A thread that has it already waits for itself, as with any lock.
        let away = self.open.load(Ordering::Relaxed) == 0 || self.inside.load(Ordering::Relaxed) != 0;
        if away || self.home.load(Ordering::Relaxed) != me {
            return false;
        }
        self.inside.store(1, Ordering::Relaxed);
        barrier::order_this();
        // This thread has opened it itself, after what others did with the value.
        if self.open.load(Ordering::Relaxed) != 0 {
            return true;
        }
        self.leave();
        false
    }

    /// The end of it.
    #[inline(always)]
    fn leave(&self) {
        self.inside.store(0, Ordering::Release);
        barrier::order_this();
        if self.open.load(Ordering::Relaxed) == 0 {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        futex::wake(&self.inside);
    }

    #[cold]
    fn wait_for_turn(&self, me: u64) {
        let mut turns = self.turns();
        while turns.taken {
            turns = self.ended.wait(turns).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        self.begin_turn(&mut turns, me);
        drop(turns);
        while self.inside.load(Ordering::Acquire) != 0 {
            futex::wait(&self.inside, 1, LOOK);
        }
    }

    fn begin_turn(&self, turns: &mut Turns, me: u64) {
        let number = if turns.by == me { turns.number.saturating_add(1) } else { 1 };
        *turns = Turns { taken: true, by: me, number };
        if self.open.load(Ordering::Relaxed) != 0 {
            self.open.store(0, Ordering::Relaxed);
            // It has worked before, but may be out of memory now, or forbidden since. A store leaves its core's queue within microseconds
            // whether or not anybody fences.
            if !barrier::fence_everybody() {
                std::thread::sleep(UNFENCED);
            }
        }
    }

    #[cold]
    fn end_turn(&self) {
        let mut turns = self.turns();
        turns.taken = false;
        // Without the fence for everybody nobody could close it.
        if turns.number >= STREAK && barrier::register() {
            if self.home.load(Ordering::Relaxed) == NOBODY {
                self.home.store(turns.by, Ordering::Relaxed);
            }
            if self.home.load(Ordering::Relaxed) == turns.by {
                self.open.store(1, Ordering::Relaxed);
            }
        }
        drop(turns);
        self.ended.notify_one();
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: this thread has the lock as long as `self` lives, and lends it out as `self` is lent.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for Held<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for Held<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.short { self.lock.leave() } else { self.lock.end_turn() }
    }
}

/// A number that no other thread of this process has or had.
#[inline(always)]
fn number_of_this_thread() -> u64 {
    use std::cell::Cell;
    use std::sync::atomic::AtomicU64;
    static LAST: AtomicU64 = AtomicU64::new(NOBODY);
    thread_local!(static NUMBER: Cell<u64> = const { Cell::new(NOBODY) });
    let number = NUMBER.get();
    if number != NOBODY {
        return number;
    }
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    NUMBER.set(number);
    number
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    /// Whether this thread need not take a turn.
    fn is_short<T>(lock: &Biased<T>) -> bool {
        lock.lock().short
    }

    #[test]
    fn who_takes_it_several_times_in_a_row_gets_the_short_way_until_another_one_comes() {
        let lock = Biased::new(0);
        if !barrier::register() {
            return assert!((0..100).all(|_| !is_short(&lock)), "nobody could be told that the way is closed");
        }
        for _ in 0..STREAK {
            assert!(!is_short(&lock));
        }
        assert!(is_short(&lock));
        std::thread::scope(|scope| drop(scope.spawn(|| *lock.lock() += 1)));
        for _ in 0..STREAK {
            assert!(!is_short(&lock));
        }
        assert!(is_short(&lock));
        assert_eq!(*lock.lock(), 1);
    }

    #[test]
    fn another_thread_waits_until_the_home_thread_has_left() {
        let lock = Biased::new(0);
        (0..=STREAK).for_each(|_| *lock.lock() += 1);
        let (tried, got) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let mut held = lock.lock();
            scope.spawn(|| {
                assert!(lock.try_lock().is_none());
                tried.store(true, Ordering::SeqCst);
                got.store(*lock.lock(), Ordering::SeqCst);
            });
            while !tried.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            *held = 1000;
        });
        assert_eq!(got.into_inner(), 1000);
    }

    #[test]
    fn nothing_is_lost_where_threads_take_it_in_any_order() {
        const EACH: usize = 20_000;
        let lock = Biased::new(0);
        std::thread::scope(|scope| {
            // One comes far more often than the others, so that the short way opens and closes again and again.
            for pause in [0, 200, 1000] {
                let lock = &lock;
                scope.spawn(move || {
                    for _ in 0..EACH / (1 + pause) {
                        (0..pause).for_each(|_| std::hint::spin_loop());
                        let mut held = lock.lock();
                        *held = std::hint::black_box(*held + 1);
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), [0, 200, 1000].map(|pause| EACH / (1 + pause)).iter().sum::<usize>());
    }

    #[test]
    fn a_panic_of_who_has_it_leaves_it_to_the_next() {
        let lock = Biased::new(0);
        for times in 1..=2 * STREAK {
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                *lock.lock() += 1;
                let _held = lock.lock();
                panic!("on purpose");
            }));
            assert!(panicked.is_err());
            assert_eq!(*lock.lock(), times);
        }
    }
}
