//! The short path: the steps of a small program, one after the other, without the bookkeeping of a cursor. It does whole steps or nothing:
//! where something is missing for longer than a message takes to cross, the job goes on from there with all its patience.
//!
//! ```text
//!   act 0 ──> act 1 ──> act 2 ── not here yet ──> Job, from step 2
//!   └── steps of the same plan, with their links and offsets worked out once ──┘
//! ```

use super::cursor::{WHERE_IT_LIES, lands};
use super::job::{Buffers, Fault};
use super::kernel::{self, Kernel, Operand, Sink};
use crate::error::Error;
use crate::plan::{Flags, Plan, Put, Space, Step, Take};
use crate::transport::{Incoming, Links, Message, Outgoing, PAST_CACHES};
use crate::types::Reduction;

/// Other members of a group up to which a fold is short.
const MOST_OTHERS: usize = 15;

/// How a step is done: the usual ones without lists of operands and sinks.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Something of this rank's goes to others, and may stay here too.
    Send(Outgoing),
    /// Something of this rank's goes to another place of its own.
    Copy,
    /// A message goes to one of this rank's buffers.
    Receive(Incoming),
    /// A message and something of this rank's become one.
    Fold(Incoming),
    /// Anything else. Also a long message that may come to its place by itself: a way of its own costs the usual ones 10 instructions.
    Mixed,
}

/// A step as the short path does it.
#[derive(Clone, Copy, Debug)]
struct Act {
    way: Way,
    take: Take,
    incoming: Incoming,
    outgoing: Option<Outgoing>,
    /// The message may be sent from where it lies in this rank's buffers when the step is done.
    lends: bool,
    /// The message that comes may be put where it is copied to.
    lands: bool,
    src: Space,
    dst: Space,
    src_at: usize,
    dst_at: usize,
    bytes: usize,
    count: usize,
    finish: bool,
    message_first: bool,
}

/// A program that the short path can follow.
#[derive(Debug)]
pub(super) struct Short {
    acts: Box<[Act]>,
    /// The other ranks, ascending, and how many come before this one.
    others: Box<[u32]>,
    before: usize,
}

/// What one call brings.
#[derive(Clone, Copy)]
pub(super) struct Errand<'a> {
    pub(super) kernel: Option<&'a Kernel>,
    pub(super) buffers: Buffers,
    pub(super) tag: u32,
    pub(super) stream: bool,
    /// Polls for one message before the job takes over.
    pub(super) spins: u32,
}

impl Short {
    /// The short form of a rank's steps, if they have one: one channel, whole messages, groups of all ranks, no windows.
    pub(super) fn of(plan: &Plan, rank: u32, steps: &[Step]) -> Option<Short> {
        let others: Box<[u32]> = (0..plan.world().size()).filter(|other| *other != rank).collect();
        if plan.channels() != 1 || others.len() > MOST_OTHERS {
            return None;
        }
        let item = plan.call().dtype.size();
        let scales = plan.call().reduction == Reduction::PreMulSum;
        let acts = steps.iter().map(|step| act(step, item).map(|act| act.between_two(&others, rank).settle(scales)));
        let acts = acts.collect::<Option<Box<[Act]>>>()?;
        Some(Short { acts, others, before: rank as usize })
    }

    /// Does as many acts as can be done without waiting long, and returns their number.
    #[inline(always)]
    pub(super) fn run<L: Links>(&self, errand: &Errand, links: &mut L) -> Result<usize, Fault> {
        for (done, act) in self.acts.iter().enumerate() {
            if !self.perform(act, errand, links)? {
                return Ok(done);
            }
        }
        Ok(self.acts.len())
    }

    /// Whether that is all there is to do.
    #[inline(always)]
    pub(super) fn ends_at(&self, done: usize) -> bool {
        done == self.acts.len()
    }

    #[inline(always)]
    fn perform<L: Links>(&self, act: &Act, errand: &Errand, links: &mut L) -> Result<bool, Fault> {
        match act.way {
            Way::Send(link) => errand.send(act, link, links),
            Way::Copy => {
                errand.keep(act, errand.local(act.src, act.src_at));
                Ok(true)
            }
            Way::Receive(link) => {
                let Some(message) = errand.await_message(act, link, links)? else { return Ok(false) };
                errand.keep(act, message.at);
                links.release(0, link);
                Ok(true)
            }
            Way::Fold(link) => {
                let Some(message) = errand.await_message(act, link, links)? else { return Ok(false) };
                errand.fold(act, message);
                links.release(0, link);
                Ok(true)
            }
            // A copy, so that what the usual ways need of the errand can stay in registers.
            Way::Mixed => self.mix(act, &{ *errand }, links),
        }
    }

