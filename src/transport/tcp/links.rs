//! All links of one rank over TCP: the contract of `crate::transport` on top of `peer`.

use super::frame::{incoming, outgoing};
use super::office::Office;
use super::outbox::Outbox;
use super::peer::{Boards, Parcel, Peer, SMALL_MESSAGE, Taken};
use super::queues::Queues;
use super::socket::{Guard, Socket};
use crate::config::Protection;
use crate::error::{Error, Place};
use crate::plan::{Group, MOST_CHUNK_BYTES, World};
use crate::sys::stream;
use crate::transport::verbs::Nic;
use crate::transport::{Blocked, Incoming, Links, Message, Outgoing, Shared};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Behind so many bytes of an operation messages are sent from the caller's memory, where they lie there: the caller waits at the end until
/// all of them were received, which costs a frame each way, 5 us over the loopback, as much as copying so many bytes.
const LENT: usize = 96 << 10;

/// Looks at queues that carry everything before the sockets are looked at, too. A system call in so many: between two guests of user-mode Linux
/// 8 B took 57 us in place of 41 (half a round trip) with one every 64. A nap is long, and counts as many looks.
const LOOKS: u32 = 16384;
pub(super) const LOOKS_OF_A_NAP: u32 = LOOKS / 16;

/// The longest wait at the end for what was said to reach the other kernels.
const PARTING: Duration = Duration::from_secs(5);

/// One rank's ends of all links of a communicator.
#[derive(Debug)]
pub struct TcpLinks {
    pub(super) rank: u32,
    world: World,
    pub(super) peers: Vec<Option<Box<Peer>>>,
    pub(super) boards: Boards,
    /// Ranks to which something waits to be sent, or that wait for news.
    unsent: Vec<u32>,
    /// Ranks that hold messages of the caller's memory.
    borrowers: Vec<u32>,
    /// Ranks that wait to hear of releases.
    creditors: Vec<u32>,
    pub(super) office: Arc<Office>,
    /// What of the office's news was taken up.
    seen: u32,
    pub(super) carriers: u64,
    /// Bytes that were published since everything was settled.
    posted: usize,
    /// A rank that has ended that call and whose messages for it were all taken in.
    pub(super) ended: (u32, u64),
    /// The rank that has nothing more to send, for which this one waits all the same, and since when.
    pub(super) last_mile: Option<(u32, Instant)>,
    /// The turns of sockets that were lost.
    lost_turns: BTreeMap<(u32, u8), u64>,
    /// Ranks of this host, and the processors that they may use.
    pub(super) crowd: (u32, u32),
    /// The communicator is of no further use: nothing is sent or taken any more.
    over: bool,
    pub(super) queues: Queues,
    pub(super) protection: Protection,
    /// Whose messages are not what they were, and how: every operation from then on fails.
    pub(super) fault: Option<(u32, String)>,
}

// SAFETY: the raw pointers in there are to memory of the links themselves, or to buffers that the session's caller lends for the time of an
// operation, which ends only when nothing of it is under way (`settle`, `failed`).
unsafe impl Send for TcpLinks {}

impl TcpLinks {
    /// The ends of the office's rank. `world` gives the boards their readers and must be the same on all ranks.
    pub(crate) fn new(
        office: Arc<Office>,
        world: &World,
        crowd: (u32, u32),
        nics: &[Arc<Nic>],
        protection: Protection,
    ) -> TcpLinks {
        let (rank, size) = (office.rank(), office.size());
        assert!(rank < size && world.size() == size);
        TcpLinks {
            rank,
            world: world.clone(),
            peers: (0..size).map(|_| None).collect(),
            boards: Boards::new(),
            unsent: Vec::new(),
            borrowers: Vec::new(),
            creditors: Vec::new(),
            office,
            seen: 0,
            carriers: 0,
            posted: 0,
            ended: (0, 0),
            last_mile: None,
            lost_turns: BTreeMap::new(),
            crowd,
            over: false,
            queues: Queues::new(nics),
            protection,
            fault: None,
        }
    }

    /// Something is to be sent to that rank at the next opportunity.
    pub(super) fn wants_to_send(&mut self, rank: u32) {
        if !self.unsent.contains(&rank) {
            self.unsent.push(rank);
        }
    }

