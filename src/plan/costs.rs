//! What links cost: the one table of constants. A plan takes the built-in one, or one that was measured ([`super::Tuning::costs`]).
//!
//! ```text
//!   class      where
//!   memory     ranks of one domain, three or more, over memory
//!   pair       two ranks over memory: all slots are shuttles
//!   domains    ranks of different domains, over memory
//!   loopback   sockets within a host
//!   network    sockets between hosts
//! ```
//!
//! Integers, since all ranks must come to the same choice.

use super::Medium;
use super::digest::Digest;

/// What a class of links costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkClass {
    pub(super) name: &'static str,
    /// From one rank's flag to the other rank's next step.
    pub(super) latency_ns: u64,
    /// The same where ranks share cores: a turn of the scheduler for each other rank on the core.
    pub(super) turn_ns: u64,
    /// One message handled: put, or taken, or one operand of a fold.
    pub(super) message_ns: u64,
    /// One message without elements.
    pub(super) signal_ns: u64,
    /// One byte copied into or out of a slot.
    pub(super) copy_ps: u64,
    /// One byte of one operand after the first of a reduction.
    pub(super) fold_ps: u64,
    /// One message sent to one rank by the system, and received there.
    pub(super) post_ns: u64,
    /// One byte of it.
    pub(super) sent_ps: u64,
}

/// Shared memory: the ratio of `copy` to `fold` is what makes two-shot best for three and more ranks above about 8 KiB. Two ranks, all-reduce
/// of f32, one-shot and two-shot: on two near cores of a Zen 2 256 KiB 15.3 and 13.7 us (31 and 29 between far ones), of a Zen 5, which
/// folds 64 bytes at once, 32 KiB 1.71 and 2.59, 256 KiB 11.1 and 14.6, 1 MiB 45 and 50 where neighbours disturbed it, 6.7 and 6.8, 32 and 29
/// where not. So copying and folding a byte
/// cost nearly the same, and one-shot is taken up to where both are within a tenth everywhere. In windows on a Zen 2 0.49 at 1 KiB, 0.75 at
/// 16 KiB, from where on they are faster.
///
/// Sockets: measured on the loopback between two cores of a Zen 2, both ends here. All-reduce of two ranks, one-shot: 8 B 5.8 us, 64 KiB
/// 17, 1 MiB 202; of four ranks, which send three, two or six messages of 8 B: one-shot 46, halving 30, ring 115 (on a Zen 5
/// 41, 32, 104): five microseconds for the turn of another rank on the core. Of the network only the
/// latency is another one; 300 ps are what two hosts make of a byte at 25 Gb/s.
static BUILT_IN: Costs = Costs {
    memory: LinkClass {
        name: "shared memory",
        latency_ns: 60,
        turn_ns: 1000,
        message_ns: 38,
        signal_ns: 10,
        copy_ps: 100,
        fold_ps: 70,
        post_ns: 0,
        sent_ps: 0,
    },
    pair: LinkClass {
        name: "memory of two ranks",
        latency_ns: 60,
        turn_ns: 1000,
        message_ns: 38,
        signal_ns: 60,
        copy_ps: 22,
        fold_ps: 23,
        post_ns: 0,
        sent_ps: 0,
    },
    domains: LinkClass {
        name: "between domains",
        latency_ns: 150,
        turn_ns: 1000,
        message_ns: 50,
        signal_ns: 20,
        copy_ps: 150,
        fold_ps: 110,
        post_ns: 0,
        sent_ps: 0,
    },
    loopback: LinkClass {
        name: "sockets of one host",
        latency_ns: 1000,
        turn_ns: 5000,
        message_ns: 50,
        signal_ns: 50,
        copy_ps: 0,
        fold_ps: 10,
        post_ns: 6000,
        sent_ps: 150,
    },
    network: LinkClass {
        name: "the network",
        latency_ns: 20_000,
        turn_ns: 5000,
        message_ns: 50,
        signal_ns: 50,
        copy_ps: 0,
        fold_ps: 50,
        post_ns: 4000,
        sent_ps: 300,
    },
};

/// What every class of links costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    pub(super) memory: LinkClass,
    pub(super) pair: LinkClass,
    pub(super) domains: LinkClass,
    pub(super) loopback: LinkClass,
    pub(super) network: LinkClass,
}

/// The classes, as profiles name them.
const CLASSES: [&str; 5] = ["memory", "pair", "domains", "loopback", "network"];

/// What each costs, as profiles name it.
const QUANTITIES: [&str; 8] =
    ["latency_ns", "turn_ns", "message_ns", "signal_ns", "copy_ps", "fold_ps", "post_ns", "sent_ps"];

/// Nothing takes longer than a second, and no byte longer than 0.1 ms (10 kB/s).
const MOST_NS: u64 = 1_000_000_000;
const MOST_PS: u64 = 100_000_000;

