//! What was measured: one algorithm at one cell of the grid, as a line of JSON, which ranks write and the command reads.

use ringtree::plan::{Algorithm, Medium, Tuning, World};
use ringtree::types::Call;
use ringtree::{Collective, DataType, Reduction};
use serde_json::{Value, json};

/// A call of a job: what choices depend on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) transport: String,
    pub(super) collective: Collective,
    /// The size in the sense of nccl-tests.
    pub(super) bytes: u64,
    /// Elements of f32.
    pub(super) count: u64,
    /// The domain of each rank.
    pub(super) domains: Vec<u32>,
    /// What is asked of plans there.
    pub(super) tuning: Tuning,
}

/// The time of one algorithm.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) cell: Cell,
    pub(super) algorithm: Algorithm,
    /// Microseconds of a call of the slowest rank, where nobody disturbed it.
    pub(super) time: f64,
}

impl Cell {
    pub(super) fn call(&self) -> Call {
        let reduction = Reduction::Sum;
        Call::new(self.collective, DataType::F32, reduction, 0, self.count)
    }

    pub(super) fn world(&self) -> World {
        World::from_domains(&self.domains)
    }

    pub(super) fn ranks(&self) -> u32 {
        self.domains.len() as u32
    }
}

impl Series {
    pub(super) fn to_json(&self) -> String {
        let Series { cell, algorithm, time } = self;
        json!({
            "transport": cell.transport,
            "coll": cell.collective.name(),
            "bytes": cell.bytes,
            "count": cell.count,
            "domains": cell.domains,
            "cores": cell.tuning.cores,
            "fetch_from": cell.tuning.fetch_from,
            "inside": cell.tuning.inside.name(),
            "between": cell.tuning.between.name(),
            "algorithm": algorithm.name(),
            "us": time,
        })
        .to_string()
    }

    /// Reads such a line; nothing where it is none.
    pub(super) fn from_json(line: &str) -> Option<Series> {
        let value: Value = serde_json::from_str(line).ok()?;
        let word = |name: &str| value[name].as_str();
        let medium = |name: &str| Medium::ALL.into_iter().find(|medium| Some(medium.name()) == word(name));
        let small = |value: &Value| value.as_u64().and_then(|value| u32::try_from(value).ok());
        let domains = value["domains"].as_array()?.iter().map(small).collect::<Option<Vec<u32>>>()?;
        let tuning = Tuning {
            cores: small(&value["cores"])?,
            fetch_from: value["fetch_from"].as_u64()?,
            inside: medium("inside")?,
            between: medium("between")?,
            ..Tuning::default()
        };
        let cell = Cell {
            transport: word("transport")?.chars().take(10).collect(),
            collective: Collective::ALL.into_iter().find(|collective| Some(collective.name()) == word("coll"))?,
            bytes: value["bytes"].as_u64()?,
            count: value["count"].as_u64()?,
            domains,
            tuning,
        };
        let time = value["us"].as_f64().filter(|time| time.is_finite() && *time > 0.0)?;
        Some(Series { cell, algorithm: Algorithm::from_name(word("algorithm")?)?, time })
    }
}

/// All that was measured at one cell.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) cell: Cell,
    pub(super) times: Vec<(Algorithm, f64)>,
}

impl Measured {
    pub(super) fn time(&self, algorithm: Algorithm) -> Option<f64> {
        self.times.iter().find(|(other, _)| *other == algorithm).map(|(_, time)| *time)
    }

    /// The fastest.
    pub(super) fn best(&self) -> (Algorithm, f64) {
        let fastest = self.times.iter().copied().min_by(|(_, a), (_, b)| a.total_cmp(b));
        fastest.unwrap_or((Algorithm::OneShot, f64::INFINITY))
    }
}

/// Adds a line to what was measured. Of what is measured again the faster counts: whatever else runs on the machine only adds.
pub(super) fn add(all: &mut Vec<Measured>, series: Series) {
    let Series { cell, algorithm, time } = series;
    let Some(measured) = all.iter_mut().find(|measured| measured.cell == cell) else {
        all.push(Measured { cell, times: vec![(algorithm, time)] });
        return;
    };
    match measured.times.iter_mut().find(|(other, _)| *other == algorithm) {
        Some((_, before)) => *before = before.min(time),
        None => measured.times.push((algorithm, time)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn series(algorithm: Algorithm, bytes: u64, time: f64) -> Series {
        let tuning = Tuning { cores: 3, ..Tuning::default() };
        let collective = Collective::AllReduce;
        let (transport, domains) = ("shm".to_string(), vec![0, 0, 0]);
        let cell = Cell { transport, collective, bytes, count: bytes / 4, domains, tuning };
        Series { cell, algorithm, time }
    }

    #[test]
    fn a_line_is_read_back_and_what_is_none_is_left_out() {
        let series = series(Algorithm::Ring, 4096, 1.5);
        assert_eq!(Series::from_json(&series.to_json()), Some(series));
        for line in ["", "{}", "# x", r#"{"transport":"shm","coll":"all_reduce","us":-1}"#] {
            assert_eq!(Series::from_json(line), None, "{line}");
        }
    }

    #[test]
    fn of_what_is_measured_again_the_faster_counts() {
        let mut all = Vec::new();
        for (algorithm, time) in
            [(Algorithm::Ring, 2.0), (Algorithm::OneShot, 1.5), (Algorithm::Ring, 1.0), (Algorithm::Ring, 3.0)]
        {
            add(&mut all, series(algorithm, 8, time));
        }
        add(&mut all, series(Algorithm::Ring, 16, 9.0));
        assert_eq!((all.len(), all[0].best()), (2, (Algorithm::Ring, 1.0)));
        assert_eq!(all[0].time(Algorithm::OneShot), Some(1.5));
    }
}
