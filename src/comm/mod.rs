//! The public call: communicators.
//!
//! ```text
//!   Communicator ──> Request ──> Session (exec) ──> Job ──> links
//!        │
//!        ├── collectives   the list of typed calls; requests: their checks
//!        ├── group         several operations that go on side by side
//!        ├── work          operations that go on while the caller computes
//!        ├── registered    memory that every rank of the host can address
//!        ├── setup, processes, split    how a communicator comes to be, and how it goes
//!        ├── hosts         communicators over sockets
//!        └── neighbours    which of its ranks are near each other
//! ```

mod collectives;
mod completion;
mod engine;
mod group;
mod hosts;
mod neighbours;
mod processes;
mod registered;
mod requests;
mod setup;
mod split;
mod work;

#[cfg(loom)]
pub use completion::Completion;
pub use group::Group;
pub use registered::Registered;
pub use work::{Scope, ScopedWork, StableBuffer, Work};

use crate::error::{Error, Result};
use crate::exec::{Element, Request};
use crate::plan::{Plan, World};
use crate::sys::biased::{Biased, Held};
use crate::sys::fork;
use crate::transport::shm::Heaps;
use crate::types::{Call, Collective, DataType, ReduceOp, Reduction};
use engine::Engine;
use std::sync::Arc;
use work::Worker;

/// A set of ranks that communicate. Every rank holds its own; all of them make the same calls in the same order.
///
/// A communicator may be shared between threads; operations on it run one after the other, in the order in which they were begun. After
/// an error other than [`Error::Misuse`] it is of no further use, on any rank.
pub struct Communicator {
    shared: Arc<Shared>,
}

/// What a communicator and its worker thread have in common.
struct Shared {
    rank: usize,
    size: usize,
    name: String,
    config: crate::Config,
    kind: split::Kind,
    /// Which ranks are near each other, for plans and for those that are split from this one.
    world: World,
    engine: Biased<Box<dyn Engine>>,
    door: Arc<dyn setup::Door>,
    worker: Worker,
    /// Communicators made from this one so far, for their names.
    children: std::sync::atomic::AtomicUsize,
    heap: registered::Heap,
    /// Heaps that this communicator's ranks can address, for those that are split from it.
    heaps: Heaps,
    /// Whether registered memory exists: agreed by all ranks.
    windows: std::sync::atomic::AtomicBool,
    /// The process that it belongs to.
    generation: u32,
}

impl std::fmt::Debug for Communicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Communicator('{}', rank {} of {})", self.shared.name, self.shared.rank, self.shared.size)
    }
}

impl Communicator {
    fn over(parts: setup::Parts) -> Communicator {
        let setup::Parts { engine, door, heap, heaps, windows, kind, world, config } = parts;
        let (windows, generation) = (windows.into(), fork::generation());
        let (rank, size) = (engine.rank() as usize, engine.size() as usize);
        let name = config.name.clone();
        let (engine, worker, children) = (Biased::new(engine), Worker::default(), Default::default());
        let shared = Shared {
            rank,
            size,
            name,
            config,
            kind,
            world,
            engine,
            door,
            worker,
            children,
            heap,
            heaps,
            windows,
            generation,
        };
        let shared = Arc::new(shared);
        setup::remember(&shared);
        Communicator { shared }
    }

    /// This rank, from 0.
    pub fn rank(&self) -> usize {
        self.shared.rank
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.shared.size
    }

    /// The name that messages use.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The domain of each rank: ranks of one domain share a cache, the memory of a NUMA node or a host, by [`crate::Config::domains`] or as it
    /// was found at the start. Rings visit domains in the order of these numbers. All are in domain 0 where nobody is known to be nearer
    /// than others.
    pub fn domains(&self) -> Vec<usize> {
        (0..self.size()).map(|rank| self.shared.world.seat(rank as u32).0 as usize).collect()
    }

    /// The plan that this communicator follows for a call, with why ([`Plan::explain`]).
    pub fn plan(&self, call: &Call) -> Result<Plan> {
        self.shared.lock().plan(call)
    }

    /// The error that ended this communicator, if one did; without waiting for what is under way.
    pub fn error(&self) -> Option<Error> {
        self.shared.engine.try_lock().and_then(|engine| engine.failure())
    }

    /// Ends this communicator for all ranks. What is under way, on any rank, returns [`Error::Aborted`] with this reason. May be called
    /// from any thread, also while another one waits in an operation.
    pub fn abort(&self, reason: &str) {
        self.shared.door.abort(reason);
    }

    /// Runs one operation to its end on this thread, behind those that were begun before.
    pub(crate) fn perform(&self, request: &Request) -> Result<()> {
        if self.shared.is_at_rest() {
            return self.shared.lock().perform(request);
        }
        self.run_behind(std::slice::from_ref(request))
    }

    /// The same for operations that go on side by side.
    fn perform_together(&self, requests: &[Request]) -> Result<()> {
        if self.shared.is_at_rest() {
            return self.shared.lock().perform_together(requests);
        }
        self.run_behind(requests)
    }

