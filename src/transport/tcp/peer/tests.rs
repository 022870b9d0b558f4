//! Messages over sockets that are lost and made again, and over a wire that changes what goes over it.

use super::*;
use crate::boot::wire::DataKeys;
use crate::config::Protection;
use crate::plan::MOST_CHUNK_BYTES;
use crate::transport::tcp::socket::Guard;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const SPOT: Spot = Spot { lane: 0, kind: LinkKind::PAIR };

/// What both ends do to the bytes of a socket of that turn.
fn guards(protection: Protection, turn: u64) -> [Guard; 2] {
    let (a, b) = ([turn as u8; 32], [turn as u8 ^ 0x80; 32]);
    [DataKeys { out: a, into: b }, DataKeys { out: b, into: a }].map(|keys| Guard::new(protection, &keys))
}

fn peer(protection: Protection) -> Peer {
    Peer::new(protection == Protection::Checksum)
}

/// Joins two ends by a socket of that turn.
fn join(ends: &mut [Peer; 2], protection: Protection, turn: u64) {
    join_as(ends, protection, turn, 0);
}

/// Joins two ends by the socket of that number, and of that turn.
fn join_as(ends: &mut [Peer; 2], protection: Protection, turn: u64, index: u8) {
    let (here, there) = UnixStream::pair().expect("a pair of sockets");
    for ((end, stream), guard) in ends.iter_mut().zip([here, there]).zip(guards(protection, turn)) {
        stream.set_nonblocking(true).expect("a socket that does not wait");
        end.add(Socket::new(stream.into(), turn, index, turn, guard));
    }
}

/// Two ends and the wire between them: what one sends, and where what the other receives is put in.
fn apart(protection: Protection) -> ([Peer; 2], UnixStream, UnixStream) {
    let mut ends = [peer(protection), peer(protection)];
    let mut wires = Vec::new();
    for (end, guard) in ends.iter_mut().zip(guards(protection, 1)) {
        let (stream, wire) = UnixStream::pair().expect("a pair of sockets");
        stream.set_nonblocking(true).expect("a socket that does not wait");
        wire.set_nonblocking(true).expect("a socket that does not wait");
        end.add(Socket::new(stream.into(), 1, 0, 1, guard));
        wires.push(wire);
    }
    let into = wires.pop().expect("two wires");
    (ends, wires.pop().expect("two wires"), into)
}

/// Publishes a message that is filled with that byte.
fn publish(writer: &mut Peer, fill: u8, len: usize) {
    let outbox = &mut writer.out(SPOT).pair;
    // SAFETY: the slot was reserved with that length.
    unsafe { outbox.reserve(len).write_bytes(fill, len) };
    let (seq, _) = outbox.seal(fill.into());
    outbox.sum_up(seq, len);
    writer.push(Parcel { spot: SPOT, seq, len: len as u32, again: false }, false);
}

/// Sends messages of that length, filled with their numbers.
fn send(writer: &mut Peer, numbers: std::ops::Range<u32>, len: usize) {
    for number in numbers {
        publish(writer, number as u8, len);
        assert!(writer.pump(&Boards::new(), false).is_empty());
    }
}

/// What has been put on the wire.
fn drain(wire: &mut UnixStream) -> Vec<u8> {
    let (mut all, mut some) = (Vec::new(), [0; 65536]);
    while let Ok(count @ 1..) = wire.read(&mut some) {
        all.extend_from_slice(&some[..count]);
    }
    all
}

/// The tags of what has come and is whole, in order; all of it is as it was sent.
fn tags(reader: &mut Peer, len: usize) -> Vec<u32> {
    let mut tags = Vec::new();
    while let Some(message) = reader.inbox(SPOT).front() {
        assert_eq!(message.len, len);
        // SAFETY: a whole message has that many bytes.
        let bytes = unsafe { std::slice::from_raw_parts(message.at, len) };
        assert!(bytes.iter().all(|byte| *byte == message.tag as u8), "bytes of message {}", message.tag);
        tags.push(message.tag);
        reader.release(SPOT);
    }
    tags
}

/// Takes in all that has come; the tags of what is whole, in order.
fn receive(reader: &mut Peer, len: usize) -> Vec<u32> {
    while reader.take_in(0).expect("sense").expect("a living socket") != Taken::Nothing {}
    tags(reader, len)
}

