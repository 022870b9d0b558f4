//! What the prover takes on: bounds that are stated, in place of a machine that runs out of memory.

use super::Options;
use super::expect::Expect;
use super::memory::Memory;
use super::program::Program;
use super::value::Value;
use super::verdict::{Violation, Where, Wrong};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The most ranks of a program that uses windows: every element remembers every worker's last access.
pub const MOST_WINDOW_RANKS: u32 = 64;
/// The most ranks and channels, so that the name of a link fits one word.
const MOST_RANKS: u32 = 1 << 24;
const MOST_CHANNELS: u32 = 200;

/// The most links that have something in them at once; each costs some 200 bytes, and its messages.
const MOST_LINKS: usize = 1 << 23;

/// Refuses a program that fills too many links at once.
#[inline]
pub(super) fn check_links(links: usize) -> Result<(), Wrong> {
    if links <= MOST_LINKS {
        return Ok(());
    }
    Err(Wrong::TooLarge(format!("more than {MOST_LINKS} links are in use at once: prove the call with fewer ranks")))
}

fn too_large(what: String) -> Violation {
    Violation { place: Where::Program, step: None, wrong: Wrong::TooLarge(what) }
}

/// Refuses what does not fit.
pub(super) fn check(program: &impl Program, options: &Options) -> Result<(), Violation> {
    let (ranks, channels) = (program.world().size(), program.channels());
    if ranks == 0 {
        return Err(Violation { place: Where::Program, step: None, wrong: Wrong::Call("there is no rank") });
    }
    if options.slots == 0 {
        return Err(Violation { place: Where::Program, step: None, wrong: Wrong::Call("a link has no slot") });
    }
    if ranks > MOST_RANKS || channels > MOST_CHANNELS {
        let most = format!("the most is {MOST_RANKS} ranks and {MOST_CHANNELS} channels");
        return Err(too_large(format!("{ranks} ranks with {channels} channels are too many to prove: {most}")));
    }
    Ok(())
}

/// Whether all accesses to these memories can be remembered for so many workers without anybody waiting for it.
pub(super) fn fits_races(workers: usize, memories: &[Memory]) -> bool {
    const MOST_WORKERS: usize = 16;
    const MOST_CELLS: u64 = 1 << 16;
    let cells: u64 = memories.iter().map(|memory| memory.layout().user_len()).sum();
    workers <= MOST_WORKERS && cells.saturating_mul(workers as u64) <= MOST_CELLS
}

/// Refuses windows among more ranks than clocks are kept for.
pub(super) fn check_windows(program: &impl Program) -> Result<(), Violation> {
    let ranks = program.world().size();
    if ranks > MOST_WINDOW_RANKS {
        let advice = format!("prove it with at most {MOST_WINDOW_RANKS}");
        return Err(too_large(format!(
            "races between the windows of {ranks} ranks are too many to look for: {advice}"
        )));
    }
    Ok(())
}

/// The memory of all ranks, if it fits the limit.
pub(super) fn memories<P: Program>(
    program: &P,
    options: &Options,
    expect: &Expect<'_, P>,
) -> Result<Vec<Memory>, Violation> {
    let layouts = (0..program.world().size()).map(|rank| expect.layout(rank)).collect::<Result<Vec<_>, _>>()?;
    let sizes = layouts.iter().map(|layout| layout.user_len().saturating_add(layout.scratch_len));
    let elements = sizes.fold(0, u64::saturating_add);
    if elements > options.most_elements {
        let bytes = elements.saturating_mul(size_of::<Value>() as u64) >> 20;
        let most = options.most_elements;
        let advice = "Prove the call with fewer elements and smaller chunks: the same steps come out";
        return Err(too_large(format!("{elements} elements take {bytes} MiB to prove, the limit is {most}. {advice}")));
    }
    Ok((0..).zip(layouts).map(|(rank, layout)| Memory::new(rank, layout)).collect())
}
