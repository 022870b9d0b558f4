//! RDMA between ranks. A pair of queues carries what a data socket would carry, and the sockets stay: over them the ranks agree on their
//! queues, and they take over when no queue is left.
//!
//! ```text
//!   rank ── messages ──> peer (`tcp`) ──> queue 0 (small), 1 … (long, one a device)   reliable connected, writes into slots
//!                                    └──> sockets: offers; messages while no queue is open
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `cache` | which memory the device knows |
//! | `flow` | naps while a stream flows |
//! | `gather` | a write of header and payload from where they lie |
//! | `gid` | which of a port's addresses |
//! | `nic` | ports that are ready, and why others are not |
//! | `offer` | what two ranks tell each other to join their queues |
//! | `queue` | one queue pair as a carrier of messages |
//! | `run` | several messages in one write |
//! | `bridge` | a queue whose other end is a queue pair of the `ibverbs` crate (feature `ibverbs`) |
//!
//! A rank lets each other one write to the slots of their queue and to nothing else: a message comes into a slot, and goes from there to its
//! place. What comes is checked as what comes over a socket is.

#[cfg(feature = "ibverbs")]
pub mod bridge;
mod cache;
pub(super) mod flow;
mod gather;
mod gid;
mod nic;
pub(crate) mod offer;
pub(super) mod queue;
mod run;

#[doc(hidden)]
pub use crate::sys::verbs::abi::layout;
pub(crate) use nic::{Nic, distances, ready};
pub use nic::{Port, ports};