/// Takes in all that has come, until something is wrong with it.
fn receive_or_refuse(reader: &mut Peer) -> Result<(), Nonsense> {
    while reader.take_in(0)?.is_ok_and(|taken| taken != Taken::Nothing) {}
    Ok(())
}

#[test]
fn messages_of_a_lost_socket_come_once_over_the_next_one() {
    for (protection, len) in Protection::ALL.into_iter().flat_map(|each| [(each, 8), (each, 100_000)]) {
        let mut ends = [peer(protection), peer(protection)];
        join(&mut ends, protection, 1);
        send(&mut ends[0], 0..6, len);
        // Long ones are more than the socket holds: one of them is half sent.
        let mut seen = receive(&mut ends[1], len);
        assert_eq!(seen.len() == 6, len == 8);
        ends[0].pump(&Boards::new(), false);
        for end in &mut ends {
            assert_eq!(end.lose(0), (0, 1));
        }
        assert!(ends[0].is_owed(), "nothing was told to be released");
        join(&mut ends, protection, 2);
        for _ in 0..20 {
            ends[0].pump(&Boards::new(), false);
            seen.extend(receive(&mut ends[1], len));
            ends[1].pump(&Boards::new(), true);
            assert_eq!(receive(&mut ends[0], len), [0u32; 0]);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5], "each once and in order");
        // What was released before the loss is told again; what came later waits for a message to go with.
        assert_eq!(!ends[0].is_owed(), len == 8);
    }
}

/// The sockets' order of reading is not that of sending: a part of a message may be read from the lost socket when all of it has begun to
/// come over another one.
#[test]
fn a_message_that_has_begun_to_come_again_comes_though_its_first_part_is_read_late() {
    // More than a socket holds.
    let len = MOST_CHUNK_BYTES as usize;
    for protection in Protection::ALL {
        let mut ends = [peer(protection), peer(protection)];
        join_as(&mut ends, protection, 1, 1);
        send(&mut ends[0], 0..1, len);
        // Most of it waits in the first socket when that is lost at its writer's end, and goes over the second one.
        ends[0].lose(0);
        join_as(&mut ends, protection, 2, 0);
        ends[0].pump(&Boards::new(), false);
        assert_eq!(ends[1].sockets.len(), 2);
        let (later, lost) = (0, 1);
        assert_eq!(ends[1].take_in(later).expect("sense"), Ok(Taken::Bytes));
        assert_eq!(ends[1].take_in(lost).expect("sense"), Err(Errno::ECONNRESET));
        ends[1].lose(lost);
        ends[0].pump(&Boards::new(), false);
        let mut seen = receive(&mut ends[1], len);
        ends[0].pump(&Boards::new(), false);
        seen.extend(receive(&mut ends[1], len));
        assert_eq!(seen, [0], "{protection:?}");
    }
}

#[test]
fn releases_of_what_has_gone_are_heard_while_the_rest_still_waits() {
    for (protection, len) in Protection::ALL.into_iter().flat_map(|each| [(each, 5_000), (each, 70_000)]) {
        let mut ends = [peer(protection), peer(protection)];
        join(&mut ends, protection, 1);
        for number in 0..200u32 {
            let full = |out: &mut Out| !out.pair.has_room(out.released);
            while full(ends[0].out(SPOT)) {
                ends[0].pump(&Boards::new(), false);
                receive(&mut ends[1], len);
                ends[1].pump(&Boards::new(), true);
                receive(&mut ends[0], len);
            }
            send(&mut ends[0], number..number + 1, len);
        }
    }
}

#[test]
fn what_was_released_is_forgotten_though_an_older_message_of_another_link_is_not() {
    let other = Spot { lane: 1, kind: LinkKind::PAIR };
    let mut ends = [peer(Protection::Plain), peer(Protection::Plain)];
    join(&mut ends, Protection::Plain, 1);
    let outbox = &mut ends[0].out(other).pair;
    // SAFETY: the slot was reserved with that length.
    unsafe { outbox.reserve(8).write_bytes(9, 8) };
    let (seq, _) = outbox.seal(9);
    ends[0].push(Parcel { spot: other, seq, len: 8, again: false }, false);
    for number in 0..200 {
        send(&mut ends[0], number..number + 1, 8);
        receive(&mut ends[1], 8);
        ends[1].pump(&Boards::new(), true);
        receive(&mut ends[0], 8);
        assert!(ends[0].sent.len() <= 16 + 1, "{} after message {number}", ends[0].sent.len());
    }
}

