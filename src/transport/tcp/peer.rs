//! Everything between this rank and one other: sockets, what waits to be sent, what was sent and not released, what has come.
//!
//! ```text
//!   publish ──> small │ bulk (queues) ──> whichever socket is free ──> sent ──> released: forgotten
//!                 ▲                                              │
//!                 └────────── its socket is lost ────────────────┘
//! ```

mod carried;

use super::frame::{Frame, Kind, LinkKind, Spot};
use super::inbox::{Inbox, Opening};
use super::outbox::{Letter, Outbox};
use super::socket::{Coming, Socket};
use super::sums::sum;
use crate::sys::stream::unacknowledged;
use crate::transport::verbs::flow::Flow;
use crate::transport::verbs::queue::Queue;
use nix::errno::Errno;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

/// Messages of at most so many bytes go over the socket for small ones, where nothing long is ever in front of them.
pub(super) const SMALL_MESSAGE: u32 = 4096;

/// Words about queues that may wait to be read: an offer and an answer for each queue, and again.
const MOST_WORDS: usize = 64;

/// So many released messages are told at the latest, also if nothing goes to their writer anyway.
const TELL_AT: u32 = super::outbox::SLOTS / 2;

/// Bytes of long messages that wait for each other at most. 512 KiB each way over the loopback, in four messages: 150 us with a system call
/// each, 120 with one.
const TOGETHER: usize = 1 << 20;

/// The same where queues carry them: what waits together goes in one write.
const TOGETHER_IN_QUEUES: usize = 1 << 20;

/// A message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parcel {
    pub(super) spot: Spot,
    pub(super) seq: u32,
    pub(super) len: u32,
    /// It was sent before, over a socket that is lost: the other rank may have it.
    pub(super) again: bool,
}

/// Who brings or takes a message: a socket or a queue, by its number in this rank's life.
pub(super) type Carrier = u64;

/// An RDMA queue with its number in this rank's life.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) carrier: Carrier,
    /// How far its device is from this rank.
    pub(super) distance: u32,
    pub(super) queue: Queue<Parcel>,
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

/// What the other rank sent makes no sense, or is not what it sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nonsense(pub(super) Cow<'static, str>);

impl From<&'static str> for Nonsense {
    fn from(what: &'static str) -> Nonsense {
        Nonsense(what.into())
    }
}

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
    pub(super) queues: Vec<Carried>,
    /// The stream of long messages over queues to the other rank, and the one from it.
    flow_out: Flow,
    flow_in: Flow,
    /// Messages have checksums.
    checked: bool,
    /// A message whose memory was changed after it was published.
    pub(super) changed: Option<Parcel>,
    /// Looks at the queues since the sockets were looked at.
    pub(super) unlooked: u32,
    /// What is to be said about queues, over the first socket; and what was said.
    pub(super) to_say: VecDeque<Vec<u8>>,
    pub(super) said: VecDeque<Vec<u8>>,
    /// The word that is being sent, and the one that comes.
    saying: Vec<u8>,
    hearing: Vec<u8>,
    small: VecDeque<Parcel>,
    bulk: VecDeque<Parcel>,
    out: Vec<Out>,
    inboxes: Vec<Inbox>,
    /// Messages that are not released, with the carriers that took them: at most a window of each link.
    sent: Vec<(Parcel, Carrier)>,
    /// Links from the other rank with releases that it is to be told.
    news: Vec<Spot>,
    /// It is to be told all of them, as soon as the socket takes it.
    telling: bool,
}

/// `a` comes before `b` on a link.
fn before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < u32::MAX / 2
}

/// Notes that a carrier took a message. One that was sent again may be released already.
fn note_sent(sent: &mut Vec<(Parcel, Carrier)>, out: &[Out], parcel: Parcel, carrier: Carrier) {
    if !before(parcel.seq, out[parcel.spot.index()].released) {
        sent.push((parcel, carrier));
    }
}

/// Whether a message is still what it was when it was published.
fn is_still(at: *const u8, len: u32, published: u32) -> bool {
    // SAFETY: a message lies where it was written or lent until it is released.
    unsafe { sum(at, len as usize) == published }
}

