//! A process that forks without exec, as data loaders do: the fork has the rank's memory and descriptors, and must not harm it.
//!
//! No test harness: a fork of a process with threads may do very little, and the harness has threads.

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use ringtree::boot::UniqueId;
use ringtree::{Communicator, Config, Error, ReduceOp};
use std::time::Duration;

/// A fork drops everything that it has got, and exits as programs do.
fn forked(communicator: Communicator, buffer: ringtree::Registered<u64>, plain: &mut [u64]) -> ! {
    let refused = communicator.all_reduce(plain, ReduceOp::Sum);
    let right = matches!(&refused, Err(Error::Misuse { what, .. }) if what.contains("forked"));
    communicator.abort("a fork is not the rank");
    drop(buffer);
    drop(communicator);
    std::process::exit(if right { 0 } else { 1 });
}

fn rank(id: &UniqueId, rank: usize) {
    let timeout = Duration::from_secs(60);
    let config = Config { timeout, init_timeout: timeout, ..Config::default() };
    let communicator = Communicator::with_config(id, rank, 2, &config).expect("two ranks meet");
    let mut buffer = communicator.alloc::<u64>(100_000).expect("registered memory");
    let mut plain = vec![1u64; 10];
    buffer.fill(7);
    if rank == 0 {
        // SAFETY: no thread runs beside this one.
        let (communicator, buffer, plain) = match unsafe { fork() }.expect("a fork") {
            ForkResult::Child => forked(communicator, buffer, &mut plain),
            ForkResult::Parent { child } => {
                let ended = waitpid(child, None).expect("the fork ends");
                assert_eq!(ended, WaitStatus::Exited(child, 0), "a fork may not use its parent's communicator");
                (communicator, buffer, plain)
            }
        };
        finish(&communicator, buffer, plain);
        return;
    }
    finish(&communicator, buffer, plain);
}

/// The job goes on as if nothing had been forked.
fn finish(communicator: &Communicator, mut buffer: ringtree::Registered<u64>, mut plain: Vec<u64>) {
    communicator.barrier().expect("nobody has left");
    assert!(buffer.iter().all(|element| *element == 7), "the fork has emptied its parent's buffer");
    communicator.all_reduce(&mut buffer, ReduceOp::Sum).expect("all_reduce in registered memory");
    communicator.all_reduce(&mut plain, ReduceOp::Sum).expect("all_reduce");
    assert!(buffer.iter().all(|element| *element == 14) && plain == [2; 10]);
}

fn main() {
    println!("\nrunning 1 test");
    let id = UniqueId::new().expect("an id");
    // SAFETY: the id's hub has a thread of its own, which holds no lock while this one forks; the child joins by the id's bytes.
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child => {
            let id = UniqueId::from_bytes(id.as_bytes()).expect("the id");
            rank(&id, 1);
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            rank(&id, 0);
            assert_eq!(waitpid(child, None).expect("rank 1 ends"), WaitStatus::Exited(child, 0));
        }
    }
    println!("test a_fork_leaves_its_parents_rank_alone ... ok\n");
    println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n");
}
