//! `ringtree run`.

use crate::launch::{self, Job, Output};
use crate::{Failure, Outcome};
use clap::Args;
use std::ffi::OsString;
use std::time::Duration;

/// Start the ranks of a program on this host
///
/// Each rank gets RINGTREE_RANK, RINGTREE_SIZE, RINGTREE_LOCAL_RANK and RINGTREE_ID in its environment, which is what
/// `Communicator::from_env` looks for. Between hosts use the launcher you have: torchrun, srun, mpirun.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    ringtree run -g 2 -- ./train --epochs 3\n  \
    ringtree run -g 4 --tag-output -- python train.py\n\n\
    Lines of the ranks are never mixed (but see --direct). Standard input goes to rank 0. A signal sent to this launcher goes to every rank.\n\
    When one rank fails, the others have the grace period to end by themselves; then they get SIGTERM, later SIGKILL.\n\
    The exit code is that of the first rank that failed, 128 + number when a signal ended it, 127 when the program could\n\
    not be started.")]
pub(crate) struct Options {
    /// How many ranks
    #[arg(short = 'g', long = "ranks", value_name = "N", value_parser = crate::values::ranks)]
    ranks: u32,
    /// Put `[rank]` before each line
    #[arg(long)]
    tag_output: bool,
    /// Let the ranks write straight to this terminal: colour and progress lines work, lines of several ranks may mix
    #[arg(long, conflicts_with = "tag_output")]
    direct: bool,
    /// Seconds that the other ranks have to end by themselves after one failed
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds)]
    grace: f64,
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("write seconds from 0 to 86400, as 5 or 0.5".to_string()),
    }
}

pub(crate) fn main(options: Options) -> Outcome {
    let mut command = options.command.into_iter();
    let program = command.next().ok_or_else(|| Failure::Usage("there is no program to run".to_string()))?;
    let job = Job {
        program,
        args: command.collect(),
        ranks: options.ranks,
        output: if options.direct { Output::Direct } else { Output::Lines { tagged: options.tag_output } },
        grace: Duration::from_secs_f64(options.grace),
    };
    match launch::launch(&job)? {
        0 => Ok(()),
        code => Err(Failure::Said(code)),
    }
}
