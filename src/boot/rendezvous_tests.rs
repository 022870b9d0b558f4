//! Whole meetings: who comes, who does not, who dies on the way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::thread;

use super::*;
use crate::boot::host::listen_tcp;
use crate::boot::wire::Wire;

fn config(seconds: f64) -> BootConfig {
    BootConfig { timeout: Duration::from_secs_f64(seconds), one_host: true, ..BootConfig::default() }
}

/// Each of `ranks` as a thread that joins and then does `work`; the results by place in `ranks`.
fn world<T: Send>(
    id: &UniqueId,
    ranks: &[usize],
    size: usize,
    config: &BootConfig,
    work: impl Fn(Rendezvous) -> Result<T> + Sync,
) -> Vec<Result<T>> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> =
            ranks.iter().map(|&rank| scope.spawn(move || join(id, rank, size, config).and_then(work))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn all(size: usize) -> Vec<usize> {
    (0..size).collect()
}

/// Every result is an error that names exactly `culprit` as its cause.
fn assert_all_name<T: std::fmt::Debug>(results: &[Result<T>], culprit: usize) {
    for result in results {
        let error = result.as_ref().expect_err("a survivor must see the loss");
        assert_eq!(error.culprits(), [culprit], "{error}");
    }
}

#[test]
fn ranks_of_every_shape_of_tree_meet_and_gather() {
    for size in [1, 2, 3, 32, 33, 64, 100] {
        let config = config(60.0);
        let id = UniqueId::with_config(&config).unwrap();
        let results = world(&id, &all(size), size, &config, |mut me| {
            let mine = vec![me.rank() as u8; me.rank() % 7];
            let got = me.all_gather(&mine)?;
            me.barrier()?;
            let again = me.all_gather(&me.rank().to_le_bytes())?;
            assert!((0..me.size()).all(|rank| me.peer_pid(rank) == Some(std::process::id() as i32)));
            Ok((got, again))
        });
        for result in results {
            let (got, again) = result.unwrap();
            assert_eq!(got, (0..size).map(|rank| vec![rank as u8; rank % 7]).collect::<Vec<_>>());
            assert_eq!(again, (0..size).map(|rank| rank.to_le_bytes().to_vec()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn the_largest_part_passes_through_two_levels_and_a_larger_one_is_misuse() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let results = world(&id, &all(40), 40, &config, |mut me| {
        assert!(matches!(me.all_gather(&[0; MAX_PART + 1]), Err(Error::Misuse { .. })));
        me.all_gather(&vec![me.rank() as u8; MAX_PART])
    });
    for result in results {
        let got = result.unwrap();
        assert!(got.iter().enumerate().all(|(rank, bytes)| *bytes == vec![rank as u8; MAX_PART]));
    }
}

#[test]
fn ranks_meet_over_tcp_where_the_hosts_differ() {
    let config = config(60.0);
    let mut id = UniqueId::with_config(&config).unwrap();
    id.on_another_host();
    let results = world(&id, &all(5), 5, &config, |mut me| me.all_gather(&[me.rank() as u8]));
    assert!(results.into_iter().all(|result| result.unwrap() == [[0], [1], [2], [3], [4]]));
}

#[test]
fn those_who_came_learn_who_never_came() {
    let config = config(0.3);
    let id = UniqueId::with_config(&config).unwrap();
    let came: Vec<usize> = (0..20).filter(|rank| ![3, 7, 12, 13, 14, 15].contains(rank)).collect();
    let results = world(&id, &came, 20, &config, |_| Ok(()));
    assert_eq!(results.len(), 14);
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(error.culprits(), [3, 7, 12, 13, 14, 15]);
        assert!(error.to_string().contains("ranks 3, 7 and 12 … 15 of 20 never came within 0.3 s"), "{error}");
    }
}

#[test]
fn two_processes_with_one_rank_are_an_error_for_all() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let results = world(&id, &[0, 1, 1, 2], 4, &config, |_| Ok(()));
    for result in results {
        let message = result.unwrap_err().to_string();
        assert!(message.contains("two processes are rank 1"), "{message}");
    }
    // Who comes later gets the same answer, not silence.
    let message = join(&id, 3, 4, &config).unwrap_err().to_string();
    assert!(message.contains("two processes are rank 1"), "{message}");
}

#[test]
fn ranks_that_were_told_different_sizes_are_an_error_for_both() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    thread::scope(|scope| {
        let one = scope.spawn(|| join(&id, 0, 3, &config));
        let other = scope.spawn(|| join(&id, 1, 2, &config));
        for thread in [one, other] {
            let message = thread.join().unwrap().unwrap_err().to_string();
            assert!(message.contains("was started for") && message.contains("same number of ranks"), "{message}");
        }
    });
}

#[test]
fn a_rank_outside_the_job_is_misuse() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    for (rank, size) in [(2, 2), (0, 0), (0, MAX_RANKS + 1)] {
        assert!(matches!(join(&id, rank, size, &config), Err(Error::Misuse { .. })));
    }
}

#[test]
fn an_id_whose_maker_is_gone_is_refused_at_once() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    world(&id, &[0], 1, &config, |_| Ok(())).pop().unwrap().unwrap();
    let message = join(&id, 0, 1, &config).unwrap_err().to_string();
    assert!(message.contains("ended, or the ranks have met already"), "{message}");
}

