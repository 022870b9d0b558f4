//! Links of ranks on several hosts: shared memory to those of this host, sockets to all others.
//!
//! ```text
//!   host A                      host B
//!   0 ══ shm ══ 1               2 ══ shm ══ 3        ══ rings of a segment that a host's ranks share
//!   └─────┼── tcp ──────────────┘        │
//!         └───────────── tcp ────────────┘           ranks have their numbers of the whole world everywhere but in the segment
//! ```
//!
//! A pair goes over shared memory where both are on one host. So does the board of a domain that lies on one host; every other board goes
//! over sockets to all its readers. Writer and reader come to the same answer, because all ranks know which ranks share a host.

use super::shm::ShmLinks;
use super::tcp::TcpLinks;
use super::{Abort, Blocked, Entered, Incoming, Links, Message, Outgoing, Shared, Trouble, Watch};
use crate::error::Error;
use crate::plan::{Group, World};
use std::time::Duration;

/// The longest sleep on one kind of links while the other kind may have something: a rank sleeps where it expects its message, and what
/// comes over the other kind first is seen after so long.
const GLANCE: Duration = Duration::from_millis(1);

/// In place of a number in the segment: that rank is on another host.
const FAR: u32 = u32::MAX;

/// One rank's ends of all links of a communicator.
#[derive(Debug)]
pub struct MixedLinks {
    near: ShmLinks,
    far: TcpLinks,
    /// For each rank, its number in the segment.
    places: Vec<u32>,
    /// For each number in the segment, its rank.
    ranks: Vec<u32>,
    /// Whether each rank's domain, all of which reads its inner board, is on this host.
    near_boards: Vec<bool>,
    /// Whether the rank sleeps, or is about to, on what comes over shared memory.
    sleeps_near: bool,
}

/// Which links serve.
enum Way<L> {
    /// Shared memory, with numbers in the segment.
    Near(L),
    Far,
}

impl MixedLinks {
    /// `ranks` are those of this host, in the order of their numbers in the segment.
    pub fn new(near: ShmLinks, far: TcpLinks, world: &World, ranks: &[u32]) -> MixedLinks {
        let mut places = vec![FAR; world.size() as usize];
        for (place, rank) in ranks.iter().enumerate() {
            places[*rank as usize] = place as u32;
        }
        let is_near = |rank: u32| world.members(Group::Inner, rank).iter().all(|other| places[other as usize] != FAR);
        let near_boards = (0..world.size()).map(is_near).collect();
        MixedLinks { near, far, places, ranks: ranks.to_vec(), near_boards, sleeps_near: false }
    }

    /// The world of the ranks of one host as its segment numbers them: each keeps its domain.
    pub fn world_of_host(world: &World, ranks: &[u32]) -> World {
        World::from_domains(&ranks.iter().map(|rank| world.seat(*rank).0).collect::<Vec<_>>())
    }

    /// The links of this host.
    pub fn near(&mut self) -> &mut ShmLinks {
        &mut self.near
    }

    /// The links to other hosts.
    pub fn far(&mut self) -> &mut TcpLinks {
        &mut self.far
    }

    fn place(&self, rank: u32) -> Option<u32> {
        self.places.get(rank as usize).copied().filter(|place| *place != FAR)
    }

    /// That rank, if it is on another host.
    fn abroad(&self, rank: u32) -> Option<u32> {
        self.place(rank).is_none().then_some(rank)
    }

    #[inline]
    fn way_out(&self, link: Outgoing) -> Way<Outgoing> {
        match link {
            Outgoing::Pair(to) => self.place(to).map_or(Way::Far, |place| Way::Near(Outgoing::Pair(place))),
            Outgoing::Board(Group::Inner) if self.near_boards[self.far.rank() as usize] => Way::Near(link),
            Outgoing::Board(_) => Way::Far,
        }
    }

    #[inline]
    fn way_in(&self, link: Incoming) -> Way<Incoming> {
        match link {
            Incoming::Pair(from) => self.place(from).map_or(Way::Far, |place| Way::Near(Incoming::Pair(place))),
            Incoming::Board(from, Group::Inner) if self.near_boards[from as usize] => {
                self.place(from).map_or(Way::Far, |place| Way::Near(Incoming::Board(place, Group::Inner)))
            }
            Incoming::Board(..) => Way::Far,
        }
    }

    /// While nothing comes from a rank of this host, those of others get what waits for them.
    #[inline]
    fn peek_near(&mut self, lane: u32, link: Incoming) -> Result<Option<Message>, Error> {
        match self.near.peek(lane, link) {
            Ok(None) => {
                self.far.flush();
                Ok(None)
            }
            seen => seen.map_err(|error| self.renamed(error)),
        }
    }

