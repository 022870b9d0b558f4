//! The executor: turns steps into operations on links.

pub mod kernel;
