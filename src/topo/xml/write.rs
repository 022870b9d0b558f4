//! From a host to XML. What is not known is left out, not written as nothing: NCCL finds out by itself what a file does not say, and takes
//! what it says for true.

use super::affinity;
use crate::topo::graph::{Gpu, Host, Net, Nic, speed_text};
use std::fmt::Write;

/// Writes a topology.
pub fn write(host: &Host) -> String {
    let mut writer = Writer { host, out: String::new(), depth: 1 };
    writer.out.push_str("<system version=\"1\">\n");
    for node in 0..host.nodes.len() as u32 {
        writer.cpu(node);
    }
    writer.out.push_str("</system>\n");
    writer.out
}

struct Writer<'a> {
    host: &'a Host,
    out: String,
    depth: usize,
}

impl Writer<'_> {
    /// An element with what is inside.
    fn element(&mut self, name: &str, attributes: &[(&str, Value)], inside: impl FnOnce(&mut Self)) {
        let indent = "  ".repeat(self.depth);
        let _ = write!(self.out, "{indent}<{name}");
        for (name, value) in attributes.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            let _ = write!(self.out, " {name}=\"{}\"", escaped(value));
        }
        let head = self.out.len();
        self.out.push_str(">\n");
        let empty = self.out.len();
        self.depth += 1;
        inside(self);
        self.depth -= 1;
        if self.out.len() == empty {
            self.out.truncate(head);
            self.out.push_str("/>\n");
        } else {
            let _ = writeln!(self.out, "{indent}</{name}>");
        }
    }

    fn cpu(&mut self, at: u32) {
        let (host, node) = (self.host, &self.host.nodes[at as usize]);
        let make = &host.processor;
        let attributes = [
            ("numaid", Some(node.id.to_string())),
            ("affinity", (!node.cpus.is_empty()).then(|| affinity::text(&node.cpus))),
            ("arch", word(&make.arch)),
            ("vendor", word(&make.vendor)),
            ("familyid", known(make.family)),
            ("modelid", known(make.model)),
        ];
        self.element("cpu", &attributes, |writer| {
            for (index, _) in host.pci.iter().enumerate().filter(|(_, pci)| pci.parent.is_none() && pci.node == at) {
                writer.pci(index as u32);
            }
            for nic in host.nics.iter().filter(|nic| nic.pci.is_none() && nic.node == at) {
                writer.nic(nic);
            }
        });
    }

    fn pci(&mut self, at: u32) {
        let (host, pci) = (self.host, &self.host.pci[at as usize]);
        let hex = |id: u16| (id > 0).then(|| format!("0x{id:04x}"));
        let [vendor, device, subsystem_vendor, subsystem_device] = pci.ids.map(hex);
        let attributes = [
            ("busid", Some(pci.address.to_string())),
            ("class", (pci.class > 0).then(|| format!("0x{:06x}", pci.class))),
            ("vendor", vendor),
            ("device", device),
            ("subsystem_vendor", subsystem_vendor),
            ("subsystem_device", subsystem_device),
            ("link_speed", (pci.speed > 0).then(|| speed_text(pci.speed))),
            ("link_width", known(pci.width)),
        ];
        self.element("pci", &attributes, |writer| {
            // Children come after their parent, so this ends.
            let children = host.pci.iter().enumerate().skip(at as usize + 1).filter(|(_, pci)| pci.parent == Some(at));
            for (index, _) in children {
                writer.pci(index as u32);
            }
            for gpu in host.gpus.iter().filter(|gpu| gpu.pci == at) {
                writer.gpu(gpu);
            }
            for nic in host.nics.iter().filter(|nic| nic.pci == Some(at)) {
                writer.nic(nic);
            }
        });
    }

    fn gpu(&mut self, gpu: &Gpu) {
        let attributes = [
            ("dev", Some(gpu.dev.to_string())),
            ("sm", known(gpu.sm)),
            ("rank", gpu.rank.map(|rank| rank.to_string())),
            ("gdr", known(u32::from(gpu.gdr))),
        ];
        self.element("gpu", &attributes, |writer| {
            for link in &gpu.links {
                let attributes = [
                    ("target", Some(link.target.to_string())),
                    ("count", Some(link.count.to_string())),
                    ("tclass", (link.class > 0).then(|| format!("0x{:06x}", link.class))),
                ];
                writer.element("nvlink", &attributes, |_| {});
            }
            if gpu.c2c > 0 {
                writer.element("c2c", &[("bw", known(gpu.c2c)), ("count", known(1))], |_| {});
            }
        });
    }

    fn nic(&mut self, nic: &Nic) {
        self.element("nic", &[], |writer| nic.nets.iter().for_each(|net| writer.net(net)));
    }

    fn net(&mut self, net: &Net) {
        let latency = || format!("{}.{:03}", net.latency / 1_000, net.latency % 1_000);
        let attributes = [
            ("name", word(&net.name)),
            ("dev", Some(net.dev.to_string())),
            ("latency", (net.latency > 0).then(latency)),
            ("speed", known(net.speed)),
            ("port", known(net.port)),
            ("guid", (net.guid > 0).then(|| format!("0x{:x}", net.guid))),
            ("maxconn", known(net.connections)),
            ("gdr", known(u32::from(net.gdr))),
            ("coll", known(u32::from(net.collective))),
            ("rail", net.rail.map(|rail| rail.to_string())),
            ("plane", net.plane.map(|plane| plane.to_string())),
        ];
        self.element("net", &attributes, |_| {});
    }
}

/// What an attribute says, if anything is known.
type Value = Option<String>;

fn known(number: u32) -> Value {
    (number > 0).then(|| number.to_string())
}

fn word(text: &str) -> Value {
    (!text.is_empty()).then(|| text.to_string())
}

/// A value as it may stand between quotes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
