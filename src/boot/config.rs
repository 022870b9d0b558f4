//! How long a start may take and where its sockets listen.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::{Error, Result};

/// How the ranks of a job look for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootConfig {
    /// How long the start, and each step of it, may take: `RINGTREE_INIT_TIMEOUT` in seconds, 120 s if it is not set.
    pub timeout: Duration,
    /// The address to listen on: `RINGTREE_ADDRESS` as `address` or `address:port`. Without it the one is taken that
    /// [`BootConfig::one_host`] and the default route suggest.
    pub address: Option<SocketAddr>,
    /// The job is known to be on one host: nothing listens where another host could reach it.
    pub one_host: bool,
}

impl Default for BootConfig {
    fn default() -> BootConfig {
        BootConfig { timeout: Duration::from_secs(120), address: None, one_host: false }
    }
}

impl BootConfig {
    /// The configuration that this process's environment asks for.
    pub fn from_env() -> Result<BootConfig> {
        BootConfig::read(&|name| std::env::var(name).ok())
    }

    /// The same from any set of variables.
    pub fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<BootConfig> {
        let mut config = BootConfig::default();
        if let Some(text) = env("RINGTREE_INIT_TIMEOUT") {
            config.timeout = parse_seconds(&text).ok_or_else(|| {
                Error::misuse(
                    format!("RINGTREE_INIT_TIMEOUT is '{text}'"),
                    "Set it to a number of seconds above 0, as 120 or 0.5",
                )
            })?;
        }
        if let Some(text) = env("RINGTREE_ADDRESS") {
            config.address = Some(parse_address(&text).ok_or_else(|| {
                Error::misuse(
                    format!("RINGTREE_ADDRESS is '{text}'"),
                    "Set it to an address of this host, as 10.0.0.5, 10.0.0.5:7000 or [fd00::5]:7000",
                )
            })?);
        }
        Ok(config)
    }
}

fn parse_seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok()?;
    // A day and a bit more is as good as for ever, and keeps every sum of times in range.
    if seconds > 0.0 && seconds.is_finite() { Some(Duration::from_secs_f64(seconds.min(1e6))) } else { None }
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<BootConfig> {
        BootConfig::read(&|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn timeout_and_address_are_read_from_the_environment() {
        assert_eq!(read(&[]).unwrap(), BootConfig::default());
        let config = read(&[("RINGTREE_INIT_TIMEOUT", "0.5"), ("RINGTREE_ADDRESS", "10.0.0.5")]).unwrap();
        assert_eq!(config.timeout, Duration::from_millis(500));
        assert_eq!(config.address, Some("10.0.0.5:0".parse().unwrap()));
        let config = read(&[("RINGTREE_ADDRESS", "[::1]:70")]).unwrap();
        assert_eq!(config.address, Some("[::1]:70".parse().unwrap()));
    }

    #[test]
    fn what_is_no_time_and_no_address_is_an_error_that_names_the_variable() {
        for (name, value) in [
            ("RINGTREE_INIT_TIMEOUT", "soon"),
            ("RINGTREE_INIT_TIMEOUT", "-1"),
            ("RINGTREE_INIT_TIMEOUT", "inf"),
            ("RINGTREE_INIT_TIMEOUT", "0"),
            ("RINGTREE_ADDRESS", "eth0"),
        ] {
            let message = read(&[(name, value)]).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(value), "{message}");
        }
    }
}