    #[inline(never)]
    fn mix<L: Links>(&self, act: &Act, errand: &Errand, links: &mut L) -> Result<bool, Fault> {
        let mut sinks = [Sink::cached(std::ptr::null_mut()); 2];
        let mut sink_count = 0;
        if act.dst != Space::Nothing {
            sinks[0] = errand.sink(act);
            sink_count = 1;
        }
        if let Some(link) = act.outgoing {
            let reserved = match errand.lent(act) {
                Some(from) => links.reserve_from(0, link, from, act.bytes)?,
                None => links.reserve(0, link, act.bytes)?,
            };
            let Ok(slot) = reserved else { return Ok(false) };
            let past = act.bytes >= PAST_CACHES && links.past_caches();
            // A message that is sent from where it stays needs no other copy there.
            sink_count *= usize::from(sinks[0].at != slot);
            sinks[sink_count] = Sink::new(slot, past);
            sink_count += 1;
        }
        let sinks = &sinks[..sink_count];
        let own = Operand { at: errand.local(act.src, act.src_at), raw: act.src == Space::Input };
        match act.take {
            // SAFETY: as in `Cursor::combine`. What lies in its place already is not touched.
            Take::Nothing if act.lends && !act.finish => unsafe { kernel::copy(own.at, sinks, act.bytes) },
            Take::Nothing => errand.combine(act, &[own], sinks),
            Take::Pair | Take::Board => {
                let message = if act.lands {
                    errand.await_landing(act, act.incoming, links)?
                } else {
                    errand.await_message(act, act.incoming, links)?
                };
                let Some(message) = message else { return Ok(false) };
                let message = Operand { at: message.at, raw: false };
                // What has come to its place is not touched.
                if act.src == Space::Nothing {
                    errand.combine(act, &[message], sinks);
                } else if act.message_first {
                    errand.combine(act, &[message, own], sinks);
                } else {
                    errand.combine(act, &[own, message], sinks);
                }
                links.release(0, act.incoming);
            }
            _ => return self.fold(act, errand, own, sinks, links),
        }
        errand.publish(act, links)?;
        Ok(true)
    }

    /// A step with a message from each of several ranks.
    fn fold<L: Links>(
        &self,
        act: &Act,
        errand: &Errand,
        own: Operand,
        sinks: &[Sink],
        links: &mut L,
    ) -> Result<bool, Fault> {
        let mut operands = [own; MOST_OTHERS + 1];
        for (i, from) in self.others.iter().enumerate() {
            let Some(message) = errand.await_message(act, of_rank(act.incoming, *from), links)? else {
                return Ok(false);
            };
            operands[i + usize::from(i >= self.before)] = Operand { at: message.at, raw: false };
        }
        errand.combine(act, &operands[..self.others.len() + 1], sinks);
        for from in &self.others {
            links.release(0, of_rank(act.incoming, *from));
        }
        errand.publish(act, links)?;
        Ok(true)
    }
}

impl Act {
    /// A fold of two ranks is a step with one message.
    fn between_two(mut self, others: &[u32], rank: u32) -> Act {
        let ([other], Take::FoldPairs | Take::FoldBoards) = (others, self.take) else { return self };
        self.take = if self.take == Take::FoldPairs { Take::Pair } else { Take::Board };
        self.incoming = of_rank(self.incoming, *other);
        self.message_first = *other < rank;
        self
    }

    /// Chooses the way. `scales`: what goes to others is not what lies here.
    fn settle(mut self, scales: bool) -> Act {
        let one_message = matches!(self.take, Take::Pair | Take::Board);
        let nowhere = self.dst == Space::Nothing && self.bytes > 0;
        self.lends &= !scales;
        self.way = match self.outgoing {
            Some(link) if self.take == Take::Nothing && !self.finish && !scales && !self.lends => Way::Send(link),
            Some(_) => Way::Mixed,
            None if nowhere => Way::Mixed,
            None if one_message && self.src != Space::Nothing => Way::Fold(self.incoming),
            None if self.lands => Way::Mixed,
            None if one_message && !self.finish => Way::Receive(self.incoming),
            None if self.take == Take::Nothing && !self.finish && !scales => Way::Copy,
            None => Way::Mixed,
        };
        self
    }
}

