//! What may be left of a job: nothing. Not a process, a file, a segment, a socket, a thread, a descriptor.
//!
//! Other programs of this machine may come and go at the same time, so everything is looked for by what ties it to the job: the token in
//! the environment of its processes, its folder, and the descriptors and threads of this process, which has made the job's id.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// The variable that marks all processes of a job.
pub const TOKEN: &str = "MISHAP_TOKEN";

/// How long what is on its way out may take: threads end a moment after the last good-bye.
const SETTLING: Duration = Duration::from_secs(20);

/// The names in /dev/shm.
pub fn shared_files() -> Vec<String> {
    names("/dev/shm")
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Fails unless everything of the job goes within a while.
pub fn nothing_is_left(token: &str, folder: &Path, shared_before: &[String]) {
    let deadline = Instant::now() + SETTLING;
    loop {
        let mut found: Vec<String> = processes(token);
        found.extend(names(&folder.to_string_lossy()).into_iter().map(|name| format!("temporary file {name}")));
        let new = shared_files().into_iter().filter(|name| !shared_before.contains(name) && name.contains("ringtree"));
        found.extend(new.map(|name| format!("/dev/shm/{name}")));
        found.extend(own());
        if found.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left of job {token}: {found:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn processes(token: &str) -> Vec<String> {
    let mark = format!("{TOKEN}={token}");
    let mine = |pid: &String| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let pids = names("/proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    pids.filter(mine).map(|pid| format!("process {pid}")).collect()
}

/// What this process still has of any job: segments, sockets that listen, threads.
pub fn own() -> Vec<String> {
    let mut found = Vec::new();
    let sockets = listening_sockets();
    for number in names("/proc/self/fd") {
        let Ok(target) = fs::read_link(format!("/proc/self/fd/{number}")) else { continue };
        let target = target.to_string_lossy().into_owned();
        if target.contains("memfd:ringtree") || sockets.contains(&target) {
            found.push(format!("descriptor {number}: {target}"));
        }
    }
    for thread in names("/proc/self/task") {
        let name = fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
        if name.starts_with("ringtree") {
            found.push(format!("thread {}", name.trim()));
        }
    }
    found
}

/// The sockets of this machine that listen by TCP, or have an abstract name of ours, as descriptors show them.
fn listening_sockets() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.get(3) == Some(&LISTENING) {
                found.extend(words.get(9).map(|inode| format!("socket:[{inode}]")));
            }
        }
    }
    for line in fs::read_to_string("/proc/self/net/unix").unwrap_or_default().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.get(7).is_some_and(|name| name.starts_with("@ringtree")) {
            found.extend(words.get(6).map(|inode| format!("socket:[{inode}]")));
        }
    }
    found
}

/// Where a process listens by TCP, over IPv4.
pub fn listening_ports(pid: u32) -> Vec<SocketAddr> {
    let folder = format!("/proc/{pid}/fd");
    let links = names(&folder).into_iter().filter_map(|fd| fs::read_link(format!("{folder}/{fd}")).ok());
    let own: BTreeSet<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let listens = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (at, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
        if *state != LISTENING || !own.contains(&format!("socket:[{inode}]")) {
            return None;
        }
        let (ip, port) = at.split_once(':')?;
        let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
        Some(SocketAddr::from((ip, u16::from_str_radix(port, 16).ok()?)))
    });
    listens.collect()
}

/// The state of a socket that listens, in the kernel's tables.
const LISTENING: &str = "0A";

/// The numbers of descriptors and threads of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    descriptors: usize,
    threads: usize,
    /// Mappings of our segments.
    segments: usize,
}

impl Counts {
    pub fn now() -> Counts {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Counts {
            descriptors: names("/proc/self/fd").len(),
            threads: names("/proc/self/task").len(),
            segments: maps.matches("memfd:ringtree").count(),
        }
    }

    /// Waits until there are no more than these; what is more, else.
    pub fn settle(self) -> Result<(), String> {
        let deadline = Instant::now() + SETTLING;
        loop {
            let now = Counts::now();
            let fits = now.descriptors <= self.descriptors && now.threads <= self.threads;
            if fits && now.segments <= self.segments {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{now:?}, before {self:?}: {:?}", own()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
