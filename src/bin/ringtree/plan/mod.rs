//! `ringtree plan`.
//!
//! | file | idea |
//! |---|---|
//! | `words` | a step as a sentence |
//! | `diagram` | the space-time picture |
//! | `site` | ranks on hosts of a site |

mod diagram;
mod site;
mod words;

use crate::bytes::{self, human};
use crate::terminal::{Paint, print};
use crate::values::{self, MOST_RANKS, Wish, algorithm_or_auto, at_least, collective, dtype, ranks, reduction, whole};
use crate::{Failure, Outcome};
use clap::{Args, ValueEnum};
use ringtree::plan::{Medium, Plan, Tuning, World};
use ringtree::sim::{Fabric, MOST_WORK, history, predict};
use ringtree::types::Call;
use ringtree::{Collective, Config, DataType, Domains, Fetch, Reduction, Transport, read_site};
use serde_json::{Value, json};
use site::OnSite;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Steps of a rank that are printed without --all.
const FIRST_STEPS: u64 = 40;
/// The settings of a job that a plan depends on.
const HEEDED: [&str; 7] = [
    "RINGTREE_ALGORITHM",
    "RINGTREE_CHUNK",
    "RINGTREE_REPRODUCIBLE",
    "RINGTREE_DOMAINS",
    "RINGTREE_FETCH",
    "RINGTREE_TRANSPORT",
    "RINGTREE_PROFILE",
];
/// Steps and messages that a picture is made from.
const MOST_DRAWN: usize = 2_000_000;

const EXAMPLES: &str = "\
Examples:
  ringtree plan all_reduce -g 4                              why this algorithm, and rank by rank what it does
  ringtree plan all_reduce -g 8 -b 1M --svg plan.svg         with a space-time picture; open it in a browser
  ringtree plan all_gather -g 8 --algorithm ring --rank 3    one rank of a ring
  ringtree plan all_reduce --domains 4,4 --fabric cluster    two hosts of four ranks
  ringtree plan all_reduce --site site.txt --fabric cluster  the hosts of a site's file, rack by rack

Nothing is measured or started: a plan is data, and times are predictions of a model.";

/// Print, and draw, what each rank of a collective will do, and why
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// What to plan
    #[arg(value_name = "COLLECTIVE", value_parser = collective())]
    collective: Collective,
    /// How many ranks [default: 4, or those of RINGTREE_DOMAINS]
    #[arg(short = 'g', long = "ranks", value_name = "N", value_parser = ranks, conflicts_with = "domains")]
    ranks: Option<u32>,
    /// Size of the vector in bytes; K, M, G are powers of 1024
    #[arg(short = 'b', long = "bytes", value_name = "SIZE", default_value = "64K", value_parser = bytes::parse)]
    bytes: u64,
    /// Element type
    #[arg(short = 'd', long = "datatype", value_name = "TYPE", default_value = "f32", value_parser = dtype())]
    dtype: DataType,
    /// How elements are combined
    #[arg(short = 'o', long = "op", value_name = "OP", default_value = "sum", value_parser = reduction())]
    reduction: Reduction,
    /// The root's rank
    #[arg(short = 'r', long = "root", value_name = "ROOT", default_value_t = 0, value_parser = whole(0..=MOST_RANKS - 1))]
    root: u32,
    /// Force this algorithm [default: RINGTREE_ALGORITHM, or auto]
    #[arg(long = "algorithm", alias = "algo", value_name = "ALGORITHM", value_parser = algorithm_or_auto())]
    algorithm: Option<Wish>,
    /// Sizes of the domains (caches, NUMA nodes, hosts) that ranks share, as 4,4 (RINGTREE_DOMAINS of a real job); in place of -g
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', value_parser = ranks)]
    domains: Vec<u32>,
    /// Ranks are on the hosts that this file has (RINGTREE_SITE of a real job), as many on each as --domains says, else one a rail
    #[arg(long, value_name = "FILE", conflicts_with = "ranks")]
    site: Option<PathBuf>,
    /// On these hosts of the site, in this order, as node[3,1],node7 [default: all of them]
    #[arg(long, value_name = "LIST", requires = "site")]
    hosts: Option<String>,
    /// At most so many channels
    #[arg(long, value_name = "N", value_parser = at_least(1u32))]
    channels: Option<u32>,
    /// Bytes of one message [default: RINGTREE_CHUNK, or what suits the algorithm]
    #[arg(long, value_name = "SIZE", value_parser = bytes::parse)]
    chunk: Option<u64>,
    /// Cores that the ranks share, when fewer than ranks
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole(0..=MOST_RANKS))]
    cores: u32,
    /// Ranks can address each other's buffers, as with registered memory
    #[arg(long)]
    windows: bool,
    /// Where a rank sends at least so many bytes, they are copied straight from its private memory
    #[arg(long, value_name = "SIZE", value_parser = bytes::parse)]
    fetch_from: Option<u64>,
    /// The bits must not depend on size, chunks, channels or algorithm (RINGTREE_REPRODUCIBLE does the same)
    #[arg(long)]
    reproducible: bool,
    /// What the picture and the simulated time are based on
    #[arg(long, value_enum, default_value_t = FabricName::Host)]
    fabric: FabricName,
    /// What the ranks of a domain talk over: tcp or verbs, anything else is memory [default: RINGTREE_TRANSPORT]; between hosts
    /// (--fabric cluster) it is tcp
    #[arg(long, value_name = "TRANSPORT", value_parser = values::transport())]
    transport: Option<Transport>,
    /// Print this rank only
    #[arg(long, value_name = "RANK", value_parser = whole(0..=MOST_RANKS - 1))]
    rank: Option<u32>,
    /// Print every step, not the first 40 of each rank
    #[arg(long)]
    all: bool,
    /// Draw the space-time diagram into that file
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The fabrics that the simulator knows.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FabricName {
    /// One host: shared caches within a domain, memory between domains
    Host,
    /// Hosts on a network of 100 Gb/s
    Cluster,
}

