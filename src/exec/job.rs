//! One collective under way on one rank: a cursor into the plan for each channel.

use super::kernel::{self, Kernel, Operand, Sink};
use crate::error::Error;
use crate::plan::{Flags, Plan, Put, Space, Step, Take};
use crate::transport::{Blocked, Incoming, Links, Message, Outgoing, Shared, Window};
use std::sync::Arc;

/// The memory that a job works on. Lengths are those that the plan states for this rank.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// The send buffer.
    pub input: *const u8,
    /// The receive buffer; may overlap the input as `in place` means.
    pub output: *mut u8,
    /// Private memory as large as the plan's scratch.
    pub scratch: *mut u8,
}

/// What a job is to do.
#[derive(Debug)]
pub struct Order {
    /// The plan.
    pub plan: Arc<Plan>,
    /// For a plan with windows: the one to follow where some buffer can't be reached.
    pub without_windows: Option<Arc<Plan>>,
    /// This rank.
    pub rank: u32,
    /// How elements combine, in collectives that reduce.
    pub kernel: Option<Kernel>,
    /// The memory.
    pub buffers: Buffers,
    /// What all messages of this job carry.
    pub tag: u32,
    /// Non-temporal stores into outputs.
    pub stream: bool,
}

/// What a fault is before it is dressed in words.
#[derive(Debug)]
pub enum Fault {
    /// A message that belongs to something else than what this rank does: from that rank, with that tag and length.
    Stranger {
        /// Who sent it.
        rank: u32,
        /// Its tag.
        tag: u32,
        /// Its length in bytes.
        len: usize,
        /// The length that was expected, if the tag was right.
        expected: usize,
    },
    /// The links failed.
    Links(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Links(error)
    }
}

/// How far a job got when it was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything is done.
    Done,
    /// Something is missing; `moved`: steps were done before that.
    Blocked {
        /// What is missing.
        on: Blocked,
        /// Whether anything was done in this poll.
        moved: bool,
    },
}

/// What a job is made of, besides its cursors.
#[derive(Debug)]
pub struct Job {
    plan: Arc<Plan>,
    /// Followed after the places are known, if not all of them can be reached.
    without_windows: Option<Arc<Plan>>,
    kernel: Option<Kernel>,
    buffers: Buffers,
    item: usize,
    tag: u32,
    rank: u32,
    /// Non-temporal stores into the output.
    stream: bool,
    windows: Vec<Window>,
    /// The places are known and not all of them can be reached.
    unreachable: bool,
    cursors: Vec<Cursor>,
    operands: Vec<Operand>,
    sinks: Vec<Sink>,
}

/// Where a channel is.
#[derive(Debug)]
struct Cursor {
    channel: u32,
    index: u64,
    step: Option<Step>,
    /// Members of a fold whose messages have come.
    ready: u32,
    /// The slot that is being filled, and how far.
    slot: Option<(*mut u8, usize)>,
    /// The message that is being read, and how far.
    held: Option<(Message, usize)>,
}

// SAFETY: the pointers are to buffers that the session's caller lends for the time of the job, and to link memory that the protocol
// gives this rank; a job may move between threads as long as one at a time polls it.
unsafe impl Send for Job {}

impl Job {
    /// A job at its beginning. The vectors of a finished one are used again, so that the short path allocates nothing.
    pub fn start(order: Order, recycled: Option<Job>) -> Job {
        let (mut cursors, mut windows, operands, sinks) = match recycled {
            Some(job) => (job.cursors, job.windows, job.operands, job.sinks),
            None => Default::default(),
        };
        let Order { plan, without_windows, rank, kernel, buffers, tag, stream } = order;
        cursors.clear();
        windows.clear();
        cursors.extend((0..plan.channels()).map(|channel| Cursor::new(&plan, rank, channel)));
        let item = plan.call().dtype.size();
        Job {
            plan,
            without_windows,
            kernel,
            buffers,
            item,
            tag,
            rank,
            stream,
            windows,
            unreachable: false,
            cursors,
            operands,
            sinks,
        }
    }

