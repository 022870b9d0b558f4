//! Everything between this rank and one other: sockets, what waits to be sent, what was sent and not released, what has come.
//!
//! ```text
//!   publish ──> small │ bulk (queues) ──> whichever socket is free ──> sent ──> released: forgotten
//!                 ▲                                              │
//!                 └────────── its socket is lost ────────────────┘
//! ```

use super::frame::{Frame, Kind, LinkKind, Spot};
use super::inbox::{Carrier, Inbox, Opening};
use super::outbox::{Letter, Outbox};
use super::socket::{Coming, Socket};
use crate::plan::MOST_CHUNK_BYTES;
use crate::sys::stream::unacknowledged;
use nix::errno::Errno;
use std::collections::{BTreeMap, VecDeque};

/// Messages of at most so many bytes go over the socket for small ones, where nothing long is ever in front of them.
pub(super) const SMALL_MESSAGE: u32 = 4096;

/// So many released messages are told at the latest, also if nothing goes to their writer anyway.
const TELL_AT: u32 = super::outbox::SLOTS / 2;

/// A message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parcel {
    pub(super) spot: Spot,
    pub(super) seq: u32,
    pub(super) len: u32,
    /// It was sent before, over a socket that is lost: the other rank may have it.
    pub(super) again: bool,
}

/// The boards of this rank, which all their readers share.
pub(super) type Boards = BTreeMap<Spot, Outbox>;

/// This rank's end of a link to the other.
#[derive(Debug)]
pub(super) struct Out {
    /// The messages of a pair link; a board's are elsewhere.
    pub(super) pair: Outbox,
    /// How many messages the other has released.
    pub(super) released: u32,
    /// Behind the last message that was lent.
    lent_until: Option<u32>,
}

/// What the other rank sent makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nonsense(pub(super) &'static str);

/// How far taking in got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Nothing,
    Bytes,
    /// A message has become complete.
    Message,
}

/// The other rank.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) sockets: Vec<Socket>,
    small: VecDeque<Parcel>,
    bulk: VecDeque<Parcel>,
    out: Vec<Out>,
    inboxes: Vec<Inbox>,
    /// Messages with the carriers that took them, some of them released meanwhile.
    sent: VecDeque<(Parcel, Carrier)>,
    /// Links from the other rank with releases that it is to be told.
    news: Vec<Spot>,
    /// It is to be told all of them, as soon as the socket takes it.
    telling: bool,
}

/// `a` comes before `b` on a link.
fn before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < u32::MAX / 2
}

impl Peer {
    /// This rank's end of a link to the other.
    pub(super) fn out(&mut self, spot: Spot) -> &mut Out {
        let index = spot.index();
        while self.out.len() <= index {
            self.out.push(Out { pair: Outbox::new(), released: 0, lent_until: None });
        }
        &mut self.out[index]
    }

    /// This rank's end of a link from the other.
    pub(super) fn inbox(&mut self, spot: Spot) -> &mut Inbox {
        let index = spot.index();
        while self.inboxes.len() <= index {
            self.inboxes.push(Inbox::new());
        }
        &mut self.inboxes[index]
    }

    /// The same, to look at.
    #[inline]
    pub(super) fn seen(&self, spot: Spot) -> Option<&Inbox> {
        self.inboxes.get(spot.index())
    }

    /// Puts a message behind those that wait. `lent`: its bytes are the caller's.
    pub(super) fn push(&mut self, parcel: Parcel, lent: bool) {
        if lent {
            self.out(parcel.spot).lent_until = Some(parcel.seq.wrapping_add(1));
        }
        let queue = if parcel.len <= SMALL_MESSAGE { &mut self.small } else { &mut self.bulk };
        queue.push_back(parcel);
    }

    /// Notes that the oldest message of a link was read. Whether its writer waits to hear of that.
    pub(super) fn release(&mut self, spot: Spot) -> bool {
        let inbox = self.inbox(spot);
        inbox.release();
        let (tell, awaited) = (inbox.untold() >= TELL_AT, inbox.is_awaited());
        if (tell || awaited) && !self.news.contains(&spot) {
            self.news.push(spot);
        }
        awaited
    }

    /// Whether some releases are worth a frame of their own now.
    pub(super) fn must_tell(&self) -> bool {
        self.telling || self.news.iter().any(|spot| self.inboxes[spot.index()].untold() >= TELL_AT)
    }

    /// Bytes of long messages that wait.
    pub(super) fn waits(&self) -> usize {
        self.bulk.iter().map(|parcel| parcel.len as usize).sum()
    }

    /// Whether all messages are with the kernel.
    pub(super) fn is_sent(&self) -> bool {
        self.small.is_empty() && self.bulk.is_empty() && self.sockets.iter().all(|socket| !socket.is_sending())
    }

