//! One rank's part in measuring: every rank goes through the same cases in the same order; the slowest rank's time counts.
//!
//! ```text
//!   verify ─> warm up, doubling ─> batches of calls with no barrier between them ─> verify again
//! ```

use super::data::{Number, POISON, SCALAR, input, reduced};
use super::options::{Mode, Options};
use super::row::{Case, Kind, Timing};
use ringtree::sys::memory::Mapping;
use ringtree::{Collective, Communicator, DataType, ReduceOp, Reduction, Registered, Result, Scalar};
use std::time::Instant;

const MOST_BATCHES: usize = 200;
const LEAST_BATCHES: usize = 5;
const BATCHES_AIMED: f64 = 10.0;

/// Page-aligned memory as a program would have it, or registered memory.
enum Memory {
    Plain(Mapping),
    Registered(Registered<u8>),
}

impl Memory {
    fn new(communicator: &Communicator, bytes: usize, registered: bool) -> Result<Memory> {
        if registered {
            return Ok(Memory::Registered(communicator.alloc(bytes)?));
        }
        Mapping::private(bytes).map(Memory::Plain)
    }

    fn elements<T: Number>(&mut self, count: usize) -> &mut [T] {
        let (at, len) = match self {
            Memory::Plain(mapping) => (mapping.base(), mapping.len()),
            Memory::Registered(buffer) => (buffer.as_mut_ptr(), buffer.len()),
        };
        assert!(count * size_of::<T>() <= len);
        // SAFETY: the memory has that many bytes, begins on a page, belongs to this value alone, and any bytes are elements.
        unsafe { std::slice::from_raw_parts_mut(at.cast(), count) }
    }
}

/// One rank with its buffers.
pub(crate) struct Rank<'a> {
    on: On<'a>,
    options: &'a Options,
    first: Memory,
    second: Memory,
}

/// Where calls run.
#[derive(Clone, Copy)]
struct On<'a> {
    /// Those that measuring needs.
    own: &'a Communicator,
    /// Those that are measured.
    measured: &'a Communicator,
}

/// What must come out at a position.
type Expected = dyn Fn(u64) -> f64;

/// Counts the wrong elements of a stretch of the result: its first one, its length, what must be there.
type Compare<'a> = dyn Fn(usize, u64, &Expected) -> u64 + 'a;

/// What one case needs to be called.
struct Shape<'s, T> {
    case: &'s Case,
    in_place: bool,
    op: ReduceOp,
    root: usize,
    /// Elements of one block, or of the whole vector.
    count: usize,
    /// Elements of the whole vector.
    whole: usize,
    a: &'s mut [T],
    b: &'s mut [T],
}

