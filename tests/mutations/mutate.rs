//! Ways to break a program.

use ringtree::check::Listed;
use ringtree::plan::{Flags, Group, Put, Space, Step, Take};

/// A small generator (splitmix64), so that a seed means the same for ever.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What is done to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    DropStep,
    DuplicateStep,
    SwapNeighbours,
    SwapDistant,
    DropFlag,
    AddFlag,
    ChangePeer,
    ShiftSource,
    ShiftSink,
    ChangeLength,
    LoseMessage,
    LoseSource,
    LoseSink,
    LosePut,
    TurnOrder,
    DropFinish,
    DoubleFinish,
    WrongLink,
    WrongGroup,
    WrongSpace,
    SwapPayloads,
    LeaveTooEarly,
    LeaveAllTooEarly,
    DropPlaces,
    DropAllPlaces,
    MergeMessages,
}

impl Mutation {
    pub const ALL: [Mutation; 26] = [
        Mutation::DropStep,
        Mutation::DuplicateStep,
        Mutation::SwapNeighbours,
        Mutation::SwapDistant,
        Mutation::DropFlag,
        Mutation::AddFlag,
        Mutation::ChangePeer,
        Mutation::ShiftSource,
        Mutation::ShiftSink,
        Mutation::ChangeLength,
        Mutation::LoseMessage,
        Mutation::LoseSource,
        Mutation::LoseSink,
        Mutation::LosePut,
        Mutation::TurnOrder,
        Mutation::DropFinish,
        Mutation::DoubleFinish,
        Mutation::WrongLink,
        Mutation::WrongGroup,
        Mutation::WrongSpace,
        Mutation::SwapPayloads,
        Mutation::LeaveTooEarly,
        Mutation::LeaveAllTooEarly,
        Mutation::DropPlaces,
        Mutation::DropAllPlaces,
        Mutation::MergeMessages,
    ];
}

const MESSAGE: Flags = Flags::AWAIT.with(Flags::RELEASE);
const SLOT: Flags = Flags::CREDIT.with(Flags::SIGNAL);
const FLAGS: [Flags; 7] =
    [Flags::AWAIT, Flags::RELEASE, Flags::CREDIT, Flags::SIGNAL, Flags::MESSAGE_FIRST, Flags::FINISH, Flags::PLACES];

/// Breaks the program in that way, where chance has it. Nothing if that is not possible there, or changes no step.
pub fn mutate(program: &Listed, how: Mutation, chance: &mut Chance) -> Option<Listed> {
    let mut mutant = program.clone();
    let rank = chance.below(mutant.steps.len());
    let channel = chance.below(mutant.steps[rank].len());
    match how {
        Mutation::LeaveAllTooEarly => {
            for list in mutant.steps.iter_mut().flatten() {
                leave_early(list, 2)?;
            }
        }
        Mutation::DropAllPlaces => {
            let steps = mutant.steps.iter_mut().flatten().flatten();
            steps.for_each(|step| step.flags = step.flags.without(Flags::PLACES));
        }
        Mutation::LeaveTooEarly => leave_early(&mut mutant.steps[rank][channel], 1 + chance.below(2))?,
        _ => {
            let ranks = program.lens.len() as u32;
            let list = &mut mutant.steps[rank][channel];
            if list.is_empty() {
                return None;
            }
            let at = chance.below(list.len());
            if !change_list(list, at, how, chance) {
                list[at] = change_step(list[at], how, ranks, chance)?;
            }
        }
    }
    (mutant.steps != program.steps).then_some(mutant)
}

/// Drops the last steps of a list that ends with a meeting of all ranks after windows were used.
fn leave_early(list: &mut Vec<Step>, steps: usize) -> Option<()> {
    let windows = |step: &Step| matches!(step.take, Take::Window | Take::FoldWindows) || step.put == Put::Windows;
    let meets = list.iter().any(windows) && list.last().is_some_and(|step| step.take == Take::FoldBoards);
    meets.then(|| list.truncate(list.len() - steps))
}