    /// Does what can be done now.
    #[inline]
    pub fn poll<L: Links>(&mut self, links: &mut L) -> Result<Progress, Fault> {
        let mut blocked = None;
        let mut moved = false;
        for number in 0..self.cursors.len() {
            if let Some(on) = self.advance(number, links, &mut moved)? {
                blocked.get_or_insert(on);
            }
        }
        Ok(match blocked {
            None => Progress::Done,
            Some(on) => Progress::Blocked { on, moved },
        })
    }

    fn advance<L: Links>(&mut self, number: usize, links: &mut L, moved: &mut bool) -> Result<Option<Blocked>, Fault> {
        while let Some(step) = self.cursors[number].step {
            if let Some(blocked) = self.prepare(number, &step, links)? {
                return Ok(Some(blocked));
            }
            if step.flags.has(Flags::PLACES) {
                self.exchange_places(number, &step, links)?;
            } else {
                self.combine(number, &step, links);
            }
            self.conclude(number, &step, links)?;
            *moved = true;
            if self.unreachable && self.follow_plain_plan() {
                return self.advance(number, links, moved);
            }
            let cursor = &mut self.cursors[number];
            cursor.ready = 0;
            cursor.index += 1;
            cursor.step = self.plan.step(self.rank, cursor.channel, cursor.index);
        }
        Ok(None)
    }

    /// Not every buffer can be reached, and every rank knows it: from here on all follow the plan that needs no windows, from its start.
    #[cold]
    fn follow_plain_plan(&mut self) -> bool {
        let Some(plain) = self.without_windows.take() else { return false };
        self.unreachable = false;
        self.cursors.clear();
        self.cursors.extend((0..plain.channels()).map(|channel| Cursor::new(&plain, self.rank, channel)));
        self.plan = plain;
        true
    }

    /// Bytes of the message that a step begins to write: its own if it also ends it, else as much as any message may have.
    fn message_len(&self, step: &Step) -> usize {
        if step.flags.has(Flags::PLACES) {
            size_of::<Places>()
        } else if step.flags.has(Flags::SIGNAL) {
            step.len as usize * self.item
        } else {
            self.plan.slot_len() as usize * self.item
        }
    }

    /// Gets the slot and the messages that a step needs, or says what is missing.
    #[inline]
    fn prepare<L: Links>(&mut self, number: usize, step: &Step, links: &mut L) -> Result<Option<Blocked>, Fault> {
        let bytes = self.message_len(step);
        let cursor = &mut self.cursors[number];
        if step.flags.has(Flags::CREDIT) && cursor.slot.is_none() {
            match links.reserve(cursor.channel, outgoing(step), bytes)? {
                Ok(slot) => cursor.slot = Some((slot, 0)),
                Err(blocked) => return Ok(Some(blocked)),
            }
        }
        match step.take {
            Take::Nothing | Take::Window | Take::FoldWindows => Ok(None),
            Take::Pair | Take::Board => {
                if !step.flags.has(Flags::AWAIT) || cursor.held.is_some() {
                    return Ok(None);
                }
                let link = incoming(step, step.from);
                let Some(message) = links.peek(cursor.channel, link)? else {
                    return Ok(Some(Blocked::Message(link)));
                };
                self.check(step, message, step.from)?;
                self.cursors[number].held = Some((message, 0));
                Ok(None)
            }
            Take::FoldPairs | Take::FoldBoards => self.gather(number, step, links),
        }
    }

    /// Waits for one message from every other member of a fold's group; `ready` remembers how many have come.
    #[inline]
    fn gather<L: Links>(&mut self, number: usize, step: &Step, links: &mut L) -> Result<Option<Blocked>, Fault> {
        let members = self.plan.world().members(step.group(), self.rank);
        let mut ready = self.cursors[number].ready;
        while let Some(from) = members.get(ready) {
            if from != self.rank {
                let link = incoming(step, from);
                let Some(message) = links.peek(self.cursors[number].channel, link)? else {
                    self.cursors[number].ready = ready;
                    return Ok(Some(Blocked::Message(link)));
                };
                self.check(step, message, from)?;
            }
            ready += 1;
        }
        self.cursors[number].ready = ready;
        Ok(None)
    }

    /// A message must belong to this call and have the length that the plan says: nothing of it is believed otherwise.
    #[inline(always)]
    fn check(&self, step: &Step, message: Message, from: u32) -> Result<(), Fault> {
        let expected = if step.flags.has(Flags::PLACES) { size_of::<Places>() } else { step.len as usize * self.item };
        let whole = step.flags.has(Flags::RELEASE);
        let fits = if whole { message.len == expected } else { message.len >= expected };
        if message.tag == self.tag && fits {
            return Ok(());
        }
        Err(Fault::Stranger { rank: from, tag: message.tag, len: message.len, expected })
    }

