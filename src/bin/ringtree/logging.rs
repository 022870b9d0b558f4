//! What the library has to say meanwhile goes to standard error, from the level that RINGTREE_LOG names on.

use log::{LevelFilter, Log, Metadata, Record};
use std::io::Write;

struct ToStderr;

impl Log for ToStderr {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let line = format!("ringtree: {}: {}\n", record.level().as_str().to_lowercase(), record.args());
            // In one piece: ranks share the stream. Where nobody reads it any more there is nobody to tell.
            let _nobody_reads = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// The levels, by name.
pub(crate) fn level(text: &str) -> Option<LevelFilter> {
    text.trim().parse().ok()
}

/// Begins to listen to the library. A level that makes no sense is named and counts as `warn`.
pub(crate) fn begin() {
    let wish = std::env::var("RINGTREE_LOG").ok();
    let chosen = wish.as_deref().map_or(Some(LevelFilter::Warn), level);
    if log::set_logger(&ToStderr).is_ok() {
        log::set_max_level(chosen.unwrap_or(LevelFilter::Warn));
    }
    if chosen.is_none() {
        let text = wish.unwrap_or_default();
        log::warn!("RINGTREE_LOG is '{text}': set it to off, error, warn, info, debug or trace");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_names_in_any_case() {
        assert_eq!(level("debug"), Some(LevelFilter::Debug));
        assert_eq!(level(" WARN "), Some(LevelFilter::Warn));
        assert_eq!(level("off"), Some(LevelFilter::Off));
        assert_eq!(level("loud"), None);
    }
}
