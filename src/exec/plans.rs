//! Plans and what goes with them, cached by call: training makes the same few hundred calls for weeks.

use super::job::{Buffers, Job};
use super::kernel::Kernel;
use super::program::Program;
use super::session::Settings;
use super::short::Short;
use crate::error::{Error, Result};
use crate::plan::{Algorithm, Plan, Tuning};
use crate::transport::{Entered, Links};
use crate::types::{Call, Collective};
use std::collections::HashMap;
use std::sync::Arc;

/// Plans kept; the oldest half goes when there are more.
const CAPACITY: usize = 512;

/// A call's plan with what is derived from it, and the job that follows it.
#[derive(Debug)]
pub(super) struct Planned {
    /// The call.
    pub call: Call,
    /// Follows the plan.
    pub job: Job,
    /// The short form of its first program, if it has one.
    pub(super) short: Option<Short>,
    /// How elements combine; made anew for each call where a scalar is involved.
    pub kernel: Option<Kernel>,
    /// What the others see of the call; its digest is what ranks must agree on.
    pub entered: Entered,
    /// Bytes of scratch.
    pub scratch: usize,
    /// Bytes of this rank's input and output.
    read: usize,
    written: usize,
    /// Whether what all ranks touch is more than the last-level cache: where inputs and outputs lie apart, and where they overlap. Then
    /// outputs are written with non-temporal stores: they would not stay in the cache, and a normal store reads each line first. All-to-all
    /// between two cores of a Zen 2 with 16 MiB, with and without, in units of the cache, when others left it alone: at 1 364 and 301 us, at
    /// 1.25 460 and 405, at 1.5 546 and 546, at 2 730 and 940; and when they did not: at 1 443 and 480, at 1.25 558 and 800, at 1.5 709 and
    /// 1065.
    exceeds_apart: bool,
    exceeds_overlapping: bool,
    /// Whether the next such call is done exactly as the last: without a scalar, and within the caches.
    as_before: bool,
}

impl Planned {
    /// Tells the links of the call's memory.
    #[inline(always)]
    pub fn lend<L: Links>(&self, buffers: &Buffers, links: &mut L) {
        links.lends(buffers.input, self.read);
        if !std::ptr::eq(buffers.input, buffers.output) {
            links.lends(buffers.output, self.written);
        }
        links.lends(buffers.scratch, self.scratch);
    }

    /// Whether the call touches more than the last-level cache, and whether the output lies where the input does; of a call that fits in
    /// the cache nobody asks that.
    #[inline]
    pub fn exceeds_cache(&self, input: *const u8, output: *mut u8) -> (bool, bool) {
        if !self.exceeds_apart {
            return (false, false);
        }
        let (input, output) = (input.addr(), output.addr());
        let overlap = input < output + self.written && output < input + self.read;
        (self.exceeds_overlapping || !overlap, overlap)
    }
}

/// The cache of one session. All ranks make the same calls, but need not agree on what is cached. The last call's plan is at hand: the same
/// call again finds it without looking it up. A call that takes its time takes its plan out and brings it back.
#[derive(Debug, Default)]
pub(super) struct PlanCache {
    last: Option<Box<Planned>>,
    known: HashMap<Call, (u64, Box<Planned>)>,
    clock: u64,
}

impl PlanCache {
    /// The plan for a call, which is the last one from now on.
    #[inline(always)]
    pub fn bring(&mut self, settings: &Settings, rank: u32, call: &Call) -> Result<&mut Planned> {
        if !self.last.as_ref().is_some_and(|last| last.call.same(call)) {
            self.find(settings, rank, call)?;
        }
        let Some(last) = &mut self.last else { unreachable!("a call whose plan was found just now") };
        Ok(last)
    }

    /// The plan for a call, with its short form, if it is the last one and the call needs nothing made anew for it.
    #[inline(always)]
    pub fn at_hand(&mut self, call: &Call) -> Option<(&Planned, &Short)> {
        let last = self.last.as_deref()?;
        let short = last.short.as_ref()?;
        (last.as_before && last.call.same(call)).then_some((last, short))
    }