/// Whether a payload that ends there is the one that was sent.
fn check(frame: &Frame, end: *const u8, (over, index): (&str, u8)) -> Result<(), Nonsense> {
    let begin = end.wrapping_sub(frame.len as usize);
    // SAFETY: all of it has come, to a place that is this rank's alone until it is shown.
    let came = unsafe { sum(begin, frame.len as usize) };
    if came == frame.sum {
        return Ok(());
    }
    let what = match frame.kind {
        Kind::Word => "words about queues".to_string(),
        _ => format!("message {} of {}", frame.seq, frame.spot.name()),
    };
    Err(Nonsense(
        format!(
            "{what}, {} bytes over {over} {index}, whose checksum is wrong ({came:#010x}, and {:#010x} was published): it was whole when its \
             rank began to send it, so it was changed on the way: in the network, a device, a kernel, or memory there or here",
            frame.len, frame.sum
        )
        .into(),
    ))
}

impl Peer {
    /// A rank from and to which nothing has gone. `checked`: messages have checksums.
    pub(super) fn new(checked: bool) -> Peer {
        Peer { checked, ..Peer::default() }
    }

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

    /// Whether the long messages that wait may wait for more of them.
    pub(super) fn gathers(&self) -> bool {
        let most = if self.served_by_queues().1 { TOGETHER_IN_QUEUES } else { TOGETHER };
        self.bulk.iter().map(|parcel| parcel.len as usize).sum::<usize>() < most
    }

    /// Whether all messages are with the kernel.
    pub(super) fn is_sent(&self) -> bool {
        let sends = self.sockets.iter().any(Socket::is_sending) || self.queues.iter().any(|one| one.queue.is_sending());
        self.small.is_empty() && self.bulk.is_empty() && self.to_say.is_empty() && !sends
    }

    /// Whether the other rank's kernel has all messages.
    pub(super) fn is_delivered(&self) -> bool {
        let waits = |socket: &Socket| unacknowledged(socket.fd()).is_ok_and(|bytes| bytes > 0);
        self.is_sent() && !self.sockets.iter().any(waits) && self.queues.iter().all(|one| one.queue.is_delivered())
    }

    /// Whether no message of the caller's memory is under way.
    pub(super) fn is_settled(&mut self) -> bool {
        for out in &mut self.out {
            out.lent_until = out.lent_until.filter(|end| before(out.released, *end));
        }
        self.out.iter().all(|out| out.lent_until.is_none())
    }

    /// Whether the other rank has not released everything, so that a lost socket matters.
    pub(super) fn is_owed(&self) -> bool {
        !(self.sent.is_empty() && self.is_sent())
    }

    /// Sockets over which something can be sent; they come first.
    pub(super) fn living(&self) -> usize {
        self.sockets.iter().take_while(|socket| !socket.retired).count()
    }

    /// The turn of the latest socket of that number; 0: there is none.
    pub(super) fn turn(&self, index: u8) -> u64 {
        self.sockets.iter().filter(|socket| socket.index == index).map(|socket| socket.turn).max().unwrap_or(0)
    }

    /// The next frame for a carrier of these kinds of messages, where its payload lies, and the message, if it is one.
    fn next_frame(&mut self, carries: (bool, bool), boards: &Boards) -> Option<(Frame, *const u8, Option<Parcel>)> {
        let Peer { small, bulk, news, inboxes, out, telling, checked, .. } = self;
        if carries.0 && *telling {
            while let Some(spot) = news.pop() {
                let inbox = &mut inboxes[spot.index()];
                if inbox.untold() > 0 {
                    let (len, seq, tag, sum) = (0, 0, 0, 0);
                    let frame = Frame { kind: Kind::Release, spot, len, seq, tag, released: inbox.tell(), sum };
                    return Some((frame, std::ptr::null(), None));
                }
            }
            *telling = false;
        }
        let queue = if carries.0 && !small.is_empty() {
            small
        } else if carries.1 {
            bulk
        } else {
            return None;
        };
        let parcel = queue.pop_front()?;
        let Parcel { spot, seq, len, .. } = parcel;
        let outbox = if spot.kind == LinkKind::PAIR { Some(&out[spot.index()].pair) } else { boards.get(&spot) };
        let Letter { at: from, tag, sum, lent } = outbox?.letter(seq);
        if *checked && !is_still(from, len, sum) {
            // It is not sent: whoever asks for something next hears why.
            self.changed = Some(parcel);
            queue.push_front(parcel);
            return None;
        }
        let kind = if lent { Kind::Lent } else { Kind::Kept };
        let released = inboxes.get_mut(spot.index()).map_or(0, Inbox::tell);
        Some((Frame { kind, spot, len, seq, tag, released, sum }, from, Some(parcel)))
    }

