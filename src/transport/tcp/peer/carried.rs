//! What goes to another rank, and comes from it, over RDMA queues.

use super::{Boards, Carried, Nonsense, Parcel, Peer, Taken, check, note_sent};
use crate::plan::MOST_CHUNK_BYTES;
use crate::transport::tcp::frame::{Frame, HEADER, Kind, LinkKind, Spot};
use crate::transport::tcp::sums::{SUMMED, broken_header, header, without_sums};
use crate::transport::verbs::flow;
use crate::transport::verbs::queue::{Came, Lost, Queue};
use std::time::Duration;

/// What is said of a queue: its number, the attempt at it, and how many messages were taken.
const COUNT: usize = 9;

/// Messages that go to one queue before another one gets some: a system call for each queue, 12 us in a guest of user-mode Linux.
const TOGETHER: usize = 8;

/// Queues that are spoken of at once: more than there are.
const MOST_COUNTS: usize = 32;

impl Peer {
    /// Whether something waits to be sent, or is in a queue whose device has not said that it came.
    pub(in crate::transport::tcp) fn owes(&self) -> bool {
        !self.is_sent() || self.queues.iter().any(|one| !one.queue.is_delivered())
    }

    /// Whether an open queue takes small messages, and whether one takes long ones: then no socket does.
    pub(in crate::transport::tcp) fn served_by_queues(&self) -> (bool, bool) {
        let open = |small: bool| self.queues.iter().any(|one| one.queue.is_open() && (one.queue.index == 0) == small);
        (open(true), open(false))
    }

    /// How long a nap may be while a message of the other rank is waited for, or until it has taken one (`sends`).
    pub(in crate::transport::tcp) fn nap(&mut self, sends: bool) -> Option<Duration> {
        let open = || self.queues.iter().map(|one| &one.queue).filter(|queue| queue.is_open() && queue.index != 0);
        let window = open().map(Queue::depth).max()?;
        let stream = if sends { self.flow_out.nap(window) } else { self.flow_in.nap(window) };
        let busy = || self.queues.iter().any(|one| one.queue.index != 0 && one.queue.with_device() >= flow::BUSY);
        stream.or_else(|| busy().then_some(flow::GLANCE))
    }

    /// The open queue for the next message of that kind, if one has room: the one that is being filled, else the one whose device is nearest,
    /// and of several that with the least under way. So a far device carries what the near ones have no room for, and everything when they
    /// are lost.
    fn next_queue(&self, small: bool) -> Option<usize> {
        let fits = |one: &Carried| one.queue.has_room() && (one.queue.index == 0) == small;
        let fitting = || self.queues.iter().enumerate().filter(|(_, one)| fits(one));
        let begun = fitting().find(|(_, one)| (1..TOGETHER).contains(&one.queue.waiting().count()));
        begun.or_else(|| fitting().min_by_key(|(_, one)| (one.distance, one.queue.under_way()))).map(|(at, _)| at)
    }

    /// Puts what waits into slots of queues.
    fn fill_queues(&mut self, boards: &Boards) {
        for small in [true, false] {
            while let Some(at) = self.next_queue(small)
                && let Some((frame, from, parcel)) = self.next_frame((small, !small), boards)
            {
                if frame.kind == Kind::Release {
                    self.begin_news(at, &frame);
                    continue;
                }
                let (header, len) = header(&frame, self.checked);
                // SAFETY: the payload of a frame has `len` bytes where it lies, and lies there until the other rank has released it.
                unsafe { self.queues[at].queue.begin(&header[..len], from, frame.len as usize, true, parcel) };
                if !small && parcel.is_some() {
                    self.flow_out.moved();
                    self.flow_in.turned();
                }
            }
        }
        while let Some(owing) = self.queues.iter().position(|one| one.queue.owes_news() && !one.queue.is_sending()) {
            // The first one tells for all.
            let first = self.queues.iter().position(|one| one.queue.index == 0 && one.queue.has_room());
            let spot = Spot { lane: 0, kind: LinkKind::PAIR };
            let released = self.inbox(spot).tell();
            self.begin_news(
                first.unwrap_or(owing),
                &Frame { kind: Kind::Release, spot, len: 0, seq: 0, tag: 0, released, sum: 0 },
            );
        }
    }

    /// News of releases, and behind them how many messages of every queue were taken.
    ///
    /// The counts are part of no message that has a sum; like those in the slots they can only say less than is true, or end the job.
    fn begin_news(&mut self, at: usize, frame: &Frame) {
        let mut counts = Vec::with_capacity(self.queues.len() * COUNT);
        for one in self.queues.iter_mut().filter(|one| one.queue.is_open()) {
            counts.push(one.queue.index);
            counts.extend_from_slice(&one.queue.attempt.to_le_bytes());
            counts.extend_from_slice(&one.queue.tell().to_le_bytes());
        }
        let (header, len) = header(frame, self.checked);
        // SAFETY: the payload is as long as it says.
        unsafe { self.queues[at].queue.begin(&header[..len], counts.as_ptr(), counts.len(), false, None) };
    }

