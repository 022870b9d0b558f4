//! Small programs written by hand: right ones that are proved, and for each verdict one that gets it.

use super::*;
use crate::plan::{Flags, Group, Space, Step, World};
use crate::types::{Call, Collective, DataType, Reduction};
use std::collections::BTreeSet;

const SUM: Reduction = Reduction::Sum;

fn program(world: World, call: Call, lens: [u64; 3], steps: Vec<Vec<Step>>) -> Listed {
    let ranks = world.size() as usize;
    let steps = steps.into_iter().map(|list| vec![list]).collect();
    Listed { world, calls: vec![call; ranks], slot_len: 4, slots: 1, lens: vec![lens; ranks], steps }
}

/// Everybody posts its 4 elements and folds all of them.
fn one_shot(ranks: u32) -> Listed {
    let steps = |_| {
        let all = Step::of(4).read(Space::Input, 0);
        let post = all.put_board().also(Flags::COPY);
        vec![post, all.fold_boards().write(Space::Output, 0).also(Flags::FINISH)]
    };
    let call = Call::new(Collective::AllReduce, DataType::F32, SUM, 0, 4);
    program(World::flat(ranks), call, [4, 4, 0], (0..ranks).map(steps).collect())
}

/// Blocks of 2 elements go round.
fn ring_all_gather(ranks: u32) -> Listed {
    let steps = |rank: u32| {
        let (left, right) = ((rank + ranks - 1) % ranks, (rank + 1) % ranks);
        let place = |step: Step, back: u32| step.write(Space::Output, u64::from((rank + ranks - back) % ranks * 2));
        let mut list = vec![place(Step::of(2).read(Space::Input, 0).put_pair(right), 0)];
        list.extend((1..ranks - 1).map(|back| place(Step::of(2).take_pair(left).put_pair(right), back)));
        list.push(place(Step::of(2).take_pair(left), ranks - 1));
        list
    };
    let call = Call::new(Collective::AllGather, DataType::F32, SUM, 0, 2);
    program(World::flat(ranks), call, [2, u64::from(2 * ranks), 0], (0..ranks).map(steps).collect())
}

/// Two ranks each reduce their half of 4 elements where they lie.
fn owner() -> Listed {
    let steps = |rank: u32| {
        let at = u64::from(2 * rank);
        let half = Step::of(2).read(Space::Input, at).fold_windows().write(Space::Output, at).put_windows();
        vec![
            Step::of(0).put_board().also(Flags::PLACES),
            Step::of(0).fold_boards().also(Flags::PLACES),
            half.also(Flags::FINISH),
            Step::of(0).put_board(),
            Step::of(0).fold_boards(),
        ]
    };
    let call = Call::new(Collective::AllReduce, DataType::F32, SUM, 0, 4);
    program(World::flat(2), call, [4, 4, 0], (0..2).map(steps).collect())
}

/// Rank 0 tells rank 1, which tells rank 0.
fn barrier() -> Listed {
    let tell = |to| Step::of(0).put_pair(to);
    let hear = |from| Step::of(0).take_pair(from);
    let call = Call::new(Collective::Barrier, DataType::U8, SUM, 0, 0);
    program(World::flat(2), call, [0, 0, 0], vec![vec![tell(1), hear(1)], vec![tell(0), hear(0)]])
}

/// 4 elements from rank 0 to rank 1.
fn broadcast() -> Listed {
    let steps = vec![
        vec![Step::of(4).read(Space::Input, 0).write(Space::Output, 0).put_pair(1)],
        vec![Step::of(4).take_pair(0).write(Space::Output, 0)],
    ];
    let call = Call::new(Collective::Broadcast, DataType::F32, SUM, 0, 4);
    program(World::flat(2), call, [4, 4, 0], steps)
}

