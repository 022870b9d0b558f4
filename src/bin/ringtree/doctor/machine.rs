//! What was read about the machine, into findings.

use super::finding::Finding;
use crate::bytes::{bit_rate, human};
use crate::settings::strangers;
use ringtree::topo::detect::{Found, Limit};
use ringtree::topo::graph::{Net, NetKind};
use ringtree::transport::verbs::Port;
use ringtree::{Located, Protection, SETTINGS, wrong_settings};

/// Less than this of locked memory is not enough for RDMA.
const ENOUGH_LOCKED: u64 = 1 << 30;
/// A rank with many peers needs a few descriptors for each.
const ENOUGH_FILES: u64 = 4096;
/// Below this, shared staging memory of several communicators may not fit.
const LITTLE_MEMORY: u64 = 512 << 20;
/// What Docker gives a container, and too little for libraries that keep their slots there.
const SMALL_SHM: u64 = 64 << 20;

/// Shown as set, and no further.
const SECRET: &str = "RINGTREE_SECRET";

/// Everything that [`Found`] tells.
pub(super) fn findings(found: &Found) -> Vec<Finding> {
    let mut findings = vec![host(found), cores(found)];
    findings.extend(quota(found));
    findings.extend([caches(found), numa(found), memory(found), memlock(found), nofile(found), shm(found)]);
    findings.extend(huge_pages(found));
    findings.extend(networks(found));
    findings
}

/// The interfaces and RDMA devices that are up.
fn networks(found: &Found) -> [Finding; 2] {
    let nets = || found.host.nics.iter().flat_map(|nic| &nic.nets).filter(|net| !net.down);
    let words = |net: &Net| match bit_rate(net.speed) {
        None => net.name.clone(),
        Some(speed) => format!("{} ({speed})", net.name),
    };
    let (sockets, devices): (Vec<&Net>, Vec<&Net>) = nets().partition(|net| net.kind == NetKind::Socket);
    let list = |nets: Vec<&Net>| nets.into_iter().map(words).collect::<Vec<_>>().join(", ");
    let network = match sockets.is_empty() {
        true => Finding::note("network", "no interface is up", "ranks of other hosts can't be reached: ip link"),
        false => Finding::ok("network", list(sockets)),
    };
    let rdma = match devices.is_empty() {
        true => "no device".to_string(),
        false => list(devices),
    };
    [network, Finding::ok("rdma", rdma)]
}