impl FabricName {
    fn fabric(self) -> Fabric {
        match self {
            FabricName::Host => Fabric::HOST,
            FabricName::Cluster => Fabric::CLUSTER,
        }
    }

    fn name(self) -> &'static str {
        match self {
            FabricName::Host => "one host",
            FabricName::Cluster => "a cluster (100 Gb/s)",
        }
    }
}

impl Options {
    fn world(&self, config: &Config) -> Result<World, Failure> {
        let flat = World::flat(self.ranks.unwrap_or(4));
        let (sizes, source) = match &config.domains {
            _ if !self.domains.is_empty() => (&self.domains, "--domains"),
            Domains::Sizes(sizes) => (sizes, "RINGTREE_DOMAINS"),
            Domains::Auto | Domains::Flat => return Ok(flat),
        };
        let total: u64 = sizes.iter().map(|&size| size as u64).sum();
        match self.ranks {
            Some(ranks) if u64::from(ranks) != total => Err(Failure::Usage(format!(
                "{source} has {total} ranks together, and -g says {ranks}: make them agree"
            ))),
            _ if total > u64::from(MOST_RANKS) => Err(Failure::Usage(format!(
                "{source} has {total} ranks together; at most {MOST_RANKS} are planned here"
            ))),
            _ => Ok(World::domains(sizes)),
        }
    }

    /// The world, and what there is to say about its order.
    fn world_on_site(&self, config: &Config) -> Result<(World, Option<String>), Failure> {
        let Some(path) = &self.site else { return Ok((self.world(config)?, None)) };
        let sizes: &[u32] = match &config.domains {
            Domains::Sizes(sizes) if self.domains.is_empty() => sizes,
            _ => &self.domains,
        };
        let read = read_site(path).map_err(|error| Failure::Failed(error.to_string()))?;
        let OnSite { world, words } = site::on_site(&read, self.hosts.as_deref(), sizes)?;
        Ok((world, Some(words)))
    }

    fn call(&self, world: &World) -> Call {
        let blocks = if self.collective.has_blocks() { world.size() as u64 } else { 1 };
        let count = match self.collective {
            Collective::Barrier => 0,
            _ => (self.bytes / self.dtype.size() as u64 / blocks).max(1),
        };
        let reduction = if self.collective.reduces() { self.reduction } else { Reduction::Sum };
        let root = if self.collective.has_root() { self.root } else { 0 };
        Call::new(self.collective, self.dtype, reduction, root, count)
    }

    fn tuning(&self, config: &Config) -> Result<Tuning, Failure> {
        let chunk_bytes = self.chunk.map(|chunk| {
            u32::try_from(chunk)
                .map_err(|_| Failure::Usage("--chunk is too large: a message has less than 4 GiB".to_string()))
        });
        let inside = match self.transport.unwrap_or(config.transport) {
            Transport::Tcp | Transport::Verbs => Medium::Loopback,
            _ => Medium::Memory,
        };
        let fetched = if let Fetch::From(bytes) = config.fetch { Some(bytes) } else { None };
        Ok(Tuning {
            algorithm: self.algorithm.map_or(config.algorithm, |wish| wish.0),
            chunk_bytes: chunk_bytes.transpose()?.or(config.chunk_bytes),
            channels: self.channels,
            reproducible: self.reproducible || config.reproducible,
            windows: self.windows,
            fetch_from: self.fetch_from.or(fetched).unwrap_or(0),
            cores: self.cores,
            inside,
            between: if matches!(self.fabric, FabricName::Cluster) { Medium::Network } else { inside },
            costs: config.costs.clone(),
        })
    }
}