    /// What the segment's links say of its numbers, said of ranks.
    fn of_ranks(&self, blocked: Blocked) -> Blocked {
        let rank = |place: u32| self.ranks[place as usize];
        match blocked {
            Blocked::Slot(place) => Blocked::Slot(rank(place)),
            Blocked::Message(Incoming::Pair(place)) => Blocked::Message(Incoming::Pair(rank(place))),
            Blocked::Message(Incoming::Board(place, group)) => Blocked::Message(Incoming::Board(rank(place), group)),
        }
    }

    fn renamed(&self, error: Error) -> Error {
        match error {
            Error::Corrupt { place, rank, what } => {
                Error::Corrupt { place, rank: self.ranks.get(rank).map_or(rank, |rank| *rank as usize), what }
            }
            other => other,
        }
    }

    /// The same abort in ranks that exist, from whichever side it came first.
    fn reason(&self) -> Option<Abort> {
        self.near.why_aborted().map(|abort| abort.believable(self.size()))
    }

    /// Why the communicator has ended. What one side knows, the other is told, before this rank leaves both.
    fn ended(&mut self) -> Option<Abort> {
        match (self.reason(), self.far.reason()) {
            (Some(near), None) => Some(self.far.abort(near)),
            (None, Some(far)) => {
                self.near.spread(&far);
                Some(far)
            }
            (near, far) => near.or(far),
        }
    }

    /// A rank of this host that has ended or has left.
    fn bereaved(&self, waits_for: u32) -> Option<Trouble> {
        let lost = self.near.bereaved(self.place(waits_for))?;
        Some(self.trouble_of_ranks(lost))
    }

    fn trouble_of_ranks(&self, trouble: Trouble) -> Trouble {
        let of_rank = |place: u32| self.ranks.get(place as usize).copied().unwrap_or(place);
        match trouble {
            Trouble::Lost { rank, how } => Trouble::Lost { rank: of_rank(rank), how },
            Trouble::Disagreement { rank, theirs } => Trouble::Disagreement { rank: of_rank(rank), theirs },
            aborted => aborted,
        }
    }
}

impl Links for MixedLinks {
    fn rank(&self) -> u32 {
        self.far.rank()
    }

    fn size(&self) -> u32 {
        self.far.size()
    }

    fn reserve(&mut self, lane: u32, link: Outgoing, len: usize) -> Result<Result<*mut u8, Blocked>, Error> {
        match self.way_out(link) {
            Way::Far => self.far.reserve(lane, link, len),
            Way::Near(link) => match self.near.reserve(lane, link, len) {
                Ok(Ok(room)) => Ok(Ok(room)),
                Ok(Err(blocked)) => {
                    self.far.flush();
                    Ok(Err(self.of_ranks(blocked)))
                }
                Err(error) => Err(self.renamed(error)),
            },
        }
    }

    fn past_caches(&self) -> bool {
        self.near.past_caches()
    }

    fn lends(&mut self, at: *const u8, len: usize) {
        self.far.lends(at, len);
    }

    fn reserve_from(
        &mut self,
        lane: u32,
        link: Outgoing,
        from: *mut u8,
        len: usize,
    ) -> Result<Result<*mut u8, Blocked>, Error> {
        match self.way_out(link) {
            Way::Far => self.far.reserve_from(lane, link, from, len),
            Way::Near(_) => self.reserve(lane, link, len),
        }
    }

    fn publish(&mut self, lane: u32, link: Outgoing, len: usize, tag: u32) -> Result<(), Error> {
        match self.way_out(link) {
            Way::Far => self.far.publish(lane, link, len, tag),
            Way::Near(link) => self.near.publish(lane, link, len, tag),
        }
    }

    fn peek(&mut self, lane: u32, link: Incoming) -> Result<Option<Message>, Error> {
        match self.way_in(link) {
            Way::Far => self.far.peek(lane, link),
            Way::Near(link) => self.peek_near(lane, link),
        }
    }

    fn peek_into(&mut self, lane: u32, link: Incoming, into: *mut u8, len: usize) -> Result<Option<Message>, Error> {
        match self.way_in(link) {
            Way::Far => self.far.peek_into(lane, link, into, len),
            Way::Near(link) => self.peek_near(lane, link),
        }
    }

    fn release(&mut self, lane: u32, link: Incoming) {
        match self.way_in(link) {
            Way::Far => self.far.release(lane, link),
            Way::Near(link) => self.near.release(lane, link),
        }
    }

    fn settle(&mut self) -> Result<Option<Blocked>, Error> {
        self.far.settle()
    }

    fn share(&self, at: *const u8, len: usize) -> Shared {
        self.far.share(at, len)
    }

    fn resolve(&mut self, owner: u32, place: Shared, len: usize) -> Option<*mut u8> {
        self.far.resolve(owner, place, len)
    }

    unsafe fn fetch(&mut self, owner: u32, at: u64, into: *mut u8, len: usize) -> Result<(), Error> {
        // SAFETY: the caller's contract is that of the callee.
        unsafe { self.far.fetch(owner, at, into, len) }
    }

