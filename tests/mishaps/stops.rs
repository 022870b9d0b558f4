//! Ranks that are stopped: all others name them at the deadline, with the operation.

use crate::chance::{self, Chance, SEED};
use crate::jobs::{Job, Meeting, alone, side_by_side};
use std::time::Duration;

/// RINGTREE_TIMEOUT of these jobs: long for a rank that runs, even on a busy machine.
const TIMEOUT: &str = "0.4";

/// Stops one rank. False: a rank that nobody had stopped was too slow before (a busy machine), nothing can be said.
fn stop_one(seed: u64, number: u64) -> bool {
    let mut chance = Chance::new(seed, 1000 + number);
    let size = 2 + chance.below(3) as usize;
    let victim = chance.below(size as u64) as usize;
    let mut job = Job::new("mix", size, Meeting::Id).with(SEED, seed + number);
    job = job.with("RINGTREE_TIMEOUT", TIMEOUT).start_all();
    let began = job.ranks.keys().all(|rank| job.hear(*rank, "mixing").is_some());
    if !began {
        return false;
    }
    std::thread::sleep(Duration::from_micros(chance.below(60_000)));
    let at = job.stop(victim);
    let survivors: Vec<usize> = (0..size).filter(|rank| *rank != victim).collect();
    let failures: Vec<_> = survivors.iter().map(|rank| job.failure(*rank)).collect();
    if failures.iter().any(|failure| failure.at < at + 100_000_000) {
        return false;
    }
    for failure in &failures {
        let named = failure.culprits == [victim] && failure.text.contains(&format!("rank {victim}, "));
        let said = failure.kind == "Timeout" && failure.text.contains("stopped") && failure.text.contains("operation");
        assert!(named && said, "rank {victim} was stopped: {failure:?}\n{}", job.report());
    }
    job.end(&[victim]);
    true
}

#[test]
fn a_stopped_rank_is_named_at_the_deadline_by_all_others() {
    let _alone = alone();
    let seed = chance::seed();
    let (wanted, tries) = (42, 60);
    let (mut done, mut number) = (0, 0);
    while done < wanted {
        assert!(number < tries, "only {done} of {number} jobs ran until their rank was stopped");
        let outcomes = side_by_side(number..number + 4, |one| stop_one(seed, one));
        number += outcomes.len() as u64;
        done += outcomes.into_iter().filter(|told| *told).count();
    }
    println!("{done} stops of {number} jobs, each named by all others at a deadline of {TIMEOUT} s");
}

#[test]
fn a_rank_stopped_while_communicators_are_made_is_named() {
    let _alone = alone();
    let seed = chance::seed();
    side_by_side(0..8, |number| {
        let mut chance = Chance::new(seed, 2000 + number);
        let victim = chance.below(3) as usize;
        // The time that a start may take, here a minute, is none that a split may take.
        let mut job = Job::new("splits", 3, Meeting::Id).with("RINGTREE_TIMEOUT", "1").start_all();
        job.expect_all("joined");
        std::thread::sleep(Duration::from_micros(chance.below(30_000)));
        let at = job.stop(victim);
        for rank in (0..3).filter(|rank| *rank != victim) {
            let failure = job.failure(rank);
            assert!(failure.at < at + 30_000_000_000, "rank {rank} waited for the start's deadline: {failure:?}");
            assert_eq!(failure.culprits, [victim], "rank {rank}: {failure:?}\n{}", job.report());
        }
        job.end(&[victim]);
    });
}
