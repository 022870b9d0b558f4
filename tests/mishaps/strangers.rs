//! Strangers at the port where a job starts: refused, logged, and the job goes on.
//!
//! What a gate does with each of them is tested beside it (`src/boot/gate_tests.rs`, `rendezvous_tests.rs`). Here whole jobs start by
//! MASTER_ADDR, MASTER_PORT and RINGTREE_SECRET while strangers are at both ports there are: that of the id and that of the start.

use crate::jobs::{Job, Meeting, alone, free_port};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const SECRET: &str = "a secret of this job alone";

/// Tells the strangers to go, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn connect(port: u16) -> Option<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(1)).ok()
}

/// A job whose rank 0 has opened its ports: that of the id, and that of the start.
fn open_job(size: usize) -> (Job, [u16; 2]) {
    let start = free_port();
    let mut job = Job::new("one", size, Meeting::Address).with("RINGTREE_SECRET", SECRET);
    job = job.with("RINGTREE_ADDRESS", format!("127.0.0.1:{start}"));
    job.start(0, &[]);
    let ports = [job.port(), start];
    for port in ports {
        while connect(port).is_none() {
            assert!(job.hear(0, "joining").is_some());
            job.assert_runs(0);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    (job, ports)
}

/// The other ranks come, and the job does its work.
fn complete(mut job: Job) -> Job {
    for rank in 1..job.size() {
        job.start(rank, &[("RINGTREE_ADDRESS", "127.0.0.1")]);
    }
    job.expect_all("done");
    job
}

#[test]
fn garbage_silence_and_wrong_greetings_are_refused_and_logged_while_the_job_starts() {
    let _alone = alone();
    let (job, ports) = open_job(3);
    let mut silent = Vec::new();
    for port in ports {
        for garbage in
            [&b"GET / HTTP/1.1\r\nHost: rank0\r\n\r\n"[..], &[0; 4096], &[0xff; 70_000], b"ringtree", b"\x16\x03\x01"]
        {
            let mut stranger = connect(port).expect("the port is open");
            let _refused_in_the_middle = stranger.write_all(garbage);
            silent.push(stranger);
        }
        silent.extend((0..20).filter_map(|_| connect(port)));
    }
    let job = complete(job);
    let output = job.output(0);
    assert!(output.contains("bootstrap: refused 127.0.0.1"), "nothing was logged:\n{output}");
    drop(silent);
    job.end(&[]);
}

#[test]
fn slow_strangers_do_not_hold_a_job_up() {
    let _alone = alone();
    let (job, ports) = open_job(2);
    let over = AtomicBool::new(false);
    let said = AtomicUsize::new(0);
    let job = std::thread::scope(|threads| {
        for port in ports {
            for _ in 0..3 {
                let (over, said) = (&over, &said);
                threads.spawn(move || {
                    let mut stranger = connect(port).expect("the port is open");
                    // As one of the job would begin, so that only its slowness tells.
                    for byte in b"RTb1".iter().chain(&[7; 64]) {
                        said.fetch_add(usize::from(stranger.write_all(&[*byte]).is_ok()), Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(50));
                        if over.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                });
            }
        }
        let _ends = Ends(&over);
        // Some bytes of each have come before the job goes on.
        while said.load(Ordering::Relaxed) < 30 {
            std::thread::sleep(Duration::from_millis(5));
        }
        complete(job)
    });
    job.end(&[]);
}

#[test]
fn a_rank_with_another_secret_is_refused_and_the_right_one_still_comes() {
    let _alone = alone();
    for wrong in ["another secret", "a secret of this job alone."] {
        let (mut job, _) = open_job(2);
        job.start(1, &[("RINGTREE_SECRET", wrong), ("RINGTREE_ADDRESS", "127.0.0.1")]);
        let failure = job.failure(1);
        assert!(failure.text.contains("RINGTREE_SECRET"), "{failure:?}");
        assert!(job.hear(1, "left").is_some());
        assert!(job.output(0).contains("bootstrap: refused"), "{}", job.report());
        let job = complete(job);
        job.end(&[]);
    }
}

#[test]
fn thousands_who_come_and_go_at_once_do_not_keep_the_ranks_out() {
    let _alone = alone();
    let (job, ports) = open_job(3);
    let over = AtomicBool::new(false);
    let came = AtomicUsize::new(0);
    let job = std::thread::scope(|threads| {
        for port in ports {
            let (over, came) = (&over, &came);
            threads.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let Some(mut stranger) = connect(port) else { continue };
                    let count = came.fetch_add(1, Ordering::Relaxed);
                    match count % 3 {
                        0 => drop(stranger),
                        1 => drop(stranger.write_all(&[7; 200])),
                        _ => drop(stranger.set_nonblocking(true).and_then(|()| stranger.read(&mut [0; 8]))),
                    }
                }
            });
        }
        let _ends = Ends(&over);
        while came.load(Ordering::Relaxed) < 3000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        complete(job)
    });
    println!("{} strangers came and went", came.load(Ordering::Relaxed));
    job.end(&[]);
}
