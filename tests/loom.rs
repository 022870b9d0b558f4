//! Models of what is lock-free, run by loom through every interleaving and every value that a load may see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom`
//!
//! The asymmetric fence of `sys::barrier` is modelled as a sequentially consistent fence on both sides, which is what membarrier makes of
//! the publisher's code on every processor that runs it. A futex is modelled as a lock and a condition, so that a lost wake-up is a deadlock.
//! Tasks go to the worker thread through std's channel and need no model; what is ours there is `Completion`. Point-to-point
//! operations are matched by the session, on one thread.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;
use ringtree::transport::shm::model::{
    ALL, Bell, Header, IN_LINE, LINES, Line, Reader, Released, Shuttles, Sleepers, Status, Writer, seen_by_peer,
};
use ringtree::transport::{Abort, Entered};
use ringtree::{Biased, Completion};
use std::time::Duration;

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// A ring with the words that its ends sleep on.
struct Link {
    lines: Vec<Line>,
    released: Vec<Released>,
    sleepers: Sleepers,
    writer_bell: Bell,
    reader_bells: Vec<Bell>,
}

impl Link {
    fn new(readers: usize) -> Arc<Link> {
        Arc::new(Link {
            lines: (0..LINES).map(|_| Line::empty()).collect(),
            released: (0..readers).map(|_| Released::none()).collect(),
            sleepers: Sleepers::none(),
            writer_bell: Bell::silent(),
            reader_bells: (0..readers).map(|_| Bell::silent()).collect(),
        })
    }

    fn line(&self, number: u32) -> &Line {
        &self.lines[(number % LINES) as usize]
    }

    fn room(&self, writer: &mut Writer) -> bool {
        writer.has_room(LINES) || writer.look(LINES, self.released.iter()).unwrap().is_none()
    }

    /// Sends message `number` into room that is there.
    fn send(&self, writer: &mut Writer, number: u32) {
        let line = self.line(writer.next());
        // SAFETY: there is room, and the model has one writer.
        unsafe {
            writer.inline(line).write(number as u8);
            writer.publish(line, number, IN_LINE, !number);
        }
        if self.sleepers.any() {
            self.reader_bells.iter().for_each(Bell::ring);
        }
    }

    /// Takes message `number` if it is here.
    fn receive(&self, reader: &mut Reader, who: usize, number: u32) -> bool {
        let Some(notice) = reader.peek(self.line(reader.next())) else { return false };
        // SAFETY: the message was published and is not released yet.
        let byte = unsafe { notice.inline.read() };
        assert_eq!((notice.len, notice.slot, notice.tag, byte), (number, IN_LINE, !number, number as u8));
        if self.released.len() == 1 {
            reader.hand_back(self.line(reader.next()));
        }
        reader.release(&self.released[who]);
        if self.sleepers.any() {
            self.writer_bell.ring();
        }
        true
    }
}

/// Waits by looking again.
fn spin(mut done: impl FnMut() -> bool) {
    while !done() {
        thread::yield_now();
    }
}

/// Waits as a session does: lies down, looks once more, sleeps for as long as it takes.
fn nap(bell: &Bell, sleepers: &Sleepers, mut done: impl FnMut() -> bool) {
    while !done() {
        bell.lie_down(sleepers);
        let looked = done();
        if !looked {
            bell.sleep(Duration::MAX);
        }
        bell.rise(sleepers);
        if looked {
            return;
        }
    }
}

