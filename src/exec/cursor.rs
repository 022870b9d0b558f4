//! Where one channel of a job is, and how it gets further: a step waits for what it needs, combines, publishes, releases.
//!
//! ```text
//!   prepare ── slot reserved, messages here ──> combine ──> conclude ──> next step
//!      └── something is missing: come again
//! ```

use super::job::{Context, Fault};
use super::kernel::{self, Operand, Sink};
use super::places::{Places, exchange_places};
use crate::plan::{Flags, Put, Space, Step, Take};
use crate::transport::{Blocked, Incoming, Links, Message, Outgoing, PAST_CACHES};

/// How far a cursor got.
pub(super) enum Advance {
    /// All its steps are done.
    Done,
    /// Something is missing.
    Blocked(Blocked),
    /// Some rank's buffers can't be reached through windows; every rank knows it now.
    Unreachable,
}

/// Where a channel is.
#[derive(Debug)]
pub(super) struct Cursor {
    channel: u32,
    index: u64,
    step: Option<Step>,
    /// Other members of a fold's group whose messages have come; their operands are in place.
    ready: usize,
    /// The slot that is being filled, and how far.
    slot: Option<(*mut u8, usize)>,
    /// Whether it is filled with non-temporal stores.
    past_caches: bool,
    /// The message that is being read, and how far.
    held: Option<(Message, usize)>,
    operands: Vec<Operand>,
    sinks: Vec<Sink>,
}

impl Cursor {
    pub(super) fn new(channel: u32) -> Cursor {
        let (operands, sinks) = Default::default();
        Cursor { channel, index: 0, step: None, ready: 0, slot: None, past_caches: false, held: None, operands, sinks }
    }

    /// Goes to the first step of a program.
    #[inline]
    pub(super) fn restart(&mut self, context: &Context) {
        self.step = context.program().step(self.channel, 0);
        (self.index, self.ready, self.slot, self.held) = (0, 0, None, None);
        self.operands.clear();
    }

    /// Goes on behind that many steps, which have been done.
    pub(super) fn skip(&mut self, context: &Context, steps: usize) {
        self.index = steps as u64;
        self.step = context.program().step(self.channel, self.index);
    }

    /// Does what can be done now. `moved`: whether any step was done.
    #[inline]
    pub(super) fn advance<L: Links>(
        &mut self,
        context: &mut Context,
        links: &mut L,
        moved: &mut bool,
    ) -> Result<Advance, Fault> {
        while let Some(step) = self.step {
            if let Some(blocked) = self.prepare(context, &step, links)? {
                return Ok(Advance::Blocked(blocked));
            }
            let mut reachable = true;
            if step.flags.has(Flags::PLACES) {
                reachable = exchange_places(context, self.channel, &step, self.slot.map(|(slot, _)| slot), links)?;
            } else if step.len > 0 && touches_windows(&step) {
                self.reach_over(context, &step, links)?;
            } else if step.len > 0 {
                self.combine(context, &step);
            }
            self.conclude(context, &step, links)?;
            *moved = true;
            if !reachable {
                return Ok(Advance::Unreachable);
            }
            self.index += 1;
            self.step = context.program().step(self.channel, self.index);
            self.ready = 0;
            self.operands.clear();
        }
        Ok(Advance::Done)
    }

    /// Gets the slot and the messages that a step needs, or says what is missing. What comes becomes operands.
    #[inline(always)]
    fn prepare<L: Links>(&mut self, context: &Context, step: &Step, links: &mut L) -> Result<Option<Blocked>, Fault> {
        if step.flags.has(Flags::CREDIT) && self.slot.is_none() {
            let (link, len) = (outgoing(step), message_len(context, step));
            let reserved = match lendable(context, step, len) {
                Some(from) => links.reserve_from(self.channel, link, from, len)?,
                None => links.reserve(self.channel, link, len)?,
            };
            match reserved {
                Ok(slot) => {
                    self.slot = Some((slot, 0));
                    self.past_caches = links.past_caches();
                }
                Err(blocked) => return Ok(Some(blocked)),
            }
        }
        match step.take {
            Take::Nothing | Take::Window | Take::FoldWindows => Ok(None),
            Take::Pair | Take::Board => {
                if let Some((message, read)) = self.held {
                    return check(context, step, message, read, step.from).map(|()| None);
                }
                let link = incoming(step, step.from);
                let message = match landing(context, step) {
                    Some((into, len)) => links.peek_into(self.channel, link, into, len)?,
                    None => links.peek(self.channel, link)?,
                };
                let Some(message) = message else { return Ok(Some(Blocked::Message(link))) };
                check(context, step, message, 0, step.from)?;
                self.held = Some((message, 0));
                Ok(None)
            }
            Take::FoldPairs | Take::FoldBoards => self.gather(context, step, links),
        }
    }

