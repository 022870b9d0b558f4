//! The calls of one rank on one communicator: collectives in order, point-to-point side by side, plans cached, faults turned into errors
//! that name the culprit and reach every rank.

use super::job::{Buffers, Fault, Progress};
use super::kernel::Kernel;
use super::pace::{Pace, Patience};
use super::plans::{PlanCache, Planned};
use super::point::{Advance, Direction, Point, Post};
use super::request::Request;
use super::short::Errand;
use crate::error::{Error, Result};
use crate::plan::{Plan, Tuning, World};
use crate::transport::{Blocked, Entered, Watch};
use crate::types::{Call, ReduceOp, Reduction};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The last-level cache that is taken for granted where its size can't be seen.
pub const USUAL_CACHE: usize = 24 << 20;

/// Polls for one message on the short path where every rank has a processor of its own: ten times what a message takes to cross.
const SHORT_SPINS: u32 = 64;

/// What a session needs to know about its communicator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The communicator's name in messages.
    pub name: String,
    /// Which ranks are near each other.
    pub world: World,
    /// How plans are chosen.
    pub tuning: Tuning,
    /// The longest wait without progress.
    pub timeout: Duration,
    /// The lane of point-to-point traffic.
    pub point_lane: u32,
    /// Bytes of the last-level cache that the ranks share.
    pub cache: usize,
}

/// How far a session got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Nothing is under way.
    Idle,
    /// Something is missing.
    Blocked {
        /// What.
        on: Blocked,
        /// Whether anything was done in this poll.
        moved: bool,
    },
}

/// One rank's operations on one communicator.
#[derive(Debug)]
pub struct Session<L> {
    links: L,
    pub(super) settings: Settings,
    plans: PlanCache,
    /// Collectives entered so far.
    number: u64,
    /// Of all collectives entered so far. It goes into what messages carry, so that ranks that once disagreed without noticing don't
    /// understand each other's next message.
    history: u64,
    waiting: VecDeque<Request>,
    /// The collective under way.
    current: Option<Box<Planned>>,
    points: Vec<Point>,
    scratch: Vec<u64>,
    /// Polls for one message before a call takes the long path.
    spins: u32,
    /// Received messages of at least so many bytes are written past the caches.
    stream_from: usize,
    failed: Option<Error>,
    /// Something of a caller's memory is with the links still.
    unsettled: bool,
}

/// What the messages of a collective carry, from the history up to it.
#[inline]
fn tag_of(history: u64) -> u32 {
    (history >> 32) as u32
}

/// Whether the links are done with the caller's memory. An error of theirs is found by who asks again.
#[inline(always)]
fn is_settled<L: Watch>(links: &mut L) -> bool {
    matches!(links.settle(), Ok(None))
}

/// Notes that a collective begins, here and for the others to see, and says what its messages carry.
#[inline(always)]
fn enter<L: Watch>(number: &mut u64, history: &mut u64, entered: &Entered, links: &mut L) -> u32 {
    *number += 1;
    links.announce(&Entered { number: *number, ..*entered });
    *history = (history.rotate_left(29) ^ entered.digest).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    tag_of(*history)
}

impl<L: Watch> Session<L> {
    /// A session over links.
    pub fn new(links: L, settings: Settings) -> Session<L> {
        let plans = PlanCache::default();
        let (waiting, points, scratch) = Default::default();
        let (ranks, processors) = links.crowd();
        let spins = if ranks <= processors { SHORT_SPINS } else { 0 };
        let (number, history) = (0, 0);
        let stream_from = super::point::received_round_caches_from(settings.cache, ranks);
        Session {
            links,
            settings,
            plans,
            number,
            history,
            waiting,
            current: None,
            points,
            scratch,
            spins,
            stream_from,
            failed: None,
            unsettled: false,
        }
    }

    /// The links.
    pub fn links(&mut self) -> &mut L {
        &mut self.links
    }

