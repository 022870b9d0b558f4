//! From a call and an algorithm to lanes: every channel's share of the data, cut the way its algorithm wants it.

use super::bruck::{self, Bruck};
use super::cut::{Block, Cut};
use super::direct::Direct;
use super::halving::{self, Halving};
use super::hierarchy::Hierarchy;
use super::lane::{Lane, Track};
use super::owner::{self, Owner};
use super::pairwise::{Lots, Pairwise};
use super::ring::{self, Ring};
use super::shape::Shape;
use super::shard::{self, Slices};
use super::star::{self, Star};
use super::tree::{self, Tree};
use super::twoshot::TwoShot;
use super::{Algorithm, Flags, Medium, Tuning, World};
use crate::types::{Call, Collective};
use alloc::vec::Vec;

/// Messages (of 128 KiB) of the part of a vector that a hierarchy over a network takes through all stages before the next one, on two channels
/// together. All-reduce of 64 MiB, two hosts of two ranks over 2 Gb/s (the wire alone: 277 ms): in parts 282 ms, in one piece 295.
const PART_CHUNKS: u64 = 8;

/// The most parts of a channel: so many stages are looked through for a step.
const MOST_PARTS: u64 = 8;

/// Elements of one local copy: as many as a step can have, rounded down.
pub(super) const COPY_ELEMENTS: u64 = 1 << 30;

/// Up to so many bytes halving exchanges the whole vector at every distance: half as many exchanges, more bytes. Over sockets, where an exchange
/// costs as much as tens of kilobytes, as long as all of them together send no more than that: all-reduce of 64 KiB of four ranks on two cores
/// of a Zen 5 took 118 us in halves, and takes 73 whole.
const EXCHANGE_BYTES: u64 = 4096;
const EXCHANGE_SENT_BYTES: u64 = 128 << 10;

/// The longest vector that so many ranks exchange whole.
pub(super) fn exchange_bytes(ranks: u64, sends: bool) -> u64 {
    let levels = u64::from(ranks.next_power_of_two().trailing_zeros().max(1));
    if sends { EXCHANGE_BYTES.max(EXCHANGE_SENT_BYTES / levels) } else { EXCHANGE_BYTES }
}

/// Up to so many bytes for all others together, all-to-all puts everything before it takes anything. On two cores of a Zen 2, in phases and
/// together: 4 ranks 12 KiB 11.6 and 7.0 us, 48 KiB 26.4 and 27.5; 8 ranks 56 KiB 68 and 40.
const TOGETHER_BYTES: u64 = 64 << 10;

/// Whether it does so with blocks of that length.
pub(super) fn goes_together(block: u64, others: u64, chunk: u64) -> bool {
    block <= chunk && block.saturating_mul(others) <= TOGETHER_BYTES
}

/// What the lanes of one plan have in common.
pub(super) struct Job<'a> {
    pub(super) world: &'a World,
    pub(super) call: &'a Call,
    /// Elements of a message.
    pub(super) chunk: u64,
    /// Whether flat algorithms, and the ranks of a rail, talk over sockets.
    pub(super) sends: bool,
    /// So many bytes a rank sends before it takes anything, and two rounds of messages in any case.
    pub(super) ahead: u64,
    pub(super) channels: u32,
    /// Parts that each channel of a hierarchy does one after the other.
    pub(super) parts: u32,
}

/// A channel's share of a vector, or of every equal block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) at: u64,
    pub(super) len: u64,
}

