//! A rank's end of the tree: check-in, and what ranks exchange to set themselves up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::config::BootConfig;
use super::connection::{Broken, Connection};
use super::dial::{Dial, NoAnswer, Target, ask};
use super::failure::Failure;
use super::gate::Gate;
use super::host::{Listener, host_mark, host_name, listen_here, listen_unix, random, socket_name};
use super::hub::{Hub, LEVEL_GRACE, root_is_gone, step};
use super::id::UniqueId;
use super::known::Known;
use super::message::{
    Endpoint, Entries, HostMark, MAX_PART, MAX_RANKS, Message, Reader, Record, Round, UnixName, Writer, frame_limit,
};
use super::tree::{children, depth_below, parent};
use super::wire::{SMALL_FRAME, Secret};
use crate::{Error, Place, Result};

/// How much longer than the hub a rank waits for the hub's own verdict.
const GRACE: Duration = Duration::from_secs(2);
/// How long a parting rank waits for its last words to be taken.
const PARTING: Duration = Duration::from_secs(1);

/// How long a rank that was told of a failure waits until all others are told: its process may serve them, and may end when it returns.
const LEAVE: Duration = Duration::from_millis(500);

/// How often a rank that waits for others to come looks whether those that it knows are still there.
const GLANCE: Duration = Duration::from_millis(50);

/// What a rank knows of another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) pid: u32,
    pub(crate) host: HostMark,
    pub(crate) door: UnixName,
}

/// This rank's end of the tree that [`join`] has put together. Dropping it says good-bye; [`Rendezvous::fail`] tells all why it goes.
pub struct Rendezvous {
    pub(crate) rank: usize,
    pub(crate) size: usize,
    job: String,
    pub(crate) secret: Secret,
    pub(crate) timeout: Duration,
    connection: Connection,
    /// The rank whose process serves the hub that this rank talks to, if it is a rank's.
    served_by: Option<usize>,
    /// That process is this one.
    serves_itself: bool,
    pub(crate) host: HostMark,
    pub(crate) peers: Vec<Peer>,
    pub(crate) door: Gate,
    /// Who came to the door for a descriptor that is not yet being shared.
    pub(crate) early: Vec<(usize, u64, Connection)>,
    /// How many descriptors were shared with, or received from, each rank.
    pub(crate) shared: BTreeMap<usize, u64>,
    pub(crate) received: BTreeMap<usize, u64>,
    steps: u64,
    failed: Option<Error>,
}

impl std::fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rendezvous")
            .field("job", &self.job)
            .field("rank", &self.rank)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Checks in as rank `rank` of `size` and returns when all ranks have done so; an error tells who never came, who came twice, who ended.
pub fn join(id: &UniqueId, rank: usize, size: usize, config: &BootConfig) -> Result<Rendezvous> {
    join_knowing(id, rank, size, config, Known::nothing())
}

/// The same for a rank that knows some of the others.
pub(crate) fn join_knowing(
    id: &UniqueId,
    rank: usize,
    size: usize,
    config: &BootConfig,
    known: Known<'_>,
) -> Result<Rendezvous> {
    if size == 0 || size > MAX_RANKS || rank >= size {
        return Err(Error::misuse(
            format!("rank {rank} of {size} ranks"),
            format!("A job has 1 to {MAX_RANKS} ranks, numbered from 0"),
        ));
    }
    let begun = Instant::now();
    let mut joining = Joining::prepare(id, rank, size, config, begun)?;
    (joining.known, joining.creator) = (known, known.creator);
    let Entered { connection, served_by, door } = joining.meet()?;
    let grace = GRACE + LEVEL_GRACE * (1 + depth_below(None, size));
    let mut rendezvous = Rendezvous {
        rank,
        size,
        job: id.job(),
        secret: *id.secret(),
        timeout: config.timeout + grace,
        connection,
        serves_itself: served_by == Some(rank),
        served_by,
        host: host_mark()?,
        peers: Vec::new(),
        door: Gate::new(vec![door.1], id.secret(), &door_context(rank)),
        early: Vec::new(),
        shared: BTreeMap::new(),
        received: BTreeMap::new(),
        steps: 0,
        failed: None,
    };
    rendezvous.door.expect(size);
    rendezvous.introduce(door.0)?;
    Ok(rendezvous)
}

