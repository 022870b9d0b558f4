//! Links between the ranks of one host (processes or threads) over shared memory.
//!
//! ```text
//!   segment (one memfd a communicator and host, the same layout for everybody, pages exist once touched)
//!   ┌────────┬──────────┬────────────────┬──────────────────┬───────────────────────────────┐
//!   │ header │ statuses │ lines of links │ acknowledgements │ slots and shuttles of links   │
//!   └────────┴──────────┴────────────────┴──────────────────┴───────────────────────────────┘
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `layout` | where everything lies |
//! | `ring` | one link: a ring of cache lines, a flag in each, and the readers' acknowledgements |
//! | `bell` | going to sleep and being woken |
//! | `shuttle` | slots that go to and fro between two ranks |
//! | `handback` | what has been read goes back written |
//! | `distance` | whether a reader shares a cache with this core |
//! | `ends` | one end of one link: which slot a message takes, and what the budget is charged for it |
//! | `links` | all links of a rank: the contract |
//! | `status` | what every rank is doing, and who aborted: read only when something takes long |
//! | `segment` | the memory itself |
//! | `watching` | noticing the dead, the stopped and those who do something else |
//! | `staging` | the process's budget for slots |
//! | `heap` | memory that every rank can address |
//! | `probe` | what ranks find out about each other when they meet |

mod bell;
mod distance;
mod ends;
mod handback;
mod heap;
mod layout;
mod links;
mod probe;
mod ring;
mod segment;
mod shuttle;
mod staging;
pub(super) mod status;
mod watching;

pub use heap::{HeapAllocator, Piece};
pub use layout::{CHANNELS, LANES, POINT_TO_POINT, SLOT_BYTES};
pub use links::{Heaps, ShmLinks};
pub use probe::Shown;
pub use segment::Segment;
pub use staging::{Budget, Holder};
pub use status::Life;

/// The lock-free parts, for the models in `tests/loom.rs`.
#[cfg(loom)]
pub mod model {
    pub use super::bell::{Bell, Sleepers};
    pub use super::ring::{BadCounter, IN_LINE, LINES, Line, Reader, Released, Writer};
    pub use super::shuttle::{ALL, Shuttles, seen_by_peer};
    pub use super::status::{Header, Status};
}
