//! What ranks find out about each other when they meet: whether they can copy from each other's memory, and how far apart their cores are.

use super::links::ShmLinks;
use crate::sys::remote;
use crate::transport::Links;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A flag that goes to the other core and back in less than this shares a cache with it. Two cores of a Zen 2 with one third-level cache: 42
/// to 95 ns, with two: 270 to 430.
const NEAR: Duration = Duration::from_nanos(180);

/// Longer than a partner takes to come to the measurement, unless it has no processor.
const PATIENCE: Duration = Duration::from_millis(2);

const ROUNDS: u32 = 64;

/// Rounds whose time is taken together: the clock costs as much as a round.
const BATCH: u32 = 8;

/// Memory that this process shows to others, so that they see whether they can read it.
static SHOWN: AtomicU64 = AtomicU64::new(0);

/// Where a rank's shown word lies, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Shown {
    at: u64,
    word: u64,
}

impl Shown {
    /// This process's.
    pub fn own() -> Shown {
        let word = u64::from(std::process::id()) << 32 | 0x72_6e_67_74;
        SHOWN.store(word, Ordering::Relaxed);
        Shown { at: (&raw const SHOWN).expose_provenance() as u64, word }
    }
}

impl ShmLinks {
    /// Whether this rank can copy from the memory of every other; `shown` has a word of each rank's.
    pub fn can_fetch(&self, shown: &[Shown]) -> bool {
        let others = (0..self.size()).filter(|rank| *rank != self.rank());
        { others }.all(|rank| {
            let Some(shown) = shown.get(rank as usize) else { return false };
            let pid = self.process(rank).map_or(std::process::id() as i32, |process| process.pid());
            let mut word = 0u64;
            // SAFETY: the word is this function's own and has eight bytes.
            let read = unsafe { remote::read(pid, shown.at, (&raw mut word).cast(), 8) };
            read.is_ok() && word == shown.word
        })
    }

    /// Whether this rank's core shares a cache with that of its neighbour, by the time that a flag takes to go there and back. Ranks that
    /// share processors, or whose neighbour does not come in time, are taken to be near. All ranks must call it at the same time.
    pub fn is_far(&self) -> bool {
        let (ranks, processors) = self.crowding();
        let partner = self.rank() ^ 1;
        if ranks > processors || partner >= self.size() {
            return false;
        }
        self.round_trip(partner).is_some_and(|time| time >= NEAR)
    }

    /// The shortest time of a flag to that rank and back; None: it did not come.
    fn round_trip(&self, partner: u32) -> Option<Duration> {
        let (own, theirs) = (&self.segment().status(self.rank()).ping, &self.segment().status(partner).ping);
        let began = Instant::now();
        let (mut best, mut batch) = (Duration::MAX, began);
        for round in 1..=ROUNDS {
            if self.rank() < partner {
                own.store(round, Ordering::Release);
            }
            let mut looks = 0u32;
            while theirs.load(Ordering::Acquire) < round {
                looks += 1;
                if looks.is_multiple_of(64) && began.elapsed() > PATIENCE {
                    return None;
                }
                std::hint::spin_loop();
            }
            if self.rank() > partner {
                own.store(round, Ordering::Release);
            }
            if round.is_multiple_of(BATCH) {
                let now = Instant::now();
                best = best.min((now - batch) / BATCH);
                batch = now;
            }
        }
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, Segment};
    use super::*;
    use crate::plan::World;
    use std::sync::Arc;

    fn pair() -> Vec<ShmLinks> {
        let segment = Arc::new(Segment::private(2).unwrap());
        let links = |rank| ShmLinks::new(segment.clone(), rank, &World::flat(2), Budget::process().clone());
        (0..2).map(links).collect()
    }

    #[test]
    fn a_word_that_is_not_the_one_shown_is_no_access() {
        let links = pair();
        let shown = Shown::own();
        let can = links[0].can_fetch(&[shown, shown]);
        if !can {
            use std::io::Write;
            // Written, not printed: the harness keeps what tests print to itself.
            writeln!(std::io::stderr(), "skipped: copying from other processes: this machine does not allow it")
                .expect("a line");
        }
        assert!(!links[0].can_fetch(&[shown, Shown { word: !shown.word, ..shown }]));
        assert!(!links[0].can_fetch(&[shown, Shown { at: 8, ..shown }]));
        assert!(!links[0].can_fetch(&[shown]), "a rank that shows nothing");
    }

    #[test]
    fn a_neighbour_that_does_not_come_is_near() {
        let links = pair();
        assert!(!links[0].is_far());
        assert!(links[1].round_trip(0).is_none(), "one flag is not all rounds");
    }

    #[test]
    fn neighbours_that_meet_have_a_round_trip() {
        let links = pair();
        let mut links = links.into_iter();
        let (first, second) = (links.next().unwrap(), links.next().unwrap());
        // Where the two threads share a processor they may miss each other; then there is no time.
        let times = std::thread::scope(|threads| {
            let other = threads.spawn(move || second.round_trip(0));
            (first.round_trip(1), other.join().unwrap())
        });
        assert!(times.0.is_none_or(|time| time > Duration::ZERO));
    }
}