/// Where this host is in its site. What can't be read at all is told with the other settings.
pub(super) fn site(located: ringtree::Result<Located>) -> Option<Finding> {
    let Located { location, from, complaint } = located.ok()?;
    let advice = "ranks of several hosts go on as if all were in one rack";
    Some(match complaint {
        Some(complaint) => Finding::note("site", complaint, advice),
        None if location.is_unknown() => {
            Finding::ok("site", "nobody says which rack this host is in (RINGTREE_SITE, RINGTREE_LOCATION, Slurm)")
        }
        None => Finding::ok("site", format!("{location}, by {from}")),
    })
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn host(found: &Found) -> Finding {
    let name = if found.host.name.is_empty() { "unnamed" } else { &found.host.name };
    match found.limits.container.as_slice() {
        [] => Finding::ok("host", format!("{name}; no sign of a container")),
        signs => Finding::ok("host", format!("{name}; in a container ({})", signs.join(", "))),
    }
}

fn cores(found: &Found) -> Finding {
    let (host, all) = (&found.host, found.host.cpus());
    let there = format!("{}, {}", counted(host.cores.len(), "core"), counted(all.len(), "hardware thread"));
    match &found.limits.affinity {
        None => {
            Finding::note("cores", format!("{there}; which of them may be used is not known"), "see 'not seen' below")
        }
        Some(mask) if all.iter().all(|cpu| mask.contains(cpu)) => Finding::ok("cores", format!("{there}, all usable")),
        Some(mask) => {
            let usable = format!("{there}; this process may use {mask}");
            Finding::note(
                "cores",
                usable,
                "an affinity mask (taskset, cpuset, launcher) holds it there; ranks share what is left",
            )
        }
    }
}

fn quota(found: &Found) -> Option<Finding> {
    let milli = found.limits.quota?.milli_cpus;
    let what = format!("the control group grants {}.{} cores of time", milli / 1000, milli % 1000 / 100);
    let usable = found.limits.affinity.as_ref().map_or(found.host.cpus().len(), |mask| mask.len()) as u64;
    Some(if milli >= usable * 1000 {
        Finding::ok("quota", what)
    } else {
        let advice = "ranks that spin are stopped for parts of every 0.1 s; start fewer ranks, or raise the limit (docker --cpus, \
                      Kubernetes limits.cpu)";
        Finding::note("quota", what, advice)
    })
}

fn caches(found: &Found) -> Finding {
    let caches = &found.host.caches;
    if caches.iter().all(|cache| cache.level == 0) {
        return Finding::note(
            "caches",
            "which cores share a cache is not shown",
            "ranks are taken to be alone in theirs",
        );
    }
    let usable = found.limits.affinity.clone().unwrap_or_else(|| found.host.cpus());
    let sizes = found.host.domain_sizes(&usable);
    let sizes: Vec<String> = sizes.iter().map(u32::to_string).collect();
    let (first, count) = (&caches[0], counted(caches.len(), "last-level cache"));
    let what =
        format!("{count} (L{}, {}); usable threads in each: {}", first.level, human(first.bytes), sizes.join(", "));
    if sizes.len() < 2 {
        return Finding::ok("caches", what);
    }
    let advice = "collectives keep to one cache first where each rank is bound to the threads of one: taskset, numactl, srun --cpu-bind, \
                  mpirun --bind-to l3cache; or say which ranks share one: RINGTREE_DOMAINS=4,4";
    Finding::note("caches", what, advice)
}

fn numa(found: &Found) -> Finding {
    let nodes = &found.host.nodes;
    let list: Vec<String> = nodes
        .iter()
        .map(|node| match node.memory {
            0 => format!("{}: cpus {}", node.id, node.cpus),
            memory => format!("{}: cpus {}, {}", node.id, node.cpus, human(memory)),
        })
        .collect();
    Finding::ok("numa", format!("{} ({})", counted(nodes.len(), "node"), list.join("; ")))
}

fn memory(found: &Found) -> Finding {
    let limits = &found.limits;
    let Some(total) = limits.memory else {
        return Finding::note("memory", "its size is not shown", "see 'not seen' below");
    };
    let mut what = human(total);
    if let Some(available) = limits.available {
        what += &format!(", {} available", human(available));
    }
    let group = limits.group_memory.filter(|&limit| limit < total);
    if let Some(limit) = group {
        what += &format!(", the control group may use {}", human(limit));
    }
    let least = group.unwrap_or(u64::MAX).min(limits.available.unwrap_or(total));
    if least < LITTLE_MEMORY {
        return Finding::problem(
            "memory",
            what,
            "shared slots count as memory of the group; raise its limit or start fewer ranks",
        );
    }
    Finding::ok("memory", what)
}

fn words(limit: Limit, print: impl Fn(u64) -> String) -> String {
    let word = |value: Option<u64>| value.map_or("unlimited".to_string(), &print);
    if limit.soft == limit.hard {
        word(limit.soft)
    } else {
        format!("{}, up to {}", word(limit.soft), word(limit.hard))
    }
}

fn memlock(found: &Found) -> Finding {
    match found.limits.memlock {
        None => Finding::note("memlock", "the limit is not shown", "see 'not seen' below"),
        Some(limit) if limit.soft.is_none_or(|soft| soft >= ENOUGH_LOCKED) => {
            Finding::ok("memlock", words(limit, human))
        }
        Some(limit) => {
            let advice = "enough on one host; RDMA will need more: ulimit -l unlimited, LimitMEMLOCK=infinity, docker --ulimit memlock=-1";
            Finding::note("memlock", words(limit, human), advice)
        }
    }
}

fn nofile(found: &Found) -> Finding {
    let advice = "each peer takes a few descriptors; with many ranks: ulimit -n 65536, LimitNOFILE=65536";
    match found.limits.nofile {
        None => Finding::note("open files", "the limit is not shown", "see 'not seen' below"),
        Some(limit) if limit.soft.is_none_or(|soft| soft >= ENOUGH_FILES) => {
            Finding::ok("open files", words(limit, |n| n.to_string()))
        }
        Some(limit) if limit.soft.is_some_and(|soft| soft < 64) => {
            Finding::problem("open files", words(limit, |n| n.to_string()), advice)
        }
        Some(limit) => Finding::note("open files", words(limit, |n| n.to_string()), advice),
    }
}

fn shm(found: &Found) -> Finding {
    match found.limits.shm {
        None => {
            Finding::note("/dev/shm", "not there", "ringtree does not need it (it uses memfd); other libraries may")
        }
        Some(shm) => {
            let what = format!("{} free of {}", human(shm.free), human(shm.total));
            if shm.free > SMALL_SHM {
                return Finding::ok("/dev/shm", what);
            }
            Finding::note(
                "/dev/shm",
                what,
                "ringtree uses memfd, which it does not limit; other libraries want docker --shm-size=1g",
            )
        }
    }
}

fn huge_pages(found: &Found) -> Vec<Finding> {
    let huge = &found.limits.huge;
    let pools: Vec<String> = huge
        .pools
        .iter()
        .filter(|pool| pool.total > 0)
        .map(|pool| format!("{} of {} pages of {} free", pool.free, pool.total, human(pool.page)))
        .collect();
    let reserved = if pools.is_empty() { "none reserved".to_string() } else { pools.join(", ") };
    let setting = |value: &Option<String>| value.clone().unwrap_or_else(|| "not shown".to_string());
    let transparent = format!("private memory: {}, shared memory: {}", setting(&huge.private), setting(&huge.shared));
    let missing = |value: &Option<String>| value.as_deref().is_none_or(|value| value == "never" || value == "deny");
    let advice = "large messages go faster with huge pages; as root: echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled";
    vec![
        Finding::ok("huge pages", reserved),
        if missing(&huge.shared) {
            Finding::note("transparent huge pages", transparent, advice)
        } else {
            Finding::ok("transparent huge pages", transparent)
        },
    ]
}

/// The variables of launchers that are set, without what is secret in them.
pub(super) fn environment(variable: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    const LAUNCHERS: [(&str, &[&str]); 5] = [
        ("ringtree run", &["RINGTREE_RANK", "RINGTREE_SIZE", "RINGTREE_LOCAL_RANK"]),
        ("torchrun", &["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"]),
        ("Slurm", &["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_JOB_ID"]),
        ("Open MPI", &["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK"]),
        ("PMI", &["PMI_RANK", "PMI_SIZE", "PMI_FD", "PMI_PORT"]),
    ];
    let shown = |name: &&str| variable(name).map(|value| format!("{name}={}", tame(&value)));
    let mut findings = Vec::new();
    for (launcher, names) in LAUNCHERS {
        let seen: Vec<String> = names.iter().filter_map(shown).collect();
        if !seen.is_empty() {
            findings.push(Finding::ok("launcher", format!("{launcher}: {}", seen.join(" "))));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("launcher", "none: `ringtree run` starts ranks on this host"));
    }
    let wrong = wrong_settings(&variable);
    let fine = |name: &&&str| **name != SECRET && wrong.iter().all(|(other, _)| other != *name);
    let settings: Vec<String> = SETTINGS.iter().filter(fine).filter_map(shown).collect();
    if !settings.is_empty() {
        findings.push(Finding::ok("settings", settings.join(" ")));
    }
    if variable(SECRET).is_some() {
        findings.push(Finding::ok("secret", "RINGTREE_SECRET is set"));
    }
    let problem = |(_, error): &(&str, _)| {
        let what: &ringtree::Error = error;
        Finding::problem("settings", tame(&what.to_string()), "a job refuses to start with it")
    };
    findings.extend(wrong.iter().map(problem));
    findings
}

/// Variables that look like settings and change nothing.
pub(super) fn unknown(names: impl IntoIterator<Item = String>) -> Vec<Finding> {
    let finding = |(name, advice): (String, String)| {
        Finding::note("settings", format!("there is no setting {}", tame(&name)), advice)
    };
    strangers(names).into_iter().map(finding).collect()
}

/// What somebody else put into a variable, fit to be printed.
fn tame(value: &str) -> String {
    let tamed =
        |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() };
    value.chars().take(200).map(tamed).collect()
}

