//! One collective call: its inputs, what it must give, and what it must leave alone.

use crate::memory::{Memory, Place, bytes};
use crate::numbers::{Chance, Number, Shape, Source, hash};
use crate::worlds::Scene;
use float8::{F8E4M3, F8E5M2};
use half::{bf16, f16};
use ringtree::{Communicator, DataType, ReduceOp, Reduction, Result, Scalar};

/// A call in one of its forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    AllReduce,
    AllReduceInto,
    AllGather,
    AllGatherInPlace,
    AllGatherV,
    ReduceScatter,
    ReduceScatterInPlace,
    ReduceScatterV,
    Broadcast,
    BroadcastInto,
    Reduce,
    ReduceInto,
    Gather,
    GatherV,
    Scatter,
    ScatterV,
    AllToAll,
    AllToAllInPlace,
    AllToAllV,
}
use Kind::*;

impl Kind {
    pub const ALL: [Kind; 19] = [
        AllReduce,
        AllReduceInto,
        AllGather,
        AllGatherInPlace,
        AllGatherV,
        ReduceScatter,
        ReduceScatterInPlace,
        ReduceScatterV,
        Broadcast,
        BroadcastInto,
        Reduce,
        ReduceInto,
        Gather,
        GatherV,
        Scatter,
        ScatterV,
        AllToAll,
        AllToAllInPlace,
        AllToAllV,
    ];

    pub fn reduces(self) -> bool {
        matches!(
            self,
            AllReduce | AllReduceInto | ReduceScatter | ReduceScatterInPlace | ReduceScatterV | Reduce | ReduceInto
        )
    }

    /// There is a hierarchy for it.
    pub fn has_layers(self) -> bool {
        matches!(
            self,
            AllReduce
                | AllReduceInto
                | AllGather
                | AllGatherInPlace
                | ReduceScatter
                | ReduceScatterInPlace
                | Broadcast
                | BroadcastInto
        )
    }

    /// One buffer is input and output.
    fn in_place(self) -> bool {
        matches!(self, AllReduce | AllGatherInPlace | ReduceScatterInPlace | Broadcast | Reduce | AllToAllInPlace)
    }

    fn has_blocks(self) -> bool {
        !matches!(self, AllReduce | AllReduceInto | Broadcast | BroadcastInto | Reduce | ReduceInto)
    }

    fn is_unequal(self) -> bool {
        matches!(self, AllGatherV | ReduceScatterV | GatherV | ScatterV | AllToAllV)
    }
}

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Call,
    Group,
    Scope,
}

/// Which ranks have registered buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    Plain,
    Registered,
    Mixed,
}

/// How results are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The order does not matter: all bits must be right.
    Exact,
    /// Rounding inputs, folded once in the order of rank: all bits must be right.
    InOrder,
    /// Rounding inputs in the plan's order: near the exact result, and the same bits on all ranks.
    Near,
}

#[derive(Clone, Debug)]
pub struct Trial {
    pub kind: Kind,
    pub dtype: DataType,
    pub reduction: Reduction,
    /// Elements of the vector, or of a block; of an unequal form: the most that a block may have.
    pub count: usize,
    pub root: usize,
    pub compare: Compare,
    pub places: Places,
    pub via: Via,
    pub salt: u64,
}

impl Trial {
    pub fn new(kind: Kind, dtype: DataType, reduction: Reduction, count: usize) -> Trial {
        let (root, salt) = (0, hash(&[kind as u64, dtype as u64, reduction as u64, count as u64]));
        let (compare, places, via) = (Compare::Exact, Places::Plain, Via::Call);
        Trial { kind, dtype, reduction, count, root, compare, places, via, salt }
    }

    /// Any call with up to so many bytes.
    pub fn random(chance: &mut Chance, ranks: usize, most_bytes: usize) -> Trial {
        let dtype = chance.of(&DataType::ALL);
        let mut trial = Trial::new(chance.of(&Kind::ALL), dtype, chance.of(&Reduction::ALL), 0);
        // Small numbers are as likely as large ones.
        let most = (most_bytes / dtype.size()).max(1);
        trial.count = chance.below(most) >> chance.below(usize::BITS as usize - most.leading_zeros() as usize);
        trial.root = chance.below(ranks);
        trial.compare = chance.of(&[Compare::Exact, Compare::Near]);
        trial.via = chance.of(&[Via::Call, Via::Call, Via::Group, Via::Scope]);
        trial.salt = chance.next();
        trial
    }

