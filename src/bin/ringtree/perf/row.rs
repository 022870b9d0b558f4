//! What is measured and what comes out: the one thing that table, JSON and plot are made from.

use super::sizes::bus_factor;
use ringtree::{Collective, DataType, Reduction};
use serde_json::{Value, json};
use std::fmt;

/// What is called: a collective, or a send to the next rank and a receive from the one before at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Collective(Collective),
    SendRecv,
}

impl Kind {
    /// Everything that can be measured.
    pub(super) const ALL: [Kind; 9] = [
        Kind::Collective(Collective::AllReduce),
        Kind::Collective(Collective::AllGather),
        Kind::Collective(Collective::ReduceScatter),
        Kind::Collective(Collective::Broadcast),
        Kind::Collective(Collective::Reduce),
        Kind::Collective(Collective::Gather),
        Kind::Collective(Collective::Scatter),
        Kind::Collective(Collective::AllToAll),
        Kind::SendRecv,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Collective(collective) => collective.name(),
            Kind::SendRecv => "sendrecv",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Kind> {
        let name = if name == "all_to_all" { "alltoall" } else { name };
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) fn reduces(self) -> bool {
        matches!(self, Kind::Collective(collective) if collective.reduces())
    }

    pub(super) fn has_root(self) -> bool {
        matches!(self, Kind::Collective(collective) if collective.has_root())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) ranks: u32,
    /// The size that was asked for.
    pub(crate) bytes: u64,
    /// Elements of the call; see [`super::sizes::elements`].
    pub(crate) count: u64,
    pub(crate) dtype: DataType,
    /// Nothing where nothing is reduced.
    pub(crate) reduction: Option<Reduction>,
    /// Nothing where there is no root.
    pub(crate) root: Option<u32>,
}

/// What came out. Times are those of one call, in microseconds, of the slowest rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Timing {
    /// Median over the batches.
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(super) p99: f64,
    /// Calls in all batches together.
    pub(super) iterations: u64,
    /// Wrong elements; nothing when it was not checked.
    pub(super) wrong: Option<u64>,
}

/// A measured row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Whose figures: ours, or another library's in a file that is read back.
    pub(super) library: String,
    pub(super) case: Case,
    pub(super) in_place: bool,
    pub(super) timing: Timing,
}

impl Case {
    /// The case alone, as `--dry-run --json` prints it: the fields of a row that are known before it is measured.
    pub(super) fn to_json(self) -> String {
        json!({
            "coll": self.kind.name(),
            "ranks": self.ranks,
            "bytes": self.bytes,
            "count": self.count,
            "type": self.dtype.name(),
            "redop": self.reduction.map(Reduction::name),
            "root": self.root,
        })
        .to_string()
    }
}

impl Row {
    /// Gigabytes a second: size by time.
    pub(super) fn algorithm_bandwidth(&self) -> f64 {
        if self.timing.median > 0.0 { self.case.bytes as f64 / self.timing.median / 1000.0 } else { 0.0 }
    }

    /// Gigabytes a second that the links carry.
    pub(super) fn bus_bandwidth(&self) -> f64 {
        self.algorithm_bandwidth() * bus_factor(self.case.kind, self.case.ranks as u64)
    }

    /// One line of `--json`.
    pub(super) fn to_json(&self) -> String {
        let Row { case, timing, .. } = self;
        json!({
            "lib": self.library,
            "coll": case.kind.name(),
            "inplace": u8::from(self.in_place),
            "ranks": case.ranks,
            "bytes": case.bytes,
            "us_median": rounded(timing.median),
            "us_min": rounded(timing.min),
            "us_p99": rounded(timing.p99),
            "iters": timing.iterations,
            "algbw_GBps": rounded(self.algorithm_bandwidth()),
            "busbw_GBps": rounded(self.bus_bandwidth()),
            "correct": timing.wrong.map(|wrong| wrong == 0),
            "wrong": timing.wrong,
            "count": case.count,
            "type": case.dtype.name(),
            "redop": case.reduction.map(Reduction::name),
            "root": case.root,
        })
        .to_string()
    }

