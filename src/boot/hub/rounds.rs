//! Once all have come: what the ranks below give goes up, what all gave comes down, and in the end they leave.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Hub, Pending, Who, step};
use crate::boot::failure::Failure;
use crate::boot::message::{Entries, Message, Round};
use crate::boot::tree::way_to;

impl Hub {
    pub(super) fn part(&mut self, from: usize, round: Round, number: u64, entries: Entries) {
        let size = self.size.unwrap_or(0);
        let fits = |rank: usize| rank < size && way_to(self.place, rank) == Some(from);
        let empty_as_it_should = entries.is_empty() == (round == Round::Barrier);
        if !self.begun || !empty_as_it_should || !entries.iter().all(|(rank, _)| fits(*rank)) {
            let what = format!("a part of {} with entries that are not its own", step(round, number));
            return self.fail(Failure::Corrupt { rank: from, what });
        }
        if let Some(&rank) = self.left.first() {
            let how = format!("it finished the start while rank {from} still calls {}", step(round, number));
            return self.fail(Failure::Lost { rank, how });
        }
        let pending = self.pending.get_or_insert_with(|| Pending {
            round,
            number,
            first: from,
            since: Instant::now(),
            parts: BTreeMap::new(),
        });
        if (pending.round, pending.number) != (round, number) {
            let (theirs, ours) = (step(round, number), step(pending.round, pending.number));
            let other = pending.first;
            return self.fail(Failure::Disagree { rank: from, theirs, other, ours });
        }
        if pending.parts.insert(from, entries).is_some() {
            let what = format!("two parts of {}", step(round, number));
            return self.fail(Failure::Corrupt { rank: from, what });
        }
        if pending.parts.len() == self.members().len() {
            self.complete(size);
        }
    }

    /// All below have given their part.
    pub(super) fn complete(&mut self, size: usize) {
        let Some(Pending { round, number, parts, .. }) = self.pending.take() else { return };
        let mut entries: Entries = parts.into_values().flatten().collect();
        entries.sort_unstable_by_key(|(rank, _)| *rank);
        if self.place.is_some() {
            self.sent_up = Some((round, number));
            for link in self.links.iter_mut().filter(|link| link.who == Who::Upstream) {
                link.connection.send(&Message::Part { round, number, entries: std::mem::take(&mut entries) });
            }
            return;
        }
        let expected = if round == Round::Barrier { 0 } else { size };
        if entries.len() != expected {
            let absent = (0..size).find(|rank| entries.binary_search_by_key(rank, |(rank, _)| *rank).is_err());
            let rank = absent.and_then(|rank| way_to(None, rank)).unwrap_or(0);
            let what = format!("a part of {} that lacks ranks below it", step(round, number));
            return self.fail(Failure::Corrupt { rank, what });
        }
        self.broadcast(&Message::Whole { round, number, entries });
    }

    pub(super) fn whole(&mut self, round: Round, number: u64, entries: Entries) {
        if self.sent_up.take() != Some((round, number)) {
            let what = format!("the result of {}, which was not asked for", step(round, number));
            return self.fail(Failure::Corrupt { rank: self.above.unwrap_or(0), what });
        }
        self.broadcast(&Message::Whole { round, number, entries });
    }

    /// The rank of this process gets it last, when the kernel has what the others get: its process may end with this step, and the hub with it.
    pub(super) fn broadcast(&mut self, message: &Message) {
        let payload = message.encode();
        let last = self.at_home();
        for link in &mut self.links {
            if matches!(link.who, Who::Rank(rank) if Some(rank) != last) {
                link.connection.send_bytes(&payload);
            }
        }
        self.held = last.map(|_| payload);
        self.hand_out_held();
    }

    /// The child by which this hub reaches the rank of its own process.
    pub(super) fn at_home(&self) -> Option<usize> {
        self.place.or_else(|| way_to(None, self.creator?))
    }

    pub(super) fn hand_out_held(&mut self) {
        let last = self.at_home().map(Who::Rank);
        if self.links.iter().any(|link| link.connection.has_output() && Some(link.who) != last) {
            return;
        }
        if let Some(payload) = self.held.take() {
            for link in self.links.iter_mut().filter(|link| Some(link.who) == last) {
                link.connection.send_bytes(&payload);
            }
        }
    }

    pub(super) fn leave(&mut self, rank: usize) {
        self.left.insert(rank);
        if let Some(pending) = &self.pending {
            let how = format!(
                "it finished the start while rank {} still calls {}",
                pending.first,
                step(pending.round, pending.number)
            );
            return self.fail(Failure::Lost { rank, how });
        }
        if self.left.len() == self.members().len() && self.place.is_some() {
            self.said_bye = true;
            for link in self.links.iter_mut().filter(|link| link.who == Who::Upstream) {
                link.connection.send(&Message::Bye);
            }
        }
    }

    /// A rank of this process may end, and the hub with it, once what others wait for is with the kernel.
    pub(super) fn say_farewell(&mut self) {
        if self.left.len() == self.farewelled.len() || self.links.iter().any(|link| link.connection.has_output()) {
            return;
        }
        for link in &mut self.links {
            if let Who::Rank(rank) = link.who
                && self.left.contains(&rank)
                && !self.farewelled.contains(&rank)
            {
                link.connection.send(&Message::ByeBye);
            }
        }
        self.farewelled = self.left.clone();
    }
}
