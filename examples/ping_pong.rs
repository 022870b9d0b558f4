//! Latency and bandwidth of messages between two ranks: `ringtree run -g 2 -- ping_pong [BYTES] [ROUNDS]`.
//!
//! Latency is half of the time of a message to and fro; bandwidth is that of groups of sixteen messages in one direction. Both are those of the
//! median of five repetitions. The memory is the communicator's (`alloc`), which an RDMA device reads where it lies.

use ringtree::{Communicator, Result};
use std::time::Instant;

/// Messages of a group.
const TOGETHER: usize = 16;

/// Repetitions of each measurement.
const REPETITIONS: usize = 5;

fn median(mut values: [f64; REPETITIONS]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[REPETITIONS / 2]
}

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let (bytes, rounds) = (numbers.next().unwrap_or(8), numbers.next().unwrap_or(1000));
    let comm = Communicator::from_env()?;
    let (first, other) = (comm.rank() == 0, 1 - comm.rank());
    let mut data = comm.alloc::<u8>(bytes)?;
    data.fill(1);
    let mut halves = [0.0; REPETITIONS];
    for half in &mut halves {
        comm.barrier()?;
        let began = Instant::now();
        for _ in 0..rounds {
            if first {
                comm.send(&data, other)?;
                comm.recv(&mut data, other)?;
            } else {
                comm.recv(&mut data, other)?;
                comm.send(&data, other)?;
            }
        }
        *half = began.elapsed().as_secs_f64() / rounds as f64 / 2.0;
    }
    let mut together = comm.alloc::<u8>(bytes * TOGETHER)?;
    together.fill(1);
    let groups = rounds.div_ceil(TOGETHER);
    let mut rates = [0.0; REPETITIONS];
    for rate in &mut rates {
        comm.barrier()?;
        let began = Instant::now();
        for _ in 0..groups {
            let mut group = comm.group();
            for message in together.chunks_exact_mut(bytes) {
                if first {
                    group.send(message, other)?
                } else {
                    group.recv(message, other)?
                };
            }
            group.run()?;
        }
        // The last message has come when the other says so.
        if first {
            comm.recv(&mut [0u8], other)?
        } else {
            comm.send(&[0u8], other)?
        }
        *rate = (together.len() * groups) as f64 / began.elapsed().as_secs_f64();
    }
    if first {
        let (half, rate) = (median(halves), median(rates));
        println!("{bytes} bytes: half a round trip {:.2} us, one way {:.1} MB/s", half * 1e6, rate / 1e6);
    }
    Ok(())
}