    pub(super) fn peer(&mut self, rank: u32) -> &mut Peer {
        let checked = self.checked();
        self.peers[rank as usize].get_or_insert_with(|| Box::new(Peer::new(checked)))
    }

    fn readers(&self, link: Outgoing) -> Readers {
        match link {
            Outgoing::Pair(to) => Readers { one: Some(to), group: None, next: 0 },
            Outgoing::Board(group) => Readers { one: None, group: Some(group), next: 0 },
        }
    }

    /// The next reader of a link.
    fn next_reader(&self, readers: &mut Readers) -> Option<u32> {
        let Some(group) = readers.group else { return readers.one.take() };
        loop {
            let reader = self.world.members(group, self.rank).get(readers.next)?;
            readers.next += 1;
            if reader != self.rank {
                return Some(reader);
            }
        }
    }

    /// The reader that has released least, if the next message has no slot because of it.
    fn slowest(&mut self, lane: u32, link: Outgoing) -> Option<u32> {
        let spot = outgoing(lane, link);
        let mut readers = self.readers(link);
        while let Some(reader) = self.next_reader(&mut readers) {
            let board = self.boards.get(&spot).map(Outbox::next);
            let out = self.peer(reader).out(spot);
            let has_room = match link {
                Outgoing::Pair(_) => out.pair.has_room(out.released),
                Outgoing::Board(_) => board.unwrap_or(0).wrapping_sub(out.released) < super::outbox::SLOTS,
            };
            if !has_room {
                return Some(reader);
            }
        }
        None
    }

    fn outbox(&mut self, lane: u32, link: Outgoing) -> &mut Outbox {
        let spot = outgoing(lane, link);
        match link {
            Outgoing::Pair(to) => &mut self.peer(to).out(spot).pair,
            Outgoing::Board(_) => self.boards.entry(spot).or_insert_with(Outbox::new),
        }
    }

    /// A free slot for the next message, or who has to release one.
    fn find_room(&mut self, lane: u32, link: Outgoing) -> Result<Option<Blocked>, Error> {
        let Some(reader) = self.slowest(lane, link) else { return Ok(None) };
        self.advance(reader)?;
        Ok(self.slowest(lane, link).map(Blocked::Slot))
    }

    /// Puts the sealed message on its way.
    fn post(&mut self, lane: u32, link: Outgoing, seq: u32, len: usize, lent: bool) {
        self.posted += len;
        let parcel = Parcel { spot: outgoing(lane, link), seq, len: len as u32, again: false };
        let mut readers = self.readers(link);
        while let Some(reader) = self.next_reader(&mut readers) {
            self.peer(reader).push(parcel, lent);
            if lent && !self.borrowers.contains(&reader) {
                self.borrowers.push(reader);
            }
            // Long messages wait for each other: with one system call they go faster, and the next look at what has come sends them.
            let waits = len > SMALL_MESSAGE as usize && self.peer(reader).gathers();
            if waits && !self.unsent.contains(&reader) {
                self.unsent.push(reader);
            }
            if !waits {
                self.pump(reader, false);
            }
        }
    }

    /// Sends what that rank's sockets take.
    fn pump(&mut self, rank: u32, tell: bool) {
        if self.over {
            return;
        }
        self.pump_queues(rank, tell);
        let TcpLinks { peers, boards, .. } = self;
        let Some(peer) = &mut peers[rank as usize] else { return };
        let tell = tell || peer.must_tell();
        let lost = peer.pump(boards, tell);
        if let Some(parcel) = peer.changed {
            self.has_changed(rank, parcel);
            return;
        }
        let unsent = !peer.is_sent() || peer.must_tell();
        if unsent && lost.is_empty() && peer.living() == 0 {
            self.want_all(rank);
        }
        for (index, turn, errno) in lost {
            self.note_lost(rank, index, turn, errno);
        }
        if unsent && !self.unsent.contains(&rank) {
            self.unsent.push(rank);
        }
        self.note_owed(rank);
    }

    /// Lets the service know whether something for that rank has not reached it.
    pub(super) fn note_owed(&mut self, rank: u32) {
        let owed = self.peer(rank).owes();
        self.office.note_owed(rank, owed);
    }