/// A program whose step is altered.
fn altered(mut program: Listed, rank: usize, index: usize, alter: impl FnOnce(Step) -> Step) -> Listed {
    let step = &mut program.steps[rank][0][index];
    *step = alter(*step);
    program
}

/// A program with another list of steps for a rank.
fn with(mut program: Listed, rank: usize, list: Vec<Step>) -> Listed {
    program.steps[rank][0] = list;
    program
}

/// A program that lacks a step.
fn without(mut program: Listed, rank: usize, index: usize) -> Listed {
    program.steps[rank][0].remove(index);
    program
}

/// A program whose ranks do everything in the reverse order.
fn backwards(mut program: Listed) -> Listed {
    program.steps.iter_mut().flatten().for_each(|list| list.reverse());
    program
}

fn in_place() -> Options {
    Options { in_place: true, ..Options::default() }
}

fn proved(program: &Listed, options: &Options) -> Report {
    prove(program, options).unwrap_or_else(|violation| panic!("{violation}"))
}

#[test]
fn a_one_shot_all_reduce_is_right_in_and_out_of_place() {
    for ranks in 2..6 {
        let options = Options { reproducible: true, ..Options::default() };
        let report = proved(&one_shot(ranks), &options);
        let n = u64::from(ranks);
        assert_eq!((report.steps, report.messages, report.elements), (2 * n, n, 4 * n));
        assert_eq!((report.most_slots, report.most_held, report.windows), (n, ranks - 1, false));
        proved(&one_shot(ranks), &Options { in_place: true, ..options });
    }
}

#[test]
fn a_ring_all_gather_is_right_in_and_out_of_place() {
    for ranks in 2..6 {
        let n = u64::from(ranks);
        let report = proved(&ring_all_gather(ranks), &Options::default());
        assert_eq!((report.messages, report.elements), (n * (n - 1), 2 * n * (n - 1)));
        proved(&ring_all_gather(ranks), &in_place());
    }
}

#[test]
fn owners_that_reduce_where_data_lies_are_right_in_and_out_of_place() {
    assert!(proved(&owner(), &Options::default()).windows);
    assert!(proved(&owner(), &in_place()).windows);
}

#[test]
fn a_barrier_and_a_broadcast_are_right() {
    proved(&barrier(), &Options::default());
    proved(&broadcast(), &Options::default());
    proved(&broadcast(), &in_place());
}

#[test]
fn one_message_may_be_written_and_read_by_several_steps() {
    let half = |at| Step::of(2).read(Space::Input, at).write(Space::Output, at).put_pair(1);
    let other = |at| Step::of(2).take_pair(0).write(Space::Output, at);
    let sender = vec![half(0).but_not(Flags::SIGNAL), half(2).but_not(Flags::CREDIT)];
    let reader = vec![other(0).but_not(Flags::RELEASE), other(2).but_not(Flags::AWAIT)];
    let report = proved(&with(with(broadcast(), 0, sender), 1, reader), &Options::default());
    assert_eq!((report.messages, report.elements), (1, 4));
}

/// A program that is wrong: its verdict, the step it is found at (rank, index) if at one, and how it is proved.
struct Bad {
    name: &'static str,
    at: Option<(u32, u64)>,
    program: Listed,
    options: Options,
}

fn bad(name: &'static str, at: impl Into<Option<(u32, u64)>>, program: Listed) -> Bad {
    Bad { name, at: at.into(), program, options: Options::default() }
}

fn bad_in_place(name: &'static str, at: impl Into<Option<(u32, u64)>>, program: Listed) -> Bad {
    Bad { options: in_place(), ..bad(name, at, program) }
}

