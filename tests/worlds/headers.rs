//! No message with a changed tag or length is believed: each message of many plans is changed, one at a time.

use ringtree::exec::{Poll, Request, Session, Settings};
use ringtree::plan::{Algorithm, MOST_CHANNELS, Plan, Tuning, World};
use ringtree::transport::clock::Clock;
use ringtree::transport::faulty::{Faults, Faulty, Mishap, Part, Weather};
use ringtree::transport::local::{LocalLinks, Reach};
use ringtree::types::Call;
use ringtree::{Collective, DataType, ReduceOp, Reduction};
use std::time::Duration;

/// Runs a plan until nothing moves any more. Whether a changed message was shown, and whether somebody failed.
fn run(plan: &Plan, tuning: &Tuning, mishap: Mishap) -> (bool, bool) {
    let item = plan.call().dtype.size();
    let weather = Weather::new(Faults { mishaps: vec![mishap], ..Faults::default() }, Clock::default());
    let settings = Settings {
        name: "changed".into(),
        world: plan.world().clone(),
        tuning: tuning.clone(),
        timeout: Duration::from_secs(1),
        point_lane: MOST_CHANNELS,
        cache: ringtree::exec::USUAL_CACHE,
    };
    let mut ends = Vec::new();
    let mut failed = false;
    for (rank, links) in (0..).zip(LocalLinks::world_of(plan.world(), 2)) {
        // SAFETY: `ends` keeps every buffer as long as the sessions.
        let links = unsafe { links.share_everything(Reach::Mapped) };
        let mut session = Session::new(Faulty::new(links, weather.clone()), settings.clone());
        let mut memory = [plan.input_len(rank), plan.output_len(rank)].map(|len| vec![0u8; len as usize * item]);
        let [input, output] = memory.each_mut().map(Vec::as_mut_ptr);
        // SAFETY: as long as the plan says, and `ends` keeps them.
        let request = unsafe { Request::collective(plan.call().clone(), ReduceOp::Sum, input, output) };
        failed |= session.submit(&request).is_err();
        ends.push((session, memory));
    }
    let moves = |poll: ringtree::Result<Poll>| matches!(poll, Ok(Poll::Blocked { moved: true, .. }));
    while ends.iter_mut().map(|(session, _)| moves(session.poll())).fold(false, |any, one| any | one) {}
    let deceived = ends.iter().any(|(session, _)| session.links_ref().deceived());
    failed |= ends.iter().any(|(session, _)| session.failure().is_some());
    (deceived, failed)
}

#[test]
fn no_message_with_a_changed_tag_or_length_is_believed() {
    let world = World::domains(&[3, 2]);
    let mut shown = 0;
    for collective in Collective::ALL {
        let call = Call::new(
            collective,
            DataType::I32,
            Reduction::Sum,
            0,
            if collective == Collective::Barrier { 0 } else { 9 },
        );
        for algorithm in Algorithm::ALL {
            let tuning =
                Tuning { algorithm: Some(algorithm), chunk_bytes: Some(16), windows: true, ..Tuning::default() };
            let Ok(plan) = Plan::new(&world, &call, &tuning) else { continue };
            for (from, to) in (0..5).flat_map(|from| (0..5).map(move |to| (from, to))).filter(|(from, to)| from != to) {
                for (part, bit) in
                    [(Part::Tag, 0), (Part::Tag, 31), (Part::Length, 2), (Part::Length, 3), (Part::Length, 20)]
                {
                    for number in 1.. {
                        let (deceived, failed) = run(&plan, &tuning, Mishap::Corrupt { from, to, number, part, bit });
                        if !deceived {
                            break;
                        }
                        shown += 1;
                        assert!(
                            failed,
                            "{algorithm} {collective}: {part:?} of message {number} from {from} to {to}, bit {bit}"
                        );
                    }
                }
            }
        }
    }
    println!("{shown} changed messages");
    assert!(shown > 1000);
}
