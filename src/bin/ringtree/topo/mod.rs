//! `ringtree topo`.
//!
//! ```text
//!   this machine, or a file ──> host ──> outline ──> text, picture
//!                                └─────> NCCL's XML, our own text form
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `outline` | the host as entries with a depth |
//! | `text` | the tree, how near things are, the nearest interfaces |
//! | `picture` | the same drawn |
//! | `site` | the racks and pods of a site |

mod outline;
mod picture;
mod site;
mod text;

use crate::terminal::{Paint, print};
use crate::{Failure, Outcome};
use clap::Args;
use ringtree::topo::detect::{Unseen, detect};
use ringtree::topo::graph::Host;
use ringtree::topo::xml;
use ringtree::{locate, read_site};
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A file of a topology is read up to here.
const MAX_FILE: u64 = 16 << 20;

/// Print what this host is made of: processors, caches, PCI switches, GPUs, network interfaces, and how near they are
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    ringtree topo                                this host\n  \
    ringtree topo --svg host.svg                 with a picture; open it in a browser\n  \
    ringtree topo --xml > host.xml               as NCCL_TOPO_FILE takes it\n  \
    ringtree topo --text > host.txt              everything that is known, to be read again\n  \
    ringtree topo --from node17.xml              a file of NCCL's, or one of --text\n  \
    ringtree topo --site site.txt                the racks and pods of a site's file, and which this host is in")]
pub(crate) struct Options {
    /// Read the host from that file, NCCL's XML or the form of --text; - is the standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Print NCCL's XML
    #[arg(long, conflicts_with = "text")]
    xml: bool,
    /// Print the text form, which has everything
    #[arg(long)]
    text: bool,
    /// Draw the host, or the site, into that file
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// Print the site that this file describes (RINGTREE_SITE of a job), not the host
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "xml"])]
    site: Option<PathBuf>,
}

pub(crate) fn main(options: &Options) -> Outcome {
    if let Some(path) = &options.site {
        return show_site(path, options);
    }
    let (hosts, unseen) = match &options.from {
        Some(path) => (read(path)?, Vec::new()),
        None => {
            let found = detect(Path::new("/"));
            (vec![found.host], found.unseen)
        }
    };
    if hosts.len() > 1 && (options.xml || options.text) {
        let why = "the file has several hosts, and these forms have one: leave --xml and --text away";
        return Err(Failure::Usage(why.to_string()));
    }
    if let Some(path) = &options.svg {
        write_picture(path, &picture::draw(&hosts))?;
    }
    for host in &hosts {
        print(&match (options.xml, options.text) {
            (true, _) => xml::write(host),
            (_, true) => host.to_string(),
            _ => for_people(host, &unseen),
        });
    }
    if options.from.is_none() && !options.xml && !options.text {
        own_site()?;
    }
    Ok(())
}

fn write_picture(path: &Path, picture: &str) -> Outcome {
    std::fs::write(path, picture)
        .map_err(|error| Failure::Failed(format!("{} can't be written: {error}", path.display())))?;
    eprintln!("{}", Paint::stderr().dim(&format!("picture written to {}", path.display())));
    Ok(())
}

/// Where this host is, if anybody says.
fn own_site() -> Outcome {
    let located = locate(|name| std::env::var(name).ok()).map_err(|error| Failure::Usage(error.to_string()))?;
    match located.complaint {
        Some(complaint) => print(&format!("\nIts place in the site is unknown: {complaint}\n")),
        None if located.location.is_unknown() => {}
        None => print(&format!("\nIts place in the site: {} ({})\n", located.location, located.from)),
    }
    Ok(())
}

fn show_site(path: &Path, options: &Options) -> Outcome {
    let site = read_site(path).map_err(|error| Failure::Failed(error.to_string()))?;
    // Whatever else is set: the question is where this host is by that file.
    let by_file = |name: &str| match name {
        "RINGTREE_SITE" => path.to_str().map(String::from),
        "RINGTREE_LOCATION" => None,
        other => std::env::var(other).ok(),
    };
    let own = locate(by_file).unwrap_or_default().location;
    if let Some(path) = &options.svg {
        write_picture(path, &site::picture(&site, &own))?;
    }
    print(&if options.text { site.to_string() } else { site::outline(&site, &own, Paint::stdout()) });
    Ok(())
}

fn for_people(host: &Host, unseen: &[Unseen]) -> String {
    let mut out = text::tree(host, Paint::stdout()) + &text::ways(host) + &text::nearest(host);
    if !unseen.is_empty() {
        out.push_str("\nNot seen:\n");
        for Unseen { what, why } in unseen {
            let _ = writeln!(out, "  {}: {}", what.escape_debug(), why.escape_debug());
        }
    }
    out
}

/// Hosts out of a file, in whichever of the two forms it has.
fn read(path: &Path) -> Result<Vec<Host>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(format!("{} can't be read: {error}", path.display()));
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(&format!("it has more than {} MiB", MAX_FILE >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|_| failed(&"it is no text in UTF-8"))?;
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('<') {
        xml::read(text).map_err(|wrong| failed(&wrong))
    } else {
        Host::parse(text).map(|host| vec![host]).map_err(|wrong| failed(&wrong))
    }
}
