//! System calls that a container's seccomp profile denies: the library does without, or says what to allow.

use crate::jobs::{Job, Meeting, alone};

/// `membarrier:EPERM`: what the rank denies itself before it joins.
const DENY: &str = "MISHAP_DENY";

/// Denies the system call that the test has named, to this thread and those that it starts.
pub fn install() {
    let Ok(text) = std::env::var(DENY) else { return };
    let (name, errno) = text.split_once(':').expect("a name and an error");
    let call = match name {
        "membarrier" => libc::SYS_membarrier,
        "pidfd_open" => libc::SYS_pidfd_open,
        "memfd_create" => libc::SYS_memfd_create,
        "process_vm_readv" => libc::SYS_process_vm_readv,
        other => panic!("no number for '{other}'"),
    };
    let errno = match errno {
        "EPERM" => libc::EPERM,
        "ENOSYS" => libc::ENOSYS,
        other => panic!("no number for '{other}'"),
    };
    let step =
        |code: u32, jumps: (u8, u8), k: u32| libc::sock_filter { code: code as u16, jt: jumps.0, jf: jumps.1, k };
    // The first word of seccomp_data is the call's number.
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (0, 0), 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (0, 1), call as u32),
        step(libc::BPF_RET | libc::BPF_K, (0, 0), libc::SECCOMP_RET_ERRNO | errno as u32),
        step(libc::BPF_RET | libc::BPF_K, (0, 0), libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its filter live until the call returns; the kernel copies both.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(installed, "no filter: {}", std::io::Error::last_os_error());
}

#[test]
fn a_job_works_where_calls_are_denied_that_it_can_do_without() {
    let _alone = alone();
    for call in ["membarrier", "pidfd_open", "process_vm_readv"] {
        for errno in ["EPERM", "ENOSYS"] {
            // One rank alone, and all.
            for all in [false, true] {
                let mut job = Job::new("one", 3, Meeting::Id);
                let denied = format!("{call}:{errno}");
                let own = [(DENY, denied.as_str())];
                (0..3).for_each(|rank| job.start(rank, if all || rank == 1 { &own } else { &[] }));
                job.expect_all("done");
                job.end(&[]);
            }
        }
    }
}

#[test]
fn a_killed_rank_is_noticed_where_pidfds_and_membarrier_are_denied() {
    let _alone = alone();
    let mut delays = crate::kills::Delays::default();
    for denied in ["membarrier:EPERM", "pidfd_open:EPERM"] {
        for victim in 0..3 {
            let mut job = Job::new("hold", 3, Meeting::Id).with(DENY, denied).start_all();
            job.expect_all("mixing");
            let at = job.kill(victim);
            delays.survivors_name(&job, victim, at);
            job.end(&[victim]);
        }
    }
    delays.judge("kills where membarrier or pidfd_open is denied");
}

#[test]
fn without_memfd_create_the_error_says_what_to_allow() {
    let _alone = alone();
    for errno in ["EPERM", "ENOSYS"] {
        let mut job = Job::new("one", 3, Meeting::Id);
        let denied = format!("memfd_create:{errno}");
        let own = [(DENY, denied.as_str())];
        (0..3).for_each(|rank| job.start(rank, if rank == 0 { &own } else { &[] }));
        for rank in 0..3 {
            let failure = job.failure(rank);
            assert!(failure.text.contains("Allow memfd_create"), "rank {rank}: {failure:?}");
            assert!(rank == 0 || failure.culprits == [0], "rank {rank}: {failure:?}");
        }
        job.end(&[]);
    }
}
