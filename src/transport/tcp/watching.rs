//! Noticing those that are gone and those that do something else. The service asks; here is looked at what it knows.

use super::links::{LOOKS_OF_A_NAP, TcpLinks};
use crate::transport::{Abort, Blocked, Entered, Links, Trouble, Watch};
use std::time::{Duration, Instant};

/// How long the last bytes of a rank that has ended a call may take from its kernel to here.
const LAST_MILE: Duration = Duration::from_secs(1);

impl TcpLinks {
    /// Whether that rank has ended the call, and then takes in all that it sent for it.
    pub(in crate::transport) fn look_whether_ended(&mut self, rank: u32, number: u64) {
        let ended = self.office.delivered(rank);
        if number > 0 && ended >= number && !self.office.is_dialing(rank) && self.has_waited(rank) {
            let _an_error_comes_again = self.advance_all();
            self.ended = (rank, ended);
        }
    }

    /// Whether this rank has waited for the last of what that one has sent. Its kernel says that the bytes were taken; where a proxy is on the
    /// way (a sidecar of a service mesh, an SSH tunnel), that is who took them.
    fn has_waited(&mut self, rank: u32) -> bool {
        match self.last_mile {
            Some((awaited, since)) if awaited == rank => since.elapsed() >= LAST_MILE,
            _ => {
                self.last_mile = Some((rank, Instant::now()));
                false
            }
        }
    }

    /// Why the communicator has ended.
    pub(in crate::transport) fn reason(&self) -> Option<Abort> {
        self.office.reason()
    }

    /// A rank that has died, or the one that is waited for if it takes part no more.
    pub(in crate::transport) fn bereaved(&mut self, waits_for: Option<u32>) -> Option<Trouble> {
        if let Some((rank, how)) = self.office.lost() {
            return Some(Trouble::Lost { rank, how });
        }
        let rank = waits_for.filter(|rank| !self.office.is_dialing(*rank))?;
        if let Some(how) = self.office.status(rank).left() {
            return self.has_waited(rank).then_some(Trouble::Lost { rank, how });
        }
        let how = self.office.is_absent(rank)?;
        // Who is not there any more may have said why before it went, and the service has yet to read that.
        self.office.await_end();
        Some(Trouble::Lost { rank, how })
    }

    /// A rank that does something else than this one under that number, as far as it was asked.
    pub(in crate::transport) fn disagreement(&self, number: u64) -> Option<Trouble> {
        let ours = self.office.status(self.rank()).call(number)?;
        let theirs = self.others().filter_map(|rank| Some((rank, self.office.status(rank).call(number)?)));
        let (rank, theirs) = { theirs }.find(|(_, theirs)| theirs.digest != ours.digest)?;
        Some(Trouble::Disagreement { rank, theirs })
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
        let ended = |links: &TcpLinks| links.reason().map(Trouble::Aborted);
        // Whoever has ended the communicator leaves after that, perhaps just now.
        let lost = ended(self).or_else(|| self.bereaved(Some(blocked.rank())));
        if let Some(lost) = lost {
            // What was sent before is taken in, so that whoever asks sees all of it; an error of that comes again in the next poll.
            let _anything = self.advance_all();
            return ended(self).or(Some(lost));
        }
        self.look_whether_ended(blocked.rank(), number);
        self.disagreement(number)
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
        self.arm_queues();
    }

    fn sleep(&mut self, limit: Duration) {
        // What has come meanwhile is for the next poll, an error of it too.
        if let Ok(false) = self.advance_all() {
            self.sleep_on_sockets(limit);
        }
    }

    fn nap(&mut self, blocked: Blocked) -> Option<Duration> {
        let (ranks, processors) = self.crowd;
        if ranks <= processors {
            return None;
        }
        let peer = self.peers.get_mut(blocked.rank() as usize)?.as_mut()?;
        let nap = peer.nap(matches!(blocked, Blocked::Slot(_)))?;
        peer.unlooked = peer.unlooked.saturating_add(LOOKS_OF_A_NAP);
        Some(nap)
    }

    fn rise(&mut self) {}

    fn go_on(&mut self) {
        self.office.status(self.rank()).set_waiting_for(None);
        self.office.wait_for(None);
        self.last_mile = None;
    }

    fn abort(&mut self, abort: Abort) -> Abort {
        self.office.abort(&abort);
        self.reason().unwrap_or(abort)
    }

    fn withdraw(&mut self) {}

    fn failed(&mut self) {
        self.end();
    }

    fn crowd(&self) -> (u32, u32) {
        self.crowd
    }
}
