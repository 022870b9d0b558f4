//! The executor: turns steps into operations on links.

mod element;
pub mod kernel;

pub use element::Element;
