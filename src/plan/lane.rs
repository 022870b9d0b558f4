//! A lane: what one channel of a plan does. Algorithms speak of places in a group; ranks and buffers are put in here.

use super::barrier;
use super::bruck::Bruck;
use super::cut::Cut;
use super::direct::Direct;
use super::halving::Halving;
use super::hierarchy::Hierarchy;
use super::owner::Owner;
use super::pairwise::Pairwise;
use super::ring::Ring;
use super::star::Star;
use super::tree::Tree;
use super::twoshot::TwoShot;
use super::{Flags, Space, Step, World};

/// Who asks: a place in a group of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) place: u32,
    pub(super) size: u32,
}

/// The place `by` seats further on, round the group; `by` is less than twice its size.
#[inline]
pub(super) fn after(seat: Seat, by: u32) -> u32 {
    let place = seat.place + by;
    if place < seat.size {
        place
    } else if place - seat.size < seat.size {
        place - seat.size
    } else {
        place - 2 * seat.size
    }
}

/// Number `index` of the first `owners` places without the seat's own, beginning with the next one: not everybody asks place 0 first.
#[inline]
pub(super) fn other(seat: Seat, owners: u32, index: u32) -> u32 {
    if seat.place < owners { after(Seat { place: seat.place, size: owners }, 1 + index) } else { index }
}

/// The place `by` seats back, round the group; `by` is at most its size.
#[inline]
pub(super) fn before(seat: Seat, by: u32) -> u32 {
    if seat.place >= by { seat.place - by } else { seat.place + seat.size - by }
}

/// Two operands are combined with the lower place first, so that both sides of an exchange compute the same bits.
#[inline]
pub(super) fn message_first(from: u32, seat: Seat) -> Flags {
    if from < seat.place { Flags::MESSAGE_FIRST } else { Flags::NONE }
}

/// The steps of one algorithm in one group.
#[derive(Clone, Debug)]
pub(super) enum Lane {
    /// No data, no step.
    Nothing,
    /// A group of one: the input is the output.
    Alone(Cut, Flags),
    Direct(Direct),
    TwoShot(TwoShot),
    Star(Star),
    Ring(Ring),
    Owner(Owner),
    Tree(Tree),
    Halving(Halving),
    Bruck(Bruck),
    Pairwise(Pairwise),
    /// A barrier by dissemination.
    Barrier,
}

impl Lane {
    /// How many steps that seat has.
    #[inline]
    pub(super) fn count(&self, seat: Seat) -> u64 {
        match self {
            Lane::Nothing => 0,
            Lane::Alone(cut, _) => cut.round_count(),
            Lane::Direct(lane) => lane.count(),
            Lane::TwoShot(lane) => lane.count(seat),
            Lane::Star(lane) => lane.count(seat),
            Lane::Ring(lane) => lane.count(seat),
            Lane::Owner(lane) => lane.count(seat),
            Lane::Tree(lane) => lane.count(seat),
            Lane::Halving(lane) => lane.count(seat),
            Lane::Bruck(lane) => lane.count(seat),
            Lane::Pairwise(lane) => lane.count(seat),
            Lane::Barrier => barrier::count(seat),
        }
    }

    /// One of them; `index` is below the count.
    #[inline]
    pub(super) fn step(&self, seat: Seat, index: u64) -> Step {
        match self {
            Lane::Nothing => Step::of(0),
            Lane::Alone(cut, finish) => alone(cut, *finish, seat.place, index),
            Lane::Direct(lane) => lane.step(seat, index),
            Lane::TwoShot(lane) => lane.step(seat, index),
            Lane::Star(lane) => lane.step(seat, index),
            Lane::Ring(lane) => lane.step(seat, index),
            Lane::Owner(lane) => lane.step(seat, index),
            Lane::Tree(lane) => lane.step(seat, index),
            Lane::Halving(lane) => lane.step(seat, index),
            Lane::Bruck(lane) => lane.step(seat, index),
            Lane::Pairwise(lane) => lane.step(seat, index),
            Lane::Barrier => barrier::step(seat, index),
        }
    }

    /// Elements of private memory.
    pub(super) fn scratch(&self, seat: Seat) -> u64 {
        match self {
            Lane::Tree(lane) => lane.scratch(),
            Lane::Halving(lane) => lane.scratch(seat),
            Lane::Bruck(lane) => lane.scratch(),
            _ => 0,
        }
    }

    /// The longest message.
    pub(super) fn longest(&self) -> u32 {
        match self {
            Lane::Nothing | Lane::Alone(..) | Lane::Direct(Direct::Meet) | Lane::Owner(_) | Lane::Barrier => 0,
            Lane::Direct(Direct::Reduce(cut, _) | Direct::Gather(cut, _) | Direct::Spread(cut, _)) => cut.longest(),
            Lane::TwoShot(lane) => lane.cut.longest(),
            Lane::Star(lane) => lane.cut.longest(),
            Lane::Ring(lane) => lane.cut.longest(),
            Lane::Tree(lane) => lane.cut.longest(),
            Lane::Halving(lane) => lane.slot(),
            Lane::Bruck(lane) => lane.slot(),
            Lane::Pairwise(lane) => lane.slot(),
        }
    }
}

/// What a channel of a plan runs.
#[derive(Clone, Debug)]
pub(super) enum Track {
    /// One algorithm among all ranks.
    Flat(Lane),
    /// The same where ranks sit in the order of the tour.
    Toured(Lane),
    /// Algorithms in domains and between them.
    Layered(Hierarchy),
}

impl Track {
    /// How many steps the rank has.
    #[inline]
    pub(super) fn count(&self, world: &World, rank: u32) -> u64 {
        match self {
            Track::Flat(lane) => lane.count(Seat { place: rank, size: world.size() }),
            Track::Toured(lane) => lane.count(on_tour(world, rank)),
            Track::Layered(hierarchy) => hierarchy.count(world, rank),
        }
    }

    /// One of them; `index` is below the count.
    #[inline]
    pub(super) fn step(&self, world: &World, rank: u32, index: u64) -> Step {
        match self {
            Track::Flat(lane) => lane.step(Seat { place: rank, size: world.size() }, index),
            Track::Toured(lane) => {
                let mut step = lane.step(on_tour(world, rank), index);
                step.from = world.at_stop(step.from).unwrap_or(0);
                step.to = world.at_stop(step.to).unwrap_or(0);
                step
            }
            Track::Layered(hierarchy) => hierarchy.step(world, rank, index),
        }
    }

    /// Elements of private memory of the rank.
    pub(super) fn scratch(&self, world: &World, rank: u32) -> u64 {
        match self {
            Track::Flat(lane) => lane.scratch(Seat { place: rank, size: world.size() }),
            Track::Toured(lane) => lane.scratch(on_tour(world, rank)),
            Track::Layered(hierarchy) => hierarchy.scratch(world, rank),
        }
    }

    /// The longest message.
    pub(super) fn longest(&self) -> u32 {
        match self {
            Track::Flat(lane) | Track::Toured(lane) => lane.longest(),
            Track::Layered(hierarchy) => hierarchy.longest(),
        }
    }
}

fn on_tour(world: &World, rank: u32) -> Seat {
    Seat { place: world.stop(rank), size: world.size() }
}

/// The copy of somebody who has nobody to talk to.
pub(super) fn alone(cut: &Cut, finish: Flags, place: u32, index: u64) -> Step {
    let piece = cut.piece(index, place);
    Step::of(piece.len).read(Space::Input, piece.input).write(Space::Output, piece.output).also(finish)
}
