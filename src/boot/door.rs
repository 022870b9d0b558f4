//! Handing a file descriptor to ranks of the same host. The giver's door is an abstract Unix socket with a random name; who comes must belong
//! to the same user, prove the job's secret and say which rank it is and which descriptor it wants.
//!
//! ```text
//!   receiver ──proof, "rank 5 asks for the 2nd"──> giver's door
//!            <──frame "the 2nd" + SCM_RIGHTS────
//! ```

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::connection::{Broken, Connection, wait};
use super::descriptor::take_over;
use super::dial::{Dial, NoAnswer, Target};
use super::failure::Failure;
use super::host::socket_name;
use super::message::Message;
use super::rendezvous::{Rendezvous, door_context};
use super::wire::{Event, Refusal, SMALL_FRAME};
use crate::{Error, Result};

/// The most bytes of the one frame that carries a descriptor.
const FRAME: usize = 256;
/// The pause before a giver that hung up is asked again.
const AGAIN: Duration = Duration::from_millis(5);
/// How long a giver without descriptors waits for some to become free.
const STARVING: Duration = Duration::from_secs(1);
/// How long a giver whose door is gone may go on living as far as its hub knows.
const OBITUARY: Duration = Duration::from_millis(500);

impl Rendezvous {
    /// Hands a descriptor to all others of `group`, of which this must be the lowest rank, and which must be on this host. The others call
    /// [`Rendezvous::receive_fd`]. Returns when all have it.
    pub fn share_fd(&mut self, group: &[usize], fd: BorrowedFd<'_>) -> Result<()> {
        if group.iter().min() != Some(&self.rank) {
            return Err(Error::misuse(
                format!("rank {} shares a descriptor with the ranks {group:?}", self.rank),
                "The lowest rank of the group shares, the others receive",
            ));
        }
        if let Some(far) = group.iter().find(|rank| !self.same_host(**rank)) {
            return Err(not_here("share a descriptor with", *far));
        }
        let mut left: Vec<usize> = group.iter().copied().filter(|rank| *rank != self.rank).collect();
        left.sort_unstable();
        left.dedup();
        for rank in &left {
            *self.shared.entry(*rank).or_default() += 1;
        }
        let deadline = Instant::now() + self.timeout;
        let mut guests: Vec<Connection> = Vec::new();
        let mut waiting = std::mem::take(&mut self.early);
        while !left.is_empty() {
            self.serve_those_who_asked(&mut waiting, &mut left, fd);
            if left.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                return Err(self.give_up(Failure::Late {
                    ranks: left,
                    what: format!("rank {} shares a descriptor with them", self.rank),
                    limit_ms: self.timeout.as_millis() as u64,
                }));
            }
            self.open_the_door(&mut guests, deadline);
            if let Some((since, errno)) = self.door.starved()
                && since.elapsed() > STARVING
            {
                return Err(self.starve(errno, "handing shared memory to the other ranks"));
            }
            self.look_for_news("share_fd")?;
            guests = self.hear(guests, &mut waiting);
        }
        self.early = waiting;
        Ok(())
    }

    /// This process has no descriptors left: the others hear of it, this rank gets the system's own error.
    fn starve(&mut self, errno: Errno, doing: &str) -> Error {
        let error = NoAnswer::starved(errno, doing);
        self.give_up(Failure::Aborted { rank: self.rank, reason: error.to_string() });
        error
    }

    fn open_the_door(&mut self, guests: &mut Vec<Connection>, deadline: Instant) {
        let mut fds = vec![self.hub().interest()];
        self.door.watch(&mut fds);
        let doors = fds.len();
        fds.extend(guests.iter().map(|guest| guest.interest()));
        let until = self.door.deadline().map_or(deadline, |at| at.min(deadline));
        wait(&mut fds, Some(until));
        let ready: Vec<bool> =
            fds.iter().map(|fd| fd.revents().is_some_and(|events| events != PollFlags::empty())).collect();
        drop(fds);
        for (guest, ready) in guests.iter_mut().zip(&ready[doors..]) {
            if *ready {
                guest.fill();
            }
        }
        guests.extend(self.door.serve(&ready[1..doors], Instant::now()));
    }

    /// Which of the trusted guests have said who they are; the others stay guests.
    fn hear(&self, guests: Vec<Connection>, waiting: &mut Vec<(usize, u64, Connection)>) -> Vec<Connection> {
        let mut quiet = Vec::new();
        for mut guest in guests {
            match guest.next_message() {
                Ok(None) => quiet.push(guest),
                // Each other rank waits for one descriptor at a time.
                Ok(Some(Message::Ask { rank, number })) if self.same_host(rank) && waiting.len() < self.size => {
                    // A rank that lost its connection and comes again is heard once.
                    waiting.retain(|(known, at, _)| (*known, *at) != (rank, number));
                    waiting.push((rank, number, guest));
                }
                Ok(Some(message)) => log::warn!("bootstrap: refused {} at the door: {message:?}", guest.peer),
                Err(broken) => log::debug!("bootstrap: {} left the door: {broken}", guest.peer),
            }
        }
        quiet
    }

    fn serve_those_who_asked(
        &mut self,
        waiting: &mut Vec<(usize, u64, Connection)>,
        left: &mut Vec<usize>,
        fd: BorrowedFd<'_>,
    ) {
        let mut later = Vec::new();
        for (rank, number, mut guest) in std::mem::take(waiting) {
            let due = self.shared.get(&rank).copied().unwrap_or(0);
            match left.iter().position(|other| *other == rank) {
                Some(at) if number == due => {
                    if hand_over(&mut guest, number, fd) {
                        left.swap_remove(at);
                    }
                }
                _ if number > due => later.push((rank, number, guest)),
                _ => log::debug!("bootstrap: rank {rank} asks for descriptor {number} again"),
            }
        }
        *waiting = later;
    }

    /// Takes the descriptor that rank `from` hands out by [`Rendezvous::share_fd`].
    pub fn receive_fd(&mut self, from: usize) -> Result<OwnedFd> {
        if from >= self.rank {
            return Err(Error::misuse(
                format!("rank {} receives a descriptor from rank {from}", self.rank),
                "The lowest rank of a group shares, the others receive",
            ));
        }
        let Some(peer) = self.peers.get(from).copied().filter(|_| self.same_host(from)) else {
            return Err(not_here("receive a descriptor from", from));
        };
        let number = self.received.get(&from).copied().unwrap_or(0) + 1;
        self.received.insert(from, number);
        let target = Target::Unix { name: socket_name(&peer.door), otherwise: None };
        let (secret, context, deadline) = (self.secret, door_context(from), Instant::now() + self.timeout);
        let dial =
            Dial { target: &target, secret: &secret, context: &context, deadline, patient: false, limit: SMALL_FRAME };
        let mut news = None;
        let question = Message::Ask { rank: self.rank, number }.encode();
        let answer = dial.ask_for_descriptor(&question, number, &mut || {
            news = self.look_for_news("receive_fd").err();
            news.is_some()
        });
        let failure = match answer {
            Ok(fd) => return Ok(fd),
            Err(NoAnswer::Interrupted) => {
                return Err(news.unwrap_or_else(|| not_here("receive a descriptor from", from)));
            }
            Err(NoAnswer::Nobody) => return Err(self.await_obituary(from)),
            Err(NoAnswer::Stranger(refusal)) => Failure::Corrupt { rank: from, what: refusal.to_string() },
            Err(NoAnswer::Starved(errno)) => {
                return Err(self.starve(errno, &format!("receiving shared memory from rank {from}")));
            }
            Err(NoAnswer::Late(_)) => Failure::Late {
                ranks: vec![from],
                what: format!("rank {} waits for a descriptor from it", self.rank),
                limit_ms: self.timeout.as_millis() as u64,
            },
        };
        Err(self.give_up(failure))
    }

    /// The giver's door is gone: its process ended, which the hub will say in a moment, or it has finished the start.
    fn await_obituary(&mut self, of: usize) -> Error {
        let deadline = Instant::now() + OBITUARY;
        while Instant::now() < deadline {
            wait(&mut [self.hub().interest()], Some(deadline));
            if let Err(error) = self.look_for_news("receive_fd") {
                return error;
            }
        }
        self.give_up(Failure::Lost { rank: of, how: "nobody listens at its door any more".into() })
    }
}

