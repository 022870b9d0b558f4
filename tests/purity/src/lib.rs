//! The pure modules of ringtree, by path, with nothing but `core` and `alloc`. That this builds is the test.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[path = "../../../src/check/mod.rs"]
pub mod check;
#[path = "../../../src/plan/mod.rs"]
pub mod plan;
#[path = "../../../src/sim/mod.rs"]
pub mod sim;
#[path = "../../../src/types/mod.rs"]
pub mod types;

pub mod topo;
