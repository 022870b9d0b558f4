//! One error type. A message names the operation and its number, the communicator, the peer, what was expected, what came, what to do.

use std::fmt;
use std::time::Duration;

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// Where in a job an error happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The communicator's name, as `world` or `world/split.2`.
    pub communicator: String,
    /// This rank.
    pub rank: usize,
    /// The communicator's size.
    pub size: usize,
    /// What was being done, with counts and types: `all_reduce of 1024 f32 (sum)`.
    pub operation: String,
    /// The number of the operation on its communicator, from 1. 0: none was under way.
    pub number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {} on communicator '{}'", self.rank, self.size, self.communicator)?;
        if self.number > 0 {
            write!(f, ", operation {}: {}", self.number, self.operation)?;
        } else if !self.operation.is_empty() {
            write!(f, ", {}", self.operation)?;
        }
        Ok(())
    }
}

/// What went wrong. After any error but [`Error::Misuse`] the communicator is of no further use: every later call on it returns the
/// same error, on every rank.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This rank asked for something that can't be done. Nothing was sent, the communicator goes on.
    #[error("{what}. {advice}")]
    Misuse {
        /// What is wrong with the call.
        what: String,
        /// What to do.
        advice: String,
    },
    /// Ranks disagree on what to do. No memory was written past an end.
    #[error(
        "ranks disagree ({place}): rank {rank} calls {theirs}, rank {other} calls {ours}. All ranks must make the same calls in the same order"
    )]
    Mismatch {
        /// Where.
        place: Box<Place>,
        /// One side.
        rank: usize,
        /// What that side calls.
        theirs: String,
        /// The other side.
        other: usize,
        /// What the other side calls.
        ours: String,
    },
    /// A rank ended, crashed or was killed.
    #[error("rank {rank} is gone: {how} ({place}). Look at that rank's own output for the first cause")]
    PeerLost {
        /// Where this rank was.
        place: Box<Place>,
        /// Who is gone.
        rank: usize,
        /// How it was noticed, with pid and host.
        how: String,
    },
    /// A deadline passed.
    #[error("no progress within {} ({place}): waiting for {waiting_for}. {advice}", Seconds(*.limit))]
    Timeout {
        /// Where.
        place: Box<Place>,
        /// The deadline that passed.
        limit: Duration,
        /// The ranks that did not do their part, as far as is known.
        ranks: Vec<usize>,
        /// The same in words, with what each was doing.
        waiting_for: String,
        /// What to do.
        advice: String,
    },
    /// Somebody called abort, here or on another rank.
    #[error("aborted by rank {rank}: {reason} ({place})")]
    Aborted {
        /// Where this rank was.
        place: Box<Place>,
        /// Who aborted.
        rank: usize,
        /// Why.
        reason: String,
    },
    /// The job could not be started.
    #[error("cannot start: {what}. {advice}")]
    Start {
        /// What failed.
        what: String,
        /// The ranks that never came, if that is the reason.
        missing: Vec<usize>,
        /// What to do.
        advice: String,
    },
    /// The operating system refused something.
    #[error("{what}: {}. {advice}", std::io::Error::from_raw_os_error(*.errno))]
    System {
        /// What was being done.
        what: String,
        /// The error number.
        errno: i32,
        /// What to do.
        advice: String,
    },
    /// What came from a peer makes no sense.
    #[error(
        "rank {rank} sent {what} ({place}). The versions of the library may differ, or bytes were changed in memory or on the way"
    )]
    Corrupt {
        /// Where.
        place: Box<Place>,
        /// Who sent it.
        rank: usize,
        /// What came, and what was expected.
        what: String,
    },
    /// A forced choice or a profile that can't be followed.
    #[error("{what}. {advice}")]
    Choice {
        /// What was asked for and why it can't be.
        what: String,
        /// What to do.
        advice: String,
    },
}

impl Error {
    /// A misuse.
    pub fn misuse(what: impl Into<String>, advice: impl Into<String>) -> Error {
        Error::Misuse { what: what.into(), advice: advice.into() }
    }

    /// A failed start.
    pub fn start(what: impl Into<String>, advice: impl Into<String>) -> Error {
        Error::Start { what: what.into(), missing: Vec::new(), advice: advice.into() }
    }

    /// A system call that failed just now.
    pub fn system(what: impl Into<String>, advice: impl Into<String>) -> Error {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        Error::System { what: what.into(), errno, advice: advice.into() }
    }

    /// A system call that failed with that error.
    pub fn from_errno(what: impl Into<String>, errno: i32, advice: impl Into<String>) -> Error {
        Error::System { what: what.into(), errno, advice: advice.into() }
    }

    /// The ranks that the error names as its cause.
    pub fn culprits(&self) -> Vec<usize> {
        match self {
            Error::Mismatch { rank, other, .. } => vec![*rank, *other],
            Error::PeerLost { rank, .. } | Error::Aborted { rank, .. } | Error::Corrupt { rank, .. } => vec![*rank],
            Error::Timeout { ranks, .. } => ranks.clone(),
            Error::Start { missing, .. } => missing.clone(),
            _ => Vec::new(),
        }
    }
}

/// A duration as people say it: `30 s`, `0.25 s`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}
