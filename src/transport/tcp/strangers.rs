//! The readers of what other ranks send, as `tests/fuzz` reaches them: bytes in, and whether they made sense.

use super::frame::{Frame, Kind, LinkKind, Spot};
use super::note::{Note, samples};
use super::office::Address;
use super::peer::{Peer, Taken};
use super::socket::Socket;
use crate::plan::Group;
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

/// What a rank tells all others of where it listens.
pub fn reads_address(bytes: &[u8]) -> bool {
    Address::decode(bytes).is_some()
}

/// Such bytes.
pub fn addresses() -> Vec<Vec<u8>> {
    let at = ["10.0.0.1:7000", "[fd00::5]:7001"].map(|text| text.parse().expect("an address"));
    let one = Address { at: vec![at[0]], pid: 7, host: "a".into() };
    vec![one.encode(), Address { at: at.to_vec(), ..one }.encode()]
}

/// What comes over a data socket. Whether a whole message was among it.
pub fn reads_stream(bytes: &[u8]) -> bool {
    let (mut there, here) = UnixStream::pair().expect("a pair of sockets");
    there.write_all(bytes).expect("room for what was sent");
    drop(there);
    let mut peer = Peer::default();
    peer.add(Socket::new(here.into(), 1, 0, 1));
    let mut messages = 0;
    loop {
        match peer.take_in(0) {
            Ok(Ok(Taken::Message)) => messages += 1,
            Ok(Ok(Taken::Nothing) | Err(_)) | Err(_) => return messages > 0,
            Ok(Ok(Taken::Bytes)) => {}
        }
    }
}

/// Two messages of two links and news, as bytes.
pub fn stream() -> Vec<u8> {
    let message = |spot, seq, len: u32| {
        let frame = Frame { kind: Kind::Kept, spot, len, seq, tag: 7, released: 0 };
        [&frame.encode()[..], &vec![9; len as usize]].concat()
    };
    let pair = Spot { lane: 0, kind: LinkKind::PAIR };
    let board = Spot { lane: 1, kind: LinkKind::board(Group::World) };
    let news = Frame { kind: Kind::Release, spot: pair, len: 0, seq: 0, tag: 0, released: 0 };
    [message(pair, 0, 8), message(board, 1, 40), news.encode().to_vec(), message(pair, 1, 0)].concat()
}
