//! A call as data: what all ranks must agree on, and nothing else (no pointers, no scalars).

use super::{DataType, Reduction};
use alloc::vec::Vec;
use core::fmt;

/// The kinds of collective operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Collective {
    /// Every rank gets the reduction of all inputs.
    AllReduce = 0,
    /// Every rank gets every rank's block.
    AllGather = 1,
    /// Rank `r` gets block `r` of the reduction.
    ReduceScatter = 2,
    /// Every rank gets the root's data.
    Broadcast = 3,
    /// The root gets the reduction of all inputs.
    Reduce = 4,
    /// The root gets every rank's block.
    Gather = 5,
    /// Rank `r` gets block `r` of the root's data.
    Scatter = 6,
    /// Rank `r` gets block `r` of every rank.
    AllToAll = 7,
    /// Nobody leaves before everybody has entered.
    Barrier = 8,
}

impl Collective {
    /// Every kind, in the order of its number.
    pub const ALL: [Collective; 9] = [
        Collective::AllReduce,
        Collective::AllGather,
        Collective::ReduceScatter,
        Collective::Broadcast,
        Collective::Reduce,
        Collective::Gather,
        Collective::Scatter,
        Collective::AllToAll,
        Collective::Barrier,
    ];

    /// The name on the command line and in messages: nccl-tests' name of the program.
    pub const fn name(self) -> &'static str {
        match self {
            Collective::AllReduce => "all_reduce",
            Collective::AllGather => "all_gather",
            Collective::ReduceScatter => "reduce_scatter",
            Collective::Broadcast => "broadcast",
            Collective::Reduce => "reduce",
            Collective::Gather => "gather",
            Collective::Scatter => "scatter",
            Collective::AllToAll => "alltoall",
            Collective::Barrier => "barrier",
        }
    }

    /// The kind of that number, or nothing.
    pub fn from_number(number: u8) -> Option<Collective> {
        Collective::ALL.get(number as usize).copied()
    }

    /// Whether the operation combines elements.
    pub const fn reduces(self) -> bool {
        matches!(self, Collective::AllReduce | Collective::ReduceScatter | Collective::Reduce)
    }

    /// Whether the operation has a root.
    pub const fn has_root(self) -> bool {
        matches!(self, Collective::Broadcast | Collective::Reduce | Collective::Gather | Collective::Scatter)
    }

    /// Whether the vector is made of one block a rank (and so has an unequal form).
    pub const fn has_blocks(self) -> bool {
        matches!(
            self,
            Collective::AllGather
                | Collective::ReduceScatter
                | Collective::Gather
                | Collective::Scatter
                | Collective::AllToAll
        )
    }
}

impl fmt::Display for Collective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One collective call. Every field is the same on every rank, except the two count lists of an unequal all-to-all, of which each
/// rank knows its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// What is done.
    pub collective: Collective,
    /// The element type.
    pub dtype: DataType,
    /// How elements combine; `Sum` where nothing is combined.
    pub reduction: Reduction,
    /// The root; 0 where there is none.
    pub root: u32,
    /// Elements: of the whole vector for all_reduce, broadcast, reduce; of **one block** for the collectives with blocks; 0 for
    /// a barrier and for the unequal forms.
    pub count: u64,
    /// The unequal forms: elements of rank r's block. For all_to_all: what this rank sends to rank r.
    pub counts: Option<Vec<u64>>,
    /// Unequal all-to-all only: what this rank receives from rank r.
    pub receive_counts: Option<Vec<u64>>,
}

impl Call {
    /// A call with equal blocks.
    pub fn new(collective: Collective, dtype: DataType, reduction: Reduction, root: u32, count: u64) -> Call {
        Call { collective, dtype, reduction, root, count, counts: None, receive_counts: None }
    }

    /// Equality, without a branch for each field where the blocks are equal: it is asked for each call.
    #[inline]
    pub fn same(&self, other: &Call) -> bool {
        let alike = (self.count == other.count)
            & (self.root == other.root)
            & (self.collective == other.collective)
            & (self.dtype == other.dtype)
            & (self.reduction == other.reduction);
        let equal_blocks = |call: &Call| call.counts.is_none() & call.receive_counts.is_none();
        alike && ((equal_blocks(self) & equal_blocks(other)) || self == other)
    }
}
