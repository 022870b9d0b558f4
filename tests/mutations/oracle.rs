//! A second interpreter, slow and obvious, that shares nothing with the prover: whole expressions in place of fingerprints, hash maps in
//! place of arrays, ranks drawn by chance in place of a queue, the set of all earlier steps of each step in place of clocks.

use ringtree::check::Listed;
use ringtree::plan::{Flags, Group, MIN_SLOTS, Put, Space, Step, Take};
use ringtree::types::Collective;
use std::collections::{HashMap, HashSet, VecDeque};

/// An expression: an input element, two expressions combined, or one finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    Leaf { rank: u32, at: u64 },
    Join(usize, usize),
    Finished(usize),
}

/// Gives equal expressions equal numbers.
#[derive(Default)]
pub struct Expressions {
    numbers: HashMap<Node, usize>,
    nodes: Vec<Node>,
}

impl Expressions {
    fn number(&mut self, node: Node) -> usize {
        let nodes = &mut self.nodes;
        *self.numbers.entry(node).or_insert_with(|| {
            nodes.push(node);
            nodes.len() - 1
        })
    }

    /// The ranks and elements in an expression, from left to right, and how often it was finished.
    pub fn leaves(&self, number: usize) -> (Vec<(u32, u64)>, u32) {
        match self.nodes[number] {
            Node::Leaf { rank, at } => (vec![(rank, at)], 0),
            Node::Finished(of) => {
                let (leaves, finished) = self.leaves(of);
                (leaves, finished + 1)
            }
            Node::Join(left, right) => {
                let (mut leaves, finished) = self.leaves(left);
                let (more, also) = self.leaves(right);
                leaves.extend(more);
                (leaves, finished + also)
            }
        }
    }
}

/// Which link: writer, reader (of a pair) or group (of a board), channel.
type LinkKey = (u32, Result<u32, Group>, usize);

/// Which element: whose memory, the user's (true) or the executor's, and where.
type CellKey = (u32, bool, u64);

/// A message, who has still to give it back, the step that published it, and whether it tells places.
struct Message {
    values: Vec<usize>,
    readers: usize,
    by: usize,
    places: bool,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    dropped: usize,
    /// Of each message that was given back: the steps that did.
    released: Vec<Vec<usize>>,
    filling: Option<Vec<usize>>,
    /// Of each reader: messages taken, and what is left of the one in hand.
    readers: HashMap<u32, (usize, Option<VecDeque<usize>>)>,
}

/// What each rank's output holds at the end: numbers of expressions.
pub type Outputs = Vec<Vec<Option<usize>>>;

struct Run<'a> {
    program: &'a Listed,
    expressions: &'a mut Expressions,
    /// Of each rank: where input and output begin in its memory, the memory, the scratch memory.
    places: Vec<(usize, usize)>,
    user: Vec<Vec<Option<usize>>>,
    scratch: Vec<Vec<Option<usize>>>,
    links: HashMap<LinkKey, Queue>,
    events: Events,
    /// Of each rank and channel, the owners whose places have come.
    opened: HashSet<(u32, usize, u32)>,
}

/// What was done so far, step by step.
#[derive(Default)]
struct Events {
    /// Of each step: those that are certain to come before it.
    before: Vec<HashSet<usize>>,
    rank: Vec<u32>,
    last: HashMap<(u32, usize), usize>,
    /// Of each element of each memory: the step, which of its elements, and whether it was written.
    accesses: HashMap<CellKey, Vec<(usize, u64, bool)>>,
    /// Uses of other ranks' memory: the owner and the step.
    far: Vec<(u32, usize)>,
}

impl Events {
    fn begin(&mut self, rank: u32, channel: usize) {
        let event = self.before.len();
        let mut before = HashSet::new();
        if let Some(last) = self.last.insert((rank, channel), event) {
            before.extend(self.before[last].iter().copied());
            before.insert(last);
        }
        self.before.push(before);
        self.rank.push(rank);
    }

    fn now(&self) -> usize {
        self.before.len() - 1
    }

    fn after(&mut self, other: usize) {
        let more = self.before[other].clone();
        let before = &mut self.before[self.rank.len() - 1];
        before.extend(more);
        before.insert(other);
    }

    fn touch(&mut self, cell: CellKey, i: u64, write: bool) -> Result<(), String> {
        let now = self.now();
        let before = &self.before[now];
        let accesses = self.accesses.entry(cell).or_default();
        let clash = |(event, element, wrote): &(usize, u64, bool)| {
            (write || *wrote) && if *event == now { *element != i } else { !before.contains(event) }
        };
        if accesses.iter().any(clash) {
            return Err("a race".into());
        }
        accesses.push((now, i, write));
        Ok(())
    }

