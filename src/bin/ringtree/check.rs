//! `ringtree check`.

use crate::terminal::{Paint, Progress, bar, print};
use crate::values::{MOST_RANKS, algorithm, collective};
use crate::{Failure, Outcome};
use clap::Args;
use ringtree::check::{MOST_WINDOW_RANKS, Options as Proof, prove};
use ringtree::plan::{Algorithm, Medium, Plan, PlanError, Tuning, World};
use ringtree::types::Call;
use ringtree::{Collective, DataType, Reduction};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Memory that the prover takes on at once: 24 bytes an element.
const MOST_ELEMENTS: u64 = 50_000_000;

/// Prove the plans: right results, no deadlock, no slot overwritten, the same bits everywhere
///
/// The prover runs every step of every rank with symbols in place of numbers. Each proof holds for every input.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    ringtree check\n  \
    ringtree check --ranks 2-16 --coll all_reduce,all_gather\n  \
    ringtree check --ranks 1024 --algorithm ring --coll reduce_scatter\n\n\
    Exit codes: 0 everything was proved, 1 something is wrong (it is named, with the step), 2 the command line makes no sense.")]
pub(crate) struct Options {
    /// Numbers of ranks, as 2-16,32
    #[arg(long, value_name = "LIST", default_value = "2-64", value_parser = ranks)]
    ranks: Ranks,
    /// Only these collectives
    #[arg(long = "coll", value_name = "COLLECTIVE", value_delimiter = ',', value_parser = collective())]
    collectives: Vec<Collective>,
    /// Only these algorithms
    #[arg(long = "algorithm", alias = "algo", value_name = "ALGORITHM", value_delimiter = ',', value_parser = algorithm())]
    algorithms: Vec<Algorithm>,
}

/// Numbers of ranks, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranks(Vec<u32>);

fn ranks(text: &str) -> Result<Ranks, String> {
    let wrong = || format!("write numbers from 1 to {MOST_RANKS} and ranges of them, as 2-16,32");
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse().ok().filter(|n| (1..=MOST_RANKS).contains(n)).ok_or_else(wrong);
        let (first, last): (u32, u32) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Ok(Ranks(all))
}

/// One thing to prove.
#[derive(Clone, Debug)]
struct Case {
    world: World,
    call: Call,
    tuning: Tuning,
    in_place: bool,
}

/// What was proved of one algorithm and collective.
#[derive(Clone, Copy, Debug, Default)]
struct Proved {
    proofs: u64,
    steps: u64,
}

type Tally = BTreeMap<(Algorithm, Collective), Proved>;

/// The cases of one algorithm, collective and number of ranks: a length that divides into nothing evenly, as whole messages and in chunks of
/// two elements over several channels, out of place and in place.
fn cases(algorithm: Algorithm, collective: Collective, n: u32) -> Vec<Case> {
    // Narrow floats round at every step: what is proved for their order holds for all.
    let dtype = if collective.reduces() { DataType::Bf16 } else { DataType::F64 };
    let count = match collective {
        Collective::Barrier => 0,
        _ if collective.has_blocks() => 5,
        _ => 3 * n as u64 + 1,
    };
    let root = if collective.has_root() { n / 2 } else { 0 };
    let call = Call::new(collective, dtype, Reduction::Sum, root, count);
    let worlds = match algorithm {
        Algorithm::Hierarchy => {
            vec![World::domains(&[n.div_ceil(2), n / 2]), World::domains(&[n - n / 3, n / 3]), in_racks(n)]
        }
        Algorithm::Ring | Algorithm::Tree | Algorithm::Halving | Algorithm::Bruck => vec![World::flat(n), in_racks(n)],
        _ => vec![World::flat(n)],
    };
    let whole = Tuning { algorithm: Some(algorithm), windows: n <= MOST_WINDOW_RANKS, ..Tuning::default() };
    let pieces = Tuning {
        chunk_bytes: Some(2 * dtype.size() as u32),
        channels: Some(3),
        between: Medium::Network,
        ..whole.clone()
    };
    let both = !matches!(collective, Collective::AllToAll | Collective::Barrier);
    let mut cases = Vec::new();
    for world in worlds {
        for tuning in [&whole, &pieces] {
            for in_place in [false, true].into_iter().take(1 + usize::from(both)) {
                cases.push(Case { world: world.clone(), call: call.clone(), tuning: tuning.clone(), in_place });
            }
        }
    }
    cases
}

