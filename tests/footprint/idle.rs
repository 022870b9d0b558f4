//! A communicator that has made a few small calls and now waits for more.

use crate::memory::{self, Memory};
use crate::ranks;
use ringtree::{Communicator, Config, ReduceOp, Transport};

const RANKS: usize = 8;

/// Bytes of memory a rank.
const LIMIT: i64 = 4 << 20;

fn small_calls(comm: &Communicator) {
    for round in 0..50 {
        comm.barrier().expect("a barrier");
        let mut data = [round as f32, 1.0];
        comm.all_reduce(&mut data, ReduceOp::Sum).expect("an all_reduce");
        assert_eq!(data, [(round * RANKS) as f32, RANKS as f32]);
    }
}

/// One of eight processes.
pub fn a_rank() {
    let before = Memory::now();
    let comm = ranks::join();
    small_calls(&comm);
    let after = Memory::now().since(before);
    let segment = memory::segments();
    eprintln!("rank {} of {RANKS} processes, idle: {after:?}, the segment {segment}", comm.rank());
    assert!(after.share <= LIMIT && after.private <= LIMIT && after.data <= LIMIT, "{after:?}");
    assert!(0 < segment && segment <= LIMIT, "{segment} bytes for {RANKS} ranks");
    // Nobody goes before all have looked: whoever stays would get the share of those who went.
    comm.barrier().expect("a barrier");
}

#[test]
fn an_idle_rank_that_is_a_process_takes_at_most_4_mib() {
    ranks::job("idle::a_rank", RANKS, &[]);
}

/// Eight threads of one process.
pub fn threads() {
    let config = Config { transport: Transport::Shm, ..Config::default() };
    let before = Memory::now();
    let comms = Communicator::local_with(RANKS, &config).expect("a world of threads");
    std::thread::scope(|threads| {
        for comm in &comms {
            threads.spawn(move || small_calls(comm));
        }
    });
    let after = Memory::now().since(before);
    eprintln!("{RANKS} ranks that are threads, idle: {after:?}");
    assert!(after.share <= LIMIT * RANKS as i64, "{after:?}");
}

#[test]
fn an_idle_rank_that_is_a_thread_takes_at_most_4_mib() {
    ranks::alone("idle::threads", &[]);
}
