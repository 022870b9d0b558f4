//! A plan as one rank follows it: what is derived from the plan once and used by every call.

use crate::plan::{Group, Plan, Step};
use std::sync::Arc;

/// Steps of one channel that are kept at hand. A plan with more of them works in chunks, which take longer than making a step does.
const KEPT_STEPS: u64 = 128;

/// One rank's view of a plan.
#[derive(Debug)]
pub struct Program {
    plan: Arc<Plan>,
    rank: u32,
    item: usize,
    /// Each channel's steps, where there are few.
    steps: Vec<Option<Box<[Step]>>>,
    /// For each kind of group: the other members, ascending, and how many of them come before this rank.
    others: [(Box<[u32]>, usize); 3],
}

impl Program {
    /// Of that plan for that rank.
    pub fn new(plan: Arc<Plan>, rank: u32) -> Program {
        let keep = |channel| plan.step_count(rank, channel) <= KEPT_STEPS;
        let steps =
            (0..plan.channels()).map(|channel| keep(channel).then(|| plan.steps(rank, channel).collect())).collect();
        let others = [Group::World, Group::Inner, Group::Outer].map(|group| {
            let members: Box<[u32]> =
                plan.world().members(group, rank).iter().filter(|member| *member != rank).collect();
            let before = members.iter().filter(|member| **member < rank).count();
            (members, before)
        });
        let item = plan.call().dtype.size();
        Program { plan, rank, item, steps, others }
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The rank.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// Bytes of an element.
    #[inline(always)]
    pub fn item(&self) -> usize {
        self.item
    }

    /// The steps of a channel, where there are few.
    pub(super) fn kept(&self, channel: u32) -> Option<&[Step]> {
        self.steps.get(channel as usize)?.as_deref()
    }

    /// A step of a channel, None past the end.
    #[inline(always)]
    pub fn step(&self, channel: u32, index: u64) -> Option<Step> {
        match &self.steps[channel as usize] {
            Some(steps) => steps.get(index as usize).copied(),
            None => self.plan.step(self.rank, channel, index),
        }
    }

    /// The other members of the group that a step addresses, ascending, and how many of them come before this rank.
    #[inline(always)]
    pub fn others(&self, group: Group) -> (&[u32], usize) {
        let (members, before) = &self.others[group as usize];
        (members, *before)
    }
}
