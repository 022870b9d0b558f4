//! The barrier by dissemination: in round `k` everybody signals the rank `2^k` further on and hears the one `2^k` back.
//!
//! ```text
//!   5 ranks, round 0: 0 -> 1 -> 2 -> 3 -> 4 -> 0    heard of:  2 ranks
//!            round 1: 0 -> 2, 1 -> 3, 2 -> 4, …                4 ranks
//!            round 2: 0 -> 4, 1 -> 0, 2 -> 1, …                all
//! ```

use super::Step;
use super::lane::{Seat, after, before};

/// Two steps a round.
pub(super) fn count(seat: Seat) -> u64 {
    2 * u64::from(seat.size.next_power_of_two().trailing_zeros())
}

/// A signal, or a wait for one.
pub(super) fn step(seat: Seat, index: u64) -> Step {
    let distance = 1 << (index / 2);
    if index.is_multiple_of(2) {
        Step::of(0).put_pair(after(seat, distance))
    } else {
        Step::of(0).take_pair(before(seat, distance))
    }
}
