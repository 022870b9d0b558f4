//! The command line as a user meets it: the program itself, started as a process.
#![cfg(feature = "cli")]

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(60);

const SUBCOMMANDS: [&str; 8] = ["doctor", "topo", "run", "plan", "check", "perf", "tune", "completions"];

fn ringtree(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringtree"));
    command.args(args).stdin(Stdio::null()).env_remove("RINGTREE_RANK");
    command
}

fn output(args: &[&str]) -> Output {
    ringtree(args).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The standard output of a call that must succeed.
fn succeeds(args: &[&str]) -> String {
    let output = output(args);
    assert!(output.status.success(), "{args:?}: {}\n{}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// Runs a shell script on that many ranks.
fn run(ranks: u32, options: &[&str], script: &str) -> Output {
    let ranks = ranks.to_string();
    let mut args = vec!["run", "-g", &ranks];
    args.extend(options);
    args.extend(["--", "sh", "-c", script]);
    output(&args)
}

/// A file of this test alone.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("ringtree-cli-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether that process has ended. One that nobody has reaped has ended too.
fn ended(process: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{process}/stat")) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')),
        Err(_) => true,
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < DEADLINE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A launcher whose ranks print a line each when they are ready.
struct Launcher {
    process: Child,
    lines: Option<std::io::Lines<BufReader<std::process::ChildStdout>>>,
}

impl Launcher {
    fn start(ranks: u32, script: &str) -> Launcher {
        let ranks = ranks.to_string();
        let mut command = ringtree(&["run", "-g", &ranks, "--", "sh", "-c", script]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        // Whoever runs the tests in the background may ignore interrupts; children inherit that.
        // SAFETY: between fork and exec this makes one system call and allocates nothing.
        unsafe { command.pre_exec(|| Ok(signal(Signal::SIGINT, SigHandler::SigDfl).map(drop)?)) };
        let mut process = command.spawn().expect("the program starts");
        let lines = process.stdout.take().map(|pipe| BufReader::new(pipe).lines());
        Launcher { process, lines }
    }

    fn line(&mut self) -> String {
        self.lines.as_mut().and_then(Iterator::next).expect("a line").expect("readable")
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).expect("the launcher is there");
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn help_names_every_subcommand_with_examples_and_exit_codes() {
    let help = succeeds(&["--help"]);
    for part in SUBCOMMANDS.iter().chain(&["Examples:", "Exit codes:"]) {
        assert!(help.contains(part), "{part} is not in\n{help}");
    }
    for subcommand in SUBCOMMANDS {
        let help = succeeds(&[subcommand, "--help"]);
        assert!(help.contains("Examples:") && help.contains("Usage:"), "{subcommand}:\n{help}");
        assert!(!help.contains('\x1b'), "colour where nobody looks");
    }
}

#[test]
fn bad_options_exit_with_2_and_say_what_would_be_right() {
    for (args, advice) in [
        (&["--nonsense"][..], "--help"),
        (&["perf"], "COLLECTIVE"),
        (&["perf", "all_redoce"], "all_reduce"),
        (&["perf", "all_reduce", "-b", "12X"], "64K"),
        (&["perf", "all_reduce", "-b", "2M", "-e", "1M"], "exchange them"),
        (&["perf", "broadcast", "-r", "7"], "-r 0 to 1"),
        (&["plan", "all_reduce", "--algorithm", "bogus"], "ring"),
        (&["plan", "all_reduce", "-g", "4", "--rank", "4"], "0 to 3"),
        (&["plan", "alltoall", "--algorithm", "ring"], "ring"),
        (&["check", "--ranks", "9-3"], "2-16,32"),
        (&["check", "--algorithm", "star", "--coll", "barrier"], "ringtree plan"),
        (&["perf", "all_reduce", "--algorithm", "bruck"], "ringtree plan all_reduce -g 2"),
        (&["perf", "all_reduce", "--plot", "p.png"], "p.svg"),
        (&["perf", "all_reduce", "-n", "many"], "whole number"),
        (&["plan", "all_reduce", "-g", "4", "--domains", "2,2"], "--domains"),
        (&["plan", "broadcast", "--algorithm", "bruck"], "can't do this broadcast"),
        (&["plan", "all_reduce", "--chunk", "0"], "from 1 to"),
        (&["plan", "all_reduce", "--channels", "99"], "from 1 to 64"),
        (&["tune", "-g", "1"], "-g 2 or more"),
        (&["tune", "--out", "/nowhere/tuned"], "--out /nowhere/tuned can't be written"),
        (&["run", "-g", "2"], "PROGRAM"),
        (&["run", "-g", "0", "--", "true"], "1 to 4096"),
        (&["run", "-g", "2", "--grace", "-1", "--", "true"], "grace"),
        (&["completions", "tcsh"], "bash"),
    ] {
        let output = output(args);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.contains(advice), "{args:?} does not say {advice}:\n{message}");
    }
}

#[test]
fn completions_know_the_subcommands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = succeeds(&["completions", shell]);
        SUBCOMMANDS.iter().for_each(|name| assert!(script.contains(name), "{shell} does not know {name}"));
    }
}

#[test]
fn ranks_get_their_number_and_one_id() {
    let output = run(3, &[], "echo $RINGTREE_RANK $RINGTREE_SIZE $RINGTREE_LOCAL_RANK $RINGTREE_ID");
    assert!(output.status.success());
    let lines: BTreeSet<String> = text(&output.stdout).lines().map(str::to_string).collect();
    let starts: Vec<&str> = lines.iter().map(|line| &line[..6]).collect();
    assert_eq!(starts, ["0 3 0 ", "1 3 1 ", "2 3 2 "]);
    let ids: BTreeSet<&str> = lines.iter().map(|line| &line[6..]).collect();
    let id = ids.first().expect("an id");
    assert_eq!((ids.len(), id.len()), (1, 256), "one id of 128 bytes for all");
    assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_ne!(*id, run_id().as_str(), "each job has its own");
}

fn run_id() -> String {
    text(&run(1, &[], "echo $RINGTREE_ID").stdout).trim().to_string()
}

#[test]
fn lines_of_many_ranks_are_whole_and_tagged() {
    // Each rank writes its lines in two pieces, which without care would mix.
    let script = "i=0; while [ $i -lt 200 ]; do printf \"$RINGTREE_RANK-begin-\"; echo \"$i-end\"; i=$((i+1)); done; printf last";
    let output = run(4, &["--tag-output"], script);
    assert!(output.status.success());
    let mut next = [0; 4];
    for line in text(&output.stdout).lines() {
        let rank: usize = line[1..2].parse().expect("a tag");
        let expected = match next[rank] {
            200 => format!("[{rank}] last"),
            i => format!("[{rank}] {rank}-begin-{i}-end"),
        };
        assert_eq!(line, expected);
        next[rank] += 1;
    }
    assert_eq!(next, [201; 4], "nothing is lost");
}

#[test]
fn standard_error_stays_standard_error() {
    let output = run(2, &["--tag-output"], "echo out; echo err >&2");
    assert_eq!(text(&output.stdout).matches("] out").count(), 2);
    assert_eq!(text(&output.stderr).matches("] err").count(), 2);
    assert!(!text(&output.stdout).contains("err"));
}

#[test]
fn the_exit_code_is_that_of_the_rank_that_failed() {
    let failing = "[ $RINGTREE_RANK = 1 ] && exit 7; exit 0";
    let output = run(3, &[], failing);
    assert_eq!(output.status.code(), Some(7));
    assert!(text(&output.stderr).contains("rank 1 ended with exit code 7"));
    assert_eq!(run(2, &[], "[ $RINGTREE_RANK = 0 ] && kill -9 $$; exit 0").status.code(), Some(128 + 9));
    assert_eq!(run(2, &[], "true").status.code(), Some(0));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let output = output(&["run", "-g", "2", "--", "no-such-program"]);
    assert_eq!(output.status.code(), Some(127));
    let message = text(&output.stderr);
    assert!(message.contains("no-such-program") && message.contains("check the name"), "{message}");
}

/// A script of which rank 0 fails when rank 1 has set its trap.
fn fails_when_ready(name: &str, trap: &str) -> String {
    let ready = Scratch::new(name).path().to_string();
    format!(
        "if [ $RINGTREE_RANK = 0 ]; then until [ -e {ready} ]; do sleep 0.01; done; rm {ready}; exit 3; fi
         {trap}
         : > {ready}
         while :; do sleep 0.01; done"
    )
}

#[test]
fn the_others_are_asked_to_end_after_the_grace_period() {
    // Rank 0 fails; rank 1 would sleep for ever, notices SIGTERM and ends well.
    let output = run(2, &["--grace", "0"], &fails_when_ready("asked", "trap 'echo asked; exit 0' TERM"));
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(text(&output.stdout), "asked\n");
    assert!(text(&output.stderr).contains("sent SIGTERM: 1"));
}

#[test]
fn who_does_not_listen_is_killed() {
    let output = run(2, &["--grace", "0"], &fails_when_ready("killed", "trap '' TERM"));
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("killed: 1"), "{}", text(&output.stderr));
}

#[test]
fn input_goes_to_rank_0_alone() {
    let mut child = ringtree(&["run", "-g", "2", "--tag-output", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(b"one\ntwo\n").expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(text(&output.stdout), "[0] one\n[0] two\n");
    assert!(output.status.success());
}

#[test]
fn a_signal_to_the_launcher_reaches_every_rank() {
    let script = "trap 'echo heard; exit 0' USR1; echo ready; while :; do sleep 0.01; done";
    let mut launcher = Launcher::start(3, script);
    (0..3).for_each(|_| assert_eq!(launcher.line(), "ready"));
    launcher.signal(Signal::SIGUSR1);
    (0..3).for_each(|_| assert_eq!(launcher.line(), "heard"));
    assert!(launcher.process.wait().expect("it ends").success());
}

#[test]
fn an_interrupted_job_ends_with_the_signals_code() {
    let mut launcher = Launcher::start(2, "echo ready; exec sleep 1000");
    (0..2).for_each(|_| assert_eq!(launcher.line(), "ready"));
    launcher.signal(Signal::SIGINT);
    assert_eq!(launcher.process.wait().expect("it ends").code(), Some(128 + 2));
}

#[test]
fn a_killed_launcher_leaves_no_rank() {
    let mut launcher = Launcher::start(3, "echo $$; exec sleep 1000");
    let ranks: Vec<i32> = (0..3).map(|_| launcher.line().parse().expect("a process number")).collect();
    assert!(ranks.iter().all(|&rank| !ended(rank)));
    launcher.signal(Signal::SIGKILL);
    launcher.process.wait().expect("it ends");
    wait_until("the ranks end with their launcher", || ranks.iter().all(|&rank| ended(rank)));
}

#[test]
fn what_ranks_left_behind_is_ended_with_them() {
    let output = run(2, &[], "sleep 1000 & echo $!");
    assert!(output.status.success());
    let left: Vec<i32> = text(&output.stdout).lines().map(|line| line.parse().expect("a process number")).collect();
    assert_eq!(left.len(), 2);
    wait_until("what the ranks started ends", || left.iter().all(|&process| ended(process)));
}

#[test]
fn a_reader_that_goes_away_ends_the_job() {
    let mut launcher = Launcher::start(2, "while :; do echo line; done");
    assert_eq!(launcher.line(), "line");
    launcher.lines = None;
    let code = launcher.process.wait().expect("it ends").code();
    assert_eq!(code, Some(128 + Signal::SIGPIPE as i32), "the ranks get the signal that they would get without us");
}

#[test]
fn doctor_tells_programs_what_it_tells_people() {
    let output = output(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let problems = report["problems"].as_u64().expect("a number");
    assert_eq!(output.status.code(), Some(i32::from(problems > 0)), "{report:#}");
    let findings = report["findings"].as_array().expect("a list");
    let names: BTreeSet<&str> = findings.iter().filter_map(|finding| finding["name"].as_str()).collect();
    for name in ["cores", "memlock", "/dev/shm", "process_vm_readv", "memfd", "futex", "membarrier", "transport shm"] {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
    let without_advice = |finding: &&serde_json::Value| finding["level"] == "problem" && finding["advice"] == "";
    assert_eq!(findings.iter().find(without_advice), None, "a problem comes with what to do");
}

#[test]
fn the_topology_is_a_text_that_the_library_reads() {
    let host = ringtree::topo::graph::Host::parse(&succeeds(&["doctor", "--topology"])).expect("a host");
    assert!(!host.cores.is_empty());
}

#[test]
fn a_plan_is_explained_and_bounded() {
    let shown = succeeds(&["plan", "all_reduce", "-g", "4", "-b", "16M", "--algorithm", "ring"]);
    for part in ["all_reduce of 4194304 f32 (16 MiB)", "* ring", "oneshot", "Why:", "Rank 3", "more (--all)"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    assert!(shown.lines().count() < 4 * 50, "each rank shows its first steps only");
    let json = succeeds(&["plan", "broadcast", "-g", "3", "-r", "2", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["lists"][0]["rank"], 0);
    assert!(json["candidates"].as_array().is_some_and(|list| !list.is_empty()));
}

#[test]
fn a_site_is_shown_and_its_hosts_are_planned_rack_by_rack() {
    let file = Scratch::new("site.txt");
    std::fs::write(&file.0, "ringtree-site 1\nrails 2\nplace a n[1-2]\nplace b n[3-4]\n").unwrap();
    let site = succeeds(&["topo", "--site", file.path()]);
    assert!(site.contains("fat-tree, 2 rails, 4 hosts") && site.contains("n[3-4]"), "{site}");
    let own =
        ringtree(&["topo"]).env("RINGTREE_SITE", file.path()).env("RINGTREE_HOST", "n3.x").output().expect("an end");
    assert!(text(&own.stdout).contains("place in the site: b (RINGTREE_SITE="), "{own:?}");
    let shown =
        succeeds(&["plan", "all_reduce", "--site", file.path(), "--hosts", "n3,n1,n[4,2]", "--algorithm", "ring"]);
    assert!(shown.contains("8 ranks in 4 domains") && shown.contains("order:\n  b: n[3-4]\n  a: n[1-2]\n"), "{shown}");
    // Ranks 0 and 1 are on n3, 4 and 5 on n4: from n3 the ring goes to n4.
    let json = succeeds(&[
        "plan",
        "all_reduce",
        "--site",
        file.path(),
        "--hosts",
        "n3,n1,n[4,2]",
        "--algorithm",
        "ring",
        "--json",
    ]);
    let plan: serde_json::Value = serde_json::from_str(&json).expect("one object");
    let first = plan["lists"][1]["steps"][0].as_str().expect("a step");
    assert!(first.contains("rank 4"), "{first}");
}

#[test]
fn a_plan_is_drawn() {
    let file = Scratch::new("plan.svg");
    for ranks in ["2", "16", "40"] {
        succeeds(&["plan", "all_reduce", "-g", ranks, "--algorithm", "ring", "--svg", file.path()]);
        let svg = std::fs::read_to_string(&file.0).expect("a picture");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{ranks} ranks");
        assert!(svg.contains(&format!("{ranks} ranks: ring")), "{ranks} ranks");
    }
}

#[test]
fn the_prover_sums_up_what_it_proved() {
    let shown = succeeds(&["check", "--ranks", "2-5", "--algorithm", "ring", "--coll", "all_reduce,all_gather"]);
    // Four numbers of ranks, without racks and with them, two tunings, out of place and in place.
    assert!(shown.contains("All right: 64 proofs") && shown.contains("2 to 5 ranks"), "{shown}");
    assert_eq!(shown.matches("32 / ").count(), 2, "{shown}");
}

#[test]
fn perf_lists_what_it_would_measure() {
    let shown =
        succeeds(&["perf", "all_gather", "-b", "8", "-e", "1K", "-f", "2", "-g", "4", "-d", "half", "--dry-run"]);
    let rows: Vec<&str> = shown.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rows.len(), 8);
    let first: Vec<&str> = rows[0].split_whitespace().take(5).collect();
    assert_eq!(first, ["8", "1", "half", "none", "-1"]);
}

#[test]
fn perf_verifies_every_algorithm_it_is_told_to_use() {
    // None of these can do the reduction over all ranks by which they agree on times and errors.
    for (collective, algorithm) in
        [("all_gather", "bruck"), ("alltoall", "pairwise"), ("reduce", "star"), ("gather", "star"), ("scatter", "star")]
    {
        for transport in [["-g", "3"], ["-t", "3"]] {
            let mut args = vec!["perf", collective, "--algorithm", algorithm, "-b", "64K", "-e", "64K", "-n", "2"];
            args.extend(transport);
            let shown = succeeds(&args);
            assert!(shown.contains("# Out of bounds values : 0 OK"), "{collective} by {algorithm}: {shown}");
        }
    }
    let refused = output(&["perf", "alltoall", "--algorithm", "ring", "-b", "64K", "-e", "64K", "-g", "2"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("ring"), "{}", text(&refused.stderr));
}

#[test]
fn perf_shows_and_draws_rows_of_a_file() {
    let (rows, plot) = (Scratch::new("rows.jsonl"), Scratch::new("plot.svg"));
    let row = |bytes: u64, inplace: u8, correct: bool| {
        format!(
            r#"{{"lib":"ringtree","coll":"all_reduce","inplace":{inplace},"ranks":2,"bytes":{bytes},"us_median":{},"correct":{correct}}}"#,
            bytes as f64 / 1000.0
        )
    };
    let lines = [row(1000, 0, true), row(1000, 1, true), "not a row".to_string(), row(2000, 0, true)];
    std::fs::write(&rows.0, lines.join("\n")).expect("written");
    let args = ["perf", "all_reduce", "--from", rows.path(), "--plot", plot.path()];
    let shown = succeeds(&args);
    assert!(shown.contains("# Out of bounds values : 0 OK\n# Avg bus bandwidth    : 1.000000"), "{shown}");
    assert_eq!(shown.lines().filter(|line| !line.starts_with('#')).count(), 2);
    let svg = std::fs::read_to_string(&plot.0).expect("a picture");
    assert!(svg.contains("bus bandwidth (GB/s)") && svg.contains("message size (bytes)"));
    std::fs::write(&rows.0, row(1000, 0, false)).expect("written");
    let wrong = output(&args[..4]);
    assert_eq!(wrong.status.code(), Some(1), "a wrong result is a failure");
    assert!(text(&wrong.stdout).contains("FAILED"));
}

#[test]
fn what_is_forced_in_the_environment_is_planned() {
    let plan = |variables: &[(&str, &str)], args: &[&str]| {
        let output = ringtree(args).envs(variables.iter().copied()).output().expect("the program starts");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let ring = plan(&[("RINGTREE_ALGORITHM", "ring")], &["plan", "all_reduce", "-g", "8", "-b", "8"]);
    assert!(ring.contains("Plan: ring") && ring.contains("RINGTREE_ALGORITHM=ring"), "{ring}");
    let auto = plan(&[("RINGTREE_ALGORITHM", "ring")], &["plan", "all_reduce", "-b", "8", "--algorithm", "auto"]);
    assert!(!auto.contains("Plan: ring"), "{auto}");
    let domains = plan(&[("RINGTREE_DOMAINS", "2,2,2")], &["plan", "all_reduce"]);
    assert!(domains.contains("6 ranks in 3 domains"), "{domains}");
}

#[test]
fn what_is_forced_and_makes_no_sense_is_refused_with_the_reason() {
    let refused = |variable: (&str, &str), args: &[&str]| {
        let output = ringtree(args).envs([variable]).output().expect("the program starts");
        assert!(!output.status.success(), "{variable:?} {args:?}");
        text(&output.stderr)
    };
    let perf = ["perf", "broadcast", "-b", "8", "-e", "8", "-g", "2", "-n", "1"];
    for (variable, reason) in [
        (("RINGTREE_ALGORITHM", "bruck"), "can't do this broadcast: it has no form of this collective"),
        (("RINGTREE_ALGORITHM", "owner"), "can't be reached by the other ranks (register them)"),
        (("RINGTREE_CHUNK", "0"), "RINGTREE_CHUNK is '0'"),
        (("RINGTREE_CHUNK", "1G"), "from 1 to 256K"),
        (("RINGTREE_PROFILE", "/nowhere/tuned"), "RINGTREE_PROFILE is '/nowhere/tuned'"),
    ] {
        let message = refused(variable, &perf);
        assert!(message.contains(reason), "{variable:?} does not say {reason}: {message}");
    }
    assert!(refused(("RINGTREE_ALGORITHM", "ring"), &["tune"]).contains("unset it"));
}

#[test]
fn a_profile_changes_what_is_chosen_and_one_that_makes_no_sense_is_refused() {
    let profile = Scratch::new("tuned");
    let plan = |text: &str| {
        std::fs::write(profile.path(), text).expect("a file");
        let args = ["plan", "all_reduce", "-g", "8", "-b", "64K"];
        ringtree(&args).env("RINGTREE_PROFILE", profile.path()).output().expect("the program starts")
    };
    let chosen = |text: &str| plan(text).stdout;
    // Where messages cost nothing against bytes, and where they cost everything.
    let (light, heavy) = ("memory.message_ns 1\nmemory.latency_ns 1\n", "memory.message_ns 900000\n");
    let [light, heavy] = [light, heavy].map(|lines| text(&chosen(&format!("ringtree-profile 1\n{lines}"))));
    assert!(light.contains("Plan: ") && heavy.contains("Plan: ") && light.contains("RINGTREE_PROFILE="), "{light}");
    let algorithm = |shown: &str| shown.split("Plan: ").nth(1).map(|rest| rest.split(',').next().map(String::from));
    assert_ne!(algorithm(&light), algorithm(&heavy), "{light}\n{heavy}");
    let refused = plan("ringtree-profile 1\nmemory.copy_ps 0\n");
    let message = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{message}");
    assert!(message.contains("line 2: memory.copy_ps is '0'") && message.contains(profile.path()), "{message}");
}

#[test]
fn tune_measures_writes_a_profile_and_uses_what_it_kept() {
    let (rows, profile) = (Scratch::new("tune-rows"), Scratch::new("tuned"));
    let measured =
        succeeds(&["tune", "--quick", "-g", "2", "--transport", "shm", "--rows", rows.path(), "--out", profile.path()]);
    // Four sizes of four collectives.
    assert_eq!(
        measured.lines().filter(|line| line.contains(" shm  ") && line.contains(" %")).count(),
        16,
        "{measured}"
    );
    let text = std::fs::read_to_string(profile.path()).expect("a profile");
    assert!(text.starts_with("ringtree-profile 1\n# measured by ringtree tune"), "{text}");
    ringtree::plan::Costs::from_profile(&text).expect("a profile that is read");
    // The same measurements make the same table and the same profile.
    assert_eq!(succeeds(&["tune", "--from", rows.path(), "--out", profile.path()]), measured);
    let again = std::fs::read_to_string(profile.path()).expect("a profile");
    let constants =
        |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(String::from).collect::<Vec<_>>();
    assert_eq!(constants(&again), constants(&text));
    let run = ringtree(&["perf", "all_reduce", "-b", "64K", "-e", "64K", "-n", "2"]);
    let run = { run }.env("RINGTREE_PROFILE", profile.path()).output().expect("the program starts");
    assert!(run.status.success(), "a job that uses it");
}

#[test]
fn a_setting_that_is_misspelt_or_holds_nonsense_is_said_once_before_ranks_start() {
    let run = |name: &str, value: &str| {
        let output = ringtree(&["run", "-g", "3", "--", "true"]).env(name, value).output().expect("the program starts");
        (output.status.code(), text(&output.stderr))
    };
    let (code, message) = run("RINGTREE_TIMEOUTS", "5");
    assert_eq!((code, message.matches("is RINGTREE_TIMEOUT meant?").count()), (Some(0), 1), "{message}");
    let (code, message) = run("RINGTREE_TIMEOUT", "abc");
    assert_eq!((code, message.matches("'abc'").count()), (Some(2), 1), "{message}");
}

#[test]
fn a_dry_run_prints_what_would_be_measured_and_no_times() {
    let lines = succeeds(&["perf", "all_gather", "-b", "66", "-e", "66", "-g", "4", "--dry-run", "--json"]);
    let case: serde_json::Value = serde_json::from_str(&lines).expect("one JSON object");
    assert_eq!((&case["bytes"], &case["count"], &case["us_median"]), (&64.into(), &4.into(), &serde_json::Value::Null));
    let table = succeeds(&["perf", "all_reduce", "-b", "8", "-e", "8", "--dry-run"]);
    assert!(!table.contains("0.00"), "{table}");
}

#[test]
fn this_host_is_drawn_written_and_read_back() {
    let (text, xml, picture) = (Scratch::new("host.txt"), Scratch::new("host.xml"), Scratch::new("host.svg"));
    let own = succeeds(&["topo", "--text"]);
    std::fs::write(&text.0, &own).unwrap();
    assert_eq!(succeeds(&["topo", "--text", "--from", text.path()]), own);
    std::fs::write(&xml.0, succeeds(&["topo", "--xml", "--svg", picture.path()])).unwrap();
    let tree = succeeds(&["topo", "--from", xml.path()]);
    assert!(tree.contains("node 0: processors"), "{tree}");
    assert!(std::fs::read_to_string(&picture.0).unwrap().contains("processors"));
    let published = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/topologies/gb300-two-trays.xml");
    assert!(succeeds(&["topo", "--from", published]).matches("architecture 103").count() > 1);
    for (args, advice) in [
        (&["topo", "--from", "/no/such/file"][..], "can't be read"),
        (&["topo", "--from", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")], "ringtree-host 1"),
        (&["topo", "--xml", "--from", published], "several hosts"),
    ] {
        let output = output(args);
        assert!(!output.status.success() && self::text(&output.stderr).contains(advice), "{args:?}");
    }
}

#[test]
fn a_pipe_that_closes_early_is_no_panic() {
    let mut child = ringtree(&["plan", "all_reduce", "-g", "8", "--all", "-b", "64M", "--algorithm", "ring"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut errors).expect("readable");
    child.wait().expect("it ends");
    assert!(!errors.contains("panicked"), "{errors}");
}