    #[cold]
    fn run_behind(&self, requests: &[Request]) -> Result<()> {
        self.shared.refuse_in_fork()?;
        self.shared.worker.run_behind(&self.shared, requests.to_vec())
    }

    /// The same for an operation of the library's own, which a forced algorithm does not bind.
    fn perform_freely(&self, request: &Request) -> Result<()> {
        self.perform_freely_and(request, &mut |_| ())
    }

    /// The same; `then` follows before anybody else can begin an operation.
    fn perform_freely_and(&self, request: &Request, then: &mut dyn FnMut(&mut dyn Engine)) -> Result<()> {
        self.shared.refuse_in_fork()?;
        self.shared.worker.finish();
        let mut engine = self.shared.lock();
        let forced = self.shared.config.algorithm;
        if forced.is_some() {
            engine.retune(&mut |tuning| tuning.algorithm = None);
        }
        let outcome = engine.perform(request);
        if forced.is_some() {
            engine.retune(&mut |tuning| tuning.algorithm = forced);
        }
        if outcome.is_ok() {
            then(&mut *engine);
        }
        outcome
    }

    /// Runs one operation on memory that is given by address, for which whoever made the request vouches: the door for other languages.
    pub fn perform_raw(&self, request: &Request) -> Result<()> {
        self.perform(request)
    }

    #[inline(always)]
    fn call<T: Element>(&self, collective: Collective, op: ReduceOp, root: usize, count: usize) -> Result<Call> {
        let root = self.check_rank(root, "root")?;
        let reduction = if collective.reduces() { op.reduction() } else { Reduction::Sum };
        Ok(Call::new(collective, T::TYPE, reduction, root, count as u64))
    }

    fn check_peer(&self, peer: usize) -> Result<u32> {
        if peer == self.rank() {
            return Err(Error::misuse(
                format!("rank {peer} wants to send to, or receive from, itself"),
                "Copy the data, or use send_recv",
            ));
        }
        self.check_rank(peer, "peer")
    }

    #[inline(always)]
    fn check_rank(&self, rank: usize, what: &str) -> Result<u32> {
        if rank < self.size() { Ok(rank as u32) } else { Err(self.no_rank(rank, what)) }
    }

    #[cold]
    fn no_rank(&self, rank: usize, what: &str) -> Error {
        Error::misuse(
            format!("{what} {rank} is not a rank of communicator '{}', which has {}", self.name(), self.size()),
            format!("Pass a number from 0 to {}", self.size() - 1),
        )
    }
}

impl Shared {
    /// Whether nothing is under way in the background, in the process that this communicator belongs to.
    #[inline(always)]
    fn is_at_rest(&self) -> bool {
        self.generation == fork::generation() && !self.worker.is_busy()
    }

    /// A fork has its parent's communicators in its memory, but it is not the rank.
    #[inline]
    fn refuse_in_fork(&self) -> Result<()> {
        if self.generation == fork::generation() { Ok(()) } else { Err(self.forked()) }
    }

    /// Takes part no more.
    fn part(&self) {
        if let Some(mut engine) = self.engine.try_lock() {
            engine.part();
        }
        self.door.leave();
    }

    #[cold]
    fn forked(&self) -> Error {
        Error::misuse(
            format!("communicator '{}' belongs to the process that this one was forked from", self.name),
            "Make communicators in the process that uses them, after it was forked",
        )
    }

    #[inline(always)]
    fn lock(&self) -> Locked<'_> {
        Locked { engine: self.engine.lock(), unwinding: std::thread::panicking() }
    }
}

/// A communicator's engine while one thread uses it. An operation that panics ends the communicator before anybody else can have the
/// engine: the buffers that were lent to it are freed next, and nothing, here or on another rank, may touch them from then on.
struct Locked<'s> {
    engine: Held<'s, Box<dyn Engine>>,
    /// Whether the thread was unwinding before: then what it does here is a destructor's work.
    unwinding: bool,
}

impl std::ops::Deref for Locked<'_> {
    type Target = dyn Engine;
    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &**self.engine
    }
}

impl std::ops::DerefMut for Locked<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut **self.engine
    }
}

impl Locked<'_> {
    #[cold]
    fn abort(&mut self) {
        self.engine.abort("this rank panicked inside an operation");
    }
}

impl Drop for Locked<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if std::thread::panicking() && !self.unwinding {
            self.abort();
        }
    }
}

/// Type and count of a point-to-point operation.
fn extent<T: Element>(buffer: &[T]) -> (u64, DataType) {
    (buffer.len() as u64, T::TYPE)
}

impl Drop for Communicator {
    fn drop(&mut self) {
        // In a fork there is no worker thread that could finish anything, and the rank is its parent's.
        if self.shared.generation == fork::generation() {
            self.shared.worker.finish();
            self.shared.part();
        }
    }
}
