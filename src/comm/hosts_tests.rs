//! Two ranks over sockets with somebody between them, who records what goes over the wire, and changes, repeats or cuts it.
//!
//! ```text
//!   rank 0 ── data connections ──> relay ──> rank 1        rank 0 is told that rank 1 listens where the relay does
//! ```

use super::*;
use crate::ReduceOp;
use crate::boot::{JobSecret, Launch, Meeting};
use crate::comm::processes::require_secret;
use crate::config::Protection;
use crate::transport::tcp::world_seen;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

/// What rank 0 sends, again and again.
const PATTERN: [u8; 16] = *b"gradients of all";
/// What each rank contributes: 1.5 MiB, in many messages and records.
const COUNT: usize = 3 << 17;
/// Behind the handshake, inside what goes over the socket for long messages and no other.
const PLACE: usize = 150_000;

/// What is done to what goes to rank 1 at that place, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Nothing,
    Flip,
    Repeat,
    LeaveOut,
    Cut,
}

/// Somebody on the wire.
struct Relay {
    at: SocketAddr,
    recorded: Arc<Mutex<Vec<u8>>>,
    done: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Relay {
    fn start(to: SocketAddr, deed: Deed) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its number");
        let (recorded, done, over) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicBool>::default(), Arc::default());
        let relay = Relay { at, recorded: recorded.clone(), done: done.clone(), over: Arc::clone(&over) };
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                let Ok(server) = TcpStream::connect(to) else { continue };
                let (back, forth) = (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
                let (recorded, done) = (recorded.clone(), done.clone());
                std::thread::spawn(move || carry(client, server, &recorded, &done, deed));
                std::thread::spawn(move || carry(back, forth, &Mutex::default(), &AtomicBool::new(true), deed));
            }
        });
        relay
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        let _wakes_the_listener = TcpStream::connect(self.at);
    }
}

/// Carries one direction, and does its deed where nobody has.
fn carry(mut from: TcpStream, mut to: TcpStream, recorded: &Mutex<Vec<u8>>, done: &AtomicBool, deed: Deed) {
    let (mut bytes, mut passed) = (vec![0; 32 << 10], 0);
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let piece = &mut bytes[..count];
        recorded.lock().expect("no panic").extend_from_slice(piece);
        let here = PLACE.checked_sub(passed).filter(|at| *at < count);
        passed += count;
        let mut twice = 1;
        if let Some(at) = here
            && deed != Deed::Nothing
            && !done.swap(true, Ordering::AcqRel)
        {
            match deed {
                Deed::Flip => piece[at] ^= 4,
                Deed::Repeat => twice = 2,
                Deed::LeaveOut => twice = 0,
                Deed::Cut | Deed::Nothing => break,
            }
        }
        if (0..twice).any(|_| to.write_all(piece).is_err()) {
            break;
        }
    }
    let _gone_already = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// What both ranks have at the end: that all sums were right, or their errors; and what the relay saw.
fn run(protection: Protection, deed: Deed) -> (Vec<Result<bool>>, Vec<u8>) {
    let config =
        Config { transport: Transport::Tcp, protection, timeout: Duration::from_secs(60), ..Config::default() };
    let mut relay = None;
    let offices = world_seen(2, config.init_timeout, &mut |rank, mut addresses| {
        if rank == 0 {
            let at = &mut addresses[1].at[0].socket;
            *at = relay.insert(Relay::start(*at, deed)).at;
        }
        addresses
    });
    let (world, relay) = (World::flat(2), relay.expect("rank 0 has asked"));
    let both = offices.expect("two offices").into_iter().map(|office| {
        let (crowd, media) = (Crowd::of_threads(2), [Medium::Loopback; 2]);
        Far { office, config: &config, world: &world, crowd, kind: Kind::Sockets, media, nics: Vec::new() }
            .over_sockets()
    });
    let both: Vec<Communicator> = both.collect();
    // Nobody leaves before both are done: the relay takes bytes as delivered that it may still drop.
    let ended = &Barrier::new(2);
    let outcomes = std::thread::scope(|threads| {
        let to_the_end = |rank: Communicator| {
            let outcome = sums(&rank);
            ended.wait();
            outcome
        };
        let ranks: Vec<_> = both.into_iter().map(|rank| threads.spawn(move || to_the_end(rank))).collect();
        ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect()
    });
    assert_eq!(relay.done.load(Ordering::Acquire), deed != Deed::Nothing, "{deed:?}: nothing was done");
    let recorded = relay.recorded.lock().expect("no panic").clone();
    (outcomes, recorded)
}

