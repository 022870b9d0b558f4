//! How the ranks of a job find each other, and prove to each other that they belong.
mod config;
mod connection;
mod descriptor;
mod dial;
mod door;
mod failure;
mod gate;
mod host;
mod hub;
mod id;
mod message;
mod rendezvous;
mod tree;
mod wire;

pub use config::BootConfig;
pub use id::UniqueId;
pub use message::{MAX_PART, MAX_RANKS};
pub use rendezvous::{Rendezvous, join};
