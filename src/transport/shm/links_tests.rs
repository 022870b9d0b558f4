//! What is promised of the links of one host: where messages lie, what shuttles do, what is given back.

use super::*;

const LARGE: usize = 100_000;

fn ranks(size: u32) -> (Vec<ShmLinks>, Arc<Budget>) {
    let (segment, budget) = (Arc::new(Segment::private(size).unwrap()), Arc::new(Budget::new(64 << 20)));
    let links = |rank| ShmLinks::new(segment.clone(), rank, &World::flat(size), budget.clone());
    ((0..size).map(links).collect(), budget)
}

fn send(links: &mut ShmLinks, link: Outgoing, len: usize, byte: u8) -> *const u8 {
    let slot = links.reserve(0, link, len).unwrap().expect("room");
    // SAFETY: the slot was reserved with this length.
    unsafe { slot.write_bytes(byte, len) };
    links.publish(0, link, len, 0).unwrap();
    slot
}

fn receive(links: &mut ShmLinks, link: Incoming, len: usize, byte: u8) {
    let message = links.peek(0, link).unwrap().expect("a message");
    assert_eq!(message.len, len);
    // SAFETY: the message has that length and was not released yet.
    let bytes = unsafe { std::slice::from_raw_parts(message.at, len) };
    assert!(bytes.iter().all(|is| *is == byte));
    links.release(0, link);
}

/// Both send, both receive: where they wrote.
fn exchange(both: &mut [ShmLinks], board: bool, len: usize, byte: u8) -> [*const u8; 2] {
    let world = Group::World;
    let to = |rank| if board { Outgoing::Board(world) } else { Outgoing::Pair(rank) };
    let from = |rank| if board { Incoming::Board(rank, world) } else { Incoming::Pair(rank) };
    let places = [send(&mut both[0], to(1), len, byte), send(&mut both[1], to(0), len, byte + 1)];
    receive(&mut both[0], from(1), len, byte + 1);
    receive(&mut both[1], from(0), len, byte);
    places
}

#[test]
fn two_ranks_that_exchange_write_where_they_have_just_read() {
    for (board, len) in [(false, 49), (true, 4000), (false, LARGE), (true, LARGE)] {
        let (mut both, _) = ranks(2);
        let mut before = exchange(&mut both, board, len, 1);
        for round in 2..40 {
            let now = exchange(&mut both, board, len, 2 * round);
            assert_eq!(now, [before[1], before[0]], "round {round} of {len} bytes");
            before = now;
        }
    }
}

#[test]
fn one_way_traffic_goes_on_in_slots_of_its_own() {
    for len in [1000, LARGE] {
        let (mut both, _) = ranks(2);
        for round in 0..100u8 {
            for ahead in 0..3 {
                send(&mut both[0], Outgoing::Pair(1), len, round + ahead);
            }
            (0..3).for_each(|ahead| receive(&mut both[1], Incoming::Pair(0), len, round + ahead));
        }
    }
}

#[test]
fn what_goes_one_way_to_a_far_reader_is_written_past_the_caches_and_nothing_else_is() {
    let (mut both, _) = ranks(2);
    // More notes than one real look could outweigh.
    let note = |both: &mut [ShmLinks], ticks| (0..8).for_each(|_| both[0].out[1].distance.note(ticks));
    let one_way = |both: &mut [ShmLinks], ticks| {
        for _ in 0..30 {
            note(both, ticks);
            send(&mut both[0], Outgoing::Pair(1), LARGE, 1);
            receive(&mut both[1], Incoming::Pair(0), LARGE, 1);
        }
        note(both, ticks);
        both[0].out[1].collect_shuttles().unwrap();
        send(&mut both[0], Outgoing::Pair(1), LARGE, 1);
        receive(&mut both[1], Incoming::Pair(0), LARGE, 1);
        both[0].past_caches()
    };
    // A first exchange, so that both hold all their shuttles; what the sender holds too many of comes back by a flip of a bit.
    exchange(&mut both, false, LARGE, 3);
    assert!(!both[0].past_caches(), "to and fro");
    assert!(one_way(&mut both, 1000), "one way, and far");
    assert!(!one_way(&mut both, 100), "one way, and near");
    assert!(one_way(&mut both, 1000), "far again");
    exchange(&mut both, false, LARGE, 3);
    exchange(&mut both, false, LARGE, 5);
    assert!(!both[0].past_caches(), "to and fro again");
}

#[test]
fn a_board_with_several_readers_has_no_shuttles() {
    let (mut all, _) = ranks(3);
    let board = Outgoing::Board(Group::World);
    let places: std::collections::BTreeSet<_> = (0..32)
        .map(|byte| {
            let place = send(&mut all[0], board, 1000, byte);
            all[1..].iter_mut().for_each(|reader| receive(reader, Incoming::Board(0, Group::World), 1000, byte));
            place
        })
        .collect();
    assert_eq!(places.len(), 16, "each small slot in its turn");
}

#[test]
fn idle_links_give_all_back_though_shuttles_have_changed_hands() {
    let (mut both, budget) = ranks(2);
    for (round, len) in [200, LARGE, 3000, LARGE / 2, 200].into_iter().enumerate() {
        for board in [false, true] {
            exchange(&mut both, board, len, round as u8);
        }
        // And more one way than there are shuttles.
        for byte in 0..3 {
            send(&mut both[1], Outgoing::Pair(0), len, byte);
            receive(&mut both[0], Incoming::Pair(1), len, byte);
        }
        assert!(budget.used() > 0);
    }
    // Rank 1 returns what it gets, and rank 0 gets another one before it looks.
    send(&mut both[0], Outgoing::Pair(1), LARGE, 8);
    receive(&mut both[1], Incoming::Pair(0), LARGE, 8);
    send(&mut both[1], Outgoing::Pair(0), LARGE, 9);
    receive(&mut both[0], Incoming::Pair(1), LARGE, 9);
    assert!(both[1].out[0].shuttles.count(false) < 2);
    both.iter_mut().rev().for_each(ShmLinks::give_back);
    assert_eq!(budget.used(), 0);
    exchange(&mut both, false, LARGE, 7);
}

#[test]
fn a_shuttle_that_the_sender_does_not_have_is_refused() {
    let (mut both, _) = ranks(2);
    send(&mut both[0], Outgoing::Pair(1), 1000, 1);
    receive(&mut both[1], Incoming::Pair(0), 1000, 1);
    // Rank 1 holds its own two shuttles; nobody else can send in them.
    let forged = (0..shuttle::ALL).find(|number| both[1].out[0].shuttles.holds(*number)).unwrap();
    let place = both[0].reserve(0, Outgoing::Pair(1), 40).unwrap();
    assert!(place.is_ok());
    both[0].out[1].slot = super::super::ends::number_of(shuttle::seen_by_peer(forged));
    both[0].publish(0, Outgoing::Pair(1), 40, 0).unwrap();
    assert!(matches!(both[1].peek(0, Incoming::Pair(0)), Err(Error::Corrupt { rank: 0, .. })));
}
