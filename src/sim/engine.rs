//! The event loop.

use super::fabric::{Fabric, Sharing};
use super::link::{Actor, Link};
use crate::check::Program;
use crate::plan::{Flags, Group, Put, Space, Step, Take};
use alloc::collections::{BTreeMap, BinaryHeap};
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::cmp::Reverse;
use core::fmt;

/// One step taken. Times are in picoseconds from the start of the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Who.
    pub rank: u32,
    /// On which channel.
    pub channel: u32,
    /// The step's number.
    pub index: u64,
    /// The step.
    pub step: Step,
    /// When the rank had come to it.
    pub asked: u64,
    /// When everything it needs was there.
    pub start: u64,
    /// When it was done.
    pub end: u64,
}

/// One message that a step awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The channel.
    pub channel: u32,
    /// Who published it.
    pub from: u32,
    /// Who read it.
    pub to: u32,
    /// When it was published.
    pub sent: u64,
    /// When the reader could see it.
    pub arrived: u64,
    /// When the reader began to read it.
    pub taken: u64,
    /// The step that took it.
    pub index: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step was taken.
    Span(Span),
    /// A message was taken by a step.
    Message(Message),
}

/// Why a simulation can't go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The first rank that can't go on.
    pub rank: u32,
    /// Its channel.
    pub channel: u32,
    /// The step it has come to.
    pub index: u64,
    /// What is wrong, in words.
    pub why: String,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {}, channel {}, step {}: {}", self.rank, self.channel, self.index, self.why)
    }
}

impl core::error::Error for Stuck {}

/// A link: the pair from one rank to another, or the board of a rank in a group.
type LinkName = (u32, u8, u32, u32);

const PAIR: u8 = 3;

const TOO_LONG: &str = "the plan is too long to be simulated step by step";

/// What an actor is doing.
#[derive(Clone, Debug, Default)]
struct State {
    index: u64,
    step: Option<Step>,
    asked: u64,
    ready: u64,
    /// Links of the step that were looked at and have what it needs.
    looked: u32,
}

struct Engine<'a, P> {
    program: &'a P,
    fabric: &'a Fabric,
    actors: Vec<State>,
    links: BTreeMap<LinkName, Link>,
    /// When each rank's core is free, where channels share one.
    core_free: Vec<u64>,
    /// (time, actor) that may take its step.
    queue: BinaryHeap<Reverse<(u64, Actor)>>,
    work_left: u64,
    end: u64,
}

/// Runs all ranks to their end and tells `observer` what happens; returns when the last step ended, in picoseconds. Gives up after
/// `most_work` steps and messages.
pub fn simulate(
    program: &impl Program,
    fabric: &Fabric,
    most_work: u64,
    observer: &mut dyn FnMut(&Event),
) -> Result<u64, Stuck> {
    let ranks = program.world().size() as usize;
    let count = ranks * program.channels() as usize;
    let mut engine = Engine {
        program,
        fabric,
        actors: vec![State::default(); count],
        links: BTreeMap::new(),
        core_free: vec![0; ranks],
        queue: BinaryHeap::new(),
        work_left: most_work,
        end: 0,
    };
    for actor in 0..count {
        engine.fetch(actor, 0);
    }
    while let Some(Reverse((time, actor))) = engine.queue.pop() {
        engine.run(time, actor, observer)?;
    }
    match engine.actors.iter().position(|state| state.step.is_some()) {
        None => Ok(engine.end),
        Some(actor) => Err(engine.stuck(actor, "it waits for something that never comes")),
    }
}