    /// Runs the call on this rank and checks everything.
    pub fn run(&self, scene: &Scene, communicator: &Communicator, memory: &mut Memory) {
        match self.try_run(scene, communicator, memory) {
            Ok(()) => {}
            Err(error) => panic!("rank {} of {}: {self:?}: {error}", communicator.rank(), communicator.size()),
        }
    }

    /// The same, with the call's error given back.
    pub fn try_run(&self, scene: &Scene, communicator: &Communicator, memory: &mut Memory) -> Result<()> {
        match self.dtype {
            DataType::I8 => self.run_typed::<i8>(scene, communicator, memory),
            DataType::U8 => self.run_typed::<u8>(scene, communicator, memory),
            DataType::I32 => self.run_typed::<i32>(scene, communicator, memory),
            DataType::U32 => self.run_typed::<u32>(scene, communicator, memory),
            DataType::I64 => self.run_typed::<i64>(scene, communicator, memory),
            DataType::U64 => self.run_typed::<u64>(scene, communicator, memory),
            DataType::F16 => self.run_typed::<f16>(scene, communicator, memory),
            DataType::F32 => self.run_typed::<f32>(scene, communicator, memory),
            DataType::F64 => self.run_typed::<f64>(scene, communicator, memory),
            DataType::Bf16 => self.run_typed::<bf16>(scene, communicator, memory),
            DataType::F8E4M3 => self.run_typed::<F8E4M3>(scene, communicator, memory),
            DataType::F8E5M2 => self.run_typed::<F8E5M2>(scene, communicator, memory),
        }
    }

    /// What rank `from` has for rank `to`, or just has, in elements.
    fn block(&self, from: usize, to: usize) -> usize {
        let chance = hash(&[self.salt, 77, if self.kind == AllToAllV { from as u64 } else { 0 }, to as u64]) as usize;
        match self.kind.is_unequal() {
            true if chance.is_multiple_of(4) => 0,
            true => chance / 4 % (self.count + 1),
            false => self.count,
        }
    }

    fn blocks(&self, from: usize, ranks: usize) -> Vec<usize> {
        (0..ranks).map(|to| self.block(from, to)).collect()
    }

    fn received(&self, to: usize, ranks: usize) -> Vec<usize> {
        (0..ranks).map(|from| self.block(from, to)).collect()
    }

    /// The factor of a rank in a pre-multiplied sum.
    fn factor(rank: usize) -> i64 {
        if rank.is_multiple_of(2) { 1 } else { -1 }
    }

    fn op(&self, rank: usize) -> ReduceOp {
        match self.reduction {
            Reduction::Sum => ReduceOp::Sum,
            Reduction::Product => ReduceOp::Product,
            Reduction::Max => ReduceOp::Max,
            Reduction::Min => ReduceOp::Min,
            Reduction::Average => ReduceOp::Average,
            Reduction::PreMulSum if self.dtype.is_float() => {
                ReduceOp::PreMulSum(Scalar::Float(Trial::factor(rank) as f64))
            }
            Reduction::PreMulSum => ReduceOp::PreMulSum(Scalar::Integer(Trial::factor(rank))),
        }
    }

    /// Element `at` of a rank's input.
    fn value<T: Number>(&self, rank: usize, ranks: usize, at: usize) -> T {
        let shape = if self.compare == Compare::Exact { Shape::Exact } else { Shape::General };
        // What only moves may have any bits: those of integers are.
        let reduction = if self.kind.reduces() { self.reduction } else { Reduction::Max };
        T::input(Source { salt: self.salt, rank, ranks, reduction }, at, shape)
    }

