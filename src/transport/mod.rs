//! The Link contract: how messages go from rank to rank. One implementation a file; all pass the one conformance suite.
//!
//! ```text
//!   writer                              reader
//!   reserve ──> slot                    peek ──> message
//!     (fill)                              (read)
//!   publish ────────── link ──────────> release ──> the slot is free again
//! ```
//!
//! A **link** is a FIFO of messages with a bounded number of slots: a *pair* link has one writer and one reader, a *board* one writer
//! and every other member of its group as readers. Nothing here waits: `reserve` and `peek` say "not yet" and the executor decides what
//! else to do. A link's memory belongs to the writer between reserve and publish, to the readers between peek and release.
//!
//! | file | links |
//! |---|---|
//! | `local` | threads of one process, a mutex and queues: the reference |
//! | `shm` | ranks of one host, rings of cache lines and slots in shared memory |
//! | `tcp` | ranks of any hosts, over sockets |
//! | `mixed` | `shm` to the ranks of this host, `tcp` to all others |
//! | `verbs` | RDMA queues, which carry for `tcp` what its sockets would |
//! | `faulty` | any links, with delays, drops, closes and corruption from a seed |
//! | `traced` | any links, with every message recorded |

pub mod clock;
pub mod faulty;
pub mod local;
pub mod mixed;
pub mod shm;
pub mod tcp;
pub mod traced;
pub mod verbs;
mod watch;

pub use watch::{Abort, Entered, Suspect, Trouble, Watch};

use crate::error::Error;
use crate::plan::Group;

/// Bytes that travel beside a message with no slot of its own; links that can do better do.
pub const SMALL: usize = 48;

/// Which of a rank's outgoing links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outgoing {
    /// To that rank.
    Pair(u32),
    /// To every other member of that group.
    Board(Group),
}

/// Which of a rank's incoming links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Incoming {
    /// From that rank, to this one alone.
    Pair(u32),
    /// From that rank's board.
    Board(u32, Group),
}

impl Incoming {
    /// The rank at the other end.
    pub fn rank(self) -> u32 {
        match self {
            Incoming::Pair(rank) | Incoming::Board(rank, _) => rank,
        }
    }
}

/// A message that has come and was not released yet. Its bytes may lie in memory that the sender could still write if it broke the
/// protocol, so they are read through the raw pointer and never made a slice.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Its first byte.
    pub at: *const u8,
    /// Its length in bytes, checked to lie inside the link's memory.
    pub len: usize,
    /// What the sender took it to be part of; the executor compares it with its own.
    pub tag: u32,
}

/// What a rank is waiting for, in case it waits too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// For a message of that link.
    Message(Incoming),
    /// For a free slot: that rank has not released an earlier message.
    Slot(u32),
}

impl Blocked {
    /// The rank that is waited for.
    pub fn rank(self) -> u32 {
        match self {
            Blocked::Message(incoming) => incoming.rank(),
            Blocked::Slot(rank) => rank,
        }
    }
}

/// Another rank's buffers, as far as this rank may use them.
#[derive(Clone, Copy, Debug)]
pub enum Window {
    /// Both can be addressed.
    Mapped {
        /// Its input, readable.
        input: *const u8,
        /// Its output, writable.
        output: *mut u8,
    },
    /// The input can be copied from this address of its process by [`Links::fetch`].
    Fetched(u64),
}

/// Where a buffer lies, as other ranks are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Shared {
    /// Which heap that all ranks of a host can map: the communicator's own, or one that it has inherited. Or [`Shared::PRIVATE`].
    pub heap: u64,
    /// Offset in the owner's part of that heap, plus one, or an address of the owner's process. 0: nobody else can reach the buffer.
    pub at: u64,
}

impl Shared {
    /// In place of a heap's number: memory of the owner's process alone, from which others can copy.
    pub const PRIVATE: u64 = u64::MAX;

    /// A buffer that nobody else can reach.
    pub const NOWHERE: Shared = Shared { heap: 0, at: 0 };
}

