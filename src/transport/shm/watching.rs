//! Noticing the dead, the stopped, and those who do something else. Nothing here runs while messages flow.

use super::links::ShmLinks;
use super::status::Life;
use crate::sys::barrier;
use crate::sys::process::Watched;
use crate::transport::watch::end_of_line;
use crate::transport::{Abort, Blocked, Entered, Links, Suspect, Trouble, Watch};
use std::time::{Duration, Instant};

/// The longest wait for a rank that copies from or to this rank's buffers. A step copies a megabyte or so; who takes longer is frozen.
const COPYING: Duration = Duration::from_secs(10);

/// A rank that has been stopped for so long is not waited for.
const STOPPED: Duration = Duration::from_millis(100);

impl ShmLinks {
    /// The reason of an abort, as it was written, waiting for a rank that is just writing it.
    pub(in crate::transport) fn why_aborted(&self) -> Option<Abort> {
        self.header().await_reason()
    }

    fn abort_reason(&self) -> Option<Abort> {
        self.why_aborted().map(|reason| reason.believable(self.size()))
    }

    /// Ends the communicator for all ranks of the segment, unless somebody has done so before.
    pub(in crate::transport) fn spread(&self, abort: &Abort) {
        self.segment().abort(abort);
    }

    /// A rank that has died, or the one that is waited for if it has left.
    pub(in crate::transport) fn bereaved(&self, waits_for: Option<u32>) -> Option<Trouble> {
        // The dead first: who left or does something else may do so because of them.
        let dead = self.others().find_map(|rank| self.dead(rank));
        dead.or_else(|| self.left(waits_for?))
    }

    /// A rank that does something else than this one under that number.
    pub(in crate::transport) fn disagreement(&self, number: u64) -> Option<Trouble> {
        let ours = self.own_status().call(number)?;
        let theirs = self.others().filter_map(|rank| Some((rank, self.segment().status(rank).call(number)?)));
        let (rank, theirs) = { theirs }.find(|(_, theirs)| theirs.digest != ours.digest)?;
        Some(Trouble::Disagreement { rank, theirs })
    }

    /// Says for which rank this one has been waiting for long; None: no more.
    pub(in crate::transport) fn say_waiting_for(&self, rank: Option<u32>) {
        self.own_status().set_waiting_for(rank);
    }

    /// From now on whoever publishes wakes this rank.
    pub(in crate::transport) fn lie_down(&self) {
        self.own_status().bell.lie_down(&self.header().sleepers);
    }

    /// A rank whose process has ended while it took part.
    fn dead(&self, rank: u32) -> Option<Trouble> {
        let process = self.process(rank).filter(|process| process.gone())?;
        // One that has left first was read after its end: it left content.
        (self.segment().status(rank).life() == Life::Present).then(|| {
            let how = format!("process {} on this host has ended (killed, crashed or exited)", process.pid());
            Trouble::Lost { rank, how }
        })
    }

    /// A rank that is waited for and takes part no more.
    fn left(&self, rank: u32) -> Option<Trouble> {
        self.segment().status(rank).left().map(|how| Trouble::Lost { rank, how })
    }

    /// Waits until that rank is in nobody's buffers, is gone, or has been seen stopped for a while; at most until then.
    fn await_outside(&self, rank: u32, until: Instant) {
        let status = self.segment().status(rank);
        let (mut looks, mut stopped_since) = (0u32, None);
        while status.in_windows() && Instant::now() < until {
            looks += 1;
            if looks < 100 {
                std::thread::yield_now();
                continue;
            }
            std::thread::sleep(Duration::from_micros(50));
            if self.process(rank).is_some_and(Watched::gone) {
                return;
            }
            // A debugger stops a process for an instant, and it goes on writing.
            match self.stopped(rank) {
                true if stopped_since.get_or_insert_with(Instant::now).elapsed() > STOPPED => return,
                true => {}
                false => stopped_since = None,
            }
        }
    }

    fn others(&self) -> impl Iterator<Item = u32> + use<> {
        let own = self.rank();
        (0..self.size()).filter(move |rank| *rank != own)
    }
}