    /// Takes the last plan out.
    #[inline]
    pub fn take(&mut self) -> Option<Box<Planned>> {
        self.last.take()
    }

    /// Brings a plan back, or a new one: it is the last.
    #[inline]
    pub fn put(&mut self, planned: Box<Planned>) {
        if let Some(before) = self.last.replace(planned) {
            self.keep(before);
        }
    }

    #[cold]
    #[inline(never)]
    fn find(&mut self, settings: &Settings, rank: u32, call: &Call) -> Result<()> {
        if let Some(before) = self.last.take() {
            self.keep(before);
        }
        self.last = Some(match self.known.remove(call) {
            Some((_, planned)) => planned,
            None => Box::new(make(settings, rank, call)?),
        });
        Ok(())
    }

    fn keep(&mut self, planned: Box<Planned>) {
        self.clock += 1;
        if self.known.len() >= CAPACITY {
            let mut ages: Vec<u64> = self.known.values().map(|(used, _)| *used).collect();
            let middle = ages.len() / 2;
            let median = *ages.select_nth_unstable(middle).1;
            self.known.retain(|_, (used, _)| *used > median);
        }
        self.known.insert(planned.call.clone(), (self.clock, planned));
    }
}

fn build(settings: &Settings, call: &Call, tuning: &Tuning) -> Result<Plan> {
    Plan::new(&settings.world, call, tuning).map_err(|refusal| Error::Choice {
        what: format!("{} of {} {}: {refusal}", call.collective, call.count, call.dtype),
        advice: "Unset RINGTREE_ALGORITHM and RINGTREE_CHUNK, or choose what can be followed; `ringtree plan` lists it"
            .into(),
    })
}

/// The plan that is followed for a call.
pub(super) fn plan(settings: &Settings, call: &Call) -> Result<Plan> {
    let tuning = &settings.tuning;
    match build(settings, call, tuning) {
        // Whoever forces an algorithm that knows no barriers means the calls that move data.
        Err(_) if call.collective == Collective::Barrier => {
            build(settings, call, &Tuning { algorithm: None, ..tuning.clone() })
        }
        built => built,
    }
}

fn make(settings: &Settings, rank: u32, call: &Call) -> Result<Planned> {
    let plan = Arc::new(plan(settings, call)?);
    let mut tuning = settings.tuning.clone();
    let without_windows = if plan.algorithm() == Algorithm::Owner {
        (tuning.windows, tuning.fetch_from) = (false, 0);
        tuning.algorithm = None;
        Some(Arc::new(build(settings, call, &tuning)?))
    } else {
        None
    };
    let kernel = match call.reduction.without_scalar() {
        Some(op) if call.collective.reduces() => Some(Kernel::new(call.dtype, op, settings.world.size())?),
        _ => None,
    };
    let longest = |plan: &Plan| plan.scratch_len(rank);
    let scratch = longest(&plan).max(without_windows.as_deref().map_or(0, longest)) as usize * call.dtype.size();
    let entered = Entered::new(0, plan.digest(), call);
    let bytes = |elements: u64| elements as usize * call.dtype.size();
    let (read, written) = (bytes(plan.input_len(rank)), bytes(plan.output_len(rank)));
    let exceeds = |touched: usize| touched.saturating_mul(settings.world.size() as usize) > settings.cache;
    let (exceeds_apart, exceeds_overlapping) = (exceeds(read.saturating_add(written)), exceeds(read.max(written)));
    let first = Arc::new(Program::new(plan, rank));
    let short = first.kept(0).and_then(|steps| Short::of(first.plan(), rank, steps));
    let job = Job::new(first, without_windows.map(|plan| Arc::new(Program::new(plan, rank))));
    let call = call.clone();
    let as_before = !exceeds_apart && (kernel.is_some() || !call.collective.reduces());
    Ok(Planned {
        call,
        job,
        short,
        kernel,
        entered,
        scratch,
        read,
        written,
        exceeds_apart,
        exceeds_overlapping,
        as_before,
    })
}
