//! A host as an outline: what both the text and the picture are made from.

use crate::bytes::{bit_rate, human};
use ringtree::topo::graph::{Gpu, Host, Net, NetKind, Nic, Pci};

/// What an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Node,
    Cache,
    Switch,
    Gpu(u32),
    Nic(u32),
    Net,
    Function,
    /// Of hosts in a site; whether this host is in it.
    Group {
        own: bool,
    },
    Hosts,
}

/// An entry: what is below it follows, one level deeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) depth: usize,
    pub(super) what: What,
    pub(super) text: String,
}

/// The whole host, nodes first and foremost.
pub(super) fn outline(host: &Host) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (index, node) in host.nodes.iter().enumerate() {
        let memory = if node.memory > 0 { format!(", {} of memory", human(node.memory)) } else { String::new() };
        let cpus = if node.cpus.is_empty() { "no processors".to_string() } else { format!("processors {}", node.cpus) };
        entries.push(Entry { depth: 0, what: What::Node, text: format!("node {}: {cpus}{memory}", node.id) });
        for (at, cache) in host.caches.iter().enumerate() {
            let cores =
                host.cores.iter().filter(|core| core.cache as usize == at && core.node as usize == index).count();
            if cores > 0 {
                let size = if cache.bytes > 0 { format!(" of {}", human(cache.bytes)) } else { String::new() };
                let cores = if cores == 1 { "1 core".to_string() } else { format!("{cores} cores") };
                let text = format!("cache L{}{size}: {cores}, processors {}", cache.level, cache.cpus);
                entries.push(Entry { depth: 1, what: What::Cache, text });
            }
        }
        let at_root = |pci: &&(usize, &Pci)| pci.1.parent.is_none() && pci.1.node as usize == index;
        for (at, _) in host.pci.iter().enumerate().collect::<Vec<_>>().iter().filter(at_root) {
            function(host, *at as u32, 1, &mut entries);
        }
        for (at, nic) in host.nics.iter().enumerate() {
            if nic.pci.is_none() && nic.node as usize == index {
                controller(at as u32, nic, "interfaces without a place in the PCI tree", 1, &mut entries);
            }
        }
    }
    entries
}

fn function(host: &Host, at: u32, depth: usize, entries: &mut Vec<Entry>) {
    let pci = &host.pci[at as usize];
    let place = format!("{}, {}", pci.address, link(pci));
    // Several where one card is split.
    let gpus: Vec<usize> = (0..host.gpus.len()).filter(|gpu| host.gpus[*gpu].pci == at).collect();
    let nics: Vec<usize> = (0..host.nics.len()).filter(|nic| host.nics[*nic].pci == Some(at)).collect();
    for index in &gpus {
        let text = format!("{}: {place}", gpu_words(&host.gpus[*index]));
        entries.push(Entry { depth, what: What::Gpu(*index as u32), text });
    }
    for index in &nics {
        controller(*index as u32, &host.nics[*index], &place, depth, entries);
    }
    if gpus.is_empty() && nics.is_empty() {
        let (what, name) = match pci {
            pci if pci.is_bridge() => (What::Switch, "switch"),
            pci if pci.is_gpu() => (What::Function, "GPU or display controller"),
            pci if pci.is_network() => (What::Function, "network controller without an interface"),
            _ => (What::Function, "function"),
        };
        entries.push(Entry { depth, what, text: format!("{name}: {place}") });
    }
    for (below, _) in host.pci.iter().enumerate().skip(at as usize + 1).filter(|(_, pci)| pci.parent == Some(at)) {
        function(host, below as u32, depth + 1, entries);
    }
}

fn controller(index: u32, nic: &Nic, place: &str, depth: usize, entries: &mut Vec<Entry>) {
    entries.push(Entry { depth, what: What::Nic(index), text: format!("nic {index}: {place}") });
    entries.extend(nic.nets.iter().map(|net| Entry { depth: depth + 1, what: What::Net, text: net_words(net) }));
}

/// What its link carries: `24 GB/s (16.0 GT/s × 16)`.
fn link(pci: &Pci) -> String {
    match (pci.speed, pci.width) {
        (0, _) | (_, 0) => "a link that does not say its speed".to_string(),
        (speed, width) => {
            format!("{} ({}.{} GT/s × {width})", rate(pci.bandwidth()), speed / 1_000, speed % 1_000 / 100)
        }
    }
}

fn gpu_words(gpu: &Gpu) -> String {
    let mut words = format!("gpu {}", gpu.dev);
    if gpu.sm > 0 {
        words += &format!(", architecture {}", gpu.sm);
    }
    if let Some(rank) = gpu.rank {
        words += &format!(", rank {rank}");
    }
    let (switched, straight): (Vec<_>, Vec<_>) = gpu.links.iter().partition(|link| link.is_to_switch());
    let count =
        |links: Vec<&ringtree::topo::graph::NvLink>| links.iter().map(|link| u64::from(link.count)).sum::<u64>();
    match (count(straight), count(switched)) {
        (0, 0) => {}
        (straight, 0) => words += &format!(", {straight} NVLinks"),
        (0, switched) => words += &format!(", {switched} NVLinks to switches"),
        (straight, switched) => words += &format!(", {straight} NVLinks and {switched} to switches"),
    }
    if gpu.c2c > 0 {
        words += &format!(", {} to its processor", rate(gpu.c2c));
    }
    words
}

fn net_words(net: &Net) -> String {
    let speed = bit_rate(net.speed).unwrap_or_else(|| "speed unknown".to_string());
    let kind = match net.kind {
        NetKind::Unknown => String::new(),
        kind => format!(", {}", kind.name()),
    };
    let port = if net.port > 1 { format!(", port {}", net.port) } else { String::new() };
    let rail = net.rail.map_or_else(String::new, |rail| format!(", rail {rail}"));
    let down = if net.down { ", down" } else { "" };
    format!("{}: {speed}{kind}{port}{rail}{down}", net.name)
}

/// Megabytes a second for people.
pub(super) fn rate(megabytes: u32) -> String {
    match megabytes {
        u32::MAX => "no limit".to_string(),
        rate if rate >= 1_000 => format!("{} GB/s", (f64::from(rate) / 100.0).round() / 10.0),
        rate => format!("{rate} MB/s"),
    }
}
