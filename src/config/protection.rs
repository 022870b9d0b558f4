//! How the bytes of data connections are protected.

use crate::error::{Error, Result};

/// What is done to messages between ranks that talk over a network, or over sockets for another reason. Ranks must agree on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// Nothing: the network is trusted, and TCP's own checksum is all there is.
    #[default]
    Plain,
    /// Every message carries a checksum, and what was changed by accident is an error that says where.
    Checksum,
    /// Everything is encrypted and authenticated with keys that follow from the job's secret. RDMA is not used.
    Encrypted,
}

impl Protection {
    /// All of them.
    pub const ALL: [Protection; 3] = [Protection::Plain, Protection::Checksum, Protection::Encrypted];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Protection::Plain => "plain",
            Protection::Checksum => "checksum",
            Protection::Encrypted => "encrypted",
        }
    }
}

impl std::str::FromStr for Protection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Protection> {
        Protection::ALL.into_iter().find(|protection| protection.name() == text.trim()).ok_or_else(|| Error::Choice {
            what: format!("RINGTREE_PROTECTION is '{text}'"),
            advice: format!("Set it to one of {}", Protection::ALL.map(Protection::name).join(", ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_read_by_its_name_and_nothing_else_is() {
        for level in Protection::ALL {
            assert_eq!(level.name().parse::<Protection>().unwrap(), level);
        }
        let refused = "tls".parse::<Protection>().unwrap_err().to_string();
        assert!(
            refused.contains("RINGTREE_PROTECTION is 'tls'") && refused.contains("checksum, encrypted"),
            "{refused}"
        );
    }
}
