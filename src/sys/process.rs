//! Noticing that another process is gone: pidfds, opened while the peer is known to live, shared by all communicators of a process.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// A watched process. Cheap to ask, never confused by a reused pid.
#[derive(Debug)]
pub struct Watched {
    pid: i32,
    /// None where pidfd_open is refused (old kernel, seccomp, no descriptors left): then the pid itself is asked.
    pidfd: Option<OwnedFd>,
}

impl Watched {
    /// Watches that process, which must be known to live now. One descriptor a process, however many communicators.
    pub fn open(pid: i32) -> Arc<Watched> {
        static TABLE: OnceLock<Mutex<HashMap<i32, Weak<Watched>>>> = OnceLock::new();
        let mut table = TABLE.get_or_init(Default::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) = table.get(&pid).and_then(Weak::upgrade).filter(|known| !known.gone()) {
            return known;
        }
        table.retain(|_, watched| watched.strong_count() > 0);
        let watched = Arc::new(Watched { pid, pidfd: pidfd_open(pid) });
        table.insert(pid, Arc::downgrade(&watched));
        watched
    }

    /// The process's number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has ended (a zombie that nobody reaped has).
    pub fn gone(&self) -> bool {
        match &self.pidfd {
            Some(pidfd) => {
                let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
                matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0)
            }
            // That procfs does not tell (hidden, no descriptors left) is no sign of death.
            None => !exists(self.pid) || matches!(state_of(self.pid), Some('Z' | 'X')),
        }
    }

    /// What it is doing, in a word, for error messages.
    pub fn describe(&self) -> &'static str {
        if self.gone() {
            return "gone";
        }
        match state_of(self.pid) {
            Some('T' | 't') => "stopped (SIGSTOP or a debugger)",
            Some('D') => "waiting for a device or a disk",
            Some('R') => "running, outside the library",
            Some(_) => "asleep, outside the library",
            None => "not visible",
        }
    }
}

fn pidfd_open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel just returned this descriptor to us and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether there is a process of that number, of whatever user.
fn exists(pid: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}

/// The state letter of /proc/PID/stat.
fn state_of(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_killed_process_is_gone_even_before_it_is_reaped() {
        let mut child = Command::new("sleep").arg("100").stdin(Stdio::null()).spawn().unwrap();
        let watched = Watched::open(child.id() as i32);
        assert!(!watched.gone());
        assert!(Arc::ptr_eq(&watched, &Watched::open(child.id() as i32)), "one descriptor a process");
        child.kill().unwrap();
        while !watched.gone() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(watched.describe(), "gone");
    }

    #[test]
    fn without_a_descriptor_the_process_is_asked_for_by_its_number() {
        let mut child = Command::new("sleep").arg("100").stdin(Stdio::null()).spawn().unwrap();
        let watched = Watched { pid: child.id() as i32, pidfd: None };
        assert!(!watched.gone());
        child.kill().unwrap();
        while !watched.gone() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(watched.gone());
    }
}
