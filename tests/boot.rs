//! The bootstrap between real processes: they meet through the public interface, and are killed at each stage.
//!
//! A test starts this same program again with BOOT_TEST_ROLE set; there `process` plays one rank and says on its output what came of it.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ringtree::boot::{BootConfig, Rendezvous, UniqueId, detect, join, meet};
use ringtree::{Error, Result};

const ROLE: &str = "BOOT_TEST_ROLE";

/// A rank in a process of its own.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: &str, rank: usize, size: usize, id: &UniqueId) -> Process {
        let (rank, size) = (rank.to_string(), size.to_string());
        Process::with(role, &[("RINGTREE_RANK", &rank), ("RINGTREE_SIZE", &size), ("RINGTREE_ID", &id.to_hex())])
    }

    fn with(role: &str, variables: &[(&str, &str)]) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["process", "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, role);
        for name in ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PMI_RANK", "PMI_SIZE", "PMI_FD"] {
            command.env_remove(name);
        }
        command.env("RINGTREE_INIT_TIMEOUT", "60").envs(variables.iter().copied());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Process { child, output }
    }

    /// Reads until a line says this word (behind whatever the test harness has put before it); the rest of that line.
    fn await_line(&mut self, word: &str) -> String {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_string();
            }
            line.clear();
        }
        panic!("the process ended and never said '{word}'");
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One rank; without a role, the only thing to see is that there is none.
#[test]
fn process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let launch = detect(&|name| std::env::var(name).ok()).unwrap().expect("a launcher's variables");
    let config = BootConfig { one_host: true, ..BootConfig::from_env().unwrap() };
    let met = meet(&launch, &config).and_then(|id| {
        println!("BOOT joining");
        join(&id, launch.rank, launch.size, &config)
    });
    let result = met.and_then(|me| play(&role, me));
    match result {
        Ok(word) => println!("BOOT result {word}"),
        Err(error) => println!("BOOT error {:?} {error}", error.culprits()),
    }
}

fn play(role: &str, mut me: Rendezvous) -> Result<String> {
    println!("BOOT joined");
    match role {
        "gather" => {
            let pids = me.all_gather(&std::process::id().to_le_bytes())?;
            let as_seen: Vec<_> = (0..me.size()).map(|rank| me.peer_pid(rank).unwrap() as u32).collect();
            let as_told: Vec<_> = pids.iter().map(|pid| u32::from_le_bytes(pid[..].try_into().unwrap())).collect();
            assert_eq!(as_seen, as_told);
            me.barrier()?;
            Ok(format!("{as_told:?}"))
        }
        "sit" => {
            // Until somebody kills this process or closes its input.
            let _ = std::io::stdin().read(&mut [0]);
            std::thread::sleep(Duration::from_secs(100));
            Ok(String::new())
        }
        "wait" => me.barrier().map(|()| String::new()),
        "share" => {
            let file = std::fs::File::open("/proc/self/cmdline").unwrap();
            let others: Vec<usize> = (0..me.size()).collect();
            match me.rank() {
                0 => me.share_fd(&others, file.as_fd())?,
                _ => drop(me.receive_fd(0)?),
            }
            me.barrier()?;
            Ok("shared".into())
        }
        other => Err(Error::Choice { what: format!("role '{other}'"), advice: String::new() }),
    }
}

fn config() -> BootConfig {
    BootConfig { timeout: Duration::from_secs(60), one_host: true, ..BootConfig::default() }
}

#[test]
fn processes_meet_and_know_each_others_process_ids() {
    let id = UniqueId::with_config(&config()).unwrap();
    let mut ranks: Vec<Process> = (0..40).map(|rank| Process::start("gather", rank, 40, &id)).collect();
    let pids: Vec<u32> = ranks.iter().map(|rank| rank.child.id()).collect();
    for rank in &mut ranks {
        assert_eq!(rank.await_line("BOOT result"), format!("{pids:?}"));
    }
}

#[test]
fn descriptors_pass_between_processes() {
    let id = UniqueId::with_config(&config()).unwrap();
    let mut ranks: Vec<Process> = (0..3).map(|rank| Process::start("share", rank, 3, &id)).collect();
    for rank in &mut ranks {
        assert_eq!(rank.await_line("BOOT result"), "shared");
    }
}

/// Kills `victim` when it has said `stage`; all others must name it, and soon.
fn kill_at(stage: &str, size: usize, victim: usize, came: usize) {
    let id = UniqueId::with_config(&config()).unwrap();
    let mut ranks: Vec<Process> =
        (0..came).map(|rank| Process::start(if rank == victim { "sit" } else { "wait" }, rank, size, &id)).collect();
    for rank in ranks.iter_mut() {
        rank.await_line(stage);
    }
    let killed = Instant::now();
    ranks[victim].kill();
    for (rank, process) in ranks.iter_mut().enumerate().filter(|(rank, _)| *rank != victim) {
        let error = process.await_line("BOOT error");
        assert!(error.starts_with(&format!("[{victim}]")), "rank {rank}: {error}");
    }
    // The news need milliseconds; this bound is that of the deadline, which would be a minute.
    assert!(killed.elapsed() < Duration::from_secs(30), "{:?}", killed.elapsed());
}

