//! Settings, read once from the environment and changeable in code. All of them are local choices or checked to agree; what ranks must
//! agree on travels in the digests of plans.

mod domains;
mod fetch;
mod location;
mod profile;
mod protection;
mod variables;

pub use domains::Domains;
pub use fetch::Fetch;
pub use location::{Located, locate, read_site};
pub use protection::Protection;
pub use variables::{SETTINGS, unknown_settings, wrong_settings};

use crate::error::{Error, Result};
use crate::plan::{Algorithm, Costs, MOST_CHUNK_BYTES};
use crate::topo::site::Location;
use std::sync::Arc;
use std::time::Duration;

/// Settings of a communicator.
#[derive(Clone, Debug)]
pub struct Config {
    /// Longest wait for a peer inside an operation (RINGTREE_TIMEOUT, seconds; default 300).
    pub timeout: Duration,
    /// Longest wait for the ranks to come together (RINGTREE_INIT_TIMEOUT, seconds; default 120).
    pub init_timeout: Duration,
    /// Results whose bits do not depend on message size, chunking, channels or algorithm (RINGTREE_REPRODUCIBLE=1).
    pub reproducible: bool,
    /// One algorithm for everything it can do (RINGTREE_ALGORITHM); what it can't do is refused.
    pub algorithm: Option<Algorithm>,
    /// Bytes of a chunk (RINGTREE_CHUNK); for experiments.
    pub chunk_bytes: Option<u32>,
    /// Which links to use (RINGTREE_TRANSPORT).
    pub transport: Transport,
    /// Whether ranks copy straight from each other's private memory (RINGTREE_FETCH: auto, off, or bytes).
    pub fetch: Fetch,
    /// Which ranks are near each other (RINGTREE_DOMAINS). It binds the communicator of all ranks; those that are split from it inherit
    /// what it came to.
    pub domains: Domains,
    /// Where this host is in its site (RINGTREE_LOCATION, RINGTREE_SITE, RINGTREE_LOCATION_FROM, or what Slurm says): rings go to the hosts of
    /// one rack before they go to another's. It binds the communicator of all ranks, as domains do; ranks of one host should say the same.
    pub location: Location,
    /// What links cost, by which algorithms are chosen (RINGTREE_PROFILE, a file that `ringtree tune` wrote); nothing: as built in.
    pub costs: Option<Arc<Costs>>,
    /// How messages that go over a network are protected (RINGTREE_PROTECTION: plain, checksum, encrypted).
    pub protection: Protection,
    /// The communicator's name in messages.
    pub name: String,
}

/// Which links a communicator uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// The best there is.
    #[default]
    Auto,
    /// Shared memory.
    Shm,
    /// The reference for threads of one process.
    Local,
    /// Sockets, also between ranks of one host.
    Tcp,
    /// RDMA, also between ranks of one host; every rank must have a device for it.
    Verbs,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 5] =
        [Transport::Auto, Transport::Shm, Transport::Local, Transport::Tcp, Transport::Verbs];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Auto => "auto",
            Transport::Shm => "shm",
            Transport::Local => "local",
            Transport::Tcp => "tcp",
            Transport::Verbs => "verbs",
        }
    }
}

impl std::str::FromStr for Transport {
    type Err = Error;

    fn from_str(text: &str) -> Result<Transport> {
        Transport::ALL.into_iter().find(|transport| transport.name() == text).ok_or_else(|| Error::Choice {
            what: format!("there is no transport '{text}'"),
            advice: format!("Choose one of {}", Transport::ALL.map(Transport::name).join(", ")),
        })
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            timeout: Duration::from_secs(300),
            init_timeout: Duration::from_secs(120),
            reproducible: false,
            algorithm: None,
            chunk_bytes: None,
            transport: Transport::Auto,
            fetch: Fetch::Auto,
            domains: Domains::Auto,
            location: Location::default(),
            costs: None,
            protection: Protection::Plain,
            name: "world".into(),
        }
    }
}

impl Config {
    /// The defaults, changed by what the environment says.
    pub fn from_env() -> Result<Config> {
        for name in unknown_settings(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
            log::warn!("{name} is set, and there is no such setting; there are {}", SETTINGS.join(", "));
        }
        let variable = |name: &str| std::env::var(name).ok();
        let config = Config::from_variables(variable)?;
        if config.location.is_unknown() {
            location::complain_once(variable);
        }
        Ok(config)
    }

