//! Every rounding rule: how long a chunk is, where a slice begins, which step belongs to which round.
//!
//! Integers only, and no overflow for vectors of up to [`MOST_ELEMENTS`].

use super::{Medium, Tuning};
use crate::types::{Call, Collective, DataType};

/// The longest vector, in elements, that a plan takes.
pub const MOST_ELEMENTS: u64 = 1 << 56;

/// Bytes of one message where nothing else is asked for and the vector is not long. Staging through shared memory was fastest with it on
/// two cores: both slots of a link stay in the second-level cache.
pub const CHUNK_BYTES: u32 = 64 << 10;

/// Vectors, or blocks, of so many bytes go in the longest messages: fewer turns in which one rank waits for the other. All-reduce of 1 MiB
/// between two near cores of a Zen 2: 112 us in chunks of 64 KiB, 85 in chunks of 128. Not what goes one way only, where nobody takes turns:
/// broadcast of 1 MiB between two cores of a Zen 4 51 us and 119.
const LONG_BYTES: u64 = 1 << 20;

/// The most bytes of one message through memory: a slot's.
pub const MOST_SLOT_BYTES: u32 = 128 << 10;

/// The most bytes of one message, over sockets. Each costs two system calls and the acknowledgements of what was read: two ranks on two cores
/// of a Zen 5 gather 2 MiB in 183 us in messages of 128 KiB, in 156 of 256, in 153 of 512; they reduce 2 MiB in 400, 356 and 410.
pub const MOST_CHUNK_BYTES: u32 = 256 << 10;

/// Slices and chunks begin on such borders where sizes allow: a cache line, and the widest vector register.
pub const BORDER_BYTES: u64 = 64;

/// So many chunks are moved in one step where there is no message: an executor looks at deadlines between steps.
pub(super) const WINDOW_CHUNKS: u64 = 16;

/// Over sockets a rank sends so many bytes before it takes anything: kernels that both send, and then both take, keep out of each other's way.
/// Two processes on two cores of a Zen 4 exchange 1 MiB over one socket in 163 us, each all at once; in 192 in two system calls, in 223 when
/// half of it may be under way, in 279 a quarter, in 435 with 64 KiB.
const AHEAD_BYTES: u64 = 2 << 20;

/// The most rounds of messages that a rank sends before it takes anything.
pub(crate) const MOST_AHEAD: u64 = 8;

const _: () = assert!(MOST_AHEAD < super::MIN_SENT_SLOTS as u64);

/// Whether some messages go through memory.
pub(super) fn has_memory(tuning: &Tuning) -> bool {
    tuning.inside == Medium::Memory || tuning.between == Medium::Memory
}

/// Bytes that a rank sends before it takes anything, where there is room for more than one message.
pub(super) fn ahead_bytes(tuning: &Tuning) -> u64 {
    if has_memory(tuning) { 0 } else { AHEAD_BYTES }
}

/// The most bytes of one message where ranks talk over these.
pub(super) fn most_chunk(tuning: &Tuning) -> u32 {
    if has_memory(tuning) { MOST_SLOT_BYTES } else { MOST_CHUNK_BYTES }
}

/// Bytes of one message of that call. The same on all ranks: where they don't know each other's counts, it does not depend on them. Over
/// sockets always the longest: two ranks reduce 256 KiB in 74 us in chunks of 64 KiB, in 58 in chunks of 128.
pub(super) fn usual_chunk(call: &Call, tuning: &Tuning) -> u32 {
    if [tuning.inside, tuning.between].iter().any(|medium| *medium != Medium::Memory) {
        return most_chunk(tuning);
    }
    let longest = match (&call.counts, &call.receive_counts) {
        (_, Some(_)) => 0,
        (Some(counts), None) => counts.iter().copied().max().unwrap_or(0),
        (None, None) => call.count,
    };
    let one_way = call.collective == Collective::Broadcast;
    if !one_way && longest.saturating_mul(call.dtype.size() as u64) >= LONG_BYTES {
        MOST_SLOT_BYTES
    } else {
        CHUNK_BYTES
    }
}

/// Elements between two borders.
pub(super) fn border(dtype: DataType) -> u64 {
    BORDER_BYTES / dtype.size() as u64
}

/// Elements of a chunk of so many bytes: whole borders where there is room for one, and never none.
pub(super) fn chunk_elements(bytes: u64, dtype: DataType) -> u64 {
    let elements = bytes / dtype.size() as u64;
    let border = border(dtype);
    if elements >= border { elements / border * border } else { elements.max(1) }
}

/// `(index / per, index % per)`. Step numbers are nearly always small, and a 32-bit division costs half of a 64-bit one.
#[inline]
pub(super) fn divide(index: u64, per: u64) -> (u64, u64) {
    if index < per {
        (0, index)
    } else if (index | per) >> 32 == 0 {
        let (index, per) = (index as u32, per as u32);
        ((index / per) as u64, (index % per) as u64)
    } else {
        (index / per, index % per)
    }
}

