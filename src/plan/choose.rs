//! The cost model and the choice. Integers only: all ranks must come to the same result.
//!
//! The time of an algorithm is the sum of what is on its critical path: exchanges (one rank waits for another), messages handled,
//! bytes copied, bytes folded. More ranks than cores: an exchange waits for everybody on the core, and work is done one after the
//! other.

use super::{Algorithm, Tuning, World};
use crate::types::{Call, Collective, Reduction};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a class of links costs.
struct LinkClass {
    name: &'static str,
    /// From one rank's flag to the other rank's next step.
    latency_ns: u64,
    /// One message handled: put, or taken, or one operand of a fold.
    message_ns: u64,
    /// One message without elements.
    signal_ns: u64,
    /// One byte copied into or out of a slot.
    copy_ps: u64,
    /// One byte of one operand after the first of a reduction.
    fold_ps: u64,
}

/// The one table of constants. Shared memory: measured with two ranks on two cores; the ratio of `copy` to `fold` is what makes
/// one-shot best for two ranks at every size and two-shot best for three and more above about 8 KiB.
const CLASSES: [LinkClass; 2] = [
    LinkClass { name: "shared memory", latency_ns: 60, message_ns: 38, signal_ns: 10, copy_ps: 100, fold_ps: 70 },
    LinkClass { name: "between domains", latency_ns: 150, message_ns: 50, signal_ns: 20, copy_ps: 150, fold_ps: 70 },
];

/// An exchange where ranks share cores: the scheduler's turn, for each rank on the core.
const SHARED_CORE_NS: u64 = 1000;

/// Above so many ranks a barrier goes by rounds: reading everybody's board costs more than a few exchanges.
const BOARD_BARRIER: u32 = 16;

/// An algorithm that can do a call, and what it would cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Predicted nanoseconds.
    pub nanoseconds: u64,
    /// Where they go.
    pub reason: String,
}

/// What lies on the critical path.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    exchanges: u64,
    messages: u64,
    signals: u64,
    copied: u64,
    folded: u64,
}

/// Why this algorithm can't do this call, if it can't.
pub(super) fn refusal(algorithm: Algorithm, world: &World, call: &Call, tuning: &Tuning) -> Option<&'static str> {
    use Algorithm::*;
    use Collective::*;
    let unequal = call.counts.is_some();
    let does = match algorithm {
        OneShot => matches!(call.collective, AllReduce | AllGather | Broadcast | Barrier),
        TwoShot => matches!(call.collective, AllReduce | ReduceScatter),
        Ring => matches!(call.collective, AllReduce | AllGather | ReduceScatter | Broadcast | Reduce),
        Star => matches!(call.collective, Reduce | Gather | Scatter),
        Owner => matches!(call.collective, AllReduce | AllGather | ReduceScatter | Broadcast | AllToAll),
        Tree => matches!(call.collective, AllReduce | Broadcast | Reduce),
        Halving => matches!(call.collective, AllReduce | AllGather | ReduceScatter),
        Bruck => matches!(call.collective, AllGather | ReduceScatter | Barrier),
        Pairwise => call.collective == AllToAll,
        Hierarchy => matches!(call.collective, AllReduce | AllGather | ReduceScatter | Broadcast),
    };
    if !does {
        return Some("it has no form of this collective");
    }
    if unequal && matches!(algorithm, Halving | Bruck | Hierarchy) {
        return Some("it needs blocks of equal length");
    }
    if algorithm == Hierarchy && world.domain_count() < 2 {
        return Some("there is one domain only");
    }
    if algorithm == Hierarchy && world.largest_domain() < 2 {
        return Some("every domain has one rank only");
    }
    if algorithm == Owner {
        if !tuning.windows {
            return Some("the buffers can't be reached by the other ranks (register them)");
        }
        if call.collective.reduces() && call.reduction == Reduction::PreMulSum {
            return Some("a rank can't multiply the inputs of others, whose factors it does not know");
        }
        if unequal && call.collective == AllToAll {
            return Some("a rank does not know where its blocks lie in the inputs of others");
        }
    }
    let one_fold = matches!(algorithm, OneShot | TwoShot | Owner | Star);
    if tuning.reproducible && call.collective.reduces() && !one_fold {
        return Some(
            "reproducible results need one fold of all inputs in the order of rank (oneshot, twoshot, owner, star)",
        );
    }
    None
}

