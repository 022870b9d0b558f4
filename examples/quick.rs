use ringtree::{Communicator, Config, ReduceOp};
use std::time::Instant;
fn main() {
    let n: usize = std::env::args().nth(1).map_or(2, |x| x.parse().unwrap());
    let comms = Communicator::local_with(n, &Config::from_env().unwrap()).unwrap();
    std::thread::scope(|s| {
        for comm in comms {
            s.spawn(move || {
                unsafe {
                    let mut set: libc::cpu_set_t = std::mem::zeroed();
                    libc::CPU_SET(comm.rank() % 2, &mut set);
                    libc::sched_setaffinity(0, std::mem::size_of_val(&set), &set);
                }
                for bytes in [8usize, 64, 1024, 4096, 16384, 65536, 262144, 1 << 20, 16 << 20, 128 << 20] {
                    let mut data = vec![0f32; bytes / 4];
                    let iters = (200_000_000 / (bytes + 2000)).clamp(5, 100_000);
                    let mut best = f64::MAX;
                    for _ in 0..5 {
                        comm.barrier().unwrap();
                        let t = Instant::now();
                        for _ in 0..iters {
                            comm.all_reduce(&mut data, ReduceOp::Sum).unwrap();
                        }
                        best = best.min(t.elapsed().as_secs_f64() / iters as f64 * 1e6);
                    }
                    if comm.rank() == 0 {
                        println!("{bytes:>10} {best:>10.3} us");
                    }
                }
            });
        }
    });
}