    /// Whether a rank's last steps come after that one.
    fn ends_after(&self, rank: u32, event: usize) -> bool {
        let own = self.last.iter().filter(|((owner, _), _)| *owner == rank);
        own.into_iter().any(|(_, last)| *last == event || self.before[*last].contains(&event))
    }
}

/// Runs the program with ranks drawn by chance; the outputs, or what went wrong.
pub fn run(program: &Listed, in_place: bool, expressions: &mut Expressions, mut seed: u64) -> Result<Outputs, String> {
    let n = program.lens.len();
    let places: Vec<_> = (0..n).map(|rank| places(program, rank, in_place)).collect();
    let user = (0..n).map(|rank| memory(program, rank, places[rank], expressions)).collect();
    let scratch = program.lens.iter().map(|lens| vec![None; lens[2] as usize]).collect();
    let (links, events, opened) = (HashMap::new(), Events::default(), HashSet::new());
    let mut run = Run { program, expressions, places, user, scratch, links, events, opened };
    let channels = program.steps[0].len();
    let mut next = vec![0usize; n * channels];
    let mut waiting: Vec<usize> = (0..n * channels).collect();
    while !waiting.is_empty() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let first = (seed >> 33) as usize % waiting.len();
        waiting.rotate_left(first);
        let mut went = None;
        for (i, &worker) in waiting.iter().enumerate() {
            let (rank, channel) = (worker / channels, worker % channels);
            match program.steps[rank][channel].get(next[worker]) {
                None => went = Some((i, true)),
                Some(step) if run.can_go(rank as u32, channel, step) => {
                    run.go(rank as u32, channel, step)?;
                    next[worker] += 1;
                    went = Some((i, false));
                }
                Some(_) => continue,
            }
            break;
        }
        match went {
            None => return Err("deadlock".into()),
            Some((i, true)) => drop(waiting.remove(i)),
            Some((_, false)) => {}
        }
    }
    run.finish()
}

/// Where input and output of a rank begin; apart, the input comes behind the output.
fn places(program: &Listed, rank: usize, in_place: bool) -> (usize, usize) {
    let call = &program.calls[rank];
    let output = program.lens[rank][1];
    let block = |rank: usize| call.counts.as_ref().map_or(call.count, |counts| counts[rank]);
    let start = (0..rank).map(block).sum::<u64>() as usize;
    let root = call.root as usize == rank;
    match call.collective {
        Collective::AllReduce if in_place => (0, 0),
        Collective::Broadcast | Collective::Reduce if in_place && root => (0, 0),
        Collective::AllGather if in_place => (start, 0),
        Collective::Gather if in_place && root => (start, 0),
        Collective::ReduceScatter if in_place => (0, start),
        Collective::Scatter if in_place && root => (0, start),
        _ => (output as usize, 0),
    }
}

fn memory(
    program: &Listed,
    rank: usize,
    (input_at, output_at): (usize, usize),
    expressions: &mut Expressions,
) -> Vec<Option<usize>> {
    let [input, output, _] = program.lens[rank].map(|len| len as usize);
    let mut memory = vec![None; (input_at + input).max(output_at + output)];
    for at in 0..input {
        memory[input_at + at] = Some(expressions.number(Node::Leaf { rank: rank as u32, at: at as u64 }));
    }
    memory
}