    /// Whether the other rank's kernel has all messages.
    pub(super) fn is_delivered(&self) -> bool {
        let waits = |socket: &Socket| unacknowledged(socket.fd()).is_ok_and(|bytes| bytes > 0);
        self.is_sent() && !self.sockets.iter().any(waits)
    }

    /// Whether no message of the caller's memory is under way.
    pub(super) fn is_settled(&mut self) -> bool {
        for out in &mut self.out {
            out.lent_until = out.lent_until.filter(|end| before(out.released, *end));
        }
        self.out.iter().all(|out| out.lent_until.is_none())
    }

    /// Whether the other rank has not released everything, so that a lost socket matters.
    pub(super) fn is_owed(&mut self) -> bool {
        self.forget_released();
        !(self.sent.is_empty() && self.is_sent())
    }

    fn forget_released(&mut self) {
        while let Some((parcel, _)) = self.sent.front() {
            if before(parcel.seq, self.out[parcel.spot.index()].released) {
                self.sent.pop_front();
            } else {
                break;
            }
        }
    }

    /// Sockets over which something can be sent; they come first.
    pub(super) fn living(&self) -> usize {
        self.sockets.iter().take_while(|socket| !socket.retired).count()
    }

    /// The turn of the latest socket of that number; 0: there is none.
    pub(super) fn turn(&self, index: u8) -> u64 {
        self.sockets.iter().filter(|socket| socket.index == index).map(|socket| socket.turn).max().unwrap_or(0)
    }

    /// Which sockets carry what: small messages go over the first, long ones over all others, or over the first where there is no other.
    fn next_for(&mut self, at: usize, boards: &Boards) -> bool {
        let (first, only) = (at == 0, self.living() == 1);
        let Peer { small, bulk, news, inboxes, out, sockets, telling, .. } = self;
        if first && *telling {
            while let Some(spot) = news.pop() {
                let inbox = &mut inboxes[spot.index()];
                if inbox.untold() > 0 {
                    let (len, seq, tag) = (0, 0, 0);
                    let frame = Frame { kind: Kind::Release, spot, len, seq, tag, released: inbox.tell() };
                    sockets[at].begin(&frame, std::ptr::null(), None);
                    return true;
                }
            }
            *telling = false;
        }
        let queue = if first && !small.is_empty() {
            small
        } else if !first || only {
            bulk
        } else {
            return false;
        };
        let Some(parcel) = queue.pop_front() else { return false };
        let Parcel { spot, seq, len, .. } = parcel;
        let outbox = if spot.kind == LinkKind::PAIR { Some(&out[spot.index()].pair) } else { boards.get(&spot) };
        let Some(Letter { at: from, tag, lent }) = outbox.map(|outbox| outbox.letter(seq)) else { return false };
        let kind = if lent { Kind::Lent } else { Kind::Kept };
        let released = inboxes.get_mut(spot.index()).map_or(0, Inbox::tell);
        sockets[at].begin(&Frame { kind, spot, len, seq, tag, released }, from, Some(parcel));
        true
    }

    /// Sends what the sockets take. `tell`: also news of releases. Sockets that are lost are given back.
    pub(super) fn pump(&mut self, boards: &Boards, tell: bool) -> Vec<(u8, u64, Errno)> {
        self.telling |= tell;
        let (mut lost, mut at) = (Vec::new(), 0);
        while at < self.living() {
            while self.sockets[at].has_room() && self.next_for(at, boards) {}
            if !self.sockets[at].is_sending() {
                at += 1;
                continue;
            }
            self.forget_released();
            let Peer { sockets, sent, .. } = self;
            let carrier = sockets[at].carrier;
            match sockets[at].go_on(|parcel| sent.push_back((parcel, carrier))) {
                Ok(true) => {}
                Ok(false) => at += 1,
                Err(errno) => {
                    // What the other rank said before is still to be heard.
                    lost.push((self.sockets[at].index, self.sockets[at].turn, errno));
                    self.retire(at);
                }
            }
        }
        lost
    }

    /// Takes in what has come over one socket, up to the next complete message.
    pub(super) fn take_in(&mut self, at: usize) -> Result<Result<Taken, Errno>, Nonsense> {
        let mut taken = Taken::Nothing;
        loop {
            if self.sort(at)? {
                return Ok(Ok(Taken::Message));
            }
            match self.sockets[at].read() {
                Ok(0) => return Ok(Ok(taken)),
                Ok(_) => taken = Taken::Bytes,
                Err(errno) => return Ok(Err(errno)),
            }
        }
    }

