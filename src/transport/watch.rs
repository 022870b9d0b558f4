//! What keeps a wait from lasting for ever: every rank says what it does, and looks what the others do when something takes long.

use super::{Blocked, Links};
use crate::types::{Call, Collective, DataType, Reduction};
use std::time::Duration;

/// The part of a rank's links that names culprits, wakes sleepers and spreads bad news. Nothing here is on the short path but
/// `announce` and `finish`, which are stores to a cache line of this rank's own.
pub trait Watch: Links {
    /// Notes that this rank begins a call.
    fn announce(&mut self, entered: &Entered);

    /// Notes that this rank has ended that call.
    fn finish(&mut self, number: u64);

    /// The number of the last call that a rank has ended. What it sent in that call can be seen by whoever has seen
    /// this number. 0: not known.
    fn finished(&self, rank: u32) -> u64;

    /// Whether somebody has ended the communicator: a glance, at the beginning of every call.
    fn aborted(&self) -> bool;

    /// Looks for a reason why a wait in that call will not end.
    fn trouble(&mut self, number: u64, blocked: Blocked) -> Option<Trouble>;

    /// What a rank called under that number, if that is known here.
    fn entered(&self, rank: u32, number: u64) -> Option<Entered>;

    /// Finds out what that rank does, if that takes no longer than a moment: an error is about to name it.
    fn inquire(&mut self, _rank: u32) {}

    /// For whom that rank waits, if it has waited for long enough to say so.
    fn waiting_for(&self, rank: u32) -> Option<u32>;

    /// Whether that rank can be seen to be stopped. What it says it waits for may be long over then.
    fn stopped(&self, rank: u32) -> bool;

    /// What that rank is doing, as far as that can be seen from a wait in that call.
    fn describe(&self, rank: u32, number: u64) -> String;

    /// Who is to blame for a wait that has lasted too long: follows who waits for whom, to those who wait for nobody.
    fn suspects(&self, number: u64, blocked: Blocked) -> Vec<Suspect> {
        let rank = end_of_line(self, blocked.rank());
        vec![Suspect { rank, doing: self.describe(rank, number) }]
    }

    /// Says that this rank is about to sleep; whoever publishes from now on wakes it. Look once more before `sleep`.
    fn doze(&mut self, blocked: Blocked);

    /// How long a nap serves this wait better than giving the processor to somebody else for a moment only. None: that is better.
    fn nap(&mut self, _blocked: Blocked) -> Option<Duration> {
        None
    }

    /// Sleeps until somebody wakes this rank, at most that long.
    fn sleep(&mut self, limit: Duration);

    /// Takes `doze` back. What this rank waits for is still said: it may only have looked around.
    fn rise(&mut self);

    /// Says that this rank has got what it waited for.
    fn go_on(&mut self);

    /// Ends the communicator for all ranks; the first reason counts. Returns the one that does.
    fn abort(&mut self, abort: Abort) -> Abort;

    /// Returns when no other rank is in this rank's buffers, nor comes in any more. The communicator has ended before (`abort`). Whoever
    /// is inside copies memory and waits for nobody, so this takes no longer than a copy; a rank that is gone, has left or is stopped
    /// is not waited for.
    fn withdraw(&mut self);

    /// An operation has failed on this rank: others may be late with what they still write to its windows.
    fn failed(&mut self) {}

    /// How many ranks share how many processors: (ranks on this host, processors this process may use).
    fn crowd(&self) -> (u32, u32);
}

/// From `first` on, whom each waits for, up to a rank that waits for nobody or is stopped. In a circle: a rank of it, or `first` where
/// this rank itself belongs to it.
pub(super) fn end_of_line<W: Watch + ?Sized>(watch: &W, first: u32) -> u32 {
    let mut seen = vec![watch.rank()];
    let mut rank = first;
    while !seen.contains(&rank) {
        seen.push(rank);
        match watch.waiting_for(rank).filter(|next| *next < watch.size() && !watch.stopped(rank)) {
            Some(next) => rank = next,
            None => return rank,
        }
    }
    if rank == watch.rank() { first } else { rank }
}