impl Errand<'_> {
    #[inline(always)]
    fn local(&self, space: Space, at: usize) -> *mut u8 {
        let base = match space {
            Space::Input => self.buffers.input.cast_mut(),
            Space::Output => self.buffers.output,
            Space::Scratch | Space::Nothing => self.buffers.scratch,
        };
        base.wrapping_add(at)
    }

    /// Where a message lies in this rank's buffers once the step is done, if it may be sent from there: in the output, if it stays there.
    fn lent(&self, act: &Act) -> Option<*mut u8> {
        let (space, at) = if act.dst == Space::Nothing { (act.src, act.src_at) } else { (act.dst, act.dst_at) };
        act.lends.then(|| self.local(space, at))
    }

    #[inline(always)]
    fn send<L: Links>(&self, act: &Act, link: Outgoing, links: &mut L) -> Result<bool, Fault> {
        let from = self.local(act.src, act.src_at);
        let Ok(slot) = links.reserve(0, link, act.bytes)? else { return Ok(false) };
        let past = act.bytes >= PAST_CACHES && links.past_caches();
        // SAFETY: as in `Cursor::combine`: the plan stays inside the buffers, the slot was reserved for the length of the step.
        unsafe { kernel::copy_to_one(from, Sink::new(slot, past), act.bytes) };
        links.publish(0, link, act.bytes, self.tag)?;
        if act.dst != Space::Nothing {
            self.keep(act, from);
        }
        Ok(true)
    }

    /// Copies what a step moves to its place in this rank's memory.
    #[inline(always)]
    fn keep(&self, act: &Act, from: *const u8) {
        // SAFETY: as in `Cursor::combine`: the plan stays inside the buffers, messages have the length of the step.
        unsafe { kernel::copy_to_one(from, self.sink(act), act.bytes) };
    }

    #[inline(always)]
    fn sink(&self, act: &Act) -> Sink {
        Sink::new(self.local(act.dst, act.dst_at), self.stream && act.dst == Space::Output)
    }

    #[inline(always)]
    fn fold(&self, act: &Act, message: Message) {
        let own = Operand { at: self.local(act.src, act.src_at), raw: act.src == Space::Input };
        let message = Operand { at: message.at, raw: false };
        self.combine(act, &if act.message_first { [message, own] } else { [own, message] }, &[self.sink(act)]);
    }

    #[inline(always)]
    fn await_message<L: Links>(&self, act: &Act, link: Incoming, links: &mut L) -> Result<Option<Message>, Fault> {
        self.watch(act, link, || links.peek(0, link))
    }

    /// The same for a message that may come to where it is copied to.
    fn await_landing<L: Links>(&self, act: &Act, link: Incoming, links: &mut L) -> Result<Option<Message>, Fault> {
        let into = self.local(act.dst, act.dst_at);
        self.watch(act, link, || links.peek_into(0, link, into, act.bytes))
    }

    #[inline(always)]
    fn watch(
        &self,
        act: &Act,
        link: Incoming,
        mut peek: impl FnMut() -> Result<Option<Message>, Error>,
    ) -> Result<Option<Message>, Fault> {
        let mut spins = self.spins;
        loop {
            if let Some(message) = peek()? {
                if message.tag == self.tag && message.len == act.bytes {
                    return Ok(Some(message));
                }
                let (rank, tag, len, expected) = (link.rank(), message.tag, message.len, act.bytes);
                return Err(Fault::Stranger { rank, tag, len, expected });
            }
            if spins == 0 {
                return Ok(None);
            }
            spins -= 1;
            std::hint::spin_loop();
        }
    }

    #[inline(always)]
    fn publish<L: Links>(&self, act: &Act, links: &mut L) -> Result<(), Fault> {
        match act.outgoing {
            Some(link) => Ok(links.publish(0, link, act.bytes, self.tag)?),
            None => Ok(()),
        }
    }

    #[inline(always)]
    fn combine(&self, act: &Act, operands: &[Operand], sinks: &[Sink]) {
        if act.bytes == 0 {
            return;
        }
        // SAFETY: as in `Cursor::combine`: the plan stays inside the buffers, messages have the length of the step, slots were
        // reserved for it.
        unsafe {
            match self.kernel {
                Some(kernel) => kernel.fold(operands, sinks, act.count, act.finish),
                None => kernel::copy(operands[0].at, sinks, act.bytes),
            }
        }
    }
}

