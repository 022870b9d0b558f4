//! Where everything lies in a segment. Every rank computes the same from the number of ranks alone; no offset ever comes from a peer.
//!
//! The file is sparse: 8 ranks have 380 MiB of addresses and use a few pages until messages above 48 bytes flow.

use super::ring::{LINES, Line, Released, SLOTS};
use super::status::{Header, Status};
use crate::plan::{Group, MOST_SLOT_BYTES};
use crate::transport::Outgoing;

/// Lanes for the channels of plans; point-to-point traffic has one more.
pub const CHANNELS: u32 = 4;

/// All lanes.
pub const LANES: u32 = CHANNELS + 1;

/// The lane of point-to-point traffic.
pub const POINT_TO_POINT: u32 = CHANNELS;

/// Bytes of one slot: the most that one message may have. 64 KiB messages through four slots are within a few percent of the best at
/// every size on two cores of an EPYC (family 26); twice that leaves room for plans that want fewer, larger ones.
pub const SLOT_BYTES: usize = MOST_SLOT_BYTES as usize;

/// Bytes of one small slot. There are as many as lines, so that a writer of short messages runs as far ahead as one whose messages lie in
/// the lines: it looks at the readers' counters once in 16 messages, not once in 4 (broadcast of 64 bytes between two cores of a Zen 2:
/// 0.13 us before, 0.09 after). The line beyond a page keeps equal places of neighbours out of each other's cache set.
pub const SMALL_SLOT_BYTES: usize = PAGE + size_of::<Line>();

/// Shuttles of each kind that lie beside the slots of a link: see `shuttle`.
pub(super) const SHUTTLES: u32 = 2;

/// Where a link's small slots begin: behind the large ones.
pub(super) const SMALL_SLOTS: usize = SLOTS as usize * SLOT_BYTES;

/// Where its large shuttles begin.
pub(super) const LARGE_SHUTTLES: usize = SMALL_SLOTS + page(LINES as usize * SMALL_SLOT_BYTES);

/// Where its small shuttles begin. Each has whole pages, so that it can be given back alone.
pub(super) const SMALL_SHUTTLES: usize = LARGE_SHUTTLES + SHUTTLES as usize * SLOT_BYTES;

/// Bytes from one small shuttle to the next.
pub(super) const SMALL_SHUTTLE_BYTES: usize = page(SMALL_SLOT_BYTES);

/// Bytes of all slots of a link.
pub(super) const LINK_BYTES: usize = SMALL_SHUTTLES + SHUTTLES as usize * SMALL_SHUTTLE_BYTES;

/// Boards a rank has in each lane: one a group.
const BOARDS: usize = 3;

pub(super) const PAGE: usize = 4096;

/// The layout for a number of ranks.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    ranks: usize,
    lines: usize,
    released: usize,
    slots: usize,
    end: usize,
}

impl Layout {
    /// For that many ranks.
    pub fn new(ranks: u32) -> Layout {
        let ranks = ranks as usize;
        let links = LANES as usize * ranks * (ranks + BOARDS);
        let readers = LANES as usize * ranks * (ranks + BOARDS * ranks);
        let lines = page(page(size_of::<Header>()) + ranks * size_of::<Status>());
        let released = page(lines + links * LINES as usize * size_of::<Line>());
        let slots = page(released + readers * size_of::<Released>());
        let end = slots + links * LINK_BYTES;
        Layout { ranks, lines, released, slots, end }
    }

    /// Bytes of the whole segment.
    pub fn len(&self) -> usize {
        self.end
    }

    /// The status of a rank.
    pub fn status(&self, rank: u32) -> usize {
        page(size_of::<Header>()) + rank as usize * size_of::<Status>()
    }

    /// The number of a link among all links of the segment.
    fn link(&self, lane: u32, writer: u32, link: Outgoing) -> usize {
        let within = match link {
            Outgoing::Pair(to) => to as usize,
            Outgoing::Board(group) => self.ranks + board(group),
        };
        (lane as usize * self.ranks + writer as usize) * (self.ranks + BOARDS) + within
    }

    /// The first line of a link.
    pub fn line(&self, lane: u32, writer: u32, link: Outgoing) -> usize {
        self.lines + self.link(lane, writer, link) * LINES as usize * size_of::<Line>()
    }

    /// The first slot of a link.
    pub fn slot(&self, lane: u32, writer: u32, link: Outgoing) -> usize {
        self.slots + self.link(lane, writer, link) * LINK_BYTES
    }

    /// The counter of one reader of a link.
    pub fn released(&self, lane: u32, writer: u32, link: Outgoing, reader: u32) -> usize {
        let within = match link {
            Outgoing::Pair(to) => to as usize,
            Outgoing::Board(group) => self.ranks * (1 + board(group)) + reader as usize,
        };
        let index = (lane as usize * self.ranks + writer as usize) * (self.ranks * (1 + BOARDS)) + within;
        self.released + index * size_of::<Released>()
    }
}

fn board(group: Group) -> usize {
    match group {
        Group::World => 0,
        Group::Inner => 1,
        Group::Outer => 2,
    }
}

const fn page(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_parts_of_a_segment_overlap() {
        for ranks in [1, 2, 3, 8] {
            let layout = Layout::new(ranks);
            let mut starts = BTreeSet::new();
            let mut expect = 0;
            for lane in 0..LANES {
                for writer in 0..ranks {
                    let boards = [Group::World, Group::Inner, Group::Outer].map(Outgoing::Board);
                    for link in (0..ranks).map(Outgoing::Pair).chain(boards) {
                        assert!(starts.insert(layout.line(lane, writer, link)));
                        assert!(starts.insert(layout.slot(lane, writer, link)));
                        let readers = if let Outgoing::Pair(to) = link { to..to + 1 } else { 0..ranks };
                        expect += 2 + readers.len();
                        for reader in readers {
                            assert!(starts.insert(layout.released(lane, writer, link, reader)));
                        }
                    }
                }
            }
            assert_eq!(starts.len(), expect);
            assert!(starts.iter().all(|start| start % 64 == 0));
            assert!(layout.status(ranks) <= *starts.first().unwrap());
            assert_eq!(starts.last().unwrap() + LINK_BYTES, layout.len());
        }
    }
}
