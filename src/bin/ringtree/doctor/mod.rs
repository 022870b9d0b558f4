//! `ringtree doctor`.
//!
//! | file | idea |
//! |---|---|
//! | `finding` | one line of the report, and how it is printed |
//! | `machine` | what was read about the machine into findings |
//! | `probes` | what is really tried, because only trying tells |

mod finding;
mod machine;
mod probes;

use crate::terminal::{Paint, print};
use crate::{Failure, Outcome};
use clap::Args;
use finding::Level;
use ringtree::boot::BootConfig;
use ringtree::topo::detect::detect;
use ringtree::transport::verbs::{Port, ports};
use ringtree::{Config, Protection};
use std::path::Path;

/// Say what this machine offers, what limits it, and what to do about it
///
/// Each line is `ok`, a `note` (it works, but slower or with a limit) or a `problem` (something will fail).
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    ringtree doctor\n  \
    ringtree doctor --json | jq '.findings[] | select(.level != \"ok\")'\n  \
    ringtree doctor --topology > host.txt\n\n\
    Exit codes: 0 when there is no problem, 1 when there is one.")]
pub(crate) struct Options {
    /// Print one JSON object
    #[arg(long, conflicts_with = "topology")]
    json: bool,
    /// Print the host as a graph: packages, nodes, caches, cores
    #[arg(long)]
    topology: bool,
    /// Be the other process of a probe
    #[arg(long, hide = true, value_name = "ROLE")]
    probe: Option<String>,
}

/// The ports of RDMA devices; or why there can be none.
fn rdma_ports() -> Result<Vec<Port>, String> {
    ports(&BootConfig::from_env().map_err(|error| error.to_string())?)
}

pub(crate) fn main(options: &Options) -> Outcome {
    if let Some(role) = &options.probe {
        return probes::be_the_other_process(role);
    }
    let found = detect(Path::new("/"));
    if options.topology {
        print(&found.host.to_string());
        return Ok(());
    }
    let mut findings = machine::findings(&found);
    findings.extend(probes::findings(found.limits.ptrace_scope));
    findings.extend(machine::environment(|name| std::env::var(name).ok()));
    findings.extend(machine::site(ringtree::locate(|name| std::env::var(name).ok())));
    findings.extend(machine::unknown(crate::settings::names()));
    let ports = rdma_ports();
    let has_rdma = ports.as_ref().is_ok_and(|ports| ports.iter().any(|port| port.ready.is_ok()));
    // Settings that make no sense have lines of their own.
    let settings = Config::from_variables(|name| std::env::var(name).ok());
    let protection = settings.map_or(Protection::Plain, |config| config.protection);
    let has_secret = BootConfig::from_env().is_ok_and(|config| config.secret.is_some());
    findings.push(machine::protection(protection, has_secret, has_rdma));
    findings.extend(machine::transports(ports));
    findings.extend(machine::unseen(&found));
    if options.json {
        let host = found.host.to_string();
        print(&format!("{:#}\n", finding::json(&findings, &host)));
    } else {
        print(&finding::text(&findings, Paint::stdout()));
    }
    if findings.iter().any(|finding| finding.level == Level::Problem) { Err(Failure::Said(1)) } else { Ok(()) }
}
