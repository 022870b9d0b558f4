//! Environment variables that look like settings and are none: said once, before a job runs without what was meant.

use crate::terminal::Paint;
use ringtree::{SETTINGS, unknown_settings};

/// A name is similar from here on, by Jaro's measure; clap takes the same for options.
const SIMILAR: f64 = 0.7;

/// Each such variable, and what to do about it.
pub(crate) fn strangers(names: impl IntoIterator<Item = String>) -> Vec<(String, String)> {
    let advised = |name: String| {
        let advice = similar(&name).map_or_else(
            || format!("the settings are {}", SETTINGS.join(", ")),
            |similar| format!("is {similar} meant?"),
        );
        (name, advice)
    };
    unknown_settings(names).into_iter().map(advised).collect()
}

/// The names of this process's variables.
pub(crate) fn names() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

/// Tells whoever starts a job.
pub(crate) fn warn_of_strangers() {
    for (name, advice) in strangers(names()) {
        eprintln!("{} there is no setting {}: {advice}", Paint::stderr().yellow("ringtree:"), name.escape_default());
    }
}

fn similar(name: &str) -> Option<&'static str> {
    let end = |name: &str| name.trim_start_matches("RINGTREE_").to_string();
    let likeness = |setting: &&'static str| strsim::jaro(&end(name), &end(setting));
    let best = SETTINGS.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.filter(|setting| likeness(setting) > SIMILAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_told_what_was_meant() {
        let names = ["RINGTREE_TIMEOUTS", "RINGTREE_ALGO", "RINGTREE_ZZZ", "RINGTREE_TIMEOUT", "HOME"];
        let strangers = strangers(names.map(String::from));
        let advice: Vec<&str> = strangers.iter().map(|(_, advice)| advice.as_str()).collect();
        assert_eq!(advice[..2], ["is RINGTREE_ALGORITHM meant?", "is RINGTREE_TIMEOUT meant?"]);
        assert!(strangers.len() == 3 && advice[2].contains("RINGTREE_DOMAINS"), "{strangers:?}");
    }
}
