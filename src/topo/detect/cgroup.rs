//! Processor quota and memory limit of this process's control group.
//!
//! `/proc/self/cgroup` says which groups the process is in, `/proc/self/mountinfo` where each hierarchy is mounted. A limit holds for
//! everything below it, so the lowest of all levels counts. In a container the path often lies outside what is mounted: then the mount
//! point itself is the container's own group.

use super::read::Tree;

/// Levels of nesting that are looked at.
const MAX_DEPTH: usize = 64;
/// Version 1 writes "no limit" as a number near 2^63, rounded down to a page.
const NO_LIMIT: u64 = 1 << 62;

/// How much processor time the control group grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Thousandths of one processor.
    pub milli_cpus: u64,
}

/// What the control groups limit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Grants {
    pub(super) quota: Option<Quota>,
    pub(super) memory: Option<u64>,
    /// The group's path, for signs of a container.
    pub(super) path: String,
}

/// One mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    root: String,
    point: String,
    version2: bool,
    /// Version 1: the controllers.
    options: String,
}

pub(super) fn read_grants(tree: &mut Tree) -> Grants {
    let Some(groups) = tree.text("proc/self/cgroup") else { return Grants::default() };
    let Some(mounts) = tree.text("proc/self/mountinfo") else { return Grants::default() };
    let mounts: Vec<Mount> = mounts.lines().filter_map(parse_mount).collect();
    let mut grants = Grants::default();
    for (controllers, path) in groups.lines().filter_map(parse_group) {
        if path.len() > grants.path.len() {
            grants.path = path.to_string();
        }
        let has = |name: &str| controllers.split(',').any(|controller| controller == name);
        let Some(mount) = mount_of(&mounts, controllers) else { continue };
        for dir in levels(tree, mount, path) {
            if mount.version2 {
                lower(&mut grants.quota, read(tree, &dir, "cpu.max", quota_v2));
                lower(&mut grants.memory, read(tree, &dir, "memory.max", memory));
            }
            if has("cpu") {
                lower(&mut grants.quota, quota_v1(tree, &dir));
            }
            if has("memory") {
                lower(&mut grants.memory, read(tree, &dir, "memory.limit_in_bytes", memory));
            }
        }
    }
    grants
}

/// The mounted hierarchy of these controllers; of none: version 2.
fn mount_of<'m>(mounts: &'m [Mount], controllers: &str) -> Option<&'m Mount> {
    mounts.iter().find(|mount| {
        let same = |name: &&str| mount.options.split(',').any(|option| option == *name);
        if controllers.is_empty() {
            mount.version2
        } else {
            !mount.version2 && controllers.split(',').any(|c| same(&c))
        }
    })
}

/// The directories that limit this process's memory, each with whether it is of version 2.
pub(super) fn memory_levels(tree: &Tree) -> Vec<(String, bool)> {
    let text = |path| tree.peek(path).unwrap_or_default();
    let (groups, mounts) = (text("proc/self/cgroup"), text("proc/self/mountinfo"));
    let mounts: Vec<Mount> = mounts.lines().filter_map(parse_mount).collect();
    let mut found = Vec::new();
    for (controllers, path) in groups.lines().filter_map(parse_group) {
        if !controllers.is_empty() && !controllers.split(',').any(|controller| controller == "memory") {
            continue;
        }
        if let Some(mount) = mount_of(&mounts, controllers) {
            found.extend(levels(tree, mount, path).into_iter().map(|dir| (dir, mount.version2)));
        }
    }
    found
}

impl PartialOrd for Quota {
    fn partial_cmp(&self, other: &Quota) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quota {
    fn cmp(&self, other: &Quota) -> std::cmp::Ordering {
        self.milli_cpus.cmp(&other.milli_cpus)
    }
}

fn lower<T: Ord + Copy>(kept: &mut Option<T>, seen: Option<T>) {
    *kept = match (*kept, seen) {
        (Some(kept), Some(seen)) => Some(kept.min(seen)),
        (kept, seen) => kept.or(seen),
    };
}

fn read<T>(tree: &Tree, dir: &str, file: &str, parse: fn(&str) -> Option<T>) -> Option<T> {
    tree.peek(&format!("{dir}/{file}")).and_then(|text| parse(text.trim()))
}

/// `4:memory:/jobs/17` as ("memory", "/jobs/17"); version 2 has no controllers.
fn parse_group(line: &str) -> Option<(&str, &str)> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    Some((controllers, path.trim_end()))
}

