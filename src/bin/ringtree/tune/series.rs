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

/// All algorithms of a cell, one after the other in the same minute: what disturbed one disturbed the others.
type Pass = Vec<(Algorithm, f64)>;

/// All that was measured at one cell.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) cell: Cell,
    passes: Vec<Pass>,
}

impl Measured {
    /// What it takes: the median of the passes, the faster of two.
    pub(super) fn time(&self, algorithm: Algorithm) -> Option<f64> {
        let mut times: Vec<f64> = self.passes.iter().filter_map(|pass| time_in(pass, algorithm)).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len().saturating_sub(1) / 2).copied()
    }

    /// The fastest, by these times.
    pub(super) fn best(&self) -> (Algorithm, f64) {
        let algorithms = self.passes.iter().flatten().map(|(algorithm, _)| *algorithm);
        let times = algorithms.filter_map(|algorithm| Some((algorithm, self.time(algorithm)?)));
        times.min_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap_or((Algorithm::OneShot, f64::INFINITY))
    }

    /// How many times as long as the fastest of the same pass it takes, in the pass that says the least. Times of different passes are never
    /// compared: between two of them the clocks of these processors changed by 1.45. And what one pass says is noise until all say it.
    pub(super) fn ratio(&self, algorithm: Algorithm) -> Option<f64> {
        let of = |pass: &Pass| {
            let fastest = pass.iter().map(|(_, time)| *time).fold(f64::INFINITY, f64::min);
            Some(time_in(pass, algorithm)? / fastest)
        };
        self.passes.iter().filter_map(of).min_by(f64::total_cmp)
    }
}

fn time_in(pass: &Pass, algorithm: Algorithm) -> Option<f64> {
    pass.iter().find(|(other, _)| *other == algorithm).map(|(_, time)| *time)
}

/// Adds a line to what was measured. An algorithm that comes again begins another pass.
pub(super) fn add(all: &mut Vec<Measured>, series: Series) {
    let Series { cell, algorithm, time } = series;
    let Some(measured) = all.iter_mut().find(|measured| measured.cell == cell) else {
        all.push(Measured { cell, passes: vec![vec![(algorithm, time)]] });
        return;
    };
    match measured.passes.last_mut() {
        Some(pass) if time_in(pass, algorithm).is_none() => pass.push((algorithm, time)),
        _ => measured.passes.push(vec![(algorithm, time)]),
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
    fn algorithms_are_compared_within_a_pass_and_the_pass_that_says_least_is_believed() {
        use Algorithm::{OneShot, Ring};
        let mut all = Vec::new();
        // The third pass ran at another clock.
        for (ring, one) in [(2.0, 1.0), (1.2, 1.0), (0.6, 0.4)] {
            add(&mut all, series(Ring, 8, ring));
            add(&mut all, series(OneShot, 8, one));
        }
        add(&mut all, series(Ring, 16, 9.0));
        assert_eq!((all.len(), all[0].best(), all[0].time(Ring)), (2, (OneShot, 1.0), Some(1.2)));
        assert_eq!((all[0].ratio(Ring), all[0].ratio(OneShot)), (Some(1.2), Some(1.0)));
        assert_eq!(all[0].ratio(Algorithm::Tree), None, "it was not measured");
    }
}
