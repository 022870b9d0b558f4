//! The short path without a second processor: two ranks polled in turn by one thread. What it costs is instructions, not waiting.
use ringtree::exec::{Poll, Request, Session, Settings};
use ringtree::plan::{Tuning, World};
use ringtree::transport::shm::{Budget, POINT_TO_POINT, Segment, ShmLinks};
use ringtree::types::{Call, Collective, DataType, ReduceOp, Reduction};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    let count: u64 = std::env::args().nth(1).map_or(2, |text| text.parse().unwrap());
    let rounds: u64 = std::env::args().nth(2).map_or(1_000_000, |text| text.parse().unwrap());
    let segment = Arc::new(Segment::private(2).unwrap());
    let world = World::flat(2);
    let mut sessions: Vec<_> = (0..2)
        .map(|rank| {
            let mut links = ShmLinks::new(segment.clone(), rank, &world, Budget::process().clone());
            links.share_processors(1);
            let tuning = Tuning { cores: 2, ..Tuning::default() };
            let settings = Settings {
                name: "world".into(),
                world: world.clone(),
                tuning,
                timeout: Duration::from_secs(1),
                point_lane: POINT_TO_POINT,
            };
            Session::new(links, settings)
        })
        .collect();
    let mut data = [vec![1f32; count as usize], vec![1f32; count as usize]];
    let began = Instant::now();
    for _ in 0..rounds {
        let at = data[0].as_mut_ptr();
        let call = Call::new(Collective::AllReduce, DataType::F32, Reduction::Sum, 0, count);
        sessions[0]
            .submit(&Request::Collective { call, op: ReduceOp::Sum, input: at.cast(), output: at.cast() })
            .unwrap();
        second_rank(&mut sessions[1], &mut data[1], count);
        assert_eq!(sessions[0].poll().unwrap(), Poll::Idle);
    }
    println!("{:.1} ns a call", began.elapsed().as_nanos() as f64 / rounds as f64 / 2.0);
}

/// A whole call on the short path: the other rank's message is there already.
#[inline(never)]
fn second_rank(session: &mut Session<ShmLinks>, data: &mut [f32], count: u64) {
    let at = data.as_mut_ptr();
    let call = Call::new(Collective::AllReduce, DataType::F32, Reduction::Sum, 0, count);
    session.perform(&Request::Collective { call, op: ReduceOp::Sum, input: at.cast(), output: at.cast() }).unwrap();
}
