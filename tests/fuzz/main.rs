//! A million cases of garbage for every reader of what others wrote: none panics, none takes more memory than its input warrants, and some of
//! the garbage is read, so that refusing everything would fail. The cases follow from RINGTREE_TEST_SEED, and the one that fails is printed.

#[path = "../worlds/chance.rs"]
mod chance;
mod garbage;
mod meter;

use chance::Chance;
use ringtree::boot::{UniqueId, detect, strangers};
use ringtree::plan::Costs;
use ringtree::topo::graph::{CpuSet, Host};
use ringtree::topo::site::{Location, Site, expand, of_slurm};
use ringtree::topo::xml;
use ringtree::transport::tcp::strangers as far;
use ringtree::{Config, Fetch};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

#[global_allocator]
static METER: meter::Meter = meter::Meter;

/// Of each reader.
const CASES: u64 = 1_000_000;

/// What a reader is given and allowed.
struct Trial<'a> {
    samples: Vec<Vec<u8>>,
    words: &'a [&'a str],
    /// Longest input.
    longest: usize,
    /// Bytes of memory for each byte of input, and whatever the input.
    allowed: (usize, usize),
}

impl Trial<'_> {
    /// Runs all cases. `read` says whether the input made sense.
    fn run(&self, read: impl Fn(&[u8]) -> bool) {
        let seed: u64 = std::env::var("RINGTREE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        let mut understood = 0u64;
        for case in 0..CASES {
            let mut chance = Chance::new(seed.wrapping_mul(CASES).wrapping_add(case));
            let input = garbage::garbage(&mut chance, &self.samples, self.words, self.longest);
            let (outcome, most) = meter::most(|| catch_unwind(AssertUnwindSafe(|| read(&input))));
            let shown = || format!("seed {seed}, case {case}: {}", input.escape_ascii());
            understood += u64::from(outcome.unwrap_or_else(|_| panic!("the reader panicked; {}", shown())));
            let allowed = self.allowed.0 * input.len() + self.allowed.1;
            assert!(most <= allowed, "{most} bytes of memory, {allowed} are allowed; {}", shown());
        }
        assert!(
            understood > CASES / 100,
            "only {understood} of {CASES} were read: the garbage is too bad to test anything"
        );
        assert!(understood < CASES, "nothing was refused");
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Readers of text are given text: their callers have seen to that.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn messages_of_the_bootstrap() {
    // Ranks that are missing come as stretches, and twelve bytes can name all that a job may have.
    let allowed = (64, 3 * size_of::<usize>() * ringtree::boot::MAX_RANKS);
    let trial = Trial { samples: strangers::messages(), words: &["\0", "\u{1}"], longest: 8192, allowed };
    trial.run(strangers::reads_message);
}

#[test]
fn connections_of_the_bootstrap() {
    let (said, answered) = strangers::conversation();
    // The messages behind the handshake, and the handshake alone.
    let samples = vec![said[..600].to_vec(), answered[..600].to_vec(), said[..104.min(said.len())].to_vec()];
    let trial = Trial { samples, words: &["\0\0\0\0", "RINGTREE"], longest: 1024, allowed: (64, 8192) };
    trial.run(|bytes| {
        let middle = bytes.len() / 3;
        let pieces = || [&bytes[..middle], &bytes[middle..]];
        let (accepted, _) = strangers::feed_connection(true, pieces());
        let (connected, _) = strangers::feed_connection(false, pieces());
        accepted + connected > 0
    });
}

#[test]
fn notes_of_other_services() {
    let trial = Trial { samples: far::notes(), words: &["\0", "\u{1}"], longest: 4096, allowed: (64, 4096) };
    trial.run(far::reads_note);
}

#[test]
fn addresses_of_other_ranks() {
    let trial = Trial { samples: far::addresses(), words: &["\0", "\u{4}"], longest: 1024, allowed: (64, 4096) };
    trial.run(far::reads_address);
}

#[test]
fn words_about_rdma_queues() {
    let trial = Trial { samples: far::words(), words: &["\0", "\u{1}"], longest: 64, allowed: (16, 256) };
    trial.run(far::reads_word);
}

#[test]
fn streams_of_data_sockets() {
    // A message may be announced with 128 KiB, of as many links as there are; what is announced is what room is made for.
    let allowed = (12 << 10, 1 << 20);
    let trial = Trial { samples: vec![far::stream()], words: &["\0\0\0\0", "\u{1}"], longest: 512, allowed };
    trial.run(far::reads_stream);
}

#[test]
fn streams_of_data_sockets_with_checksums() {
    let allowed = (12 << 10, 1 << 20);
    let trial = Trial { samples: vec![far::checked_stream()], words: &["\0\0\0\0", "\u{1}"], longest: 512, allowed };
    trial.run(far::reads_checked_stream);
}

#[test]
fn streams_of_encrypted_data_sockets() {
    // Buffers for ciphertext and for what a record says, whatever comes.
    let allowed = (12 << 10, 1 << 20);
    let trial = Trial { samples: vec![far::encrypted_stream()], words: &["\0\0\0\0", "\u{1}"], longest: 512, allowed };
    trial.run(far::reads_encrypted_stream);
}

#[test]
fn requests_to_the_store() {
    // A number, a kind, a key and perhaps a value, each with its length before it.
    let set = b"\x07\0\0\0\0\0\0\0\0\x03\0\0\0key\x05\0\0\0value".to_vec();
    let get = b"\xff\xff\xff\xff\xff\xff\xff\xff\x01\x03\0\0\0key".to_vec();
    let trial = Trial { samples: vec![set, get], words: &["\0\0\0\0", "\u{2}"], longest: 4096, allowed: (16, 1024) };
    trial.run(strangers::reads_request);
}

#[test]
fn questions_to_rank_0() {
    let trial = Trial { samples: vec![vec![0; 16], vec![1; 16]], words: &["\0"], longest: 64, allowed: (16, 1024) };
    trial.run(strangers::reads_question);
}

#[test]
fn topologies_in_xml() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/topologies");
    let mut samples: Vec<Vec<u8>> = ["a100-pcie-roce.xml", "gb10-spark.xml", "a6000-bonded-net.xml", "azure-ncv4.xml"]
        .map(|name| std::fs::read(folder.join(name)).unwrap())
        .into();
    samples.retain(|sample| sample.len() < 4096);
    assert!(samples.len() > 1);
    let words = [
        "<pci busid=\"0000:01:00.0\">",
        "</pci>",
        "<cpu ",
        "&#x41;",
        "<!-- -->",
        "count=\"",
        "affinity=\"",
        "<nic>",
        "]]>",
        "\"",
    ];
    let trial = Trial { samples, words: &words, longest: 4096, allowed: (400, 64 << 10) };
    trial.run(|bytes| xml::read(&text(bytes)).is_ok());
}

#[test]
fn topologies_in_our_own_form() {
    let sample = "ringtree-host 1\nname vm\nprocessor 0 arch x86_64 vendor GenuineIntel family 6 model 85\npackage 0 cpus 0-3\n\
        node 0 memory 1024 distances 10 cpus 0-3\ncache 0 level 3 bytes 33554432 cpus 0-3\ncore 0 package 0 node 0 cache 0 cpus 0-1\n\
        core 1 package 0 node 0 cache 0 cpus 2-3\n\
        pci 0 address 0000:18:00.0 class 030200 ids 10de:20b0:0000:0000 speed 16000 width 16 parent - node 0\n\
        gpu 0 pci 0 dev 0 sm 80 rank - gdr 1 c2c 0 links 0000:3b:00.0*4/030200\nnic 0 pci - node 0\n\
        net 0 nic 0 name eth0 dev 0 kind socket speed 10000 port 1 guid 0 latency 0 connections 0 gdr 0 collective 0 rail - plane - down 0\n";
    let words = ["core ", "node ", "cpus ", "0-65535", "pci ", "parent ", "\n", "-", ",", "*", "nic ", "net "];
    let trial = Trial { samples: texts(&[sample]), words: &words, longest: 4096, allowed: (400, 64 << 10) };
    trial.run(|bytes| {
        let Ok(host) = Host::parse(&text(bytes)) else { return false };
        // What was read is what is written and read again.
        assert_eq!(Host::parse(&host.to_string()).as_ref(), Ok(&host));
        true
    });
}

#[test]
fn files_of_sites() {
    let sample = "ringtree-site 1\n# two racks\nfabric rail-optimised\nrails 8\nplace pod1/rack1 node[001-016]\n\
        place pod1/rack2 node[017-031],login3 spare\nplace unknown x\n";
    let torus = "ringtree-site 1\nfabric torus\nplace t/0,0,1 a[1-2]b[3,5]\nplace t/0,0,2 c\n";
    let words = ["place ", "fabric ", "torus", "rails ", "/", ",", "[", "]", "-", "[1-99999]", "\n", "unknown"];
    // A few bytes may name thousands of hosts, but all together no more than there may be: 2¹⁷, of some 200 bytes each.
    let trial = Trial { samples: texts(&[sample, torus]), words: &words, longest: 1024, allowed: (256, 32 << 20) };
    trial.run(|bytes| {
        let Ok(site) = Site::parse(&text(bytes)) else { return false };
        assert_eq!(Site::parse(&site.to_string()).as_ref(), Ok(&site));
        true
    });
}

#[test]
fn lists_of_hosts() {
    let samples = texts(&["node[001-016,020],login3", "r[1-2]n[0-9].site", "a", "n[9-12],n[08-10]"]);
    let words = ["[", "]", "-", ",", "[1-9]", "[0-4095]", "[1-99999999999999999999]"];
    let trial = Trial { samples, words: &words, longest: 256, allowed: (64, 3 << 20) };
    trial.run(|bytes| expand(&text(bytes)).is_ok());
}

#[test]
fn locations_of_hosts() {
    let samples =
        texts(&["pod1/rack3", "fabric/2,0,1", "unknown", "s0.s2.node12 switch.switch.node", "b1.n3 block.node"]);
    let trial = Trial { samples, words: &["/", ",", ".", " ", "node", "switch"], longest: 2048, allowed: (64, 4096) };
    trial.run(|bytes| {
        let text = text(bytes);
        let location = text.parse::<Location>();
        if let Ok(location) = &location {
            assert_eq!(location.to_string().parse().as_ref(), Ok(location));
            assert_eq!(location.mark().levels().iter().filter(|level| **level != 0).count(), location.names().len());
        }
        let (address, pattern) = text.split_once(' ').unwrap_or((&text, ""));
        location.is_ok() | of_slurm(address, pattern).is_ok()
    });
}

#[test]
fn sets_of_processors() {
    let samples = texts(&["0-3,8", "0-65535", "1,3,5,7,9-11", "", "64-127,0-63"]);
    let trial = Trial { samples, words: &["-", ",", "0-65535"], longest: 256, allowed: (64, 4096) };
    trial.run(|bytes| {
        let Some(cpus) = CpuSet::parse(&text(bytes)) else { return false };
        assert_eq!(CpuSet::parse(&cpus.to_string()), Some(cpus));
        true
    });
}

#[test]
fn variables_of_launchers_and_settings() {
    let samples = texts(&[
        "RANK=1\nWORLD_SIZE=4\nLOCAL_RANK=1\nMASTER_ADDR=node0\nMASTER_PORT=29500\n",
        "SLURM_PROCID=3\nSLURM_NTASKS=8\nSLURM_LOCALID=1\nSLURM_JOB_ID=77\nSLURM_STEP_ID=0\nSLURM_NODELIST=n[1-4]\nSLURM_JOB_NUM_NODES=4\n",
        "OMPI_COMM_WORLD_RANK=1\nOMPI_COMM_WORLD_SIZE=2\nOMPI_COMM_WORLD_LOCAL_SIZE=2\nPMIX_NAMESPACE=x\n",
        "RINGTREE_TIMEOUT=5\nRINGTREE_CHUNK=64K\nRINGTREE_FETCH=1M\nRINGTREE_DOMAINS=4,4\nRINGTREE_ALGORITHM=ring\nRINGTREE_STAGING=1G\n\
        RINGTREE_PROTECTION=checksum\n",
        "RINGTREE_FETCH=1M\nRINGTREE_LOCATION=pod1/rack3\nRINGTREE_LOCATION_FROM=ZONE,LEAF\nZONE=z1\nLEAF=l7\n",
    ]);
    let words = ["=", "\n", "node[1-99999999]", ",", "K", "RANK=", "SLURM_NTASKS="];
    let trial = Trial { samples, words: &words, longest: 1024, allowed: (200, 64 << 10) };
    trial.run(|bytes| {
        let text = text(bytes);
        let find = |name: &str| {
            let pair = text.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| *key == name);
            pair.map(|(_, value)| value.to_string())
        };
        detect(&find).is_ok_and(|launch| launch.is_some())
            | Config::from_variables(find).is_ok_and(|config| config.fetch != Fetch::Auto)
    });
}

