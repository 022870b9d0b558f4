//! Frames and proofs, right, forged and cut short.

use super::*;
use proptest::prelude::*;

const SECRET: Secret = [7; 32];

fn take_in(wire: &mut Wire, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Refusal> {
    wire.feed(bytes);
    while let Some(event) = wire.next()? {
        events.push(event);
    }
    Ok(())
}

/// Carries bytes both ways until nothing moves; what came out on either side.
fn converse(client: &mut Wire, server: &mut Wire) -> (Vec<Event>, Vec<Event>, Option<Refusal>) {
    let (mut at_client, mut at_server) = (Vec::new(), Vec::new());
    while client.has_output() || server.has_output() {
        let (to_server, to_client) = (std::mem::take(client.output()), std::mem::take(server.output()));
        let heard = take_in(server, &to_server, &mut at_server).and(take_in(client, &to_client, &mut at_client));
        if let Err(refusal) = heard {
            return (at_client, at_server, Some(refusal));
        }
    }
    (at_client, at_server, None)
}

fn ends(context: &str) -> (Wire, Wire) {
    (Wire::client(&SECRET, context, [1; 32]), Wire::server(&SECRET, context, [2; 32]))
}

#[test]
fn both_ends_prove_the_secret_and_frames_arrive_in_order() {
    let (mut client, mut server) = ends("root");
    let (a, b, refusal) = converse(&mut client, &mut server);
    assert_eq!((a, b, refusal), (vec![Event::Proved], vec![Event::Proved], None));
    client.send(b"one");
    client.send(b"");
    server.send(b"two");
    let (a, b, refusal) = converse(&mut client, &mut server);
    assert_eq!(refusal, None);
    assert_eq!(a, [Event::Frame(b"two".to_vec())]);
    assert_eq!(b, [Event::Frame(b"one".to_vec()), Event::Frame(Vec::new())]);
}

#[test]
fn one_byte_at_a_time_says_the_same() {
    let (mut client, mut server) = ends("root");
    let mut events = Vec::new();
    for _ in 0..2 {
        for byte in std::mem::take(client.output()) {
            server.feed(&[byte]);
            while let Some(event) = server.next().unwrap() {
                events.push(event);
            }
        }
        let reply = std::mem::take(server.output());
        client.feed(&reply);
        while client.next().unwrap().is_some() {}
    }
    assert_eq!(events, [Event::Proved]);
}

#[test]
fn a_wrong_secret_or_another_door_is_refused_by_both_sides() {
    for (secret, context) in [([8; 32], "root"), (SECRET, "branch 1")] {
        let mut client = Wire::client(&secret, context, [1; 32]);
        let mut server = Wire::server(&SECRET, "root", [2; 32]);
        assert_eq!(converse(&mut client, &mut server).2, Some(Refusal::WrongSecret));
        // The server on its own: a client that ignores what the server proved.
        let mut server = Wire::server(&SECRET, "root", [2; 32]);
        server.feed(&MAGIC);
        server.feed(&[1; 32]);
        assert_eq!(server.next(), Ok(None));
        let forged = authenticator(&secret, &[b"ringtree client proof", &[1; 32], &[2; 32], context.as_bytes()]);
        server.feed(&forged.finalize().into_bytes());
        assert_eq!(server.next(), Err(Refusal::WrongSecret));
    }
}

#[test]
fn the_servers_own_proof_sent_back_is_refused() {
    let mut server = Wire::server(&SECRET, "root", [2; 32]);
    server.feed(&MAGIC);
    server.feed(&[1; 32]);
    assert_eq!(server.next(), Ok(None));
    let proof = server.output()[MAGIC.len() + WORD..].to_vec();
    server.feed(&proof);
    assert_eq!(server.next(), Err(Refusal::WrongSecret));
}

#[test]
fn a_recorded_handshake_does_not_open_a_second_connection() {
    let (mut client, mut server) = ends("root");
    let mut recorded = client.output().clone();
    server.feed(&recorded);
    server.next().unwrap();
    client.output().clear();
    client.feed(server.output());
    client.next().unwrap();
    recorded.extend_from_slice(client.output());
    let mut second = Wire::server(&SECRET, "root", [3; 32]);
    second.feed(&recorded);
    assert_eq!(second.next(), Err(Refusal::WrongSecret));
}

#[test]
fn a_frame_is_refused_when_replayed_reflected_changed_or_too_long() {
    let opened = || {
        let (mut client, mut server) = ends("root");
        converse(&mut client, &mut server);
        (client, server)
    };
    let (mut client, mut server) = opened();
    client.send(b"once");
    let frame = std::mem::take(client.output());
    server.feed(&frame);
    server.feed(&frame);
    assert_eq!(server.next(), Ok(Some(Event::Frame(b"once".to_vec()))));
    assert_eq!(server.next(), Err(Refusal::Forged));

    client.feed(&frame);
    assert_eq!(client.next(), Err(Refusal::Forged));

    for at in LENGTH..frame.len() {
        let mut changed = frame.clone();
        changed[at] ^= 1;
        let (_, mut server) = opened();
        server.feed(&changed);
        assert_eq!(server.next(), Err(Refusal::Forged));
    }

    let (_, mut server) = opened();
    server.feed(&u32::MAX.to_le_bytes());
    let refused = Err(Refusal::TooLong { length: u32::MAX as usize, limit: SMALL_FRAME });
    assert_eq!(server.next(), refused);
    assert!(server.wants() <= LENGTH);
}

proptest! {
    #[test]
    fn whatever_arrives_neither_panics_nor_is_taken_for_a_proof(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
        magic in any::<bool>(),
    ) {
        for mut wire in [Wire::server(&SECRET, "root", [2; 32]), Wire::client(&SECRET, "root", [2; 32])] {
            if magic { wire.feed(&MAGIC); }
            'chunks: for chunk in &chunks {
                wire.feed(chunk);
                loop {
                    prop_assert!(wire.wants() <= MAGIC.len() + 2 * WORD);
                    match wire.next() {
                        Ok(Some(event)) => prop_assert!(false, "{event:?}"),
                        Ok(None) => break,
                        Err(_) => break 'chunks,
                    }
                }
            }
            prop_assert!(!wire.is_open());
        }
    }

    #[test]
    fn an_open_wire_survives_any_bytes_and_never_asks_for_more_than_its_limit(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (_, mut server) = Wire::pair([9; 32]);
        server.feed(&bytes);
        if let Ok(event) = server.next() {
            prop_assert_eq!(event, None);
            prop_assert!(server.wants() <= LENGTH + SMALL_FRAME + WORD);
        }
    }
}

#[test]
fn both_ends_of_a_connection_and_of_no_other_have_the_same_keys_for_data() {
    let keys = |nonces: [u8; 2]| {
        let mut client = Wire::client(&SECRET, "links 1", [nonces[0]; 32]);
        let mut server = Wire::server(&SECRET, "links 1", [nonces[1]; 32]);
        assert!(client.data_keys().is_none() && server.data_keys().is_none(), "before the handshake");
        assert_eq!(converse(&mut client, &mut server).2, None);
        let (client, server) = (client.data_keys().unwrap(), server.data_keys().unwrap());
        assert_eq!((client.out, client.into), (server.into, server.out));
        assert_ne!(client.out, client.into, "a key for each direction");
        assert!(!format!("{client:?}").contains(&client.out[0].to_string()));
        client
    };
    let first = keys([1, 2]);
    assert_eq!(first.out, keys([1, 2]).out);
    for other in [keys([1, 3]), keys([4, 2])] {
        assert!(first.out != other.out && first.into != other.into && first.out != other.into);
    }
}
