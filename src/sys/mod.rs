//! Raw system bindings: shared memory, futex, membarrier, process watches, RDMA verbs. Everything here is Linux's; each file wraps one
//! idea so that the rest of the crate sees safe calls, or unsafe ones with a stated contract.

pub mod barrier;
pub mod biased;
pub mod cache;
pub mod fork;
pub mod futex;
pub mod known;
pub mod memory;
pub mod process;
pub mod remote;
pub mod stream;
pub mod sync;
mod userfault;
pub(crate) mod verbs;
pub mod watched;