    /// Puts what was read to its place, up to the next complete message. Whether there is one.
    fn sort(&mut self, at: usize) -> Result<bool, Nonsense> {
        loop {
            if self.sockets[at].coming.is_some() {
                if !self.sockets[at].fill() {
                    return Ok(false);
                }
                if let Some(Coming { frame, at: end, .. }) = self.sockets[at].coming.take()
                    && !end.is_null()
                {
                    self.inbox(frame.spot).complete(frame.seq);
                    return Ok(true);
                }
            }
            let Some(header) = self.sockets[at].next_header() else {
                self.sockets[at].compact();
                return Ok(false);
            };
            let frame = Frame::decode(&header, MOST_CHUNK_BYTES as usize);
            let frame = frame.ok_or(Nonsense("a header that no rank would send"))?;
            self.hear(&frame)?;
            if frame.kind != Kind::Release {
                self.open(at, frame)?;
            }
        }
    }

    /// Takes the news of a frame: what it says was released must have been sent.
    fn hear(&mut self, frame: &Frame) -> Result<(), Nonsense> {
        let (spot, released) = (frame.spot, frame.released);
        let known = self.out.get(spot.index()).map_or(0, |out| out.released);
        if !before(known, released) {
            return Ok(());
        }
        let covers = |parcel: &Parcel| parcel.spot == spot && before(parcel.seq, released);
        let last = |parcel: &Parcel| parcel.spot == spot && parcel.seq == released.wrapping_sub(1);
        let mut waiting = self.small.iter().chain(&self.bulk).filter(|parcel| covers(parcel));
        let half_sent: Vec<Parcel> = self.sockets.iter().flat_map(Socket::half_sent).filter(covers).collect();
        let mut all = self.sent.iter().map(|(parcel, _)| parcel).chain(&self.small).chain(&self.bulk);
        let impossible = waiting.any(|parcel| !parcel.again) || half_sent.iter().any(|parcel| !parcel.again);
        let is_again = !half_sent.is_empty();
        if impossible || !is_again && !all.any(last) {
            return Err(Nonsense("news of a message that it can't have"));
        }
        // The bytes of what is half sent must stay: the news comes again when the other rank has seen that it has them already.
        if !is_again {
            self.small.retain(|parcel| !covers(parcel));
            self.bulk.retain(|parcel| !covers(parcel));
            self.out(spot).released = released;
        }
        Ok(())
    }

    fn open(&mut self, at: usize, frame: Frame) -> Result<(), Nonsense> {
        let carrier = self.sockets[at].carrier;
        let place = match self.inbox(frame.spot).open(&frame, carrier) {
            Opening::Take(place) => place,
            Opening::TakeOver(place, other) => {
                // What the other carrier still brings of it goes nowhere.
                for socket in self.sockets.iter_mut().filter(|socket| socket.carrier == other) {
                    if let Some(coming) = &mut socket.coming {
                        coming.at = std::ptr::null_mut();
                    }
                }
                place
            }
            Opening::Drop => {
                self.tell_again(frame.spot);
                std::ptr::null_mut()
            }
            Opening::Refuse => return Err(Nonsense("a message that its link has no place for")),
        };
        self.sockets[at].coming = Some(Coming { frame, at: place, left: frame.len as usize });
        Ok(())
    }

    /// What the other rank was told of a link may not have reached it.
    fn tell_again(&mut self, spot: Spot) {
        if self.inbox(spot).tell_again() {
            self.telling = true;
            if !self.news.contains(&spot) {
                self.news.push(spot);
            }
        }
    }

    /// A new socket, in place of one that had its number.
    pub(super) fn add(&mut self, new: Socket) {
        if let Some(at) = self.sockets.iter().position(|socket| socket.index == new.index && !socket.retired) {
            // Both ends keep the later one, in whatever order they hear of them.
            if self.sockets[at].turn > new.turn {
                return;
            }
            // The other rank may not know yet, and compute: what it has said over the old one is still to be heard.
            self.retire(at);
        }
        self.sockets.push(new);
        self.sockets.sort_by_key(|socket| (socket.retired, socket.index));
    }

    /// Sends nothing more over a socket, and hears what still comes over it.
    fn retire(&mut self, at: usize) {
        self.requeue(at);
        self.sockets[at].retired = true;
        self.sockets.sort_by_key(|socket| (socket.retired, socket.index));
    }

    /// The other rank has left, and all that it said was heard: what it did not take it does not want.
    pub(super) fn give_up(&mut self) {
        self.small.clear();
        self.bulk.clear();
        self.sent.clear();
        self.news.clear();
        self.telling = false;
        self.out.iter_mut().for_each(|out| out.lent_until = None);
    }