    /// Which sockets carry what: small messages go over the first, long ones over all others, or over the first where there is no other.
    /// Whether there was something for this one.
    fn next_for(&mut self, at: usize, boards: &Boards) -> bool {
        let (first, only) = (at == 0, self.living() == 1);
        if first && let Some(word) = self.next_word() {
            self.sockets[at].begin(&word, self.saying.as_ptr(), None);
            return true;
        }
        let (no_small, no_bulk) = self.served_by_queues();
        let carries = (first && !no_small, (!first || only) && !no_bulk);
        let Some((frame, from, parcel)) = self.next_frame(carries, boards) else { return false };
        self.sockets[at].begin(&frame, from, parcel);
        true
    }

    /// Gives each long message to the socket that has the least before it, where several carry them: those of several interfaces work at once,
    /// and over one through which little gets little goes.
    fn deal(&mut self, boards: &Boards) {
        let living = self.living();
        if living < 3 || self.bulk.is_empty() || self.served_by_queues().1 {
            return;
        }
        let mut loads: Vec<usize> = self.sockets[1..living].iter().map(Socket::before_next).collect();
        loop {
            let free = (1..living).filter(|at| self.sockets[*at].has_room());
            let Some(at) = free.min_by_key(|at| loads[at - 1]) else { return };
            let Some((frame, from, parcel)) = self.next_frame((false, true), boards) else { return };
            loads[at - 1] += frame.len as usize;
            self.sockets[at].begin(&frame, from, parcel);
        }
    }

    /// The next word about queues; the one before it has gone.
    fn next_word(&mut self) -> Option<Frame> {
        // Whichever socket sends the one before it reads it from there.
        if self.sockets.iter().any(Socket::is_sending) {
            return None;
        }
        self.saying = self.to_say.pop_front()?;
        let (len, seq, tag, released) = (self.saying.len() as u32, 0, 0, 0);
        // SAFETY: the word is this peer's own.
        let sum = if self.checked { unsafe { sum(self.saying.as_ptr(), self.saying.len()) } } else { 0 };
        let spot = Spot { lane: 0, kind: LinkKind::PAIR };
        Some(Frame { kind: Kind::Word, spot, len, seq, tag, released, sum })
    }

