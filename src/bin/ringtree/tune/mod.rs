//! `ringtree tune`.
//!
//! ```text
//!   grid ──> jobs of ranks (part) ──> series ──> judge: is the choice good?
//!                                        └─────> fit: costs that choose better ──> profile
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `grid` | what is measured |
//! | `part` | what one rank does |
//! | `series` | what came out |
//! | `judge` | how good choices are |
//! | `fit` | from measurements to costs |

mod fit;
mod grid;
mod judge;
mod part;
mod series;

use crate::terminal::{Paint, Progress, print};
use crate::values::{ranks, transport};
use crate::{Failure, Outcome, launch};
use clap::Args;
use grid::{Effort, Spot, Work, grid};
use judge::{BEARABLE, GOOD, Verdict, choice, table};
use ringtree::boot::detect;
use ringtree::plan::Costs;
use ringtree::{Config, Transport};
use series::{Measured, Series, add};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A file of measurements is read up to here.
const MOST_FILE: u64 = 64 << 20;

/// Cells whose choice looks worse than that are measured again, with more rounds, before it is believed: what else runs on the machine may
/// slow the same algorithm every time for a while, and what looks unbearable is looked at longest.
const REPEATS: [f64; 7] = [GOOD, GOOD, GOOD, BEARABLE, BEARABLE, BEARABLE, BEARABLE];

const EXAMPLES: &str = "\
Examples:
  ringtree tune --out tuned.profile                  measure this system, write what its links cost
  RINGTREE_PROFILE=tuned.profile ringtree run …      a job that chooses by it; the same file on all hosts
  ringtree tune --check                              are the choices good here? Exit code 1: no
  ringtree tune --quick                              a minute in place of several
  ringtree tune --rows rows; ringtree tune --from rows   keep what was measured, and use it again

Ranks are started by this command, on this host: what is measured are shared memory and the loopback. Constants of the network are
written as they are; change them by hand, or leave them out.";

/// Measure this system's links, and write a profile by which algorithms are chosen
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Write the profile there
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    out: Option<PathBuf>,
    /// Judge the choices that are made by RINGTREE_PROFILE, or else by the built-in costs: all of them together within 10 % of the fastest,
    /// none worse than half as slow again
    #[arg(long)]
    check: bool,
    /// Fewer sizes, less time for each
    #[arg(long)]
    quick: bool,
    /// The most ranks [default: twice as many as processors, at most 4]
    #[arg(short = 'g', long = "ranks", value_name = "N", value_parser = ranks)]
    ranks: Option<u32>,
    /// One transport alone [default: shm and tcp]
    #[arg(long, value_name = "TRANSPORT", value_parser = transport())]
    transport: Option<Transport>,
    /// Keep what was measured there, one JSON object a line
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    rows: Option<PathBuf>,
    /// Measure nothing: read what --rows has kept
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Be a rank
    #[arg(long, hide = true, value_name = "WORK")]
    part: Option<String>,
}

impl Options {
    fn effort(&self) -> Result<Effort, Failure> {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        let most_ranks = self.ranks.unwrap_or((2 * processors).clamp(2, 4));
        if most_ranks < 2 {
            return Err(Failure::Usage("one rank alone has nothing to choose: give -g 2 or more".into()));
        }
        let transports = self.transport.map_or(vec![Transport::Shm, Transport::Tcp], |transport| vec![transport]);
        Ok(Effort { most_ranks, transports, quick: self.quick })
    }
}

pub(crate) fn main(options: &Options) -> Outcome {
    if let Some(work) = &options.part {
        let file = options.rows.as_deref().ok_or_else(|| Failure::Usage("--part needs --rows".into()))?;
        return part::measure(&Work::from_text(work)?, file);
    }
    let config = Config::from_env().map_err(|error| Failure::Usage(error.to_string()))?;
    if config.algorithm.is_some() || config.chunk_bytes.is_some() {
        let what =
            "RINGTREE_ALGORITHM or RINGTREE_CHUNK is set, and tuning is about what is chosen where nothing is forced";
        return Err(Failure::Usage(format!("{what}: unset it")));
    }
    if let Some(path) = &options.out {
        crate::perf::try_to_write("--out", path)?;
    }
    let costs = config.costs.unwrap_or_default();
    let all = match &options.from {
        Some(path) => read(path)?,
        None => measure(options, &costs)?,
    };
    if options.check { check(&all, &costs) } else { tune(options, &all) }
}

/// What was kept in a file.
fn read(path: &Path) -> Result<Vec<Measured>, Failure> {
    let wrong = |error| Failure::Failed(format!("{} can't be read: {error}", path.display()));
    let mut text = String::new();
    std::fs::File::open(path).map_err(wrong)?.take(MOST_FILE).read_to_string(&mut text).map_err(wrong)?;
    let mut all = Vec::new();
    text.lines().filter_map(Series::from_json).for_each(|series| add(&mut all, series));
    if all.is_empty() {
        let advice = "it should hold lines of `ringtree tune --rows`";
        return Err(Failure::Failed(format!("{} has no measurement; {advice}", path.display())));
    }
    Ok(all)
}

