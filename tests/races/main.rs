//! What calls order between ranks that are threads, and, under ThreadSanitizer (`tests/tsan`), whether a race would be found at all.

#[cfg(ringtree_tsan)]
mod controls;

use ringtree::{Communicator, Config, ReduceOp, Transport};
use std::cell::UnsafeCell;
use std::sync::Arc;

/// Memory without any order of its own: what reads and writes it must be ordered by something else.
#[derive(Default)]
struct Plain(UnsafeCell<u64>);

// SAFETY: the tests order all accesses by calls; that they do is what is tested.
unsafe impl Sync for Plain {}

impl Plain {
    fn write(&self, value: u64) {
        // SAFETY: ordered by calls, see above.
        unsafe { self.0.get().write(value) }
    }

    fn read(&self) -> u64 {
        // SAFETY: ordered by calls, see above.
        unsafe { self.0.get().read() }
    }
}

/// Runs `body` on each rank of worlds of threads, over every transport; all ranks share some plain memory.
fn on_ranks(size: usize, body: impl Fn(&Communicator, &[Plain]) + Sync) {
    for transport in [Transport::Local, Transport::Shm] {
        let config = Config { transport, ..Config::default() };
        let ranks = Communicator::local_with(size, &config).expect("a world of threads");
        let plain: Arc<Vec<Plain>> = Arc::new((0..size).map(|_| Plain::default()).collect());
        std::thread::scope(|threads| {
            for rank in ranks {
                let (plain, body) = (plain.clone(), &body);
                threads.spawn(move || body(&rank, &plain));
            }
        });
    }
}

#[test]
fn a_barrier_orders_what_ranks_do_before_and_after_it() {
    on_ranks(3, |comm, plain| {
        for round in 1..200 {
            plain[comm.rank()].write(round);
            comm.barrier().expect("a barrier");
            assert!(plain.iter().all(|other| other.read() == round));
            comm.barrier().expect("a barrier");
        }
    });
}

#[test]
fn a_message_orders_what_its_sender_did_before_what_its_receiver_does_after() {
    on_ranks(2, |comm, plain| {
        // In a line, in a slot, and in several.
        for (round, len) in [4, 5000, 300_000].into_iter().cycle().take(60).enumerate() {
            let mut bytes = vec![0u8; len];
            let turn = round % 2;
            if comm.rank() == turn {
                plain[0].write(round as u64);
                comm.send(&bytes, 1 - turn).expect("a message");
            } else {
                comm.recv(&mut bytes, turn).expect("a message");
                assert_eq!(plain[0].read(), round as u64);
            }
        }
    });
}

#[test]
fn an_all_reduce_orders_every_rank_before_every_rank() {
    on_ranks(3, |comm, plain| {
        for (round, len) in [1, 700, 60_000].into_iter().cycle().take(30).enumerate() {
            plain[comm.rank()].write(round as u64);
            let mut data = vec![1.0f32; len];
            comm.all_reduce(&mut data, ReduceOp::Sum).expect("an all_reduce");
            assert!(plain.iter().all(|other| other.read() == round as u64));
            comm.barrier().expect("a barrier");
        }
    });
}

#[test]
fn work_in_the_background_is_ordered_by_its_handle() {
    on_ranks(2, |comm, _| {
        let mut data = vec![1u64; 3000];
        for _ in 0..40 {
            data[0] += 1;
            data = comm.all_reduce_async(data, ReduceOp::Max).and_then(|work| work.wait()).expect("work");
            let scoped = comm.scope(|scope| {
                let work = scope.all_reduce(&mut data, ReduceOp::Max).expect("work");
                work.wait()
            });
            scoped.and_then(|outcome| outcome).expect("work");
        }
        assert!(data[0] == 41 && data[1..].iter().all(|element| *element == 1));
    });
}