/// How ranks can reach each other. `rdma`: the ports of RDMA devices, or why there can be none.
pub(super) fn transports(rdma: Result<Vec<Port>, String>) -> Vec<Finding> {
    let mut findings = vec![
        Finding::ok("transport local", "yes: threads of one process"),
        Finding::ok("transport shm", "yes: processes of one host"),
        Finding::ok("transport tcp", "yes: any hosts that reach each other"),
    ];
    let name = "transport verbs";
    match rdma {
        Err(why) if why.contains(".so") => findings.push(Finding::note(
            name,
            why,
            "ranks of other hosts are reached by TCP; RDMA needs the package libibverbs1, and ibverbs-providers for the device",
        )),
        Err(why) => findings.push(Finding::note(name, why, "ranks of other hosts are reached by TCP")),
        Ok(ports) if ports.is_empty() => findings.push(Finding::ok(name, "no device that is wanted")),
        Ok(ports) => findings.extend(ports.into_iter().map(|port| match port.ready {
            Ok(how) => Finding::ok(name, format!("{}: {how}", tame(&port.name))),
            Err(why) => Finding::note(name, format!("{}: {why}", tame(&port.name)), "it is not used"),
        })),
    }
    findings.push(Finding::ok("transport cuda", "not in this version"));
    findings
}

