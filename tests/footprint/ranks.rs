//! This binary again, as the ranks of a job or as a process with an environment of its own.

use ringtree::Communicator;
use ringtree::boot::UniqueId;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What such a process does.
pub type Part = fn();

const PART: &str = "RINGTREE_TEST_PART";
const BEGAN: &str = "RINGTREE_TEST_BEGAN";

/// One test at a time: they measure.
static ALONE: Mutex<()> = Mutex::new(());

/// Longer than any of it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);

/// Nanoseconds on a clock that all processes share.
fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// Time since the first process of this job was about to be started.
pub fn since_the_start() -> Duration {
    let began: u64 = std::env::var(BEGAN).expect(BEGAN).parse().expect("a number");
    Duration::from_nanos(now() - began)
}

/// Runs this process's part if it was started for one.
pub fn run_part(parts: &[(&str, Part)]) {
    let Ok(name) = std::env::var(PART) else { return };
    let (_, part) = parts.iter().find(|(known, _)| *known == name).expect("a part of that name");
    part();
}

/// A child that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_before = self.0.kill();
        let _known_before = self.0.wait();
    }
}

fn command(part: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "a_process_of_a_test", "--nocapture", "--test-threads=1"]).env(PART, part);
    command.envs(settings.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Runs a part as `size` ranks that `Communicator::from_env` joins.
pub fn job(part: &str, size: usize, settings: &[(&str, &str)]) {
    try_job(part, size, settings).unwrap_or_else(|failure| panic!("{failure}"));
}

/// The same; an error says which rank has failed.
pub fn try_job(part: &str, size: usize, settings: &[(&str, &str)]) -> Result<(), String> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let id = UniqueId::new().expect("an id").to_hex();
    let began = now().to_string();
    let start = |rank: usize| {
        let mut command = command(part, settings);
        command.env("RINGTREE_RANK", rank.to_string()).env("RINGTREE_SIZE", size.to_string()).env("RINGTREE_ID", &id);
        Running(command.env(BEGAN, &began).spawn().expect("a process"))
    };
    end_well((0..size).map(start).collect(), part)
}

/// Runs a part in one process.
pub fn alone(part: &str, settings: &[(&str, &str)]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let process = Running(command(part, settings).spawn().expect("a process"));
    end_well(vec![process], part).unwrap_or_else(|failure| panic!("{failure}"));
}

fn end_well(mut children: Vec<Running>, part: &str) -> Result<(), String> {
    let began = Instant::now();
    for (rank, child) in children.iter_mut().enumerate() {
        let status = loop {
            match child.0.try_wait().expect("a child to wait for") {
                Some(status) => break status,
                None if began.elapsed() > PATIENCE => return Err(format!("{part}: process {rank} did not end")),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        if !status.success() {
            return Err(format!("{part}: process {rank} ended with {status}"));
        }
    }
    Ok(())
}

/// This process's end of the job's communicator.
pub fn join() -> Communicator {
    Communicator::from_env().expect("a communicator")
}
