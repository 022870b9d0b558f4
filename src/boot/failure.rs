//! Why a job can't start, in the form that travels from rank to rank; each rank makes an [`Error`] of its own from it.

use std::time::Duration;

use super::message::{MAX_RANKS, Reader, Writer};
use crate::{Error, Place};

/// The most stretches of consecutive ranks that one message lists.
const MAX_STRETCHES: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A rank ended.
    Lost { rank: usize, how: String },
    /// A rank said that it can't go on.
    Aborted { rank: usize, reason: String },
    /// The job can't be put together.
    Start { what: String, missing: Vec<usize>, advice: String },
    /// Ranks did not do their part in time.
    Late { ranks: Vec<usize>, what: String, limit_ms: u64 },
    /// Two ranks call different things.
    Disagree { rank: usize, theirs: String, other: usize, ours: String },
    /// A rank sent what makes no sense.
    Corrupt { rank: usize, what: String },
}

impl Failure {
    /// What a rank at `place` tells its caller.
    pub(crate) fn into_error(self, place: Place) -> Error {
        let place = Box::new(place);
        match self {
            Failure::Lost { rank, how } => Error::PeerLost { place, rank, how },
            Failure::Aborted { rank, reason } => Error::Aborted { place, rank, reason },
            Failure::Start { what, missing, advice } => Error::Start { what, missing, advice },
            Failure::Late { ranks, what, limit_ms } => Error::Timeout {
                place,
                limit: Duration::from_millis(limit_ms),
                waiting_for: format!("{} ({what})", name_ranks(&ranks)),
                ranks,
                advice: "Look at what these ranks are doing, or allow more time with RINGTREE_INIT_TIMEOUT (seconds)"
                    .into(),
            },
            Failure::Disagree { rank, theirs, other, ours } => Error::Mismatch { place, rank, theirs, other, ours },
            Failure::Corrupt { rank, what } => Error::Corrupt { place, rank, what },
        }
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        match self {
            Failure::Lost { rank, how } => out.u8(0).rank(*rank).text(how),
            Failure::Aborted { rank, reason } => out.u8(1).rank(*rank).text(reason),
            Failure::Start { what, missing, advice } => {
                write_ranks(out.u8(2).text(what), missing);
                out.text(advice)
            }
            Failure::Late { ranks, what, limit_ms } => {
                write_ranks(out.u8(3), ranks);
                out.text(what).u64(*limit_ms)
            }
            Failure::Disagree { rank, theirs, other, ours } => {
                out.u8(4).rank(*rank).text(theirs).rank(*other).text(ours)
            }
            Failure::Corrupt { rank, what } => out.u8(5).rank(*rank).text(what),
        };
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Option<Failure> {
        Some(match from.u8()? {
            0 => Failure::Lost { rank: from.rank()?, how: from.text()? },
            1 => Failure::Aborted { rank: from.rank()?, reason: from.text()? },
            2 => Failure::Start { what: from.text()?, missing: read_ranks(from)?, advice: from.text()? },
            3 => Failure::Late { ranks: read_ranks(from)?, what: from.text()?, limit_ms: from.u64()? },
            4 => {
                Failure::Disagree { rank: from.rank()?, theirs: from.text()?, other: from.rank()?, ours: from.text()? }
            }
            5 => Failure::Corrupt { rank: from.rank()?, what: from.text()? },
            _ => return None,
        })
    }
}

/// Ascending ranks as stretches of first and length.
fn stretches(ranks: &[usize]) -> Vec<(usize, usize)> {
    let mut all: Vec<(usize, usize)> = Vec::new();
    for &rank in ranks {
        match all.last_mut() {
            Some((first, length)) if *first + *length == rank => *length += 1,
            _ => all.push((rank, 1)),
        }
    }
    all
}

fn write_ranks(out: &mut Writer, ranks: &[usize]) {
    let mut all = stretches(ranks);
    all.truncate(MAX_STRETCHES);
    out.u32(all.len() as u32);
    for (first, length) in all {
        out.rank(first).rank(length);
    }
}

fn read_ranks(from: &mut Reader<'_>) -> Option<Vec<usize>> {
    let count = from.u32()? as usize;
    if count > MAX_STRETCHES {
        return None;
    }
    let mut ranks: Vec<usize> = Vec::new();
    for _ in 0..count {
        let (first, length) = (from.rank()?, from.rank()?);
        // Ascending, so that all of them together are never more than there can be ranks.
        if ranks.last().is_some_and(|last| *last >= first) || first + length > MAX_RANKS {
            return None;
        }
        ranks.extend(first..first + length);
    }
    Some(ranks)
}

/// `rank 3`, `ranks 3 and 7`, `ranks 3, 7 and 12 … 15`.
pub(crate) fn name_ranks(ranks: &[usize]) -> String {
    let mut words = Vec::new();
    for (first, length) in stretches(ranks) {
        match length {
            1 => words.push(first.to_string()),
            2 => words.extend([first.to_string(), (first + 1).to_string()]),
            _ => words.push(format!("{first} … {}", first + length - 1)),
        }
    }
    let noun = if ranks.len() == 1 { "rank" } else { "ranks" };
    match words.split_last() {
        None => "no rank".to_string(),
        Some((last, [])) => format!("{noun} {last}"),
        Some((last, before)) => format!("{noun} {} and {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_named_as_people_would() {
        assert_eq!(name_ranks(&[3]), "rank 3");
        assert_eq!(name_ranks(&[3, 7]), "ranks 3 and 7");
        assert_eq!(name_ranks(&[3, 4]), "ranks 3 and 4");
        assert_eq!(name_ranks(&[3, 7, 12, 13, 14, 15]), "ranks 3, 7 and 12 … 15");
        assert_eq!(name_ranks(&[0, 1, 2]), "ranks 0 … 2");
    }

    #[test]
    fn a_list_of_ranks_that_is_endless_or_not_ascending_is_refused() {
        for pairs in [&[(0, MAX_RANKS + 1)][..], &[(5, 2), (5, 1)], &[(MAX_RANKS, MAX_RANKS)]] {
            let mut out = Writer(Vec::new());
            out.u32(pairs.len() as u32);
            for (first, length) in pairs {
                out.rank(*first).rank(*length);
            }
            assert_eq!(read_ranks(&mut Reader(&out.0)), None, "{pairs:?}");
        }
    }
}
