//! The hub: one thread that serves the ranks below a node of the tree: takes their check-ins, collects what they give, hands out what all
//! gave, and tells everybody when one of them is lost. The root is a hub; so is every rank that has children, beside its own work, so that
//! news travel however busy the ranks are.
//!
//! ```text
//!   meeting ──all have come──> rounds ──all said good-bye──> end
//!      │                          │
//!      └──────── failure ─────────┴──> tell everybody (late comers too) ──> end
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::connection::{Arrived, Broken, Connection, wait};
use super::failure::Failure;
use super::gate::Gate;
use super::host::{Listener, host_mark};
use super::message::{Entries, HostMark, Message, Record, Round, frame_limit};
use super::tree::{children, depth_below};
use super::wire::{Secret, Wire, derive};
use crate::{Error, Result};

mod meeting;
mod rounds;

/// How long a hub that has failed waits for the ranks to take the news.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often a hub that may be called off looks whether it was.
const GLANCE: Duration = Duration::from_millis(50);
/// How long one that has proved the secret may take to say which rank it is.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// How much longer than the hubs below it a hub waits, so that the one which knows the culprit names it.
pub(crate) const LEVEL_GRACE: Duration = Duration::from_secs(1);

/// Whom a connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// It knows the secret and has not said more.
    Unknown(Instant),
    /// The hub above.
    Upstream,
    /// A rank right below.
    Rank(usize),
    /// A rank that has checked in here and belongs to another hub.
    Moving(usize),
    /// A process that is only to be told why it can't join.
    Turned,
}

struct Link {
    connection: Connection,
    who: Who,
    /// Everything is said; its end is waited for.
    closing: bool,
    gone: bool,
}

/// A round that some of the ranks below have begun.
struct Pending {
    round: Round,
    number: u64,
    first: usize,
    since: Instant,
    parts: BTreeMap<usize, Entries>,
}

/// The end of a start that failed.
struct Over {
    failure: Failure,
    until: Instant,
    told: BTreeSet<usize>,
}

/// The serving side of one node of the tree.
pub(crate) struct Hub {
    /// The rank that this hub belongs to; `None`: the root.
    place: Option<usize>,
    /// Who is above, if that is a rank.
    above: Option<usize>,
    host: HostMark,
    gate: Gate,
    timeout: Duration,
    links: Vec<Link>,
    size: Option<usize>,
    records: BTreeMap<usize, Record>,
    /// The rank that lives in the root's process.
    creator: Option<usize>,
    begun: bool,
    meeting_ends: Instant,
    last_news: Instant,
    pending: Option<Pending>,
    /// The round that went up and has not come back.
    sent_up: Option<(Round, u64)>,
    /// What the rank of this process gets when all others have it.
    held: Option<Vec<u8>>,
    left: BTreeSet<usize>,
    farewelled: BTreeSet<usize>,
    said_bye: bool,
    over: Option<Over>,
    /// Held by whoever wants this start, where that is known: when it is gone before all have come, nobody will come any more.
    wanted: Option<Weak<()>>,
}

impl Hub {
    fn new(place: Option<usize>, gate: Gate, timeout: Duration) -> Result<Hub> {
        let now = Instant::now();
        Ok(Hub {
            place,
            above: None,
            host: host_mark()?,
            gate,
            timeout,
            links: Vec::new(),
            size: None,
            records: BTreeMap::new(),
            creator: None,
            begun: false,
            meeting_ends: now + timeout,
            last_news: now,
            pending: None,
            sent_up: None,
            held: None,
            left: BTreeSet::new(),
            farewelled: BTreeSet::new(),
            said_bye: false,
            over: None,
            wanted: None,
        })
    }

    /// Serves one rendezvous from a thread of its own.
    pub(crate) fn start_root(secret: &Secret, listeners: Vec<Listener>, timeout: Duration) -> Result<()> {
        let hub = Hub::new(None, Gate::new(listeners, secret, "root"), timeout)?;
        hub.spawn("ringtree root")
    }

