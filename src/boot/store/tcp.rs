//! A store of our own over TCP: a server in some process, clients that prove the same secret.
//!
//! ```text
//!   client ──number, set │ get │ delete, key, value──> server
//!          <──number, found, value────────────────────   (a get: when somebody has set the key)
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::{MAX_KEY, MAX_VALUE, Store, absent, check};
use crate::boot::connection::{Connection, wait};
use crate::boot::dial::{Dial, NoAnswer, Target};
use crate::boot::gate::Gate;
use crate::boot::host::{Listener, listen_tcp};
use crate::boot::message::{Reader, Writer};
use crate::boot::wire::{Event, Secret, derive};
use crate::{Error, Result};

/// The most keys a server keeps: with [`MAX_VALUE`] this bounds its memory.
const MAX_KEYS: usize = 4096;
/// The most clients at a time.
const MAX_CLIENTS: usize = 8192;
/// The longest frame: one value, one key and the fields around them.
const FRAME: usize = MAX_VALUE + MAX_KEY + 64;
/// How long an answer that needs no other rank may take.
const ANSWER: Duration = Duration::from_secs(30);
const CONTEXT: &str = "store";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Request {
    Set { key: String, value: Vec<u8> },
    Get { key: String },
    Delete { key: String },
}

fn encode_request(number: u64, request: &Request) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.u64(number);
    match request {
        Request::Set { key, value } => out.u8(0).bytes(key.as_bytes()).bytes(value),
        Request::Get { key } => out.u8(1).bytes(key.as_bytes()),
        Request::Delete { key } => out.u8(2).bytes(key.as_bytes()),
    };
    out.0
}

fn decode_request(bytes: &[u8]) -> Option<(u64, Request)> {
    let mut from = Reader(bytes);
    let (number, kind) = (from.u64()?, from.u8()?);
    let key = String::from_utf8(from.bytes(MAX_KEY)?).ok()?;
    let request = match kind {
        0 => Request::Set { key, value: from.bytes(MAX_VALUE)? },
        1 => Request::Get { key },
        2 => Request::Delete { key },
        _ => return None,
    };
    from.0.is_empty().then_some((number, request))
}

/// Whether that is a request; see `boot::strangers`.
pub(in crate::boot) fn reads_request(bytes: &[u8]) -> bool {
    decode_request(bytes).is_some()
}

fn secret_of(words: &[u8]) -> Secret {
    derive(words, &[b"ringtree store"])
}

struct Client {
    connection: Connection,
    /// The get that waits for its key: one for each client, so that clients can't fill the server's memory.
    waits: Option<(u64, String)>,
    gone: bool,
}

struct Serving {
    gate: Gate,
    stop: UnixStream,
    clients: Vec<Client>,
    values: BTreeMap<String, Vec<u8>>,
}

