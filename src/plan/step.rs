//! The step: the one kind of instruction that executor, prover, simulator and device code read.
//!
//! ```text
//!              take                                   put
//!   link ────> message ──┐                    ┌──> slot ────> link
//!                        ├── combine (or copy)┤
//!   memory ──> src ──────┘                    └──> dst ────> memory
//! ```
//!
//! A step has up to one local operand (`src`), up to one incoming source (`take`), and up to two sinks (`dst`, `put`). What is
//! combined follows from what is there: `src` alone or a message alone is copied; both are reduced; a fold reduces one message from
//! every other member of a group with the local operand, in ascending order of rank.
//!
//! A **window** is another rank's buffer that this rank can address (registered memory of the same host, peer memory of a GPU). Windows are
//! opened by a step with [`Flags::PLACES`], whose zero-length messages tell where everybody's buffers lie.
//!
//! Four flags say what is waited for and what is given away, and they are separate so that one message can be written, or read, by
//! several steps: [`Flags::CREDIT`] waits for a free slot, [`Flags::SIGNAL`] publishes it, [`Flags::AWAIT`] waits for the next message,
//! [`Flags::RELEASE`] gives its slot back. A slot that is being filled, and a message that is being read, each have a cursor: the next
//! step without CREDIT (AWAIT) goes on where the last one stopped.

use core::fmt;

/// Which memory of its own rank a step reads or writes. Offsets are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Space {
    /// No local operand, or no local sink.
    Nothing = 0,
    /// The send buffer. In a reducing collective a read of it is a raw contribution (a pre-multiplied sum scales it there).
    Input = 1,
    /// The receive buffer. In place it overlaps the input.
    Output = 2,
    /// Private memory of the executor, as large as [`crate::plan::Plan::scratch_len`] says.
    Scratch = 3,
}

/// A set of ranks that a board or a fold addresses; every rank belongs to one set of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Group {
    /// All ranks.
    World = 0,
    /// The ranks that share this rank's domain (a cache, a NUMA node, a host).
    Inner = 1,
    /// The ranks that have this rank's place in the other domains (a rail).
    Outer = 2,
}

/// What comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Take {
    /// Nothing.
    Nothing = 0,
    /// A message of the pair link from rank `from` to this rank.
    Pair = 1,
    /// A message of the board of rank `from` in `group`, which every other member reads.
    Board = 2,
    /// A message of the pair link from **each** other member of `group`, combined in ascending order of rank, `src` in its place.
    FoldPairs = 3,
    /// A message of the board of **each** other member of `group`, likewise.
    FoldBoards = 4,
    /// The `Input` of rank `from` at `src_at`, read where it lies. No message: the plan orders the access by other messages.
    Window = 5,
    /// The `Input` of **each** member of `group` at `src_at`, this rank's own (`src`) in its place, combined in ascending order of rank.
    FoldWindows = 6,
}

/// What goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Put {
    /// Nothing.
    Nothing = 0,
    /// A message on the pair link from this rank to rank `to`.
    Pair = 1,
    /// A message on this rank's board in `group`.
    Board = 2,
    /// The `Output` of each **other** member of `group` at `dst_at`, written where it lies. No message either.
    Windows = 3,
}

/// What a step waits for and gives away, and how it combines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Flags(pub u8);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// Wait for the next message of every link that `take` names, and read it from its start.
    pub const AWAIT: Flags = Flags(1);
    /// Give the slot of that message back when this step is done.
    pub const RELEASE: Flags = Flags(2);
    /// Wait for a free slot of the link that `put` names, and fill it from its start.
    pub const CREDIT: Flags = Flags(4);
    /// Publish that slot when this step is done.
    pub const SIGNAL: Flags = Flags(8);
    /// `message ⊕ src` in place of `src ⊕ message`. Not used by folds, whose order is that of the ranks.
    pub const MESSAGE_FIRST: Flags = Flags(16);
    /// This step makes the final value: an average divides here.
    pub const FINISH: Flags = Flags(32);
    /// A step of no elements whose messages tell where each rank's buffers lie; windows may be used after it.
    pub const PLACES: Flags = Flags(64);
    /// The message needs a copy of its own: the memory that it was made of may be overwritten, in place, before everybody has it.
    pub const COPY: Flags = Flags(128);

    /// Both sets together.
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// This set without the other.
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// Whether every flag of `other` is set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["await", "release", "credit", "signal", "message-first", "finish", "places", "copy"];
        let mut first = true;
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                if !first {
                    f.write_str("+")?;
                }
                f.write_str(name)?;
                first = false;
            }
        }
        Ok(())
    }
}

/// One step: 32 bytes, the same layout on the host and on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Step {
    /// First element of the local operand in its space.
    pub src_at: u64,
    /// First element of the local sink in its space.
    pub dst_at: u64,
    /// Elements.
    pub len: u32,
    /// The rank that a pair or board is taken from.
    pub from: u32,
    /// The rank that a pair is put to.
    pub to: u32,
    /// What comes in.
    pub take: Take,
    /// What goes out.
    pub put: Put,
    /// `src | dst << 2 | group << 4`.
    places: u8,
    /// What is waited for and given away.
    pub flags: Flags,
}

const _: () = assert!(size_of::<Step>() == 32);