    /// The same for as long as `wanted` is held, or all have come.
    pub(crate) fn start_root_while(
        wanted: &Arc<()>,
        secret: &Secret,
        listeners: Vec<Listener>,
        timeout: Duration,
    ) -> Result<()> {
        let mut hub = Hub::new(None, Gate::new(listeners, secret, "root"), timeout)?;
        hub.wanted = Some(Arc::downgrade(wanted));
        hub.spawn("ringtree root")
    }

    /// Whether nobody will come any more.
    fn is_called_off(&self) -> bool {
        !self.begun && self.wanted.as_ref().is_some_and(|wanted| wanted.strong_count() == 0)
    }

    /// Serves the children of `rank` from a thread of its own; what comes back leads `rank` itself to that hub.
    pub(crate) fn start_branch(
        (rank, size): (usize, usize),
        (above, mut upstream): (Option<usize>, Connection),
        gate: Gate,
        timeout: Duration,
        secret: &Secret,
    ) -> Result<Connection> {
        let mut hub = Hub::new(Some(rank), gate, timeout)?;
        hub.above = above;
        hub.size = Some(size);
        hub.begun = true;
        hub.gate.expect(children(Some(rank), size).len());
        upstream.wire().expect_up_to(frame_limit(size));
        hub.links.push(Link { connection: upstream, who: Who::Upstream, closing: false, gone: false });
        let broken = |error: std::io::Error| {
            Error::from_errno(
                "making a socket pair",
                error.raw_os_error().unwrap_or(libc::EIO),
                "Raise the limit of open files",
            )
        };
        let (mine, theirs) = std::os::unix::net::UnixStream::pair().map_err(broken)?;
        let (near, far) = Wire::pair(derive(secret, &[b"ringtree inside", &super::host::random::<32>()?]));
        let local = Connection::over_unix(mine, near, "this process".into()).map_err(broken)?;
        let own = Connection::over_unix(theirs, far, "this process".into()).map_err(broken)?;
        hub.links.push(Link { connection: own, who: Who::Rank(rank), closing: false, gone: false });
        hub.spawn(&format!("ringtree hub {rank}"))?;
        Ok(local)
    }

