//! Races on purpose: each of them must be reported, or what `tests/tsan` finds means nothing. Each runs in a process of its own, and the
//! threads take their turns by relaxed atomics, which order nothing, and none ends before all have done their part, because of threads
//! that have ended ThreadSanitizer may have forgotten what they did: a race is found in every run.

use super::Plain;
use ringtree::plan::World;
use ringtree::transport::shm::{Budget, Segment, ShmLinks};
use ringtree::transport::{Incoming, Links, Outgoing};
use ringtree::{Communicator, ReduceOp};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const RACE: &str = "RINGTREE_TEST_RACE";

/// What ThreadSanitizer ends a process with after a report, by TSAN_OPTIONS in `tests/tsan`.
const REPORTED: i32 = 66;

/// Races by their names.
const RACES: [(&str, fn()); 3] = [
    ("two ranks write to the same memory", two_ranks_write),
    ("a buffer is written to before a call takes it", a_buffer_is_in_use),
    ("a message is read after it was released", a_released_message_is_read),
];

/// Whose turn it is. Orders nothing.
#[derive(Default)]
struct Turn(AtomicU32);

impl Turn {
    fn next(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn wait_for(&self, turn: u32) {
        while self.0.load(Ordering::Relaxed) < turn {
            std::thread::yield_now();
        }
    }
}

fn two_ranks_write() {
    let (turn, plain) = (Turn::default(), Plain::default());
    std::thread::scope(|threads| {
        for comm in Communicator::local(2).expect("a world of threads") {
            let (turn, plain) = (&turn, &plain);
            threads.spawn(move || {
                turn.wait_for(comm.rank() as u32);
                plain.write(comm.rank() as u64);
                turn.next();
                turn.wait_for(2);
            });
        }
    });
}

/// The kernels must be watched, whatever instructions they are made of.
fn a_buffer_is_in_use() {
    let turn = Turn::default();
    let plain: Vec<Plain> = (0..1024).map(|_| Plain::default()).collect();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            plain[600].write(1);
            turn.next();
            turn.wait_for(3);
        });
        for comm in Communicator::local(2).expect("a world of threads") {
            let (turn, plain) = (&turn, &plain);
            threads.spawn(move || {
                turn.wait_for(1);
                let mut output = vec![0; 1024];
                // SAFETY: the memory is alive and initialised. That another thread has written to it is the race.
                let input = unsafe { std::slice::from_raw_parts(plain.as_ptr().cast::<u64>(), plain.len()) };
                comm.all_reduce_into(input, &mut output, ReduceOp::Sum).expect("an all_reduce");
                turn.next();
            });
        }
    });
}

/// The slots of messages must be watched: here a reader breaks the protocol of links.
fn a_released_message_is_read() {
    let segment = Arc::new(Segment::private(2).expect("a segment for two threads"));
    let [mut writer, mut reader] =
        [0, 1].map(|rank| ShmLinks::new(segment.clone(), rank, &World::flat(2), Budget::process().clone()));
    let turn = Turn::default();
    let send = |writer: &mut ShmLinks| {
        // Too long for a small slot: of the large ones there are four.
        let slot = writer.reserve(0, Outgoing::Pair(1), 10_000).expect("a slot").expect("room");
        // SAFETY: `reserve` gave 10000 bytes.
        unsafe { slot.write_bytes(7, 10_000) };
        writer.publish(0, Outgoing::Pair(1), 10_000, 0).expect("a message");
    };
    std::thread::scope(|threads| {
        threads.spawn(|| {
            (0..4).for_each(|_| send(&mut writer));
            turn.next();
            turn.wait_for(2);
            // The slot of the first message, which was released.
            send(&mut writer);
            turn.next();
        });
        threads.spawn(|| {
            turn.wait_for(1);
            let message = reader.peek(0, Incoming::Pair(0)).expect("a message").expect("a message");
            reader.release(0, Incoming::Pair(0));
            // SAFETY: the slot is mapped. That it isn't this rank's any more is the race.
            assert_eq!(unsafe { message.at.add(500).read() }, 7);
            turn.next();
            turn.wait_for(3);
        });
    });
}

#[test]
fn every_race_on_purpose_is_reported() {
    if let Ok(name) = std::env::var(RACE) {
        let (_, race) = RACES.iter().find(|(known, _)| *known == name).expect("a race of that name");
        return race();
    }
    for (name, _) in RACES {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "controls::every_race_on_purpose_is_reported", "--nocapture"]).env(RACE, name);
        let output = command.output().expect("a process");
        let report = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(REPORTED) && report.contains("WARNING: ThreadSanitizer: data race"),
            "not reported: {name} ({})\n{report}",
            output.status
        );
    }
}
