//! mpirun of Open MPI, and mpiexec of MPICH and Intel MPI. The latter's process manager speaks PMI and carries the id; of the former's PMIx
//! only the job's name is used, which is enough on one host.

use super::{Launch, Meeting, Variables, checked};
use crate::{Error, Result};

pub(super) fn detect_open_mpi(env: &Variables<'_>) -> Result<Option<Launch>> {
    let names = ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"];
    let Some(first) = names.iter().find(|name| env.has(name)) else { return Ok(None) };
    let because = format!("{first} is set");
    let (rank, size) = (env.needed(names[0], &because)?, env.needed(names[1], &because)?);
    let local_size = env.number("OMPI_COMM_WORLD_LOCAL_SIZE")?;
    let job = env.text("PMIX_NAMESPACE").or_else(|| env.text("OMPI_MCA_ess_base_jobid"));
    let meeting = match (env.master()?, job) {
        (_, Some(job)) if local_size == Some(size) => Meeting::HostJob { name: format!("open mpi {job}") },
        (Some((host, port)), _) => Meeting::Address { host, port },
        (None, _) if size == 1 => Meeting::HostJob { name: "alone".to_string() },
        (None, _) => return Err(no_meeting("mpirun of Open MPI", "mpirun -x MASTER_ADDR=… -x MASTER_PORT=…")),
    };
    let local_rank = env.number("OMPI_COMM_WORLD_LOCAL_RANK")?;
    let launch = Launch { rank, size, local_rank, local_size, launcher: "mpirun of Open MPI", meeting };
    checked(launch, "OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE").map(Some)
}

pub(super) fn detect_pmi(env: &Variables<'_>) -> Result<Option<Launch>> {
    let names = ["PMI_RANK", "PMI_SIZE"];
    let Some(first) = names.iter().find(|name| env.has(name)) else { return Ok(None) };
    let because = format!("{first} is set");
    let (rank, size) = (env.needed(names[0], &because)?, env.needed(names[1], &because)?);
    let local_size = env.number("MPI_LOCALNRANKS")?;
    let meeting = match (env.number("PMI_FD")?, env.master()?, env.text("PMI_PORT")) {
        (Some(fd), _, _) => Meeting::Pmi { fd: i32::try_from(fd).unwrap_or(-1) },
        (None, _, Some(manager)) if local_size == Some(size) => Meeting::HostJob { name: format!("pmi {manager}") },
        (None, Some((host, port)), _) => Meeting::Address { host, port },
        (None, None, _) if size == 1 => Meeting::HostJob { name: "alone".to_string() },
        (None, None, _) => {
            return Err(no_meeting(
                "mpiexec (PMI_RANK is set, PMI_FD is not)",
                "mpiexec -genv MASTER_ADDR … -genv MASTER_PORT …",
            ));
        }
    };
    let local_rank = env.number("MPI_LOCALRANKID")?;
    let launch = Launch { rank, size, local_rank, local_size, launcher: "mpiexec (PMI)", meeting };
    checked(launch, "PMI_RANK and PMI_SIZE").map(Some)
}

fn no_meeting(launcher: &str, how: &str) -> Error {
    Error::misuse(
        format!("{launcher} started ranks on several hosts and does not say where they can meet"),
        format!("Set MASTER_ADDR to the host of rank 0 and MASTER_PORT to a free port there ({how})"),
    )
}