    /// Sends what the sockets take. `tell`: also news of releases. Sockets that are lost are given back.
    pub(super) fn pump(&mut self, boards: &Boards, tell: bool) -> Vec<(u8, u64, Errno)> {
        self.telling |= tell;
        self.deal(boards);
        let (mut lost, mut at) = (Vec::new(), 0);
        while at < self.living() {
            while self.sockets[at].has_room() && self.next_for(at, boards) {}
            if !self.sockets[at].is_sending() {
                at += 1;
                continue;
            }
            let Peer { sockets, sent, out, .. } = self;
            let carrier = sockets[at].carrier;
            let gone = sockets[at].go_on(|parcel| note_sent(sent, out, parcel, carrier));
            self.changed = self.changed.take().or(self.sockets[at].changed);
            match gone {
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
            match self.sockets[at].read()? {
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
                let coming = self.sockets[at].coming.take();
                if let Some(Coming { frame, at: end, .. }) = &coming
                    && self.checked
                    && !end.is_null()
                {
                    check(frame, *end, ("socket", self.sockets[at].index))?;
                }
                match coming {
                    Some(Coming { frame, at: end, .. }) if frame.kind == Kind::Word => {
                        if end.is_null() {
                            continue;
                        }
                        let word = std::mem::take(&mut self.hearing);
                        self.said.push_back(word);
                    }
                    Some(Coming { frame, at: end, .. }) if !end.is_null() => {
                        self.complete(&frame);
                        return Ok(true);
                    }
                    _ => {}
                }
            }
            let Some(frame) = self.sockets[at].next_frame()? else {
                self.sockets[at].compact();
                return Ok(false);
            };
            match frame.kind {
                Kind::Word => self.begin_to_hear(at, frame)?,
                Kind::Release => self.hear(&frame)?,
                Kind::Kept | Kind::Lent => {
                    self.hear(&frame)?;
                    let place = self.place_for(&frame)?;
                    self.sockets[at].coming = Some(Coming { frame, at: place, left: frame.len as usize });
                }
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
            return Err("news of a message that it can't have".into());
        }
        // The bytes of what is half sent must stay: the news comes again when the other rank has seen that it has them already.
        if !is_again {
            self.small.retain(|parcel| !covers(parcel));
            self.bulk.retain(|parcel| !covers(parcel));
            self.sent.retain(|(parcel, _)| !covers(parcel));
            self.out(spot).released = released;
        }
        Ok(())
    }

    /// A word about queues begins to come. One at a time: they are few.
    fn begin_to_hear(&mut self, at: usize, frame: Frame) -> Result<(), Nonsense> {
        if self.said.len() >= MOST_WORDS {
            return Err("more words about queues than any rank would send".into());
        }
        // Half a word over a socket that is gone: nobody will say the rest of it.
        let others = self.sockets.iter_mut().filter_map(|socket| socket.coming.as_mut());
        for coming in others.filter(|coming| coming.frame.kind == Kind::Word) {
            coming.at = std::ptr::null_mut();
        }
        self.hearing = vec![0; frame.len as usize];
        let place = self.hearing.as_mut_ptr();
        self.sockets[at].coming = Some(Coming { frame, at: place, left: frame.len as usize });
        Ok(())
    }

    /// Where the payload of a message goes that begins to come; null: nowhere.
    fn place_for(&mut self, frame: &Frame) -> Result<*mut u8, Nonsense> {
        Ok(match self.inbox(frame.spot).open(frame) {
            Opening::Take(place) => place,
            Opening::Drop => {
                self.tell_again(frame.spot);
                std::ptr::null_mut()
            }
            Opening::Refuse => return Err("a message that its link has no place for".into()),
        })
    }

    /// Where the sockets put what they still bring of a message.
    fn brought(&mut self, spot: Spot, seq: u32) -> impl Iterator<Item = &mut *mut u8> {
        let coming = self.sockets.iter_mut().filter_map(|socket| socket.coming.as_mut());
        let same = move |frame: &Frame| frame.kind != Kind::Word && (frame.spot, frame.seq) == (spot, seq);
        coming.filter(move |coming| same(&coming.frame) && !coming.at.is_null()).map(|coming| &mut coming.at)
    }

    /// All of a message has come. What another socket still brings of it goes nowhere: its place may soon be something else's.
    fn complete(&mut self, frame: &Frame) {
        self.brought(frame.spot, frame.seq).for_each(|at| *at = std::ptr::null_mut());
        self.inbox(frame.spot).complete(frame.seq);
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
        let half_sent = self.sockets[at].stop();
        self.requeue(self.sockets[at].carrier, half_sent);
        self.sockets[at].retired = true;
        self.sockets.sort_by_key(|socket| (socket.retired, socket.index));
    }

    /// The other rank has left, and all that it said was heard: what it did not take it does not want.
    pub(super) fn give_up(&mut self) {
        self.small.clear();
        self.bulk.clear();
        self.sent.clear();
        self.to_say.clear();
        self.news.clear();
        self.telling = false;
        self.out.iter_mut().for_each(|out| out.lent_until = None);
    }

    /// A socket is lost: what it took and what the other rank may not have waits again. Returns its number and its turn.
    pub(super) fn lose(&mut self, at: usize) -> (u8, u64) {
        let half_sent = self.sockets[at].stop();
        self.requeue(self.sockets[at].carrier, half_sent);
        let socket = self.sockets.remove(at);
        if let Some(Coming { frame, at: place, .. }) = &socket.coming
            && !place.is_null()
            && frame.kind != Kind::Word
            && self.brought(frame.spot, frame.seq).next().is_none()
        {
            self.inbox(frame.spot).abandon(frame.seq);
        }
        // A release that was told over it may be lost with it.
        for index in 0..self.inboxes.len() {
            self.tell_again(Spot::at(index));
        }
        (socket.index, socket.turn)
    }

    /// What a carrier took and what the other rank may not have waits again.
    fn requeue(&mut self, carrier: Carrier, half_sent: Vec<Parcel>) {
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
mod tests;