/// Hosts of a few ranks in racks, which rings visit in another order than that of the ranks.
fn in_racks(n: u32) -> World {
    let hosts = n.div_ceil(3).max(2);
    let host_of: Vec<u32> = (0..n).map(|rank| (2 * rank + rank / hosts + 1) % hosts).collect();
    World::in_order(&host_of, &[vec![hosts / 2], vec![hosts / 4, hosts / 2, 3 * hosts / 4]])
}

/// Steps of a proof; nothing where the algorithm has no form of the call; what is wrong otherwise.
fn prove_case(case: &Case) -> Result<Option<u64>, String> {
    let name = || {
        let (algorithm, call, n) = (case.tuning.algorithm, &case.call, case.world.size());
        let algorithm = algorithm.map_or("chosen", Algorithm::name);
        let place = if case.in_place { "in place" } else { "out of place" };
        let pieces = case.tuning.chunk_bytes.map_or(String::new(), |bytes| format!(", messages of {bytes} bytes"));
        let Call { collective, count, dtype, root, .. } = call;
        format!("{algorithm} {collective} of {count} {dtype}, {n} ranks, root {root}, {place}{pieces}")
    };
    let plan = match Plan::new(&case.world, &case.call, &case.tuning) {
        Ok(plan) => plan,
        Err(PlanError::Refused { .. }) => return Ok(None),
        Err(error) => return Err(format!("{}: there is no plan: {error}", name())),
    };
    let proof = Proof { in_place: case.in_place, most_elements: MOST_ELEMENTS, ..Proof::default() };
    match prove(&plan, &proof) {
        Ok(report) => Ok(Some(report.steps)),
        Err(violation) => Err(format!("{}: {violation}", name())),
    }
}

