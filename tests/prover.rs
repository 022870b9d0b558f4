//! Every algorithm, every collective, every number of ranks from 2 to 64, and chosen ones to 4096: proved.

use ringtree::check::{MOST_WINDOW_RANKS, Options, Together, prove};
use ringtree::plan::{Algorithm, Medium, Plan, PlanError, Tuning, World};
use ringtree::types::{Call, Collective, DataType, Reduction};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// One thing to prove.
#[derive(Clone, Debug)]
struct Case {
    world: World,
    call: Call,
    tuning: Tuning,
    in_place: bool,
}

/// How often each algorithm did each collective.
type Tally = BTreeMap<(Algorithm, Collective), u64>;

/// A plan, or nothing if the algorithm has no form of the call.
fn plan(case: &Case) -> Option<Plan> {
    match Plan::new(&case.world, &case.call, &case.tuning) {
        Ok(plan) => Some(plan),
        Err(PlanError::Refused { .. }) => None,
        Err(error) => panic!("{error}: {case:?}"),
    }
}

/// Proves one case; the algorithm that did it.
fn prove_case(case: &Case) -> Option<Algorithm> {
    let plan = plan(case)?;
    let reproducible = case.tuning.reproducible;
    let options = Options { in_place: case.in_place, reproducible, ..Options::default() };
    match prove(&plan, &options) {
        Ok(_) => Some(plan.algorithm()),
        Err(violation) => panic!("{violation}\nwith {} for {case:?}", plan.algorithm()),
    }
}

/// Proves all cases on two threads, the expensive ones first.
fn prove_all(mut cases: Vec<Case>) -> Tally {
    cases.sort_by_key(|case| std::cmp::Reverse(case.world.size()));
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut own = Tally::new();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(algorithm) = prove_case(case) {
                        *own.entry((algorithm, case.call.collective)).or_default() += 1;
                    }
                }
                let mut all = tally.lock().expect("no thread has panicked while it held the tally");
                own.into_iter().for_each(|(key, count)| *all.entry(key).or_default() += count);
            });
        }
    });
    tally.into_inner().expect("no thread has panicked while it held the tally")
}

fn print(name: &str, tally: &Tally, since: Instant) {
    let mut line = String::new();
    for ((algorithm, collective), count) in tally {
        line += &format!("  {algorithm} {collective}: {count}\n");
    }
    let proofs: u64 = tally.values().sum();
    println!("{name}: {proofs} proofs in {:.1} s\n{line}", since.elapsed().as_secs_f64());
}

/// Calls of that kind that show rounding: fewer elements than ranks, as many, some more; blocks of unequal length, some empty.
fn calls(collective: Collective, n: u32, dtype: DataType) -> Vec<Call> {
    let ranks = u64::from(n);
    let counts: &[u64] = match collective {
        Collective::Barrier => &[0],
        _ if collective.has_blocks() => &[1, 5],
        _ => &[ranks - 1, ranks, 7 * ranks + 3],
    };
    let roots = if collective.has_root() { vec![0, n - 1, n / 2] } else { vec![0] };
    let mut calls = Vec::new();
    for (i, &count) in counts.iter().enumerate() {
        let root = roots[i % roots.len()];
        calls.push(Call::new(collective, dtype, Reduction::Sum, root, count));
    }
    if collective.has_blocks() && collective != Collective::AllToAll {
        let lens = (0..ranks).map(|rank| rank * 7 % 5).collect();
        let root = roots[roots.len() - 1];
        calls.push(Call { counts: Some(lens), ..Call::new(collective, dtype, Reduction::Sum, root, 0) });
    }
    calls
}

/// Hosts of a few ranks in racks and pods, which rings visit in another order than that of the ranks.
fn in_racks(n: u32) -> World {
    let hosts = n.div_ceil(2).max(2);
    let host_of: Vec<u32> = (0..n).map(|rank| (2 * rank + rank / hosts + 1) % hosts).collect();
    World::in_order(&host_of, &[vec![hosts / 2], vec![hosts / 4, hosts / 3, hosts / 2, 3 * hosts / 4]])
}

