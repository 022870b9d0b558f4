//! Faults turned into errors: on this rank at once, on the others through the abort that this rank leaves for them.

use super::job::Fault;
use super::session::Session;
use crate::error::{Error, Place};
use crate::transport::{Abort, Blocked, Entered, Trouble, Watch};

/// Stands between the two sides of a disagreement in an abort's text.
const BETWEEN: char = '\u{1f}';

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
            Trouble::Lost { rank, how } => self.spread(Abort::LOST, rank, rank, how),
            Trouble::Disagreement { rank, theirs } => self.disagreement(rank, theirs.to_string(), self.operation()),
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) -> Error {
        let (rank, tag, len, expected) = match fault {
            Fault::Stranger { rank, tag, len, expected } => (rank, tag, len, expected),
            Fault::Links(Error::Corrupt { rank, what, .. }) => {
                return self.spread(Abort::BROKEN, rank as u32, rank as u32, what);
            }
            Fault::Links(Error::PeerLost { rank, how, .. }) => {
                return self.spread(Abort::LOST, rank as u32, rank as u32, how);
            }
            Fault::Links(error) => {
                // What this rank's own system refused: the others get it in words, this rank as it is.
                let own = self.links_ref().rank();
                let abort = Abort { by: own, kind: Abort::BROKEN, culprit: own, other: own, text: error.to_string() };
                self.links().abort(abort);
                return self.fail(error);
            }
        };
        let number = self.operation_number();
        match self.links_ref().entered(rank, number) {
            Some(theirs) if Entered { digest: 0, ..theirs }.to_string() != self.operation() => {
                self.disagreement(rank, theirs.to_string(), self.operation())
            }
            Some(_) => {
                let what = "the same call, but followed with another plan (settings or library versions differ)";
                self.disagreement(rank, what.into(), self.operation())
            }
            None => {
                let what = format!(
                    "a message of {len} bytes, tag {tag:#010x}, where one of {expected} bytes of this call was expected"
                );
                self.spread(Abort::BROKEN, rank, rank, what)
            }
        }
    }

    /// The deadline has passed.
    pub fn give_up(&mut self, on: Blocked) -> Error {
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
