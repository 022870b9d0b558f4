//! How messages lie in the slots of both ends, and several of them in one write.
//!
//! ```text
//!   slots:   │ 64 KiB │ 256 KiB                         │ 17 B │ 64 KiB │ ...    │      a message takes as many slots in a row as it needs;
//!             └─────────────── one write ───────────────────┘                           none goes on at the first one: the last are left out
//! ```
//!
//! A write has the messages whose slots follow each other, as long as little of them is empty. Each says how long it is, in its last word
//! before the payload. Soft-RoCE takes 10 us for a write whatever its length (`ib_write_bw` there: 743 MB/s in writes of 128 KiB, 776 of
//! 512 KiB, 783 of 1 MiB), and every device a request, a receive and a completion.

/// Messages of a write at most. More would keep a rank that folds waiting for the first of them for too long.
pub(super) const MOST: usize = 8;

/// Bytes that may be empty behind a message that is not the last one of its write.
const GAP: usize = 320;

/// How the slots of both ends lie. Slots are numbered from the beginning on, and come again after `slots` of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Slots, one behind the other, and the bytes of each.
    pub(super) slots: u32,
    pub(super) slot: usize,
    /// Bytes before a payload.
    pub(super) header: usize,
    /// Bytes of the longest message, header included.
    pub(super) full: usize,
}

/// A message in its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lying {
    /// The number of its first slot.
    pub(super) number: u64,
    /// Its bytes, header included.
    pub(super) length: usize,
}

impl Layout {
    /// For `depth` messages of at most so many bytes behind headers of so many, the longest of them in `parts` slots.
    pub(super) fn new(depth: u32, parts: u32, header: usize, most: usize) -> Layout {
        let full = header + most;
        Layout { slots: depth * parts, slot: full.div_ceil(parts as usize).next_multiple_of(64), header, full }
    }

    /// Bytes of all slots.
    pub(super) fn bytes(&self) -> usize {
        self.slots as usize * self.slot
    }

    /// Where that slot begins.
    pub(super) fn at(&self, number: u64) -> usize {
        (number % u64::from(self.slots)) as usize * self.slot
    }

    /// Slots from that one on to the last one.
    fn left(&self, number: u64) -> u64 {
        u64::from(self.slots) - number % u64::from(self.slots)
    }

    /// Slots of a message of that length.
    fn taken(&self, length: usize) -> u64 {
        length.div_ceil(self.slot) as u64
    }

    /// Slots that the longest message may cost: its own, and those that are left out before it.
    pub(super) fn most(&self) -> u64 {
        2 * self.taken(self.full) - 1
    }

    /// The number of the slot behind a message.
    pub(super) fn behind(&self, message: Lying) -> u64 {
        message.number + self.taken(message.length)
    }

    /// A message of that length, where `next` is the next free slot.
    pub(super) fn place(&self, next: u64, length: usize) -> Lying {
        let left = self.left(next);
        Lying { number: if self.taken(length) > left { next + left } else { next }, length }
    }

    /// Whether others may follow a message in its write.
    fn may_be_followed(&self, length: usize) -> bool {
        self.taken(length) as usize * self.slot - length <= GAP
    }

    /// Of messages that wait: how many one write takes, `most` of them at most, and its length. At least one, where there is one.
    pub(super) fn together(&self, most: usize, messages: impl Iterator<Item = Lying>) -> (usize, usize) {
        let (mut count, mut bytes, mut first, mut before) = (0, 0, 0, None);
        for message in messages.take(MOST.min(most)) {
            match before {
                None => first = message.number,
                Some(before) if self.behind(before) != message.number || !self.may_be_followed(before.length) => break,
                // The first slot again.
                Some(_) if message.number.is_multiple_of(self.slots.into()) => break,
                Some(_) => {}
            }
            bytes = (message.number - first) as usize * self.slot + message.length;
            (count, before) = (count + 1, Some(message));
        }
        (count, bytes)
    }

    /// The messages of a write of so many bytes, whose first slot its sender says is that one, where `next` is the next that is free here;
    /// `says`: the length that the message in a slot says it has. How many they are; nothing for what no rank would send.
    pub(super) fn apart(&self, next: u64, first: u64, bytes: usize, says: impl Fn(u64) -> usize) -> Option<Apart> {
        if bytes < self.header || bytes > self.left(first) as usize * self.slot {
            return None;
        }
        let (mut messages, mut count, mut number) = ([Lying { number: 0, length: 0 }; MOST], 0, first);
        while count < MOST {
            let from = (number - first) as usize * self.slot;
            let left = bytes.checked_sub(from)?;
            if left < self.header {
                return None;
            }
            let message = Lying { number, length: says(number) };
            let fits = (self.header..=self.full.min(left)).contains(&message.length);
            if !fits || count == 0 && self.place(next, message.length) != message {
                return None;
            }
            (messages[count], count) = (message, count + 1);
            if message.length == left {
                return Some((count, messages));
            }
            number = self.behind(message);
        }
        None
    }
}

