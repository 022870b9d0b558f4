//! The RDMA queues of a rank: how they are agreed on with each other rank, how they are lost, and when they are tried again.
//!
//! ```text
//!   a socket to that rank is there ──> offer ──> joined ──> open         a queue that is lost is offered again after a while, under a
//!             ▲                          │                   │           higher number; whoever hears of a higher number makes a new
//!             └──────── later ───────────┴───── lost ────────┘           one, too: both ends have the same in the end
//! ```

use super::frame::HEADER;
use super::links::TcpLinks;
use super::peer::{Carried, SMALL_MESSAGE, Taken};
use super::sums::SUMMED;
use crate::error::Error;
use crate::plan::MOST_CHUNK_BYTES;
use crate::sys::verbs::Channel;
use crate::sys::verbs::abi::number::{EVENT_DEVICE_FATAL, EVENT_PORT_ACTIVE, EVENT_PORT_ERR};
use crate::sys::watched;
use crate::transport::verbs::offer::{Offer, Word};
use crate::transport::verbs::queue::{Lost, PARTS, Queue};
use crate::transport::verbs::{self, Nic};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first and the longest pause before a lost queue is tried again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a rank needs for its queues.
#[derive(Debug)]
pub(super) struct Queues {
    nics: Vec<Arc<Nic>>,
    /// How far each of them is.
    distances: Vec<u32>,
    /// One for each device port; they wake the rank.
    channels: Vec<Arc<Channel>>,
    /// The highest number of an attempt, by rank and index.
    attempts: BTreeMap<(u32, u8), u32>,
    /// Queues that are to be tried again, and how long the next pause is.
    again: Vec<(Instant, u32, u8)>,
    pauses: BTreeMap<(u32, u8), Duration>,
}

impl Queues {
    pub(super) fn new(nics: &[Arc<Nic>]) -> Queues {
        let opened = nics.iter().filter_map(|nic| match Channel::new(&nic.device) {
            Ok(channel) => Some((nic.clone(), channel)),
            Err(errno) => {
                log::warn!("verbs: {} wakes nobody and is not used ({})", nic.device.name(), errno.desc());
                None
            }
        });
        let (nics, channels): (Vec<_>, Vec<_>) = opened.unzip();
        let distances = verbs::distances(&nics);
        let (attempts, again, pauses) = Default::default();
        Queues { nics, distances, channels, attempts, again, pauses }
    }

    pub(super) fn are_there(&self) -> bool {
        !self.nics.is_empty()
    }

    /// Long messages will be sent from there, by a device if it knows that memory.
    #[inline]
    pub(super) fn lends(&self, at: *const u8, len: usize) {
        if self.are_there() {
            watched::sent_from(at, len);
        }
    }

    /// Queues between two ranks, if the other has as many devices: one for small messages, one a device for long ones.
    fn indices(&self) -> std::ops::Range<u8> {
        if self.nics.is_empty() { 0..0 } else { 0..1 + self.nics.len().min(15) as u8 }
    }

    fn nic_of(&self, index: u8) -> usize {
        usize::from(index.saturating_sub(1)).min(self.nics.len() - 1)
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.channels.iter().map(|channel| channel.fd())
    }

    /// Descriptors that become readable when there is news of a device.
    pub(super) fn news(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.nics.iter().map(|nic| nic.device.news_fd())
    }

    /// Takes what devices say of themselves: with a port that is back, lost queues are tried again at once.
    pub(super) fn hear_news(&mut self) {
        for nic in &self.nics {
            let device = &nic.device;
            while let Some(kind) = device.news() {
                match kind {
                    EVENT_PORT_ACTIVE => self.again.iter_mut().for_each(|(when, ..)| *when = Instant::now()),
                    EVENT_PORT_ERR => log::warn!("verbs: a port of {} is down", device.name()),
                    EVENT_DEVICE_FATAL => log::warn!("verbs: {} has failed", device.name()),
                    _ => {}
                }
            }
        }
    }

    pub(super) fn silence(&self) {
        self.channels.iter().for_each(|channel| channel.silence());
    }

    /// The number of the latest attempt.
    fn attempt(&self, rank: u32, index: u8) -> u32 {
        self.attempts.get(&(rank, index)).copied().unwrap_or(0)
    }

