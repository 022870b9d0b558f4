//! The unique id: 128 bytes that let whoever has them join one job.
//!
//! ```text
//!    0  magic and version   8
//!    8  secret             32    random; what every connection proves to know
//!   40  host               16    the mark of the host that serves the rendezvous
//!   56  Unix name          16    of its abstract socket there
//!   72  TCP address        19    kind, address, port
//!   91  job                 8    random; names the job in messages
//!   99  zero               13
//!  112  checksum           16    of all before
//! ```

use std::fmt;
use std::sync::Arc;

use super::config::{BootConfig, JobSecret};
use super::host::{listen_here, random};
use super::hub::Hub;
use super::message::{Endpoint, Reader, Writer};
use super::wire::{Secret, derive};
use crate::{Error, Result};

const BYTES: usize = 128;
const MAGIC: [u8; 8] = *b"ringtid1";
const CHECKED: usize = 112;
const USED: usize = 99;

/// What the ranks of a job share to find and to trust each other. Whoever has it can join: hand it out by a channel that only the job can read.
#[derive(Clone, PartialEq, Eq)]
pub struct UniqueId {
    bytes: [u8; BYTES],
    secret: Secret,
    root: Endpoint,
}

impl UniqueId {
    /// A new id, with the configuration of the environment. From now on this process serves one rendezvous from a background thread, which
    /// ends when the ranks have met and said good-bye, when the start fails, or when they have not come by the deadline.
    pub fn new() -> Result<UniqueId> {
        UniqueId::with_config(&BootConfig::from_env()?)
    }

    /// A new id, served as `config` says.
    pub fn with_config(config: &BootConfig) -> Result<UniqueId> {
        let (root, listeners) = listen_here(config)?;
        let id = UniqueId::assemble(random()?, root, random()?);
        Hub::start_root(&id.secret, listeners, config.timeout)?;
        Ok(id)
    }

    /// A new id that is served as long as somebody holds what comes with it, or all ranks have come.
    pub(crate) fn while_wanted(config: &BootConfig) -> Result<(UniqueId, Arc<()>)> {
        let (root, listeners) = listen_here(config)?;
        let id = UniqueId::assemble(random()?, root, random()?);
        let wanted = Arc::new(());
        Hub::start_root_while(&wanted, &id.secret, listeners, config.timeout)?;
        Ok((id, wanted))
    }

    /// A new id, and what may be shown of it on the way to ranks that know the job's secret: there the id's own secret is replaced by a random
    /// word, and the secret follows from both. Without a job's secret the whole id is shown.
    pub(crate) fn veiled(config: &BootConfig) -> Result<(UniqueId, UniqueId)> {
        let Some(secret) = &config.secret else {
            let id = UniqueId::with_config(config)?;
            return Ok((id.clone(), id));
        };
        let (root, listeners) = listen_here(config)?;
        let shown = UniqueId::assemble(random()?, root, random()?);
        let id = shown.unveil(secret);
        Hub::start_root(&id.secret, listeners, config.timeout)?;
        Ok((id, shown))
    }

    /// The id that was shown, if the job has a secret.
    pub(crate) fn unveiled(self, config: &BootConfig) -> UniqueId {
        match &config.secret {
            Some(secret) => self.unveil(secret),
            None => self,
        }
    }

    fn unveil(&self, secret: &JobSecret) -> UniqueId {
        let mut job = [0; 8];
        job.copy_from_slice(&self.bytes[USED - 8..USED]);
        let own = derive(secret.bytes(), &[b"ringtree id from a job's secret", &self.secret, &job]);
        UniqueId::assemble(own, self.root, job)
    }

    fn assemble(secret: Secret, root: Endpoint, job: [u8; 8]) -> UniqueId {
        let mut out = Writer(Vec::with_capacity(BYTES));
        out.fixed(&MAGIC).fixed(&secret).endpoint(&root).fixed(&job);
        debug_assert_eq!(out.0.len(), USED);
        out.0.resize(CHECKED, 0);
        let sum = checksum(&out.0);
        out.fixed(&sum);
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(&out.0);
        UniqueId { bytes, secret, root }
    }

    /// The id as it travels.
    pub fn as_bytes(&self) -> &[u8; BYTES] {
        &self.bytes
    }