#[test]
fn messages_come_whole_and_in_order_though_the_lines_are_used_again() {
    check(3, || {
        let link = Link::new(1);
        let other = link.clone();
        let writer = thread::spawn(move || {
            let mut writer = Writer::default();
            for number in 1..=LINES + 2 {
                spin(|| other.room(&mut writer));
                other.send(&mut writer, number);
            }
        });
        let mut reader = Reader::default();
        for number in 1..=LINES + 2 {
            spin(|| link.receive(&mut reader, 0, number));
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_board_waits_for_its_slowest_reader() {
    check(3, || {
        let link = Link::new(2);
        let [one, two] = [0, 1].map(|who| {
            let link = link.clone();
            thread::spawn(move || {
                let mut reader = Reader::default();
                let mut number = 1;
                for _ in 0..LINES + 2 {
                    number += u32::from(link.receive(&mut reader, who, number));
                }
            })
        });
        // Looking is enough: whoever writes into a line that somebody may still read is found out.
        let mut writer = Writer::default();
        let mut number = 1;
        for _ in 0..LINES + 2 {
            if link.room(&mut writer) {
                link.send(&mut writer, number);
                number += 1;
            }
        }
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn no_wake_up_is_lost_in_either_direction() {
    check(3, || {
        let link = Link::new(1);
        let other = link.clone();
        let writer = thread::spawn(move || {
            let mut writer = Writer::default();
            for number in 1..=LINES + 1 {
                nap(&other.writer_bell, &other.sleepers, || other.room(&mut writer));
                other.send(&mut writer, number);
            }
        });
        let mut reader = Reader::default();
        for number in 1..=LINES + 1 {
            nap(&link.reader_bells[0], &link.sleepers, || link.receive(&mut reader, 0, number));
        }
        writer.join().unwrap();
    });
}

#[test]
fn every_sleeping_reader_of_a_board_wakes() {
    check(2, || {
        let link = Link::new(2);
        let readers = [0, 1].map(|who| {
            let link = link.clone();
            thread::spawn(move || {
                let mut reader = Reader::default();
                nap(&link.reader_bells[who], &link.sleepers, || link.receive(&mut reader, who, 1));
            })
        });
        link.send(&mut Writer::default(), 1);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn no_torn_record_of_a_call_is_ever_returned() {
    check(3, || {
        let status = Arc::new(Status::default());
        let other = status.clone();
        let owner = thread::spawn(move || {
            for number in 1..=2 {
                other.enter(&Entered { number, digest: 10 * number, kinds: 20 * number, count: 30 * number });
            }
        });
        let (entered, _) = status.progress();
        for number in [2, 1] {
            let call = status.call(number);
            if let Some(call) = call {
                assert_eq!(
                    (call.number, call.digest, call.kinds, call.count),
                    (number, 10 * number, 20 * number, 30 * number)
                );
            }
            assert!(call.is_some() || number != 2 || entered != 2, "the call that was announced last is known");
        }
        owner.join().unwrap();
    });
}

#[test]
fn the_first_abort_counts_and_is_read_whole() {
    check(2, || {
        let header = Arc::new(Header::default());
        let abort =
            |by: u32| Abort { by, kind: by + 10, culprit: by + 20, other: by + 30, text: format!("rank {by} says so") };
        let ranks = [1, 2].map(|by| {
            let header = header.clone();
            thread::spawn(move || header.abort(&abort(by)))
        });
        if let Some(reason) = header.reason() {
            let expected = abort(reason.by);
            assert_eq!(reason, Abort { text: expected.text.chars().take(16).collect(), ..expected });
        }
        let won = ranks.map(|rank| rank.join().unwrap());
        assert!(won[0] != won[1], "one was first");
        assert_eq!(header.reason().map(|reason| reason.by), Some(if won[0] { 1 } else { 2 }));
        assert_eq!(header.aborter(), Some(if won[0] { 1 } else { 2 }));
    });
}

#[test]
fn nobody_is_in_the_windows_of_a_rank_that_has_withdrawn() {
    check(3, || {
        let header = Arc::new(Header::default());
        let (inside, buffer) = (Arc::new(Status::default()), Arc::new(UnsafeCell::new(0)));
        let peer = {
            let (header, inside, buffer) = (header.clone(), inside.clone(), buffer.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    if !inside.enter_windows(&header) {
                        return;
                    }
                    // SAFETY: the buffer's owner waits for this rank, which loom checks.
                    buffer.with_mut(|at| unsafe { *at += 1 });
                    inside.leave_windows();
                }
            })
        };
        // A third rank ends the communicator; the owner of the buffer hears of it.
        let third = {
            let header = header.clone();
            thread::spawn(move || header.abort(&Abort { by: 2, kind: 0, culprit: 0, other: 0, text: String::new() }))
        };
        if header.aborted() {
            ringtree::sys::barrier::fence_everybody();
            spin(|| !inside.in_windows());
            // SAFETY: as above.
            buffer.with_mut(|at| unsafe { *at = 100 });
        }
        peer.join().unwrap();
        third.join().unwrap();
    });
}

#[test]
fn whoever_waits_for_an_operation_in_the_background_hears_of_its_end() {
    check(3, || {
        let completion = Arc::new(Completion::default());
        let waiters = [0, 1].map(|_| {
            let completion = completion.clone();
            thread::spawn(move || completion.wait(None).unwrap().is_ok())
        });
        completion.end(Ok(()));
        assert!(waiters.map(|waiter| waiter.join().unwrap()).iter().all(|ok| *ok));
        assert!(completion.test().is_some());
    });
}

/// A link and the link back with the shuttles between them.
struct Exchange {
    links: [std::sync::Arc<[Line]>; 2],
    released: [Released; 2],
    /// By the numbers of rank 0.
    slots: Vec<UnsafeCell<u32>>,
}

/// One rank's ends.
struct Partner {
    rank: usize,
    writer: Writer,
    reader: Reader,
    shuttles: Shuttles,
}

impl Exchange {
    fn new() -> Arc<Exchange> {
        let lines = || (0..LINES).map(|_| Line::empty()).collect();
        Arc::new(Exchange {
            links: [lines(), lines()],
            released: [Released::none(), Released::none()],
            slots: (0..ALL).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    fn partner(rank: usize) -> Partner {
        Partner { rank, writer: Writer::default(), reader: Reader::default(), shuttles: Shuttles::new(true) }
    }

    fn slot(&self, rank: usize, shuttle: u32) -> &UnsafeCell<u32> {
        &self.slots[if rank == 0 { shuttle } else { seen_by_peer(shuttle) } as usize]
    }

    /// Writes a message into a shuttle, when there is one and room for it.
    fn send(&self, me: &mut Partner, value: u32) {
        let released = &self.released[me.rank];
        spin(|| me.writer.look(LINES, std::iter::once(released)).unwrap().is_none());
        let mut chosen = None;
        spin(|| {
            me.shuttles.collect(released, &self.released[1 - me.rank]).unwrap();
            chosen = me.shuttles.pick(true, 1);
            chosen.is_some()
        });
        let shuttle = chosen.unwrap();
        // SAFETY: the model looks for races here: that is what it is for.
        self.slot(me.rank, shuttle).with_mut(|slot| unsafe { *slot = value });
        me.shuttles.send(shuttle);
        let line = &self.links[me.rank][(me.writer.next() % LINES) as usize];
        // SAFETY: there is room, and this is the only writer of the ring.
        unsafe { me.writer.publish(line, 1, shuttle, 0) };
    }

    /// Takes up what was returned, and writes to all that it has.
    fn shuttles_of(&self, me: &mut Partner) {
        me.shuttles.collect(&self.released[me.rank], &self.released[1 - me.rank]).unwrap();
        for shuttle in me.shuttles.all() {
            // SAFETY: as in `send`: who holds a shuttle is alone with it.
            self.slot(me.rank, shuttle).with_mut(|slot| unsafe { *slot = 9 });
        }
    }

    /// Reads the next message, and keeps or returns its shuttle.
    fn receive(&self, me: &mut Partner, value: u32) {
        let from = 1 - me.rank;
        let mut notice = None;
        spin(|| {
            notice = me.reader.peek(&self.links[from][(me.reader.next() % LINES) as usize]);
            notice.is_some()
        });
        let shuttle = seen_by_peer(notice.unwrap().slot);
        // SAFETY: as in `send`.
        assert_eq!(self.slot(me.rank, shuttle).with(|slot| unsafe { *slot }), value);
        if !me.shuttles.keep(shuttle) {
            // SAFETY: as in `send`: it was read for the last time, and is this rank's until it goes back.
            self.slot(me.rank, shuttle).with_mut(|slot| unsafe { *slot = 0 });
            self.released[from].return_shuttle(seen_by_peer(shuttle));
        }
        me.reader.hand_back(&self.links[from][(me.reader.next() % LINES) as usize]);
        me.reader.release(&self.released[from]);
    }
}

#[test]
fn a_shuttle_belongs_to_one_rank_at_a_time() {
    check(2, || {
        let exchange = Exchange::new();
        let other = exchange.clone();
        let peer = thread::spawn(move || {
            let mut me = Exchange::partner(1);
            for value in 1..=3 {
                other.send(&mut me, 10 + value);
                other.receive(&mut me, value);
            }
        });
        let mut me = Exchange::partner(0);
        for value in 1..=3 {
            exchange.send(&mut me, value);
            exchange.receive(&mut me, 10 + value);
        }
        peer.join().unwrap();
    });
}

#[test]
fn a_shuttle_that_comes_back_unused_is_written_only_after_it_was_read() {
    check(3, || {
        let exchange = Exchange::new();
        let other = exchange.clone();
        let reader = thread::spawn(move || {
            let mut me = Exchange::partner(1);
            (1..=4).for_each(|value| other.receive(&mut me, value));
        });
        let mut me = Exchange::partner(0);
        (1..=4).for_each(|value| exchange.send(&mut me, value));
        reader.join().unwrap();
    });
}

#[test]
fn a_shuttle_that_is_taken_back_and_taken_up_at_the_same_time_goes_to_one_of_both() {
    check(3, || {
        let exchange = Exchange::new();
        let other = exchange.clone();
        let mut me = Exchange::partner(0);
        exchange.send(&mut me, 1);
        let reader = thread::spawn(move || {
            let mut me = Exchange::partner(1);
            // It has its share and returns what it gets; then it sends one of its own, and wants the other one back.
            other.receive(&mut me, 1);
            other.send(&mut me, 2);
            me.shuttles.take_back(&other.released[1], &other.released[0]);
            for shuttle in me.shuttles.all() {
                // SAFETY: as in `send`: who holds a shuttle is alone with it.
                other.slot(1, shuttle).with_mut(|slot| unsafe { *slot = 7 });
            }
        });
        // loom looks at orders with the reader first only where this one steps back.
        thread::yield_now();
        exchange.shuttles_of(&mut me);
        reader.join().unwrap();
    });
}

/// The home thread of a biased lock and another one: whoever has it is alone with the value and sees what the other one did.
#[test]
fn a_biased_lock_has_one_owner_at_a_time() {
    check(3, || {
        let lock = Arc::new(Biased::new(UnsafeCell::new(0)));
        let add = |lock: &Biased<UnsafeCell<i32>>, me| {
            let held = lock.lock_in_model(me);
            // SAFETY: the model checks that nobody else has the lock.
            held.with_mut(|value| unsafe { *value += 1 });
        };
        // The first turn makes this thread at home, so that it is on its short way when the other one comes.
        add(&lock, 1);
        let other = {
            let lock = lock.clone();
            thread::spawn(move || add(&lock, 2))
        };
        (0..2).for_each(|_| add(&lock, 1));
        other.join().unwrap();
        // SAFETY: as above.
        lock.lock_in_model(1).with(|value| unsafe { assert_eq!(*value, 4) });
    });
}
