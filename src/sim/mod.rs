//! A discrete-event reader of steps: how long would this plan take on that fabric, and what happens when?
//!
//! Nothing is executed: time is a number that events carry. Each rank and channel is an actor that takes its steps in order; a step starts
//! when the actor has come to it, its messages have arrived and the slots it fills are free, and when the core is free where channels
//! share one. All numbers are integers (picoseconds), so that every host predicts the same.
//!
//! ```text
//!   asked            start                 end
//!     │── wait ────────│── overhead + bytes ──│            one step on rank 0
//!                                             ╲ latency
//!                                              ╲──> arrived    the message it put, on rank 1
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `fabric` | what things cost |
//! | `link` | the slots of one link: who waits for what |
//! | `engine` | the event loop |
//!
//! What is simulated is a [`Program`], that is, what the prover proves: a [`crate::plan::Plan`], or a list of steps. Steps are asked for one
//! at a time and links are kept only while they are in use, so memory grows with ranks × channels and with messages
//! under way, not with the length of the plan.
#![forbid(unsafe_code)]

mod engine;
mod fabric;
mod link;

pub use engine::{Event, Message, Span, Stuck, simulate};
pub use fabric::{Class, Fabric, Sharing};

use crate::check::Program;
use alloc::vec::Vec;

/// Steps and messages that [`predict`] and [`history`] take at most, a matter of seconds; [`simulate`] takes as many as it is told.
pub const MOST_WORK: u64 = 4_000_000;

/// How long it takes until the last rank is done, in nanoseconds, rounded up.
pub fn predict(program: &impl Program, fabric: &Fabric) -> Result<u64, Stuck> {
    let end = simulate(program, fabric, MOST_WORK, &mut |_| ())?;
    Ok(end.div_ceil(1000))
}

/// All that happened, for drawing.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Each step taken, in the order of its start.
    pub spans: Vec<Span>,
    /// Each message taken, in the order in which they were taken.
    pub messages: Vec<Message>,
    /// When the last step ended, in picoseconds.
    pub end: u64,
    /// Steps and messages that were left out because there were more than asked for.
    pub left_out: u64,
}

/// Everything that happens, up to so many steps and so many messages; what is more is counted.
pub fn history(program: &impl Program, fabric: &Fabric, most: usize) -> Result<History, Stuck> {
    let mut history = History::default();
    history.end = simulate(program, fabric, MOST_WORK, &mut |event| match event {
        Event::Span(span) if history.spans.len() < most => history.spans.push(span.clone()),
        Event::Message(message) if history.messages.len() < most => history.messages.push(message.clone()),
        _ => history.left_out += 1,
    })?;
    Ok(history)
}

#[cfg(test)]
mod tests;
