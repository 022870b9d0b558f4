//! The lines of the text form that tell of processors' make, PCI functions, GPUs and network controllers.
//!
//! ```text
//! processor 0 arch x86_64 vendor GenuineIntel family 6 model 85
//! pci 0 address 0000:18:00.0 class 030200 ids 10de:20b0:10de:134f speed 16000 width 16 parent - node 0
//! gpu 0 pci 0 dev 0 sm 80 rank - gdr 1 c2c 0 links 0000:3b:00.0*4/030200
//! nic 0 pci - node 0
//! net 0 nic 0 name eth0 dev 0 kind socket speed 10000 port 1 guid 0 latency 0 connections 0 gdr 0 collective 0 rail - plane - down 0
//! ```

use super::text::Line;
use super::{Gpu, Host, Net, NetKind, Nic, NvLink, Pci, Processor};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// Stands for nothing: a line is words.
const NOTHING: &str = "-";

fn or_nothing(number: Option<u32>) -> String {
    number.map_or_else(|| NOTHING.to_string(), |number| number.to_string())
}

fn word(text: &str) -> &str {
    if text.is_empty() { NOTHING } else { text }
}

pub(super) fn write(host: &Host, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Processor { arch, vendor, family, model } = &host.processor;
    if host.processor != Processor::default() {
        writeln!(f, "processor 0 arch {} vendor {} family {family} model {model}", word(arch), word(vendor))?;
    }
    for (index, pci) in host.pci.iter().enumerate() {
        let Pci { address, class, ids: [a, b, c, d], speed, width, parent, node } = pci;
        let parent = or_nothing(*parent);
        write!(f, "pci {index} address {address} class {class:06x} ids {a:04x}:{b:04x}:{c:04x}:{d:04x}")?;
        writeln!(f, " speed {speed} width {width} parent {parent} node {node}")?;
    }
    for (index, gpu) in host.gpus.iter().enumerate() {
        let Gpu { pci, dev, sm, rank, gdr, links, c2c } = gpu;
        let link = |link: &NvLink| format!("{}*{}/{:06x}", link.target, link.count, link.class);
        let links: Vec<String> = links.iter().map(link).collect();
        let (rank, gdr, links) = (or_nothing(*rank), u8::from(*gdr), links.join(","));
        writeln!(f, "gpu {index} pci {pci} dev {dev} sm {sm} rank {rank} gdr {gdr} c2c {c2c} links {}", word(&links))?;
    }
    let mut number = 0;
    for (index, nic) in host.nics.iter().enumerate() {
        writeln!(f, "nic {index} pci {} node {}", or_nothing(nic.pci), nic.node)?;
        for net in &nic.nets {
            let Net { name, dev, kind, speed, port, guid, latency, connections, gdr, collective, rail, plane, down } =
                net;
            let (name, kind) = (word(name), kind.name());
            let [gdr, collective, down] = [gdr, collective, down].map(|flag| u8::from(*flag));
            let (rail, plane) = (or_nothing(*rail), or_nothing(*plane));
            write!(
                f,
                "net {number} nic {index} name {name} dev {dev} kind {kind} speed {speed} port {port} guid {guid:x}"
            )?;
            write!(f, " latency {latency} connections {connections} gdr {gdr} collective {collective}")?;
            writeln!(f, " rail {rail} plane {plane} down {down}")?;
            number += 1;
        }
    }
    Ok(())
}

