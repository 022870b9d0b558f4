//! Noticing those that are gone and those that do something else. The service asks; here is looked at what it knows.

use super::links::TcpLinks;
use crate::transport::{Abort, Blocked, Entered, Links, Trouble, Watch};
use std::time::Duration;

impl TcpLinks {
    /// Whether that rank has ended the call, and then takes in all that it sent for it.
    fn look_whether_ended(&mut self, rank: u32, number: u64) {
        let ended = self.office.delivered(rank);
        if number > 0 && ended >= number && !self.office.is_dialing(rank) {
            let _an_error_comes_again = self.advance_all();
            self.ended = (rank, ended);
        }
    }

    /// A reason not to wait for that rank: somebody died, or it takes part no more.
    fn gone(&self, rank: u32) -> Option<Trouble> {
        if let Some((rank, how)) = self.office.lost() {
            return Some(Trouble::Lost { rank, how });
        }
        if self.office.is_dialing(rank) {
            return None;
        }
        let absent = || self.office.is_absent(rank).map(|how| Trouble::Lost { rank, how });
        let left = || self.office.status(rank).left().map(|how| Trouble::Lost { rank, how });
        left().or_else(absent)
    }

    fn others(&self) -> impl Iterator<Item = u32> + use<> {
        let own = self.rank();
        (0..self.size()).filter(move |rank| *rank != own)
    }
}

impl Watch for TcpLinks {
    #[inline]
    fn announce(&mut self, entered: &Entered) {
        self.office.status(self.rank()).enter(entered);
    }

    #[inline]
    fn finish(&mut self, number: u64) {
        self.office.status(self.rank()).finish(number);
    }

    /// As of the last look for trouble.
    fn finished(&self, rank: u32) -> u64 {
        if self.ended.0 == rank { self.ended.1 } else { 0 }
    }

    #[inline]
    fn aborted(&self) -> bool {
        self.office.has_ended()
    }

    fn trouble(&mut self, number: u64, blocked: Blocked) -> Option<Trouble> {
        let ended = self.office.reason().map(Trouble::Aborted).or_else(|| self.gone(blocked.rank()));
        if ended.is_some() {
            // What was sent before is taken in, so that whoever asks sees all of it; an error of that comes again in the next poll.
            let _anything = self.advance_all();
            return ended;
        }
        self.look_whether_ended(blocked.rank(), number);
        let ours = self.office.status(self.rank()).call(number)?;
        let theirs = self.others().filter_map(|rank| Some((rank, self.office.status(rank).call(number)?)));
        let (rank, theirs) = { theirs }.find(|(_, theirs)| theirs.digest != ours.digest)?;
        Some(Trouble::Disagreement { rank, theirs })
    }

    fn entered(&self, rank: u32, number: u64) -> Option<Entered> {
        self.office.status(rank).call(number)
    }

    fn inquire(&mut self, rank: u32) {
        self.office.inquire(rank);
    }

    fn waiting_for(&self, rank: u32) -> Option<u32> {
        self.office.status(rank).waiting_for()
    }

    fn stopped(&self, _rank: u32) -> bool {
        false
    }

    fn describe(&self, rank: u32, number: u64) -> String {
        self.office.status(rank).describe(number, &format!(", {}", self.office.name(rank)))
    }

    fn doze(&mut self, blocked: Blocked) {
        self.office.status(self.rank()).set_waiting_for(Some(blocked.rank()));
        self.office.wait_for(Some(blocked.rank()));
    }

    fn sleep(&mut self, limit: Duration) {
        // What has come meanwhile is for the next poll, an error of it too.
        if let Ok(false) = self.advance_all() {
            self.sleep_on_sockets(limit);
        }
    }

    fn rise(&mut self) {}

    fn go_on(&mut self) {
        self.office.status(self.rank()).set_waiting_for(None);
        self.office.wait_for(None);
    }

    fn abort(&mut self, abort: Abort) -> Abort {
        self.office.abort(&abort);
        self.office.reason().unwrap_or(abort)
    }

    fn withdraw(&mut self) {}

    fn failed(&mut self) {
        self.end();
    }

    fn crowd(&self) -> (u32, u32) {
        self.crowd
    }
}
