//! `ringtree perf`.
//!
//! ```text
//!   options ──> cases ──> measure ──> rows ──> table, JSON, plot
//!                         (or --from FILE)
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `options` | the command line, and the cases that it asks for |
//! | `sizes` | which sizes, how many elements, what busbw means |
//! | `row` | a case, its timing, and the JSON line |
//! | `table` | the table of nccl-tests |
//! | `plot` | bandwidth against size |
//! | `measure` | where rows come from: a file, or |
//! | `ranks` | the ranks that measure, |
//! | `rank` | each of which does this, |
//! | `data` | on these numbers |

mod data;
mod measure;
mod options;
mod plot;
mod rank;
mod ranks;
mod row;
mod sizes;
mod table;

pub(crate) use options::Options;
pub(crate) use rank::Rank;
pub(crate) use ranks::bind;
pub(crate) use row::Case;

use crate::terminal::{Paint, Progress, bar, print};
use crate::{Failure, Outcome};
use row::Row;
use std::path::Path;

pub(crate) fn main(options: &Options) -> Outcome {
    if options.dry_run {
        return dry_run(options);
    }
    if let Some(path) = &options.plot {
        is_a_picture(path)?;
        try_to_write("--plot", path)?;
    }
    let Some(path) = &options.from else { return ranks::run(options) };
    let mut source = measure::from_file(path, options.kind)?;
    let mut report = Report::begin(options, options.ranks(), source.expected());
    while let Some(pair) = source.next_pair()? {
        report.add(pair);
    }
    report.end(options)
}

/// Prints what would be measured: the rows without what they would say.
fn dry_run(options: &Options) -> Outcome {
    let cases = options.cases(options.ranks())?;
    if !options.json {
        print(&table::header(&options.describe(options.ranks())));
    }
    for case in &cases {
        print(&if options.json { format!("{}\n", case.to_json()) } else { table::planned(case) });
    }
    Ok(())
}

/// Ends the report of the rank that has one.
fn finish(report: Option<Report>, options: &Options) -> Outcome {
    report.map_or(Ok(()), |report| report.end(options))
}

/// Prints rows as they come.
struct Report {
    json: bool,
    progress: Progress,
    expected: usize,
    pairs: usize,
    rows: Vec<Row>,
}

impl Report {
    fn begin(options: &Options, ranks: u32, expected: usize) -> Report {
        if !options.json {
            let settings = match &options.from {
                Some(path) => vec![format!("{}, read from {}", options.kind, path.display())],
                None => options.describe(ranks),
            };
            print(&table::header(&settings));
        }
        Report { json: options.json, progress: Progress::new(), expected, pairs: 0, rows: Vec::new() }
    }

    fn add(&mut self, pair: measure::Pair) {
        self.progress.clear();
        self.pairs += 1;
        let rows = [&pair.out_of_place, &pair.in_place].into_iter().flatten();
        if self.json {
            rows.clone().for_each(|row| print(&(row.to_json() + "\n")));
        } else {
            print(&table::line(pair.out_of_place.as_ref(), pair.in_place.as_ref()));
        }
        self.rows.extend(rows.cloned());
        if self.pairs < self.expected {
            let (done, of) = (self.pairs, self.expected);
            self.progress.show(&format!("{} {done} of {of} sizes", bar(done, of)));
        }
    }

    fn end(mut self, options: &Options) -> Outcome {
        self.progress.clear();
        if !self.json {
            print(&table::footer(&self.rows));
        }
        if let Some(path) = &options.plot {
            write_plot(path, &self.rows)?;
        }
        let wrong = self.rows.iter().filter(|row| row.timing.wrong.is_some_and(|wrong| wrong > 0)).count();
        match wrong {
            0 => Ok(()),
            _ => Err(Failure::Failed(format!("{wrong} of {} measurements had wrong results", self.rows.len()))),
        }
    }
}

/// Refuses a name that promises another kind of picture.
fn is_a_picture(path: &Path) -> Outcome {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") | None => Ok(()),
        Some(other) => Err(Failure::Usage(format!(
            "--plot draws SVG, and {} ends in .{other}: name it {}",
            path.display(),
            path.with_extension("svg").display()
        ))),
    }
}

/// Refuses a place for what comes out before anything is measured, not after. A file that is there stays as it is.
pub(crate) fn try_to_write(option: &str, path: &Path) -> Outcome {
    let existed = path.exists();
    std::fs::OpenOptions::new().append(true).create(true).open(path).map_err(|error| {
        Failure::Usage(format!(
            "{option} {} can't be written: {error}\n  Name a file in a directory that you may write to",
            path.display()
        ))
    })?;
    if !existed {
        // Whatever happens to it, it is written at the end.
        drop(std::fs::remove_file(path));
    }
    Ok(())
}

fn write_plot(path: &Path, rows: &[Row]) -> Outcome {
    let picture = plot::draw(rows)
        .ok_or_else(|| Failure::Failed("there is nothing to plot: no row took any time".to_string()))?;
    std::fs::write(path, picture)
        .map_err(|error| Failure::Failed(format!("{} can't be written: {error}", path.display())))?;
    eprintln!("{}", Paint::stderr().dim(&format!("plot written to {}", path.display())));
    Ok(())
}
