//! The short path without a second processor: two ranks in one thread, the messages of the first are there when the second one calls.
//! What a call costs is then instructions, not waiting, and `tests/gates` counts them.
//!
//!   cargo bench --bench short_path                nanoseconds of each case
//!   … -- CASE CALLS                               that case alone, so many calls of `measured_call`, for an instruction counter

use ringtree::exec::{Poll, Request, Session, Settings, USUAL_CACHE};
use ringtree::plan::{Tuning, World};
use ringtree::transport::shm::{Budget, POINT_TO_POINT, Segment, ShmLinks};
use ringtree::types::{Call, Collective, DataType, ReduceOp, Reduction};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is called: name, collective, elements of f32.
const CASES: [(&str, Collective, u64); 8] = [
    ("all_reduce_8", Collective::AllReduce, 2),
    ("all_reduce_64", Collective::AllReduce, 16),
    ("all_reduce_1K", Collective::AllReduce, 256),
    ("all_gather_8", Collective::AllGather, 1),
    ("reduce_scatter_8", Collective::ReduceScatter, 1),
    ("broadcast_8", Collective::Broadcast, 2),
    ("alltoall_8", Collective::AllToAll, 1),
    ("barrier", Collective::Barrier, 0),
];

/// Elements of the largest buffer.
const LARGEST: usize = 1024;

struct Rank {
    session: Session<ShmLinks>,
    input: Vec<f32>,
    output: Vec<f32>,
}

impl Rank {
    fn pair() -> [Rank; 2] {
        let segment = Arc::new(Segment::private(2).expect("a segment for two threads"));
        let world = World::flat(2);
        [0, 1].map(|rank| {
            let mut links = ShmLinks::new(segment.clone(), rank, &world, Budget::process().clone());
            // Nobody else can run while one of them waits.
            links.share_processors(1);
            let tuning = Tuning { cores: 2, ..Tuning::default() };
            let (name, timeout) = ("bench".into(), Duration::from_secs(10));
            let (world, point_lane, cache) = (world.clone(), POINT_TO_POINT, USUAL_CACHE);
            let settings = Settings { name, world, tuning, timeout, point_lane, cache };
            Rank { session: Session::new(links, settings), input: vec![1.0; LARGEST], output: vec![0.0; LARGEST] }
        })
    }

    fn request(&mut self, collective: Collective, count: u64) -> Request {
        let call = Call::new(collective, DataType::F32, Reduction::Sum, 0, count);
        Request::Collective {
            call,
            op: ReduceOp::Sum,
            input: self.input.as_ptr().cast(),
            output: self.output.as_mut_ptr().cast(),
        }
    }

    fn begin(&mut self, collective: Collective, count: u64) {
        let request = self.request(collective, count);
        self.session.submit(&request).expect("a call");
    }

    /// A whole call whose messages are there already.
    #[inline(never)]
    fn measured_call(&mut self, collective: Collective, count: u64) {
        let request = self.request(collective, count);
        self.session.perform(&request).expect("a call");
    }

    fn end(&mut self) {
        while self.session.poll().expect("a call") != Poll::Idle {}
    }
}

/// Seconds of all measured calls.
fn run(collective: Collective, count: u64, calls: u64) -> f64 {
    let [mut first, mut second] = Rank::pair();
    let mut inside = Duration::ZERO;
    for _ in 0..calls {
        first.begin(collective, count);
        let began = Instant::now();
        second.measured_call(collective, count);
        inside += began.elapsed();
        first.end();
    }
    inside.as_secs_f64()
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    for (name, collective, count) in CASES {
        match words.as_slice() {
            [case, calls] if case == name => {
                run(collective, count, calls.parse().expect("a number of calls"));
            }
            [_, _] => {}
            _ => {
                let calls = 200_000;
                println!(
                    "{name:<20} {:>8.1} ns a call, the clock's own included",
                    run(collective, count, calls) * 1e9 / calls as f64
                );
            }
        }
    }
}
