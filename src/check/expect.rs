//! What a call must have done: the lengths of its buffers, how they overlap in place, and what every element of every output holds.

use super::memory::{Layout, Memory};
use super::program::Program;
use super::value::{Arithmetic, Kind, Value, fingerprint};
use super::verdict::{Violation, Where, Wrong};
use crate::plan::Space;
use crate::types::{Call, Collective};
use alloc::vec::Vec;

/// A range of an output and what belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    at: u64,
    len: u64,
    what: What,
}

/// What belongs in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Elements of that rank's input, from there on.
    Copy(u32, u64),
    /// The reduction of all ranks' elements, from there on.
    Reduced(u64),
}

/// The call of all ranks.
pub(super) struct Expect<'a, P> {
    program: &'a P,
    ranks: u32,
    in_place: bool,
    /// Where each rank's block begins, and the end of the last. Empty for an unequal all-to-all.
    starts: Vec<u64>,
}

fn at_program(wrong: Wrong) -> Violation {
    Violation { place: Where::Program, step: None, wrong }
}

impl<'a, P: Program> Expect<'a, P> {
    /// Reads the calls of all ranks.
    pub fn new(program: &'a P, in_place: bool) -> Result<Expect<'a, P>, Violation> {
        let ranks = program.world().size();
        let call = program.call(0);
        if call.collective.has_root() && call.root >= ranks {
            return Err(at_program(Wrong::Call("the root is not a rank")));
        }
        if call.collective == Collective::AllToAll && in_place {
            return Err(at_program(Wrong::Call("an all-to-all is never in place")));
        }
        let unequal = call.counts.is_some() && call.collective == Collective::AllToAll;
        if !unequal && (1..ranks).any(|rank| program.call(rank) != call) {
            return Err(at_program(Wrong::Call("ranks make different calls")));
        }
        for rank in 0..if unequal { ranks } else { 1 } {
            let call = program.call(rank);
            for counts in [&call.counts, &call.receive_counts].into_iter().flatten() {
                if counts.len() != ranks as usize {
                    return Err(at_program(Wrong::Call("a count list has not one count a rank")));
                }
            }
        }
        let mut expect = Expect { program, ranks, in_place, starts: Vec::new() };
        if unequal {
            expect.check_exchange()?;
        } else {
            expect.starts.push(0);
            for rank in 0..ranks {
                let len = call.counts.as_ref().map_or(call.count, |counts| counts[rank as usize]);
                let Some(end) = expect.starts[rank as usize].checked_add(len) else {
                    return Err(at_program(Wrong::Call("the blocks are longer than can be counted")));
                };
                expect.starts.push(end);
            }
        }
        Ok(expect)
    }

    /// What one rank sends another is what that one receives from it.
    fn check_exchange(&self) -> Result<(), Violation> {
        for rank in 0..self.ranks {
            for peer in 0..self.ranks {
                if self.sends(rank, peer) != self.receives(peer, rank) {
                    return Err(at_program(Wrong::Call("what one rank sends is not what the other receives")));
                }
            }
        }
        Ok(())
    }

    fn call(&self) -> &Call {
        self.program.call(0)
    }

    /// All-to-all: what a rank sends to a peer.
    fn sends(&self, rank: u32, peer: u32) -> u64 {
        let call = self.program.call(rank);
        call.counts.as_ref().map_or(call.count, |counts| counts[peer as usize])
    }

    /// All-to-all: what a rank receives from a peer.
    fn receives(&self, rank: u32, peer: u32) -> u64 {
        let call = self.program.call(rank);
        call.receive_counts.as_ref().map_or_else(|| self.sends(peer, rank), |counts| counts[peer as usize])
    }

    fn start(&self, rank: u32) -> u64 {
        self.starts[rank as usize]
    }

    fn block(&self, rank: u32) -> u64 {
        self.start(rank + 1) - self.start(rank)
    }

    /// Elements of all blocks.
    fn total(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The lengths of input and output; nothing where the call leaves it open.
    fn lens(&self, rank: u32) -> (Option<u64>, u64) {
        let (call, root) = (self.call(), self.call().root == rank);
        let at_root = |len: u64| if root { len } else { 0 };
        match call.collective {
            Collective::AllReduce => (Some(call.count), call.count),
            Collective::AllGather => (Some(self.block(rank)), self.total()),
            Collective::ReduceScatter => (Some(self.total()), self.block(rank)),
            Collective::Broadcast if root => (Some(call.count), call.count),
            Collective::Broadcast => (None, call.count),
            Collective::Reduce => (Some(call.count), at_root(call.count)),
            Collective::Gather => (Some(self.block(rank)), at_root(self.total())),
            Collective::Scatter if root => (Some(self.total()), self.block(rank)),
            Collective::Scatter => (None, self.block(rank)),
            Collective::AllToAll => {
                let sum = |count: &dyn Fn(u32) -> u64| (0..self.ranks).map(count).fold(0, u64::saturating_add);
                (Some(sum(&|peer| self.sends(rank, peer))), sum(&|peer| self.receives(rank, peer)))
            }
            Collective::Barrier => (Some(0), 0),
        }
    }

    /// Lengths and overlap of one rank's buffers.
    pub fn layout(&self, rank: u32) -> Result<Layout, Violation> {
        let program = self.program;
        let (input, output) = self.lens(rank);
        let checks = [
            (Space::Input, program.input_len(rank), input.unwrap_or(program.input_len(rank))),
            (Space::Output, program.output_len(rank), output),
        ];
        for (space, has, needs) in checks {
            if has != needs {
                return Err(at_program(Wrong::Length { rank, space, has, needs }));
            }
        }
        let (input_len, output_len, scratch_len) =
            (program.input_len(rank), program.output_len(rank), program.scratch_len(rank));
        let apart = Layout { input_len, output_len, scratch_len, input_at: None, output_at: 0 };
        if !self.in_place {
            return Ok(apart);
        }
        let root = self.call().root == rank;
        Ok(match self.call().collective {
            Collective::AllReduce => Layout { input_at: Some(0), ..apart },
            Collective::Broadcast | Collective::Reduce if root => Layout { input_at: Some(0), ..apart },
            Collective::AllGather => Layout { input_at: Some(self.start(rank)), ..apart },
            Collective::Gather if root => Layout { input_at: Some(self.start(rank)), ..apart },
            Collective::ReduceScatter => Layout { input_at: Some(0), output_at: self.start(rank), ..apart },
            Collective::Scatter if root => Layout { input_at: Some(0), output_at: self.start(rank), ..apart },
            _ => apart,
        })
    }

    /// What belongs in the output of each rank, one rank after the other.
    fn each_range(&self, mut each: impl FnMut(u32, Range) -> Result<(), Violation>) -> Result<(), Violation> {
        let call = self.call();
        let mut sent = alloc::vec![0u64; if call.collective == Collective::AllToAll { self.ranks as usize } else { 0 }];
        for rank in 0..self.ranks {
            let (_, len) = self.lens(rank);
            match call.collective {
                Collective::AllReduce => each(rank, Range { at: 0, len, what: What::Reduced(0) })?,
                Collective::Reduce => each(rank, Range { at: 0, len, what: What::Reduced(0) })?,
                Collective::ReduceScatter => each(rank, Range { at: 0, len, what: What::Reduced(self.start(rank)) })?,
                Collective::Broadcast => each(rank, Range { at: 0, len, what: What::Copy(call.root, 0) })?,
                Collective::Scatter => each(rank, Range { at: 0, len, what: What::Copy(call.root, self.start(rank)) })?,
                Collective::AllGather | Collective::Gather if len > 0 => {
                    for from in 0..self.ranks {
                        let what = What::Copy(from, 0);
                        each(rank, Range { at: self.start(from), len: self.block(from), what })?;
                    }
                }
                Collective::AllToAll => {
                    let mut at = 0;
                    for from in 0..self.ranks {
                        let len = self.sends(from, rank);
                        each(rank, Range { at, len, what: What::Copy(from, sent[from as usize]) })?;
                        sent[from as usize] += len;
                        at += len;
                    }
                }
                Collective::AllGather | Collective::Gather | Collective::Barrier => {}
            }
        }
        Ok(())
    }

    /// Compares all outputs.
    pub fn check(&self, memories: &[Memory], arithmetic: Arithmetic, reproducible: bool) -> Result<(), Violation> {
        let mut sums = Sums::new(self.ranks, arithmetic, reproducible);
        self.each_range(|rank, range| {
            let memory = &memories[rank as usize];
            for i in 0..range.len {
                let value = memory.output(range.at + i);
                let element = range.at + i;
                let found = match range.what {
                    What::Copy(from, start) => self.check_copy(value, element, (from, start + i)),
                    What::Reduced(start) => sums.check(rank, value, element, start + i),
                };
                found.map_err(|wrong| Violation { place: Where::Rank(rank), step: None, wrong })?;
            }
            Ok(())
        })
    }

    fn check_copy(&self, value: Value, element: u64, wants: (u32, u64)) -> Result<(), Wrong> {
        if value.kind == Kind::Unset {
            return Err(Wrong::NotWritten { element });
        }
        let print = fingerprint(wants.0, wants.1);
        if value.count == 1 && value.sum == print && value.order == print {
            return Ok(());
        }
        Err(Wrong::WrongElement { element, wants, has: self.whose(value) })
    }

    /// Looks a fingerprint up, for the message; not where that would take long.
    fn whose(&self, value: Value) -> Option<(u32, u64)> {
        const MOST: u64 = 1 << 22;
        let mut tried = 0;
        for rank in 0..self.ranks {
            let len = self.program.input_len(rank);
            tried += len;
            if tried > MOST {
                return None;
            }
            if let Some(at) = (0..len).find(|&at| fingerprint(rank, at) == value.sum) {
                return Some((rank, at));
            }
        }
        None
    }
}

/// What the elements of a reduction must be, made as they are asked for.
struct Sums {
    ranks: u32,
    arithmetic: Arithmetic,
    reproducible: bool,
    known: Vec<Known>,
}

/// One element: the right sum, the order that was met first, and on which rank.
#[derive(Clone, Copy)]
struct Known {
    sum: u64,
    order: u64,
    on: Option<u32>,
}

impl Sums {
    fn new(ranks: u32, arithmetic: Arithmetic, reproducible: bool) -> Sums {
        Sums { ranks, arithmetic, reproducible, known: Vec::new() }
    }

    fn known(&mut self, at: u64) -> &mut Known {
        while self.known.len() as u64 <= at {
            let next = self.known.len() as u64;
            let sum = (0..self.ranks).fold(0u64, |sum, rank| sum.wrapping_add(fingerprint(rank, next)));
            self.known.push(Known { sum, order: 0, on: None });
        }
        &mut self.known[at as usize]
    }

    fn check(&mut self, rank: u32, value: Value, element: u64, at: u64) -> Result<(), Wrong> {
        let (ranks, arithmetic, reproducible) = (self.ranks, self.arithmetic, self.reproducible);
        let known = self.known(at);
        if value.kind == Kind::Unset {
            return Err(Wrong::NotWritten { element });
        }
        if value.count != ranks || value.sum != known.sum {
            let suspect = suspect(ranks, value, known.sum, at);
            return Err(Wrong::WrongContributions { element, count: value.count, suspect });
        }
        if value.kind != Kind::Final {
            return Err(Wrong::NotFinished { element });
        }
        if let Some(from) = known.on {
            return if value.order == known.order { Ok(()) } else { Err(Wrong::OrderDiffers { element, from }) };
        }
        (known.order, known.on) = (value.order, Some(rank));
        if reproducible && value.order != arithmetic.left_fold(ranks, at) {
            return Err(Wrong::NotLeftFold { element });
        }
        Ok(())
    }
}

/// The one rank whose contribution is missing (false) or there twice (true), if that explains the sum.
fn suspect(ranks: u32, value: Value, sum: u64, at: u64) -> Option<(u32, bool)> {
    let missing = (0..ranks).find(|&rank| value.sum.wrapping_add(fingerprint(rank, at)) == sum);
    let twice = || (0..ranks).find(|&rank| sum.wrapping_add(fingerprint(rank, at)) == value.sum);
    missing.map(|rank| (rank, false)).or_else(|| twice().map(|rank| (rank, true)))
}