/// From so many bytes on [`Links::past_caches`] is worth a question.
pub const PAST_CACHES: usize = 1024;

/// One rank's ends of all links of a communicator. `lane` keeps independent streams apart: a plan's channels, and point-to-point
/// traffic in the last lane. Methods are called by one thread at a time.
pub trait Links {
    /// This rank.
    fn rank(&self) -> u32;

    /// The number of ranks.
    fn size(&self) -> u32;

    /// Memory for the next message of a link, `len` bytes, or who has to release a slot first. Asking again before publishing may give
    /// other memory, and then that counts.
    fn reserve(&mut self, lane: u32, link: Outgoing, len: usize) -> Result<Result<*mut u8, Blocked>, Error>;

    /// Whether the message that was reserved last, if it has at least [`PAST_CACHES`] bytes, is better written with non-temporal stores.
    fn past_caches(&self) -> bool {
        false
    }

    /// The same for a message whose bytes lie at `from` already, or will before it is published, and stay there until [`Links::settle`]
    /// says that nothing is under way: where the answer is `from`, they need not be copied.
    fn reserve_from(
        &mut self,
        lane: u32,
        link: Outgoing,
        _from: *mut u8,
        len: usize,
    ) -> Result<Result<*mut u8, Blocked>, Error> {
        self.reserve(lane, link, len)
    }

    /// The operation that begins may lend messages from that memory, which is one of its buffers, whole, and stays until [`Links::settle`] says
    /// that nothing is under way.
    #[inline(always)]
    fn lends(&mut self, _at: *const u8, _len: usize) {}

    /// Sends the reserved message: `len` bytes of it, at most what was reserved.
    fn publish(&mut self, lane: u32, link: Outgoing, len: usize, tag: u32) -> Result<(), Error>;

    /// The oldest message of a link that was not released, or nothing yet. Asking again gives the same message.
    fn peek(&mut self, lane: u32, link: Incoming) -> Result<Option<Message>, Error>;

    /// The same for a message that will be copied to `into`, where nobody else writes or reads until it has come: it may be put there at
    /// once, if it has `len` bytes, and then it is shown there.
    fn peek_into(&mut self, lane: u32, link: Incoming, _into: *mut u8, _len: usize) -> Result<Option<Message>, Error> {
        self.peek(lane, link)
    }

    /// Gives the slot of the message that `peek` showed back to its writer.
    fn release(&mut self, lane: u32, link: Incoming);

    /// How others can reach that range of memory.
    fn share(&self, at: *const u8, len: usize) -> Shared;

    /// The address here of a range that rank `owner` described so, or nothing if it isn't in that rank's shared memory.
    fn resolve(&mut self, owner: u32, place: Shared, len: usize) -> Option<*mut u8>;

    /// Copies `len` bytes from an address of rank `owner`'s process, as that rank has told it, to `into`. An address that makes no sense is
    /// an error, nothing worse.
    ///
    /// # Safety
    /// `into` is valid for writes of `len` bytes that nobody else uses.
    unsafe fn fetch(&mut self, owner: u32, at: u64, into: *mut u8, len: usize) -> Result<(), Error>;

    /// At the end of an operation: whom this rank has to wait for before its caller may have the memory back that messages lie in, or before
    /// what it has published can reach the others without it.
    #[inline(always)]
    fn settle(&mut self) -> Result<Option<Blocked>, Error> {
        Ok(None)
    }

    /// Who has not yet released all that was published on a link; nobody: it is drained.
    fn drained(&mut self, lane: u32, link: Outgoing) -> Result<Option<Blocked>, Error>;

    /// Bytes that one message to or from that rank may have. Both ends cut long ones by it: it depends on what joins them, and on nothing else.
    fn message_limit(&self, peer: u32) -> usize;

    /// Says that this rank is about to read or write other ranks' buffers. False: the communicator has ended, and they may be gone.
    fn enter_windows(&mut self) -> bool;

    /// Says that it has done so.
    fn leave_windows(&mut self);
}
