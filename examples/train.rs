//! Data-parallel training in small: every rank fits the same line to its own points, and the ranks average their gradients.
//!
//!     cargo build --release --example train
//!     cargo run --release -- run -g 4 -- target/release/examples/train
//!
//! The gradient comes in two buckets, as a real model's comes layer by layer: the first one is averaged in the background while the second
//! is computed. All ranks end with the same bits.

use ringtree::{Communicator, ReduceOp, Result};

const POINTS: usize = 1000;
const STEPS: usize = 200;
const RATE: f32 = 0.5;

/// y = 3x - 2, seen by each rank at other places.
fn points(rank: usize) -> Vec<(f32, f32)> {
    let place = |i: usize| ((i * 7919 + rank * 104_729) % 10_007) as f32 / 10_007.0;
    (0..POINTS).map(place).map(|x| (x, 3.0 * x - 2.0)).collect()
}

fn mean(points: &[(f32, f32)], of: impl Fn(f32, f32) -> f32) -> f32 {
    points.iter().map(|(x, y)| of(*x, *y)).sum::<f32>() / points.len() as f32
}

fn main() -> Result<()> {
    let comm = Communicator::from_env()?;
    let points = points(comm.rank());
    let (mut slope, mut offset) = (0.0f32, 0.0f32);
    for _ in 0..STEPS {
        let miss = |x: f32, y: f32| slope * x + offset - y;
        let first = comm.all_reduce_async(vec![mean(&points, |x, y| miss(x, y) * x)], ReduceOp::Average)?;
        let second = comm.all_reduce_async(vec![mean(&points, miss)], ReduceOp::Average)?;
        slope -= RATE * first.wait()?[0];
        offset -= RATE * second.wait()?[0];
    }
    // Everybody has the same model, bit for bit.
    let mut models = vec![0u32; 2 * comm.size()];
    comm.all_gather(&[slope.to_bits(), offset.to_bits()], &mut models)?;
    assert!(models.chunks(2).all(|model| model == [slope.to_bits(), offset.to_bits()]));
    if comm.rank() == 0 {
        println!("{} ranks agree on y = {slope:.3} x {offset:+.3}", comm.size());
    }
    Ok(())
}
