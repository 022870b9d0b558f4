//! What travels on a bootstrap connection, without the connection: the handshake and the frames. No I/O, no clock, no randomness of its own.
//!
//! ```text
//!   client                                            server
//!     magic, client nonce  ─────────────────────────>
//!     <─────────────────────  magic, server nonce, HMAC(secret, "server", both nonces, context)
//!     HMAC(secret, "client", both nonces, context)  ──>
//!
//!   then, each way:   length │ payload │ HMAC(session key, direction, counter, payload)
//! ```
//!
//! The context says which door this is (`root`, `branch 3`, …), so that a proof made for one door opens no other. The session key
//! depends on the secret, both nonces and the context: a recorded frame is worth nothing on another connection, nor a second time on
//! this one. Until the handshake is done nothing but fixed-length fields is looked at.
//!
//! What is said in frames can't be forged, but whoever sees the network can read it. A connection that is handed over to carry data has
//! keys for that, one each way, which follow from its session key.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What two ends must both know.
pub(crate) type Secret = [u8; 32];

/// Bytes of a nonce and of a proof.
const WORD: usize = 32;
/// The first bytes either side sends: a name and the version of this protocol.
const MAGIC: [u8; 4] = *b"RTb1";
/// Bytes of a frame's length field.
const LENGTH: usize = 4;
/// The longest frame that an end accepts unless it is told to expect more.
pub(crate) const SMALL_FRAME: usize = 64 * 1024;

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Something else than this protocol.
    Garbage,
    /// A proof that is not made with the secret.
    WrongSecret,
    /// A frame longer than allowed here.
    TooLong { length: usize, limit: usize },
    /// A frame that was changed, replayed or made by somebody else.
    Forged,
    /// A frame whose payload has no meaning.
    Malformed,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Garbage => write!(f, "it does not speak ringtree's bootstrap protocol (version 1)"),
            Refusal::WrongSecret => write!(f, "it does not know this job's secret"),
            Refusal::TooLong { length, limit } => {
                write!(f, "it announced a frame of {length} bytes, {limit} are allowed")
            }
            Refusal::Forged => write!(f, "it sent a frame with a wrong authentication code"),
            Refusal::Malformed => write!(f, "it sent a message that makes no sense"),
        }
    }
}

/// HMAC-SHA256 over length-prefixed parts, so that no two different lists of parts give the same bytes.
fn authenticator(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac
}

/// A key or a name that follows from a secret and a purpose.
pub(crate) fn derive(secret: &[u8], purpose: &[&[u8]]) -> [u8; 32] {
    authenticator(secret, purpose).finalize().into_bytes().into()
}

/// Keys for the data of a connection that was handed over: to send with, and to receive with. Debug never prints them.
#[derive(Clone)]
pub(crate) struct DataKeys {
    pub(crate) out: Secret,
    pub(crate) into: Secret,
}

impl std::fmt::Debug for DataKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKeys(…)")
    }
}