#[test]
fn news_of_messages_that_were_never_sent_are_refused() {
    let mut peer = Peer::default();
    publish(&mut peer, 7, 8);
    for released in [1, 2, 1000] {
        let frame = Frame { kind: Kind::Release, spot: SPOT, len: 0, seq: 0, tag: 0, released, sum: 0 };
        assert!(peer.hear(&frame).is_err(), "{released} of a link whose only message still waits");
    }
}

/// What two messages of that length look like on the wire.
fn on_the_wire(protection: Protection, len: usize) -> (Vec<u8>, Peer, UnixStream) {
    let ([mut writer, reader], mut from, into) = apart(protection);
    send(&mut writer, 0x51..0x53, len);
    (drain(&mut from), reader, into)
}

#[test]
fn every_flipped_bit_is_seen_before_its_message_is_shown() {
    for protection in [Protection::Checksum, Protection::Encrypted] {
        let len = 100;
        let bits = 8 * on_the_wire(protection, len).0.len();
        for bit in 0..bits {
            let (mut bytes, mut reader, mut into) = on_the_wire(protection, len);
            bytes[bit / 8] ^= 1 << (bit % 8);
            into.write_all(&bytes).expect("room");
            let refused = receive_or_refuse(&mut reader);
            assert!(refused.is_err(), "{protection:?}, bit {bit} of {bits}");
            // What is shown was whole: the first message, if the second one is the broken one.
            assert!(tags(&mut reader, len).len() < 2, "{protection:?}, bit {bit}");
        }
    }
    // Without any of it nobody sees that a payload was changed.
    let (mut bytes, mut reader, mut into) = on_the_wire(Protection::Plain, 100);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    into.write_all(&bytes).expect("room");
    assert_eq!(receive_or_refuse(&mut reader), Ok(()));
}

#[test]
fn a_wrong_checksum_names_the_link_the_message_and_its_socket() {
    let (mut bytes, mut reader, mut into) = on_the_wire(Protection::Checksum, 100);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    into.write_all(&bytes).expect("room");
    let Err(Nonsense(what)) = receive_or_refuse(&mut reader) else { panic!("it was taken") };
    for words in ["message 1 of channel 0, pair link, 100 bytes over socket 0", "checksum is wrong", "on the way"] {
        assert!(what.contains(words), "{what}");
    }
}

#[test]
fn what_is_encrypted_can_not_be_read_nor_repeated_nor_moved_nor_cut_out() {
    let shows = |bytes: &[u8]| bytes.windows(8).any(|eight| eight == [0x51; 8]);
    assert!(shows(&on_the_wire(Protection::Plain, 100).0) && shows(&on_the_wire(Protection::Checksum, 100).0));
    let (bytes, ..) = on_the_wire(Protection::Encrypted, 100);
    assert!(!shows(&bytes), "the payload is on the wire");
    let (one, two) = bytes.split_at(bytes.len() / 2);
    for (what, wire, shown) in [
        ("as it was sent", [one, two].concat(), 2),
        ("repeated", [one, one, two].concat(), 1),
        ("moved", [two, one].concat(), 0),
        ("the first left out", two.to_vec(), 0),
        ("cut", bytes[..bytes.len() - 1].to_vec(), 1),
    ] {
        let (_, mut reader, mut into) = on_the_wire(Protection::Encrypted, 100);
        into.write_all(&wire).expect("room");
        drop(into);
        let outcome = receive_or_refuse(&mut reader);
        assert_eq!(outcome.is_ok(), what == "as it was sent" || what == "cut", "{what}");
        assert_eq!(tags(&mut reader, 100).len(), shown, "{what}");
    }
}

