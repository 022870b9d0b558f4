//! What can be said of a step without knowing what went before it: whether its parts belong together, and whom it may name.

use super::links::Key;
use super::verdict::{LinkName, Wrong};
use crate::plan::{Flags, Group, Put, Space, Step, Take, World};

/// Whether a step waits on links to take from.
#[inline]
pub(super) fn takes_messages(step: &Step) -> bool {
    matches!(step.take, Take::Pair | Take::Board | Take::FoldPairs | Take::FoldBoards)
}

/// Whether a step fills a slot.
#[inline]
pub(super) fn puts_message(step: &Step) -> bool {
    matches!(step.put, Put::Pair | Put::Board)
}

/// Whether a step takes from each other member of its group.
#[inline]
pub(super) fn folds(step: &Step) -> bool {
    matches!(step.take, Take::FoldPairs | Take::FoldBoards | Take::FoldWindows)
}

/// Whether a step touches other ranks' memory.
#[inline]
pub(super) fn uses_windows(step: &Step) -> bool {
    matches!(step.take, Take::Window | Take::FoldWindows) || step.put == Put::Windows
}

/// Refuses steps that have no meaning.
#[inline]
pub(super) fn check(step: &Step, rank: u32, world: &World, reduces: bool) -> Result<(), Wrong> {
    check_peers(step, rank, world)?;
    check_flags(step)?;
    if step.len == 0 {
        return Ok(());
    }
    let (reads, takes) = (step.src() != Space::Nothing, brings_something(step, rank, world));
    if !reads && !takes {
        return Err(Wrong::Malformed("its elements come from nowhere"));
    }
    if step.dst() == Space::Input {
        return Err(Wrong::Malformed("it writes to the input"));
    }
    let pairs_operands = reads && !folds(step) && step.take != Take::Nothing;
    if step.flags.has(Flags::MESSAGE_FIRST) && !pairs_operands {
        return Err(Wrong::Malformed("it puts a message first where there are not a message and an operand"));
    }
    if !reduces && (folds(step) || pairs_operands) {
        return Err(Wrong::Malformed("it combines elements in a collective that only moves them"));
    }
    if !reduces && step.flags.has(Flags::FINISH) {
        return Err(Wrong::Malformed("it finishes elements in a collective that only moves them"));
    }
    Ok(())
}

#[inline]
fn brings_something(step: &Step, rank: u32, world: &World) -> bool {
    match step.take {
        Take::Nothing => false,
        Take::Pair | Take::Board | Take::Window => true,
        Take::FoldPairs | Take::FoldBoards | Take::FoldWindows => world.members(step.group(), rank).len() > 1,
    }
}

#[inline]
fn check_peers(step: &Step, rank: u32, world: &World) -> Result<(), Wrong> {
    let other = |named: u32, good: bool| {
        if good && named != rank { Ok(()) } else { Err(Wrong::NoSuchPeer { named }) }
    };
    match step.take {
        Take::Pair | Take::Window => other(step.from, step.from < world.size())?,
        Take::Board => other(step.from, world.members(step.group(), rank).position(step.from).is_some())?,
        _ => {}
    }
    if step.put == Put::Pair { other(step.to, step.to < world.size()) } else { Ok(()) }
}

#[inline]
fn check_flags(step: &Step) -> Result<(), Wrong> {
    let any = |flags: Flags| step.flags.0 & flags.0 != 0;
    if any(Flags::COPY) && !any(Flags::SIGNAL) {
        return Err(Wrong::Malformed("it keeps a copy of a message that it does not publish"));
    }
    if any(Flags::AWAIT.with(Flags::RELEASE)) && !takes_messages(step) {
        return Err(Wrong::Malformed("it awaits or gives back a message and takes none"));
    }
    if any(Flags::CREDIT.with(Flags::SIGNAL)) && !puts_message(step) {
        return Err(Wrong::Malformed("it takes or publishes a slot and puts nothing there"));
    }
    if any(Flags::PLACES) && (step.len > 0 || !(takes_messages(step) || puts_message(step))) {
        return Err(Wrong::Malformed("it tells places, and is not a message without elements"));
    }
    Ok(())
}

/// The place of `reader` among those who read the board of `writer`, and how many these are.
pub(super) fn audience(world: &World, group: Group, writer: u32, reader: u32) -> (u32, u32) {
    let members = world.members(group, writer);
    let place = |rank: u32| members.position(rank).unwrap_or(0);
    let (reader, writer) = (place(reader), place(writer));
    (reader - u32::from(reader > writer), members.len() - 1)
}

/// The link that a step takes from, given its writer; and the reader's place and the size of the audience there.
#[inline]
pub(super) fn taken(step: &Step, world: &World, rank: u32, from: u32, channel: u32) -> (Key, u32, u32) {
    if matches!(step.take, Take::Pair | Take::FoldPairs) {
        return (Key::pair(from, rank, channel), 0, 1);
    }
    let (place, size) = audience(world, step.group(), from, rank);
    (Key::board(from, step.group(), channel), place, size)
}

/// The link that a step puts to, and the size of its audience.
#[inline]
pub(super) fn filled(step: &Step, world: &World, rank: u32, channel: u32) -> (Key, u32) {
    if step.put == Put::Pair {
        return (Key::pair(rank, step.to, channel), 1);
    }
    (Key::board(rank, step.group(), channel), world.members(step.group(), rank).len() - 1)
}

/// The rank at that place among the readers of a link.
pub(super) fn reader(world: &World, key: Key, place: u32) -> u32 {
    match key.name() {
        LinkName::Pair { to, .. } => to,
        LinkName::Board { from, group } => {
            world.members(group, from).iter().filter(|rank| *rank != from).nth(place as usize).unwrap_or(from)
        }
    }
}

/// Every rank that reads a link.
pub(super) fn each_reader(world: &World, key: Key, mut each: impl FnMut(u32)) {
    match key.name() {
        LinkName::Pair { to, .. } => each(to),
        LinkName::Board { from, group } => {
            world.members(group, from).iter().filter(|rank| *rank != from).for_each(each);
        }
    }
}
