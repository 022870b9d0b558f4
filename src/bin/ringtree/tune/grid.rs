//! What is measured: sizes × ranks × transports × collectives, one job for each number of ranks and transport.

use crate::values;
use crate::{Failure, bytes};
use ringtree::{Collective, Transport};

/// The collectives that have several algorithms worth a choice in a training job.
const COLLECTIVES: [Collective; 4] =
    [Collective::AllReduce, Collective::AllGather, Collective::ReduceScatter, Collective::Broadcast];

const SIZES: [u64; 8] = [8, 256, 4 << 10, 32 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];
const QUICK_SIZES: [u64; 4] = [8, 4 << 10, 64 << 10, 1 << 20];

/// A collective at a size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spot {
    pub(super) collective: Collective,
    pub(super) bytes: u64,
}

/// What the ranks of one job measure.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) ranks: u32,
    pub(super) transport: Transport,
    pub(super) spots: Vec<Spot>,
    pub(super) rounds: u32,
    /// For each algorithm and round.
    pub(super) seconds: f64,
}

/// How much is measured.
#[derive(Clone, Debug)]
pub(super) struct Effort {
    pub(super) most_ranks: u32,
    pub(super) transports: Vec<Transport>,
    pub(super) quick: bool,
}

/// All of it.
pub(super) fn grid(effort: &Effort) -> Vec<Work> {
    let sizes = if effort.quick { &QUICK_SIZES[..] } else { &SIZES };
    let at = |bytes: u64| COLLECTIVES.map(|collective| Spot { collective, bytes });
    let spots: Vec<Spot> = sizes.iter().copied().flat_map(at).collect();
    let (rounds, seconds) = if effort.quick { (5, 0.004) } else { (7, 0.01) };
    let work = |ranks, transport| Work { ranks, transport, spots: spots.clone(), rounds, seconds };
    let of = |transport: Transport| (2..=effort.most_ranks).map(move |ranks| (ranks, transport));
    effort.transports.iter().copied().flat_map(of).map(|(ranks, transport)| work(ranks, transport)).collect()
}

impl Work {
    /// The same for some of the spots, with more rounds.
    pub(super) fn again(&self, spots: Vec<Spot>) -> Work {
        Work { spots, rounds: 2 * self.rounds + 1, seconds: 2.0 * self.seconds, ..self.clone() }
    }

    /// For the ranks' command line.
    pub(super) fn to_text(&self) -> String {
        let spots: Vec<String> = self.spots.iter().map(|spot| format!("{}/{}", spot.collective, spot.bytes)).collect();
        format!("{} {} {} {} {}", self.ranks, self.transport.name(), self.rounds, self.seconds, spots.join(","))
    }

    /// What a rank was told.
    pub(super) fn from_text(text: &str) -> Result<Work, Failure> {
        let read = || {
            let mut words = text.split(' ');
            let ranks = values::ranks(words.next()?).ok()?;
            let transport = words.next()?.parse().ok()?;
            let (rounds, seconds) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let spot = |text: &str| {
                let (collective, size) = text.split_once('/')?;
                let collective = COLLECTIVES.into_iter().find(|one| one.name() == collective)?;
                Some(Spot { collective, bytes: bytes::parse(size).ok()? })
            };
            let spots = words.next()?.split(',').map(spot).collect::<Option<Vec<Spot>>>()?;
            Some(Work { ranks, transport, spots, rounds, seconds })
        };
        read()
            .ok_or_else(|| Failure::Usage(format!("--part {text} makes no sense: it is for this command's own ranks")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_goes_over_sizes_ranks_transports_and_collectives() {
        let transports = vec![Transport::Shm, Transport::Tcp];
        let jobs = grid(&Effort { most_ranks: 4, transports, quick: false });
        assert_eq!((jobs.len(), jobs[0].spots.len()), (6, 32));
        for work in jobs {
            let read = Work::from_text(&work.to_text()).unwrap();
            assert_eq!((read.ranks, read.transport, read.spots), (work.ranks, work.transport, work.spots));
        }
        assert!(Work::from_text("2 shm 3").is_err());
    }
}
