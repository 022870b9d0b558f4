//! How the ranks of a job find each other, and prove to each other that they belong.
//!
//! ```text
//!   launcher ──detect──> Launch ──meet──> UniqueId ──join──> Rendezvous ──> all_gather, barrier, share_fd
//!   (environment)        where to meet    secret, address    this rank's end of a tree
//! ```
//!
//! Rank 0 makes a [`UniqueId`]; a launcher's channel, a [`store`], or rank 0 itself carries it to the others; [`join`] puts the tree
//! together. Every connection proves the secret before anything it says is looked at ([`UniqueId`] holds it; the wire's own file draws the
//! handshake). A hub, a thread at the root and in every rank that has children, carries what the ranks exchange and the news of those that
//! ended, so every wait here ends with a result, with the name of the culprit, or at a deadline.

mod config;
pub(crate) mod connection;
mod descriptor;
pub(crate) mod dial;
mod door;
mod failure;
pub(crate) mod gate;
mod handout;
pub(crate) mod host;
mod hub;
mod id;
pub(crate) mod interfaces;
mod known;
pub mod launcher;
mod meet;
pub(crate) mod message;
mod pmi;
mod rendezvous;
pub mod store;
#[doc(hidden)]
pub mod strangers;
mod tree;
pub(crate) mod wire;

pub use config::{BootConfig, JobSecret};
pub(crate) use host::{HOST_NAMES, host_name};
pub use id::UniqueId;
pub use interfaces::{Family, Names};
pub(crate) use known::Known;
pub use launcher::{Launch, Meeting, detect};
pub use meet::meet;
pub use message::{MAX_PART, MAX_RANKS};
pub(crate) use rendezvous::join_knowing;
pub use rendezvous::{Rendezvous, join};
pub use store::{Store, fetch_id, publish_id};