    /// What the other rank says of queues: of one that is lost it may not have heard yet.
    fn hear_counts(&mut self, counts: &[u8]) -> Result<(), Nonsense> {
        if !counts.len().is_multiple_of(COUNT) {
            return Err("half of what it says of a queue".into());
        }
        for count in counts.chunks_exact(COUNT) {
            let word = |at: usize| u32::from_le_bytes([count[at], count[at + 1], count[at + 2], count[at + 3]]);
            let (index, attempt, taken) = (count[0], word(1), word(5));
            let mut named = self.queues.iter_mut().map(|one| &mut one.queue);
            if let Some(queue) = named.find(|queue| (queue.index, queue.attempt) == (index, attempt)) {
                queue.hear_taken(taken).map_err(|_| "that it took messages which were not sent")?;
            }
        }
        Ok(())
    }

    /// Sends what the queues take. Those that are lost are given back, with the reason.
    pub(in crate::transport::tcp) fn pump_queues(&mut self, boards: &Boards, tell: bool) -> Vec<((u8, bool), String)> {
        self.telling |= tell;
        self.fill_queues(boards);
        let (mut lost, mut at) = (Vec::new(), 0);
        while at < self.queues.len() {
            if !self.queues[at].queue.is_sending() {
                at += 1;
                continue;
            }
            let Peer { queues, sent, out, .. } = self;
            let carrier = queues[at].carrier;
            match queues[at].queue.go_on(|parcel| note_sent(sent, out, parcel, carrier)) {
                Ok(()) => at += 1,
                Err(Lost(why)) => lost.push((self.lose_queue(at), why)),
            }
        }
        lost
    }

    /// Takes in what has come over one queue, up to the next message.
    pub(in crate::transport::tcp) fn take_in_queue(&mut self, at: usize) -> Result<Result<Taken, String>, Nonsense> {
        let mut taken = Taken::Nothing;
        loop {
            let came = match self.queues[at].queue.next() {
                Ok(Some(came)) => came,
                Ok(None) => return Ok(Ok(taken)),
                Err(Lost(why)) => return Ok(Err(why)),
            };
            let whole = self.take_message(at, came)?;
            if let Err(Lost(why)) = self.queues[at].queue.recycle(came) {
                return Ok(Err(why));
            }
            if whole {
                return Ok(Ok(Taken::Message));
            }
            taken = Taken::Bytes;
        }
    }

    /// Puts what came in a slot to its place. Whether that is a message.
    fn take_message(&mut self, at: usize, came: Came) -> Result<bool, Nonsense> {
        let (mut header, before) = ([0; SUMMED], self.queues[at].queue.header());
        let bytes_of_header = if self.checked { SUMMED } else { HEADER };
        // SAFETY: what came is at least as long as a queue's header, which begins with the frame's.
        unsafe { std::ptr::copy_nonoverlapping(came.bytes(), header.as_mut_ptr(), bytes_of_header) };
        let over = ("RDMA queue", self.queues[at].queue.index);
        let (header, sum) = match self.checked {
            true => without_sums(&header).ok_or_else(|| broken_header(over.0, over.1))?,
            false => (*header.first_chunk().ok_or("no header")?, 0),
        };
        let frame = Frame::decode(&header, MOST_CHUNK_BYTES as usize).map(|frame| Frame { sum, ..frame });
        let payload = came.len - before;
        let fits = |frame: &Frame| match frame.kind {
            Kind::Word => false,
            Kind::Release => payload <= MOST_COUNTS * COUNT,
            Kind::Lent | Kind::Kept => frame.len as usize == payload,
        };
        let frame = frame.filter(fits).ok_or("a header that no rank would send")?;
        self.hear(&frame)?;
        if frame.kind == Kind::Release {
            let mut counts = [0; MOST_COUNTS * COUNT];
            // SAFETY: so many bytes came behind the header.
            unsafe { std::ptr::copy_nonoverlapping(came.bytes().add(before), counts.as_mut_ptr(), payload) };
            self.hear_counts(&counts[..payload])?;
            return Ok(false);
        }
        let place = self.place_for(&frame)?;
        if place.is_null() {
            return Ok(false);
        }
        // SAFETY: the place has room for `len` bytes, which `Inbox::open` gave it and nobody else uses; so many came behind the header.
        unsafe { std::ptr::copy_nonoverlapping(came.bytes().add(before), place, frame.len as usize) };
        if self.checked {
            check(&frame, place.wrapping_add(frame.len as usize), over)?;
        }
        self.complete(&frame);
        if self.queues[at].queue.index != 0 {
            self.flow_in.moved();
            self.flow_out.turned();
        }
        Ok(true)
    }

    /// A queue is lost, or there is a later one in its place: what it took and what the other rank may not have waits again. Returns its
    /// number, and whether anything ever got through.
    pub(in crate::transport::tcp) fn lose_queue(&mut self, at: usize) -> (u8, bool) {
        let Carried { carrier, queue, .. } = self.queues.remove(at);
        let waiting: Vec<Parcel> = queue.waiting().collect();
        self.requeue(carrier, waiting);
        for index in 0..self.inboxes.len() {
            self.tell_again(Spot::at(index));
        }
        (queue.index, queue.has_carried())
    }
}
