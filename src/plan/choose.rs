//! The cost model and the choice. Integers only: all ranks must come to the same result.
//!
//! The time of an algorithm is the sum of what is on its critical path: exchanges (one rank waits for another), messages handled,
//! bytes copied, bytes folded. More ranks than cores: an exchange waits for everybody on the core, and work is done one after the
//! other.

mod crowd;
mod domains;
mod wire;

use super::costs::LinkClass;
use super::{Algorithm, Costs, Medium, Tuning, World, build, shard};
use crate::types::{Call, Collective, Reduction};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

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
        if !tuning.windows && !fetches(world, call, tuning) {
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

/// Whether this call takes what it needs straight from the private memory of the others: it copies only, and enough at a time. What all read
/// alike goes through slots where ranks share cores: one copy into them serves everybody from the cache.
pub(super) fn fetches(world: &World, call: &Call, tuning: &Tuning) -> bool {
    let crowded = tuning.cores > 0 && world.size() > tuning.cores;
    let copies = match call.collective {
        Collective::AllToAll => true,
        Collective::AllGather | Collective::Broadcast => !crowded,
        _ => false,
    };
    let known = call.receive_counts.is_none();
    let blocks = if call.collective == Collective::AllToAll { u64::from(world.size()) } else { 1 };
    let bytes = longest(call).saturating_mul(call.dtype.size() as u64).saturating_mul(blocks);
    tuning.fetch_from > 0 && copies && known && bytes >= tuning.fetch_from
}

/// Elements of the vector, or of the longest block.
fn longest(call: &Call) -> u64 {
    call.counts.iter().flatten().copied().max().unwrap_or(call.count)
}

/// Every algorithm that can do this call, in the order of its number.
pub(super) fn candidates(world: &World, call: &Call, tuning: &Tuning, chunk_bytes: u64) -> Vec<Candidate> {
    let scene = Scene::new(world, call, tuning, chunk_bytes);
    let fits = |algorithm: &Algorithm| refusal(*algorithm, world, call, tuning).is_none();
    Algorithm::ALL.into_iter().filter(fits).map(|algorithm| scene.candidate(world, algorithm)).collect()
}

/// What lies on the critical path of one rank. Sums saturate: a vector that long loses against nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Work {
    exchanges: u64,
    /// Messages with elements, and without.
    messages: u64,
    signals: u64,
    /// Bytes.
    copied: u64,
    folded: u64,
    /// What the system sends: messages, each to one rank, and their bytes.
    posts: u64,
    sent: u64,
}

fn times(a: u64, b: u64) -> u64 {
    a.saturating_mul(b)
}

/// What the costs depend on.
#[derive(Clone, Copy)]
struct Scene {
    collective: Collective,
    ranks: u64,
    /// Bytes of the vector, or of the longest block.
    bytes: u64,
    /// Bytes of a message.
    chunk: u64,
    /// Whether copies straight from the others' memory are known to be faster than copies through slots.
    fetches: bool,
    ranks_a_core: u64,
    /// Of links that a flat algorithm meets, and of those within a domain.
    class: LinkClass,
    near: LinkClass,
}

impl Scene {
    fn new(world: &World, call: &Call, tuning: &Tuning, chunk: u64) -> Scene {
        let cores = if tuning.cores == 0 { world.size() } else { tuning.cores };
        let costs = tuning.costs.as_deref().unwrap_or(Costs::built_in());
        Scene {
            collective: call.collective,
            ranks: u64::from(world.size()),
            bytes: longest(call) * call.dtype.size() as u64,
            fetches: fetches(world, call, tuning),
            chunk,
            ranks_a_core: u64::from(world.size().div_ceil(cores)),
            class: match (world.size(), world.domain_count()) {
                (2, 0 | 1) if tuning.inside == Medium::Memory => costs.pair,
                (_, 0 | 1) => *costs.inside(tuning.inside),
                _ => *costs.between(tuning.between),
            },
            near: *costs.inside(tuning.inside),
        }
    }

