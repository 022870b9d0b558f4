//! Communicators made from others: the ranks agree over the parent who belongs together, and the first of each new set invites the others.
//!
//! ```text
//!   all_gather (color, key) ──> the new sets, each in order of (key, old rank)
//!   all_gather invitations  ──> the first of each set has written one: a unique id, or for threads the number of a segment
//!   each set meets as any other communicator does
//!   barrier                 ──> processes only: whoever is gone by now is named by all, also by those who could not meet without it
//! ```

use super::hosts::{Crowd, Far, nics};
use super::processes::meet;
use super::requests::Requests;
use super::setup::over_shm;
use super::{Communicator, neighbours, setup};
use crate::boot::{BootConfig, Known, UniqueId, join_knowing};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::plan::{Algorithm, MIN_SLOTS, Medium, World};
use crate::topo::site::Mark;
use crate::transport::local::LocalLinks;
use crate::transport::shm::{Budget, Segment, ShmLinks};
use crate::transport::tcp;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of an invitation: those of a unique id.
const INVITATION: usize = 128;

impl Communicator {
    /// Divides the ranks: those that pass the same color form a new communicator, ordered by key and then by old rank. A rank that
    /// passes no color gets none. Each rank keeps its domain. All ranks of this communicator must call it.
    pub fn split(&self, color: Option<u32>, key: i32) -> Result<Option<Communicator>> {
        self.split_as(color, key, self.shared.config.clone())
    }

    /// The same where the new communicator has other settings than this one.
    fn split_as(&self, color: Option<u32>, key: i32, mut config: Config) -> Result<Option<Communicator>> {
        let mut wishes = vec![0i64; 3 * self.size()];
        let wish = [i64::from(color.is_some()), i64::from(color.unwrap_or(0)), i64::from(key)];
        self.perform_freely(&Requests(self).all_gather(&wish, &mut wishes)?)?;
        let mut members: Vec<usize> = (0..self.size())
            .filter(|rank| Some(wishes[3 * rank + 1]) == color.map(i64::from) && wishes[3 * rank] == 1)
            .collect();
        members.sort_by_key(|rank| (wishes[3 * rank + 2], *rank));
        let number = self.shared.children.fetch_add(1, Ordering::Relaxed) + 1;
        let leads = members.first() == Some(&self.rank());
        config.name = format!("{}/{number}", self.name());
        if let Some(color) = color {
            config.name = format!("{}.{color}", config.name);
        }

        let parent = Parent { of: self, members: &members };
        let invitation =
            if leads { self.shared.kind.invite(&parent.world(), &config) } else { Ok(Invitation::default()) };
        let mut invitations = vec![0u8; INVITATION * self.size()];
        let own = invitation.as_ref().map_or([0; INVITATION], |invitation| invitation.bytes);
        self.perform_freely(&Requests(self).all_gather(&own, &mut invitations)?)?;
        // The place to meet is kept up until this rank has met all others, or has heard that it won't.
        let made = invitation.as_ref().map_err(Error::clone).and_then(|_| {
            let Some(first) = members.first() else { return Ok(None) };
            let invitation = &invitations[first * INVITATION..][..INVITATION];
            let place = members.iter().position(|rank| *rank == self.rank()).unwrap_or(0);
            self.shared.kind.accept(invitation, place, &parent, &config).map(Some)
        });
        if matches!(self.shared.kind, Kind::Processes { .. }) {
            // An error of the meeting has the numbers that ranks would have had in the new communicator, and may not know who is gone.
            self.perform_freely(&Requests(self).barrier()?)?;
        }
        made
    }

    /// A communicator of the same ranks whose operations are independent of this one's.
    pub fn duplicate(&self) -> Result<Communicator> {
        self.duplicate_as(self.shared.config.clone())
    }

    /// A duplicate that uses one algorithm for everything that it can do, as [`Config::algorithm`] says, or none in particular. All ranks
    /// must ask for the same.
    pub fn duplicate_with_algorithm(&self, algorithm: Option<Algorithm>) -> Result<Communicator> {
        self.duplicate_as(Config { algorithm, ..self.shared.config.clone() })
    }

    fn duplicate_as(&self, config: Config) -> Result<Communicator> {
        let copy = self.split_as(Some(0), self.rank() as i32, config)?;
        copy.ok_or_else(|| Error::misuse("a duplicate without members", "Report this"))
    }
}

/// What the first rank of a new set tells the others.
struct Invitation {
    bytes: [u8; INVITATION],
    /// Keeps the place where processes meet.
    _wanted: Option<Arc<()>>,
}

impl Default for Invitation {
    fn default() -> Invitation {
        Invitation { bytes: [0; INVITATION], _wanted: None }
    }
}

/// The communicator that is split, and the ranks of it that belong together.
pub(super) struct Parent<'c> {
    of: &'c Communicator,
    members: &'c [usize],
}

