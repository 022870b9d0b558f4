//! A hundred communicators share one budget for slots: whoever is idle gives back to whoever needs, and results stay right.

use crate::memory::{self, Memory};
use crate::ranks;
use ringtree::transport::shm::Budget;
use ringtree::{Communicator, Config, ReduceOp, Transport};
use std::sync::Mutex;

const COMMUNICATORS: usize = 100;

/// Bytes of the vectors.
const SIZES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];

/// What a rank has at most on one communicator besides slots: lines and counters, which no budget counts. 35 KiB with three ranks.
const LINES: i64 = 40 << 10;

/// An element that tells communicators, ranks, rounds and places apart, and whose sums are exact.
fn element(comm: usize, rank: usize, at: usize) -> f32 {
    (comm * 31 + rank * 7 + at % 1009) as f32
}

/// Each of the collectives that move much, with a result that is compared to the last element.
fn calls(comm: &Communicator, number: usize, bytes: usize) {
    let (count, rank, size) = (bytes / 4, comm.rank(), comm.size());
    let own: Vec<f32> = (0..count).map(|at| element(number, rank, at)).collect();
    let mut sum = own.clone();
    comm.all_reduce(&mut sum, ReduceOp::Sum).expect("an all_reduce");
    for (at, got) in sum.iter().enumerate() {
        let want: f32 = (0..size).map(|rank| element(number, rank, at)).sum();
        assert_eq!(*got, want, "all_reduce of {bytes} bytes on communicator {number} at {at}");
    }
    let root = number % size;
    let mut from_root = own.clone();
    comm.broadcast(&mut from_root, root).expect("a broadcast");
    assert!(from_root.iter().enumerate().all(|(at, got)| *got == element(number, root, at)), "broadcast {number}");
    let mut all = vec![0.0; count];
    let block = count / size;
    comm.all_gather(&own[..block], &mut all[..block * size]).expect("an all_gather");
    let right = |(at, got): (usize, &f32)| *got == element(number, at / block, at % block);
    assert!(all[..block * size].iter().enumerate().all(right), "all_gather {number}");
}

/// The limit has held up to now.
fn assert_within_budget() {
    let budget = Budget::process();
    assert!(budget.peak() <= budget.limit(), "{budget:?}, at most {}", budget.peak());
    assert!(budget.peak() > 0, "nothing was counted");
}

/// One of several processes that have a hundred communicators.
pub fn a_rank() {
    let base = ranks::join();
    let comms: Vec<_> = (0..COMMUNICATORS).map(|_| base.duplicate().expect("a communicator")).collect();
    for comm in &comms {
        comm.barrier().expect("a barrier");
    }
    base.barrier().expect("a barrier");
    let before = memory::segments();
    base.barrier().expect("a barrier");
    // All processes see the same segments, in which each may use as much as its budget says.
    let lines = LINES * (COMMUNICATORS * base.size()) as i64;
    let limit = Budget::process().limit();
    for round in 0..2 {
        for (number, comm) in comms.iter().enumerate() {
            calls(comm, number, SIZES[(number + round) % SIZES.len()]);
            assert_within_budget();
            let slots = memory::segments() - before;
            assert!(slots <= (limit * base.size()) as i64 + lines, "{slots} bytes in segments, budgets of {limit}");
        }
    }
    base.barrier().expect("a barrier");
    let mut used = [Budget::process().used() as i64];
    base.all_reduce(&mut used, ReduceOp::Sum).expect("an all_reduce");
    let slots = memory::segments() - before;
    base.barrier().expect("a barrier");
    eprintln!(
        "rank {} of {}: {COMMUNICATORS} communicators, peak {} of {limit}, all use {} in slots, segments have grown by {slots}",
        base.rank(),
        base.size(),
        Budget::process().peak(),
        used[0]
    );
    assert!(slots <= used[0] + lines, "{slots} bytes in segments, {} counted", used[0]);
}

#[test]
fn a_hundred_communicators_of_processes_stay_within_the_budget() {
    ranks::job("staging::a_rank", 3, &[("RINGTREE_STAGING", "16M")]);
}

#[test]
fn a_hundred_communicators_of_processes_live_on_a_tiny_budget() {
    ranks::job("staging::a_rank", 3, &[("RINGTREE_STAGING", "2M")]);
}

fn worlds(size: usize) -> Vec<Vec<Communicator>> {
    let config = Config { transport: Transport::Shm, ..Config::default() };
    (0..COMMUNICATORS).map(|_| Communicator::local_with(size, &config).expect("a world of threads")).collect()
}

/// Two threads that use a hundred communicators one after the other.
pub fn threads_in_turn() {
    let worlds = worlds(2);
    let before = Memory::now();
    std::thread::scope(|threads| {
        for rank in 0..2 {
            let worlds = &worlds;
            threads.spawn(move || {
                for (number, world) in worlds.iter().enumerate().cycle().take(2 * COMMUNICATORS) {
                    calls(&world[rank], number, SIZES[number % SIZES.len()]);
                    assert_within_budget();
                }
            });
        }
    });
    let grown = Memory::now().since(before).data;
    let budget = Budget::process();
    eprintln!("threads in turn: {budget:?}, peak {}, memory has grown by {grown}", budget.peak());
    // The vectors are gone, but the allocator may keep what they had.
    let vectors = 2 * 6 * SIZES[2] as i64;
    assert!(grown <= budget.used() as i64 + vectors + LINES * 2 * COMMUNICATORS as i64, "{grown} bytes, {budget:?}");
}

#[test]
fn a_hundred_communicators_of_threads_stay_within_the_budget() {
    ranks::alone("staging::threads_in_turn", &[("RINGTREE_STAGING", "16M")]);
}

#[test]
fn a_hundred_communicators_of_threads_live_on_a_tiny_budget() {
    ranks::alone("staging::threads_in_turn", &[("RINGTREE_STAGING", "2M")]);
}

/// Four pairs of threads at the same time, each pair with a quarter of the communicators.
pub fn threads_side_by_side() {
    const PAIRS: usize = 4;
    let worlds = worlds(2);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for (pair, worlds) in worlds.chunks(COMMUNICATORS / PAIRS).enumerate() {
            for rank in 0..2 {
                let failures = &failures;
                threads.spawn(move || {
                    let run = || {
                        for (number, world) in worlds.iter().enumerate() {
                            calls(&world[rank], pair * 100 + number, SIZES[(pair + number) % SIZES.len()]);
                            assert_within_budget();
                        }
                    };
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                        worlds.iter().for_each(|world| world[rank].abort("another test thread has failed"));
                        failures.lock().expect("failures").push((pair, rank));
                    }
                });
            }
        }
    });
    let failures = failures.into_inner().expect("failures");
    assert!(failures.is_empty(), "(pair, rank): {failures:?}");
    eprintln!("side by side: {:?}, peak {}", Budget::process(), Budget::process().peak());
}

#[test]
fn communicators_in_use_at_the_same_time_share_the_budget() {
    ranks::alone("staging::threads_side_by_side", &[("RINGTREE_STAGING", "16M")]);
}
