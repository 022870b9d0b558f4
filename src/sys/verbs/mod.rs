//! RDMA verbs: libibverbs opened at run time, its objects with owners that release them in the right order.
//!
//! ```text
//!   Device ──> Domain ──> Region          memory of this process that the device may read and write
//!     │           └─────> QueuePair ──┐
//!     └──> Channel ──> CompletionQueue┘   each keeps alive what it was made from
//! ```

pub mod abi;
mod device;
mod library;
mod queue;

pub use device::{Channel, Device, Domain, Grant, Region, Registration, devices};
pub use library::status_text;
pub use queue::{Path, QueuePair, Wish};
