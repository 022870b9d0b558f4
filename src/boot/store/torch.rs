//! A client of PyTorch's TCPStore, as torchrun's agent runs it at MASTER_ADDR:MASTER_PORT. The protocol is one byte of command, then
//! fields in the byte order of the host (little-endian on all that torch runs on); a text or a value is its length in 8 bytes, then its
//! bytes. A client begins with the command VALIDATE and a fixed number. SET has no answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{MAX_VALUE, Store, absent, check};
use crate::{Error, Result};

const VALIDATE: u8 = 0;
const SET: u8 = 1;
const GET: u8 = 3;
const CHECK: u8 = 5;
const WAIT: u8 = 6;
const DELETE_KEY: u8 = 8;
const MAGIC: u32 = 0x3C85_F7CE;

/// The answers to WAIT and CHECK.
const STOP_WAITING: u8 = 0;
const READY: u8 = 0;
/// How long an answer that needs no other rank may take.
const ANSWER: Duration = Duration::from_secs(30);

/// A connection to PyTorch's TCPStore.
#[derive(Debug)]
pub struct TorchStore {
    name: String,
    stream: Mutex<TcpStream>,
}

impl TorchStore {
    /// Connects, waiting up to `timeout` for the store to be there.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> Result<TorchStore> {
        let name = format!("PyTorch's store at {host}:{port}");
        let deadline = Instant::now() + timeout;
        let mut pause = Duration::from_millis(10);
        loop {
            let why = match try_connect(host, port, deadline) {
                Ok(stream) => return Ok(TorchStore { name, stream: Mutex::new(stream) }),
                Err(error) => error,
            };
            if Instant::now() + pause >= deadline {
                return Err(Error::start(
                    format!("{name} could not be reached within {} s ({why})", timeout.as_secs_f64()),
                    "Look whether MASTER_ADDR and MASTER_PORT are those of the agent, and whether this host reaches it",
                ));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Says a command and reads the answer with `read` until the deadline.
    fn talk<T>(
        &self,
        command: &[u8],
        deadline: Instant,
        read: impl FnOnce(&mut TcpStream, Instant) -> std::io::Result<T>,
    ) -> Result<Option<T>> {
        let mut stream: MutexGuard<'_, TcpStream> = self.stream.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let answer = stream.write_all(command).and_then(|()| read(&mut stream, deadline));
        match answer {
            Ok(value) => Ok(Some(value)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // An answer that comes later would be taken for the next one's.
                let _ = stream.shutdown(std::net::Shutdown::Both);
                Ok(None)
            }
            Err(error) => Err(Error::start(
                format!("{} is lost: {error}", self.name),
                "Look at the output of torchrun's agent on the first host",
            )),
        }
    }

    fn silent(&self) -> Error {
        Error::start(
            format!("{} does not answer", self.name),
            "Look whether torchrun's agent on the first host is stopped",
        )
    }
}

fn try_connect(host: &str, port: u16, deadline: Instant) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), ANSWER);
        match TcpStream::connect_timeout(&address, left) {
            // A port of this host that nobody listens on can be connected with itself.
            Ok(stream) if stream.local_addr()? == stream.peer_addr()? => last = ErrorKind::ConnectionRefused.into(),
            Ok(mut stream) => {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(ANSWER))?;
                let mut hello = vec![VALIDATE];
                hello.extend_from_slice(&MAGIC.to_le_bytes());
                stream.write_all(&hello)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn command(kind: u8, keys: Option<u64>, fields: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![kind];
    if let Some(count) = keys {
        out.extend_from_slice(&count.to_le_bytes());
    }
    for field in fields {
        out.extend_from_slice(&(field.len() as u64).to_le_bytes());
        out.extend_from_slice(field);
    }
    out
}

/// Reads exactly so many bytes, however slowly they come, until the deadline.
fn read_until(stream: &mut TcpStream, bytes: &mut [u8], deadline: Instant) -> std::io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes[done..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_fixed<const N: usize>(stream: &mut TcpStream, deadline: Instant) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    read_until(stream, &mut bytes, deadline)?;
    Ok(bytes)
}

fn read_value(stream: &mut TcpStream, deadline: Instant) -> std::io::Result<Vec<u8>> {
    let length = u64::from_le_bytes(read_fixed(stream, deadline)?);
    if length > MAX_VALUE as u64 {
        return Err(std::io::Error::new(ErrorKind::InvalidData, format!("a value of {length} bytes")));
    }
    let mut value = vec![0; length as usize];
    read_until(stream, &mut value, deadline)?;
    Ok(value)
}

impl Store for TorchStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        check(key, value)?;
        // SET is not answered; the CHECK behind it is, and tells that the value is there.
        let mut both = command(SET, None, &[key.as_bytes(), value]);
        both.extend(command(CHECK, Some(1), &[key.as_bytes()]));
        match self.talk(&both, Instant::now() + ANSWER, read_fixed::<1>)? {
            Some([READY]) => Ok(()),
            Some(_) => Err(Error::start(format!("{} did not keep '{key}'", self.name), "Look at torchrun's agent")),
            None => Err(self.silent()),
        }
    }

    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        check(key, &[])?;
        let deadline = Instant::now() + timeout;
        match self.talk(&command(WAIT, Some(1), &[key.as_bytes()]), deadline, read_fixed::<1>)? {
            Some([STOP_WAITING]) => {}
            Some(_) => return Err(Error::start(format!("{} gave up waiting", self.name), "Look at torchrun's agent")),
            None => return Err(absent(&self.name, key, timeout)),
        }
        let answer = self.talk(&command(GET, None, &[key.as_bytes()]), Instant::now() + ANSWER, read_value)?;
        answer.ok_or_else(|| self.silent())
    }

    fn delete(&self, key: &str) -> Result<bool> {
        check(key, &[])?;
        let deadline = Instant::now() + ANSWER;
        let answer = self.talk(&command(DELETE_KEY, None, &[key.as_bytes()]), deadline, read_fixed::<8>)?;
        answer.map(|count| i64::from_le_bytes(count) == 1).ok_or_else(|| self.silent())
    }
}
