//! Shuttles: slots that go to and fro between two ranks. Whoever has read one writes it next.
//!
//! ```text
//!   a slot that stays with its writer            a shuttle
//!
//!   A writes ──line──> B reads                   A writes ──line──> B reads
//!   A writes again: the line comes back          B writes again: the line is there
//!      ──line──> B reads                            <──line── A reads
//! ```
//!
//! Each line of a slot that stays with its writer crosses twice a message: to the reader, and back when it is written again. That of a
//! shuttle crosses once. One-shot all-reduce between two cores of a Zen 2, the plain loop: 1 KiB 0.133 -> 0.089 us, 64 KiB 5.2 -> 3.8 us
//! where the cores share a cache, 16.8 -> 7.6 us where they don't.
//!
//! A link with one reader and the link back share two kinds of them, as large as the large and the small slots; at first each rank holds
//! two of each kind, and no rank keeps more. A rank that holds one sends in it; one that holds none, because the traffic goes one way, sends
//! in a slot of its own. So a link never has fewer slots than without shuttles, whatever the peer does with them.
//!
//! Who has its share already returns what comes, and the peer takes it up when it looks for room. A peer that has its share by then leaves
//! it, and a peer that has ended its call does not look. What was returned and not taken up can be taken back, by whoever wants to give its
//! memory back: the peer says what it takes, then looks at the returns once more; and who takes back changes the returns, runs a fence
//! everywhere, then looks at what is taken. At most one of them has it.

use super::layout::{SHUTTLES, SMALL_SLOT_BYTES};
use super::ring::Released;
use crate::sys::barrier;

/// Bits of the shuttles: four large ones, then four small ones. Of each kind the first two lie beside the slots of the rank's own link, the
/// other two beside those of the link back; the peer sees them the other way round.
const KIND: u32 = 2 * SHUTTLES;

/// All shuttles of two links.
pub const ALL: u32 = 2 * KIND;

/// Those that a rank holds at first.
const OWN: u32 = 0b0011_0011;

/// The number that the peer gives to a shuttle.
#[inline(always)]
pub fn seen_by_peer(shuttle: u32) -> u32 {
    shuttle ^ SHUTTLES
}

/// Whether it is one of the small ones.
#[inline(always)]
pub(super) fn is_small(shuttle: u32) -> bool {
    shuttle >= KIND
}

/// Which of the two of its kind and side it is, and whether it lies beside the rank's own slots.
#[inline(always)]
pub(super) fn seat(shuttle: u32) -> (usize, bool) {
    ((shuttle % SHUTTLES) as usize, shuttle & SHUTTLES == 0)
}

/// What a rank knows of the shuttles between it and one peer.
#[derive(Debug, Default)]
pub struct Shuttles {
    /// A bit for each that this rank holds.
    held: u32,
    /// The one that came last: its lines are nearest.
    recent: u32,
    /// The state of the peer's word of returns when it was last looked at.
    seen: u32,
    /// Bytes of each large one that the budget has been charged for.
    pub bytes: usize,
}

/// A word of returns that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadReturn {
    /// What the peer claims to have returned.
    pub shuttle: u32,
}

impl Shuttles {
    /// Of a link with one reader; any other has none.
    pub fn new(one_reader: bool) -> Shuttles {
        Shuttles { held: if one_reader { OWN } else { 0 }, ..Shuttles::default() }
    }

    /// One for a message of `len` bytes of that kind.
    #[inline(always)]
    pub fn pick(&self, small: bool, len: usize) -> Option<u32> {
        let kind = if small { self.held >> KIND << KIND } else { self.held & ((1 << KIND) - 1) };
        if kind == 0 || !small && self.bytes < len {
            return None;
        }
        Some(if kind >> self.recent & 1 != 0 { self.recent } else { kind.trailing_zeros() })
    }

    /// Whether this rank holds it.
    #[inline(always)]
    pub fn holds(&self, shuttle: u32) -> bool {
        self.held >> shuttle & 1 != 0
    }

    /// It went to the peer.
    #[inline(always)]
    pub fn send(&mut self, shuttle: u32) {
        self.held &= !(1 << shuttle);
    }

    /// It came with a message, which has been read, and stays here from now on. False: this rank has its share already.
    #[inline(always)]
    pub fn keep(&mut self, shuttle: u32) -> bool {
        let room = self.count(is_small(shuttle)) < SHUTTLES;
        if room {
            self.held |= 1 << shuttle;
            self.recent = shuttle;
        }
        room
    }

    /// Those of a kind that it holds.
    #[inline(always)]
    pub fn count(&self, small: bool) -> u32 {
        (if small { self.held >> KIND } else { self.held & ((1 << KIND) - 1) }).count_ones()
    }

    /// All that it holds.
    pub fn all(&self) -> impl Iterator<Item = u32> {
        let held = self.held;
        bits(held)
    }

    /// Takes what the peer has returned, up to this rank's share. `theirs` has the peer's word of returns, `own` says what is taken up.
    /// Whether there was anything.
    #[inline]
    pub fn collect(&mut self, theirs: &Released, own: &Released) -> Result<bool, BadReturn> {
        let new = theirs.returned() ^ self.seen;
        if new == 0 { Ok(false) } else { self.take_up(new, theirs, own).map(|()| true) }
    }

    #[cold]
    fn take_up(&mut self, new: u32, theirs: &Released, own: &Released) -> Result<(), BadReturn> {
        if new >> ALL != 0 {
            return Err(BadReturn { shuttle: ALL });
        }
        let mut taken = 0;
        for shuttle in bits(new) {
            if self.holds(shuttle) {
                return Err(BadReturn { shuttle });
            }
            if self.keep(shuttle) {
                taken |= 1 << shuttle;
            }
        }
        if taken == 0 {
            return Ok(());
        }
        own.take_up(self.seen ^ taken);
        barrier::fence_this();
        // Those that the peer has taken back in the meantime.
        let lost = taken & !(theirs.returned() ^ self.seen);
        self.held &= !lost;
        self.seen ^= taken & !lost;
        if lost != 0 {
            own.take_up(self.seen);
        }
        Ok(())
    }