/// Every algorithm that can do this call, in the order of its number.
pub(super) fn candidates(world: &World, call: &Call, tuning: &Tuning, chunk_bytes: u64) -> Vec<Candidate> {
    let scene = Scene::new(world, call, tuning, chunk_bytes);
    let fits = |algorithm: &Algorithm| refusal(*algorithm, world, call, tuning).is_none();
    Algorithm::ALL.into_iter().filter(fits).map(|algorithm| scene.candidate(algorithm)).collect()
}

/// What the costs depend on.
struct Scene<'a> {
    collective: Collective,
    ranks: u64,
    /// Bytes of the vector, or of the longest block.
    bytes: u64,
    chunk: u64,
    ranks_a_core: u64,
    class: &'a LinkClass,
}

impl Scene<'_> {
    fn new(world: &World, call: &Call, tuning: &Tuning, chunk: u64) -> Scene<'static> {
        let longest = call.counts.iter().flatten().copied().max().unwrap_or(call.count);
        let cores = if tuning.cores == 0 { world.size() } else { tuning.cores };
        Scene {
            collective: call.collective,
            ranks: u64::from(world.size()),
            bytes: longest * call.dtype.size() as u64,
            chunk: chunk.max(1),
            ranks_a_core: u64::from(world.size().div_ceil(cores.max(1))),
            class: &CLASSES[usize::from(world.domain_count() > 1)],
        }
    }

    fn candidate(&self, algorithm: Algorithm) -> Candidate {
        let work = if self.ranks == 1 { Work::default() } else { self.work(algorithm) };
        Candidate { algorithm, nanoseconds: self.nanoseconds(work), reason: self.reason(work) }
    }

    fn nanoseconds(&self, work: Work) -> u64 {
        let class = self.class;
        let exchange = if self.ranks_a_core > 1 { SHARED_CORE_NS * self.ranks_a_core } else { class.latency_ns };
        let moved =
            u128::from(work.copied) * u128::from(class.copy_ps) + u128::from(work.folded) * u128::from(class.fold_ps);
        let handled = u128::from(work.messages) * u128::from(class.message_ns)
            + u128::from(work.signals) * u128::from(class.signal_ns);
        let total = u128::from(work.exchanges) * u128::from(exchange)
            + (handled + moved / 1000) * u128::from(self.ranks_a_core);
        u64::try_from(total).unwrap_or(u64::MAX)
    }

    fn reason(&self, work: Work) -> String {
        format!(
            "{} exchanges in a row, {} messages, {} bytes copied, {} bytes folded a rank over {}{}",
            work.exchanges,
            work.messages + work.signals,
            work.copied,
            work.folded,
            self.class.name,
            if self.ranks_a_core > 1 { format!(", {} ranks a core", self.ranks_a_core) } else { String::new() }
        )
    }

    fn work(&self, algorithm: Algorithm) -> Work {
        match self.collective {
            Collective::AllReduce => self.all_reduce(algorithm),
            Collective::AllGather => self.all_gather(algorithm),
            Collective::ReduceScatter => self.reduce_scatter(algorithm),
            Collective::Broadcast | Collective::Reduce => self.rooted(algorithm),
            Collective::Gather | Collective::Scatter | Collective::AllToAll => self.dealt(algorithm),
            Collective::Barrier => self.barrier(algorithm),
        }
    }

    /// Rounds of so many bytes each.
    fn rounds(&self, of: u64) -> u64 {
        self.bytes.div_ceil(of)
    }

    fn levels(&self) -> u64 {
        u64::from(self.ranks.next_power_of_two().trailing_zeros())
    }

    fn all_reduce(&self, algorithm: Algorithm) -> Work {
        let (n, v, r) = (self.ranks, self.bytes, self.rounds(self.chunk));
        let most = v / n * (n - 1) + v % n;
        match algorithm {
            Algorithm::OneShot => {
                Work { exchanges: 1, messages: r * n, copied: v, folded: v.saturating_mul(n - 1), signals: 0 }
            }
            Algorithm::TwoShot => {
                Work { exchanges: 2, messages: r * (3 * n - 2), copied: 2 * most + v / n, folded: most, signals: 0 }
            }
            _ => {
                let r = self.rounds(self.chunk * n);
                Work {
                    exchanges: 2 * (n - 1) * r,
                    messages: 4 * (n - 1) * r,
                    copied: 3 * most,
                    folded: most,
                    signals: 0,
                }
            }
        }
    }

    fn all_gather(&self, algorithm: Algorithm) -> Work {
        let (n, b, r) = (self.ranks, self.bytes, self.rounds(self.chunk));
        match algorithm {
            Algorithm::OneShot => {
                Work { exchanges: 1, messages: r * n, copied: b.saturating_mul(n), ..Work::default() }
            }
            _ => Work {
                exchanges: (n - 1) * r,
                messages: 2 * (n - 1) * r,
                copied: b.saturating_mul(2 * (n - 1)),
                ..Work::default()
            },
        }
    }

    fn reduce_scatter(&self, algorithm: Algorithm) -> Work {
        let (n, b, r) = (self.ranks, self.bytes, self.rounds(self.chunk));
        let others = b.saturating_mul(n - 1);
        match algorithm {
            Algorithm::TwoShot => {
                Work { exchanges: 1, messages: r * (2 * n - 1), copied: others, folded: others, signals: 0 }
            }
            _ => Work { exchanges: (n - 1) * r, messages: 2 * (n - 1) * r, copied: others, folded: others, signals: 0 },
        }
    }

    fn rooted(&self, algorithm: Algorithm) -> Work {
        let (n, v, r) = (self.ranks, self.bytes, self.rounds(self.chunk));
        let reduces = self.collective == Collective::Reduce;
        match algorithm {
            Algorithm::OneShot => Work { exchanges: 1, messages: 2 * r, copied: 2 * v, ..Work::default() },
            Algorithm::Star => {
                Work { exchanges: 1, messages: r * n, copied: v, folded: v.saturating_mul(n - 1), signals: 0 }
            }
            _ if reduces => Work { exchanges: n - 1 + r, messages: 2 * r, copied: v, folded: v, signals: 0 },
            _ => Work { exchanges: n - 1 + r, messages: 2 * r, copied: 3 * v, ..Work::default() },
        }
    }

    fn dealt(&self, _algorithm: Algorithm) -> Work {
        let (n, b, r) = (self.ranks, self.bytes, self.rounds(self.chunk));
        Work { exchanges: 1, messages: r * n, copied: b.saturating_mul(n), ..Work::default() }
    }

    fn barrier(&self, algorithm: Algorithm) -> Work {
        let n = self.ranks;
        let crowded = n > u64::from(BOARD_BARRIER);
        match algorithm {
            Algorithm::OneShot => Work { exchanges: 1, signals: if crowded { n * n } else { n }, ..Work::default() },
            _ => Work { exchanges: self.levels(), signals: 2 * self.levels(), ..Work::default() },
        }
    }
}

/// The cheapest; among equals the lowest number.
pub(super) fn cheapest(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates.iter().min_by_key(|candidate| (candidate.nanoseconds, candidate.algorithm))
}

/// One paragraph: what was chosen, why, and what the others would have cost.
pub(super) fn explain(chosen: Algorithm, forced: bool, candidates: &[Candidate]) -> String {
    let mut text = match candidates.iter().find(|candidate| candidate.algorithm == chosen) {
        Some(own) if forced => format!("{chosen} was asked for: {} ns predicted ({}).", own.nanoseconds, own.reason),
        Some(own) => format!("{chosen} is the cheapest: {} ns predicted ({}).", own.nanoseconds, own.reason),
        None => format!("{chosen}."),
    };
    let mut others: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.algorithm != chosen).collect();
    others.sort_by_key(|candidate| (candidate.nanoseconds, candidate.algorithm));
    for (place, other) in others.iter().enumerate() {
        let lead = if place == 0 { " Others: " } else { ", " };
        text.push_str(&format!("{lead}{} {} ns", other.algorithm, other.nanoseconds));
    }
    if !others.is_empty() {
        text.push('.');
    }
    text
}
