//! Whether ranks copy straight from each other's private memory.

use super::parse_bytes;
use crate::error::{Error, Result};

/// When ranks copy what they need straight from each other's private memory (process_vm_readv), in place of through slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fetch {
    /// Where it is allowed and faster: ranks share processors.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Where a rank sends at least so many bytes, to one rank or to all together, and it is allowed.
    From(u64),
}

impl std::str::FromStr for Fetch {
    type Err = Error;

    fn from_str(text: &str) -> Result<Fetch> {
        match text.trim() {
            "auto" => Ok(Fetch::Auto),
            "off" | "0" => Ok(Fetch::Off),
            bytes => parse_bytes(bytes).map(|bytes| Fetch::From(bytes as u64)).ok_or_else(|| Error::Choice {
                what: format!("RINGTREE_FETCH is '{text}'"),
                advice: "Set it to auto, off, or a number of bytes, as 256K".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_or_a_number_of_bytes() {
        assert_eq!("auto".parse::<Fetch>().unwrap(), Fetch::Auto);
        assert_eq!("off".parse::<Fetch>().unwrap(), Fetch::Off);
        assert_eq!("256K".parse::<Fetch>().unwrap(), Fetch::From(256 << 10));
        let refused = "always".parse::<Fetch>().unwrap_err().to_string();
        assert!(refused.contains("'always'") && refused.contains("auto, off"), "{refused}");
    }
}
