//! Shared memory without a name: a memfd, sealed against resizing, mapped by every rank of a host. When the last process that has it is
//! gone, however it ended, so is the memory.

use crate::error::{Error, Result};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

const FILE_SIZE_ADVICE: &str =
    "Raise the file size limit (ulimit -f) of this process to unlimited; no memory is used before it is touched";

/// The largest file that this process may make.
fn file_size_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the limit, which lives on this stack.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } == 0;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Bytes of a page.
pub fn page_size() -> usize {
    // SAFETY: the call takes a number and gives one.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
        .ok()
        .filter(|size| size.is_power_of_two())
        .unwrap_or(4096)
}

/// Bytes that are reserved at a time.
const RESERVED: usize = 2 << 20;

/// A memfd of fixed size. Its pages exist once they are touched.
#[derive(Debug)]
pub struct SharedFile {
    fd: OwnedFd,
    len: usize,
}

impl SharedFile {
    /// Makes one. The name is for /proc only.
    pub fn create(name: &str, len: usize) -> Result<SharedFile> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        // Past this limit the kernel ends the process with a signal (SIGXFSZ) before the call could fail.
        if file_size_limit().is_some_and(|limit| limit < len as u64) {
            return Err(Error::from_errno(
                format!("cannot size shared memory to {len} bytes"),
                libc::EFBIG,
                FILE_SIZE_ADVICE,
            ));
        }
        let fd = memfd_create(name, flags).map_err(|errno| {
            Error::from_errno("cannot create shared memory (memfd_create)", errno as i32, descriptor_advice(errno))
        })?;
        nix::unistd::ftruncate(&fd, len as libc::off_t).map_err(|errno| {
            Error::from_errno(
                format!("cannot size shared memory to {len} bytes (ftruncate)"),
                errno as i32,
                FILE_SIZE_ADVICE,
            )
        })?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).map_err(|errno| {
            Error::from_errno(
                "cannot seal shared memory",
                errno as i32,
                "The kernel must support memfd seals (Linux 3.17)",
            )
        })?;
        Ok(SharedFile { fd, len })
    }

    /// Takes one that a peer handed over: it must have the size that both sides computed, and be sealed, so that no access to it can fault.
    pub fn adopt(fd: OwnedFd, len: usize) -> Result<SharedFile> {
        let size = nix::sys::stat::fstat(&fd).map(|stat| stat.st_size).unwrap_or(-1);
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS).unwrap_or(0);
        let needed = (SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL).bits();
        // One of huge pages has seals too, but a page of it that the system lacks is a signal.
        let plain = nix::sys::statfs::fstatfs(&fd)
            .is_ok_and(|system| system.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
        if size != len as i64 || seals & needed != needed || !plain {
            return Err(Error::start(
                format!(
                    "the shared memory that a peer handed over has {size} bytes and seals {seals:#x} (in small pages: {plain}), expected \
                     {len} bytes, sealed, in small pages"
                ),
                "All ranks must run the same version of the library with the same settings",
            ));
        }
        Ok(SharedFile { fd, len })
    }

    /// Its size.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether its size is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Maps `len` bytes at `at`, both whole pages.
    pub fn map(&self, at: usize, len: usize) -> Result<Mapping> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "{len} bytes at {at} of {}", self.len);
        Mapping::new(libc::MAP_SHARED | libc::MAP_NORESERVE, self.fd.as_raw_fd(), at, len)
    }

    /// Gives the pages of a range back to the system; they read as zero afterwards.
    pub fn punch(&self, at: usize, len: usize) -> Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        self.allocate(mode, at, len, "cannot give shared memory back")
    }

    /// Makes the pages of a range exist now, so that a full machine is an error here and not a signal at some later store.
    pub fn reserve(&self, at: usize, len: usize) -> Result<()> {
        // A signal undoes what one call has done so far: of short calls some get through.
        let end = at + len;
        let mut pieces = (at..end).step_by(RESERVED);
        pieces.try_for_each(|from| self.allocate(0, from, RESERVED.min(end - from), "cannot reserve shared memory"))
    }

    fn allocate(&self, mode: libc::c_int, at: usize, len: usize, what: &str) -> Result<()> {
        loop {
            // SAFETY: fallocate takes integers only; what it does to the pages is the caller's stated intent, and readers of the
            // mapping see zeros or fresh pages, never a fault, because the file's size is sealed.
            let done = unsafe { libc::fallocate(self.fd.as_raw_fd(), mode, at as libc::off_t, len as libc::off_t) };
            if done == 0 {
                return Ok(());
            }
            let errno = nix::errno::Errno::last_raw();
            if errno != libc::EINTR {
                return Err(Error::from_errno(
                    format!("{what} ({len} bytes)"),
                    errno,
                    "Give this job more memory (cgroup limit, free memory), or lower RINGTREE_STAGING",
                ));
            }
        }
    }
}

