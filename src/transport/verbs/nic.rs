//! The ports of RDMA devices that this process may use: found, looked at, and refused by name where they lack something.

use super::gid::{self, Entry};
use crate::boot::BootConfig;
use crate::boot::interfaces::addresses;
use crate::sys::verbs::abi::PortAttributes;
use crate::sys::verbs::abi::number::{LINK_ETHERNET, PORT_ACTIVE};
use crate::sys::verbs::{self, Device};
use crate::topo::detect::{own_processors, rdma_distance};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A port that is ready.
#[derive(Debug)]
pub(crate) struct Nic {
    pub(crate) device: Arc<Device>,
    pub(crate) port: u8,
    pub(crate) lid: u16,
    /// Bytes of a packet, as the verbs number it.
    pub(crate) mtu: i32,
    /// The address of the port, and its index; nothing where the local number is enough.
    pub(crate) gid: Option<Entry>,
}

/// What is known of a port.
#[derive(Debug)]
struct Seen {
    name: String,
    /// Ready, or why not.
    nic: Result<Nic, String>,
}

/// Looks at all ports that the configuration means; or why there can be none.
fn look(config: &BootConfig) -> Result<Vec<Seen>, String> {
    if !config.rdma {
        return Err("RINGTREE_RDMA (or NCCL_IB_DISABLE) switches it off".into());
    }
    let own: Vec<_> = addresses().into_iter().map(|(_, ip)| ip).collect();
    let mut seen = Vec::new();
    for found in verbs::devices()? {
        let wanted = |port: u8| config.devices.as_ref().is_none_or(|names| names.takes_port(&found.name, port));
        if !found.is_infiniband {
            let why = "it speaks iWARP, which has no way to connect but through its manager and no immediate data";
            seen.push(Seen { name: found.name, nic: Err(why.into()) });
            continue;
        }
        let device = match Device::open(&found.name) {
            Ok(device) => device,
            Err(why) => {
                seen.push(Seen { name: found.name, nic: Err(why) });
                continue;
            }
        };
        for port in (1..=device.attributes().phys_port_cnt).filter(|port| wanted(*port)) {
            let name = format!("{}:{port}", found.name);
            seen.push(Seen { name, nic: open(&device, port, &own, config.gid_index) });
        }
    }
    Ok(seen)
}

fn open(device: &Arc<Device>, port: u8, own: &[std::net::IpAddr], wish: Option<u8>) -> Result<Nic, String> {
    let attributes = device.port(port).map_err(|errno| format!("it can't be asked ({})", errno.desc()))?;
    if attributes.state != PORT_ACTIVE {
        return Err("it is not active: no cable, no subnet manager, or its interface is down".into());
    }
    let roce = attributes.link_layer == LINK_ETHERNET;
    let entries = entries(device, port, &attributes);
    let gid = match gid::choose(&entries, roce, own, wish) {
        Ok(gid) => Some(gid),
        Err(_) if !roce => None,
        Err(why) => return Err(why),
    };
    Ok(Nic { device: device.clone(), port, lid: attributes.lid, mtu: attributes.active_mtu, gid })
}

/// The port's table of addresses, with what the kernel says of each.
fn entries(device: &Device, port: u8, attributes: &PortAttributes) -> Vec<Entry> {
    let folder = format!("/sys/class/infiniband/{}/ports/{port}/gid_attrs", device.name());
    let read = |kind: &str, index: u8| fs::read_to_string(format!("{folder}/{kind}/{index}"));
    let count = u8::try_from(attributes.gid_tbl_len).unwrap_or(u8::MAX);
    let entry = |index: u8| {
        let gid = device.gid(port, index)?;
        // Of interfaces in other namespaces it says nothing.
        let interface = read("ndevs", index).ok().map(|name| name.trim().to_string()).filter(|name| !name.is_empty());
        let kind = read("types", index).unwrap_or_default().trim().to_string();
        Some(Entry { index, gid, kind, interface })
    };
    (0..count).filter_map(entry).collect()
}

/// What a port is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// `mlx5_0:1`.
    pub name: String,
    /// Ready, and how others reach it; or why it is not used.
    pub ready: Result<String, String>,
}

/// All ports that the configuration means; or why there can be none.
pub fn ports(config: &BootConfig) -> Result<Vec<Port>, String> {
    let port = |seen: Seen| Port { name: seen.name, ready: seen.nic.map(|nic| nic.to_string()) };
    Ok(look(config)?.into_iter().map(port).collect())
}

impl std::fmt::Display for Nic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.gid {
            Some(gid) => write!(f, "{gid}")?,
            None => write!(f, "InfiniBand, local number {}", self.lid)?,
        }
        write!(f, ", packets of {} bytes", 128 << self.mtu)
    }
}

/// How far each device is from the processors of this thread, and so from the memory that it writes first: 10 is beside them. Where nobody
/// tells, all are alike.
pub(crate) fn distances(nics: &[Arc<Nic>]) -> Vec<u32> {
    let own = own_processors().unwrap_or_default();
    let far = |nic: &Arc<Nic>| rdma_distance(Path::new("/"), &own, nic.device.name());
    nics.iter().map(far).collect::<Option<Vec<u32>>>().unwrap_or_else(|| vec![0; nics.len()])
}

/// The ports that are ready, shared by all communicators of this process that ask for the same.
pub(crate) fn ready(config: &BootConfig) -> Vec<Arc<Nic>> {
    static KNOWN: Mutex<Option<HashMap<String, Vec<Arc<Nic>>>>> = Mutex::new(None);
    let asked = format!("{:?} {:?} {}", config.devices, config.gid_index, config.rdma);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.get_or_insert_default().entry(asked).or_insert_with(|| find(config)).clone()
}

fn find(config: &BootConfig) -> Vec<Arc<Nic>> {
    let seen = look(config).unwrap_or_else(|why| {
        log::debug!("verbs: not used: {why}");
        Vec::new()
    });
    let mut ready = Vec::new();
    for Seen { name, nic } in seen {
        match nic {
            Ok(nic) => ready.push(Arc::new(nic)),
            Err(why) => log::info!("verbs: {name} is not used: {why}"),
        }
    }
    ready
}
