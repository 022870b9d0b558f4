//! One line of the report, and how it is printed.

use crate::terminal::Paint;
use serde_json::{Value, json};
use std::fmt::Write;

/// How good or bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It works, but slower, or with a limit.
    Note,
    /// Something will fail.
    Problem,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) name: &'static str,
    pub(super) what: String,
    /// What to do; empty where there is nothing to do.
    pub(super) advice: String,
}

impl Finding {
    pub(super) fn ok(name: &'static str, what: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, name, what: what.into(), advice: String::new() }
    }

    pub(super) fn note(name: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { level: Level::Note, name, what: what.into(), advice: advice.into() }
    }

    pub(super) fn problem(name: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { level: Level::Problem, name, what: what.into(), advice: advice.into() }
    }
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Problem => "problem",
        }
    }
}

/// For people.
pub(super) fn text(findings: &[Finding], paint: Paint) -> String {
    let mut out = String::new();
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    for finding in findings {
        let level = format!("{:7}", finding.level.name());
        let level = match finding.level {
            Level::Ok => paint.green(&level),
            Level::Note => paint.yellow(&level),
            Level::Problem => paint.red(&level),
        };
        let _ = writeln!(out, "{level}  {:width$}  {}", finding.name, finding.what);
        if !finding.advice.is_empty() {
            let _ = writeln!(out, "{:7}  {:width$}  {}", "", "", paint.dim(&format!("-> {}", finding.advice)));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let _ = writeln!(
        out,
        "\n{} ok, {} to note, {} that will hurt",
        count(Level::Ok),
        count(Level::Note),
        count(Level::Problem)
    );
    out
}

/// For programs.
pub(super) fn json(findings: &[Finding], host: &str) -> Value {
    let lines: Vec<Value> = findings
        .iter()
        .map(|Finding { level, name, what, advice }| {
            json!({ "level": level.name(), "name": name, "what": what, "advice": advice })
        })
        .collect();
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
    json!({ "version": env!("CARGO_PKG_VERSION"), "problems": problems, "findings": lines, "host": host })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Finding> {
        vec![
            Finding::ok("cores", "2"),
            Finding::note("memlock", "64 KiB", "ulimit -l unlimited"),
            Finding::problem("memfd", "denied", "change the seccomp profile"),
        ]
    }

    #[test]
    fn each_line_says_how_bad_it_is_and_what_to_do() {
        let expected = "\
ok       cores    2
note     memlock  64 KiB
                  -> ulimit -l unlimited
problem  memfd    denied
                  -> change the seccomp profile

1 ok, 1 to note, 1 that will hurt
";
        assert_eq!(text(&some(), Paint::plain()), expected);
    }

    #[test]
    fn programs_get_the_same_in_json() {
        let value = json(&some(), "ringtree-host 1\n");
        assert_eq!(value["problems"], 1);
        assert_eq!(value["findings"][1]["level"], "note");
        assert_eq!(value["findings"][2]["advice"], "change the seccomp profile");
        assert_eq!(value["host"], "ringtree-host 1\n");
    }
}
