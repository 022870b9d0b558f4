//! Connecting to a gate: by the Unix socket where both are on one host, else by TCP; again and again until the deadline, because a gate that
//! is busy sends people away and a gate that is not yet there refuses them.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, UnixAddr, bind, connect, getsockopt, socket, sockopt,
};

use super::connection::{Broken, Connection};
use super::host::{host_mark, out_of_descriptors, random, socket_name};
use super::message::{Endpoint, Message};
use super::wire::{Event, Refusal, Secret, Wire};
use crate::{Error, Result};

/// The first and the longest pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// The longest that one try to connect by TCP takes.
const ONE_TRY: Duration = Duration::from_secs(2);

/// A place to connect to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// An abstract Unix socket, and TCP where that does not answer.
    Unix { name: Vec<u8>, otherwise: Option<SocketAddr> },
    Tcp {
        /// The address to leave this host from, where that matters.
        from: Option<IpAddr>,
        to: SocketAddr,
    },
}

impl Target {
    /// By TCP, from wherever the kernel likes.
    pub(crate) fn tcp(to: SocketAddr) -> Target {
        Target::Tcp { from: None, to }
    }

    /// How this process reaches an endpoint, if it can.
    pub(crate) fn of(endpoint: &Endpoint) -> Result<Option<Target>> {
        if endpoint.host == host_mark()? {
            return Ok(Some(Target::Unix { name: socket_name(&endpoint.unix), otherwise: endpoint.tcp }));
        }
        Ok(endpoint.tcp.map(Target::tcp))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Unix { name, otherwise: None } => write!(f, "@{}", String::from_utf8_lossy(name)),
            Target::Unix { name, otherwise: Some(tcp) } => write!(f, "@{} or {tcp}", String::from_utf8_lossy(name)),
            Target::Tcp { to, .. } => write!(f, "{to}"),
        }
    }
}

/// How to connect.
pub(crate) struct Dial<'a> {
    pub(crate) target: &'a Target,
    pub(crate) secret: &'a Secret,
    pub(crate) context: &'a str,
    pub(crate) deadline: Instant,
    /// Whether nobody listening means "not yet" and not "no more".
    pub(crate) patient: bool,
    /// The longest frame to be expected.
    pub(crate) limit: usize,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Nobody listens there.
    Nobody,
    /// Who listens there does not know the secret, or is something else.
    Stranger(Refusal),
    /// The other side hung up again and again, said nothing, or can't be reached. With the last reason.
    Late(String),
    /// What was being watched meanwhile has something to say.
    Interrupted,
    /// This process has no descriptors left: waiting does not help.
    Starved(Errno),
}

impl NoAnswer {
    /// The error of a process without descriptors.
    pub(crate) fn starved(errno: Errno, doing: &str) -> Error {
        Error::from_errno(doing, errno as i32, "Raise the limit of open files of this process (`ulimit -n`)")
    }
}

/// Why one try failed.
enum Setback {
    Final(NoAnswer),
    Again(String),
}