impl AsFd for SharedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn descriptor_advice(errno: nix::errno::Errno) -> &'static str {
    match errno {
        nix::errno::Errno::EMFILE => "Raise the limit of open files of this process (ulimit -n)",
        nix::errno::Errno::ENFILE => "The whole system is out of file descriptors (fs.file-max)",
        nix::errno::Errno::ENOSYS | nix::errno::Errno::EPERM => {
            "Allow memfd_create in this container's seccomp profile"
        }
        _ => "Free memory, or raise the memory limit of this job",
    }
}

/// A mapping, unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address range; who may access which bytes when is the business of the protocols above it, which use atomics
// and raw pointers only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed memory of this process alone.
    pub fn private(len: usize) -> Result<Mapping> {
        Mapping::new(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0, len)
    }

    fn new(flags: libc::c_int, fd: libc::c_int, at: usize, len: usize) -> Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing that exists.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len.max(1), protection, flags, fd, at as libc::off_t) };
        if base == libc::MAP_FAILED {
            return Err(Error::system(
                format!("cannot map {len} bytes"),
                "Raise the address space limit (ulimit -v) or the memory limit of this job",
            ));
        }
        let base = NonNull::new(base.cast())
            .ok_or_else(|| Error::start("the kernel mapped memory at address 0", "Report this"))?;
        Ok(Mapping { base, len })
    }

    /// Where it begins.
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Its size.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether its size is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A pointer to `len` bytes at `at`, or nothing if they are not all inside.
    pub fn range(&self, at: usize, len: usize) -> Option<*mut u8> {
        let end = at.checked_add(len)?;
        // SAFETY: `at <= end <= self.len`, so the pointer stays inside the mapping (or one past its end for an empty range).
        (end <= self.len).then(|| unsafe { self.base.as_ptr().add(at) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what mmap returned, and nobody keeps pointers into it longer than the mapping (holders keep an
        // Arc of its owner).
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.len.max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_of_one_file_are_the_same_memory() {
        let file = SharedFile::create("ringtree-test", 1 << 20).unwrap();
        let (one, two) = (file.map(0, 1 << 20).unwrap(), file.map(0, 1 << 20).unwrap());
        // SAFETY: both offsets are inside their mappings; no other thread knows them.
        unsafe {
            one.base().add(4097).write(42);
            assert_eq!(two.base().add(4097).read(), 42);
        }
        file.punch(0, 1 << 20).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { one.base().add(4097).read() }, 0);
    }

    #[test]
    fn a_handed_over_file_of_another_size_is_refused() {
        let file = SharedFile::create("ringtree-test", 8192).unwrap();
        let copy = file.as_fd().try_clone_to_owned().unwrap();
        assert!(SharedFile::adopt(copy, 4096).is_err());
    }

    #[test]
    fn a_handed_over_file_that_is_no_plain_memory_is_refused() {
        // Sealed as it should be, but pages of a file system of huge ones.
        let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_HUGETLB;
        let Ok(fd) = memfd_create(c"ringtree-test", flags) else {
            return println!("left out: this kernel makes no files of huge pages");
        };
        nix::unistd::ftruncate(&fd, 2 << 20).unwrap();
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        assert!(SharedFile::adopt(fd, 2 << 20).is_err());
    }

    #[test]
    fn a_range_past_the_end_is_refused() {
        let mapping = Mapping::private(4096).unwrap();
        assert!(mapping.range(4000, 96).is_some());
        assert!(mapping.range(4000, 97).is_none());
        assert!(mapping.range(usize::MAX, 2).is_none());
    }
}
