//! What the offices of two ranks say to each other, and how it lies in bytes. A reader takes no number unchecked.

use crate::boot::message::{Reader, Writer};
use crate::transport::{Abort, Entered};

/// Calls that a report tells of.
const MOST_CALLS: usize = 4;

/// What a rank is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The number of the last call that it has ended.
    pub(super) finished: u64,
    /// The same if whoever is told has all that was sent to it, 0 if not.
    pub(super) delivered: u64,
    pub(super) waiting_for: Option<u32>,
    /// Its last calls, the oldest first.
    pub(super) calls: Vec<Entered>,
}

/// One of the things that are said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// First on a connection: it is to carry data from and to that rank, under that number of those between the two, in place of any that
    /// was made before it. Who makes them counts them.
    Data {
        rank: u32,
        index: u8,
        turn: u64,
    },
    /// First on a connection: news from and to that rank's office.
    Contact {
        rank: u32,
    },
    /// First on a connection: that rank wants a data socket of that number, later than the one of that turn.
    Knock {
        rank: u32,
        index: u8,
        after: u64,
    },
    /// The answer to what was said first.
    Welcome,
    /// What are you doing?
    Ask,
    Report(Report),
    /// The communicator has ended.
    Abort(Abort),
    /// That rank is gone.
    Lost {
        rank: u32,
        how: String,
    },
    /// I take part no more.
    Bye,
}

impl Note {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        match self {
            Note::Data { rank, index, turn } => out.u8(0).u32(*rank).u8(*index).u64(*turn),
            Note::Contact { rank } => out.u8(1).u32(*rank),
            Note::Knock { rank, index, after } => out.u8(2).u32(*rank).u8(*index).u64(*after),
            Note::Welcome => out.u8(3),
            Note::Ask => out.u8(4),
            Note::Report(report) => {
                out.u8(5)
                    .u64(report.finished)
                    .u64(report.delivered)
                    .u32(report.waiting_for.map_or(u32::MAX, |rank| rank));
                out.u8(report.calls.len() as u8);
                for call in &report.calls {
                    out.u64(call.number).u64(call.digest).u64(call.kinds).u64(call.count);
                }
                &mut out
            }
            Note::Abort(abort) => {
                out.u8(6).u32(abort.by).u32(abort.kind).u32(abort.culprit).u32(abort.other).text(&abort.text)
            }
            Note::Lost { rank, how } => out.u8(7).u32(*rank).text(how),
            Note::Bye => out.u8(8),
        };
        out.0
    }

    /// Nothing for bytes that make no sense among `size` ranks.
    pub(super) fn decode(bytes: &[u8], size: u32) -> Option<Note> {
        let mut from = Reader(bytes);
        let rank = |from: &mut Reader<'_>| from.u32().filter(|rank| *rank < size);
        let note = match from.u8()? {
            0 => Note::Data { rank: rank(&mut from)?, index: from.u8()?, turn: from.u64()? },
            1 => Note::Contact { rank: rank(&mut from)? },
            2 => Note::Knock { rank: rank(&mut from)?, index: from.u8()?, after: from.u64()? },
            3 => Note::Welcome,
            4 => Note::Ask,
            5 => Note::Report(report(&mut from, size)?),
            6 => {
                let (by, kind) = (rank(&mut from)?, from.u32()?);
                let (culprit, other) = (rank(&mut from)?, rank(&mut from)?);
                Note::Abort(Abort { by, kind, culprit, other, text: printable(from.text()?) })
            }
            7 => Note::Lost { rank: rank(&mut from)?, how: printable(from.text()?) },
            8 => Note::Bye,
            _ => return None,
        };
        from.0.is_empty().then_some(note)
    }
}

fn report(from: &mut Reader<'_>, size: u32) -> Option<Report> {
    let (finished, delivered, waiting_for, count) = (from.u64()?, from.u64()?, from.u32()?, from.u8()?);
    if usize::from(count) > MOST_CALLS || waiting_for >= size && waiting_for != u32::MAX {
        return None;
    }
    let mut call =
        || Some(Entered { number: from.u64()?, digest: from.u64()?, kinds: from.u64()?, count: from.u64()? });
    let calls = (0..count).map(|_| call()).collect::<Option<Vec<_>>>()?;
    Some(Report { finished, delivered, waiting_for: (waiting_for != u32::MAX).then_some(waiting_for), calls })
}

/// A text that is safe to print, whatever its author wrote. What stands between the two sides of a disagreement stays.
fn printable(text: String) -> String {
    text.replace(|c: char| c.is_control() && c != '\u{1f}', " ")
}

/// Every kind of note.
pub(super) fn samples() -> Vec<Note> {
    let call = |number| Entered { number, digest: 7, kinds: 8, count: 9 };
    let abort = Abort { by: 1, kind: Abort::CALLED, culprit: 2, other: 0, text: "enough".into() };
    vec![
        Note::Data { rank: 2, index: 1, turn: 9 },
        Note::Contact { rank: 0 },
        Note::Knock { rank: 1, index: 0, after: 3 },
        Note::Welcome,
        Note::Ask,
        Note::Report(Report { finished: 3, delivered: 2, waiting_for: Some(2), calls: vec![call(4), call(5)] }),
        Note::Report(Report::default()),
        Note::Abort(abort),
        Note::Lost { rank: 2, how: "killed".into() },
        Note::Bye,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_note_comes_back_as_it_was_and_cut_short_it_is_refused() {
        for note in samples() {
            let bytes = note.encode();
            assert_eq!(Note::decode(&bytes, 3), Some(note.clone()));
            for end in 0..bytes.len() {
                assert_eq!(Note::decode(&bytes[..end], 3), None, "{note:?} cut at {end}");
            }
            assert_eq!(Note::decode(&[&bytes[..], &[0]].concat(), 3), None);
        }
    }

    #[test]
    fn ranks_that_do_not_exist_are_refused() {
        for note in [
            Note::Data { rank: 3, index: 0, turn: 0 },
            Note::Contact { rank: 3 },
            Note::Lost { rank: 9, how: "".into() },
        ] {
            assert_eq!(Note::decode(&note.encode(), 3), None, "{note:?}");
        }
        let report = Report { waiting_for: Some(3), ..Report::default() };
        assert_eq!(Note::decode(&Note::Report(report).encode(), 3), None);
    }

    #[test]
    fn texts_are_safe_to_print() {
        let note = Note::Lost { rank: 0, how: "no\u{1b}[2Jmore\n".into() };
        assert_eq!(Note::decode(&note.encode(), 1), Some(Note::Lost { rank: 0, how: "no [2Jmore ".into() }));
    }
}
