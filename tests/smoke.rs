//! A first look at threads of one process (grows into the conformance suite).
use ringtree::{Communicator, ReduceOp};

#[test]
fn threads_add_up() {
    for n in 1..=5 {
        for count in [0usize, 1, 7, 1000, 100_000, 1_000_000] {
            let comms = Communicator::local(n).unwrap();
            std::thread::scope(|s| {
                for comm in comms {
                    s.spawn(move || {
                        let mut data: Vec<f32> = (0..count).map(|i| (i % 97) as f32 + comm.rank() as f32).collect();
                        for _ in 0..3 {
                            let mut copy = data.clone();
                            comm.all_reduce(&mut copy, ReduceOp::Sum).unwrap();
                            for (i, x) in copy.iter().enumerate() {
                                let want: f32 = (0..n).map(|r| (i % 97) as f32 + r as f32).sum();
                                assert_eq!(*x, want, "n {n} count {count} at {i}");
                            }
                        }
                        data.fill(1.0);
                        comm.all_reduce(&mut data, ReduceOp::Average).unwrap();
                        assert!(data.iter().all(|x| *x == 1.0));
                    });
                }
            });
        }
    }
}
