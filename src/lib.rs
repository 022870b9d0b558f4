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
//! Ranks of one host, processes or threads, are joined by shared memory; ranks of several hosts by RDMA where both have a device for it, by
//! TCP else.
//!
//! # The architecture
//!
//! A collective **call** becomes a **plan**; a plan yields **steps**; an **executor** turns steps into operations on **links**. Only the
//! last two arrows ever see a byte.
//!
//! ```text
//!   call ──> plan ──> steps ──> executor ──> links (local, shm, tcp + verbs, mixed)
//!            │ pure, no I/O, no clock, no environment
//!            ├──> check   symbolic interpreter: is the result right, can it deadlock, is a slot overwritten, or memory that is lent?
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
//! | [`check`] | proves plans: results, order, slots, deadlock, races through windows, memory that messages are sent from | plan |
//! | [`sim`] | runs plans against a model of time | plan |
//! | [`topo`] | a host as data, with its GPUs and NICs, and a site of hosts; `topo::detect` is the only part that looks at the machine | – |
//! | [`exec`] | the executor: sessions, jobs, point-to-point, patience, kernels | plan, transport |
//! | [`transport`] | the Link contract and its implementations | sys |
//! | [`boot`] | how ranks find each other and prove that they belong | – |
//! | `comm` | the public call | all of it |
//! | [`sys`] | memory, futex, membarrier, processes, RDMA verbs | the kernel |
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
//! # Several hosts
//!
//! Ranks that see the same boot of the same machine, the same process ids, the same network namespace and the same user are on one host;
//! RINGTREE_HOST divides further. Then each host is a domain: a collective reduces within by shared memory and between by the network
//! ([`transport::mixed`]), and hosts may have unequal numbers of ranks.
//!
//! Racks and pods: where somebody says which hosts are in a group together ([`topo::site`]), each rank tells the others, and all come to the
//! same order of hosts. Rings visit the hosts of a rack, and the racks of a pod, one after the other, so they cross each border as often
//! as they must. Trees enter each group once. In a torus rings go to neighbours. Blocks, results and reproducible bits are what they
//! are without; who talks to whom changes. Where every host is on several rails, ranks of one place in their hosts talk to each other
//! (the lanes of [`plan::Algorithm::Hierarchy`]) and to nobody of another place: start ranks so that place `i` is next to the card of
//! rail `i`. Where nothing is said, or of some hosts only, the order of ranks counts.
//!
//! Between two ranks there is one machine for messages (`transport::tcp`), whatever carries them: each has a place (link, lane, number), stays
//! with its sender until its reader has released it, and is taken once, over whichever carrier it comes, however often. Carriers are
//! data sockets, one for small messages and one a network that both hosts are in (RINGTREE_SOCKETS: at least so many) for long ones; and
//! RDMA queues ([`transport::verbs`]), which take over from the sockets where they are there. A carrier that is lost is made again, over
//! another way if there is one; what it carried goes over those that are left. A socket over which nothing gets through is noticed after 3
//! seconds by what its kernel says of it, a host that vanishes after 7 by connections that are asked for signs of life. A lost queue is
//! tried again after a second, then after two, up to half a minute; at once when its port is back. Of several devices a rank that is bound to
//! a NUMA node fills the nearest first; each talks to the one of the same place in the other host, as rails do.
//!
//! A rank of another host may write to the slots of its RDMA queue with this rank, and to nothing else.
//!
//! Long messages a device reads where they lie, if that memory is sure to be the same until it is told otherwise (`sys::known`): memory from
//! [`Communicator::alloc`], what the library keeps of messages, and buffers that the program has sent from twice. Of the last the kernel
//! tells when any page of them is given back (userfaultfd), and whoever gives it back waits until that was heard: so nothing is sent by a
//! registration of memory that is gone; it keeps its pages until the next long message over its queue. Where the kernel does not tell (before
//! Linux 5.11, or where a container forbids it), those are copied into slots.
//!
//! # The choice of an algorithm
//!
//! A plan takes the cheapest algorithm by a model of time ([`plan::Candidate`]): what lies on the critical path of one rank (exchanges,
//! messages, bytes copied, folded and sent), each with what it costs in its class of links ([`plan::Costs`], the one table, integers). The
//! built-in table was measured; `ringtree tune` measures this system, fits the same constants to what it found, and writes them as a
//! profile. There are no tables of "from so many bytes on": a constant that was measured at some sizes serves at all others, also with
//! numbers of ranks and domains that nobody measured. RINGTREE_PROFILE ([`Config::costs`]) names the file; ranks compare a digest of what
//! it says when they meet, and one that says something else ends the meeting with an error that names it. `ringtree plan` and
//! [`Communicator::plan`] explain a choice.
//!
//! # Protection
//!
//! What goes between hosts is as good and as secret as the network, unless RINGTREE_PROTECTION ([`Config::protection`], the same on all ranks)
//! asks for more:
//!
//! - **plain**: nothing is added; TCP's 16-bit sum, and an RDMA device's CRC, are all there is.
//! - **checksum**: each message carries a CRC-32C, and so does its header. The sum is taken when the message is published; as it is sent,
//!   its bytes are summed up again: if they differ, this rank says that its own memory was changed meanwhile (a caller that writes to a
//!   buffer that it has lent, a stray pointer, a bad DIMM). When a message has come, its reader sums up what lies in its place, before
//!   anybody sees it: if that differs, it was changed on the way. Either ends the job on all ranks with [`Error::Corrupt`], which names the
//!   rank, its process and host, the link, the message's number and length, and the socket or queue. Over sockets and RDMA queues.
//! - **encrypted**: everything on a data connection, headers too, goes in records of AES-256-GCM. Keys follow from the job's secret and both
//!   nonces of the connection's handshake (HMAC-SHA256), one for each direction; a connection that is made again has new ones, and after 2^20
//!   records both ends go on with the next key. A record that was changed, repeated, moved or left out fails, nothing of it is used, and
//!   the job ends with [`Error::Corrupt`] on all ranks: there is no way to go on that an attacker could not use again. One that is cut off is a
//!   lost connection, which is made again; what it carried is sent again, and taken once. RDMA is not used, since a device sends what lies in
//!   memory.
//!
//! Whoever knows the secret can read what was recorded before: guard it as long as the recordings could matter. Where a launcher's channel
//! carries the id in the open, RINGTREE_SECRET or RINGTREE_SECRET_FILE is needed: without it the start is refused. Not secret, though nobody
//! can forge it, is what ranks say to each other beside the data: who they are, where they listen, what they call with which counts, why
//! they ended. Shared memory within a host is trusted. Checksums are against accidents, not against attackers, who can make them too.
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
//!   length or loop bound is taken from shared memory unchecked. The readers of bootstrap frames, store requests, topologies,
//!   profiles and settings are fuzzed with a million cases each (`tests/fuzz`), and take no more memory than their input warrants.
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
//! - *One-shot between two ranks up to 512 KiB*: both post what they have and each folds all of it, with half of the waits of the two-shot.
//!   That moves and folds less: above 16 KiB it is a tenth faster on a Zen 2, and up to a third slower on a Zen 5 that others disturb.
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
//!   messages go from the caller's memory and to it, without a copy of ours; the caller has them back when they were received. A plan
//!   says which messages need a copy all the same, because the memory is overwritten before everybody has them, and the prover holds it to
//!   that: a one-shot reduction in place is right over slots, and would be wrong without.
//! - *Hierarchies over a network go in parts on two channels*: while one waits for the network with its part, the other is inside the host. No
//!   step waits for two things at once, so that a cursor and the prover stay as simple as they are.
//! - *Where ranks share processors, a stream over RDMA naps* (`transport::verbs`): in a guest of user-mode Linux a system call costs 12 us,
//!   as much as copying 400 KiB. A rank that yields between two messages of a stream takes the device's time: 64 KiB one way 525 MB/s; with
//!   naps, news of all queues in one message, and one doorbell for a batch 665, where `ib_write_bw` gets 780.
//! - *Messages whose slots follow each other go in one write*, and wait for each other up to 1 MiB: Soft-RoCE takes 10 us for a write, however
//!   long it is. With that, one way: 64 KiB 733 MB/s (`ib_write_bw` 705), 1 MiB 775 (815). And a rank that is alone on its processor spins
//!   for 150 us and leaves the sockets alone meanwhile: 8 B between two guests take 41 us, half a round trip, as `ib_write_lat` does.
//! - *Over sockets messages have 256 KiB, through memory 128*: fewer system calls and acknowledgements, and still enough of them under way.
//! - *Over sockets a rank sends up to 2 MiB before it takes anything*, through memory one or two messages: there the slots are few and hot, here
//!   two kernels that both send, and then both take, keep out of each other's way. Exchanging 1 MiB on two cores of a Zen 4: 163 us all at
//!   once, 223 when half of it may be under way, 435 when 64 KiB may. So a plan says how many messages a link must hold
//!   ([`Plan::slots`](plan::Plan::slots)), and the prover gives it no more.
//! - *The cipher is ring's, the checksum crc32c's*: one needs a C compiler and 12 s of a processor to build, the other nothing. AES-256-GCM in
//!   records of 16 KiB on an EPYC with VAES: ring 10.1 GB/s, aws-lc-rs 20.5 (44 s and 69 MB of source), RustCrypto 1.4; ChaCha20-Poly1305
//!   2.7, 2.7 and 1.1. CRC-32C of 64 KiB: crc32c 30 GB/s, crc-fast 65 with more crates behind it. crc32fast is as fast as that, but sums up
//!   as Ethernet does, and what has passed that once passes it again.
//! - *Sockets within a host are not paced*: Reno in place of the system's choice. BBR finds the speed of a network out, and of memory it finds
//!   out too little: messages of 1 MiB between two ranks took 410 us or 248, as its first guess was.
//! - *A write gathers headers and payloads*: the header from a slot, the payload from where it lies. One way over Soft-RoCE, 1 MiB, medians of
//!   ten interleaved rounds: 419 MB/s, copied into slots 363, `ib_write_bw` 357 (on a slower machine than the figures above). The
//!   memory may be used again when the other rank has released the message: the device may still send it once more then, but nobody
//!   takes it.
//! - *Events of the kernel alone do not say that memory is the same*: it lets others have the place of what is unmapped before the event can
//!   be read (three threads that map and unmap 1 MiB at once met that within 200 rounds). But from before that on it refuses to protect
//!   watched memory, so every look asks for that too: 0.4 us on a Zen 3, as much as copying 4 KiB.
//! - *RDMA queues are carriers beside sockets*, not a transport of their own: agreeing on them, falling back from them, and taking each message
//!   once are what the sockets have already. Messages are written into slots of the reader with an immediate number, not into its
//!   buffers: nobody has to let others write to memory of the user. That is a copy for each message, out of its slot.
//! - *The `ibverbs` crate is the other end of a test*, and with the feature of that name of your program (`transport::verbs::bridge`): it links
//!   libibverbs for good, has no writes, and registers only memory of its own, so this library opens libibverbs itself, when it runs.
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
//! | RINGTREE_LOCATION | where this host is, the outermost group first, as pod1/rack3; in a torus the last is coordinates, as 2,0,1 |
//! | RINGTREE_SITE | a file that says it of all hosts, by RINGTREE_HOST, SLURMD_NODENAME or the hostname |
//! | RINGTREE_LOCATION_FROM | variables that say it, the outermost group first, as ZONE,SPINE,LEAF; without any, SLURM_TOPOLOGY_ADDR |
//! | RINGTREE_PROFILE | a file that `ringtree tune` wrote: what links cost on this system, by which algorithms are chosen |
//! | RINGTREE_PROTECTION | plain, checksum, encrypted: what is done to messages that go over a network, the same on all ranks (plain) |
//! | RINGTREE_SIMD | portable, avx2, avx512: at most that |
//! | RINGTREE_SECRET, RINGTREE_SECRET_FILE, RINGTREE_ADDRESS | see [`boot`] |
//! | RINGTREE_HOST (or NCCL_HOSTID) | processes with different values are on different hosts, for experiments |
//! | RINGTREE_INTERFACE (or NCCL_SOCKET_IFNAME) | interfaces by name, as eth, =eth0, ^docker |
//! | RINGTREE_FAMILY (or NCCL_SOCKET_FAMILY) | ipv4 or ipv6 |
//! | RINGTREE_SOCKETS | sockets for long messages between two ranks, at least (one a network that both are in) |
//! | RINGTREE_RDMA (or NCCL_IB_DISABLE=1) | on, off |
//! | RINGTREE_HCA (or NCCL_IB_HCA) | RDMA devices by name, as mlx5, =mlx5_0:1 |
//! | RINGTREE_GID_INDEX (or NCCL_IB_GID_INDEX) | the entry of a RoCE port's table of addresses |
//! | RINGTREE_LOG | of the command line: off, error, warn, info, debug (warn) |

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
    Config, Domains, Fetch, Located, Protection, SETTINGS, Transport, algorithm, locate, parse_bytes, read_site,
    unknown_settings, wrong_settings,
};
pub use error::{Error, Place, Result};
pub use exec::Element;
pub use types::{Collective, DataType, ReduceOp, Reduction, Scalar};

/// For the model in `tests/loom.rs`.
#[cfg(loom)]
pub use comm::Completion;
#[cfg(loom)]
pub use sys::biased::Biased;
