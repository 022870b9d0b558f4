//! Programs written by hand, against times worked out by hand.

use super::*;
use crate::check::Listed;
use crate::plan::{Flags, Plan, Space, Step, Tuning, World};
use crate::types::{Call, Collective, DataType, Reduction};
use alloc::vec;

/// A fabric whose numbers are easy to add up.
const EASY: Fabric = Fabric {
    near: Class { latency_ns: 10, put_ps: 1000, take_ps: 2000 },
    far: Class { latency_ns: 100, put_ps: 5000, take_ps: 7000 },
    memory_ps: 1000,
    step_ns: 3,
    slots: 2,
    sharing: Sharing::OneCore,
};

/// A program of one channel, from the steps of each rank; elements of one byte.
fn script(steps: Vec<Vec<Step>>) -> Listed {
    among(World::flat(steps.len() as u32), steps)
}

fn among(world: World, steps: Vec<Vec<Step>>) -> Listed {
    let call = Call::new(Collective::AllReduce, DataType::U8, Reduction::Sum, 0, 1000);
    let ranks = steps.len();
    let steps = steps.into_iter().map(|steps| vec![steps]).collect();
    Listed { world, calls: vec![call; ranks], slot_len: 1000, slots: 1, lens: vec![[1000; 3]; ranks], steps }
}

fn with_slots(slots: u32) -> Fabric {
    Fabric { slots, ..EASY }
}

fn send(len: u32, to: u32) -> Step {
    Step::of(len).read(Space::Input, 0).put_pair(to)
}

fn receive(len: u32, from: u32) -> Step {
    Step::of(len).take_pair(from).write(Space::Output, 0)
}

#[test]
fn one_message_between_two_ranks_takes_what_is_worked_out_by_hand() {
    // Sender: 3 ns + 100 bytes × (1 ns memory + 1 ns put) = 203 ns. Arrives 10 ns later.
    // Receiver: 3 ns + 100 × (2 ns take + 1 ns memory) = 303 ns.
    let program = script(vec![vec![send(100, 1)], vec![receive(100, 0)]]);
    let history = history(&program, &EASY, 100).unwrap();
    assert_eq!(history.messages.len(), 1);
    let message = &history.messages[0];
    assert_eq!((message.from, message.to, message.sent, message.arrived), (0, 1, 203_000, 213_000));
    let receiver = history.spans.iter().find(|span| span.rank == 1).unwrap();
    assert_eq!((receiver.asked, receiver.start, receiver.end), (0, 213_000, 516_000));
    assert_eq!(predict(&program, &EASY), Ok(516));
}

#[test]
fn a_link_between_domains_costs_what_a_far_link_costs() {
    let program = among(World::domains(&[1, 1]), vec![vec![send(100, 1)], vec![receive(100, 0)]]);
    // 3 + 100 × (1 + 5), 100 of latency, 3 + 100 × (7 + 1).
    assert_eq!(predict(&program, &EASY), Ok(603 + 100 + 803));
}

#[test]
fn a_writer_waits_for_the_slot_that_the_reader_still_holds() {
    // Sends of 3 ns + 10 × 2; receives of 3 + 10 × 3 = 33 ns.
    let program = script(vec![vec![send(10, 1); 4], vec![receive(10, 0); 4]]);
    // Enough slots: the reader is the slower one: 23 + 10 + 4 × 33.
    assert_eq!(predict(&program, &with_slots(4)), Ok(165));
    // One slot: each round is 23 + 10 + 33, and 10 for the credit to come back before the next.
    assert_eq!(predict(&program, &with_slots(1)), Ok(4 * 66 + 3 * 10));
    let waits: Vec<u64> = history(&program, &with_slots(1), 100)
        .unwrap()
        .spans
        .iter()
        .filter(|span| span.rank == 0)
        .map(|span| (span.start - span.asked) / 1000)
        .collect();
    assert_eq!(waits, [0, 53, 53, 53]);
}

#[test]
fn a_message_written_and_read_in_parts_is_one_message() {
    let part = Step::of(5).read(Space::Input, 0).put_pair(1);
    let half = Step::of(5).take_pair(0).write(Space::Output, 0);
    let program = script(vec![
        vec![part.but_not(Flags::SIGNAL), part.but_not(Flags::CREDIT)],
        vec![half.but_not(Flags::RELEASE), half.but_not(Flags::AWAIT)],
    ]);
    let history = history(&program, &EASY, 100).unwrap();
    // Two parts of 3 + 5 × 2 = 13, then 10, then two of 3 + 5 × 3 = 18.
    assert_eq!((history.end, history.messages.len()), (72_000, 1));
}

#[test]
fn a_board_is_free_again_only_when_its_last_reader_is_done() {
    let post = Step::of(10).read(Space::Input, 0).put_board();
    let read = |len| Step::of(len).take_board(0).write(Space::Output, 0);
    let program = script(vec![vec![post, post], vec![read(10); 2], vec![read(100), read(10)]]);
    // 23 to post, 10 on the way, the slow reader 3 + 100 × 3, 10 back, 23, 10, 33.
    assert_eq!(predict(&program, &with_slots(1)), Ok(23 + 10 + 303 + 10 + 23 + 10 + 33));
}

