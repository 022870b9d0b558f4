//! Memory whose end is known. Whoever keeps something by address, as a registration with a device is, keeps it with the number of the span it
//! lies in: as long as a span has that number, it is the same memory.
//!
//! ```text
//!   hold (what this library gives out) ──┐
//!                                        ├──> spans: begin, length, number ──> watched::find: the span of a message, whole
//!   watch (`watched`: what the kernel ───┘       │
//!   tells the end of)                            └─ end ──> ends() has grown: whoever keeps something looks whether is_known(span)
//! ```
//!
//! Nothing is allocated or freed while the table is locked: a thread that gives memory back may wait for the one that hears of it, which waits
//! for the lock.

use super::memory::Mapping;
use crate::error::Result;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// Spans at most; of what is beyond them nothing is known. A span is 32 bytes, and their pages are there once they are used.
const MOST: usize = 4096;

/// A range of memory that is what it was as long as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub begin: usize,
    /// Its bytes.
    pub len: usize,
    /// No other span ever has this number.
    pub number: u64,
    /// The kernel tells its end, and may be about to.
    pub(super) watched: bool,
}

impl Span {
    fn end(&self) -> usize {
        self.begin + self.len
    }

    fn covers(&self, at: usize, len: usize) -> bool {
        self.begin <= at && at.checked_add(len).is_some_and(|end| end <= self.end())
    }
}

/// The spans that are known, ascending; none overlaps another.
static SPANS: LazyLock<Mutex<Vec<Span>>> = LazyLock::new(|| Mutex::new(Vec::with_capacity(MOST)));

/// How many spans have ended.
static ENDED: AtomicU64 = AtomicU64::new(0);

/// The number of the latest span.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// The table. While it is held, nothing is allocated or freed.
pub(super) fn spans() -> MutexGuard<'static, Vec<Span>> {
    SPANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of them overlap that range.
fn overlapping(spans: &[Span], at: usize, len: usize) -> std::ops::Range<usize> {
    let first = spans.partition_point(|span| span.end() <= at);
    let behind = spans.partition_point(|span| span.begin < at.saturating_add(len));
    first..behind.max(first)
}

/// Puts a range among them, together with those that it overlaps. Nothing if there is no place for it.
pub(super) fn add(spans: &mut Vec<Span>, at: usize, len: usize, watched: bool) -> Option<Span> {
    let over = overlapping(spans, at, len);
    let watched = watched || spans[over.clone()].iter().any(|span| span.watched);
    let begin = spans[over.clone()].first().map_or(at, |span| span.begin.min(at));
    let end = spans[over.clone()].last().map_or(at + len, |span| span.end().max(at + len));
    if over.is_empty() && spans.len() == MOST {
        return None;
    }
    let ended = over.len() as u64;
    spans.drain(over.clone());
    let span = Span { begin, len: end - begin, number: LATEST.fetch_add(1, Ordering::Relaxed) + 1, watched };
    spans.insert(over.start, span);
    ENDED.fetch_add(ended, Ordering::Release);
    Some(span)
}

/// All that overlap that range are known no more.
pub(super) fn end(spans: &mut Vec<Span>, at: usize, len: usize) {
    let over = overlapping(spans, at, len);
    let ended = over.len() as u64;
    spans.drain(over);
    ENDED.fetch_add(ended, Ordering::Release);
}

/// The span that covers that range. Of a watched one the kernel may be about to tell that it has ended.
pub(super) fn find(spans: &[Span], at: usize, len: usize) -> Option<Span> {
    let first = spans.partition_point(|span| span.end() <= at);
    spans.get(first).copied().filter(|span| span.covers(at, len))
}

/// Whether nobody has told of the span's end.
pub fn is_known(span: &Span) -> bool {
    find(&spans(), span.begin, span.len).as_ref() == Some(span)
}

/// How many spans have ended: as long as this stays, all that were known are.
pub fn ends() -> u64 {
    ENDED.load(Ordering::Acquire)
}

/// Memory of this library, known as long as this lives.
#[derive(Debug)]
pub struct Known {
    at: usize,
    len: usize,
}

impl Known {
    /// That range, which is whole pages, belongs to the caller and is given back after this.
    pub fn hold(at: *const u8, len: usize) -> Known {
        let at = at.addr();
        add(&mut spans(), at, len, false);
        Known { at, len }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        end(&mut spans(), self.at, self.len);
    }
}

/// Memory of this process, zeroed, whose end is known.
#[derive(Debug)]
pub struct Own {
    /// Ends first.
    _known: Known,
    mapping: Mapping,
}

impl Own {
    /// So many bytes.
    pub fn new(len: usize) -> Result<Own> {
        let mapping = Mapping::private(len)?;
        Ok(Own { _known: Known::hold(mapping.base(), len.max(1)), mapping })
    }

    /// Where it begins.
    pub fn base(&self) -> *mut u8 {
        self.mapping.base()
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.mapping.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::watched::find;

    #[test]
    fn memory_is_known_from_its_beginning_to_its_end_and_by_another_number_afterwards() {
        let mapping = Mapping::private(1 << 20).expect("memory");
        let (at, known) = (mapping.base().addr(), Known::hold(mapping.base(), 1 << 20));
        let span = find(at + 5, 100).expect("known");
        assert_eq!((span.begin, span.len), (at, 1 << 20));
        assert!(is_known(&span) && find(at, (1 << 20) + 1).is_none() && find(at.wrapping_sub(1), 2).is_none());
        let before = ends();
        drop(known);
        assert!(!is_known(&span) && ends() > before);
        let again = Known::hold(mapping.base(), 1 << 20);
        assert!(!is_known(&span), "other memory at the same place");
        drop((again, mapping));
    }

    #[test]
    fn ranges_that_overlap_become_one() {
        let mut spans = Vec::with_capacity(MOST);
        let first = add(&mut spans, 100, 50, false).expect("a place");
        add(&mut spans, 300, 50, true).expect("a place");
        assert_eq!(spans.len(), 2);
        let all = add(&mut spans, 140, 170, false).expect("a place");
        assert_eq!((all.begin, all.len, spans.len()), (100, 250, 1));
        assert!(all.number > first.number && all.watched);
        add(&mut spans, 350, 10, false).expect("a place");
        assert_eq!(spans.len(), 2, "neighbours do not overlap");
        end(&mut spans, 349, 1);
        assert_eq!((spans.len(), spans[0].begin), (1, 350));
    }

    #[test]
    fn of_more_memory_than_there_are_places_nothing_is_known() {
        let mut spans = Vec::with_capacity(MOST);
        (0..MOST).for_each(|n| assert!(add(&mut spans, n * 100, 50, false).is_some()));
        let capacity = spans.capacity();
        assert!(add(&mut spans, MOST * 100, 50, false).is_none());
        assert_eq!((spans.len(), spans.capacity()), (MOST, capacity));
    }
}