pub(crate) fn main(options: &Options) -> Outcome {
    let config = Config::from_env().map_err(|error| Failure::Usage(error.to_string()))?;
    let (world, order) = options.world_on_site(&config)?;
    if let Some(rank) = options.rank.filter(|&rank| rank >= world.size()) {
        return Err(Failure::Usage(format!("there is no rank {rank}: ranks go from 0 to {}", world.size() - 1)));
    }
    let (call, tuning) = (options.call(&world), options.tuning(&config)?);
    let plan = Plan::new(&world, &call, &tuning).map_err(|error| Failure::Usage(error.to_string()))?;
    let simulated = simulate(options, &plan);
    if let Some(path) = &options.svg {
        draw(options, &plan, path)?;
    }
    if options.json {
        print(&format!("{:#}\n", as_json(options, &plan, &tuning, simulated.ok())));
        return Ok(());
    }
    let mut out = String::new();
    summary(&mut out, &plan, &tuning);
    order.iter().for_each(|words| out.push_str(&format!("{words}\n")));
    let set = |name: &&str| std::env::var(name).ok().map(|value| format!("{name}={value}"));
    let environment: Vec<String> = HEEDED.iter().filter_map(set).collect();
    if !environment.is_empty() {
        let _ = writeln!(out, "From the environment, where no option says otherwise: {}", environment.join(" "));
    }
    match &simulated {
        Ok(time) => {
            let _ = writeln!(out, "Simulated step by step on {}: {}", options.fabric.name(), duration(*time));
        }
        Err(why) => {
            let _ = writeln!(out, "Not simulated: {why}");
        }
    }
    let ranks = options.rank.map_or(0..world.size(), |rank| rank..rank + 1);
    // What is the same for all is not printed four thousand times.
    let shown = if options.all || options.rank.is_some() { ranks.end } else { ranks.end.min(ranks.start + 8) };
    for rank in ranks.start..shown {
        steps(&mut out, options, &plan, rank);
    }
    if shown < ranks.end {
        let _ = writeln!(out, "\n… and {} more ranks: --rank R shows one, --all shows all", ranks.end - shown);
    }
    print(&out);
    Ok(())
}

/// The time by the simulator, in nanoseconds, or why there is none.
fn simulate(options: &Options, plan: &Plan) -> Result<u64, String> {
    let ranks = 0..plan.world().size();
    let counts = ranks.flat_map(|rank| (0..plan.channels()).map(move |channel| plan.step_count(rank, channel)));
    let steps = counts.fold(0, u64::saturating_add);
    if steps > MOST_WORK {
        return Err(format!(
            "{steps} steps are too many ({MOST_WORK}); a smaller size or fewer ranks show the same pattern"
        ));
    }
    predict(plan, &options.fabric.fabric()).map_err(|stuck| stuck.to_string())
}

/// The call in words.
fn call_words(plan: &Plan) -> String {
    let (call, world) = (plan.call(), plan.world());
    let mut text = call.collective.to_string();
    if call.collective != Collective::Barrier {
        let blocks = if call.collective.has_blocks() { world.size() as u64 } else { 1 };
        let bytes = call.count * blocks * call.dtype.size() as u64;
        let _ = write!(text, " of {} {} ({})", call.count * blocks, call.dtype, human(bytes));
    }
    if call.collective.reduces() {
        let _ = write!(text, ", {}", call.reduction);
    }
    if call.collective.has_root() {
        let _ = write!(text, ", root {}", call.root);
    }
    let _ = write!(text, ", {} rank{}", world.size(), if world.size() == 1 { "" } else { "s" });
    if world.domain_count() > 1 {
        let _ = write!(text, " in {} domains", world.domain_count());
    }
    text
}

/// `0.42 us`, `12.3 us`, `4.56 ms`.
fn duration(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.2} us", nanoseconds as f64 / 1e3),
        _ => format!("{:.2} ms", nanoseconds as f64 / 1e6),
    }
}

