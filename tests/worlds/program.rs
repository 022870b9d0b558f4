//! What a world does and what goes wrong in it, all from one seed.

use crate::chance::Chance;
use crate::oracle::{Joint, operation};
use ringtree::plan::{Algorithm, Plan, Tuning, World};
use ringtree::transport::faulty::{Faults, Mishap, Part};
use ringtree::transport::local::Reach;
use ringtree::types::Call;
use ringtree::{Collective, DataType, ReduceOp, Reduction};
use std::time::Duration;

/// A message from one rank to another.
#[derive(Clone, Debug)]
pub struct Transfer {
    pub from: u32,
    pub to: u32,
    pub dtype: DataType,
    pub count: u64,
    pub seed: u64,
}

/// What all ranks do at the same place of their programs: submitted together, then run to its end.
#[derive(Clone, Debug)]
pub struct Item {
    pub algorithm: Option<Algorithm>,
    pub chunk_bytes: Option<u32>,
    pub channels: Option<u32>,
    pub joints: Vec<Joint>,
    pub transfers: Vec<Transfer>,
    /// How long each rank computes before it.
    pub outside: Vec<Duration>,
}

/// A world's fate.
#[derive(Clone, Debug)]
pub struct Program {
    pub world: World,
    pub slots: u32,
    pub windows: bool,
    /// What ranks can do with the buffers of others, and from how many bytes on they fetch.
    pub reach: Reach,
    pub fetch_from: u64,
    pub reproducible: bool,
    pub timeout: Duration,
    pub items: Vec<Item>,
    pub faults: Faults,
    /// A rank that makes another call than the rest.
    pub odd_one: Option<u32>,
}

const MILLISECOND: Duration = Duration::from_millis(1);

impl Program {
    pub fn new(seed: u64) -> Program {
        let chance = &mut Chance::new(seed);
        let world = world(chance);
        let size = world.size();
        let delay = chance.pick(&[Duration::ZERO, MILLISECOND / 10, MILLISECOND]);
        let mut program = Program {
            slots: chance.between(2, 4) as u32,
            windows: chance.one_in(2),
            reach: Reach::Mapped,
            fetch_from: 0,
            reproducible: chance.one_in(4),
            timeout: Duration::from_millis(chance.between(1000, 3000)),
            items: Vec::new(),
            faults: Faults { seed: chance.word(), delay, mishaps: Vec::new() },
            odd_one: None,
            world,
        };
        if chance.one_in(3) {
            (program.reach, program.fetch_from) = (Reach::Fetched, chance.pick(&[1, 300]));
        }
        for _ in 0..chance.between(2, 6) {
            let item = item(chance, &program);
            program.items.push(item);
        }
        // A third of the worlds has no faults, in a tenth ranks disagree, the rest has one or two mishaps.
        match chance.below(30) {
            0..10 => {}
            10..13 => disagree(chance, &mut program),
            _ => {
                for _ in 0..1 + chance.below(4) / 3 {
                    let mishap = mishap(chance, size, program.timeout);
                    program.faults.mishaps.push(mishap);
                }
            }
        }
        program
    }

    pub fn tuning(&self, item: &Item) -> Tuning {
        Tuning {
            algorithm: item.algorithm,
            chunk_bytes: item.chunk_bytes,
            channels: item.channels,
            reproducible: self.reproducible,
            windows: self.windows,
            fetch_from: self.fetch_from,
            cores: 0,
            ..Tuning::default()
        }
    }
}

fn world(chance: &mut Chance) -> World {
    let size = chance.between(2, 8) as u32;
    if chance.one_in(2) {
        return World::flat(size);
    }
    let domains = chance.between(1, 4);
    let border = chance.below(domains) as u32;
    World::in_order(&(0..size).map(|_| chance.below(domains) as u32).collect::<Vec<_>>(), &[vec![border]])
}

fn item(chance: &mut Chance, program: &Program) -> Item {
    let size = program.world.size();
    let mut item = Item {
        algorithm: None,
        chunk_bytes: chance.pick(&[None, Some(64), Some(256), Some(4096)]),
        channels: chance.pick(&[None, Some(1), Some(2), Some(3)]),
        joints: Vec::new(),
        transfers: Vec::new(),
        outside: (0..size)
            .map(|_| Duration::from_micros(if chance.one_in(3) { chance.below(20_000) } else { 0 }))
            .collect(),
    };
    let kind = chance.below(8);
    if kind < 6 {
        for _ in 0..if chance.one_in(4) { chance.between(2, 4) } else { 1 } {
            item.joints.push(joint(chance, size));
        }
    }
    if kind >= 5 {
        for _ in 0..chance.between(1, 12) {
            let from = chance.below(size.into()) as u32;
            let to = (from + chance.between(1, u64::from(size) - 1) as u32) % size;
            let (dtype, count) = (chance.pick(&DataType::ALL), count(chance, 300));
            item.transfers.push(Transfer { from, to, dtype, count, seed: chance.word() });
        }
        if chance.one_in(10) {
            item.transfers[0].count = 20_000; // Longer than a chunk.
        }
    }
    if chance.one_in(2) {
        force(chance, program, &mut item);
    }
    item
}