impl Job<'_> {
    /// The ranks.
    pub(super) fn size(&self) -> u32 {
        self.world.size()
    }

    /// Elements between two borders.
    pub(super) fn unit(&self) -> u64 {
        shard::border(self.call.dtype)
    }

    /// The flags of a step that makes a final value.
    pub(super) fn finish(&self) -> Flags {
        if self.call.collective.reduces() { Flags::FINISH } else { Flags::NONE }
    }

    /// By how many rounds sending leads taking, where each round sends a chunk to so many: the next one goes before the first is taken.
    pub(super) fn rounds_ahead(&self, others: u64) -> u64 {
        let round = (self.chunk * self.call.dtype.size() as u64).saturating_mul(others);
        (self.ahead / round.max(1)).clamp(2, shard::MOST_AHEAD) - 1
    }

    pub(super) fn share(&self, channel: u32) -> Share {
        let slices = Slices::new(self.call.count, self.channels, self.unit());
        let channel = u64::from(channel);
        Share { at: slices.start(channel), len: slices.length(channel) }
    }

    /// What one channel runs; the algorithm is known to fit.
    pub(super) fn track(&self, algorithm: Algorithm, channel: u32) -> Track {
        if algorithm == Algorithm::Hierarchy && self.call.count > 0 {
            return Track::Layered(Hierarchy::new(self, self.share(channel)));
        }
        let lane = self.lane(algorithm, channel);
        if self.tours(algorithm) { Track::Toured(lane) } else { Track::Flat(lane) }
    }

    /// Whether ranks sit in the order of the tour and not in their own: where each talks to a few, and these should be near. Where halving
    /// and Bruck's algorithm move the blocks of several ranks in one message, these have to be neighbours in memory.
    fn tours(&self, algorithm: Algorithm) -> bool {
        let few = match algorithm {
            Algorithm::Ring | Algorithm::Tree => true,
            Algorithm::Halving => !self.call.collective.has_blocks(),
            Algorithm::Bruck => self.call.collective == Collective::Barrier,
            _ => false,
        };
        few && !self.world.ascends()
    }

    /// Where the root sits on the tour.
    fn root_stop(&self) -> u32 {
        self.world.stop(self.call.root)
    }

    /// The most elements that halving among so many ranks exchanges whole.
    pub(super) fn exchange_elements(&self, ranks: u32) -> u64 {
        self.chunk.min(exchange_bytes(ranks.into(), self.sends) / self.call.dtype.size() as u64)
    }

    fn lane(&self, algorithm: Algorithm, channel: u32) -> Lane {
        let call = self.call;
        let nothing = call.count == 0 && call.counts.is_none() && call.collective != Collective::Barrier;
        if nothing || (call.collective == Collective::Barrier && self.size() == 1) {
            return Lane::Nothing;
        }
        if self.size() == 1 && call.receive_counts.is_none() {
            return Lane::Alone(self.blocks(channel, COPY_ELEMENTS), self.finish());
        }
        match algorithm {
            Algorithm::OneShot => self.one_shot(channel),
            Algorithm::TwoShot => self.two_shot(channel),
            Algorithm::Ring => self.ring(channel),
            Algorithm::Star => self.star(channel),
            Algorithm::Owner => self.owner(channel),
            Algorithm::Tree => self.tree(channel),
            Algorithm::Halving => self.halving(channel),
            Algorithm::Bruck => self.bruck(),
            Algorithm::Pairwise => self.pairwise(channel),
            Algorithm::Hierarchy => Lane::Nothing,
        }
    }

    /// This channel's part of the vector, or of the blocks of all ranks.
    pub(super) fn blocks(&self, channel: u32, chunk: u64) -> Cut {
        let call = self.call;
        let Some(counts) = &call.counts else {
            let Share { at, len } = self.share(channel);
            let (input, output) = strides(call.collective);
            return Cut::equal(at, len, chunk, input * call.count, output * call.count);
        };
        Cut::grid(self.unequal_blocks(counts, channel), self.size(), chunk)
    }

    /// The same, one block a stop of the tour.
    fn blocks_on_tour(&self, channel: u32) -> Cut {
        if !self.tours(Algorithm::Ring) {
            return self.blocks(channel, self.chunk);
        }
        // A block of an equal call is what an unequal one with the same counts has.
        let counts = match &self.call.counts {
            Some(counts) => counts.clone(),
            None => alloc::vec![self.call.count; self.size() as usize],
        };
        let blocks = self.unequal_blocks(&counts, channel);
        let order = (0..self.size()).filter_map(|stop| self.world.at_stop(stop));
        Cut::grid(order.map(|rank| blocks[rank as usize]).collect(), self.size(), self.chunk)
    }

    fn unequal_blocks(&self, counts: &[u64], channel: u32) -> Vec<Block> {
        let (input, output) = strides(self.call.collective);
        let mut start = 0;
        let block = |&count: &u64| {
            let slices = Slices::new(count, self.channels, self.unit());
            let at = slices.start(u64::from(channel));
            let len = slices.length(u64::from(channel));
            let block = Block { input: input * start + at, output: output * start + at, len };
            start += count;
            block
        };
        counts.iter().map(block).collect()
    }

    fn one_shot(&self, channel: u32) -> Lane {
        let cut = || self.blocks(channel, self.chunk);
        Lane::Direct(match self.call.collective {
            Collective::AllReduce => Direct::Reduce(cut(), self.finish()),
            Collective::AllGather => {
                Direct::Gather(cut().ahead(self.rounds_ahead(u64::from(self.size() - 1))), self.size())
            }
            Collective::Broadcast => Direct::Spread(cut(), self.call.root),
            _ => Direct::Meet,
        })
    }

    fn two_shot(&self, channel: u32) -> Lane {
        let share = self.call.collective == Collective::AllReduce;
        let cut = if share {
            let part = self.share(channel);
            Cut::rounds(part.at, part.len, self.chunk, self.size(), self.unit())
        } else {
            self.blocks(channel, self.chunk)
        };
        let cut = cut.ahead(self.rounds_ahead(if share { 1 } else { u64::from(self.size() - 1) }));
        Lane::TwoShot(TwoShot { cut, owners: self.size(), share, finish: self.finish() })
    }

    fn ring(&self, channel: u32) -> Lane {
        let (way, cut) = match self.call.collective {
            Collective::AllReduce => {
                let part = self.share(channel);
                let round = self.chunk * u64::from(self.size());
                (ring::Way::AllReduce, Cut::rounds(part.at, part.len, round, self.size(), self.unit()))
            }
            Collective::AllGather => (ring::Way::AllGather, self.blocks_on_tour(channel)),
            Collective::ReduceScatter => (ring::Way::ReduceScatter, self.blocks_on_tour(channel)),
            Collective::Broadcast => (ring::Way::Broadcast(self.root_stop()), self.blocks(channel, self.chunk)),
            _ => (ring::Way::Reduce(self.root_stop()), self.blocks(channel, self.chunk)),
        };
        Lane::Ring(Ring { way, cut, finish: self.finish() })
    }

    fn owner(&self, channel: u32) -> Lane {
        let chunk = self.chunk * shard::WINDOW_CHUNKS;
        let blocks = || self.blocks(channel, chunk);
        let (way, cut) = match self.call.collective {
            Collective::AllReduce => {
                let part = self.share(channel);
                (owner::Way::AllReduce, Cut::slices(part.at, part.len, self.size(), chunk, self.unit()))
            }
            Collective::ReduceScatter => (owner::Way::ReduceScatter, blocks()),
            Collective::AllGather => (owner::Way::AllGather, blocks()),
            Collective::Broadcast => (owner::Way::Broadcast(self.call.root), blocks()),
            _ => (owner::Way::AllToAll, blocks()),
        };
        Lane::Owner(Owner { way, cut, finish: self.finish() })
    }

    fn tree(&self, channel: u32) -> Lane {
        let way = match self.call.collective {
            Collective::AllReduce => tree::Way::AllReduce,
            Collective::Reduce => tree::Way::Reduce,
            _ => tree::Way::Broadcast,
        };
        Lane::Tree(Tree {
            way,
            shape: Shape { mirrored: channel % 2 == 1, root: self.root_stop(), nest: self.world.borders_of_stops() },
            cut: self.blocks(channel, self.chunk),
            scratch_at: u64::from(channel) * self.chunk,
            finish: self.finish(),
        })
    }

    fn halving(&self, channel: u32) -> Lane {
        let (size, count, finish) = (self.size(), self.call.count, self.finish());
        let halving = match self.call.collective {
            Collective::AllReduce => {
                let part = self.share(channel);
                let exchange = part.len <= self.exchange_elements(size);
                Halving::vector(size, part.at, part.len, self.unit(), self.chunk, exchange, finish)
            }
            Collective::ReduceScatter => Halving::blocks(halving::Way::ReduceScatter, size, count, self.chunk, finish),
            _ => Halving::blocks(halving::Way::AllGather, size, count, self.chunk, finish),
        };
        Lane::Halving(if self.ahead > 0 { halving.ahead(self.rounds_ahead(1)) } else { halving })
    }

    fn bruck(&self) -> Lane {
        let way = match self.call.collective {
            Collective::Barrier => return Lane::Barrier,
            Collective::ReduceScatter => bruck::Way::ReduceScatter,
            _ => bruck::Way::AllGather,
        };
        Lane::Bruck(Bruck::new(way, self.size(), self.call.count, self.chunk, self.finish()))
    }

    fn pairwise(&self, channel: u32) -> Lane {
        let call = self.call;
        let (Some(send), Some(receive)) = (&call.counts, &call.receive_counts) else {
            let Share { at, len } = self.share(channel);
            let bytes = |elements: u64| elements.saturating_mul(call.dtype.size() as u64);
            let together = goes_together(bytes(len), u64::from(self.size() - 1), bytes(self.chunk));
            return Lane::Pairwise(Pairwise::Equal { at, len, count: call.count, chunk: self.chunk, together });
        };
        let lots = |counts: &[u64]| {
            let mut start = 0;
            let blocks = counts.iter().map(|&count| {
                let slices = Slices::new(count, self.channels, self.unit());
                let block = (start + slices.start(u64::from(channel)), slices.length(u64::from(channel)));
                start += count;
                block
            });
            Lots::new(blocks.collect(), self.chunk)
        };
        Lane::Pairwise(Pairwise::Unequal { send: lots(send), receive: lots(receive), chunk: self.chunk })
    }

    fn star(&self, channel: u32) -> Lane {
        let way = match self.call.collective {
            Collective::Reduce => star::Way::Reduce,
            Collective::Gather => star::Way::Gather,
            _ => star::Way::Scatter,
        };
        let cut = self.blocks(channel, self.chunk);
        Lane::Star(Star { way, root: self.call.root, cut, finish: self.finish() })
    }
}

