//! The prover is tested by breaking correct plans: every mutant must be refused, or be shown to be no worse by an argument that does not
//! ask the prover. A survivor is printed with the one number that makes it again: set `RINGTREE_MUTANT` to it.

mod equivalent;
mod mutate;
mod oracle;

use equivalent::Reason;
use mutate::{Chance, Mutation, mutate};
use ringtree::check::{Listed, Options, Report, Schedule, Violation, Wrong, prove};
use ringtree::plan::{Algorithm, Plan, PlanError, Tuning, World};
use ringtree::types::{Call, Collective, DataType, Reduction};
use std::collections::BTreeMap;
use std::time::Instant;

/// A correct program.
struct Original {
    name: String,
    program: Listed,
    options: Options,
}

/// Plans of every algorithm and collective among a few ranks.
fn originals() -> Vec<Original> {
    let mut originals = Vec::new();
    for algorithm in Algorithm::ALL {
        for collective in Collective::ALL {
            for n in [2, 3, 4, 5, 6, 7, 8] {
                for (i, channels) in [(0, 1), (1, 2)] {
                    let in_place =
                        !matches!(collective, Collective::AllToAll | Collective::Barrier) && (n + i) % 2 == 1;
                    originals.extend(original(algorithm, collective, n, channels, in_place));
                }
            }
        }
    }
    originals
}

fn original(algorithm: Algorithm, collective: Collective, n: u32, channels: u32, in_place: bool) -> Option<Original> {
    let count = match collective {
        Collective::Barrier => 0,
        _ if collective.has_blocks() => 5,
        _ => u64::from(2 * n + 1),
    };
    let root = if collective.has_root() { n - 1 } else { 0 };
    let call = Call::new(collective, DataType::F64, Reduction::Sum, root, count);
    let world =
        if algorithm == Algorithm::Hierarchy { World::domains(&[n.div_ceil(2), n / 2]) } else { World::flat(n) };
    let tuning = Tuning {
        algorithm: Some(algorithm),
        chunk_bytes: Some(24),
        channels: Some(channels),
        windows: true,
        ..Tuning::default()
    };
    let plan = match Plan::new(&world, &call, &tuning) {
        Ok(plan) => plan,
        Err(PlanError::Refused { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    // The strictest that the plan can keep: where its order is the left fold, no mutant may change it.
    let options = Options { in_place, reproducible: true, ..Options::default() };
    let options = Options { reproducible: prove(&plan, &options).is_ok(), ..options };
    let name = format!("{algorithm} {collective} n={n} channels={channels} {options:?}");
    Some(Original { name, program: Listed::of(&plan), options })
}

/// What became of a mutant.
enum Fate {
    Refused(&'static str),
    Equivalent(Reason),
    Survived(String),
}

/// Mutant number `seed`: which way, and what became of it. Nothing where chance found nothing to break.
fn try_mutant(originals: &[Original], seed: u64) -> Option<(Mutation, Fate)> {
    let mut chance = Chance::new(seed);
    let original = &originals[chance.below(originals.len())];
    let how = chance.pick(&Mutation::ALL);
    let mutant = (0..20).find_map(|_| mutate(&original.program, how, &mut chance))?;
    let verdict = prove(&mutant, &original.options);
    if seed.is_multiple_of(4) {
        check_schedules(&mutant, original, &verdict, seed);
    }
    let fate = match verdict {
        Err(violation) => Fate::Refused(violation.wrong.name()),
        Ok(_) => match equivalent::reason(&original.program, &mutant, original.options.in_place) {
            Some(Reason::OtherOrder) if original.options.reproducible => Fate::Survived(difference(original, &mutant)),
            Some(reason) => Fate::Equivalent(reason),
            None => Fate::Survived(difference(original, &mutant)),
        },
    };
    Some((how, fate))
}

/// Two steps that nothing orders: which of them is interpreted second, and what it then finds first, is chance.
fn is_race(wrong: &Wrong) -> bool {
    matches!(wrong, Wrong::Race { .. } | Wrong::LentOverwritten { .. } | Wrong::ChannelsShare { .. })
}

/// The order in which ranks are interpreted has no part in the verdict, but for races.
fn check_schedules(mutant: &Listed, original: &Original, verdict: &Result<Report, Violation>, seed: u64) {
    for schedule in [Schedule::NewestFirst, Schedule::Seeded(seed)] {
        let other = prove(mutant, &Options { schedule, ..original.options });
        let same = match (verdict, &other) {
            (Ok(_), Ok(_)) => true,
            (Err(a), Err(b)) if is_race(&a.wrong) => is_race(&b.wrong),
            (Err(a), Err(b)) => a == b,
            _ => false,
        };
        assert!(same, "RINGTREE_MUTANT={seed}, {}:\n{verdict:?}\n{schedule:?}: {other:?}", original.name);
    }
}

fn difference(original: &Original, mutant: &Listed) -> String {
    let mut text = format!("{}\n", original.name);
    for (rank, (before, after)) in original.program.steps.iter().zip(&mutant.steps).enumerate() {
        for (channel, (before, after)) in before.iter().zip(after).enumerate() {
            if before != after {
                for (at, step) in before.iter().enumerate().filter(|(at, step)| after.get(*at) != Some(step)) {
                    text += &format!("  rank {rank}, channel {channel}, step {at}: {step:?}\n");
                    text += &format!("    became {:?}\n", after.get(at));
                }
            }
        }
    }
    text
}

/// How many mutants are tried.
const MUTANTS: u64 = 40_000;

#[test]
fn every_broken_plan_is_refused_or_no_worse() {
    let since = Instant::now();
    let originals = originals();
    for original in &originals {
        prove(&original.program, &original.options)
            .unwrap_or_else(|violation| panic!("{violation}: {}", original.name));
    }
    let one = std::env::var("RINGTREE_MUTANT").ok().map(|seed| seed.parse::<u64>().expect("a number"));
    let seeds = one.map_or(0..MUTANTS, |seed| seed..seed + 1);
    let mut verdicts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut reasons: BTreeMap<_, u64> = BTreeMap::new();
    let mut kinds: BTreeMap<Mutation, u64> = BTreeMap::new();
    let mut survivors = Vec::new();
    for seed in seeds {
        let Some((how, fate)) = try_mutant(&originals, seed) else { continue };
        *kinds.entry(how).or_default() += 1;
        match fate {
            Fate::Refused(verdict) => *verdicts.entry(verdict).or_default() += 1,
            Fate::Equivalent(reason) => *reasons.entry((reason, how)).or_default() += 1,
            Fate::Survived(difference) => survivors.push((seed, how, difference)),
        }
    }
    let refused: u64 = verdicts.values().sum();
    let equivalent: u64 = reasons.values().sum();
    println!(
        "{} originals, {refused} mutants refused, {equivalent} equivalent, {} survived, {:.1} s",
        originals.len(),
        survivors.len(),
        since.elapsed().as_secs_f64()
    );
    verdicts.iter().for_each(|(verdict, count)| println!("  refused, {verdict}: {count}"));
    reasons.iter().for_each(|((reason, how), count)| println!("  equivalent, {reason:?} by {how:?}: {count}"));
    kinds.iter().for_each(|(how, count)| println!("  {how:?}: {count}"));
    for (seed, how, difference) in survivors.iter().take(20) {
        println!("survivor, RINGTREE_MUTANT={seed}: {how:?} of {difference}");
    }
    assert!(survivors.is_empty(), "{} mutants survived", survivors.len());
    assert!(one.is_some() || refused >= 1000, "too few mutants were refused: {refused}");
}
