//! Which elements each message carries: a channel's share of the vector, cut into rounds of one piece a member.

use super::shard::{Slices, divide};
use alloc::vec::Vec;

/// Elements that travel together: where they lie in the input and in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) len: u32,
}

/// One member's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) len: u64,
}

/// Rounds of pieces. Every member counts the same rounds; a piece may be empty.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    rounds: u64,
    /// By how many rounds sending leads taking: less than a link has slots.
    ahead: u64,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// A vector in rounds of consecutive elements, each round sliced: what is worked on at one time lies together.
    Rounds { at: u64, round: u64, full: Slices, last: Slices },
    /// Blocks of equal length.
    Equal { at: u64, len: u64, chunk: u64, input_stride: u64, output_stride: u64 },
    /// A vector in slices, each cut into chunks.
    Slices { at: u64, slices: Slices, chunk: u64 },
    /// Rows of blocks, one row after the other.
    Grid { blocks: Vec<Block>, width: u64, chunks: u64, chunk: u64 },
}

impl Cut {
    /// One block, the same for all members.
    pub(super) fn span(at: u64, len: u64, chunk: u64) -> Cut {
        Cut::equal(at, len, chunk, 0, 0)
    }

    /// A vector in rounds of `round` elements, each sliced among `parts` members.
    pub(super) fn rounds(at: u64, len: u64, round: u64, parts: u32, unit: u64) -> Cut {
        let rounds = len.div_ceil(round);
        let last = len - rounds.saturating_sub(1) * round;
        let form =
            Form::Rounds { at, round, full: Slices::new(round, parts, unit), last: Slices::new(last, parts, unit) };
        Cut { rounds, ahead: 1, form }
    }

    /// The elements `at..at + len` of every block; blocks follow each other at those strides.
    pub(super) fn equal(at: u64, len: u64, chunk: u64, input_stride: u64, output_stride: u64) -> Cut {
        Cut { ahead: 1, rounds: len.div_ceil(chunk), form: Form::Equal { at, len, chunk, input_stride, output_stride } }
    }

    /// A vector in one slice a member; members past the last slice have an empty one.
    pub(super) fn slices(at: u64, len: u64, parts: u32, chunk: u64, unit: u64) -> Cut {
        let slices = Slices::new(len, parts, unit);
        Cut { ahead: 1, rounds: slices.length(0).div_ceil(chunk), form: Form::Slices { at, slices, chunk } }
    }

    /// Rows of `width` blocks; members past the width have an empty one.
    pub(super) fn grid(blocks: Vec<Block>, width: u32, chunk: u64) -> Cut {
        let width = u64::from(width.max(1));
        let chunks = blocks.iter().map(|block| block.len).max().unwrap_or(0).div_ceil(chunk);
        let rounds = chunks * (blocks.len() as u64).div_ceil(width);
        Cut { rounds, ahead: 1, form: Form::Grid { blocks, width, chunks, chunk } }
    }

    /// The same where links hold so many messages that several rounds may be under way.
    pub(super) fn ahead(self, rounds: u64) -> Cut {
        Cut { ahead: rounds, ..self }
    }

    /// By how many rounds sending leads taking.
    #[inline]
    pub(super) fn lag(&self) -> u64 {
        self.ahead
    }

    /// How many rounds there are.
    #[inline]
    pub(super) fn round_count(&self) -> u64 {
        self.rounds
    }

