//! The command line. One file a subcommand; what several of them need has a file of its own:
//!
//! | file | idea |
//! |---|---|
//! | `doctor` `topo` `run` `plan` `check` `perf` `tune` `completions` | one subcommand each |
//! | `launch` | starts ranks on this host and looks after them |
//! | `bytes` | sizes, read and printed |
//! | `values` | other values of options, read |
//! | `logging` | what the library says meanwhile |
//! | `settings` | environment variables that nobody reads |
//! | `svg` | pictures |
//! | `terminal` | colour and progress, only where somebody looks |

mod bytes;
mod check;
mod completions;
mod doctor;

mod launch;
mod logging;
mod perf;
mod plan;
mod run;
mod settings;
mod svg;
mod terminal;
mod topo;
mod tune;
mod values;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  ringtree doctor                                 what this machine offers, and what limits it
  ringtree topo --svg host.svg                    what this host is made of, with a picture
  ringtree perf all_reduce -g 2                   measure an all-reduce between two ranks, started by itself
  ringtree perf all_gather -b 8 -e 128M -f 2 -g 4 sizes from 8 B to 128 MiB, doubling
  ringtree run -g 4 --tag-output -- ./train       four ranks of a program on this host
  ringtree plan all_reduce -g 8 -b 1M --svg p.svg what each rank will do and why, with a picture
  ringtree check --ranks 2-16                     prove the plans right
  ringtree tune --out tuned.profile               measure this system, for RINGTREE_PROFILE of later runs

Exit codes:
  0  everything went well
  1  something failed, or a result is wrong
  2  the command line makes no sense
  `ringtree run` passes on the exit code of the first rank that fails (128 + number for a signal).";

/// Collective communication: all-reduce, all-gather and their family between the ranks of a job. Within a host over shared
/// memory, between hosts over RDMA or sockets.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 120, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Doctor(doctor::Options),
    Topo(topo::Options),
    Check(check::Options),
    Perf(Box<perf::Options>),
    Plan(Box<plan::Options>),
    Tune(tune::Options),
    Run(run::Options),
    Completions(completions::Options),
}

/// Why a subcommand ends without having done its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line makes no sense: what is wrong, and what would be right.
    Usage(String),
    /// Something failed, or a result is wrong.
    Failed(String),
    /// Everything has been said; only the exit code is left.
    Said(u8),
}

impl Failure {
    pub(crate) fn failed(error: impl std::fmt::Display) -> Failure {
        Failure::Failed(error.to_string())
    }
}

/// What a subcommand returns.
pub(crate) type Outcome = Result<(), Failure>;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    logging::begin();
    let outcome = match command {
        Command::Check(options) => check::main(&options),
        Command::Doctor(options) => doctor::main(&options),
        Command::Topo(options) => topo::main(&options),
        Command::Perf(options) => perf::main(&options),
        Command::Plan(options) => plan::main(&options),
        Command::Tune(options) => tune::main(&options),
        Command::Run(options) => run::main(options),
        Command::Completions(options) => completions::main(&options),
    };
    let (message, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Said(code)) => return ExitCode::from(code),
        Err(Failure::Failed(message)) => (message, 1),
        Err(Failure::Usage(message)) => (message, 2),
    };
    eprintln!("{} {message}", terminal::Paint::stderr().red("ringtree:"));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
