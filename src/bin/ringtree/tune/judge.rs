//! How good choices are: what the chosen algorithm takes, against the fastest that was measured.

use super::series::Measured;
use crate::bytes;
use ringtree::plan::{Algorithm, Costs, Plan, Tuning};
use std::fmt::Write;
use std::sync::Arc;

/// A choice at one cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) algorithm: Algorithm,
    /// How many times as long as the fastest it takes; 1 at best.
    pub(super) ratio: f64,
}

/// What is chosen there by these costs.
pub(super) fn choice(measured: &Measured, costs: &Arc<Costs>) -> Option<Choice> {
    let cell = &measured.cell;
    let tuning = Tuning { costs: Some(costs.clone()), ..cell.tuning.clone() };
    let algorithm = Plan::new(&cell.world(), &cell.call(), &tuning).ok()?.algorithm();
    Some(Choice { algorithm, ratio: measured.ratio(algorithm)? })
}

/// How good all choices are together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) cells: usize,
    /// The geometric mean of the ratios.
    pub(super) mean: f64,
    pub(super) worst: f64,
    /// Cells whose choice is within 10 % of the fastest.
    pub(super) within: usize,
}

/// Within so much of the fastest a choice is good, and so are all choices together.
pub(super) const GOOD: f64 = 1.10;
/// No single one may be worse than that.
pub(super) const BEARABLE: f64 = 1.5;

impl Verdict {
    pub(super) fn of(all: &[Measured], costs: &Arc<Costs>) -> Verdict {
        let ratios: Vec<f64> = all.iter().filter_map(|cell| choice(cell, costs)).map(|choice| choice.ratio).collect();
        let cells = ratios.len();
        Verdict {
            cells,
            mean: (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / cells.max(1) as f64).exp(),
            worst: ratios.iter().copied().fold(1.0, f64::max),
            within: ratios.iter().filter(|ratio| **ratio <= GOOD).count(),
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.cells > 0 && self.mean <= GOOD && self.worst <= BEARABLE
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Verdict { cells, mean, worst, within } = self;
        let (mean, worst) = (loss(*mean), loss(*worst));
        write!(f, "{mean} slower than the fastest in the mean, {worst} at worst, {within} of {cells} within 10 %")
    }
}

/// `12.3 %`.
fn loss(ratio: f64) -> String {
    format!("{:.1} %", (ratio - 1.0) * 100.0)
}

/// A line for each cell: the fastest, and what each of these costs would choose.
pub(super) fn table(all: &[Measured], costs: &[(&str, Arc<Costs>)]) -> String {
    let mut out = format!("{:<15}{:>9}{:>6}{:>6}  {:<22}", "collective", "size", "ranks", "over", "fastest");
    for (name, _) in costs {
        let _ = write!(out, "  {:<21}", format!("by {name}"));
    }
    out = out.trim_end().to_string() + "\n";
    for measured in all {
        let (cell, (best, time)) = (&measured.cell, measured.best());
        let (size, fastest) = (bytes::human(cell.bytes), format!("{:<10}{time:>9.2} us", best.name()));
        let (name, ranks) = (cell.collective.name(), cell.ranks());
        let _ = write!(out, "{name:<15}{size:>9}{ranks:>6}{:>6}  {fastest:<22}", cell.transport);
        for (_, costs) in costs {
            let text = choice(measured, costs).map_or("not measured".to_string(), |choice| {
                format!("{:<10}{:>9}", choice.algorithm.name(), loss(choice.ratio))
            });
            let _ = write!(out, "  {text:<21}");
        }
        out = out.trim_end().to_string() + "\n";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::series::{add, tests::series};
    use super::*;

    fn measured() -> Vec<Measured> {
        let mut all = Vec::new();
        // Three ranks reduce 8 B in one shot, by the model, and 1 MiB in two.
        for (bytes, one, two) in [(8, 1.0, 1.3), (1 << 20, 100.0, 120.0)] {
            add(&mut all, series(Algorithm::OneShot, bytes, one));
            add(&mut all, series(Algorithm::TwoShot, bytes, two));
        }
        all
    }

    #[test]
    fn a_choice_is_judged_by_what_the_fastest_takes() {
        let costs = Arc::new(Costs::default());
        let verdict = Verdict::of(&measured(), &costs);
        assert_eq!((verdict.cells, verdict.within), (2, 1));
        assert!((verdict.worst - 1.2).abs() < 1e-9 && (verdict.mean - 1.2f64.sqrt()).abs() < 1e-9, "{verdict}");
        assert!(verdict.is_good());
        assert!(!Verdict { worst: 1.6, ..verdict }.is_good() && !Verdict { mean: 1.11, ..verdict }.is_good());
        assert!(!Verdict::of(&[], &costs).is_good(), "nothing was measured");
        assert_eq!(verdict.to_string().split(" %").next(), Some("9.5"));
    }

    #[test]
    fn the_table_has_the_fastest_and_the_loss_of_each_choice() {
        let text = table(&measured(), &[("the built-in costs", Arc::new(Costs::default()))]);
        let last = text.lines().last().unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(last, ["all_reduce", "1", "MiB", "3", "shm", "oneshot", "100.00", "us", "twoshot", "20.0", "%"]);
    }
}
