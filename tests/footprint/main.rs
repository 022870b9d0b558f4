//! What a communicator costs before it has done anything: the memory of an idle one, the staging of many, the time to start. Memory is a
//! state and is asserted as it is; times are asserted with a wide margin, and `cargo bench --bench start` measures them.
//!
//! Every test runs in processes of its own, because budgets and what /proc says are a process's.

mod idle;
mod memory;
mod ranks;
mod staging;
mod start;

use ranks::Part;

/// What a process that was started by a test does, by its name.
const PARTS: &[(&str, Part)] = &[
    ("idle::a_rank", idle::a_rank),
    ("idle::threads", idle::threads),
    ("staging::a_rank", staging::a_rank),
    ("staging::threads_in_turn", staging::threads_in_turn),
    ("staging::threads_side_by_side", staging::threads_side_by_side),
    ("start::a_rank", start::a_rank),
];

/// The entry of processes that the tests start. Started by hand it does nothing.
#[test]
fn a_process_of_a_test() {
    ranks::run_part(PARTS);
}
