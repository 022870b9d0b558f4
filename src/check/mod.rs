//! The prover: interprets a program of steps with symbols in place of numbers, and the links' real capacity.
//!
//! What [`prove`] shows, for every element and every rank:
//!
//! | claim | how |
//! |---|---|
//! | the result is right | a value is the sum of its contributions' fingerprints, their count, and how far it has come |
//! | nobody waits in a circle | lists of steps over FIFOs come to the same end in any schedule, so one schedule is run to its end |
//! | no slot is overwritten or read early | a slot is filled from CREDIT to SIGNAL, a message read from AWAIT to RELEASE, wholly |
//! | all ranks have the same bits | a value carries the tree of its combinations; trees are compared between ranks |
//! | no race | vector clocks, where ranks use each other's memory; channels of one rank share nothing that is written |
//! | nothing is out of bounds | every access, every message against the slot |
//!
//! | file | idea |
//! |---|---|
//! | `program` | what is proved |
//! | `verdict` `words` | what is answered |
//! | `value` `memory` `links` `clocks` | the state of the interpretation |
//! | `shape` | what a single step may look like |
//! | `engine` `perform` | the interpretation: all steps, one step |
//! | `stuck` | who waits for whom |
//! | `expect` | what the call must have done |
//! | `limits` | what is too large |
#![forbid(unsafe_code)]

mod clocks;
mod engine;
mod expect;
mod limits;
mod links;
mod memory;
mod perform;
mod program;
mod shape;
mod stuck;
#[cfg(test)]
mod tests;
mod value;
mod verdict;
mod words;

pub use limits::MOST_WINDOW_RANKS;
pub use program::{Listed, Program, Together};
pub use verdict::{At, LinkName, Report, Violation, Waiting, Where, Wrong};

use crate::plan::MIN_SLOTS;
use engine::Engine;
use expect::Expect;

/// In which order workers that can go on do so. The verdict does not depend on it; a test shows that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Who could go on first goes first, as far as it can.
    #[default]
    OldestFirst,
    /// Who could go on last goes first, as far as it can.
    NewestFirst,
    /// One step at a time, of a worker that is drawn by chance from this seed.
    Seeded(u64),
}

/// How a program is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Slots of each link, where the program does not ask for more.
    pub slots: u32,
    /// Whether input and output overlap as a call in place has them.
    pub in_place: bool,
    /// Whether each result must be the plain left fold over ascending ranks.
    pub reproducible: bool,
    /// The order of interpretation.
    pub schedule: Schedule,
    /// The most elements of all ranks' memory that the prover takes on; each costs it 24 bytes.
    pub most_elements: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            slots: MIN_SLOTS,
            in_place: false,
            reproducible: false,
            schedule: Schedule::OldestFirst,
            most_elements: 100_000_000,
        }
    }
}

/// Proves that the program carries out its call, or says what is wrong.
pub fn prove<P: Program>(program: &P, options: &Options) -> Result<Report, Violation> {
    limits::check(program, options)?;
    let expect = Expect::new(program, options.in_place)?;
    let mut engine = Engine::new(program, options, &expect, false)?;
    if !engine.run() {
        limits::check_windows(program)?;
        engine = Engine::new(program, options, &expect, true)?;
        engine.run();
    }
    engine.conclude(&expect, options)
}