impl Run<'_> {
    fn others(&self, rank: u32, group: Group) -> Vec<u32> {
        self.program.world.members(group, rank).iter().filter(|other| *other != rank).collect()
    }

    /// The links that a step takes from, with their writers.
    fn taken(&self, rank: u32, channel: usize, step: &Step) -> Vec<LinkKey> {
        let pair = |from| (from, Ok(rank), channel);
        let board = |from| (from, Err(step.group()), channel);
        match step.take {
            Take::Pair => vec![pair(step.from)],
            Take::Board => vec![board(step.from)],
            Take::FoldPairs => self.others(rank, step.group()).into_iter().map(pair).collect(),
            Take::FoldBoards => self.others(rank, step.group()).into_iter().map(board).collect(),
            Take::Nothing | Take::Window | Take::FoldWindows => Vec::new(),
        }
    }

    fn filled(&self, rank: u32, channel: usize, step: &Step) -> Option<LinkKey> {
        match step.put {
            Put::Pair => Some((rank, Ok(step.to), channel)),
            Put::Board => Some((rank, Err(step.group()), channel)),
            Put::Nothing | Put::Windows => None,
        }
    }

    fn can_go(&mut self, rank: u32, channel: usize, step: &Step) -> bool {
        let mut can = true;
        if step.flags.has(Flags::AWAIT) {
            for key in self.taken(rank, channel, step) {
                let queue = self.links.entry(key).or_default();
                let taken = queue.readers.entry(rank).or_default().0;
                can &= taken < queue.dropped + queue.messages.len();
            }
        }
        if step.flags.has(Flags::CREDIT)
            && let Some(key) = self.filled(rank, channel, step)
        {
            can &= self.links.entry(key).or_default().messages.len() < MIN_SLOTS as usize;
        }
        can
    }

    /// The place of an element: in which memory (the user's: true), and where.
    fn place(&self, rank: u32, space: Space, at: u64) -> (bool, u64) {
        let (input, output) = self.places[rank as usize];
        match space {
            Space::Input => (true, input as u64 + at),
            Space::Output => (true, output as u64 + at),
            Space::Scratch | Space::Nothing => (false, at),
        }
    }

    fn cell(&mut self, rank: u32, space: Space, at: u64) -> Result<&mut Option<usize>, String> {
        let len = match space {
            Space::Nothing => 0,
            space => self.program.lens[rank as usize][space as usize - 1],
        };
        if at >= len {
            return Err("out of bounds".into());
        }
        let (user, at) = self.place(rank, space, at);
        let memory = if user { &mut self.user[rank as usize] } else { &mut self.scratch[rank as usize] };
        Ok(&mut memory[at as usize])
    }

    /// Notes an access of a step of that rank and channel, and whether the owner's memory may be used.
    fn touch(
        &mut self,
        by: (u32, usize),
        owner: u32,
        space: Space,
        at: u64,
        i: u64,
        write: bool,
    ) -> Result<(), String> {
        if owner != by.0 {
            if !self.opened.contains(&(by.0, by.1, owner)) {
                return Err("a closed window".into());
            }
            self.events.far.push((owner, self.events.now()));
        }
        let (user, at) = self.place(owner, space, at);
        self.events.touch((owner, user, at), i, write)
    }

    fn load(&mut self, by: (u32, usize), owner: u32, space: Space, at: u64, len: u32) -> Result<Vec<usize>, String> {
        let mut values = Vec::new();
        for i in 0..u64::from(len) {
            values.push((*self.cell(owner, space, at + i)?).ok_or("read of nothing")?);
            self.touch(by, owner, space, at + i, i, false)?;
        }
        Ok(values)
    }

    fn message(&mut self, key: LinkKey, rank: u32, len: u32) -> Result<Vec<usize>, String> {
        let (_, hand) = self.links.entry(key).or_default().readers.entry(rank).or_default();
        let hand = hand.as_mut().ok_or("no message in hand")?;
        if hand.len() < len as usize {
            return Err("a message too short".into());
        }
        Ok(hand.drain(..len as usize).collect())
    }

    fn go(&mut self, rank: u32, channel: usize, step: &Step) -> Result<(), String> {
        let taken = self.taken(rank, channel, step);
        self.events.begin(rank, channel);
        if step.flags.has(Flags::AWAIT) {
            for key in &taken {
                let queue = self.links.entry(*key).or_default();
                let (count, hand) = queue.readers.entry(rank).or_default();
                if hand.is_some() {
                    return Err("a second message in hand".into());
                }
                let message = &queue.messages[*count - queue.dropped];
                *hand = Some(message.values.iter().copied().collect());
                *count += 1;
                self.events.after(message.by);
                if message.places {
                    self.opened.insert((rank, channel, key.0));
                }
            }
        }
        let mut operands: Vec<Vec<usize>> = Vec::new();
        let own = match step.src() {
            Space::Nothing => None,
            space => Some(self.load((rank, channel), rank, space, step.src_at, step.len)?),
        };
        match step.take {
            Take::Nothing => operands.extend(own),
            Take::Pair | Take::Board | Take::Window => {
                let other = match taken.first() {
                    Some(key) => self.message(*key, rank, step.len)?,
                    None => self.load((rank, channel), step.from, Space::Input, step.src_at, step.len)?,
                };
                operands.extend(own);
                let at = if step.flags.has(Flags::MESSAGE_FIRST) { 0 } else { operands.len() };
                operands.insert(at, other);
            }
            Take::FoldPairs | Take::FoldBoards | Take::FoldWindows => {
                let mut ranked: Vec<(u32, Vec<usize>)> = own.into_iter().map(|own| (rank, own)).collect();
                for key in &taken {
                    ranked.push((key.0, self.message(*key, rank, step.len)?));
                }
                if step.take == Take::FoldWindows {
                    for other in self.others(rank, step.group()) {
                        ranked.push((other, self.load((rank, channel), other, Space::Input, step.src_at, step.len)?));
                    }
                }
                ranked.sort_by_key(|(rank, _)| *rank);
                operands.extend(ranked.into_iter().map(|(_, values)| values));
            }
        }
        let values = self.combine(operands, step.flags.has(Flags::FINISH));
        self.store(rank, channel, step, &values)?;
        if step.flags.has(Flags::RELEASE) {
            self.give_back(rank, &taken)?;
        }
        Ok(())
    }

    fn combine(&mut self, operands: Vec<Vec<usize>>, finish: bool) -> Vec<usize> {
        let mut operands = operands.into_iter();
        let mut values = operands.next().unwrap_or_default();
        for operand in operands {
            for (value, right) in values.iter_mut().zip(operand) {
                *value = self.expressions.number(Node::Join(*value, right));
            }
        }
        if finish {
            values.iter_mut().for_each(|value| *value = self.expressions.number(Node::Finished(*value)));
        }
        values
    }

    fn store(&mut self, rank: u32, channel: usize, step: &Step, values: &[usize]) -> Result<(), String> {
        let mut sinks = Vec::new();
        let itself = step.take == Take::Nothing
            && !self.program.calls[0].collective.reduces()
            && step.src() != Space::Nothing
            && self.place(rank, step.src(), step.src_at) == self.place(rank, step.dst(), step.dst_at);
        if step.dst() != Space::Nothing && !itself {
            sinks.push((rank, step.dst()));
        }
        if step.put == Put::Windows {
            sinks.extend(self.others(rank, step.group()).into_iter().map(|other| (other, Space::Output)));
        }
        for (owner, space) in sinks {
            for (i, value) in (0..).zip(values) {
                *self.cell(owner, space, step.dst_at + i)? = Some(*value);
                self.touch((rank, channel), owner, space, step.dst_at + i, i, true)?;
            }
        }
        let Some(key) = self.filled(rank, channel, step) else { return Ok(()) };
        let readers = if key.1.is_ok() { 1 } else { self.others(rank, step.group()).len() };
        let queue = self.links.entry(key).or_default();
        if step.flags.has(Flags::CREDIT) {
            let number = queue.dropped + queue.messages.len();
            for event in number.checked_sub(MIN_SLOTS as usize).map_or(&[][..], |reused| &queue.released[reused]) {
                self.events.after(*event);
            }
            if queue.filling.replace(Vec::new()).is_some() {
                return Err("a second slot".into());
            }
        }
        queue.filling.as_mut().ok_or("no slot")?.extend_from_slice(values);
        if step.flags.has(Flags::SIGNAL) {
            let values = queue.filling.take().ok_or("no slot")?;
            if readers > 0 {
                let (by, places) = (self.events.now(), step.flags.has(Flags::PLACES));
                queue.messages.push_back(Message { values, readers, by, places });
                queue.released.push(Vec::new());
            }
        }
        Ok(())
    }

    fn give_back(&mut self, rank: u32, taken: &[LinkKey]) -> Result<(), String> {
        for key in taken {
            let queue = self.links.entry(*key).or_default();
            let (count, hand) = queue.readers.entry(rank).or_default();
            if hand.take().is_none_or(|rest| !rest.is_empty()) {
                return Err("nothing whole to give back".into());
            }
            let place = *count - 1 - queue.dropped;
            queue.messages[place].readers -= 1;
            queue.released[*count - 1].push(self.events.now());
            while queue.messages.front().is_some_and(|message| message.readers == 0) {
                queue.messages.pop_front();
                queue.dropped += 1;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Outputs, String> {
        for queue in self.links.values() {
            let in_hand = queue.readers.values().any(|(_, hand)| hand.is_some());
            if in_hand || queue.filling.is_some() || !queue.messages.is_empty() {
                return Err("something is left on a link".into());
            }
        }
        if self.events.far.iter().any(|(owner, event)| !self.events.ends_after(*owner, *event)) {
            return Err("memory is used after its owner's end".into());
        }
        let ranks = 0..self.program.lens.len() as u32;
        let enters = |rank: u32, other: u32| {
            let mut events = 0..self.events.rank.len();
            rank == other || events.any(|event| self.events.rank[event] == other && self.events.ends_after(rank, event))
        };
        let barrier = self.program.calls[0].collective == Collective::Barrier;
        if barrier && ranks.clone().any(|rank| ranks.clone().any(|other| !enters(rank, other))) {
            return Err("a rank leaves the barrier early".into());
        }
        let lens = self.program.lens.iter().zip(&self.places).zip(&self.user);
        Ok(lens.map(|((lens, place), user)| user[place.1..place.1 + lens[1] as usize].to_vec()).collect())
    }
}
