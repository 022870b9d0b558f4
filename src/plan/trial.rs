//! A small interpreter for the tests of this folder: FIFO links of as many slots as a plan asks for, ranks run in some order, elements that
//! know where they come from. (The prover in `crate::check` says more; this one is quick to run beside the code.)

use super::*;
use crate::types::{DataType, Reduction};
use std::collections::{HashMap, VecDeque};

/// An element: the sum of its contributions, the expression that made it, how often it was finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    sum: u64,
    expression: u64,
    finished: u32,
    /// A contribution as the user gave it, which only a read of the input may use.
    raw: bool,
    written: bool,
}

const EMPTY: Cell = Cell { sum: 0, expression: 0, finished: 0, raw: false, written: false };

fn hash(a: u64, b: u64) -> u64 {
    Digest::new().word(a).word(b).finish()
}

fn given(rank: u32, at: u64) -> u64 {
    hash(u64::from(rank) + 1000, at)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Pair(u32, u32, u32),
    Board(u32, Group, u32),
}

#[derive(Default)]
struct Link {
    messages: VecDeque<Vec<Cell>>,
    /// Messages given back by every reader.
    base: usize,
    filling: Option<Vec<Cell>>,
    readers: HashMap<u32, (usize, Option<usize>)>,
}

struct Rank {
    memory: Vec<Cell>,
    scratch: Vec<Cell>,
    input_at: u64,
    output_at: u64,
    input_len: u64,
    output_len: u64,
}

impl Rank {
    fn slot(&mut self, space: Space, at: u64) -> &mut Cell {
        match space {
            Space::Input => {
                assert!(at < self.input_len, "input {at} of {}", self.input_len);
                &mut self.memory[(self.input_at + at) as usize]
            }
            Space::Output => {
                assert!(at < self.output_len, "output {at} of {}", self.output_len);
                &mut self.memory[(self.output_at + at) as usize]
            }
            Space::Scratch => &mut self.scratch[at as usize],
            Space::Nothing => panic!("no space"),
        }
    }
}

/// Which ranks run in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Apart,
    InPlace,
    Mixed,
}

/// A world that runs plans: one for all ranks, or one a rank.
pub(super) struct Trial<'a> {
    plans: Vec<&'a Plan>,
    ranks: Vec<Rank>,
    links: HashMap<Key, Link>,
    reduces: bool,
    name: String,
}

fn offsets(counts: &[u64], rank: u32) -> u64 {
    counts[..rank as usize].iter().sum()
}

