//! What a host is made of: a graph as data ([`graph`], pure), and the one place that looks at the machine ([`detect`]). And where hosts are:
//! [`site`], pure too.
//!
//! | file | idea | may know |
//! |---|---|---|
//! | `graph` | processors, caches, PCI functions, GPUs, NICs, and how near they are; a text form | nothing but its arguments |
//! | `site` | racks, pods and fabrics, and the order in which rings visit hosts | nothing but its arguments |
//! | `xml` | NCCL's topology files, read and written | the graph |
//! | `detect` | reads the host and its limits from sysfs, procfs and cgroups | a directory to read below, so that tests hand it fake trees |
//!
//! Nothing here fails because a machine is odd: what could not be seen is listed with the reason, and the rest goes on.

pub mod detect;
pub mod graph;
pub mod site;
pub mod xml;