    /// Elements of a rank's input.
    fn input_len(&self, rank: usize, ranks: usize) -> usize {
        match self.kind {
            AllGather | AllGatherInPlace | AllGatherV | Gather | GatherV => self.block(rank, rank),
            _ if self.kind.has_blocks() => self.blocks(rank, ranks).iter().sum(),
            _ => self.count,
        }
    }

    /// Where each element of a rank's output comes from: the rank and index in its input; for reductions the rank counts for all.
    fn origins(&self, rank: usize, ranks: usize) -> Vec<(usize, usize)> {
        let range = |from: usize, start: usize, len: usize| (start..start + len).map(move |at| (from, at));
        let start = |from: usize, to: usize| (0..to).map(|before| self.block(from, before)).sum::<usize>();
        match self.kind {
            AllReduce | AllReduceInto => range(0, 0, self.count).collect(),
            Broadcast | BroadcastInto => range(self.root, 0, self.count).collect(),
            Reduce | ReduceInto if rank == self.root => range(0, 0, self.count).collect(),
            AllGather | AllGatherInPlace | AllGatherV => {
                (0..ranks).flat_map(|from| range(from, 0, self.block(from, from))).collect()
            }
            Gather | GatherV if rank == self.root => {
                (0..ranks).flat_map(|from| range(from, 0, self.block(from, from))).collect()
            }
            ReduceScatter | ReduceScatterInPlace | ReduceScatterV => {
                range(0, start(0, rank), self.block(0, rank)).collect()
            }
            Scatter | ScatterV => range(self.root, start(self.root, rank), self.block(self.root, rank)).collect(),
            AllToAll | AllToAllInPlace | AllToAllV => {
                (0..ranks).flat_map(|from| range(from, start(from, rank), self.block(from, rank))).collect()
            }
            Reduce | ReduceInto | Gather | GatherV => Vec::new(),
        }
    }

    fn run_typed<T: Number>(&self, scene: &Scene, communicator: &Communicator, memory: &mut Memory) -> Result<()> {
        let (rank, ranks) = (communicator.rank(), communicator.size());
        let origins = self.origins(rank, ranks);
        let input: Vec<T> = (0..self.input_len(rank, ranks)).map(|at| self.value(rank, ranks, at)).collect();
        let chance = hash(&[self.salt, 99, rank as u64]) as usize;
        let place = match self.places {
            Places::Plain => Place::Plain,
            Places::Registered => Place::Registered,
            Places::Mixed => [Place::Plain, Place::Registered][(chance >> 8) % 2],
        };
        // Where input counts on the root only, others pass something else, or nothing.
        let rooted_input = matches!(self.kind, BroadcastInto | Scatter | ScatterV) && rank != self.root;
        let rooted_output = matches!(self.kind, ReduceInto | Gather | GatherV) && rank != self.root;
        let odd = chance % 5;
        let (input_at, output_len) = self.layout(rank, ranks, origins.len(), rooted_output, odd);
        let input_len = if rooted_input { odd } else { input.len() };
        let [mut source, mut target] = memory.buffers::<T>(place, [input_len, output_len], (chance >> 4) % 7);
        let sent = if rooted_input { &[] } else { &input[..] };
        if self.kind.in_place() {
            if !(self.kind == Broadcast && rank != self.root) {
                target.data()[input_at..][..input.len()].copy_from_slice(&input);
            }
        } else {
            source.data()[..sent.len()].copy_from_slice(sent);
        }
        let (old_source, old_target) = (source.data().to_vec(), target.data().to_vec());
        self.issue(communicator, source.data(), target.data())?;
        let who = || format!("rank {rank} of {ranks}: {self:?}");
        assert!(source.is_whole() && target.is_whole(), "{}: wrote past an end", who());
        assert!(bytes(source.data()) == bytes(&old_source), "{}: wrote to its input", who());
        let output = target.data();
        if rooted_output || self.kind == Reduce && rank != self.root {
            assert!(bytes(output) == bytes(&old_target), "{}: wrote to a buffer that does not count", who());
            return Ok(());
        }
        let output =
            if self.kind == ReduceScatterInPlace { &output[rank * self.count..][..self.count] } else { output };
        self.check(output, &origins, rank, ranks);
        if self.compare == Compare::Near && matches!(self.kind, AllReduce | AllReduceInto) && scene.size() == ranks {
            let fingerprint = bytes(output).iter().fold(1, |all, byte| hash(&[all, u64::from(*byte)]));
            scene.all_agree(fingerprint, self);
        }
        Ok(())
    }

