//! Ranks that are killed while the job starts, and ranks that never come.

use crate::chance::{self, Chance, SEED};
use crate::jobs::{Job, Meeting, alone, side_by_side};
use std::time::Duration;

/// RINGTREE_INIT_TIMEOUT where somebody never comes.
const INIT_TIMEOUT: &str = "0.8";

/// What a survivor says.
#[derive(PartialEq)]
enum Saw {
    Lost,
    NeverCame,
    LostAfterTheStart,
}

/// Kills ranks while they find each other. Who was killed before anybody knew of it is one that never comes.
fn kill_at_the_start(meeting: Meeting, count: u64) {
    let seed = chance::seed();
    let saw: Vec<Saw> =
        side_by_side(0..count, |number| kill_one(seed, number, meeting)).into_iter().flatten().collect();
    let number = |kind| saw.iter().filter(|one| **one == kind).count();
    let (lost, missing, late) = (number(Saw::Lost), number(Saw::NeverCame), number(Saw::LostAfterTheStart));
    println!(
        "{count} kills at the start ({meeting:?}): {lost} survivors lost the victim, {missing} never saw it, {late} had joined"
    );
}

fn kill_one(seed: u64, number: u64, meeting: Meeting) -> Vec<Saw> {
    let mut chance = Chance::new(seed, 3000 + number + 1000 * meeting as u64);
    let size = 2 + chance.below(3) as usize;
    // The process that serves the start at an address is rank 0's.
    let victim = if number.is_multiple_of(2) { 0 } else { chance.below(size as u64) as usize };
    let mut job = Job::new("mix", size, meeting).with(SEED, seed + number);
    job = job.with("RINGTREE_INIT_TIMEOUT", INIT_TIMEOUT).start_all();
    job.expect(victim, "joining");
    std::thread::sleep(Duration::from_micros(chance.size(40_000)));
    job.kill(victim);
    let survivors = (0..size).filter(|rank| *rank != victim);
    let saw = survivors.map(|rank| {
        let failure = job.failure(rank);
        assert_eq!(failure.culprits, [victim], "rank {rank}: {failure:?}\n{}", job.report());
        match failure.kind.as_str() {
            _ if job.hear(rank, "joined").is_some() => Saw::LostAfterTheStart,
            "Start" => Saw::NeverCame,
            _ => Saw::Lost,
        }
    });
    let saw = saw.collect();
    job.end(&[victim]);
    saw
}

#[test]
fn a_rank_killed_while_the_job_starts_is_named_by_every_survivor() {
    let _alone = alone();
    kill_at_the_start(Meeting::Id, 16);
}

#[test]
fn a_rank_killed_while_rank_zero_serves_the_start_is_named_also_if_it_is_rank_zero() {
    let _alone = alone();
    kill_at_the_start(Meeting::Address, 16);
}

#[test]
fn ranks_that_never_come_are_listed_by_all_others() {
    let _alone = alone();
    let cases = [
        (Meeting::Id, 2, vec![1]),
        (Meeting::Id, 4, vec![0, 2]),
        (Meeting::Id, 4, vec![1, 2, 3]),
        (Meeting::Address, 3, vec![2]),
        (Meeting::Address, 4, vec![1, 3]),
        // Nobody but rank 0 could know who else is missing.
        (Meeting::Address, 3, vec![0]),
    ];
    side_by_side(cases, |(meeting, size, absent)| {
        let mut job = Job::new("one", size, meeting).with("RINGTREE_INIT_TIMEOUT", "0.7");
        (0..size).filter(|rank| !absent.contains(rank)).for_each(|rank| job.start(rank, &[]));
        let came: Vec<usize> = job.ranks.keys().copied().collect();
        for rank in came {
            let failure = job.failure(rank);
            let listed = failure.kind == "Start" && failure.culprits == absent;
            assert!(listed, "{absent:?} of {size} ({meeting:?}): rank {rank} says {failure:?}\n{}", job.report());
            assert!(failure.text.contains("RINGTREE_INIT_TIMEOUT"), "what to do: {failure:?}");
        }
        job.end(&[]);
    });
}
