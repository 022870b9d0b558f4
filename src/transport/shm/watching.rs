//! Noticing the dead, the stopped, and those who do something else. Nothing here runs while messages flow.

use super::links::ShmLinks;
use super::status::Life;
use crate::sys::barrier;
use crate::sys::process::Watched;
use crate::transport::{Abort, Blocked, Entered, Links, Trouble, Watch};
use std::time::{Duration, Instant};

/// How long a rank that has claimed the abort may take to say why, before it counts as gone itself.
const TELLING: Duration = Duration::from_millis(200);

impl ShmLinks {
    /// The reason of an abort, waiting for a rank that is just writing it.
    fn abort_reason(&self) -> Option<Abort> {
        let header = self.segment().header();
        let by = header.aborter()?;
        let began = Instant::now();
        loop {
            if let Some(reason) = header.reason() {
                return Some(reason);
            }
            if began.elapsed() > TELLING {
                let text = "it ended before it could say why".into();
                return Some(Abort { by, kind: 0, culprit: by, other: by, text });
            }
            std::thread::yield_now();
        }
    }

    /// Whether that rank can't take part any more.
    fn lost(&self, rank: u32, blocked: Blocked) -> Option<Trouble> {
        let status = self.segment().status(rank);
        match (status.life(), self.process(rank)) {
            (Life::Left, _) if blocked.rank() == rank => {
                let how = format!("it left the communicator after operation {}", status.progress().1);
                Some(Trouble::Lost { rank, how })
            }
            (Life::Present, Some(process)) if process.gone() => {
                let how = format!("process {} on this host has ended (killed, crashed or exited)", process.pid());
                Some(Trouble::Lost { rank, how })
            }
            _ => None,
        }
    }
}

impl Watch for ShmLinks {
    #[inline]
    fn announce(&mut self, entered: &Entered) {
        self.segment().status(self.rank()).enter(entered);
    }

    #[inline]
    fn finish(&mut self, number: u64) {
        self.segment().status(self.rank()).finish(number);
    }

    fn finished(&self, rank: u32) -> u64 {
        self.segment().status(rank).progress().1
    }

    #[inline]
    fn aborted(&self) -> bool {
        self.segment().header().aborted()
    }

    fn trouble(&mut self, number: u64, blocked: Blocked) -> Option<Trouble> {
        if let Some(abort) = self.abort_reason() {
            return Some(Trouble::Aborted(abort));
        }
        let ours = self.segment().status(self.rank()).call(number);
        for rank in (0..self.size()).filter(|rank| *rank != self.rank()) {
            if let Some(lost) = self.lost(rank, blocked) {
                return Some(lost);
            }
            let theirs = self.segment().status(rank).call(number);
            if let (Some(ours), Some(theirs)) = (ours, theirs)
                && ours.digest != theirs.digest
            {
                return Some(Trouble::Disagreement { rank, theirs });
            }
        }
        None
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

    fn describe(&self, rank: u32, number: u64) -> String {
        let status = self.segment().status(rank);
        let (entered, finished) = status.progress();
        let process = self
            .process(rank)
            .map_or(String::new(), |process| format!(", process {} is {}", process.pid(), process.describe()));
        match status.call(entered) {
            Some(call) if entered > finished => format!("in operation {entered}, {call}{process}"),
            _ if entered < number => format!("has not entered operation {number} (last was {entered}){process}"),
            _ => format!("after operation {entered}{process}"),
        }
    }

    fn doze(&mut self, blocked: Blocked) {
        let status = self.segment().status(self.rank());
        status.set_waiting_for(Some(blocked.rank()));
        status.bell.lie_down(&self.segment().header().sleepers);
    }

    fn sleep(&mut self, limit: Duration) {
        self.segment().status(self.rank()).bell.sleep(limit);
    }

    fn rise(&mut self) {
        self.segment().status(self.rank()).bell.rise(&self.segment().header().sleepers);
    }

    fn go_on(&mut self) {
        self.segment().status(self.rank()).set_waiting_for(None);
    }

    fn abort(&mut self, abort: Abort) -> Abort {
        self.segment().abort(&abort);
        self.abort_reason().unwrap_or(abort)
    }

    fn withdraw(&mut self) {
        self.leave_windows();
        // Whoever entered before the abort is seen inside now; whoever enters later sees the abort.
        barrier::fence_everybody();
        for rank in (0..self.size()).filter(|rank| *rank != self.rank()) {
            let status = self.segment().status(rank);
            let taking_part = |process: Option<&Watched>| process.is_none_or(|process| !process.gone());
            while status.in_windows()
                && status.life() != Life::Left
                && taking_part(self.process(rank))
                && !self.stopped(rank)
            {
                std::thread::yield_now();
            }
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
