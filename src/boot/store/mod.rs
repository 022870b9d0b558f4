//! Stores: places where one rank leaves a few bytes under a name and others find them. The ones here, and those of a launcher, carry the
//! unique id from rank 0 to the rest.

use std::time::Duration;

use super::id::UniqueId;
use crate::{Error, Result};

mod file;
mod memory;
mod tcp;
mod torch;

pub use file::FileStore;
pub(crate) use file::require_private;
pub use memory::MemoryStore;
pub(in crate::boot) use tcp::reads_request;
pub use tcp::{StoreServer, TcpStore};
pub use torch::TorchStore;

/// The longest key.
pub const MAX_KEY: usize = 1024;
/// The longest value.
pub const MAX_VALUE: usize = 64 * 1024;

/// Names and what lies under them, for all ranks of a job.
pub trait Store: Send + Sync {
    /// Puts a value under a key; an older one is replaced.
    fn set(&self, key: &str, value: &[u8]) -> Result<()>;

    /// The value under a key, waiting up to `timeout` for somebody to put it there.
    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>>;

    /// Takes away what is under a key; whether there was something.
    fn delete(&self, key: &str) -> Result<bool>;
}

/// Leaves a unique id in a store under `prefix`, for [`fetch_id`].
pub fn publish_id(store: &dyn Store, prefix: &str, id: &UniqueId) -> Result<()> {
    store.set(&key(prefix), id.to_hex().as_bytes())
}

/// The unique id that rank 0 left under `prefix`, waiting up to `timeout` for it.
pub fn fetch_id(store: &dyn Store, prefix: &str, timeout: Duration) -> Result<UniqueId> {
    let value = store.get(&key(prefix), timeout).map_err(|error| match error {
        // Who else has not come, only rank 0 could know.
        Error::Start { what, advice, .. } => Error::Start { what, missing: vec![0], advice },
        other => other,
    })?;
    let text = std::str::from_utf8(&value).unwrap_or_default();
    UniqueId::from_hex(text)
}

fn key(prefix: &str) -> String {
    format!("{prefix}/unique_id")
}

/// Keys and values within the bounds that every store keeps.
fn check(key: &str, value: &[u8]) -> Result<()> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(Error::misuse(
            format!("a key of {} bytes in a store", key.len()),
            format!("Keys have 1 to {MAX_KEY} bytes"),
        ));
    }
    if value.len() > MAX_VALUE {
        return Err(Error::misuse(
            format!("a value of {} bytes in a store", value.len()),
            format!("Values have up to {MAX_VALUE} bytes"),
        ));
    }
    Ok(())
}

/// The error of a value that did not come.
fn absent(store: &str, key: &str, timeout: Duration) -> Error {
    Error::start(
        format!("nothing came under '{key}' in {store} within {} s", timeout.as_secs_f64()),
        "Rank 0 puts the unique id there: look whether it was started, or allow more time with RINGTREE_INIT_TIMEOUT (seconds)",
    )
}

#[cfg(test)]
pub(crate) mod tests;
