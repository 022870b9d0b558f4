//! Any links, with every message recorded.
//!
//! A trace is a ring of bounded size: the newest records push out the oldest, and how many were pushed out is known.

use super::clock::Clock;
use super::{Abort, Blocked, Entered, Incoming, Links, Message, Outgoing, Shared, Suspect, Trouble, Watch};
use crate::error::Error;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Which end of a message was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// It was published.
    Sent(Outgoing),
    /// It was released.
    Received(Incoming),
}

/// One message at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub at: Duration,
    /// On which rank.
    pub rank: u32,
    /// In which lane.
    pub lane: u32,
    /// Over which link, and which way.
    pub end: End,
    /// Its length in bytes.
    pub len: usize,
    /// Its tag.
    pub tag: u32,
}

/// What was recorded, by any number of ranks.
#[derive(Debug)]
pub struct Trace {
    capacity: usize,
    records: Mutex<(VecDeque<Record>, u64)>,
}

impl Trace {
    /// Room for that many records.
    pub fn new(capacity: usize) -> Arc<Trace> {
        Arc::new(Trace { capacity: capacity.max(1), records: Mutex::default() })
    }

    /// Takes all records out, oldest first, with the number of those that were pushed out before.
    pub fn read(&self) -> (Vec<Record>, u64) {
        let mut held = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, lost) = std::mem::take(&mut *held);
        (records.into(), lost)
    }

    fn add(&self, record: Record) {
        let mut held = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, lost) = &mut *held;
        if records.len() >= self.capacity {
            records.pop_front();
            *lost += 1;
        }
        records.push_back(record);
    }
}

/// One rank's ends of links that are recorded.
#[derive(Debug)]
pub struct Traced<L> {
    inner: L,
    trace: Arc<Trace>,
    clock: Clock,
}

impl<L: Links> Traced<L> {
    /// Those links, recorded there with the times of that clock.
    pub fn new(inner: L, trace: Arc<Trace>, clock: Clock) -> Traced<L> {
        Traced { inner, trace, clock }
    }

    fn record(&self, lane: u32, end: End, len: usize, tag: u32) {
        self.trace.add(Record { at: self.clock.now(), rank: self.inner.rank(), lane, end, len, tag });
    }
}

impl<L: Links> Links for Traced<L> {
    fn rank(&self) -> u32 {
        self.inner.rank()
    }

    fn size(&self) -> u32 {
        self.inner.size()
    }

    fn reserve(&mut self, lane: u32, link: Outgoing, len: usize) -> Result<Result<*mut u8, Blocked>, Error> {
        self.inner.reserve(lane, link, len)
    }

    fn publish(&mut self, lane: u32, link: Outgoing, len: usize, tag: u32) -> Result<(), Error> {
        self.inner.publish(lane, link, len, tag)?;
        self.record(lane, End::Sent(link), len, tag);
        Ok(())
    }

    fn peek(&mut self, lane: u32, link: Incoming) -> Result<Option<Message>, Error> {
        self.inner.peek(lane, link)
    }

    fn release(&mut self, lane: u32, link: Incoming) {
        if let Ok(Some(message)) = self.inner.peek(lane, link) {
            self.record(lane, End::Received(link), message.len, message.tag);
        }
        self.inner.release(lane, link);
    }

    fn share(&self, at: *const u8, len: usize) -> Shared {
        self.inner.share(at, len)
    }

    fn resolve(&mut self, owner: u32, place: Shared, len: usize) -> Option<*mut u8> {
        self.inner.resolve(owner, place, len)
    }

    unsafe fn fetch(&mut self, owner: u32, at: u64, into: *mut u8, len: usize) -> Result<(), Error> {
        // SAFETY: the caller's contract is the same.
        unsafe { self.inner.fetch(owner, at, into, len) }
    }

    fn drained(&mut self, lane: u32, link: Outgoing) -> Result<Option<Blocked>, Error> {
        self.inner.drained(lane, link)
    }

    fn past_caches(&self) -> bool {
        self.inner.past_caches()
    }

    fn message_limit(&self, peer: u32) -> usize {
        self.inner.message_limit(peer)
    }

    fn enter_windows(&mut self) -> bool {
        self.inner.enter_windows()
    }

    fn leave_windows(&mut self) {
        self.inner.leave_windows();
    }
}

impl<L: Watch> Watch for Traced<L> {
    fn announce(&mut self, entered: &Entered) {
        self.inner.announce(entered);
    }

    fn finish(&mut self, number: u64) {
        self.inner.finish(number);
    }

    fn finished(&self, rank: u32) -> u64 {
        self.inner.finished(rank)
    }

    fn aborted(&self) -> bool {
        self.inner.aborted()
    }

    fn trouble(&mut self, number: u64, blocked: Blocked) -> Option<Trouble> {
        self.inner.trouble(number, blocked)
    }

    fn entered(&self, rank: u32, number: u64) -> Option<Entered> {
        self.inner.entered(rank, number)
    }

    fn waiting_for(&self, rank: u32) -> Option<u32> {
        self.inner.waiting_for(rank)
    }

    fn stopped(&self, rank: u32) -> bool {
        self.inner.stopped(rank)
    }

    fn describe(&self, rank: u32, number: u64) -> String {
        self.inner.describe(rank, number)
    }

    fn suspects(&self, number: u64, blocked: Blocked) -> Vec<Suspect> {
        self.inner.suspects(number, blocked)
    }

    fn doze(&mut self, blocked: Blocked) {
        self.inner.doze(blocked);
    }

    fn sleep(&mut self, limit: Duration) {
        self.inner.sleep(limit);
    }

    fn rise(&mut self) {
        self.inner.rise();
    }

    fn go_on(&mut self) {
        self.inner.go_on();
    }

    fn abort(&mut self, abort: Abort) -> Abort {
        self.inner.abort(abort)
    }

    fn withdraw(&mut self) {
        self.inner.withdraw();
    }

    fn failed(&mut self) {
        self.inner.failed();
    }

    fn crowd(&self) -> (u32, u32) {
        self.inner.crowd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::local::LocalLinks;

    #[test]
    fn a_full_trace_keeps_the_newest_and_counts_the_rest() {
        let trace = Trace::new(3);
        let links = LocalLinks::world(2).into_iter();
        let mut ends: Vec<_> = links.map(|links| Traced::new(links, trace.clone(), Clock::default())).collect();
        for tag in 0..2 {
            ends[0].reserve(0, Outgoing::Pair(1), 4).unwrap().unwrap();
            ends[0].publish(0, Outgoing::Pair(1), 4, tag).unwrap();
            ends[1].peek(0, Incoming::Pair(0)).unwrap().unwrap();
            ends[1].release(0, Incoming::Pair(0));
        }
        let (records, lost) = trace.read();
        let seen: Vec<_> = records.iter().map(|record| (record.rank, record.end, record.len, record.tag)).collect();
        let (sent, received) = (End::Sent(Outgoing::Pair(1)), End::Received(Incoming::Pair(0)));
        assert_eq!(seen, [(1, received, 4, 0), (0, sent, 4, 1), (1, received, 4, 1)]);
        assert_eq!(lost, 1);
        assert_eq!(trace.read(), (vec![], 0));
    }
}