#[test]
fn a_process_killed_after_the_meeting_is_named_by_all() {
    for victim in [0, 2] {
        kill_at("BOOT joined", 4, victim, 4);
    }
    kill_at("BOOT joined", 40, 0, 40);
    kill_at("BOOT joined", 40, 35, 40);
}

#[test]
fn a_process_killed_while_others_are_awaited_is_named_by_all_who_came() {
    let id = UniqueId::with_config(&config()).unwrap();
    let mut others: Vec<Process> = [0, 1].map(|rank| Process::start("wait", rank, 4, &id)).into();
    let mut victim = Process::start("wait", 2, 4, &id);
    // The root's answer to a rank that comes twice proves that the first has checked in; here a killed one must be seen instead, whether it
    // had checked in (then it is lost) or not (then rank 2 can still come and the last rank completes the job).
    victim.await_line("BOOT joining");
    victim.kill();
    let mut last = Process::start("wait", 3, 4, &id);
    let mut second = Process::start("wait", 2, 4, &id);
    let mut ends = Vec::new();
    for process in others.iter_mut().chain([&mut last, &mut second]) {
        ends.push(process.await_line("BOOT "));
        while !(ends.last().unwrap().starts_with("error") || ends.last().unwrap().starts_with("result")) {
            *ends.last_mut().unwrap() = process.await_line("BOOT ");
        }
    }
    // A second rank 2 of a job that is lost may come when all of its ranks have been told and nobody is left to tell it.
    let told = |end: &String| end.starts_with("error [2]") || end.contains("nobody serves the rendezvous");
    let lost = ends[..3].iter().all(|end| end.starts_with("error [2]")) && told(&ends[3]);
    let met = ends.iter().all(|end| end.starts_with("result"));
    assert!(lost || met, "{ends:?}");
}

#[test]
fn the_death_of_the_process_that_made_the_id_is_named_by_all() {
    // Rank 0 makes the id in its own process, the others get it by the job's name.
    let name = format!("boot-test-{}", std::process::id());
    let variables = |rank: &'static str| {
        [
            ("OMPI_COMM_WORLD_RANK", rank),
            ("OMPI_COMM_WORLD_SIZE", "3"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "3"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", rank),
        ]
    };
    let start = |role: &str, rank: &'static str| {
        let mut all = variables(rank).to_vec();
        all.push(("PMIX_NAMESPACE", &name));
        Process::with(role, &all)
    };
    let mut ranks = [start("sit", "0"), start("wait", "1"), start("wait", "2")];
    for rank in &mut ranks {
        rank.await_line("BOOT joined");
    }
    ranks[0].kill();
    for rank in &mut ranks[1..] {
        let error = rank.await_line("BOOT error");
        assert!(error.starts_with("[0]") && error.contains("is gone"), "{error}");
    }
}

#[test]
fn a_process_stopped_is_named_at_the_deadline() {
    let config = BootConfig { timeout: Duration::from_secs(2), ..config() };
    let id = UniqueId::with_config(&config).unwrap();
    let mut stopped = Process::start("sit", 1, 2, &id);
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut me = join(&id, 0, 2, &config)?;
            let pid = me.peer_pid(1).unwrap();
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGSTOP).unwrap();
            me.barrier()
        });
        waiting.join().unwrap()
    });
    let error = waiting.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(error.culprits(), [1]);
    stopped.kill();
}

#[test]
fn no_descriptor_and_no_thread_of_a_rendezvous_is_left() {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let run = || {
        let id = UniqueId::with_config(&config()).unwrap();
        std::thread::scope(|scope| {
            for rank in 0..3 {
                let (id, config) = (&id, config());
                scope.spawn(move || join(id, rank, 3, &config).unwrap().barrier().unwrap());
            }
        });
    };
    run();
    // Other tests of this program run beside this one: look in a process that has only this.
    if std::env::var(ROLE).is_err() && std::env::var("BOOT_TEST_ALONE").is_err() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["no_descriptor_and_no_thread_of_a_rendezvous_is_left", "--exact", "--test-threads=1"]);
        assert!(command.env("BOOT_TEST_ALONE", "1").stdout(Stdio::null()).status().unwrap().success());
        return;
    }
    let settled = |limit: (usize, usize)| {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let now = (count("fd"), count("task"));
            if now.0 <= limit.0 && now.1 <= limit.1 {
                return;
            }
            assert!(Instant::now() < deadline, "{now:?} descriptors and threads, {limit:?} before");
            std::thread::yield_now();
        }
    };
    // The root's thread ends a moment after the last good-bye; two are the test's own.
    let deadline = Instant::now() + Duration::from_secs(30);
    while count("task") > 2 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let before = (count("fd"), count("task"));
    for _ in 0..20 {
        run();
    }
    settled(before);
}