    fn local(&self, space: Space, at: u64) -> *mut u8 {
        let base = match space {
            Space::Input => self.buffers.input.cast_mut(),
            Space::Output => self.buffers.output,
            Space::Scratch | Space::Nothing => self.buffers.scratch,
        };
        base.wrapping_add(at as usize * self.item)
    }

    /// Moves or combines a step's elements.
    #[inline]
    fn combine<L: Links>(&mut self, number: usize, step: &Step, links: &mut L) {
        if step.len == 0 {
            return;
        }
        let bytes = step.len as usize * self.item;
        self.collect_operands(number, step, links, bytes);
        self.collect_sinks(number, step, bytes);
        let only_copy = self.operands.len() == 1
            && !self.kernel.as_ref().is_some_and(|kernel| {
                step.flags.has(Flags::FINISH) || (self.operands[0].raw && kernel.needs_scaling())
            });
        // SAFETY: operands and sinks are `bytes` long: local ones because the plan stays inside the buffers (proved by `check`, whose
        // lengths the communicator verified), messages because their length was compared with the step's, slots because they were
        // reserved for it, windows because their whole extent was resolved.
        unsafe {
            match &self.kernel {
                Some(kernel) if !only_copy => {
                    kernel.fold(&self.operands, &self.sinks, step.len as usize, step.flags.has(Flags::FINISH));
                }
                _ => kernel::copy(self.operands[0].at, &self.sinks, bytes),
            }
        }
    }

    #[inline]
    fn collect_operands<L: Links>(&mut self, number: usize, step: &Step, links: &mut L, bytes: usize) {
        self.operands.clear();
        let own = (step.src() != Space::Nothing)
            .then(|| Operand { at: self.local(step.src(), step.src_at), raw: step.src() == Space::Input });
        match step.take {
            Take::Nothing => self.operands.extend(own),
            Take::Pair | Take::Board => {
                let message = self.cursors[number].held.as_mut().map(|(message, read)| {
                    let at = message.at.wrapping_add(*read);
                    *read += bytes;
                    debug_assert!(*read <= message.len, "a step reads past its message");
                    Operand { at, raw: false }
                });
                if step.flags.has(Flags::MESSAGE_FIRST) {
                    self.operands.extend(message.into_iter().chain(own));
                } else {
                    self.operands.extend(own.into_iter().chain(message));
                }
            }
            Take::Window => {
                let at = self.windows[step.from as usize].input.wrapping_add(step.src_at as usize * self.item);
                self.operands.push(Operand { at, raw: true });
            }
            Take::FoldPairs | Take::FoldBoards | Take::FoldWindows => {
                let channel = self.cursors[number].channel;
                for from in self.plan.world().members(step.group(), self.rank).iter() {
                    if from == self.rank {
                        self.operands.extend(own);
                    } else if step.take == Take::FoldWindows {
                        let at = self.windows[from as usize].input.wrapping_add(step.src_at as usize * self.item);
                        self.operands.push(Operand { at, raw: true });
                    } else if let Ok(Some(message)) = links.peek(channel, incoming(step, from)) {
                        self.operands.push(Operand { at: message.at, raw: false });
                    }
                }
            }
        }
    }

    #[inline]
    fn collect_sinks(&mut self, number: usize, step: &Step, bytes: usize) {
        self.sinks.clear();
        if step.dst() != Space::Nothing {
            let stream = self.stream && step.dst() == Space::Output;
            self.sinks.push(Sink { at: self.local(step.dst(), step.dst_at), stream });
        }
        match step.put {
            Put::Nothing => {}
            Put::Pair | Put::Board => {
                if let Some((slot, filled)) = &mut self.cursors[number].slot {
                    self.sinks.push(Sink { at: slot.wrapping_add(*filled), stream: false });
                    *filled += bytes;
                }
            }
            Put::Windows => {
                for to in self.plan.world().members(step.group(), self.rank).iter().filter(|to| *to != self.rank) {
                    let at = self.windows[to as usize].output.wrapping_add(step.dst_at as usize * self.item);
                    self.sinks.push(Sink { at, stream: self.stream });
                }
            }
        }
    }

