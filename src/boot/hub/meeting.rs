//! Until all have come: check-ins, those that contradict each other, and the missing.

use std::time::Instant;

use super::{Hub, Who};
use crate::boot::failure::{Failure, name_ranks};
use crate::boot::message::{MAX_RANKS, Message, Record, frame_limit};
use crate::boot::tree::{children, parent, way_to};

impl Hub {
    pub(super) fn end_the_meeting(&mut self, now: Instant) {
        let missing: Vec<usize> = (0..self.size.unwrap_or(0)).filter(|rank| !self.records.contains_key(rank)).collect();
        let what = match self.size {
            Some(size) => {
                format!("{} of {size} never came within {} s", name_ranks(&missing), self.timeout.as_secs_f64())
            }
            None => format!("no rank came within {} s", self.timeout.as_secs_f64()),
        };
        let advice = "Look whether those processes were started and can reach this one, or allow more time with RINGTREE_INIT_TIMEOUT (seconds)";
        self.meeting_ends = now;
        self.fail(Failure::Start { what, missing, advice: advice.into() });
    }

    pub(super) fn check_in(&mut self, index: usize, record: Record) {
        let (rank, size) = (record.rank, record.size);
        if rank >= size || size > MAX_RANKS {
            log::warn!("bootstrap: refused {}: it says rank {rank} of {size}", self.links[index].connection.peer);
            self.links[index].gone = true;
            return;
        }
        self.links[index].who = Who::Turned;
        if self.over.is_some() {
            self.tell(index);
            self.note_told(rank);
            return;
        }
        if let Some(failure) = self.contradiction(&record) {
            log::warn!("bootstrap: {}: {failure:?}", self.links[index].connection.peer);
            return self.fail(failure);
        }
        let mine = way_to(self.place, rank) == Some(rank);
        let link = &mut self.links[index];
        link.who = if mine { Who::Rank(rank) } else { Who::Moving(rank) };
        link.connection.wire().expect_up_to(frame_limit(size));
        link.connection.send(&Message::Welcome);
        if self.size.is_none() {
            self.size = Some(size);
            self.gate.expect(size);
        }
        let at_home = record.pid == std::process::id() && record.listens.host == self.host;
        self.records.insert(rank, record);
        if self.place.is_none() {
            self.name_the_creator(index, rank, at_home);
            if self.records.len() == size {
                self.begin();
            }
        }
    }

    pub(super) fn contradiction(&self, record: &Record) -> Option<Failure> {
        let start =
            |what: String, advice: &str| Some(Failure::Start { what, missing: Vec::new(), advice: advice.into() });
        let (rank, size) = (record.rank, record.size);
        let newcomer = format!("process {} on {}", record.pid, record.host_name);
        if let Some(expected) = self.size.filter(|expected| *expected != size) {
            let first = self.records.iter().next();
            let others =
                first.map_or("the others".to_string(), |(rank, _)| format!("rank {rank}, {},", self.describe(*rank)));
            let what = format!("rank {rank} ({newcomer}) was started for {size} ranks, {others} for {expected}");
            return start(what, "Start all ranks with the same number of ranks");
        }
        if self.records.contains_key(&rank) {
            let what = format!("two processes are rank {rank}: {} and {newcomer}", self.describe(rank));
            return start(what, "Give each process a rank of its own");
        }
        if self.place.is_some() && !children(self.place, size).contains(&rank) {
            let what = format!("rank {rank} ({newcomer}) came to a part of the tree that is not its own");
            return start(what, "Look whether all ranks run the same version of the library");
        }
        None
    }

    /// Tells all which rank ends when the root's process ends.
    pub(super) fn name_the_creator(&mut self, index: usize, rank: usize, at_home: bool) {
        if at_home && self.creator.is_none_or(|known| rank < known) {
            self.creator = Some(rank);
            for link in &mut self.links {
                if matches!(link.who, Who::Rank(_) | Who::Moving(_)) {
                    link.connection.send(&Message::Creator { rank });
                }
            }
        } else if let Some(rank) = self.creator {
            self.links[index].connection.send(&Message::Creator { rank });
        }
    }

    pub(super) fn begin(&mut self) {
        self.begun = true;
        for link in &mut self.links {
            let above = match link.who {
                Who::Rank(_) => None,
                Who::Moving(rank) => {
                    parent(rank).and_then(|above| self.records.get(&above).map(|record| (above, record.listens)))
                }
                _ => continue,
            };
            link.connection.send(&Message::Go { parent: above });
        }
    }
}
