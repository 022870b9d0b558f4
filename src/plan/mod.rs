//! Plans: pure data that says what every rank does. No I/O, no clock, no environment, no floating point that two hosts could decide
//! differently. The same plan is executed, proved (`crate::check`), simulated (`crate::sim`) and lowered to devices.
//!
//! A plan is small. The steps of one rank come from [`Plan::step`], a pure function of (rank, channel, index): nothing is stored for the
//! whole job, and any reader can look at any step without going through the others.
//!
//! | file | idea |
//! |---|---|
//! | `step` | the one kind of instruction |
//! | `layout` | which ranks are near each other |
//! | `shard` | every rounding rule: slices, chunks, channels |
//! | `choose` | the cost model and the choice |
//! | `direct` `ring` `tree` `halving` `bruck` `pairwise` `hierarchy` | one algorithm each, its drawing above its code |
#![forbid(unsafe_code)]

mod step;

pub use step::{Flags, Group, Put, Space, Step, Take};
