//! How far the reader of a link is, by what a look at its counter costs: where that is much, messages that go one way are written round the
//! caches.
//!
//! ```text
//!   near   writer's cache ── line ──> reader's cache     a slot's lines stay between the two cores, which share a cache
//!   far    writer ── non-temporal ──> memory ── ahead ──> reader
//!          A plain store would first claim the line from the reader's far cache, one round trip each, few at a time.
//! ```
//!
//! Broadcast between two far cores of a Zen 2 (a flag crosses in 130 ns, between near ones in 40), plain and round the caches: 4 KiB 0.91 and
//! 0.50 us, 64 KiB 10.6 and 4.3, 1 MiB 165 and 66, 16 MiB 2865 and 1185. Near cores lose half of the speed by it. What goes to and fro in
//! shuttles gains nothing: its lines are in the writer's cache.
//!
//! Measured while running, since a hypervisor moves virtual processors about; and by each rank for itself, since nobody has to agree.

/// Ticks of the time stamp counter from which on the reader is far. Between near cores of a Zen 2, nineteen of twenty looks take 67 to 90;
/// between far ones, where a flag takes 130 ns in place of 40, a load of a line that the other core has written takes 270 to 290.
const FAR: u64 = 200;

/// How firm a belief gets: from there one look more changes it.
const FIRM: i8 = 4;

/// What one writer believes of its reader.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Distance {
    /// Above 0: far.
    belief: i8,
}

impl Distance {
    /// Whether the reader seems to be far.
    #[inline(always)]
    pub fn is_far(self) -> bool {
        self.belief > 0
    }

    /// Takes into account what one look cost at a line that the reader had written since the last one. A single slow look may have been
    /// an interrupt.
    pub fn note(&mut self, ticks: u64) {
        let towards = if ticks < FAR { -1 } else { 1 };
        self.belief = (self.belief + towards).clamp(-FIRM, FIRM);
    }
}

/// What `look` returns, and the ticks that it took; 0 where nothing counts them.
#[inline]
pub(super) fn timed<T>(look: impl FnOnce() -> T) -> (T, u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instructions, and they touch no memory.
    unsafe {
        use std::arch::x86_64::{_mm_lfence, _rdtsc};
        _mm_lfence();
        let began = _rdtsc();
        let seen = look();
        _mm_lfence();
        (seen, _rdtsc().wrapping_sub(began))
    }
    #[cfg(not(target_arch = "x86_64"))]
    (look(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_interrupt_makes_nobody_far_and_some_slow_looks_do() {
        let mut distance = Distance::default();
        (0..10).for_each(|_| distance.note(120));
        distance.note(100_000);
        assert!(!distance.is_far());
        (0..10).for_each(|_| distance.note(350));
        assert!(distance.is_far());
        (0..2 * FIRM).for_each(|_| distance.note(120));
        assert!(!distance.is_far());
    }

    #[test]
    fn a_look_returns_what_it_saw() {
        assert_eq!(timed(|| 7).0, 7);
    }
}