impl Step {
    /// A step that does nothing to `len` elements yet; the builder methods below say what.
    pub const fn of(len: u32) -> Step {
        Step {
            src_at: 0,
            dst_at: 0,
            len,
            from: 0,
            to: 0,
            take: Take::Nothing,
            put: Put::Nothing,
            places: 0,
            flags: Flags::NONE,
        }
    }

    /// The space of the local operand.
    pub const fn src(&self) -> Space {
        Step::space(self.places & 3)
    }

    /// The space of the local sink.
    pub const fn dst(&self) -> Space {
        Step::space((self.places >> 2) & 3)
    }

    /// Where the bytes of the step's message lie in the rank's own buffers once the step is done: links may send them from there, also later,
    /// because the plan overwrites them only after everybody has them. The prover holds plans to that.
    pub fn lends(&self) -> Option<(Space, u64)> {
        let whole = self.flags.has(Flags::CREDIT.with(Flags::SIGNAL));
        if !whole || self.flags.has(Flags::PLACES) || self.flags.has(Flags::COPY) {
            return None;
        }
        match (self.dst(), self.take) {
            (Space::Output, _) => Some((Space::Output, self.dst_at)),
            (Space::Nothing, Take::Nothing)
                if matches!(self.src(), Space::Input | Space::Output) && !self.flags.has(Flags::FINISH) =>
            {
                Some((self.src(), self.src_at))
            }
            _ => None,
        }
    }

    /// The set of ranks that a board or a fold addresses.
    pub const fn group(&self) -> Group {
        match (self.places >> 4) & 3 {
            0 => Group::World,
            1 => Group::Inner,
            _ => Group::Outer,
        }
    }

    const fn space(bits: u8) -> Space {
        match bits {
            0 => Space::Nothing,
            1 => Space::Input,
            2 => Space::Output,
            _ => Space::Scratch,
        }
    }

    /// With a local operand.
    pub const fn read(mut self, space: Space, at: u64) -> Step {
        self.places = self.places & !3 | space as u8;
        self.src_at = at;
        self
    }

    /// With a local sink.
    pub const fn write(mut self, space: Space, at: u64) -> Step {
        self.places = self.places & !12 | (space as u8) << 2;
        self.dst_at = at;
        self
    }

    /// In that group.
    pub const fn among(mut self, group: Group) -> Step {
        self.places = self.places & !48 | (group as u8) << 4;
        self
    }

    /// With a whole message of the pair link from `from`: awaited and released.
    pub const fn take_pair(mut self, from: u32) -> Step {
        self.take = Take::Pair;
        self.from = from;
        self.also(Flags::AWAIT.with(Flags::RELEASE))
    }

    /// With a whole message of the board of `from`: awaited and released.
    pub const fn take_board(mut self, from: u32) -> Step {
        self.take = Take::Board;
        self.from = from;
        self.also(Flags::AWAIT.with(Flags::RELEASE))
    }

    /// With a whole message from each other member of the group over pair links.
    pub const fn fold_pairs(mut self) -> Step {
        self.take = Take::FoldPairs;
        self.also(Flags::AWAIT.with(Flags::RELEASE))
    }

    /// With a whole message from each other member's board.
    pub const fn fold_boards(mut self) -> Step {
        self.take = Take::FoldBoards;
        self.also(Flags::AWAIT.with(Flags::RELEASE))
    }

    /// From the `Input` of rank `from` at `at`, where it lies.
    pub const fn take_window(mut self, from: u32, at: u64) -> Step {
        self.take = Take::Window;
        self.from = from;
        self.src_at = at;
        self
    }

    /// From each member's `Input`, at the place of this step's `src`.
    pub const fn fold_windows(mut self) -> Step {
        self.take = Take::FoldWindows;
        self
    }

    /// Into each other member's `Output` too, at the place of this step's `dst`.
    pub const fn put_windows(mut self) -> Step {
        self.put = Put::Windows;
        self
    }

    /// Into a whole slot of the pair link to `to`: credit awaited, then signalled.
    pub const fn put_pair(mut self, to: u32) -> Step {
        self.put = Put::Pair;
        self.to = to;
        self.also(Flags::CREDIT.with(Flags::SIGNAL))
    }

    /// Into a whole slot of this rank's board.
    pub const fn put_board(mut self) -> Step {
        self.put = Put::Board;
        self.also(Flags::CREDIT.with(Flags::SIGNAL))
    }

    /// With these flags too.
    pub const fn also(mut self, flags: Flags) -> Step {
        self.flags = self.flags.with(flags);
        self
    }

    /// Without these flags.
    pub const fn but_not(mut self, flags: Flags) -> Step {
        self.flags = self.flags.without(flags);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_keeps_its_places_apart() {
        let step = Step::of(7)
            .read(Space::Input, 3)
            .write(Space::Scratch, 9)
            .among(Group::Outer)
            .fold_pairs()
            .put_board()
            .write(Space::Output, 11);
        assert_eq!((step.src(), step.src_at), (Space::Input, 3));
        assert_eq!((step.dst(), step.dst_at), (Space::Output, 11));
        assert_eq!(step.group(), Group::Outer);
        assert!(step.flags.has(Flags::AWAIT.with(Flags::RELEASE).with(Flags::CREDIT).with(Flags::SIGNAL)));
        assert!(!step.flags.has(Flags::FINISH));
    }
}
