//! What a rank of a job does, in a process of its own.

use crate::chance::SEED;
use crate::filters;
use crate::jobs::{MARK, ROLE, now};
use crate::leftovers::Counts;
use crate::limits;
use crate::memory;
use crate::mix::Mix;
use ringtree::{Communicator, Error, ReduceOp, Result};
use std::io::Write;
use std::time::Duration;

/// Says something to the test, in one piece.
pub fn say(word: &str, rest: &str) {
    let line = format!("{MARK}{} {word} {}\n", now(), rest.replace('\n', " / "));
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("the test listens");
}

/// `kind culprits text`, as `jobs::Failure` reads it.
pub fn describe(error: &Error) -> String {
    let kind = format!("{error:?}");
    let kind = kind.split([' ', '(', '{']).next().unwrap_or("");
    let culprits: Vec<String> = error.culprits().iter().map(usize::to_string).collect();
    format!("{kind} {} {error}", if culprits.is_empty() { "-".into() } else { culprits.join(",") })
}

/// What the library logs, for the test.
struct Told;

impl log::Log for Told {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            say("log", &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Plays this process's role, if it has one.
pub fn run_as_rank() {
    let Some(role) = variable(ROLE) else { return };
    log::set_logger(&Told).map(|()| log::set_max_level(log::LevelFilter::Warn)).expect("the only logger");
    memory::enter_group();
    let before = Counts::now();
    limits::lower();
    filters::install();
    say("joining", "");
    let outcome = Communicator::from_env().and_then(|communicator| {
        say("joined", "");
        play(&role, communicator)
    });
    match outcome {
        Ok(()) => say("done", ""),
        Err(error) => say("error", &describe(&error)),
    }
    match before.settle() {
        Ok(()) => say("left", "nothing"),
        Err(what) => say("left", &what),
    }
}

fn seed() -> u64 {
    variable(SEED).and_then(|text| text.parse().ok()).expect("the test gives the seed")
}

fn play(role: &str, communicator: Communicator) -> Result<()> {
    let rank = communicator.rank();
    match role {
        "mix" => {
            let mut mix = Mix::new(communicator, seed())?;
            say("mixing", "");
            loop {
                mix.step().inspect_err(fix_the_time)?;
            }
        }
        "short life" => {
            let mut mix = Mix::new(communicator, seed())?;
            (0..8).try_for_each(|_| mix.step())
        }
        "splits" => loop {
            let child = communicator.split(Some(0), -(rank as i32)).inspect_err(fix_the_time)?;
            drop(child);
            communicator.duplicate().inspect_err(fix_the_time)?;
        },
        "hold" => hold(&communicator).inspect_err(fix_the_time),
        "part" => part(communicator),
        "last words" => {
            communicator.barrier()?;
            drop(communicator);
            say("gone", "");
            // The victim is killed here, or a moment before.
            std::thread::sleep(Duration::from_millis(if variable("MISHAP_VICTIM").is_some() { 20_000 } else { 0 }));
            Ok(())
        }
        "one" => once(&communicator),
        "sums" => sums(&communicator).inspect_err(fix_the_time),
        "greedy" => memory::ask_for_too_much(&communicator),
        "hungry" => memory::use_many_links(&communicator),
        other => panic!("there is no role '{other}'"),
    }
}

/// Says when an error was returned, before anything is cleared away.
fn fix_the_time(error: &Error) {
    say("fell", &describe(error));
}

/// One operation, with its result looked at.
pub fn once(communicator: &Communicator) -> Result<()> {
    let mut data = vec![1f32; 100_000];
    communicator.all_reduce(&mut data, ReduceOp::Sum)?;
    assert!(data.iter().all(|sum| *sum == communicator.size() as f32));
    communicator.barrier()
}

/// Operations of all sizes whose results are looked at, until rank 0 has gone on for the seconds that the test gives.
fn sums(communicator: &Communicator) -> Result<()> {
    let (rank, size) = (communicator.rank(), communicator.size());
    let seconds = variable("MISHAP_SECONDS").and_then(|text| text.parse().ok()).expect("a number of seconds");
    let began = std::time::Instant::now();
    let mut chance = crate::chance::Chance::new(seed(), 9);
    let mut round = 0u32;
    loop {
        round += 1;
        let count = chance.size(1 << 19) as usize;
        let mut sums = vec![(rank as u32 + 1) * round; count];
        communicator.all_reduce(&mut sums, ReduceOp::Sum)?;
        let all = (size * (size + 1) / 2) as u32;
        assert!(sums.iter().all(|sum| *sum == all.wrapping_mul(round)), "round {round}: a wrong sum");
        let mut came = vec![0u32; count];
        let (next, last) = ((rank + 1) % size, (rank + size - 1) % size);
        communicator.send_recv(&vec![rank as u32 ^ round; count], next, &mut came, last)?;
        assert!(came.iter().all(|word| *word == last as u32 ^ round), "round {round}: wrong words");
        let mut over = [u8::from(began.elapsed().as_secs_f64() > seconds)];
        communicator.broadcast(&mut over, 0)?;
        if round == 1 {
            say("mixing", "");
        }
        if over[0] == 1 {
            say("rounds", &round.to_string());
            return Ok(());
        }
    }
}

/// Registered buffers that are still there, and still this rank's own, when the operation on them has failed.
fn hold(communicator: &Communicator) -> Result<()> {
    let mut buffers = [communicator.alloc::<u64>(1 << 18)?, communicator.alloc(1 << 12)?, communicator.alloc(9)?];
    say("mixing", "");
    loop {
        for buffer in &mut buffers {
            buffer.fill(1);
            let outcome = communicator.all_reduce(buffer, ReduceOp::Sum);
            if outcome.is_err() {
                let mark = 7 + communicator.rank() as u64;
                buffer.fill(mark);
                std::thread::sleep(Duration::from_millis(5));
                assert!(buffer.iter().all(|value| *value == mark), "somebody still writes to it");
                assert!(communicator.alloc::<u8>(1).is_err());
                return outcome;
            }
        }
    }
}

/// Rank 0 has left, the victim lingers, the others still wait for the victim.
fn part(communicator: Communicator) -> Result<()> {
    communicator.barrier()?;
    if communicator.rank() == 0 {
        drop(communicator);
        return Ok(());
    }
    if variable("MISHAP_VICTIM").is_some() {
        say("mixing", "");
        std::thread::sleep(Duration::from_secs(60));
        return Ok(());
    }
    say("mixing", "");
    let victim = variable("MISHAP_AWAITED").and_then(|text| text.parse().ok()).expect("a rank");
    communicator.recv(&mut [0u8; 100_000], victim).inspect_err(fix_the_time)
}
