//! Bounded reading of small files below a root, and the list of what was not there.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// No file of sysfs or procfs that we read is longer on a sane machine; the rest is cut off.
const MAX_BYTES: u64 = 4 << 20;
/// Directories with more entries are read up to here.
const MAX_ENTRIES: usize = 100_000;

/// Something that could not be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// What: a path, or what it would have told.
    pub what: String,
    /// Why.
    pub why: String,
}

/// A tree of files laid out like a machine's, and what was missed in it.
pub(super) struct Tree {
    root: PathBuf,
    pub(super) unseen: Vec<Unseen>,
}

impl Tree {
    pub(super) fn at(root: &Path) -> Tree {
        Tree { root: root.to_path_buf(), unseen: Vec::new() }
    }

    /// Whether this is the machine itself: only then do system calls tell about it.
    pub(super) fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    /// A path below the root; an absolute one is taken as relative to it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Where a path really leads, below the root; nothing when it leads nowhere, or out of the tree.
    pub(super) fn real(&self, path: &str) -> Option<String> {
        let (root, real) = (self.root.canonicalize().ok()?, self.path(path).canonicalize().ok()?);
        Some(real.strip_prefix(root).ok()?.to_string_lossy().into_owned())
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A file that may well be missing: nothing is noted.
    pub(super) fn peek(&self, path: &str) -> Option<String> {
        self.load(path).ok()
    }

    /// A file that should be there; if not, that is noted.
    pub(super) fn text(&mut self, path: &str) -> Option<String> {
        let loaded = self.load(path);
        loaded.map_err(|error| self.miss(path, reason(&error))).ok()
    }

    /// A file that should be there and make sense to `parse`; if not, that is noted.
    pub(super) fn parsed<T>(&mut self, path: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(path)?;
        let value = parse(text.trim());
        if value.is_none() {
            let start: String = text.trim().chars().take(40).collect();
            self.miss(path, format!("it makes no sense: '{}'", start.escape_default()));
        }
        value
    }

    /// The names in a directory, sorted; none when it is not there.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else { return Vec::new() };
        let names = entries.take(MAX_ENTRIES).flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    pub(super) fn miss(&mut self, what: &str, why: impl Into<String>) {
        self.unseen.push(Unseen { what: what.to_string(), why: why.into() });
    }

    fn load(&self, path: &str) -> std::io::Result<String> {
        let mut bytes = Vec::new();
        File::open(self.path(path))?.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "it is not there".to_string(),
        ErrorKind::PermissionDenied => "this user may not read it".to_string(),
        _ => error.to_string(),
    }
}
