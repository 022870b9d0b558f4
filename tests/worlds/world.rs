//! A world: ranks with the real sessions in one thread, polled in an order from the seed, under a clock that the world moves.
//!
//! The world plays the part of `Session::wait`: it asks the real `Pace` what to do while a rank is blocked, and does it in virtual time.
//!
//! ```text
//!   Outside ──> Blocked ──> Asleep ──┐          every visit costs some virtual microseconds;
//!      ↑           │  ↑───────┴──────┘          when nobody is due, the clock jumps to the next
//!      └── item ends ──> … ──> Ended            arrival, nap, or end of a computation
//! ```

use crate::chance::Chance;
use crate::oracle::{Buffer, Part, element, encode};
use crate::program::{Item, Program};
use ringtree::Error;
use ringtree::exec::{Pace, Patience, Poll, Request, Session, Settings, USUAL_CACHE};
use ringtree::plan::{Algorithm, MOST_CHANNELS, Plan};
use ringtree::transport::clock::Clock;
use ringtree::transport::faulty::{Faulty, Mishap, Weather};
use ringtree::transport::local::{LocalDoor, LocalLinks};
use ringtree::transport::{Blocked, Watch};
use ringtree::types::Call;
use ringtree::{Collective, DataType, Reduction};
use std::time::Duration;

/// Visits after which a world hangs.
const MOST_VISITS: u64 = 1_000_000;

/// How much later than its deadline a rank may give up: a nap, and the visits of the others.
const BOUND: Duration = Duration::from_millis(50);

/// What a rank is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Computing until then.
    Outside(Duration),
    /// In the library, waiting with its eyes open.
    Blocked(Blocked),
    /// In the library, asleep until then.
    Asleep(Blocked, Duration),
    /// Done, or failed.
    Ended,
}

/// A rank's memory for an item.
#[derive(Debug, Default)]
struct Lent {
    parts: Vec<Part>,
    sent: Vec<Buffer>,
    received: Vec<(usize, Buffer)>,
}

struct Rank {
    session: Session<Faulty<LocalLinks>>,
    door: LocalDoor,
    item: usize,
    phase: Phase,
    pace: Pace,
    /// When the clock was first looked at in this wait.
    began: Option<Duration>,
    /// Whether it has said for whom it waits.
    dozed: bool,
    /// When something last moved here.
    moved: Duration,
    lent: Lent,
    /// Memory of earlier items, which nobody may touch any more.
    taken_back: Vec<Lent>,
    error: Option<Error>,
}

/// How a world ended.
#[derive(Debug)]
pub struct Outcome {
    pub errors: Vec<Option<Error>>,
    pub visits: u64,
}

/// A world under way.
pub struct World {
    program: Program,
    clock: Clock,
    chance: Chance,
    ranks: Vec<Rank>,
    visits: u64,
}

