//! Noticing those that are gone and those that do something else. The service asks; here is looked at what it knows.

use super::links::TcpLinks;
use crate::transport::shm::status::Life;
use crate::transport::{Abort, Blocked, Entered, Links, Trouble, Watch};
use std::time::Duration;

impl TcpLinks {
    /// A rank that is waited for and takes part no more.
    fn left(&self, rank: u32) -> Option<Trouble> {
        let status = self.office.status(rank);
        (status.life() == Life::Left).then(|| {
            let how = format!("it left the communicator after operation {}", status.progress().1);
            Trouble::Lost { rank, how }
        })
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

    fn finished(&self, rank: u32) -> u64 {
        self.office.delivered(rank)
    }

    #[inline]
    fn aborted(&self) -> bool {
        self.office.has_ended()
    }

    fn trouble(&mut self, number: u64, blocked: Blocked) -> Option<Trouble> {
        if let Some(abort) = self.office.reason() {
            return Some(Trouble::Aborted(abort));
        }
        if let Some((rank, how)) = self.office.lost() {
            return Some(Trouble::Lost { rank, how });
        }
        if let Some(left) = self.left(blocked.rank()) {
            return Some(left);
        }
        if let Some(how) = self.office.is_absent(blocked.rank()) {
            return Some(Trouble::Lost { rank: blocked.rank(), how });
        }
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
        let status = self.office.status(rank);
        let (entered, finished) = status.progress();
        let name = self.office.name(rank);
        match status.call(entered) {
            Some(call) if entered > finished => format!("in operation {entered}, {call}, {name}"),
            _ if entered < number => format!("has not entered operation {number} (last was {entered}), {name}"),
            _ => format!("after operation {entered}, {name}"),
        }
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
