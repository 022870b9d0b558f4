//! A client of PMI version 1, which MPICH's and Intel MPI's process managers speak (and Slurm's with --mpi=pmi2), over the descriptor that
//! PMI_FD names. One line a message: `cmd=put kvsname=… key=… value=…`, answered by `cmd=put_result rc=0 msg=success`.
//!
//! What is put is visible to others after a barrier of all ranks; so the exchange is: rank 0 puts, all do the barrier, the others get.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, send};

use super::connection::wait;
use super::descriptor::copy_inherited;
use crate::{Error, Result};

/// The longest line that is taken in.
const MAX_LINE: usize = 16 * 1024;

/// A conversation with the process manager.
pub(crate) struct Pmi {
    fd: OwnedFd,
    input: Vec<u8>,
    space: String,
    longest: usize,
    deadline: Instant,
}

fn failed(what: impl Into<String>) -> Error {
    Error::start(
        what.into(),
        "Start the job with mpiexec of MPICH or Intel MPI, or set MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE instead",
    )
}

/// The value of a field in a line of `name=value` words; a value with blanks is the last of its line.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

impl Pmi {
    /// Begins the conversation over the inherited descriptor `fd`.
    pub(crate) fn begin(fd: RawFd, deadline: Instant) -> Result<Pmi> {
        let fd = copy_inherited(fd)
            .ok_or_else(|| failed(format!("PMI_FD is {fd}, which is no open descriptor of this process")))?;
        let mut pmi = Pmi { fd, input: Vec::new(), space: String::new(), longest: 0, deadline };
        let hello = pmi.ask("cmd=init pmi_version=1 pmi_subversion=1", "response_to_init")?;
        if field(&hello, "pmi_version") != Some("1") {
            return Err(failed(format!("the process manager does not speak PMI version 1: '{hello}'")));
        }
        let limits = pmi.ask("cmd=get_maxes", "maxes")?;
        pmi.longest = field(&limits, "vallen_max").and_then(|text| text.parse().ok()).unwrap_or(0);
        let space = pmi.ask("cmd=get_my_kvsname", "my_kvsname")?;
        pmi.space = field(&space, "kvsname").unwrap_or_default().to_string();
        Ok(pmi)
    }

    /// Leaves a value under a key, to be seen after the next barrier.
    pub(crate) fn put(&mut self, key: &str, value: &str) -> Result<()> {
        if value.len() >= self.longest {
            let (length, longest) = (value.len(), self.longest);
            return Err(failed(format!("the process manager keeps values below {longest} bytes, {length} are needed")));
        }
        let command = format!("cmd=put kvsname={} key={key} value={value}", self.space);
        self.ask(&command, "put_result").map(drop)
    }

    /// Returns when all ranks have called it.
    pub(crate) fn barrier(&mut self) -> Result<()> {
        self.ask("cmd=barrier_in", "barrier_out").map(drop)
    }

    /// The value under a key.
    pub(crate) fn get(&mut self, key: &str) -> Result<String> {
        let command = format!("cmd=get kvsname={} key={key}", self.space);
        let answer = self.ask(&command, "get_result")?;
        let value = field(&answer, "value");
        value.map(str::to_string).ok_or_else(|| failed(format!("the process manager has no '{key}': '{answer}'")))
    }

    /// Ends the conversation; without it the process manager takes the end of this process for a crash.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.ask("cmd=finalize", "finalize_ack").map(drop)
    }

    fn ask(&mut self, command: &str, answer: &str) -> Result<String> {
        self.say(format!("{command}\n").as_bytes())?;
        let line = self.line()?;
        let refused = field(&line, "rc").is_some_and(|rc| rc != "0");
        if field(&line, "cmd") != Some(answer) || refused {
            let asked = field(command, "cmd").unwrap_or("");
            return Err(failed(format!("the process manager answers '{asked}' with '{line}'")));
        }
        Ok(line)
    }

    fn say(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EAGAIN | Errno::EINTR) => self.sleep(PollFlags::POLLOUT)?,
                Err(errno) => return Err(failed(format!("the process manager is gone ({})", errno.desc()))),
            }
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return String::from_utf8(line)
                    .map(|line| line.trim().to_string())
                    .map_err(|_| failed("the process manager sends what is no text"));
            }
            if self.input.len() > MAX_LINE {
                return Err(failed("the process manager sends a line without end"));
            }
            self.sleep(PollFlags::POLLIN)?;
            let mut room = [0; 4096];
            match nix::unistd::read(&self.fd, &mut room) {
                Ok(0) => return Err(failed("the process manager has closed PMI_FD")),
                Ok(count) => self.input.extend_from_slice(&room[..count]),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(failed(format!("the process manager is gone ({})", errno.desc()))),
            }
        }
    }

    /// Until the process manager can be read from, or written to.
    fn sleep(&self, events: PollFlags) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(self.fd.as_fd(), events)];
            wait(&mut fds, Some(self.deadline));
            if fds[0].revents().is_some_and(|events| !events.is_empty()) {
                return Ok(());
            }
            if Instant::now() >= self.deadline {
                return Err(failed("the process manager does not answer, or not all ranks have come"));
            }
        }
    }
}

#[cfg(test)]
#[path = "pmi_tests.rs"]
pub(crate) mod tests;