    /// A socket is lost. Another one is wanted if something of what it carried may not have come.
    fn note_lost(&mut self, rank: u32, index: u8, turn: u64, errno: Errno) {
        let latest = self.lost_turns.entry((rank, index)).or_insert(0);
        *latest = turn.max(*latest);
        log::debug!("tcp: rank {}: socket {index} to rank {rank} is lost: {}", self.rank, errno.desc());
        if self.peer(rank).turn(index) <= turn && self.peer(rank).is_owed() && self.office.takes_part(rank) {
            self.office.want(rank, index, turn);
        }
    }

    /// Data sockets to that rank are wanted, as none is there.
    fn want_all(&mut self, rank: u32) {
        if !self.office.takes_part(rank) {
            return;
        }
        for index in 0..self.office.sockets(rank) {
            let after = self.lost_turns.get(&(rank, index)).copied().unwrap_or(0);
            self.office.want(rank, index, after);
        }
    }

    /// Takes in what has come from that rank, up to a complete message, and sends what waits.
    pub(super) fn advance(&mut self, rank: u32) -> Result<Taken, Error> {
        self.take_up_news();
        if !self.unsent.is_empty() {
            self.send_what_waits();
        }
        if self.fault.is_some() {
            return Err(self.broken());
        }
        let mut taken = self.advance_queues(rank)?;
        if taken == Taken::Message {
            return Ok(taken);
        }
        if let Some(peer) = &mut self.peers[rank as usize] {
            // Where queues carry everything, a look at the sockets is a system call for nothing.
            if peer.served_by_queues() == (true, true) && peer.unlooked < LOOKS {
                peer.unlooked += 1;
                return Ok(taken);
            }
            peer.unlooked = 0;
            let mut at = 0;
            let count = peer.sockets.len();
            while at < count && taken != Taken::Message {
                match self.take_in(rank, at)? {
                    Taken::Nothing => {}
                    some => taken = some,
                }
                at += 1;
            }
            if self.peer(rank).said.front().is_some() {
                self.hear_words(rank)?;
            }
        }
        Ok(taken)
    }

    fn take_in(&mut self, rank: u32, at: usize) -> Result<Taken, Error> {
        let Some(peer) = &mut self.peers[rank as usize] else { return Ok(Taken::Nothing) };
        if self.over || at >= peer.sockets.len() {
            return Ok(Taken::Nothing);
        }
        match peer.take_in(at) {
            Ok(Ok(taken)) => {
                if peer.must_tell() && !self.unsent.contains(&rank) {
                    self.unsent.push(rank);
                }
                Ok(taken)
            }
            Ok(Err(errno)) => {
                let (index, turn) = peer.lose(at);
                self.note_owed(rank);
                self.note_lost(rank, index, turn, errno);
                Ok(Taken::Bytes)
            }
            Err(nonsense) => Err(self.breaks(rank, nonsense)),
        }
    }

    /// Sends what waits for a look at the sockets, where somebody looks at something else.
    #[inline]
    pub(in crate::transport) fn flush(&mut self) {
        if !self.unsent.is_empty() {
            self.send_what_waits();
        }
    }

    fn send_what_waits(&mut self) {
        for rank in std::mem::take(&mut self.unsent) {
            self.pump(rank, false);
        }
    }

    /// Takes in everything that has come: credits see to it that there is room for it.
    pub(in crate::transport) fn advance_all(&mut self) -> Result<bool, Error> {
        let mut any = false;
        self.take_up_news();
        self.try_again();
        for rank in 0..self.size() {
            while let Some(peer) = &mut self.peers[rank as usize] {
                peer.unlooked = LOOKS;
                if self.advance(rank)? == Taken::Nothing {
                    break;
                }
                any = true;
            }
        }
        Ok(any)
    }

    /// New sockets.
    #[inline]
    fn take_up_news(&mut self) {
        let news = self.office.news();
        if news != self.seen {
            self.seen = news;
            self.take_arrivals();
        }
    }

