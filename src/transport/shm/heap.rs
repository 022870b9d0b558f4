//! Memory that every rank of a host can address: each rank has a span of the segment's file of its own, and gives out pieces of it.

use super::segment::{HEAP_SPAN, Segment};
use crate::error::{Error, Result};
use crate::sys::known::Known;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Pieces begin and end on borders of this size: huge pages where the system gives them, and no page shared by two pieces.
const GRAIN: usize = 2 << 20;

/// The allocator of one rank's span. First fit; pieces are few and large.
#[derive(Debug)]
pub struct HeapAllocator {
    segment: Arc<Segment>,
    rank: u32,
    /// Free ranges: offset in the span to length.
    free: Mutex<BTreeMap<usize, usize>>,
}

/// A piece of a rank's span, given back when dropped.
#[derive(Debug)]
pub struct Piece {
    allocator: Arc<HeapAllocator>,
    at: *mut u8,
    offset: usize,
    len: usize,
    known: Option<Known>,
}

// SAFETY: a piece is memory like that of a Box: whoever holds it may use it from any thread.
unsafe impl Send for Piece {}
// SAFETY: as above; access is through the holder's references.
unsafe impl Sync for Piece {}

impl HeapAllocator {
    /// For that rank of a segment.
    pub fn new(segment: Arc<Segment>, rank: u32) -> Arc<HeapAllocator> {
        let free = Mutex::new(BTreeMap::from([(0, HEAP_SPAN)]));
        Arc::new(HeapAllocator { segment, rank, free })
    }

    /// A zeroed piece of at least `bytes`, with its pages reserved.
    pub fn allocate(self: &Arc<Self>, bytes: usize) -> Result<Piece> {
        let heap = self.segment.heap().ok_or_else(|| {
            Error::start(
                "this communicator has no registered memory",
                "Raise the address space limit (ulimit -v), or use ordinary memory",
            )
        })?;
        let len = bytes.max(1).checked_next_multiple_of(GRAIN).filter(|len| *len <= HEAP_SPAN);
        let (len, offset) = len.and_then(|len| Some((len, self.take(len)?))).ok_or_else(|| {
            Error::misuse(
                format!("{bytes} bytes of registered memory do not fit in a rank's {HEAP_SPAN}"),
                "Free registered buffers that are not needed any more",
            )
        })?;
        let start = self.segment.heap_offset(self.rank) + offset;
        let at =
            heap.range(start, len).ok_or_else(|| Error::start("the heap is smaller than its layout", "Report this"))?;
        let mut piece = Piece { allocator: self.clone(), at, offset, len, known: None };
        if let Some(file) = self.segment.file() {
            file.reserve(self.segment.heap_start() + start, len)?;
        }
        piece.known = Some(Known::hold(at, len));
        Ok(piece)
    }

    fn take(&self, len: usize) -> Option<usize> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (offset, size) = free.iter().find(|(_, size)| **size >= len).map(|(offset, size)| (*offset, *size))?;
        free.remove(&offset);
        if size > len {
            free.insert(offset + len, size - len);
        }
        Some(offset)
    }

    fn put_back(&self, mut offset: usize, mut len: usize) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, size)) = free.range(..offset).next_back().map(|(before, size)| (*before, *size))
            && before + size == offset
        {
            free.remove(&before);
            (offset, len) = (before, len + size);
        }
        if let Some(size) = free.remove(&(offset + len)) {
            len += size;
        }
        free.insert(offset, len);
    }
}

impl Piece {
    /// Its first byte.
    pub fn at(&self) -> *mut u8 {
        self.at
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.known = None;
        if self.allocator.segment.heap_is_quarantined() || self.allocator.segment.is_inherited() {
            return;
        }
        match self.allocator.segment.file() {
            Some(file) => {
                let start =
                    self.allocator.segment.heap_start() + self.allocator.segment.heap_offset(self.allocator.rank);
                if let Err(error) = file.punch(start + self.offset, self.len) {
                    log::warn!("{error}");
                }
            }
            // SAFETY: the piece is whole pages of this process's own mapping, which nobody uses any more.
            None => unsafe {
                libc::madvise(self.at.cast(), self.len, libc::MADV_DONTNEED);
            },
        }
        self.allocator.put_back(self.offset, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_pieces_join_and_are_given_out_again_zeroed() {
        let segment = Arc::new(Segment::create(2).unwrap());
        let allocator = HeapAllocator::new(segment, 1);
        let (one, two, three) =
            (allocator.allocate(1).unwrap(), allocator.allocate(GRAIN + 1).unwrap(), allocator.allocate(5).unwrap());
        let (first, second) = (one.at(), two.at());
        assert_ne!(first, second);
        // SAFETY: the piece has at least one byte and nobody else uses it.
        unsafe { first.write(7) };
        drop((one, two));
        let again = allocator.allocate(3 * GRAIN).unwrap();
        assert_eq!(again.at(), first, "the two freed neighbours became one");
        // SAFETY: as above.
        assert_eq!(unsafe { again.at().read() }, 0);
        drop((again, three));
        assert_eq!(*allocator.free.lock().unwrap(), BTreeMap::from([(0, HEAP_SPAN)]));
    }
}
