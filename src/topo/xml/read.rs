//! From XML to hosts.

use super::affinity;
use crate::topo::graph::{Gpu, Host, MAX_LEVELS, Net, Nic, Node, NvLink, ParseError, Pci, Processor, parse_speed};
use roxmltree::{Document, Node as Element, ParsingOptions};

/// Longer texts are refused: the largest published file has 40 KiB.
const MAX_BYTES: usize = 16 << 20;
/// So are texts with more elements, attributes and pieces of text than this.
const MAX_NODES: u32 = 200_000;

/// Reads the hosts of a topology: one in most files, several where GPUs of several hosts are linked. What the format has no word for is empty.
pub fn read(text: &str) -> Result<Vec<Host>, ParseError> {
    if text.len() > MAX_BYTES {
        return Err(ParseError { line: 0, what: format!("it has more than {MAX_BYTES} bytes") });
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)
        .map_err(|error| ParseError { line: error.pos().row as usize, what: error.to_string() })?;
    let mut reader = Reader { document: &document, hosts: Vec::new() };
    reader.system(document.root_element())?;
    let valid = |(_, host): (&str, Host)| host.validate().map(|()| host).map_err(|what| ParseError { line: 0, what });
    reader.hosts.into_iter().map(valid).collect()
}

struct Reader<'a> {
    document: &'a Document<'a>,
    /// With what tells them apart.
    hosts: Vec<(&'a str, Host)>,
}

impl<'a> Reader<'a> {
    fn wrong(&self, element: Element<'a, 'a>, what: impl Into<String>) -> ParseError {
        ParseError { line: self.document.text_pos_at(element.range().start).row as usize, what: what.into() }
    }

    fn system(&mut self, system: Element<'a, 'a>) -> Result<(), ParseError> {
        if !system.has_tag_name("system") {
            return Err(self.wrong(system, format!("<{}> where <system> should be", system.tag_name().name())));
        }
        if let Some(version) = system.attribute("version").filter(|version| version.trim() != "1") {
            return Err(self.wrong(system, format!("version '{version}' is not known here: 1 is")));
        }
        for cpu in children(system, "cpu") {
            self.cpu(cpu)?;
        }
        if self.hosts.is_empty() {
            return Err(self.wrong(system, "there is no <cpu> in it"));
        }
        Ok(())
    }

    fn cpu(&mut self, cpu: Element<'a, 'a>) -> Result<(), ParseError> {
        let hash = cpu.attribute("host_hash").unwrap_or("");
        let known = self.hosts.iter().position(|(known, _)| *known == hash);
        let mut host = known.map_or_else(Host::default, |at| std::mem::take(&mut self.hosts[at].1));
        self.add_cpu(&mut host, cpu)?;
        match known {
            Some(at) => self.hosts[at].1 = host,
            None => self.hosts.push((hash, host)),
        }
        Ok(())
    }

    fn add_cpu(&self, host: &mut Host, cpu: Element<'a, 'a>) -> Result<(), ParseError> {
        let at = host.nodes.len() as u32;
        let cpus = match cpu.attribute("affinity") {
            None => Default::default(),
            Some(mask) => affinity::parse(mask)
                .ok_or_else(|| self.wrong(cpu, format!("affinity '{mask}' is no mask of processors")))?,
        };
        // Virtual machines without NUMA say -1.
        host.nodes.push(Node { id: number(cpu, "numaid").unwrap_or(at), cpus, ..Node::default() });
        if at == 0 {
            let word = |name| tame(cpu.attribute(name).unwrap_or(""));
            let number = |name| number(cpu, name).unwrap_or(0);
            host.processor = Processor {
                arch: word("arch"),
                vendor: word("vendor"),
                family: number("familyid"),
                model: number("modelid"),
            };
        }
        self.below(host, cpu, (at, None), 0)
    }

    /// What hangs below a processor or a function: `(node, parent)`.
    fn below(
        &self,
        host: &mut Host,
        above: Element<'a, 'a>,
        place: (u32, Option<u32>),
        depth: u32,
    ) -> Result<(), ParseError> {
        if depth > MAX_LEVELS {
            return Err(self.wrong(above, format!("more than {MAX_LEVELS} levels of pci")));
        }
        let (node, parent) = place;
        for element in above.children().filter(Element::is_element) {
            match element.tag_name().name() {
                "pci" => {
                    host.pci.push(self.pci(element, node, parent)?);
                    let at = host.pci.len() as u32 - 1;
                    self.below(host, element, (node, Some(at)), depth + 1)?;
                }
                "gpu" => {
                    let pci = parent.ok_or_else(|| self.wrong(element, "a <gpu> should be in a <pci>"))?;
                    let gpu = self.gpu(element, pci, host.gpus.len() as u32)?;
                    host.gpus.push(gpu);
                }
                "nic" => {
                    // A port that NCCL has joined with another one into a third says net="0".
                    let alone = |net: &Element<'_, '_>| number(*net, "net") != Some(0);
                    let nets = children(element, "net").filter(alone).map(net).collect();
                    host.nics.push(Nic { pci: parent, node, nets });
                }
                // Newer versions may tell more.
                _ => {}
            }
        }
        Ok(())
    }

    fn pci(&self, pci: Element<'a, 'a>, node: u32, parent: Option<u32>) -> Result<Pci, ParseError> {
        let place = pci.attribute("busid").unwrap_or("");
        let address =
            place.trim().parse().map_err(|_| self.wrong(pci, format!("busid '{place}' should be as 0000:18:00.0")))?;
        let id = |name| number(pci, name).and_then(|id| u16::try_from(id).ok()).unwrap_or(0);
        Ok(Pci {
            address,
            class: number(pci, "class").unwrap_or(0) & 0xff_ffff,
            ids: ["vendor", "device", "subsystem_vendor", "subsystem_device"].map(id),
            speed: pci.attribute("link_speed").and_then(parse_speed).unwrap_or(0),
            width: number(pci, "link_width").unwrap_or(0),
            parent,
            node,
        })
    }

