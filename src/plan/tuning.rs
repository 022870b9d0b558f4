//! What a user or a profile may ask of a plan, and how a plan refuses.

use super::{Costs, World};
use crate::types::Collective;
use alloc::sync::Arc;
use core::fmt;

/// The algorithms. Their numbers are part of the digest and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Algorithm {
    /// Everybody shows everything to everybody.
    OneShot = 0,
    /// Each slice is reduced by its owner, through messages.
    TwoShot = 1,
    /// Each slice is reduced by its owner, where it lies (windows).
    Owner = 2,
    /// Neighbours in a circle.
    Ring = 3,
    /// Two trees, each with half of the data.
    Tree = 4,
    /// Recursive halving and doubling.
    Halving = 5,
    /// Logarithmic all-gather and reduce-scatter.
    Bruck = 6,
    /// Everybody with everybody, one partner at a time.
    Pairwise = 7,
    /// Everybody with the root.
    Star = 8,
    /// An inner plan in each domain and an outer one between them.
    Hierarchy = 9,
}

impl Algorithm {
    /// All of them, in the order of their numbers.
    pub const ALL: [Algorithm; 10] = [
        Algorithm::OneShot,
        Algorithm::TwoShot,
        Algorithm::Owner,
        Algorithm::Ring,
        Algorithm::Tree,
        Algorithm::Halving,
        Algorithm::Bruck,
        Algorithm::Pairwise,
        Algorithm::Star,
        Algorithm::Hierarchy,
    ];

    /// The name on the command line and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::OneShot => "oneshot",
            Algorithm::TwoShot => "twoshot",
            Algorithm::Owner => "owner",
            Algorithm::Ring => "ring",
            Algorithm::Tree => "tree",
            Algorithm::Halving => "halving",
            Algorithm::Bruck => "bruck",
            Algorithm::Pairwise => "pairwise",
            Algorithm::Star => "star",
            Algorithm::Hierarchy => "hierarchy",
        }
    }

    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What messages go over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Medium {
    /// Memory that both ranks can address.
    #[default]
    Memory = 0,
    /// Sockets within a host: every byte goes through the kernel, and a message to many ranks is sent to each of them.
    Loopback = 1,
    /// Sockets between hosts.
    Network = 2,
}

impl Medium {
    /// All of them.
    pub const ALL: [Medium; 3] = [Medium::Memory, Medium::Loopback, Medium::Network];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Medium::Memory => "memory",
            Medium::Loopback => "loopback",
            Medium::Network => "network",
        }
    }
}

/// What is asked of a plan besides the call. All ranks must ask for the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// This algorithm and no other.
    pub algorithm: Option<Algorithm>,
    /// Bytes of one message, at most [`super::MOST_CHUNK_BYTES`], where some go through memory [`super::MOST_SLOT_BYTES`]. An element that is
    /// larger travels alone.
    pub chunk_bytes: Option<u32>,
    /// At most so many channels, at most [`super::MOST_CHANNELS`]. The logarithmic algorithms with blocks, and owner, use one only.
    pub channels: Option<u32>,
    /// The bits of a reduction must not depend on size, chunks, channels or algorithm.
    pub reproducible: bool,
    /// Every rank can address every rank's buffers of this call.
    pub windows: bool,
    /// Where a rank sends at least so many bytes, to one rank or to all together, they are worth copying straight from its private memory,
    /// which every rank can do. 0: never, or not every rank can.
    pub fetch_from: u64,
    /// Cores that all ranks share; on several hosts as many as if every host were as crowded as the most crowded one. 0: at least one a
    /// rank.
    pub cores: u32,
    /// What ranks of one domain talk over.
    pub inside: Medium,
    /// What ranks of different domains talk over.
    pub between: Medium,
    /// What links cost; nothing: as built in.
    pub costs: Option<Arc<Costs>>,
}

impl Tuning {
    /// What the ranks of a flat algorithm talk over, and those of a rail.
    pub(super) fn medium(&self, world: &World) -> Medium {
        if world.domain_count() < 2 { self.inside } else { self.between }
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The world has no ranks.
    Nobody,
    /// The root is not a rank.
    Root {
        /// The root of the call.
        root: u32,
        /// The ranks there are.
        size: u32,
    },
    /// The count lists don't fit the collective or the world.
    Counts {
        /// What is wrong with them.
        why: &'static str,
    },
    /// A vector is too long.
    TooLong {
        /// Its elements, or the largest number if they can't be counted.
        elements: u64,
    },
    /// A setting is out of its range.
    Setting {
        /// Its name.
        name: &'static str,
        /// What was asked for.
        value: u32,
        /// The most that can be asked for.
        most: u32,
    },
    /// The algorithm that was asked for can't do this call.
    Refused {
        /// The algorithm.
        algorithm: Algorithm,
        /// The call.
        collective: Collective,
        /// Why not.
        why: &'static str,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Nobody => f.write_str("a world without ranks has no plan"),
            PlanError::Root { root, size } => write!(f, "root {root} is not a rank: there are {size}, counted from 0"),
            PlanError::Counts { why } => f.write_str(why),
            PlanError::TooLong { elements } => {
                write!(f, "a vector of {elements} elements is too long: the most is {}", super::MOST_ELEMENTS)
            }
            PlanError::Setting { name, value, most } => write!(f, "{name} is {value}, it must be from 1 to {most}"),
            PlanError::Refused { algorithm, collective, why } => {
                write!(f, "algorithm {algorithm} can't do this {collective}: {why}")
            }
        }
    }
}

impl core::error::Error for PlanError {}
