//! What this process uses, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Bytes of memory of this process.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Everything, its share of what several processes have included.
    pub share: i64,
    /// What it has alone.
    pub private: i64,
    /// Without the pages of programs and libraries: what it has allocated, and its share of shared memory.
    pub data: i64,
}

impl Memory {
    /// Now.
    pub fn now() -> Memory {
        let text = fs::read_to_string("/proc/self/smaps_rollup").expect("the kernel counts (Linux 4.14)");
        let sum = |names: &[&str]| {
            let value = |name: &&str| {
                let line = text.lines().find(|line| line.starts_with(&format!("{name}:")));
                let word = line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_else(|| panic!("{name}"));
                word.parse::<i64>().expect("a number") << 10
            };
            names.iter().map(value).sum()
        };
        Memory {
            share: sum(&["Pss"]),
            private: sum(&["Private_Clean", "Private_Dirty"]),
            data: sum(&["Pss_Anon", "Pss_Shmem"]),
        }
    }

    /// What has come since.
    pub fn since(self, before: Memory) -> Memory {
        Memory {
            share: self.share - before.share,
            private: self.private - before.private,
            data: self.data - before.data,
        }
    }
}

/// Bytes that the segments which this process has open occupy, whoever touched them first.
pub fn segments() -> i64 {
    let mut blocks = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").expect("open files") {
        let path = entry.expect("an entry").path();
        let name = fs::read_link(&path).unwrap_or_default();
        if name.to_string_lossy().starts_with("/memfd:ringtree")
            && let Ok(file) = fs::metadata(&path)
        {
            blocks.insert(file.ino(), file.blocks() as i64 * 512);
        }
    }
    blocks.values().sum()
}