    /// Takes back what this rank has returned and the peer has not taken up, as far as its share goes.
    pub fn take_back(&mut self, theirs: &Released, own: &Released) {
        // By the peer's numbers. What it says that it has taken may be anything: at worst both write where only they read.
        let returned = own.returned();
        let mut wanted = 0;
        for shuttle in bits((returned ^ theirs.taken()) & ((1 << ALL) - 1)) {
            let mine = seen_by_peer(shuttle);
            if !self.holds(mine) && self.keep(mine) {
                wanted |= 1 << shuttle;
            }
        }
        if wanted == 0 {
            return;
        }
        own.flip_returned(wanted);
        // Without the fence nobody knows who was first: all stays with the peer.
        let fenced = barrier::fence_everybody();
        let left = if fenced { wanted & !(returned ^ theirs.taken()) } else { wanted };
        if left != 0 {
            own.flip_returned(left);
            bits(left).for_each(|shuttle| self.send(seen_by_peer(shuttle)));
        }
    }
}

/// The numbers of the bits that are set.
fn bits(word: u32) -> impl Iterator<Item = u32> {
    (0..u32::BITS).filter(move |bit| word >> bit & 1 != 0)
}

/// Whether a message fits in a shuttle of that kind.
#[inline(always)]
pub(super) fn fits(shuttle: u32, len: usize) -> bool {
    len <= if is_small(shuttle) { SMALL_SLOT_BYTES } else { super::layout::SLOT_BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ranks_mean_the_same_memory_by_the_two_numbers_of_a_shuttle() {
        for shuttle in 0..ALL {
            let (index, own) = seat(shuttle);
            assert_eq!(seat(seen_by_peer(shuttle)), (index, !own));
            assert_eq!(is_small(seen_by_peer(shuttle)), is_small(shuttle));
        }
    }

    #[test]
    fn an_exchange_goes_on_in_the_slot_that_came_last() {
        let (mut a, mut b) = (Shuttles::new(true), Shuttles::new(true));
        let mut used = [0; ALL as usize];
        for _ in 0..100 {
            let (from_a, from_b) = (a.pick(true, 100).unwrap(), b.pick(true, 100).unwrap());
            a.send(from_a);
            b.send(from_b);
            assert!(a.keep(seen_by_peer(from_b)) && b.keep(seen_by_peer(from_a)));
            used[from_a as usize] += 1;
        }
        assert_eq!(used.iter().filter(|times| **times > 0).count(), 2, "{used:?}");
    }

    #[test]
    fn who_never_sends_keeps_no_more_than_its_share_and_what_it_returns_is_taken_up_again() {
        let (mut a, mut b) = (Shuttles::new(true), Shuttles::new(true));
        let (word, own) = (Released::none(), Released::none());
        while let Some(shuttle) = a.pick(true, 100) {
            a.send(shuttle);
            assert!(!b.keep(seen_by_peer(shuttle)));
            word.return_shuttle(shuttle);
        }
        assert_eq!(a.count(true), 0);
        a.collect(&word, &own).unwrap();
        assert_eq!((a.count(true), a.pick(true, 100).is_some()), (SHUTTLES, true));
        assert_eq!(a.collect(&word, &own), Ok(false), "nothing is taken up twice");
        word.flip_returned(0xFF);
        assert_eq!(a.collect(&word, &own), Err(BadReturn { shuttle: a.all().next().unwrap() }));
    }

    #[test]
    fn what_was_returned_and_not_taken_up_is_taken_back_once_and_what_was_taken_up_is_not() {
        let (mut a, mut b) = (Shuttles::new(true), Shuttles::new(true));
        // `to_a`: what b writes, `to_b`: what a writes.
        let (to_a, to_b) = (Released::none(), Released::none());
        let first = a.pick(true, 100).unwrap();
        a.send(first);
        to_a.return_shuttle(first);
        // A gets one from b before it looks for what it got back.
        let second = b.pick(true, 100).unwrap();
        b.send(second);
        assert!(a.keep(seen_by_peer(second)));
        assert_eq!(a.collect(&to_a, &to_b), Ok(true), "it lies there, and a has its share");
        assert_eq!([a.count(true), b.count(true)], [2, 1]);
        b.take_back(&to_b, &to_a);
        assert!(b.holds(seen_by_peer(first)));
        assert_eq!(a.collect(&to_a, &to_b), Ok(false));
        b.take_back(&to_b, &to_a);
        assert_eq!([a.count(true), b.count(true)], [2, 2]);
        // Now the one that a takes up.
        let third = a.pick(true, 100).unwrap();
        a.send(third);
        to_a.return_shuttle(third);
        a.collect(&to_a, &to_b).unwrap();
        let fourth = b.pick(true, 100).unwrap();
        b.send(fourth);
        b.take_back(&to_b, &to_a);
        assert_eq!([a.count(true), b.count(true)], [2, 1]);
    }

    #[test]
    fn a_large_one_is_used_only_as_far_as_it_is_paid_for() {
        let mut shuttles = Shuttles::new(true);
        assert_eq!(shuttles.pick(false, 5000), None);
        shuttles.bytes = 8192;
        assert!(shuttles.pick(false, 5000).is_some());
        assert_eq!(shuttles.pick(false, 8193), None);
        assert_eq!(Shuttles::new(false).pick(true, 1), None, "a link with several readers has none");
    }
}