/// What is done to messages that go over a network. `has_rdma`: a device is ready.
pub(super) fn protection(level: Protection, has_secret: bool, has_rdma: bool) -> Finding {
    let name = "protection";
    match level {
        Protection::Plain => Finding::ok(name, "plain: the network is trusted (RINGTREE_PROTECTION)"),
        Protection::Checksum => Finding::ok(name, "checksum: each message has a CRC-32C"),
        Protection::Encrypted if !has_secret => Finding::note(
            name,
            "encrypted, and neither RINGTREE_SECRET nor RINGTREE_SECRET_FILE is set",
            "a job whose id goes over a network refuses to start without one",
        ),
        Protection::Encrypted if has_rdma => {
            Finding::note(name, "encrypted: RDMA is not used", "RINGTREE_PROTECTION=checksum uses it")
        }
        Protection::Encrypted => Finding::ok(name, "encrypted: AES-256-GCM, with keys from the job's secret"),
    }
}

/// What could not be seen.
pub(super) fn unseen(found: &Found) -> Vec<Finding> {
    let findings = found.unseen.iter().map(|unseen| {
        let what = format!("{}: {}", tame(&unseen.what), tame(&unseen.why));
        Finding::note("not seen", what, "")
    });
    findings.collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use ringtree::topo::detect::Quota;
    use ringtree::topo::graph::{CpuSet, Host, Nic};

    fn machine() -> Found {
        let text = "ringtree-host 1\nname n1\npackage 0 cpus 0-3\nnode 0 memory 1024 distances 10 cpus 0-3\n\
            cache 0 level 3 bytes 33554432 cpus 0-1\ncache 1 level 3 bytes 33554432 cpus 2-3\n\
            core 0 package 0 node 0 cache 0 cpus 0-1\ncore 1 package 0 node 0 cache 1 cpus 2-3\n";
        let mut found = Found { host: Host::parse(text).unwrap(), ..Found::default() };
        found.limits.affinity = CpuSet::parse("0-3");
        found.limits.memory = Some(8 << 30);
        found
    }

    #[test]
    fn ports_that_are_ready_and_those_that_are_not_are_told_with_the_reason() {
        let port = |name: &str, ready: Result<&str, &str>| Port {
            name: name.into(),
            ready: ready.map(str::to_string).map_err(str::to_string),
        };
        let some = transports(Ok(vec![port("rxe0:1", Ok("RoCE v2, 10.0.0.5")), port("siw0", Err("it speaks iWARP"))]));
        let verbs: Vec<&Finding> = some.iter().filter(|finding| finding.name == "transport verbs").collect();
        assert_eq!(verbs.iter().map(|finding| finding.level).collect::<Vec<_>>(), [Level::Ok, Level::Note]);
        assert!(verbs[1].what.contains("siw0: it speaks iWARP"));
        let none = transports(Err("libibverbs.so.1 can't be opened".into()));
        assert_eq!(level(&none, "transport verbs"), Level::Note);
        let advice = |finding: &Finding| finding.advice.contains("libibverbs1");
        assert!(none.iter().any(advice), "it says what to install");
    }

    #[test]
    fn what_encryption_needs_and_what_it_does_without_are_noted() {
        assert_eq!(protection(Protection::Plain, false, true).level, Level::Ok);
        assert_eq!(protection(Protection::Encrypted, true, false).level, Level::Ok);
        let open = protection(Protection::Encrypted, false, false);
        assert!(open.level == Level::Note && open.what.contains("RINGTREE_SECRET_FILE"), "{open:?}");
        let idle = protection(Protection::Encrypted, true, true);
        assert!(idle.level == Level::Note && idle.what.contains("RDMA is not used"), "{idle:?}");
    }

    fn level(findings: &[Finding], name: &str) -> Level {
        findings.iter().find(|finding| finding.name == name).unwrap_or_else(|| panic!("no line for {name}")).level
    }

    #[test]
    fn a_mask_and_a_quota_below_the_machine_are_noted() {
        let mut found = machine();
        assert_eq!(level(&findings(&found), "cores"), Level::Ok);
        found.limits.affinity = CpuSet::parse("0");
        found.limits.quota = Some(Quota { milli_cpus: 500 });
        let findings = findings(&found);
        assert_eq!((level(&findings, "cores"), level(&findings, "quota")), (Level::Note, Level::Note));
        let quota = findings.iter().find(|finding| finding.name == "quota").unwrap();
        assert!(quota.what.contains("0.5 cores") && quota.advice.contains("--cpus"), "{quota:?}");
    }

    #[test]
    fn a_process_that_may_run_in_several_caches_is_told_how_to_bind() {
        let mut found = machine();
        assert_eq!(level(&findings(&found), "caches"), Level::Note);
        found.limits.affinity = CpuSet::parse("2-3");
        assert_eq!(level(&findings(&found), "caches"), Level::Ok);
    }

    #[test]
    fn interfaces_that_are_up_are_listed_with_their_speed() {
        let mut found = machine();
        assert_eq!(level(&findings(&found), "network"), Level::Note);
        let net = |name: &str, kind, speed, down| Net { name: name.into(), kind, speed, down, ..Net::default() };
        let nets = vec![
            net("eth0", NetKind::Socket, 25_000, false),
            net("eth1", NetKind::Socket, 0, true),
            net("mlx5_0", NetKind::Roce, 0, false),
        ];
        found.host.nics.push(Nic { nets, ..Nic::default() });
        let findings = findings(&found);
        let what = |name: &str| findings.iter().find(|finding| finding.name == name).unwrap().what.clone();
        assert_eq!((what("network"), what("rdma")), ("eth0 (25 Gb/s)".to_string(), "mlx5_0".to_string()));
    }

    #[test]
    fn memory_that_will_not_do_is_a_problem() {
        let mut found = machine();
        assert_eq!(level(&findings(&found), "memory"), Level::Ok);
        found.limits.group_memory = Some(100 << 20);
        assert_eq!(level(&findings(&found), "memory"), Level::Problem);
    }

    #[test]
    fn limits_that_are_low_come_with_what_to_do() {
        let mut found = machine();
        found.limits.memlock = Some(Limit { soft: Some(65536), hard: Some(65536) });
        found.limits.nofile = Some(Limit { soft: Some(32), hard: None });
        let findings = findings(&found);
        assert_eq!((level(&findings, "memlock"), level(&findings, "open files")), (Level::Note, Level::Problem));
        assert!(findings.iter().all(|finding| finding.level == Level::Ok || !finding.advice.is_empty()));
    }

    #[test]
    fn launcher_variables_are_shown_and_secrets_are_not() {
        let set = |name: &str| match name {
            "RANK" => Some("3".to_string()),
            "MASTER_ADDR" => Some("a\x1b[31m".to_string()),
            "RINGTREE_SECRET" => Some("hush".to_string()),
            _ => None,
        };
        let text: String = environment(set).into_iter().map(|finding| finding.what + "\n").collect();
        assert!(text.contains("torchrun: RANK=3"));
        assert!(!text.contains("hush") && !text.contains('\x1b'), "{text}");
        assert!(environment(|_| None)[0].what.contains("ringtree run"));
    }

    #[test]
    fn the_site_is_told_with_whoever_says_so() {
        let says = |pairs: &[(&str, &str)]| {
            site(ringtree::locate(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
            }))
        };
        let known = says(&[("RINGTREE_LOCATION", "pod1/rack3")]).unwrap();
        assert_eq!((known.level, &known.what[..]), (Level::Ok, "pod1/rack3, by RINGTREE_LOCATION"));
        assert_eq!(says(&[("RINGTREE_LOCATION_FROM", "RACK")]).unwrap().level, Level::Note);
        assert!(says(&[]).unwrap().what.contains("RINGTREE_SITE") && says(&[("RINGTREE_LOCATION", "a b")]).is_none());
    }

    #[test]
    fn settings_that_make_no_sense_are_problems_and_those_that_do_not_exist_are_noted() {
        let set = |name: &str| match name {
            "RINGTREE_TIMEOUT" => Some("abc".to_string()),
            "RINGTREE_ALGORITHM" => Some("ring".to_string()),
            _ => None,
        };
        let findings = environment(set);
        let of_settings = |level: Level| {
            let found = findings.iter().find(|finding| finding.name == "settings" && finding.level == level);
            &found.unwrap_or_else(|| panic!("{findings:?}")).what
        };
        assert!(of_settings(Level::Ok).contains("RINGTREE_ALGORITHM=ring"));
        assert!(of_settings(Level::Problem).contains("RINGTREE_TIMEOUT is 'abc'"), "{findings:?}");
        let unknown = unknown(["RINGTREE_TIMEOUT".to_string(), "RINGTREE_TIMEOOT".to_string()]);
        assert!(unknown.len() == 1 && unknown[0].advice.contains("RINGTREE_TIMEOUT"), "{unknown:?}");
    }
}