    fn candidate(&self, world: &World, algorithm: Algorithm) -> Candidate {
        let parts: Vec<(LinkClass, Work)> = match algorithm {
            _ if self.ranks < 2 || self.bytes == 0 && self.collective != Collective::Barrier => Vec::new(),
            Algorithm::Hierarchy => self.layers(world),
            // One copy in place of two, and no slot whose lines go to and fro.
            Algorithm::Owner if self.fetches => {
                let work = self.priced(self.collective, algorithm);
                alloc::vec![(self.links(world, algorithm), Work { copied: work.copied / 2, ..work })]
            }
            _ => alloc::vec![(self.links(world, algorithm), self.priced(self.collective, algorithm))],
        };
        let parts = parts.into_iter().filter(|(_, work)| *work != Work::default()).collect::<Vec<_>>();
        let total = parts.iter().fold(0u64, |sum, (class, work)| sum.saturating_add(self.nanoseconds(class, *work)));
        let mut reason = String::from(if parts.is_empty() { "nothing to exchange" } else { "" });
        for (place, (class, work)) in parts.iter().enumerate() {
            let _ = write!(
                reason,
                "{}{} exchanges in a row, {} messages, {} bytes copied and {} folded a rank in {}",
                if place > 0 { "; " } else { "" },
                work.exchanges,
                work.messages.saturating_add(work.signals),
                work.copied,
                work.folded,
                class.name
            );
            if work.posts > 0 {
                let _ = write!(reason, ", {} sends of {} bytes together", work.posts, work.sent);
            }
        }
        if self.ranks_a_core > 1 {
            let _ = write!(reason, "; {} ranks a core", self.ranks_a_core);
        }
        Candidate { algorithm, nanoseconds: total, reason }
    }

    fn nanoseconds(&self, class: &LinkClass, work: Work) -> u64 {
        let wide = u128::from;
        let exchange =
            if self.ranks_a_core > 1 { times(class.turn_ns, self.ranks_a_core - 1) } else { class.latency_ns };
        let moved = wide(work.copied) * wide(class.copy_ps) + wide(work.folded) * wide(class.fold_ps);
        let handled = wide(work.messages) * wide(class.message_ns) + wide(work.signals) * wide(class.signal_ns);
        let sent = wide(work.posts) * wide(class.post_ns) + wide(work.sent) * wide(class.sent_ps) / 1000;
        let total = wide(work.exchanges) * wide(exchange) + (handled + moved / 1000 + sent) * wide(self.ranks_a_core);
        u64::try_from(total).unwrap_or(u64::MAX)
    }

    fn work(&self, algorithm: Algorithm) -> Work {
        match self.collective {
            Collective::AllReduce => self.all_reduce(algorithm),
            Collective::AllGather => self.all_gather(algorithm),
            Collective::ReduceScatter => self.reduce_scatter(algorithm),
            Collective::Broadcast => self.broadcast(algorithm),
            Collective::Reduce => self.reduce(algorithm),
            Collective::Gather | Collective::Scatter => self.star(),
            Collective::AllToAll => self.all_to_all(algorithm),
            Collective::Barrier => self.barrier(algorithm),
        }
    }