/// The context of the proofs at a rank's door for descriptors.
pub(crate) fn door_context(rank: usize) -> String {
    format!("door {rank}")
}

fn branch_context(rank: usize) -> String {
    format!("branch {rank}")
}

/// A rank on its way into the tree.
struct Joining<'a> {
    id: &'a UniqueId,
    rank: usize,
    size: usize,
    timeout: Duration,
    deadline: Instant,
    record: Record,
    branch: Vec<Listener>,
    door: (UnixName, Listener),
    creator: Option<usize>,
    known: Known<'a>,
}

/// A rank in the tree.
struct Entered {
    /// To the hub above; to its own where this rank has children.
    connection: Connection,
    /// Whose hub that is, if it is a rank's.
    served_by: Option<usize>,
    door: (UnixName, Listener),
}

impl<'a> Joining<'a> {
    fn prepare(id: &'a UniqueId, rank: usize, size: usize, config: &BootConfig, begun: Instant) -> Result<Joining<'a>> {
        let (listens, branch) = if children(Some(rank), size).is_empty() {
            (Endpoint { host: host_mark()?, unix: [0; 16], tcp: None }, Vec::new())
        } else {
            // The port of a chosen address is the root's; a second listener beside it takes any.
            let mut config = config.clone();
            if let Some(address) = &mut config.address {
                address.set_port(0);
            }
            listen_here(&config)?
        };
        let name = random()?;
        let door = (name, Listener::Unix(listen_unix(&socket_name(&name))?));
        let record = Record { rank, size, pid: std::process::id(), host_name: host_name(), listens };
        let deadline = begun + config.timeout;
        Ok(Joining {
            id,
            rank,
            size,
            timeout: config.timeout,
            deadline,
            record,
            branch,
            door,
            creator: None,
            known: Known::nothing(),
        })
    }

    fn place(&self) -> Place {
        place(&self.id.job(), self.rank, self.size, "join", 0)
    }

    fn meet(mut self) -> Result<Entered> {
        let mut connection = self.check_in()?;
        connection.wire().expect_up_to(frame_limit(self.size));
        let above = parent(self.rank);
        let mut served_by = above;
        match self.await_go(&mut connection)? {
            None => served_by = self.creator,
            Some((above, at)) => connection = self.move_to(above, &at, connection)?,
        }
        if !self.branch.is_empty() {
            let gate = Gate::new(self.branch, self.id.secret(), &branch_context(self.rank));
            let upstream = (served_by, connection);
            connection = Hub::start_branch((self.rank, self.size), upstream, gate, self.timeout, self.id.secret())?;
            served_by = Some(self.rank);
        }
        connection.wire().expect_up_to(frame_limit(self.size));
        Ok(Entered { connection, served_by, door: self.door })
    }

    fn check_in(&self) -> Result<Connection> {
        let root = self.id.root();
        let target = Target::of(root)?.ok_or_else(|| {
            Error::start(
                "the job's id was made on another host, which has no TCP address".to_string(),
                "Set RINGTREE_ADDRESS there to an address that this host reaches",
            )
        })?;
        let dial = Dial {
            target: &target,
            secret: self.id.secret(),
            context: "root",
            deadline: self.deadline,
            patient: false,
            limit: SMALL_FRAME,
        };
        let mut lost = None;
        let answer = ask(&dial, &Message::CheckIn(self.record.clone()), &mut || {
            lost = self.known.failure();
            lost.is_some()
        });
        match answer {
            Ok((connection, Message::Welcome)) => Ok(connection),
            Ok((connection, Message::Failed(failure))) => {
                connection.close_gently(Duration::from_millis(100));
                Err(failure.into_error(self.place()))
            }
            Ok((_, message)) => Err(self.nonsense(&message)),
            Err(reason) => Err(match (lost, reason, self.creator) {
                (Some(failure), _, _) => failure.into_error(self.place()),
                (None, NoAnswer::Nobody, Some(rank)) => {
                    let how = format!("its process, which serves the start at {target}, is not there any more");
                    Failure::Lost { rank, how }.into_error(self.place())
                }
                (None, reason, _) => no_root(&target, &reason, self.timeout),
            }),
        }
    }

    fn nonsense(&self, message: &Message) -> Error {
        let mut what = format!("{message:?} where it has no place");
        what.truncate(what.floor_char_boundary(200));
        Error::Corrupt { place: Box::new(self.place()), rank: self.creator.unwrap_or(0), what }
    }

    /// Waits until all have come.
    fn await_go(&mut self, root: &mut Connection) -> Result<Option<(usize, Endpoint)>> {
        let deadline = self.deadline + GRACE;
        loop {
            let glance = deadline.min(Instant::now() + GLANCE);
            match root.await_message(glance) {
                Ok(None) if glance < deadline => {
                    if let Some(failure) = self.known.failure() {
                        root.send(&Message::Failed(failure.clone()));
                        root.await_end(LEAVE);
                        return Err(failure.into_error(self.place()));
                    }
                }
                Ok(Some(Message::Creator { rank })) if rank < self.size => self.creator = Some(rank),
                Ok(Some(Message::Go { parent: to })) if to.map(|(rank, _)| rank) == parent(self.rank) => {
                    return Ok(to);
                }
                Ok(Some(Message::Failed(failure))) => {
                    root.await_end(LEAVE);
                    return Err(failure.into_error(self.place()));
                }
                Ok(Some(message)) => return Err(self.nonsense(&message)),
                Ok(None) => return Err(silent_hub(self.place(), self.timeout, self.creator)),
                Err(broken) => return Err(lost_hub(self.place(), self.creator, &broken)),
            }
        }
    }

    /// From the root, where all check in, to the hub of the rank above.
    fn move_to(&self, above: usize, at: &Endpoint, mut root: Connection) -> Result<Connection> {
        let target = Target::of(at)?;
        let mut news = None;
        let answer = match &target {
            None => Err(NoAnswer::Late("it has no TCP address".into())),
            Some(target) => {
                let context = branch_context(above);
                let dial = Dial {
                    target,
                    secret: self.id.secret(),
                    context: &context,
                    deadline: self.deadline + GRACE,
                    patient: false,
                    limit: frame_limit(self.size),
                };
                ask(&dial, &Message::CheckIn(self.record.clone()), &mut || {
                    news = self.news_from(&mut root);
                    news.is_some()
                })
            }
        };
        let failure = match answer {
            Ok((connection, Message::Welcome)) => {
                root.send(&Message::Moved);
                root.close_gently(PARTING);
                return Ok(connection);
            }
            Ok((_, Message::Failed(failure))) => failure,
            Ok((_, message)) => return Err(self.nonsense(&message)),
            Err(NoAnswer::Interrupted) => return Err(news.unwrap_or_else(|| root_is_gone().into_error(self.place()))),
            Err(NoAnswer::Nobody) => {
                // Its process ended; or its hub has closed because another rank ended, which the root knows in a moment.
                if let Some(error) = self.await_news(&mut root) {
                    return Err(error);
                }
                Failure::Lost { rank: above, how: "its process ended before its part of the tree stood".into() }
            }
            Err(NoAnswer::Stranger(refusal)) => Failure::Corrupt { rank: above, what: refusal.to_string() },
            Err(NoAnswer::Starved(errno)) => Failure::Aborted {
                rank: self.rank,
                reason: NoAnswer::starved(errno, &format!("connecting to rank {above}")).to_string(),
            },
            Err(NoAnswer::Late(why)) => Failure::Aborted {
                rank: self.rank,
                reason: format!("it can't reach rank {above}: {why}. Set RINGTREE_ADDRESS on that rank's host"),
            },
        };
        root.send(&Message::Failed(failure.clone()));
        root.close_gently(PARTING);
        Err(failure.into_error(self.place()))
    }

    fn await_news(&self, root: &mut Connection) -> Option<Error> {
        match root.await_message(Instant::now() + LEAVE) {
            Ok(Some(Message::Failed(failure))) => Some(failure.into_error(self.place())),
            Ok(_) => None,
            Err(broken) => Some(lost_hub(self.place(), self.creator, &broken)),
        }
    }

    fn news_from(&self, root: &mut Connection) -> Option<Error> {
        root.fill();
        match root.next_message() {
            Ok(Some(Message::Failed(failure))) => Some(failure.into_error(self.place())),
            Ok(_) => None,
            Err(broken) => Some(lost_hub(self.place(), self.creator, &broken)),
        }
    }
}

fn place(job: &str, rank: usize, size: usize, operation: &str, number: u64) -> Place {
    Place { communicator: format!("start of job {job}"), rank, size, operation: operation.to_string(), number }
}

fn no_root(target: &Target, reason: &NoAnswer, timeout: Duration) -> Error {
    match reason {
        NoAnswer::Nobody => Error::start(
            format!(
                "nobody serves the rendezvous at {target}: the process that made the unique id ended, or the ranks have met already"
            ),
            "An id serves one start; make a new one for each, in a process that lives until all ranks have met",
        ),
        NoAnswer::Stranger(refusal) => Error::start(
            format!("what answers at {target} is not this job's rendezvous: {refusal}"),
            "Hand every rank the same unique id, unchanged",
        ),
        NoAnswer::Starved(errno) => NoAnswer::starved(*errno, &format!("connecting to the rendezvous at {target}")),
        NoAnswer::Late(_) | NoAnswer::Interrupted => Error::start(
            format!(
                "the rendezvous at {target} could not be reached within {} s ({})",
                timeout.as_secs_f64(),
                last(reason)
            ),
            "Look whether this host reaches that address (firewall, wrong interface), and set RINGTREE_ADDRESS where the id is made",
        ),
    }
}

fn last(reason: &NoAnswer) -> &str {
    match reason {
        NoAnswer::Late(why) => why,
        _ => "no answer",
    }
}

fn lost_hub(place: Place, owner: Option<usize>, broken: &Broken) -> Error {
    match owner {
        Some(rank) => Failure::Lost { rank, how: format!("its process, which serves the start, ended ({broken})") }
            .into_error(place),
        None => root_is_gone().into_error(place),
    }
}

fn silent_hub(place: Place, limit: Duration, owner: Option<usize>) -> Error {
    let who = owner.map_or("the process that made the unique id".to_string(), |rank| format!("rank {rank}"));
    Error::Timeout {
        place: Box::new(place),
        limit,
        ranks: owner.into_iter().collect(),
        waiting_for: format!("{who}, which serves the start and says nothing"),
        advice: "Look whether that process is stopped or its host unreachable".into(),
    }
}

impl Rendezvous {
    /// This rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// What each rank gives (up to 4 KiB), given to all, by rank. All ranks must call this and [`Rendezvous::barrier`] in the same order.
    pub fn all_gather(&mut self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        let entries = self.exchange(Round::Gather, mine)?;
        Ok(entries.into_iter().map(|(_, bytes)| bytes).collect())
    }

