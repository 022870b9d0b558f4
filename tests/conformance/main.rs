//! The conformance suite: every transport does what the reference does, compared with a slow and obvious oracle.
//!
//! ```text
//!   transports (one line each)  ×  cases (one line each, with the numbers of ranks)  =  tests
//!
//!   worlds       ranks as threads, or as processes that this binary starts itself
//!   numbers      the oracle's arithmetic, and where inputs come from
//!   memory       buffers between guards
//!   trial        one collective call, what it must give, and what it must leave alone
//!   everything else is cases
//! ```
//!
//! A failing test prints its seed; `RINGTREE_TEST_SEED=<seed> cargo test --test conformance <name>` runs the same again.

mod asynchronous;
mod collectives;
mod disagreement;
mod endings;
mod families;
#[path = "../hosts/mod.rs"]
mod hosts;
mod memory;
mod misuse;
mod numbers;
mod points;
mod sequences;
mod trial;
mod worlds;

use ringtree::{Protection, Transport};
use worlds::{Case, Ranks, Scene, Ways};

/// Calls the macro `$with` with every case and the numbers of ranks that it is run with.
macro_rules! each_case {
    ($with:ident) => {
        $with! {
            collectives::every_type_and_reduction: [1, 2, 3, 5];
            collectives::every_border: [2, 4, 7];
            collectives::a_seeded_sample: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17];
            collectives::every_algorithm: [2, 3, 6, 8];
            collectives::the_hierarchy: [2];
            collectives::long_vectors: [2, 3];
            collectives::small_chunks: [2, 5];
            collectives::registered_buffers: [2, 3, 5];
            collectives::registered_buffers_where_the_owner_is_forced: [1, 2, 4];
            collectives::reproducible_results: [2, 3, 5, 8];
            points::sends_keep_their_order: [2, 3, 5];
            points::send_recv_in_a_circle: [1, 2, 3, 8];
            points::memory_is_sent_as_it_is_however_often_it_came_and_went: [2, 3];
            points::a_group_where_everybody_sends_to_everybody: [2, 3, 6];
            points::a_group_of_collectives_and_messages: [2, 3, 5];
            points::a_group_on_several_communicators: [2, 4];
            asynchronous::buffers_that_are_handed_over: [1, 2, 4];
            asynchronous::scopes_overlap_and_end: [1, 2, 3];
            asynchronous::forgotten_and_dropped_work_ends_by_itself: [2, 3];
            asynchronous::a_panic_in_a_scope_waits_for_what_was_begun: [1, 2, 3];
            asynchronous::an_error_in_the_background_comes_back: [2, 3];
            families::splits_are_worlds_of_their_own: [1, 2, 3, 6];
            families::duplicates_do_not_mix: [2, 3];
            families::splits_work_under_a_forced_algorithm: [2, 3];
            families::a_duplicate_may_follow_another_algorithm: [1, 2, 3];
            families::registered_memory_that_overflows_is_refused_on_all_ranks: [2, 3];
            families::splits_keep_the_domains_of_their_members: [3, 6];
            families::rings_visit_the_hosts_of_a_rack_together: [2];
            misuse::refused_calls_leave_the_communicator_alone: [1, 2, 3];
            misuse::a_forced_algorithm_that_cannot_says_why: [2, 3];
            misuse::ranks_with_different_settings_are_refused_by_name: [2, 3];
            disagreement::ranks_that_call_different_things: [2, 3, 5];
            disagreement::ranks_that_disagree_on_counts_of_blocks: [2, 4];
            disagreement::messages_that_do_not_fit: [2, 3];
            disagreement::ranks_that_are_ahead: [2, 3];
            endings::abort_ends_waiting_ranks: [2, 3, 5];
            endings::a_rank_that_leaves_is_named: [2, 3, 5];
            endings::a_rank_that_never_comes_is_named: [2, 3, 5];
            endings::nobody_writes_to_a_buffer_after_an_error: [2, 3];
            sequences::a_seeded_program: [1, 2, 3, 5];
        }
    };
}