#[test]
fn what_one_end_has_sent_is_not_taken_back_from_it() {
    // A reflection: both directions have keys of their own.
    let ([mut writer, _], mut from, _into) = apart(Protection::Encrypted);
    send(&mut writer, 1..2, 8);
    let bytes = drain(&mut from);
    from.write_all(&bytes).expect("room");
    assert!(receive_or_refuse(&mut writer).is_err());
    // And so have connections: what was recorded of one is worth nothing on the next.
    let mut ends = [Peer::default(), Peer::default()];
    join(&mut ends, Protection::Encrypted, 2);
    let (stream, mut wire) = UnixStream::pair().expect("a pair of sockets");
    stream.set_nonblocking(true).expect("a socket that does not wait");
    let [_, guard] = guards(Protection::Encrypted, 3);
    ends[1].add(Socket::new(stream.into(), 3, 0, 3, guard));
    wire.write_all(&bytes).expect("room");
    assert!(receive_or_refuse(&mut ends[1]).is_err());
}

/// Lends a message, and gives the writer.
fn lend(bytes: &mut [u8]) -> (Peer, UnixStream) {
    let ([mut writer, _], from, _) = apart(Protection::Checksum);
    let outbox = &mut writer.out(SPOT).pair;
    outbox.lend(bytes.as_mut_ptr());
    let (seq, lent) = outbox.seal(1);
    outbox.sum_up(seq, bytes.len());
    writer.push(Parcel { spot: SPOT, seq, len: bytes.len() as u32, again: false }, lent);
    (writer, from)
}

#[test]
fn memory_that_changes_after_it_was_published_is_seen_at_its_source() {
    let mut bytes = vec![1u8; 1 << 20];
    let at = bytes.as_mut_ptr();
    let (mut writer, mut from) = lend(&mut bytes);
    // SAFETY: the memory is this test's, which breaks the contract on purpose.
    unsafe { at.add(77_777).write(2) };
    writer.pump(&Boards::new(), false);
    assert!(writer.changed.is_some_and(|parcel| (parcel.seq, parcel.len) == (0, 1 << 20)));
    assert_eq!(drain(&mut from), [0u8; 0], "and it is not sent");
    // SAFETY: as above.
    unsafe { at.add(77_777).write(1) };
    let (mut writer, mut from) = lend(&mut bytes);
    writer.pump(&Boards::new(), false);
    assert!(writer.changed.is_none() && writer.half_sent() == 1, "a part of it waits");
    // SAFETY: as above.
    unsafe { at.add((1 << 20) - 1).write(2) };
    while writer.half_sent() > 0 {
        drain(&mut from);
        writer.pump(&Boards::new(), false);
    }
    assert!(writer.changed.is_some());
    let (mut writer, mut from) = lend(&mut bytes);
    while writer.half_sent() > 0 || !writer.is_sent() {
        writer.pump(&Boards::new(), false);
        drain(&mut from);
    }
    assert!(writer.changed.is_none(), "nothing was changed");
}

impl Peer {
    fn half_sent(&self) -> usize {
        self.sockets.iter().flat_map(Socket::half_sent).count()
    }
}

#[test]
fn long_messages_go_over_all_sockets_for_them_and_not_over_one_through_which_nothing_gets() {
    let (mut writer, mut wires) = (peer(Protection::Plain), Vec::new());
    for index in 0..3 {
        let (stream, wire) = UnixStream::pair().expect("a pair of sockets");
        stream.set_nonblocking(true).expect("a socket that does not wait");
        wire.set_nonblocking(true).expect("a socket that does not wait");
        let [guard, _] = guards(Protection::Plain, 1);
        writer.add(Socket::new(stream.into(), index, index as u8, 1, guard));
        wires.push(wire);
    }
    let carried =
        |wires: &mut [UnixStream]| -> Vec<usize> { wires.iter_mut().map(|wire| drain(wire).len() / 8192).collect() };
    (0..6).for_each(|number| publish(&mut writer, number, 8192));
    assert!(writer.pump(&Boards::new(), false).is_empty());
    assert_eq!(carried(&mut wires), [0, 3, 3]);
    // From now on nobody reads what the second one carries: it gets its share once.
    for (first, expected) in [(6, 1), (8, 2), (10, 2)] {
        (first..first + 2).for_each(|number| publish(&mut writer, number, 8192));
        assert!(writer.pump(&Boards::new(), false).is_empty());
        assert_eq!(carried(&mut wires[2..]), [expected], "message {first} and the next");
    }
}