#[test]
fn profiles() {
    let sample = Costs::built_in().to_profile("measured on a host\n2 cores");
    let short = "ringtree-profile 1\nmemory.copy_ps 100\nloopback.post_ns 6000 # sent\n";
    let words = [
        "ringtree-profile 1\n",
        "memory.",
        "network.",
        "latency_ns ",
        "sent_ps ",
        "\n",
        "#",
        " 0\n",
        "99999999999999999999",
    ];
    let trial = Trial { samples: texts(&[&sample, short]), words: &words, longest: 2048, allowed: (64, 4096) };
    trial.run(|bytes| {
        let Ok(costs) = Costs::from_profile(&text(bytes)) else { return false };
        // What was read makes sense, and is what is written and read again.
        assert!(costs.constants().all(|one| (one.limits.0..=one.limits.1).contains(&one.value)));
        assert_eq!(Costs::from_profile(&costs.to_profile("")), Ok(costs));
        true
    });
}

#[test]
fn unique_ids() {
    let id = UniqueId::with_config(&ringtree::boot::BootConfig { one_host: true, ..Default::default() }).unwrap();
    let samples = vec![id.to_hex().into_bytes()];
    let trial = Trial { samples, words: &["00", "ff", "g"], longest: 600, allowed: (64, 4096) };
    trial.run(|bytes| UniqueId::from_hex(&text(bytes)).is_ok());
}
