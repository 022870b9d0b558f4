//! The readers of what other ranks send, as `tests/fuzz` reaches them: bytes in, and whether they made sense.

use super::cipher::Cipher;
use super::frame::{Frame, Kind, LinkKind, Spot};
use super::note::{Note, samples};
use super::office::{Address, At};
use super::peer::{Peer, Taken};
use super::socket::{Guard, Socket};
use super::sums::{header, sum};
use crate::boot::wire::DataKeys;
use crate::plan::Group;
use crate::transport::verbs::offer::{self, Word};
use std::io::Write;
use std::os::unix::net::UnixStream;

/// Ranks of the communicator that notes come to.
const SIZE: u32 = 3;

/// A note of another rank's service.
pub fn reads_note(bytes: &[u8]) -> bool {
    Note::decode(bytes, SIZE).is_some()
}

/// Every kind of note, as bytes.
pub fn notes() -> Vec<Vec<u8>> {
    samples().iter().map(Note::encode).collect()
}

/// What a rank says about its RDMA queues.
pub fn reads_word(bytes: &[u8]) -> bool {
    Word::decode(bytes).is_some()
}

/// Every kind of word, as bytes.
pub fn words() -> Vec<Vec<u8>> {
    offer::samples().iter().map(Word::encode).collect()
}

/// What a rank tells all others of where it listens.
pub fn reads_address(bytes: &[u8]) -> bool {
    Address::decode(bytes).is_some()
}

/// Such bytes.
pub fn addresses() -> Vec<Vec<u8>> {
    let at = ["10.0.0.1:7000", "[fd00::5]:7001"];
    let at = at.map(|text| At { socket: text.parse().expect("an address"), prefix: 24 });
    let one = Address { at: vec![at[0]], streams: 1, pid: 7, host: "a".into() };
    vec![one.encode(), Address { at: at.to_vec(), ..one }.encode()]
}

/// What comes over a data socket. Whether a whole message was among it.
pub fn reads_stream(bytes: &[u8]) -> bool {
    reads(bytes, Guard::Nothing)
}

/// The same where messages have checksums.
pub fn reads_checked_stream(bytes: &[u8]) -> bool {
    reads(bytes, Guard::Sums)
}

/// The same over an encrypted socket.
pub fn reads_encrypted_stream(bytes: &[u8]) -> bool {
    reads(bytes, Guard::Cipher(Box::new(Cipher::new(&keys()))))
}

fn reads(bytes: &[u8], guard: Guard) -> bool {
    let (mut there, here) = UnixStream::pair().expect("a pair of sockets");
    there.write_all(bytes).expect("room for what was sent");
    drop(there);
    let mut peer = Peer::new(matches!(guard, Guard::Sums));
    peer.add(Socket::new(here.into(), 1, 0, 1, guard));
    let mut messages = 0;
    loop {
        match peer.take_in(0) {
            Ok(Ok(Taken::Message)) => messages += 1,
            Ok(Ok(Taken::Nothing) | Err(_)) | Err(_) => return messages > 0,
            Ok(Ok(Taken::Bytes)) => {}
        }
    }
}

/// Keys with which this end could read what it has written.
fn keys() -> DataKeys {
    DataKeys { out: [3; 32], into: [3; 32] }
}

/// Two messages of two links and news, as frames with their payloads.
fn frames() -> Vec<(Frame, Vec<u8>)> {
    let message = |spot, seq, len: u32| {
        let payload = vec![9; len as usize];
        // SAFETY: the payload is this function's own.
        let sum = unsafe { sum(payload.as_ptr(), payload.len()) };
        (Frame { kind: Kind::Kept, spot, len, seq, tag: 7, released: 0, sum }, payload)
    };
    let pair = Spot { lane: 0, kind: LinkKind::PAIR };
    let board = Spot { lane: 1, kind: LinkKind::board(Group::World) };
    let news = Frame { kind: Kind::Release, spot: pair, len: 0, seq: 0, tag: 0, released: 0, sum: 0 };
    vec![message(pair, 0, 8), message(board, 1, 40), (news, Vec::new()), message(pair, 1, 0)]
}

/// The same as bytes.
pub fn stream() -> Vec<u8> {
    frames().iter().flat_map(|(frame, payload)| [&frame.encode()[..], payload].concat()).collect()
}

/// The same with checksums.
pub fn checked_stream() -> Vec<u8> {
    let bytes = |(frame, payload): &(Frame, Vec<u8>)| [&header(frame, true).0[..], payload].concat();
    frames().iter().flat_map(bytes).collect()
}

/// The same encrypted, in two records.
pub fn encrypted_stream() -> Vec<u8> {
    let (bytes, mut cipher) = (stream(), Cipher::new(&keys()));
    for part in bytes.chunks(bytes.len().div_ceil(2)) {
        // SAFETY: the part is this function's own.
        unsafe { cipher.out.put(part.as_ptr(), part.len()) };
        cipher.out.close();
    }
    cipher.out.rest().to_vec()
}
