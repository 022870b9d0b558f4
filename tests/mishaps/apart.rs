//! Jobs on several hosts (network namespaces) whose networks and hosts fail.

use crate::chance::{self, Chance, SEED};
use crate::hosts::{Hosts, Layout};
use crate::jobs::{Job, Meeting, alone};
use crate::leftovers::listening_ports;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Two hosts of two ranks with two interfaces each, or nothing where there can be no namespaces.
fn two_hosts(role: &str) -> Option<Job> {
    match Hosts::new(Layout { hosts: 2, networks: 2, racks: 2 }) {
        Ok(hosts) => Some(Job::new(role, 4, Meeting::Address).on(hosts, 2).with(SEED, chance::seed())),
        Err(why) => {
            // Past the harness, which shows nothing of tests that pass.
            writeln!(std::io::stderr(), "skipped: mishaps on several hosts: {why}").expect("an open stderr");
            None
        }
    }
}

/// Runs sums while something happens to a network; they must all be right, and something must have been made again because of it.
fn go_on_when(what: impl Fn(&Hosts, usize)) {
    let _alone = alone();
    let mut chance = Chance::new(chance::seed(), 5000);
    for network in 0..2 {
        let Some(job) = two_hosts("sums") else { return };
        let job = job.with("MISHAP_SECONDS", "9").start_all();
        job.expect_all("mixing");
        std::thread::sleep(Duration::from_micros(chance.below(300_000)));
        what(job.hosts(), network);
        job.expect_all("done");
        let rounds = job.expect(0, "rounds").rest;
        let noticed = job.report().contains("nothing gets through");
        assert!(noticed, "nobody noticed that network {network} was gone:\n{}", job.report());
        println!("network {network} gone: {} rounds, all right", rounds.trim());
        job.end(&[]);
    }
}

#[test]
fn an_interface_that_is_taken_down_is_left_for_the_other_one_and_every_sum_is_right() {
    go_on_when(|hosts, network| hosts.take_down(1, network));
}

#[test]
fn a_cable_that_falls_silent_is_left_for_the_other_one_and_every_sum_is_right() {
    go_on_when(|hosts, network| hosts.cut(0, network));
}

#[test]
fn a_host_that_vanishes_is_named_by_all_ranks_of_the_others() {
    let _alone = alone();
    let Some(job) = two_hosts("sums") else { return };
    let mut job = job.with("MISHAP_SECONDS", "100").with("RINGTREE_INIT_TIMEOUT", "5").start_all();
    job.expect_all("mixing");
    for network in 0..2 {
        job.hosts().cut(1, network);
    }
    // Nothing that the system of that host still says comes out.
    for rank in [2, 3] {
        job.kill(rank);
    }
    for rank in [0, 1] {
        let failure = job.failure(rank);
        let named = failure.culprits.len() == 1 && [2, 3].contains(&failure.culprits[0]);
        assert!(named && failure.kind == "PeerLost", "rank {rank}: {failure:?}\n{}", job.report());
        assert!(failure.text.contains("host1"), "the host is named: {failure:?}");
    }
    job.end(&[2, 3]);
}

#[test]
fn a_rank_that_is_killed_on_another_host_is_named_by_all() {
    let _alone = alone();
    for victim in [1, 3] {
        let Some(job) = two_hosts("sums") else { return };
        let mut job = job.with("MISHAP_SECONDS", "100").start_all();
        job.expect_all("mixing");
        job.kill(victim);
        for rank in (0..4).filter(|rank| *rank != victim) {
            let failure = job.failure(rank);
            assert_eq!(failure.culprits, [victim], "rank {rank}: {failure:?}\n{}", job.report());
        }
        job.end(&[victim]);
    }
}

/// Connects to a rank's port and behaves badly; whether the port was open.
fn trouble(at: SocketAddr, kind: usize, kept: &mut Vec<TcpStream>) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&at, Duration::from_secs(2)) else { return false };
    // As one of the job would begin: the words are right, the proof is not.
    let like_us = [b"RTb1".as_slice(), &[7; 96]].concat();
    let said = match kind {
        0 => stream.write_all(&[0xff; 70_000]),
        1 => stream.write_all(b"GET / HTTP/1.1\r\n\r\n"),
        2 => stream.write_all(&like_us),
        _ => Ok(()),
    };
    // A door that closes in the middle is as good as one that does not answer.
    let _refused = said;
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let mut answer = Vec::new();
    let _nothing_more = Read::by_ref(&mut stream).take(1000).read_to_end(&mut answer);
    assert!(answer.len() < 200, "a stranger was told {} bytes", answer.len());
    kept.push(stream);
    true
}

#[test]
fn strangers_at_every_port_of_every_rank_hold_up_nobody() {
    let _alone = alone();
    let Some(job) = two_hosts("sums") else { return };
    let job = job.with("MISHAP_SECONDS", "3").start_all();
    job.expect_all("mixing");
    let mut came = 0;
    std::thread::scope(|threads| {
        let strangers = threads.spawn(|| {
            // A thread of its own in the namespace of host 0; it ends with this test.
            job.hosts().visit(0);
            let (mut kept, mut open) = (Vec::new(), 0);
            for rank in 0..4 {
                for at in listening_ports(job.pid(rank)) {
                    let connected = (0..4).filter(|kind| trouble(at, *kind, &mut kept)).count();
                    open += usize::from(connected > 0);
                }
            }
            open
        });
        came = strangers.join().expect("strangers");
    });
    assert!(came >= 4, "only {came} ports were open");
    job.expect_all("done");
    println!("strangers at {came} ports");
    job.end(&[]);
}
