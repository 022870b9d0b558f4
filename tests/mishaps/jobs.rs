//! A job: a process for each rank, what they say, and ways to hurt them.

use crate::chance::SEED;
use crate::hosts::Hosts;
use crate::leftovers::{self, TOKEN};
use ringtree::boot::{BootConfig, UniqueId};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the rank does, see `roles`.
pub const ROLE: &str = "MISHAP_ROLE";
/// What every line for the test begins with.
pub const MARK: &str = "MISHAP ";
/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Ports for the jobs of tests.
const PORT: u16 = 12_000;
const PORTS: u16 = 16_000;

/// Keeps the tests of this binary one after the other.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does the same for all these, some at a time: jobs that wait need no processor.
pub fn side_by_side<T: Send, R: Send>(all: impl IntoIterator<Item = T>, one: impl Fn(T) -> R + Sync) -> Vec<R> {
    const AT_A_TIME: usize = 4;
    let (mut all, mut done, one) = (all.into_iter(), Vec::new(), &one);
    loop {
        let some: Vec<T> = all.by_ref().take(AT_A_TIME).collect();
        if some.is_empty() {
            return done;
        }
        done.extend(std::thread::scope(|threads| {
            let started: Vec<_> = some.into_iter().map(|next| threads.spawn(move || one(next))).collect();
            let ended = started.into_iter().map(|thread| thread.join());
            ended.map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect::<Vec<R>>()
        }));
    }
}

/// Nanoseconds of the clock that all processes share.
pub fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// How the ranks of a job find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// By an id of this process, as under `ringtree run`.
    Id,
    /// At rank 0's MASTER_ADDR and MASTER_PORT; rank 0's process serves the start.
    Address,
}

/// A line that a rank said.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: u64,
    pub word: String,
    pub rest: String,
}

/// The error that a rank ended with.
#[derive(Clone, Debug)]
pub struct Failure {
    pub at: u64,
    pub kind: String,
    pub culprits: Vec<usize>,
    pub text: String,
}

#[derive(Default)]
struct Said {
    lines: Vec<Line>,
    /// Everything, for the report of a failed test.
    all: String,
    ended: bool,
}

/// One rank's process.
pub struct Rank {
    child: Child,
    said: Arc<(Mutex<Said>, Condvar)>,
    stopped: bool,
}

/// The processes of a job.
pub struct Job {
    size: usize,
    role: String,
    meeting: Meeting,
    variables: BTreeMap<String, String>,
    id: Option<UniqueId>,
    port: u16,
    /// Where the ranks are, so many on each host; None: where this process is.
    hosts: Option<(Hosts, usize)>,
    token: String,
    /// The only place where the ranks may leave temporary files; they must not.
    folder: PathBuf,
    shared_before: Vec<String>,
    pub ranks: BTreeMap<usize, Rank>,
}

impl Job {
    /// A job whose ranks are still to be started.
    pub fn new(role: &str, size: usize, meeting: Meeting) -> Job {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let token = format!("mishap-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&token);
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        let port = if meeting == Meeting::Address { free_port() } else { 0 };
        let (role, variables, ranks, hosts) = (role.into(), BTreeMap::new(), BTreeMap::new(), None);
        let shared_before = leftovers::shared_files();
        Job { size, role, meeting, variables, id: None, port, hosts, token, folder, shared_before, ranks }
    }

    /// With one more variable for all ranks that are started from now on.
    pub fn with(mut self, name: &str, value: impl ToString) -> Job {
        self.variables.insert(name.into(), value.to_string());
        self
    }

    /// On these hosts, so many ranks on each.
    pub fn on(mut self, hosts: Hosts, each: usize) -> Job {
        assert_eq!(self.meeting, Meeting::Address, "an id of this process leads nowhere from there");
        self.hosts = Some((hosts, each));
        self
    }

    /// The hosts.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts.as_ref().expect("a job on hosts").0
    }

