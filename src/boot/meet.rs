//! From what the launcher says to a unique id: rank 0 makes it, and the best channel there is carries it to the others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use super::config::BootConfig;
use super::dial::Target;
use super::handout::{Question, ask_for_id, hand_out};
use super::host::{Listener, listen_tcp, listen_unix};
use super::id::{UniqueId, hex};
use super::launcher::{Launch, Meeting};
use super::pmi::Pmi;
use super::store::{TorchStore, fetch_id, publish_id};
use super::wire::derive;
use crate::{Error, Result};

/// The unique id of the job that `launch` describes. All ranks must call it equally often: the n-th call of one meets the n-th of the others.
pub fn meet(launch: &Launch, config: &BootConfig) -> Result<UniqueId> {
    let deadline = Instant::now() + config.timeout;
    let Launch { rank, size, .. } = *launch;
    let turn = next_turn(launch);
    let config = &BootConfig { one_host: config.one_host || launch.is_one_host(), ..config.clone() };
    let shown = match &launch.meeting {
        Meeting::Id(id) => return Ok(id.clone()),
        _ if size == 1 => return UniqueId::with_config(config),
        Meeting::Store { host, port, prefix } => {
            let store = TorchStore::connect(host, *port, config.timeout)?;
            let prefix = format!("{prefix}/{turn}");
            if rank == 0 {
                let (id, shown) = UniqueId::veiled(config)?;
                publish_id(&store, &prefix, &shown)?;
                return Ok(id);
            }
            fetch_id(&store, &prefix, deadline.saturating_duration_since(Instant::now()))?
        }
        Meeting::Pmi { fd } => return meet_by_pmi(*fd, rank, turn, config, deadline),
        Meeting::Address { host, port } => {
            warn_if_open(config);
            let question = Question { rank, size, turn };
            if rank == 0 {
                let listener = Listener::Tcp(listen_patiently(host, *port, deadline)?);
                let (id, shown) = UniqueId::veiled(config)?;
                hand_out(vec![listener], config.secret.as_ref(), shown, question, deadline)?;
                return Ok(id);
            }
            ask_at(host, *port, config, question, deadline)?
        }
        Meeting::HostJob { name } => {
            let (question, name) = (Question { rank, size, turn }, job_socket(name, turn));
            if rank == 0 {
                let listener = Listener::Unix(listen_unix(&name)?);
                let (id, shown) = UniqueId::veiled(config)?;
                hand_out(vec![listener], config.secret.as_ref(), shown, question, deadline)?;
                return Ok(id);
            }
            ask_for_id(&Target::Unix { name, otherwise: None }, config.secret.as_ref(), question, deadline)?
        }
    };
    Ok(shown.unveiled(config))
}

static TURNS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// How many starts this rank has made before at the same meeting place: later ones must not find the id of an earlier one.
fn next_turn(launch: &Launch) -> u64 {
    let mut turns = TURNS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let turn = turns.entry(meeting_place(launch)).or_default();
    *turn += 1;
    *turn - 1
}

/// The rank belongs to the name, because several ranks of a job can live in one process.
fn meeting_place(launch: &Launch) -> String {
    let place = match &launch.meeting {
        Meeting::Id(_) => "id".to_string(),
        Meeting::Store { host, port, prefix } => format!("store {host} {port} {prefix}"),
        Meeting::Pmi { fd } => format!("pmi {fd}"),
        Meeting::Address { host, port } => format!("address {host} {port}"),
        Meeting::HostJob { name } => format!("host {name}"),
    };
    format!("{place} rank {}", launch.rank)
}

#[cfg(test)]
fn forget_turn(launch: &Launch) {
    TURNS.lock().unwrap().remove(&meeting_place(launch));
}

fn meet_by_pmi(fd: i32, rank: usize, turn: u64, config: &BootConfig, deadline: Instant) -> Result<UniqueId> {
    if turn > 0 {
        return Err(Error::misuse(
            "the process manager's channel (PMI) carries one start a process, and it has been used",
            "Split or duplicate the first communicator instead of starting a second one from the environment",
        ));
    }
    let mut pmi = Pmi::begin(fd, deadline)?;
    let made = if rank == 0 { Some(UniqueId::veiled(config)?) } else { None };
    if let Some((_, shown)) = &made {
        pmi.put("ringtree-id", &shown.to_hex())?;
    }
    pmi.barrier()?;
    let id = match made {
        Some((id, _)) => id,
        None => UniqueId::from_hex(&pmi.get("ringtree-id")?)?.unveiled(config),
    };
    pmi.finish()?;
    Ok(id)
}

/// Asks rank 0 at every address that the name has, again and again: in a cluster the name may not be known yet.
fn ask_at(host: &str, port: u16, config: &BootConfig, question: Question, deadline: Instant) -> Result<UniqueId> {
    let mut pause = Duration::from_millis(20);
    loop {
        let found: Vec<SocketAddr> = (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
        let left = deadline.saturating_duration_since(Instant::now());
        for (index, address) in found.iter().enumerate() {
            // One address gets all the time; of several each but the last gets a part.
            let until = if index + 1 == found.len() && index == 0 { deadline } else { Instant::now() + left / 4 };
            let answer = ask_for_id(&Target::tcp(*address), config.secret.as_ref(), question, until.min(deadline));
            if answer.is_ok() || Instant::now() >= deadline || found.len() == 1 {
                return answer;
            }
        }
        if Instant::now() + pause >= deadline {
            return Err(Error::start(
                format!("the name '{host}' (MASTER_ADDR) leads to no rank 0 at port {port}"),
                "Set MASTER_ADDR to a name or an address of rank 0's host that all hosts know",
            ));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

/// Listens where the name leads if that is an address of this host, else (a service's name, a gateway) at all addresses. An earlier start
/// may still be using the port for a moment.
fn listen_patiently(host: &str, port: u16, deadline: Instant) -> Result<std::net::TcpListener> {
    let named: Vec<SocketAddr> = (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let anywhere =
        [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)].map(|ip| SocketAddr::new(ip, port));
    loop {
        let mut busy = None;
        for address in named.iter().chain(&anywhere) {
            match listen_tcp(*address) {
                Ok((_, listener)) => return Ok(listener),
                Err(error @ Error::System { errno: libc::EADDRINUSE, .. }) => {
                    busy = Some(error);
                    break;
                }
                Err(_) => {}
            }
        }
        if busy.is_none() || Instant::now() >= deadline {
            let why = busy.map_or("no address of this host fits".to_string(), |error| error.to_string());
            return Err(Error::start(
                format!("rank 0 can't listen at port {port} for '{host}' ({why})"),
                "Set MASTER_PORT to a port that is free on rank 0's host",
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The name of the abstract Unix socket of a job on this host. Others can guess it; both sides look at each other's user.
fn job_socket(name: &str, turn: u64) -> Vec<u8> {
    let user = nix::unistd::geteuid().as_raw().to_le_bytes();
    let mark = derive(b"ringtree job", &[&user, name.as_bytes(), &turn.to_le_bytes()]);
    format!("ringtree.job.{}", hex(&mark[..16])).into_bytes()
}

fn warn_if_open(config: &BootConfig) {
    static ONCE: Once = Once::new();
    if config.secret.is_none() && !config.one_host {
        ONCE.call_once(|| {
            log::warn!(
                "bootstrap: neither RINGTREE_SECRET nor RINGTREE_SECRET_FILE is set: everybody on this network is trusted to be of this job"
            );
        });
    }
}

#[cfg(test)]
#[path = "meet_tests.rs"]
mod tests;
