//! The readers of what strangers send, as `tests/fuzz` reaches them: bytes in, and whether they made sense.

use super::failure::Failure;
use super::message::{Endpoint, MAX_PART, Message, Record, Round};
use super::wire::{Event, Wire};
use std::net::SocketAddr;

/// A message, once its frame is known to come from somebody who belongs.
pub fn reads_message(bytes: &[u8]) -> bool {
    Message::decode(bytes).is_some()
}

/// A request to the store.
pub fn reads_request(bytes: &[u8]) -> bool {
    super::store::reads_request(bytes)
}

/// A question to rank 0 for the unique id.
pub fn reads_question(bytes: &[u8]) -> bool {
    super::handout::reads_question(bytes)
}

/// Every kind of message, as bytes: what garbage is best made from.
pub fn messages() -> Vec<Vec<u8>> {
    samples().iter().map(Message::encode).collect()
}

/// What a connection's end makes of bytes that come in pieces: how many events, and whether it refused them. `accepts`: the end that was
/// connected to.
pub fn feed_connection<'a>(accepts: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> (usize, bool) {
    let (secret, nonce) = ([7; 32], [9; 32]);
    let mut wire = if accepts { Wire::server(&secret, "fuzz", nonce) } else { Wire::client(&secret, "fuzz", nonce) };
    let mut events = 0;
    for piece in pieces {
        wire.feed(piece);
        loop {
            match wire.next() {
                Ok(Some(Event::Proved)) => events += 1,
                Ok(Some(Event::Frame(payload))) => {
                    events += 1;
                    let _ = Message::decode(&payload);
                }
                Ok(None) => break,
                Err(_) => return (events, true),
            }
        }
    }
    (events, false)
}

/// A conversation as it should be, as bytes: what the end that connects says, and what the other one answers.
pub fn conversation() -> (Vec<u8>, Vec<u8>) {
    let secret = [7; 32];
    let (mut client, mut server) = (Wire::client(&secret, "fuzz", [9; 32]), Wire::server(&secret, "fuzz", [9; 32]));
    let (mut said, mut answered) = (Vec::new(), Vec::new());
    for round in 0..4 {
        if round == 2 {
            for message in samples() {
                client.send(&message.encode());
                server.send(&message.encode());
            }
        }
        let from_client = std::mem::take(client.output());
        server.feed(&from_client);
        said.extend(from_client);
        while let Ok(Some(_)) = server.next() {}
        let from_server = std::mem::take(server.output());
        client.feed(&from_server);
        answered.extend(from_server);
        while let Ok(Some(_)) = client.next() {}
    }
    (said, answered)
}

/// Every kind of message.
pub(super) fn samples() -> Vec<Message> {
    let listens = Endpoint { host: [1; 16], unix: [2; 16], tcp: Some(SocketAddr::from(([10, 1, 2, 3], 77))) };
    let v6 = Endpoint { tcp: Some(SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7], 9))), ..listens };
    let entries = vec![(0, vec![]), (3, vec![1, 2, 3]), (99, vec![0; MAX_PART])];
    vec![
        Message::CheckIn(Record { rank: 3, size: 8, pid: 42, host_name: "höst".into(), listens }),
        Message::Welcome,
        Message::Creator { rank: 0 },
        Message::Go { parent: None },
        Message::Go { parent: Some((1, v6)) },
        Message::Moved,
        Message::Part { round: Round::Gather, number: 7, entries: entries.clone() },
        Message::Whole { round: Round::Barrier, number: u64::MAX, entries },
        Message::Failed(Failure::Lost { rank: 3, how: "killed".into() }),
        Message::Failed(Failure::Aborted { rank: 3, reason: "no memory".into() }),
        Message::Failed(Failure::Start { what: "w".into(), missing: vec![1, 2, 3, 9], advice: "a".into() }),
        Message::Failed(Failure::Late { ranks: vec![4], what: "w".into(), limit_ms: 5 }),
        Message::Failed(Failure::Disagree { rank: 1, theirs: "x".into(), other: 2, ours: "y".into() }),
        Message::Failed(Failure::Corrupt { rank: 1, what: "x".into() }),
        Message::Bye,
        Message::ByeBye,
        Message::Ask { rank: 5, number: 2 },
        Message::Descriptor { number: 2 },
    ]
}