/// A line of mountinfo, if it is a control group hierarchy.
fn parse_mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?.to_string(), left.next()?.to_string());
    let mut right = right.split(' ');
    let kind = right.next()?;
    let options = right.nth(1).unwrap_or("").to_string();
    (kind == "cgroup" || kind == "cgroup2").then(|| Mount { root, point, version2: kind == "cgroup2", options })
}

/// The directories from the process's own group up to the mount point.
fn levels(tree: &Tree, mount: &Mount, path: &str) -> Vec<String> {
    let below = path.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or(path).trim_matches('/');
    let sane = !below.split('/').any(|part| part == ".." || part == ".");
    let mut dirs = vec![mount.point.clone()];
    if sane && !below.is_empty() && tree.exists(&format!("{}/{below}", mount.point)) {
        for part in below.split('/').take(MAX_DEPTH) {
            let parent = dirs.last().map_or("", |dir| dir.trim_end_matches('/'));
            dirs.push(format!("{parent}/{part}"));
        }
    }
    dirs
}

/// `250000 100000`: microseconds of every so many; `max 100000`: no limit.
fn quota_v2(text: &str) -> Option<Quota> {
    let (quota, period) = text.split_once(' ')?;
    quota_of(quota.parse().ok()?, period.trim().parse().ok()?)
}

fn quota_v1(tree: &Tree, dir: &str) -> Option<Quota> {
    // -1 is no limit, and no u64.
    let number = |text: &str| text.parse::<u64>().ok();
    quota_of(read(tree, dir, "cpu.cfs_quota_us", number)?, read(tree, dir, "cpu.cfs_period_us", number)?)
}

fn quota_of(quota: u64, period: u64) -> Option<Quota> {
    (quota > 0 && period > 0).then(|| Quota { milli_cpus: (quota.saturating_mul(1000) / period).max(1) })
}

pub(super) fn memory(text: &str) -> Option<u64> {
    text.parse().ok().filter(|&bytes| bytes < NO_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Fake;
    use super::*;

    #[test]
    fn the_lowest_level_of_version_2_counts() {
        let fake = Fake::new("cgroup2");
        fake.file("proc/self/cgroup", "0::/slurm/job_7/step_0\n")
            .file("proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n")
            .file("sys/fs/cgroup/cpu.max", "max 100000\n")
            .file("sys/fs/cgroup/slurm/job_7/cpu.max", "150000 100000\n")
            .file("sys/fs/cgroup/slurm/job_7/step_0/cpu.max", "400000 100000\n")
            .file("sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n")
            .file("sys/fs/cgroup/slurm/memory.max", "1073741824\n");
        let limits = fake.detect().limits;
        assert_eq!(limits.quota, Some(Quota { milli_cpus: 1500 }));
        assert_eq!(limits.group_memory, Some(1 << 30));
    }

    #[test]
    fn version_1_in_a_container_reads_its_own_group_at_the_mount_point() {
        let fake = Fake::new("cgroup1");
        fake.file("proc/self/cgroup", "5:cpu,cpuacct:/docker/ab12\n4:memory:/docker/ab12\n0::/\n")
            .file(
                "proc/self/mountinfo",
                "32 31 0:29 /docker/ab12 /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                 35 31 0:32 /docker/ab12 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            )
            .file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n")
            .file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
            .file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        let found = fake.detect();
        assert_eq!(found.limits.quota, Some(Quota { milli_cpus: 500 }));
        assert_eq!(found.limits.group_memory, None, "the number that means no limit is no limit");
        assert!(found.limits.container.iter().any(|sign| sign.contains("docker")));
    }

    #[test]
    fn a_path_that_climbs_out_is_not_followed() {
        let fake = Fake::new("climb");
        fake.file("proc/self/cgroup", "0::/../../secret\n")
            .file("proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
            .file("secret/memory.max", "1\n")
            .file("sys/fs/cgroup/memory.max", "4096\n");
        assert_eq!(fake.detect().limits.group_memory, Some(4096));
    }

    #[test]
    fn no_limit_is_read_as_none() {
        assert_eq!(quota_v2("max 100000"), None);
        assert_eq!(quota_v2("100000 0"), None);
        assert_eq!(memory("max"), None);
    }
}
