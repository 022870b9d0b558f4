//! The poll loop: output, input, signals, ends. One thread and no blocking call, so that a signal is acted upon even while whoever
//! reads our output has stopped reading.

use super::child::Child;
use super::lines::Lines;
use super::{Job, Output};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{getpgrp, read, write};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Output that waits for its reader: beyond this, the ranks' pipes are left to fill up, and they wait.
const MAX_PENDING: usize = 1 << 20;
/// Written at once: a pipe that polls writable takes this much without blocking.
const PIECE: usize = 4096;
/// Between SIGTERM and SIGKILL.
const TO_KILL: Duration = Duration::from_secs(5);
/// How long a pipe is still read after the last rank has ended: something that left its process group may hold it open.
const TO_DRAIN: Duration = Duration::from_secs(1);

/// Passed on to the ranks.
const FORWARDED: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
];

/// The signals that the loop reads from a descriptor in place of being interrupted by them; let through again when dropped.
pub(super) struct Signals {
    descriptor: SignalFd,
    before: SigSet,
}

impl Signals {
    pub(super) fn block() -> nix::Result<Signals> {
        let mut mask = SigSet::empty();
        FORWARDED.iter().for_each(|&signal| mask.add(signal));
        mask.add(Signal::SIGCHLD);
        mask.add(Signal::SIGTSTP);
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), Some(&mut before))?;
        // What ranks leave behind becomes a child of ours; many a container's first process never reaps what it inherits.
        nix::sys::prctl::set_child_subreaper(true)?;
        let descriptor = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { descriptor, before })
    }

    /// The mask as it was: the ranks get it.
    pub(super) fn before(&self) -> SigSet {
        self.before
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// One of a rank's two outputs.
struct Stream {
    pipe: OwnedFd,
    lines: Lines,
    /// 0 for our standard output, 1 for our standard error output.
    sink: usize,
}

/// One of our two outputs.
#[derive(Default)]
struct Sink {
    pending: Vec<u8>,
    closed: bool,
}

/// What is typed on our terminal, on its way to rank 0.
struct Typed {
    to: OwnedFd,
    pending: Vec<u8>,
}

/// What a polled descriptor is.
#[derive(Clone, Copy)]
enum Token {
    Signals,
    Stream(usize),
    Sink(usize),
    Terminal,
    Typed,
}

/// What happens to ranks that do not end by themselves.
enum Patience {
    Endless,
    UntilTerm(Instant),
    UntilKill(Instant),
    Over,
}

pub(super) struct Watch {
    children: Vec<Child>,
    signals: Signals,
    streams: Vec<Option<Stream>>,
    sinks: [Sink; 2],
    typed: Option<Typed>,
    grace: Duration,
    patience: Patience,
    /// The exit code of the first rank that failed.
    failed: Option<u8>,
    drain_until: Option<Instant>,
}

impl Watch {
    pub(super) fn new(job: &Job, mut children: Vec<Child>, signals: Signals) -> Watch {
        let mut streams = Vec::new();
        let mut typed = None;
        for child in &mut children {
            let prefix = match job.output {
                Output::Lines { tagged: true } => format!("[{}] ", child.rank),
                _ => String::new(),
            };
            let (stdin, stdout, stderr) = child.take_pipes();
            typed = typed.or(stdin.map(|to| Typed { to: to.into(), pending: Vec::new() }));
            let pipes = [stdout.map(OwnedFd::from), stderr.map(OwnedFd::from)];
            for (sink, pipe) in pipes.into_iter().enumerate() {
                streams.extend(pipe.map(|pipe| Some(Stream { pipe, lines: Lines::new(prefix.clone()), sink })));
            }
        }
        Watch {
            children,
            signals,
            streams,
            sinks: Default::default(),
            typed,
            grace: job.grace,
            patience: Patience::Endless,
            failed: None,
            drain_until: None,
        }
    }

    /// Until every rank has ended and everything they wrote is written.
    pub(super) fn run(mut self) -> io::Result<u8> {
        self.look_for_ends()?;
        while self.goes_on() {
            for token in self.wait()? {
                match token {
                    Token::Signals => self.read_signals()?,
                    Token::Stream(at) => self.read_stream(at),
                    Token::Sink(at) => self.write_sink(at),
                    Token::Terminal => self.read_terminal(),
                    Token::Typed => self.pass_on_typed(),
                }
            }
            self.act_on_time();
        }
        Ok(self.failed.unwrap_or(0))
    }

    fn goes_on(&self) -> bool {
        let writing = self.sinks.iter().any(|sink| !sink.pending.is_empty());
        self.children.iter().any(Child::alive) || self.streams.iter().any(Option::is_some) || writing
    }

    /// Sleeps until something can be done, and says what.
    fn wait(&self) -> io::Result<Vec<Token>> {
        let stdin = io::stdin();
        let (output, errors) = (io::stdout(), io::stderr());
        let mut polled: Vec<(Token, PollFd<'_>)> = Vec::new();
        let mut add = |token, descriptor, flags| polled.push((token, PollFd::new(descriptor, flags)));
        add(Token::Signals, self.signals.descriptor.as_fd(), PollFlags::POLLIN);
        for (at, stream) in self.streams.iter().enumerate() {
            if let Some(stream) = stream.as_ref().filter(|stream| self.sinks[stream.sink].pending.len() < MAX_PENDING) {
                add(Token::Stream(at), stream.pipe.as_fd(), PollFlags::POLLIN);
            }
        }
        for (at, descriptor) in [output.as_fd(), errors.as_fd()].into_iter().enumerate() {
            if !self.sinks[at].pending.is_empty() {
                add(Token::Sink(at), descriptor, PollFlags::POLLOUT);
            }
        }
        if let Some(typed) = &self.typed {
            if !typed.pending.is_empty() {
                add(Token::Typed, typed.to.as_fd(), PollFlags::POLLOUT);
            } else if in_foreground(stdin.as_fd()) {
                add(Token::Terminal, stdin.as_fd(), PollFlags::POLLIN);
            }
        }
        let (tokens, mut descriptors): (Vec<Token>, Vec<PollFd<'_>>) = polled.into_iter().unzip();
        match poll(&mut descriptors, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = descriptors.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        Ok(tokens.into_iter().zip(ready).filter_map(|(token, ready)| ready.then_some(token)).collect())
    }

    fn timeout(&self) -> PollTimeout {
        let patience = match self.patience {
            Patience::UntilTerm(at) | Patience::UntilKill(at) => Some(at),
            Patience::Endless | Patience::Over => None,
        };
        let Some(next) = [patience, self.drain_until].into_iter().flatten().min() else { return PollTimeout::NONE };
        // One more, so that the moment has passed when the sleep is over.
        let millis = next.saturating_duration_since(Instant::now()).as_millis() + 1;
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    }

    fn read_signals(&mut self) -> io::Result<()> {
        while let Some(info) = self.signals.descriptor.read_signal()? {
            let Ok(signal) = Signal::try_from(info.ssi_signo as i32) else { continue };
            match signal {
                Signal::SIGCHLD => self.look_for_ends()?,
                Signal::SIGTSTP => {
                    self.children.iter().for_each(|child| child.signal(Signal::SIGSTOP));
                    raise(Signal::SIGSTOP)?;
                    self.children.iter().for_each(|child| child.signal(Signal::SIGCONT));
                }
                signal => {
                    self.children.iter().for_each(|child| child.signal(signal));
                    // Nobody is left to act on it but ourselves: what can't be written is given up.
                    if signal != Signal::SIGCONT && !self.children.iter().any(Child::alive) {
                        self.streams.clear();
                        self.sinks.iter_mut().for_each(|sink| sink.pending.clear());
                        self.failed = self.failed.or(Some(128 + signal as i32 as u8));
                    }
                }
            }
        }
        Ok(())
    }

    fn look_for_ends(&mut self) -> io::Result<()> {
        for at in 0..self.children.len() {
            let Some(code) = self.children[at].ended()?.filter(|&code| code != 0) else { continue };
            if self.failed.is_some() {
                continue;
            }
            self.failed = Some(code);
            self.patience = Patience::UntilTerm(Instant::now() + self.grace);
            let how = if code > 128 {
                let name = Signal::try_from(code as i32 - 128).map_or("a signal", Signal::as_str);
                format!("was ended by {name}")
            } else {
                format!("ended with exit code {code}")
            };
            self.say(&format!("rank {} {how}", self.children[at].rank));
        }
        self.reap_orphans();
        if !self.children.iter().any(Child::alive) {
            self.drain_until.get_or_insert(Instant::now() + TO_DRAIN);
        }
        Ok(())
    }

    /// What ranks started and left behind is inherited by the launcher (see [`Signals::block`]) and must not stay as a zombie. A rank that
    /// has ended since it was looked at is left alone: its own SIGCHLD is still to be read.
    fn reap_orphans(&self) {
        while let Ok(status) = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) {
            let Some(orphan) = status.pid() else { break };
            if self.children.iter().any(|child| child.is(orphan))
                || waitpid(orphan, Some(WaitPidFlag::WNOHANG)).is_err()
            {
                break;
            }
        }
    }

    /// A line of the launcher's own, between the lines of the ranks.
    fn say(&mut self, text: &str) {
        self.sinks[1].pending.extend_from_slice(format!("ringtree: {text}\n").as_bytes());
    }

    fn act_on_time(&mut self) {
        let now = Instant::now();
        let alive: Vec<String> =
            self.children.iter().filter(|child| child.alive()).map(|child| child.rank.to_string()).collect();
        match self.patience {
            _ if alive.is_empty() => self.patience = Patience::Over,
            Patience::UntilTerm(at) if at <= now => {
                let grace = self.grace.as_secs_f64();
                self.say(&format!("after {grace} s still running, and sent SIGTERM: {}", alive.join(", ")));
                self.children.iter().for_each(|child| child.signal(Signal::SIGTERM));
                // A stopped process acts on SIGTERM only when it goes on.
                self.children.iter().for_each(|child| child.signal(Signal::SIGCONT));
                self.patience = Patience::UntilKill(now + TO_KILL);
            }
            Patience::UntilKill(at) if at <= now => {
                self.say(&format!("still running, and killed: {}", alive.join(", ")));
                self.children.iter_mut().for_each(Child::end_now);
                self.drain_until.get_or_insert(now + TO_DRAIN);
                self.patience = Patience::Over;
            }
            _ => {}
        }
        if self.drain_until.is_some_and(|at| at <= now) {
            for at in 0..self.streams.len() {
                self.end_stream(at);
            }
            self.drain_until = None;
        }
    }

    fn read_stream(&mut self, at: usize) {
        let Some(stream) = self.streams.get_mut(at).and_then(Option::as_mut) else { return };
        let mut bytes = [0; 65536];
        match read(&stream.pipe, &mut bytes) {
            Ok(0) => self.end_stream(at),
            Ok(count) => stream.lines.push(&bytes[..count], &mut self.sinks[stream.sink].pending),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.end_stream(at),
        }
    }

    fn end_stream(&mut self, at: usize) {
        if let Some(mut stream) = self.streams.get_mut(at).and_then(Option::take) {
            let sink = &mut self.sinks[stream.sink];
            if !sink.closed {
                stream.lines.finish(&mut sink.pending);
            }
        }
    }

    fn write_sink(&mut self, at: usize) {
        let pending = &mut self.sinks[at].pending;
        let piece = &pending[..pending.len().min(PIECE)];
        let written = if at == 0 { write(io::stdout(), piece) } else { write(io::stderr(), piece) };
        match written {
            Ok(count) => drop(pending.drain(..count)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // Whoever read it has gone: the ranks' pipes are closed too, so that they learn it as they would without us.
            Err(_) => {
                self.sinks[at] = Sink { pending: Vec::new(), closed: true };
                self.streams
                    .iter_mut()
                    .filter(|stream| stream.as_ref().is_some_and(|s| s.sink == at))
                    .for_each(|stream| *stream = None);
            }
        }
    }

    fn read_terminal(&mut self) {
        let Some(typed) = &mut self.typed else { return };
        let mut bytes = [0; 4096];
        match read(io::stdin(), &mut bytes) {
            Ok(count) if count > 0 => typed.pending.extend_from_slice(&bytes[..count]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // End of input, or a terminal that has gone: closing the pipe tells rank 0.
            _ => self.typed = None,
        }
    }

    fn pass_on_typed(&mut self) {
        let Some(typed) = &mut self.typed else { return };
        match write(&typed.to, &typed.pending[..typed.pending.len().min(PIECE)]) {
            Ok(count) => drop(typed.pending.drain(..count)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.typed = None,
        }
    }
}

/// Whether this process may read from that terminal without being stopped.
fn in_foreground(terminal: BorrowedFd<'_>) -> bool {
    // SAFETY: the call takes a number, touches no memory of ours, and the borrow keeps the descriptor open meanwhile.
    let group = unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) };
    group == getpgrp().as_raw()
}