impl World {
    pub fn new(seed: u64) -> World {
        let program = Program::new(seed);
        let clock = Clock::default();
        let weather = Weather::new(program.faults.clone(), clock.clone());
        let rank = |links: LocalLinks| {
            // SAFETY: `taken_back` keeps every buffer until the world goes, and a rank's sessions with it.
            let links = unsafe { links.share_everything(program.reach) };
            let door = links.door();
            let settings = Settings {
                name: "world".into(),
                world: program.world.clone(),
                tuning: program.tuning(&program.items[0]),
                timeout: program.timeout,
                point_lane: MOST_CHANNELS,
                // In every other world all results are written past the caches.
                cache: if seed.is_multiple_of(2) { USUAL_CACHE } else { 0 },
            };
            Rank {
                session: Session::new(Faulty::new(links, weather.clone()), settings),
                door,
                item: 0,
                phase: Phase::Outside(Duration::ZERO),
                pace: Pace::new(2, 1, program.timeout),
                began: None,
                dozed: false,
                moved: Duration::ZERO,
                lent: Lent::default(),
                taken_back: Vec::new(),
                error: None,
            }
        };
        let ranks = LocalLinks::world_of(&program.world, program.slots).into_iter().map(rank).collect();
        World { clock, chance: Chance::new(!seed), ranks, visits: 0, program }
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Runs to the end of everybody who does not die.
    pub fn run(&mut self) -> Result<Outcome, String> {
        while let Some(rank) = self.next_due() {
            self.visits += 1;
            if self.visits > MOST_VISITS {
                return Err(format!(
                    "the world hangs: {:?}",
                    self.ranks.iter().map(|rank| rank.phase).collect::<Vec<_>>()
                ));
            }
            self.visit(rank)?;
            let cost = Duration::from_micros(self.chance.between(1, 30));
            self.clock.move_to(self.clock.now() + cost);
        }
        self.check_memory()?;
        let gone = |rank| self.program.faults.gone(rank as u32, self.clock.now());
        let fooled = |rank: &Rank| rank.session.links_ref().deceived() && rank.error.is_none();
        if let Some(rank) = (0..self.ranks.len()).find(|rank| fooled(&self.ranks[*rank]) && !gone(*rank)) {
            return Err(format!("rank {rank} believed a message with a changed tag or length"));
        }
        Ok(Outcome { errors: self.ranks.iter().map(|rank| rank.error.clone()).collect(), visits: self.visits })
    }

    /// One of the ranks that have something to do now; if there is none, the clock moves to when there is.
    fn next_due(&mut self) -> Option<usize> {
        let now = self.clock.now();
        let due: Vec<Duration> = (0..self.ranks.len()).map(|rank| self.due(rank)).collect();
        let first = *due.iter().min()?;
        if first == Duration::MAX {
            return None;
        }
        self.clock.move_to(first);
        let now = now.max(first);
        let ready: Vec<usize> = (0..due.len()).filter(|rank| due[*rank] <= now).collect();
        Some(self.chance.pick(&ready))
    }

    /// When a rank has something to do.
    fn due(&self, number: usize) -> Duration {
        let (rank, now, faults) = (&self.ranks[number], self.clock.now(), &self.program.faults);
        if rank.phase == Phase::Ended || faults.gone(number as u32, now) {
            return Duration::MAX;
        }
        if let Some(until) = faults.stopped(number as u32, now) {
            return until;
        }
        match rank.phase {
            Phase::Outside(until) => until,
            Phase::Blocked(_) => Duration::ZERO,
            Phase::Asleep(_, until) => rank.session.links_ref().next_arrival().map_or(until, |at| at.min(until)),
            Phase::Ended => Duration::MAX,
        }
    }

    fn visit(&mut self, number: usize) -> Result<(), String> {
        let now = self.clock.now();
        let rank = &mut self.ranks[number];
        match rank.phase {
            Phase::Outside(_) => {
                (rank.moved, rank.began) = (now, None);
                rank.pace = Pace::new(rank.session.links_ref().crowd().0, 1, self.program.timeout);
                let polled = rank.begin(&self.program, number as u32).and_then(|()| rank.session.poll());
                self.after(number, polled)
            }
            Phase::Asleep(..) => {
                rank.session.links().rise();
                let polled = rank.session.poll();
                self.after(number, polled)
            }
            Phase::Blocked(on) => {
                let mut patience = rank.pace.advise();
                if patience == Patience::Clock {
                    patience = rank.pace.after(now - *rank.began.get_or_insert(now));
                }
                match patience {
                    Patience::Spin | Patience::Yield | Patience::Clock => {
                        let polled = rank.session.poll();
                        self.after(number, polled)
                    }
                    Patience::Sleep(limit) => self.lie_down(number, on, now + limit),
                    Patience::GiveUp => {
                        let polled = rank.session.give_up(on);
                        self.after(number, polled)
                    }
                }
            }
            Phase::Ended => Ok(()),
        }
    }

    fn lie_down(&mut self, number: usize, on: Blocked, until: Duration) -> Result<(), String> {
        let rank = &mut self.ranks[number];
        if let Err(error) = rank.session.look_for_trouble(on) {
            return self.after(number, Err(error));
        }
        rank.dozed = true;
        rank.session.links().doze(on);
        let looked = rank.session.poll();
        if let Ok(Poll::Blocked { on, moved: false }) = looked {
            rank.phase = Phase::Asleep(on, until);
            return Ok(());
        }
        rank.session.links().rise();
        self.after(number, looked)
    }

    /// Goes on with what a poll gave.
    fn after(&mut self, number: usize, polled: Result<Poll, Error>) -> Result<(), String> {
        let now = self.clock.now();
        let rank = &mut self.ranks[number];
        if std::env::var("RINGTREE_SEED").is_ok() {
            println!("{now:?} rank {number} item {} {:?} {polled:?}", rank.item, rank.phase);
        }
        match polled {
            Ok(Poll::Blocked { on, moved }) => {
                let before = match rank.phase {
                    Phase::Blocked(before) | Phase::Asleep(before, _) => before,
                    _ => on,
                };
                rank.phase = Phase::Blocked(on);
                if moved || on != before {
                    rank.moved = now;
                    if rank.pace.progressed() {
                        rank.began = None;
                    }
                    if std::mem::take(&mut rank.dozed) {
                        rank.session.links().go_on();
                    }
                }
                if moved {
                    self.wake_all();
                }
                Ok(())
            }
            Ok(Poll::Idle) => {
                if std::mem::take(&mut rank.dozed) {
                    rank.session.links().go_on();
                }
                let item = &self.program.items[rank.item];
                rank.verdict(item, number as u32)?;
                rank.take_back();
                rank.item += 1;
                rank.phase = match self.program.items.get(rank.item) {
                    Some(next) => Phase::Outside(now + next.outside[number]),
                    None => {
                        rank.door.leave();
                        Phase::Ended
                    }
                };
                self.wake_all();
                Ok(())
            }
            Err(error) => {
                self.end(number, error)?;
                self.wake_all();
                Ok(())
            }
        }
    }

    /// Whatever happens wakes everybody, as `LocalLinks` does.
    fn wake_all(&mut self) {
        let now = self.clock.now();
        for rank in &mut self.ranks {
            if let Phase::Asleep(_, until) = &mut rank.phase {
                *until = now.min(*until);
            }
        }
    }

    /// A rank has got an error: in time, for good, and with nobody writing to its memory from now on.
    fn end(&mut self, number: usize, error: Error) -> Result<(), String> {
        let now = self.clock.now();
        let rank = &mut self.ranks[number];
        rank.phase = Phase::Ended;
        let awake_since = self.program.faults.mishaps.iter().filter_map(|mishap| match mishap {
            Mishap::Stopped { rank, until, .. } if *rank == number as u32 => Some(*until),
            _ => None,
        });
        let since = awake_since.filter(|until| *until <= now).fold(rank.moved, Duration::max);
        if now > since + self.program.timeout + BOUND {
            return Err(format!("rank {number} had its error {:?} after it last moved: {error}", now - since));
        }
        let text = error.to_string();
        let again = [rank.session.poll().map(|_| ()), rank.session.submit(&barrier())];
        for later in again {
            match later {
                Err(later) if later.to_string() == text => {}
                later => return Err(format!("rank {number} failed with '{text}', and then came {later:?}")),
            }
        }
        let held = rank.lent.parts.iter().all(Part::guards_hold);
        if !held {
            return Err(format!("rank {number} wrote outside its buffers before it failed: {error}"));
        }
        rank.error = Some(error);
        rank.take_back();
        rank.door.leave();
        Ok(())
    }

    /// No memory was touched after its operation had ended.
    fn check_memory(&self) -> Result<(), String> {
        for (number, rank) in self.ranks.iter().enumerate() {
            for lent in &rank.taken_back {
                let buffers = lent.parts.iter().all(Part::guards_hold) && lent.sent.iter().all(Buffer::guards_hold);
                if !buffers || !lent.received.iter().all(|(_, buffer)| buffer.guards_hold()) {
                    return Err(format!("memory of rank {number} was written to after its operation had ended"));
                }
            }
        }
        Ok(())
    }
}

fn barrier() -> Request {
    let call = Call::new(Collective::Barrier, DataType::U8, Reduction::Sum, 0, 0);
    // SAFETY: a barrier has no buffers.
    unsafe { Request::collective(call, ringtree::ReduceOp::Sum, std::ptr::null(), std::ptr::null_mut()) }
}

impl Rank {
    /// Submits everything that this rank does in its item.
    fn begin(&mut self, program: &Program, number: u32) -> Result<(), Error> {
        let item = &program.items[self.item];
        let tuning = program.tuning(item);
        self.session.retune(|now| *now = tuning.clone());
        let mut requests = Vec::new();
        for joint in &item.joints {
            let plan = Plan::new(&program.world, &joint.calls[number as usize], &tuning)
                .expect("the program asks for what is possible");
            let shift = if joint.seed % 3 == 0 { 1 } else { 0 };
            let mut part = Part::new(joint, number, plan.input_len(number), plan.output_len(number), shift);
            requests.push(part.request(joint, number));
            self.lent.parts.push(part);
        }
        for (at, transfer) in item.transfers.iter().enumerate() {
            let (item, count, dtype) = (transfer.dtype.size(), transfer.count, transfer.dtype);
            let mut buffer = Buffer::new(count as usize * item, 0);
            if transfer.from == number {
                for index in 0..count {
                    buffer.put(index as usize * item, &encode(dtype, element(transfer.seed, None, number, index)));
                }
                // SAFETY: the buffer holds all of them, and `lent` keeps it.
                requests.push(unsafe { Request::send(transfer.to, buffer.at(), count, dtype) });
                self.lent.sent.push(buffer);
            } else if transfer.to == number {
                // SAFETY: as above.
                requests.push(unsafe { Request::receive(transfer.from, buffer.at(), count, dtype) });
                self.lent.received.push((at, buffer));
            }
        }
        requests.iter().try_for_each(|request| self.session.submit(request))
    }