    /// A rank's process.
    pub fn pid(&self, rank: usize) -> u32 {
        self.rank(rank).child.id()
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Rank 0's port where the ranks meet at an address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts all ranks.
    pub fn start_all(mut self) -> Job {
        (0..self.size).for_each(|rank| self.start(rank, &[]));
        self
    }

    /// An id whose start is served from this process, for as long as the ranks would wait.
    fn make_id(&self) -> UniqueId {
        let limit = self
            .variables
            .get("RINGTREE_INIT_TIMEOUT")
            .map_or(PATIENCE, |text| Duration::from_secs_f64(text.parse().expect("a number of seconds")));
        UniqueId::with_config(&BootConfig { timeout: limit, one_host: true, ..BootConfig::default() }).expect("an id")
    }

    /// Starts one rank, with variables of its own.
    pub fn start(&mut self, rank: usize, own: &[(&str, &str)]) {
        if self.meeting == Meeting::Id && self.id.is_none() {
            self.id = Some(self.make_id());
        }
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "a_rank_in_a_process", "--nocapture", "--test-threads=1"]);
        for (name, _) in std::env::vars().filter(|(name, _)| is_a_launchers(name)) {
            command.env_remove(name);
        }
        command.env(ROLE, &self.role).env(TOKEN, &self.token).env("TMPDIR", &self.folder);
        let (rank_text, size) = (rank.to_string(), self.size.to_string());
        match (&self.id, self.meeting) {
            (Some(id), _) => {
                command.envs([("RINGTREE_RANK", &rank_text), ("RINGTREE_SIZE", &size), ("RINGTREE_ID", &id.to_hex())]);
            }
            _ => {
                command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", self.port.to_string());
                command.envs([("RANK", &rank_text), ("WORLD_SIZE", &size)]);
            }
        }
        if let Some((hosts, each)) = &self.hosts {
            hosts.enter(&mut command, rank / each);
            command.env("MASTER_ADDR", Hosts::address(0, 0)).env("RINGTREE_SECRET", "of this job");
        }
        command.env("RINGTREE_TIMEOUT", "60").env("RINGTREE_INIT_TIMEOUT", "60");
        command.envs(&self.variables).envs(own.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let said = Arc::default();
        listen(child.stdout.take().expect("its output"), &said, true);
        listen(child.stderr.take().expect("its complaints"), &said, false);
        self.ranks.insert(rank, Rank { child, said, stopped: false });
    }

    fn rank(&self, rank: usize) -> &Rank {
        self.ranks.get(&rank).expect("a rank that was started")
    }