    /// Messages that so many bytes take.
    fn messages(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.chunk)
    }

    /// The longest vector that halving exchanges whole.
    fn exchange_bytes(&self) -> u64 {
        build::exchange_bytes(self.ranks, self.class.sends()).min(self.chunk)
    }

    fn levels(&self) -> u64 {
        u64::from(self.ranks.next_power_of_two().trailing_zeros())
    }

    /// The extra work of halving where some ranks are spares.
    fn spares(&self, bytes: u64, reduces: bool) -> Work {
        if self.ranks.is_power_of_two() {
            return Work::default();
        }
        let messages = times(self.messages(bytes), 4);
        let folded = if reduces { bytes } else { 0 };
        // One before the levels and one behind them; `levels` has counted one too many.
        Work::of(1, messages, times(bytes, 3), folded)
    }

    /// Everybody posts on its board, everybody reads the others'.
    fn meetings(&self, many: u64) -> Work {
        Work { exchanges: many, signals: times(many, self.ranks), ..Work::default() }
    }

    fn all_reduce(&self, algorithm: Algorithm) -> Work {
        let (n, v, r) = (self.ranks, self.bytes, self.messages(self.bytes));
        let others = v / n * (n - 1) + v % n;
        match algorithm {
            Algorithm::OneShot => Work::of(1, times(r, n), v, times(v, n - 1)),
            Algorithm::TwoShot => Work::of(2, times(r, 3 * n - 2), 2 * others + v / n, others),
            Algorithm::Owner => {
                let pieces = self.messages(v / n).div_ceil(shard::WINDOW_CHUNKS);
                self.meetings(2).and(Work { messages: pieces, copied: others, folded: others, ..Work::default() })
            }
            Algorithm::Ring => {
                let turns = times(v.div_ceil(times(self.chunk, n)), 2 * (n - 1));
                Work::of(turns, times(turns, 2), 3 * others, others)
            }
            Algorithm::Tree => {
                let r = self.messages(v / 2).max(1);
                let exchanges = (2 * self.levels()).saturating_add(r);
                Work::of(exchanges, times(r, 8), times(v, 3) + v / 2, v)
            }
            _ if v <= self.exchange_bytes() => {
                let all = times(v, self.levels());
                let work = Work::of(self.levels(), 2 * self.levels(), all, all);
                work.and(self.spares(v, true))
            }
            _ => {
                let messages = times(self.levels().saturating_add(r), 4);
                let work = Work::of(2 * self.levels(), messages, 3 * others, others);
                work.and(self.spares(v, true))
            }
        }
    }

    fn all_gather(&self, algorithm: Algorithm) -> Work {
        let (n, b, r) = (self.ranks, self.bytes, self.messages(self.bytes));
        let twice = times(b, 2 * (n - 1));
        match algorithm {
            Algorithm::OneShot => Work { exchanges: 1, messages: times(r, n), copied: times(b, n), ..Work::default() },
            Algorithm::Owner => {
                let pieces = times(r.div_ceil(shard::WINDOW_CHUNKS), n);
                self.meetings(2).and(Work { messages: pieces, copied: times(b, n), ..Work::default() })
            }
            Algorithm::Ring => {
                let turns = times(r, n - 1);
                Work { exchanges: turns, messages: times(turns, 2), copied: twice, ..Work::default() }
            }
            _ => {
                let messages = times(self.levels().saturating_add(self.messages(times(b, n - 1))), 2);
                let work = Work { exchanges: self.levels(), messages, copied: twice, ..Work::default() };
                if algorithm == Algorithm::Halving { work.and(self.spares(times(b, n), false)) } else { work }
            }
        }
    }

    fn reduce_scatter(&self, algorithm: Algorithm) -> Work {
        let (n, b, r) = (self.ranks, self.bytes, self.messages(self.bytes));
        let others = times(b, n - 1);
        match algorithm {
            Algorithm::TwoShot => Work::of(1, times(r, 2 * n - 1), others, others),
            Algorithm::Owner => {
                let pieces = r.div_ceil(shard::WINDOW_CHUNKS);
                self.meetings(2).and(Work { messages: pieces, copied: b, folded: others, ..Work::default() })
            }
            Algorithm::Ring => {
                let turns = times(r, n - 1);
                Work::of(turns, times(turns, 2), others, others)
            }
            _ => {
                // What a level has folded is written, and read again at the next.
                let messages = times(self.levels().saturating_add(self.messages(others)), 2);
                let work = Work::of(self.levels(), messages, others.saturating_add(others / 2), others);
                if algorithm == Algorithm::Halving { work.and(self.spares(times(b, n), true)) } else { work }
            }
        }
    }

    fn broadcast(&self, algorithm: Algorithm) -> Work {
        let (n, v, r) = (self.ranks, self.bytes, self.messages(self.bytes));
        let work = Work { messages: times(r, 2), copied: times(v, 2), ..Work::default() };
        match algorithm {
            Algorithm::OneShot => Work { exchanges: 1, ..work },
            Algorithm::Owner => {
                let pieces = r.div_ceil(shard::WINDOW_CHUNKS);
                self.meetings(2).and(Work { messages: pieces, copied: v, ..Work::default() })
            }
            Algorithm::Ring => Work { exchanges: (n - 1).saturating_add(r), ..work },
            _ => Work { exchanges: self.levels().saturating_add(r), messages: times(r, 4), ..work },
        }
    }

    fn reduce(&self, algorithm: Algorithm) -> Work {
        let (n, v, r) = (self.ranks, self.bytes, self.messages(self.bytes));
        match algorithm {
            Algorithm::Star => Work { folded: times(v, n - 1), ..self.star() },
            Algorithm::Ring => Work::of((n - 1).saturating_add(r), times(r, 2), v, v),
            _ => {
                let exchanges = self.levels().saturating_add(r);
                Work::of(exchanges, times(r, 4), v + v / 2, v)
            }
        }
    }

    /// The root handles a message of everybody.
    fn star(&self) -> Work {
        let (n, b) = (self.ranks, self.bytes);
        let copied = if self.collective == Collective::Reduce { b } else { times(b, n) };
        Work { exchanges: 1, messages: times(self.messages(b), n), copied, ..Work::default() }
    }

    fn all_to_all(&self, algorithm: Algorithm) -> Work {
        let (n, b, r) = (self.ranks, self.bytes, self.messages(self.bytes));
        if algorithm == Algorithm::Owner {
            let pieces = times(r.div_ceil(shard::WINDOW_CHUNKS), n);
            return self.meetings(2).and(Work { messages: pieces, copied: times(b, n), ..Work::default() });
        }
        let copied = times(b, 2 * n - 1);
        let exchanges = if build::goes_together(b, n - 1, self.chunk) { 1 } else { n - 1 };
        Work { exchanges, messages: times(r, 2 * (n - 1)), copied, ..Work::default() }
    }

    fn barrier(&self, algorithm: Algorithm) -> Work {
        let n = self.ranks;
        if algorithm == Algorithm::OneShot {
            // The last one to come makes every waiting rank read every board again.
            let crowded = n > u64::from(BOARD_BARRIER);
            return Work { exchanges: if crowded { n } else { 1 }, ..self.meetings(1) };
        }
        Work { exchanges: self.levels(), signals: 2 * self.levels(), ..Work::default() }
    }
}