    /// Where in a buffer the input begins that is also the output, and how long the output's buffer is.
    fn layout(&self, rank: usize, ranks: usize, expected: usize, not_used: bool, odd: usize) -> (usize, usize) {
        match self.kind {
            AllGatherInPlace => (rank * self.count, expected),
            ReduceScatterInPlace => (0, ranks * self.count),
            Reduce => (0, self.count),
            _ if not_used => (0, odd),
            _ => (0, expected),
        }
    }

    fn check<T: Number>(&self, output: &[T], origins: &[(usize, usize)], rank: usize, ranks: usize) {
        assert_eq!(output.len(), origins.len());
        let factors: Vec<i64> = (0..ranks).map(Trial::factor).collect();
        for (place, (got, (from, at))) in output.iter().zip(origins).enumerate() {
            let right = if self.kind.reduces() {
                let operands: Vec<T> = (0..ranks).map(|rank| self.value(rank, ranks, *at)).collect();
                match self.compare {
                    Compare::Near => got.is_near(&operands, self.reduction, &factors),
                    _ => bytes(&[*got]) == bytes(&[T::fold(&operands, self.reduction, &factors)]),
                }
            } else {
                bytes(&[*got]) == bytes(&[self.value::<T>(*from, ranks, *at)])
            };
            if !right {
                let operands: Vec<T> = (0..ranks).map(|rank| self.value(rank, ranks, *at)).collect();
                panic!(
                    "rank {rank} of {ranks}: {self:?}: element {place} is {got:?}; the ranks' inputs are {operands:?}"
                );
            }
        }
    }

    fn issue<T: Number>(&self, communicator: &Communicator, input: &[T], output: &mut [T]) -> Result<()> {
        let (rank, ranks) = (communicator.rank(), communicator.size());
        let (op, root) = (self.op(rank), self.root);
        let counts = if self.kind.has_blocks() { self.blocks(rank, ranks) } else { Vec::new() };
        let received = self.received(rank, ranks);
        macro_rules! call {
            ($on:expr) => {
                match self.kind {
                    AllReduce => $on.all_reduce(output, op).map(drop),
                    AllReduceInto => $on.all_reduce_into(input, output, op).map(drop),
                    AllGather => $on.all_gather(input, output).map(drop),
                    AllGatherInPlace => $on.all_gather_in_place(output).map(drop),
                    AllGatherV => $on.all_gather_v(input, output, &counts).map(drop),
                    ReduceScatter => $on.reduce_scatter(input, output, op).map(drop),
                    ReduceScatterInPlace => $on.reduce_scatter_in_place(output, op).map(drop),
                    ReduceScatterV => $on.reduce_scatter_v(input, output, &counts, op).map(drop),
                    Broadcast => $on.broadcast(output, root).map(drop),
                    BroadcastInto => $on.broadcast_into(input, output, root).map(drop),
                    Reduce => $on.reduce(output, op, root).map(drop),
                    ReduceInto => $on.reduce_into(input, output, op, root).map(drop),
                    Gather => $on.gather(input, output, root).map(drop),
                    GatherV => $on.gather_v(input, output, &counts, root).map(drop),
                    Scatter => $on.scatter(input, output, root).map(drop),
                    ScatterV => $on.scatter_v(input, output, &counts, root).map(drop),
                    AllToAll => $on.all_to_all(input, output).map(drop),
                    AllToAllInPlace => communicator.all_to_all_in_place(output),
                    AllToAllV => $on.all_to_all_v(input, &counts, output, &received).map(drop),
                }
            };
        }
        match self.via {
            Via::Call => call!(communicator),
            Via::Group => {
                let mut group = communicator.group();
                call!(group)?;
                group.run()
            }
            Via::Scope => communicator.scope(|scope| call!(scope))?,
        }
    }
}