    fn spawn(self, name: &str) -> Result<()> {
        let thread = std::thread::Builder::new().name(name.chars().take(15).collect()).stack_size(512 * 1024);
        let spawned = thread.spawn(move || self.run());
        spawned.map(drop).map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
            Error::from_errno("starting the bootstrap's thread", errno, "Raise the limit of processes (`ulimit -u`)")
        })
    }

    fn run(mut self) {
        while !self.finished() {
            let (at_gate, at_links) = self.sleep();
            let now = Instant::now();
            let news = self.gate.serve(&at_gate, now);
            for (index, ready) in at_links.into_iter().enumerate() {
                if ready {
                    self.attend(index);
                }
            }
            for connection in news {
                self.links.push(Link { connection, who: Who::Unknown(now), closing: false, gone: false });
            }
            self.hand_out_held();
            self.say_farewell();
            self.look_at_the_clock(Instant::now());
            self.links.retain(|link| !link.gone);
        }
    }

    fn sleep(&self) -> (Vec<bool>, Vec<bool>) {
        let mut fds = Vec::with_capacity(self.gate.watched() + self.links.len());
        self.gate.watch(&mut fds);
        let doors = fds.len();
        fds.extend(self.links.iter().map(|link| link.connection.interest()));
        wait(&mut fds, self.next_deadline());
        let mut ready: Vec<bool> =
            fds.iter().map(|fd| fd.revents().is_some_and(|events| events != PollFlags::empty())).collect();
        let links = ready.split_off(doors);
        (ready, links)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let meeting = (!self.begun && self.over.is_none()).then_some(self.meeting_ends);
        let round = self.pending.as_ref().filter(|_| self.over.is_none()).map(|pending| self.round_ends(pending));
        let idle = self.idle_ends().filter(|_| self.over.is_none());
        let over = self.over.as_ref().map(|over| over.until);
        let strangers = self.links.iter().filter_map(|link| match link.who {
            Who::Unknown(since) => Some(since + INTRODUCTION),
            _ => None,
        });
        let glance = (!self.begun && self.wanted.is_some()).then(|| Instant::now() + GLANCE);
        let all = [self.gate.deadline(), meeting, round, idle, over, glance];
        all.into_iter().flatten().chain(strangers).min()
    }

    fn round_ends(&self, pending: &Pending) -> Instant {
        pending.since + self.timeout + LEVEL_GRACE * depth_below(self.place, self.size.unwrap_or(0))
    }

    /// When some have left, the others have nothing more to do together than to leave too.
    fn idle_ends(&self) -> Option<Instant> {
        (!self.left.is_empty()).then(|| self.last_news + self.timeout)
    }

    fn look_at_the_clock(&mut self, now: Instant) {
        for link in &mut self.links {
            if matches!(link.who, Who::Unknown(since) if now >= since + INTRODUCTION) {
                log::warn!("bootstrap: refused {}: it did not say which rank it is", link.connection.peer);
                link.gone = true;
            }
        }
        self.close_what_is_told();
        if self.over.is_some() {
            return;
        }
        if !self.begun && now >= self.meeting_ends {
            self.end_the_meeting(now);
        } else if let Some(pending) = self.pending.as_ref().filter(|pending| now >= self.round_ends(pending)) {
            let ranks = self.members().into_iter().filter(|rank| !pending.parts.contains_key(rank)).collect();
            let what = format!("rank {} waits for them in {}", pending.first, step(pending.round, pending.number));
            self.fail(Failure::Late { ranks, what, limit_ms: self.timeout.as_millis() as u64 });
        } else if self.idle_ends().is_some_and(|end| now >= end) {
            let ranks: Vec<usize> = self.members().into_iter().filter(|rank| !self.left.contains(rank)).collect();
            let what = "the others have finished the start".to_string();
            self.fail(Failure::Late { ranks, what, limit_ms: self.timeout.as_millis() as u64 });
        }
    }

    /// Ends the output of those who have been told why it is over. A rank of this process takes that end as leave to return, and its process may
    /// be gone a moment later: so the kernel must have everything that others are told, and the hub above must have heard it.
    fn close_what_is_told(&mut self) {
        if self.links.iter().any(|link| link.closing && link.connection.has_output()) {
            return;
        }
        let above_listens = self.links.iter().any(|link| link.who == Who::Upstream && !link.gone);
        for link in self.links.iter_mut().filter(|link| link.closing) {
            let mine = self.place.is_some_and(|rank| link.who == Who::Rank(rank));
            if !(mine && above_listens) {
                link.connection.end_output();
            }
        }
    }

    /// The ranks right below, the hub's own among them.
    fn members(&self) -> Vec<usize> {
        let size = self.size.unwrap_or(0);
        self.place.into_iter().chain(children(self.place, size)).collect()
    }

    fn finished(&self) -> bool {
        let quiet = self.links.iter().all(|link| !link.connection.has_output());
        if quiet && self.is_called_off() {
            return true;
        }
        if let Some(over) = &self.over {
            let all_know = self.begun || self.size.is_some_and(|size| over.told.len() >= size);
            return (self.links.is_empty() && all_know) || Instant::now() >= over.until;
        }
        let all_left = self.begun && self.left.len() == self.members().len();
        all_left && quiet && self.farewelled.len() == self.left.len()
    }

    /// Takes what a connection brings.
    fn attend(&mut self, index: usize) {
        self.links[index].connection.flush();
        self.links[index].connection.fill();
        while !self.links[index].gone {
            match self.links[index].connection.next() {
                Ok(None) => return,
                Ok(Some(Arrived::Proved)) => {}
                Ok(Some(Arrived::Message(message))) => {
                    self.last_news = Instant::now();
                    self.handle(index, message);
                }
                Err(broken) => {
                    self.links[index].gone = true;
                    self.lost(index, broken);
                }
            }
        }
    }

    fn handle(&mut self, index: usize, message: Message) {
        match (self.links[index].who, message) {
            (Who::Unknown(_), Message::CheckIn(record)) => self.check_in(index, record),
            _ if self.over.is_some() => {}
            (Who::Rank(rank), Message::Part { round, number, entries }) => self.part(rank, round, number, entries),
            (Who::Upstream, Message::Whole { round, number, entries }) => self.whole(round, number, entries),
            (Who::Upstream | Who::Rank(_) | Who::Moving(_), Message::Failed(failure)) => self.fail(failure),
            (Who::Rank(rank), Message::Bye) => self.leave(rank),
            (Who::Moving(_), Message::Moved) => self.links[index].gone = true,
            (Who::Upstream, Message::ByeBye | Message::Creator { .. }) => {}
            (Who::Rank(rank) | Who::Moving(rank), message) => self.nonsense(rank, &message),
            (Who::Upstream, message) => self.nonsense(self.above.unwrap_or(0), &message),
            (Who::Unknown(_) | Who::Turned, _) => self.links[index].gone = true,
        }
    }

    fn nonsense(&mut self, rank: usize, message: &Message) {
        let mut what = format!("a message that has no place in the start: {message:?}");
        what.truncate(what.floor_char_boundary(200));
        self.fail(Failure::Corrupt { rank, what });
    }

    fn lost(&mut self, index: usize, broken: Broken) {
        let (rank, known) = match self.links[index].who {
            Who::Unknown(_) => {
                log::warn!(
                    "bootstrap: {}: {broken} before it said which rank it is",
                    self.links[index].connection.peer
                );
                return;
            }
            Who::Turned => return,
            Who::Rank(rank) if self.left.contains(&rank) => return,
            Who::Upstream if self.said_bye => return,
            Who::Rank(rank) | Who::Moving(rank) => (rank, self.describe(rank)),
            Who::Upstream => match self.above {
                Some(rank) => (rank, "its process, which serves this part of the tree,".to_string()),
                None => return self.fail(root_is_gone()),
            },
        };
        self.fail(match broken {
            Broken::Refused(refusal) => Failure::Corrupt { rank, what: format!("bytes that were refused: {refusal}") },
            broken => Failure::Lost { rank, how: format!("{known} ended during the start ({broken})") },
        });
    }

    fn describe(&self, rank: usize) -> String {
        match self.records.get(&rank) {
            Some(record) => format!("its process {} on {}", record.pid, record.host_name),
            None => "its process".to_string(),
        }
    }

    /// The start is over: everybody gets to know why.
    fn fail(&mut self, failure: Failure) {
        if self.over.is_some() {
            return;
        }
        let now = Instant::now();
        // Who has not come yet is still to be told, as long as it could have come.
        let until = if self.begun { now + LAST_WORDS } else { self.meeting_ends.max(now + LAST_WORDS) };
        self.over = Some(Over { failure, until, told: BTreeSet::new() });
        if self.begun {
            self.gate.close();
        }
        for index in 0..self.links.len() {
            match self.links[index].who {
                Who::Unknown(_) => {}
                Who::Rank(rank) | Who::Moving(rank) => {
                    self.tell(index);
                    self.note_told(rank);
                }
                Who::Upstream | Who::Turned => self.tell(index),
            }
        }
        if let Some(Over { failure: Failure::Lost { rank, .. }, .. }) = self.over {
            self.note_told(rank);
        }
    }

    fn tell(&mut self, index: usize) {
        let Some(over) = &self.over else { return };
        let link = &mut self.links[index];
        link.connection.send(&Message::Failed(over.failure.clone()));
        link.closing = true;
    }

    fn note_told(&mut self, rank: usize) {
        if let Some(over) = &mut self.over {
            over.told.insert(rank);
        }
    }
}

/// A step of the start in words.
pub(crate) fn step(round: Round, number: u64) -> String {
    format!("{} (step {number} of the start)", round.name())
}

pub(crate) fn root_is_gone() -> Failure {
    Failure::Start {
        what: "the process that made the unique id ended".into(),
        missing: Vec::new(),
        advice: "It must live until all ranks have met; look at its output for the cause".into(),
    }
}
