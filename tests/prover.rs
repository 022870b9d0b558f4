//! Every algorithm, every collective, every number of ranks from 2 to 64, and chosen ones to 4096: proved.

use ringtree::check::{Options, Report, Together, prove};
use ringtree::plan::{Algorithm, MIN_SLOTS, Plan, PlanError, Tuning, World};
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

fn prove_case(case: &Case) -> Option<(Algorithm, Report)> {
    let plan = plan(case)?;
    let reproducible = case.tuning.reproducible;
    let options = Options { in_place: case.in_place, reproducible, ..Options::default() };
    match prove(&plan, &options) {
        Ok(report) => Some((plan.algorithm(), report)),
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
                    if let Some((algorithm, _)) = prove_case(case) {
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

/// A small world with several domains, equal and unequal.
fn worlds(algorithm: Algorithm, n: u32) -> Vec<World> {
    if algorithm != Algorithm::Hierarchy {
        return vec![World::flat(n)];
    }
    let mut worlds = vec![World::domains(&[n.div_ceil(2), n / 2])];
    if n >= 4 && n.is_multiple_of(4) {
        worlds.push(World::domains(&[n / 4; 4]));
    }
    if n >= 6 {
        worlds.push(World::domains(&[1, n - 4, 3]));
        worlds.push(World::from_domains(&(0..n).map(|rank| rank % 3).collect::<Vec<_>>()));
    }
    worlds
}

/// Whole vectors at once, and chunks of two elements on several channels.
fn tunings(algorithm: Algorithm, dtype: DataType) -> Vec<Tuning> {
    let tuning = Tuning { algorithm: Some(algorithm), windows: true, ..Tuning::default() };
    let two = 2 * dtype.size() as u32;
    vec![tuning.clone(), Tuning { chunk_bytes: Some(two), channels: Some(3), ..tuning }]
}

fn cases(n: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    for algorithm in Algorithm::ALL {
        for collective in Collective::ALL {
            // Narrow floats tell orders apart the most: they round at every step.
            let dtype = if collective.reduces() { DataType::Bf16 } else { DataType::F64 };
            for world in worlds(algorithm, n) {
                for call in calls(collective, n, dtype) {
                    for tuning in tunings(algorithm, dtype) {
                        for in_place in [false, true] {
                            let never = matches!(collective, Collective::AllToAll | Collective::Barrier);
                            if !(in_place && never) {
                                let (world, call, tuning) = (world.clone(), call.clone(), tuning.clone());
                                cases.push(Case { world, call, tuning, in_place });
                            }
                        }
                    }
                }
            }
        }
    }
    cases
}

#[test]
fn every_algorithm_does_every_collective_right_among_2_to_64_ranks() {
    let since = Instant::now();
    let tally = prove_all((2..=64).flat_map(cases).collect());
    print("2 to 64 ranks", &tally, since);
    for collective in Collective::ALL {
        assert!(tally.keys().any(|(_, done)| *done == collective), "nothing does {collective}");
    }
}

/// The most steps of one proof: a ring all-reduce of 4096 ranks has 33 million.
const MOST_STEPS: u64 = 40_000_000;

/// The most messages that are read: each fold of a one-shot reads one of every other rank.
const MOST_READS: u64 = 40_000_000;

/// Whether a proof takes seconds, not minutes.
fn is_short(case: &Case) -> bool {
    let Some(plan) = plan(case) else { return false };
    let n = case.world.size();
    let steps: u64 = (0..n).map(|rank| (0..plan.channels()).map(|c| plan.step_count(rank, c)).sum::<u64>()).sum();
    let reads =
        if plan.algorithm() == Algorithm::OneShot { u64::from(n) * u64::from(n) * case.call.count.max(1) } else { 0 };
    // A barrier carries the clocks of all ranks with every message.
    let clocks = if case.call.collective == Collective::Barrier { u64::from(n) * steps } else { 0 };
    steps <= MOST_STEPS && reads <= MOST_READS && clocks <= MOST_READS * 8
}

#[test]
fn chosen_numbers_of_ranks_up_to_4096_are_right() {
    let since = Instant::now();
    let mut cases = Vec::new();
    for n in [100, 128, 255, 257, 1000, 1024, 4096] {
        for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::Owner) {
            for collective in Collective::ALL {
                let count = match collective {
                    Collective::Barrier => 0,
                    _ if collective.has_blocks() => 1,
                    _ => u64::from(n),
                };
                let call = Call::new(
                    collective,
                    DataType::F64,
                    Reduction::Sum,
                    n / 3 * u32::from(collective.has_root()),
                    count,
                );
                let world = worlds(algorithm, n).swap_remove(0);
                let tuning = Tuning { algorithm: Some(algorithm), ..Tuning::default() };
                cases.push(Case { world, call, tuning, in_place: false });
            }
        }
    }
    cases.retain(is_short);
    let tally = prove_all(cases);
    print("100 to 4096 ranks", &tally, since);
}

#[test]
#[ignore]
fn each_time() {
    for n in [4096] {
        for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != Algorithm::Owner) {
            for collective in Collective::ALL {
                let count = match collective {
                    Collective::Barrier => 0,
                    _ if collective.has_blocks() => 1,
                    _ => u64::from(n),
                };
                let call = Call::new(collective, DataType::F64, Reduction::Sum, 0, count);
                let world = worlds(algorithm, n).swap_remove(0);
                let tuning = Tuning { algorithm: Some(algorithm), ..Tuning::default() };
                let case = Case { world, call, tuning, in_place: false };
                if is_short(&case) && algorithm == Algorithm::Ring && collective == Collective::AllReduce {
                    let since = Instant::now();
                    let (_, report) = prove_case(&case).unwrap();
                    println!("{n} {algorithm} {collective}: {:.2} s {report}", since.elapsed().as_secs_f64());
                }
            }
        }
    }
}
