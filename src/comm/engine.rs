//! A session, whatever its links are: one virtual call an operation.

use crate::error::{Error, Result};
use crate::exec::{Poll, Request, Session};
use crate::plan::{Plan, Tuning};
use crate::transport::local::LocalLinks;
use crate::transport::mixed::MixedLinks;
use crate::transport::shm::ShmLinks;
use crate::transport::tcp::TcpLinks;
use crate::transport::{Blocked, Watch};
use crate::types::Call;

/// What a communicator needs of a session.
pub trait Engine: Send {
    /// This rank.
    fn rank(&self) -> u32;
    /// The number of ranks.
    fn size(&self) -> u32;
    /// One operation, to its end.
    fn perform(&mut self, request: &Request) -> Result<()>;
    /// Several that go on side by side, to the end of all.
    fn perform_together(&mut self, requests: &[Request]) -> Result<()>;
    /// Puts one of several operations behind those under way, before `finish` or `poll`.
    fn collect(&mut self, request: &Request) -> Result<()>;
    /// Does what can be done now.
    fn poll(&mut self) -> Result<Poll>;
    /// Everything that was submitted, to its end.
    fn finish(&mut self) -> Result<()>;
    /// Looks for a reason why a wait will not end. True: it goes on after all.
    fn look_for_trouble(&mut self, on: Blocked) -> Result<bool>;
    /// Says for whom this rank has been waiting for long; None: no more.
    fn say_waiting(&mut self, on: Option<Blocked>);
    /// The deadline has passed.
    fn give_up(&mut self, on: Blocked) -> Result<Poll>;
    /// Ends the communicator everywhere.
    fn abort(&mut self, reason: &str) -> Error;
    /// The error that ended the communicator.
    fn failure(&self) -> Option<Error>;
    /// The plan that this rank follows for a call.
    fn plan(&self, call: &Call) -> Result<Plan>;
    /// Changes how plans are chosen.
    fn retune(&mut self, change: &mut dyn FnMut(&mut Tuning));
    /// Gives back staging memory that nobody is using.
    fn give_back(&mut self);
    /// Sees to it that what was sent reaches the others though this rank may end.
    fn part(&mut self);
}

/// What a communicator asks of its links outside of operations.
pub trait GiveBack {
    /// Gives back staging memory that nobody is using.
    fn give_back(&mut self) {}

    /// Sees to it that what was sent reaches the others though this rank may end.
    fn part(&mut self) {}
}

impl GiveBack for ShmLinks {
    fn give_back(&mut self) {
        ShmLinks::give_back(self)
    }
}

impl GiveBack for LocalLinks {}

impl GiveBack for TcpLinks {
    fn part(&mut self) {
        TcpLinks::part(self)
    }
}

impl GiveBack for MixedLinks {
    fn give_back(&mut self) {
        self.near().give_back()
    }

    fn part(&mut self) {
        self.far().part()
    }
}

impl<L: Watch + GiveBack + Send> Engine for Session<L> {
    fn rank(&self) -> u32 {
        self.links_ref().rank()
    }

    fn size(&self) -> u32 {
        self.links_ref().size()
    }

    fn perform(&mut self, request: &Request) -> Result<()> {
        Session::perform(self, request)
    }

    fn perform_together(&mut self, requests: &[Request]) -> Result<()> {
        Session::perform_together(self, requests)
    }

    fn collect(&mut self, request: &Request) -> Result<()> {
        Session::collect(self, request)
    }

    fn poll(&mut self) -> Result<Poll> {
        Session::poll(self)
    }

    fn finish(&mut self) -> Result<()> {
        Session::finish(self)
    }

    fn look_for_trouble(&mut self, on: Blocked) -> Result<bool> {
        Session::look_for_trouble(self, on)
    }

    fn say_waiting(&mut self, on: Option<Blocked>) {
        Session::say_waiting(self, on)
    }

    fn give_up(&mut self, on: Blocked) -> Result<Poll> {
        Session::give_up(self, on)
    }

    fn abort(&mut self, reason: &str) -> Error {
        Session::abort(self, reason)
    }

    fn failure(&self) -> Option<Error> {
        Session::failure(self).cloned()
    }

    fn plan(&self, call: &Call) -> Result<Plan> {
        Session::plan(self, call)
    }

    fn retune(&mut self, change: &mut dyn FnMut(&mut Tuning)) {
        Session::retune(self, change)
    }

    fn give_back(&mut self) {
        self.links().give_back()
    }

    fn part(&mut self) {
        self.links().part()
    }
}
