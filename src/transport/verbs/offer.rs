//! What two ranks tell each other before their queue pairs are joined, over a data socket that has proved the job's secret.
//!
//! ```text
//!   offer ──>           <── offer       each has made a queue pair and posted what it receives into
//!   (joins its end to the other's)
//!   ready ──>           <── ready       from then on the other may send: nothing is dropped for want of a receiver
//!   lost ──>  or  <── lost              whoever hears it gives its end up, too, and sends again what may not have come
//! ```

use crate::boot::message::{Reader, Writer};

/// One end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Which of the pairs between two ranks: 0 for small messages.
    pub(crate) index: u8,
    /// Which attempt to join them.
    pub(crate) attempt: u32,
    pub(crate) number: u32,
    /// The number of the first packet from there.
    pub(crate) first: u32,
    pub(crate) lid: u16,
    pub(crate) gid: Option<[u8; 16]>,
    pub(crate) mtu: u8,
    /// Where the slots begin that the other end writes to, and the key to them.
    pub(crate) slots: u64,
    pub(crate) key: u32,
}

/// What is said about a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Offer(Offer),
    Ready {
        index: u8,
        attempt: u32,
    },
    /// This end of it is gone, or could not be made: what the other end has sent over it may not have come.
    Lost {
        index: u8,
        attempt: u32,
    },
}

/// The longest word.
pub(crate) const LONGEST: usize = 56;

impl Word {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        match self {
            Word::Offer(offer) => {
                out.u8(0).u8(offer.index).u32(offer.attempt).u32(offer.number).u32(offer.first);
                out.u64(offer.slots).u32(offer.key);
                out.u8(offer.mtu).fixed(&offer.lid.to_le_bytes());
                out.u8(u8::from(offer.gid.is_some())).fixed(&offer.gid.unwrap_or_default());
            }
            Word::Ready { index, attempt } => {
                out.u8(1).u8(*index).u32(*attempt);
            }
            Word::Lost { index, attempt } => {
                out.u8(2).u8(*index).u32(*attempt);
            }
        }
        out.0
    }

    /// Nothing for bytes that are no word.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Word> {
        let mut from = Reader(bytes);
        let (kind, index, attempt) = (from.u8()?, from.u8()?, from.u32()?);
        let word = match kind {
            0 => {
                let (number, first, slots, key, mtu) = (from.u32()?, from.u32()?, from.u64()?, from.u32()?, from.u8()?);
                let lid = u16::from_le_bytes(from.fixed()?);
                let (global, gid) = (from.u8()?, from.fixed()?);
                if number >= 1 << 24 || first >= 1 << 24 || !(1..=5).contains(&mtu) || global > 1 {
                    return None;
                }
                let gid = (global == 1).then_some(gid);
                Word::Offer(Offer { index, attempt, number, first, lid, gid, mtu, slots, key })
            }
            1 => Word::Ready { index, attempt },
            2 => Word::Lost { index, attempt },
            _ => return None,
        };
        from.0.is_empty().then_some(word)
    }
}

/// Every kind of word.
pub(crate) fn samples() -> Vec<Word> {
    let offer = Offer {
        index: 1,
        attempt: 3,
        number: 17,
        first: 0xff_ffff,
        lid: 9,
        gid: None,
        mtu: 5,
        slots: 1 << 40,
        key: 77,
    };
    vec![
        Word::Offer(offer),
        Word::Offer(Offer { gid: Some([7; 16]), index: 0, mtu: 1, ..offer }),
        Word::Ready { index: 2, attempt: u32::MAX },
        Word::Lost { index: 0, attempt: 1 },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_comes_back_as_it_was_and_fits() {
        for word in samples() {
            let bytes = word.encode();
            assert!(bytes.len() <= LONGEST);
            assert_eq!(Word::decode(&bytes), Some(word));
            for len in 0..bytes.len() {
                assert_eq!(Word::decode(&bytes[..len]), None, "{len} bytes of {word:?}");
            }
        }
    }

    #[test]
    fn numbers_that_no_device_has_are_refused() {
        let good = Offer { index: 0, attempt: 0, number: 1, first: 2, lid: 0, gid: None, mtu: 3, slots: 0, key: 0 };
        for bad in [Offer { number: 1 << 24, ..good }, Offer { first: 1 << 24, ..good }, Offer { mtu: 6, ..good }] {
            assert_eq!(Word::decode(&Word::Offer(bad).encode()), None, "{bad:?}");
        }
    }
}