/// Worlds of so many ranks: several domains where the algorithm looks at them, equal ones, unequal ones, ranks dealt out in turn; racks
/// where it goes by the tour.
fn worlds(algorithm: Option<Algorithm>, n: u32) -> Vec<World> {
    let some = n <= 32 || (n.is_multiple_of(8) && n < 1000);
    match algorithm {
        None | Some(Algorithm::Hierarchy) => {}
        Some(Algorithm::Ring | Algorithm::Tree | Algorithm::Halving | Algorithm::Bruck) if some => {
            return vec![World::flat(n), in_racks(n)];
        }
        Some(_) => return vec![World::flat(n)],
    }
    let mut worlds = vec![World::domains(&[n.div_ceil(2), n / 2])];
    if n >= 16 && n.is_multiple_of(8) {
        worlds.push(World::domains(&vec![8; n as usize / 8]));
    }
    if (6..=64).contains(&n) {
        worlds.push(World::domains(&[1, n - 4, 3]));
        worlds.push(World::from_domains(&(0..n).map(|rank| rank % 3).collect::<Vec<_>>()));
    }
    if n >= 4 && some {
        worlds.push(in_racks(n));
    }
    worlds
}

/// Whole vectors at once; chunks of two elements on several channels; the same where bits must not depend on that; and over sockets, where
/// several chunks are sent before any is taken.
fn tunings(n: u32, algorithm: Option<Algorithm>, collective: Collective, dtype: DataType) -> Vec<Tuning> {
    let whole = Tuning { algorithm, windows: true, ..Tuning::default() };
    let chunks = Tuning {
        chunk_bytes: Some(2 * dtype.size() as u32),
        channels: Some(3),
        between: Medium::Network,
        ..whole.clone()
    };
    let mut tunings = vec![whole, Tuning { windows: algorithm.is_some(), ..chunks.clone() }];
    // The larger worlds take most of the time, so the stricter proof is of some of them.
    if collective.reduces() && (n <= 32 || n.is_multiple_of(8)) {
        tunings.push(Tuning { reproducible: true, ..chunks.clone() });
    }
    if n <= 16 {
        let (chunk_bytes, channels) = (Some(dtype.size() as u32), Some(1));
        tunings.push(Tuning { inside: Medium::Loopback, windows: false, chunk_bytes, channels, ..chunks });
    }
    tunings
}

fn in_and_out_of_place(collective: Collective) -> &'static [bool] {
    if matches!(collective, Collective::AllToAll | Collective::Barrier) { &[false] } else { &[false, true] }
}

/// Everything for so many ranks: each algorithm, and the one that a plan chooses by itself.
fn cases(n: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    for algorithm in Algorithm::ALL.into_iter().map(Some).chain((n <= 32).then_some(None)) {
        for collective in Collective::ALL {
            // Narrow floats tell orders apart the most: they round at every step.
            let dtype = if collective.reduces() { DataType::Bf16 } else { DataType::F64 };
            for world in worlds(algorithm, n) {
                for call in calls(collective, n, dtype) {
                    for tuning in tunings(n, algorithm, collective, dtype) {
                        for &in_place in in_and_out_of_place(collective) {
                            let (world, call, tuning) = (world.clone(), call.clone(), tuning.clone());
                            cases.push(Case { world, call, tuning, in_place });
                        }
                    }
                }
            }
        }
    }
    cases
}

/// One call of each kind among many ranks.
fn large_cases(n: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    for algorithm in Algorithm::ALL {
        for collective in Collective::ALL {
            let count = match collective {
                Collective::Barrier => 0,
                _ if collective.has_blocks() => 1,
                _ => u64::from(n),
            };
            let root = if collective.has_root() { n / 3 } else { 0 };
            let call = Call::new(collective, DataType::F64, Reduction::Sum, root, count);
            for world in worlds(Some(algorithm), n) {
                for &in_place in in_and_out_of_place(collective) {
                    let tuning =
                        Tuning { algorithm: Some(algorithm), windows: n <= MOST_WINDOW_RANKS, ..Tuning::default() };
                    // Of thousands of ranks one of the two is enough for a test.
                    if n < 1000 || !in_place {
                        cases.push(Case { world: world.clone(), call: call.clone(), tuning, in_place });
                    }
                }
            }
        }
    }
    cases.retain(is_short);
    cases
}

