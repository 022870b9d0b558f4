//! `ringtree run`, and everybody who sets rank, size and id by hand.

use super::{Launch, Meeting, Variables, checked, unset};
use crate::Result;
use crate::boot::id::UniqueId;

pub(super) fn detect(env: &Variables<'_>) -> Result<Option<Launch>> {
    let names = ["RINGTREE_RANK", "RINGTREE_SIZE", "RINGTREE_ID"];
    let Some(first) = names.iter().find(|name| env.has(name)) else { return Ok(None) };
    let because = format!("{first} is set");
    let (rank, size) = (env.needed(names[0], &because)?, env.needed(names[1], &because)?);
    let id = env.text(names[2]).ok_or_else(|| unset(names[2], &because))?;
    let launch = Launch {
        rank,
        size,
        local_rank: env.number("RINGTREE_LOCAL_RANK")?,
        local_size: env.number("RINGTREE_LOCAL_SIZE")?,
        launcher: "ringtree run",
        meeting: Meeting::Id(UniqueId::from_hex(&id)?),
    };
    checked(launch, "RINGTREE_RANK and RINGTREE_SIZE").map(Some)
}