impl<P: Program> Engine<'_, P> {
    fn place(&self, actor: Actor) -> (u32, u32) {
        let channels = self.program.channels() as usize;
        ((actor / channels) as u32, (actor % channels) as u32)
    }

    fn stuck(&self, actor: Actor, why: &str) -> Stuck {
        let (rank, channel) = self.place(actor);
        let state = &self.actors[actor];
        let step = state.step.map_or_else(String::new, |step| format!(" ({step:?})"));
        Stuck { rank, channel, index: state.index, why: format!("{why}{step}") }
    }

    /// The actor comes to its next step.
    fn fetch(&mut self, actor: Actor, now: u64) {
        let (rank, channel) = self.place(actor);
        let state = &mut self.actors[actor];
        (state.asked, state.ready, state.looked) = (now, now, 0);
        state.step = self.program.step(rank, channel, state.index);
        if state.step.is_some() {
            self.look(actor);
        }
    }

    /// Slots of each link.
    fn capacity(&self) -> u64 {
        self.fabric.slots.max(self.program.slots()).max(1).into()
    }

    /// Looks at what the step needs, from where it was left; queues the step when everything is known, sleeps if not.
    fn look(&mut self, actor: Actor) {
        let Some(step) = self.actors[actor].step else { return };
        let (rank, channel) = self.place(actor);
        let sources = if step.flags.has(Flags::AWAIT) { self.source_count(rank, &step) } else { 0 };
        let capacity = self.capacity();
        while self.actors[actor].looked < sources {
            let (name, from) = self.source(rank, channel, &step, self.actors[actor].looked);
            let latency = self.latency(from, rank);
            let link = self.links.entry(name).or_default();
            let Some(sent) = link.next_message(rank) else { return link.wait(actor) };
            let state = &mut self.actors[actor];
            state.ready = state.ready.max(sent + latency);
            state.looked += 1;
        }
        if let Some(name) = self.sink(rank, channel, &step).filter(|_| step.flags.has(Flags::CREDIT)) {
            let link = self.links.entry(name).or_default();
            let Some(freed) = link.credit(capacity) else { return link.wait(actor) };
            let state = &mut self.actors[actor];
            state.ready = state.ready.max(freed);
        }
        self.queue.push(Reverse((self.actors[actor].ready, actor)));
    }

    /// Takes the step, or puts it off until the rank's core is free.
    fn run(&mut self, now: u64, actor: Actor, observer: &mut dyn FnMut(&Event)) -> Result<(), Stuck> {
        let (rank, channel) = self.place(actor);
        let free = self.core_free[rank as usize];
        if self.fabric.sharing == Sharing::OneCore && free > now {
            self.queue.push(Reverse((free, actor)));
            return Ok(());
        }
        let Some(step) = self.actors[actor].step else { return Ok(()) };
        // A fold over thousands of ranks is as much work as thousands of steps.
        let work = 1 + u64::from(self.source_count(rank, &step));
        match self.work_left.checked_sub(work) {
            Some(left) => self.work_left = left,
            None => return Err(self.stuck(actor, TOO_LONG)),
        }
        let end = now + self.duration(rank, &step);
        self.core_free[rank as usize] = end;
        self.end = self.end.max(end);
        let State { index, asked, .. } = self.actors[actor];
        observer(&Event::Span(Span { rank, channel, index, step, asked, start: now, end }));
        self.apply(actor, &step, now, end, observer)?;
        self.actors[actor].index += 1;
        self.fetch(actor, end);
        Ok(())
    }

    /// What the step does to its links.
    fn apply(
        &mut self,
        actor: Actor,
        step: &Step,
        now: u64,
        end: u64,
        observer: &mut dyn FnMut(&Event),
    ) -> Result<(), Stuck> {
        let (rank, channel) = self.place(actor);
        let mut awake = Vec::new();
        for at in 0..self.source_count(rank, step) {
            let (name, from) = self.source(rank, channel, step, at);
            let latency = self.latency(from, rank);
            let link = self.links.entry(name).or_default();
            if step.flags.has(Flags::AWAIT) {
                let sent = link.next_message(rank).unwrap_or(now);
                link.take(rank);
                let (to, index) = (rank, self.actors[actor].index);
                let message = Message { channel, from, to, sent, arrived: sent + latency, taken: now, index };
                observer(&Event::Message(message));
            }
            if step.flags.has(Flags::RELEASE) {
                match link.release(rank, end + latency) {
                    Some(woken) => awake.extend(woken),
                    None => return Err(self.stuck(actor, "it gives back a slot that it does not hold")),
                }
            }
        }
        if let Some(name) = self.sink(rank, channel, step) {
            let readers = self.reader_count(rank, step);
            let capacity = self.capacity();
            let link = self.links.entry(name).or_default();
            if step.flags.has(Flags::CREDIT) {
                link.fill(capacity, readers);
            }
            if step.flags.has(Flags::SIGNAL) {
                match link.signal(end) {
                    Some(woken) => awake.extend(woken),
                    None => return Err(self.stuck(actor, "it publishes a slot that it does not fill")),
                }
            }
        }
        awake.into_iter().for_each(|actor| self.look(actor));
        Ok(())
    }

    /// How many links the step takes from.
    fn source_count(&self, rank: u32, step: &Step) -> u32 {
        match step.take {
            Take::Pair | Take::Board => 1,
            Take::FoldPairs | Take::FoldBoards => self.program.world().members(step.group(), rank).len() - 1,
            Take::Nothing | Take::Window | Take::FoldWindows => 0,
        }
    }

    /// One of the links that the step takes from, with the rank at its other end. One at a time, because a fold over thousands of ranks looks
    /// again each time that one more message has come.
    fn source(&self, rank: u32, channel: u32, step: &Step, at: u32) -> (LinkName, u32) {
        let from = match step.take {
            Take::FoldPairs | Take::FoldBoards => {
                let members = self.program.world().members(step.group(), rank);
                let own = members.position(rank).unwrap_or(0);
                members.get(at + u32::from(at >= own)).unwrap_or(rank)
            }
            _ => step.from,
        };
        match step.take {
            Take::Board | Take::FoldBoards => ((channel, step.group() as u8, from, from), from),
            _ => ((channel, PAIR, from, rank), from),
        }
    }

    /// The link that the step puts to.
    fn sink(&self, rank: u32, channel: u32, step: &Step) -> Option<LinkName> {
        match step.put {
            Put::Pair => Some((channel, PAIR, rank, step.to)),
            Put::Board => Some((channel, step.group() as u8, rank, rank)),
            Put::Nothing | Put::Windows => None,
        }
    }

    fn others(&self, rank: u32, group: Group) -> impl Iterator<Item = u32> {
        self.program.world().members(group, rank).into_iter().filter(move |&member| member != rank)
    }

    fn reader_count(&self, rank: u32, step: &Step) -> u32 {
        if step.put == Put::Board { self.others(rank, step.group()).count() as u32 } else { 1 }
    }

    fn near(&self, a: u32, b: u32) -> bool {
        let world = self.program.world();
        world.seat(a).0 == world.seat(b).0
    }

    fn latency(&self, from: u32, to: u32) -> u64 {
        self.fabric.class(self.near(from, to)).latency_ns * 1000
    }

    /// How long the step takes once it can start.
    fn duration(&self, rank: u32, step: &Step) -> u64 {
        let take = |from: u32| self.fabric.class(self.near(from, rank)).take_ps;
        let put = |to: u32| self.fabric.class(self.near(rank, to)).put_ps;
        let taking = match step.take {
            Take::Nothing => 0,
            Take::Pair | Take::Board | Take::Window => take(step.from),
            Take::FoldPairs | Take::FoldBoards | Take::FoldWindows => self.others(rank, step.group()).map(take).sum(),
        };
        let putting = match step.put {
            Put::Nothing => 0,
            Put::Pair => put(step.to),
            // A board is written once; the slowest way to a reader decides what kind of memory it is.
            Put::Board => self.others(rank, step.group()).map(put).max().unwrap_or(0),
            Put::Windows => self.others(rank, step.group()).map(put).sum(),
        };
        let local = [step.src(), step.dst()].iter().filter(|&&space| space != Space::Nothing).count() as u64;
        let per_byte = taking + putting + local * self.fabric.memory_ps;
        let bytes = step.len as u64 * self.program.call(rank).dtype.size() as u64;
        self.fabric.step_ns * 1000 + bytes * per_byte
    }
}
