//! The part of `topo` that is data.

#[path = "../../../src/topo/graph/mod.rs"]
pub mod graph;
#[path = "../../../src/topo/site/mod.rs"]
pub mod site;
