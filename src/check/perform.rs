//! What one step does.
//!
//! ```text
//!   wait for messages ─> wait for a slot ─> read operands, combine, finish ─> write ─> publish ─> give back
//! ```

use super::clocks::{Clocks, Epoch};
use super::engine::{Attempt, Engine};
use super::links::LinkId;
use super::memory::{Access, Cell};
use super::program::Program;
use super::shape;
use super::value::{Kind, Value};
use super::verdict::Wrong;
use crate::plan::{Flags, Put, Space, Step, Take, World};
use alloc::vec::Vec;

/// What a step combines, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    /// Its `src`.
    Own,
    /// What it takes from that rank.
    From(u32),
}

/// The ranks whose messages a step takes.
fn sources(step: &Step, world: &World, rank: u32) -> impl Iterator<Item = u32> {
    let (one, many) = match step.take {
        Take::Pair | Take::Board => (Some(step.from), None),
        Take::FoldPairs | Take::FoldBoards => (None, Some(world.members(step.group(), rank))),
        Take::Nothing | Take::Window | Take::FoldWindows => (None, None),
    };
    one.into_iter().chain(many.into_iter().flat_map(|members| members.iter()).filter(move |from| *from != rank))
}

fn operands(step: &Step, world: &World, rank: u32) -> impl Iterator<Item = Operand> {
    let own = (step.src() != Space::Nothing).then_some(Operand::Own);
    let message = Operand::From(step.from);
    let (pair, many) = match step.take {
        Take::Nothing => ([own, None], None),
        Take::Pair | Take::Board | Take::Window if step.flags.has(Flags::MESSAGE_FIRST) => ([Some(message), own], None),
        Take::Pair | Take::Board | Take::Window => ([own, Some(message)], None),
        _ => ([None, None], Some(world.members(step.group(), rank))),
    };
    let fold = many.into_iter().flat_map(|members| members.iter());
    let fold = fold.filter_map(move |member| if member == rank { own } else { Some(Operand::From(member)) });
    pair.into_iter().flatten().chain(fold)
}

/// The ranks whose memory a step writes besides its own.
fn written<'w>(step: &Step, world: &'w World, rank: u32) -> impl Iterator<Item = u32> + use<'w> {
    let many = (step.put == Put::Windows).then(|| world.members(step.group(), rank));
    many.into_iter().flat_map(|members| members.iter()).filter(move |to| *to != rank)
}

fn accumulate(values: &mut Vec<Value>, first: bool, i: usize, value: Value) -> Result<(), Wrong> {
    if first {
        values.push(value);
        return Ok(());
    }
    let left = &mut values[i];
    if left.kind == Kind::Final || value.kind == Kind::Final {
        return Err(Wrong::CombinesFinal { element: i as u32 });
    }
    *left = left.join(value);
    Ok(())
}

/// A link that a step takes from, found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    from: u32,
    id: LinkId,
    /// This rank's place among its readers.
    place: u32,
}

