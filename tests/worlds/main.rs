//! Worlds of ranks with the real executor, in one thread, under a virtual clock, with faults from a seed.
//!
//! `RINGTREE_WORLDS=n` runs n worlds instead of 1000; `RINGTREE_SEED=s` runs the one world that a failure has named.

mod chance;
mod headers;
mod oracle;
mod program;
mod trace;
mod world;

use program::Program;
use ringtree::transport::faulty::Mishap;
use ringtree::{Collective, Error};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{Outcome, World};

/// What is known of a world's end beyond its results.
fn judge(program: &Program, outcome: &Outcome) -> Result<(), String> {
    let mishaps = &program.faults.mishaps;
    let size = program.world.size() as usize;
    let mut to_blame = Vec::new();
    for mishap in mishaps {
        match mishap {
            Mishap::Gone { rank, .. } | Mishap::Stopped { rank, .. } => to_blame.push(*rank as usize),
            _ => to_blame.extend(0..size),
        }
    }
    if let Some(odd_one) = program.odd_one {
        to_blame.push(odd_one as usize);
    }
    for (rank, error) in outcome.errors.iter().enumerate() {
        let Some(error) = error else { continue };
        if !error.culprits().iter().any(|culprit| to_blame.contains(culprit)) {
            return Err(format!("rank {rank} blames somebody else than {to_blame:?}: {error}"));
        }
    }
    Ok(())
}

/// Runs one world. What is wrong is told with everything that its seed stands for.
fn run(seed: u64) -> Result<(Program, Outcome), String> {
    let mut world = World::new(seed);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let ran = ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!(
            "panic: {}",
            text.or(panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default()
        ))
    });
    let judged = ran.and_then(|outcome| judge(world.program(), &outcome).map(|()| outcome));
    match judged {
        Ok(outcome) => Ok((world.program().clone(), outcome)),
        Err(wrong) => {
            Err(format!("{wrong}\n    replay alone with RINGTREE_SEED={seed}\n    faults {:?}", world.program().faults))
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn worlds_end_with_the_right_result_or_an_error_in_time_that_names_who_is_at_fault() {
    if let Some(seed) = number("RINGTREE_SEED") {
        let (program, outcome) = run(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("{program:#?}\n{outcome:#?}");
        return;
    }
    let worlds = number("RINGTREE_WORLDS").unwrap_or(1000);
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut visits = 0;
    for seed in 0..worlds {
        let (program, outcome) = match run(seed) {
            Ok(ran) => ran,
            Err(text) => {
                wrong.push(text);
                continue;
            }
        };
        visits += outcome.visits;
        let mut count = |what: String| *seen.entry(what).or_default() += 1;
        for mishap in &program.faults.mishaps {
            let name = format!("{mishap:?}").split(' ').next().unwrap_or_default().to_string();
            let hit = outcome.errors.iter().any(Option::is_some);
            count(format!("{name}{}", if hit { ", with errors" } else { "" }));
        }
        for item in &program.items {
            item.joints.iter().for_each(|joint| count(joint.calls[0].collective.to_string()));
            if let Some(algorithm) = world::algorithm_of(&program, item) {
                count(format!("algorithm {algorithm}"));
            }
        }
        for error in outcome.errors.iter().flatten() {
            count(format!("error {}", kind(error)));
        }
        if outcome.errors.iter().any(Option::is_none) {
            count(format!("worlds with {} ranks and right results", program.world.size()));
        }
    }
    println!("{worlds} worlds, {visits} visits: {seen:#?}");
    assert!(wrong.is_empty(), "{} of {worlds} worlds went wrong:\n{}", wrong.len(), wrong.join("\n"));
    if worlds >= 1000 {
        for mishap in ["Drop", "Corrupt", "Close", "Gone", "Stopped"] {
            assert!(seen[&format!("{mishap}, with errors")] >= 10, "{mishap} hits too rarely to show anything");
        }
        for collective in Collective::ALL {
            assert!(seen[collective.name()] >= 50, "{collective} is hardly tried");
        }
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Mismatch { .. } => "mismatch",
        Error::PeerLost { .. } => "peer lost",
        Error::Timeout { .. } => "timeout",
        Error::Aborted { .. } => "aborted",
        Error::Corrupt { .. } => "corrupt",
        _ => "other",
    }
}