    /// The same from any source of variables.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Config> {
        let mut config = Config::default();
        if let Some(text) = variable("RINGTREE_TIMEOUT") {
            config.timeout = seconds("RINGTREE_TIMEOUT", &text)?;
        }
        if let Some(text) = variable("RINGTREE_INIT_TIMEOUT") {
            config.init_timeout = seconds("RINGTREE_INIT_TIMEOUT", &text)?;
        }
        if let Some(text) = variable("RINGTREE_REPRODUCIBLE") {
            config.reproducible = switch("RINGTREE_REPRODUCIBLE", &text)?;
        }
        if let Some(text) = variable("RINGTREE_ALGORITHM").filter(|text| text != "auto") {
            config.algorithm = Some(algorithm(&text)?);
        }
        if let Some(text) = variable("RINGTREE_CHUNK") {
            let bytes = parse_bytes(&text).and_then(|bytes| u32::try_from(bytes).ok());
            let bytes = bytes.filter(|bytes| (1..=MOST_CHUNK_BYTES).contains(bytes));
            let expected = "bytes of a message, from 1 to 256K";
            config.chunk_bytes = Some(bytes.ok_or_else(|| bad("RINGTREE_CHUNK", &text, expected))?);
        }
        if let Some(text) = variable("RINGTREE_STAGING") {
            // The budget is the process's, not the communicator's: it reads this itself.
            parse_bytes(&text).ok_or_else(|| bad("RINGTREE_STAGING", &text, "bytes, as 64M"))?;
        }
        if let Some(text) = variable("RINGTREE_TRANSPORT") {
            config.transport = text.parse()?;
        }
        if let Some(text) = variable("RINGTREE_FETCH") {
            config.fetch = text.parse()?;
        }
        if let Some(text) = variable("RINGTREE_DOMAINS") {
            config.domains = text.parse()?;
        }
        config.location = locate(&variable)?.location;
        if let Some(path) = variable("RINGTREE_PROFILE").filter(|path| !path.is_empty()) {
            config.costs = Some(Arc::new(profile::read(&path)?));
        }
        if let Some(text) = variable("RINGTREE_PROTECTION") {
            config.protection = text.parse()?;
        }
        Ok(config)
    }
}

/// The algorithm of that name, or an error that lists the names.
pub fn algorithm(name: &str) -> Result<Algorithm> {
    Algorithm::from_name(name).ok_or_else(|| Error::Choice {
        what: format!("there is no algorithm '{name}'"),
        advice: format!("Choose one of auto, {}", Algorithm::ALL.map(Algorithm::name).join(", ")),
    })
}

/// Reads `8`, `64K`, `1.5M`, `2G` (powers of 1024; an `iB` or `B` behind is taken too).
pub fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let text = text.strip_suffix("iB").or_else(|| text.strip_suffix('B')).unwrap_or(text);
    let (number, shift) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        _ => (text, 0),
    };
    if let Ok(whole) = number.parse::<usize>() {
        return whole.checked_mul(1 << shift);
    }
    let value = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
    (value.is_finite() && (0.0..9e18).contains(&value)).then_some(value as usize)
}

fn seconds(name: &str, text: &str) -> Result<Duration> {
    let value = text.trim().parse::<f64>().ok().filter(|value| *value > 0.0 && *value <= 1e9);
    value.map(Duration::from_secs_f64).ok_or_else(|| bad(name, text, "seconds above 0, as 30 or 0.5"))
}

fn switch(name: &str, text: &str) -> Result<bool> {
    match text.trim() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" | "" => Ok(false),
        _ => Err(bad(name, text, "1 or 0")),
    }
}

fn bad(name: &str, text: &str, expected: &str) -> Error {
    Error::Choice { what: format!("{name} is '{text}'"), advice: format!("Set it to {expected}, or unset it") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Config> {
        Config::from_variables(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn the_environment_sets_what_it_names_and_nothing_else() {
        let config =
            with(&[("RINGTREE_TIMEOUT", "0.5"), ("RINGTREE_CHUNK", "32K"), ("RINGTREE_REPRODUCIBLE", "1")]).unwrap();
        assert_eq!(config.timeout, Duration::from_millis(500));
        assert_eq!(config.chunk_bytes, Some(32 << 10));
        assert!(config.reproducible);
        assert_eq!(config.init_timeout, Config::default().init_timeout);
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused_by_name() {
        for (name, text) in [
            ("RINGTREE_TIMEOUT", "soon"),
            ("RINGTREE_TIMEOUT", "-1"),
            ("RINGTREE_CHUNK", "99999G"),
            ("RINGTREE_CHUNK", "257K"),
            ("RINGTREE_CHUNK", "0"),
            ("RINGTREE_REPRODUCIBLE", "maybe"),
            ("RINGTREE_DOMAINS", "4,none"),
            ("RINGTREE_FETCH", "always"),
            ("RINGTREE_PROTECTION", "none"),
        ] {
            let message = with(&[(name, text)]).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(text), "{message}");
        }
        assert!(with(&[("RINGTREE_ALGORITHM", "magic")]).unwrap_err().to_string().contains("Choose one of"));
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(parse_bytes("8"), Some(8));
        assert_eq!(parse_bytes("64K"), Some(65536));
        assert_eq!(parse_bytes("1.5M"), Some(3 << 19));
        assert_eq!(parse_bytes("2GiB"), Some(2 << 30));
        assert_eq!(parse_bytes("x"), None);
        assert_eq!(parse_bytes(""), None);
        assert_eq!(parse_bytes("-1"), None);
    }
}