    /// The piece of that member in that round.
    #[inline]
    pub(super) fn piece(&self, round: u64, member: u32) -> Piece {
        let member = u64::from(member);
        match &self.form {
            Form::Rounds { at, round: len, full, last } => {
                let slices = if round + 1 == self.rounds { last } else { full };
                let start = at + round * len + slices.start(member);
                Piece { input: start, output: start, len: slices.length(member) as u32 }
            }
            Form::Equal { at, len, chunk, input_stride, output_stride } => {
                let done = round * chunk;
                let start = at + done;
                Piece {
                    input: start + member * input_stride,
                    output: start + member * output_stride,
                    len: (len - done).min(*chunk) as u32,
                }
            }
            Form::Slices { at, slices, chunk } => {
                let start = at + slices.start(member);
                chunk_of(Block { input: start, output: start, len: slices.length(member) }, round, *chunk)
            }
            Form::Grid { blocks, width, chunks, chunk } => {
                let (row, round) = divide(round, *chunks);
                chunk_of(block_of(blocks, *width, row, member), round, *chunk)
            }
        }
    }

    /// The piece of member 0, in few instructions where the cut is a plain one: tiny messages feel them.
    #[inline(always)]
    pub(super) fn first(&self, round: u64) -> Piece {
        match &self.form {
            Form::Equal { at, len, chunk, .. } => {
                let done = round * chunk;
                Piece { input: at + done, output: at + done, len: (len - done).min(*chunk) as u32 }
            }
            _ => self.piece(round, 0),
        }
    }

    /// The longest piece.
    pub(super) fn longest(&self) -> u32 {
        if self.rounds == 0 {
            return 0;
        }
        let longest = match &self.form {
            Form::Rounds { full, last, .. } if self.rounds > 1 => full.length(0).max(last.length(0)),
            Form::Rounds { last, .. } => last.length(0),
            Form::Equal { len, chunk, .. } => (*len).min(*chunk),
            Form::Slices { slices, chunk, .. } => slices.length(0).min(*chunk),
            Form::Grid { blocks, chunk, .. } => blocks.iter().map(|block| block.len).max().unwrap_or(0).min(*chunk),
        };
        longest as u32
    }
}

#[inline(never)]
fn block_of(blocks: &[Block], width: u64, row: u64, member: u64) -> Block {
    let block = if member < width { blocks.get((row * width + member) as usize) } else { None };
    block.copied().unwrap_or(Block { input: 0, output: 0, len: 0 })
}

#[inline]
fn chunk_of(block: Block, round: u64, chunk: u64) -> Piece {
    let done = (round * chunk).min(block.len);
    Piece { input: block.input + done, output: block.output + done, len: (block.len - done).min(chunk) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every piece of every member, in the order of its place in the input.
    fn covers(cut: &Cut, members: u32, at: u64, len: u64) {
        let mut pieces: Vec<(u64, u64)> = Vec::new();
        for round in 0..cut.round_count() {
            for member in 0..members {
                let piece = cut.piece(round, member);
                assert!(piece.len <= cut.longest());
                if piece.len > 0 {
                    pieces.push((piece.input, u64::from(piece.len)));
                }
            }
        }
        pieces.sort_unstable();
        let mut next = at;
        for (start, length) in pieces {
            assert_eq!(start, next);
            next += length;
        }
        assert_eq!(next, at + len);
    }

    proptest! {
        #[test]
        fn every_element_is_in_one_piece(
            at in 0u64..100, len in 0u64..2000, chunk in 1u64..200, parts in 1u32..20, unit in prop_oneof![Just(1u64), Just(16)],
        ) {
            covers(&Cut::span(at, len, chunk), 1, at, len);
            covers(&Cut::rounds(at, len, chunk, parts, unit), parts, at, len);
            covers(&Cut::slices(at, len, parts, chunk, unit), parts + 3, at, len);
            covers(&Cut::equal(at, len, chunk, len, 0), parts, at, len * u64::from(parts));
        }

        #[test]
        fn rows_of_blocks_follow_each_other(lens in proptest::collection::vec(0u64..300, 1..40), width in 1u32..8, chunk in 1u64..100) {
            let mut next = 7;
            let blocks = lens.iter().map(|&len| {
                let block = Block { input: next, output: 0, len };
                next += len;
                block
            }).collect();
            covers(&Cut::grid(blocks, width, chunk), width + 2, 7, next - 7);
        }
    }
}
