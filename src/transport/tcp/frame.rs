//! What goes before every message on a data socket.
//!
//! ```text
//!   kind │ link │ lane │ len │ seq │ tag │ released │ then `len` bytes, where it is a message
//!    1B    1B     2B     4B    4B    4B      4B        20 bytes
//! ```
//!
//! A message is tagged with its place: link, lane and number. Whichever socket is free takes it, so messages of one link may come in any
//! order. `released` is news for the writer at the other end: how many messages of the link back (same kind, same lane) were released.

use crate::plan::Group;
use crate::transport::shm::{LANES, POINT_TO_POINT};
use crate::transport::verbs::offer;
use crate::transport::{Incoming, Outgoing};

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 20;

/// Links of each lane between two ranks, each way: the pair link and three boards.
pub(super) const LINKS: usize = 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message. It lies in the sender's memory that its caller has lent: the sender waits for its release.
    Lent,
    /// A message that the sender keeps a copy of.
    Kept,
    /// News of releases alone.
    Release,
    /// What ranks say to each other about their RDMA queues.
    Word,
}

/// Which link of a lane, the same number at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LinkKind(u8);

impl LinkKind {
    pub(super) const PAIR: LinkKind = LinkKind(0);

    pub(super) fn board(group: Group) -> LinkKind {
        LinkKind(1 + group as u8)
    }
}

/// A link between two given ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Spot {
    pub(super) lane: u16,
    pub(super) kind: LinkKind,
}

impl Spot {
    /// Its index in a rank's table of links to or from another: those of point-to-point traffic first, then channel by channel.
    pub(super) fn index(self) -> usize {
        (usize::from(self.lane) + 1) % LANES as usize * LINKS + usize::from(self.kind.0)
    }

    /// Its name for people.
    pub(super) fn name(self) -> String {
        let lane = match u32::from(self.lane) {
            POINT_TO_POINT => "point-to-point traffic".to_string(),
            channel => format!("channel {channel}"),
        };
        let kind = ["pair link", "board of all ranks", "board of a domain", "board of a rail"];
        format!("{lane}, {}", kind.get(usize::from(self.kind.0)).unwrap_or(&"no link"))
    }

    /// The link with that index.
    pub(super) fn at(index: usize) -> Spot {
        let lane = (index / LINKS + LANES as usize - 1) % LANES as usize;
        Spot { lane: lane as u16, kind: LinkKind((index % LINKS) as u8) }
    }
}

/// Which of a rank's outgoing links.
pub(super) fn outgoing(lane: u32, link: Outgoing) -> Spot {
    let kind = match link {
        Outgoing::Pair(_) => LinkKind::PAIR,
        Outgoing::Board(group) => LinkKind::board(group),
    };
    Spot { lane: lane as u16, kind }
}

/// Which of a rank's incoming links.
pub(super) fn incoming(lane: u32, link: Incoming) -> Spot {
    let kind = match link {
        Incoming::Pair(_) => LinkKind::PAIR,
        Incoming::Board(_, group) => LinkKind::board(group),
    };
    Spot { lane: lane as u16, kind }
}

/// A frame without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) spot: Spot,
    /// Bytes of the payload.
    pub(super) len: u32,
    /// The message's number on its link.
    pub(super) seq: u32,
    pub(super) tag: u32,
    /// Messages of the link back that were released, from the beginning.
    pub(super) released: u32,
    /// The checksum of the payload, where there are any: it goes behind the header, see `sums`.
    pub(super) sum: u32,
}

impl Frame {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = self.kind as u8;
        bytes[1] = self.spot.kind.0;
        bytes[2..4].copy_from_slice(&self.spot.lane.to_le_bytes());
        let words = [self.len, self.seq, self.tag, self.released];
        for (place, word) in bytes[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Nothing for bytes that are no frame, also if it is longer than a message may be.
    pub(super) fn decode(bytes: &[u8; HEADER], most: usize) -> Option<Frame> {
        let kind = *[Kind::Lent, Kind::Kept, Kind::Release, Kind::Word].get(usize::from(bytes[0]))?;
        let lane = u16::from_le_bytes([bytes[2], bytes[3]]);
        let spot = Spot { lane, kind: LinkKind(bytes[1]) };
        let word = |index: usize| {
            let at = 4 + 4 * index;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let frame = Frame { kind, spot, len: word(0), seq: word(1), tag: word(2), released: word(3), sum: 0 };
        let fits = u32::from(lane) < LANES && usize::from(bytes[1]) < LINKS && frame.len as usize <= most;
        let sound = match kind {
            Kind::Lent | Kind::Kept => true,
            Kind::Release => frame.len == 0,
            Kind::Word => frame.len as usize <= offer::LONGEST,
        };
        (fits && sound).then_some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Frame {
        let spot = Spot { lane: 3, kind: LinkKind::board(Group::Outer) };
        Frame { kind: Kind::Kept, spot, len: 100, seq: u32::MAX, tag: 7, released: 9, sum: 0 }
    }

    #[test]
    fn a_frame_comes_back_as_it_was() {
        for kind in [Kind::Lent, Kind::Kept, Kind::Release] {
            let frame = Frame { kind, len: if kind == Kind::Release { 0 } else { 100 }, ..sample() };
            assert_eq!(Frame::decode(&frame.encode(), 100), Some(frame));
        }
    }

    #[test]
    fn what_no_rank_would_send_is_refused() {
        assert_eq!(Frame::decode(&sample().encode(), 99), None, "too long");
        for (at, value) in [(0, 4), (1, 4), (2, LANES as u8), (3, 1)] {
            let mut bytes = sample().encode();
            bytes[at] = value;
            assert_eq!(Frame::decode(&bytes, 100), None, "byte {at}");
        }
        let release = Frame { kind: Kind::Release, ..sample() };
        assert_eq!(Frame::decode(&release.encode(), 100), None, "a release with bytes");
        let word = Frame { kind: Kind::Word, ..sample() };
        assert_eq!(Frame::decode(&word.encode(), 100), None, "a long word");
    }

    #[test]
    fn every_link_has_an_index_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for lane in 0..LANES as u16 {
            for kind in 0..LINKS as u8 {
                let spot = Spot { lane, kind: LinkKind(kind) };
                assert!(spot.index() < LANES as usize * LINKS && seen.insert(spot.index()));
                assert_eq!(Spot::at(spot.index()), spot);
            }
        }
    }
}
