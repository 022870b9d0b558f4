//! Faults turned into errors: on this rank at once, on the others through the abort that this rank leaves for them.

use super::job::Fault;
use super::session::{Poll, Session};
use crate::error::{Error, Place, Result};
use crate::transport::{Abort, Blocked, Entered, Trouble, Watch};

/// Stands between the two sides of a disagreement in an abort's text.
const BETWEEN: char = '\u{1f}';

/// Earlier calls that links remember.
const REMEMBERED: u64 = 3;

impl<L: Watch> Session<L> {
    fn place(&self) -> Box<Place> {
        Box::new(Place {
            communicator: self.settings().name.clone(),
            rank: self.links_ref().rank() as usize,
            size: self.links_ref().size() as usize,
            operation: self.operation(),
            number: self.operation_number(),
        })
    }

    /// Ends the communicator everywhere. Whoever was first has the say: the error returned is made of that.
    fn spread(&mut self, kind: u32, culprit: u32, other: u32, text: String) -> Error {
        let by = self.links_ref().rank();
        let abort = Abort { by, kind, culprit, other, text };
        let abort = self.links().abort(abort);
        let error = self.abort_error(abort);
        self.fail(error)
    }

    /// The error that an abort means on this rank.
    fn abort_error(&self, abort: Abort) -> Error {
        let place = self.place();
        let rank = abort.culprit as usize;
        if abort.kind == Abort::MISMATCH {
            let (theirs, ours) = abort.text.split_once(BETWEEN).unwrap_or((&abort.text, "something else"));
            Error::Mismatch { place, rank, theirs: theirs.into(), other: abort.other as usize, ours: ours.into() }
        } else if abort.kind == Abort::TIMEOUT {
            Error::Timeout {
                place,
                limit: self.settings().timeout,
                ranks: vec![rank],
                waiting_for: abort.text,
                advice: "Look at that rank; if it only needs longer, raise RINGTREE_TIMEOUT".into(),
            }
        } else if abort.kind == Abort::CALLED {
            Error::Aborted { place, rank, reason: abort.text }
        } else if abort.kind == Abort::BROKEN {
            Error::Corrupt { place, rank, what: abort.text }
        } else {
            Error::PeerLost { place, rank, how: abort.text }
        }
    }

    /// The error of a communicator that another rank, or another thread, has ended.
    #[cold]
    pub(super) fn take_up_abort(&mut self) -> Error {
        // Who claims an abort says why at once; the links wait for that.
        let own = self.links_ref().rank();
        self.spread(Abort::CALLED, own, own, "the communicator has been aborted".into())
    }

    /// A rank calls something else than this one.
    pub(super) fn disagreement(&mut self, rank: u32, theirs: String, ours: String) -> Error {
        let own = self.links_ref().rank();
        self.spread(Abort::MISMATCH, rank, own, format!("{theirs}{BETWEEN}{ours}"))
    }

    pub(super) fn trouble_error(&mut self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Aborted(abort) => {
                let error = self.abort_error(abort);
                self.fail(error)
            }
            // A rank that has done something else may have left content.
            Trouble::Lost { rank, how } => match self.difference(rank) {
                Some((theirs, ours)) => self.torn(rank, theirs, ours),
                None => self.spread(Abort::LOST, rank, rank, how),
            },
            Trouble::Disagreement { rank, theirs } => match self.difference(rank) {
                Some((theirs, ours)) => self.torn(rank, theirs, ours),
                None => self.disagreement(rank, theirs.to_string(), self.operation()),
            },
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) -> Error {
        match fault {
            Fault::Stranger { rank, tag, len, expected } => self.stranger(rank, tag, len, expected),
            Fault::Links(Error::Corrupt { rank, what, .. }) => {
                self.spread(Abort::BROKEN, rank as u32, rank as u32, what)
            }
            Fault::Links(Error::PeerLost { rank, how, .. }) => self.spread(Abort::LOST, rank as u32, rank as u32, how),
            Fault::Links(error) => {
                // What this rank's own system refused: the others get it in words, this rank as it is.
                let own = self.links_ref().rank();
                let abort = Abort { by: own, kind: Abort::BROKEN, culprit: own, other: own, text: error.to_string() };
                self.links().abort(abort);
                self.fail(error)
            }
            // Somebody was first, and the error is made of what that one has said.
            Fault::Ended => self.abort("the communicator has ended"),
        }
    }

