//! A site: where hosts are, above the host. Racks, pods and fabrics as names, from the outermost group inwards.
//!
//! | file | idea |
//! |---|---|
//! | `location` | where one host is, and what ranks tell each other of it |
//! | `hosts` | lists of hosts as Slurm writes them |
//! | `text` | the file, read and written |
//! | `found` | a host's location out of the variables of schedulers |
//! | `order` | in which order a ring visits hosts |
//!
//! What counts is which hosts are in a group together, and which groups are within which. A fat tree is pods and racks; a dragonfly is
//! groups of switches; where rails are kept apart by the wires, they are in each pod alike, and ranks of one place in their hosts talk to each
//! other over them as it is ([`crate::plan::World`]). In a torus it is coordinates that count.
#![forbid(unsafe_code)]

mod found;
mod hosts;
mod location;
mod order;
mod text;

pub use found::{of_slurm, of_variables};
pub use hosts::{MOST_HOSTS, compress, expand};
pub use location::{Location, MOST_DIMENSIONS, MOST_LEVELS, Mark};
pub use order::Order;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// How the switches are wired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fabric {
    /// Racks under pods under a core, as many levels as there are.
    #[default]
    FatTree,
    /// A fat tree for each network card of a host: cards of one number meet in a leaf, those of different numbers only above.
    RailOptimised,
    /// Groups that are each other's neighbours.
    Dragonfly,
    /// Hosts have coordinates, and neighbours in each direction.
    Torus,
}

impl Fabric {
    /// All of them.
    pub const ALL: [Fabric; 4] = [Fabric::FatTree, Fabric::RailOptimised, Fabric::Dragonfly, Fabric::Torus];

    /// Its name in a file.
    pub fn name(self) -> &'static str {
        match self {
            Fabric::FatTree => "fat-tree",
            Fabric::RailOptimised => "rail-optimised",
            Fabric::Dragonfly => "dragonfly",
            Fabric::Torus => "torus",
        }
    }
}

impl fmt::Display for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where hosts are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// How its switches are wired.
    pub fabric: Fabric,
    /// How many rails each host is on; 0: nobody says.
    pub rails: u32,
    /// Places in the order of the file, one after another for neighbours in it.
    places: Vec<Location>,
    /// Hosts in the order of the file, each with the number of its place.
    hosts: Vec<(String, usize)>,
}

impl Site {
    /// The hosts in the order of the file, and where each is.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = (&str, &Location)> {
        self.hosts.iter().map(|(name, place)| (&name[..], &self.places[*place]))
    }

    /// Where the host of that name is: in full, or if one of the two names has no domain, up to that.
    pub fn find(&self, name: &str) -> Option<&Location> {
        let short = |name: &'_ str| name.find('.').map_or(name.len(), |dot| dot);
        let alike = |host: &str| {
            let (ours, theirs) = (short(host), short(name));
            let one_is_short = ours == host.len() || theirs == name.len();
            one_is_short && host[..ours] == name[..theirs]
        };
        let exact = || self.hosts().find(|(host, _)| *host == name);
        exact().or_else(|| self.hosts().find(|(host, _)| alike(host))).map(|(_, location)| location)
    }
}
