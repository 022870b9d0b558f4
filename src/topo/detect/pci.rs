//! sysfs to the PCI tree: only functions that matter, and the switches above them.
//!
//! ```text
//!   /sys/devices/pci0000:16/0000:16:02.0/0000:17:00.0/0000:18:00.0/0000:19:00.0
//!                           root port    upstream     downstream   the function
//!                                        └── one switch ──────┘
//! ```
//!
//! A root port belongs to its root complex, and a switch's upstream port stands for the switch, so that one switch counts as one.

use super::read::Tree;
use crate::topo::graph::{Address, Host, Pci, parse_speed};

/// Deeper paths are cut off; real ones have up to three switches.
const MAX_DEPTH: usize = 16;

/// Adds GPUs and network controllers, whether or not somebody drives them.
pub(super) fn read_functions(tree: &Tree, host: &mut Host) {
    for name in tree.names(FUNCTIONS) {
        let class = tree.peek(&format!("{FUNCTIONS}/{name}/class")).and_then(|text| hex(&text)).unwrap_or(0);
        let function = Pci { class, ..Pci::default() };
        if function.is_gpu() || function.is_network() {
            place(tree, host, &format!("{FUNCTIONS}/{name}"));
        }
    }
}

const FUNCTIONS: &str = "sys/bus/pci/devices";

/// The index of the function that a path of sysfs leads to, which is added with what is above it; nothing where it leads to none.
pub(super) fn place(tree: &Tree, host: &mut Host, path: &str) -> Option<u32> {
    let real = tree.real(path)?;
    let mut line: Vec<(Address, String)> = Vec::new();
    let mut so_far = String::new();
    for part in real.split('/') {
        so_far = if so_far.is_empty() { part.to_string() } else { format!("{so_far}/{part}") };
        if let Ok(address) = part.parse()
            && line.len() < MAX_DEPTH
        {
            line.push((address, so_far.clone()));
        }
    }
    let last = line.len().checked_sub(1)?;
    // What is above a function or a switch on the wire: a root port, or a downstream port.
    let mut parent = None;
    for (index, (address, path)) in line.iter().enumerate() {
        let is_switch = index % 2 == 1;
        if index == last || is_switch {
            let port = index.checked_sub(1).map(|above| line[above].1.as_str());
            parent = Some(add(tree, host, *address, path, port, parent));
        }
    }
    parent
}

fn add(tree: &Tree, host: &mut Host, address: Address, path: &str, port: Option<&str>, parent: Option<u32>) -> u32 {
    if let Some(at) = host.pci.iter().position(|pci| pci.address == address) {
        return at as u32;
    }
    let value = |file: &str| tree.peek(&format!("{path}/{file}"));
    let id = |file: &str| value(file).and_then(|text| hex(&text)).and_then(|id| u16::try_from(id).ok()).unwrap_or(0);
    // What both ends of the link can: at rest a link may be slower than that.
    let both = |read: &dyn Fn(&str) -> Option<u32>| {
        let ends = [Some(path), port].into_iter().flatten().filter_map(read);
        ends.filter(|number| *number > 0).min().unwrap_or(0)
    };
    let speed = both(&|end| parse_speed(&tree.peek(&format!("{end}/max_link_speed"))?));
    let width =
        both(&|end| tree.peek(&format!("{end}/max_link_width"))?.trim().parse().ok().filter(|width| *width <= 64));
    let node = match parent {
        // One switch is at one node, whatever its functions say.
        Some(above) => host.pci[above as usize].node,
        None => {
            let id = value("numa_node").and_then(|text| text.trim().parse::<u32>().ok());
            host.nodes.iter().position(|node| Some(node.id) == id).unwrap_or(0) as u32
        }
    };
    host.pci.push(Pci {
        address,
        class: value("class").and_then(|text| hex(&text)).unwrap_or(0) & 0xff_ffff,
        ids: ["vendor", "device", "subsystem_vendor", "subsystem_device"].map(id),
        speed,
        width,
        parent,
        node,
    });
    host.pci.len() as u32 - 1
}

/// `0x030200`.
fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}
