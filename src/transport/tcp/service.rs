//! The service: a thread of each rank that lets the others in, makes connections, carries bad news, and says what the rank is doing. It
//! sleeps unless somebody calls.
//!
//! ```text
//!            0                 contacts from the start on: a tree, so that bad news reaches everybody
//!        ┌───┼───┐             and every death is seen by somebody;
//!        1   …   8             more of them on demand: from who waits to whom it waits for
//!      ┌─┼─┐   ┌─┼─┐
//! ```

use super::dialer::{Dialed, Dialer};
use super::note::Note;
use super::office::{Arrived, Office, Order};
use crate::boot::connection::{Broken, Connection, wait};
use crate::boot::gate::Gate;
use crate::boot::wire::Event;
use crate::transport::shm::status::Life;
use nix::poll::{PollFd, PollFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Children of a rank in the tree.
const FAN_OUT: u32 = 8;

/// How often those are asked that this rank waits for.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// How often data sockets are looked at while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long somebody who proved the secret may take to say what for.
const INTRODUCTION: Duration = Duration::from_secs(5);

/// The longest time for last words.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// The longest chain of ranks that wait for each other that is followed at a time.
const CHAIN: usize = 64;

/// The rank above in the tree of contacts.
pub(super) fn above(rank: u32) -> Option<u32> {
    rank.checked_sub(1).map(|below| below / FAN_OUT)
}

/// A connection to another rank's service.
struct Contact {
    connection: Connection,
    /// Who it is, once that was said.
    rank: Option<u32>,
    since: Instant,
    gone: bool,
}

/// A rank's service.
pub(super) struct Service {
    office: Arc<Office>,
    gate: Gate,
    contacts: Vec<Contact>,
    dialer: Dialer,
    /// When each rank was asked last.
    asked: BTreeMap<u32, Instant>,
    /// Ranks to which a contact broke without a good-bye.
    cut_off: BTreeSet<u32>,
    /// When the data sockets were looked at last.
    looked: Instant,
}

impl Service {
    pub(super) fn new(office: Arc<Office>, mut gate: Gate, dialer: Dialer) -> Service {
        gate.expect(office.size() as usize);
        let (contacts, asked, cut_off, looked) = (Vec::new(), BTreeMap::new(), BTreeSet::new(), Instant::now());
        Service { office, gate, contacts, dialer, asked, cut_off, looked }
    }

    /// Makes the first contact; or why it can't be made.
    pub(super) fn begin_with(&mut self, above: u32) -> Result<(), String> {
        let note = Note::Contact { rank: self.office.rank() };
        let connection = self.dialer.ask(above, 0, &note)?;
        self.add_contact(above, connection);
        Ok(())
    }

    fn add_contact(&mut self, rank: u32, connection: Connection) {
        connection.keep_alive();
        self.contacts.push(Contact { connection, rank: Some(rank), since: Instant::now(), gone: false });
    }

    pub(super) fn run(mut self) {
        loop {
            let (at_gate, at_contacts) = self.sleep();
            let orders = self.office.take_orders();
            let leaves = orders.contains(&Order::Leave);
            for order in orders {
                self.follow(order);
            }
            self.take_dialed();
            for (index, ready) in at_contacts.into_iter().enumerate() {
                if ready {
                    self.attend(index);
                }
            }
            let now = Instant::now();
            for mut connection in self.gate.serve(&at_gate, now) {
                connection.read_exactly(true);
                self.contacts.push(Contact { connection, rank: None, since: now, gone: false });
            }
            if leaves {
                self.say_farewell();
                self.office.close();
                return;
            }
            self.ask_around(now);
            self.contacts
                .retain(|contact| !contact.gone && (contact.rank.is_some() || now < contact.since + INTRODUCTION));
        }
    }

    fn sleep(&self) -> (Vec<bool>, Vec<bool>) {
        let mut fds = Vec::new();
        self.gate.watch(&mut fds);
        let doors = fds.len();
        fds.extend(self.contacts.iter().map(|contact| contact.connection.interest()));
        fds.push(PollFd::new(self.office.wake_fd(), PollFlags::POLLIN));
        let asks = self.office.wanted().map(|_| Instant::now() + ASK_EVERY);
        let strangers = self.contacts.iter().filter(|contact| contact.rank.is_none());
        let introduced = strangers.map(|contact| contact.since + INTRODUCTION).min();
        wait(&mut fds, [self.gate.deadline(), asks, introduced].into_iter().flatten().min());
        fds.pop();
        let mut ready: Vec<bool> =
            fds.iter().map(|fd| fd.revents().is_some_and(|events| events != PollFlags::empty())).collect();
        let contacts = ready.split_off(doors);
        (ready, contacts)
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Connect { rank, index, after } if rank > self.office.rank() => {
                self.dialer.connect(rank, index, after)
            }
            Order::Connect { rank, index, after } => self.dialer.knock(rank, index, after),
            Order::Ask { rank } => self.ask(rank),
            Order::Spread => self.spread_abort(None),
            Order::Leave => {}
        }
    }

    /// Takes what dialers have brought.
    fn take_dialed(&mut self) {
        for dialed in self.dialer.take() {
            match dialed {
                Dialed::Contact(rank, connection) => {
                    self.cut_off.remove(&rank);
                    self.add_contact(rank, *connection);
                    self.ask(rank);
                }
                Dialed::Nobody(rank, how) if self.cut_off.remove(&rank) => self.lose(rank, &how, None),
                Dialed::Nobody(rank, how) => self.office.miss(rank, &how),
            }
        }
    }

    /// A rank is gone: everybody is told who does not know it.
    fn lose(&mut self, rank: u32, how: &str, told_by: Option<u32>) {
        if rank != self.office.rank() && self.office.lose(rank, how) {
            let note = Note::Lost { rank, how: how.into() };
            self.tell_all(&note, told_by);
        }
    }

    fn spread_abort(&mut self, told_by: Option<u32>) {
        if let Some(abort) = self.office.reason() {
            self.tell_all(&Note::Abort(abort), told_by);
        }
    }

    fn tell_all(&mut self, note: &Note, but: Option<u32>) {
        let bytes = note.encode();
        for contact in self.contacts.iter_mut().filter(|contact| contact.rank.is_some() && contact.rank != but) {
            contact.connection.send_bytes(&bytes);
        }
    }

    /// Takes what a contact brings.
    fn attend(&mut self, index: usize) {
        self.contacts[index].connection.flush();
        self.contacts[index].connection.fill();
        while !self.contacts[index].gone {
            match self.contacts[index].connection.next_event() {
                Ok(None) => return,
                Ok(Some(Event::Proved)) => {}
                Ok(Some(Event::Frame(bytes))) => match Note::decode(&bytes, self.office.size()) {
                    Some(note) => self.hear(index, note),
                    None => {
                        let peer = &self.contacts[index].connection.peer;
                        log::warn!("tcp: refused {peer}: it sent a note that makes no sense");
                        self.contacts[index].gone = true;
                    }
                },
                Err(broken) => {
                    self.contacts[index].gone = true;
                    self.lost_contact(index, &broken);
                }
            }
        }
    }

    fn lost_contact(&mut self, index: usize, broken: &Broken) {
        let Some(rank) = self.contacts[index].rank else { return };
        let others = self.contacts.iter().any(|contact| contact.rank == Some(rank) && !contact.gone);
        if others || self.office.status(rank).life() == Life::Left || self.office.is_lost(rank).is_some() {
            return;
        }
        // Its process may have ended, or only the connection: somebody answers at its address or not.
        log::debug!("tcp: rank {}: no contact to rank {rank} any more: {broken}", self.office.rank());
        self.cut_off.insert(rank);
        self.dialer.contact(rank);
    }

    fn hear(&mut self, index: usize, note: Note) {
        let Some(rank) = self.contacts[index].rank else { return self.introduce(index, note) };
        match note {
            Note::Ask => {
                self.answer(index);
                self.look_at_sockets(Instant::now());
            }
            Note::Report(report) => {
                self.office.mirror(rank, &report);
            }
            Note::Abort(abort) => {
                if self.office.note_abort(&abort) {
                    self.spread_abort(Some(rank));
                }
            }
            Note::Lost { rank: gone, how } => self.lose(gone, &how, Some(rank)),
            Note::Bye => self.office.status(rank).set_life(Life::Left),
            Note::Welcome => {}
            Note::Data { .. } | Note::Contact { .. } | Note::Knock { .. } => {
                log::warn!("tcp: rank {rank} introduces itself twice");
                self.contacts[index].gone = true;
            }
        }
    }

    /// Somebody says what it came for.
    fn introduce(&mut self, index: usize, note: Note) {
        self.contacts[index].connection.send_bytes(&Note::Welcome.encode());
        match note {
            Note::Contact { rank } => {
                self.contacts[index].rank = Some(rank);
                self.contacts[index].connection.read_exactly(false);
                self.contacts[index].connection.keep_alive();
                if self.office.has_ended() {
                    self.spread_abort(None);
                }
            }
            Note::Data { rank, index: socket, turn } => {
                self.contacts[index].gone = true;
                match self.contacts[index].connection.hand_over() {
                    Some((fd, keys)) => self.office.arrive(Arrived { rank, index: socket, turn, socket: fd, keys }),
                    None => log::warn!("tcp: rank {rank} sent data before it was welcome"),
                }
            }
            Note::Knock { rank, index: socket, after } => {
                self.contacts[index].gone = true;
                if rank > self.office.rank() {
                    self.dialer.connect(rank, socket, after);
                }
            }
            _ => {
                log::warn!("tcp: refused {}: it did not say what for it came", self.contacts[index].connection.peer);
                self.contacts[index].gone = true;
            }
        }
    }

    fn answer(&mut self, index: usize) {
        if let Some(abort) = self.office.reason() {
            self.contacts[index].connection.send_bytes(&Note::Abort(abort).encode());
        }
        if let Some(rank) = self.contacts[index].rank {
            let report = Note::Report(self.office.report(rank));
            self.contacts[index].connection.send_bytes(&report.encode());
        }
    }

    /// A message that does not get through holds somebody up: this rank, or whoever asks.
    fn look_at_sockets(&mut self, now: Instant) {
        if now >= self.looked + LOOK_EVERY {
            self.looked = now;
            self.office.cut_stuck_sockets();
        }
    }

    /// Asks those that this rank waits for, one after the other, what they do.
    fn ask_around(&mut self, now: Instant) {
        if self.office.wanted().is_some() {
            self.look_at_sockets(now);
        }
        let mut seen = vec![self.office.rank()];
        let mut next = self.office.wanted();
        while let Some(rank) = next.filter(|rank| *rank < self.office.size() && !seen.contains(rank)) {
            seen.push(rank);
            if seen.len() > CHAIN || !self.office.takes_part(rank) {
                return;
            }
            if self.asked.get(&rank).is_none_or(|since| now >= *since + ASK_EVERY) {
                self.asked.insert(rank, now);
                self.ask(rank);
            }
            next = self.office.status(rank).waiting_for();
        }
    }

    fn ask(&mut self, rank: u32) {
        let contact = self.contacts.iter_mut().find(|contact| contact.rank == Some(rank) && !contact.gone);
        match contact {
            Some(contact) => {
                contact.connection.send_bytes(&Note::Ask.encode());
            }
            None if self.office.status(rank).life() == Life::Left => {}
            None => self.dialer.contact(rank),
        }
    }

    /// Tells all contacts that this rank leaves, and sees that they can hear it.
    fn say_farewell(&mut self) {
        self.gate.close();
        for contact in &mut self.contacts {
            if let Some(rank) = contact.rank {
                contact.connection.send_bytes(&Note::Report(self.office.report(rank)).encode());
                contact.connection.send_bytes(&Note::Bye.encode());
            }
        }
        let until = Instant::now() + LAST_WORDS;
        loop {
            let mut fds: Vec<PollFd<'_>> = self
                .contacts
                .iter()
                .filter(|contact| !contact.gone && contact.connection.has_output())
                .map(|contact| contact.connection.interest())
                .collect();
            if fds.is_empty() || Instant::now() >= until {
                return;
            }
            wait(&mut fds, Some(until));
            drop(fds);
            for contact in &mut self.contacts {
                contact.connection.flush();
                contact.connection.fill();
                contact.gone |= contact.connection.is_broken();
            }
        }
    }
}