impl<'a> Rank<'a> {
    pub(crate) fn new(
        own: &'a Communicator,
        measured: &'a Communicator,
        options: &'a Options,
        cases: &[Case],
    ) -> Result<Rank<'a>> {
        let bytes = |case: &Case| whole(case) as usize * case.dtype.size();
        let bytes = cases.iter().map(bytes).max().unwrap_or(0);
        let memory = || Memory::new(measured, bytes, options.registered);
        let mut rank = Rank { on: On { own, measured }, options, first: memory()?, second: memory()? };
        // Every page exists before anything is timed.
        rank.first.elements::<u8>(bytes).fill(1);
        rank.second.elements::<u8>(bytes).fill(1);
        Ok(rank)
    }

    /// Measures on that communicator from now on.
    pub(crate) fn turn_to(&mut self, measured: &'a Communicator) {
        self.on.measured = measured;
    }

    /// Measures a case; nothing where the collective has no such form.
    pub(crate) fn measure(&mut self, case: &Case, in_place: bool) -> Result<Option<Timing>> {
        let exists = match case.kind {
            Kind::Collective(Collective::AllToAll) | Kind::SendRecv => !in_place,
            Kind::Collective(Collective::Gather | Collective::Scatter) => !in_place,
            Kind::Collective(_) => true,
        };
        if !exists {
            return Ok(None);
        }
        match case.dtype {
            DataType::I8 => self.measure_as::<i8>(case, in_place),
            DataType::U8 => self.measure_as::<u8>(case, in_place),
            DataType::I32 => self.measure_as::<i32>(case, in_place),
            DataType::U32 => self.measure_as::<u32>(case, in_place),
            DataType::I64 => self.measure_as::<i64>(case, in_place),
            DataType::U64 => self.measure_as::<u64>(case, in_place),
            DataType::F16 => self.measure_as::<half::f16>(case, in_place),
            DataType::F32 => self.measure_as::<f32>(case, in_place),
            DataType::F64 => self.measure_as::<f64>(case, in_place),
            DataType::Bf16 => self.measure_as::<half::bf16>(case, in_place),
            DataType::F8E4M3 => self.measure_as::<float8::F8E4M3>(case, in_place),
            DataType::F8E5M2 => self.measure_as::<float8::F8E5M2>(case, in_place),
        }
        .map(Some)
    }

    fn measure_as<T: Number>(&mut self, case: &Case, in_place: bool) -> Result<Timing> {
        let (on, options) = (self.on, self.options);
        let scalar = if T::TYPE.is_float() { Scalar::Float(SCALAR as f64) } else { Scalar::Integer(SCALAR) };
        let op = match case.reduction.unwrap_or(Reduction::Sum) {
            Reduction::Sum => ReduceOp::Sum,
            Reduction::Product => ReduceOp::Product,
            Reduction::Max => ReduceOp::Max,
            Reduction::Min => ReduceOp::Min,
            Reduction::Average => ReduceOp::Average,
            Reduction::PreMulSum => ReduceOp::PreMulSum(scalar),
        };
        let whole = whole(case) as usize;
        let mut shape = Shape::<T> {
            case,
            in_place,
            op,
            root: case.root.unwrap_or(0) as usize,
            count: case.count as usize,
            whole,
            a: self.first.elements(whole),
            b: self.second.elements(whole),
        };
        let checked = options.check == 1;
        let mut wrong = if checked { shape.verify(on)? } else { 0 };
        for _ in 0..options.warm_up {
            shape.call(on.measured)?;
        }
        let calls = calls_per_batch(on, options, &mut shape)?;
        let least = if options.iterations == 0 { LEAST_BATCHES } else { 1 };
        let (mut times, mut total) = (Vec::new(), 0.0);
        while times.len() < MOST_BATCHES
            && (times.len() < least || (options.iterations == 0 && total < options.min_time))
        {
            let each = batch(on, options, &mut shape, calls)?;
            total += each * calls as f64;
            times.push(each * 1e6);
        }
        if checked {
            wrong += shape.verify(on)?;
        }
        Ok(timing(times, calls, checked.then_some(wrong)))
    }
}

fn whole(case: &Case) -> u64 {
    match case.kind {
        Kind::Collective(collective) if collective.has_blocks() => case.count * u64::from(case.ranks),
        _ => case.count,
    }
}

fn timing(mut times: Vec<f64>, calls: u64, wrong: Option<u64>) -> Timing {
    times.sort_by(f64::total_cmp);
    let (last, middle) = (times.len() - 1, times.len() / 2);
    let median = (times[middle] + times[last / 2]) / 2.0;
    let p99 = times[(times.len() * 99).div_ceil(100) - 1];
    Timing { median, min: times[0], p99, iterations: calls * times.len() as u64, wrong }
}

/// How many calls a batch has: given, or so many that the batches aimed at take the time asked for.
fn calls_per_batch<T: Number>(on: On<'_>, options: &Options, shape: &mut Shape<T>) -> Result<u64> {
    if options.iterations > 0 {
        return Ok(options.iterations);
    }
    let mut calls = 1;
    let mut each = batch(on, options, shape, calls)?;
    while each * (calls as f64) < options.min_time / 20.0 && calls < 1 << 24 {
        calls *= 2;
        each = batch(on, options, shape, calls)?;
    }
    let aimed = (options.min_time / BATCHES_AIMED / each) as u64;
    Ok(if aimed >= 2 { aimed.min(1 << 24) } else { 1 + u64::from(each < 0.5) })
}

/// Seconds a call, on the slowest rank.
fn batch<T: Number>(on: On<'_>, options: &Options, shape: &mut Shape<T>, calls: u64) -> Result<f64> {
    let communicator = on.measured;
    on.own.barrier()?;
    let seconds = if options.dirty {
        let mut inside = 0.0;
        for turn in 0..calls {
            shape.dirty(communicator, turn);
            let began = Instant::now();
            shape.call(communicator)?;
            inside += began.elapsed().as_secs_f64();
        }
        inside - calls as f64 * clock_cost()
    } else {
        let began = Instant::now();
        match (options.asynchronous, options.aggregate) {
            (Mode::Async, _) => shape.begin_all(communicator, calls)?,
            (Mode::Blocking, 1) => {
                for _ in 0..calls {
                    shape.call(communicator)?;
                }
            }
            (Mode::Blocking, grouped) => shape.grouped(communicator, calls, u64::from(grouped))?,
        }
        began.elapsed().as_secs_f64()
    };
    let mut slowest = [seconds.max(1e-12) / calls as f64];
    on.own.all_reduce(&mut slowest, ReduceOp::Max)?;
    Ok(slowest[0])
}