impl Dial<'_> {
    /// Connects and proves the secret; again and again until it succeeds. `interrupted` is asked between waits.
    pub(crate) fn prove(&self, interrupted: &mut dyn FnMut() -> bool) -> std::result::Result<Connection, NoAnswer> {
        self.persist(interrupted, |dial, interrupted| {
            let mut connection = dial.open(interrupted)?;
            match dial.next_event(&mut connection, interrupted)? {
                Event::Proved => Ok(connection),
                Event::Frame(_) => Err(Setback::Final(NoAnswer::Stranger(Refusal::Malformed))),
            }
        })
    }

    /// Connects, proves, says `first` and waits for the first answer. A gate that is busy may hang up before it answers: then once more.
    pub(crate) fn ask(
        &self,
        first: &[u8],
        interrupted: &mut dyn FnMut() -> bool,
    ) -> std::result::Result<(Connection, Vec<u8>), NoAnswer> {
        self.persist(interrupted, |dial, interrupted| {
            let mut connection = dial.open(interrupted)?;
            loop {
                match dial.next_event(&mut connection, interrupted)? {
                    Event::Proved => connection.send_bytes(first),
                    Event::Frame(answer) => return Ok((connection, answer)),
                }
            }
        })
    }

    fn persist<T>(
        &self,
        interrupted: &mut dyn FnMut() -> bool,
        mut attempt: impl FnMut(&Self, &mut dyn FnMut() -> bool) -> std::result::Result<T, Setback>,
    ) -> std::result::Result<T, NoAnswer> {
        let mut pause = FIRST_PAUSE;
        loop {
            if interrupted() {
                return Err(NoAnswer::Interrupted);
            }
            let why = match attempt(self, interrupted) {
                Ok(done) => return Ok(done),
                Err(Setback::Final(why)) => return Err(why),
                Err(Setback::Again(why)) => why,
            };
            if Instant::now() + pause >= self.deadline {
                return Err(NoAnswer::Late(why));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn open(&self, interrupted: &mut dyn FnMut() -> bool) -> std::result::Result<Connection, Setback> {
        let mut connection = self.connect(interrupted).map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused if !self.patient => Setback::Final(NoAnswer::Nobody),
            _ => match out_of_descriptors(&error) {
                Some(errno) => Setback::Final(NoAnswer::Starved(errno)),
                None => Setback::Again(error.to_string()),
            },
        })?;
        connection.wire().expect_up_to(self.limit);
        // Who asks may go on with the bare socket: nothing is read beyond the answer.
        connection.read_exactly(true);
        connection.flush();
        Ok(connection)
    }

    fn next_event(
        &self,
        connection: &mut Connection,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> std::result::Result<Event, Setback> {
        loop {
            // Short waits, so that an interruption is not missed.
            let slice = self.deadline.min(Instant::now() + LONGEST_PAUSE);
            match connection.await_event(slice) {
                Ok(Some(event)) => return Ok(event),
                Ok(None) if interrupted() => return Err(Setback::Final(NoAnswer::Interrupted)),
                Ok(None) if Instant::now() >= self.deadline => {
                    let why = "it took the connection and did not answer".to_string();
                    return Err(Setback::Final(NoAnswer::Late(why)));
                }
                Ok(None) => {}
                Err(Broken::Refused(refusal)) => return Err(Setback::Final(NoAnswer::Stranger(refusal))),
                Err(broken) => return Err(Setback::Again(broken.to_string())),
            }
        }
    }

    fn connect(&self, interrupted: &mut dyn FnMut() -> bool) -> std::io::Result<Connection> {
        let nonce = random().map_err(|error| std::io::Error::other(error.to_string()))?;
        let wire = Wire::client(self.secret, self.context, nonce);
        let (from, tcp) = match self.target {
            Target::Tcp { from, to } => (*from, *to),
            Target::Unix { name, otherwise } => match (connect_unix(name), otherwise) {
                (Ok(stream), _) => return Connection::over_unix(stream, wire, "a process of this host".into()),
                (Err(Errno::ECONNREFUSED), Some(address)) => (None, *address),
                (Err(errno), _) => return Err(errno.into()),
            },
        };
        let limit = self.deadline.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), ONE_TRY);
        let stream = connect_tcp(from, tcp, limit, interrupted)?;
        // A port of this host that nobody listens on can be connected with itself.
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(Errno::ECONNREFUSED.into());
        }
        Connection::over_tcp(stream, wire, tcp.to_string())
    }
}

/// Connects, from that address of this host where it matters. A host that falls silent does not hold up whoever has been interrupted.
fn connect_tcp(
    from: Option<IpAddr>,
    to: SocketAddr,
    limit: Duration,
    interrupted: &mut dyn FnMut() -> bool,
) -> std::io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    if let Some(from) = from {
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    }
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    let end = Instant::now() + limit;
    loop {
        let slice = end.saturating_duration_since(Instant::now()).min(LONGEST_PAUSE);
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fds, PollTimeout::try_from(slice).unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(Errno::EINTR) if Instant::now() >= end || interrupted() => {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    match getsockopt(&socket, sockopt::SocketError)? {
        0 => {}
        errno => return Err(std::io::Error::from_raw_os_error(errno)),
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Connects without ever waiting (EAGAIN: the other side's queue is full), and only to a process of the same user.
fn connect_unix(name: &[u8]) -> nix::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new_abstract(name)?)?;
    let owner = getsockopt(&socket, sockopt::PeerCredentials)?;
    if owner.uid() != nix::unistd::geteuid().as_raw() {
        log::warn!(
            "bootstrap: the socket @{} belongs to user {}, process {}; not ours",
            String::from_utf8_lossy(name),
            owner.uid(),
            owner.pid()
        );
        return Err(Errno::ECONNREFUSED);
    }
    Ok(UnixStream::from(socket))
}

/// [`Dial::ask`] with messages.
pub(crate) fn ask(
    dial: &Dial<'_>,
    first: &Message,
    interrupted: &mut dyn FnMut() -> bool,
) -> std::result::Result<(Connection, Message), NoAnswer> {
    let (connection, answer) = dial.ask(&first.encode(), interrupted)?;
    let message = Message::decode(&answer).ok_or(NoAnswer::Stranger(Refusal::Malformed))?;
    Ok((connection, message))
}