/// Mutations of the list as such; false for those of one step.
fn change_list(list: &mut Vec<Step>, at: usize, how: Mutation, chance: &mut Chance) -> bool {
    let (other, next) = (chance.below(list.len()), (at + 1) % list.len());
    match how {
        Mutation::DropStep => drop(list.remove(at)),
        Mutation::DuplicateStep => list.insert(at, list[at]),
        Mutation::SwapNeighbours => list.swap(at, next),
        Mutation::SwapDistant => list.swap(at, other),
        Mutation::SwapPayloads => {
            let (first, second) = (list[at], list[other]);
            if first.put != Put::Nothing && second.put != Put::Nothing {
                list[at] = first.read(second.src(), second.src_at);
                list[other] = second.read(first.src(), first.src_at);
            }
        }
        // One message in place of two: the first is not published, the second fills on.
        Mutation::MergeMessages => {
            if list[at].flags.has(Flags::SIGNAL) && list[next].flags.has(Flags::CREDIT) {
                list[at].flags = list[at].flags.without(Flags::SIGNAL);
                list[next].flags = list[next].flags.without(Flags::CREDIT);
            }
        }
        _ => return false,
    }
    true
}

fn change_step(step: Step, how: Mutation, ranks: u32, chance: &mut Chance) -> Option<Step> {
    let mut changed = step;
    match how {
        Mutation::DropFlag => changed.flags = step.flags.without(chance.pick(&FLAGS)),
        Mutation::AddFlag => changed.flags = step.flags.with(chance.pick(&FLAGS)),
        Mutation::ChangePeer => {
            let peer = chance.below(ranks as usize + 1) as u32;
            if chance.below(2) == 0 { changed.from = peer } else { changed.to = peer }
        }
        Mutation::ShiftSource => changed.src_at = shifted(step.src_at, step.len, chance)?,
        Mutation::ShiftSink => changed.dst_at = shifted(step.dst_at, step.len, chance)?,
        Mutation::ChangeLength => changed.len = chance.pick(&[step.len.wrapping_sub(1), step.len + 1, 0, step.len * 2]),
        Mutation::LoseMessage if step.take != Take::Nothing => {
            changed.take = Take::Nothing;
            changed = changed.but_not(MESSAGE.with(Flags::MESSAGE_FIRST));
        }
        Mutation::LoseSource => changed = step.read(Space::Nothing, step.src_at).but_not(Flags::MESSAGE_FIRST),
        Mutation::LoseSink => changed = step.write(Space::Nothing, step.dst_at),
        Mutation::LosePut if step.put != Put::Nothing => {
            changed.put = Put::Nothing;
            changed = changed.but_not(SLOT);
        }
        Mutation::TurnOrder => changed.flags = Flags(step.flags.0 ^ Flags::MESSAGE_FIRST.0),
        Mutation::DropFinish => changed = step.but_not(Flags::FINISH),
        Mutation::DoubleFinish => changed = step.also(Flags::FINISH),
        Mutation::WrongLink => changed = wrong_link(step, chance),
        Mutation::WrongGroup => changed = step.among(chance.pick(&[Group::World, Group::Inner, Group::Outer])),
        Mutation::WrongSpace => {
            let space = chance.pick(&[Space::Input, Space::Output, Space::Scratch]);
            changed = if chance.below(2) == 0 { step.read(space, step.src_at) } else { step.write(space, step.dst_at) };
        }
        Mutation::DropPlaces => changed = step.but_not(Flags::PLACES),
        _ => return None,
    }
    Some(changed)
}

fn shifted(at: u64, len: u32, chance: &mut Chance) -> Option<u64> {
    let by = chance.pick(&[1, u64::from(len)]);
    if chance.below(2) == 0 { at.checked_add(by) } else { at.checked_sub(by) }
}

/// A board in place of a pair and the other way round, on either side.
fn wrong_link(step: Step, chance: &mut Chance) -> Step {
    let mut changed = step;
    if chance.below(2) == 0 {
        changed.put = match step.put {
            Put::Pair => Put::Board,
            Put::Board => Put::Pair,
            other => other,
        };
    } else {
        changed.take = match step.take {
            Take::Pair => chance.pick(&[Take::Board, Take::FoldPairs]),
            Take::Board => chance.pick(&[Take::Pair, Take::FoldBoards]),
            Take::FoldPairs => chance.pick(&[Take::Pair, Take::FoldBoards]),
            Take::FoldBoards => chance.pick(&[Take::Board, Take::FoldPairs]),
            Take::FoldWindows => Take::Window,
            Take::Window => Take::FoldWindows,
            Take::Nothing => Take::Nothing,
        };
    }
    changed
}
