//! Choices are good on this machine: the algorithm that is chosen is within 10 % of the fastest that was measured, over sizes × ranks × (shm,
//! tcp) × four collectives. `ringtree tune --check` does the measuring: all algorithms by turns, and what looks bad again with more
//! rounds, until one pass finds it good or all say the same. The mean over the grid has to be within 10 %; a single cell may be up to half as
//! slow again, because two noisy cores don't tell 10 % of one microsecond from nothing.

use std::process::{Command, Output};

fn tune(args: &[&str], profile: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringtree"));
    command.arg("tune").args(args).env_remove("RINGTREE_PROFILE");
    command.envs(profile.map(|path| ("RINGTREE_PROFILE", path)));
    command.output().expect("the program starts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
#[cfg_attr(debug_assertions, ignore = "an unoptimised build has other times: cargo test --release --test tuner")]
fn what_is_chosen_is_within_ten_percent_of_the_fastest_and_bad_costs_are_noticed() {
    let folder = std::env::temp_dir().join(format!("ringtree-tuner-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = |name: &str| folder.join(name).to_str().expect("a path").to_string();
    let (rows, bad) = (path("rows"), path("bad"));
    let built_in = tune(&["--check", "--quick", "-g", "4", "--rows", &rows], None);
    // Bytes that cost a thousand times as much as they do: what moves few of them looks fast, however often ranks wait for each other. The
    // worst of such choices takes three times as long as the fastest (two cores of a Zen 5), far from what is bearable.
    let lines = ["memory", "loopback"].map(|class| format!("{class}.copy_ps 100000\n{class}.fold_ps 100000\n"));
    std::fs::write(&bad, format!("ringtree-profile 1\n{}loopback.sent_ps 100000\n", lines.concat())).expect("a file");
    let with_bad = tune(&["--check", "--from", &rows], Some(&bad));
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    let shown = text(&built_in);
    // Four sizes, three numbers of ranks, two transports, four collectives.
    assert!(shown.contains("of 96 within 10 %"), "{shown}");
    // What is wrong, without what is right.
    let verdict = shown.split_once("Choices: ").map_or(shown.as_str(), |(_, verdict)| verdict);
    assert!(built_in.status.success(), "{verdict}");
    assert_eq!(with_bad.status.code(), Some(1), "bad costs look good: {}", text(&with_bad));
}