#[test]
fn a_wrong_secret_gets_no_further_and_the_job_goes_on() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let forged = id.with_another_secret();
    let message = join(&forged, 1, 2, &config).unwrap_err().to_string();
    assert!(message.contains("does not know this job's secret"), "{message}");
    let results = world(&id, &all(2), 2, &config, |mut me| me.barrier());
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// Whether the other side has hung up without a further byte.
fn hung_up(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut room = [0; 256];
    loop {
        match stream.read(&mut room) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn garbage_silence_and_replays_are_refused_while_the_job_goes_on() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let address = id.root().tcp.unwrap();
    let knock = || TcpStream::connect(address).unwrap();

    let _silent: Vec<TcpStream> = (0..80).map(|_| knock()).collect();
    let mut garbage = knock();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(hung_up(&mut garbage));
    let mut slow = knock();
    slow.write_all(b"R").unwrap();
    let mut unproved = knock();
    let mut hello = b"RTb1".to_vec();
    hello.extend_from_slice(&[7; 32]);
    unproved.write_all(&hello).unwrap();
    // The server answers with a proof of its own; sent back, or anything else, it proves nothing. Nor does a huge length.
    let mut answer = [0; 68];
    unproved.read_exact(&mut answer).unwrap();
    unproved.write_all(&answer[36..]).unwrap();
    assert!(hung_up(&mut unproved));
    let mut huge = knock();
    huge.write_all(&hello).unwrap();
    huge.write_all(&[0xff; 64]).unwrap();
    assert!(hung_up(&mut huge));

    let results = world(&id, &all(3), 3, &config, |mut me| {
        let _ = slow.try_clone().unwrap().write_all(b"T");
        me.all_gather(b"on")
    });
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn a_recorded_check_in_opens_nothing() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    // A man in the middle that records what rank 0 says.
    let (front, listener) = listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    listener.set_nonblocking(false).unwrap();
    let back = id.root().tcp.unwrap();
    let mut seen = id.clone();
    seen.on_another_host();
    seen.move_root_to(front);
    let recorded = thread::scope(|scope| {
        let recorder = scope.spawn(move || {
            let (mut near, _) = listener.accept().unwrap();
            let mut far = TcpStream::connect(back).unwrap();
            let (mut from_far, mut to_near) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from_far, &mut to_near));
            let mut recorded = Vec::new();
            let mut room = [0; 4096];
            while let Ok(count @ 1..) = near.read(&mut room) {
                recorded.extend_from_slice(&room[..count]);
                far.write_all(&room[..count]).unwrap();
            }
            recorded
        });
        let other = scope.spawn(|| join(&id, 1, 2, &config));
        drop(join(&seen, 0, 2, &config).unwrap());
        drop(other.join().unwrap().unwrap());
        recorder.join().unwrap()
    });
    assert!(recorded.len() > 68);
    let fresh = UniqueId::with_config(&config).unwrap();
    let mut replay = TcpStream::connect(fresh.root().tcp.unwrap()).unwrap();
    replay.write_all(&recorded).unwrap();
    assert!(hung_up(&mut replay));
    let results = world(&fresh, &all(2), 2, &config, |mut me| me.barrier());
    assert!(results.iter().all(Result::is_ok));
}

