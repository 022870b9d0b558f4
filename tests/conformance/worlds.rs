//! Worlds of ranks: threads of this process, or processes that this binary starts as itself.
//!
//! ```text
//!   #[test] ── Threads ──> a thread for each rank ───────────────────────────────┐
//!           └─ Processes ─> this binary again, with the case in its environment ─┴─> case(&Scene)
//! ```

use crate::hosts::{Hosts, Layout};
use ringtree::boot::UniqueId;
use ringtree::{Communicator, Config, Domains, Fetch, Protection, Result, Transport, locate};
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// What every rank runs.
pub type Case = fn(&Scene);

/// The name of the case that fails on rank 1, so that the harness can be seen to notice.
pub const FAILING: &str = "harness::failing";

/// Longer than any case takes on a busy machine: processes that run on are killed.
const PATIENCE: Duration = Duration::from_secs(170);

const CASE: &str = "RINGTREE_TEST_CASE";
const PLACE: &str = "RINGTREE_TEST_PLACE";
const SEED: &str = "RINGTREE_TEST_SEED";

/// What a world's ranks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranks {
    Threads(Ways),
    Processes(Ways),
}

/// How they talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    pub transport: Transport,
    /// In domains whose sizes depend on how many ranks there are.
    pub in_domains: bool,
    /// Whatever is copied is copied straight from the memory of its rank, where the system allows it.
    pub fetching: bool,
    /// Processes are told that they are on so many hosts.
    pub hosts: usize,
    /// Hosts are in racks, in another order than that of the ranks.
    pub in_racks: bool,
    /// Every so many ranks are in a network namespace of their own, with two interfaces; 0: all are where this process is.
    pub apart: usize,
    pub protection: Protection,
}

impl Ways {
    pub const fn over(transport: Transport) -> Ways {
        let (hosts, apart, protection) = (1, 0, Protection::Plain);
        Ways { transport, in_domains: false, fetching: false, hosts, in_racks: false, apart, protection }
    }

    pub const fn in_domains(self) -> Ways {
        Ways { in_domains: true, ..self }
    }

    pub const fn on_hosts(self, hosts: usize) -> Ways {
        Ways { hosts, ..self }
    }

    pub const fn in_racks(self) -> Ways {
        Ways { in_racks: true, ..self }
    }

    pub const fn apart(self, ranks: usize) -> Ways {
        Ways { apart: ranks, ..self }
    }

    pub const fn protected(self, protection: Protection) -> Ways {
        Ways { protection, ..self }
    }

    pub const fn fetching(self) -> Ways {
        Ways { fetching: true, ..self }
    }
}

type Slots = Arc<Mutex<Vec<Option<Communicator>>>>;

/// How a rank comes to more communicators.
enum Maker {
    Threads(Slots),
    Processes,
}

/// What a rank of a case has.
pub struct Scene {
    /// A communicator that the case must leave whole.
    pub base: Communicator,
    pub seed: u64,
    kind: Ranks,
    maker: Maker,
}

impl Scene {
    pub fn rank(&self) -> usize {
        self.base.rank()
    }

    pub fn size(&self) -> usize {
        self.base.size()
    }

    /// Another communicator of all ranks, of the same kind, with changed settings.
    pub fn world(&self, change: impl FnOnce(&mut Config)) -> Communicator {
        let mut config = self.kind.config(self.size());
        change(&mut config);
        self.base.barrier().expect("the base communicator goes on");
        match &self.maker {
            Maker::Threads(slots) => {
                if self.rank() == 0 {
                    let made = Communicator::local_with(self.size(), &config).expect("a world of threads");
                    *slots.lock().unwrap() = made.into_iter().map(Some).collect();
                }
                self.base.barrier().expect("the base communicator goes on");
                slots.lock().unwrap()[self.rank()].take().expect("each rank takes its own")
            }
            Maker::Processes => self.meet_with(&config).expect("a world of processes"),
        }
    }

    /// A communicator of all ranks, which meet as processes do, also where they are threads; or why there is none.
    pub fn meet(&self, change: &dyn Fn(&mut Config)) -> Result<Communicator> {
        let timeout = Duration::from_secs(60);
        let mut config = Config { timeout, init_timeout: timeout, ..Config::default() };
        change(&mut config);
        self.meet_with(&config)
    }

    fn meet_with(&self, config: &Config) -> Result<Communicator> {
        let id = (self.rank() == 0).then(|| UniqueId::new().expect("an id"));
        let mut bytes = id.as_ref().map_or([0; 128], |id| *id.as_bytes());
        self.base.broadcast(&mut bytes, 0).expect("the base communicator goes on");
        let id = UniqueId::from_bytes(&bytes).expect("rank 0's id");
        Communicator::with_config(&id, self.rank(), self.size(), config)
    }

