//! Ranks killed while the job ends: some have dropped their communicator before, and they are not to blame.

use crate::chance::{self, Chance, SEED};
use crate::jobs::{Job, Meeting, alone};
use crate::kills::Delays;
use std::time::Duration;

#[test]
fn a_rank_killed_when_others_have_left_is_named_and_those_who_left_are_not() {
    let _alone = alone();
    let mut delays = Delays::default();
    for (size, victim) in [(3, 1), (3, 2), (4, 1), (4, 3)] {
        let mut job = Job::new("part", size, Meeting::Id).with("MISHAP_AWAITED", victim);
        for rank in 0..size {
            job.start(rank, if rank == victim { &[("MISHAP_VICTIM", "1")] } else { &[] });
        }
        (1..size).for_each(|rank| drop(job.expect(rank, "mixing")));
        job.expect(0, "done");
        let at = job.kill(victim);
        let first = job.ranks.remove(&0);
        delays.survivors_name(&job, victim, at);
        job.ranks.extend(first.map(|first| (0, first)));
        job.end(&[victim]);
    }
    delays.judge("kills after others have left");
}

#[test]
fn a_rank_killed_after_its_last_operation_harms_nobody() {
    let _alone = alone();
    for victim in [0, 2] {
        let mut job = Job::new("last words", 3, Meeting::Address);
        for rank in 0..3 {
            job.start(rank, if rank == victim { &[("MISHAP_VICTIM", "1")] } else { &[] });
        }
        job.expect(victim, "gone");
        job.kill(victim);
        (0..3).filter(|rank| *rank != victim).for_each(|rank| drop(job.expect(rank, "done")));
        job.end(&[victim]);
    }
}

#[test]
fn a_kill_somewhere_in_a_short_life_ends_in_the_victims_name_or_in_success() {
    let _alone = alone();
    let seed = chance::seed();
    let (mut named, mut succeeded) = (0, 0);
    for number in 0..16 {
        let mut chance = Chance::new(seed, 4000 + number);
        let size = 2 + chance.below(3) as usize;
        let victim = chance.below(size as u64) as usize;
        let mut job = Job::new("short life", size, Meeting::Id).with(SEED, seed + number).start_all();
        job.expect_all("joined");
        std::thread::sleep(Duration::from_micros(chance.below(150_000)));
        job.kill(victim);
        for rank in (0..size).filter(|rank| *rank != victim) {
            if job.hear(rank, "done").is_some() {
                succeeded += 1;
                continue;
            }
            let failure = job.failure(rank);
            assert_eq!(failure.culprits, [victim], "rank {rank}: {failure:?}\n{}", job.report());
            named += 1;
        }
        job.end(&[victim]);
    }
    println!("16 kills in short lives: {named} survivors named the victim, {succeeded} had all they needed");
}
