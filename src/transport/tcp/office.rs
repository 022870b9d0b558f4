//! What a rank and its service have in common: the service is a thread that answers the others also while the rank computes.
//!
//! ```text
//!   rank's thread ── orders ──> service ── notes ──> other services
//!        ▲                         │
//!        └── new sockets, news ────┘          statuses: a mirror of what the others do, as far as it was asked for
//! ```

use super::note::Report;
use super::paths::{Path, paths, sockets};
use crate::boot::interfaces::{MOST_SITES, Site};
use crate::boot::message::{Reader, Writer};
use crate::boot::wire::DataKeys;
use crate::sys::stream::is_stuck;
use crate::transport::shm::status::{Header, Life, Status};
use crate::transport::{Abort, Entered};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{Shutdown, shutdown};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// The longest wait for the service to say good-bye.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long an answer about another rank is waited for.
const MOMENT: Duration = Duration::from_millis(500);

/// A place where a rank listens, and how far its network goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) socket: SocketAddr,
    /// Bits that all addresses of the network share.
    pub(crate) prefix: u8,
}

impl At {
    pub(super) fn site(self) -> Site {
        Site { ip: self.socket.ip(), prefix: self.prefix }
    }
}

/// Where a rank is reached, and who it is for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Its process listens at each of them.
    pub(crate) at: Vec<At>,
    /// The sockets for long messages that it asks for, at least.
    pub(crate) streams: u8,
    pub(crate) pid: u32,
    pub(crate) host: String,
}

/// The most sockets for long messages between two ranks.
pub(crate) const MOST_STREAMS: u8 = 16;

impl Address {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.u32(self.pid).text(&self.host).u8(self.streams).u32(self.at.len() as u32);
        for at in &self.at {
            out.u8(at.prefix).socket_address(Some(at.socket));
        }
        out.0
    }

    /// Nothing for bytes that make no sense: a rank has an address.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Address> {
        let mut from = Reader(bytes);
        let (pid, host, streams, count) = (from.u32()?, from.text()?, from.u8()?, from.u32()? as usize);
        if !(1..=MOST_SITES).contains(&count) || streams > MOST_STREAMS {
            return None;
        }
        let at = (0..count).map(|_| {
            let prefix = from.u8()?;
            Some(At { prefix, socket: from.socket_address()?? })
        });
        let at = at.collect::<Option<Vec<_>>>()?;
        let host = host.replace(char::is_control, " ");
        from.0.is_empty().then_some(Address { at, streams, pid, host })
    }
}

/// A data socket that has been made.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) rank: u32,
    pub(super) index: u8,
    pub(super) turn: u64,
    pub(super) socket: OwnedFd,
    /// What its data is encrypted with, if it is.
    pub(super) keys: DataKeys,
}

/// What a rank wants of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// A data socket to that rank, later than the one of that turn.
    Connect { rank: u32, index: u8, after: u64 },
    /// Ask that rank what it does.
    Ask { rank: u32 },
    /// Tell everybody why the communicator has ended.
    Spread,
    /// Say good-bye and end.
    Leave,
}

