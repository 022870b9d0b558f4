//! Meetings by every channel.

use std::os::fd::AsRawFd;
use std::thread;

use super::*;
use crate::boot::config::JobSecret;
use crate::boot::join;
use crate::boot::pmi::tests::process_manager;
use crate::boot::store::tests::fake_torch_store;

fn config() -> BootConfig {
    BootConfig { timeout: Duration::from_secs(60), one_host: true, ..BootConfig::default() }
}

fn with_secret(word: &str) -> BootConfig {
    BootConfig { secret: Some(JobSecret::new(word)), ..config() }
}

fn launch(rank: usize, size: usize, meeting: Meeting) -> Launch {
    Launch { rank, size, local_rank: None, local_size: None, launcher: "a test", meeting }
}

/// All ranks meet at `meeting(rank)`, join and gather. The ranks that ask come before the one that answers.
fn all_meet(size: usize, config: &BootConfig, meeting: &(dyn Fn(usize) -> Meeting + Sync)) {
    let start = |rank: usize| -> Result<Vec<Vec<u8>>> {
        let id = meet(&launch(rank, size, meeting(rank)), config)?;
        join(&id, rank, size, config)?.all_gather(&[rank as u8])
    };
    let start = &start;
    thread::scope(|scope| {
        let ranks: Vec<_> = (0..size).rev().map(|rank| scope.spawn(move || start(rank))).collect();
        for rank in ranks {
            assert_eq!(rank.join().unwrap().unwrap(), (0..size).map(|rank| vec![rank as u8]).collect::<Vec<_>>());
        }
    });
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn ranks_of_one_host_meet_by_the_jobs_name_as_often_as_they_like() {
    let name = format!("meet test {}", std::process::id());
    for _ in 0..3 {
        all_meet(4, &config(), &|_| Meeting::HostJob { name: name.clone() });
    }
}

#[test]
fn ranks_meet_at_rank_zeros_address_with_and_without_a_secret() {
    for config in [config(), with_secret("hush")] {
        let port = free_port();
        for _ in 0..3 {
            all_meet(3, &config, &|_| Meeting::Address { host: "127.0.0.1".into(), port });
        }
    }
}

#[test]
fn ranks_meet_in_pytorchs_store() {
    let port = fake_torch_store();
    for config in [config(), with_secret("hush")] {
        let prefix = format!("ringtree/{:?}", config.secret);
        for _ in 0..2 {
            all_meet(3, &config, &|_| Meeting::Store { host: "127.0.0.1".into(), port, prefix: prefix.clone() });
        }
    }
}

#[test]
fn ranks_meet_through_a_process_manager_once() {
    let ends = process_manager(3, 1024);
    let fds: Vec<i32> = ends.iter().map(|end| end.as_raw_fd()).collect();
    all_meet(3, &config(), &|rank| Meeting::Pmi { fd: fds[rank] });
    let again = meet(&launch(1, 3, Meeting::Pmi { fd: fds[1] }), &config()).unwrap_err().to_string();
    assert!(again.contains("has been used"), "{again}");
}

#[test]
fn a_rank_alone_needs_nobody_to_meet() {
    all_meet(1, &config(), &|_| Meeting::Address { host: "nowhere.invalid".into(), port: 1 });
}

#[test]
fn who_asks_with_another_secret_gets_no_id() {
    let port = free_port();
    let meeting = || Meeting::Address { host: "127.0.0.1".into(), port };
    let made = meet(&launch(0, 2, meeting()), &with_secret("right")).unwrap();
    for wrong in [with_secret("wrong"), config()] {
        let message = meet(&launch(1, 2, meeting()), &wrong).unwrap_err().to_string();
        assert!(message.contains("RINGTREE_SECRET"), "{message}");
        // Its turn was not spent on a start that did not happen; in a real job this process would end.
        super::forget_turn(&launch(1, 2, meeting()));
    }
    assert_eq!(meet(&launch(1, 2, meeting()), &with_secret("right")).unwrap(), made);
}

#[test]
fn what_is_shown_of_an_id_with_a_jobs_secret_does_not_let_anybody_in() {
    let config = with_secret("hush");
    let (id, shown) = UniqueId::veiled(&config).unwrap();
    assert_ne!(id, shown);
    assert!(join(&shown, 0, 1, &config).is_err());
    assert_ne!(shown.clone().unveiled(&with_secret("other")), id);
    let found = shown.unveiled(&config);
    assert_eq!(found, id);
    join(&found, 0, 1, &config).unwrap();
}

#[test]
fn a_rank_of_another_size_is_told_so() {
    let name = format!("size test {}", std::process::id());
    let meeting = || Meeting::HostJob { name: name.clone() };
    meet(&launch(0, 2, meeting()), &config()).unwrap();
    let message = meet(&launch(1, 3, meeting()), &config()).unwrap_err().to_string();
    assert!(message.contains("rank 1 of 3 asks rank 0 of 2"), "{message}");
}

#[test]
fn without_rank_zero_the_others_give_up_at_the_deadline_and_say_where_they_looked() {
    let short = BootConfig { timeout: Duration::from_millis(100), ..config() };
    let port = free_port();
    let message = meet(&launch(1, 2, Meeting::Address { host: "127.0.0.1".into(), port }), &short).unwrap_err();
    assert!(message.to_string().contains(&format!("127.0.0.1:{port}")), "{message}");
    let message = meet(&launch(1, 2, Meeting::Address { host: "nowhere.invalid".into(), port }), &short).unwrap_err();
    assert!(message.to_string().contains("nowhere.invalid"), "{message}");
    let name = "nobody makes this job".to_string();
    assert!(meet(&launch(1, 2, Meeting::HostJob { name }), &short).is_err());
}