    /// Returns when all ranks have called it.
    pub fn barrier(&mut self) -> Result<()> {
        self.exchange(Round::Barrier, &[]).map(drop)
    }

    /// The process id of a rank, if it is on this host and sees the same process ids.
    pub fn peer_pid(&self, rank: usize) -> Option<i32> {
        let peer = self.peers.get(rank).filter(|peer| peer.host == self.host)?;
        i32::try_from(peer.pid).ok()
    }

    /// Whether a rank is on this host, so that a descriptor can be shared with it.
    pub fn same_host(&self, rank: usize) -> bool {
        self.peers.get(rank).is_some_and(|peer| peer.host == self.host)
    }

    /// Tells everybody why this rank can't go on: all others get an error that names this rank and the message.
    pub fn fail(mut self, message: &str) {
        self.give_up(Failure::Aborted { rank: self.rank, reason: message.to_string() });
    }

    /// Tells the others, and keeps the error for every later call on this rank.
    pub(crate) fn give_up(&mut self, failure: Failure) -> Error {
        let error = failure.clone().into_error(self.place("start", 0));
        if self.failed.is_none() {
            self.connection.send(&Message::Failed(failure));
            self.connection.await_end(PARTING);
        }
        self.failed.get_or_insert(error).clone()
    }

    pub(crate) fn place(&self, operation: &str, number: u64) -> Place {
        place(&self.job, self.rank, self.size, operation, number)
    }