    /// Whether the item that has ended did what it should.
    fn verdict(&self, item: &Item, number: u32) -> Result<(), String> {
        for (part, joint) in self.lent.parts.iter().zip(&item.joints) {
            part.verdict(joint, number)
                .map_err(|wrong| format!("item {}: {wrong}, {:?}", self.item, item.algorithm))?;
        }
        for (at, buffer) in &self.lent.received {
            let transfer = &item.transfers[*at];
            let size = transfer.dtype.size();
            let right = |index: u64| {
                let want = encode(transfer.dtype, element(transfer.seed, None, transfer.from, index));
                buffer.get(index as usize * size, size) == want
            };
            if !buffer.guards_hold() || !(0..transfer.count).all(right) {
                return Err(format!("item {}: rank {number} received something else: {transfer:?}", self.item));
            }
        }
        Ok(())
    }

    fn take_back(&mut self) {
        let mut lent = std::mem::take(&mut self.lent);
        lent.parts.iter_mut().for_each(Part::poison);
        lent.sent.iter_mut().for_each(Buffer::poison);
        lent.received.iter_mut().for_each(|(_, buffer)| buffer.poison());
        self.taken_back.push(lent);
    }
}

/// The algorithm that an item's first call follows.
pub fn algorithm_of(program: &Program, item: &Item) -> Option<Algorithm> {
    let call = &item.joints.first()?.calls[0];
    Plan::new(&program.world, call, &program.tuning(item)).ok().map(|plan| plan.algorithm())
}
