//! torchrun. Its agent usually runs a store at MASTER_ADDR:MASTER_PORT, which carries the id. The run and the number of the restart are in
//! the key, so that ranks that were started anew do not meet the id of their predecessors.

use super::{Launch, Meeting, Variables, checked, unset};
use crate::Result;

pub(super) fn detect(env: &Variables<'_>) -> Result<Option<Launch>> {
    if !env.has("TORCHELASTIC_RUN_ID") && !env.has("TORCHELASTIC_USE_AGENT_STORE") {
        return Ok(None);
    }
    let because = "torchrun started this process (TORCHELASTIC_… is set)";
    let (rank, size) = (env.needed("RANK", because)?, env.needed("WORLD_SIZE", because)?);
    let (host, port) = env.master()?.ok_or_else(|| unset("MASTER_ADDR", because))?;
    let run = env.text("TORCHELASTIC_RUN_ID").unwrap_or_else(|| "none".to_string());
    let restart = env.number("TORCHELASTIC_RESTART_COUNT")?.unwrap_or(0);
    let agent = env.text("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let meeting = match agent {
        true => Meeting::Store { host, port, prefix: format!("ringtree/{run}/{restart}") },
        false => Meeting::Address { host, port },
    };
    let launch = Launch {
        rank,
        size,
        local_rank: env.number("LOCAL_RANK")?,
        local_size: env.number("LOCAL_WORLD_SIZE")?,
        launcher: "torchrun",
        meeting,
    };
    checked(launch, "RANK and WORLD_SIZE").map(Some)
}
