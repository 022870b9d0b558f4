//! A write whose payloads are read from where they lie: only their headers, and what pads a slot, come from the slots.
//!
//! ```text
//!   slots here:    │head│  …not used…  │pad│head│  …not used…  │pad│head│ payload │
//!                  └─0──┘              └───2────┘              └───────4────────┘    own pieces
//!   elsewhere:            └──── 1 ────┘          └──── 3 ────┘                       lent pieces
//!   there:         │head│   payload    │pad│head│   payload    │pad│head│ payload │   as if all had been in the slots
//! ```

use super::run::{Layout, Lying};
use crate::sys::verbs::abi::Piece;

/// Pieces of one message at most: one of its slot, and its payload.
pub(super) const PIECES_OF_ONE: usize = 2;

/// A message that waits to be posted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting<P> {
    /// Its slots.
    pub(super) lying: Lying,
    /// Where its payload lies, and the key to it, if not in the slot.
    pub(super) lies: Option<(u64, u32)>,
    /// What the sender calls it.
    pub(super) parcel: Option<P>,
}

/// The pieces of a write of those messages, out of slots that begin at `base` (and the key to them). How many they are.
pub(super) fn pieces<'a, P: 'a>(
    layout: &Layout,
    (base, lkey): (u64, u32),
    messages: impl Iterator<Item = &'a Waiting<P>>,
    into: &mut [Piece],
) -> usize {
    let (mut own, mut end, mut count) = (None, 0, 0);
    for message in messages {
        let slot = base + layout.at(message.lying.number) as u64;
        let begin = own.unwrap_or(slot);
        end = slot + message.lying.length as u64;
        own = Some(begin);
        if let Some((addr, key)) = message.lies {
            let payload = slot + layout.header as u64;
            into[count] = Piece { addr: begin, length: (payload - begin) as u32, lkey };
            into[count + 1] = Piece { addr, length: (end - payload) as u32, lkey: key };
            (own, count) = (Some(end), count + PIECES_OF_ONE);
        }
    }
    if let Some(begin) = own.filter(|begin| *begin < end) {
        into[count] = Piece { addr: begin, length: (end - begin) as u32, lkey };
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { slots: 16, slot: 1024, header: 24, full: 1000 };
    const OWN: (u64, u32) = (1 << 20, 7);

    fn waiting(length: usize, lies: Option<(u64, u32)>) -> Waiting<()> {
        Waiting { lying: Lying { number: 0, length }, lies, parcel: None }
    }

    /// The pieces of those messages, from the third slot on, as (address, bytes, key).
    fn written(messages: &[Waiting<()>]) -> Vec<(u64, u32, u32)> {
        let mut into = [Piece::default(); 16];
        let mut messages = messages.to_vec();
        messages.iter_mut().zip(2..).for_each(|(message, number)| message.lying.number = number);
        let base = (OWN.0 - 2048, OWN.1);
        let count = pieces(&LAYOUT, base, messages.iter(), &mut into);
        into[..count].iter().map(|piece| (piece.addr, piece.length, piece.lkey)).collect()
    }

    #[test]
    fn what_lies_in_slots_is_one_piece() {
        let (at, key) = OWN;
        assert_eq!(written(&[waiting(500, None)]), [(at, 500, key)]);
        assert_eq!(written(&[waiting(1000, None), waiting(1000, None), waiting(50, None)]), [(at, 2048 + 50, key)]);
    }

    #[test]
    fn payloads_that_lie_elsewhere_come_between_their_headers() {
        let (at, key) = OWN;
        let (one, two) = (Some((5 << 20, 8)), Some((6 << 20, 9)));
        let both = written(&[waiting(1000, one), waiting(300, two)]);
        assert_eq!(both, [(at, 24, key), (5 << 20, 976, 8), (at + 1000, 48, key), (6 << 20, 276, 9)]);
        let mixed = written(&[waiting(1000, None), waiting(1000, one), waiting(60, None)]);
        assert_eq!(mixed, [(at, 1048, key), (5 << 20, 976, 8), (at + 2024, 24 + 60, key)]);
    }

    #[test]
    fn a_write_is_as_long_as_it_would_be_from_slots_however_its_messages_lie() {
        for pattern in 0..256u32 {
            let messages: Vec<_> = (0..8)
                .map(|n| waiting(if n < 7 { 1000 } else { 321 }, (pattern >> n & 1 == 1).then_some((1 << 30, 1))))
                .collect();
            let pieces = written(&messages);
            assert!(pieces.len() <= 16 && pieces.iter().all(|(_, length, _)| *length > 0));
            assert_eq!(pieces.iter().map(|(_, length, _)| length).sum::<u32>(), 7 * 1024 + 321, "{pattern:b}");
        }
    }
}