pub(crate) fn main(options: &Options) -> Outcome {
    let pick = |all: &[Algorithm], some: &[Algorithm]| if some.is_empty() { all.to_vec() } else { some.to_vec() };
    let algorithms = pick(&Algorithm::ALL, &options.algorithms);
    let collectives =
        if options.collectives.is_empty() { Collective::ALL.to_vec() } else { options.collectives.clone() };
    let mut all = Vec::new();
    // The largest first, so that no thread is left with one at the end.
    for &n in options.ranks.0.iter().rev() {
        for &algorithm in &algorithms {
            collectives.iter().for_each(|&collective| all.extend(cases(algorithm, collective, n)));
        }
    }
    let since = Instant::now();
    let tally = prove_all(&all).map_err(Failure::Failed)?;
    let proofs: u64 = tally.values().map(|proved| proved.proofs).sum();
    if proofs == 0 {
        let hint = "none of these algorithms has a form of these collectives; `ringtree plan` lists the candidates";
        return Err(Failure::Usage(format!("there is nothing to prove: {hint}")));
    }
    print(&table(&tally, &algorithms, &collectives));
    let steps: u64 = tally.values().map(|proved| proved.steps).sum();
    let all_right = Paint::stdout().green("All right");
    let ranks = (options.ranks.0.first().unwrap_or(&0), options.ranks.0.last().unwrap_or(&0));
    print(&format!(
        "\n{all_right}: {proofs} proofs, {steps} steps, {} to {} ranks, {:.1} s\n",
        ranks.0,
        ranks.1,
        since.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Proves all cases on all cores; the first violation ends it.
fn prove_all(cases: &[Case]) -> Result<Tally, String> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let tally = Mutex::new(Ok(Tally::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(cases.len()).max(1);
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let proved = prove_case(case);
            // A thread that panicked leaves a tally that is whole: it was not being changed.
            let mut tally = tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match (proved, tally.as_mut()) {
                (Ok(Some(steps)), Ok(tally)) => {
                    let key = (case.tuning.algorithm.unwrap_or(Algorithm::OneShot), case.call.collective);
                    let entry = tally.entry(key).or_default();
                    *entry = Proved { proofs: entry.proofs + 1, steps: entry.steps + steps };
                }
                (Err(violation), Ok(_)) => {
                    *tally = Err(violation);
                    failed.store(true, Ordering::Relaxed);
                }
                _ => {}
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut progress = Progress::new();
        while workers.iter().any(|worker| !worker.is_finished()) {
            let done = next.load(Ordering::Relaxed).min(cases.len());
            progress.show(&format!("{} {done} of {} proofs", bar(done, cases.len()), cases.len()));
            std::thread::park_timeout(Duration::from_millis(50));
        }
    });
    tally.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// `1234` proofs as they are, steps short: `12.3M`.
fn short(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..10_000_000 => format!("{}k", count / 1000),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// Algorithms down, collectives across: proofs and steps.
fn table(tally: &Tally, algorithms: &[Algorithm], collectives: &[Collective]) -> String {
    let mut out = format!("{:10}", "");
    collectives.iter().for_each(|collective| _ = write!(out, " {:>14}", collective.name()));
    out += "\n";
    for &algorithm in algorithms {
        let cells = collectives.iter().map(|&collective| tally.get(&(algorithm, collective)));
        if cells.clone().all(|cell| cell.is_none()) {
            continue;
        }
        let _ = write!(out, "{:10}", algorithm.name());
        for cell in cells {
            let cell = cell.map_or("-".to_string(), |proved| format!("{} / {}", proved.proofs, short(proved.steps)));
            let _ = write!(out, " {cell:>14}");
        }
        out += "\n";
    }
    out += "(proofs / steps; - where the algorithm has no form of the collective)\n";
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_ranks_are_lists_and_ranges() {
        assert_eq!(ranks("2-4,8"), Ok(Ranks(vec![2, 3, 4, 8])));
        assert_eq!(ranks("5,3,3-5"), Ok(Ranks(vec![3, 4, 5])));
        for wrong in ["", "0", "4-2", "2-", "x", "5000", "1-99999999999"] {
            assert!(ranks(wrong).unwrap_err().contains("2-16,32"), "{wrong}");
        }
    }

    #[test]
    fn a_plan_that_is_refused_is_not_counted_and_one_that_is_right_is() {
        let one = |algorithm, collective| {
            let tally = prove_all(&cases(algorithm, collective, 5)).unwrap();
            tally.get(&(algorithm, collective)).map(|proved| (proved.proofs, proved.steps > 0))
        };
        assert_eq!(one(Algorithm::Ring, Collective::AllReduce), Some((8, true)));
        assert_eq!(one(Algorithm::Star, Collective::AllReduce), None);
    }

    #[test]
    fn a_proof_that_can_not_be_given_is_an_error_that_names_the_case() {
        let mut case = cases(Algorithm::Ring, Collective::AllReduce, 4).remove(0);
        case.call.root = 9;
        let error = prove_all(&[case]).unwrap_err();
        assert!(error.contains("ring all_reduce of 13 bf16, 4 ranks") && error.contains("root 9"), "{error}");
    }

    #[test]
    fn the_table_has_a_row_for_what_was_proved_only() {
        let proved = Proved { proofs: 12, steps: 3_456_789 };
        let tally = Tally::from([((Algorithm::Ring, Collective::Reduce), proved)]);
        let text = table(&tally, &Algorithm::ALL, &[Collective::AllReduce, Collective::Reduce]);
        let expected = "               all_reduce         reduce\nring                    -     12 / 3456k\n";
        assert!(text.starts_with(expected), "{text}");
    }
}
