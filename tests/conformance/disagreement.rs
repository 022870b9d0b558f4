//! Ranks that do different things: the same error on all of them, quickly, never a hang, never a write past an end.

use crate::memory::{Memory, Place};
use crate::worlds::Scene;
use ringtree::{Communicator, Error, ReduceOp, Result};
use std::time::{Duration, Instant};

/// Far below the timeout of 60 s; far above what a busy machine needs.
const QUICKLY: Duration = Duration::from_secs(30);

/// Makes ranks disagree on a new communicator and checks what all of them get. `words`: what the message must say.
fn disagree(scene: &Scene, words: [&str; 2], call: impl FnOnce(&Communicator) -> Result<()>) {
    let communicator = scene.world(|_| {});
    let began = Instant::now();
    // A rank whose part needs nobody else hears of it in one of the next calls.
    let outcome = call(&communicator).and_then(|()| communicator.barrier()).and_then(|()| communicator.barrier());
    let took = began.elapsed();
    let who = format!("rank {} of {}, {words:?}", scene.rank(), scene.size());
    let error = outcome.expect_err(&who);
    assert!(matches!(&error, Error::Mismatch { rank, other, .. } if rank != other), "{who}: {error}");
    let message = error.to_string();
    assert!(words.iter().all(|word| message.contains(word)), "{who}: {message}");
    assert!(took < QUICKLY, "{who}: took {took:?}");
    let later = communicator.all_reduce(&mut [1u8; 3], ReduceOp::Sum).expect_err("the communicator has ended");
    assert_eq!(later.to_string(), message);
    assert_eq!(communicator.send(&[1u8], (scene.rank() + 1) % scene.size()).unwrap_err().to_string(), message);
    assert!(communicator.error().is_some());
}

/// Different collectives, counts, types, reductions, roots: once with rank 0 alone on its side, once with the last rank.
pub fn ranks_that_call_different_things(scene: &Scene) {
    let size = scene.size();
    for odd in [0, size - 1] {
        let alone = scene.rank() == odd;
        let mut memory = Memory::new();
        let mut reduce = |words: [&str; 2], lens: [usize; 2], ops: [ReduceOp; 2]| {
            let len = if alone { lens[0] } else { lens[1] };
            let [mut input, mut output] = memory.buffers::<f32>(Place::Plain, [len, len], 0);
            input.data().fill(1.0);
            output.data().fill(5.0);
            let op = if alone { ops[0] } else { ops[1] };
            disagree(scene, words, |comm| comm.all_reduce_into(input.data(), output.data(), op));
            assert!(input.is_whole() && output.is_whole(), "wrote past an end");
            assert!(input.data().iter().all(|x| *x == 1.0), "wrote to an input");
        };
        let sums = [ReduceOp::Sum; 2];
        reduce(["all_reduce of 1 f32", "all_reduce of 2 f32"], [1, 2], sums);
        reduce(["all_reduce of 1000 f32", "all_reduce of 1001 f32"], [1000, 1001], sums);
        reduce(["all_reduce of 100000 f32", "all_reduce of 10 f32"], [100_000, 10], sums);
        reduce(["all_reduce of 10 f32", "all_reduce of 300000 f32"], [10, 300_000], sums);
        reduce(["(sum)", "(max)"], [100, 100], [ReduceOp::Sum, ReduceOp::Max]);
        reduce(["(avg)", "(prod)"], [50_000, 50_000], [ReduceOp::Average, ReduceOp::Product]);
        disagree(scene, ["of 10 f32", "of 10 i32"], |comm| match alone {
            true => comm.all_reduce(&mut [1f32; 10], ReduceOp::Sum),
            false => comm.all_reduce(&mut [1i32; 10], ReduceOp::Sum),
        });
        disagree(scene, ["all_reduce of 10", "broadcast of 10"], |comm| match alone {
            true => comm.all_reduce(&mut [1f32; 10], ReduceOp::Sum),
            false => comm.broadcast(&mut [1f32; 10], 0),
        });
        disagree(scene, ["barrier", "all_gather of 2"], |comm| match alone {
            true => comm.barrier(),
            false => comm.all_gather(&[1u8, 2], &mut vec![0; 2 * size]),
        });
        disagree(scene, ["alltoall of 3", "reduce_scatter of 3"], |comm| {
            let (input, mut output) = (vec![1i64; 3 * size], vec![0i64; 3 * size]);
            match alone {
                true => comm.all_to_all(&input, &mut output),
                false => comm.reduce_scatter(&input, &mut output[..3], ReduceOp::Sum),
            }
        });
        disagree(scene, ["root 0", "root 1"], |comm| comm.broadcast(&mut vec![1f32; 70_000], usize::from(alone)));
        disagree(scene, ["root 0", "root 1"], |comm| comm.reduce(&mut [1f64; 10], ReduceOp::Sum, usize::from(alone)));
        disagree(scene, ["gather of 4", "scatter of 4"], |comm| {
            let (blocks, mut output) = (vec![1u32; 4 * size], vec![0; 4 * size]);
            match alone {
                true => comm.gather(&blocks[..4], &mut output, 0),
                false => comm.scatter(&blocks, &mut output[..4], 0),
            }
        });
    }
}

