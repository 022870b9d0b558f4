//! NCCL's topology XML, version 1: what `NCCL_TOPO_FILE` reads and `NCCL_TOPO_DUMP_FILE` writes. Clouds publish such files for machines
//! whose PCI tree a guest can't see.
//!
//! ```text
//!   system
//!    └─ cpu (numaid, affinity, arch, vendor, familyid, modelid)          a NUMA node
//!        ├─ pci (busid, class, link_speed, link_width)                    a switch
//!        │   ├─ pci ── gpu (dev, sm, rank, gdr) ── nvlink, c2c
//!        │   └─ pci ── nic ── net (name, dev, speed, port, guid)
//!        └─ nic ── net                                                    one without a place in the tree
//! ```
//!
//! The format has no words for caches, cores, distances and the kind of a network interface: they are lost on the way there and back.
//! A file of hosts whose GPUs are linked to each other has the processors of all of them; `host_hash` tells them apart.
//!
//! Functions without a `gpu` or `nic` in them, as in files that were written by hand, are kept as what they are.

mod affinity;
mod read;
mod write;

pub use read::read;
pub use write::write;
