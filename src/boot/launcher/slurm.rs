//! srun. On one host the job and step name the meeting; on several the first host of the step's list is rank 0's, and the port follows from the
//! job and the step.

use super::{Launch, Meeting, Variables, checked, unset};
use crate::{Error, Result};

/// The ports that jobs and steps are spread over, below those that Linux gives out by itself.
const FIRST_PORT: usize = 20_000;
const PORTS: usize = 10_000;

/// Whether srun started this process. A batch script has a SLURM_PROCID too, and no step.
pub(super) fn is_step(env: &Variables<'_>) -> bool {
    env.has("SLURM_PROCID") && (env.has("SLURM_STEP_ID") || env.has("SLURM_STEPID"))
}

pub(super) fn detect(env: &Variables<'_>) -> Result<Option<Launch>> {
    if !is_step(env) {
        return Ok(None);
    }
    let because = "srun started this process (SLURM_PROCID and SLURM_STEP_ID are set)";
    let rank = env.needed("SLURM_PROCID", because)?;
    let size = match env.number("SLURM_STEP_NUM_TASKS")? {
        Some(size) => size,
        None => env.needed("SLURM_NTASKS", because)?,
    };
    let job = env.needed("SLURM_JOB_ID", because)?;
    let step = env.text("SLURM_STEP_ID").or_else(|| env.text("SLURM_STEPID")).unwrap_or_default();
    let nodes = match env.number("SLURM_STEP_NUM_NODES")? {
        None => env.number("SLURM_NNODES")?,
        found => found,
    };
    let list = env.text("SLURM_STEP_NODELIST").or_else(|| env.text("SLURM_JOB_NODELIST"));
    let one_host = nodes == Some(1) || size == 1;
    let meeting = match (one_host, env.text("MASTER_ADDR"), list) {
        (true, _, _) => Meeting::HostJob { name: format!("slurm {job}.{step}") },
        (false, Some(host), _) => Meeting::Address { host, port: port(env, job, &step)? },
        (false, None, Some(list)) => Meeting::Address { host: first_host(&list)?, port: port(env, job, &step)? },
        (false, None, None) => return Err(unset("SLURM_JOB_NODELIST", because)),
    };
    let local_rank = env.number("SLURM_LOCALID")?;
    let local_size = one_host.then_some(size);
    let launch = Launch { rank, size, local_rank, local_size, launcher: "srun of Slurm", meeting };
    checked(launch, "SLURM_PROCID and SLURM_NTASKS").map(Some)
}

fn port(env: &Variables<'_>, job: usize, step: &str) -> Result<u16> {
    if let Some(port) = env.port("MASTER_PORT")? {
        return Ok(port);
    }
    let step: usize = step.parse().unwrap_or(0);
    // Steps of one job run at the same time more often than jobs whose numbers are far apart.
    Ok((FIRST_PORT + (job.wrapping_mul(61).wrapping_add(step)) % PORTS) as u16)
}

/// The first host of a list as `node[003-007,9],other`: here `node003`.
fn first_host(list: &str) -> Result<String> {
    let mut host = String::new();
    let mut rest = list;
    loop {
        let end = rest.find(['[', ',']).unwrap_or(rest.len());
        host.push_str(&rest[..end]);
        rest = &rest[end..];
        let Some(bracket) = rest.strip_prefix('[') else { break };
        let inside = bracket.split_once(']').filter(|(inside, _)| !inside.contains('['));
        let (inside, after) = inside.ok_or_else(|| bad_list(list))?;
        let first = inside.split([',', '-']).next().unwrap_or("");
        if first.is_empty() || !first.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(bad_list(list));
        }
        host.push_str(first);
        rest = after;
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || !host.chars().all(fits) { Err(bad_list(list)) } else { Ok(host) }
}

fn bad_list(list: &str) -> Error {
    Error::misuse(
        format!("the list of hosts '{list}' (SLURM_STEP_NODELIST or SLURM_JOB_NODELIST) is none that is understood"),
        "Set MASTER_ADDR to the host of rank 0",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_host_is_found_in_every_form_of_list() {
        for (list, host) in [
            ("node7", "node7"),
            ("a,b,c", "a"),
            ("node[003-007,9],other", "node003"),
            ("node[1,5-7]", "node1"),
            ("rack[2-3]-node[01-16]", "rack2-node01"),
            ("n[3]-ib.cluster.org,m", "n3-ib.cluster.org"),
        ] {
            assert_eq!(first_host(list).unwrap(), host);
        }
        for list in ["", ",a", "node[", "node[]", "node[x]", "n[[1]]", "a;rm -rf", "node[1-", "[-1]"] {
            assert!(first_host(list).is_err(), "{list}");
        }
    }
}