    /// The id that these bytes are, if they are one.
    pub fn from_bytes(bytes: &[u8; BYTES]) -> Result<UniqueId> {
        let bad = |what: &str| Error::misuse(format!("these 128 bytes are no unique id: {what}"), ADVICE);
        if bytes[..7] != MAGIC[..7] {
            return Err(bad("they do not begin as one"));
        }
        if bytes[7] != MAGIC[7] {
            return Err(bad("another version of the library made them"));
        }
        if checksum(&bytes[..CHECKED]) != bytes[CHECKED..] {
            return Err(bad("the checksum is wrong, something was changed on the way"));
        }
        let mut from = Reader(&bytes[8..USED]);
        let parts = (|| Some((from.fixed()?, from.endpoint()?, from.fixed::<8>()?)))();
        let (secret, root, _) = parts.ok_or_else(|| bad("the address in them is none"))?;
        Ok(UniqueId { bytes: *bytes, secret, root })
    }

    /// The id as 256 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex(&self.bytes)
    }

    /// The id that these 256 hexadecimal digits are.
    pub fn from_hex(text: &str) -> Result<UniqueId> {
        let digits = text.trim().as_bytes();
        let bad = || Error::misuse("a unique id in text is 256 hexadecimal digits, this is not".to_string(), ADVICE);
        if digits.len() != 2 * BYTES {
            return Err(bad());
        }
        let mut bytes = [0; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| (d as char).to_digit(16).map(|d| d as u8);
            *byte = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high << 4 | low).ok_or_else(bad)?;
        }
        UniqueId::from_bytes(&bytes)
    }

    /// A name of the job for messages and logs, without a secret in it.
    pub fn job(&self) -> String {
        hex(&self.bytes[USED - 8..USED])
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(crate) fn root(&self) -> &Endpoint {
        &self.root
    }
}

const ADVICE: &str = "Hand the id out as `UniqueId::as_bytes` or `to_hex` gives it, from one rank to all others";

impl fmt::Debug for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UniqueId").field("job", &self.job()).field("tcp", &self.root.tcp).finish_non_exhaustive()
    }
}

fn checksum(bytes: &[u8]) -> [u8; 16] {
    let mut sum = [0; 16];
    sum.copy_from_slice(&derive(b"ringtree unique id", &[bytes])[..16]);
    sum
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
impl UniqueId {
    /// As a process of another host sees it: only TCP leads there.
    pub(crate) fn on_another_host(&mut self) {
        self.root.host = [0; 16];
    }

    pub(crate) fn move_root_to(&mut self, tcp: std::net::SocketAddr) {
        self.root.tcp = Some(tcp);
    }

    pub(crate) fn with_another_secret(&self) -> UniqueId {
        UniqueId::assemble([9; 32], self.root, [6; 8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> UniqueId {
        let root = Endpoint { host: [3; 16], unix: [4; 16], tcp: Some("[2001:db8::5]:99".parse().unwrap()) };
        UniqueId::assemble([0xa5; 32], root, [6; 8])
    }

    #[test]
    fn an_id_comes_back_from_its_bytes_and_its_hex() {
        let id = sample();
        assert_eq!(UniqueId::from_bytes(id.as_bytes()).unwrap(), id);
        assert_eq!(UniqueId::from_hex(&id.to_hex()).unwrap(), id);
        assert_eq!(UniqueId::from_hex(&format!(" {}\n", id.to_hex().to_uppercase())).unwrap(), id);
        assert_eq!(UniqueId::from_bytes(id.as_bytes()).unwrap().root, id.root);
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        for at in 0..BYTES {
            let mut bytes = *sample().as_bytes();
            bytes[at] ^= 0x10;
            assert!(UniqueId::from_bytes(&bytes).is_err(), "byte {at}");
        }
        assert!(UniqueId::from_hex("00").is_err());
        assert!(UniqueId::from_hex(&"é".repeat(128)).is_err());
        assert!(UniqueId::from_hex(&sample().to_hex().replace('a', "g")).is_err());
    }

    #[test]
    fn debug_never_prints_the_secret() {
        let text = format!("{:?} {:#?}", sample(), sample()).to_lowercase();
        assert!(!text.contains("a5a5") && !text.contains("165"), "{text}");
        assert!(text.contains("0606060606060606"), "{text}");
    }

    #[test]
    fn two_ids_share_no_secret_and_no_address() {
        let config =
            BootConfig { one_host: true, timeout: std::time::Duration::from_millis(1), ..BootConfig::default() };
        let (a, b) = (UniqueId::with_config(&config).unwrap(), UniqueId::with_config(&config).unwrap());
        assert_ne!(a.secret, b.secret);
        assert_ne!(a.root.unix, b.root.unix);
        assert_ne!(a.job(), b.job());
    }
}