    /// Notes that a queue is to be tried again, and when.
    fn put_off(&mut self, rank: u32, index: u8) {
        let pause = self.pauses.entry((rank, index)).or_insert(FIRST_PAUSE);
        self.again.push((Instant::now() + *pause, rank, index));
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }

    /// Those whose time has come.
    fn due(&mut self) -> Vec<(u32, u8)> {
        if self.again.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        let due = self.again.iter().filter(|(when, ..)| *when <= now).map(|(_, rank, index)| (*rank, *index)).collect();
        self.again.retain(|(when, ..)| *when > now);
        due
    }
}

impl TcpLinks {
    /// There is a socket to that rank: queues that are not open are offered over it.
    pub(super) fn offer_queues(&mut self, rank: u32) {
        for index in self.queues.indices() {
            let open = self.peer(rank).queues.iter().any(|one| one.queue.index == index && one.queue.is_open());
            if !open {
                let attempt = self.queues.attempt(rank, index).saturating_add(1);
                self.offer(rank, index, attempt);
            }
        }
    }

    /// Makes a queue in place of any that has its index, and offers it.
    fn offer(&mut self, rank: u32, index: u8, attempt: u32) {
        self.drop_queue(rank, index);
        self.queues.attempts.insert((rank, index), attempt);
        match self.make(index, attempt) {
            Ok((queue, offer)) => {
                self.carriers += 1;
                let (carrier, distance) = (self.carriers, self.queues.distances[self.queues.nic_of(index)]);
                self.peer(rank).queues.push(Carried { carrier, distance, queue });
                self.say(rank, &Word::Offer(offer));
            }
            Err(errno) => {
                log::warn!("verbs: rank {}: no queue {index} to rank {rank} ({})", self.rank, errno.desc());
                self.give_up_queue(rank, index);
            }
        }
    }

    fn make(&self, index: u8, attempt: u32) -> Result<(Queue<super::peer::Parcel>, Offer), Errno> {
        let at = self.queues.nic_of(index);
        let (most, parts) = if index == 0 { (SMALL_MESSAGE, 1) } else { (MOST_CHUNK_BYTES, PARTS) };
        let header = if self.checked() { SUMMED } else { HEADER };
        Queue::new(&self.queues.nics[at], &self.queues.channels[at], index, attempt, (header, most as usize, parts))
    }

    fn say(&mut self, rank: u32, word: &Word) {
        self.peer(rank).to_say.push_back(word.encode());
        self.wants_to_send(rank);
    }

    fn drop_queue(&mut self, rank: u32, index: u8) {
        let peer = self.peer(rank);
        if let Some(at) = peer.queues.iter().position(|one| one.queue.index == index) {
            peer.lose_queue(at);
            self.wants_to_send(rank);
        }
    }

    /// A queue is lost: sockets carry on, and it is tried again later.
    pub(super) fn queue_lost(&mut self, rank: u32, index: u8, carried: bool, why: &str) {
        // One over which nothing ever got through is tried ever less often.
        if carried {
            self.queues.pauses.remove(&(rank, index));
        }
        log::warn!("verbs: rank {}: queue {index} to rank {rank} is lost ({why}): sockets carry on", self.rank);
        self.give_up_queue(rank, index);
    }

    /// The other end of this attempt is told that this one is not there, and there will be another attempt.
    fn give_up_queue(&mut self, rank: u32, index: u8) {
        let attempt = self.queues.attempt(rank, index);
        self.say(rank, &Word::Lost { index, attempt });
        self.queues.put_off(rank, index);
    }

    /// What a rank has said about queues.
    pub(super) fn hear_words(&mut self, rank: u32) -> Result<(), Error> {
        while let Some(bytes) = self.peer(rank).said.pop_front() {
            let Some(word) = Word::decode(&bytes) else {
                return Err(self.breaks(rank, "words about queues that no rank would say".into()));
            };
            // Without devices here nobody answers, and the sockets carry everything.
            if self.queues.are_there() {
                match word {
                    Word::Offer(offer) if self.queues.indices().contains(&offer.index) => self.take_offer(rank, &offer),
                    Word::Offer(_) => {}
                    Word::Ready { index, attempt } => self.take_ready(rank, index, attempt),
                    // Whoever lost it offers the next one.
                    Word::Lost { index, attempt } if attempt == self.queues.attempt(rank, index) => {
                        self.drop_queue(rank, index)
                    }
                    Word::Lost { .. } => {}
                }
            }
        }
        Ok(())
    }