    fn gpu(&self, gpu: Element<'a, 'a>, pci: u32, unless_said: u32) -> Result<Gpu, ParseError> {
        let link = |link: Element<'a, 'a>| {
            let place = link.attribute("target").unwrap_or("");
            let target = place.trim().parse();
            let target = target.map_err(|_| self.wrong(link, format!("target '{place}' should be as 0000:18:00.0")))?;
            let class = number(link, "tclass").unwrap_or(0) & 0xff_ffff;
            Ok(NvLink { target, count: number(link, "count").unwrap_or(1), class })
        };
        let coherent = |link| number(link, "bw").unwrap_or(0).saturating_mul(number(link, "count").unwrap_or(1));
        Ok(Gpu {
            pci,
            dev: number(gpu, "dev").unwrap_or(unless_said),
            sm: number(gpu, "sm").unwrap_or(0),
            rank: number(gpu, "rank"),
            gdr: number(gpu, "gdr") == Some(1),
            links: children(gpu, "nvlink").map(link).collect::<Result<_, _>>()?,
            c2c: children(gpu, "c2c").map(coherent).fold(0, u32::saturating_add),
        })
    }
}

fn net(net: Element<'_, '_>) -> Net {
    let guid = net.attribute("guid").unwrap_or("").trim();
    let guid = match guid.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => guid.parse(),
    };
    // Microseconds with a fraction.
    let latency = net.attribute("latency").and_then(|text| text.trim().parse::<f64>().ok());
    Net {
        name: tame(net.attribute("name").unwrap_or("")),
        dev: number(net, "dev").unwrap_or(0),
        speed: number(net, "speed").unwrap_or(0),
        port: number(net, "port").unwrap_or(0),
        guid: guid.unwrap_or(0),
        latency: latency.filter(|time| (0.0..1e6).contains(time)).map_or(0, |time| (time * 1e3).round() as u32),
        connections: number(net, "maxconn").unwrap_or(0),
        gdr: number(net, "gdr") == Some(1),
        collective: number(net, "coll") == Some(1),
        rail: number(net, "rail"),
        plane: number(net, "plane"),
        ..Net::default()
    }
}

fn children<'a>(above: Element<'a, 'a>, name: &'static str) -> impl Iterator<Item = Element<'a, 'a>> {
    above.children().filter(move |child| child.has_tag_name(name))
}

/// A number in decimal or, after 0x, in hexadecimal digits; nothing where there is none, or one below zero, which stands for unknown.
fn number(element: Element<'_, '_>, name: &str) -> Option<u32> {
    let text = element.attribute(name)?.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A word that somebody else wrote, fit for a line of words.
fn tame(text: &str) -> String {
    let fit = |letter: &char| letter.is_ascii_graphic();
    text.trim().chars().filter(fit).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrong(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_topology_is_refused_with_its_line() {
        assert!(wrong("").starts_with("line 1:"));
        assert!(wrong("<graphs/>").contains("<system> should be"));
        assert!(wrong("<system version=\"2\"/>").contains("version '2'"));
        assert!(wrong("<system version=\"1\"/>").contains("no <cpu>"));
        assert!(wrong("<system>\n<cpu>\n<pci busid=\"x\"/></cpu></system>").starts_with("line 3: busid 'x'"));
        assert!(wrong("<system><cpu affinity=\"g\"/></system>").contains("no mask"));
        assert!(wrong("<system><cpu><gpu dev=\"0\"/></cpu></system>").contains("in a <pci>"));
        let link = "<system><cpu><pci busid=\"0:1:0.0\"><gpu><nvlink/></gpu></pci></cpu></system>";
        assert!(wrong(link).contains("target ''"));
        assert!(wrong("<!DOCTYPE x [<!ENTITY a \"b\">]><system/>").contains("DTD"));
    }

    #[test]
    fn trees_without_end_are_refused() {
        let deep = |levels: usize| {
            let (open, close) = ("<pci busid=\"0:1:0.0\">".repeat(levels), "</pci>".repeat(levels));
            read(&format!("<system><cpu>{open}{close}</cpu></system>"))
        };
        assert_eq!(deep(8).unwrap()[0].pci.len(), 8);
        assert!(deep(100).unwrap_err().what.contains("levels"));
        assert!(wrong(&"<".repeat(MAX_BYTES + 1)).contains("bytes"));
    }

    #[test]
    fn a_machine_that_says_little_is_read_too() {
        let net = "<nic><net name=\"eth 0\" speed=\"-1\"/></nic>";
        let text = format!("<system><cpu numaid=\"-1\"><pci busid=\"0001:00:00.0\"/>{net}</cpu></system>");
        let host = &read(&text).unwrap()[0];
        assert_eq!((host.nodes[0].id, host.pci[0].speed, host.nics[0].pci), (0, 0, None));
        assert_eq!((host.nics[0].nets[0].name.as_str(), host.nics[0].nets[0].speed), ("eth0", 0));
    }

    const ELEMENT: &str = "<(cpu|pci|gpu|nic|net|nvlink|c2c|/cpu|/pci)\
        ( (busid|target|affinity|dev|count|guid|latency|speed|class|numaid)=\"[0-9a-fx:.,-]{0,20}\"){0,3}/?>";

    proptest! {
        #[test]
        fn garbage_never_panics(parts in proptest::collection::vec(ELEMENT, 0..30)) {
            let _ = read(&format!("<system version=\"1\">{}</system>", parts.concat()));
        }
    }
}
