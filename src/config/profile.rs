//! The profile that a job is told to use.

use crate::error::{Error, Result};
use crate::plan::{Costs, MOST_PROFILE_BYTES};
use std::io::Read;
use std::path::Path;

/// Reads the costs of a profile. There is no place where one is looked for: a file that is on some hosts only would make jobs fail that
/// nobody has tuned.
pub(super) fn read(path: &str) -> Result<Costs> {
    let wrong = |why: &dyn std::fmt::Display| Error::Choice {
        what: format!("RINGTREE_PROFILE is '{path}': {why}"),
        advice: "Name a file that `ringtree tune --out FILE` wrote, the same on all ranks, or unset it".into(),
    };
    let mut text = String::new();
    // What is no file, as a pipe that nobody writes to, is not waited for.
    let file = Path::new(path).metadata().and_then(|metadata| match metadata.is_file() {
        true => std::fs::File::open(path),
        false => Err(std::io::Error::other("it is no file")),
    });
    let read = file.and_then(|file| file.take(MOST_PROFILE_BYTES as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| wrong(&error))?;
    Costs::from_profile(&text).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn a_profile_is_read_and_nonsense_is_refused_with_the_file_and_the_line() {
        let path = std::env::temp_dir().join(format!("ringtree-profile-{}", std::process::id()));
        let with = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let path = path.to_str().unwrap().to_string();
            Config::from_variables(|name| (name == "RINGTREE_PROFILE").then(|| path.clone()))
        };
        let config = with("ringtree-profile 1\nloopback.post_ns 4321\n").unwrap();
        let costs = config.costs.unwrap();
        assert!(costs.constants().any(|constant| constant.quantity == "post_ns" && constant.value == 4321));
        let message = with("ringtree-profile 1\nloopback.post_ns 0\n").unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        for part in ["RINGTREE_PROFILE", path.to_str().unwrap(), "line 2: loopback.post_ns is '0'", "ringtree tune"] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
        assert!(read(std::env::temp_dir().to_str().unwrap()).unwrap_err().to_string().contains("no file"));
    }
}