/// One constant of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    /// The class of links.
    pub class: &'static str,
    /// What costs that much.
    pub quantity: &'static str,
    /// Nanoseconds, or picoseconds a byte, as the quantity's name ends.
    pub value: u64,
    /// The least and the most that make sense.
    pub limits: (u64, u64),
}

impl Default for Costs {
    fn default() -> Costs {
        BUILT_IN
    }
}

impl Costs {
    /// What is used where no other is given.
    pub fn built_in() -> &'static Costs {
        &BUILT_IN
    }

    /// What ranks of one domain talk over.
    pub(super) fn inside(&self, medium: Medium) -> &LinkClass {
        match medium {
            Medium::Memory => &self.memory,
            Medium::Loopback => &self.loopback,
            Medium::Network => &self.network,
        }
    }

    /// What ranks of different domains talk over.
    pub(super) fn between(&self, medium: Medium) -> &LinkClass {
        if medium == Medium::Memory { &self.domains } else { self.inside(medium) }
    }

    /// All constants, in the order of the table.
    pub fn constants(&self) -> impl Iterator<Item = Constant> + use<> {
        let mut copy = *self;
        let values = copy.classes().map(|class| class.quantities().map(|value| *value));
        let constants = CLASSES.into_iter().zip(values).map(|(class, values)| {
            QUANTITIES.into_iter().zip(values).filter_map(move |(quantity, value)| {
                Some(Constant { class, quantity, value, limits: limits(class, quantity)? })
            })
        });
        constants.flatten()
    }

    /// Sets a constant that [`Costs::constants`] has, within its limits. Whether there is such a one, and the value is within them.
    pub fn set(&mut self, class: &str, quantity: &str, value: u64) -> bool {
        let place = |names: &[&str], name: &str| names.iter().position(|other| *other == name);
        let (Some(c), Some(q)) = (place(&CLASSES, class), place(&QUANTITIES, quantity)) else { return false };
        let fits = limits(class, quantity).is_some_and(|(least, most)| (least..=most).contains(&value));
        if fits {
            *self.classes()[c].quantities()[q] = value;
        }
        fits
    }

    /// A number that two ranks have in common when their costs are the same.
    pub fn digest(&self) -> u64 {
        self.constants().fold(Digest::new(), |digest, constant| digest.word(constant.value)).finish()
    }

    fn classes(&mut self) -> [&mut LinkClass; 5] {
        [&mut self.memory, &mut self.pair, &mut self.domains, &mut self.loopback, &mut self.network]
    }
}

impl LinkClass {
    /// Whether a message to many is sent to each of them.
    pub(super) fn sends(&self) -> bool {
        self.post_ns > 0
    }

    fn quantities(&mut self) -> [&mut u64; 8] {
        [
            &mut self.latency_ns,
            &mut self.turn_ns,
            &mut self.message_ns,
            &mut self.signal_ns,
            &mut self.copy_ps,
            &mut self.fold_ps,
            &mut self.post_ns,
            &mut self.sent_ps,
        ]
    }
}

/// What a constant may be; nothing where the class has none of that name: memory sends nothing. Only sockets may copy and fold for nothing,
/// beside what the system takes for a byte.
fn limits(class: &str, quantity: &str) -> Option<(u64, u64)> {
    let sockets = matches!(class, "loopback" | "network");
    match quantity {
        "post_ns" | "sent_ps" if !sockets => None,
        "copy_ps" | "fold_ps" => Some((u64::from(!sockets), MOST_PS)),
        "sent_ps" => Some((1, MOST_PS)),
        _ => Some((1, MOST_NS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_constant_can_be_set_and_changes_the_digest_and_nothing_else() {
        let all: Vec<Constant> = Costs::built_in().constants().collect();
        assert_eq!(all.len(), 3 * 6 + 2 * 8);
        let mut digests = alloc::vec![Costs::built_in().digest()];
        for (place, constant) in all.iter().enumerate() {
            let mut costs = Costs::default();
            assert!(constant.limits.0 <= constant.value && constant.value <= constant.limits.1, "{constant:?}");
            assert!(costs.set(constant.class, constant.quantity, constant.value + 1));
            let other: Vec<Constant> = costs.constants().collect();
            assert_eq!(other[place].value, constant.value + 1);
            assert!(all.iter().zip(&other).enumerate().all(|(at, (a, b))| at == place || a == b));
            assert!(!digests.contains(&costs.digest()));
            digests.push(costs.digest());
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_set() {
        let mut costs = Costs::default();
        for (class, quantity, value) in [
            ("memory", "latency_ns", 0),
            ("memory", "post_ns", 5),
            ("loopback", "sent_ps", 0),
            ("network", "latency_ns", MOST_NS + 1),
            ("pair", "copy_ps", MOST_PS + 1),
            ("nvlink", "copy_ps", 1),
            ("pair", "speed", 1),
        ] {
            assert!(!costs.set(class, quantity, value), "{class} {quantity} {value}");
        }
        assert_eq!(costs, Costs::default());
    }
}
