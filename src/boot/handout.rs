//! Rank 0 hands out the unique id itself: at an address that all know (MASTER_ADDR:MASTER_PORT), or on one host at an abstract Unix socket
//! whose name follows from the user and the job. Who asks proves the job's secret first; without one the proof is made with a word that
//! everybody knows, and then the network (or on one host the kernel, which tells the asker's user) is trusted.

use std::collections::BTreeSet;
use std::time::Instant;

use nix::poll::PollFlags;

use super::config::JobSecret;
use super::connection::{Connection, wait};
use super::dial::{Dial, NoAnswer, Target};
use super::gate::Gate;
use super::host::Listener;
use super::id::UniqueId;
use super::message::{Reader, Writer};
use super::wire::{Event, SMALL_FRAME, Secret, derive};
use crate::{Error, Result};

const CONTEXT: &str = "handout";

/// What a rank asks with: who it is, and which of the starts of this job it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) rank: usize,
    pub(crate) size: usize,
    /// How many starts this process has made before under the same name.
    pub(crate) turn: u64,
}

fn proof_key(secret: Option<&JobSecret>) -> Secret {
    let word = secret.map_or(&b"no secret"[..], JobSecret::bytes);
    derive(word, &[b"ringtree handout"])
}

/// Hands the id to the ranks 1 … size - 1 from a thread, which ends when all have it or at the deadline.
pub(crate) fn hand_out(
    listeners: Vec<Listener>,
    secret: Option<&JobSecret>,
    id: UniqueId,
    mine: Question,
    deadline: Instant,
) -> Result<()> {
    let mut gate = Gate::new(listeners, &proof_key(secret), CONTEXT);
    gate.expect(mine.size);
    let handing = Handing { gate, id, mine, deadline, served: BTreeSet::new(), guests: Vec::new() };
    let thread = std::thread::Builder::new().name("ringtree id".into()).spawn(move || handing.run());
    thread.map(drop).map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
        Error::from_errno("starting the thread that hands out the id", errno, "Raise the limit of processes")
    })
}

struct Handing {
    gate: Gate,
    id: UniqueId,
    mine: Question,
    deadline: Instant,
    served: BTreeSet<usize>,
    guests: Vec<(Connection, bool)>,
}

impl Handing {
    fn run(mut self) {
        loop {
            let all_served = self.served.len() + 1 >= self.mine.size && self.guests.is_empty();
            if all_served || Instant::now() >= self.deadline {
                return;
            }
            let ready = self.sleep();
            let doors = self.gate.watched();
            let news = self.gate.serve(&ready[..doors], Instant::now());
            let mut guests = Vec::new();
            for ((connection, answered), ready) in std::mem::take(&mut self.guests).into_iter().zip(&ready[doors..]) {
                if !*ready {
                    guests.push((connection, answered));
                } else if let Some(guest) = self.hear(connection, answered) {
                    guests.push(guest);
                }
            }
            guests.extend(news.into_iter().map(|connection| (connection, false)));
            self.guests = guests;
        }
    }

    fn sleep(&self) -> Vec<bool> {
        let mut fds = Vec::new();
        self.gate.watch(&mut fds);
        fds.extend(self.guests.iter().map(|(guest, _)| guest.interest()));
        let until = self.gate.deadline().map_or(self.deadline, |at| at.min(self.deadline));
        wait(&mut fds, Some(until));
        fds.iter().map(|fd| fd.revents().is_some_and(|events| events != PollFlags::empty())).collect()
    }

    /// `None`: this guest is done with, or means another start (it will come again).
    fn hear(&mut self, mut guest: Connection, mut answered: bool) -> Option<(Connection, bool)> {
        guest.flush();
        guest.fill();
        loop {
            match guest.next_event() {
                Ok(Some(Event::Frame(payload))) if !answered => {
                    let question = decode_question(&payload)?;
                    if question.turn != self.mine.turn {
                        return None;
                    }
                    guest.send_bytes(&self.answer(question));
                    answered = true;
                }
                Ok(Some(Event::Proved)) => {}
                Ok(Some(Event::Frame(_))) | Err(_) => return None,
                Ok(None) => return Some((guest, answered)),
            }
        }
    }

    fn answer(&mut self, question: Question) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        if question.size != self.mine.size || question.rank == 0 || question.rank >= question.size {
            let (rank, theirs, ours) = (question.rank, question.size, self.mine.size);
            let what = format!("rank {rank} of {theirs} asks rank 0 of {ours} for the unique id");
            log::warn!("bootstrap: {what}");
            out.u8(1).text(&what);
        } else {
            self.served.insert(question.rank);
            out.u8(0).fixed(self.id.as_bytes());
        }
        out.0
    }
}

fn encode_question(question: &Question) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.rank(question.rank).rank(question.size).u64(question.turn);
    out.0
}

fn decode_question(bytes: &[u8]) -> Option<Question> {
    let mut from = Reader(bytes);
    let question = Question { rank: from.rank()?, size: from.rank()?, turn: from.u64()? };
    from.0.is_empty().then_some(question)
}

/// Whether that is a question; see `boot::strangers`.
pub(super) fn reads_question(bytes: &[u8]) -> bool {
    decode_question(bytes).is_some()
}

/// Asks rank 0 at `target` for the id until the deadline.
pub(crate) fn ask_for_id(
    target: &Target,
    secret: Option<&JobSecret>,
    question: Question,
    deadline: Instant,
) -> Result<UniqueId> {
    let key = proof_key(secret);
    let dial = Dial { target, secret: &key, context: CONTEXT, deadline, patient: true, limit: SMALL_FRAME };
    let answer = dial.ask(&encode_question(&question), &mut || false).map_err(|reason| no_id(target, &reason))?;
    let mut from = Reader(&answer.1);
    match (from.u8(), from.fixed::<128>()) {
        (Some(0), Some(bytes)) => UniqueId::from_bytes(&bytes),
        (Some(1), _) => {
            let what = Reader(&answer.1[1..]).text().unwrap_or_default();
            Err(Error::start(what, "Start all ranks with the same number of ranks, and each with its own rank"))
        }
        _ => Err(no_id(target, &NoAnswer::Late("it answered nonsense".into()))),
    }
}

fn no_id(target: &Target, reason: &NoAnswer) -> Error {
    match reason {
        NoAnswer::Stranger(refusal) => Error::start(
            format!("who answers at {target} does not hand out this job's id: {refusal}"),
            "Give all ranks the same RINGTREE_SECRET (or RINGTREE_SECRET_FILE), and see that MASTER_PORT is used by nothing else",
        ),
        NoAnswer::Late(why) => Error::Start {
            what: format!("rank 0 does not hand out the job's id at {target}: {why}"),
            missing: vec![0],
            advice: "Look whether rank 0 was started and this host reaches that address, or allow more time with RINGTREE_INIT_TIMEOUT"
                .into(),
        },
        NoAnswer::Starved(errno) => NoAnswer::starved(*errno, &format!("asking rank 0 at {target} for the job's id")),
        NoAnswer::Nobody | NoAnswer::Interrupted => Error::start(format!("nobody is at {target}"), "Start rank 0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_question_is_taken_whole_or_not_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(question) = decode_question(&bytes) {
                prop_assert_eq!(encode_question(&question), bytes);
            }
        }
    }
}
