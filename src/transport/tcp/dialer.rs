//! Making connections beside the service: each attempt is a short-lived thread, so that a host that does not answer holds up nobody.

use super::note::Note;
use super::office::{Arrived, Office};
use super::paths::Path;
use crate::boot::connection::Connection;
use crate::boot::dial::{Dial, NoAnswer, Target};
use crate::boot::wire::{SMALL_FRAME, Secret};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest search for a rank that does not answer.
const SEARCH: Duration = Duration::from_secs(30);

/// The longest look for a rank over one way, where there are others.
const ONE_WAY: Duration = Duration::from_secs(3);

/// What a dialer has brought.
pub(super) enum Dialed {
    Contact(u32, Box<Connection>),
    /// That rank is not there any more.
    Nobody(u32, String),
}

/// What is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Goal {
    Contact(u32),
    Data(u32, u8, u64),
    Knock(u32, u8, u64),
}

impl Goal {
    fn rank(self) -> u32 {
        match self {
            Goal::Contact(rank) | Goal::Data(rank, ..) | Goal::Knock(rank, ..) => rank,
        }
    }
}

struct State {
    under_way: BTreeSet<Goal>,
    brought: Vec<Dialed>,
    /// The turns of the latest data sockets that were made or are being made.
    latest: BTreeMap<(u32, u8), Latest>,
}

/// The latest data socket of its number.
#[derive(Clone, Copy, Default)]
struct Latest {
    turn: u64,
    failed: bool,
}

/// Makes connections for one rank.
#[derive(Clone)]
pub(super) struct Dialer {
    office: Arc<Office>,
    secret: Secret,
    timeout: Duration,
    state: Arc<Mutex<State>>,
}

/// The context of the proofs at a rank's door.
pub(super) fn context(rank: u32) -> String {
    format!("links {rank}")
}