#[test]
fn a_fold_waits_for_its_last_message_and_pays_for_each() {
    let fold = Step::of(10).read(Space::Input, 0).fold_pairs().write(Space::Output, 0);
    let program = script(vec![vec![fold], vec![send(10, 0)], vec![send(10, 0), send(10, 0)]]);
    // Ready at 33; 3 + 10 × (2 × 2 takes + 2 memory).
    let history = history(&program, &EASY, 100).unwrap();
    let fold = history.spans.iter().find(|span| span.rank == 0).unwrap();
    assert_eq!((fold.start, fold.end), (33_000, 96_000));
}

#[test]
fn channels_share_a_core_or_do_not() {
    let copy = Step::of(10).read(Space::Input, 0).write(Space::Output, 0);
    let mut program = script(vec![vec![copy]]);
    program.steps[0].push(vec![copy]);
    assert_eq!(predict(&program, &EASY), Ok(46));
    assert_eq!(predict(&program, &Fabric { sharing: Sharing::Parallel, ..EASY }), Ok(23));
}

/// The ring all-reduce: every rank sends its own slice, then reduces and passes on n − 2 times, finishes one, passes n − 2 finished
/// slices on, and keeps the last.
fn ring(n: u32, len: u32) -> Listed {
    let rank = |r: u32| {
        let (next, before) = ((r + 1) % n, (r + n - 1) % n);
        let mut steps = vec![send(len, next)];
        let reduce = Step::of(len).read(Space::Input, 0).take_pair(before);
        steps.extend(vec![reduce.put_pair(next); n as usize - 2]);
        steps.push(reduce.write(Space::Output, 0).put_pair(next));
        steps.extend(vec![receive(len, before).put_pair(next); n as usize - 2]);
        steps.push(receive(len, before));
        steps
    };
    script((0..n).map(rank).collect())
}

#[test]
fn a_ring_of_n_takes_what_the_closed_form_says() {
    for (n, len) in [(2, 7), (3, 1), (8, 100), (64, 10)] {
        let b = len as u64;
        // (operands and sinks in memory, takes, puts) of each kind of step.
        let step = |memory: u64, takes: u64, puts: u64| 3 + b * (memory + 2 * takes + puts);
        let reduce = (n as u64 - 2) * (10 + step(1, 1, 1)) + 10 + step(2, 1, 1);
        let gather = (n as u64 - 2) * (10 + step(1, 1, 1)) + 10 + step(1, 1, 0);
        assert_eq!(predict(&ring(n, len), &EASY), Ok(step(1, 0, 1) + reduce + gather), "n = {n}, len = {len}");
    }
}

#[test]
fn a_program_that_waits_for_ever_is_said_to_be_stuck_and_where() {
    let stuck = predict(&script(vec![vec![receive(1, 1)], vec![receive(1, 0)]]), &EASY).unwrap_err();
    assert_eq!((stuck.rank, stuck.index), (0, 0));
    assert!(stuck.to_string().contains("never comes"));
    let broken = predict(&script(vec![vec![send(1, 1).but_not(Flags::CREDIT)], vec![]]), &EASY).unwrap_err();
    assert!(broken.to_string().contains("does not fill"));
    let greedy = receive(1, 0).but_not(Flags::AWAIT);
    let broken = predict(&script(vec![vec![], vec![greedy]]), &EASY).unwrap_err();
    assert!(broken.to_string().contains("does not hold"));
}

#[test]
fn an_endless_program_ends_and_a_long_history_is_bounded() {
    let program = ring(8, 10);
    assert!(simulate(&program, &EASY, 20, &mut |_| ()).unwrap_err().to_string().contains("too long"));
    let short = history(&program, &EASY, 5).unwrap();
    assert_eq!((short.spans.len(), short.messages.len()), (5, 5));
    assert_eq!(short.left_out, 8 * 15 - 5 + 8 * 14 - 5);
}

#[test]
fn the_ring_of_the_planner_takes_what_the_closed_form_says() {
    for n in [2u32, 5, 16] {
        let call = Call::new(Collective::AllReduce, DataType::U8, Reduction::Sum, 0, 64 * u64::from(n));
        let tuning = Tuning { algorithm: Some(crate::plan::Algorithm::Ring), channels: Some(1), ..Tuning::default() };
        let plan = Plan::new(&World::flat(n), &call, &tuning).unwrap();
        let hops = 2 * (u64::from(n) - 1);
        let time = predict(&plan, &EASY).unwrap();
        // Each hop is a latency, an overhead and 64 bytes taken, put and read or written; the first step has only the put, and steps
        // that end a slice have one more access.
        assert!(time >= hops * (10 + 3 + 64 * 4) && time <= hops * (10 + 3 + 64 * 5) + 3 + 64 * 2, "n = {n}: {time}");
    }
}
