//! Plans and what goes with them, cached by call: training makes the same few hundred calls for weeks.

use super::kernel::Kernel;
use super::session::Settings;
use crate::error::{Error, Result};
use crate::plan::{Algorithm, Plan, Tuning};
use crate::types::{Call, ReduceOp};
use std::collections::HashMap;
use std::sync::Arc;

/// Plans kept; the oldest half goes when there are more.
const CAPACITY: usize = 512;

/// A plan with what is derived from it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Arc<Plan>,
    /// For a plan with windows, the one that needs none.
    pub without_windows: Option<Arc<Plan>>,
    /// How elements combine, where no scalar is involved.
    pub kernel: Option<Kernel>,
    /// What ranks must agree on.
    pub digest: u64,
    /// Bytes of scratch.
    pub scratch: usize,
}

/// The cache of one session. All ranks make the same calls, but need not agree on what is cached.
#[derive(Debug, Default)]
pub struct PlanCache {
    last: Option<(Call, Planned)>,
    known: HashMap<Call, (u64, Planned)>,
    clock: u64,
}

impl PlanCache {
    /// The plan for a call.
    #[inline]
    pub fn get(&mut self, settings: &Settings, call: &Call, op: ReduceOp) -> Result<&Planned> {
        if !matches!(&self.last, Some((last, _)) if last == call) {
            let planned = self.find(settings, call, op)?;
            self.last = Some((call.clone(), planned));
        }
        self.last.as_ref().map(|(_, planned)| planned).ok_or_else(|| Error::misuse("no plan was made", "Report this"))
    }

    #[cold]
    fn find(&mut self, settings: &Settings, call: &Call, op: ReduceOp) -> Result<Planned> {
        self.clock += 1;
        if let Some((used, planned)) = self.known.get_mut(call) {
            *used = self.clock;
            return Ok(planned.clone());
        }
        let planned = make(settings, call, op)?;
        if self.known.len() >= CAPACITY {
            let mut ages: Vec<u64> = self.known.values().map(|(used, _)| *used).collect();
            let middle = ages.len() / 2;
            let (_, median, _) = ages.select_nth_unstable(middle);
            let median = *median;
            self.known.retain(|_, (used, _)| *used > median);
        }
        self.known.insert(call.clone(), (self.clock, planned.clone()));
        Ok(planned)
    }
}

fn make(settings: &Settings, call: &Call, op: ReduceOp) -> Result<Planned> {
    let build = |tuning: &Tuning| {
        Plan::new(&settings.world, call, tuning).map(Arc::new).map_err(|refusal| Error::Choice {
            what: format!("{} of {} {}: {refusal}", call.collective, call.count, call.dtype),
            advice:
                "Unset RINGTREE_ALGORITHM and RINGTREE_CHUNK, or choose what can be followed; `ringtree plan` lists it"
                    .into(),
        })
    };
    let plan = build(&settings.tuning)?;
    let without_windows = if plan.algorithm() == Algorithm::Owner {
        let mut tuning = settings.tuning.clone();
        tuning.windows = false;
        tuning.algorithm = None;
        Some(build(&tuning)?)
    } else {
        None
    };
    let kernel = match op {
        ReduceOp::PreMulSum(_) => None,
        _ if !call.collective.reduces() => None,
        _ => Some(Kernel::new(call.dtype, op, settings.world.size())?),
    };
    let longest = |plan: &Plan| (0..settings.world.size()).map(|rank| plan.scratch_len(rank)).max().unwrap_or(0);
    let scratch = longest(&plan).max(without_windows.as_deref().map_or(0, longest)) as usize * call.dtype.size();
    let digest = plan.digest();
    Ok(Planned { plan, without_windows, kernel, digest, scratch })
}
