//! Ranks killed at any moment: every survivor names the victim, within a second.

use crate::chance::{self, Chance, SEED};
use crate::jobs::{Job, Meeting, alone};
use std::time::Duration;

/// What is asked for, and what nothing may exceed however busy the machine is.
const SOON: u64 = 1_000_000_000;
const AT_ALL: u64 = 5_000_000_000;

/// From the kill to the errors of the survivors.
#[derive(Default)]
pub struct Delays(Vec<u64>);

impl Delays {
    /// Waits until every survivor has named the victim.
    pub fn survivors_name(&mut self, job: &Job, victim: usize, at: u64) {
        for rank in job.ranks.keys().copied().filter(|rank| *rank != victim) {
            let failure = job.failure(rank);
            let named = failure.culprits == [victim] && failure.text.contains(&format!("rank {victim}"));
            assert!(named, "rank {victim} was killed, rank {rank} says {failure:?}\n{}", job.report());
            let heard = job.hear(rank, "fell").map_or(failure.at, |line| line.at);
            assert!(heard > at, "rank {rank} ended before the kill: {failure:?}");
            self.0.push(heard - at);
        }
    }

    /// Says how long it took, and fails if that was too long.
    pub fn judge(mut self, what: &str) {
        self.0.sort_unstable();
        let at = |part: f64| self.0[((self.0.len() - 1) as f64 * part) as usize] as f64 / 1e6;
        println!(
            "{what}: {} errors, milliseconds from kill to error: min {:.1}, median {:.1}, 90 % {:.1}, 99 % {:.1}, max {:.1}",
            self.0.len(),
            at(0.0),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
        // On a machine that others use too, a process may not get a processor for a while.
        let late = self.0.iter().filter(|delay| **delay >= SOON).count();
        assert!(late * 50 <= self.0.len(), "{late} of {} errors came after more than a second", self.0.len());
        assert!(self.0.iter().all(|delay| *delay < AT_ALL), "an error took more than 5 s");
    }
}

/// Starts `count` jobs of 2 to 4 ranks and kills one rank of each at some moment after the word.
fn kill_some(role: &str, word: &str, count: u64, longest: u64) {
    let _alone = alone();
    let seed = chance::seed();
    let mut delays = Delays::default();
    for number in 0..count {
        let mut chance = Chance::new(seed, 100 + number);
        let size = 2 + chance.below(3) as usize;
        let victim = chance.below(size as u64) as usize;
        let meeting = if chance.below(4) == 0 { Meeting::Address } else { Meeting::Id };
        let mut job = Job::new(role, size, meeting).with(SEED, seed + number).start_all();
        job.expect_all(word);
        std::thread::sleep(Duration::from_micros(chance.below(longest)));
        let at = job.kill(victim);
        delays.survivors_name(&job, victim, at);
        job.end(&[victim]);
    }
    delays.judge(&format!("{count} kills while '{role}'"));
}

#[test]
fn a_rank_killed_at_any_moment_of_any_operation_is_named_by_every_survivor() {
    kill_some("mix", "mixing", 64, 60_000);
}

#[test]
fn a_rank_killed_while_communicators_are_made_is_named_by_every_survivor() {
    kill_some("splits", "joined", 24, 30_000);
}

#[test]
fn survivors_keep_their_registered_buffers_when_a_rank_is_killed() {
    kill_some("hold", "mixing", 8, 20_000);
}