fn not_here(what: &str, rank: usize) -> Error {
    Error::misuse(format!("can't {what} rank {rank}: it is not on this host"), "Use a network transport between hosts")
}

/// One frame with the descriptor; whether it went.
fn hand_over(guest: &mut Connection, number: u64, fd: BorrowedFd<'_>) -> bool {
    guest.wire().send(&Message::Descriptor { number }.encode());
    let frame = std::mem::take(guest.wire().output());
    let rights = [fd.as_raw_fd()];
    let sent = sendmsg::<()>(
        guest.socket().as_raw_fd(),
        &[IoSlice::new(&frame)],
        &[ControlMessage::ScmRights(&rights)],
        MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
        None,
    );
    match sent {
        Ok(count) if count == frame.len() => true,
        other => {
            log::warn!("bootstrap: {} could not be given a descriptor: {other:?}", guest.peer);
            false
        }
    }
}

impl Dial<'_> {
    /// [`Dial::ask`], for an answer that comes with a descriptor.
    fn ask_for_descriptor(
        &self,
        question: &[u8],
        number: u64,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> std::result::Result<OwnedFd, NoAnswer> {
        loop {
            let mut connection = self.prove(interrupted)?;
            connection.send_bytes(question);
            match take_descriptor(&mut connection, number, self.deadline, interrupted)? {
                Some(fd) => return Ok(fd),
                // The giver hung up: its process ended (the next try finds nobody) or it was too busy.
                None if Instant::now() < self.deadline => std::thread::sleep(AGAIN),
                None => return Err(NoAnswer::Late("it did not answer".into())),
            }
        }
    }
}