/// The same for worlds with domains: what looks at them, in numbers of ranks that are divided into two, three and more of them.
macro_rules! each_case_in_domains {
    ($with:ident) => {
        $with! {
            collectives::every_type_and_reduction: [4];
            collectives::a_seeded_sample: [3, 5, 6, 7, 8, 9, 10, 12];
            collectives::every_algorithm: [3, 5];
            collectives::the_hierarchy: [2, 3, 4, 5, 6, 7, 8, 9, 12];
            collectives::long_vectors: [8];
            collectives::small_chunks: [5, 6];
            collectives::registered_buffers: [5];
            collectives::reproducible_results: [5];
            points::a_group_of_collectives_and_messages: [5];
            asynchronous::scopes_overlap_and_end: [4];
            families::splits_are_worlds_of_their_own: [6, 8];
            families::splits_keep_the_domains_of_their_members: [3, 5, 6, 8, 12];
            disagreement::ranks_that_call_different_things: [5];
            endings::abort_ends_waiting_ranks: [5];
            endings::nobody_writes_to_a_buffer_after_an_error: [4];
            sequences::a_seeded_program: [5];
        }
    };
}

/// The same for processes, whose domains come from what they tell each other.
macro_rules! few_cases_in_domains {
    ($with:ident) => {
        $with! {
            collectives::the_hierarchy: [5, 8];
            families::splits_keep_the_domains_of_their_members: [3, 5, 6];
        }
    };
}

/// Where ranks are on several hosts: both kinds of links at once.
macro_rules! each_case_on_hosts {
    ($with:ident) => {
        $with! {
            collectives::every_type_and_reduction: [2, 5];
            collectives::every_border: [4];
            collectives::a_seeded_sample: [3, 4, 5, 7, 8];
            collectives::every_algorithm: [3, 6];
            collectives::the_hierarchy: [3, 4, 5, 6, 8];
            collectives::long_vectors: [3, 6];
            collectives::small_chunks: [5];
            collectives::registered_buffers: [3];
            collectives::reproducible_results: [5];
            points::sends_keep_their_order: [3, 5];
            points::send_recv_in_a_circle: [3, 8];
            points::memory_is_sent_as_it_is_however_often_it_came_and_went: [2];
            points::a_group_where_everybody_sends_to_everybody: [6];
            points::a_group_of_collectives_and_messages: [3, 5];
            points::a_group_on_several_communicators: [4];
            asynchronous::buffers_that_are_handed_over: [4];
            asynchronous::scopes_overlap_and_end: [3];
            asynchronous::a_panic_in_a_scope_waits_for_what_was_begun: [3];
            asynchronous::an_error_in_the_background_comes_back: [3];
            families::splits_are_worlds_of_their_own: [3, 6];
            families::duplicates_do_not_mix: [3];
            families::splits_keep_the_domains_of_their_members: [5];
            misuse::refused_calls_leave_the_communicator_alone: [3];
            misuse::ranks_with_different_settings_are_refused_by_name: [3];
            disagreement::ranks_that_call_different_things: [3, 5];
            disagreement::ranks_that_disagree_on_counts_of_blocks: [4];
            disagreement::messages_that_do_not_fit: [3];
            disagreement::ranks_that_are_ahead: [3];
            endings::abort_ends_waiting_ranks: [3, 5];
            endings::a_rank_that_leaves_is_named: [3, 5];
            endings::a_rank_that_never_comes_is_named: [3, 5];
            endings::nobody_writes_to_a_buffer_after_an_error: [3];
            sequences::a_seeded_program: [3, 5];
        }
    };
}

