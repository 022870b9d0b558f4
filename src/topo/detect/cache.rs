//! The size of the last-level cache alone: what every communicator asks at its start, without a look at the whole machine.

use super::read::Tree;
use std::path::Path;

/// Cache directories of a processor that are looked at; real machines have four or five.
const MOST_CACHES: usize = 16;

/// Bytes of the last-level cache of the first processor that can be seen below that root.
pub fn last_level_cache(root: &Path) -> Option<u64> {
    let tree = Tree::at(root);
    let caches = "sys/devices/system/cpu/cpu0/cache";
    let indexes = tree.names(caches).into_iter().filter(|name| name.starts_with("index")).take(MOST_CACHES);
    let read = |index: String, name: &str| tree.peek(&format!("{caches}/{index}/{name}"));
    let cache = |index: String| {
        let level: u8 = read(index.clone(), "level")?.trim().parse().ok()?;
        Some((level, parse_size(read(index, "size")?.trim())?))
    };
    indexes.filter_map(cache).max().map(|(_, bytes)| bytes)
}

/// `16384K` in bytes.
fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Fake;
    use super::*;

    #[test]
    fn the_highest_level_counts_and_nonsense_is_no_cache() {
        let fake = Fake::new("last-level");
        assert_eq!(fake.last_level_cache(), None);
        assert_eq!(fake.processors().last_level_cache(), Some(32 << 20));
        let dir = "sys/devices/system/cpu/cpu0/cache";
        fake.file(&format!("{dir}/index0/size"), "32K\n");
        assert_eq!(fake.last_level_cache(), Some(32 << 20));
        fake.file(&format!("{dir}/index3/size"), "many\n");
        assert_eq!(fake.last_level_cache(), Some(32 << 10));
    }

    #[test]
    fn sizes_with_and_without_a_unit() {
        assert_eq!(parse_size("512K"), Some(512 << 10));
        assert_eq!(parse_size("32M"), Some(32 << 20));
        assert_eq!(parse_size("100"), Some(100));
        assert_eq!(parse_size("0K"), None);
        assert_eq!(parse_size(""), None);
        assert_eq!(parse_size("K"), None);
    }
}