fn bad_calls() -> Vec<Bad> {
    let mut odd_root = broadcast();
    odd_root.calls.iter_mut().for_each(|call| call.root = 2);
    let mut other_call = one_shot(2);
    other_call.calls[1].count = 3;
    let mut short = one_shot(2);
    short.lens[1][1] = 3;
    let many = 1 + u64::from(MOST_WINDOW_RANKS);
    let mut crowd = one_shot(many as u32);
    crowd.steps[0][0].insert(0, Step::of(0).put_board().also(Flags::PLACES));
    let large = Options { most_elements: 7, ..Options::default() };
    vec![
        bad("call", None, odd_root),
        bad("call", None, other_call),
        bad("length", None, short),
        bad("too-large", None, crowd),
        Bad { options: large, ..bad("too-large", None, one_shot(2)) },
    ]
}

fn bad_steps() -> Vec<Bad> {
    let here = Some((0, 1));
    let fold = |alter: fn(Step) -> Step| altered(one_shot(2), 0, 1, alter);
    let away = |alter: fn(Step) -> Step| altered(ring_all_gather(3), 0, 1, alter);
    let from_nowhere = with(one_shot(2), 0, vec![Step::of(4).put_board()]);
    vec![
        bad("malformed", (0, 0), from_nowhere),
        bad("not-written", None, fold(|step| step.write(Space::Nothing, 0))),
        bad("malformed", here, fold(|step| step.write(Space::Input, 0))),
        bad("malformed", here, fold(|step| step.also(Flags::MESSAGE_FIRST))),
        bad("malformed", here, fold(|step| step.also(Flags::CREDIT))),
        bad("malformed", here, fold(|step| step.also(Flags::PLACES))),
        bad("malformed", here, fold(|step| step.also(Flags::COPY))),
        bad("malformed", here, away(|step| step.read(Space::Input, 0))),
        bad("malformed", here, away(|step| step.also(Flags::FINISH))),
        bad("malformed", (0, 0), altered(one_shot(2), 0, 0, |step| step.also(Flags::AWAIT))),
        bad("no-such-peer", here, away(|step| step.take_pair(0))),
        bad("no-such-peer", here, away(|step| step.take_pair(3))),
        bad("no-such-peer", here, away(|step| step.put_pair(0))),
        bad("no-such-peer", here, away(|step| step.put_pair(u32::MAX))),
        bad("no-such-peer", here, away(|step| step.take_board(2).among(Group::Outer))),
        bad("bounds", here, away(|step| step.write(Space::Output, 5))),
        bad("bounds", here, away(|step| step.write(Space::Output, u64::MAX))),
        bad("bounds", (0, 0), altered(one_shot(2), 0, 0, |step| step.read(Space::Input, 1))),
        bad("bounds", here, away(|step| step.write(Space::Scratch, 0))),
    ]
}

fn bad_links() -> Vec<Bad> {
    let put = Step::of(2).read(Space::Input, 0).write(Space::Output, 0).put_pair(1);
    let on = Step::of(2).read(Space::Input, 2).write(Space::Output, 2).put_pair(1);
    let take = Step::of(2).take_pair(0).write(Space::Output, 0);
    let rest = Step::of(2).take_pair(0).write(Space::Output, 2);
    let sends = |list: Vec<Step>| with(broadcast(), 0, list);
    let reads = |list: Vec<Step>| with(broadcast(), 1, list);
    let twice = sends(vec![put, on]);
    let places = Step::of(0).fold_boards();
    vec![
        bad("awaits-twice", (1, 1), with(twice, 1, vec![take.but_not(Flags::RELEASE), rest])),
        bad("reads-nothing", (1, 0), reads(vec![take.but_not(Flags::AWAIT)])),
        bad("reads-past-end", (1, 0), sends(vec![put])),
        bad("releases-unread", (1, 0), reads(vec![take])),
        bad("credits-twice", (0, 1), sends(vec![put.but_not(Flags::SIGNAL), on])),
        bad("puts-nowhere", (0, 0), sends(vec![put.but_not(Flags::CREDIT)])),
        bad("slot-overflow", (0, 0), Listed { slot_len: 3, ..broadcast() }),
        bad("left-unsent", (0, 1), sends(vec![put.but_not(Flags::SIGNAL)])),
        bad("left-held", (1, 1), reads(vec![Step::of(4).take_pair(0).write(Space::Output, 0).but_not(Flags::RELEASE)])),
        bad("left-unread", None, reads(vec![])),
        bad("places-mismatch", (0, 1), altered(owner(), 0, 1, |_| places)),
        bad("places-mismatch", (0, 4), altered(owner(), 0, 4, |_| places.also(Flags::PLACES))),
        bad("deadlock", (0, 0), backwards(barrier())),
        bad("deadlock", (1, 0), sends(vec![])),
    ]
}