    /// Publishes what was written, gives back what was read.
    #[inline]
    fn conclude<L: Links>(&mut self, number: usize, step: &Step, links: &mut L) -> Result<(), Fault> {
        let places = step.flags.has(Flags::PLACES);
        let cursor = &mut self.cursors[number];
        if step.flags.has(Flags::SIGNAL)
            && let Some((_, filled)) = cursor.slot.take()
        {
            let len = if places { size_of::<Places>() } else { filled };
            links.publish(cursor.channel, outgoing(step), len, self.tag)?;
        }
        if !step.flags.has(Flags::RELEASE) {
            return Ok(());
        }
        match step.take {
            Take::Nothing | Take::Window | Take::FoldWindows => {}
            Take::Pair | Take::Board => {
                cursor.held = None;
                links.release(cursor.channel, incoming(step, step.from));
            }
            Take::FoldPairs | Take::FoldBoards => {
                for from in self.plan.world().members(step.group(), self.rank).iter().filter(|from| *from != self.rank)
                {
                    links.release(cursor.channel, incoming(step, from));
                }
            }
        }
        Ok(())
    }

    /// The step that opens windows: tells the others where this rank's buffers lie, and learns where theirs do. Every rank sees the same
    /// places, so all come to the same conclusion whether all of them can be reached.
    fn exchange_places<L: Links>(&mut self, number: usize, step: &Step, links: &mut L) -> Result<(), Fault> {
        let item = self.item;
        let extent = |len: u64| len as usize * item;
        if let (Put::Board | Put::Pair, Some((slot, _))) = (step.put, self.cursors[number].slot) {
            let input = links.share(self.buffers.input, extent(self.plan.input_len(self.rank)));
            let output = links.share(self.buffers.output, extent(self.plan.output_len(self.rank)));
            let places = Places { input, output };
            // SAFETY: the slot was reserved with this size; it may be misaligned.
            unsafe { slot.cast::<Places>().write_unaligned(places) };
            self.windows.clear();
        }
        if step.take != Take::FoldBoards {
            return Ok(());
        }
        let mut reachable = true;
        for from in 0..links.size() {
            let len = |len: u64| len as usize * item;
            let (input, output) = (len(self.plan.input_len(from)), len(self.plan.output_len(from)));
            let places = if from == self.rank {
                Places {
                    input: links.share(self.buffers.input, input),
                    output: links.share(self.buffers.output, output),
                }
            } else {
                let Ok(Some(message)) = links.peek(self.cursors[number].channel, incoming(step, from)) else {
                    continue;
                };
                // SAFETY: the message's length was checked to be that of Places, which any bytes make.
                unsafe { message.at.cast::<Places>().read_unaligned() }
            };
            let window = links.resolve(from, places.input, input).zip(links.resolve(from, places.output, output));
            reachable &= places.input.at != 0 && places.output.at != 0;
            match window {
                Some((input, output)) => self.windows.push(Window { input, output }),
                None => self.windows.push(Window { input: std::ptr::null(), output: std::ptr::null_mut() }),
            }
            if reachable && window.is_none() {
                let what = "a place of a registered buffer that lies outside its memory".into();
                return Err(Fault::Links(Error::Corrupt { place: Default::default(), rank: from as usize, what }));
            }
        }
        self.unreachable = !reachable;
        Ok(())
    }
}

impl Cursor {
    fn new(plan: &Plan, rank: u32, channel: u32) -> Cursor {
        Cursor { channel, index: 0, step: plan.step(rank, channel, 0), ready: 0, slot: None, held: None }
    }
}

/// What the messages of a places step carry.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Places {
    input: Shared,
    output: Shared,
}

const _: () = assert!(size_of::<Places>() <= crate::transport::SMALL);

fn outgoing(step: &Step) -> Outgoing {
    match step.put {
        Put::Pair => Outgoing::Pair(step.to),
        _ => Outgoing::Board(step.group()),
    }
}

fn incoming(step: &Step, from: u32) -> Incoming {
    match step.take {
        Take::Pair | Take::FoldPairs => Incoming::Pair(from),
        _ => Incoming::Board(from, step.group()),
    }
}