#[test]
fn a_rank_that_dies_before_all_have_come_is_named_to_those_who_came_and_who_come_later() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let (results, late) = thread::scope(|scope| {
        let waiting: Vec<_> = [0, 1]
            .map(|rank| {
                scope.spawn({
                    let (id, config) = (&id, &config);
                    move || join(id, rank, 4, config)
                })
            })
            .into();
        // Rank 2 checks in and its connection ends.
        let joining = Joining::prepare(&id, 2, 4, &config, Instant::now()).unwrap();
        drop(joining.check_in().unwrap());
        let results: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
        (results, join(&id, 3, 4, &config))
    });
    assert_all_name(&results, 2);
    assert_all_name(&[late], 2);
    assert!(results.iter().all(|result| matches!(result, Err(Error::PeerLost { .. }))));
}

#[test]
fn a_rank_that_dies_on_its_way_to_its_place_in_the_tree_is_named_by_all() {
    // A leaf below rank 0, and rank 0 itself, whom two others are on their way to.
    for (size, victim) in [(34, 33), (34, 0)] {
        let config = config(60.0);
        let id = UniqueId::with_config(&config).unwrap();
        let survivors: Vec<usize> = (0..size).filter(|rank| *rank != victim).collect();
        let results = thread::scope(|scope| {
            scope.spawn(|| {
                let mut joining = Joining::prepare(&id, victim, size, &config, Instant::now()).unwrap();
                let mut root = joining.check_in().unwrap();
                joining.await_go(&mut root).unwrap();
            });
            world(&id, &survivors, size, &config, |_| Ok(()))
        });
        assert_all_name(&results, victim);
        assert!(results.iter().all(|result| matches!(result, Err(Error::PeerLost { .. }))), "{results:?}");
    }
}

#[test]
fn a_rank_that_dies_between_steps_is_named_by_all_survivors_of_the_tree() {
    for (size, victim) in [(3, 1), (64, 40), (64, 0), (100, 1), (100, 97)] {
        let config = config(60.0);
        let id = UniqueId::with_config(&config).unwrap();
        let results = world(&id, &all(size), size, &config, |mut me| {
            me.barrier()?;
            if me.rank() == victim {
                me.vanish();
                return Err(Error::misuse("this is the victim", ""));
            }
            me.all_gather(b"x")
        });
        for (rank, result) in results.iter().enumerate().filter(|(rank, _)| *rank != victim) {
            let error = result.as_ref().expect_err("a survivor must see the loss");
            assert!(
                matches!(error, Error::PeerLost { rank, .. } if *rank == victim),
                "size {size}, rank {rank}: {error}"
            );
        }
    }
}

#[test]
fn an_error_stays_the_answer_to_every_later_call() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let results = world(&id, &all(2), 2, &config, |mut me| {
        if me.rank() == 1 {
            me.vanish();
            return Ok(());
        }
        let first = me.barrier().unwrap_err().to_string();
        assert_eq!(me.barrier().unwrap_err().to_string(), first);
        assert_eq!(me.share_fd(&[0, 1], std::io::stdin().as_fd()).unwrap_err().to_string(), first);
        Ok(())
    });
    assert!(results.iter().all(Result::is_ok));
}