/// Asks for an algorithm that can do everything in the item, if there is one.
fn force(chance: &mut Chance, program: &Program, item: &mut Item) {
    let can = |algorithm: &Algorithm| {
        let tuning = Tuning { algorithm: Some(*algorithm), ..program.tuning(item) };
        item.joints.iter().all(|joint| Plan::new(&program.world, &joint.calls[0], &tuning).is_ok())
    };
    let able: Vec<Algorithm> = Algorithm::ALL.into_iter().filter(can).collect();
    if !able.is_empty() {
        item.algorithm = Some(chance.pick(&able));
    }
}

/// Mostly small, now and then zero, now and then many chunks.
fn count(chance: &mut Chance, most: u64) -> u64 {
    match chance.below(8) {
        0 => 0,
        1..5 => chance.between(1, 20),
        5 | 6 => chance.between(1, most),
        _ => chance.between(1, 4 * most),
    }
}

fn joint(chance: &mut Chance, size: u32) -> Joint {
    let collective = chance.pick(&Collective::ALL);
    let dtype = chance.pick(&DataType::ALL);
    let op = operation(chance.below(6), dtype);
    let reduction = if collective.reduces() { op.reduction() } else { Reduction::Sum };
    let op = if collective.reduces() { op } else { ReduceOp::Sum };
    let root = if collective.has_root() { chance.below(size.into()) as u32 } else { 0 };
    let most = if collective.has_blocks() { 100 } else { 500 };
    let mut call = Call::new(collective, dtype, reduction, root, count(chance, most));
    if collective == Collective::Barrier {
        call.count = 0;
    }
    let mut calls = vec![call.clone(); size as usize];
    if collective.has_blocks() && chance.one_in(3) {
        call.count = 0;
        if collective == Collective::AllToAll {
            let table: Vec<Vec<u64>> = (0..size).map(|_| (0..size).map(|_| count(chance, 30)).collect()).collect();
            for (rank, row) in table.iter().enumerate() {
                let receive = table.iter().map(|row| row[rank]).collect();
                calls[rank] = Call { counts: Some(row.clone()), receive_counts: Some(receive), ..call.clone() };
            }
        } else {
            call.counts = Some((0..size).map(|_| count(chance, 100)).collect());
            calls = vec![call; size as usize];
        }
    }
    let in_place = collective != Collective::AllToAll && chance.one_in(2);
    Joint { calls, op, in_place, seed: chance.word(), torn: false }
}

/// One rank makes another call than the others, once.
fn disagree(chance: &mut Chance, program: &mut Program) {
    let with_calls: Vec<usize> = (0..program.items.len()).filter(|at| !program.items[*at].joints.is_empty()).collect();
    if with_calls.is_empty() {
        return;
    }
    let odd_one = chance.below(program.world.size().into()) as u32;
    let item = &mut program.items[chance.pick(&with_calls)];
    item.algorithm = None;
    let at = chance.below(item.joints.len() as u64) as usize;
    let joint = &mut item.joints[at];
    joint.torn = true;
    joint.in_place = false;
    let call = &mut joint.calls[odd_one as usize];
    match chance.below(3) {
        _ if call.collective == Collective::Barrier => {
            *call = Call::new(Collective::AllGather, DataType::U8, Reduction::Sum, 0, chance.between(1, 9));
        }
        0 if call.counts.is_none() => call.count += 1,
        1 if call.collective.has_root() => call.root = (call.root + 1) % program.world.size(),
        _ => {
            let others = DataType::ALL
                .into_iter()
                .filter(|other| *other != call.dtype && other.is_float() == call.dtype.is_float());
            call.dtype = chance.pick(&others.collect::<Vec<_>>());
        }
    }
    program.odd_one = Some(odd_one);
}

fn mishap(chance: &mut Chance, size: u32, timeout: Duration) -> Mishap {
    let from = chance.below(size.into()) as u32;
    let to = (from + chance.between(1, u64::from(size) - 1) as u32) % size;
    let number = chance.between(1, 20);
    let latest = chance.pick(&[1_000, 40_000]);
    let at = Duration::from_micros(chance.below(latest));
    match chance.below(6) {
        0 => Mishap::Drop { from, to, number },
        1 => Mishap::Corrupt { from, to, number, part: Part::Tag, bit: chance.below(32) as u32 },
        2 => Mishap::Corrupt { from, to, number, part: Part::Length, bit: chance.below(24) as u32 },
        3 => Mishap::Close { from, to, at },
        4 => Mishap::Gone { rank: from, at },
        _ => Mishap::Stopped { rank: from, at, until: at + 20 * timeout },
    }
}
