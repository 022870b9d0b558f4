//! A host drawn: its outline from top to bottom, and beside it the links between GPUs.
//!
//! ```text
//!   ■ node 0
//!   └─■ switch
//!     ├─■ gpu 0 ─────────┐          straight links: one bow for each pair
//!     └─■ gpu 1 ─────────┘  ─── █   links to switches: one bar for all
//! ```

use super::outline::{Entry, What, outline};
use crate::svg::{Anchor, Svg, colour};
use ringtree::topo::graph::{Gpu, Host};

const ROW: f64 = 24.0;
const INDENT: f64 = 22.0;
const HEAD: f64 = 72.0;
const FOOT: f64 = 40.0;
const SIDE: f64 = 20.0;
/// Where words end and links begin.
const WORDS: f64 = 760.0;
/// From one link to the next.
const LANE: f64 = 6.0;
/// The bar that stands for switches of links, and the way to it.
const SWITCH: f64 = 40.0;

/// The picture: hosts below each other.
pub(super) fn draw(hosts: &[Host]) -> String {
    let outlines: Vec<Vec<Entry>> = hosts.iter().map(outline).collect();
    let tall = |entries: &Vec<Entry>| HEAD + ROW * entries.len() as f64 + FOOT;
    let lanes = hosts.iter().map(|host| pairs(host).len()).max().unwrap_or(0);
    let width = WORDS + LANE * lanes as f64 + SWITCH + 2.0 * SIDE;
    let mut svg = Svg::new(width, outlines.iter().map(tall).sum());
    let mut top = 0.0;
    for (host, entries) in hosts.iter().zip(&outlines) {
        draw_host(&mut svg, host, entries, top);
        top += tall(entries);
    }
    svg.finish("Hosts: nodes, caches, PCI functions, GPUs and network interfaces")
}

/// The groups of a site within each other, and the hosts of each.
pub(super) fn draw_groups(title: &str, entries: &[Entry]) -> String {
    let mut svg = Svg::new(WORDS + 2.0 * SIDE, HEAD + ROW * entries.len() as f64 + FOOT);
    svg.heading((SIDE, 30.0), 18.0, title);
    let legend = "Groups in the order in which rings visit them, and their hosts.";
    svg.text((SIDE, 50.0), (12.0, colour::GREY), Anchor::Start, legend);
    for (row, entry) in entries.iter().enumerate() {
        connect(&mut svg, HEAD, entries, row);
        put(&mut svg, (SIDE + INDENT * entry.depth as f64, HEAD + ROW * row as f64), entry);
    }
    svg.finish("A site: racks, pods and their hosts")
}

fn draw_host(svg: &mut Svg, host: &Host, entries: &[Entry], top: f64) {
    let name = if host.name.is_empty() { "A host" } else { &host.name };
    svg.heading((SIDE, top + 30.0), 18.0, name);
    let legend = if host.gpus.iter().all(|gpu| gpu.links.is_empty()) {
        "What hangs at which node."
    } else {
        "What hangs at which node; purple, at the right: links between GPUs, a bar for their switches."
    };
    svg.text((SIDE, top + 50.0), (12.0, colour::GREY), Anchor::Start, legend);
    let top = top + HEAD;
    for (row, entry) in entries.iter().enumerate() {
        connect(svg, top, entries, row);
        put(svg, (SIDE + INDENT * entry.depth as f64, top + ROW * row as f64), entry);
    }
    let row_of = |gpu: usize| entries.iter().position(|entry| entry.what == What::Gpu(gpu as u32)).unwrap_or(0);
    let height = |gpu: usize| top + ROW * row_of(gpu) as f64 + ROW / 2.0;
    for (lane, (one, other)) in pairs(host).into_iter().enumerate() {
        let (from, to, turn) = (height(one), height(other), WORDS + LANE * (lane + 1) as f64);
        svg.polyline(&[(WORDS, from), (turn, from), (turn, to), (WORDS, to)], colour::PURPLE, "");
    }
    let switched: Vec<f64> = (0..host.gpus.len()).filter(|gpu| switches(&host.gpus[*gpu])).map(height).collect();
    let bar = WORDS + SWITCH - 10.0;
    switched.iter().for_each(|y| svg.polyline(&[(WORDS, *y), (bar, *y)], colour::PURPLE, ""));
    if let (Some(first), Some(last)) = (switched.first(), switched.last()) {
        svg.rect((bar, first - 8.0), (10.0, last - first + 16.0), colour::PURPLE, "switches of links between GPUs");
    }
}

fn switches(gpu: &Gpu) -> bool {
    gpu.links.iter().any(|link| link.is_to_switch())
}

/// GPUs that have links straight to each other, by their numbers here, each pair once.
fn pairs(host: &Host) -> Vec<(usize, usize)> {
    let address = |gpu: usize| host.pci.get(host.gpus[gpu].pci as usize).map(|pci| pci.address);
    let linked = |one: usize, other: usize| host.gpus[one].links.iter().any(|link| Some(link.target) == address(other));
    let all = 0..host.gpus.len();
    all.clone()
        .flat_map(|one| all.clone().skip(one + 1).map(move |other| (one, other)))
        .filter(|(one, other)| linked(*one, *other) || linked(*other, *one))
        .collect()
}

/// One entry: a box in the colour of what it is, and its words.
fn put(svg: &mut Svg, (x, y): (f64, f64), entry: &Entry) {
    let fill = match entry.what {
        What::Node => colour::INK,
        What::Cache | What::Hosts => colour::SKY,
        What::Switch | What::Group { own: false } => colour::GREY,
        What::Gpu(_) | What::Group { own: true } => colour::GREEN,
        What::Nic(_) => colour::ORANGE,
        What::Net => colour::VERMILION,
        What::Function => colour::FAINT,
    };
    svg.rect((x, y + 6.0), (12.0, 12.0), fill, &entry.text);
    match entry.what {
        What::Node => svg.heading((x + 18.0, y + 17.0), 13.0, &entry.text),
        _ => svg.text((x + 18.0, y + 17.0), (12.0, colour::INK), Anchor::Start, &entry.text),
    }
}

/// The line from an entry up to what it hangs at.
fn connect(svg: &mut Svg, top: f64, entries: &[Entry], row: usize) {
    let depth = entries[row].depth;
    let Some(parent) = entries[..row].iter().rposition(|entry| entry.depth < depth) else { return };
    let x = SIDE + 6.0 + INDENT * entries[parent].depth as f64;
    let (above, middle) = (top + ROW * parent as f64 + 18.0, top + ROW * row as f64 + 12.0);
    svg.line((x, above), (x, middle), (colour::GREY, 1.0), "");
    svg.line((x, middle), (SIDE + INDENT * depth as f64, middle), (colour::GREY, 1.0), "");
}
