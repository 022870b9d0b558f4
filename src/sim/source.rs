//! What is simulated.

use crate::plan::{Group, Step};
use alloc::vec::Vec;

/// Anything that yields steps: a plan, or a program written by hand for a test.
pub trait StepSource {
    /// How many ranks.
    fn ranks(&self) -> u32;
    /// How many channels each rank has.
    fn channels(&self) -> u32;
    /// Slots of each link.
    fn slots(&self) -> u32;
    /// Bytes of one element.
    fn element_size(&self) -> u32;
    /// The domain that a rank belongs to.
    fn domain(&self, rank: u32) -> u32;
    /// The members of a rank's group, itself included, in ascending order.
    fn members(&self, group: Group, rank: u32) -> Vec<u32>;
    /// One step; nothing after the last.
    fn step(&self, rank: u32, channel: u32, index: u64) -> Option<Step>;
}
