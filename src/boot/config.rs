//! How long a start may take and where its sockets listen.

use std::fmt;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use super::interfaces::{Family, Names};
use super::store::require_private;
use crate::transport::tcp::MOST_STREAMS;
use crate::{Error, Result};

/// How the ranks of a job look for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootConfig {
    /// How long the start, and each step of it, may take: `RINGTREE_INIT_TIMEOUT` in seconds, 120 s if it is not set.
    pub timeout: Duration,
    /// The address to listen on: `RINGTREE_ADDRESS` as `address` or `address:port`. Without it the one is taken that
    /// [`BootConfig::one_host`] and the default route suggest.
    pub address: Option<SocketAddr>,
    /// The interfaces to use, by name: `RINGTREE_INTERFACE`, or `NCCL_SOCKET_IFNAME`. Without it all that lead out of this host.
    pub interfaces: Option<Names>,
    /// The only addresses to use: `RINGTREE_FAMILY` (ipv4, ipv6), or `NCCL_SOCKET_FAMILY` (AF_INET, AF_INET6).
    pub family: Option<Family>,
    /// At least so many sockets for long messages between two ranks: `RINGTREE_SOCKETS`. Without it one for each network that they share.
    pub sockets: Option<u8>,
    /// The RDMA devices, or their ports, to use, by name: `RINGTREE_HCA`, or `NCCL_IB_HCA`, as `mlx5`, `=mlx5_0:1` or `^mlx5_3`.
    pub devices: Option<Names>,
    /// The entry of a RoCE port's table of addresses to use: `RINGTREE_GID_INDEX`, or `NCCL_IB_GID_INDEX`.
    pub gid_index: Option<u8>,
    /// Whether RDMA is used where there is any: `RINGTREE_RDMA`; `NCCL_IB_DISABLE=1` switches it off.
    pub rdma: bool,
    /// The job is known to be on one host: nothing listens where another host could reach it.
    pub one_host: bool,
    /// What all ranks know beforehand: `RINGTREE_SECRET`, or the content of the file that `RINGTREE_SECRET_FILE` names and only its owner can
    /// read. Needed where the unique id itself is handed out over a network.
    pub secret: Option<JobSecret>,
}

/// A secret that the ranks of a job were given when they were started. Debug never prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct JobSecret(Vec<u8>);

impl JobSecret {
    /// These bytes as the secret.
    pub fn new(bytes: impl Into<Vec<u8>>) -> JobSecret {
        JobSecret(bytes.into())
    }

    /// The content of a file that belongs to this user and nobody else can read, without the white space at its ends.
    pub fn from_file(path: &Path) -> Result<JobSecret> {
        let failed = |error: std::io::Error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            Error::from_errno(
                format!("reading RINGTREE_SECRET_FILE '{}'", path.display()),
                errno,
                "Name a file of this user with mode 0600",
            )
        };
        let options = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = options.map_err(failed)?;
        require_private(&file, path)?;
        let mut bytes = Vec::new();
        file.take(MAX_SECRET).read_to_end(&mut bytes).map_err(failed)?;
        JobSecret::not_empty(bytes.trim_ascii(), "RINGTREE_SECRET_FILE")
    }

    fn not_empty(bytes: &[u8], variable: &str) -> Result<JobSecret> {
        if bytes.is_empty() {
            return Err(Error::misuse(
                format!("{variable} holds an empty secret"),
                "Put at least 16 random characters there",
            ));
        }
        Ok(JobSecret::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for JobSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobSecret(…)")
    }
}

/// The most bytes of a secret that count.
const MAX_SECRET: u64 = 4096;