    /// The same, to look at.
    pub fn links_ref(&self) -> &L {
        &self.links
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The plan that this rank follows for a call.
    pub fn plan(&self, call: &Call) -> Result<Plan> {
        super::plans::plan(&self.settings, call)
    }

    /// Changes how plans are chosen from now on; all ranks must do the same between the same calls.
    pub fn retune(&mut self, change: impl FnOnce(&mut Tuning)) {
        change(&mut self.settings.tuning);
        self.plans = PlanCache::default();
    }

    /// The number of collectives entered so far.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The error that ended this communicator, if one did.
    pub fn failure(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// Puts an operation behind those under way. What can't be done is refused here, before anything of it is sent.
    pub fn submit(&mut self, request: &Request) -> Result<()> {
        self.take(request, false)
    }

    /// The same for one of several, before `finish`.
    pub fn collect(&mut self, request: &Request) -> Result<()> {
        self.take(request, true)
    }

    fn take(&mut self, request: &Request, more: bool) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.links.aborted() {
            return Err(self.take_up_abort());
        }
        match request {
            Request::Collective { .. } if self.current.is_none() && self.waiting.is_empty() => {
                return self.begin(request);
            }
            Request::Collective { call, op, .. } => {
                // What can't be done is refused now, not when its turn comes.
                self.plans.bring(&self.settings, self.links.rank(), call)?;
                Self::kernel(&self.settings, call, *op)?;
                self.waiting.push_back(request.clone());
            }
            Request::Send { to, count, dtype, at } => {
                return self.start_point(Point::send(*to, *at, *count, *dtype), more);
            }
            Request::Receive { from, count, dtype, at } => {
                return self.start_point(Point::receive(*from, *at, *count, *dtype), more);
            }
        }
        Ok(())
    }

    /// A send or receive that waits for no other one moves its first chunk now, which may be all of it.
    fn start_point(&mut self, mut point: Point, more: bool) -> Result<()> {
        if let Some((at, len)) = point.lends() {
            self.links.lends(at, len);
        }
        if self.points.is_empty() {
            let post = self.post();
            match point.advance(&mut self.links, &post) {
                // Others follow, whose messages leave with the same system call.
                Ok(Advance::Done) if more => {
                    self.unsettled = true;
                    return Ok(());
                }
                Ok(Advance::Done) if is_settled(&mut self.links) => return Ok(()),
                Ok(Advance::Done) => return self.settle().map(drop),
                Ok(Advance::Moved | Advance::Blocked(_)) => {}
                Err(fault) => {
                    // It is what this rank is doing, as the error says.
                    self.points.push(point);
                    return Err(self.point_fault(point, fault));
                }
            }
        }
        self.points.push(point);
        Ok(())
    }

    /// What all sends and receives have in common.
    #[inline(always)]
    fn post(&self) -> Post {
        let (lane, fetch_from) = (self.settings.point_lane, self.settings.tuning.fetch_from);
        Post { lane, stream_from: self.stream_from, ahead: std::ptr::null(), fetch_from }
    }

    /// The kernel of a call that has its own.
    #[inline]
    fn kernel(settings: &Settings, call: &Call, op: ReduceOp) -> Result<Option<Kernel>> {
        if call.reduction == Reduction::PreMulSum && call.collective.reduces() {
            return Kernel::new(call.dtype, op, settings.world.size()).map(Some);
        }
        Ok(None)
    }

    /// Begins a collective: plan, scratch, announcement, and as much as the short path can do.
    fn begin(&mut self, request: &Request) -> Result<()> {
        let Request::Collective { call, op, input, output } = request else { return Ok(()) };
        let planned = self.plans.bring(&self.settings, self.links.rank(), call)?;
        if let Some(kernel) = Self::kernel(&self.settings, call, *op)? {
            planned.kernel = Some(kernel);
        }
        if self.scratch.len() * 8 < planned.scratch {
            self.scratch.resize(planned.scratch.div_ceil(8), 0);
        }
        let (large, overlap) = planned.exceeds_cache(*input, *output);
        let stream = large && !(call.collective.reduces() && overlap);
        let buffers = Buffers { input: *input, output: *output, scratch: self.scratch.as_mut_ptr().cast() };
        planned.lend(&buffers, &mut self.links);
        let tag = enter(&mut self.number, &mut self.history, &planned.entered, &mut self.links);
        let Some(short) = &planned.short else { return self.go_on(0, buffers, (stream, large)) };
        let errand = Errand { kernel: planned.kernel.as_ref(), buffers, tag, stream, spins: self.spins };
        match short.run(&errand, &mut self.links) {
            Ok(all) if short.ends_at(all) && is_settled(&mut self.links) => {
                self.links.finish(self.number);
                Ok(())
            }
            Ok(done) => self.go_on(done, buffers, (stream, large)),
            Err(fault) => self.stop(fault),
        }
    }

    /// The job does what is left after that many steps of the plan that was brought last.
    #[inline(never)]
    fn go_on(&mut self, done: usize, buffers: Buffers, (stream, large): (bool, bool)) -> Result<()> {
        self.current = self.plans.take();
        if let Some(planned) = &mut self.current {
            planned.job.start(planned.kernel, buffers, tag_of(self.history), stream, large);
            if done > 0 {
                planned.job.skip(done);
            }
        }
        Ok(())
    }

    /// The short path has met something that can't be.
    #[cold]
    fn stop(&mut self, fault: Fault) -> Result<()> {
        self.current = self.plans.take();
        Err(self.fault(fault))
    }

    /// Does what can be done now.
    #[inline]
    pub fn poll(&mut self) -> Result<Poll> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut blocked = None;
        let mut moved = false;
        while let Some(planned) = &mut self.current {
            match planned.job.poll(&mut self.links) {
                Ok(Progress::Done) => {
                    if let Some(on) = self.settle()? {
                        blocked = Some(on);
                        break;
                    }
                    moved = true;
                    if let Some(planned) = self.current.take() {
                        self.plans.put(planned);
                    }
                    self.links.finish(self.number);
                    // The short path may end several of them at once.
                    while self.current.is_none()
                        && let Some(next) = self.waiting.pop_front()
                    {
                        self.begin(&next).map_err(|error| self.fail(error))?;
                    }
                }
                Ok(Progress::Blocked { on, moved: some }) => {
                    moved |= some;
                    blocked = Some(on);
                    break;
                }
                Err(fault) => return Err(self.fault(fault)),
            }
        }
        if !self.points.is_empty() {
            self.poll_points(&mut blocked, &mut moved)?;
        }
        if blocked.is_none() && self.unsettled {
            blocked = self.settle()?;
        }
        Ok(blocked.map_or(Poll::Idle, |on| Poll::Blocked { on, moved }))
    }