/// Unequal forms whose counts do not fit together.
pub fn ranks_that_disagree_on_counts_of_blocks(scene: &Scene) {
    let (rank, size) = (scene.rank(), scene.size());
    let alone = rank == size - 1;
    // The last pair differs by whole messages.
    for [small, large] in [[3, 5], [0, 4], [100, 70_000], [16_384, 32_768]] {
        let mut counts = vec![small; size];
        // The last rank believes that rank 0 has more.
        counts[0] = if alone { large } else { small };
        let mut memory = Memory::new();
        let [mut input, mut output] = memory.buffers::<u32>(Place::Plain, [counts[rank], counts.iter().sum()], 1);
        input.data().fill(1);
        disagree(scene, ["all_gather (unequal)", "counts"], |comm| {
            comm.all_gather_v(input.data(), output.data(), &counts)
        });
        assert!(input.is_whole() && output.is_whole());

        // Rank 0 sends to the last as much as it says; the last expects something else, more or less.
        for [sent, expected] in [[small, large], [large, small]] {
            let (mut send, mut receive) = (vec![2; size], vec![2; size]);
            if rank == 0 {
                send[size - 1] = sent;
            }
            if alone {
                receive[0] = expected;
            }
            let lens = [send.iter().sum(), receive.iter().sum()];
            let [mut input, mut output] = memory.buffers::<i32>(Place::Plain, lens, 0);
            input.data().fill(1);
            disagree(scene, ["alltoall (unequal)", "counts"], |comm| {
                comm.all_to_all_v(input.data(), &send, output.data(), &receive)
            });
            assert!(input.is_whole() && output.is_whole());
        }
    }
}

/// Sends and receives that do not fit: in type, in count, with short and long messages.
pub fn messages_that_do_not_fit(scene: &Scene) {
    let (rank, size) = (scene.rank(), scene.size());
    let last = size - 1;
    for [sent, received] in [[5usize, 6], [0, 1], [1, 0], [100_000, 100_001], [7, 100_000], [100_000, 7]] {
        let words = [format!("send of {sent} f32"), format!("receive of {received} f32")];
        let mut memory = Memory::new();
        let [mut input, mut output] = memory.buffers::<f32>(Place::Plain, [sent, received], 0);
        disagree(scene, [&words[0], &words[1]], |comm| match rank {
            0 => comm.send(input.data(), last),
            _ if rank == last => comm.recv(output.data(), 0),
            _ => Ok(()),
        });
        assert!(input.is_whole() && output.is_whole());
    }
    disagree(scene, ["send of 3 f32", "receive of 3 i32"], |comm| match rank {
        0 => comm.send(&[1f32; 3], last),
        _ if rank == last => comm.recv(&mut [1i32; 3], 0),
        _ => Ok(()),
    });
}

/// A rank whose calls need nobody runs ahead; what it did differently is found and named all the same.
pub fn ranks_that_are_ahead(scene: &Scene) {
    for ahead in 1..4 {
        disagree(scene, ["broadcast of 3 u8", "all_reduce of 3 u8"], |comm| {
            if scene.rank() == 0 {
                return (0..ahead).try_for_each(|_| comm.broadcast(&mut [1u8; 3], 0));
            }
            (0..ahead).try_for_each(|_| comm.all_reduce(&mut [1u8; 3], ReduceOp::Sum))
        });
    }
    // Two roots, each of which thinks that it has done its part.
    disagree(scene, ["root 0", "root 1"], |comm| comm.broadcast(&mut [1u8; 3], usize::from(scene.rank() == 1)));
}