/// Where hosts are in racks: what goes round in the order of hosts, and what becomes of it in splits.
macro_rules! each_case_in_racks {
    ($with:ident) => {
        $with! {
            collectives::a_seeded_sample: [5, 8, 11];
            collectives::every_algorithm: [6];
            collectives::the_hierarchy: [8];
            collectives::reproducible_results: [8];
            families::rings_visit_the_hosts_of_a_rack_together: [7, 11];
            families::splits_are_worlds_of_their_own: [6];
            families::splits_keep_the_domains_of_their_members: [5, 11];
            sequences::a_seeded_program: [7];
        }
    };
}

/// Where hosts are network namespaces: two or four of two ranks.
macro_rules! each_case_between_hosts_of_two {
    ($with:ident) => {
        $with! {
            collectives::every_type_and_reduction: [4];
            collectives::a_seeded_sample: [4, 8];
            collectives::every_algorithm: [4];
            collectives::the_hierarchy: [4, 8];
            collectives::long_vectors: [4];
            collectives::reproducible_results: [4];
            points::sends_keep_their_order: [4];
            points::a_group_where_everybody_sends_to_everybody: [8];
            points::a_group_of_collectives_and_messages: [4];
            asynchronous::scopes_overlap_and_end: [4];
            families::splits_are_worlds_of_their_own: [4, 8];
            families::splits_keep_the_domains_of_their_members: [8];
            disagreement::ranks_that_call_different_things: [4];
            endings::abort_ends_waiting_ranks: [4];
            endings::a_rank_that_leaves_is_named: [4];
            sequences::a_seeded_program: [4, 8];
        }
    };
}

/// The same for three hosts of one rank.
macro_rules! each_case_between_hosts_of_one {
    ($with:ident) => {
        $with! {
            collectives::a_seeded_sample: [3];
            collectives::every_algorithm: [3];
            collectives::long_vectors: [3];
            points::send_recv_in_a_circle: [3];
            families::splits_are_worlds_of_their_own: [3];
            disagreement::ranks_that_call_different_things: [3];
            endings::a_rank_that_leaves_is_named: [3];
            sequences::a_seeded_program: [3];
        }
    };
}

/// Over RDMA queues, on one slow processor.
macro_rules! each_case_over_rdma {
    ($with:ident) => {
        $with! {
            collectives::every_type_and_reduction: [2];
            collectives::every_border: [2];
            collectives::a_seeded_sample: [2, 3, 4];
            collectives::every_algorithm: [3];
            collectives::long_vectors: [2];
            collectives::small_chunks: [2];
            collectives::reproducible_results: [3];
            points::sends_keep_their_order: [2, 3];
            points::send_recv_in_a_circle: [3];
            points::memory_is_sent_as_it_is_however_often_it_came_and_went: [2];
            points::a_group_where_everybody_sends_to_everybody: [3];
            points::a_group_of_collectives_and_messages: [3];
            asynchronous::scopes_overlap_and_end: [2];
            asynchronous::a_panic_in_a_scope_waits_for_what_was_begun: [2];
            families::splits_are_worlds_of_their_own: [3];
            families::duplicates_do_not_mix: [2];
            disagreement::ranks_that_call_different_things: [3];
            disagreement::messages_that_do_not_fit: [2];
            endings::abort_ends_waiting_ranks: [3];
            endings::a_rank_that_leaves_is_named: [3];
            endings::nobody_writes_to_a_buffer_after_an_error: [2];
            sequences::a_seeded_program: [2, 3];
        }
    };
}

/// Where messages are checked or encrypted: lengths at their borders, long ones, many at once, and how that ends.
macro_rules! each_case_protected {
    ($with:ident) => {
        $with! {
            collectives::every_border: [2];
            collectives::a_seeded_sample: [2, 3, 5];
            collectives::long_vectors: [3];
            collectives::small_chunks: [3];
            points::a_group_where_everybody_sends_to_everybody: [3];
            points::a_group_of_collectives_and_messages: [3];
            asynchronous::scopes_overlap_and_end: [2];
            families::splits_are_worlds_of_their_own: [3];
            misuse::ranks_with_different_settings_are_refused_by_name: [3];
            disagreement::ranks_that_call_different_things: [2];
            disagreement::messages_that_do_not_fit: [2];
            endings::abort_ends_waiting_ranks: [2];
            endings::a_rank_that_leaves_is_named: [3];
            endings::nobody_writes_to_a_buffer_after_an_error: [2];
            sequences::a_seeded_program: [3];
        }
    };
}

