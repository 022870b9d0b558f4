//! Patience: what to do while everything is blocked.
//!
//! ```text
//!   blocked ──> spin ──────> yield ─────────────> look for trouble, sleep ──> … ──> deadline
//!               ~ 150 µs     ~ 1 ms                every 10 ms
//!               (a few ns where ranks share processors: the one waited for may need this one)
//! ```
//!
//! Pure: the caller passes the time in, and does what it is told.

use std::time::Duration;

/// Spins before the first yield when every rank has a processor of its own. One spin is a poll of the links and a pause, 20 to 60 ns: enough
/// for a round trip between two hosts, whose end should meet no yield (14 us in a guest of user-mode Linux; with 1500 spins, 50 us, half of
/// the round trips of 80 us did).
const SPINS_ALONE: u32 = 5000;

/// The same when ranks share processors. A message that is just crossing from the other core takes about 100 ns.
const SPINS_CROWDED: u32 = 4;

/// Yields before the first look at the clock, and between two of them: where there is no clock without a system call, it costs as much as
/// a yield.
const YIELDS_PER_LOOK: u32 = 16;

/// After this long without progress a rank sleeps.
const SLEEP_AFTER: Duration = Duration::from_millis(1);

/// The longest sleep between two looks for trouble: a killed peer is noticed within this and a little.
const NAP: Duration = Duration::from_millis(10);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Poll again after a pause instruction.
    Spin,
    /// Give the processor to somebody else, then poll again.
    Yield,
    /// Say how long it has been since the last progress (`waited`), then ask again.
    Clock,
    /// Look for trouble, then sleep at most that long.
    Sleep(Duration),
    /// The deadline has passed.
    GiveUp,
}

/// One wait's memory. Made anew for each operation; `progressed` begins it anew within one.
#[derive(Clone, Debug)]
pub struct Pace {
    spins_allowed: u32,
    deadline: Duration,
    spins: u32,
    yields: u32,
    asked: bool,
}

impl Pace {
    /// With `ranks` on `processors`, and that much patience without any progress.
    pub fn new(ranks: u32, processors: u32, deadline: Duration) -> Pace {
        let spins_allowed = if ranks <= processors { SPINS_ALONE } else { SPINS_CROWDED };
        Pace { spins_allowed, deadline, spins: 0, yields: 0, asked: false }
    }

    /// Something moved: patience begins anew. True: a wait that was timed ends here.
    #[inline]
    pub fn progressed(&mut self) -> bool {
        let timed = self.asked;
        (self.spins, self.yields, self.asked) = (0, 0, false);
        timed
    }

    /// What to do next, without a look at the clock.
    #[inline]
    pub fn advise(&mut self) -> Patience {
        if self.spins < self.spins_allowed {
            self.spins += 1;
            return Patience::Spin;
        }
        if self.yields >= YIELDS_PER_LOOK {
            self.asked = true;
            self.yields = 0;
            return Patience::Clock;
        }
        self.yields += 1;
        Patience::Yield
    }

    /// What to do, given how long it has been since the last progress.
    pub fn after(&mut self, waited: Duration) -> Patience {
        if waited >= self.deadline {
            return Patience::GiveUp;
        }
        if waited < SLEEP_AFTER {
            return Patience::Yield;
        }
        self.yields = YIELDS_PER_LOOK;
        Patience::Sleep(NAP.min(self.deadline - waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_spins_then_yields_then_sleeps_then_gives_up() {
        let mut pace = Pace::new(2, 2, Duration::from_secs(1));
        for _ in 0..SPINS_ALONE {
            assert_eq!(pace.advise(), Patience::Spin);
        }
        for _ in 0..YIELDS_PER_LOOK {
            assert_eq!(pace.advise(), Patience::Yield);
        }
        assert_eq!(pace.advise(), Patience::Clock);
        assert_eq!(pace.after(Duration::ZERO), Patience::Yield);
        for _ in 0..YIELDS_PER_LOOK {
            assert_eq!(pace.advise(), Patience::Yield);
        }
        assert_eq!(pace.advise(), Patience::Clock);
        assert_eq!(pace.after(Duration::from_millis(2)), Patience::Sleep(NAP));
        assert_eq!(pace.advise(), Patience::Clock, "after a sleep the clock is looked at again");
        assert_eq!(pace.after(Duration::from_millis(995)), Patience::Sleep(Duration::from_millis(5)));
        assert_eq!(pace.after(Duration::from_secs(1)), Patience::GiveUp);
    }

    #[test]
    fn progress_begins_patience_anew() {
        let mut pace = Pace::new(4, 2, Duration::from_secs(1));
        while pace.advise() != Patience::Clock {}
        assert!(pace.progressed());
        assert_eq!(pace.advise(), Patience::Spin);
        assert!(!pace.progressed());
    }

    #[test]
    fn ranks_that_share_processors_hardly_spin() {
        let mut pace = Pace::new(3, 2, Duration::from_secs(1));
        let spins = std::iter::from_fn(|| (pace.advise() == Patience::Spin).then_some(())).count();
        assert_eq!(spins as u32, SPINS_CROWDED);
    }
}