impl<P: Program> Engine<'_, P> {
    /// Does the step if all that it waits for is there.
    pub fn attempt(&mut self, worker: u32, step: &Step) -> Result<Attempt, Wrong> {
        if self.clocks.is_none() {
            self.links.forget_when_crowded();
        }
        super::limits::check_links(self.links.count())?;
        if let Some(blocked) = self.find_taken(worker, step)? {
            return Ok(blocked);
        }
        let mut slot = None;
        if shape::puts_message(step) {
            let (rank, channel) = (worker / self.channels, worker % self.channels);
            let (key, size) = shape::filled(step, self.program.world(), rank, channel);
            let id = self.links.find(key, size);
            slot = Some(id);
            match (step.flags.has(Flags::CREDIT), self.links.is_open(id)) {
                (true, true) => return Err(Wrong::CreditsTwice(key.name())),
                (false, false) => return Err(Wrong::PutsNowhere(key.name())),
                (true, false) if !self.links.has_credit(id) => return Ok(Attempt::Blocked { key, for_slot: true }),
                _ => {}
            }
        }
        self.perform(worker, step, slot)?;
        Ok(Attempt::Done)
    }

    /// Finds the links that the step takes from, and waits for their messages if it awaits them.
    fn find_taken(&mut self, worker: u32, step: &Step) -> Result<Option<Attempt>, Wrong> {
        self.taken.clear();
        if !shape::takes_messages(step) {
            return Ok(None);
        }
        let (rank, channel) = (worker / self.channels, worker % self.channels);
        let world = self.program.world();
        let awaits = step.flags.has(Flags::AWAIT);
        let skipped = self.workers[worker as usize].ready_links;
        for (i, from) in sources(step, world, rank).enumerate() {
            let (key, place, size) = shape::taken(step, world, rank, from, channel);
            let id = self.links.find(key, size);
            self.taken.push(Taken { from, id, place });
            let held = self.links.reader(id, place).held;
            if !awaits && !held {
                return Err(Wrong::ReadsNothing(key.name()));
            }
            if !awaits || i < skipped as usize {
                continue;
            }
            if held {
                return Err(Wrong::AwaitsTwice(key.name()));
            }
            if !self.links.has_message(id, place) {
                self.workers[worker as usize].ready_links = i as u32;
                return Ok(Some(Attempt::Blocked { key, for_slot: false }));
            }
        }
        Ok(None)
    }

    fn perform(&mut self, worker: u32, step: &Step, slot: Option<LinkId>) -> Result<(), Wrong> {
        let time = self.workers[worker as usize].index as u32 + 1;
        if let Some(clocks) = &mut self.clocks {
            clocks.begin(worker, time);
        }
        self.take_in_hand(worker, step)?;
        if let Some(id) = slot {
            self.take_slot(worker, step, id)?;
        }
        self.check_memory(worker, step)?;
        let mut values = core::mem::take(&mut self.values);
        values.clear();
        let done = self.combine(worker, step, &mut values).and_then(|()| self.store(worker, step, slot, &values));
        self.values = values;
        done?;
        if let Some(id) = slot.filter(|_| step.flags.has(Flags::SIGNAL)) {
            self.links.filling(id).lent = step.lends().map(|(space, at)| (space, at, step.len));
            self.publish(worker, id);
        }
        if step.flags.has(Flags::RELEASE) { self.give_back(worker) } else { Ok(()) }
    }

    /// Takes the next messages, or goes on with the ones that are held.
    fn take_in_hand(&mut self, worker: u32, step: &Step) -> Result<(), Wrong> {
        let mut lends = Vec::new();
        for Taken { from, id, place } in &self.taken {
            if step.flags.has(Flags::AWAIT) {
                let slot = self.links.hold(*id, *place);
                self.workers[worker as usize].holding += 1;
                if let Some(clocks) = &mut self.clocks {
                    clocks.take(worker, slot);
                }
            }
            let (message, _) = self.links.held(*id, *place);
            let lent = message.lent.filter(|_| step.flags.has(Flags::AWAIT));
            if message.places != step.flags.has(Flags::PLACES) {
                return Err(Wrong::PlacesMismatch(self.links.key(*id).name()));
            }
            if message.places {
                self.opened[worker as usize * self.ranks as usize + *from as usize] = true;
            }
            // Until a reader has the message, its bytes must stay where they are.
            if let Some((space, at, len)) = lent {
                lends.push((*from, space, at, len));
            }
        }
        for (owner, space, at, len) in lends {
            self.read_lent(worker, owner, space, at, len)?;
        }
        self.report.most_held = self.report.most_held.max(self.workers[worker as usize].holding);
        Ok(())
    }

    fn take_slot(&mut self, worker: u32, step: &Step, id: LinkId) -> Result<(), Wrong> {
        let places = step.flags.has(Flags::PLACES);
        if step.flags.has(Flags::CREDIT) {
            let slot = self.links.open(id, places);
            self.workers[worker as usize].filling += 1;
            if let Some(clocks) = &mut self.clocks {
                clocks.credit(worker, slot);
            }
        } else if self.links.filling(id).places != places {
            return Err(Wrong::PlacesMismatch(self.links.key(id).name()));
        }
        Ok(())
    }

    /// Bounds, windows that are open, and reads that overlap writes with a shift.
    fn check_memory(&self, worker: u32, step: &Step) -> Result<(), Wrong> {
        if step.len == 0 {
            return Ok(());
        }
        let rank = worker / self.channels;
        let world = self.program.world();
        let own = &self.memories[rank as usize];
        own.check(step.src(), step.src_at, if step.src() == Space::Nothing { 0 } else { step.len })?;
        own.check(step.dst(), step.dst_at, if step.dst() == Space::Nothing { 0 } else { step.len })?;
        if step.src() != Space::Nothing && step.dst() != Space::Nothing {
            self.check_overlap(rank, step, step.src(), step.dst())?;
        }
        if !shape::uses_windows(step) {
            return Ok(());
        }
        let reads = |other: u32| match step.take {
            Take::Window => other == step.from,
            Take::FoldWindows => world.members(step.group(), rank).position(other).is_some(),
            _ => false,
        };
        let writes =
            |other: u32| step.put == Put::Windows && world.members(step.group(), rank).position(other).is_some();
        for other in (0..self.ranks).filter(|other| *other != rank && (reads(*other) || writes(*other))) {
            if !self.opened[worker as usize * self.ranks as usize + other as usize] {
                return Err(Wrong::WindowClosed { owner: other });
            }
            let memory = &self.memories[other as usize];
            if reads(other) {
                memory.check(Space::Input, step.src_at, step.len)?;
            }
            if writes(other) {
                memory.check(Space::Output, step.dst_at, step.len)?;
            }
            if reads(other) && writes(other) {
                self.check_overlap(other, step, Space::Input, Space::Output)?;
            }
        }
        Ok(())
    }

    fn check_overlap(&self, owner: u32, step: &Step, src: Space, dst: Space) -> Result<(), Wrong> {
        let layout = self.memories[owner as usize].layout();
        let distance = match (layout.cell(src, step.src_at), layout.cell(dst, step.dst_at)) {
            (Cell::User(src), Cell::User(dst)) | (Cell::Scratch(src), Cell::Scratch(dst)) => src.abs_diff(dst),
            _ => return Ok(()),
        };
        if distance > 0 && distance < step.len as usize { Err(Wrong::Overlap { owner }) } else { Ok(()) }
    }

    /// The values that the step makes.
    fn combine(&mut self, worker: u32, step: &Step, values: &mut Vec<Value>) -> Result<(), Wrong> {
        let rank = worker / self.channels;
        let world = self.program.world();
        let (mut count, mut messages) = (0, 0);
        for operand in operands(step, world, rank) {
            let first = count == 0;
            count += 1;
            match operand {
                Operand::Own => self.read_memory(worker, step, rank, step.src(), first, values)?,
                Operand::From(_) if shape::takes_messages(step) => {
                    self.read_message(step, self.taken[messages], first, values)?;
                    messages += 1;
                }
                Operand::From(other) => self.read_memory(worker, step, other, Space::Input, first, values)?,
            }
        }
        let finish = step.flags.has(Flags::FINISH);
        if count < 2 && !finish {
            return Ok(());
        }
        for (i, value) in values.iter_mut().enumerate() {
            let element = i as u32;
            if finish && value.kind == Kind::Final {
                return Err(Wrong::FinishesTwice { element });
            }
            if finish && value.count != self.ranks {
                return Err(Wrong::FinishesEarly { element, count: value.count });
            }
            *value = self.arithmetic.stored(*value, finish);
        }
        Ok(())
    }

    fn access(&self, worker: u32, space: Space, at: u64, len: u32) -> Access {
        let clocked = space != Space::Scratch && self.report.windows;
        let channel = if clocked { 0 } else { (worker % self.channels) as u8 + 1 };
        Access { space, at, len, channel, reduces: self.arithmetic.reduces }
    }

    fn read_memory(
        &mut self,
        worker: u32,
        step: &Step,
        owner: u32,
        space: Space,
        first: bool,
        values: &mut Vec<Value>,
    ) -> Result<(), Wrong> {
        if step.len == 0 {
            return Ok(());
        }
        self.look_for_race(worker, owner, space, step.src_at, step.len, false)?;
        let access = self.access(worker, space, step.src_at, step.len);
        self.memories[owner as usize].read(access, |i, value| accumulate(values, first, i, value))
    }

    /// Where ranks touch each other's memory, every access is looked at. Elsewhere writes alone, for what messages are still to be sent from.
    fn look_for_race(
        &mut self,
        worker: u32,
        owner: u32,
        space: Space,
        at: u64,
        len: u32,
        write: bool,
    ) -> Result<(), Wrong> {
        self.order(owner, space, at, |clocks, windows, cell| match (windows, write) {
            (true, true) => clocks.write(worker, owner, cell, len),
            (true, false) => clocks.read(worker, owner, cell, len),
            (false, true) => clocks.overwrite(worker, owner, cell, len),
            (false, false) => None,
        })
    }

    /// A reader takes a message whose bytes may lie in its sender's memory until then: it reads them there.
    fn read_lent(&mut self, worker: u32, owner: u32, space: Space, at: u64, len: u32) -> Result<(), Wrong> {
        // Unlike a window it does not outlive its owner, whose call ends only when everybody has what it lent.
        self.order(owner, space, at, |clocks, _, cell| clocks.lend(worker, owner, cell, len))
    }

    /// The verdict on an access that clocks find to be in no order with another one.
    fn order(
        &mut self,
        owner: u32,
        space: Space,
        at: u64,
        access: impl FnOnce(&mut Clocks, bool, Cell) -> Option<(usize, Epoch)>,
    ) -> Result<(), Wrong> {
        let windows = self.report.windows;
        let Some(clocks) = self.clocks.as_mut().filter(|clocks| clocks.watches() && space != Space::Scratch) else {
            return Ok(());
        };
        let cell = self.memories[owner as usize].layout().cell(space, at);
        let Some((i, epoch)) = access(clocks, windows, cell) else { return Ok(()) };
        let (element, with) = (at + i as u64, self.at_epoch(epoch));
        Err(match windows {
            true => Wrong::Race { owner, space, element, with },
            false => Wrong::LentOverwritten { owner, space, element, with },
        })
    }

    fn read_message(
        &mut self,
        step: &Step,
        Taken { id, place, .. }: Taken,
        first: bool,
        values: &mut Vec<Value>,
    ) -> Result<(), Wrong> {
        let (message, cursor) = self.links.held(id, place);
        let left = &message.values[cursor as usize..];
        let Some(part) = left.get(..step.len as usize) else {
            let link = self.links.key(id).name();
            return Err(Wrong::ReadsPastEnd { link, left: left.len() as u32, wanted: step.len });
        };
        if first {
            values.extend_from_slice(part);
        } else {
            for (i, value) in part.iter().enumerate() {
                accumulate(values, false, i, *value)?;
            }
        }
        self.links.reader(id, place).cursor = cursor + step.len;
        Ok(())
    }

    /// Writes what the step made to all its sinks.
    fn store(&mut self, worker: u32, step: &Step, slot: Option<LinkId>, values: &[Value]) -> Result<(), Wrong> {
        let rank = worker / self.channels;
        if let Some(id) = slot {
            let link = self.links.key(id).name();
            let limit = self.program.slot_len();
            let message = &mut self.links.filling(id).values;
            let would = message.len() as u64 + u64::from(step.len);
            if would > limit {
                return Err(Wrong::SlotOverflow { link, would, slot: limit });
            }
            message.extend_from_slice(values);
            self.report.elements += u64::from(step.len);
        }
        if step.len == 0 {
            return Ok(());
        }
        if step.dst() != Space::Nothing && !self.copies_onto_itself(rank, step) {
            self.write_memory(worker, step, rank, step.dst(), values)?;
        }
        for other in written(step, self.program.world(), rank) {
            self.write_memory(worker, step, other, Space::Output, values)?;
        }
        Ok(())
    }

    /// A plain copy to where the source already lies, as calls in place have it, is no write: executors leave it out.
    fn copies_onto_itself(&self, rank: u32, step: &Step) -> bool {
        let layout = self.memories[rank as usize].layout();
        let plain = step.take == Take::Nothing && !self.arithmetic.reduces && step.src() != Space::Nothing;
        plain && layout.cell(step.src(), step.src_at) == layout.cell(step.dst(), step.dst_at)
    }

    fn write_memory(
        &mut self,
        worker: u32,
        step: &Step,
        owner: u32,
        space: Space,
        values: &[Value],
    ) -> Result<(), Wrong> {
        self.look_for_race(worker, owner, space, step.dst_at, step.len, true)?;
        let access = self.access(worker, space, step.dst_at, step.len);
        self.memories[owner as usize].write(access, values)
    }

    fn publish(&mut self, worker: u32, id: LinkId) {
        let key = self.links.key(id);
        let slot = self.links.publish(id);
        self.workers[worker as usize].filling -= 1;
        self.report.messages += 1;
        if let Some(clocks) = &mut self.clocks {
            clocks.signal(worker, slot);
        }
        shape::each_reader(self.program.world(), key, |reader| {
            self.wake(reader * self.channels + key.channel(), key, false);
        });
    }

    fn give_back(&mut self, worker: u32) -> Result<(), Wrong> {
        for i in 0..self.taken.len() {
            let Taken { from, id, place } = self.taken[i];
            let key = self.links.key(id);
            let (message, cursor) = self.links.held(id, place);
            let left = message.values.len() as u32 - cursor;
            if left > 0 {
                return Err(Wrong::ReleasesUnread { link: key.name(), left });
            }
            let (slot, freed) = self.links.release(id, place);
            self.workers[worker as usize].holding -= 1;
            if let Some(clocks) = &mut self.clocks {
                clocks.release(worker, slot, freed);
            }
            if freed {
                self.wake(from * self.channels + key.channel(), key, true);
            }
        }
        Ok(())
    }
}
