//! Every environment variable that this library reads, in one place, so that one that is misspelt or holds nonsense is noticed before a job
//! runs without it.

use super::Config;
use crate::boot::BootConfig;
use crate::error::{Error, Result};
use crate::exec::kernel::Level;

/// What users set.
pub const SETTINGS: [&str; 25] = [
    "RINGTREE_TIMEOUT",
    "RINGTREE_INIT_TIMEOUT",
    "RINGTREE_REPRODUCIBLE",
    "RINGTREE_STAGING",
    "RINGTREE_ALGORITHM",
    "RINGTREE_CHUNK",
    "RINGTREE_TRANSPORT",
    "RINGTREE_FETCH",
    "RINGTREE_DOMAINS",
    "RINGTREE_SITE",
    "RINGTREE_LOCATION",
    "RINGTREE_LOCATION_FROM",
    "RINGTREE_PROFILE",
    "RINGTREE_PROTECTION",
    "RINGTREE_SIMD",
    "RINGTREE_HOST",
    "RINGTREE_ADDRESS",
    "RINGTREE_INTERFACE",
    "RINGTREE_FAMILY",
    "RINGTREE_SOCKETS",
    "RINGTREE_HCA",
    "RINGTREE_GID_INDEX",
    "RINGTREE_RDMA",
    "RINGTREE_SECRET",
    "RINGTREE_SECRET_FILE",
];

/// What launchers set, and what the command line reads.
const OF_LAUNCHERS: [&str; 6] =
    ["RINGTREE_LOG", "RINGTREE_RANK", "RINGTREE_SIZE", "RINGTREE_LOCAL_RANK", "RINGTREE_LOCAL_SIZE", "RINGTREE_ID"];

/// The names among these that look like settings and are none.
pub fn unknown_settings(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let known = |name: &String| SETTINGS.contains(&name.as_str()) || OF_LAUNCHERS.contains(&name.as_str());
    let mut unknown: Vec<String> =
        names.into_iter().filter(|name| name.starts_with("RINGTREE_") && !known(name)).collect();
    unknown.sort_unstable();
    unknown
}

/// The settings whose values make no sense, each with what is wrong with it.
pub fn wrong_settings(variable: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, Error)> {
    let wrong = |name: &'static str| {
        let alone = |asked: &str| variable(asked).filter(|_| asked == name);
        Some((name, readable(&alone).err()?))
    };
    let mut errors: Vec<(&'static str, Error)> = SETTINGS.into_iter().filter_map(wrong).collect();
    if errors.is_empty() {
        // Each makes sense alone; the two ways to give a secret make none together.
        errors.extend(readable(&variable).err().map(|error| ("RINGTREE_SECRET_FILE", error)));
    }
    errors
}

fn readable(variable: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    Config::from_variables(variable)?;
    BootConfig::read(variable)?;
    Level::wished(variable("RINGTREE_SIMD").as_deref()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(pairs: &[(&str, &str)]) -> Vec<String> {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        wrong_settings(find).into_iter().map(|(name, error)| format!("{name}: {error}")).collect()
    }

    #[test]
    fn every_setting_with_nonsense_in_it_is_named() {
        // Any text names a host.
        for name in SETTINGS.into_iter().filter(|name| *name != "RINGTREE_HOST") {
            let value = if name == "RINGTREE_SECRET" { " " } else { "no such thing" };
            let errors = wrong(&[(name, value), ("RINGTREE_FETCH", "off")]);
            let found = errors.len() == 1 && errors[0].starts_with(name);
            assert!(name == "RINGTREE_FETCH" || found, "{name}: {errors:?}");
        }
        assert_eq!(wrong(&[("RINGTREE_TIMEOUT", "abc"), ("RINGTREE_STAGING", "1X")]).len(), 2);
        assert!(wrong(&[("RINGTREE_TIMEOUT", "3"), ("RINGTREE_SIMD", "avx2")]).is_empty());
    }

    #[test]
    fn settings_that_contradict_each_other_are_wrong_together() {
        let path = std::env::temp_dir().join(format!("ringtree-variables-{}", std::process::id()));
        std::fs::write(&path, "hush").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let errors = wrong(&[("RINGTREE_SECRET", "a"), ("RINGTREE_SECRET_FILE", path.to_str().unwrap())]);
        std::fs::remove_file(&path).unwrap();
        assert!(errors.len() == 1 && errors[0].contains("both"), "{errors:?}");
    }

    #[test]
    fn what_is_no_setting_is_told_from_what_is_somebody_elses() {
        let names = ["RINGTREE_BOGUS", "RINGTREE_TIMEOUT", "RINGTREE_RANK", "PATH", "NCCL_DEBUG", "RINGTREE_ALGO"];
        assert_eq!(unknown_settings(names.map(String::from)), ["RINGTREE_ALGO", "RINGTREE_BOGUS"]);
    }
}
