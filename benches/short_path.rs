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

/// What the second rank calls.
#[derive(Clone, Copy)]
enum What {
    /// A collective, with its root where it has one.
    Collective(Collective, u32),
    /// A message to the first rank.
    Send,
    /// A message from the first rank.
    Receive,
}

/// What is measured: name, call, elements of f32.
const CASES: [(&str, What, u64); 11] = [
    ("all_reduce_8", What::Collective(Collective::AllReduce, 0), 2),
    ("all_reduce_64", What::Collective(Collective::AllReduce, 0), 16),
    ("all_reduce_1K", What::Collective(Collective::AllReduce, 0), 256),
    ("all_gather_8", What::Collective(Collective::AllGather, 0), 1),
    ("reduce_scatter_8", What::Collective(Collective::ReduceScatter, 0), 1),
    ("broadcast_8", What::Collective(Collective::Broadcast, 0), 2),
    ("broadcast_8_root", What::Collective(Collective::Broadcast, 1), 2),
    ("alltoall_8", What::Collective(Collective::AllToAll, 0), 1),
    ("barrier", What::Collective(Collective::Barrier, 0), 0),
    ("send_8", What::Send, 2),
    ("recv_8", What::Receive, 2),
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

    fn collective(&mut self, collective: Collective, root: u32, count: u64) -> Request {
        let call = Call::new(collective, DataType::F32, Reduction::Sum, root, count);
        let (input, output) = (self.input.as_ptr().cast(), self.output.as_mut_ptr().cast());
        // SAFETY: of the largest count, for as long as the rank.
        unsafe { Request::collective(call, ReduceOp::Sum, input, output) }
    }

    fn send(&mut self, to: u32, count: u64) -> Request {
        // SAFETY: as above.
        unsafe { Request::send(to, self.input.as_ptr().cast(), count, DataType::F32) }
    }

    fn receive(&mut self, from: u32, count: u64) -> Request {
        // SAFETY: as above.
        unsafe { Request::receive(from, self.output.as_mut_ptr().cast(), count, DataType::F32) }
    }

    /// The first rank's part, as far as it comes before the measured call.
    fn begin(&mut self, what: What, count: u64) {
        let request = match what {
            What::Collective(collective, root) => self.collective(collective, root, count),
            What::Send => self.receive(1, count),
            What::Receive => self.send(1, count),
        };
        self.session.submit(&request).expect("a call");
        self.session.poll().expect("a call");
    }

    fn measured(&mut self, what: What, count: u64) {
        match what {
            What::Collective(collective, root) => self.measured_call(collective, root, count),
            What::Send => self.measured_call_of_send(count),
            What::Receive => self.measured_call_of_receive(count),
        }
    }

    /// A whole call whose messages are there already.
    #[inline(never)]
    fn measured_call(&mut self, collective: Collective, root: u32, count: u64) {
        let request = self.collective(collective, root, count);
        self.session.perform(&request).expect("a call");
    }

    #[inline(never)]
    fn measured_call_of_send(&mut self, count: u64) {
        let request = self.send(0, count);
        self.session.perform(&request).expect("a call");
    }

    #[inline(never)]
    fn measured_call_of_receive(&mut self, count: u64) {
        let request = self.receive(0, count);
        self.session.perform(&request).expect("a call");
    }

    fn end(&mut self) {
        while self.session.poll().expect("a call") != Poll::Idle {}
    }
}

/// Seconds of all measured calls.
fn run(what: What, count: u64, calls: u64) -> f64 {
    let [mut first, mut second] = Rank::pair();
    let mut inside = Duration::ZERO;
    for _ in 0..calls {
        first.begin(what, count);
        let began = Instant::now();
        second.measured(what, count);
        inside += began.elapsed();
        first.end();
    }
    inside.as_secs_f64()
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    for (name, what, count) in CASES {
        match words.as_slice() {
            [case, calls] if case == name => {
                run(what, count, calls.parse().expect("a number of calls"));
            }
            [_, _] => {}
            _ => {
                let calls = 200_000;
                println!(
                    "{name:<20} {:>8.1} ns a call, the clock's own included",
                    run(what, count, calls) * 1e9 / calls as f64
                );
            }
        }
    }
}