fn bad_order() -> Vec<Bad> {
    let swapped =
        altered(altered(owner(), 0, 2, |step| step.read(Space::Input, 2).write(Space::Output, 2)), 1, 2, |step| {
            step.read(Space::Input, 1).write(Space::Output, 1)
        });
    let mut two_channels = one_shot(2);
    two_channels.steps.iter_mut().for_each(|channels| channels.push(channels[0].clone()));
    let early = with(barrier(), 0, vec![Step::of(0).put_pair(1)]);
    vec![
        bad("race", None, swapped.clone()),
        bad_in_place("race", None, swapped),
        bad("channels-share", None, two_channels),
        bad_in_place("lent-overwritten", None, altered(one_shot(2), 0, 0, |step| step.but_not(Flags::COPY))),
        bad("outlives-owner", (1, 2), without(without(owner(), 0, 4), 1, 3)),
        bad("window-closed", (0, 0), with(owner(), 0, owner().steps[0][0][2..].to_vec())),
        bad("leaves-early", None, with(early, 1, vec![Step::of(0).take_pair(0)])),
        bad_in_place("overlap", (0, 2), altered(owner(), 0, 2, |step| step.read(Space::Input, 1))),
    ]
}

fn bad_values() -> Vec<Bad> {
    let finish = |step: Step| step.but_not(Flags::FINISH);
    let mut scratch = one_shot(2);
    scratch.lens[0][2] = 4;
    let again = |extra: Step| {
        let mut program = one_shot(2);
        program.steps[0][0].push(extra);
        program
    };
    let out = Step::of(4).read(Space::Output, 0).write(Space::Output, 0);
    let in_order = |program: Listed| Bad {
        options: Options { reproducible: true, ..Options::default() },
        ..bad("not-left-fold", None, program)
    };
    let copied = |step: Step| step.also(Flags::COPY);
    let swap =
        |list: &[Step]| vec![copied(list[0]), copied(list[1]).write(Space::Output, 2), list[2].write(Space::Output, 0)];
    let ring = ring_all_gather(3);
    vec![
        bad("reads-unset", (0, 0), altered(scratch, 0, 0, |step| step.read(Space::Scratch, 0))),
        bad_in_place("reads-overwritten", (0, 2), again(Step::of(4).read(Space::Input, 0).write(Space::Output, 0))),
        bad_in_place("reads-unscaled", (0, 0), altered(one_shot(2), 0, 0, |step| step.read(Space::Output, 0))),
        bad("combines-final", (1, 1), combines_final()),
        bad("finishes-early", (0, 0), altered(one_shot(2), 0, 0, |step| step.also(Flags::FINISH))),
        bad("finishes-twice", (0, 2), again(out.also(Flags::FINISH))),
        bad("not-written", None, altered(one_shot(2), 0, 1, |step| step.write(Space::Scratch, 0))).with_scratch(),
        bad("not-finished", None, altered(one_shot(2), 0, 1, finish)),
        bad("wrong-contributions", None, with(one_shot(2), 0, own_only())),
        bad("wrong-element", None, with(ring.clone(), 0, swap(&ring.steps[0][0]))),
        bad("order-differs", None, pair_exchange(Flags::NONE, Flags::NONE)),
        in_order(pair_exchange(Flags::MESSAGE_FIRST, Flags::NONE)),
    ]
}

