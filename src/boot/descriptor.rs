//! The two places where a number becomes an owned descriptor.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A descriptor that the kernel put into this process with a message just now.
pub(crate) fn take_over(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for the SCM_RIGHTS message that it came with. The message is parsed once and nothing else in
    // this process knows the number, so it is open and owned by nobody.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A copy of a descriptor that was inherited under a number, as launchers tell it in the environment; `None`: there is none.
pub(crate) fn copy_inherited(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl with F_DUPFD_CLOEXEC reads and writes no memory of this process; a number that is not open is an error.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: the call above has just made `copy` for us, if it is a descriptor at all.
    (copy >= 0).then(|| unsafe { OwnedFd::from_raw_fd(copy) })
}
