//! A [`Wire`] on a socket: nothing here ever blocks but [`Connection::await_message`], which has a deadline.

use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown, sockopt};

use super::message::Message;
use super::wire::{DataKeys, Event, Refusal, Wire};
use crate::sys::stream;

/// The longest that one poll sleeps: every loop looks at its deadlines at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// Bytes taken in at once once the other side is trusted; before, only what the handshake needs.
const GULP: usize = 64 * 1024;

/// Why a connection is of no further use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The other side closed it, or its process ended.
    Ended,
    /// It failed with this error number.
    Failed(Errno),
    /// What came is refused.
    Refused(Refusal),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::Ended => write!(f, "the connection was closed"),
            Broken::Failed(errno) => write!(f, "the connection broke ({})", errno.desc()),
            Broken::Refused(refusal) => write!(f, "{refusal}"),
        }
    }
}

/// What came from the other side.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// It has proved that it knows the secret.
    Proved,
    Message(Message),
}

/// One end of an authenticated stream.
pub(crate) struct Connection {
    socket: OwnedFd,
    wire: Wire,
    /// Who is at the other end, for logs.
    pub(crate) peer: String,
    broken: Option<Broken>,
    /// Nothing is taken in beyond the next event: what follows is not for this reader.
    exactly: bool,
}