    /// Reads such a line; the fields that other libraries' lines lack are filled in. Nothing when it is no row.
    pub(super) fn from_json(line: &str) -> Option<Row> {
        let value: Value = serde_json::from_str(line).ok()?;
        let kind = Kind::from_name(value["coll"].as_str()?)?;
        let name = |field: &str| value[field].as_str();
        let number = |field: &str| value[field].as_f64().filter(|number| number.is_finite() && *number >= 0.0);
        let ranks = value["ranks"].as_u64().and_then(|ranks| u32::try_from(ranks).ok())?;
        let dtype = name("type").map_or(Some(DataType::F32), DataType::from_name)?;
        let reduction = name("redop").and_then(Reduction::from_name).or(kind.reduces().then_some(Reduction::Sum));
        let bytes = value["bytes"].as_u64()?;
        let own_count = || super::sizes::elements(kind, bytes, dtype.size() as u64, ranks as u64);
        let root = value["root"].as_u64().and_then(|root| u32::try_from(root).ok());
        let median = number("us_median")?;
        let wrong = value["wrong"].as_u64().or(value["correct"].as_bool().map(|correct| u64::from(!correct)));
        Some(Row {
            library: name("lib").unwrap_or("unknown").chars().take(40).collect(),
            case: Case {
                kind,
                ranks,
                bytes,
                count: value["count"].as_u64().unwrap_or_else(own_count),
                dtype,
                reduction,
                root: root.or(kind.has_root().then_some(0)),
            },
            in_place: value["inplace"].as_u64()? == 1,
            timing: Timing {
                median,
                min: number("us_min").unwrap_or(median),
                p99: number("us_p99").unwrap_or(median),
                iterations: value["iters"].as_u64().unwrap_or(0),
                wrong,
            },
        })
    }
}

/// Five digits that count are more than a measurement has.
fn rounded(number: f64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return 0.0;
    }
    let digits = (4 - number.abs().log10().floor() as i32).clamp(0, 12);
    let scale = 10f64.powi(digits);
    (number * scale).round() / scale
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn row(bytes: u64, in_place: bool, median: f64) -> Row {
        Row {
            library: "ringtree".into(),
            case: Case {
                kind: Kind::Collective(Collective::AllReduce),
                ranks: 4,
                bytes,
                count: bytes / 4,
                dtype: DataType::F32,
                reduction: Some(Reduction::Sum),
                root: None,
            },
            in_place,
            timing: Timing { median, min: median * 0.9, p99: median * 2.0, iterations: 100, wrong: Some(0) },
        }
    }

    #[test]
    fn bandwidths_follow_from_size_and_time() {
        let row = row(1_000_000, false, 100.0);
        assert_eq!((row.algorithm_bandwidth(), row.bus_bandwidth()), (10.0, 15.0));
    }

    #[test]
    fn a_line_has_the_fields_that_the_comparison_reads() {
        let line = row(8, true, 0.3).to_json();
        for field in [
            r#""lib":"ringtree""#,
            r#""coll":"all_reduce""#,
            r#""inplace":1"#,
            r#""ranks":4"#,
            r#""bytes":8"#,
            r#""us_median":0.3"#,
            r#""us_min":0.27"#,
            r#""us_p99":0.6"#,
            r#""iters":100"#,
            r#""algbw_GBps":0.026667"#,
            r#""busbw_GBps":0.04"#,
            r#""correct":true"#,
        ] {
            assert!(line.contains(field), "{field} is not in {line}");
        }
        assert!(line.starts_with('{') && !line.contains('\n'));
    }

    #[test]
    fn a_line_is_read_back_and_others_lines_are_filled_in() {
        let ours = row(1024, false, 2.5);
        let mut expected = ours.clone();
        expected.timing.min = 2.25;
        assert_eq!(Row::from_json(&ours.to_json()), Some(expected));
        let theirs =
            r#"{"lib":"gloo","coll":"broadcast","inplace":1,"ranks":2,"bytes":8,"us_median":3.0,"correct":false}"#;
        let theirs = Row::from_json(theirs).unwrap();
        assert_eq!((theirs.case.root, theirs.timing.wrong, theirs.case.count), (Some(0), Some(1), 2));
    }

    #[test]
    fn what_is_no_row_is_left_out() {
        for line in ["", "{}", "# x", r#"{"coll":"nonsense","ranks":2}"#, r#"{"coll":"reduce","ranks":-1,"bytes":8}"#] {
            assert_eq!(Row::from_json(line), None, "{line}");
        }
    }
}
