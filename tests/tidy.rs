//! Style that a compiler does not see. What the house has outgrown is counted in `tests/tidy.limits`, and the counts may only fall: a count
//! below its limit asks for the lower limit, so that it is never given back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file that needs a second look.
const LONG_FILE: usize = 600;
/// A function that needs one.
const LONG_FUNCTION: usize = 70;
/// Characters that fit beside another window.
const LONG_LINE: usize = 145;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the project, with its path from the root.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
        let entries = fs::read_dir(directory).expect("a folder of the project can be read");
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                if !path.ends_with("target") {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is UTF-8");
                let name = path.strip_prefix(root()).expect("inside").to_path_buf();
                found.push((name, text));
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "ffi"] {
        let folder = root().join(folder);
        if folder.is_dir() {
            walk(&folder, &mut found);
        }
    }
    assert!(found.len() > 50, "only {} files were found", found.len());
    found.sort();
    found
}

/// Lines of each function, by the indentation that rustfmt gives it: from the line with `fn` to the brace below it.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words = code.split(['(', '<']).next().unwrap_or("");
        if code.starts_with("//") || !words.split_whitespace().any(|word| word == "fn") || words.contains('"') {
            continue;
        }
        // A declaration without a body ends with a semicolon before any brace.
        let opening =
            lines[start..].iter().position(|line| line.ends_with('{') || line.ends_with(';') || line.ends_with('}'));
        if !opening.is_some_and(|after| lines[start + after].ends_with('{')) {
            continue;
        }
        let indent = line.len() - code.len();
        let close = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[start..].iter().position(|line| *line == close) {
            found.push((start + 1, length + 1));
        }
    }
    found
}

/// Compares a list of findings with the number that is allowed.
fn ratchet(name: &str, findings: &[String]) {
    let limits = fs::read_to_string(root().join("tests/tidy.limits")).expect("tests/tidy.limits");
    let limits: BTreeMap<&str, usize> = limits
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, limit)| (name, limit.parse().expect("a number")))
        .collect();
    let limit = *limits.get(name).unwrap_or(&0);
    let list = findings.join("\n  ");
    assert!(findings.len() <= limit, "{name}: {} where {limit} are allowed:\n  {list}", findings.len());
    assert!(
        findings.len() == limit,
        "{name}: only {} are left, write that into tests/tidy.limits in place of {limit}",
        findings.len()
    );
}

#[test]
fn files_are_short_enough_to_be_read() {
    let long = |(path, text): &(PathBuf, String)| {
        let lines = text.lines().count();
        (lines > LONG_FILE).then(|| format!("{}: {lines} lines", path.display()))
    };
    ratchet("long-files", &sources().iter().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn functions_are_short_enough_to_be_understood() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let found = functions(&text).into_iter().filter(|(_, length)| *length > LONG_FUNCTION);
        long.extend(found.map(|(line, length)| format!("{}:{line}: {length} lines", path.display())));
    }
    ratchet("long-functions", &long);
}

#[test]
fn lines_fit_beside_another_window() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let found = text.lines().enumerate().filter(|(_, line)| line.chars().count() > LONG_LINE);
        long.extend(found.map(|(line, _)| format!("{}:{}", path.display(), line + 1)));
    }
    ratchet("long-lines", &long);
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let silent: Vec<_> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "no //! at the top of {silent:?}");
}

#[test]
fn nothing_is_left_open_or_silenced() {
    // Put together so that this file does not contain them.
    let words = [
        ["to", "do!("],
        ["unimple", "mented!("],
        ["db", "g!("],
        ["#[ig", "nore"],
        ["allow(dead", "_code"],
        ["allow(unu", "sed"],
    ]
    .map(|halves| halves.concat());
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (line, code) in text.lines().enumerate() {
            // What another section of `tests/all` runs is not left out.
            let elsewhere = code.contains("= \"in tests/rdma: ");
            found.extend(
                words
                    .iter()
                    .filter(|word| !elsewhere && code.contains(*word))
                    .map(|word| format!("{}:{}: {word}", path.display(), line + 1)),
            );
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn modules_have_names_that_say_something() {
    let empty = ["util", "utils", "common", "helpers", "helper", "misc"];
    let nameless = |path: &Path| {
        path.components().any(|part| empty.contains(&part.as_os_str().to_string_lossy().trim_end_matches(".rs")))
    };
    let found: Vec<_> = sources().into_iter().map(|(path, _)| path).filter(|path| nameless(path)).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn pure_modules_forbid_unsafe_code() {
    for module in ["plan", "check", "sim", "topo/graph", "types"] {
        let text = fs::read_to_string(root().join("src").join(module).join("mod.rs")).expect(module);
        assert!(text.contains("#![forbid(unsafe_code)]"), "src/{module}/mod.rs");
    }
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    let places = [["/ho", "me/"], ["/wo", "rk/"], ["/ro", "ot/"]].map(|halves| halves.concat());
    let mut found = Vec::new();
    for (path, text) in sources() {
        found.extend(
            places.iter().filter(|place| text.contains(*place)).map(|place| format!("{}: {place}", path.display())),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
