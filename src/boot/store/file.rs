//! A store in a directory that all ranks see: one file a key, put there whole by renaming, readable by its owner alone. What another user
//! put there, or could have changed, is refused.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{MAX_VALUE, Store, absent, check};
use crate::boot::host::random;
use crate::boot::id::hex;
use crate::boot::wire::derive;
use crate::{Error, Result};

/// A directory of a shared (or local) file system as a store.
#[derive(Clone, Debug)]
pub struct FileStore {
    directory: PathBuf,
}

impl FileStore {
    /// The store in that directory, which is made if it is not there.
    pub fn open(directory: impl AsRef<Path>) -> Result<FileStore> {
        let directory = directory.as_ref().to_path_buf();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|error| failed("making the directory", &directory, &error))?;
        Ok(FileStore { directory })
    }

    /// A name of its own for every key, whatever characters the key has.
    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(format!("ringtree-{}", hex(&derive(b"ringtree file store", &[key.as_bytes()])[..20])))
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            // A network file system may forget a file that was just replaced.
            Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESTALE) => {
                return Ok(None);
            }
            Err(error) => return Err(failed("opening", path, &error)),
        };
        require_private(&file, path)?;
        let mut value = Vec::new();
        file.take(MAX_VALUE as u64 + 1).read_to_end(&mut value).map_err(|error| failed("reading", path, &error))?;
        if value.len() > MAX_VALUE {
            let what = format!("{} is longer than {MAX_VALUE} bytes", path.display());
            return Err(Error::start(what, "Something else than ringtree wrote it; remove it"));
        }
        Ok(Some(value))
    }
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    Error::from_errno(format!("{what} {}", path.display()), errno, "Choose a directory that this user may write to")
}

/// Only a regular file of this user that nobody else can read or write.
pub(crate) fn require_private(file: &File, path: &Path) -> Result<()> {
    let about = file.metadata().map_err(|error| failed("looking at", path, &error))?;
    let user = nix::unistd::geteuid().as_raw();
    if about.is_file() && about.uid() == user && about.mode() & 0o077 == 0 {
        return Ok(());
    }
    let (owner, mode) = (about.uid(), about.mode() & 0o7777);
    Err(Error::start(
        format!(
            "{} is not a private file of user {user} (owner {owner}, mode {mode:04o}): somebody else could know or change it",
            path.display()
        ),
        "Remove it, or give it to this user with mode 0600",
    ))
}

impl Store for FileStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        check(key, value)?;
        let path = self.path(key);
        let draft = path.with_extension(hex(&random::<8>()?));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(value))
            .and_then(|()| std::fs::rename(&draft, &path));
        written.map_err(|error| {
            let _ = std::fs::remove_file(&draft);
            failed("writing", &path, &error)
        })
    }

    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        check(key, &[])?;
        let (path, deadline) = (self.path(key), Instant::now() + timeout);
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(value) = self.read(&path)? {
                return Ok(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(absent(&format!("the directory {}", self.directory.display()), key, timeout));
            }
            // Nothing tells of a new file on a network file system: one has to look.
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    fn delete(&self, key: &str) -> Result<bool> {
        check(key, &[])?;
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("removing", &path, &error)),
        }
    }
}