impl Dialer {
    pub(super) fn new(office: Arc<Office>, secret: Secret, timeout: Duration) -> Dialer {
        let state = State { under_way: BTreeSet::new(), brought: Vec::new(), latest: BTreeMap::new() };
        Dialer { office, secret, timeout: timeout.min(SEARCH), state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was brought since.
    pub(super) fn take(&self) -> Vec<Dialed> {
        std::mem::take(&mut self.state().brought)
    }

    /// Makes a data socket to a higher rank, unless one was made that is later than what is known to whoever wants it.
    pub(super) fn connect(&self, rank: u32, index: u8, after: u64) {
        let mut state = self.state();
        let latest = state.latest.entry((rank, index)).or_default();
        if index >= self.office.sockets(rank) || latest.turn > after && !latest.failed {
            return;
        }
        let turn = latest.turn.max(after).saturating_add(1);
        *latest = Latest { turn, failed: false };
        drop(state);
        self.start(Goal::Data(rank, index, turn));
    }

    /// Asks a lower rank for a data socket.
    pub(super) fn knock(&self, rank: u32, index: u8, after: u64) {
        self.start(Goal::Knock(rank, index, after));
    }

    /// Makes a contact.
    pub(super) fn contact(&self, rank: u32) {
        self.start(Goal::Contact(rank));
    }

    fn start(&self, goal: Goal) {
        if !self.state().under_way.insert(goal) {
            return;
        }
        let dialer = self.clone();
        self.office.begin_dialing(goal.rank());
        let thread = std::thread::Builder::new().name("ringtree dial".into()).stack_size(256 * 1024);
        if let Err(error) = thread.spawn(move || dialer.pursue(goal)) {
            log::warn!("tcp: rank {}: no thread to make a connection: {error}", self.office.rank());
            self.state().under_way.remove(&goal);
            self.fail(goal);
            self.office.end_dialing(goal.rank());
        }
    }

    fn pursue(&self, goal: Goal) {
        let own = self.office.rank();
        let (rank, outcome) = match goal {
            Goal::Contact(rank) => {
                let contact = self.ask(rank, 0, &Note::Contact { rank: own });
                (rank, contact.map(|connection| self.bring(Dialed::Contact(rank, Box::new(connection)))))
            }
            Goal::Data(rank, index, turn) => {
                // Small messages go the first way; a socket that has to be made again tries the next one.
                let way = u64::from(index.saturating_sub(1)) + turn.saturating_sub(1);
                let data = self.ask(rank, way as usize, &Note::Data { rank: own, index, turn });
                (rank, data.map(|connection| self.arrive(rank, index, turn, connection)))
            }
            Goal::Knock(rank, index, after) => {
                (rank, self.ask(rank, 0, &Note::Knock { rank: own, index, after }).map(drop))
            }
        };
        self.state().under_way.remove(&goal);
        if let Err(how) = outcome {
            self.fail(goal);
            self.bring(Dialed::Nobody(rank, how));
        }
        self.office.end_dialing(rank);
    }

    /// A data socket that did not come to be may be asked for again.
    fn fail(&self, goal: Goal) {
        if let Goal::Data(rank, index, turn) = goal
            && let Some(latest) = self.state().latest.get_mut(&(rank, index))
        {
            latest.failed |= latest.turn == turn;
        }
    }

    fn bring(&self, dialed: Dialed) {
        self.state().brought.push(dialed);
        self.office.rouse();
    }

    fn arrive(&self, rank: u32, index: u8, turn: u64, connection: Connection) {
        match connection.hand_over() {
            Some((socket, keys)) => self.office.arrive(Arrived { rank, index, turn, socket, keys }),
            None => {
                log::warn!("tcp: the socket to rank {rank} can't be shared, or it sent more than a welcome");
                self.fail(Goal::Data(rank, index, turn));
            }
        }
    }

    /// Connects, says what for, and waits for the welcome; or how it was noticed that the rank is gone. All ways are tried, that one first.
    pub(super) fn ask(&self, rank: u32, first: usize, note: &Note) -> Result<Connection, String> {
        let ways = self.office.paths(rank);
        let end = Instant::now() + self.timeout;
        let mut failures: Vec<String> = Vec::new();
        for next in 0..ways.len() {
            let path = ways[(first + next) % ways.len()];
            let limit = if next + 1 < ways.len() { end.min(Instant::now() + ONE_WAY) } else { end };
            match self.ask_over(rank, path, note, limit) {
                Ok(connection) => return Ok(connection),
                Err(Refused::ForGood(how)) => return Err(how),
                Err(Refused::ThisWay(how)) => failures.push(how),
            }
        }
        Err(failures.join("; "))
    }

    fn ask_over(&self, rank: u32, path: Path, note: &Note, deadline: Instant) -> Result<Connection, Refused> {
        let at = path.to;
        let (target, context) = (Target::Tcp { from: path.from, to: at }, context(rank));
        let dial = Dial {
            target: &target,
            secret: &self.secret,
            context: &context,
            deadline,
            patient: false,
            limit: SMALL_FRAME,
        };
        let name = self.office.name(rank);
        let answer = dial.ask(&note.encode(), &mut || self.office.is_over());
        let (this_way, for_good) = (|how| Err(Refused::ThisWay(how)), |how| Err(Refused::ForGood(how)));
        match answer {
            Ok((connection, welcome)) if Note::decode(&welcome, self.office.size()) == Some(Note::Welcome) => {
                Ok(connection)
            }
            Ok(_) => this_way(format!("{name} does not answer as it should at {at}")),
            Err(NoAnswer::Nobody) => {
                this_way(format!("{name} has ended, or has left: nobody listens at {at} any more"))
            }
            Err(NoAnswer::Stranger(refusal)) => {
                this_way(format!("{name} has ended: somebody else listens at {at} ({refusal})"))
            }
            Err(NoAnswer::Late(why)) => this_way(format!("{name} can't be reached at {at} ({why})")),
            Err(NoAnswer::Interrupted) => for_good("the communicator has ended".into()),
            Err(NoAnswer::Starved(errno)) => {
                for_good(format!("this process has no descriptors left to reach {name} ({})", errno.desc()))
            }
        }
    }
}

/// Why a rank did not answer: over this way, or over any.
enum Refused {
    ThisWay(String),
    ForGood(String),
}