/// How many channels a plan has.
pub(super) fn channels(algorithm: Algorithm, call: &Call, tuning: &Tuning, parts: u32) -> u32 {
    let ranges_of_blocks =
        algorithm == Algorithm::Bruck || algorithm == Algorithm::Halving && call.collective.has_blocks();
    match tuning.channels {
        // Where windows turn out to be out of reach, all that is under way begins anew: that is one channel.
        _ if call.collective == Collective::Barrier || ranges_of_blocks || algorithm == Algorithm::Owner => 1,
        Some(channels) => channels,
        None if algorithm == Algorithm::Tree || parts > 1 => 2,
        None => 1,
    }
}

/// How many parts each channel of a hierarchy does: several where the domains are hosts, and the vector is long.
pub(super) fn parts(algorithm: Algorithm, call: &Call, tuning: &Tuning, size: u32, chunk: u64) -> u32 {
    if algorithm != Algorithm::Hierarchy || tuning.between == Medium::Memory {
        return 1;
    }
    let blocks = if call.collective.has_blocks() { u64::from(size) } else { 1 };
    (call.count.saturating_mul(blocks) / (PART_CHUNKS * chunk.max(1))).clamp(1, MOST_PARTS) as u32
}

/// Whether the blocks of the input, and of the output, follow each other (1) or there is one only (0).
fn strides(collective: Collective) -> (u64, u64) {
    match collective {
        Collective::AllGather | Collective::Gather => (0, 1),
        Collective::ReduceScatter | Collective::Scatter => (1, 0),
        Collective::AllToAll => (1, 1),
        Collective::AllReduce | Collective::Broadcast | Collective::Reduce | Collective::Barrier => (0, 0),
    }
}