    /// Whom the links wait for before the callers may have their memory back.
    #[inline(always)]
    fn settle(&mut self) -> Result<Option<Blocked>> {
        match self.links.settle() {
            Ok(on) => {
                self.unsettled = on.is_some();
                Ok(on)
            }
            Err(error) => Err(self.fault(Fault::Links(error))),
        }
    }

    /// Sends and receives go on side by side, a chunk each in turn, so that what was put into slots is taken out again while it is in the
    /// cache; those with the same peer and direction go in order.
    fn poll_points(&mut self, blocked: &mut Option<Blocked>, moved: &mut bool) -> Result<()> {
        let mut post = self.post();
        let (mut moving, mut done) = (true, false);
        while moving {
            moving = false;
            let mut first_blocked = None;
            let mut at = 0;
            while at < self.points.len() {
                let point = self.points[at];
                let behind = |other: &Point| other.peer == point.peer && other.direction == point.direction;
                if self.points[..at].iter().any(behind) {
                    at += 1;
                    continue;
                }
                match self.points[at].advance(&mut self.links, &post) {
                    Ok(Advance::Blocked(on)) => drop(first_blocked.get_or_insert(on)),
                    Ok(Advance::Moved) => moving = true,
                    Ok(Advance::Done) => {
                        // What waited behind it, anywhere in the list, may go in the next turn.
                        self.points.remove(at);
                        (moving, done, post.ahead) = (true, true, std::ptr::null());
                        continue;
                    }
                    Err(fault) => return Err(self.point_fault(point, fault)),
                }
                if point.direction == Direction::Send {
                    post.ahead = self.points[at].reads_next();
                }
                at += 1;
            }
            *moved |= moving;
            if !moving && blocked.is_none() {
                *blocked = first_blocked;
            }
        }
        // Once for all: messages of several sends leave with one system call.
        if done {
            self.settle()?;
        }
        Ok(())
    }

