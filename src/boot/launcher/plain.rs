//! RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT alone, as Kubernetes operators and many scripts set them. An indexed Job of Kubernetes says
//! the rank in JOB_COMPLETION_INDEX.

use super::{Launch, Meeting, Variables, checked, unset};
use crate::{Error, Result};

/// `other`: another launcher can say what is missing here, so that half of the variables is no error.
pub(super) fn detect(env: &Variables<'_>, other: bool) -> Result<Option<Launch>> {
    let index = env.number("JOB_COMPLETION_INDEX")?;
    let (rank, size) = match (env.number("RANK")?, env.number("WORLD_SIZE")?) {
        (Some(rank), Some(size)) => (rank, size),
        (None, Some(size)) if index.is_some() => (index.unwrap_or_default(), size),
        (None, None) => return Ok(None),
        _ if other => return Ok(None),
        (Some(_), None) => return Err(unset("WORLD_SIZE", "RANK is set")),
        (None, Some(_)) => return Err(unset("RANK", "WORLD_SIZE is set")),
    };
    let meeting = match env.master()? {
        Some((host, port)) => Meeting::Address { host, port },
        // Alone, or started by an MPI or Slurm, which know better where to meet.
        None if size == 1 => Meeting::HostJob { name: "alone".to_string() },
        None if other => return Ok(None),
        None => {
            return Err(Error::misuse(
                "RANK and WORLD_SIZE are set, MASTER_ADDR and MASTER_PORT are not",
                "Set MASTER_ADDR to the host of rank 0 and MASTER_PORT to a free port there",
            ));
        }
    };
    let launch = Launch {
        rank,
        size,
        local_rank: env.number("LOCAL_RANK")?,
        local_size: env.number("LOCAL_WORLD_SIZE")?,
        launcher: "RANK and WORLD_SIZE",
        meeting,
    };
    checked(launch, "RANK and WORLD_SIZE").map(Some)
}
