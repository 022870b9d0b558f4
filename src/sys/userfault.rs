//! What the kernel tells of memory that is watched: that it is given back, or moves (userfaultfd, Linux 4.11; for everybody since 5.11).
//!
//! ```text
//!   a thread: munmap, brk, mremap, madvise(DONTNEED), mmap over it ──> waits in the kernel ──> goes on
//!                                                   │                    │  event              ▲
//!                                                   ▼                    └──────> read ────────┘
//!                                              not steady ──────────────────────> steady
//! ```
//!
//! The memory may be gone, and another thread have new memory at the same place, before the event can be read: so whoever goes by addresses
//! also asks whether the kernel is steady, which it is not from before that until the event was read.
//!
//! Pages are watched in the mode for write protection, and none is ever protected: no access to them faults because of that.

use crate::sys::memory::page_size;
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `linux/userfaultfd.h`.
const USER_MODE_ONLY: libc::c_int = 1;
const API: u64 = 0xaa;
const FEATURE_WRITE_PROTECTION: u64 = 1;
const FEATURE_REMAP: u64 = 1 << 2;
const FEATURE_REMOVE: u64 = 1 << 3;
const FEATURE_UNMAP: u64 = 1 << 6;
const MODE_WRITE_PROTECTION: u64 = 2;
const EVENT_REMAP: u8 = 0x14;
const EVENT_REMOVE: u8 = 0x15;
const EVENT_UNMAP: u8 = 0x16;

#[repr(C)]
struct Handshake {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Watching {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct Protecting {
    start: u64,
    len: u64,
    mode: u64,
}

/// `uffd_msg` of the events that are asked for.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Event {
    kind: u8,
    _reserved: [u8; 7],
    words: [u64; 3],
}

impl Event {
    /// The range that is no longer what it was.
    pub(super) fn range(&self) -> Option<(usize, usize)> {
        let [start, end, len] = self.words;
        match self.kind {
            EVENT_REMAP => Some((start as usize, len as usize)),
            EVENT_REMOVE | EVENT_UNMAP => Some((start as usize, end.saturating_sub(start) as usize)),
            _ => None,
        }
    }
}

const fn read_and_write(number: u64, size: usize) -> u64 {
    3 << 30 | (size as u64) << 16 | API << 8 | number
}

/// The kernel's end of it.
#[derive(Debug)]
pub(super) struct Userfault {
    fd: OwnedFd,
}

impl Userfault {
    pub(super) fn new() -> Result<Userfault, Errno> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | USER_MODE_ONLY;
        // SAFETY: the call takes flags and gives a descriptor, which is owned from here on.
        let fd = unsafe {
            let fd = libc::syscall(libc::SYS_userfaultfd, flags);
            OwnedFd::from_raw_fd(Errno::result(fd)? as libc::c_int)
        };
        let features = FEATURE_WRITE_PROTECTION | FEATURE_REMAP | FEATURE_REMOVE | FEATURE_UNMAP;
        let mut shake = Handshake { api: API, features, ioctls: 0 };
        // SAFETY: the request is for a structure of this size, which the kernel reads and writes.
        unsafe { control(&fd, read_and_write(0x3f, size_of::<Handshake>()), (&raw mut shake).cast())? };
        Ok(Userfault { fd })
    }

    /// From now on the kernel tells of these pages, which must be memory of this process alone (`is_private`).
    pub(super) fn watch(&self, at: usize, len: usize) -> Result<(), Errno> {
        let mut watching = Watching { start: at as u64, len: len as u64, mode: MODE_WRITE_PROTECTION, ioctls: 0 };
        // SAFETY: as above. Watching changes nothing for who uses the memory.
        unsafe { control(&self.fd, read_and_write(0, size_of::<Watching>()), (&raw mut watching).cast()) }
    }

    /// Whether no watched memory is being given back whose event was not read.
    pub(super) fn is_steady(&self) -> bool {
        let mut nothing = Protecting { start: 0, len: 0, mode: 0 };
        let (protect, argument) = (read_and_write(6, size_of::<Protecting>()), (&raw mut nothing).cast());
        // SAFETY: as above. A range of no bytes is always refused; before that the kernel says that it can't protect memory now.
        unsafe { control(&self.fd, protect, argument) == Err(Errno::EINVAL) }
    }

    /// The next event; nothing for now.
    pub(super) fn next(&self) -> Option<Event> {
        let mut event = Event::default();
        // SAFETY: the kernel writes one event, which any bytes are.
        let read = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut event).cast(), size_of::<Event>()) };
        (read == size_of::<Event>() as isize).then_some(event)
    }
}

impl AsFd for Userfault {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// # Safety
/// The argument is what the request wants.
unsafe fn control(fd: &OwnedFd, request: u64, argument: *mut libc::c_void) -> Result<(), Errno> {
    // SAFETY: the caller's contract.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, argument) }).map(drop)
}

/// The whole pages around a range.
pub(super) fn pages(at: usize, len: usize) -> Option<(usize, usize)> {
    let page = page_size();
    let begin = at / page * page;
    let end = at.checked_add(len)?.checked_next_multiple_of(page)?;
    Some((begin, end - begin))
}

/// Whether a range is memory of this process alone, that it may write, and no file's: nobody changes it behind the kernel's events.
pub(super) fn is_private(maps: &str, at: usize, len: usize) -> bool {
    let Some(end) = at.checked_add(len) else { return false };
    let mut covered = at;
    for line in maps.lines() {
        let Some((begin, behind, private)) = mapping(line) else { continue };
        if behind <= covered {
            continue;
        }
        if begin > covered || !private {
            return false;
        }
        covered = behind;
        if covered >= end {
            return true;
        }
    }
    false
}

/// Beginning and end of a mapping, from a line of `/proc/self/maps`, and whether it is private, anonymous and writable.
fn mapping(line: &str) -> Option<(usize, usize, bool)> {
    let mut words = line.split_ascii_whitespace();
    let (begin, behind) = words.next()?.split_once('-')?;
    let (rights, inode) = (words.next()?, words.nth(2)?);
    let address = |text: &str| usize::from_str_radix(text, 16).ok();
    Some((address(begin)?, address(behind)?, rights.starts_with("rw") && rights.ends_with('p') && inode == "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
1000-2000 r--p 00000000 fd:00 77   /bin/program
2000-4000 rw-p 00000000 00:00 0    [heap]
4000-6000 rw-p 00000000 00:00 0
7000-8000 rw-s 00000000 00:01 5    /memfd:x (deleted)
8000-9000 rw-p 00001000 fd:00 77   /bin/program
9000-a000 r--p 00000000 00:00 0
";

    #[test]
    fn only_private_writable_memory_of_no_file_is_watched() {
        for (at, len, is) in [
            (0x2000, 0x4000, true),
            (0x2800, 1, true),
            (0x1000, 0x2000, false),
            (0x5000, 0x2000, false),
            (0x7000, 0x1000, false),
            (0x8000, 0x1000, false),
            (0x9000, 0x1000, false),
            (0xa000, 0x1000, false),
            (usize::MAX, 2, false),
        ] {
            assert_eq!(is_private(MAPS, at, len), is, "{len:#x} at {at:#x}");
        }
    }

    #[test]
    fn a_range_is_watched_in_whole_pages() {
        let page = page_size();
        assert_eq!(pages(page + 5, 10), Some((page, page)));
        assert_eq!(pages(2 * page - 1, 2), Some((page, 2 * page)));
        assert_eq!(pages(usize::MAX, 2), None);
    }
}