    /// Waits for one message from every other member of a fold's group; `ready` remembers how many have come. The operands end up in
    /// the order of ranks, this rank's own in its place.
    #[inline(always)]
    fn gather<L: Links>(&mut self, context: &Context, step: &Step, links: &mut L) -> Result<Option<Blocked>, Fault> {
        let (others, before) = context.program().others(step.group());
        while self.ready < others.len() {
            let link = incoming(step, others[self.ready]);
            let Some(message) = links.peek(self.channel, link)? else { return Ok(Some(Blocked::Message(link))) };
            check(context, step, message, 0, others[self.ready])?;
            if self.ready == before {
                self.operands.extend(own_operand(context, step));
            }
            self.operands.push(Operand { at: message.at, raw: false });
            self.ready += 1;
        }
        if before == others.len() {
            self.operands.extend(own_operand(context, step));
        }
        Ok(None)
    }

    /// Does a step that reads or writes other ranks' buffers.
    fn reach_over<L: Links>(&mut self, context: &Context, step: &Step, links: &mut L) -> Result<(), Fault> {
        let fetched = if step.take == Take::Window { context.fetched_input(step.from, step.src_at) } else { None };
        if let Some(at) = fetched {
            let (into, len) = (context.local(step.dst(), step.dst_at), step.len as usize * context.item());
            // SAFETY: the plan stays inside this rank's buffers, as in `combine`.
            return unsafe { fetch(links, step.from, at, into, len) };
        }
        if !links.enter_windows() {
            return Err(Fault::Ended);
        }
        self.combine(context, step);
        links.leave_windows();
        Ok(())
    }

    /// Moves or combines a step's elements.
    #[inline(always)]
    fn combine(&mut self, context: &Context, step: &Step) {
        let bytes = step.len as usize * context.item();
        self.collect_operands(context, step, bytes);
        self.collect_sinks(context, step, bytes);
        let finish = step.flags.has(Flags::FINISH);
        // SAFETY: operands and sinks are `bytes` long: local ones because the plan stays inside the buffers (proved by `check`, whose
        // lengths the communicator verified), messages because their length was compared with the step's, slots because they were
        // reserved for it, windows because their whole extent was resolved.
        unsafe {
            match &context.kernel {
                Some(kernel) => kernel.fold(&self.operands, &self.sinks, step.len as usize, finish),
                None => kernel::copy(self.operands[0].at, &self.sinks, bytes),
            }
        }
    }

    #[inline(always)]
    fn collect_operands(&mut self, context: &Context, step: &Step, bytes: usize) {
        let own = own_operand(context, step);
        match step.take {
            Take::FoldPairs | Take::FoldBoards => {}
            Take::Nothing => self.operands.extend(own),
            Take::Pair | Take::Board => {
                let message = self.held.as_mut().map(|(message, read)| {
                    let at = message.at.wrapping_add(*read);
                    *read += bytes;
                    debug_assert!(*read <= message.len, "a step reads past its message");
                    Operand { at, raw: false }
                });
                let (first, second) =
                    if step.flags.has(Flags::MESSAGE_FIRST) { (message, own) } else { (own, message) };
                self.operands.extend(first);
                self.operands.extend(second);
            }
            Take::Window => self.operands.push(context.window_input(step.from, step.src_at)),
            Take::FoldWindows => {
                let (others, before) = context.program().others(step.group());
                self.operands.extend(others[..before].iter().map(|from| context.window_input(*from, step.src_at)));
                self.operands.extend(own);
                self.operands.extend(others[before..].iter().map(|from| context.window_input(*from, step.src_at)));
            }
        }
    }

    #[inline(always)]
    fn collect_sinks(&mut self, context: &Context, step: &Step, bytes: usize) {
        self.sinks.clear();
        if step.dst() != Space::Nothing {
            let stream = context.stream && step.dst() == Space::Output;
            let ahead = if context.ahead { self.ahead(context) } else { std::ptr::null() };
            self.sinks.push(Sink { at: context.local(step.dst(), step.dst_at), stream, ahead });
        }
        match step.put {
            Put::Nothing => {}
            Put::Pair | Put::Board => {
                if let Some((slot, filled)) = &mut self.slot {
                    let at = slot.wrapping_add(*filled);
                    *filled += bytes;
                    match self.sinks.first_mut().filter(|sink| sink.at == at) {
                        // The message is sent from there: it is read next.
                        Some(sink) => sink.stream = false,
                        None => self.sinks.push(Sink::new(at, bytes >= PAST_CACHES && self.past_caches)),
                    }
                }
            }
            Put::Windows => {
                let (others, _) = context.program().others(step.group());
                self.sinks.extend(others.iter().map(|to| context.window_output(*to, step.dst_at)));
            }
        }
    }

    /// What the next step reads of this rank's own, if it does.
    fn ahead(&self, context: &Context) -> *const u8 {
        let next = context.program().step(self.channel, self.index + 1).filter(|next| next.src() == Space::Input);
        next.map_or(std::ptr::null(), |next| context.local(Space::Input, next.src_at).cast_const())
    }