    /// Waits until a rank says this word. None: its process has ended and never did.
    pub fn hear(&self, rank: usize, word: &str) -> Option<Line> {
        let (said, changed) = &*self.rank(rank).said;
        let mut said = said.lock().expect("the lines");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = said.lines.iter().find(|line| line.word == word) {
                return Some(line.clone());
            }
            if said.ended {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(said);
                panic!("rank {rank} has not said '{word}':\n{}", self.report());
            }
            said = changed.wait_timeout(said, left).expect("the lines").0;
        }
    }

    /// The same for a rank that must say it.
    pub fn expect(&self, rank: usize, word: &str) -> Line {
        self.hear(rank, word).unwrap_or_else(|| panic!("rank {rank} never said '{word}':\n{}", self.report()))
    }

    /// Fails where a rank has ended that should be at work.
    pub fn assert_runs(&self, rank: usize) {
        let ended = self.rank(rank).said.0.lock().expect("the lines").ended;
        assert!(!ended, "rank {rank} has ended:\n{}", self.report());
    }

    /// Waits until all ranks that were started have said this word.
    pub fn expect_all(&self, word: &str) {
        self.ranks.keys().for_each(|rank| drop(self.expect(*rank, word)));
    }

    /// The error that a rank ends with.
    pub fn failure(&self, rank: usize) -> Failure {
        let line = self.expect(rank, "error");
        let mut words = line.rest.splitn(3, ' ');
        let kind = words.next().unwrap_or("").to_string();
        let culprits = words.next().unwrap_or("").split(',').filter_map(|word| word.parse().ok()).collect();
        Failure { at: line.at, kind, culprits, text: words.next().unwrap_or("").to_string() }
    }

    /// Everything that one rank said.
    pub fn output(&self, rank: usize) -> String {
        self.rank(rank).said.0.lock().expect("the lines").all.clone()
    }

    /// What all ranks said, for a message.
    pub fn report(&self) -> String {
        self.ranks.keys().map(|rank| format!("--- rank {rank}\n{}", self.output(*rank))).collect()
    }

    fn signal(&self, rank: usize, signal: nix::sys::signal::Signal) -> u64 {
        let pid = nix::unistd::Pid::from_raw(self.rank(rank).child.id() as i32);
        let at = now();
        nix::sys::signal::kill(pid, signal).expect("a process of this job");
        at
    }

    /// Kills a rank; when that was.
    pub fn kill(&mut self, rank: usize) -> u64 {
        self.signal(rank, nix::sys::signal::Signal::SIGKILL)
    }

    /// Stops a rank; when that was.
    pub fn stop(&mut self, rank: usize) -> u64 {
        self.ranks.get_mut(&rank).expect("a rank that was started").stopped = true;
        self.signal(rank, nix::sys::signal::Signal::SIGSTOP)
    }

    /// Waits for the end of every process, which must be a good one except for `killed`, and looks that nothing is left of the job.
    pub fn end(mut self, killed: &[usize]) {
        let deadline = Instant::now() + PATIENCE;
        let mut bad = Vec::new();
        for (rank, process) in &mut self.ranks {
            if process.stopped {
                let _gone_already = process.child.kill();
            }
            let status = loop {
                match process.child.try_wait().expect("a child") {
                    Some(status) => break Some(status),
                    None if Instant::now() > deadline => break None,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            let good = killed.contains(rank) || status.is_some_and(|status| status.success());
            if !good {
                bad.push(format!("rank {rank} ended with {status:?}"));
            }
        }
        assert!(bad.is_empty(), "{bad:?}:\n{}", self.report());
        leftovers::nothing_is_left(&self.token, &self.folder, &self.shared_before);
        for rank in self.ranks.keys().filter(|rank| !killed.contains(rank)) {
            let line = self.expect(*rank, "left");
            assert_eq!(line.rest, "nothing", "rank {rank} keeps something:\n{}", self.report());
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        for process in self.ranks.values_mut() {
            let _ended_before = process.child.kill();
            let _known_above = process.child.wait();
        }
        let _removed_by_others = std::fs::remove_dir_all(&self.folder);
    }
}

/// What a launcher of this test may have set.
fn is_a_launchers(name: &str) -> bool {
    let begins = ["RINGTREE_", "OMPI_", "PMI", "SLURM_", "TORCHELASTIC_", "MASTER_", "MISHAP_"];
    let known = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "JOB_COMPLETION_INDEX"];
    name != SEED && begins.iter().any(|begin| name.starts_with(begin)) || known.contains(&name)
}

/// A port that nobody used a moment ago. Not one of those that the system gives to whoever connects: somebody who tries whether it is open
/// could be given that very one, and keep it from its owner.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16 % PORTS;
    let mut candidates = (0..PORTS).map(|_| PORT + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS);
    candidates.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port")
}

fn listen(from: impl Read + Send + 'static, said: &Arc<(Mutex<Said>, Condvar)>, main: bool) {
    let said = said.clone();
    std::thread::spawn(move || {
        let (lines, changed) = &*said;
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut said = lines.lock().expect("the lines");
            said.all += &line;
            said.all.push('\n');
            if let Some((_, text)) = line.split_once(MARK) {
                let mut words = text.splitn(3, ' ');
                let at = words.next().and_then(|at| at.parse().ok()).unwrap_or(0);
                let word = words.next().unwrap_or("").to_string();
                said.lines.push(Line { at, word, rest: words.next().unwrap_or("").to_string() });
            }
            changed.notify_all();
        }
        if main {
            lines.lock().expect("the lines").ended = true;
            changed.notify_all();
        }
    });
}
