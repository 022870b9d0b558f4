//! Starting one rank.

use super::{Job, Output};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpid, getppid};
use std::io::{self, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

/// A rank that was started.
pub(super) struct Child {
    pub(super) rank: u32,
    process: std::process::Child,
    alive: bool,
}

/// Starts one rank. `before` is the signal mask that the launcher was started with.
pub(super) fn start(job: &Job, rank: u32, id: &str, before: SigSet) -> io::Result<Child> {
    let mut command = Command::new(&job.program);
    command
        .args(&job.args)
        .env("RINGTREE_RANK", rank.to_string())
        .env("RINGTREE_SIZE", job.ranks.to_string())
        .env("RINGTREE_LOCAL_RANK", rank.to_string())
        .env("RINGTREE_ID", id);
    command.stdin(stdin_of(rank));
    if job.output != Output::Direct {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    // A group of its own, so that what a rank starts can be ended with it.
    command.process_group(0);
    let launcher = getpid();
    let before_exec = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The launcher may have died before that line: then nobody will send the signal.
        if getppid() != launcher {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed. It makes three system calls
    // (prctl, getppid, sigprocmask), touches only values copied into it, and allocates nothing: its errors are numbers.
    unsafe { command.pre_exec(before_exec) };
    Ok(Child { rank, process: command.spawn()?, alive: true })
}

/// Rank 0 reads what the launcher would read. A terminal can't be handed on: the rank's group is not in its foreground, so that
/// a read would stop it; the watch loop passes on what is typed.
fn stdin_of(rank: u32) -> Stdio {
    match rank {
        0 if io::stdin().is_terminal() => Stdio::piped(),
        0 => Stdio::inherit(),
        _ => Stdio::null(),
    }
}

impl Child {
    fn group(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    /// Whether that is this rank, not yet reaped.
    pub(super) fn is(&self, process: Pid) -> bool {
        self.alive && self.group() == process
    }

    pub(super) fn alive(&self) -> bool {
        self.alive
    }

    pub(super) fn take_pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (self.process.stdin.take(), self.process.stdout.take(), self.process.stderr.take())
    }

    /// Sends a signal to the rank and to what it started. One that has ended since is no error.
    pub(super) fn signal(&self, signal: Signal) {
        if self.alive {
            let _ = killpg(self.group(), signal);
        }
    }

    /// If the rank has ended: its exit code. What it started and left behind is ended too.
    pub(super) fn ended(&mut self) -> io::Result<Option<u8>> {
        if !self.alive {
            return Ok(None);
        }
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        if waitid(Id::Pid(self.group()), flags)? == WaitStatus::StillAlive {
            return Ok(None);
        }
        self.reap().map(Some)
    }

    /// Ends the rank and everything it started, now.
    pub(super) fn end_now(&mut self) {
        if self.alive {
            let _ = self.reap();
        }
    }

    /// The group is ended before its leader is reaped: until then the leader's number can't belong to anybody else.
    fn reap(&mut self) -> io::Result<u8> {
        let _ = killpg(self.group(), Signal::SIGKILL);
        let status = self.process.wait()?;
        self.alive = false;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end_now();
    }
}
