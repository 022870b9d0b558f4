//! Operations that go on while the caller computes.

use crate::worlds::Scene;
use ringtree::{Communicator, Error, ReduceOp};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

fn ones(count: usize) -> Vec<i32> {
    vec![1; count]
}

/// Every operation that takes a buffer, waited for in every way.
pub fn buffers_that_are_handed_over(scene: &Scene) {
    let communicator = scene.world(|_| {});
    let (rank, size) = (scene.rank(), scene.size());
    for count in [0usize, 1, 100, 300_000] {
        let work = communicator.all_reduce_async(ones(count), ReduceOp::Sum).expect("begun");
        let placed = (0..size * count).map(|at| if at / count == rank { rank as u64 } else { 99 }).collect::<Vec<_>>();
        let gather = communicator.all_gather_in_place_async(placed).expect("begun");
        let blocks = vec![2u8; size * count];
        let scatter = communicator.reduce_scatter_in_place_async(blocks, ReduceOp::Max).expect("begun");
        let root = size - 1;
        let spread = communicator.broadcast_async(vec![rank as f64; count], root).expect("begun");
        let reduce = communicator.reduce_async(vec![3.0f32; count], ReduceOp::Average, root).expect("begun");

        let reduced = reduce.wait().expect("reduce");
        assert!(reduced.iter().all(|x| *x == 3.0) && reduced.len() == count);
        assert!(work.test() && gather.test() && scatter.test() && spread.test(), "operations end in order");
        assert!(work.wait().expect("all_reduce").iter().all(|x| *x == size as i32));
        let gathered = gather.wait_timeout(Duration::ZERO).expect("it has ended").expect("all_gather");
        assert!(gathered.iter().enumerate().all(|(at, x)| *x == (at / count) as u64));
        assert!(scatter.wait().expect("reduce_scatter")[rank * count..][..count].iter().all(|x| *x == 2));
        assert!(spread.wait().expect("broadcast").iter().all(|x| *x == root as f64));
    }
    messages_and_registered_memory(scene, &communicator);
}

fn messages_and_registered_memory(scene: &Scene, communicator: &Communicator) {
    let (rank, size) = (scene.rank(), scene.size());
    let mut buffer = communicator.alloc::<u32>(5000).expect("registered memory");
    for round in 0..5u32 {
        buffer.fill(round + rank as u32);
        buffer = communicator.all_reduce_async(buffer, ReduceOp::Max).expect("begun").wait().expect("all_reduce");
        assert!(buffer.iter().all(|x| *x == round + size as u32 - 1));
    }
    if size < 2 || rank > 1 {
        return;
    }
    let other = 1 - rank;
    let (mut sends, mut receives) = (Vec::new(), Vec::new());
    for number in 0..3 {
        if rank == 0 {
            sends.push(communicator.send_async(vec![number; 1000], other).expect("begun"));
        } else {
            receives.push(communicator.recv_async(vec![9; 1000], other).expect("begun"));
        }
    }
    for send in sends {
        send.wait().expect("a send");
    }
    for (number, receive) in receives.into_iter().enumerate() {
        assert!(receive.wait().expect("a receive").iter().all(|x| *x == number as i32));
    }
}

/// Borrowed buffers: several operations go on in one scope, blocking ones line up behind them.
pub fn scopes_overlap_and_end(scene: &Scene) {
    let communicator = scene.world(|_| {});
    let size = scene.size() as i32;
    for count in [1usize, 1000, 200_000] {
        let (mut first, mut second, mut third) = (ones(count), ones(count), ones(count));
        let input = ones(count);
        let seen = communicator
            .scope(|scope| {
                let one = scope.all_reduce(&mut first, ReduceOp::Sum).expect("begun");
                let two = scope.all_reduce_into(&input, &mut second, ReduceOp::Sum).expect("begun");
                communicator.all_reduce(&mut third, ReduceOp::Sum).expect("a blocking call in a scope");
                assert!(one.test() && two.test(), "a blocking call comes after what was begun");
                one.wait().expect("waiting twice is allowed");
                one.wait().expect("waiting twice is allowed");
                two.wait_timeout(Duration::from_secs(60)).expect("it has ended").expect("all_reduce");
                42
            })
            .expect("a scope");
        assert_eq!(seen, 42);
        assert!([&first, &second, &third].into_iter().all(|data| data.iter().all(|x| *x == size)));
        // Nobody waits: the scope does.
        communicator
            .scope(|scope| scope.all_reduce(&mut first, ReduceOp::Sum).map(drop))
            .expect("a scope")
            .expect("begun");
        assert!(first.iter().all(|x| *x == size * size));
    }
}

/// Handles that are forgotten or dropped leave operations that end by themselves.
pub fn forgotten_and_dropped_work_ends_by_itself(scene: &Scene) {
    let communicator = scene.world(|_| {});
    for round in 0..10 {
        let work = communicator.all_reduce_async(ones(50_000), ReduceOp::Sum).expect("begun");
        if round % 2 == 0 {
            std::mem::forget(work);
        } else {
            drop(work);
        }
    }
    let mut data = ones(10);
    communicator.scope(|scope| scope.all_reduce(&mut data, ReduceOp::Sum).map(std::mem::forget)).unwrap().unwrap();
    assert!(data.iter().all(|x| *x == scene.size() as i32));
    let last = communicator.all_reduce_async(ones(7), ReduceOp::Sum).expect("begun");
    drop(communicator);
    assert!(last.test(), "a communicator goes after its operations have ended");
    assert!(last.wait().expect("all_reduce").iter().all(|x| *x == scene.size() as i32));
}

/// The buffers of a scope are free again only when nobody writes to them, also when its body panics.
pub fn a_panic_in_a_scope_waits_for_what_was_begun(scene: &Scene) {
    let communicator = scene.world(|_| {});
    for _ in 0..5 {
        let mut data = ones(100_000);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            communicator.scope(|scope| {
                let _work = scope.all_reduce(&mut data, ReduceOp::Sum).expect("begun");
                std::panic::resume_unwind(Box::new("a panic in a scope"));
            })
        }));
        assert!(panicked.is_err());
        assert!(data.iter().all(|x| *x == scene.size() as i32));
    }
    communicator.barrier().expect("the communicator goes on");
}

/// An operation that fails in the background says so in its handle, in its scope, and in later calls.
pub fn an_error_in_the_background_comes_back(scene: &Scene) {
    let communicator = scene.world(|_| {});
    if scene.rank() == 0 {
        communicator.abort("enough");
        return;
    }
    let is_abort = |error: Error| matches!(&error, Error::Aborted { rank: 0, reason, .. } if reason == "enough");
    let work = communicator.all_reduce_async(ones(10), ReduceOp::Sum).expect("begun");
    assert!(is_abort(work.wait().expect_err("rank 0 does not take part")));
    let mut data = ones(10);
    let mut again = ones(10);
    let scoped = communicator.scope(|scope| scope.all_reduce(&mut data, ReduceOp::Sum).map(drop));
    assert!(is_abort(scoped.expect_err("the communicator has ended")));
    assert!(is_abort(communicator.all_reduce(&mut again, ReduceOp::Sum).expect_err("the same error")));
    assert!(communicator.error().is_some_and(is_abort));
}