    /// The connection to the hub, to be watched while waiting for something else.
    pub(crate) fn hub(&self) -> &Connection {
        &self.connection
    }

    /// An error if the hub has said that the start is over, or can't say anything any more. Never waits.
    pub(crate) fn look_for_news(&mut self, operation: &str) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.connection.flush();
        self.connection.fill();
        match self.connection.next_message() {
            Ok(None | Some(Message::Creator { .. })) => Ok(()),
            other => Err(self.unexpected(other, operation, self.steps)),
        }
    }

    fn unexpected(
        &mut self,
        what: std::result::Result<Option<Message>, Broken>,
        operation: &str,
        number: u64,
    ) -> Error {
        let place = self.place(operation, number);
        let error = match what {
            Ok(Some(Message::Failed(failure))) => {
                self.connection.await_end(LEAVE);
                failure.into_error(place)
            }
            Ok(Some(message)) => {
                let mut what = format!("{message:?} where it has no place");
                what.truncate(what.floor_char_boundary(200));
                Error::Corrupt { place: Box::new(place), rank: self.served_by.unwrap_or(0), what }
            }
            Ok(None) => silent_hub(place, self.timeout, self.served_by),
            Err(broken) => lost_hub(place, self.served_by, &broken),
        };
        self.failed.get_or_insert(error).clone()
    }

