//! What the memory limit of the control group still leaves: shared memory that goes beyond it ends in the kernel's killer, without an error
//! that anybody could see.

use super::cgroup::{memory, memory_levels};
use super::read::Tree;
use std::os::unix::fs::MetadataExt;

/// Memory that may still be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The limit, in bytes.
    pub limit: u64,
    /// What it leaves: pages of files that could be dropped count as free.
    pub left: u64,
    /// Where the limit is set.
    pub folder: String,
    /// A number of the group that is the same in all processes that see it.
    pub group: u64,
}

/// The level with the least room.
pub(super) fn read_room(tree: &mut Tree) -> Option<Room> {
    let levels = memory_levels(tree).into_iter().filter_map(|(folder, version2)| room_at(tree, folder, version2));
    levels.min_by_key(|room| room.left)
}

fn room_at(tree: &Tree, folder: String, version2: bool) -> Option<Room> {
    let (limit, usage, prefix) = match version2 {
        true => ("memory.max", "memory.current", ""),
        false => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    };
    let number = |file: &str| memory(tree.peek(&format!("{folder}/{file}"))?.trim());
    let (limit, used) = (number(limit)?, number(usage)?);
    let stat = tree.peek(&format!("{folder}/memory.stat")).unwrap_or_default();
    let cached = |name: &str| {
        let value = stat.lines().find_map(|line| line.strip_prefix(prefix)?.strip_prefix(name));
        value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let droppable = cached("inactive_file ").saturating_add(cached("active_file "));
    let left = limit.saturating_sub(used.saturating_sub(droppable));
    let group = std::fs::metadata(tree.path(&folder)).map_or(0, |folder| folder.ino() ^ folder.dev().rotate_left(32));
    Some(Room { limit, left, folder, group })
}

#[cfg(test)]
mod tests {
    use super::super::tests::Fake;

    #[test]
    fn the_level_with_the_least_room_counts_and_cached_files_are_room() {
        let fake = Fake::new("room2");
        fake.file("proc/self/cgroup", "0::/job/step\n")
            .file("proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
            .file("sys/fs/cgroup/job/memory.max", "1000000\n")
            .file("sys/fs/cgroup/job/memory.current", "900000\n")
            .file("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 150000\nactive_file 50000\n")
            .file("sys/fs/cgroup/job/step/memory.max", "700000\n")
            .file("sys/fs/cgroup/job/step/memory.current", "100000\n");
        let room = fake.room().unwrap();
        assert_eq!((room.limit, room.left, room.folder.as_str()), (1_000_000, 300_000, "/sys/fs/cgroup/job"));
    }

    #[test]
    fn version_1_is_read_and_no_limit_is_no_room_to_speak_of() {
        let fake = Fake::new("room1");
        fake.file("proc/self/cgroup", "4:memory:/job\n")
            .file("proc/self/mountinfo", "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")
            .file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
            .file("sys/fs/cgroup/memory/memory.usage_in_bytes", "5\n");
        assert_eq!(fake.room(), None);
        fake.file("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "4096\n")
            .file("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "5000\n")
            .file("sys/fs/cgroup/memory/job/memory.stat", "inactive_file 7\ntotal_inactive_file 1000\n");
        assert_eq!(fake.room().map(|room| room.left), Some(96));
    }
}