    /// Publishes what was written, gives back what was read.
    #[inline(always)]
    fn conclude<L: Links>(&mut self, context: &Context, step: &Step, links: &mut L) -> Result<(), Fault> {
        if step.flags.has(Flags::SIGNAL)
            && let Some((_, filled)) = self.slot.take()
        {
            let len = if step.flags.has(Flags::PLACES) { size_of::<Places>() } else { filled };
            links.publish(self.channel, outgoing(step), len, context.tag)?;
        }
        if !step.flags.has(Flags::RELEASE) {
            return Ok(());
        }
        match step.take {
            Take::Nothing | Take::Window | Take::FoldWindows => {}
            Take::Pair | Take::Board => {
                self.held = None;
                links.release(self.channel, incoming(step, step.from));
            }
            Take::FoldPairs | Take::FoldBoards => {
                for from in context.program().others(step.group()).0 {
                    links.release(self.channel, incoming(step, *from));
                }
            }
        }
        Ok(())
    }
}

/// Bytes of the message that a step begins to write: its own if it also ends it, else as much as any message may have.
#[inline(always)]
fn message_len(context: &Context, step: &Step) -> usize {
    if step.flags.has(Flags::PLACES) {
        size_of::<Places>()
    } else if step.flags.has(Flags::SIGNAL) {
        step.len as usize * context.item()
    } else {
        context.program().plan().slot_len() as usize * context.item()
    }
}

/// From so many bytes on it is worth a question whether a message can be sent from, or put to, its place in the caller's memory.
pub(super) const WHERE_IT_LIES: usize = 4096;

/// Where the bytes of a step's message lie in the caller's memory once the step is done, if they stay there until everybody has them.
#[inline(always)]
fn lendable(context: &Context, step: &Step, len: usize) -> Option<*mut u8> {
    if len < WHERE_IT_LIES {
        return None;
    }
    let (space, at) = step.lends()?;
    // What a kernel multiplies is another one in the message.
    let scales = step.dst() == Space::Nothing && context.kernel.is_some_and(|kernel| kernel.needs_scaling());
    (!scales).then(|| context.local(space, at))
}

/// Where a step's message is copied to as it is, all of it.
#[inline(always)]
fn landing(context: &Context, step: &Step) -> Option<(*mut u8, usize)> {
    let len = step.len as usize * context.item();
    lands(step, len).then(|| (context.local(Space::Output, step.dst_at), len))
}

/// Whether a step's message, of that length, may be put where the step copies it to.
pub(super) fn lands(step: &Step, len: usize) -> bool {
    let whole = step.flags.has(Flags::RELEASE) && !step.flags.has(Flags::FINISH) && !step.flags.has(Flags::PLACES);
    len >= WHERE_IT_LIES && whole && step.src() == Space::Nothing && step.dst() == Space::Output
}

/// A message must belong to this call and have the length that the plan says: nothing of it is believed otherwise. Of a message that
/// several steps read, `read` bytes have been read before; the last step must come to its end.
#[inline(always)]
fn check(context: &Context, step: &Step, message: Message, read: usize, from: u32) -> Result<(), Fault> {
    let part = if step.flags.has(Flags::PLACES) { size_of::<Places>() } else { step.len as usize * context.item() };
    let expected = read + part;
    let last = step.flags.has(Flags::RELEASE);
    let fits = if last { message.len == expected } else { message.len >= expected };
    if message.tag == context.tag && fits {
        return Ok(());
    }
    Err(Fault::Stranger { rank: from, tag: message.tag, len: message.len, expected })
}

/// Copies from another rank's private memory. A rank that ends the communicator takes its buffers back: what was copied counts only if
/// nobody had done so when the copy was complete.
///
/// # Safety
/// As for [`Links::fetch`].
pub(super) unsafe fn fetch<L: Links>(
    links: &mut L,
    from: u32,
    at: u64,
    into: *mut u8,
    len: usize,
) -> Result<(), Fault> {
    // SAFETY: the caller's contract.
    let fetched = unsafe { links.fetch(from, at, into, len) };
    let open = links.enter_windows();
    links.leave_windows();
    if open { Ok(fetched?) } else { Err(Fault::Ended) }
}

/// Whether a step reads or writes other ranks' buffers.
#[inline(always)]
fn touches_windows(step: &Step) -> bool {
    matches!(step.take, Take::Window | Take::FoldWindows) || step.put == Put::Windows
}

#[inline(always)]
fn own_operand(context: &Context, step: &Step) -> Option<Operand> {
    let space = step.src();
    (space != Space::Nothing).then(|| Operand { at: context.local(space, step.src_at), raw: space == Space::Input })
}

#[inline(always)]
fn outgoing(step: &Step) -> Outgoing {
    match step.put {
        Put::Pair => Outgoing::Pair(step.to),
        _ => Outgoing::Board(step.group()),
    }
}

#[inline(always)]
pub(super) fn incoming(step: &Step, from: u32) -> Incoming {
    match step.take {
        Take::Pair | Take::FoldPairs => Incoming::Pair(from),
        _ => Incoming::Board(from, step.group()),
    }
}
