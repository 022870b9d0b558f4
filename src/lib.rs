//! ringtree: collective communication for the people who train and serve models on many machines. All-reduce, all-gather, reduce-scatter
//! and their family between the ranks of a job, with the same bits on every rank, and errors that name the culprit.
//!
//! ```no_run
//! use ringtree::{Communicator, ReduceOp};
//!
//! # fn main() -> ringtree::Result<()> {
//! let comm = Communicator::from_env()?; // ringtree run, torchrun, srun, mpirun
//! let mut gradients = vec![comm.rank() as f32; 1 << 20];
//! comm.all_reduce(&mut gradients, ReduceOp::Average)?;
//! # Ok(())
//! # }
//! ```
//!
//! This version joins the ranks of one host, processes or threads, over shared memory.
//!
//! # The architecture
//!
//! A collective **call** becomes a **plan**; a plan yields **steps**; an **executor** turns steps into operations on **links**. Only the
//! last two arrows ever see a byte.
//!
//! ```text
//!   call ──> plan ──> steps ──> executor ──> links (local, shm, tcp)
//!            │ pure, no I/O, no clock, no environment
//!            ├──> check   symbolic interpreter: is the result right, can it deadlock, is a slot overwritten?
//!            └──> sim     discrete-event model: how long, and what happens when?
//! ```
//!
//! From [`Communicator::all_reduce`] to the first byte on a link there are five hops: the typed call makes a request (`comm`), the session
//! looks up its plan ([`exec::Session`]), the short path or a job takes the plan's steps, a step reserves a slot
//! ([`transport::Links`]), the kernel fills it ([`exec::kernel`]).
//!
//! | module | what it is for | what it may know |
//! |---|---|---|
//! | [`types`] | element types, reductions, the call as data | nothing |
//! | [`plan`] | what every rank does, as pure data; the choice of algorithm | types |
//! | [`check`] | proves plans: results, order, slots, deadlock, races through windows | plan |
//! | [`sim`] | runs plans against a model of time | plan |
//! | [`topo`] | a host as data, with its GPUs and NICs; `topo::detect` is the only part that looks at the machine | – |
//! | [`exec`] | the executor: sessions, jobs, point-to-point, patience, kernels | plan, transport |
//! | [`transport`] | the Link contract and its implementations | sys |
//! | [`boot`] | how ranks find each other and prove that they belong | – |
//! | `comm` | the public call | all of it |
//! | [`sys`] | memory, futex, membarrier, processes | the kernel |
//!
//! # The words
//!
//! - A **rank** is one member of a **communicator**. All ranks make the same **calls** in the same order.
//! - A **plan** says what each rank does for a call: a list of **steps** for each **channel** (channels of a rank run independently).
//! - A **link** is a FIFO of messages with a bounded number of **slots**: a *pair* link has one reader, a **board** is read by every other
//!   member of a group. A **lane** keeps the links of channels and of point-to-point traffic apart.
//! - A **window** is another rank's buffer that this rank can address: memory from [`Communicator::alloc`], or any memory between threads.
//!
//! # Domains
//!
//! Ranks that share a last-level cache, or the memory of a NUMA node, form a **domain**. Where there are several, a large collective may
//! run an algorithm inside each and another one between them ([`plan::Algorithm::Hierarchy`]), if the cost model expects that to be
//! cheaper. A process belongs to a domain when it is bound to processors of one cache (or node) **before** it makes its communicator;
//! if one rank of the job may run anywhere, or if no domain has two ranks, all are in one domain. Nothing here binds ranks: launchers
//! do, and `ringtree doctor` says when it would help. RINGTREE_DOMAINS ([`Config::domains`]) is stronger than what is found, must be the
//! same on all ranks, and is all that [`Communicator::local`] goes by. It is about the communicator of all ranks; in one that is split
//! from another each rank keeps its domain. [`Communicator::domains`] tells what it came to.
//!
//! # What is guaranteed
//!
//! - **Bits.** All ranks end with identical bits. The order of a reduction depends on the plan alone, never on timing. How elements
//!   combine is written in [`exec::kernel`]. With [`Config::reproducible`] every element is one fold of all ranks' contributions in
//!   ascending rank order, so the bits depend on nothing else: not on message size, chunking, channels, algorithm, or kind of memory.
//! - **Every wait ends.** In success, or in an [`Error`] that names the operation and the rank that is to blame, within
//!   [`Config::timeout`]; a rank that was killed is noticed within milliseconds by whoever waits.
//! - **Disagreement is an error**, on all ranks, that names both sides; no memory is written past an end.
//! - **Nothing from a peer is believed.** Every message's length and tag are compared with what this rank's own plan says; no index,
//!   length or loop bound is taken from shared memory unchecked. The readers of bootstrap frames, store requests, topologies and
//!   settings are fuzzed with a million cases each (`tests/fuzz`), and take no more memory than their input warrants.
//! - **Nothing is left behind.** Shared memory is a sealed memfd without a name, passed over Unix sockets. A killed job leaves no file.
//! - **Memory is bounded.** Slots of all communicators of a process share one budget (RINGTREE_STAGING; at most an eighth of what a control
//!   group's memory limit leaves), are touched when first used, and are given back when others need them.
//! - **A fork is not the rank.** A process that was forked from a rank without exec can't use its communicators, and harms neither its memory
//!   nor its job when it drops them or exits.
//!
//! # What is different from the design that this began with, and why
//!
//! - *Steps have one form* (operands in, sinks out, four flags) in place of a list of kinds: put, take, reduce and their fusions are what
//!   is there and what isn't. Four flags say what is waited for and what is given away, so that a prover can drop each of them.
//! - *Boards* beside pair links: one writer, all readers, one copy. A network transport may carry a board as several sends.
//! - *Shuttles*: a slot that one rank has read is the one in which it writes next, so that each of its lines crosses between the cores once
//!   a message, not twice. Between cores that share no cache that halves the time of every exchange above a line.
//! - *What goes one way to a far core is stored round the caches*: claiming the lines of a slot from a cache that isn't shared costs a round
//!   trip each. Each writer finds out whether its reader is far by what a look at the reader's counter costs, while it runs, since a
//!   hypervisor moves processors about. Broadcast between far cores takes 0.4 of the time.
//! - *What goes one way to a near core is handed back written* (`transport::shm`): the only reader of a line writes a word to it when it
//!   has read it. A line that two cores write by turns moves over whole; one that is only read has to be asked back. Broadcast of 4 KiB
//!   between near cores takes three quarters of the time, of 8 bytes between far ones two thirds.
//! - *The usual call makes few stores*: a core that waits for a line goes on with the next call until its queue of stores is full, unless it
//!   meets a locked instruction, or loads what it has just stored in other pieces: both wait for every store before them. So a
//!   communicator's lock leans towards the thread that uses it (`sys::biased`), and a call that is like the last one has a path of its own.
//!   Broadcast of 8 bytes between near cores 80 -> 55 ns, send and receive 162 -> 126.
//! - *Short copies are our own* (`exec::kernel`): libc looks at the length several times before it begins, which is a fifth of the time of a
//!   128-byte message between near cores.
//! - *One-shot between two ranks up to 16 KiB*: both post what they have and each folds all of it, with half of the waits of the two-shot,
//!   which moves and folds less and is a tenth faster above.
//! - *Slots beat process_vm_readv where every rank has a processor*: what does not fit in the cache is stored round it, and while a chunk is
//!   stored the next one that is read is fetched. Ranks that share processors copy straight from each other's memory what does
//!   not fit in the cache together with its slots: there one copy in place of two counts, and nobody need wait for the other's turn
//!   ([`Fetch`]).
//! - *A rank that copies from another's private memory* believes what it got only if nobody had ended the communicator by then: no lock and
//!   no wait protects the buffer, the order of two loads does.
//! - *Sleepers pay for fences, publishers don't* (`sys::barrier`): a publish is two plain stores and one load that hits the cache.
//! - *No thread is started* unless an operation is to go on in the background, and then one a communicator; over sockets each rank has one
//!   that sleeps until somebody calls, so that who waits for a rank that computes hears what it does.
//! - *Data sockets are driven by the rank's own thread* inside its operations (`transport::tcp`): no queue to another thread and no wake-up is
//!   on the way of a message. An operation returns when the kernel has all that it sent, so nothing waits for the rank's next call. Long
//!   messages go from the caller's memory and to it, without a copy of ours; the caller has them back when they were received.
//!
//! # Environment
//!
//! | variable | meaning |
//! |---|---|
//! | RINGTREE_TIMEOUT | longest wait without progress inside an operation, in seconds (300) |
//! | RINGTREE_INIT_TIMEOUT | longest wait for the ranks to come together, in seconds (120) |
//! | RINGTREE_REPRODUCIBLE | 1: bits that depend on nothing but the data and the ranks |
//! | RINGTREE_STAGING | bytes of slots that the communicators of this process may use (128M, or an eighth of what a memory limit leaves) |
//! | RINGTREE_ALGORITHM, RINGTREE_CHUNK, RINGTREE_TRANSPORT | force a choice |
//! | RINGTREE_FETCH | auto, off, or bytes: when ranks copy straight from each other's private memory (process_vm_readv) |
//! | RINGTREE_DOMAINS | which ranks are near each other: auto, flat, or sizes of domains of consecutive ranks, as 4,4 (auto) |
//! | RINGTREE_SIMD | portable, avx2, avx512: at most that |
//! | RINGTREE_SECRET, RINGTREE_SECRET_FILE, RINGTREE_ADDRESS | see [`boot`] |

extern crate alloc;

pub mod boot;
pub mod check;
mod comm;
mod config;
mod error;
pub mod exec;
pub mod plan;
pub mod sim;
pub mod sys;
pub mod topo;
pub mod transport;
pub mod types;

pub use comm::{Communicator, Group, Registered, Scope, ScopedWork, StableBuffer, Work};
pub use config::{
    Config, Domains, Fetch, SETTINGS, Transport, algorithm, parse_bytes, unknown_settings, wrong_settings,
};
pub use error::{Error, Place, Result};
pub use exec::Element;
pub use types::{Collective, DataType, ReduceOp, Reduction, Scalar};

/// For the model in `tests/loom.rs`.
#[cfg(loom)]
pub use comm::Completion;
#[cfg(loom)]
pub use sys::biased::Biased;
