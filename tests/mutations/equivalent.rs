//! Why a mutant that the prover accepts is no worse than the original. The arguments look at the steps themselves and at the second
//! interpreter (`oracle`); none of them asks the prover.

use super::oracle::{Expressions, Outputs, run};
use ringtree::check::Listed;
use ringtree::plan::{Flags, Group, Put, Space, Step, Take, World};

/// An argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The steps differ in fields that they do not use, or in steps that write, take and give nothing.
    UnusedField,
    /// Every rank ends with the same expressions, nothing races, and nobody waits for ever. Control never depends on data, so what one
    /// order of ranks shows holds for all.
    SameEffect,
    /// Operands changed places, and every rank still has the same expression of each contribution once.
    OtherOrder,
}

/// The argument for this mutant, or nothing.
pub fn reason(original: &Listed, mutant: &Listed, in_place: bool) -> Option<Reason> {
    let (first, second) = (plain(original), plain(mutant));
    if first == second {
        return Some(Reason::UnusedField);
    }
    let mut expressions = Expressions::default();
    let wanted = run(original, in_place, &mut expressions, 1).ok()?;
    let mut runs = Vec::new();
    for seed in 0..3 {
        runs.push(run(mutant, in_place, &mut expressions, seed).ok()?);
    }
    if runs.iter().all(|outputs| *outputs == wanted) {
        return Some(Reason::SameEffect);
    }
    let same = runs.iter().all(|outputs| *outputs == runs[0]);
    if same && without_order(&first) == without_order(&second) && agree(original, &runs[0], &wanted, &expressions) {
        return Some(Reason::OtherOrder);
    }
    None
}

type Steps = Vec<Vec<Vec<Step>>>;

/// The steps with every field that they do not use set to nothing.
fn plain(program: &Listed) -> Steps {
    let lists = program.steps.iter().zip(0..);
    lists
        .map(|(channels, rank)| {
            let does = |step: &Step| talks(step) || step.put != Put::Nothing || step.dst() != Space::Nothing;
            let list = |list: &Vec<Step>| {
                list.iter().map(|step| plain_step(*step, rank, &program.world)).filter(does).collect()
            };
            channels.iter().map(list).collect()
        })
        .collect()
}

fn plain_step(mut step: Step, rank: u32, world: &World) -> Step {
    step = plain_fold(step, rank, world);
    if step.len == 0 {
        step = step.read(Space::Nothing, 0).write(Space::Nothing, 0).but_not(Flags::FINISH.with(Flags::MESSAGE_FIRST));
    }
    let board = step.take == Take::Board || step.take == Take::FoldBoards || step.put == Put::Board;
    let group = matches!(step.take, Take::FoldPairs | Take::FoldWindows) || step.put == Put::Windows;
    let everybody = world.members(step.group(), rank).len() == world.size();
    if !board && (!group || everybody) {
        step = step.among(Group::World);
    }
    if !matches!(step.take, Take::Pair | Take::Board | Take::Window) {
        step.from = 0;
    }
    if step.put != Put::Pair {
        step.to = 0;
    }
    if step.src() == Space::Nothing && step.take != Take::Window {
        step.src_at = 0;
    }
    if step.dst() == Space::Nothing && step.put != Put::Windows {
        step.dst_at = 0;
    }
    step
}

/// A fold of two ranks' messages is a pair combined, the lower rank first.
fn plain_fold(mut step: Step, rank: u32, world: &World) -> Step {
    let members = world.members(step.group(), rank);
    let other = members.iter().find(|other| *other != rank);
    if let (2, Some(other)) = (members.len(), other) {
        step.take = match step.take {
            Take::FoldPairs => Take::Pair,
            Take::FoldBoards => Take::Board,
            _ => return step,
        };
        step.from = other;
        if other < rank && step.src() != Space::Nothing {
            step = step.also(Flags::MESSAGE_FIRST);
        }
    }
    step
}

fn without_order(steps: &Steps) -> Steps {
    let mut steps = steps.clone();
    steps.iter_mut().flatten().flatten().for_each(|step| *step = step.but_not(Flags::MESSAGE_FIRST));
    steps
}

/// Whether each output is, on all ranks alike, the contributions of the original's, in some order.
fn agree(program: &Listed, outputs: &Outputs, wanted: &Outputs, expressions: &Expressions) -> bool {
    let contributions = |number: Option<usize>| {
        number.map(|number| {
            let (mut leaves, finished) = expressions.leaves(number);
            leaves.sort_unstable();
            (leaves, finished)
        })
    };
    let whole = program.lens.iter().all(|lens| lens[1] == program.lens[0][1]);
    let alike =
        !whole || program.calls[0].collective.has_blocks() || outputs.iter().all(|output| *output == outputs[0]);
    let pairs = outputs.iter().flatten().zip(wanted.iter().flatten());
    alike && pairs.into_iter().all(|(has, wants)| contributions(*has) == contributions(*wants))
}

fn talks(step: &Step) -> bool {
    matches!(step.take, Take::Pair | Take::Board | Take::FoldPairs | Take::FoldBoards)
        || matches!(step.put, Put::Pair | Put::Board)
}