    /// One operation, to its end. The same collective as before, on a communicator that does nothing else, takes the way through here
    /// that keeps least in memory: a core that waits for a line which another one had goes on only until its queue of 48 stores (Zen 2)
    /// is full. One-way messages of 8 bytes between two far cores, by the stores beside each: 20 85 ns, 40 110, 60 200.
    #[inline]
    pub fn perform(&mut self, request: &Request) -> Result<()> {
        let idle = self.current.is_none() & self.waiting.is_empty() & self.points.is_empty() & !self.unsettled;
        let Request::Collective { call, input, output, .. } = request else { return self.perform_slowly(request) };
        let Some((planned, short)) = self.plans.at_hand(call) else { return self.perform_slowly(request) };
        if !idle || self.failed.is_some() || self.links.aborted() || self.scratch.len() * 8 < planned.scratch {
            return self.perform_slowly(request);
        }
        let buffers = Buffers { input: *input, output: *output, scratch: self.scratch.as_mut_ptr().cast() };
        planned.lend(&buffers, &mut self.links);
        let tag = enter(&mut self.number, &mut self.history, &planned.entered, &mut self.links);
        let errand = Errand { kernel: planned.kernel.as_ref(), buffers, tag, stream: false, spins: self.spins };
        match short.run(&errand, &mut self.links) {
            Ok(all) if short.ends_at(all) && is_settled(&mut self.links) => {
                self.links.finish(self.number);
                Ok(())
            }
            Ok(done) => self.finish_slowly(done, request),
            Err(fault) => self.stop(fault),
        }
    }

    #[inline(never)]
    fn perform_slowly(&mut self, request: &Request) -> Result<()> {
        self.submit(request)?;
        self.finish()
    }

    /// The rest of a collective of which the short path has done so many steps.
    #[inline(never)]
    fn finish_slowly(&mut self, done: usize, request: &Request) -> Result<()> {
        let Request::Collective { input, output, .. } = request else { return Ok(()) };
        let buffers = Buffers { input: *input, output: *output, scratch: self.scratch.as_mut_ptr().cast() };
        self.go_on(done, buffers, (false, false))?;
        self.finish()
    }

    /// Several that go on side by side, to the end of all. What was taken ends even if something else was refused: no borrowed buffer may
    /// stay behind.
    #[inline]
    pub fn perform_together(&mut self, requests: &[Request]) -> Result<()> {
        let submitted = requests.iter().try_for_each(|request| self.collect(request));
        submitted.and(self.finish())
    }

    /// Everything that was submitted, to its end.
    #[inline(always)]
    pub fn finish(&mut self) -> Result<()> {
        if self.current.is_none() && self.points.is_empty() && self.failed.is_none() && !self.unsettled {
            return Ok(());
        }
        self.finish_pending()
    }

    #[inline(never)]
    fn finish_pending(&mut self) -> Result<()> {
        match self.poll()? {
            Poll::Idle => Ok(()),
            Poll::Blocked { on, .. } => self.wait(on),
        }
    }