impl<'a> Trial<'a> {
    pub(super) fn new(plans: Vec<&'a Plan>, place: Where) -> Trial<'a> {
        let call = plans[0].call();
        let name = format!("{} {:?} {:?} {place:?}", plans[0].algorithm(), call, plans[0].world());
        let ranks = (0..plans.len() as u32).map(|rank| Trial::memory(plans[rank as usize], rank, place)).collect();
        Trial { reduces: call.collective.reduces(), plans, ranks, links: HashMap::new(), name }
    }

    fn memory(plan: &Plan, rank: u32, place: Where) -> Rank {
        let call = plan.call();
        let here = match place {
            Where::Apart => false,
            Where::InPlace => true,
            Where::Mixed => rank % 2 == 1,
        };
        let (input_len, output_len) = (plan.input_len(rank), plan.output_len(rank));
        let own = match &call.counts {
            Some(counts) => offsets(counts, rank),
            None => call.count * u64::from(rank),
        };
        let both = input_len > 0 && output_len > 0;
        let (input_at, output_at) = match call.collective {
            _ if !here || !both => (0, input_len),
            Collective::AllGather | Collective::Gather => (own, 0),
            Collective::ReduceScatter | Collective::Scatter => (0, own),
            Collective::AllToAll => (0, input_len),
            _ => (0, 0),
        };
        let total = (input_at + input_len).max(output_at + output_len);
        let mut memory = vec![EMPTY; total as usize];
        for at in 0..input_len {
            let sum = given(rank, at);
            memory[(input_at + at) as usize] = Cell { sum, expression: sum, finished: 0, raw: true, written: true };
        }
        let scratch = vec![EMPTY; plan.scratch_len(rank) as usize];
        Rank { memory, scratch, input_at, output_at, input_len, output_len }
    }

    fn read(&mut self, rank: u32, space: Space, at: u64) -> Cell {
        let cell = *self.ranks[rank as usize].slot(space, at);
        assert!(cell.written, "{}: rank {rank} reads {space:?} {at} before it is written", self.name);
        if self.reduces {
            assert_eq!(cell.raw, space == Space::Input, "{}: rank {rank} reads {space:?} {at}: raw", self.name);
        }
        Cell { raw: false, ..cell }
    }

    /// The links that a step takes from, by rank.
    fn sources(&self, rank: u32, channel: u32, step: &Step) -> Vec<(u32, Key)> {
        let others = || self.plans[0].world().members(step.group(), rank).iter().filter(move |&other| other != rank);
        match step.take {
            Take::Pair => vec![(step.from, Key::Pair(step.from, rank, channel))],
            Take::Board => vec![(step.from, Key::Board(step.from, step.group(), channel))],
            Take::FoldPairs => others().map(|other| (other, Key::Pair(other, rank, channel))).collect(),
            Take::FoldBoards => others().map(|other| (other, Key::Board(other, step.group(), channel))).collect(),
            Take::Nothing | Take::Window | Take::FoldWindows => Vec::new(),
        }
    }

    fn sink(&self, rank: u32, channel: u32, step: &Step) -> Option<Key> {
        match step.put {
            Put::Pair => Some(Key::Pair(rank, step.to, channel)),
            Put::Board => Some(Key::Board(rank, step.group(), channel)),
            Put::Nothing | Put::Windows => None,
        }
    }

    fn ready(&mut self, rank: u32, channel: u32, step: &Step) -> bool {
        if step.flags.has(Flags::AWAIT) {
            for (_, key) in self.sources(rank, channel, step) {
                let link = self.links.entry(key).or_default();
                let published = link.base + link.messages.len();
                let reader = link.readers.entry(rank).or_default();
                assert!(reader.1.is_none(), "{}: awaits while reading", self.name);
                if reader.0 >= published {
                    return false;
                }
            }
        }
        if step.flags.has(Flags::CREDIT)
            && let Some(key) = self.sink(rank, channel, step)
        {
            let slots = self.plans[rank as usize].slots() as usize;
            let link = self.links.entry(key).or_default();
            assert!(link.filling.is_none());
            return link.messages.len() < slots;
        }
        true
    }

    fn taken(&mut self, key: Key, rank: u32, step: &Step) -> Vec<Cell> {
        let readers = match key {
            Key::Pair(..) => 1,
            Key::Board(from, group, _) => {
                let members = self.plans[0].world().members(group, from);
                assert!(members.position(rank).is_some() && rank != from);
                members.len() as usize - 1
            }
        };
        let name = &self.name;
        let link = self.links.get_mut(&key).expect("a link that was awaited");
        let reader = link.readers.entry(rank).or_default();
        if step.flags.has(Flags::AWAIT) {
            reader.1 = Some(0);
        }
        let start = reader.1.expect("an open message");
        let message = &link.messages[reader.0 - link.base];
        let end = start + step.len as usize;
        assert!(end <= message.len(), "{name}: rank {rank} takes {end} of {} from {key:?}", message.len());
        let cells = message[start..end].to_vec();
        reader.1 = Some(end);
        if step.flags.has(Flags::RELEASE) {
            assert_eq!(end, message.len(), "{name}: rank {rank} leaves a rest of {key:?}");
            *reader = (reader.0 + 1, None);
            let done = |reader: &&(usize, Option<usize>)| reader.0 > link.base;
            if link.readers.values().filter(done).count() == readers {
                link.messages.pop_front();
                link.base += 1;
            }
        }
        cells
    }

    fn run(&mut self, rank: u32, channel: u32, step: &Step) {
        let sources = self.sources(rank, channel, step);
        let mut operands: Vec<(u32, Vec<Cell>)> = Vec::new();
        for (from, key) in sources {
            operands.push((from, self.taken(key, rank, step)));
        }
        let len = u64::from(step.len);
        match step.take {
            Take::Window => operands
                .push((step.from, (0..len).map(|i| self.read(step.from, Space::Input, step.src_at + i)).collect())),
            Take::FoldWindows => {
                let members: Vec<u32> = self.plans[0].world().members(step.group(), rank).iter().collect();
                for other in members.into_iter().filter(|&other| other != rank) {
                    operands.push((other, (0..len).map(|i| self.read(other, Space::Input, step.src_at + i)).collect()));
                }
            }
            _ => {}
        }
        if step.src() != Space::Nothing {
            let cells = (0..len).map(|i| self.read(rank, step.src(), step.src_at + i)).collect();
            operands.push((rank, cells));
        }
        let folds = matches!(step.take, Take::FoldPairs | Take::FoldBoards | Take::FoldWindows);
        if folds {
            operands.sort_by_key(|operand| operand.0);
        } else if operands.len() == 2 && !step.flags.has(Flags::MESSAGE_FIRST) {
            operands.swap(0, 1);
        }
        let finished = u32::from(step.flags.has(Flags::FINISH));
        let cells: Vec<Cell> = (0..step.len as usize)
            .map(|i| {
                let mut cell = operands[0].1[i];
                for (_, other) in &operands[1..] {
                    assert_eq!(cell.finished + other[i].finished, 0, "{}: a final value is combined", self.name);
                    assert!(self.reduces, "{}: combines", self.name);
                    cell.sum = cell.sum.wrapping_add(other[i].sum);
                    cell.expression = hash(cell.expression, other[i].expression);
                }
                cell.finished += finished;
                cell
            })
            .collect();
        self.store(rank, channel, step, cells);
    }

    fn store(&mut self, rank: u32, channel: u32, step: &Step, cells: Vec<Cell>) {
        if step.dst() != Space::Nothing {
            for (i, cell) in cells.iter().enumerate() {
                *self.ranks[rank as usize].slot(step.dst(), step.dst_at + i as u64) = *cell;
            }
        }
        if step.put == Put::Windows {
            let members: Vec<u32> = self.plans[0].world().members(step.group(), rank).iter().collect();
            for other in members.into_iter().filter(|&other| other != rank) {
                for (i, cell) in cells.iter().enumerate() {
                    *self.ranks[other as usize].slot(Space::Output, step.dst_at + i as u64) = *cell;
                }
            }
        }
        if let Some(key) = self.sink(rank, channel, step) {
            let most = self.plans[0].slot_len() as usize;
            let link = self.links.entry(key).or_default();
            if step.flags.has(Flags::CREDIT) {
                link.filling = Some(Vec::new());
            }
            let filling = link.filling.as_mut().expect("an open slot");
            filling.extend(cells);
            assert!(filling.len() <= most, "{}: a message of {} in a slot of {most}", self.name, filling.len());
            if step.flags.has(Flags::SIGNAL) {
                link.messages.push_back(link.filling.take().expect("just filled"));
            }
        }
    }

    /// Runs all ranks to their end; `order` decides who goes first and how far.
    pub(super) fn finish(mut self, order: u64) {
        let size = self.plans.len() as u32;
        let channels = self.plans[0].channels();
        let mut lines: Vec<(u32, u32, u64)> =
            (0..size).flat_map(|rank| (0..channels).map(move |channel| (rank, channel, 0))).collect();
        lines.sort_by_key(|line| hash(order, u64::from(line.0) * 64 + u64::from(line.1)));
        loop {
            let mut moved = false;
            for line in &mut lines {
                let greedy = hash(order, line.2 + u64::from(line.0)) % 3;
                for _ in 0..=greedy * 100 {
                    let Some(step) = self.plans[line.0 as usize].step(line.0, line.1, line.2) else { break };
                    if !self.ready(line.0, line.1, &step) {
                        break;
                    }
                    self.run(line.0, line.1, &step);
                    line.2 += 1;
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        for &(rank, channel, index) in &lines {
            let plan = self.plans[rank as usize];
            let end = plan.step_count(rank, channel);
            assert_eq!(index, end, "{}: rank {rank} stuck at {:?}", self.name, plan.step(rank, channel, index));
            assert_eq!(plan.step(rank, channel, end), None);
        }
        for (key, link) in &self.links {
            assert!(link.messages.is_empty() && link.filling.is_none(), "{}: {key:?} is left over", self.name);
        }
        self.verify();
    }

    fn verify(&mut self) {
        let size = self.plans.len() as u32;
        let mut expressions: HashMap<u64, u64> = HashMap::new();
        for rank in 0..size {
            let plan = self.plans[rank as usize];
            let call = plan.call().clone();
            for at in 0..plan.output_len(rank) {
                let cell = *self.ranks[rank as usize].slot(Space::Output, at);
                let at_rank = || format!("{}: output {at} of rank {rank}: {cell:?}", self.name);
                assert!(cell.written, "{}", at_rank());
                assert_eq!(cell.sum, self.expected(&call, rank, at), "{}", at_rank());
                if self.reduces {
                    assert_eq!(cell.finished, 1, "{}", at_rank());
                }
                if call.collective == Collective::AllReduce {
                    let same = *expressions.entry(at).or_insert(cell.expression);
                    assert_eq!(same, cell.expression, "{}: another order", at_rank());
                }
            }
        }
    }

    fn expected(&self, call: &Call, rank: u32, at: u64) -> u64 {
        let size = self.plans.len() as u32;
        let sum = |at| (0..size).fold(0u64, |sum, other| sum.wrapping_add(given(other, at)));
        let counts = |call: &Call| call.counts.clone().unwrap_or(vec![call.count; size as usize]);
        let find = |counts: &[u64]| {
            let mut at = at;
            let mut block = 0;
            while at >= counts[block as usize] {
                at -= counts[block as usize];
                block += 1;
            }
            (block, at)
        };
        match call.collective {
            Collective::AllReduce | Collective::Reduce => sum(at),
            Collective::Broadcast => given(call.root, at),
            Collective::ReduceScatter => sum(offsets(&counts(call), rank) + at),
            Collective::Scatter => given(call.root, offsets(&counts(call), rank) + at),
            Collective::AllGather | Collective::Gather => {
                let (block, at) = find(&counts(call));
                given(block, at)
            }
            Collective::AllToAll => {
                let (block, at) = find(call.receive_counts.as_ref().unwrap_or(&counts(call)));
                given(block, offsets(&counts(self.plans[block as usize].call()), rank) + at)
            }
            Collective::Barrier => 0,
        }
    }
}

/// Runs one call with one tuning, in every kind of place and in a few orders.
pub(super) fn run_all(world: &World, call: &Call, tuning: &Tuning) {
    let plan = Plan::new(world, call, tuning).unwrap_or_else(|error| panic!("{error}: {call:?} {tuning:?}"));
    for (order, place) in [Where::Apart, Where::InPlace, Where::Mixed].into_iter().enumerate() {
        if call.collective == Collective::AllToAll && place != Where::Apart {
            continue;
        }
        let plans = vec![&plan; world.size() as usize];
        Trial::new(plans, place).finish(order as u64 + call.count);
    }
}

/// Every form of a collective for one algorithm in one world.
pub(super) fn run_forms(world: &World, algorithm: Algorithm, collective: Collective) -> u32 {
    let size = world.size();
    let n = u64::from(size);
    let mut runs = 0;
    let memory = [Medium::Memory; 2];
    let hosts = [Medium::Memory, Medium::Network];
    let sockets = [Medium::Loopback, Medium::Network];
    for (chunk_bytes, channels, [inside, between]) in
        [(32, 1, memory), (4, 3, hosts), (MOST_SLOT_BYTES, 2, memory), (4, 1, sockets)]
    {
        let tuning = Tuning {
            algorithm: Some(algorithm),
            chunk_bytes: Some(chunk_bytes),
            channels: Some(channels),
            windows: true,
            inside,
            between,
            ..Tuning::default()
        };
        for count in [0, 1, n - 1, 7 * n + 3, 40] {
            let root = (count % n) as u32;
            let count = if collective == Collective::Barrier { 0 } else { count };
            let call = Call::new(collective, DataType::F32, Reduction::Sum, root, count);
            if Plan::new(world, &call, &tuning).is_err() {
                continue;
            }
            run_all(world, &call, &tuning);
            runs += 1;
        }
        if collective.has_blocks() && collective != Collective::AllToAll {
            for kind in 0..3u64 {
                let counts = (0..n).map(|rank| if rank % 3 == kind { 0 } else { hash(rank, kind) % 23 }).collect();
                let mut call = Call::new(collective, DataType::F32, Reduction::Sum, (kind % n) as u32, 0);
                call.counts = Some(counts);
                if Plan::new(world, &call, &tuning).is_ok() {
                    run_all(world, &call, &tuning);
                    runs += 1;
                }
            }
        }
    }
    runs
}

#[test]
fn every_algorithm_is_right_for_every_collective_up_to_17_ranks() {
    let mut runs = std::collections::BTreeMap::new();
    for size in (1..=9).chain([12, 13, 16, 17]) {
        let world = World::flat(size);
        for algorithm in Algorithm::ALL {
            for collective in Collective::ALL {
                let forms = run_forms(&world, algorithm, collective);
                *runs.entry((algorithm, collective)).or_insert(0) += forms;
            }
        }
    }
    let pairs: Vec<(Algorithm, Collective)> = runs.iter().filter(|run| *run.1 > 0).map(|run| *run.0).collect();
    assert_eq!(pairs.len(), 29, "{pairs:?}");
    assert!(runs.values().all(|&forms| forms == 0 || forms >= 195), "{runs:?}");
}

#[test]
fn the_hierarchy_is_right_in_equal_unequal_and_scattered_domains() {
    let worlds = [
        World::domains(&[2, 2]),
        World::domains(&[3, 3, 3]),
        World::domains(&[1, 4]),
        World::domains(&[4, 1, 2]),
        World::domains(&[5, 2, 3, 2]),
        World::domains(&[7, 3]),
        World::from_domains(&[0, 1, 0, 1, 2, 2]),
        World::from_domains(&[1, 0, 0, 2, 1, 0, 2, 2, 2]),
        World::from_domains(&[3, 1, 2, 3, 1, 1]),
        World::domains(&[2; 9]),
        World::domains(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3]),
        World::in_order(&[2, 0, 1, 2, 0, 1, 0], &[vec![0, 2]]),
        World::in_order(&[9, 4, 0, 7, 1, 3, 8, 5, 2, 6, 9, 4], &[vec![0, 6], vec![0, 2, 6, 9]]),
    ];
    let mut runs = 0;
    for world in &worlds {
        for collective in Collective::ALL {
            runs += run_forms(world, Algorithm::Hierarchy, collective);
        }
    }
    assert_eq!(runs, 4 * 20 * worlds.len() as u32);
}

#[test]
fn flat_algorithms_do_not_mind_domains() {
    let worlds = [
        World::from_domains(&[0, 1, 0, 1, 2]),
        World::in_order(&[2, 0, 1, 2, 0, 1, 3], &[vec![0, 2]]),
        World::in_order(&[4, 0, 3, 5, 1, 2], &[vec![0, 3], vec![0, 1, 3, 5]]),
    ];
    let mut runs = 0;
    for world in &worlds {
        for algorithm in Algorithm::ALL {
            for collective in Collective::ALL {
                runs += run_forms(world, algorithm, collective);
            }
        }
    }
    assert!(runs > 3 * 28 * 15, "{runs}");
}

#[test]
fn an_unequal_all_to_all_is_right_when_each_rank_knows_its_own_counts() {
    for size in 1..=9u64 {
        for (seed, chunk_bytes, channels) in [(1, 4, 1), (2, 32, 1), (3, 64, 2)] {
            let world = World::flat(size as u32);
            let count = |from: u64, to: u64| {
                if (from + to + seed).is_multiple_of(4) { 0 } else { hash(from * 64 + to, seed) % 40 }
            };
            let plans: Vec<Plan> = (0..size)
                .map(|rank| {
                    let mut call = Call::new(Collective::AllToAll, DataType::F32, Reduction::Sum, 0, 0);
                    call.counts = Some((0..size).map(|other| count(rank, other)).collect());
                    call.receive_counts = Some((0..size).map(|other| count(other, rank)).collect());
                    let tuning =
                        Tuning { chunk_bytes: Some(chunk_bytes), channels: Some(channels), ..Tuning::default() };
                    Plan::new(&world, &call, &tuning).expect("a plan")
                })
                .collect();
            let digests: Vec<u64> = plans.iter().map(Plan::digest).collect();
            assert!(digests.iter().all(|&digest| digest == digests[0]));
            Trial::new(plans.iter().collect(), Where::Apart).finish(seed);
        }
    }
}

#[test]
fn logarithmic_algorithms_are_right_for_larger_worlds() {
    for size in [31, 32, 33, 48, 65, 100] {
        let world = World::flat(size);
        for algorithm in [Algorithm::Tree, Algorithm::Halving, Algorithm::Bruck] {
            for collective in Collective::ALL {
                let tuning = Tuning { algorithm: Some(algorithm), chunk_bytes: Some(12), ..Tuning::default() };
                for count in [5, 3 * 40] {
                    let count = if collective == Collective::Barrier { 0 } else { count };
                    let call = Call::new(collective, DataType::F32, Reduction::Average, size / 3, count);
                    if Plan::new(&world, &call, &tuning).is_ok() {
                        run_all(&world, &call, &tuning);
                    }
                }
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(150))]

    #[test]
    fn any_call_in_any_world_with_any_tuning_is_right(
        domains in proptest::collection::vec(0u32..4, 1..13),
        border in 0u32..4,
        algorithm in 0..Algorithm::ALL.len(),
        collective in 0..Collective::ALL.len(),
        count in 0u64..150,
        root in 0u32..12,
        chunk_bytes in 1u32..300,
        channels in 1u32..5,
        network in proptest::prelude::any::<bool>(),
        sockets in proptest::prelude::any::<bool>(),
    ) {
        let world = World::in_order(&domains, &[vec![border]]);
        let collective = Collective::ALL[collective];
        let count = if collective == Collective::Barrier { 0 } else { count };
        let call = Call::new(collective, DataType::F32, Reduction::Sum, root % world.size(), count);
        let inside = if sockets { Medium::Loopback } else { Medium::Memory };
        let between = if network { Medium::Network } else { inside };
        let tuning = Tuning { chunk_bytes: Some(chunk_bytes), channels: Some(channels), windows: true, inside, between, ..Tuning::default() };
        run_all(&world, &call, &tuning);
        let forced = Tuning { algorithm: Some(Algorithm::ALL[algorithm]), ..tuning };
        if Plan::new(&world, &call, &forced).is_ok() {
            run_all(&world, &call, &forced);
        }
    }
}