/// A range divided into slices whose lengths differ by one border at most (the last may be shorter still). The first is the longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slices {
    len: u64,
    parts: u64,
    unit: u64,
    /// Units of every slice, and how many slices have one more.
    base: u64,
    extra: u64,
}

impl Slices {
    /// `parts` slices of `len` elements, on multiples of `unit` where each slice gets one.
    pub(super) fn new(len: u64, parts: u32, unit: u64) -> Slices {
        let parts = u64::from(parts.max(1));
        let unit = if len / unit >= parts { unit } else { 1 };
        let units = len.div_ceil(unit);
        Slices { len, parts, unit, base: units / parts, extra: units % parts }
    }

    /// Where a slice begins. Past the last slice there is nothing.
    #[inline]
    pub(super) fn start(&self, index: u64) -> u64 {
        let index = index.min(self.parts);
        ((index * self.base + index.min(self.extra)) * self.unit).min(self.len)
    }

    /// The length of a slice.
    #[inline]
    pub(super) fn length(&self, index: u64) -> u64 {
        self.start(index + 1) - self.start(index)
    }
}

/// One turn of a pipelined schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Sub-step of the first half of a round.
    Head(u64, u64),
    /// Sub-step of the second half of a round.
    Tail(u64, u64),
}

/// A pipeline: the first half of round `t + lag` (`head` steps) goes before the second half of round `t` (`tail` steps).
///
/// ```text
///   lag 1:   H0 | H1 T0 | H2 T1 | H3 T2 | T3
/// ```
#[inline]
pub(super) fn turn(index: u64, rounds: u64, lag: u64, head: u64, tail: u64) -> Turn {
    let lag = lag.min(rounds);
    let lead = lag * head;
    if index < lead {
        let (round, sub) = divide(index, head);
        return Turn::Head(round, sub);
    }
    let index = index - lead;
    let (round, sub) = divide(index, head + tail);
    if round < rounds - lag {
        return if sub < head { Turn::Head(round + lag, sub) } else { Turn::Tail(round, sub - head) };
    }
    let (round, sub) = divide(index - (rounds - lag) * (head + tail), tail);
    Turn::Tail(rounds - lag + round, sub)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn slices_cover_the_range_in_order_and_differ_by_one_border(
            len in prop_oneof![0u64..5000, 0u64..=MOST_ELEMENTS],
            parts in 1u32..=5000,
            unit in prop_oneof![Just(1u64), Just(8), Just(16), Just(64)],
        ) {
            let slices = Slices::new(len, parts, unit);
            prop_assert_eq!(slices.start(0), 0);
            prop_assert_eq!(slices.start(u64::from(parts)), len);
            prop_assert_eq!(slices.length(u64::from(parts)), 0);
            let longest = slices.length(0);
            for index in 0..u64::from(parts) {
                prop_assert!(slices.start(index) <= slices.start(index + 1));
                prop_assert!(slices.length(index) <= longest);
                if len >= unit * u64::from(parts) {
                    let start = slices.start(index);
                    prop_assert!(start.is_multiple_of(unit) || start == len, "slice {} begins at {}", index, start);
                    prop_assert!(slices.length(index) + 2 * unit > longest);
                } else {
                    prop_assert!(slices.length(index) + 1 >= longest);
                }
            }
        }

        #[test]
        fn division_by_halves_is_division(index in any::<u64>(), small in any::<u32>(), per in 1u64..=u64::MAX, few in 1u64..100_000) {
            prop_assert_eq!(divide(index, per), (index / per, index % per));
            prop_assert_eq!(divide(index, few), (index / few, index % few));
            prop_assert_eq!(divide(u64::from(small), few), (u64::from(small) / few, u64::from(small) % few));
        }

        #[test]
        fn a_chunk_is_never_empty_nor_larger_than_asked(bytes in 1u64..1 << 20) {
            for dtype in DataType::ALL {
                let chunk = chunk_elements(bytes, dtype);
                prop_assert!(chunk >= 1);
                prop_assert!(chunk == 1 || chunk * dtype.size() as u64 <= bytes);
                prop_assert!(chunk < border(dtype) || chunk.is_multiple_of(border(dtype)));
            }
        }

        #[test]
        fn a_pipeline_runs_every_half_round_once_and_heads_lead_by_the_lag(
            rounds in 1u64..20, lag in 0u64..25, head in 1u64..5, tail in 1u64..5,
        ) {
            let mut seen = HashSet::new();
            let (mut heads, mut tails) = (0, 0);
            for index in 0..rounds * (head + tail) {
                match turn(index, rounds, lag, head, tail) {
                    Turn::Head(round, sub) => {
                        prop_assert_eq!(round * head + sub, heads);
                        heads += 1;
                        prop_assert!(seen.insert((true, round, sub)));
                    }
                    Turn::Tail(round, sub) => {
                        prop_assert_eq!(round * tail + sub, tails);
                        tails += 1;
                        prop_assert!(heads >= (round + lag + 1).min(rounds) * head || heads == (round + lag).min(rounds) * head + head);
                        prop_assert!(seen.insert((false, round, sub)));
                    }
                }
            }
            prop_assert_eq!(seen.len() as u64, rounds * (head + tail));
        }
    }
}