/// What a rank and its service have in common.
#[derive(Debug)]
pub(crate) struct Office {
    rank: u32,
    pub(super) addresses: Vec<Address>,
    header: Header,
    statuses: Vec<Status>,
    orders: Mutex<Vec<Order>>,
    /// Wakes the service.
    wake: EventFd,
    arrivals: Mutex<Vec<Arrived>>,
    /// Counts what the service did that the rank may want to know.
    news: AtomicU32,
    /// Wakes the rank.
    bell: EventFd,
    /// Ranks that died: everybody is told.
    lost: Mutex<BTreeMap<u32, String>>,
    /// Ranks at whose address nobody answered: that they have left, perhaps, and only who needs them minds.
    absent: Mutex<BTreeMap<u32, String>>,
    any_lost: AtomicBool,
    /// Ranks to which connections are being made: what comes over them may come from a rank that has left meanwhile.
    dialing: Mutex<Vec<u32>>,
    /// The rank that this one waits for, plus one; 0: it waits for nobody, or not for long.
    wanted: AtomicU32,
    /// For each rank, the last call that it has ended and whose messages are here.
    delivered: Vec<AtomicU64>,
    /// For each rank, whether something waits to be sent there, or is under way in an RDMA queue: the kernel's sockets don't tell that.
    owes: Vec<AtomicBool>,
    /// Answers of each rank so far.
    answers: Mutex<BTreeMap<u32, u64>>,
    answered: Condvar,
    data_sockets: Mutex<BTreeMap<u32, Vec<Weak<OwnedFd>>>>,
    /// Whether the service has ended.
    closed: Mutex<bool>,
    closing: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Office {
    pub(super) fn new(rank: u32, addresses: Vec<Address>) -> nix::Result<Office> {
        let event = || EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let statuses: Vec<Status> = addresses.iter().map(|_| Status::default()).collect();
        statuses.iter().for_each(|status| status.set_life(Life::Present));
        let (orders, arrivals, lost, absent, closed) = Default::default();
        let delivered = addresses.iter().map(|_| AtomicU64::new(0)).collect();
        let owes = addresses.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Office {
            rank,
            addresses,
            header: Header::default(),
            statuses,
            orders,
            wake: event()?,
            arrivals,
            news: AtomicU32::new(0),
            bell: event()?,
            lost,
            absent,
            dialing: Mutex::default(),
            any_lost: AtomicBool::new(false),
            wanted: AtomicU32::new(0),
            delivered,
            owes,
            answers: Mutex::default(),
            answered: Condvar::new(),
            data_sockets: Mutex::default(),
            closed,
            closing: Condvar::new(),
        })
    }

    pub(crate) fn rank(&self) -> u32 {
        self.rank
    }

    pub(crate) fn size(&self) -> u32 {
        self.addresses.len() as u32
    }

    /// What a rank is doing, as far as it is known here.
    pub(super) fn status(&self, rank: u32) -> &Status {
        &self.statuses[rank as usize]
    }

    /// A rank's process in words.
    pub(super) fn name(&self, rank: u32) -> String {
        let address = &self.addresses[rank as usize];
        format!("process {} on {}", address.pid, address.host)
    }

    /// The ways to another rank.
    pub(super) fn paths(&self, rank: u32) -> Vec<Path> {
        paths(&self.addresses[self.rank as usize], &self.addresses[rank as usize])
    }

    /// Data sockets to another rank.
    pub(super) fn sockets(&self, rank: u32) -> u8 {
        sockets(&self.addresses[self.rank as usize], &self.addresses[rank as usize])
    }

    /// A data socket to that rank is wanted, later than the one of that turn.
    pub(super) fn want(&self, rank: u32, index: u8, after: u64) {
        self.order(Order::Connect { rank, index, after });
    }

    fn order(&self, order: Order) {
        let mut orders = lock(&self.orders);
        if !orders.contains(&order) {
            orders.push(order);
        }
        drop(orders);
        self.rouse();
    }

    /// Wakes the service.
    pub(super) fn rouse(&self) {
        let _full_means_awake = self.wake.write(1);
    }

