//! The memory that the ranks of a host share: one memfd between processes, one private mapping between threads.

use super::layout::Layout;
use super::ring::{Line, Released};
use super::status::{Header, Status};
use crate::error::Result;
use crate::sys::fork;
use crate::sys::memory::{Mapping, SharedFile};
use crate::transport::{Abort, Outgoing};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Addresses that every rank's part of the heap has. Memory is used only where it is touched.
pub const HEAP_SPAN: usize = 64 << 30;

/// A mapped segment.
#[derive(Debug)]
pub struct Segment {
    mapping: Mapping,
    /// None: the ranks are threads of this process.
    file: Option<SharedFile>,
    layout: Layout,
    ranks: u32,
    heap: OnceLock<Option<Mapping>>,
    quarantined: AtomicBool,
    /// The process that mapped it.
    generation: u32,
}

impl Segment {
    /// Bytes of the file for that many ranks.
    pub fn len_for(ranks: u32) -> usize {
        Layout::new(ranks).len() + ranks as usize * HEAP_SPAN
    }

    /// A new segment for the ranks of a host, to be handed to the others.
    pub fn create(ranks: u32) -> Result<Segment> {
        let file = SharedFile::create("ringtree", Segment::len_for(ranks))?;
        Segment::of(Some(file), ranks)
    }

    /// One that a peer has created.
    pub fn adopt(fd: std::os::fd::OwnedFd, ranks: u32) -> Result<Segment> {
        let file = SharedFile::adopt(fd, Segment::len_for(ranks))?;
        Segment::of(Some(file), ranks)
    }

    /// One for threads of this process.
    pub fn private(ranks: u32) -> Result<Segment> {
        Segment::of(None, ranks)
    }

    fn of(file: Option<SharedFile>, ranks: u32) -> Result<Segment> {
        let layout = Layout::new(ranks);
        let mapping = match &file {
            Some(file) => file.map(0, layout.len())?,
            None => Mapping::private(layout.len())?,
        };
        let (heap, quarantined, generation) = (OnceLock::new(), AtomicBool::new(false), fork::generation());
        Ok(Segment { mapping, file, layout, ranks, heap, quarantined, generation })
    }

    /// Whether this process is a fork of the one that mapped it: then it is a rank's no more, and nothing here may be written, given back
    /// or said.
    pub fn is_inherited(&self) -> bool {
        fork::generation() != self.generation
    }

    /// The number of ranks it was made for.
    pub fn ranks(&self) -> u32 {
        self.ranks
    }

    /// Whether the ranks are threads of this process.
    pub fn is_private(&self) -> bool {
        self.file.is_none()
    }

    /// The file, to be handed to the other ranks of the host.
    pub fn file(&self) -> Option<&SharedFile> {
        self.file.as_ref()
    }

    /// Its layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        debug_assert!(offset + size_of::<T>() <= self.mapping.len() && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: every offset comes from `layout`, which lays parts out inside `layout.len() <= mapping.len()`.
        unsafe { self.mapping.base().add(offset).cast() }
    }

    /// The header.
    pub fn header(&self) -> &Header {
        // SAFETY: the offset is inside and aligned; Header consists of atomics and padding that nobody reads, so any bytes are valid
        // and other processes may write them at any time.
        unsafe { &*self.at(0) }
    }

    /// The status of a rank of this segment.
    pub fn status(&self, rank: u32) -> &Status {
        assert!(rank < self.ranks, "rank {rank} of {}", self.ranks);
        // SAFETY: as for the header; the rank was just checked.
        unsafe { &*self.at(self.layout.status(rank)) }
    }

    /// The first of a link's lines.
    pub fn lines(&self, lane: u32, writer: u32, link: Outgoing) -> *const Line {
        self.at(self.layout.line(lane, writer, link))
    }

    /// The counter of one reader of a link.
    pub fn released(&self, lane: u32, writer: u32, link: Outgoing, reader: u32) -> *const Released {
        self.at(self.layout.released(lane, writer, link, reader))
    }

    /// The first of a link's slots.
    pub fn slots(&self, lane: u32, writer: u32, link: Outgoing) -> *mut u8 {
        self.at(self.layout.slot(lane, writer, link))
    }

    /// Gives the pages of slots back; nobody may be using them.
    pub fn discard(&self, at: *mut u8, len: usize) {
        if self.is_inherited() {
            return;
        }
        match &self.file {
            Some(file) => {
                // A failure leaves the pages where they are: the budget keeps counting them.
                if let Err(error) = file.punch(at as usize - self.mapping.base() as usize, len) {
                    log::warn!("{error}");
                }
            }
            // SAFETY: the range is page-aligned and inside this private mapping; its contents are not needed any more.
            None => unsafe {
                libc::madvise(at.cast(), len, libc::MADV_DONTNEED);
            },
        }
    }

    /// The heap, mapped when it is first asked for. None: the address space is too small (logged).
    pub fn heap(&self) -> Option<&Mapping> {
        let map = || {
            let len = self.ranks as usize * HEAP_SPAN;
            let mapped = match &self.file {
                Some(file) => file.map(self.layout.len(), len),
                None => Mapping::private(len),
            };
            mapped.inspect_err(|error| log::warn!("registered memory is not available: {error}")).ok()
        };
        self.heap.get_or_init(map).as_ref()
    }

    /// From now on no piece of the heap is given out twice by this process: an operation has failed here, and a rank that is late may
    /// still write to a window on a buffer of it. The memory goes with the segment.
    pub fn quarantine_heap(&self) {
        self.quarantined.store(true, Ordering::Relaxed);
    }

    /// Whether that has happened.
    pub fn heap_is_quarantined(&self) -> bool {
        self.quarantined.load(Ordering::Relaxed)
    }

    /// Where the heap begins in the file.
    pub fn heap_start(&self) -> usize {
        self.layout.len()
    }

    /// Ends the communicator for everybody, and wakes them all to hear it.
    pub fn abort(&self, abort: &Abort) {
        if self.header().abort(abort) {
            self.wake_all();
        }
    }

    /// Wakes every rank that sleeps, to look around.
    pub fn wake_all(&self) {
        for rank in 0..self.ranks {
            self.status(rank).bell.ring();
        }
    }

    /// The heap, if this process has used it.
    pub fn heap_if_mapped(&self) -> Option<&Mapping> {
        self.heap.get()?.as_ref()
    }

    /// Where a rank's part of the heap begins within the heap.
    pub fn heap_offset(&self, rank: u32) -> usize {
        rank as usize * HEAP_SPAN
    }
}
