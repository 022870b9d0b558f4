//! Operations that go on while the caller computes: a worker thread for each communicator that has any, and handles to wait on.
//!
//! Soundness does not depend on anybody waiting. A buffer that is handed over by value belongs to the operation until it has ended; if
//! the handle is forgotten, so is the buffer, later. A buffer that is lent goes through a scope, which does not end before its
//! operations have.

use super::collectives::each_call;
use super::completion::Completion;
use super::requests::Requests;
use super::{Communicator, Registered, Shared};
use crate::error::{Error, Result};
use crate::exec::{Element, Request};
use crate::types::ReduceOp;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak, mpsc};
use std::thread::ThreadId;
use std::time::Duration;

struct Task {
    requests: Vec<Request>,
    completion: Arc<Completion>,
    /// Keeps a handed-over buffer alive until the operation has ended.
    buffer: Option<Arc<dyn Send + Sync>>,
    /// Tasks begun and not ended; None once this one has.
    open: Option<Arc<AtomicUsize>>,
}

impl Task {
    fn end(&mut self, outcome: Result<()>) {
        let Some(open) = self.open.take() else { return };
        self.buffer = None;
        open.fetch_sub(1, Ordering::AcqRel);
        self.completion.end(outcome);
    }
}

impl Drop for Task {
    /// Nobody waits for ever for a task that the worker thread did not come to because an operation panicked.
    fn drop(&mut self) {
        self.end(Err(Error::misuse(
            "the communicator's worker thread has panicked",
            "Look for the panic in this process's output",
        )));
    }
}

/// The thread that runs a communicator's operations in the background, started by the first one.
#[derive(Default)]
pub(super) struct Worker {
    tasks: OnceLock<Mutex<mpsc::Sender<Task>>>,
    /// Tasks begun and not ended.
    open: Arc<AtomicUsize>,
    last: Mutex<Option<Arc<Completion>>>,
    thread: OnceLock<ThreadId>,
}

impl Worker {
    /// Whether anything is under way in the background.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.open.load(Ordering::Acquire) != 0
    }

    /// Runs requests behind those in the background and waits for them.
    pub fn run_behind(&self, shared: &Arc<Shared>, requests: Vec<Request>) -> Result<()> {
        let completion = self.begin(shared, requests, None)?;
        completion.wait(None).unwrap_or(Ok(()))
    }

    /// Waits until nothing is under way. The outcomes are their handles' business.
    pub fn finish(&self) {
        // A buffer that owns its communicator may let go of it on the worker's own thread.
        if self.thread.get() == Some(&std::thread::current().id()) {
            return;
        }
        while self.is_busy() {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(last) = last {
                let _known_to_its_handle = last.wait(None);
            }
            std::thread::yield_now();
        }
    }

    fn begin(
        &self,
        shared: &Arc<Shared>,
        requests: Vec<Request>,
        buffer: Option<Arc<dyn Send + Sync>>,
    ) -> Result<Arc<Completion>> {
        shared.refuse_in_fork()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = match self.tasks.get() {
            Some(tasks) => tasks,
            None => {
                let (tasks, thread) = start(Arc::downgrade(shared))?;
                self.thread.get_or_init(|| thread);
                self.tasks.get_or_init(|| Mutex::new(tasks))
            }
        };
        let completion = Arc::new(Completion::default());
        self.open.fetch_add(1, Ordering::AcqRel);
        let task = Task { requests, completion: completion.clone(), buffer, open: Some(self.open.clone()) };
        let sent = tasks.lock().unwrap_or_else(PoisonError::into_inner).send(task);
        if sent.is_err() {
            return Err(Error::misuse(
                "the communicator's worker thread has ended",
                "Look for an earlier panic in this process",
            ));
        }
        *last = Some(completion.clone());
        Ok(completion)
    }
}

