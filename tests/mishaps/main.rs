//! What happens to a job when something bad happens to it: ranks killed and stopped at any moment, ranks that never come, strangers at
//! the door, a system that refuses what it is asked for. Every rank that is left gets an error that says what it was, and nothing stays.
//!
//! ```text
//!   #[test] ── a Job ──> this binary again, a process for each rank ──> roles::play
//!      │                     prints `MISHAP nanoseconds word ...`
//!      └── kills, stops, starves; reads what they say; looks what is left
//! ```
//!
//! Tests of this folder run one after the other (`jobs::alone`): they look at the whole process for what was left behind, and they need
//! the processors to themselves as far as these can be had.

mod apart;
mod chance;
mod ends;
#[path = "../hosts/faults.rs"]
mod faults;
mod filters;
#[path = "../hosts/mod.rs"]
mod hosts;
mod jobs;
mod kills;
mod leftovers;
mod limits;
mod memory;
mod mix;
mod roles;
mod starts;
mod stops;
mod strangers;

/// One rank of a job, in the process that a test has started; without a role there is nothing to do.
#[test]
fn a_rank_in_a_process() {
    roles::run_as_rank();
}
