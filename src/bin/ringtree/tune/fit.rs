//! From measurements to costs: each constant in turn is tried larger and smaller, and what makes choices better is kept.
//!
//! Choices jump where two predictions cross, so there is nothing to differentiate; and a constant that only moves predictions nearer to what
//! was measured, without a choice that changes, is worth having too, since sizes between those of the grid depend on it.

use super::series::Measured;
use ringtree::plan::{Constant, Costs, Plan, Tuning};
use std::sync::Arc;

/// What each constant is multiplied with, one after the other.
const STEPS: [f64; 8] = [0.5, 2.0, 0.7, 1.4, 0.85, 1.18, 0.95, 1.05];

/// Every constant is tried at most so many times.
const SWEEPS: usize = 12;

/// How much being wrong about a time by a factor of e counts, against a choice that is wrong by as much.
const PREDICTION: f64 = 0.03;

/// Candidates that take so many times as long as the fastest count no more in a prediction than those that take that.
const FAR: f64 = 4.0;

/// Costs that suit what was measured better than these.
pub(super) fn fit(all: &[Measured], from: &Costs) -> Costs {
    let mut best = *from;
    let mut least = badness(all, &best);
    for _ in 0..SWEEPS {
        let before = least;
        let constants: Vec<Constant> = best.constants().collect();
        for constant in constants {
            let mut value = constant.value;
            for step in STEPS {
                let wished = changed(value, step);
                let mut other = best;
                if wished == value || !other.set(constant.class, constant.quantity, wished) {
                    continue;
                }
                let badness = badness(all, &other);
                if badness < least - 1e-9 {
                    (best, least, value) = (other, badness, wished);
                }
            }
        }
        if before - least < 1e-6 {
            break;
        }
    }
    if !all.iter().any(|measured| measured.cell.world().domain_count() > 1) {
        keep_ratio(&mut best, from);
    }
    best
}

/// Nothing was measured between domains: that keeps its ratio to what is within them.
fn keep_ratio(costs: &mut Costs, from: &Costs) {
    let of = |costs: &Costs, class: &str| costs.constants().filter(|one| one.class == class).collect::<Vec<Constant>>();
    let (near, was) = (of(costs, "memory"), of(from, "memory"));
    for ((near, was), far) in near.iter().zip(was).zip(of(from, "domains")) {
        let (least, most) = far.limits;
        costs.set(far.class, far.quantity, (far.value * near.value / was.value).clamp(least, most));
    }
}

/// The value times the step, and another one in any case but that of 0.
fn changed(value: u64, step: f64) -> u64 {
    match (value as f64 * step).round() as u64 {
        same if same == value && step > 1.0 => value + 1,
        same if same == value => value.saturating_sub(1),
        other => other,
    }
}

/// The mean over all cells of what choices and predictions cost, as logarithms.
fn badness(all: &[Measured], costs: &Costs) -> f64 {
    let costs = Arc::new(*costs);
    let of = |measured: &Measured| {
        let cell = &measured.cell;
        let tuning = Tuning { costs: Some(costs.clone()), ..cell.tuning.clone() };
        let fastest = measured.best().1;
        let mut cheapest = (u64::MAX, 0.0);
        let (mut wrong, mut weights) = (0.0, 0.0);
        for candidate in Plan::candidates(&cell.world(), &cell.call(), &tuning) {
            let Some(time) = measured.time(candidate.algorithm) else { continue };
            let loss = (time / fastest).ln();
            if candidate.nanoseconds < cheapest.0 {
                cheapest = (candidate.nanoseconds, loss);
            }
            let weight = 1.0 / (time / fastest).min(FAR);
            wrong += weight * (candidate.nanoseconds.max(1) as f64 / (time * 1e3)).ln().abs();
            weights += weight;
        }
        cheapest.1 + PREDICTION * wrong / f64::max(weights, 1e-9)
    };
    all.iter().map(of).sum::<f64>() / all.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::super::judge::Verdict;
    use super::super::series::{add, tests::series};
    use super::*;
    use ringtree::plan::{Algorithm, World};
    use ringtree::{Collective, DataType, Reduction, types::Call};

    #[test]
    fn costs_of_another_machine_are_found_from_its_times() {
        // A machine on which two microseconds go to every message.
        let mut other = Costs::default();
        for (quantity, value) in [("copy_ps", 60), ("message_ns", 2000)] {
            assert!(other.set("memory", quantity, value));
        }
        let tuning = Tuning { cores: 3, costs: Some(Arc::new(other)), ..Tuning::default() };
        let mut all = Vec::new();
        for shift in 3..=24 {
            let call = Call::new(Collective::AllReduce, DataType::F32, Reduction::Sum, 0, (1 << shift) / 4);
            for candidate in Plan::candidates(&World::flat(3), &call, &tuning) {
                add(&mut all, series(candidate.algorithm, 1 << shift, candidate.nanoseconds as f64 / 1e3));
            }
        }
        let before = Verdict::of(&all, &Arc::new(Costs::default()));
        let fitted = fit(&all, &Costs::default());
        let after = Verdict::of(&all, &Arc::new(fitted));
        assert!(before.worst > 1.5 && after.mean < 1.01 && after.worst < 1.1, "{before}; {after}");
        assert!(all.iter().any(|cell| cell.best().0 != Algorithm::OneShot), "a choice worth having");
        let value =
            |class| fitted.constants().find(|one| (one.class, one.quantity) == (class, "copy_ps")).unwrap().value;
        assert_eq!(value("domains"), value("memory") * 150 / 100, "domains are as far apart as they were");
        let sockets = |costs: &Costs| costs.constants().filter(|one| one.class == "loopback").collect::<Vec<_>>();
        assert_eq!(sockets(&fitted), sockets(&Costs::default()), "what was not measured stays");
    }
}