    fn wait(&mut self, mut on: Blocked) -> Result<()> {
        let (ranks, processors) = self.links.crowd();
        let mut pace = Pace::new(ranks, processors, self.settings.timeout);
        let mut began = None;
        let mut dozed = false;
        loop {
            let mut patience = pace.advise();
            if patience == Patience::Clock {
                let since = *began.get_or_insert_with(Instant::now);
                patience = pace.after(since.elapsed());
            }
            let mut went_on = false;
            let polled = match patience {
                Patience::Spin => {
                    std::hint::spin_loop();
                    self.poll()?
                }
                Patience::Yield | Patience::Clock => {
                    match self.links.nap(on) {
                        Some(nap) => std::thread::sleep(nap),
                        None => std::thread::yield_now(),
                    }
                    self.poll()?
                }
                Patience::Sleep(limit) => {
                    if self.look_for_trouble(on)? {
                        went_on = true;
                        self.poll()?
                    } else {
                        dozed = true;
                        self.doze(on, limit)?
                    }
                }
                Patience::GiveUp => self.give_up(on)?,
            };
            let moved = match polled {
                Poll::Idle => true,
                // A fold that has taken one message of several has moved on to wait for somebody else.
                Poll::Blocked { on: now, moved } => moved || std::mem::replace(&mut on, now) != now,
            };
            let moved = moved || went_on;
            if moved && pace.progressed() {
                began = None;
            }
            if moved && std::mem::take(&mut dozed) {
                self.links.go_on();
            }
            if polled == Poll::Idle {
                return Ok(());
            }
        }
    }

    /// Sleeps until somebody wakes this rank, at most that long, unless there is something to do.
    fn doze(&mut self, on: Blocked, limit: Duration) -> Result<Poll> {
        self.links.doze(on);
        let looked = self.poll();
        let nothing = matches!(looked, Ok(Poll::Blocked { moved: false, .. }));
        if nothing {
            self.links.sleep(limit);
        }
        self.links.rise();
        if nothing { self.poll() } else { looked }
    }

    /// Says for whom this rank has been waiting for long, where its caller waits for more than this session; None: no more.
    pub fn say_waiting(&mut self, on: Option<Blocked>) {
        match on {
            Some(on) => {
                self.links.doze(on);
                self.links.rise();
            }
            None => self.links.go_on(),
        }
    }

    /// Looks for a reason why the wait will not end. True: it goes on after all.
    pub fn look_for_trouble(&mut self, on: Blocked) -> Result<bool> {
        let number = self.operation_number();
        let trouble = self.links.trouble(number, on);
        let ended = number > 0 && self.links.finished(on.rank()) >= number;
        if trouble.is_none() && !ended {
            return Ok(false);
        }
        // What is already here counts: a peer may leave, or die, after it has sent all that this rank waits for.
        // A step that takes from many may have got further without having moved: then it waits for another one now.
        match self.poll()? {
            Poll::Blocked { moved: false, on: still } if still == on => Err(match trouble {
                Some(trouble) => self.trouble_error(trouble),
                None => self.nothing_more(on),
            }),
            _ => Ok(true),
        }
    }

    /// What this rank is doing, in words.
    pub(super) fn operation(&self) -> String {
        match (&self.current, self.points.first()) {
            (Some(planned), _) => Entered::new(self.number, 0, &planned.call).to_string(),
            (None, Some(point)) => point.to_string(),
            (None, None) => String::new(),
        }
    }

    /// What the messages of the last collective that was begun carry.
    pub(super) fn tag(&self) -> u32 {
        tag_of(self.history)
    }

    /// The number of the collective under way; 0: none.
    pub(super) fn operation_number(&self) -> u64 {
        self.current.as_ref().map_or(0, |_| self.number)
    }

    /// Notes the error that ends this communicator; the first one stays.
    pub(super) fn fail(&mut self, error: Error) -> Error {
        self.links.failed();
        // The caller gets its buffers back with the error.
        if self.current.take().is_some_and(|planned| planned.job.opens_windows()) {
            self.links.withdraw();
        }
        self.points.clear();
        self.waiting.clear();
        self.failed.get_or_insert(error).clone()
    }

    fn point_fault(&mut self, point: Point, fault: Fault) -> Error {
        let (Fault::Stranger { rank, tag, len, .. }, Direction::Receive) = (&fault, point.direction) else {
            return self.fault(fault);
        };
        let theirs = format!("send of {} to rank {}", Point::describe_tag(*tag, *len), self.links.rank());
        let rank = *rank;
        self.disagreement(rank, theirs, point.to_string())
    }
}