/// A step's short form, if it has one.
fn act(step: &Step, item: usize) -> Option<Act> {
    let whole_in = step.flags.has(Flags::AWAIT.with(Flags::RELEASE));
    let whole_out = step.flags.has(Flags::CREDIT.with(Flags::SIGNAL));
    let world = step.group() == crate::plan::Group::World;
    let incoming = match step.take {
        Take::Nothing => Incoming::Pair(0),
        Take::Pair if whole_in => Incoming::Pair(step.from),
        Take::Board if whole_in && world => Incoming::Board(step.from, step.group()),
        Take::FoldPairs if whole_in && world => Incoming::Pair(0),
        Take::FoldBoards if whole_in && world => Incoming::Board(0, step.group()),
        _ => return None,
    };
    let outgoing = match step.put {
        Put::Nothing => None,
        Put::Pair if whole_out => Some(Outgoing::Pair(step.to)),
        Put::Board if whole_out && world => Some(Outgoing::Board(step.group())),
        _ => return None,
    };
    let needs_src = !matches!(step.take, Take::Pair | Take::Board);
    if step.flags.has(Flags::PLACES) || needs_src && step.src() == Space::Nothing && step.len > 0 {
        return None;
    }
    Some(Act {
        way: Way::Mixed,
        take: step.take,
        incoming,
        outgoing,
        lands: lands(step, step.len as usize * item),
        lends: step.lends().is_some() && step.len as usize * item >= WHERE_IT_LIES,
        src: step.src(),
        dst: step.dst(),
        src_at: step.src_at as usize * item,
        dst_at: step.dst_at as usize * item,
        bytes: step.len as usize * item,
        count: step.len as usize,
        finish: step.flags.has(Flags::FINISH),
        message_first: step.flags.has(Flags::MESSAGE_FIRST),
    })
}