/// Seconds that taking the time twice takes, which `--dirty` does for every call.
fn clock_cost() -> f64 {
    static COST: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    *COST.get_or_init(|| {
        let mut costs: Vec<f64> = (0..1001).map(|_| Instant::now().elapsed().as_secs_f64()).collect();
        costs.sort_by(f64::total_cmp);
        costs[500]
    })
}

/// Runs `$call` of the shape on anything that has the typed calls: a communicator, a group, a scope.
macro_rules! call_on {
    ($on:expr, $communicator:expr, $shape:expr, $a:expr, $b:expr) => {{
        let (count, whole, op, root) = ($shape.count, $shape.whole, $shape.op, $shape.root);
        match ($shape.case.kind, $shape.in_place) {
            (Kind::Collective(Collective::AllReduce), true) => $on.all_reduce(&mut $a[..count], op).map(drop),
            (Kind::Collective(Collective::AllReduce), false) => {
                $on.all_reduce_into(&$a[..count], &mut $b[..count], op).map(drop)
            }
            (Kind::Collective(Collective::AllGather), true) => $on.all_gather_in_place(&mut $a[..whole]).map(drop),
            (Kind::Collective(Collective::AllGather), false) => {
                $on.all_gather(&$a[..count], &mut $b[..whole]).map(drop)
            }
            (Kind::Collective(Collective::ReduceScatter), true) => {
                $on.reduce_scatter_in_place(&mut $a[..whole], op).map(drop)
            }
            (Kind::Collective(Collective::ReduceScatter), false) => {
                $on.reduce_scatter(&$a[..whole], &mut $b[..count], op).map(drop)
            }
            (Kind::Collective(Collective::Broadcast), true) => $on.broadcast(&mut $a[..count], root).map(drop),
            (Kind::Collective(Collective::Broadcast), false) => {
                $on.broadcast_into(&$a[..count], &mut $b[..count], root).map(drop)
            }
            (Kind::Collective(Collective::Reduce), true) => $on.reduce(&mut $a[..count], op, root).map(drop),
            (Kind::Collective(Collective::Reduce), false) => {
                $on.reduce_into(&$a[..count], &mut $b[..count], op, root).map(drop)
            }
            (Kind::Collective(Collective::Gather), _) => $on.gather(&$a[..count], &mut $b[..whole], root).map(drop),
            (Kind::Collective(Collective::Scatter), _) => $on.scatter(&$a[..whole], &mut $b[..count], root).map(drop),
            (Kind::Collective(Collective::AllToAll), _) => $on.all_to_all(&$a[..whole], &mut $b[..whole]).map(drop),
            (Kind::Collective(Collective::Barrier), _) => Ok(()),
            (Kind::SendRecv, _) => {
                let (rank, size) = ($communicator.rank(), $communicator.size());
                if size == 1 {
                    $b[..count].copy_from_slice(&$a[..count]);
                    Ok(())
                } else {
                    $on.send(&$a[..count], (rank + 1) % size)
                        .map(drop)
                        .and_then(|()| $on.recv(&mut $b[..count], (rank + size - 1) % size).map(drop))
                }
            }
        }
    }};
}