impl Bad {
    fn with_scratch(mut self) -> Bad {
        self.program.lens.iter_mut().for_each(|lens| lens[2] = 4);
        self
    }
}

/// Takes the other's message and shows it away.
fn own_only() -> Vec<Step> {
    let all = Step::of(4).read(Space::Input, 0);
    let take = Step::of(4).take_board(1).write(Space::Output, 0);
    vec![all.put_board(), take]
}

/// Two ranks exchange their inputs and combine, each with these flags.
fn pair_exchange(first: Flags, second: Flags) -> Listed {
    let all = Step::of(4).read(Space::Input, 0);
    let list = |other: u32, flags: Flags| {
        let combine = all.take_pair(other).write(Space::Output, 0).also(Flags::FINISH).also(flags);
        vec![all.put_pair(other), combine]
    };
    with(with(one_shot(2), 0, list(1, first)), 1, list(0, second))
}

/// Rank 0 finishes and sends, rank 1 combines that with its own.
fn combines_final() -> Listed {
    let all = Step::of(4).read(Space::Input, 0);
    let first = vec![all.take_pair(1).write(Space::Output, 0).put_pair(1).also(Flags::FINISH)];
    let second = vec![all.put_pair(0), all.take_pair(0).write(Space::Output, 0)];
    with(with(one_shot(2), 0, first), 1, second)
}

fn all_bad() -> Vec<Bad> {
    [bad_calls(), bad_steps(), bad_links(), bad_order(), bad_values()].into_iter().flatten().collect()
}

