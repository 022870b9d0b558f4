//! Several messages in one write: those of slots that follow each other, all but the last as long as a message may be.
//!
//! ```text
//!   slots:   │ full │ full │ full │ 17 B │   …       their number is that of the first; how long the write is says how many they are
//!            └─────── one write ──┴──────┘
//! ```
//!
//! Soft-RoCE takes 10 us for a write whatever its length (`ib_write_bw` there: 743 MB/s in writes of 128 KiB, 776 of 512 KiB, 783 of 1 MiB),
//! and every device a request, a receive and a completion.

/// Messages of a write at most. More would keep a rank that folds waiting for the first of them for too long.
pub(super) const MOST: usize = 8;

/// How the slots of both ends lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Slots, one behind the other.
    pub(super) depth: u32,
    /// Bytes before a payload.
    pub(super) header: usize,
    /// Bytes of the longest message, header included, and of a slot.
    pub(super) full: usize,
    pub(super) slot: usize,
}

impl Layout {
    /// For payloads of at most so many bytes behind headers of so many.
    pub(super) fn new(depth: u32, header: usize, most: usize) -> Layout {
        let full = header + most;
        Layout { depth, header, full, slot: full.next_multiple_of(64) }
    }

    /// Where the slot of that message begins.
    pub(super) fn at(&self, number: u64) -> usize {
        (number % u64::from(self.depth)) as usize * self.slot
    }

    /// Slots from that message's on to the last one.
    fn left(&self, number: u64) -> usize {
        self.depth as usize - (number % u64::from(self.depth)) as usize
    }

    /// Of messages from that number on, whose lengths these are: how many one write takes, `most` of them at most, and its length. At least one,
    /// where there is one.
    pub(super) fn together(&self, first: u64, most: usize, lengths: impl Iterator<Item = u32>) -> (usize, usize) {
        let (mut count, mut bytes, mut before) = (0, 0, self.full);
        for length in lengths.take(MOST.min(most).min(self.left(first))) {
            if before != self.full {
                break;
            }
            before = length as usize;
            (count, bytes) = (count + 1, count * self.slot + before);
        }
        (count, bytes)
    }

    /// The lengths of the messages in a write of so many bytes from that number on; nothing for one that no rank would send.
    pub(super) fn apart(&self, first: u64, bytes: usize) -> Option<impl Iterator<Item = usize> + use<>> {
        let count = bytes.div_ceil(self.slot);
        let last = bytes.checked_sub(count.checked_sub(1)? * self.slot)?;
        let sound = (self.header..=self.full).contains(&last) && count <= MOST.min(self.left(first));
        let full = self.full;
        sound.then(|| (1..=count).map(move |place| if place < count { full } else { last }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { depth: 16, header: 24, full: 1000, slot: 1024 };

    fn there_and_back(first: u64, lengths: &[u32]) -> Vec<usize> {
        let (count, bytes) = LAYOUT.together(first, MOST, lengths.iter().copied());
        let back: Vec<usize> = LAYOUT.apart(first, bytes).expect("what was written").collect();
        assert_eq!(back, lengths[..count].iter().map(|length| *length as usize).collect::<Vec<_>>());
        back
    }

    #[test]
    fn full_messages_and_one_behind_them_go_together_and_come_apart_as_they_were() {
        assert_eq!(there_and_back(0, &[1000, 1000, 24, 1000]), [1000, 1000, 24]);
        assert_eq!(there_and_back(3, &[999, 1000]), [999]);
        assert_eq!(there_and_back(32, &[1000; 20]).len(), MOST);
        assert_eq!(there_and_back(13, &[1000; 8]).len(), 3, "no further than to the last slot");
        assert_eq!(there_and_back(15, &[1000, 1000]).len(), 1);
        assert_eq!(LAYOUT.together(0, 2, [1000; 8].into_iter()), (2, 2024), "no more than the sender's device takes");
        assert_eq!(LAYOUT.together(0, MOST, std::iter::empty()), (0, 0));
    }

    #[test]
    fn what_no_rank_would_write_is_refused() {
        for (first, bytes) in
            [(0, 0), (0, 23), (0, 1001), (0, 1024), (0, 1024 + 23), (0, 8 * 1024 + 100), (15, 1024 + 100)]
        {
            assert!(LAYOUT.apart(first, bytes).is_none(), "{bytes} bytes from {first} on");
        }
    }
}