impl Default for BootConfig {
    fn default() -> BootConfig {
        BootConfig {
            timeout: Duration::from_secs(120),
            address: None,
            interfaces: None,
            family: None,
            sockets: None,
            devices: None,
            gid_index: None,
            rdma: true,
            one_host: false,
            secret: None,
        }
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
        config.interfaces = first_of(
            env,
            ["RINGTREE_INTERFACE", "NCCL_SOCKET_IFNAME"],
            Names::parse,
            "names, as eth0,eth1, =eth0 or ^docker",
        )?;
        config.family = first_of(env, ["RINGTREE_FAMILY", "NCCL_SOCKET_FAMILY"], Family::parse, "ipv4 or ipv6")?;
        let streams = |text: &str| text.trim().parse().ok().filter(|streams| (1..=MOST_STREAMS).contains(streams));
        config.sockets = first_of(env, ["RINGTREE_SOCKETS"], streams, "a number from 1 to 16")?;
        let names = ["RINGTREE_HCA", "NCCL_IB_HCA"];
        config.devices = first_of(env, names, Names::parse, "names, as mlx5_0,mlx5_1:1, =mlx5_0 or ^mlx5_3")?;
        // NCCL's -1 leaves the choice to the library.
        let index = |text: &str| match text.trim() {
            "-1" => Some(None),
            number => number.parse().ok().map(Some),
        };
        let names = ["RINGTREE_GID_INDEX", "NCCL_IB_GID_INDEX"];
        config.gid_index = first_of(env, names, index, "a number from 0 to 255")?.flatten();
        let switch = |text: &str| match text.trim() {
            "1" | "true" | "yes" | "on" => Some(true),
            "0" | "false" | "no" | "off" => Some(false),
            _ => None,
        };
        let disabled = first_of(env, ["NCCL_IB_DISABLE"], switch, "1 or 0")?;
        let wanted = first_of(env, ["RINGTREE_RDMA"], switch, "on or off")?;
        config.rdma = wanted.unwrap_or(disabled != Some(true));
        config.secret = match (env("RINGTREE_SECRET"), env("RINGTREE_SECRET_FILE")) {
            (Some(_), Some(_)) => {
                return Err(Error::misuse(
                    "both RINGTREE_SECRET and RINGTREE_SECRET_FILE are set",
                    "Set one of them, the same on all ranks",
                ));
            }
            (Some(text), None) => Some(JobSecret::not_empty(text.trim().as_bytes(), "RINGTREE_SECRET")?),
            (None, Some(path)) => Some(JobSecret::from_file(Path::new(&path))?),
            (None, None) => None,
        };
        Ok(config)
    }
}

/// The first of these variables that is set and not empty.
fn first_of<T, const N: usize>(
    env: &dyn Fn(&str) -> Option<String>,
    names: [&str; N],
    parse: impl Fn(&str) -> Option<T>,
    expected: &str,
) -> Result<Option<T>> {
    let set = { names }.into_iter().find_map(|name| Some((name, env(name).filter(|text| !text.trim().is_empty())?)));
    let Some((name, text)) = set else { return Ok(None) };
    let nonsense = || Error::misuse(format!("{name} is '{text}'"), format!("Set it to {expected}, or unset it"));
    parse(&text).ok_or_else(nonsense).map(Some)
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
        let config = read(&[("NCCL_SOCKET_IFNAME", "^docker,lo"), ("NCCL_SOCKET_FAMILY", "AF_INET6")]).unwrap();
        assert_eq!((config.interfaces, config.family), (Names::parse("^docker,lo"), Some(Family::V6)));
        let both = read(&[("NCCL_SOCKET_IFNAME", "ib"), ("RINGTREE_INTERFACE", "eth"), ("RINGTREE_FAMILY", "")]);
        assert_eq!(both.unwrap().interfaces, Names::parse("eth"));
    }

    #[test]
    fn a_secret_comes_from_a_variable_or_from_a_private_file_only() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("ringtree-secret-{}", std::process::id()));
        let name = path.to_str().unwrap();
        std::fs::write(&path, "hush hush\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let message = read(&[("RINGTREE_SECRET_FILE", name)]).unwrap_err().to_string();
        assert!(message.contains("is not a private file") && message.contains("0640"), "{message}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let secret = read(&[("RINGTREE_SECRET_FILE", name)]).unwrap().secret.unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(secret.bytes(), b"hush hush");
        assert!(!format!("{secret:?}").contains("hush"));
        assert_eq!(read(&[("RINGTREE_SECRET", "hush hush")]).unwrap().secret.unwrap(), secret);
        for bad in [&[("RINGTREE_SECRET", "  ")][..], &[("RINGTREE_SECRET", "a"), ("RINGTREE_SECRET_FILE", name)]] {
            assert!(matches!(read(bad), Err(Error::Misuse { .. })));
        }
        assert!(matches!(read(&[("RINGTREE_SECRET_FILE", name)]), Err(Error::System { .. })));
    }

    #[test]
    fn what_is_no_time_and_no_address_is_an_error_that_names_the_variable() {
        for (name, value) in [
            ("RINGTREE_INIT_TIMEOUT", "soon"),
            ("RINGTREE_INIT_TIMEOUT", "-1"),
            ("RINGTREE_INIT_TIMEOUT", "inf"),
            ("RINGTREE_INIT_TIMEOUT", "0"),
            ("RINGTREE_ADDRESS", "eth0"),
            ("RINGTREE_INTERFACE", "eth0,,"),
            ("NCCL_SOCKET_IFNAME", "eth 0"),
            ("RINGTREE_FAMILY", "AF_UNIX"),
            ("RINGTREE_SOCKETS", "17"),
            ("RINGTREE_HCA", "mlx5 0"),
            ("NCCL_IB_GID_INDEX", "256"),
            ("RINGTREE_RDMA", "perhaps"),
        ] {
            let message = read(&[(name, value)]).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(value), "{message}");
        }
    }
}