impl Watch for ShmLinks {
    #[inline]
    fn announce(&mut self, entered: &Entered) {
        self.own_status().enter(entered);
    }

    #[inline]
    fn finish(&mut self, number: u64) {
        self.own_status().finish(number);
    }

    fn finished(&self, rank: u32) -> u64 {
        self.segment().status(rank).progress().1
    }

    #[inline]
    fn aborted(&self) -> bool {
        self.header().aborted()
    }

    fn trouble(&mut self, number: u64, blocked: Blocked) -> Option<Trouble> {
        let ended = || self.abort_reason().map(Trouble::Aborted);
        // Whoever has ended the communicator leaves after that, perhaps just now.
        let lost = ended().or_else(|| self.bereaved(Some(blocked.rank()))).map(|lost| ended().unwrap_or(lost));
        lost.or_else(|| self.disagreement(number))
    }

    fn entered(&self, rank: u32, number: u64) -> Option<Entered> {
        self.segment().status(rank).call(number)
    }

    fn waiting_for(&self, rank: u32) -> Option<u32> {
        self.segment().status(rank).waiting_for()
    }

    fn stopped(&self, rank: u32) -> bool {
        self.process(rank).is_some_and(|process| process.describe().starts_with("stopped"))
    }

    /// The end of the line; before it a rank that can be seen to be stopped: who waits outside this communicator (in a `split`, or for a
    /// file) does not say for whom.
    fn suspects(&self, number: u64, blocked: Blocked) -> Vec<Suspect> {
        let last = end_of_line(self, blocked.rank());
        let stopped = self.others().find(|rank| *rank != last && self.stopped(*rank)).filter(|_| !self.stopped(last));
        let suspect = |rank| Suspect { rank, doing: self.describe(rank, number) };
        stopped.into_iter().chain([last]).map(suspect).collect()
    }

    fn describe(&self, rank: u32, number: u64) -> String {
        let process = self
            .process(rank)
            .map_or(String::new(), |process| format!(", process {} is {}", process.pid(), process.describe()));
        self.segment().status(rank).describe(number, &process)
    }

    fn doze(&mut self, blocked: Blocked) {
        self.say_waiting_for(Some(blocked.rank()));
        self.lie_down();
    }

    fn sleep(&mut self, limit: Duration) {
        self.own_status().bell.sleep(limit);
    }

    fn rise(&mut self) {
        self.own_status().bell.rise(&self.header().sleepers);
    }

    fn go_on(&mut self) {
        self.say_waiting_for(None);
    }

    fn abort(&mut self, abort: Abort) -> Abort {
        self.segment().abort(&abort);
        self.abort_reason().unwrap_or(abort)
    }

    fn withdraw(&mut self) {
        self.leave_windows();
        // Whoever entered before the abort is seen inside now; whoever enters later sees the abort. Where the fence is refused, what is
        // in the others' store buffers comes out by itself.
        if !barrier::fence_everybody() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let until = Instant::now() + COPYING;
        for rank in self.others() {
            self.await_outside(rank, until);
        }
    }

    fn failed(&mut self) {
        for (segment, _) in self.heaps() {
            segment.quarantine_heap();
        }
    }

    fn crowd(&self) -> (u32, u32) {
        self.crowding()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::World;
    use crate::transport::shm::{Budget, Segment, ShmLinks};
    use std::sync::Arc;

    #[test]
    fn an_abort_that_names_nobody_blames_its_author_and_prints_no_control_characters() {
        let segment = Arc::new(Segment::private(2).unwrap());
        let mut links = ShmLinks::new(segment.clone(), 0, &World::flat(2), Arc::new(Budget::new(1 << 20)));
        let text = "no\u{1b}[2Jmore\n".into();
        segment.abort(&Abort { by: 1, kind: Abort::LOST, culprit: 77, other: u32::MAX, text });
        let Some(Trouble::Aborted(abort)) = links.trouble(1, Blocked::Slot(1)) else { panic!("no abort") };
        assert_eq!((abort.by, abort.culprit, abort.other), (1, 1, 1));
        assert_eq!(abort.text, "no [2Jmore ");
    }
}
