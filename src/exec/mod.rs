//! The executor: turns the steps of plans into operations on links. It has no clock and does no I/O of its own: time is passed in, waiting
//! is the caller's business, so whole worlds of ranks run in one thread under a virtual clock.
//!
//! ```text
//!   session ── poll ──> job (collective) ── step by step ──> links, kernels
//!      │                point (send, receive)
//!      └── pace: what to do while everything is blocked: spin, yield, sleep, look for trouble, give up
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `job` | one collective under way |
//! | `cursor` | one channel of it: a step waits, combines, publishes, releases |
//! | `places` | the step that opens windows |
//! | `program` | a plan as one rank follows it, with what is derived once |
//! | `short` | the first steps of a small program, without a cursor |
//! | `point` | one send or receive under way |
//! | `request` | one operation as the communicator hands it over |
//! | `session` | the calls of one rank on one communicator, in order |
//! | `plans` | the plan cache |
//! | `failure` | faults turned into errors that reach every rank |
//! | `pace` | patience: spin, yield, sleep, deadline |
//! | `kernel` | copies and reductions |
//! | `element` | the Rust types that are elements |

mod cursor;
mod element;
mod failure;
mod job;
pub mod kernel;
mod pace;
mod places;
mod plans;
mod point;
mod program;
mod request;
mod session;
mod short;

pub use element::Element;
pub use pace::{Pace, Patience};
pub use request::Request;
pub use session::{Poll, Session, Settings, USUAL_CACHE};