impl<T: Number> Shape<'_, T> {
    fn call(&mut self, communicator: &Communicator) -> Result<()> {
        if self.case.kind == Kind::SendRecv {
            let (rank, size) = (communicator.rank(), communicator.size());
            let (to, from) = ((rank + 1) % size, (rank + size - 1) % size);
            return communicator.send_recv(&self.a[..self.count], to, &mut self.b[..self.count], from);
        }
        call_on!(communicator, communicator, self, self.a, self.b)
    }

    /// Calls in groups. The buffers of one group are the same, as in nccl-tests: only the time counts.
    fn grouped(&mut self, communicator: &Communicator, calls: u64, grouped: u64) -> Result<()> {
        let mut left = calls;
        while left > 0 {
            let mut group = communicator.group();
            for _ in 0..grouped.min(left) {
                let (a, b) = self.aliases();
                call_on!(group, communicator, self, a, b)?;
            }
            group.run()?;
            left -= grouped.min(left);
        }
        Ok(())
    }

    /// Begins all calls, then waits for them.
    fn begin_all(&mut self, communicator: &Communicator, calls: u64) -> Result<()> {
        if self.case.kind == Kind::SendRecv {
            return self.grouped(communicator, calls, 1);
        }
        let mut left = calls;
        while left > 0 {
            // A bounded number at a time: each call that is under way holds a little memory.
            let some = left.min(64);
            communicator.scope(|scope| {
                for _ in 0..some {
                    let (a, b) = self.aliases();
                    call_on!(scope, communicator, self, a, b)?;
                }
                Ok(())
            })??;
            left -= some;
        }
        Ok(())
    }

    /// The buffers again, for calls that are under way at the same time and all write the same.
    fn aliases<'x>(&self) -> (&'x mut [T], &'x mut [T]) {
        // SAFETY: the memory outlives the measurement. Operations on one communicator run one after the other, so no two of them
        // write at the same time; nobody reads the slices until all have ended.
        unsafe {
            (
                std::slice::from_raw_parts_mut(self.a.as_ptr().cast_mut(), self.a.len()),
                std::slice::from_raw_parts_mut(self.b.as_ptr().cast_mut(), self.b.len()),
            )
        }
    }

    /// Writes the input anew, as a program that computes would have.
    fn dirty(&mut self, communicator: &Communicator, turn: u64) {
        let number = T::from_number(((turn + communicator.rank() as u64) % 3) as f64);
        let len = if self.case.kind == Kind::Collective(Collective::AllGather) { self.count } else { self.whole };
        std::hint::black_box(&mut self.a[..len]).fill(number);
    }

    /// Wrong elements, over all ranks, of one call on fresh data.
    fn verify(&mut self, on: On<'_>) -> Result<u64> {
        let (rank, ranks) = (on.own.rank() as u32, self.case.ranks);
        let reduction = self.case.reduction;
        self.b.fill(T::from_number(POISON));
        let (own, len) = (self.own_input_start(rank), self.input_len());
        self.a.fill(T::from_number(POISON));
        for (i, element) in self.a[own..].iter_mut().take(len).enumerate() {
            *element = T::from_number(input(reduction, rank, ranks, i as u64));
        }
        on.own.barrier()?;
        self.call(on.measured)?;
        let mut wrong = [self.wrong_here(rank, ranks)];
        on.own.all_reduce(&mut wrong, ReduceOp::Sum)?;
        Ok(wrong[0])
    }

    fn input_len(&self) -> usize {
        match self.case.kind {
            Kind::Collective(Collective::AllGather | Collective::Gather) => self.count,
            _ => self.whole,
        }
    }

    fn own_input_start(&self, rank: u32) -> usize {
        let gathers = self.case.kind == Kind::Collective(Collective::AllGather) && self.in_place;
        if gathers { rank as usize * self.count } else { 0 }
    }

    /// Compares this rank's result with what it must be.
    fn wrong_here(&self, rank: u32, ranks: u32) -> u64 {
        let (count, reduction) = (self.count as u64, self.case.reduction);
        let result = if self.in_place { &*self.a } else { &*self.b };
        let compare = |at: usize, len: u64, expected: &Expected| -> u64 {
            let elements = result[at..].iter().take(len as usize).enumerate();
            elements.filter(|(i, element)| element.number() != T::from_number(expected(*i as u64)).number()).count()
                as u64
        };
        let from = |source: u32, first: u64| move |i: u64| input(reduction, source, ranks, first + i);
        let sum = |first: u64| move |i: u64| reduced(reduction.unwrap_or(Reduction::Sum), ranks, first + i);
        let first = u64::from(rank) * count;
        let place = if self.in_place { first as usize } else { 0 };
        let is_root = rank as usize == self.root;
        match self.case.kind {
            Kind::Collective(Collective::AllReduce) => compare(0, count, &sum(0)),
            Kind::Collective(Collective::ReduceScatter) => compare(place, count, &sum(first)),
            Kind::Collective(Collective::Reduce) => {
                if is_root {
                    compare(0, count, &sum(0))
                } else {
                    0
                }
            }
            Kind::Collective(Collective::Broadcast) => compare(0, count, &from(self.root as u32, 0)),
            Kind::Collective(Collective::AllGather) => {
                self.compare_blocks(ranks, &compare, &|source| Box::new(from(source, 0)))
            }
            Kind::Collective(Collective::Gather) if !is_root => 0,
            Kind::Collective(Collective::Gather) => {
                self.compare_blocks(ranks, &compare, &|source| Box::new(from(source, 0)))
            }
            Kind::Collective(Collective::Scatter) => compare(0, count, &from(self.root as u32, first)),
            Kind::Collective(Collective::AllToAll) => {
                self.compare_blocks(ranks, &compare, &|source| Box::new(from(source, first)))
            }
            Kind::Collective(Collective::Barrier) => 0,
            Kind::SendRecv => compare(0, count, &from((rank + ranks - 1) % ranks, 0)),
        }
    }

    fn compare_blocks(&self, ranks: u32, compare: &Compare<'_>, expected: &dyn Fn(u32) -> Box<Expected>) -> u64 {
        (0..ranks).map(|source| compare(source as usize * self.count, self.count as u64, &expected(source))).sum()
    }
}
