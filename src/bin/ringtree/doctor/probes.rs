//! What is really tried, because only trying tells: seccomp, Yama and old kernels say no in ways that no file shows.

use super::finding::Finding;
use crate::{Failure, Outcome};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::{Pid, write};
use std::io::{BufRead, BufReader, IoSliceMut, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

/// What the probed process keeps in its memory for others to read.
static WORD: [u8; 16] = *b"ringtree doctor\n";

/// All probes.
pub(super) fn findings(ptrace_scope: Option<u8>) -> Vec<Finding> {
    vec![memory_of_others(ptrace_scope), memfd(), pidfd(), futex(), membarrier(), simd()]
}

/// Ranks are siblings, children of a launcher, so both ways are tried: this process reads a child, and one child another.
fn memory_of_others(ptrace_scope: Option<u8>) -> Finding {
    const NAME: &str = "process_vm_readv";
    let scope = ptrace_scope.map_or(String::new(), |scope| format!(" (kernel.yama.ptrace_scope is {scope})"));
    let advice = "plain buffers then go through shared slots, which is slower for large messages; sysctl kernel.yama.ptrace_scope=0, \
                  or docker --cap-add SYS_PTRACE, allows it";
    let target = match Target::start() {
        Ok(target) => target,
        Err(error) => {
            return Finding::note(NAME, format!("a second process can't be started to try it: {error}"), advice);
        }
    };
    match (read_word(target.pid, target.address), target.read_by_a_sibling()) {
        (Ok(()), Ok(())) => Finding::ok(NAME, format!("allowed between processes of this user{scope}")),
        (Ok(()), Err(error)) => {
            Finding::note(NAME, format!("allowed to a parent, but not between ranks: {error}{scope}"), advice)
        }
        (Err(error), _) => Finding::note(NAME, format!("not allowed: {error}{scope}"), advice),
    }
}

/// A child of this program that waits, with a known word at a known place.
struct Target {
    process: Child,
    pid: i32,
    address: usize,
}

impl Target {
    fn start() -> Result<Target, String> {
        let mut process = again("target").stdin(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let line = process.stdout.take().map(first_line).unwrap_or_default();
        let pid = process.id() as i32;
        let target = |address| Target { process, pid, address };
        line.trim().parse().map(target).map_err(|_| "it did not say where its memory is".to_string())
    }

    fn read_by_a_sibling(&self) -> Result<(), String> {
        let role = format!("{}:{}", self.pid, self.address);
        let said = again(&role).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&said.stdout).trim().to_string();
        if said == "read" { Ok(()) } else { Err(said) }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// This program again, as the other process of a probe.
fn again(role: &str) -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| "ringtree".into());
    let mut command = Command::new(program);
    command.args(["doctor", "--probe", role]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn first_line(pipe: ChildStdout) -> String {
    let mut line = String::new();
    let _ = BufReader::new(pipe.take(64)).read_line(&mut line);
    line
}

/// `target`: says where its word is and waits until its input ends, as it does when the parent dies.
/// `PID:ADDRESS`: reads that process's word.
pub(super) fn be_the_other_process(role: &str) -> Outcome {
    if role == "target" {
        println!("{}", WORD.as_ptr() as usize);
        let _ = std::io::stdin().read(&mut [0]);
        return Ok(());
    }
    let numbers = role.split_once(':').and_then(|(pid, at)| Some((pid.parse().ok()?, at.parse().ok()?)));
    let (pid, address) = numbers.ok_or_else(|| Failure::Usage("--probe takes target or PID:ADDRESS".to_string()))?;
    match read_word(pid, address) {
        Ok(()) => println!("read"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}

fn read_word(pid: i32, address: usize) -> Result<(), String> {
    let mut word = [0; WORD.len()];
    let remote = [RemoteIoVec { base: address, len: word.len() }];
    let count = process_vm_readv(Pid::from_raw(pid), &mut [IoSliceMut::new(&mut word)], &remote);
    match count {
        Ok(count) if count == WORD.len() && word == WORD => Ok(()),
        Ok(_) => Err("what was read is not what was there".to_string()),
        Err(error) => Err(error.desc().to_string()),
    }
}

fn memfd() -> Finding {
    let tried = memfd_create("ringtree-doctor", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .and_then(|descriptor| write(&descriptor, b"x").map(drop));
    match tried {
        Ok(()) => Finding::ok("memfd", "works"),
        Err(error) => {
            let advice = "shared memory between processes needs memfd_create: a seccomp profile or a memory limit stands in its way";
            Finding::problem("memfd", format!("memfd_create fails: {}", error.desc()), advice)
        }
    }
}

/// Turns what a raw system call returned into a number or the error's text.
fn outcome(returned: libc::c_long) -> Result<i64, String> {
    if returned >= 0 { Ok(returned) } else { Err(nix::errno::Errno::last().desc().to_string()) }
}

fn pidfd() -> Finding {
    // SAFETY: pidfd_open takes two numbers and touches no memory of ours.
    match outcome(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) }) {
        Ok(descriptor) => {
            // SAFETY: the kernel has just given us this descriptor; nobody else owns it, and it is closed once.
            unsafe { libc::close(descriptor as i32) };
            Finding::ok("pidfd", "works")
        }
        Err(error) => {
            let advice = "the death of a rank is then seen by its closed socket alone; needs Linux 5.3 and no seccomp rule against it";
            Finding::note("pidfd", format!("pidfd_open fails: {error}"), advice)
        }
    }
}

fn futex() -> Finding {
    let word = std::sync::atomic::AtomicU32::new(1);
    // SAFETY: the word lives until the call returns; it is 1 and 0 is expected, so that the call returns at once and writes nothing.
    let returned = unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 0, std::ptr::null::<libc::timespec>())
    };
    let refused = nix::errno::Errno::last();
    if returned == -1 && refused == nix::errno::Errno::EAGAIN {
        return Finding::ok("futex", "works");
    }
    let advice = "ranks then wait by yielding the core, which costs processor time";
    Finding::note("futex", format!("futex fails: {}", refused.desc()), advice)
}

fn membarrier() -> Finding {
    let call = |command: libc::c_int| {
        // SAFETY: membarrier takes three numbers and touches no memory of ours.
        outcome(unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) })
    };
    let tried = call(libc::MEMBARRIER_CMD_QUERY)
        .and_then(|_| call(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED))
        .and_then(|_| call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED));
    match tried {
        Ok(_) => Finding::ok("membarrier", "works"),
        Err(error) => {
            Finding::note("membarrier", format!("fails: {error}"), "fences are used in its place, a few ns a message")
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn simd() -> Finding {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq");
    if avx512 {
        Finding::ok("vector unit", "AVX-512")
    } else if is_x86_feature_detected!("avx2") {
        Finding::ok("vector unit", "AVX2")
    } else {
        Finding::note("vector unit", "neither AVX2 nor AVX-512", "reductions run at the speed of portable code")
    }
}

#[cfg(target_arch = "aarch64")]
fn simd() -> Finding {
    Finding::ok("vector unit", "NEON")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn simd() -> Finding {
    Finding::note("vector unit", "none that this library knows", "reductions run at the speed of portable code")
}