/// Whether a proof takes a second, or is the longest that this test takes on: the ring of 4096 ranks, 33 million steps.
fn is_short(case: &Case) -> bool {
    const SHORT: u64 = 2_500_000;
    let Some(plan) = plan(case) else { return false };
    let n = case.world.size();
    let steps: u64 = (0..n).map(|rank| (0..plan.channels()).map(|c| plan.step_count(rank, c)).sum::<u64>()).sum();
    // Each fold of a one-shot reads all ranks' messages; each message of a barrier carries all ranks' clocks.
    let weight = match (plan.algorithm(), case.call.collective) {
        (Algorithm::OneShot, Collective::Barrier) => u64::from(n) * u64::from(n),
        (_, Collective::Barrier) => u64::from(n) / 64,
        (Algorithm::OneShot, Collective::AllReduce) => u64::from(n) * case.call.count / 4,
        _ => 1,
    };
    let longest = plan.algorithm() == Algorithm::Ring && case.call.collective == Collective::AllReduce;
    longest || steps * weight <= SHORT
}

#[test]
fn every_plan_of_2_to_64_ranks_and_of_chosen_numbers_up_to_4096_is_right() {
    let since = Instant::now();
    let small = prove_all((2..=64).flat_map(cases).collect());
    print("2 to 64 ranks", &small, since);
    for algorithm in Algorithm::ALL {
        assert!(small.keys().any(|(did, _)| *did == algorithm), "{algorithm} does nothing");
    }
    for collective in Collective::ALL {
        assert!(small.keys().any(|(_, done)| *done == collective), "nothing does {collective}");
    }
    let large_since = Instant::now();
    let large = prove_all([100, 128, 255, 257, 1000, 1024, 4096].into_iter().flat_map(large_cases).collect());
    print("100 to 4096 ranks", &large, large_since);
    assert!(large.contains_key(&(Algorithm::Ring, Collective::AllReduce)));
    let proofs: u64 = small.values().chain(large.values()).sum();
    println!("{proofs} proofs in {:.1} s", since.elapsed().as_secs_f64());
}

#[test]
fn an_all_to_all_of_unequal_counts_is_right() {
    // What rank `from` sends to rank `to`: nothing at times, and not the same both ways.
    let count = |from: u32, to: u32| u64::from((3 * from + 5 * to + from * to) % 4);
    let mut proofs = 0;
    for n in 2..=24 {
        for algorithm in Algorithm::ALL {
            for chunk_bytes in [None, Some(16)] {
                let tuning = Tuning { algorithm: Some(algorithm), chunk_bytes, windows: true, ..Tuning::default() };
                let own = |rank: u32| {
                    let call = Call::new(Collective::AllToAll, DataType::F64, Reduction::Sum, 0, 0);
                    let counts = Some((0..n).map(|to| count(rank, to)).collect());
                    let receive_counts = Some((0..n).map(|from| count(from, rank)).collect());
                    Plan::new(&World::flat(n), &Call { counts, receive_counts, ..call }, &tuning)
                };
                let plans: Vec<Plan> = (0..n).map_while(|rank| own(rank).ok()).collect();
                let Some(together) = Together::of(plans) else { continue };
                prove(&together, &Options::default()).unwrap_or_else(|wrong| panic!("{algorithm}, {n} ranks: {wrong}"));
                proofs += 1;
            }
        }
    }
    assert!(proofs > 0, "nothing does an unequal all-to-all");
    println!("unequal all-to-all: {proofs} proofs");
}