    /// Fails unless all ranks give the same number.
    pub fn all_agree(&self, number: u64, what: &dyn std::fmt::Debug) {
        let mut all = vec![0u64; self.size()];
        self.base.all_gather(&[number], &mut all).expect("the base communicator goes on");
        assert!(all.iter().all(|other| *other == number), "ranks end with different bits: {what:?}");
    }
}

/// Halves, thirds, unequal ones: so that every number of ranks that is tried has another division.
fn domains(size: usize) -> Domains {
    let size = size as u32;
    Domains::Sizes(match size {
        0..=2 => vec![size.max(1)],
        3 | 4 | 8 => vec![size.div_ceil(2), size / 2],
        6 | 9 => vec![size / 3; 3],
        10 => vec![1; 10],
        12 => vec![2, 5, 4, 1],
        _ => vec![1, size - 3, 2],
    })
}

/// The seed of this run: the environment's, or a new one.
pub fn seed() -> u64 {
    static CHOSEN: OnceLock<u64> = OnceLock::new();
    *CHOSEN.get_or_init(|| match std::env::var(SEED) {
        Ok(text) => text.trim().parse().unwrap_or_else(|_| panic!("{SEED} is '{text}', expected a number")),
        Err(_) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            now.as_nanos() as u64 % 1_000_000_000
        }
    })
}

impl Ranks {
    fn config(self, size: usize) -> Config {
        let timeout = Duration::from_secs(60);
        let (Ranks::Threads(ways) | Ranks::Processes(ways)) = self;
        let domains = if ways.in_domains { domains(size) } else { Domains::Auto };
        let fetch = if ways.fetching { Fetch::From(1) } else { Fetch::Off };
        let location = locate(|name| std::env::var(name).ok()).expect("a location that makes sense").location;
        let Ways { transport, protection, .. } = ways;
        let init_timeout = timeout;
        Config { transport, domains, location, fetch, protection, timeout, init_timeout, ..Config::default() }
    }

    /// Runs a case in worlds of each of these sizes.
    pub fn run(self, name: &str, case: impl Fn(&Scene) + Sync, sizes: &[usize]) {
        println!("{SEED}={}", seed());
        if let Ranks::Processes(Ways { apart: 1.., .. }) = self
            && let Err(why) = Hosts::new(Layout { hosts: 1, networks: 1, racks: 1 })
        {
            // Past the harness, which shows nothing of tests that pass.
            writeln!(std::io::stderr(), "skipped: conformance on several hosts: {name}: {why}")
                .expect("an open stderr");
            return;
        }
        for &size in sizes {
            match self {
                Ranks::Threads(_) => run_threads(self, size, &case),
                Ranks::Processes(ways) => run_processes(ways, size, name),
            }
        }
    }
}

fn run_threads(kind: Ranks, size: usize, case: &(impl Fn(&Scene) + Sync)) {
    let slots = Slots::default();
    let first = Communicator::local_with(size, &kind.config(size)).expect("a world of threads");
    let panics = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for base in first {
            let scene = Scene { base, seed: seed(), kind, maker: Maker::Threads(slots.clone()) };
            let panics = &panics;
            threads.spawn(move || {
                // A rank that fails drops its communicators, so that the others get an error and no one hangs.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(move || case(&scene))) {
                    panics.lock().unwrap().push(panic);
                }
            });
        }
    });
    // The first one is the cause; what follows are mostly its consequences.
    if let Some(first) = panics.into_inner().unwrap().into_iter().next() {
        resume_unwind(first);
    }
}

/// A child that does not outlive the test.
struct Rank(Child);

impl Drop for Rank {
    fn drop(&mut self) {
        let _ended_before = self.0.kill();
        let _known_below = self.0.wait();
    }
}

/// Hosts with two interfaces each.
fn namespaces(hosts: usize) -> Hosts {
    Hosts::new(Layout { hosts, networks: 2, racks: 1 }).expect("hosts")
}

/// Where a rank lives: the first two ranks together, the third on another host, and then one host after the other, so that hosts have
/// unequal numbers of ranks and ranks of one host don't follow each other.
fn host_of(rank: usize, size: usize, hosts: usize) -> usize {
    match rank {
        0 => 0,
        1 => usize::from(size == 2),
        _ => (rank - 1) % hosts,
    }
}

