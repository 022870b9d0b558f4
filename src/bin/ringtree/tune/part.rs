//! What one rank does: every cell that it is told, every algorithm that can do it, by turns.
//!
//! ```text
//!   cell 1:  oneshot twoshot ring … | oneshot twoshot ring … | …      what disturbs one round disturbs all algorithms
//!   cell 2:  …
//! ```

use super::grid::{Spot, Work};
use super::series::{Cell, Series};
use crate::perf::{self, Rank};
use crate::terminal::{Progress, bar};
use crate::{Failure, Outcome, bytes};
use ringtree::boot::detect;
use ringtree::plan::{Algorithm, Plan};
use ringtree::types::Call;
use ringtree::{Communicator, Config, DataType, Domains, Reduction};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write;
use std::path::Path;

/// What took so many times as long as the fastest in each of the first rounds is not measured again.
const HOPELESS: f64 = 3.0;

/// Rounds after which that is believed.
const ENOUGH: usize = 3;

/// Measures, and rank 0 writes what came out behind what is in the file.
pub(super) fn measure(work: &Work, file: &Path) -> Outcome {
    let mut config = Config::from_env().map_err(Failure::failed)?;
    (config.algorithm, config.chunk_bytes, config.reproducible) = (None, None, false);
    (config.transport, config.domains) = (work.transport, Domains::Auto);
    let launch = detect(&|name| std::env::var(name).ok()).map_err(Failure::failed)?;
    perf::bind(launch.map_or(0, |launch| launch.rank));
    let own = Communicator::try_from_env(&config).map_err(Failure::failed)?;
    let own = own.ok_or_else(|| Failure::Usage("--part is for the ranks that this command starts".into()))?;
    let part = Part::new(&own, work).map_err(Failure::failed)?;
    let lines = part.measure(work).map_err(Failure::failed)?;
    if own.rank() == 0 {
        let wrong = |error| Failure::Failed(format!("{} can't be written: {error}", file.display()));
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).map_err(wrong)?;
        file.write_all(lines.as_bytes()).map_err(wrong)?;
    }
    own.barrier().map_err(Failure::failed)
}

/// A rank, with a communicator for each algorithm.
struct Part<'a> {
    own: &'a Communicator,
    bound: BTreeMap<Algorithm, Communicator>,
    plans: Vec<(Spot, Plan)>,
}

impl Part<'_> {
    fn new<'a>(own: &'a Communicator, work: &Work) -> ringtree::Result<Part<'a>> {
        let mut plans = Vec::new();
        let mut bound = BTreeMap::new();
        for spot in &work.spots {
            let case = perf::Options::case(spot.collective, own.size() as u32, spot.bytes);
            let call = Call::new(spot.collective, DataType::F32, Reduction::Sum, 0, case.count);
            let plan = own.plan(&call)?;
            for candidate in Plan::candidates(plan.world(), &call, plan.tuning()) {
                // One after the other, in the same order on all ranks.
                if let Entry::Vacant(place) = bound.entry(candidate.algorithm) {
                    place.insert(own.duplicate_with_algorithm(Some(candidate.algorithm))?);
                }
            }
            plans.push((*spot, plan));
        }
        Ok(Part { own, bound, plans })
    }

    /// A line for each algorithm of each cell.
    fn measure(&self, work: &Work) -> ringtree::Result<String> {
        let options = perf::Options::unchecked(work.seconds);
        let case = |spot: &Spot| perf::Options::case(spot.collective, self.own.size() as u32, spot.bytes);
        let cases: Vec<perf::Case> = self.plans.iter().map(|(spot, _)| case(spot)).collect();
        let mut rank = Rank::new(self.own, self.own, &options, &cases)?;
        let mut progress = Progress::new();
        let mut lines = String::new();
        for (done, (case, (spot, plan))) in cases.iter().zip(&self.plans).enumerate() {
            if self.own.rank() == 0 {
                let (of, size) = (cases.len(), bytes::human(spot.bytes));
                let what = format!("{} ranks over {}: {} {size}", case.ranks, work.transport.name(), spot.collective);
                progress.show(&format!("{} {what}", bar(done, of)));
            }
            let cell = self.cell(work, spot, case.count, plan);
            for (algorithm, time) in self.rounds(&mut rank, case, plan, work.rounds)? {
                lines += &(Series { cell: cell.clone(), algorithm, time }.to_json() + "\n");
            }
        }
        Ok(lines)
    }

    fn cell(&self, work: &Work, spot: &Spot, count: u64, plan: &Plan) -> Cell {
        Cell {
            transport: work.transport.name().into(),
            collective: spot.collective,
            bytes: spot.bytes,
            count,
            domains: self.own.domains().into_iter().map(|domain| domain as u32).collect(),
            tuning: plan.tuning().clone(),
        }
    }

    /// All algorithms by turns, as often as there are rounds. Times are those of the slowest rank, so that all ranks have the same, and give
    /// up the same.
    fn rounds<'r>(
        &'r self,
        rank: &mut Rank<'r>,
        case: &perf::Case,
        plan: &Plan,
        rounds: u32,
    ) -> ringtree::Result<Vec<(Algorithm, f64)>> {
        let candidates = Plan::candidates(plan.world(), plan.call(), plan.tuning());
        let mut times: BTreeMap<Algorithm, Vec<f64>> = BTreeMap::new();
        let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
        for _ in 0..rounds {
            let fastest = times.values().map(|times| least(times)).fold(f64::INFINITY, f64::min);
            for candidate in &candidates {
                let Some(bound) = self.bound.get(&candidate.algorithm) else { continue };
                let mine = times.entry(candidate.algorithm).or_default();
                if mine.len() >= ENOUGH && least(mine) > HOPELESS * fastest {
                    continue;
                }
                rank.turn_to(bound);
                // A root may run ahead of the others for a whole batch: its fastest says nothing.
                let rooted = case.root.is_some();
                mine.extend(rank.measure(case, true)?.map(|timing| if rooted { timing.median } else { timing.min }));
            }
        }
        Ok(times.into_iter().filter_map(|(algorithm, times)| Some((algorithm, usual(times)?))).collect())
    }
}

/// The lower quartile of each round's fastest batch: whatever else runs on the machine only adds to a time, and one lucky round counts for
/// nothing. With compilers on both cores the medians of one algorithm differed by a factor of ten.
fn usual(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 4).copied()
}
