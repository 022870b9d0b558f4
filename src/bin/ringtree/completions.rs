//! `ringtree completions`.

use crate::{Cli, Outcome};
use clap::{Args, CommandFactory};

/// Print a completion script for your shell
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    ringtree completions bash > ~/.local/share/bash-completion/completions/ringtree\n  \
    ringtree completions zsh > \"${fpath[1]}/_ringtree\"\n  \
    ringtree completions fish > ~/.config/fish/completions/ringtree.fish")]
pub(crate) struct Options {
    /// Which shell
    shell: clap_complete::Shell,
}

pub(crate) fn main(options: &Options) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "ringtree", &mut script);
    crate::terminal::print(&String::from_utf8_lossy(&script));
    Ok(())
}
