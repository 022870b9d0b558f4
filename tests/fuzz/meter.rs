//! How much memory a thread has asked for, and the most at once: what a reader is allowed is a matter of what it was given.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub struct Meter;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

fn add(bytes: usize) {
    let now = NOW.get().saturating_add(bytes);
    NOW.set(now);
    MOST.set(MOST.get().max(now));
}

// SAFETY: everything is left to the system's allocator; the cells are plain numbers of this thread and need no memory of their own.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // What another thread asked for may end here.
        NOW.set(NOW.get().saturating_sub(layout.size()));
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(at, layout) }
    }
}

/// The most memory that a piece of work had at once, beyond what there was before it.
pub fn most<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    MOST.set(before);
    let result = work();
    (result, MOST.get() - before)
}