impl Parent<'_> {
    /// Which members are near each other.
    pub(super) fn world(&self) -> World {
        neighbours::of_members(&self.of.shared.world, self.members)
    }

    /// The same where members are on several hosts, which are there in their site.
    pub(super) fn world_on_hosts(&self, marks: &[Mark]) -> World {
        neighbours::of_members_on_hosts(&self.of.shared.world, self.members, marks)
    }

    /// Lets registered memory of the parent serve the child. Whether there is any.
    pub(super) fn lend(&self, links: &mut ShmLinks) -> bool {
        links.inherit_heaps(&self.of.shared.heaps, self.members);
        self.of.shared.windows.load(Ordering::Relaxed)
    }

    /// A reason not to wait for the others: one of them is gone, or the parent has ended. With the number in the new communicator.
    fn ended(&self) -> Option<(usize, String)> {
        let (rank, how) = self.of.shared.door.ended(self.members)?;
        Some((self.members.iter().position(|member| *member == rank).unwrap_or(0), how))
    }
}

/// How the ranks of a communicator reach each other, and so how a new one of some of them is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Processes, on one host or on several.
    Processes { one_host: bool },
    /// Threads of this process over a private segment, with what its links were told: threads that are bound to processors would each see
    /// something else.
    Threads { processors: u32, fetch_from: u64 },
    /// Threads over the reference links.
    Reference,
    /// Threads over sockets.
    Sockets,
}

/// How the ranks of a split meet. All of them have just been in one operation together: nobody is still being started, so none is waited
/// for longer than inside an operation.
fn boot_config(config: &Config, one_host: bool) -> Result<BootConfig> {
    let timeout = config.init_timeout.min(config.timeout);
    Ok(BootConfig { timeout, one_host, ..BootConfig::from_env()? })
}

/// What the first thread of a new set has made and the others come to fetch.
enum Made {
    Segment(Arc<Segment>),
    Reference(Vec<Option<LocalLinks>>),
    Sockets(Vec<Option<Arc<tcp::Office>>>),
}

static MADE: Mutex<Option<HashMap<u64, (Made, usize)>>> = Mutex::new(None);

impl Kind {
    fn invite(self, world: &World, config: &Config) -> Result<Invitation> {
        let made = match self {
            Kind::Processes { one_host } => {
                let boot = boot_config(config, one_host)?;
                let (id, wanted) = UniqueId::while_wanted(&boot)?;
                return Ok(Invitation { bytes: *id.as_bytes(), _wanted: Some(wanted) });
            }
            Kind::Threads { .. } => Made::Segment(Arc::new(Segment::private(world.size())?)),
            Kind::Reference => Made::Reference(LocalLinks::world_of(world, MIN_SLOTS).into_iter().map(Some).collect()),
            Kind::Sockets => {
                let offices = tcp::world(world.size(), config.init_timeout)?;
                Made::Sockets(offices.into_iter().map(Some).collect())
            }
        };
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut table = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        table.get_or_insert_default().insert(number, (made, world.size() as usize));
        let mut invitation = Invitation::default();
        invitation.bytes[..8].copy_from_slice(&number.to_le_bytes());
        Ok(invitation)
    }

    fn accept(self, invitation: &[u8], rank: usize, parent: &Parent, config: &Config) -> Result<Communicator> {
        let size = parent.members.len();
        let refused = || {
            Error::start(
                "the first rank of the new communicator could not invite the others",
                "Look at that rank's error",
            )
        };
        if let Kind::Processes { one_host } = self {
            let invitation: &[u8; INVITATION] = invitation.try_into().map_err(|_| refused())?;
            if *invitation == [0; INVITATION] {
                return Err(refused());
            }
            let boot = boot_config(config, one_host)?;
            let id = UniqueId::from_bytes(invitation)?;
            let known = Known { creator: Some(0), lost: &|| parent.ended() };
            return meet(join_knowing(&id, rank, size, &boot, known)?, config, Some(parent));
        }
        let world = parent.world();
        let number = u64::from_le_bytes(invitation[..8].try_into().map_err(|_| refused())?);
        let mut table = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let table = table.get_or_insert_default();
        let (made, left) = table.get_mut(&number).ok_or_else(refused)?;
        *left -= 1;
        let last = *left == 0;
        let communicator = match made {
            Made::Segment(segment) => {
                let mut links = ShmLinks::new(segment.clone(), rank as u32, &world, Budget::process().clone());
                if let Kind::Threads { processors, fetch_from } = self {
                    links.share_processors(processors);
                    links.allow_fetching(fetch_from);
                }
                let windows = parent.lend(&mut links);
                Ok(over_shm(links, config, &world, windows))
            }
            Made::Reference(links) => match links.get_mut(rank).and_then(Option::take) {
                Some(links) => Ok(setup::over_reference(links, config, &world)),
                None => Err(refused()),
            },
            Made::Sockets(offices) => match offices.get_mut(rank).and_then(Option::take) {
                Some(office) => {
                    let (crowd, media) = (Crowd::of_threads(world.size()), [Medium::Loopback; 2]);
                    let nics = nics(config, &BootConfig::from_env()?);
                    Ok(Far { office, config, world: &world, crowd, kind: self, media, nics }.over_sockets())
                }
                None => Err(refused()),
            },
        };
        if last {
            table.remove(&number);
        }
        communicator
    }
}