#[test]
fn fail_tells_all_ranks_who_and_why() {
    for (size, culprit) in [(4, 2), (70, 35), (70, 0)] {
        let config = config(60.0);
        let id = UniqueId::with_config(&config).unwrap();
        let results = world(&id, &all(size), size, &config, |mut me| {
            if me.rank() == culprit {
                me.fail("no room in /dev/shm");
                return Err(Error::misuse("this is the culprit", ""));
            }
            me.barrier()
        });
        for (_, result) in results.iter().enumerate().filter(|(rank, _)| *rank != culprit) {
            let error = result.as_ref().unwrap_err();
            assert!(matches!(error, Error::Aborted { rank, .. } if *rank == culprit), "{error}");
            assert!(error.to_string().contains("no room in /dev/shm"), "{error}");
        }
    }
}

#[test]
fn ranks_that_call_different_things_both_learn_it() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let results =
        world(
            &id,
            &all(3),
            3,
            &config,
            |mut me| if me.rank() == 1 { me.barrier() } else { me.all_gather(b"").map(drop) },
        );
    for result in results {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }) && error.culprits().contains(&1), "{error}");
    }
}

#[test]
fn a_rank_that_leaves_early_is_named_to_those_who_still_need_it() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let results = world(&id, &all(3), 3, &config, |mut me| if me.rank() == 1 { Ok(()) } else { me.barrier() });
    assert!(results[1].is_ok());
    for result in [&results[0], &results[2]] {
        let error = result.as_ref().unwrap_err();
        assert!(
            matches!(error, Error::PeerLost { rank: 1, .. }) && error.to_string().contains("finished the start"),
            "{error}"
        );
    }
}

#[test]
fn a_rank_that_does_nothing_is_named_at_the_deadline() {
    let config = config(0.3);
    let id = UniqueId::with_config(&config).unwrap();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let done = std::sync::Mutex::new(Some(done));
    let results = world(&id, &all(2), 2, &config, |mut me| {
        if me.rank() == 1 {
            let _ = wait.lock().unwrap().recv();
            return Ok(());
        }
        let result = me.barrier();
        done.lock().unwrap().take();
        result
    });
    let error = results[0].as_ref().unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(error.culprits(), [1]);
}

fn memfd(text: &[u8]) -> std::fs::File {
    let fd = nix::sys::memfd::memfd_create(c"boot test", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let mut file = std::fs::File::from(fd);
    file.write_all(text).unwrap();
    file
}

fn content(fd: OwnedFd) -> String {
    use std::os::unix::fs::FileExt;
    let mut room = [0; 64];
    let count = std::fs::File::from(fd).read_at(&mut room, 0).unwrap();
    String::from_utf8(room[..count].to_vec()).unwrap()
}

use std::os::fd::OwnedFd;

#[test]
fn descriptors_reach_their_groups_in_the_order_they_were_shared() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let results = world(&id, &all(6), 6, &config, |mut me| {
        let group = if me.rank() < 3 { vec![2, 1, 0] } else { vec![3, 4, 5] };
        let mut got = Vec::new();
        for turn in 0..3 {
            let lowest = if me.rank() < 3 { 0 } else { 3 };
            if me.rank() == lowest {
                me.share_fd(&group, memfd(format!("{lowest}/{turn}").as_bytes()).as_fd())?;
            } else {
                got.push(content(me.receive_fd(lowest)?));
            }
        }
        me.barrier()?;
        Ok(got)
    });
    let got: Vec<Vec<String>> = results.into_iter().map(Result::unwrap).collect();
    for rank in [1, 2] {
        assert_eq!(got[rank], ["0/0", "0/1", "0/2"]);
    }
    for rank in [4, 5] {
        assert_eq!(got[rank], ["3/0", "3/1", "3/2"]);
    }
}