/// Rank 0 contributes the pattern and rank 1 nothing: the sum is the pattern.
fn sums(rank: &Communicator) -> Result<bool> {
    let pattern: Vec<u32> =
        PATTERN.chunks(4).map(|word| u32::from_le_bytes(word.try_into().expect("4 bytes"))).collect();
    let expected: Vec<u32> = pattern.iter().copied().cycle().take(COUNT).collect();
    let mut right = true;
    for _ in 0..3 {
        let mut data = if rank.rank() == 0 { expected.clone() } else { vec![0; COUNT] };
        rank.all_reduce(&mut data, ReduceOp::Sum)?;
        right &= data == expected;
    }
    rank.barrier()?;
    Ok(right)
}

/// Both ranks say that rank 0's bytes did not come as they were, in these words.
fn both_blame_rank_0(outcomes: Vec<Result<bool>>, words: &str, what: &str) {
    for (rank, outcome) in outcomes.into_iter().enumerate() {
        let error = outcome.expect_err(what);
        assert!(matches!(error, Error::Corrupt { rank: 0, .. }), "{what}: rank {rank}: {error}");
        let (text, who) = (error.to_string(), format!("process {}", std::process::id()));
        assert!(text.contains(words) && text.contains(&who), "{what}: rank {rank}: {text}");
    }
}

#[test]
fn what_goes_over_the_wire_can_be_read_unless_it_is_encrypted() {
    for protection in Protection::ALL {
        let (outcomes, recorded) = run(protection, Deed::Nothing);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(true))), "{protection:?}: {outcomes:?}");
        assert!(recorded.len() > 3 * COUNT, "the relay was on the way");
        let shown = recorded.windows(PATTERN.len()).any(|bytes| bytes == PATTERN);
        assert_eq!(shown, protection != Protection::Encrypted, "{protection:?}");
    }
}

#[test]
fn a_bit_that_flips_on_the_wire_ends_the_job_where_anybody_looks_and_nowhere_else() {
    let (outcomes, _) = run(Protection::Plain, Deed::Flip);
    assert!(!outcomes.iter().all(|outcome| matches!(outcome, Ok(true))), "the relay has changed nothing");
    both_blame_rank_0(run(Protection::Checksum, Deed::Flip).0, "checksum is wrong", "a checksum");
    both_blame_rank_0(run(Protection::Encrypted, Deed::Flip).0, "fails its authentication", "a record");
}

#[test]
fn what_is_repeated_or_left_out_of_an_encrypted_connection_is_seen() {
    for deed in [Deed::Repeat, Deed::LeaveOut] {
        both_blame_rank_0(run(Protection::Encrypted, deed).0, "fails its authentication", &format!("{deed:?}"));
    }
}

#[test]
fn a_connection_that_is_cut_is_made_again_with_new_keys() {
    for protection in [Protection::Checksum, Protection::Encrypted] {
        let (outcomes, _) = run(protection, Deed::Cut);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(true))), "{protection:?}: {outcomes:?}");
    }
}

#[test]
fn what_can_not_be_encrypted_is_refused_by_name() {
    let encrypted = Config { protection: Protection::Encrypted, ..Config::default() };
    let rdma = Config { transport: Transport::Verbs, ..encrypted.clone() };
    let refused = can_protect(&rdma).expect_err("RDMA goes as it is").to_string();
    assert!(refused.contains("verbs") && refused.contains("RINGTREE_PROTECTION is encrypted"), "{refused}");
    assert!(can_protect(&encrypted).is_ok());
    assert!(can_protect(&Config { protection: Protection::Checksum, ..rdma }).is_ok());
}

#[test]
fn keys_do_not_follow_from_what_a_launcher_carries_in_the_open() {
    let encrypted = Config { protection: Protection::Encrypted, ..Config::default() };
    let meeting = Meeting::Address { host: "node0".into(), port: 29500 };
    let far = Launch { rank: 0, size: 2, local_rank: None, local_size: None, launcher: "a test", meeting };
    let (open, secret) = (BootConfig::default(), Some(JobSecret::new("of this job")));
    let refused = require_secret(&encrypted, &open, &far).expect_err("everybody could know the keys").to_string();
    assert!(refused.contains("RINGTREE_SECRET_FILE"), "{refused}");
    assert!(require_secret(&Config::default(), &open, &far).is_ok());
    assert!(require_secret(&encrypted, &BootConfig { secret, ..open.clone() }, &far).is_ok());
    assert!(require_secret(&encrypted, &BootConfig { one_host: true, ..open }, &far).is_ok());
}