    /// Where the other is ahead, this rank makes a new queue too; then the ends are joined.
    fn take_offer(&mut self, rank: u32, theirs: &Offer) {
        let (index, attempt) = (theirs.index, theirs.attempt);
        let own = self.queues.attempt(rank, index);
        if attempt < own {
            // It will hear of the later one.
            return;
        }
        if attempt > own {
            self.offer(rank, index, attempt);
        }
        let mine = |one: &&mut Carried| one.queue.index == index && one.queue.attempt == attempt;
        let Some(one) = self.peer(rank).queues.iter_mut().find(mine).filter(|one| one.queue.awaits_offer()) else {
            return;
        };
        match one.queue.join(theirs) {
            Ok(()) => self.say(rank, &Word::Ready { index, attempt }),
            Err(errno) => {
                log::warn!("verbs: queue {index} to rank {rank} can't be joined to the other end ({})", errno.desc());
                self.drop_queue(rank, index);
                self.give_up_queue(rank, index);
            }
        }
    }

    fn take_ready(&mut self, rank: u32, index: u8, attempt: u32) {
        let mine = |one: &&mut Carried| one.queue.index == index && one.queue.attempt == attempt;
        if let Some(one) = self.peer(rank).queues.iter_mut().find(mine) {
            one.queue.open();
            self.wants_to_send(rank);
        }
    }

    /// Sends what the queues to that rank take.
    pub(super) fn pump_queues(&mut self, rank: u32, tell: bool) {
        let TcpLinks { peers, boards, .. } = self;
        let Some(peer) = &mut peers[rank as usize] else { return };
        if peer.queues.is_empty() {
            return;
        }
        for ((index, carried), why) in peer.pump_queues(boards, tell) {
            self.queue_lost(rank, index, carried, &why);
        }
    }

    /// Takes in what has come over queues, up to a message.
    pub(super) fn advance_queues(&mut self, rank: u32) -> Result<Taken, Error> {
        if self.peers[rank as usize].as_ref().is_none_or(|peer| peer.queues.is_empty()) {
            return Ok(Taken::Nothing);
        }
        let taken = self.poll_queues(rank)?;
        self.note_owed(rank);
        Ok(taken)
    }

    fn poll_queues(&mut self, rank: u32) -> Result<Taken, Error> {
        let mut taken = Taken::Nothing;
        let mut at = 0;
        while taken != Taken::Message
            && let Some(peer) = &mut self.peers[rank as usize]
            && at < peer.queues.len()
        {
            match peer.take_in_queue(at) {
                Ok(Ok(Taken::Nothing)) => {}
                Ok(Ok(some)) => taken = some,
                Ok(Err(why)) => {
                    let (index, carried) = peer.lose_queue(at);
                    self.queue_lost(rank, index, carried, &why);
                    continue;
                }
                Err(nonsense) => return Err(self.breaks(rank, nonsense)),
            }
            let peer = self.peer(rank);
            if peer.must_tell() || peer.queues.get(at).is_some_and(|one| one.queue.owes_news()) {
                self.wants_to_send(rank);
            }
            at += 1;
        }
        Ok(taken)
    }

    /// Tries lost queues again whose pause is over.
    pub(super) fn try_again(&mut self) {
        for (rank, index) in self.queues.due() {
            let peer = self.peer(rank);
            let there = peer.queues.iter().any(|one| one.queue.index == index);
            if !there && peer.living() > 0 {
                let attempt = self.queues.attempt(rank, index).saturating_add(1);
                self.offer(rank, index, attempt);
            }
        }
    }

    /// From now on completions wake this rank.
    pub(super) fn arm_queues(&mut self) {
        let mut lost = Vec::new();
        for (rank, peer) in self.peers.iter_mut().enumerate() {
            let Some(peer) = peer else { continue };
            let mut at = 0;
            while at < peer.queues.len() {
                match peer.queues[at].queue.arm() {
                    Ok(()) => at += 1,
                    Err(Lost(why)) => lost.push((rank as u32, peer.lose_queue(at), why)),
                }
            }
        }
        for (rank, (index, carried), why) in lost {
            self.queue_lost(rank, index, carried, &why);
        }
    }
}