#[test]
fn each_wrong_program_gets_its_verdict_at_its_step() {
    let mut failures = String::new();
    for (i, bad) in all_bad().iter().enumerate() {
        match prove(&bad.program, &bad.options) {
            Ok(_) => failures += &format!("{i} {}: proved\n", bad.name),
            Err(violation) => {
                let at = match violation.place {
                    Where::Step(at) => Some((at.rank, at.index)),
                    _ => None,
                };
                if violation.wrong.name() != bad.name || bad.at.is_some_and(|wanted| at != Some(wanted)) {
                    failures += &format!("{i} {} at {:?}: {violation}\n", bad.name, bad.at);
                }
                assert!(!violation.to_string().is_empty());
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn every_verdict_has_a_program_that_gets_it() {
    let tried: BTreeSet<_> = all_bad().iter().map(|bad| bad.name).collect();
    for name in NAMES {
        assert!(tried.contains(name), "no program gets the verdict {name}");
    }
    assert_eq!(tried.len(), NAMES.len());
}

const NAMES: [&str; 37] = [
    "call",
    "length",
    "too-large",
    "malformed",
    "no-such-peer",
    "bounds",
    "awaits-twice",
    "reads-nothing",
    "reads-past-end",
    "releases-unread",
    "credits-twice",
    "puts-nowhere",
    "slot-overflow",
    "places-mismatch",
    "window-closed",
    "overlap",
    "left-unsent",
    "left-held",
    "left-unread",
    "deadlock",
    "race",
    "lent-overwritten",
    "channels-share",
    "outlives-owner",
    "leaves-early",
    "reads-unset",
    "reads-overwritten",
    "reads-unscaled",
    "combines-final",
    "finishes-early",
    "finishes-twice",
    "not-written",
    "not-finished",
    "wrong-contributions",
    "wrong-element",
    "order-differs",
    "not-left-fold",
];

const SCHEDULES: [Schedule; 4] =
    [Schedule::OldestFirst, Schedule::NewestFirst, Schedule::Seeded(1), Schedule::Seeded(20_240_229)];

#[test]
fn the_verdict_does_not_depend_on_the_order_in_which_ranks_run() {
    for (i, bad) in all_bad().iter().enumerate() {
        let verdicts = SCHEDULES.map(|schedule| prove(&bad.program, &Options { schedule, ..bad.options }));
        for verdict in &verdicts {
            let (first, other) = (verdicts[0].as_ref().expect_err("bad"), verdict.as_ref().expect_err("bad"));
            if first.wrong.is_race() {
                // Either of two racing steps may come second, and that one finds the race.
                assert_eq!(first.wrong.name(), other.wrong.name(), "program {i}");
            } else {
                assert_eq!(first, other, "program {i}");
            }
        }
    }
    for good in [one_shot(5), ring_all_gather(5), owner(), barrier(), broadcast()] {
        let reports = SCHEDULES.map(|schedule| proved(&good, &Options { schedule, ..Options::default() }));
        for report in reports {
            // How many slots are in use at once is a matter of the schedule.
            assert_eq!(Report { most_slots: 0, ..report }, Report { most_slots: 0, ..reports[0] });
        }
    }
}

#[test]
fn a_deadlock_is_told_as_a_circle_or_as_a_wait_for_one_that_ended() {
    let violation = prove(&backwards(barrier()), &Options::default()).expect_err("both wait");
    let text = violation.to_string();
    assert!(text.contains("rank 0, channel 0, step 0 waits for a message of the link from rank 1 to rank 0"), "{text}");
    assert!(text.contains("the last waits for the first"), "{text}");
    let ended = with(broadcast(), 0, vec![]);
    let text = prove(&ended, &Options::default()).expect_err("rank 0 does nothing").to_string();
    assert!(text.contains("that rank has no step left"), "{text}");
}

#[test]
fn a_wait_for_a_slot_is_told_with_the_rank_that_holds_it() {
    let put = |at| Step::of(1).read(Space::Input, at).write(Space::Output, at).put_pair(1);
    let back = Step::of(0).put_pair(0);
    let take = |at| Step::of(1).take_pair(0).write(Space::Output, at);
    let mut sender: Vec<Step> = (0..4).map(put).collect();
    sender.push(Step::of(0).take_pair(1));
    let mut reader: Vec<Step> = vec![back];
    reader.extend((0..4).map(take));
    let fine = with(with(broadcast(), 0, sender.clone()), 1, reader.clone());
    proved(&fine, &Options::default());
    // The reader waits for a word that the sender says only after four messages.
    sender.rotate_right(1);
    reader.rotate_left(1);
    let crossed = with(with(broadcast(), 0, sender), 1, reader);
    assert!(prove(&crossed, &Options::default()).is_err());
    let sender: Vec<Step> = (0..4).map(put).chain([Step::of(0).put_board()]).collect();
    let reader: Vec<Step> = [Step::of(0).fold_boards()].into_iter().chain((0..4).map(take)).collect();
    let full = with(with(broadcast(), 0, sender), 1, reader);
    let text = prove(&full, &Options::default()).expect_err("two slots are too few").to_string();
    assert!(
        text.contains("rank 0, channel 0, step 2 waits for a free slot of the link from rank 0 to rank 1"),
        "{text}"
    );
    proved(&full, &Options { slots: 4, ..Options::default() });
}

#[test]
fn an_input_that_was_scaled_once_is_not_scaled_again() {
    // Scaled when it is read, kept in scratch memory, combined from there.
    let all = Step::of(4).read(Space::Input, 0);
    let list = |other: u32, flags: Flags| {
        let kept = Step::of(4).read(Space::Scratch, 0).take_pair(other).write(Space::Output, 0);
        vec![all.put_pair(other).write(Space::Scratch, 0), kept.also(Flags::FINISH).also(flags)]
    };
    let mut program = with(with(one_shot(2), 0, list(1, Flags::NONE)), 1, list(0, Flags::MESSAGE_FIRST));
    program.lens.iter_mut().for_each(|lens| lens[2] = 4);
    proved(&program, &Options { reproducible: true, ..Options::default() });
    proved(&program, &in_place());
}