/// The same for hosts of two.
macro_rules! few_cases_protected {
    ($with:ident) => {
        $with! {
            collectives::a_seeded_sample: [4];
            points::a_group_where_everybody_sends_to_everybody: [4];
            endings::a_rank_that_leaves_is_named: [4];
            sequences::a_seeded_program: [4];
        }
    };
}

/// The same for threads.
macro_rules! few_cases_over_rdma {
    ($with:ident) => {
        $with! {
            collectives::a_seeded_sample: [2, 3];
            points::a_group_of_collectives_and_messages: [2];
            families::splits_are_worlds_of_their_own: [3];
            sequences::a_seeded_program: [3];
        }
    };
}

/// Where ranks copy straight from each other's memory: what copies, and how that ends.
macro_rules! each_case_of_copies {
    ($with:ident) => {
        $with! {
            collectives::every_border: [2, 4];
            collectives::a_seeded_sample: [2, 3, 5, 8];
            collectives::long_vectors: [2, 3];
            collectives::registered_buffers: [3];
            points::sends_keep_their_order: [2, 3];
            points::send_recv_in_a_circle: [2, 3];
            points::memory_is_sent_as_it_is_however_often_it_came_and_went: [2];
            points::a_group_where_everybody_sends_to_everybody: [2, 6];
            points::a_group_of_collectives_and_messages: [3];
            points::a_group_on_several_communicators: [2];
            asynchronous::scopes_overlap_and_end: [3];
            families::splits_are_worlds_of_their_own: [3];
            disagreement::ranks_that_call_different_things: [3];
            disagreement::ranks_that_disagree_on_counts_of_blocks: [2];
            disagreement::messages_that_do_not_fit: [2];
            endings::abort_ends_waiting_ranks: [2];
            endings::a_rank_that_leaves_is_named: [3];
            endings::a_rank_that_never_comes_is_named: [2];
            endings::nobody_writes_to_a_buffer_after_an_error: [2];
            sequences::a_seeded_program: [2, 5];
        }
    };
}

macro_rules! tests_of_cases {
    ($($module:ident::$name:ident: [$($size:literal),*];)*) => {
        $(#[test]
        fn $name() {
            RANKS.run(concat!(stringify!($module), "::", stringify!($name)), crate::$module::$name, &[$($size),*]);
        })*
    };
}

/// The same for what this machine may not have.
macro_rules! tests_of_cases_over_rdma {
    ($($module:ident::$name:ident: [$($size:literal),*];)*) => {
        $(#[test]
        #[ignore = "in tests/rdma: it needs an RDMA device"]
        fn $name() {
            RANKS.run(concat!(stringify!($module), "::", stringify!($name)), crate::$module::$name, &[$($size),*]);
        })*
    };
}

macro_rules! table_of_cases {
    ($($module:ident::$name:ident: [$($size:literal),*];)*) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), crate::$module::$name as Case)),*]
    };
}

/// Every case by its name: what a process that was started as a rank looks up.
const CASES: &[(&str, Case)] = each_case!(table_of_cases);

/// Makes all tests of all transports.
macro_rules! transports {
    ($($name:ident, $cases:ident: $ranks:expr;)*) => {
        $(mod $name {
            use super::*;
            const RANKS: Ranks = $ranks;
            $cases!(tests_of_cases);
        })*
    };
}