impl Connection {
    pub(crate) fn over_tcp(stream: TcpStream, wire: Wire, peer: String) -> std::io::Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        // A host that vanishes without a word is noticed by the kernel, not only at the deadline.
        nix::sys::socket::setsockopt(&stream, sockopt::KeepAlive, &true)?;
        Ok(Connection { socket: stream.into(), wire, peer, broken: None, exactly: false })
    }

    pub(crate) fn over_unix(stream: UnixStream, wire: Wire, peer: String) -> std::io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection { socket: stream.into(), wire, peer, broken: None, exactly: false })
    }

    /// Whether nothing is to be taken in beyond the next event.
    pub(crate) fn read_exactly(&mut self, exactly: bool) {
        self.exactly = exactly;
    }

    /// The socket and the keys for it, for those who go on with it in their own way; nothing if there is something left to be said or heard
    /// here.
    pub(crate) fn hand_over(&self) -> Option<(OwnedFd, DataKeys)> {
        let quiet = self.broken.is_none() && self.exactly && !self.wire.has_output() && self.wire.is_drained();
        if quiet { self.socket.try_clone().ok().zip(self.wire.data_keys()) } else { None }
    }

    /// Notices a host that vanishes, though nothing is said.
    pub(crate) fn keep_alive(&self) {
        let socket = &self.socket();
        if let Err(errno) = stream::keep_alive(socket).and_then(|()| stream::expect_a_reader(socket)) {
            log::warn!("a connection to {} will not notice that its host vanishes ({})", self.peer, errno.desc());
        }
    }

    /// Whether it is of no further use.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn has_output(&self) -> bool {
        self.broken.is_none() && self.wire.has_output()
    }

    /// What this connection waits for.
    pub(crate) fn interest(&self) -> PollFd<'_> {
        let out = if self.has_output() { PollFlags::POLLOUT } else { PollFlags::empty() };
        PollFd::new(self.socket.as_fd(), PollFlags::POLLIN | out)
    }

    /// Queues a message and sends what the socket takes now.
    pub(crate) fn send(&mut self, message: &Message) {
        self.wire.send(&message.encode());
        self.flush();
    }

    /// Queues payload bytes that are no [`Message`].
    pub(crate) fn send_bytes(&mut self, payload: &[u8]) {
        self.wire.send(payload);
        self.flush();
    }

    /// Sends what the socket takes now. A failure to send is found when reading: what the other side said last is still to be read.
    pub(crate) fn flush(&mut self) {
        let output = self.wire.output();
        let mut done = 0;
        while done < output.len() {
            match send(self.socket.as_raw_fd(), &output[done..], MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
                Ok(sent) => done += sent,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => {
                    done = output.len();
                }
            }
        }
        output.drain(..done);
    }

    /// Takes in what has arrived, one gulp.
    pub(crate) fn fill(&mut self) {
        let most = if self.wire.is_open() && !self.exactly { GULP } else { self.wire.wants().min(GULP) };
        let mut room = [0; GULP];
        match recv(self.socket.as_raw_fd(), &mut room[..most], MsgFlags::MSG_DONTWAIT) {
            Ok(0) if most > 0 => self.broken = Some(Broken::Ended),
            Ok(count) => self.wire.feed(&room[..count]),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(Errno::ECONNRESET | Errno::EPIPE) => self.broken = Some(Broken::Ended),
            Err(errno) => self.broken = Some(Broken::Failed(errno)),
        }
    }

    /// Bytes that arrived by another way than [`Connection::fill`].
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.wire.feed(bytes);
    }

    /// The next payload among what has been taken in; an error only when all of that is used up.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event>, Broken> {
        let event = match self.wire.next() {
            Err(refusal) => {
                self.broken = Some(Broken::Refused(refusal.clone()));
                return Err(Broken::Refused(refusal));
            }
            Ok(event) => event,
        };
        self.flush();
        match (&event, &self.broken) {
            (None, Some(broken)) => Err(broken.clone()),
            _ => Ok(event),
        }
    }

    /// The next message among what has been taken in.
    pub(crate) fn next(&mut self) -> Result<Option<Arrived>, Broken> {
        Ok(match self.next_event()? {
            None => None,
            Some(Event::Proved) => Some(Arrived::Proved),
            Some(Event::Frame(payload)) => {
                let message = Message::decode(&payload).ok_or(Broken::Refused(Refusal::Malformed))?;
                Some(Arrived::Message(message))
            }
        })
    }

    /// The next message among what has been taken in; a proof is none.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message>, Broken> {
        Ok(match self.next()? {
            Some(Arrived::Message(message)) => Some(message),
            _ => None,
        })
    }

    /// Waits for the next event until the deadline; `None`: it passed.
    pub(crate) fn await_event(&mut self, deadline: Instant) -> Result<Option<Event>, Broken> {
        loop {
            if let Some(event) = self.next_event()? {
                return Ok(Some(event));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            wait(&mut [self.interest()], Some(deadline));
            self.flush();
            self.fill();
        }
    }

    /// Waits for the next message until the deadline; `None`: it passed.
    pub(crate) fn await_message(&mut self, deadline: Instant) -> Result<Option<Message>, Broken> {
        loop {
            match self.await_event(deadline)? {
                None => return Ok(None),
                Some(Event::Proved) => {}
                Some(Event::Frame(payload)) => {
                    return Message::decode(&payload).map(Some).ok_or(Broken::Refused(Refusal::Malformed));
                }
            }
        }
    }

    /// Sends what is queued and waits until the other side has ended the connection, not longer than `limit`.
    pub(crate) fn await_end(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while let Ok(Some(_)) = self.await_event(deadline) {}
    }

    /// Says that nothing more is sent; what the other side still sends can be read.
    pub(crate) fn end_output(&mut self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
    }

    /// Sends what is queued, ends the output and reads until the other side has ended too, so that closing the socket can't destroy what
    /// the other side has not read yet. Not longer than `limit`.
    pub(crate) fn close_gently(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.has_output() && Instant::now() < deadline {
            wait(&mut [self.interest()], Some(deadline));
            self.flush();
            self.fill();
            if self.broken.is_some() {
                return;
            }
        }
        self.end_output();
        self.await_end(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Sleeps until one of these is ready or the deadline has come. Being interrupted counts as nothing ready.
pub(crate) fn wait(fds: &mut [PollFd<'_>], deadline: Option<Instant>) {
    let sleep = deadline.map_or(LONGEST_SLEEP, |at| at.saturating_duration_since(Instant::now()).min(LONGEST_SLEEP));
    // Rounded up: a sleep cut to zero would spin until the deadline.
    let milliseconds = sleep.as_micros().div_ceil(1000) as u16;
    let _ = poll(fds, PollTimeout::from(milliseconds));
}
