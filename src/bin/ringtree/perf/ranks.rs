//! Who measures: the ranks that this command starts, threads of it, or the ranks of a launcher's job of which it is one.

use super::measure::{Pair, Source};
use super::options::Options;
use super::rank::Rank;
use super::row::{Case, Kind, Row};
use super::{Report, finish};
use crate::launch;
use crate::{Failure, Outcome};
use ringtree::boot::detect;
use ringtree::plan::{Algorithm, Plan, Tuning, World};
use ringtree::types::Call;
use ringtree::{Communicator, Config, Reduction};

/// Measures in the way that the options and the environment ask for.
pub(super) fn run(options: &Options) -> Outcome {
    let mut config = config(options)?;
    // What is measured follows it, and nothing else: an algorithm need not know the calls that agree on times.
    let forced = config.algorithm.take();
    if options.as_threads() {
        return threads(options, &config, forced);
    }
    let launch = detect(&|name| std::env::var(name).ok()).map_err(Failure::failed)?;
    if let Some(launch) = launch {
        // Before the ranks look for who is near whom.
        bind(launch.local_rank.unwrap_or(launch.rank));
    }
    match Communicator::try_from_env(&config).map_err(Failure::failed)? {
        Some(communicator) => one_rank(options, &communicator, forced),
        None => processes(options, forced),
    }
}

fn config(options: &Options) -> Result<Config, Failure> {
    let mut config = Config::from_env().map_err(Failure::failed)?;
    config.algorithm = options.algorithm.map_or(config.algorithm, |wish| wish.0);
    config.transport = options.transport.unwrap_or(config.transport);
    Ok(config)
}

/// Starts this very command once for each rank.
fn processes(options: &Options, forced: Option<Algorithm>) -> Outcome {
    // Nonsense is refused once, not by every rank.
    refuse(&options.cases(options.ranks())?, forced)?;
    launch::launch_self(options.ranks(), std::env::args_os().skip(1).collect())
}

/// Refuses an algorithm that can't do what is to be measured. Which domains the ranks will be in, and so whether there is a hierarchy, only
/// they know.
fn refuse(cases: &[Case], forced: Option<Algorithm>) -> Outcome {
    let Some(algorithm) = forced.filter(|algorithm| *algorithm != Algorithm::Hierarchy) else { return Ok(()) };
    let tuning = Tuning { algorithm: Some(algorithm), windows: true, ..Tuning::default() };
    for case in cases {
        let Kind::Collective(collective) = case.kind else { continue };
        let (reduction, root) = (case.reduction.unwrap_or(Reduction::Sum), case.root.unwrap_or(0));
        let call = Call::new(collective, case.dtype, reduction, root, case.count);
        if let Err(refusal) = Plan::new(&World::flat(case.ranks), &call, &tuning) {
            let advice = format!("`ringtree plan {} -g {}` lists what can be forced", case.kind, case.ranks);
            return Err(Failure::Usage(format!("{algorithm} is forced: {refusal}. {advice}")));
        }
    }
    Ok(())
}

fn threads(options: &Options, config: &Config, forced: Option<Algorithm>) -> Outcome {
    refuse(&options.cases(options.ranks())?, forced)?;
    let communicators = Communicator::local_with(options.ranks() as usize, config).map_err(Failure::failed)?;
    std::thread::scope(|scope| {
        let mut others = Vec::new();
        let mut first = None;
        for communicator in communicators {
            if communicator.rank() == 0 {
                first = Some(communicator);
            } else {
                others.push(scope.spawn(move || one_thread(options, &communicator, forced)));
            }
        }
        let outcome = first.map_or(Ok(()), |communicator| one_thread(options, &communicator, forced));
        others.into_iter().fold(outcome, |outcome, other| {
            outcome.and(other.join().unwrap_or_else(|_| Err(Failure::Failed("a thread panicked".into()))))
        })
    })
}

fn one_thread(options: &Options, communicator: &Communicator, forced: Option<Algorithm>) -> Outcome {
    bind(communicator.rank());
    one_rank(options, communicator, forced)
}

/// One rank, from its first case to its last. Rank 0 prints.
fn one_rank(options: &Options, communicator: &Communicator, forced: Option<Algorithm>) -> Outcome {
    let cases = options.cases(communicator.size() as u32)?;
    let bound = forced.map(|algorithm| communicator.duplicate_with_algorithm(Some(algorithm))).transpose();
    let bound = bound.map_err(Failure::failed)?;
    let measured = bound.as_ref().unwrap_or(communicator);
    let rank = Rank::new(communicator, measured, options, &cases).map_err(Failure::failed)?;
    let mut source = Measuring { rank, cases: &cases, next: 0 };
    let mut report =
        (communicator.rank() == 0).then(|| Report::begin(options, communicator.size() as u32, cases.len()));
    while let Some(pair) = source.next_pair()? {
        if let Some(report) = &mut report {
            report.add(pair);
        }
    }
    communicator.barrier().map_err(Failure::failed)?;
    finish(report, options)
}

struct Measuring<'a> {
    rank: Rank<'a>,
    cases: &'a [Case],
    next: usize,
}

impl Source for Measuring<'_> {
    fn expected(&self) -> usize {
        self.cases.len()
    }

    fn next_pair(&mut self) -> Result<Option<Pair>, Failure> {
        let Some(case) = self.cases.get(self.next) else { return Ok(None) };
        self.next += 1;
        let mut measure = |in_place| -> Result<Option<Row>, Failure> {
            let timing = self.rank.measure(case, in_place).map_err(Failure::failed)?;
            Ok(timing.map(|timing| Row { library: "ringtree".into(), case: *case, in_place, timing }))
        };
        Ok(Some(Pair { out_of_place: measure(false)?, in_place: measure(true)? }))
    }
}

/// Gives each rank a processor of its own, round robin, where nobody has bound it yet: what MPI's launchers do as well.
pub(crate) fn bind(rank: usize) {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;
    let this = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(this) else { return };
    let allowed: Vec<usize> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    if allowed.len() < 2 {
        return;
    }
    let mut one = CpuSet::new();
    if one.set(allowed[rank % allowed.len()]).is_ok() {
        // Not being bound costs speed, nothing else.
        let _unbound = sched_setaffinity(this, &one);
    }
}
