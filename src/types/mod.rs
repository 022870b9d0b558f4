//! What a call is made of: element types, reductions, and the call itself as data. Pure: no I/O, no clock, no environment.
#![forbid(unsafe_code)]

mod call;
mod dtype;
mod op;

pub use call::{Call, Collective};
pub use dtype::DataType;
pub use op::{ReduceOp, Reduction, Scalar};