    fn exchange(&mut self, round: Round, mine: &[u8]) -> Result<Entries> {
        if mine.len() > MAX_PART {
            return Err(Error::misuse(
                format!("all_gather of {} bytes a rank during the start", mine.len()),
                format!("Give at most {MAX_PART} bytes"),
            ));
        }
        self.look_for_news(round.name())?;
        self.steps += 1;
        let number = self.steps;
        let entries = if round == Round::Barrier { Vec::new() } else { vec![(self.rank, mine.to_vec())] };
        let expected = if round == Round::Barrier { 0 } else { self.size };
        self.connection.send(&Message::Part { round, number, entries });
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.connection.await_message(deadline) {
                Ok(Some(Message::Whole { round: got, number: at, entries }))
                    if (got, at) == (round, number)
                        && entries.len() == expected
                        && entries.iter().enumerate().all(|(rank, entry)| entry.0 == rank) =>
                {
                    return Ok(entries);
                }
                Ok(Some(Message::Creator { .. })) => {}
                other => {
                    log::debug!("bootstrap: {} ended without a result", step(round, number));
                    return Err(self.unexpected(other, round.name(), number));
                }
            }
        }
    }

    /// All tell all who and where they are.
    fn introduce(&mut self, door: UnixName) -> Result<()> {
        let mut mine = Writer(Vec::new());
        mine.u32(std::process::id()).fixed(&self.host).fixed(&door);
        let all = self.exchange(Round::Meet, &mine.0)?;
        for (rank, bytes) in all {
            let mut from = Reader(&bytes);
            let peer = (|| Some(Peer { pid: from.u32()?, host: from.fixed()?, door: from.fixed()? }))();
            match peer {
                Some(peer) => self.peers.push(peer),
                None => return Err(self.give_up(Failure::Corrupt { rank, what: "no introduction".into() })),
            }
        }
        Ok(())
    }

    /// Breaks off as a killed process does: no word, the connection just ends.
    #[cfg(test)]
    pub(crate) fn vanish(mut self) {
        self.failed = Some(Error::misuse("vanished", ""));
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        if self.failed.is_some() {
            return;
        }
        if std::thread::panicking() {
            self.give_up(Failure::Aborted { rank: self.rank, reason: "it panicked during the start".into() });
            return;
        }
        self.connection.send(&Message::Bye);
        // Where the hub is a thread of this process, it must not end with this process before it has sent what others wait for.
        let deadline = Instant::now() + PARTING;
        while self.connection.has_output() || self.hub_is_here() {
            match self.connection.await_message(deadline) {
                Ok(Some(Message::Creator { .. })) => {}
                _ => return,
            }
        }
    }
}

impl Rendezvous {
    fn hub_is_here(&self) -> bool {
        self.serves_itself
            || self
                .served_by
                .and_then(|rank| self.peers.get(rank))
                .is_some_and(|peer| peer.pid == std::process::id() && peer.host == self.host)
    }
}

#[cfg(test)]
#[path = "rendezvous_tests.rs"]
mod tests;
