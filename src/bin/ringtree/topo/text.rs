//! The outline and the table of ways, for people.

use super::outline::{Entry, What, outline, rate};
use crate::terminal::Paint;
use ringtree::topo::graph::{Host, Spot};
use std::fmt::Write;

/// Tables of more columns are not for people.
const MOST_COLUMNS: usize = 20;

/// The tree.
pub(super) fn tree(host: &Host, paint: Paint) -> String {
    let entries = outline(host);
    let mut out = String::new();
    let name = if host.name.is_empty() { "a host without a name" } else { &host.name };
    let _ = writeln!(out, "{}", paint.bold(name));
    for (at, entry) in entries.iter().enumerate() {
        let Entry { text, what, .. } = entry;
        let text = match what {
            What::Node => paint.bold(text),
            What::Gpu(_) | What::Nic(_) => paint.green(text),
            What::Switch | What::Cache | What::Function => paint.dim(text),
            What::Net | What::Group { .. } | What::Hosts => text.clone(),
        };
        let _ = writeln!(out, "{}{text}", rails(&entries, at));
    }
    out
}

/// What stands before an entry: for each level above it whether more comes on that level.
pub(super) fn rails(entries: &[Entry], at: usize) -> String {
    let depth = entries[at].depth;
    let more = |level: usize| {
        let next = entries[at + 1..].iter().find(|entry| entry.depth <= level);
        next.is_some_and(|entry| entry.depth == level)
    };
    let above = (0..depth).map(|level| if more(level) { "│  " } else { "   " });
    let own = if more(depth) { "├─ " } else { "└─ " };
    above.chain([own]).collect()
}

/// How near GPUs and network controllers are to each other, and to the nodes.
pub(super) fn ways(host: &Host) -> String {
    let mut spots: Vec<(String, Spot)> = Vec::new();
    spots.extend(host.gpus.iter().enumerate().map(|(at, gpu)| (format!("gpu{}", gpu.dev), Spot::Gpu(at as u32))));
    spots.extend((0..host.nics.len() as u32).map(|nic| (format!("nic{nic}"), Spot::Nic(nic))));
    spots.extend(host.nodes.iter().enumerate().map(|(at, node)| (format!("node{}", node.id), Spot::Node(at as u32))));
    if spots.len() < 3 || spots.len() > MOST_COLUMNS {
        return String::new();
    }
    let mut out = String::from("\nHow near they are:\n");
    let _ = write!(out, "{:8}", "");
    for (name, _) in &spots {
        let _ = write!(out, "{name:>7}");
    }
    out.push('\n');
    for (name, from) in &spots {
        let _ = write!(out, "{name:8}");
        for (_, to) in &spots {
            let letters = host.route(*from, *to).map_or("-", |route| route.way.letters());
            let _ = write!(out, "{letters:>7}");
        }
        out.push('\n');
    }
    out.push_str(
        "LOC the same, NVL links between GPUs, NVB another GPU between, C2C a coherent link, PIX one PCI switch,\n\
         PXB several, PHB the root complex of a node, SYS two of them\n",
    );
    out
}

/// Which network interfaces each GPU, or else each node, would take.
pub(super) fn nearest(host: &Host) -> String {
    let mut out = String::new();
    let spots: Vec<(String, Spot)> = match host.gpus.len() {
        0 => host
            .nodes
            .iter()
            .enumerate()
            .map(|(at, node)| (format!("node {}", node.id), Spot::Node(at as u32)))
            .collect(),
        _ => host.gpus.iter().enumerate().map(|(at, gpu)| (format!("gpu {}", gpu.dev), Spot::Gpu(at as u32))).collect(),
    };
    for (name, spot) in spots {
        let Some(first) = host.nets_from(spot).first().copied() else { continue };
        let net = &host.nics[first.nic as usize].nets[first.net as usize];
        let (way, width) = (first.route.way.letters(), rate(first.route.bandwidth));
        let _ = writeln!(out, "{name}: nearest interface {} ({way}, {width})", net.name);
    }
    if out.is_empty() { out } else { format!("\n{out}") }
}