/// A reason why a wait will not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Somebody has ended the communicator.
    Aborted(Abort),
    /// A rank is gone.
    Lost {
        /// Who.
        rank: u32,
        /// How that was noticed.
        how: String,
    },
    /// A rank called something else under the same number.
    Disagreement {
        /// Who.
        rank: u32,
        /// What.
        theirs: Entered,
    },
}

/// A rank that others wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Who.
    pub rank: u32,
    /// What it is doing, as far as that can be seen.
    pub doing: String,
}

/// Why a communicator ended, as every rank reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Who said so.
    pub by: u32,
    /// A number that the error type gives a meaning.
    pub kind: u32,
    /// The rank that is to blame.
    pub culprit: u32,
    /// A second rank, where two disagree.
    pub other: u32,
    /// In words.
    pub text: String,
}

/// What an abort's `kind` means. The numbers go through shared memory and are never reused.
impl Abort {
    /// Ranks disagree; the text has both sides.
    pub const MISMATCH: u32 = 1;
    /// The culprit is gone.
    pub const LOST: u32 = 2;
    /// The culprit was waited for too long.
    pub const TIMEOUT: u32 = 3;
    /// Somebody called abort.
    pub const CALLED: u32 = 4;
    /// The culprit sent what makes no sense, or its system refused something.
    pub const BROKEN: u32 = 5;

    /// The same abort with ranks that exist, of so many, and a text that is safe to print, whatever its author wrote.
    pub(super) fn believable(mut self, ranks: u32) -> Abort {
        self.by = self.by.min(ranks - 1);
        for rank in [&mut self.culprit, &mut self.other] {
            if *rank >= ranks {
                *rank = self.by;
            }
        }
        if self.text.contains(char::is_control) {
            self.text = self.text.replace(char::is_control, " ");
        }
        self
    }
}

/// A call as another rank sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Its number on the communicator, from 1.
    pub number: u64,
    /// The digest of the plan that the rank made of it.
    pub digest: u64,
    /// `collective | dtype << 8 | reduction << 16 | unequal << 24 | root << 32`.
    pub kinds: u64,
    /// Its count.
    pub count: u64,
}

impl Entered {
    /// A call with its number and the digest of its plan.
    pub fn new(number: u64, digest: u64, call: &Call) -> Entered {
        let unequal = u64::from(call.counts.is_some());
        let kinds = call.collective as u64
            | (call.dtype as u64) << 8
            | (call.reduction as u64) << 16
            | unequal << 24
            | u64::from(call.root) << 32;
        Entered { number, digest, kinds, count: call.count }
    }
}

impl Entered {
    /// Whether the call has a count for each rank.
    pub fn is_unequal(&self) -> bool {
        self.kinds >> 24 & 1 != 0
    }
}

impl std::fmt::Display for Entered {
    /// `all_reduce of 1024 f32 (sum)`; numbers that are no such thing are printed as they are.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let collective = Collective::from_number(self.kinds as u8);
        let (Some(collective), Some(dtype)) = (collective, DataType::from_number((self.kinds >> 8) as u8)) else {
            return write!(f, "something unreadable ({:#x})", self.kinds);
        };
        write!(f, "{collective}")?;
        if collective == Collective::Barrier {
            return Ok(());
        }
        if self.is_unequal() {
            write!(f, " (unequal) of {dtype}")?
        } else {
            write!(f, " of {} {dtype}", self.count)?
        }
        match Reduction::from_number((self.kinds >> 16) as u8) {
            Some(reduction) if collective.reduces() => write!(f, " ({reduction})")?,
            _ => {}
        }
        if collective.has_root() { write!(f, ", root {}", self.kinds >> 32) } else { Ok(()) }
    }
}