    /// What the service sleeps on.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    pub(super) fn take_orders(&self) -> Vec<Order> {
        let _nobody_may_have_called = self.wake.read();
        std::mem::take(&mut *lock(&self.orders))
    }

    /// A number that changes when the service has done something that the rank may want to know.
    #[inline]
    pub(super) fn news(&self) -> u32 {
        self.news.load(Ordering::Acquire)
    }

    fn tell_rank(&self) {
        self.news.fetch_add(1, Ordering::Release);
        let _full_means_awake = self.bell.write(1);
    }

    pub(super) fn arrive(&self, arrived: Arrived) {
        lock(&self.arrivals).push(arrived);
        self.tell_rank();
    }

    /// The data sockets that were made.
    pub(super) fn arrivals(&self) -> Vec<Arrived> {
        std::mem::take(&mut *lock(&self.arrivals))
    }

    /// What the rank sleeps on, beside its sockets.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub(super) fn silence(&self) {
        let _nobody_may_have_called = self.bell.read();
    }

    /// Whether somebody has ended the communicator.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.header.aborted()
    }

    /// Who has ended it.
    pub(crate) fn aborter(&self) -> Option<u32> {
        self.header.aborter()
    }

    /// Notes why the communicator ends. False: it has ended before.
    pub(super) fn note_abort(&self, abort: &Abort) -> bool {
        let first = self.header.abort(abort);
        if first {
            self.tell_rank();
            drop(lock(&self.answers));
            self.answered.notify_all();
        }
        first
    }

    /// Ends the communicator for all ranks; the first reason counts.
    pub(crate) fn abort(&self, abort: &Abort) {
        if self.note_abort(abort) {
            self.order(Order::Spread);
        }
    }

    /// Why the communicator has ended.
    pub(super) fn reason(&self) -> Option<Abort> {
        self.header.await_reason()
    }

    /// Notes that a rank is gone. False: that was known, or it has left before.
    pub(super) fn lose(&self, rank: u32, how: &str) -> bool {
        if self.status(rank).life() == Life::Left {
            return false;
        }
        let mut lost = lock(&self.lost);
        if lost.contains_key(&rank) {
            return false;
        }
        lost.insert(rank, how.to_string());
        drop(lost);
        self.any_lost.store(true, Ordering::Release);
        self.tell_rank();
        true
    }

    /// A connection to that rank is being made.
    pub(super) fn begin_dialing(&self, rank: u32) {
        lock(&self.dialing).push(rank);
    }

    /// It is made and handed over, or it was given up.
    pub(super) fn end_dialing(&self, rank: u32) {
        let mut dialing = lock(&self.dialing);
        if let Some(at) = dialing.iter().position(|other| *other == rank) {
            dialing.swap_remove(at);
        }
    }

    pub(super) fn is_dialing(&self, rank: u32) -> bool {
        lock(&self.dialing).contains(&rank)
    }

    /// Notes that nobody answers in a rank's place.
    pub(super) fn miss(&self, rank: u32, how: &str) {
        lock(&self.absent).entry(rank).or_insert_with(|| how.to_string());
        self.any_lost.store(true, Ordering::Release);
        self.tell_rank();
    }

    /// Whether nobody answers in that rank's place, and how that was noticed.
    pub(super) fn is_absent(&self, rank: u32) -> Option<String> {
        self.any_lost.load(Ordering::Acquire).then(|| lock(&self.absent).get(&rank).cloned())?
    }

    /// The first rank that is gone, and how that was noticed.
    pub(crate) fn lost(&self) -> Option<(u32, String)> {
        if !self.any_lost.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.lost).iter().next().map(|(rank, how)| (*rank, how.clone()))
    }

    /// Whether that rank is gone.
    pub(crate) fn is_lost(&self, rank: u32) -> Option<String> {
        self.any_lost.load(Ordering::Acquire).then(|| lock(&self.lost).get(&rank).cloned())?
    }

    /// Whether that rank is still there, as far as is known.
    pub(crate) fn takes_part(&self, rank: u32) -> bool {
        self.status(rank).life() != Life::Left && self.is_lost(rank).or_else(|| self.is_absent(rank)).is_none()
    }

    /// Finds out what that rank does: returns when it has answered, when the communicator has ended, or after a moment. Who is gone may have
    /// said why, and that is on its way over others.
    pub(super) fn inquire(&self, rank: u32) {
        let answers = lock(&self.answers);
        let before = answers.get(&rank).copied();
        self.order(Order::Ask { rank });
        let silent = |answers: &mut BTreeMap<u32, u64>| answers.get(&rank).copied() == before;
        let silent = |answers: &mut BTreeMap<u32, u64>| silent(answers) && !self.has_ended();
        drop(self.answered.wait_timeout_while(answers, MOMENT, silent).unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns when the communicator has ended, or after a moment.
    pub(super) fn await_end(&self) {
        let going_on = |_: &mut BTreeMap<u32, u64>| !self.has_ended();
        let waited = self.answered.wait_timeout_while(lock(&self.answers), MOMENT, going_on);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// What that rank has ended and all of what it sent for it is here: see `Watch::finished`.
    pub(super) fn delivered(&self, rank: u32) -> u64 {
        self.delivered[rank as usize].load(Ordering::Acquire)
    }

    /// Data sockets to that rank, for the service to see whether it has all that was sent.
    pub(super) fn note_sockets(&self, rank: u32, sockets: Vec<Weak<OwnedFd>>) {
        lock(&self.data_sockets).insert(rank, sockets);
    }

    /// Says whether something for that rank waits to be sent or is under way in an RDMA queue.
    #[inline]
    pub(super) fn note_owed(&self, rank: u32, owed: bool) {
        let word = &self.owes[rank as usize];
        if word.load(Ordering::Relaxed) != owed {
            word.store(owed, Ordering::Release);
        }
    }

    /// Whether that rank has all that this one has sent, or its kernel has.
    fn has_all(&self, rank: u32) -> bool {
        if self.owes[rank as usize].load(Ordering::Acquire) {
            return false;
        }
        let sockets = lock(&self.data_sockets);
        let living = sockets.get(&rank).into_iter().flatten().filter_map(Weak::upgrade);
        { living }.all(|fd| crate::sys::stream::unacknowledged(fd.as_fd()).is_ok_and(|bytes| bytes == 0))
    }

    /// Ends the data sockets over which nothing gets through: whoever reads or writes them sees them lost, and others are made.
    pub(super) fn cut_stuck_sockets(&self) {
        for (rank, sockets) in &*lock(&self.data_sockets) {
            for fd in sockets.iter().filter_map(Weak::upgrade).filter(|fd| is_stuck(fd.as_fd())) {
                log::warn!(
                    "tcp: rank {}: nothing gets through to rank {rank} over a socket: it is made again",
                    self.rank
                );
                let _it_may_have_ended_by_itself = shutdown(fd.as_raw_fd(), Shutdown::Both);
                self.tell_rank();
            }
        }
    }

    /// Says for whom the rank has been waiting for long; None: no more.
    pub(super) fn wait_for(&self, rank: Option<u32>) {
        let word = rank.map_or(0, |rank| rank + 1);
        if self.wanted.swap(word, Ordering::Relaxed) != word && word != 0 {
            self.rouse();
        }
    }

    pub(super) fn wanted(&self) -> Option<u32> {
        self.wanted.load(Ordering::Relaxed).checked_sub(1)
    }

    /// What this rank is doing, for others.
    pub(super) fn report(&self, to: u32) -> Report {
        let status = self.status(self.rank);
        let (entered, finished) = status.progress();
        let delivered = if self.has_all(to) { finished } else { 0 };
        let calls: Vec<Entered> =
            (entered.saturating_sub(3)..=entered).filter_map(|number| status.call(number)).collect();
        Report { finished, delivered, waiting_for: status.waiting_for(), calls }
    }

    /// Takes another rank's word for what it is doing.
    pub(super) fn mirror(&self, rank: u32, report: &Report) {
        let status = self.status(rank);
        for call in &report.calls {
            status.enter(call);
        }
        status.finish(report.finished);
        status.set_waiting_for(report.waiting_for);
        self.delivered[rank as usize].store(report.delivered, Ordering::Release);
        *lock(&self.answers).entry(rank).or_default() += 1;
        self.answered.notify_all();
    }

    /// Says good-bye to the others and ends the service. Returns when that is done, or after a while.
    pub(crate) fn leave(&self) {
        self.status(self.rank).set_life(Life::Left);
        self.order(Order::Leave);
        let closed = lock(&self.closed);
        let waited = self.closing.wait_timeout_while(closed, FAREWELL, |closed| !*closed);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether nobody needs what is still being made: the communicator or its service has ended.
    pub(super) fn is_over(&self) -> bool {
        self.has_ended() || *lock(&self.closed)
    }

    /// The service has ended.
    pub(super) fn close(&self) {
        *lock(&self.closed) = true;
        self.closing.notify_all();
    }
}
