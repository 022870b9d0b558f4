//! Links between ranks over TCP: any hosts that reach each other.
//!
//! ```text
//!   links ── publish ──> peer ──> socket 0 (small), 1, 2 … (long) ──> the other rank's socket ──> inbox ──> peek
//!     │                                                                                             │
//!     └── orders ──> service (a thread) ── notes: who is there, what it does, bad news ──> other services
//! ```
//!
//! Data sockets are driven by the rank's own thread inside its operations: the kernel holds what comes while the rank computes. Everything
//! that must go on meanwhile is the service's: letting others in, telling what this rank does, passing on that somebody is gone.
//!
//! | file | idea |
//! |---|---|
//! | `frame` | what goes before every message |
//! | `room` `outbox` `inbox` | the messages of one link, at its writer and at its reader |
//! | `socket` | one data socket, half of a message sent, half of one received |
//! | `sums` `cipher` | what is done to messages that are checked, and to sockets that are encrypted |
//! | `peer` | everything between two ranks: queues, what was sent and not released, what is sent again |
//! | `queues` `peer::carried` | RDMA queues in place of sockets: agreed on, lost, tried again; what goes over them |
//! | `faults` | what came is not what was sent: who is to blame |
//! | `links` | all links of a rank: the contract |
//! | `watching` | noticing those that are gone and those that do something else |
//! | `note` | what services say to each other |
//! | `office` | what a rank and its service have in common |
//! | `paths` | the ways between two ranks whose hosts have several interfaces |
//! | `service` `dialer` | the thread that answers, and those that make connections |
//! | `open` | how a rank's office comes to be |

mod cipher;
mod dialer;
mod faults;
mod frame;
mod inbox;
mod links;
mod note;
mod office;
mod open;
mod outbox;
mod paths;
mod peer;
mod queues;
mod room;
mod service;
mod socket;
#[doc(hidden)]
pub mod strangers;
mod sums;
mod watching;

pub use links::TcpLinks;
pub(crate) use office::{Address, MOST_STREAMS, Office};
#[cfg(test)]
pub(crate) use open::world_seen;
pub(crate) use open::{Opening, world};
