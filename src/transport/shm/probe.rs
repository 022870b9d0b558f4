//! What ranks find out about each other when they meet: whether they can copy from each other's memory.

use super::links::ShmLinks;
use crate::sys::remote;
use crate::transport::Links;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory that this process shows to others, so that they see whether they can read it.
static SHOWN: AtomicU64 = AtomicU64::new(0);

/// Where a rank's shown word lies, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Shown {
    at: u64,
    word: u64,
}

impl Shown {
    /// This process's.
    pub fn own() -> Shown {
        let word = u64::from(std::process::id()) << 32 | 0x72_6e_67_74;
        SHOWN.store(word, Ordering::Relaxed);
        Shown { at: (&raw const SHOWN).expose_provenance() as u64, word }
    }
}

impl ShmLinks {
    /// Whether this rank can copy from the memory of every other; `shown` has a word of each rank's.
    pub fn can_fetch(&self, shown: &[Shown]) -> bool {
        let others = (0..self.size()).filter(|rank| *rank != self.rank());
        { others }.all(|rank| {
            let Some(shown) = shown.get(rank as usize) else { return false };
            let pid = self.process(rank).map_or(std::process::id() as i32, |process| process.pid());
            let mut word = 0u64;
            // SAFETY: the word is this function's own and has eight bytes.
            let read = unsafe { remote::read(pid, shown.at, (&raw mut word).cast(), 8) };
            read.is_ok() && word == shown.word
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, Segment};
    use super::*;
    use crate::plan::World;
    use std::sync::Arc;

    fn pair() -> Vec<ShmLinks> {
        let segment = Arc::new(Segment::private(2).unwrap());
        let links = |rank| ShmLinks::new(segment.clone(), rank, &World::flat(2), Budget::process().clone());
        (0..2).map(links).collect()
    }

    #[test]
    fn a_word_that_is_not_the_one_shown_is_no_access() {
        let links = pair();
        let shown = Shown::own();
        let can = links[0].can_fetch(&[shown, shown]);
        if !can {
            use std::io::Write;
            // Written, not printed: the harness keeps what tests print to itself.
            writeln!(std::io::stderr(), "skipped: copying from other processes: this machine does not allow it")
                .expect("a line");
        }
        assert!(!links[0].can_fetch(&[shown, Shown { word: !shown.word, ..shown }]));
        assert!(!links[0].can_fetch(&[shown, Shown { at: 8, ..shown }]));
        assert!(!links[0].can_fetch(&[shown]), "a rank that shows nothing");
    }
}
