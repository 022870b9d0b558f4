//! ringtree: collective communication for the people who train and serve models on many machines.
//!
//! (The architecture is told here; see the end of the file list in each module.)

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
pub use config::{Config, Transport, algorithm, parse_bytes};
pub use error::{Error, Place, Result};
pub use exec::Element;
pub use types::{Collective, DataType, ReduceOp, Reduction, Scalar};
