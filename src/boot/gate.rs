//! The gate: takes connections and lets through those that prove the secret. Whatever else knocks is refused, logged and forgotten.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{getsockopt, sockopt};

use super::connection::{Arrived, Broken, Connection};
use super::host::{Listener, random};
use super::wire::{Secret, Wire};

/// How long a stranger may take to prove the secret.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How many strangers may be at it, beside one for each rank that is expected.
const STRANGERS: usize = 64;
/// How many are taken in before those inside are served again.
const AT_ONCE: usize = 16;
/// How long no connection is taken after the system refused one (too few descriptors): trying on and on would only burn a core.
const PAUSE: Duration = Duration::from_millis(50);

struct Stranger {
    connection: Connection,
    until: Instant,
}

/// Listeners, and those who knocked and have not yet proved the secret.
pub(crate) struct Gate {
    listeners: Vec<Listener>,
    secret: Secret,
    context: String,
    /// Oldest first.
    strangers: VecDeque<Stranger>,
    room: usize,
    paused_until: Option<Instant>,
    /// Since when connections have been refused by the system, and why.
    starved: Option<(Instant, Errno)>,
}

impl Gate {
    pub(crate) fn new(listeners: Vec<Listener>, secret: &Secret, context: &str) -> Gate {
        Gate {
            listeners,
            secret: *secret,
            context: context.to_string(),
            strangers: VecDeque::new(),
            room: STRANGERS,
            paused_until: None,
            starved: None,
        }
    }

    /// Since when no connection could be taken, and the system's reason.
    pub(crate) fn starved(&self) -> Option<(Instant, Errno)> {
        self.starved
    }

    /// So many ranks will come.
    pub(crate) fn expect(&mut self, ranks: usize) {
        self.room = STRANGERS + ranks;
    }

    /// Takes nobody any more.
    pub(crate) fn close(&mut self) {
        self.listeners.clear();
        self.strangers.clear();
        self.paused_until = None;
    }

    /// What the gate waits for; [`Gate::serve`] takes the answers in this order.
    pub(crate) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        for listener in &self.listeners {
            let fd = match listener {
                Listener::Tcp(tcp) => tcp.as_fd(),
                Listener::Unix(unix) => unix.as_fd(),
            };
            let events = if self.paused_until.is_some() { PollFlags::empty() } else { PollFlags::POLLIN };
            fds.push(PollFd::new(fd, events));
        }
        fds.extend(self.strangers.iter().map(|stranger| stranger.connection.interest()));
    }

    /// How many [`Gate::watch`] adds.
    pub(crate) fn watched(&self) -> usize {
        self.listeners.len() + self.strangers.len()
    }

    /// When the gate has to look again even if nobody moves.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.strangers.front().map(|stranger| stranger.until).into_iter().chain(self.paused_until).min()
    }

    /// Goes on with everybody who is ready; those who have proved the secret now.
    pub(crate) fn serve(&mut self, ready: &[bool], now: Instant) -> Vec<Connection> {
        self.paused_until = self.paused_until.filter(|until| now < *until);
        let (doors, inside) = ready.split_at(self.listeners.len());
        let mut trusted = Vec::new();
        let mut waiting = VecDeque::with_capacity(self.strangers.len());
        for (at, mut stranger) in std::mem::take(&mut self.strangers).into_iter().enumerate() {
            match question(&mut stranger.connection, inside.get(at).copied().unwrap_or(false)) {
                Ok(true) => trusted.push(stranger.connection),
                Ok(false) if now < stranger.until => waiting.push_back(stranger),
                Ok(false) => refuse(&stranger.connection, "it did not prove the job's secret within 5 s"),
                Err(Broken::Ended) => {
                    refuse(
                        &stranger.connection,
                        "it hung up before it proved the job's secret (who has another id does so)",
                    );
                }
                Err(broken) => refuse(&stranger.connection, &broken.to_string()),
            }
        }
        self.strangers = waiting;
        for (at, _) in doors.iter().enumerate().filter(|(_, ready)| **ready) {
            self.take_in(at, now);
        }
        trusted
    }

    fn take_in(&mut self, door: usize, now: Instant) {
        for _ in 0..AT_ONCE {
            match self.accept(door) {
                Ok(Some(connection)) => {
                    if self.strangers.len() >= self.room
                        && let Some(oldest) = self.strangers.pop_front()
                    {
                        refuse(
                            &oldest.connection,
                            "too many connections wait to prove the job's secret, it was the oldest",
                        );
                    }
                    self.strangers.push_back(Stranger { connection, until: now + HANDSHAKE });
                    self.starved = None;
                }
                Ok(None) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ECONNABORTED)) => {}
                Err(error) => {
                    if self.starved.is_none() {
                        log::warn!(
                            "bootstrap: no connection can be taken ({error}); raise the limit of open files (`ulimit -n`)"
                        );
                    }
                    let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                    self.starved.get_or_insert((now, errno));
                    self.paused_until = Some(now + PAUSE);
                    return;
                }
            }
        }
    }

    /// The next connection of a listener; `None`: somebody came and was sent away.
    fn accept(&self, door: usize) -> std::io::Result<Option<Connection>> {
        let nonce = random().map_err(|error| std::io::Error::other(error.to_string()))?;
        let wire = Wire::server(&self.secret, &self.context, nonce);
        match &self.listeners[door] {
            Listener::Tcp(listener) => accept_tcp(listener, wire),
            Listener::Unix(listener) => accept_unix(listener, wire),
        }
    }
}

fn accept_tcp(listener: &TcpListener, wire: Wire) -> std::io::Result<Option<Connection>> {
    let (stream, from) = listener.accept()?;
    Ok(Connection::over_tcp(stream, wire, from.to_string()).ok())
}

fn accept_unix(listener: &UnixListener, wire: Wire) -> std::io::Result<Option<Connection>> {
    let (stream, _) = listener.accept()?;
    let Ok(who) = getsockopt(&stream, sockopt::PeerCredentials) else { return Ok(None) };
    let peer = format!("process {} of user {}", who.pid(), who.uid());
    if who.uid() != nix::unistd::geteuid().as_raw() {
        log::warn!("bootstrap: refused {peer}: the job belongs to user {}", nix::unistd::geteuid());
        return Ok(None);
    }
    Ok(Connection::over_unix(stream, wire, peer).ok())
}

/// Whether this stranger has proved the secret.
fn question(connection: &mut Connection, ready: bool) -> Result<bool, Broken> {
    if !ready {
        return Ok(false);
    }
    connection.fill();
    connection.flush();
    match connection.next()? {
        Some(Arrived::Proved) => Ok(true),
        _ => Ok(false),
    }
}

fn refuse(connection: &Connection, why: &str) {
    log::warn!("bootstrap: refused {}: {why}", connection.peer);
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