/// What comes out of the bytes that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The other side has proved that it knows the secret.
    Proved,
    /// A frame's payload.
    Frame(Vec<u8>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

enum Stage {
    /// Server: waits for magic and nonce.
    Hello,
    /// Server: waits for the client's proof.
    Proof { theirs: [u8; WORD] },
    /// Client: waits for magic, nonce and proof.
    Reply,
    /// Frames.
    Open { key: [u8; 32], sent: u64, received: u64 },
}

/// One end of a connection: bytes in, events out, bytes to send.
pub(crate) struct Wire {
    side: Side,
    secret: Secret,
    context: String,
    nonce: [u8; WORD],
    stage: Stage,
    input: Vec<u8>,
    /// How much of `input` is used up.
    taken: usize,
    /// What is to be sent.
    output: Vec<u8>,
    limit: usize,
}

impl Wire {
    /// The end that was connected to.
    pub(crate) fn server(secret: &Secret, context: &str, nonce: [u8; WORD]) -> Wire {
        Wire::new(Side::Server, secret, context, nonce, Stage::Hello)
    }

    /// The end that connects; its first bytes are in the output at once.
    pub(crate) fn client(secret: &Secret, context: &str, nonce: [u8; WORD]) -> Wire {
        let mut wire = Wire::new(Side::Client, secret, context, nonce, Stage::Reply);
        wire.output.extend_from_slice(&MAGIC);
        wire.output.extend_from_slice(&nonce);
        wire
    }

    /// Both ends of a connection inside one process, which needs no handshake.
    pub(crate) fn pair(key: [u8; 32]) -> (Wire, Wire) {
        let end = |side| Wire::new(side, &key, "", [0; WORD], Stage::Open { key, sent: 0, received: 0 });
        (end(Side::Client), end(Side::Server))
    }

    fn new(side: Side, secret: &Secret, context: &str, nonce: [u8; WORD], stage: Stage) -> Wire {
        Wire {
            side,
            secret: *secret,
            context: context.to_string(),
            nonce,
            stage,
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            limit: SMALL_FRAME,
        }
    }

    /// Allows frames up to `limit` bytes from now on.
    pub(crate) fn expect_up_to(&mut self, limit: usize) {
        self.limit = limit.max(SMALL_FRAME);
    }

    /// Whether the handshake is done.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open { .. })
    }

    /// How many more bytes the next event needs at least, as far as is known: what a reader may take in before it calls [`Wire::next`].
    pub(crate) fn wants(&self) -> usize {
        let have = self.input.len() - self.taken;
        let need = match &self.stage {
            Stage::Hello => MAGIC.len() + WORD,
            Stage::Proof { .. } => WORD,
            Stage::Reply => MAGIC.len() + 2 * WORD,
            Stage::Open { .. } => match self.announced() {
                Some(length) if length <= self.limit => LENGTH + length + WORD,
                _ => LENGTH,
            },
        };
        need.saturating_sub(have)
    }

    /// Bytes that arrived.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        } else if self.taken > SMALL_FRAME {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    /// The next event, if enough has arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, Refusal> {
        match self.stage {
            Stage::Hello => self.answer_hello(),
            Stage::Proof { theirs } => self.check_proof(theirs),
            Stage::Reply => self.check_reply(),
            Stage::Open { .. } => self.next_frame(),
        }
    }

    /// The keys for data, once the handshake is done.
    pub(crate) fn data_keys(&self) -> Option<DataKeys> {
        let Stage::Open { key, .. } = &self.stage else { return None };
        let to = |direction: &[u8]| derive(key, &[b"ringtree data", direction]);
        let (server, client) = (to(b"to server"), to(b"to client"));
        let (out, into) = if self.side == Side::Client { (server, client) } else { (client, server) };
        Some(DataKeys { out, into })
    }

    /// Whether everything that came was made into events.
    pub(crate) fn is_drained(&self) -> bool {
        self.taken == self.input.len()
    }

    fn unread(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    fn announced(&self) -> Option<usize> {
        let field = self.unread().first_chunk::<LENGTH>()?;
        Some(u32::from_le_bytes(*field) as usize)
    }

    /// Garbage is refused with its first wrong byte.
    fn check_magic(&self) -> Result<(), Refusal> {
        let start = self.unread();
        let start = &start[..start.len().min(MAGIC.len())];
        if MAGIC.starts_with(start) { Ok(()) } else { Err(Refusal::Garbage) }
    }

    fn word_at(&self, at: usize) -> Option<[u8; WORD]> {
        self.unread().get(at..)?.first_chunk::<WORD>().copied()
    }

    fn proof(&self, who: Side, client: &[u8; WORD], server: &[u8; WORD]) -> Hmac<Sha256> {
        let label: &[u8] = if who == Side::Client { b"ringtree client proof" } else { b"ringtree server proof" };
        authenticator(&self.secret, &[label, client, server, self.context.as_bytes()])
    }

    fn open(&mut self, client: &[u8; WORD], server: &[u8; WORD]) {
        let key = derive(&self.secret, &[b"ringtree session", client, server, self.context.as_bytes()]);
        self.stage = Stage::Open { key, sent: 0, received: 0 };
    }

    fn answer_hello(&mut self) -> Result<Option<Event>, Refusal> {
        self.check_magic()?;
        let Some(theirs) = self.word_at(MAGIC.len()) else { return Ok(None) };
        self.taken += MAGIC.len() + WORD;
        let mine = self.nonce;
        let proof = self.proof(Side::Server, &theirs, &mine).finalize().into_bytes();
        self.output.extend_from_slice(&MAGIC);
        self.output.extend_from_slice(&mine);
        self.output.extend_from_slice(&proof);
        self.stage = Stage::Proof { theirs };
        self.next()
    }

    fn check_proof(&mut self, theirs: [u8; WORD]) -> Result<Option<Event>, Refusal> {
        let Some(proof) = self.word_at(0) else { return Ok(None) };
        let mine = self.nonce;
        self.proof(Side::Client, &theirs, &mine).verify_slice(&proof).map_err(|_| Refusal::WrongSecret)?;
        self.taken += WORD;
        self.open(&theirs, &mine);
        Ok(Some(Event::Proved))
    }

    fn check_reply(&mut self) -> Result<Option<Event>, Refusal> {
        self.check_magic()?;
        let (Some(theirs), Some(proof)) = (self.word_at(MAGIC.len()), self.word_at(MAGIC.len() + WORD)) else {
            return Ok(None);
        };
        let mine = self.nonce;
        self.proof(Side::Server, &mine, &theirs).verify_slice(&proof).map_err(|_| Refusal::WrongSecret)?;
        self.taken += MAGIC.len() + 2 * WORD;
        let own = self.proof(Side::Client, &mine, &theirs).finalize().into_bytes();
        self.output.extend_from_slice(&own);
        self.open(&mine, &theirs);
        Ok(Some(Event::Proved))
    }

    fn next_frame(&mut self) -> Result<Option<Event>, Refusal> {
        let Some(length) = self.announced() else { return Ok(None) };
        if length > self.limit {
            return Err(Refusal::TooLong { length, limit: self.limit });
        }
        let Some(whole) = self.unread().get(LENGTH..LENGTH + length + WORD) else { return Ok(None) };
        let (payload, code) = whole.split_at(length);
        let from = if self.side == Side::Client { Side::Server } else { Side::Client };
        let Stage::Open { key, received, .. } = &self.stage else { return Ok(None) };
        frame_code(key, from, *received, payload).verify_slice(code).map_err(|_| Refusal::Forged)?;
        let payload = payload.to_vec();
        self.taken += LENGTH + length + WORD;
        if let Stage::Open { received, .. } = &mut self.stage {
            *received += 1;
        }
        Ok(Some(Event::Frame(payload)))
    }

    /// The bytes that wait to be sent.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether bytes wait to be sent.
    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Appends a frame to the output. Before the handshake is done there is nothing to be said, and nothing is.
    pub(crate) fn send(&mut self, payload: &[u8]) {
        let side = self.side;
        let Stage::Open { key, sent, .. } = &mut self.stage else {
            debug_assert!(false, "a frame before the handshake");
            return;
        };
        let code = frame_code(key, side, *sent, payload).finalize().into_bytes();
        *sent += 1;
        self.output.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.output.extend_from_slice(payload);
        self.output.extend_from_slice(&code);
    }
}

fn frame_code(key: &[u8; 32], from: Side, counter: u64, payload: &[u8]) -> Hmac<Sha256> {
    let direction: &[u8] = if from == Side::Client { b"to server" } else { b"to client" };
    authenticator(key, &[direction, &counter.to_le_bytes(), payload])
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
