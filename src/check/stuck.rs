//! Who waits for whom when nobody can go on.

use super::engine::{Engine, State};
use super::program::Program;
use super::shape;
use super::verdict::{Violation, Waiting, Where, Wrong};
use alloc::vec::Vec;

/// Follows the waiting from the first worker that waits, until it meets itself or a worker that has ended.
pub(super) fn find<P: Program>(engine: &Engine<'_, P>) -> Option<Violation> {
    let blocked = |worker: u32| matches!(engine.workers[worker as usize].state, State::Blocked { .. });
    let mut worker = (0..engine.workers.len() as u32).find(|worker| blocked(*worker))?;
    let mut met = alloc::vec![u32::MAX; engine.workers.len()];
    let mut chain = Vec::new();
    let circle = loop {
        if met[worker as usize] != u32::MAX {
            chain.drain(..met[worker as usize] as usize);
            break true;
        }
        let Some(waiting) = waiting(engine, worker) else { break false };
        met[worker as usize] = chain.len() as u32;
        chain.push(waiting);
        worker = waiting.on * engine.channels + waiting.at.channel;
    };
    let first = chain[0].at;
    let step = engine.program.step(first.rank, first.channel, first.index);
    Some(Violation { place: Where::Step(first), step, wrong: Wrong::Deadlock { chain, circle } })
}

fn waiting<P: Program>(engine: &Engine<'_, P>, worker: u32) -> Option<Waiting> {
    let State::Blocked { key, for_slot } = engine.workers[worker as usize].state else { return None };
    let on = if for_slot {
        let place = engine.links.slowest_reader(key)?;
        shape::reader(engine.program.world(), key, place)
    } else {
        key.writer()
    };
    Some(Waiting { at: engine.at(worker), link: key.name(), for_slot, on })
}
