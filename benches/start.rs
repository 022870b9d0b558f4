//! How long a job takes to start: from before the first process is started to the end of the slowest rank's first barrier.
//!
//!   cargo bench --bench start                     medians for 2, 8 and 64 ranks
//!   … -- REPEATS                                  of so many starts each (15)
//!
//! Required on two cores: 2 ranks within 50 ms, 64 ranks within 2 s. Measured in two ways: this program starts the ranks, and
//! `ringtree run` starts them. "the processes alone" is the same without a communicator, what no library can save.

use ringtree::Communicator;
use ringtree::boot::UniqueId;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PART: &str = "RINGTREE_BENCH_PART";

/// Nanoseconds on a clock that all processes share.
fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// What a rank does; it prints when it was ready.
fn rank(part: &str) {
    let communicator = (part == "join").then(|| Communicator::from_env().expect("a communicator"));
    if let Some(communicator) = &communicator {
        communicator.barrier().expect("a barrier");
    }
    println!("ready {}", now());
}

/// The latest time that was printed.
fn latest(children: Vec<Child>) -> u64 {
    let mut latest = 0;
    for mut child in children {
        for line in BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok) {
            if let Some(time) = line.strip_prefix("ready ") {
                latest = latest.max(time.parse().expect("a time"));
            }
        }
        assert!(child.wait().expect("a child").success(), "a rank has failed");
    }
    latest
}

/// One start by this program.
fn by_hand(ranks: usize, part: &str) -> Duration {
    let began = now();
    let id = if part == "join" { UniqueId::new().expect("an id").to_hex() } else { String::new() };
    let program = std::env::current_exe().expect("this program");
    let start = |rank: usize| {
        let mut command = Command::new(&program);
        command.env("RINGTREE_RANK", rank.to_string()).env("RINGTREE_SIZE", ranks.to_string()).env("RINGTREE_ID", &id);
        command.env(PART, part).stdout(Stdio::piped()).spawn().expect("a process")
    };
    Duration::from_nanos(latest((0..ranks).map(start).collect()) - began)
}

/// One start by `ringtree run`.
fn by_launcher(ranks: usize) -> Duration {
    let began = now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringtree"));
    command.args(["run", "-g", &ranks.to_string(), "--"]).arg(std::env::current_exe().expect("this program"));
    let launcher = command.env(PART, "join").stdout(Stdio::piped()).spawn().expect("the launcher");
    Duration::from_nanos(latest(vec![launcher]) - began)
}

fn report(what: &str, ranks: usize, repeats: usize, start: impl Fn() -> Duration) {
    let mut times: Vec<Duration> = (0..repeats).map(|_| start()).collect();
    times.sort();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{ranks:>3} ranks, {what:<20} median {:>8.1} ms, best {:>8.1} ms, worst {:>8.1} ms",
        milliseconds(times[repeats / 2]),
        milliseconds(times[0]),
        milliseconds(times[repeats - 1])
    );
}

fn main() {
    if let Ok(part) = std::env::var(PART) {
        return rank(&part);
    }
    let repeats = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(15).max(1);
    for ranks in [2, 8, 64] {
        report("the processes alone", ranks, repeats, || by_hand(ranks, "none"));
        report("started by hand", ranks, repeats, || by_hand(ranks, "join"));
        report("ringtree run", ranks, repeats, || by_launcher(ranks));
    }
}
