//! What things cost.

/// The cost of a link of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// From the end of the writer's step to the message being seen, and from a release to the credit being seen, in nanoseconds.
    pub latency_ns: u64,
    /// Writing one byte into a slot or window, in picoseconds.
    pub put_ps: u64,
    /// Reading one byte of a message or window, in picoseconds.
    pub take_ps: u64,
}

/// Whether the channels of a rank run beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One core takes the steps of all channels of a rank, whichever can go on first.
    OneCore,
    /// Each channel has a core (or a multiprocessor, or a queue pair) of its own.
    Parallel,
}

/// A fabric of two classes of link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fabric {
    /// Links between ranks of one domain.
    pub near: Class,
    /// Links between domains.
    pub far: Class,
    /// Reading or writing one byte of a rank's own memory, in picoseconds.
    pub memory_ps: u64,
    /// What each step costs whatever its length, in nanoseconds.
    pub step_ns: u64,
    /// Slots of each link, at least one, where the program does not ask for more.
    pub slots: u32,
    /// Whether channels run beside each other.
    pub sharing: Sharing,
}

impl Fabric {
    /// One host: cores that pass messages through shared caches, domains that pass them through memory. Measured on two cores of one
    /// EPYC: a flag takes 62 ns one way, a core copies about 10 GB/s through memory and 5 times that through its cache.
    pub const HOST: Fabric = Fabric {
        near: Class { latency_ns: 60, put_ps: 25, take_ps: 50 },
        far: Class { latency_ns: 150, put_ps: 25, take_ps: 120 },
        memory_ps: 25,
        step_ns: 5,
        slots: 4,
        sharing: Sharing::OneCore,
    };

    /// Hosts on a network of 100 Gb/s; within a domain, one host.
    pub const CLUSTER: Fabric = Fabric { far: Class { latency_ns: 3_000, put_ps: 80, take_ps: 25 }, ..Fabric::HOST };

    /// The class of a link.
    pub fn class(&self, same_domain: bool) -> &Class {
        if same_domain { &self.near } else { &self.far }
    }
}
