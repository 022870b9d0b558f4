//! What the launchers that people have say in the environment: which rank this process is, of how many, and where the ranks meet. Reading
//! it is pure: nothing here looks at the process, the host or the network.

use super::id::UniqueId;
use crate::{Error, Result};

mod mpi;
mod own;
mod plain;
mod slurm;
mod torchrun;

/// Where and how the ranks of a job get the unique id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// The launcher made it itself.
    Id(UniqueId),
    /// In PyTorch's store, which torchrun's agent runs there, under a prefix.
    Store {
        /// The host of the store.
        host: String,
        /// Its port.
        port: u16,
        /// What the keys of this start of this job begin with.
        prefix: String,
    },
    /// Through the process manager of an MPI, over an inherited descriptor.
    Pmi {
        /// The number of the descriptor.
        fd: i32,
    },
    /// From rank 0, which hands it out at this address.
    Address {
        /// Rank 0's host.
        host: String,
        /// The port there.
        port: u16,
    },
    /// From rank 0, which is on the same host as all others; the name tells this job from others of the user.
    HostJob {
        /// The job's name.
        name: String,
    },
}

/// What a launcher says about this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// This process's rank.
    pub rank: usize,
    /// How many ranks there are.
    pub size: usize,
    /// Its number among the ranks of its host.
    pub local_rank: Option<usize>,
    /// How many ranks its host has.
    pub local_size: Option<usize>,
    /// Who started it.
    pub launcher: &'static str,
    /// Where the ranks meet.
    pub meeting: Meeting,
}

impl Launch {
    /// Whether all ranks are on this host, as far as the launcher says.
    pub fn is_one_host(&self) -> bool {
        self.local_size == Some(self.size) || matches!(self.meeting, Meeting::HostJob { .. })
    }
}

/// What the environment says about this process; `None`: no launcher that is known here started it. Variables that are half set,
/// contradict each other or make no sense are an error that names them.
pub fn detect(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Launch>> {
    let env = Variables { get: env };
    if let Some(launch) = own::detect(&env)? {
        return Ok(Some(launch));
    }
    if let Some(launch) = torchrun::detect(&env)? {
        return Ok(Some(launch));
    }
    let mpi = match mpi::detect_open_mpi(&env)? {
        None => mpi::detect_pmi(&env)?,
        found => found,
    };
    let plain = plain::detect(&env, mpi.is_some() || slurm::is_step(&env))?;
    match (mpi, plain) {
        (Some(mpi), Some(plain)) if (mpi.rank, mpi.size) != (plain.rank, plain.size) => Err(Error::misuse(
            format!(
                "RANK and WORLD_SIZE say rank {} of {}, {} says rank {} of {}",
                plain.rank, plain.size, mpi.launcher, mpi.rank, mpi.size
            ),
            "Unset RANK and WORLD_SIZE, or set RINGTREE_RANK, RINGTREE_SIZE and RINGTREE_ID",
        )),
        (Some(mpi), _) => Ok(Some(mpi)),
        (None, Some(plain)) => Ok(Some(plain)),
        (None, None) => slurm::detect(&env),
    }
}

/// The environment, with checks.
struct Variables<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
}

impl Variables<'_> {
    /// A variable that is set to something.
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).map(|text| text.trim().to_string()).filter(|text| !text.is_empty())
    }

    fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    fn number(&self, name: &str) -> Result<Option<usize>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse::<u32>().map(|number| number as usize);
        number.map(Some).map_err(|_| {
            Error::misuse(format!("{name} is '{text}'"), format!("Set {name} to a whole number, or unset it"))
        })
    }

    fn port(&self, name: &str) -> Result<Option<u16>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(Error::misuse(format!("{name} is '{text}'"), format!("Set {name} to a port, 1 … 65535"))),
        }
    }

    /// A number that must be there because others of its family are.
    fn needed(&self, name: &str, because: &str) -> Result<usize> {
        self.number(name)?.ok_or_else(|| unset(name, because))
    }

    /// MASTER_ADDR and MASTER_PORT; half of them is an error.
    fn master(&self) -> Result<Option<(String, u16)>> {
        match (self.text("MASTER_ADDR"), self.port("MASTER_PORT")?) {
            (Some(host), Some(port)) => Ok(Some((host, port))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(unset("MASTER_PORT", "MASTER_ADDR is set")),
            (None, Some(_)) => Err(unset("MASTER_ADDR", "MASTER_PORT is set")),
        }
    }
}

fn unset(name: &str, because: &str) -> Error {
    Error::misuse(format!("{name} is not set, though {because}"), format!("Set {name} too, or unset the others"))
}

/// A launch whose numbers fit together.
fn checked(launch: Launch, names: &str) -> Result<Launch> {
    let Launch { rank, size, local_rank, local_size, .. } = launch;
    let too_large = |local: Option<usize>, limit: usize| local.is_some_and(|local| local >= limit);
    if size == 0 || size > super::MAX_RANKS || rank >= size {
        let advice = format!("Ranks go from 0 to the number of ranks less 1; set {names} so");
        return Err(Error::misuse(format!("{names} say rank {rank} of {size}"), advice));
    }
    if too_large(local_rank, local_size.unwrap_or(size)) || local_size.is_some_and(|local| local > size) {
        let what = format!(
            "{} says rank {rank} of {size}, and on its host {} of {}",
            launch.launcher,
            local_rank.map_or("one".to_string(), |rank| format!("rank {rank}")),
            local_size.unwrap_or(size)
        );
        return Err(Error::misuse(
            what,
            "The local rank and size must fit the others; unset what does not belong here",
        ));
    }
    Ok(launch)
}

#[cfg(test)]
mod tests;