    #[cold]
    fn take_arrivals(&mut self) {
        for arrived in self.office.arrivals() {
            self.carriers += 1;
            let carrier = self.carriers;
            // One that is retired, and whose other end is gone, goes too.
            if let Err(errno) = stream::keep_alive(&arrived.socket).and(stream::hurry_within_host(&arrived.socket)) {
                log::debug!("tcp: a data socket is left as it is ({})", errno.desc());
            }
            let guard = Guard::new(self.protection, &arrived.keys);
            let peer = self.peer(arrived.rank);
            peer.add(Socket::new(arrived.socket, carrier, arrived.index, arrived.turn, guard));
            let sockets = peer.sockets.iter().map(|socket| socket.share()).collect();
            self.office.note_sockets(arrived.rank, sockets);
            if arrived.index == 0 {
                self.offer_queues(arrived.rank);
            }
            self.pump(arrived.rank, false);
        }
    }

    /// Sleeps until something comes, or something that waits can be sent, or the office has news; at most that long.
    pub(in crate::transport) fn sleep_on_sockets(&mut self, limit: Duration) {
        let mut fds = vec![PollFd::new(self.office.bell(), PollFlags::POLLIN)];
        for peer in self.peers.iter().flatten() {
            for socket in &peer.sockets {
                let out = if socket.is_sending() { PollFlags::POLLOUT } else { PollFlags::empty() };
                fds.push(PollFd::new(socket.fd(), PollFlags::POLLIN | out));
            }
        }
        let (news, channels) = (self.queues.news(), self.queues.channels());
        let devices = fds.len();
        fds.extend(news.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let behind = fds.len();
        fds.extend(channels.map(|channel| PollFd::new(channel, PollFlags::POLLIN)));
        let milliseconds = limit.as_micros().div_ceil(1000).min(1000) as u16;
        let _ready_or_not = poll(&mut fds, PollTimeout::from(milliseconds));
        let has = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let (any_news, any_woken) = (fds[devices..behind].iter().any(has), fds[behind..].iter().any(has));
        drop(fds);
        if any_news {
            self.queues.hear_news();
        }
        if any_woken {
            self.queues.silence();
        }
        self.office.silence();
    }

    /// Takes what devices have to say, where somebody slept on something else.
    pub(in crate::transport) fn attend_devices(&mut self) {
        self.queues.hear_news();
        self.queues.silence();
    }

    /// Gives up on a rank that has left and from which nothing more can come.
    fn let_go(&mut self, rank: u32) {
        if self.office.takes_part(rank) || self.office.is_dialing(rank) || !self.peer(rank).sockets.is_empty() {
            return;
        }
        // It may have called again before it left.
        self.take_up_news();
        let peer = self.peer(rank);
        if peer.sockets.is_empty() {
            peer.give_up();
            self.unsent.retain(|other| *other != rank);
        }
    }

    /// Tells what others wait for, sends what waits, and says whom this rank waits for.
    fn settle_accounts(&mut self) -> Result<Option<Blocked>, Error> {
        for rank in std::mem::take(&mut self.creditors) {
            self.pump(rank, true);
        }
        if self.fault.is_some() {
            return Err(self.broken());
        }
        let mut waits = None;
        for rank in std::mem::take(&mut self.borrowers) {
            if !self.peer(rank).is_settled() {
                self.advance(rank)?;
                self.let_go(rank);
            }
            if !self.peer(rank).is_settled() {
                self.borrowers.push(rank);
                waits = Some(Blocked::Slot(rank));
            }
        }
        if waits.is_none() {
            self.send_what_waits();
            if let Some(rank) = self.unsent.first().copied() {
                self.advance(rank)?;
                self.let_go(rank);
            }
            waits = self.unsent.first().map(|rank| Blocked::Slot(*rank));
        }
        Ok(waits)
    }

    /// Ends all traffic: whoever lent memory gets it back.
    pub(super) fn end(&mut self) {
        self.over = true;
        self.peers.iter_mut().for_each(|peer| *peer = None);
        self.unsent.clear();
        self.borrowers.clear();
        self.creditors.clear();
    }

    /// Waits until the other ranks' kernels have all that was said, so that this process may end. Not longer than a while.
    pub(crate) fn part(&mut self) {
        let until = Instant::now() + PARTING;
        while !self.over && Instant::now() < until && !self.office.has_ended() {
            let _what_comes_now_comes_too_late = self.advance_all();
            let pending = |(rank, peer): (usize, &Option<Box<Peer>>)| {
                peer.as_ref().is_some_and(|peer| !peer.is_delivered()) && self.office.takes_part(rank as u32)
            };
            if !self.peers.iter().enumerate().any(pending) {
                return;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// The readers of a link that were not visited.
struct Readers {
    one: Option<u32>,
    group: Option<Group>,
    next: u32,
}

impl Links for TcpLinks {
    fn rank(&self) -> u32 {
        self.rank
    }

    fn size(&self) -> u32 {
        self.world.size()
    }

    #[inline]
    fn reserve(&mut self, lane: u32, link: Outgoing, len: usize) -> Result<Result<*mut u8, Blocked>, Error> {
        Ok(match self.find_room(lane, link)? {
            Some(blocked) => Err(blocked),
            None => Ok(self.outbox(lane, link).reserve(len)),
        })
    }

    fn lends(&mut self, at: *const u8, len: usize) {
        if len >= LENT {
            self.queues.lends(at, len);
        }
    }

    fn reserve_from(
        &mut self,
        lane: u32,
        link: Outgoing,
        from: *mut u8,
        len: usize,
    ) -> Result<Result<*mut u8, Blocked>, Error> {
        if self.posted + len < LENT {
            return self.reserve(lane, link, len);
        }
        Ok(match self.find_room(lane, link)? {
            Some(blocked) => Err(blocked),
            None => {
                self.outbox(lane, link).lend(from);
                Ok(from)
            }
        })
    }

    #[inline]
    fn publish(&mut self, lane: u32, link: Outgoing, len: usize, tag: u32) -> Result<(), Error> {
        let (seq, lent) = self.outbox(lane, link).seal(tag);
        if self.checked() {
            self.outbox(lane, link).sum_up(seq, len);
        }
        self.post(lane, link, seq, len, lent);
        Ok(())
    }

    #[inline]
    fn peek(&mut self, lane: u32, link: Incoming) -> Result<Option<Message>, Error> {
        let (from, spot) = (link.rank(), incoming(lane, link));
        let front = |links: &TcpLinks| links.peers[from as usize].as_ref()?.seen(spot)?.front();
        if let Some(message) = front(self) {
            return Ok(Some(message));
        }
        // Messages of other links may be in front of it.
        while self.advance(from)? == Taken::Message {
            if let Some(message) = front(self) {
                return Ok(Some(message));
            }
        }
        Ok(front(self))
    }

    fn peek_into(&mut self, lane: u32, link: Incoming, into: *mut u8, len: usize) -> Result<Option<Message>, Error> {
        self.peer(link.rank()).inbox(incoming(lane, link)).land(into, len);
        self.peek(lane, link)
    }

    fn release(&mut self, lane: u32, link: Incoming) {
        let from = link.rank();
        if self.peer(from).release(incoming(lane, link)) && !self.creditors.contains(&from) {
            self.creditors.push(from);
        }
    }

    #[inline]
    fn settle(&mut self) -> Result<Option<Blocked>, Error> {
        self.posted = 0;
        if self.creditors.is_empty() && self.borrowers.is_empty() && self.unsent.is_empty() && self.fault.is_none() {
            return Ok(None);
        }
        self.settle_accounts()
    }

    fn share(&self, _at: *const u8, _len: usize) -> Shared {
        Shared::NOWHERE
    }

    fn resolve(&mut self, _owner: u32, _place: Shared, _len: usize) -> Option<*mut u8> {
        None
    }

    unsafe fn fetch(&mut self, owner: u32, _at: u64, _into: *mut u8, _len: usize) -> Result<(), Error> {
        let what = "the address of a buffer, which nobody can reach over TCP".into();
        Err(Error::Corrupt { place: Box::new(Place::default()), rank: owner as usize, what })
    }

    fn drained(&mut self, lane: u32, link: Outgoing) -> Result<Option<Blocked>, Error> {
        let (spot, next) = (outgoing(lane, link), self.outbox(lane, link).next());
        let mut readers = self.readers(link);
        while let Some(reader) = self.next_reader(&mut readers) {
            if self.peer(reader).out(spot).released != next {
                self.advance(reader)?;
            }
            if self.peer(reader).out(spot).released != next {
                return Ok(Some(Blocked::Slot(reader)));
            }
        }
        Ok(None)
    }

    fn message_limit(&self, _peer: u32) -> usize {
        MOST_CHUNK_BYTES as usize
    }

    fn enter_windows(&mut self) -> bool {
        !self.office.has_ended()
    }

    fn leave_windows(&mut self) {}
}