fn run_processes(ways: Ways, size: usize, name: &str) {
    // On hosts of their own the ranks meet where rank 0 is: an id of this process would lead nowhere.
    let id = if ways.apart > 0 { None } else { Some(UniqueId::new().expect("an id")) };
    let id_word = id.as_ref().map_or("-".into(), UniqueId::to_hex);
    let Ways { transport, in_domains, fetching, hosts, in_racks, apart, protection } = ways;
    let words = format!("{} {in_domains} {fetching} {} {id_word}", transport.name(), protection.name());
    let namespaces = size.checked_div(apart).map(namespaces);
    let binary = std::env::current_exe().expect("this binary");
    let mut ranks: Vec<Rank> = (0..size)
        .map(|rank| {
            let mut command = Command::new(&binary);
            command.args(["--exact", "a_rank_in_a_process", "--nocapture", "--test-threads=1"]);
            command.env(CASE, name).env(PLACE, format!("{rank} {size} {words}"));
            command.env(SEED, seed().to_string());
            if let Some(namespaces) = &namespaces {
                namespaces.enter(&mut command, rank / apart);
                command.env("MASTER_ADDR", Hosts::address(0, 0)).env("MASTER_PORT", "29500");
                command.env("RANK", rank.to_string()).env("WORLD_SIZE", size.to_string());
                command.env("RINGTREE_SECRET", "of these tests");
            }
            if hosts > 1 {
                command.env("RINGTREE_HOST", format!("host {}", host_of(rank, size, hosts)));
                command.env("RINGTREE_ADDRESS", "127.0.0.1");
            }
            if in_racks {
                // Of every third host nobody knows where it is.
                let location = ["pod1/rack1", "pod2/rack1", "unknown"][host_of(rank, size, hosts) % 3];
                command.env("RINGTREE_LOCATION", location);
            }
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            Rank(command.spawn().expect("a process"))
        })
        .collect();
    let readers: Vec<_> = ranks.iter_mut().map(|rank| read_all(&mut rank.0)).collect();
    let began = Instant::now();
    let mut failures = Vec::new();
    for (rank, child) in ranks.iter_mut().enumerate() {
        loop {
            match child.0.try_wait().expect("a child to wait for") {
                Some(status) if status.success() => break,
                Some(status) => {
                    failures.push(format!("rank {rank} of {size} ended with {status}"));
                    break;
                }
                None if began.elapsed() > PATIENCE => {
                    failures.push(format!("rank {rank} of {size} did not end and was killed"));
                    let _ended_before = child.0.kill();
                    break;
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
    drop(ranks);
    let outputs: Vec<String> = readers.into_iter().map(|reader| reader.join().unwrap_or_default()).collect();
    if !failures.is_empty() {
        let outputs: Vec<String> =
            outputs.iter().enumerate().map(|(rank, text)| format!("--- rank {rank}\n{text}")).collect();
        panic!("{name}: {}\n{}", failures.join("; "), outputs.join("\n"));
    }
}

fn read_all(child: &mut Child) -> std::thread::JoinHandle<String> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = |from: Option<&mut dyn Read>| {
        let mut bytes = Vec::new();
        if let Some(from) = from {
            let _what_there_is = from.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    std::thread::spawn(move || {
        let (mut out, mut err) = (out, err);
        std::thread::scope(|both| {
            let first = both.spawn(move || read(out.as_mut().map(|from| from as &mut dyn Read)));
            let second = read(err.as_mut().map(|from| from as &mut dyn Read));
            first.join().unwrap_or_default() + &second
        })
    })
}

/// Runs this process's part of a case if it was started as a rank. False: it was not.
pub fn run_as_rank(cases: &[(&str, Case)]) -> bool {
    let (Ok(name), Ok(place)) = (std::env::var(CASE), std::env::var(PLACE)) else { return false };
    let words: Vec<&str> = place.split(' ').collect();
    let [rank, size, transport, in_domains, fetching, protection, id] = words[..] else {
        panic!("{PLACE} is '{place}'")
    };
    let transport: Transport = transport.parse().expect("a transport");
    let flag = |word: &str| word.parse().expect("true or false");
    let protection = protection.parse().expect("a protection");
    let ways = Ways { in_domains: flag(in_domains), fetching: flag(fetching), protection, ..Ways::over(transport) };
    let (rank, size): (usize, usize) = (rank.parse().expect("a rank"), size.parse().expect("a size"));
    let kind = Ranks::Processes(ways);
    let base = match id {
        "-" => Communicator::try_from_env(&kind.config(size)).expect("a world on hosts").expect("a launched rank"),
        id => {
            let id = UniqueId::from_hex(id).expect("an id");
            Communicator::with_config(&id, rank, size, &kind.config(size)).expect("a world of processes")
        }
    };
    if name == FAILING {
        assert_ne!(rank, 1, "this rank fails");
        return true;
    }
    let (_, case) = cases.iter().find(|(known, _)| *known == name).expect("a case of that name");
    case(&Scene { base, seed: seed(), kind, maker: Maker::Processes });
    true
}