    /// The last calls under one number in which that rank and this one differ: theirs and ours.
    fn difference(&self, rank: u32) -> Option<(Entered, Entered)> {
        let (links, own, number) = (self.links_ref(), self.links_ref().rank(), self.number());
        let both = |number| Some((links.entered(rank, number)?, links.entered(own, number)?));
        let calls = (number.saturating_sub(REMEMBERED)..=number).filter_map(both);
        { calls }.find(|(theirs, ours)| theirs.digest != ours.digest)
    }

    fn torn(&mut self, rank: u32, theirs: Entered, ours: Entered) -> Error {
        let (mut words, own) = (theirs.to_string(), ours.to_string());
        if words == own {
            words += match theirs.is_unequal() {
                true => " with other counts",
                false => " by another plan (settings or versions of the library differ)",
            };
        }
        self.disagreement(rank, words, own)
    }

    /// A message that is no part of what this rank does. The call in which the two ranks differ may lie a little back: what one of them
    /// has sent for it, the other has never looked at.
    fn stranger(&mut self, rank: u32, tag: u32, len: usize, expected: usize) -> Error {
        self.links().inquire(rank);
        if let Some((theirs, ours)) = self.difference(rank) {
            return self.torn(rank, theirs, ours);
        }
        let ours = self.operation();
        if tag == self.tag() {
            let theirs = format!("it with other counts (a message of {len} bytes came where {expected} were expected)");
            return self.disagreement(rank, theirs, ours);
        }
        // All that is remembered agrees: then it was further back, if there was anything further back.
        if self.number() > REMEMBERED || self.links_ref().entered(rank, self.operation_number()).is_none() {
            return self.disagreement(rank, "something that lies too many operations back to be named".into(), ours);
        }
        let what = format!(
            "a message of {len} bytes, tag {tag:#010x}, where one of {expected} bytes of this call was expected"
        );
        self.spread(Abort::BROKEN, rank, rank, what)
    }

    /// A rank has ended the call that this one is in, and this one still waits for it.
    pub(super) fn nothing_more(&mut self, on: Blocked) -> Error {
        let theirs = match on {
            Blocked::Message(_) => "it with other counts, and has sent all that it will",
            Blocked::Slot(_) => "it with other counts, and has taken all that it will",
        };
        let ours = self.operation();
        self.disagreement(on.rank(), theirs.into(), ours)
    }

    /// The deadline has passed. What has come in the meantime counts: it may be this rank that was stopped for so long.
    pub fn give_up(&mut self, on: Blocked) -> Result<Poll> {
        self.look_for_trouble(on)?;
        match self.poll()? {
            Poll::Blocked { on: now, moved: false } if now == on => Err(self.blame(on)),
            polled => Ok(polled),
        }
    }

    fn blame(&mut self, on: Blocked) -> Error {
        let suspects = self.links_ref().suspects(self.operation_number(), on);
        let culprit = suspects.first().map_or(on.rank(), |suspect| suspect.rank);
        let words: Vec<String> = suspects.iter().map(|one| format!("rank {}, {}", one.rank, one.doing)).collect();
        self.spread(Abort::TIMEOUT, culprit, culprit, words.join("; "))
    }

    /// Ends the communicator for all ranks because the user says so.
    pub fn abort(&mut self, reason: &str) -> Error {
        let own = self.links_ref().rank();
        self.spread(Abort::CALLED, own, own, reason.into())
    }
}