impl Work {
    /// In memory: nothing is sent.
    fn of(exchanges: u64, messages: u64, copied: u64, folded: u64) -> Work {
        Work { exchanges, messages, copied, folded, ..Work::default() }
    }

    fn and(self, other: Work) -> Work {
        Work {
            exchanges: self.exchanges.saturating_add(other.exchanges),
            messages: self.messages.saturating_add(other.messages),
            signals: self.signals.saturating_add(other.signals),
            copied: self.copied.saturating_add(other.copied),
            folded: self.folded.saturating_add(other.folded),
            posts: self.posts.saturating_add(other.posts),
            sent: self.sent.saturating_add(other.sent),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::types::DataType;

    fn chosen(collective: Collective, ranks: u32, bytes: u64, tuning: &Tuning) -> Algorithm {
        let call = Call::new(collective, DataType::F32, Reduction::Sum, 0, bytes / 4);
        Plan::new(&World::flat(ranks), &call, tuning).expect("a plan").algorithm()
    }

    fn sizes() -> impl Iterator<Item = u64> {
        (3..=30).map(|shift| 1 << shift)
    }

    #[test]
    fn two_ranks_reduce_in_one_shot_up_to_64_kib_and_by_halves_from_1_mib() {
        for bytes in sizes() {
            let algorithm = chosen(Collective::AllReduce, 2, bytes, &Tuning::default());
            let by_halves = matches!(algorithm, Algorithm::TwoShot | Algorithm::Ring);
            assert!(by_halves == (bytes >= 1 << 20) || bytes > 64 << 10, "{bytes}: {algorithm:?}");
            assert!(by_halves || algorithm == Algorithm::OneShot, "{bytes}: {algorithm:?}");
        }
    }

    #[test]
    fn two_ranks_with_windows_reduce_where_the_data_lies_from_16_kib() {
        let tuning = Tuning { windows: true, cores: 2, ..Tuning::default() };
        for bytes in sizes() {
            let expected = if bytes < 16384 { Algorithm::OneShot } else { Algorithm::Owner };
            assert_eq!(chosen(Collective::AllReduce, 2, bytes, &tuning), expected, "{bytes}");
        }
    }

    #[test]
    fn more_ranks_reduce_in_two_shots_above_about_8_kib() {
        for (ranks, cores) in [(3, 0), (4, 0), (3, 2), (4, 2), (8, 2)] {
            let tuning = Tuning { cores, ..Tuning::default() };
            for bytes in sizes() {
                let algorithm = chosen(Collective::AllReduce, ranks, bytes, &tuning);
                if bytes <= 2048 {
                    assert_eq!(algorithm, Algorithm::OneShot, "{ranks} ranks, {cores} cores, {bytes}");
                }
                if bytes >= 32768 && cores == 0 {
                    assert_eq!(algorithm, Algorithm::TwoShot, "{ranks} ranks, {cores} cores, {bytes}");
                }
            }
        }
    }

    #[test]
    fn few_ranks_gather_and_broadcast_by_boards() {
        for ranks in 2..=16 {
            for bytes in sizes() {
                let tuning = Tuning { cores: 2, ..Tuning::default() };
                assert_eq!(chosen(Collective::AllGather, ranks, bytes, &tuning), Algorithm::OneShot);
                let broadcast = chosen(Collective::Broadcast, ranks, bytes, &tuning);
                let expected = match ranks {
                    3 if bytes <= 512 << 10 => Algorithm::Ring,
                    3 => Algorithm::Tree,
                    _ => Algorithm::OneShot,
                };
                assert_eq!(broadcast, expected, "{ranks} ranks, {bytes}");
            }
        }
    }

    #[test]
    fn a_barrier_goes_by_boards_up_to_16_ranks() {
        for (ranks, expected) in
            [(2, Algorithm::OneShot), (16, Algorithm::OneShot), (17, Algorithm::Bruck), (4096, Algorithm::Bruck)]
        {
            for cores in [0, 2] {
                assert_eq!(chosen(Collective::Barrier, ranks, 0, &Tuning { cores, ..Tuning::default() }), expected);
            }
        }
    }

    #[test]
    fn many_ranks_take_logarithms_for_short_vectors_and_rings_for_long_ones() {
        assert_eq!(chosen(Collective::AllReduce, 1024, 8, &Tuning::default()), Algorithm::Halving);
        let long = chosen(Collective::AllReduce, 1024, 1 << 34, &Tuning::default());
        assert!(matches!(long, Algorithm::Ring | Algorithm::Halving), "{long}");
    }

    #[test]
    fn a_reproducible_reduction_folds_once() {
        let tuning = Tuning { reproducible: true, windows: true, ..Tuning::default() };
        for collective in Collective::ALL.into_iter().filter(|collective| collective.reduces()) {
            for ranks in [1, 2, 3, 16, 1024] {
                for bytes in sizes() {
                    let algorithm = chosen(collective, ranks, bytes, &tuning);
                    let folds = [Algorithm::OneShot, Algorithm::TwoShot, Algorithm::Owner, Algorithm::Star];
                    assert!(folds.contains(&algorithm), "{collective} {ranks} {bytes} {algorithm}");
                }
            }
        }
    }

    #[test]
    fn every_call_has_a_candidate_and_the_plan_takes_the_cheapest() {
        for collective in Collective::ALL {
            for ranks in [1, 2, 5, 64] {
                let world = World::flat(ranks);
                let count = if collective == Collective::Barrier { 0 } else { 1000 };
                let call = Call::new(collective, DataType::I64, Reduction::Sum, 0, count);
                let tuning = Tuning::default();
                let candidates = Plan::candidates(&world, &call, &tuning);
                let plan = Plan::new(&world, &call, &tuning).expect("a plan");
                let own = candidates.iter().find(|candidate| candidate.algorithm == plan.algorithm()).expect("chosen");
                assert!(candidates.iter().all(|other| own.nanoseconds <= other.nanoseconds));
                let text = plan.explain();
                assert!(text.contains(plan.algorithm().name()) && text.contains(&own.reason), "{text}");
            }
        }
    }
}
