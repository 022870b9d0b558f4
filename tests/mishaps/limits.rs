//! Limits of the system on a process (ulimit): an error that names the limit, on the rank that has it, and an error on all others.

use crate::jobs::{Job, Meeting, alone};
use std::fs;
use std::process::Command;

/// `nofile=12`: lowered by the rank itself before it joins. A limit of addresses is on top of what the process has.
const LIMIT: &str = "MISHAP_LIMIT";

/// Lowers the limit that the test has named, in a rank.
pub fn lower() {
    let Ok(text) = std::env::var(LIMIT) else { return };
    let (name, value) = text.split_once('=').expect("a name and a number");
    let value: u64 = value.parse().expect("a number");
    let (resource, value) = match name {
        "nofile" => (libc::RLIMIT_NOFILE, value),
        "fsize" => (libc::RLIMIT_FSIZE, value),
        "as" => (libc::RLIMIT_AS, addresses() + value),
        other => panic!("there is no limit '{other}'"),
    };
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the kernel reads the limit, which lives until the call returns.
    let lowered = unsafe { libc::setrlimit(resource, &raw const limit) } == 0;
    assert!(lowered, "{text}: {}", std::io::Error::last_os_error());
}

/// Bytes of addresses that this process has.
fn addresses() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("VmSize");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

/// Runs a job of 3 of which one rank has a limit; its error, and those of the others.
fn limited(limit: &str, poor: usize) -> (Job, Option<String>) {
    let mut job = Job::new("one", 3, Meeting::Id).with("RINGTREE_INIT_TIMEOUT", "1");
    let own = [(LIMIT, limit)];
    for rank in 0..3 {
        job.start(rank, if rank == poor { &own } else { &[] });
    }
    let failure = job.hear(poor, "error").map(|_| job.failure(poor).text);
    (job, failure)
}

/// The others must not wait for ever, and know who it was.
fn others_name(job: &Job, poor: usize, limit: &str) {
    for rank in (0..3).filter(|rank| *rank != poor) {
        let failure = job.failure(rank);
        assert_eq!(failure.culprits, [poor], "{limit} on rank {poor}, rank {rank}: {failure:?}\n{}", job.report());
    }
}

#[test]
fn too_few_descriptors_are_an_error_that_names_the_limit_until_there_are_enough() {
    let _alone = alone();
    for poor in [0, 2] {
        let (mut failed, mut enough) = (0, None);
        for count in 3..60 {
            let limit = format!("nofile={count}");
            let (job, failure) = limited(&limit, poor);
            match failure {
                None => {
                    job.expect_all("done");
                    enough = Some(count);
                }
                Some(text) => {
                    let names = text.contains("ulimit -n") && text.contains("Too many open files");
                    assert!(names, "{limit}: {text}\n{}", job.report());
                    others_name(&job, poor, &limit);
                    failed += 1;
                }
            }
            job.end(&[]);
            if enough.is_some() {
                break;
            }
        }
        println!("rank {poor}: {failed} limits are too low, {enough:?} descriptors are enough");
        assert!(failed > 0 && enough.is_some());
    }
}

#[test]
fn too_few_addresses_are_an_error_that_names_the_limit() {
    let _alone = alone();
    for poor in [0, 1] {
        let limit = format!("as={}", 24 << 20);
        let (job, failure) = limited(&limit, poor);
        let text = failure.unwrap_or_else(|| panic!("no error\n{}", job.report()));
        assert!(text.contains("ulimit -v") && text.contains("cannot map"), "{text}");
        others_name(&job, poor, &limit);
        job.end(&[]);
    }
}

#[test]
fn a_limit_of_file_sizes_is_an_error_and_not_a_signal() {
    let _alone = alone();
    // Rank 0 makes the segment.
    let (job, failure) = limited("fsize=65536", 0);
    let text = failure.unwrap_or_else(|| panic!("no error\n{}", job.report()));
    assert!(text.contains("ulimit -f"), "{text}");
    others_name(&job, 0, "fsize");
    job.end(&[]);
}

#[test]
fn a_full_or_missing_dev_shm_does_not_matter() {
    let _alone = alone();
    for (name, mount) in [
        ("a full /dev/shm", "mount -t tmpfs -o size=4k tmpfs /dev/shm && cat /dev/zero > /dev/shm/filler 2>/dev/null"),
        ("no /dev/shm", "umount -l /dev/shm; ! grep -q ' /dev/shm ' /proc/self/mounts"),
    ] {
        // A second start of this binary, in a mount namespace where the folder is as the test wants it.
        let script = format!("{mount}; exec \"$0\" --exact limits::a_job_of_two_works --nocapture");
        let probe = Command::new("unshare").args(["-m", "sh", "-c", "mount -t tmpfs tmpfs /dev/shm"]).output();
        if !probe.is_ok_and(|output| output.status.success()) {
            use std::io::Write;
            // Written, not printed: the harness keeps what tests print to itself.
            writeln!(
                std::io::stderr(),
                "skipped: mishaps: {name}: a mount namespace needs privileges that this process does not have"
            )
            .expect("a line");
            continue;
        }
        let binary = std::env::current_exe().expect("this binary");
        let run = Command::new("unshare").args(["-m", "sh", "-c", &script]).arg(binary).output().expect("unshare");
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{name}: {text}\n{}", String::from_utf8_lossy(&run.stderr));
    }
}

#[test]
fn a_job_of_two_works() {
    let _alone = alone();
    let job = Job::new("one", 2, Meeting::Id).start_all();
    job.expect_all("done");
    job.end(&[]);
}