transports! {
    local, each_case: Ranks::Threads(Ways::over(Transport::Local));
    shm_threads, each_case: Ranks::Threads(Ways::over(Transport::Shm));
    shm_processes, each_case: Ranks::Processes(Ways::over(Transport::Shm));
    tcp_threads, each_case: Ranks::Threads(Ways::over(Transport::Tcp));
    tcp_processes, each_case: Ranks::Processes(Ways::over(Transport::Tcp));
    processes_on_two_hosts, each_case_on_hosts: Ranks::Processes(Ways::over(Transport::Auto).on_hosts(2));
    processes_on_three_hosts, few_cases_in_domains: Ranks::Processes(Ways::over(Transport::Auto).on_hosts(3));
    processes_in_racks, each_case_in_racks: Ranks::Processes(Ways::over(Transport::Auto).on_hosts(5).in_racks());
    two_hosts_of_two, each_case_between_hosts_of_two: Ranks::Processes(Ways::over(Transport::Auto).apart(2));
    three_hosts_of_one, each_case_between_hosts_of_one: Ranks::Processes(Ways::over(Transport::Auto).apart(1));
    tcp_threads_checked, each_case_protected: Ranks::Threads(Ways::over(Transport::Tcp).protected(Protection::Checksum));
    tcp_threads_encrypted, each_case_protected: Ranks::Threads(Ways::over(Transport::Tcp).protected(Protection::Encrypted));
    tcp_processes_checked, few_cases_protected: Ranks::Processes(Ways::over(Transport::Tcp).protected(Protection::Checksum));
    tcp_processes_encrypted, each_case_protected: Ranks::Processes(Ways::over(Transport::Tcp).protected(Protection::Encrypted));
    two_encrypted_hosts_of_two, few_cases_protected:
        Ranks::Processes(Ways::over(Transport::Auto).apart(2).protected(Protection::Encrypted));
    tcp_threads_in_domains, each_case_in_domains: Ranks::Threads(Ways::over(Transport::Tcp).in_domains());
    local_in_domains, each_case_in_domains: Ranks::Threads(Ways::over(Transport::Local).in_domains());
    shm_threads_in_domains, each_case_in_domains: Ranks::Threads(Ways::over(Transport::Shm).in_domains());
    shm_processes_in_domains, few_cases_in_domains: Ranks::Processes(Ways::over(Transport::Shm).in_domains());
    shm_threads_fetching, each_case_of_copies: Ranks::Threads(Ways::over(Transport::Shm).fetching());
    shm_processes_fetching, each_case_of_copies: Ranks::Processes(Ways::over(Transport::Shm).fetching());
}

mod verbs_processes {
    use super::*;
    const RANKS: Ranks = Ranks::Processes(Ways::over(Transport::Verbs));
    each_case_over_rdma!(tests_of_cases_over_rdma);
}

mod verbs_processes_checked {
    use super::*;
    const RANKS: Ranks = Ranks::Processes(Ways::over(Transport::Verbs).protected(Protection::Checksum));
    few_cases_over_rdma!(tests_of_cases_over_rdma);
}

mod verbs_threads {
    use super::*;
    const RANKS: Ranks = Ranks::Threads(Ways::over(Transport::Verbs));
    few_cases_over_rdma!(tests_of_cases_over_rdma);
}

/// Programs that are made shorter when they fail need ranks that can be started many times a second.
#[test]
fn programs_by_chance_over_local() {
    sequences::shrink(Ranks::Threads(Ways::over(Transport::Local)), worlds::seed());
}

#[test]
fn programs_by_chance_over_shm() {
    sequences::shrink(Ranks::Threads(Ways::over(Transport::Shm)), worlds::seed());
}

/// The entry of processes that the suite starts as ranks. Started by hand it checks the harness: a rank that fails is reported.
#[test]
fn a_rank_in_a_process() {
    if worlds::run_as_rank(CASES) {
        return;
    }
    let failing = std::panic::catch_unwind(|| {
        Ranks::Processes(Ways::over(Transport::Shm)).run(worlds::FAILING, |_: &Scene| {}, &[2])
    });
    let message = failing.expect_err("a rank that panics must fail the test");
    let message = message.downcast_ref::<String>().expect("a message");
    assert!(message.contains("rank 1 of 2") && message.contains("this rank fails"), "{message}");
}