    /// A socket is lost: what it took and what the other rank may not have waits again. Returns its number and its turn.
    pub(super) fn lose(&mut self, at: usize) -> (u8, u64) {
        self.requeue(at);
        let socket = self.sockets.remove(at);
        if let Some(Coming { frame, at: place, .. }) = &socket.coming
            && !place.is_null()
        {
            self.inbox(frame.spot).abandon(frame.seq, socket.carrier);
        }
        // A release that was told over it may be lost with it.
        for index in 0..self.inboxes.len() {
            self.tell_again(Spot::at(index));
        }
        (socket.index, socket.turn)
    }

    /// What a socket took and what the other rank may not have waits again.
    fn requeue(&mut self, at: usize) {
        self.forget_released();
        let carrier = self.sockets[at].carrier;
        let half_sent = self.sockets[at].stop();
        let mut again = Vec::new();
        self.sent.retain(|(parcel, took)| {
            if *took == carrier {
                again.push(*parcel);
            }
            *took != carrier
        });
        again.extend(half_sent);
        again.retain(|parcel| !before(parcel.seq, self.out[parcel.spot.index()].released));
        for parcel in again.into_iter().rev().map(|parcel| Parcel { again: true, ..parcel }) {
            let queue = if parcel.len <= SMALL_MESSAGE { &mut self.small } else { &mut self.bulk };
            queue.push_front(parcel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const SPOT: Spot = Spot { lane: 0, kind: LinkKind::PAIR };

    /// Joins two ends by a socket of that turn.
    fn join(ends: &mut [Peer; 2], turn: u64) {
        let (here, there) = UnixStream::pair().expect("a pair of sockets");
        for (end, stream) in ends.iter_mut().zip([here, there]) {
            stream.set_nonblocking(true).expect("a socket that does not wait");
            end.add(Socket::new(stream.into(), turn, 0, turn));
        }
    }

    /// Sends messages of that length, filled with their numbers.
    fn send(writer: &mut Peer, numbers: std::ops::Range<u32>, len: usize) {
        for number in numbers {
            let outbox = &mut writer.out(SPOT).pair;
            // SAFETY: the slot was reserved with that length.
            unsafe { outbox.reserve(len).write_bytes(number as u8, len) };
            let (seq, _) = outbox.seal(number);
            writer.push(Parcel { spot: SPOT, seq, len: len as u32, again: false }, false);
        }
        assert!(writer.pump(&Boards::new(), false).is_empty());
    }

    /// Takes in all that has come; the tags of what is whole, in order.
    fn receive(reader: &mut Peer, len: usize) -> Vec<u32> {
        while reader.take_in(0).expect("sense").expect("a living socket") != Taken::Nothing {}
        let mut tags = Vec::new();
        while let Some(message) = reader.inbox(SPOT).front() {
            assert_eq!(message.len, len);
            // SAFETY: a whole message has that many bytes.
            let bytes = unsafe { std::slice::from_raw_parts(message.at, len) };
            assert!(bytes.iter().all(|byte| *byte == message.tag as u8), "bytes of message {}", message.tag);
            tags.push(message.tag);
            reader.release(SPOT);
        }
        tags
    }

    #[test]
    fn messages_of_a_lost_socket_come_once_over_the_next_one() {
        for len in [8, 100_000] {
            let mut ends = [Peer::default(), Peer::default()];
            join(&mut ends, 1);
            send(&mut ends[0], 0..6, len);
            // Long ones are more than the socket holds: one of them is half sent.
            let mut seen = receive(&mut ends[1], len);
            assert_eq!(seen.len() == 6, len == 8);
            ends[0].pump(&Boards::new(), false);
            for end in &mut ends {
                assert_eq!(end.lose(0), (0, 1));
            }
            assert!(ends[0].is_owed(), "nothing was told to be released");
            join(&mut ends, 2);
            for _ in 0..20 {
                ends[0].pump(&Boards::new(), false);
                seen.extend(receive(&mut ends[1], len));
                ends[1].pump(&Boards::new(), true);
                assert_eq!(receive(&mut ends[0], len), [0u32; 0]);
            }
            assert_eq!(seen, [0, 1, 2, 3, 4, 5], "each once and in order");
            // What was released before the loss is told again; what came later waits for a message to go with.
            assert_eq!(!ends[0].is_owed(), len == 8);
        }
    }

    #[test]
    fn news_of_messages_that_were_never_sent_are_refused() {
        let mut peer = Peer::default();
        peer.out(SPOT).pair.reserve(8);
        let (seq, _) = peer.out(SPOT).pair.seal(7);
        peer.push(Parcel { spot: SPOT, seq, len: 8, again: false }, false);
        for released in [1, 2, 1000] {
            let frame = Frame { kind: Kind::Release, spot: SPOT, len: 0, seq: 0, tag: 0, released };
            assert!(peer.hear(&frame).is_err(), "{released} of a link whose only message still waits");
        }
    }
}
