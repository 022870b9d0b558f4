//! What the executor sends over real links is exactly what the plan's steps say.

use ringtree::exec::{Poll, Request, Session, Settings};
use ringtree::plan::{Algorithm, Flags, Group, MOST_CHANNELS, Plan, Put, Take, Tuning, World};
use ringtree::transport::clock::Clock;
use ringtree::transport::local::{LocalLinks, Reach};
use ringtree::transport::traced::{End, Trace, Traced};
use ringtree::transport::{Incoming, Outgoing};
use ringtree::types::Call;
use ringtree::{Collective, DataType, ReduceOp, Reduction};
use std::collections::BTreeMap;
use std::time::Duration;

/// The lengths of the messages at each end, in order: (rank, lane, end).
type Traffic = BTreeMap<(u32, u32, End), Vec<usize>>;

/// Two places of 16 bytes each: where a rank's input and its output lie.
const PLACES: usize = 32;

/// What a plan says.
fn told(plan: &Plan) -> Traffic {
    let mut traffic = Traffic::new();
    let item = plan.call().dtype.size();
    for rank in 0..plan.world().size() {
        for channel in 0..plan.channels() {
            let (mut filled, mut read) = (0, 0);
            for step in plan.steps(rank, channel) {
                let bytes = if step.flags.has(Flags::PLACES) { PLACES } else { step.len as usize * item };
                let others = |group: Group| {
                    plan.world().members(group, rank).iter().filter(|other| *other != rank).collect::<Vec<_>>()
                };
                let out = match step.put {
                    Put::Nothing | Put::Windows => None,
                    Put::Pair => Some(Outgoing::Pair(step.to)),
                    Put::Board => Some(Outgoing::Board(step.group())),
                };
                let incoming: Vec<Incoming> = match step.take {
                    Take::Nothing | Take::Window | Take::FoldWindows => vec![],
                    Take::Pair => vec![Incoming::Pair(step.from)],
                    Take::Board => vec![Incoming::Board(step.from, step.group())],
                    Take::FoldPairs => others(step.group()).into_iter().map(Incoming::Pair).collect(),
                    Take::FoldBoards => {
                        others(step.group()).into_iter().map(|from| Incoming::Board(from, step.group())).collect()
                    }
                };
                if let Some(link) = out {
                    filled = if step.flags.has(Flags::CREDIT) { bytes } else { filled + bytes };
                    if step.flags.has(Flags::SIGNAL) {
                        traffic.entry((rank, channel, End::Sent(link))).or_default().push(filled);
                    }
                }
                read = if step.flags.has(Flags::AWAIT) { bytes } else { read + bytes };
                for link in incoming {
                    if step.flags.has(Flags::RELEASE) {
                        traffic.entry((rank, channel, End::Received(link))).or_default().push(read);
                    }
                }
            }
        }
    }
    traffic
}

/// What sessions do.
fn seen(plan: &Plan, tuning: &Tuning) -> Traffic {
    let (trace, call) = (Trace::new(1 << 20), plan.call());
    let item = call.dtype.size();
    let mut buffers = Vec::new();
    let mut sessions = Vec::new();
    for (rank, links) in (0..).zip(LocalLinks::world_of(plan.world(), 2)) {
        let settings = Settings {
            name: "traced".into(),
            world: plan.world().clone(),
            tuning: tuning.clone(),
            timeout: Duration::from_secs(1),
            point_lane: MOST_CHANNELS,
            cache: ringtree::exec::USUAL_CACHE,
        };
        // SAFETY: `buffers` keeps every buffer as long as the sessions.
        let links = unsafe { links.share_everything(Reach::Mapped) };
        let mut session = Session::new(Traced::new(links, trace.clone(), Clock::default()), settings);
        let mut memory = [plan.input_len(rank), plan.output_len(rank)].map(|len| vec![0u8; len as usize * item]);
        let [input, output] = memory.each_mut().map(Vec::as_mut_ptr);
        // SAFETY: as long as the plan says, and `buffers` keeps them.
        let request = unsafe { Request::collective(call.clone(), ReduceOp::Sum, input, output) };
        session.submit(&request).unwrap();
        sessions.push(session);
        buffers.push(memory);
    }
    while {
        let polls: Vec<Poll> = sessions.iter_mut().map(|session| session.poll().unwrap()).collect();
        polls.iter().any(|poll| *poll != Poll::Idle)
    } {}
    let (records, lost) = trace.read();
    assert_eq!(lost, 0);
    let mut traffic = Traffic::new();
    for record in &records {
        assert_eq!(record.tag, records[0].tag, "all messages of a call carry its tag");
        traffic.entry((record.rank, record.lane, record.end)).or_default().push(record.len);
    }
    traffic
}

#[test]
fn what_is_sent_is_what_the_plan_says_for_every_algorithm() {
    let mut plans = BTreeMap::new();
    let mut messages = 0;
    let racks = World::in_order(&[3, 1, 0, 2, 1, 3, 0, 3], &[vec![2]]);
    let flat = [2, 3, 8].map(World::flat);
    for world in flat.into_iter().chain([World::domains(&[2, 3]), World::domains(&[4, 4]), racks]) {
        for (collective, algorithm) in
            Collective::ALL.into_iter().flat_map(|one| Algorithm::ALL.map(|algorithm| (one, algorithm)))
        {
            for count in [0, 1, 7, 300] {
                let root = if collective.has_root() { 1 } else { 0 };
                let count = if collective == Collective::Barrier { 0 } else { count };
                let call = Call::new(collective, DataType::F32, Reduction::Sum, root, count);
                let tuning =
                    Tuning { algorithm: Some(algorithm), chunk_bytes: Some(128), windows: true, ..Tuning::default() };
                let Ok(plan) = Plan::new(&world, &call, &tuning) else { continue };
                let (told, seen) = (told(&plan), seen(&plan, &tuning));
                assert_eq!(told, seen, "{algorithm} {collective} of {count} between {}", world.size());
                messages += seen.values().map(Vec::len).sum::<usize>();
                *plans.entry(algorithm).or_insert(0) += 1;
            }
        }
    }
    println!("{messages} messages of {plans:?}");
    assert_eq!(plans.len(), Algorithm::ALL.len(), "every algorithm was tried");
}
