//! The options of `ringtree perf`: nccl-tests' letters, and what its programs have no word for.

use super::row::{Case, Kind};
use super::sizes::{Stride, elements, sizes, whole_elements};
use crate::Failure;
use crate::bytes;
use crate::values::{
    Many, Named, Wish, algorithm_or_auto, at_least, dtypes, named, ranks, reductions, transport, whole,
};
use clap::Args;
use ringtree::{Collective, DataType, Reduction, Transport};
use std::path::PathBuf;

/// More sizes than this are a slip of the pen.
const MOST_SIZES: usize = 100_000;

const EXAMPLES: &str = "\
Examples:
  ringtree perf all_reduce -g 2                             32 MiB between two ranks
  ringtree perf all_reduce -b 8 -e 128M -f 2 -g 4           8 B to 128 MiB, doubling
  ringtree perf all_gather -b 1M -e 16M -i 1M -d half       1 MiB to 16 MiB in steps of 1 MiB
  ringtree perf all_reduce -b 8 -e 128M -f 2 --plot p.svg   with a picture
  ringtree perf all_reduce -b 1K -e 1G -f 2 --json > runs   one JSON object a line
  ringtree perf all_reduce --from runs --plot p.svg         table and picture of a file, nothing measured

Under torchrun, srun or mpirun each process is one rank, and rank 0 prints.
Exit codes: 0 all right, 1 a result was wrong or something failed, 2 the command line makes no sense.";

/// Measure a collective and print the table of nccl-tests
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// What to measure
    #[arg(value_name = "COLLECTIVE", value_parser = kind())]
    pub(super) kind: Kind,
    /// The smallest size, in bytes; K, M, G are powers of 1024
    #[arg(short = 'b', long = "minbytes", value_name = "SIZE", default_value = "32M", value_parser = bytes::parse)]
    first: u64,
    /// The largest size [default: 32M, or the smallest where that is larger]
    #[arg(short = 'e', long = "maxbytes", value_name = "SIZE", value_parser = bytes::parse)]
    last: Option<u64>,
    /// From one size to the next: so many bytes more
    #[arg(short = 'i', long = "stepbytes", value_name = "SIZE", default_value = "1M", value_parser = bytes::parse)]
    step: u64,
    /// From one size to the next: so many times as much (in place of -i)
    #[arg(short = 'f', long = "stepfactor", value_name = "FACTOR", value_parser = at_least(2u64))]
    factor: Option<u64>,
    /// Calls measured per size; 0 goes by time, see --min-time
    #[arg(short = 'n', long = "iters", value_name = "N", default_value_t = 0, value_parser = at_least(0u64))]
    pub(super) iterations: u64,
    /// Calls before measuring
    #[arg(short = 'w', long = "warmup_iters", value_name = "N", default_value_t = 1, value_parser = at_least(0u64))]
    pub(super) warm_up: u64,
    /// Check the results (1) or not (0)
    #[arg(short = 'c', long = "check", value_name = "0|1", default_value_t = 1, value_parser = whole(0..=1u8))]
    pub(super) check: u8,
    /// How elements are combined
    #[arg(short = 'o', long = "op", value_name = "OP", default_value = "sum", value_parser = reductions())]
    reductions: Many<Reduction>,
    /// The element type; other libraries' names (int8, half, float) are taken as well
    #[arg(short = 'd', long = "datatype", value_name = "TYPE", default_value = "f32", value_parser = dtypes())]
    types: Many<DataType>,
    /// The root's rank, or all
    #[arg(short = 'r', long = "root", value_name = "ROOT", default_value = "0", value_parser = root, allow_negative_numbers = true)]
    root: Root,
    /// Calls that are grouped into one
    #[arg(short = 'm', long = "agg_iters", value_name = "N", default_value_t = 1, value_parser = whole(1..=1024u32))]
    pub(super) aggregate: u32,
    /// 0 or blocking: a call returns with its result; 1 or async: calls of a batch are started, then waited for
    #[arg(short = 'z', value_name = "MODE", default_value = "blocking", value_parser = waits)]
    pub(super) asynchronous: Mode,
    /// How many ranks
    #[arg(short = 'g', long = "ranks", value_name = "N", default_value_t = 2, value_parser = ranks)]
    ranks: u32,
    /// Ranks are threads of one process, not processes; a number here is that of -g
    #[arg(short = 't', long = "threads", value_name = "N", num_args = 0..=1, value_parser = ranks)]
    threads: Option<Option<u32>>,
    /// Least time spent on one size, in seconds, when -n is 0
    #[arg(long, value_name = "SECONDS", default_value_t = 0.2, value_parser = seconds)]
    pub(super) min_time: f64,
    /// Memory from `comm.alloc`, which all ranks can address
    #[arg(long)]
    pub(super) registered: bool,
    /// Write new input before every call, outside the time
    #[arg(long)]
    pub(super) dirty: bool,
    /// Force an algorithm; `ringtree plan` says which there are for a call, and what they cost
    #[arg(long, value_name = "ALGORITHM", value_parser = algorithm_or_auto())]
    pub(super) algorithm: Option<Wish>,
    /// Force a transport
    #[arg(long, value_name = "TRANSPORT", value_parser = transport())]
    pub(super) transport: Option<Transport>,
    /// Print one JSON object a line, in place of the table
    #[arg(long)]
    pub(super) json: bool,
    /// Draw bandwidth against size into that file
    #[arg(long, value_name = "FILE.svg")]
    pub(super) plot: Option<PathBuf>,
    /// Print what would be measured, and stop
    #[arg(long, conflicts_with = "from")]
    pub(super) dry_run: bool,
    /// Measure nothing: read rows of --json from that file
    #[arg(long, value_name = "FILE")]
    pub(super) from: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Root {
    One(u32),
    All,
}