/// A store server in a thread of this process. Dropping it ends it.
#[derive(Debug)]
pub struct StoreServer {
    address: SocketAddr,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl StoreServer {
    /// Serves at `address` (port 0: any free one) clients that know `secret`.
    pub fn start(address: SocketAddr, secret: &[u8]) -> Result<StoreServer> {
        let (address, listener) = listen_tcp(address)?;
        let failed = |error: std::io::Error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            Error::from_errno("starting a store server", errno, "Raise the limits of open files and of processes")
        };
        let (stop, stopped) = UnixStream::pair().map_err(failed)?;
        let gate = Gate::new(vec![Listener::Tcp(listener)], &secret_of(secret), CONTEXT);
        let serving = Serving { gate, stop: stopped, clients: Vec::new(), values: BTreeMap::new() };
        let thread = std::thread::Builder::new().name("ringtree store".into()).spawn(move || serving.run());
        Ok(StoreServer { address, stop: Some(stop), thread: Some(thread.map_err(failed)?) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        // Its end of the pair sees the end of ours and stops.
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Serving {
    fn run(mut self) {
        loop {
            let ready = self.sleep();
            if ready[0] {
                return;
            }
            let doors = 1 + self.gate.watched();
            let news = self.gate.serve(&ready[1..doors], Instant::now());
            for (index, _) in ready[doors..].iter().enumerate().filter(|(_, ready)| **ready) {
                self.attend(index);
            }
            for mut connection in news {
                connection.wire().expect_up_to(FRAME);
                if self.clients.len() < MAX_CLIENTS {
                    self.clients.push(Client { connection, waits: None, gone: false });
                }
            }
            self.clients.retain(|client| !client.gone);
        }
    }

    fn sleep(&self) -> Vec<bool> {
        let mut fds = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        self.gate.watch(&mut fds);
        fds.extend(self.clients.iter().map(|client| client.connection.interest()));
        wait(&mut fds, self.gate.deadline());
        fds.iter().map(|fd| fd.revents().is_some_and(|events| events != PollFlags::empty())).collect()
    }

    fn attend(&mut self, index: usize) {
        self.clients[index].connection.flush();
        self.clients[index].connection.fill();
        loop {
            match self.clients[index].connection.next_event() {
                Ok(Some(Event::Frame(payload))) => match decode_request(&payload) {
                    Some((number, request)) => self.answer(index, number, request),
                    None => self.clients[index].gone = true,
                },
                Ok(Some(Event::Proved)) => {}
                Ok(None) => return,
                Err(_) => {
                    self.clients[index].gone = true;
                    return;
                }
            }
        }
    }

    fn answer(&mut self, index: usize, number: u64, request: Request) {
        let (found, value) = match request {
            Request::Set { key, value } => {
                let room = self.values.len() < MAX_KEYS || self.values.contains_key(&key);
                if room {
                    self.deliver(&key, &value);
                    self.values.insert(key, value);
                }
                (room, Vec::new())
            }
            Request::Delete { key } => (self.values.remove(&key).is_some(), Vec::new()),
            Request::Get { key } => match self.values.get(&key) {
                Some(value) => (true, value.clone()),
                None => {
                    self.clients[index].waits = Some((number, key));
                    return;
                }
            },
        };
        self.clients[index].reply(number, found, &value);
    }

    /// Those who wait for this key get it.
    fn deliver(&mut self, key: &str, value: &[u8]) {
        for client in &mut self.clients {
            if let Some((number, _)) = client.waits.take_if(|(_, wanted)| wanted == key) {
                client.reply(number, true, value);
            }
        }
    }
}

impl Client {
    fn reply(&mut self, number: u64, found: bool, value: &[u8]) {
        // One that asks and never reads would make us keep all answers.
        if self.connection.has_output() {
            self.gone = true;
            return;
        }
        let mut out = Writer(Vec::new());
        out.u64(number).u8(found as u8).bytes(value);
        self.connection.send_bytes(&out.0);
    }
}

/// A client of a [`StoreServer`].
pub struct TcpStore {
    address: SocketAddr,
    inner: Mutex<(Connection, u64)>,
}

impl std::fmt::Debug for TcpStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpStore").field("address", &self.address).finish_non_exhaustive()
    }
}

impl TcpStore {
    /// Connects to the server at `address`, waiting up to `timeout` for it to be there.
    pub fn connect(address: SocketAddr, secret: &[u8], timeout: Duration) -> Result<TcpStore> {
        let target = Target::tcp(address);
        let secret = secret_of(secret);
        let deadline = Instant::now() + timeout;
        let dial = Dial { target: &target, secret: &secret, context: CONTEXT, deadline, patient: true, limit: FRAME };
        let connection = dial.prove(&mut || false).map_err(|reason| match reason {
            NoAnswer::Stranger(refusal) => Error::start(
                format!("what answers at {address} is not this job's store: {refusal}"),
                "Give server and clients the same secret",
            ),
            NoAnswer::Late(why) => Error::start(
                format!("no store server at {address} within {} s ({why})", timeout.as_secs_f64()),
                "Look whether it was started and whether this host reaches it",
            ),
            NoAnswer::Starved(errno) => NoAnswer::starved(errno, "connecting to the store"),
            NoAnswer::Nobody | NoAnswer::Interrupted => {
                Error::start(format!("no store server at {address}"), "Start it first")
            }
        })?;
        Ok(TcpStore { address, inner: Mutex::new((connection, 0)) })
    }

    /// The answer to a request; `None`: it did not come in time.
    fn ask(&self, request: &Request, timeout: Duration) -> Result<Option<(bool, Vec<u8>)>> {
        let mut inner: MutexGuard<'_, _> = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (connection, number) = &mut *inner;
        *number += 1;
        connection.send_bytes(&encode_request(*number, request));
        let deadline = Instant::now() + timeout;
        loop {
            let payload = match connection.await_event(deadline) {
                Ok(Some(Event::Frame(payload))) => payload,
                Ok(Some(Event::Proved)) => continue,
                Ok(None) => return Ok(None),
                Err(broken) => {
                    return Err(Error::start(
                        format!("the store server at {} is lost: {broken}", self.address),
                        "Look at the process that runs it",
                    ));
                }
            };
            let mut from = Reader(&payload);
            let answer = (|| Some((from.u64()?, from.u8()? != 0, from.bytes(MAX_VALUE)?)))();
            match answer {
                Some((of, found, value)) if of == *number => return Ok(Some((found, value))),
                // The late answer to a get that was given up.
                Some(_) => {}
                None => {
                    let what = format!("the store server at {} answers nonsense", self.address);
                    return Err(Error::start(what, "Run the same version of the library everywhere"));
                }
            }
        }
    }

    fn silent(&self) -> Error {
        Error::start(format!("the store server at {} does not answer", self.address), "Look whether it is stopped")
    }
}

impl Store for TcpStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        check(key, value)?;
        let request = Request::Set { key: key.to_string(), value: value.to_vec() };
        match self.ask(&request, ANSWER)? {
            Some((true, _)) => Ok(()),
            Some((false, _)) => Err(Error::start(
                format!("the store server at {} is full ({MAX_KEYS} keys)", self.address),
                "Delete keys that nobody needs any more",
            )),
            None => Err(self.silent()),
        }
    }

    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        check(key, &[])?;
        match self.ask(&Request::Get { key: key.to_string() }, timeout)? {
            Some((_, value)) => Ok(value),
            None => Err(absent(&format!("the store at {}", self.address), key, timeout)),
        }
    }

    fn delete(&self, key: &str) -> Result<bool> {
        check(key, &[])?;
        let answer = self.ask(&Request::Delete { key: key.to_string() }, ANSWER)?;
        answer.map(|(found, _)| found).ok_or_else(|| self.silent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_request_is_taken_whole_or_not_at_all(kind in 0u8..4, length in 0u8..8, bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let bytes = [&[0; 8], &[kind, length, 0, 0, 0][..], &bytes[..]].concat();
            if let Some((number, request)) = decode_request(&bytes) {
                prop_assert_eq!(encode_request(number, &request), bytes);
            }
        }
    }
}