fn summary(out: &mut String, plan: &Plan, tuning: &Tuning) {
    let paint = Paint::stdout();
    let _ = writeln!(out, "{}", paint.bold(&call_words(plan)));
    let message = human(plan.slot_len() as u64 * plan.call().dtype.size() as u64);
    let channels = plan.channels();
    let (s, algorithm) = (if channels == 1 { "" } else { "s" }, plan.algorithm());
    let _ = writeln!(
        out,
        "Plan: {algorithm}, {channels} channel{s}, messages of at most {message}, digest {:016x}\n",
        plan.digest()
    );
    let _ = writeln!(out, "Candidates, with what the cost model predicts:");
    let asked_for_none = Tuning { algorithm: None, ..tuning.clone() };
    for candidate in Plan::candidates(plan.world(), plan.call(), &asked_for_none) {
        let chosen = candidate.algorithm == plan.algorithm();
        let mark = if chosen { "*" } else { " " };
        let name = format!("{mark} {:10}", candidate.algorithm.name());
        let name = if chosen { paint.green(&name) } else { name };
        let _ = writeln!(out, "{name} {:>10}  {}", duration(candidate.nanoseconds), paint.dim(&candidate.reason));
    }
    let _ = writeln!(out, "\nWhy: {}", plan.explain());
}

fn steps(out: &mut String, options: &Options, plan: &Plan, rank: u32) {
    for channel in 0..plan.channels() {
        let count = plan.step_count(rank, channel);
        let s = if count == 1 { "" } else { "s" };
        let title = match plan.channels() {
            1 => format!("Rank {rank}: {count} step{s}"),
            _ => format!("Rank {rank}, channel {channel}: {count} step{s}"),
        };
        let _ = writeln!(out, "\n{}", Paint::stdout().bold(&title));
        let most = if options.all { count } else { count.min(FIRST_STEPS) };
        for (index, step) in (0..most).filter_map(|index| Some((index, plan.step(rank, channel, index)?))) {
            let _ = writeln!(out, "{index:>5}  {}", words::describe(&step));
        }
        if most < count {
            let _ = writeln!(out, "       … and {} more (--all)", count - most);
        }
    }
}

fn as_json(options: &Options, plan: &Plan, tuning: &Tuning, simulated: Option<u64>) -> Value {
    let asked_for_none = Tuning { algorithm: None, ..tuning.clone() };
    let candidates: Vec<Value> = Plan::candidates(plan.world(), plan.call(), &asked_for_none)
        .iter()
        .map(|candidate| {
            json!({
                "algorithm": candidate.algorithm.name(),
                "nanoseconds": candidate.nanoseconds,
                "reason": candidate.reason,
            })
        })
        .collect();
    let ranks = options.rank.map_or(0..plan.world().size(), |rank| rank..rank + 1);
    let list = |rank: u32, channel: u32| {
        let count = plan.step_count(rank, channel);
        let most = if options.all { count } else { count.min(FIRST_STEPS) };
        let steps: Vec<String> =
            (0..most).filter_map(|index| plan.step(rank, channel, index)).map(|step| words::describe(&step)).collect();
        json!({ "rank": rank, "channel": channel, "count": count, "steps": steps })
    };
    let lists: Vec<Value> = ranks
        .flat_map(|rank| (0..plan.channels()).map(move |channel| (rank, channel)))
        .map(|(r, c)| list(r, c))
        .collect();
    json!({
        "call": call_words(plan),
        "algorithm": plan.algorithm().name(),
        "channels": plan.channels(),
        "slot_len": plan.slot_len(),
        "digest": format!("{:016x}", plan.digest()),
        "candidates": candidates,
        "why": plan.explain(),
        "simulated_ns": simulated,
        "lists": lists,
    })
}

fn draw(options: &Options, plan: &Plan, path: &Path) -> Outcome {
    simulate(options, plan).map_err(|why| Failure::Failed(format!("there is nothing to draw: {why}")))?;
    let history = history(plan, &options.fabric.fabric(), MOST_DRAWN).map_err(Failure::failed)?;
    let time = duration(history.end.div_ceil(1000)).replace("us", "µs");
    let picture = diagram::draw(&diagram::Scene {
        history: &history,
        channels: plan.channels(),
        ranks: plan.world().size(),
        domains: (0..plan.world().size()).map(|rank| plan.world().seat(rank).0).collect(),
        title: format!("{}: {}", call_words(plan), plan.algorithm()),
        subtitle: format!("Simulated on {}: {time} until the last rank is done.", options.fabric.name()),
    });
    std::fs::write(path, picture)
        .map_err(|error| Failure::Failed(format!("{} can't be written: {error}", path.display())))?;
    eprintln!("{}", Paint::stderr().dim(&format!("diagram written to {}", path.display())));
    Ok(())
}
