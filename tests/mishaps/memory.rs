//! A memory limit of the control group: an error, or less memory used. Not the kernel's killer, and no signal at some later store.

use crate::jobs::{Job, Meeting, alone};
use crate::roles::{describe, once, say};
use ringtree::{Communicator, ReduceOp, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Communicators of the role that uses many links.
const COPIES: usize = 16;
/// The folder of the group that ranks enter.
const GROUP: &str = "MISHAP_GROUP";

/// Moves this process, a rank, into the group that the test has made.
pub fn enter_group() {
    let Ok(group) = std::env::var(GROUP) else { return };
    fs::write(Path::new(&group).join("cgroup.procs"), std::process::id().to_string()).expect("a group to enter");
}

/// A group below this process's own, with a limit.
struct Group(PathBuf);

impl Group {
    /// None: this process may not make one, or memory is not controlled here.
    fn with_limit(bytes: u64) -> Option<Group> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let place = |version1: bool| {
            let mount = mounts.lines().find(|line| match version1 {
                true => line.contains(" - cgroup ") && line.ends_with("memory"),
                false => line.contains(" - cgroup2 "),
            })?;
            let group = own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                let fits = if version1 { controllers == "memory" } else { controllers.is_empty() };
                fits.then_some(path)
            })?;
            Some(format!("{}{}", mount.split(' ').nth(4)?, group.trim_end_matches('/')))
        };
        for (version1, file) in [(true, "memory.limit_in_bytes"), (false, "memory.max")] {
            let Some(parent) = place(version1) else { continue };
            let group = Group(PathBuf::from(parent).join(format!("mishaps-{}", std::process::id())));
            // In version 2 the file is there only where the parent hands the controller down.
            if fs::create_dir(&group.0).is_ok() && fs::write(group.0.join(file), bytes.to_string()).is_ok() {
                return Some(group);
            }
        }
        None
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..1000 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Asks for more registered memory than the group has, then goes on with less.
pub fn ask_for_too_much(communicator: &Communicator) -> Result<()> {
    // Each fits for itself, all together don't.
    for bytes in [1 << 30, 48 << 20] {
        let error = communicator.alloc::<u8>(bytes).expect_err("more than the group has");
        say("refused", &describe(&error));
    }
    let mut small = communicator.alloc::<f32>(1 << 18)?;
    communicator.all_reduce(&mut small, ReduceOp::Sum)?;
    once(communicator)
}

/// Uses every link of many communicators with large messages: what slots take at most. An error of the budget is as good as success.
pub fn use_many_links(communicator: &Communicator) -> Result<()> {
    let copies = (0..COPIES).map(|_| communicator.duplicate()).collect::<Result<Vec<_>>>()?;
    let (rank, size) = (communicator.rank(), communicator.size());
    let all = size * (64 << 10);
    let (mut data, mut other) = (vec![1f32; all], vec![0f32; all]);
    for copy in &copies {
        copy.all_reduce(&mut data, ReduceOp::Max)?;
        copy.all_to_all(&data, &mut other)?;
        copy.broadcast(&mut data, size - 1)?;
        for step in 1..size {
            let (to, from) = ((rank + step) % size, (rank + size - step) % size);
            copy.send_recv(&data, to, &mut other, from)?;
        }
    }
    Ok(())
}

/// Runs a role in a group with that limit; None: it can't be had (printed).
fn run_in_group(role: &str, bytes: u64) -> Option<Job> {
    let Some(group) = Group::with_limit(bytes) else {
        use std::io::Write;
        // Written, not printed: the harness keeps what tests print to itself.
        writeln!(
            std::io::stderr(),
            "skipped: mishaps: '{role}' in a memory control group: no group can be made below this process's own"
        )
        .expect("a line");
        return None;
    };
    let job = Job::new(role, 4, Meeting::Id).with(GROUP, group.0.display()).start_all();
    for rank in 0..4 {
        let ended = job.hear(rank, "left").is_some();
        assert!(ended, "rank {rank} was killed in a group of {bytes} bytes:\n{}", job.report());
    }
    Some(job)
}

#[test]
fn registered_memory_beyond_the_groups_limit_is_an_error_and_the_job_goes_on() {
    let _alone = alone();
    let Some(job) = run_in_group("greedy", 160 << 20) else { return };
    for rank in 0..4 {
        let text = job.expect(rank, "refused").rest;
        assert!(text.contains("memory limit") && text.contains("control group"), "rank {rank}: {text}");
        job.expect(rank, "done");
    }
    job.end(&[]);
}

#[test]
fn slots_shrink_or_are_refused_where_the_group_has_little_memory() {
    let _alone = alone();
    // With 128 MiB of slots a process, one of the four is killed here.
    let Some(job) = run_in_group("hungry", 64 << 20) else { return };
    for rank in 0..4 {
        if job.hear(rank, "done").is_none() {
            let failure = job.failure(rank);
            assert!(failure.text.contains("RINGTREE_STAGING"), "rank {rank}: {failure:?}");
        }
    }
    job.end(&[]);
}