fn start(shared: Weak<Shared>) -> Result<(mpsc::Sender<Task>, ThreadId)> {
    let (sender, receiver) = mpsc::channel::<Task>();
    let run = move || {
        for mut task in receiver {
            // The communicator waits for its tasks before it goes, so it is here while there are any.
            let Some(shared) = shared.upgrade() else { return };
            let outcome = run_all(&shared, std::mem::take(&mut task.requests));
            task.end(outcome);
        }
    };
    let thread = std::thread::Builder::new().name("ringtree-worker".into()).spawn(run).map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
        Error::from_errno(
            "cannot start a worker thread",
            errno,
            "Raise the limit of threads (ulimit -u, cgroup pids.max)",
        )
    })?;
    Ok((sender, thread.thread().id()))
}

fn run_all(shared: &Shared, requests: Vec<Request>) -> Result<()> {
    let mut engine = shared.lock();
    let mut refused = Ok(());
    for request in requests {
        refused = refused.and(engine.collect(&request));
    }
    let ran = engine.finish();
    refused.and(ran)
}

/// A buffer that may be handed over: its elements stay where they are while the buffer itself is moved.
///
/// # Safety
/// `elements` gives the same memory however often the value is moved, and nothing else has access to it.
pub unsafe trait StableBuffer: Send + Sync + 'static {
    /// The element type.
    type Item: Element;
    /// The elements.
    fn elements(&mut self) -> &mut [Self::Item];
}

// SAFETY: a vector's elements lie on the heap and belong to it alone.
unsafe impl<T: Element> StableBuffer for Vec<T> {
    type Item = T;
    fn elements(&mut self) -> &mut [T] {
        self
    }
}

// SAFETY: a registered buffer's elements lie in the shared heap and belong to it alone.
unsafe impl<T: Element> StableBuffer for Registered<T> {
    type Item = T;
    fn elements(&mut self) -> &mut [T] {
        self
    }
}

/// An operation under way on a buffer that was handed over. Dropping it lets the operation end by itself.
#[derive(Debug)]
#[must_use = "the buffer comes back through `wait`"]
pub struct Work<B> {
    completion: Arc<Completion>,
    buffer: Arc<Mutex<Option<B>>>,
}

impl<B> Work<B> {
    /// Whether the operation has ended, well or not.
    pub fn test(&self) -> bool {
        self.completion.test().is_some()
    }

    /// Waits for the end and returns the buffer.
    pub fn wait(self) -> Result<B> {
        self.completion.wait(None).unwrap_or(Ok(()))?;
        self.take()
    }

    /// The same with a limit: gives this handle back if the operation is still under way then.
    pub fn wait_timeout(self, limit: Duration) -> std::result::Result<Result<B>, Work<B>> {
        match self.completion.wait(Some(limit)) {
            None => Err(self),
            Some(outcome) => Ok(outcome.and_then(|()| self.take())),
        }
    }

    fn take(&self) -> Result<B> {
        let buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner).take();
        buffer.ok_or_else(|| Error::misuse("the buffer of this operation has been taken", "Wait once"))
    }
}

impl Communicator {
    fn begin<B: StableBuffer>(
        &self,
        mut buffer: B,
        request: impl FnOnce(&mut [B::Item]) -> Result<Request>,
    ) -> Result<Work<B>> {
        let request = request(buffer.elements())?;
        let buffer = Arc::new(Mutex::new(Some(buffer)));
        let completion = self.shared.worker.begin(&self.shared, vec![request], Some(buffer.clone()))?;
        Ok(Work { completion, buffer })
    }

    /// Begins [`Communicator::all_reduce`] on a buffer that is handed over.
    pub fn all_reduce_async<B: StableBuffer>(&self, buffer: B, op: ReduceOp) -> Result<Work<B>> {
        self.begin(buffer, |data| Requests(self).all_reduce(data, op))
    }

    /// Begins [`Communicator::all_gather_in_place`] on a buffer that is handed over.
    pub fn all_gather_in_place_async<B: StableBuffer>(&self, buffer: B) -> Result<Work<B>> {
        self.begin(buffer, |data| Requests(self).all_gather_in_place(data))
    }

