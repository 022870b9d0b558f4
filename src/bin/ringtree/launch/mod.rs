//! Starts the ranks of a job on this host and looks after them until the last has ended.
//!
//! ```text
//!                ┌── rank 0: own process group, SIGKILL when the launcher dies
//!   launcher ────┼── rank 1
//!   (one poll    └── rank 2
//!    loop)            │ stdout, stderr: pipes, cut into lines
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `child` | starting one rank: its environment, and what happens between fork and exec |
//! | `watch` | the poll loop: output, input, signals, ends |
//! | `lines` | bytes of several ranks into whole lines |

mod child;
mod lines;
mod watch;

use crate::{Failure, Outcome};
use std::ffi::OsString;
use std::time::Duration;

/// Where the ranks' output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Through pipes, line by line, with `[rank]` before each line if asked for.
    Lines {
        /// Whether `[rank]` is put before each line.
        tagged: bool,
    },
    /// Straight to where the launcher's goes: colour and progress lines work, lines of several ranks may mix.
    Direct,
}

/// What is to be started.
pub(crate) struct Job {
    /// The program.
    pub(crate) program: OsString,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// How many times.
    pub(crate) ranks: u32,
    /// Where the output goes.
    pub(crate) output: Output,
    /// How long the others may take to end by themselves after one failed.
    pub(crate) grace: Duration,
}

/// The exit code when the program can't be started, as shells have it.
const NOT_STARTED: u8 = 127;

/// Starts the ranks, waits until all have ended, and returns the exit code of the first that failed, 0 if none did.
///
/// Must be called on a thread that lives as long as the job (the main thread): the kernel ends the ranks when it ends.
pub(crate) fn launch(job: &Job) -> Result<u8, Failure> {
    // Every rank would refuse to start with it; once is enough.
    if let Some((_, error)) = ringtree::wrong_settings(|name| std::env::var(name).ok()).into_iter().next() {
        return Err(Failure::Usage(error.to_string()));
    }
    crate::settings::warn_of_strangers();
    let signals =
        watch::Signals::block().map_err(|error| Failure::Failed(format!("signals can't be watched: {error}")))?;
    let id = job_id()?;
    let mut children = Vec::new();
    for rank in 0..job.ranks {
        match child::start(job, rank, &id, signals.before()) {
            Ok(child) => children.push(child),
            Err(error) => {
                children.iter_mut().for_each(child::Child::end_now);
                let name = job.program.to_string_lossy();
                let advice = match error.kind() {
                    std::io::ErrorKind::NotFound => "no such program was found; check the name, or give its path",
                    std::io::ErrorKind::PermissionDenied => "the file is not executable; chmod +x may help",
                    _ => "check the limits on processes and open files (ulimit -u, ulimit -n)",
                };
                eprintln!("ringtree: rank {rank} can't be started: {name}: {error}. {advice}");
                return Ok(NOT_STARTED);
            }
        }
    }
    watch::Watch::new(job, children, signals)
        .run()
        .map_err(|error| Failure::Failed(format!("watching the ranks: {error}")))
}

/// Starts this very program as the ranks of a job, with these arguments.
pub(crate) fn launch_self(ranks: u32, args: Vec<OsString>) -> Outcome {
    let program =
        std::env::current_exe().map_err(|error| Failure::Failed(format!("this program can't find itself: {error}")))?;
    let (program, output, grace) = (program.into_os_string(), Output::Direct, Duration::from_secs(5));
    match launch(&Job { program, args, ranks, output, grace })? {
        0 => Ok(()),
        code => Err(Failure::Said(code)),
    }
}

/// The job's unique id, in hexadecimal, for RINGTREE_ID. This process serves the ranks' meeting.
fn job_id() -> Result<String, Failure> {
    let mut config = ringtree::boot::BootConfig::from_env().map_err(Failure::failed)?;
    config.one_host = true;
    ringtree::boot::UniqueId::with_config(&config).map(|id| id.to_hex()).map_err(Failure::failed)
}
