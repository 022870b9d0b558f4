//! Where rows come from.

use super::row::{Kind, Row};
use crate::Failure;
use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;

/// A file of rows is read up to here.
const MAX_FILE: u64 = 256 << 20;

/// What one line of the table shows: the same case in both ways, where both exist.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Pair {
    pub(super) out_of_place: Option<Row>,
    pub(super) in_place: Option<Row>,
}

/// Yields rows, one case after the other.
pub(super) trait Source {
    /// How many cases there will be, for the progress line.
    fn expected(&self) -> usize;
    /// The next case's rows; nothing after the last.
    fn next_pair(&mut self) -> Result<Option<Pair>, Failure>;
}

/// Rows that were printed with `--json`.
struct Replay(VecDeque<Pair>);

impl Source for Replay {
    fn expected(&self) -> usize {
        self.0.len()
    }

    fn next_pair(&mut self) -> Result<Option<Pair>, Failure> {
        Ok(self.0.pop_front())
    }
}

/// The rows of that kind in a file. Lines that are no rows are left out.
pub(super) fn from_file(path: &Path, kind: Kind) -> Result<Box<dyn Source>, Failure> {
    let failed = |error| Failure::Failed(format!("{} can't be read: {error}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
    let rows: Vec<Row> = text.lines().filter_map(Row::from_json).filter(|row| row.case.kind == kind).collect();
    if rows.is_empty() {
        let path = path.display();
        return Err(Failure::Failed(format!(
            "{path} has no row of {kind}; it should hold lines of `ringtree perf {kind} --json`"
        )));
    }
    Ok(Box::new(Replay(pairs(rows))))
}

/// Puts the two rows of a case together where they follow each other.
fn pairs(rows: Vec<Row>) -> VecDeque<Pair> {
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    for row in rows {
        let fits = |pair: &&mut Pair| {
            let (same, other) =
                if row.in_place { (&pair.in_place, &pair.out_of_place) } else { (&pair.out_of_place, &pair.in_place) };
            same.is_none() && other.as_ref().is_some_and(|other| other.case == row.case && other.library == row.library)
        };
        match pairs.back_mut().filter(fits) {
            Some(pair) if row.in_place => pair.in_place = Some(row),
            Some(pair) => pair.out_of_place = Some(row),
            None if row.in_place => pairs.push_back(Pair { in_place: Some(row), ..Pair::default() }),
            None => pairs.push_back(Pair { out_of_place: Some(row), ..Pair::default() }),
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn rows_of_one_case_share_a_line() {
        let rows =
            vec![row(8, false, 1.0), row(8, true, 1.0), row(16, true, 2.0), row(32, false, 1.0), row(32, false, 1.0)];
        let shape: Vec<(bool, bool)> =
            pairs(rows).iter().map(|pair| (pair.out_of_place.is_some(), pair.in_place.is_some())).collect();
        assert_eq!(shape, [(true, true), (false, true), (true, false), (true, false)]);
    }

    #[test]
    fn another_librarys_rows_are_not_ours() {
        let mut theirs = row(8, true, 1.0);
        theirs.library = "gloo".to_string();
        assert_eq!(pairs(vec![row(8, false, 1.0), theirs]).len(), 2);
    }
}
