//! From the start of the first process to the end of the first barrier.

use crate::ranks;
use std::time::Duration;

/// What is required, on two cores that nobody else uses: 50 ms for two ranks, 2 s for 64. Here other tests run, so ten times of it is
/// allowed, and one of three tries is enough: what would be slow whenever it is tried is found.
const MARGIN: u32 = 10;
const TRIES: usize = 3;

/// One of the processes.
pub fn a_rank() {
    let comm = ranks::join();
    comm.barrier().expect("a barrier");
    let took = ranks::since_the_start();
    if comm.rank() == 0 {
        eprintln!("{} ranks have started after {took:?}", comm.size());
    }
    let required = if comm.size() <= 2 { Duration::from_millis(50) } else { Duration::from_secs(2) };
    assert!(took <= required * MARGIN, "{} ranks took {took:?} to start", comm.size());
}

fn start_soon(size: usize) {
    let failures: Vec<String> = (0..TRIES).map_while(|_| ranks::try_job("start::a_rank", size, &[]).err()).collect();
    assert!(failures.len() < TRIES, "{failures:?}");
}

#[test]
fn two_ranks_start_soon() {
    start_soon(2);
}

#[test]
fn sixty_four_ranks_start_soon() {
    start_soon(64);
}