/// Adds what a line tells, if it is one of these.
pub(super) fn add(host: &mut Host, line: &Line<'_>) -> Result<bool, String> {
    match line.words[0] {
        "processor" => host.processor = processor(line)?,
        "pci" => {
            line.index(host.pci.len())?;
            host.pci.push(pci(line)?);
        }
        "gpu" => {
            line.index(host.gpus.len())?;
            host.gpus.push(gpu(line)?);
        }
        "nic" => {
            line.index(host.nics.len())?;
            host.nics.push(Nic { pci: optional(line, "pci")?, node: line.number("node")?, nets: Vec::new() });
        }
        "net" => {
            line.index(host.nics.iter().map(|nic| nic.nets.len()).sum())?;
            let (at, last) = (line.number::<usize>("nic")?, host.nics.len());
            // In their order: what is read back has the order that was written.
            let nic = host.nics.last_mut().filter(|_| Some(at) == last.checked_sub(1));
            nic.ok_or_else(|| format!("'nic' should be the last one, and is {at} of {last}"))?.nets.push(net(line)?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn processor(line: &Line<'_>) -> Result<Processor, String> {
    let (arch, vendor) = (text(line, "arch")?, text(line, "vendor")?);
    Ok(Processor { arch, vendor, family: line.number("family")?, model: line.number("model")? })
}

fn pci(line: &Line<'_>) -> Result<Pci, String> {
    let address = line.value("address")?;
    let address = address.parse().map_err(|_| format!("'address' should be as 0000:18:00.0, and is '{address}'"))?;
    let ids: Result<Vec<u16>, String> = line.value("ids")?.split(':').map(|id| hex(id, "ids")).collect();
    let ids = ids?.try_into().map_err(|_| "'ids' should be four numbers".to_string())?;
    Ok(Pci {
        address,
        class: hex(line.value("class")?, "class")?,
        ids,
        speed: line.number("speed")?,
        width: line.number("width")?,
        parent: optional(line, "parent")?,
        node: line.number("node")?,
    })
}

fn gpu(line: &Line<'_>) -> Result<Gpu, String> {
    let links = line.value("links")?.split(',').filter(|link| *link != NOTHING && !link.is_empty());
    let links: Option<Vec<NvLink>> = links.map(link).collect();
    Ok(Gpu {
        pci: line.number("pci")?,
        dev: line.number("dev")?,
        sm: line.number("sm")?,
        rank: optional(line, "rank")?,
        gdr: flag(line, "gdr")?,
        links: links.ok_or_else(|| "'links' should be as 0000:3b:00.0*4/030200, with commas".to_string())?,
        c2c: line.number("c2c")?,
    })
}

fn link(text: &str) -> Option<NvLink> {
    let (target, rest) = text.split_once('*')?;
    let (count, class) = rest.split_once('/')?;
    Some(NvLink { target: target.parse().ok()?, count: count.parse().ok()?, class: hex(class, "").ok()? })
}

fn net(line: &Line<'_>) -> Result<Net, String> {
    let kind = line.value("kind")?;
    let guid = line.value("guid")?;
    Ok(Net {
        name: text(line, "name")?,
        dev: line.number("dev")?,
        kind: NetKind::from_name(kind).ok_or_else(|| format!("there is no 'kind' {kind}"))?,
        speed: line.number("speed")?,
        port: line.number("port")?,
        guid: u64::from_str_radix(guid, 16).map_err(|_| format!("'guid' should be hexadecimal, and is '{guid}'"))?,
        latency: line.number("latency")?,
        connections: line.number("connections")?,
        gdr: flag(line, "gdr")?,
        collective: flag(line, "collective")?,
        rail: optional(line, "rail")?,
        plane: optional(line, "plane")?,
        down: flag(line, "down")?,
    })
}

fn text(line: &Line<'_>, key: &str) -> Result<String, String> {
    let value = line.value(key)?;
    Ok(if value == NOTHING { String::new() } else { value.to_string() })
}

fn optional(line: &Line<'_>, key: &str) -> Result<Option<u32>, String> {
    if line.value(key)? == NOTHING { Ok(None) } else { line.number(key).map(Some) }
}

fn flag(line: &Line<'_>, key: &str) -> Result<bool, String> {
    match line.value(key)? {
        "0" => Ok(false),
        "1" => Ok(true),
        other => Err(format!("'{key}' should be 0 or 1, and is '{other}'")),
    }
}

fn hex<T: TryFrom<u32>>(text: &str, key: &str) -> Result<T, String> {
    let number = u32::from_str_radix(text, 16).ok().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("'{key}' should be hexadecimal and in range, and is '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::accelerated;
    use super::*;

    #[test]
    fn devices_survive_being_written_and_read() {
        let mut host = accelerated();
        host.gpus[1].rank = None;
        host.gpus[2].links.clear();
        host.nics[0].pci = None;
        host.nics[1].nets.clear();
        host.nics[2].nets[0] = Net {
            name: "mlx5_7".into(),
            dev: 7,
            kind: NetKind::Roce,
            speed: 400_000,
            port: 2,
            guid: u64::MAX,
            latency: 1_500,
            connections: 1 << 17,
            gdr: true,
            collective: true,
            rail: Some(3),
            plane: Some(0),
            down: true,
        };
        assert_eq!(Host::parse(&host.to_string()), Ok(host));
    }

    #[test]
    fn an_error_names_the_line_and_what_was_expected() {
        let fail = |lines: &str| {
            Host::parse(&format!("ringtree-host 1\nnode 0 memory 0 distances - cpus\n{lines}")).unwrap_err().to_string()
        };
        assert!(fail("pci 0 address 18 class 030200").contains("0000:18:00.0"));
        assert!(fail("pci 1 address 0000:18:00.0").contains("where 0 is next"));
        assert!(fail("gpu 0 pci 0 dev 0 sm 80 rank - gdr 2 c2c 0 links -").contains("'gdr' should be 0 or 1"));
        assert!(fail("gpu 0 pci 0 dev 0 sm 80 rank - gdr 1 c2c 0 links 3b*4").contains("'links' should be"));
        assert!(fail("gpu 0 pci 0 dev 0 sm 80 rank - gdr 1 c2c 0 links -").contains("names pci 0 of 0"));
        assert!(fail("net 0 nic 0 name eth0 dev 0 kind socket").contains("the last one"));
    }
}