/// The messages of a write: so many of these.
pub(super) type Apart = (usize, [Lying; MOST]);

#[cfg(test)]
mod tests {
    use super::*;

    /// 16 slots of 1024 bytes, of which the longest message takes four.
    const LAYOUT: Layout = Layout { slots: 16, slot: 1024, header: 24, full: 4000 };

    /// Puts messages of these lengths into slots from that one on, into writes, and takes them apart again.
    fn there_and_back(next: u64, lengths: &[usize]) -> Vec<Vec<Lying>> {
        let (mut place, mut waiting) = (next, Vec::new());
        for length in lengths {
            let message = LAYOUT.place(place, *length);
            place = LAYOUT.behind(message);
            waiting.push(message);
        }
        let (mut writes, mut next, mut rest) = (Vec::new(), next, &waiting[..]);
        while !rest.is_empty() {
            let (count, bytes) = LAYOUT.together(MOST, rest.iter().copied());
            let says = |number: u64| waiting.iter().find(|message| message.number == number).map_or(0, |m| m.length);
            let (back, messages) = LAYOUT.apart(next, rest[0].number, bytes, says).expect("what was written");
            assert_eq!(messages[..back], rest[..count]);
            next = LAYOUT.behind(rest[count - 1]);
            rest = &rest[count..];
            writes.push(messages[..back].to_vec());
        }
        writes
    }

    fn counts(next: u64, lengths: &[usize]) -> Vec<usize> {
        there_and_back(next, lengths).iter().map(Vec::len).collect()
    }

    #[test]
    fn messages_that_fill_their_slots_go_together_and_come_apart_as_they_were() {
        assert_eq!(counts(0, &[1000, 1024, 4000, 24, 1000]), [4, 1], "little is empty but behind the fourth");
        assert_eq!(counts(3, &[600, 1000]), [1, 1]);
        assert_eq!(counts(0, &[1000; 12]), [MOST, 4]);
        assert_eq!(counts(32, &[1000, 3000, 2000, 1000]), [4]);
        assert_eq!(LAYOUT.together(MOST, std::iter::empty()), (0, 0));
        let two = (0..2).map(|number| Lying { number, length: 1000 });
        assert_eq!(LAYOUT.together(1, two), (1, 1000), "no more than the sender's device takes");
    }

    #[test]
    fn no_message_goes_on_at_the_first_slot() {
        let writes = there_and_back(13, &[1000, 4000, 1000]);
        let numbers: Vec<u64> = writes.iter().flatten().map(|message| message.number).collect();
        assert_eq!(numbers, [13, 16, 20], "two slots are left out");
        assert_eq!(writes.len(), 2);
        assert_eq!(counts(14, &[1000, 1000, 1000]), [2, 1], "nor does a write");
        assert_eq!(counts(12, &[4000, 4000]), [1, 1]);
        assert_eq!(LAYOUT.most(), 7);
    }

    #[test]
    fn every_mixture_comes_apart_as_it_was() {
        let lengths = [24, 25, 700, 705, 1000, 1024, 1025, 2000, 3072, 4000];
        let mut seed = 7u64;
        for _ in 0..2000 {
            let mut random = || {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 33) as usize
            };
            let mixture: Vec<usize> = (0..1 + random() % 12).map(|_| lengths[random() % lengths.len()]).collect();
            there_and_back(random() as u64 % 1000, &mixture);
        }
    }

    #[test]
    fn what_no_rank_would_write_is_refused() {
        let refused = |next: u64, first: u64, bytes: usize, says: usize| {
            assert!(LAYOUT.apart(next, first, bytes, |_| says).is_none(), "{bytes} bytes from {first} on, each {says}");
        };
        for (bytes, says) in [(0, 0), (23, 23), (24, 23), (4001, 4001), (1000, 1001), (1000, 999), (2024, 1000 - 1)] {
            refused(0, 0, bytes, says);
        }
        refused(5, 6, 1000, 1000);
        refused(5, 4, 1000, 1000);
        refused(14, 16, 1000, 1000);
        refused(14, 14, 4000, 4000);
        refused(15, 15, 1024 + 100, 1024);
        refused(0, 0, 9 * 1024, 1024);
        refused(0, 0, 1024 + 10, 1024);
        assert!(LAYOUT.apart(14, 16, 4000, |_| 4000).is_some());
    }
}