/// The descriptor and the frame that it came with; `None`: the other side hung up.
fn take_descriptor(
    connection: &mut Connection,
    number: u64,
    deadline: Instant,
    interrupted: &mut dyn FnMut() -> bool,
) -> std::result::Result<Option<OwnedFd>, NoAnswer> {
    let mut taken: Option<OwnedFd> = None;
    loop {
        match receive_with_rights(connection) {
            Ok((0, _)) => return Ok(None),
            Ok((_, fds)) => taken = fds.into_iter().next().or(taken),
            Err(Errno::EAGAIN | Errno::EINTR) => {
                if interrupted() {
                    return Err(NoAnswer::Interrupted);
                }
                if Instant::now() >= deadline {
                    return Err(NoAnswer::Late("it did not answer".into()));
                }
                let soon = deadline.min(Instant::now() + Duration::from_millis(100));
                wait(&mut [connection.interest()], Some(soon));
                continue;
            }
            // The kernel has dropped the descriptor: there was no room for it here.
            Err(Errno::ENOBUFS) => return Err(NoAnswer::Starved(Errno::EMFILE)),
            Err(_) => return Ok(None),
        }
        match connection.next_event() {
            Ok(Some(Event::Frame(payload))) => {
                let answer = Message::decode(&payload);
                return match (answer == Some(Message::Descriptor { number }), taken) {
                    (true, Some(fd)) => Ok(Some(fd)),
                    _ => Err(NoAnswer::Stranger(Refusal::Malformed)),
                };
            }
            Ok(_) => {}
            Err(Broken::Refused(refusal)) => return Err(NoAnswer::Stranger(refusal)),
            Err(_) => return Ok(None),
        }
    }
}

/// Bytes for the wire, and the descriptors among them, which close themselves unless somebody keeps them.
fn receive_with_rights(connection: &mut Connection) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut room = [0; FRAME];
    let mut rights = nix::cmsg_space!([std::os::fd::RawFd; 4]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut slices = [IoSliceMut::new(&mut room)];
    let message = recvmsg::<()>(connection.socket().as_fd().as_raw_fd(), &mut slices, Some(&mut rights), flags)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            fds.extend(raw.into_iter().map(take_over));
        }
    }
    let count = message.bytes;
    connection.feed(&room[..count]);
    Ok((count, fds))
}