#[test]
fn a_received_descriptor_is_closed_on_exec() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let results = world(&id, &all(2), 2, &config, |mut me| {
        if me.rank() == 0 {
            return me.share_fd(&[0, 1], memfd(b"").as_fd()).map(|()| true);
        }
        let fd = me.receive_fd(0)?;
        let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        Ok(nix::fcntl::FdFlag::from_bits_truncate(flags).contains(nix::fcntl::FdFlag::FD_CLOEXEC))
    });
    assert!(results.into_iter().all(|result| result.unwrap()));
}

#[test]
fn the_death_of_any_rank_ends_the_wait_for_a_descriptor() {
    let config = config(60.0);
    for victim in [0, 1, 2] {
        let id = UniqueId::with_config(&config).unwrap();
        let results = world(&id, &all(3), 3, &config, |mut me| {
            if me.rank() == victim {
                me.vanish();
                return Ok(());
            }
            match me.rank() {
                0 => {
                    me.share_fd(&[0, 1, 2], memfd(b"x").as_fd())?;
                    me.barrier()
                }
                _ => {
                    me.receive_fd(0)?;
                    me.barrier()
                }
            }
        });
        for (_, result) in results.iter().enumerate().filter(|(rank, _)| *rank != victim) {
            let error = result.as_ref().unwrap_err();
            assert!(matches!(error, Error::PeerLost { rank, .. } if *rank == victim), "{error}");
        }
    }
}

#[test]
fn a_stranger_at_the_door_gets_no_descriptor() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let results = world(&id, &all(2), 2, &config, |mut me| {
        let door = me.peers[0].door;
        if me.rank() == 0 {
            me.barrier()?;
            me.share_fd(&[0, 1], memfd(b"secret").as_fd())?;
            return Ok(());
        }
        let target = Target::Unix { name: socket_name(&door), otherwise: None };
        let (wrong, context) = ([1; 32], door_context(0));
        let dial = Dial {
            target: &target,
            secret: &wrong,
            context: &context,
            deadline: Instant::now() + Duration::from_secs(30),
            patient: false,
            limit: SMALL_FRAME,
        };
        me.barrier()?;
        let refused = dial.ask(b"give", &mut || false);
        assert!(matches!(refused, Err(NoAnswer::Stranger(_))));
        assert_eq!(content(me.receive_fd(0)?), "secret");
        Ok(())
    });
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn sharing_with_the_wrong_ranks_is_misuse() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let results = world(&id, &all(2), 2, &config, |mut me| {
        let fd = memfd(b"");
        let misuse = |result: Result<()>| assert!(matches!(result, Err(Error::Misuse { .. })));
        misuse(me.share_fd(&[], fd.as_fd()));
        misuse(me.share_fd(&[me.rank(), 7], fd.as_fd()));
        misuse(me.receive_fd(me.rank()).map(drop));
        if me.rank() == 1 {
            misuse(me.share_fd(&[0, 1], fd.as_fd()));
        }
        me.barrier()
    });
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn one_who_knows_the_secret_and_says_nonsense_ends_the_start_for_all() {
    let config = config(60.0);
    let id = UniqueId::with_config(&config).unwrap();
    let results = world(&id, &all(3), 3, &config, |mut me| {
        if me.rank() == 1 {
            let entries = vec![(2, b"not mine".to_vec())];
            me.connection.send(&Message::Part { round: Round::Gather, number: 2, entries });
            return me.barrier().map(|()| Vec::new());
        }
        me.all_gather(b"x")
    });
    for result in results {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Corrupt { rank: 1, .. }), "{error}");
    }
}

#[test]
fn a_member_of_the_job_can_not_make_the_hub_take_in_more_than_a_frame_may_have() {
    let (mut near, mut far) = Wire::pair([3; 32]);
    far.expect_up_to(frame_limit(2));
    near.send(&vec![0; frame_limit(2).max(SMALL_FRAME) + 1]);
    let bytes = std::mem::take(near.output());
    far.feed(&bytes[..4]);
    assert!(far.next().is_err());
}