/// Measures the grid, and what looks bad by these costs again.
fn measure(options: &Options, costs: &Arc<Costs>) -> Result<Vec<Measured>, Failure> {
    if detect(&|name| std::env::var(name).ok()).map_err(Failure::failed)?.is_some() {
        let what = "a launcher has started this process as a rank, and tune starts its own ranks";
        return Err(Failure::Usage(format!("{what}: call it once, without a launcher")));
    }
    let jobs = grid(&options.effort()?);
    let scratch = std::env::temp_dir().join(format!("ringtree-tune-{}", std::process::id()));
    let path = options.rows.clone().unwrap_or(scratch);
    std::fs::write(&path, "")
        .map_err(|error| Failure::Failed(format!("{} can't be written: {error}", path.display())))?;
    let outcome = measure_into(&path, &jobs, costs);
    if options.rows.is_none() {
        // It has been read; what can't be removed lies in a directory for such.
        drop(std::fs::remove_file(&path));
    }
    outcome
}

fn measure_into(path: &Path, jobs: &[Work], costs: &Arc<Costs>) -> Result<Vec<Measured>, Failure> {
    let mut progress = Progress::new();
    for (done, work) in jobs.iter().enumerate() {
        progress.show(&format!("job {} of {}", done + 1, jobs.len()));
        start(work, path)?;
    }
    for than in REPEATS {
        let all = read(path)?;
        for work in jobs {
            let spots: Vec<Spot> =
                work.spots.iter().copied().filter(|spot| looks_worse(than, &all, work, *spot, costs)).collect();
            if !spots.is_empty() {
                start(&work.again(spots), path)?;
            }
        }
    }
    read(path)
}

fn looks_worse(than: f64, all: &[Measured], work: &Work, spot: Spot, costs: &Arc<Costs>) -> bool {
    let here = |measured: &&Measured| {
        let cell = &measured.cell;
        (cell.transport.as_str(), cell.ranks(), cell.collective, cell.bytes)
            == (work.transport.name(), work.ranks, spot.collective, spot.bytes)
    };
    all.iter().find(here).and_then(|measured| choice(measured, costs)).is_some_and(|choice| choice.ratio > than)
}

/// Starts the ranks of a job.
fn start(work: &Work, path: &Path) -> Outcome {
    let args = ["tune".into(), "--part".into(), work.to_text().into(), "--rows".into(), path.into()];
    launch::launch_self(work.ranks, args.into())
}

fn check(all: &[Measured], costs: &Arc<Costs>) -> Outcome {
    print(&table(all, &[("the costs in use", costs.clone())]));
    let verdict = Verdict::of(all, costs);
    print(&format!("\nChoices: {verdict}\n"));
    let missed: Vec<Measured> =
        all.iter().filter(|cell| choice(cell, costs).is_some_and(|choice| choice.ratio > GOOD)).cloned().collect();
    if !missed.is_empty() {
        print(&format!("\nBeyond 10 %:\n{}", table(&missed, &[("the costs in use", costs.clone())])));
    }
    if verdict.is_good() {
        return Ok(());
    }
    let limits = format!("{:.0} % in the mean, {:.0} % at worst", (GOOD - 1.0) * 100.0, (BEARABLE - 1.0) * 100.0);
    Err(Failure::Failed(format!(
        "choices are worse than they may be ({limits}): `ringtree tune --out FILE` finds better costs"
    )))
}

fn tune(options: &Options, all: &[Measured]) -> Outcome {
    let (before, after) = (Arc::new(Costs::default()), Arc::new(fit::fit(all, Costs::built_in())));
    print(&table(all, &[("built-in costs", before.clone()), ("this profile", after.clone())]));
    let (built_in, fitted) = (Verdict::of(all, &before), Verdict::of(all, &after));
    print(&format!("\nBuilt-in costs: {built_in}\nThis profile:   {fitted}\n"));
    let Some(path) = &options.out else {
        print("No profile was written: --out FILE writes one\n");
        return Ok(());
    };
    let comment = format!("{}\nbuilt-in costs: {built_in}\nthis profile:   {fitted}", origin());
    std::fs::write(path, after.to_profile(&comment))
        .map_err(|error| Failure::Failed(format!("{} can't be written: {error}", path.display())))?;
    let said = format!("profile written; RINGTREE_PROFILE={} uses it, on all ranks", path.display());
    eprintln!("{}", Paint::stderr().dim(&said));
    Ok(())
}

/// Where and when: for people who find the file.
fn origin() -> String {
    let found = ringtree::topo::detect::detect(Path::new("/"));
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = date(seconds / 86_400);
    let processor = &found.host.processor;
    format!(
        "measured by ringtree tune {} on {}, {year}-{month:02}-{day:02}\n{} cores of a {} family {} model {}",
        env!("CARGO_PKG_VERSION"),
        if found.host.name.is_empty() { "a host without a name" } else { &found.host.name },
        found.host.cores.len(),
        processor.vendor,
        processor.family,
        processor.model
    )
}

/// Year, month and day, so many days after the first of January 1970.
fn date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March have their leap day at their end; 719468 days before 1970 began the year 0 of these.
    let day = days + 719_468;
    let era = day / 146_097;
    let day_of_era = day % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let first_of_month = (153 * month + 2) / 5;
    let month_of_ours = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month_of_ours <= 2), month_of_ours, day_of_year - first_of_month + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(11_017), (2000, 3, 1));
        assert_eq!(date(20_088), (2024, 12, 31));
        assert_eq!(date(20_089), (2025, 1, 1));
    }
}