/// Whether calls of a batch are waited for one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Blocking,
    Async,
}

fn kind() -> Named<Kind> {
    named(&Kind::ALL, Kind::name, Kind::from_name)
}

fn root(text: &str) -> Result<Root, String> {
    match text {
        // nccl-tests writes all roots as -1.
        "all" | "-1" => Ok(Root::All),
        number => number.parse().map(Root::One).map_err(|_| "write a rank, or all".to_string()),
    }
}

fn waits(text: &str) -> Result<Mode, String> {
    match text {
        "0" | "blocking" => Ok(Mode::Blocking),
        "1" | "async" => Ok(Mode::Async),
        _ => Err("write blocking (0) or async (1)".to_string()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("write seconds from 0 to 3600, as 0.2".to_string()),
    }
}

impl Options {
    /// Calls for about so many seconds a case, unchecked.
    pub(crate) fn unchecked(seconds: f64) -> Options {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let seconds = seconds.to_string();
        let line: Line = clap::Parser::parse_from(["perf", "all_reduce", "--check", "0", "--min-time", &seconds]);
        line.options
    }

    /// The case of a collective of f32 of about so many bytes.
    pub(crate) fn case(collective: Collective, ranks: u32, bytes: u64) -> Case {
        let kind = Kind::Collective(collective);
        let count = elements(kind, bytes, DataType::F32.size() as u64, u64::from(ranks));
        let reduction = collective.reduces().then_some(Reduction::Sum);
        Case { kind, ranks, bytes, count, dtype: DataType::F32, reduction, root: collective.has_root().then_some(0) }
    }

    /// How many ranks are started, where no launcher has done so.
    pub(super) fn ranks(&self) -> u32 {
        self.threads.flatten().unwrap_or(self.ranks)
    }

    /// Whether they are threads.
    pub(super) fn as_threads(&self) -> bool {
        self.threads.is_some()
    }

    fn last(&self) -> u64 {
        self.last.unwrap_or((32 << 20).max(self.first))
    }

    fn stride(&self) -> Stride {
        self.factor.map_or(Stride::Add(self.step), Stride::Multiply)
    }

    /// Everything that is to be measured, in order, or what makes no sense.
    pub(super) fn cases(&self, ranks: u32) -> Result<Vec<Case>, Failure> {
        let usage = |message: String| Err(Failure::Usage(message));
        let (first, last, stride) = (self.first, self.last(), self.stride());
        if first == 0 {
            return usage("sizes begin at 1 byte: give -b 1 or more".to_string());
        }
        if first > last {
            return usage(format!("the smallest size (-b {first}) is above the largest (-e {last}): exchange them"));
        }
        if stride == Stride::Add(0) {
            return usage("a step of 0 bytes never ends: give -i 1 or more, or a factor with -f".to_string());
        }
        let sizes: Vec<u64> = sizes(first, last, stride).take(MOST_SIZES + 1).collect();
        if sizes.len() > MOST_SIZES {
            return usage(format!(
                "these are more than {MOST_SIZES} sizes: give a larger step (-i), or a factor (-f 2)"
            ));
        }
        let roots = match self.root {
            _ if !self.kind.has_root() => vec![None],
            Root::All => (0..ranks).map(Some).collect(),
            Root::One(root) if root < ranks => vec![Some(root)],
            Root::One(root) => {
                return usage(format!("there is no root {root} among {ranks} ranks: give -r 0 to {}", ranks - 1));
            }
        };
        let reductions: Vec<Option<Reduction>> =
            if self.kind.reduces() { self.reductions.0.iter().copied().map(Some).collect() } else { vec![None] };
        let mut cases = Vec::new();
        for &dtype in &self.types.0 {
            for &reduction in &reductions {
                for &root in &roots {
                    let case = |&bytes: &u64| {
                        let count = elements(self.kind, bytes, dtype.size() as u64, ranks as u64);
                        let bytes = whole_elements(self.kind, bytes, dtype.size() as u64, ranks as u64);
                        Case { kind: self.kind, ranks, bytes, count, dtype, reduction, root }
                    };
                    // Sizes that come to the same elements are one.
                    let mut all: Vec<Case> = sizes.iter().map(case).collect();
                    all.dedup();
                    cases.extend(all);
                }
            }
        }
        Ok(cases)
    }

    /// What is measured, for the head of the table.
    pub(super) fn describe(&self, ranks: u32) -> Vec<String> {
        let how = if self.as_threads() { "threads of one process" } else { "processes" };
        let sizes = self.describe_sizes();
        let iterations = match self.iterations {
            0 => format!("calls for {} s a size", self.min_time),
            count => format!("{count} calls a size"),
        };
        let mode = match self.asynchronous {
            Mode::Blocking => "blocking",
            Mode::Async => "asynchronous",
        };
        let checked = if self.check == 1 { "checked" } else { "not checked" };
        let memory = if self.registered { "registered" } else { "plain" };
        let dirty = if self.dirty { ", inputs written anew before each call" } else { "" };
        let forced = |what: Option<&'static str>, variable: &str| {
            let environment = || std::env::var(variable).ok().map(|value| format!("{value} ({variable})"));
            let named = what.map(String::from).or_else(environment);
            named.filter(|name| name != "auto").unwrap_or_else(|| "chosen by the library".to_string())
        };
        let algorithm = self.algorithm.map(Wish::name);
        vec![
            format!("ringtree {} {}: {ranks} ranks, {how}", env!("CARGO_PKG_VERSION"), self.kind),
            format!(
                "{sizes}; {iterations} after {} to warm up, {} grouped, {mode}, {checked}",
                self.warm_up, self.aggregate
            ),
            format!(
                "{memory} memory{dirty}; algorithm {}; transport {}",
                forced(algorithm, "RINGTREE_ALGORITHM"),
                forced(self.transport.map(Transport::name), "RINGTREE_TRANSPORT")
            ),
        ]
    }

    fn describe_sizes(&self) -> String {
        let (first, last) = (bytes::human(self.first), bytes::human(self.last()));
        match self.stride() {
            _ if self.first == self.last() => format!("size {first}"),
            Stride::Add(step) if self.first.saturating_add(step) > self.last() => {
                format!(
                    "size {first} alone, for steps of {} end behind {last} (-f 2 doubles instead)",
                    bytes::human(step)
                )
            }
            Stride::Add(step) => format!("sizes {first} to {last} in steps of {}", bytes::human(step)),
            Stride::Multiply(factor) => format!("sizes {first} to {last} by factors of {factor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Options {
        let words = std::iter::once("perf").chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).options
    }

    fn refused(line: &str) -> String {
        let words = std::iter::once("perf").chain(line.split_whitespace());
        match Line::try_parse_from(words).map(|line| line.options.cases(line.options.ranks())) {
            Err(error) => error.to_string(),
            Ok(Err(Failure::Usage(message))) => message,
            Ok(other) => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_those_of_nccl_tests() {
        let options = options("all_reduce");
        let cases = options.cases(2).unwrap();
        assert_eq!((cases.len(), cases[0].bytes, cases[0].count), (1, 32 << 20, 8 << 20));
        assert_eq!((cases[0].dtype, cases[0].reduction), (DataType::F32, Some(Reduction::Sum)));
        assert_eq!((options.warm_up, options.check, options.aggregate), (1, 1, 1));
        assert_eq!((options.ranks(), options.as_threads(), options.asynchronous), (2, false, Mode::Blocking));
    }

    #[test]
    fn a_sweep_by_factor_goes_through_every_size() {
        let cases = options("all_gather -b 8 -e 128M -f 2 -g 4").cases(4).unwrap();
        assert_eq!((cases.len(), cases[0].bytes, cases[24].bytes), (25, 8, 128 << 20));
        assert_eq!((cases[0].count, cases[24].count), (1, 8 << 20));
    }

    #[test]
    fn all_means_every_operation_type_and_root_where_there_are_any() {
        assert_eq!(options("all_reduce -o all -d all").cases(2).unwrap().len(), 6 * 12);
        assert_eq!(options("broadcast -o all -r all").cases(3).unwrap().len(), 3);
        assert_eq!(options("reduce -r -1 -o max").cases(3).unwrap().len(), 3);
        assert_eq!(options("alltoall -r 9").cases(2).unwrap().len(), 1);
    }

    #[test]
    fn threads_may_come_with_their_number() {
        let plain = options("all_reduce -g 8 -t");
        assert_eq!((plain.ranks(), plain.as_threads()), (8, true));
        let counted = options("all_reduce -t 3");
        assert_eq!((counted.ranks(), counted.as_threads()), (3, true));
    }

    #[test]
    fn a_smallest_size_beyond_the_default_largest_is_the_only_one() {
        let cases = options("all_reduce -b 1G").cases(2).unwrap();
        assert_eq!((cases.len(), cases[0].bytes), (1, 1 << 30));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_do() {
        for (line, advice) in [
            ("all_reduce -b 2M -e 1M", "exchange them"),
            ("all_reduce -b 0", "-b 1 or more"),
            ("all_reduce -i 0 -e 64M", "-i 1 or more"),
            ("all_reduce -b 1 -e 1G -i 1", "larger step"),
            ("broadcast -r 2 -g 2", "-r 0 to 1"),
            ("all_reduce -f 1", "2"),
            ("all_reduce -o median", "sum, prod"),
            ("all_reduce -d f128", "bf16"),
            ("allreduce", "'all_reduce'"),
            ("all_reduce -b 12X", "64K"),
            ("all_reduce -z maybe", "blocking (0)"),
            ("all_reduce -g 0", "1 to 4096"),
        ] {
            let message = refused(line);
            assert!(message.contains(advice), "{line}: {message}");
        }
    }

    #[test]
    fn the_head_of_the_table_says_what_was_asked() {
        let text = options("all_reduce -b 8 -e 64K -f 2 -g 4 -t -n 20 -c 0 --registered --algorithm ring")
            .describe(4)
            .join("\n");
        for part in [
            "4 ranks, threads",
            "8 B to 64 KiB by factors of 2",
            "20 calls",
            "not checked",
            "registered",
            "algorithm ring",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
