//! From a host to XML.

use super::affinity;
use crate::topo::graph::{Gpu, Host, Net, Nic, speed_text};
use std::fmt::{self, Write};

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
    /// An element with what is inside; `inside` says whether there was anything.
    fn element(&mut self, name: &str, attributes: &[(&str, &dyn fmt::Display)], inside: impl FnOnce(&mut Self)) {
        let indent = "  ".repeat(self.depth);
        let _ = write!(self.out, "{indent}<{name}");
        for (name, value) in attributes {
            let _ = write!(self.out, " {name}=\"{}\"", escaped(&value.to_string()));
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
        let (mask, make) = (affinity::text(&node.cpus), &host.processor);
        let attributes: [(&str, &dyn fmt::Display); 6] = [
            ("numaid", &node.id),
            ("affinity", &mask),
            ("arch", &make.arch),
            ("vendor", &make.vendor),
            ("familyid", &make.family),
            ("modelid", &make.model),
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
        let hex = |id: u16| format!("0x{id:04x}");
        let (class, ids, speed) = (format!("0x{:06x}", pci.class), pci.ids.map(hex), speed_text(pci.speed));
        let speed = if pci.speed == 0 { "" } else { &speed };
        let attributes: [(&str, &dyn fmt::Display); 8] = [
            ("busid", &pci.address),
            ("class", &class),
            ("vendor", &ids[0]),
            ("device", &ids[1]),
            ("subsystem_vendor", &ids[2]),
            ("subsystem_device", &ids[3]),
            ("link_speed", &speed),
            ("link_width", &pci.width),
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
        let (rank, gdr) = (gpu.rank.map_or(-1, i64::from), u8::from(gpu.gdr));
        let attributes: [(&str, &dyn fmt::Display); 4] =
            [("dev", &gpu.dev), ("sm", &gpu.sm), ("rank", &rank), ("gdr", &gdr)];
        self.element("gpu", &attributes, |writer| {
            for link in &gpu.links {
                let class = format!("0x{:06x}", link.class);
                writer.element(
                    "nvlink",
                    &[("target", &link.target), ("count", &link.count), ("tclass", &class)],
                    |_| {},
                );
            }
            if gpu.c2c > 0 {
                writer.element("c2c", &[("bw", &gpu.c2c), ("count", &1)], |_| {});
            }
        });
    }

    fn nic(&mut self, nic: &Nic) {
        self.element("nic", &[], |writer| nic.nets.iter().for_each(|net| writer.net(net)));
    }

    fn net(&mut self, net: &Net) {
        let guid = format!("0x{:x}", net.guid);
        let latency = format!("{}.{:03}", net.latency / 1_000, net.latency % 1_000);
        let (gdr, collective) = (u8::from(net.gdr), u8::from(net.collective));
        let mut attributes: Vec<(&str, &dyn fmt::Display)> = vec![
            ("name", &net.name),
            ("dev", &net.dev),
            ("latency", &latency),
            ("speed", &net.speed),
            ("port", &net.port),
            ("guid", &guid),
            ("maxconn", &net.connections),
            ("gdr", &gdr),
            ("coll", &collective),
        ];
        attributes.extend(net.rail.iter().map(|rail| ("rail", rail as &dyn fmt::Display)));
        attributes.extend(net.plane.iter().map(|plane| ("plane", plane as &dyn fmt::Display)));
        self.element("net", &attributes, |_| {});
    }
}

/// A value as it may stand between quotes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