    /// Begins [`Communicator::reduce_scatter_in_place`] on a buffer that is handed over.
    pub fn reduce_scatter_in_place_async<B: StableBuffer>(&self, buffer: B, op: ReduceOp) -> Result<Work<B>> {
        self.begin(buffer, |data| Requests(self).reduce_scatter_in_place(data, op))
    }

    /// Begins [`Communicator::broadcast`] on a buffer that is handed over.
    pub fn broadcast_async<B: StableBuffer>(&self, buffer: B, root: usize) -> Result<Work<B>> {
        self.begin(buffer, |data| Requests(self).broadcast(data, root))
    }

    /// Begins [`Communicator::reduce`] on a buffer that is handed over.
    pub fn reduce_async<B: StableBuffer>(&self, buffer: B, op: ReduceOp, root: usize) -> Result<Work<B>> {
        self.begin(buffer, |data| Requests(self).reduce(data, op, root))
    }

    /// Begins [`Communicator::send`] on a buffer that is handed over.
    pub fn send_async<B: StableBuffer>(&self, buffer: B, to: usize) -> Result<Work<B>> {
        self.begin(buffer, |data| Requests(self).send(data, to))
    }

    /// Begins [`Communicator::recv`] on a buffer that is handed over.
    pub fn recv_async<B: StableBuffer>(&self, buffer: B, from: usize) -> Result<Work<B>> {
        self.begin(buffer, |data| Requests(self).recv(data, from))
    }

    /// Lets operations on borrowed buffers go on while `body` computes: what is begun in the scope has ended when `scope` returns. The
    /// error of an operation that nobody waited for is returned here.
    pub fn scope<'env, R>(&'env self, body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R) -> Result<R> {
        let scope = Scope { communicator: self, begun: RefCell::new(Vec::new()), scope: PhantomData, env: PhantomData };
        let all_ended = EndAll(&scope.begun);
        let value = body(&scope);
        let outcome = all_ended.end();
        outcome.map(|()| value)
    }
}

/// Where borrowed buffers can be used in the background; see [`Communicator::scope`].
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    communicator: &'env Communicator,
    begun: RefCell<Vec<Arc<Completion>>>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// Waits for everything that a scope began, also when its body panics.
struct EndAll<'a>(&'a RefCell<Vec<Arc<Completion>>>);

impl EndAll<'_> {
    fn end(&self) -> Result<()> {
        let mut outcome = Ok(());
        for completion in self.0.borrow_mut().drain(..) {
            outcome = outcome.and(completion.wait(None).unwrap_or(Ok(())));
        }
        outcome
    }
}

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        let _only_after_a_panic = self.end();
    }
}

/// An operation under way in a scope.
#[derive(Debug)]
pub struct ScopedWork<'scope> {
    completion: Arc<Completion>,
    scope: PhantomData<&'scope ()>,
}

impl ScopedWork<'_> {
    /// Whether the operation has ended, well or not.
    pub fn test(&self) -> bool {
        self.completion.test().is_some()
    }

    /// Waits for the end.
    pub fn wait(&self) -> Result<()> {
        self.completion.wait(None).unwrap_or(Ok(()))
    }

    /// Waits for the end, at most that long; None: still under way.
    pub fn wait_timeout(&self, limit: Duration) -> Option<Result<()>> {
        self.completion.wait(Some(limit))
    }
}

macro_rules! begin_in_scope {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        impl<'b> Scope<'b, '_> {
            $(
                #[doc = concat!("Begins [`Communicator::", stringify!($name), "`].")]
                pub fn $name<T: Element>(&'b self, $($arg: $type),*) -> Result<ScopedWork<'b>> {
                    let request = Requests(self.communicator).$name($($arg),*)?;
                    let shared = &self.communicator.shared;
                    let completion = shared.worker.begin(shared, vec![request], None)?;
                    self.begun.borrow_mut().push(completion.clone());
                    Ok(ScopedWork { completion, scope: PhantomData })
                }
            )*
        }
    };
}
each_call!(begin_in_scope);
