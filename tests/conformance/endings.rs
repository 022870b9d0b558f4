//! How communicators end: by abort, by ranks that leave, by ranks that never come.

use crate::worlds::Scene;
use ringtree::{Communicator, Error, Place, ReduceOp};
use std::time::{Duration, Instant};

/// Far below the timeout of 60 s; far above what a busy machine needs.
const QUICKLY: Duration = Duration::from_secs(30);

/// Whether an error names the operation. A rank that hears of the end before it has begun anything names none.
fn names(place: &Place, operation: &str) -> bool {
    place.number == 0 && place.operation.is_empty() || place.operation.contains(operation)
}

/// Abort from another thread of a rank, while this and the other ranks wait for one that never comes.
pub fn abort_ends_waiting_ranks(scene: &Scene) {
    for aborting in [0, scene.size() - 1] {
        let communicator = scene.world(|_| {});
        let began = Instant::now();
        let absent = (aborting + 1) % scene.size();
        if scene.rank() == absent {
            // Takes no part; hears of it when it calls something.
            scene.base.barrier().expect("the base goes on");
        }
        let outcome = std::thread::scope(|threads| {
            if scene.rank() == aborting {
                threads.spawn(|| communicator.abort("the user pressed a key"));
            }
            communicator.barrier().and_then(|()| communicator.barrier())
        });
        match &outcome {
            Err(Error::Aborted { rank, reason, .. }) => {
                assert_eq!((*rank, reason.as_str()), (aborting, "the user pressed a key"));
            }
            other => panic!("rank {}: {other:?}", scene.rank()),
        }
        assert!(began.elapsed() < QUICKLY);
        let later = communicator.all_reduce(&mut [1u8], ReduceOp::Sum).expect_err("the communicator has ended");
        assert_eq!(later.to_string(), outcome.unwrap_err().to_string());
        if scene.rank() != absent {
            scene.base.barrier().expect("the base goes on");
        }
    }
}

/// A rank that drops its communicator while others go on is named, also by ranks that do not wait for it themselves.
pub fn a_rank_that_leaves_is_named(scene: &Scene) {
    for leaving in [0, scene.size() - 1] {
        let communicator = scene.world(|_| {});
        communicator.barrier().expect("all are there");
        if scene.rank() == leaving {
            drop(communicator);
            scene.base.barrier().expect("the base goes on");
            continue;
        }
        let began = Instant::now();
        let outcome = communicator.all_reduce(&mut vec![1f32; 10_000], ReduceOp::Sum);
        match &outcome {
            Err(Error::PeerLost { rank, how, place }) => {
                assert_eq!(*rank, leaving);
                assert!(how.contains("left") && names(place, "all_reduce of 10000 f32"), "{outcome:?}");
            }
            other => panic!("rank {}: {other:?}", scene.rank()),
        }
        assert!(began.elapsed() < QUICKLY);
        assert_eq!(communicator.barrier().unwrap_err().to_string(), outcome.unwrap_err().to_string());
        scene.base.barrier().expect("the base goes on");
    }
}

/// A rank that never calls is named after the timeout, with the operation that the others wait in.
pub fn a_rank_that_never_comes_is_named(scene: &Scene) {
    for absent in [0, scene.size() - 1] {
        // Long enough that a busy machine does not keep a rank from coming.
        let limit = Duration::from_secs(1);
        let communicator = scene.world(|config| config.timeout = limit);
        scene.base.barrier().expect("all are there");
        if scene.rank() != absent {
            let outcome = communicator.all_reduce(&mut [1i32; 12], ReduceOp::Sum);
            match &outcome {
                Err(Error::Timeout { ranks, limit: passed, place, waiting_for, .. }) => {
                    assert_eq!((ranks.as_slice(), *passed), (&[absent][..], limit), "{outcome:?}");
                    assert!(names(place, "all_reduce of 12 i32"), "{outcome:?}");
                    assert!(waiting_for.contains(&format!("rank {absent}")), "{outcome:?}");
                }
                other => panic!("rank {}: {other:?}", scene.rank()),
            }
            assert_eq!(communicator.barrier().unwrap_err().to_string(), outcome.unwrap_err().to_string());
        }
        scene.base.barrier().expect("the base goes on");
        if scene.rank() == absent {
            let late = communicator.all_reduce(&mut [1i32; 12], ReduceOp::Sum).and_then(|()| communicator.barrier());
            assert!(matches!(&late, Err(Error::Timeout { .. })), "{late:?}");
        }
    }
    nobody_receives(scene);
}

/// The same for a message that nobody takes, and one that nobody sends.
fn nobody_receives(scene: &Scene) {
    let last = scene.size() - 1;
    let communicator = scene.world(|config| config.timeout = Duration::from_millis(300));
    let outcome = match scene.rank() {
        0 => communicator.recv(&mut [0u8; 9], last),
        _ => Ok(()),
    };
    if scene.rank() == 0 {
        match &outcome {
            Err(Error::Timeout { ranks, place, .. }) => {
                assert_eq!(ranks, &[last]);
                assert!(place.operation.contains("receive of 9 u8"), "{outcome:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    scene.base.barrier().expect("the base goes on");
}

/// Ranks that write into each other's buffers stop before a call that failed has returned there.
pub fn nobody_writes_to_a_buffer_after_an_error(scene: &Scene) {
    for round in 0..8 {
        let communicator = scene.world(|_| {});
        let len = 3 << 17;
        if round % 2 == 0 {
            interrupt(scene, &communicator, &mut vec![1u64; len], round);
        } else {
            let mut registered = communicator.alloc::<u64>(len).expect("registered memory");
            interrupt(scene, &communicator, &mut registered, round);
        }
    }
}

fn interrupt(scene: &Scene, communicator: &Communicator, data: &mut [u64], round: u64) {
    // An abort ends what is under way on any rank: nobody is still getting its memory.
    scene.base.barrier().expect("the base goes on");
    std::thread::scope(|threads| {
        if scene.rank() == 0 {
            threads.spawn(move || {
                std::thread::sleep(Duration::from_millis(round));
                communicator.abort("in the middle");
            });
        }
        // Until the abort: how many calls that takes does not matter.
        while communicator.all_reduce(&mut *data, ReduceOp::Max).is_ok() {}
    });
    data.fill(77);
    // As long as another rank may need to go on with what it was doing.
    scene.base.barrier().expect("the base goes on");
    assert!(data.iter().all(|x| *x == 77), "a buffer was written after its call had returned");
}