#[inline(always)]
fn of_rank(link: Incoming, rank: u32) -> Incoming {
    match link {
        Incoming::Pair(_) => Incoming::Pair(rank),
        Incoming::Board(_, group) => Incoming::Board(rank, group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Algorithm, Tuning, World};
    use crate::transport::{Blocked, Shared};
    use crate::types::{Call, Collective, DataType};

    /// Links that take every message and note where it was sent from, if not from a copy, and where what comes may be put.
    #[derive(Default)]
    struct Recorder {
        room: Vec<u8>,
        lent: Option<*mut u8>,
        landing: Option<(*mut u8, usize)>,
    }

    impl Links for Recorder {
        fn rank(&self) -> u32 {
            0
        }
        fn size(&self) -> u32 {
            3
        }
        fn reserve(&mut self, _: u32, _: Outgoing, len: usize) -> Result<Result<*mut u8, Blocked>, Error> {
            self.lent = None;
            self.room.resize(len, 0);
            Ok(Ok(self.room.as_mut_ptr()))
        }
        fn reserve_from(
            &mut self,
            _: u32,
            _: Outgoing,
            from: *mut u8,
            _: usize,
        ) -> Result<Result<*mut u8, Blocked>, Error> {
            self.lent = Some(from);
            Ok(Ok(from))
        }
        fn publish(&mut self, _: u32, _: Outgoing, _: usize, _: u32) -> Result<(), Error> {
            Ok(())
        }
        fn peek_into(&mut self, _: u32, _: Incoming, into: *mut u8, len: usize) -> Result<Option<Message>, Error> {
            self.landing = Some((into, len));
            Ok(None)
        }
        fn peek(&mut self, _: u32, _: Incoming) -> Result<Option<Message>, Error> {
            Ok(None)
        }
        fn release(&mut self, _: u32, _: Incoming) {}
        fn share(&self, _: *const u8, _: usize) -> Shared {
            Shared::NOWHERE
        }
        fn resolve(&mut self, _: u32, _: Shared, _: usize) -> Option<*mut u8> {
            None
        }
        unsafe fn fetch(&mut self, _: u32, _: u64, _: *mut u8, _: usize) -> Result<(), Error> {
            Ok(())
        }
        fn drained(&mut self, _: u32, _: Outgoing) -> Result<Option<Blocked>, Error> {
            Ok(None)
        }
        fn message_limit(&self, _peer: u32) -> usize {
            usize::MAX
        }
        fn enter_windows(&mut self) -> bool {
            true
        }
        fn leave_windows(&mut self) {}
    }

    /// Sends all that a rank's short program sends, and says what the plan lends and what was lent.
    fn lendings(collective: Collective, algorithm: Algorithm) -> Vec<(Option<*mut u8>, Option<*mut u8>)> {
        let call = Call::new(collective, DataType::F32, Reduction::Sum, 0, 3 << 12);
        let tuning = Tuning { algorithm: Some(algorithm), channels: Some(1), ..Tuning::default() };
        let plan = Plan::new(&World::flat(3), &call, &tuning).expect("a plan");
        let steps: Vec<Step> = plan.steps(0, 0).collect();
        let short = Short::of(&plan, 0, &steps).expect("a short program");
        let (mut input, mut output) = (vec![1f32; 3 << 14], vec![0f32; 3 << 14]);
        let (input, output) = (input.as_mut_ptr().cast::<u8>(), output.as_mut_ptr().cast::<u8>());
        let buffers = Buffers { input, output, scratch: std::ptr::null_mut() };
        let errand = Errand { kernel: None, buffers, tag: 0, stream: false, spins: 0 };
        let at = |(space, at): (Space, u64)| errand.local(space, at as usize * 4);
        let sends = short.acts.iter().zip(&steps).filter_map(|(act, step)| {
            if act.outgoing.is_none() || act.take != Take::Nothing {
                return None;
            }
            let mut links = Recorder::default();
            assert!(short.perform(act, &errand, &mut links).expect("sent"));
            Some((step.lends().map(at), links.lent))
        });
        sends.collect()
    }

    #[test]
    fn messages_are_lent_where_the_plan_lends_them_and_nowhere_else() {
        for (collective, algorithm) in [
            (Collective::AllReduce, Algorithm::OneShot),
            (Collective::AllReduce, Algorithm::TwoShot),
            (Collective::AllReduce, Algorithm::Ring),
            (Collective::AllGather, Algorithm::OneShot),
            (Collective::Broadcast, Algorithm::OneShot),
        ] {
            let sends = lendings(collective, algorithm);
            assert!(!sends.is_empty(), "{collective:?} {algorithm:?} sends nothing");
            for (planned, lent) in sends {
                assert_eq!(lent, planned, "{collective:?} {algorithm:?}");
            }
        }
        let one_shot = lendings(Collective::AllReduce, Algorithm::OneShot);
        assert!(one_shot.iter().all(|(_, lent)| lent.is_none()), "overwritten in place before others have it");
    }

    #[test]
    fn long_messages_may_come_to_where_they_are_copied_to() {
        for (len, lands) in [(3 << 12, true), (8, false)] {
            let call = Call::new(Collective::AllGather, DataType::F32, Reduction::Sum, 0, len);
            let plan =
                Plan::new(&World::flat(3), &call, &Tuning { channels: Some(1), ..Tuning::default() }).expect("a plan");
            let steps: Vec<Step> = plan.steps(0, 0).collect();
            let short = Short::of(&plan, 0, &steps).expect("a short program");
            let mut output = vec![0f32; 9 << 12];
            let output = output.as_mut_ptr().cast::<u8>();
            let buffers = Buffers { input: output, output, scratch: std::ptr::null_mut() };
            let errand = Errand { kernel: None, buffers, tag: 0, stream: false, spins: 0 };
            let taking: Vec<&Act> = short.acts.iter().filter(|act| act.take != Take::Nothing).collect();
            assert!(!taking.is_empty());
            for act in taking {
                let mut links = Recorder::default();
                assert!(!short.perform(act, &errand, &mut links).expect("nothing has come"));
                let place = (output.wrapping_add(act.dst_at), act.bytes);
                assert_eq!(links.landing, lands.then_some(place), "{len} elements");
            }
        }
    }
}