    fn drained(&mut self, lane: u32, link: Outgoing) -> Result<Option<Blocked>, Error> {
        match self.way_out(link) {
            Way::Far => self.far.drained(lane, link),
            Way::Near(link) => match self.near.drained(lane, link) {
                Ok(blocked) => Ok(blocked.map(|blocked| self.of_ranks(blocked))),
                Err(error) => Err(self.renamed(error)),
            },
        }
    }

    fn message_limit(&self, peer: u32) -> usize {
        self.place(peer).map_or_else(|| self.far.message_limit(peer), |_| self.near.message_limit(peer))
    }

    fn enter_windows(&mut self) -> bool {
        self.near.enter_windows() && self.far.enter_windows()
    }

    fn leave_windows(&mut self) {
        self.near.leave_windows();
    }
}

impl Watch for MixedLinks {
    #[inline]
    fn announce(&mut self, entered: &Entered) {
        self.near.announce(entered);
        self.far.announce(entered);
    }

    #[inline]
    fn finish(&mut self, number: u64) {
        self.near.finish(number);
        self.far.finish(number);
    }

    fn finished(&self, rank: u32) -> u64 {
        self.place(rank).map_or_else(|| self.far.finished(rank), |place| self.near.finished(place))
    }

    #[inline]
    fn aborted(&self) -> bool {
        self.near.aborted() || self.far.aborted()
    }

    fn trouble(&mut self, number: u64, blocked: Blocked) -> Option<Trouble> {
        let waits_for = blocked.rank();
        // Whoever has ended the communicator leaves after that, perhaps just now.
        let lost = match self.ended() {
            Some(abort) => Some(Trouble::Aborted(abort)),
            None => {
                let far = self.abroad(waits_for);
                let gone = self.bereaved(waits_for).or_else(|| self.far.bereaved(far));
                gone.map(|lost| self.ended().map_or(lost, Trouble::Aborted))
            }
        };
        if lost.is_some() {
            // What was sent before is taken in, so that whoever asks sees all of it; an error of that comes again in the next poll.
            let _anything = self.far.advance_all();
            return lost;
        }
        self.far.look_whether_ended(waits_for, number);
        let near = self.near.disagreement(number).map(|trouble| self.trouble_of_ranks(trouble));
        near.or_else(|| self.far.disagreement(number))
    }

    fn entered(&self, rank: u32, number: u64) -> Option<Entered> {
        self.place(rank).map_or_else(|| self.far.entered(rank, number), |place| self.near.entered(place, number))
    }

    fn inquire(&mut self, rank: u32) {
        // Where the communicator has ended, the reason of that counts.
        if self.place(rank).is_none() && !self.aborted() {
            self.far.inquire(rank);
        }
    }

    /// In the segment too each rank says it in numbers of the whole world.
    fn waiting_for(&self, rank: u32) -> Option<u32> {
        self.place(rank).map_or_else(|| self.far.waiting_for(rank), |place| self.near.waiting_for(place))
    }

    fn stopped(&self, rank: u32) -> bool {
        self.place(rank).is_some_and(|place| self.near.stopped(place))
    }

    fn describe(&self, rank: u32, number: u64) -> String {
        self.place(rank).map_or_else(|| self.far.describe(rank, number), |place| self.near.describe(place, number))
    }

    fn doze(&mut self, blocked: Blocked) {
        self.sleeps_near = self.place(blocked.rank()).is_some();
        self.far.doze(blocked);
        self.near.say_waiting_for(Some(blocked.rank()));
        self.near.lie_down();
    }

    fn sleep(&mut self, limit: Duration) {
        // What has come meanwhile is for the next poll, an error of it too.
        if let Ok(false) = self.far.advance_all() {
            match self.sleeps_near {
                true => {
                    self.near.sleep(limit.min(GLANCE));
                    self.far.attend_devices();
                }
                false => self.far.sleep_on_sockets(limit.min(GLANCE)),
            }
        }
    }

    fn rise(&mut self) {
        self.near.rise();
    }

    fn go_on(&mut self) {
        self.near.go_on();
        self.far.go_on();
    }

    /// What is known on either side already counts for both: this rank's reason may only be a consequence of that.
    fn abort(&mut self, abort: Abort) -> Abort {
        let first = self.far.reason().or_else(|| self.reason()).unwrap_or(abort);
        self.near.spread(&first);
        let reason = self.reason().unwrap_or(first);
        self.far.abort(reason)
    }

    fn withdraw(&mut self) {
        self.near.withdraw();
    }

    fn failed(&mut self) {
        self.near.failed();
        self.far.failed();
    }

    fn nap(&mut self, blocked: Blocked) -> Option<Duration> {
        self.abroad(blocked.rank())?;
        self.far.nap(blocked)
    }

    fn crowd(&self) -> (u32, u32) {
        self.far.crowd()
    }
}
