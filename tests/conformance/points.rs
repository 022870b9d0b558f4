//! Messages from rank to rank, and groups.

use crate::memory::bytes;
use crate::numbers::{Chance, hash};
use crate::worlds::Scene;
use ringtree::ReduceOp;

/// What rank `from` sends to rank `to` as message `number`.
fn message(from: usize, to: usize, number: usize, len: usize) -> Vec<u16> {
    (0..len).map(|at| hash(&[from as u64, to as u64, number as u64, at as u64]) as u16).collect()
}

/// The same as elements of the library.
fn elements(words: Vec<u16>) -> Vec<half::f16> {
    words.into_iter().map(half::f16::from_bits).collect()
}

/// Lengths around the borders of links: nothing, a line, a slot, several.
const LENGTHS: [usize; 12] = [0, 1, 5, 24, 25, 2000, 32_767, 32_768, 32_769, 65_537, 200_000, 3];

/// Rank 0 sends to everybody, everybody answers; several messages are on their way at the same time.
pub fn sends_keep_their_order(scene: &Scene) {
    let communicator = scene.world(|_| {});
    let (rank, size) = (scene.rank(), scene.size());
    let send = |to: usize, number: usize| {
        communicator.send(&elements(message(rank, to, number, LENGTHS[number])), to).expect("a send");
    };
    let receive = |from: usize, number: usize| {
        let mut into = elements(vec![0xa5a5; LENGTHS[number] + 2]);
        let middle = LENGTHS[number] + 1;
        communicator.recv(&mut into[1..middle], from).expect("a receive");
        assert!(bytes(&into[1..middle]) == bytes(&elements(message(from, rank, number, LENGTHS[number]))), "{number}");
        assert_eq!((into[0].to_bits(), into[middle].to_bits()), (0xa5a5, 0xa5a5), "message {number}");
    };
    for number in 0..LENGTHS.len() {
        for other in 1..size {
            if rank == 0 {
                send(other, number);
            } else if rank == other {
                receive(0, number);
            }
        }
    }
    for number in 0..LENGTHS.len() {
        if rank == 0 {
            (1..size).for_each(|other| receive(other, number));
        } else {
            send(0, number);
        }
    }
}

/// Everybody sends to the right and receives from the left, also when that is itself.
pub fn send_recv_in_a_circle(scene: &Scene) {
    let communicator = scene.world(|_| {});
    let (rank, size) = (scene.rank(), scene.size());
    for (number, len) in LENGTHS.into_iter().enumerate() {
        for distance in 0..size {
            let (to, from) = ((rank + distance) % size, (rank + size - distance) % size);
            let mut into = elements(vec![0; len]);
            communicator.send_recv(&elements(message(rank, to, number, len)), to, &mut into, from).expect("send_recv");
            assert!(bytes(&into) == bytes(&elements(message(from, rank, number, len))), "{number} from {from}");
        }
    }
}

/// Long messages from memory that is written anew between two of them, given back, and allocated again, most likely in the same place: what a
/// device or the library remembers of memory is never what is sent.
pub fn memory_is_sent_as_it_is_however_often_it_came_and_went(scene: &Scene) {
    const LEN: usize = 400_000;
    let communicator = scene.world(|_| {});
    let (rank, size) = (scene.rank(), scene.size());
    let (to, from) = ((rank + 1) % size, (rank + size - 1) % size);
    let mut into = elements(vec![0; LEN]);
    let mut exchange = |memory: &mut [half::f16], number: usize| {
        memory.copy_from_slice(&elements(message(rank, to, number, LEN)));
        communicator.send_recv(memory, to, &mut into, from).expect("send_recv");
        assert!(bytes(&into) == bytes(&elements(message(from, rank, number, LEN))), "{number} from {from}");
    };
    for round in 0..4 {
        let mut plain = elements(vec![0; LEN]);
        (0..3).for_each(|time| exchange(&mut plain, 10 * round + time));
        drop(plain);
        let mut registered = communicator.alloc::<half::f16>(LEN).expect("registered memory");
        (3..6).for_each(|time| exchange(&mut registered, 10 * round + time));
    }
}

/// All pairs at once, receives first, sends long enough that none can be on its way before its receiver comes.
pub fn a_group_where_everybody_sends_to_everybody(scene: &Scene) {
    let communicator = scene.world(|_| {});
    let (rank, size) = (scene.rank(), scene.size());
    for len in [0, 3, 300_000] {
        let others: Vec<usize> = (0..size).filter(|other| *other != rank).collect();
        let sent: Vec<_> = others.iter().flat_map(|to| [0, 1].map(|n| elements(message(rank, *to, n, len)))).collect();
        let mut received: Vec<_> = others.iter().flat_map(|_| [0, 1].map(|_| elements(vec![0; len]))).collect();
        let mut group = communicator.group();
        for (number, into) in received.iter_mut().enumerate() {
            group.recv(into, others[number / 2]).expect("a receive");
        }
        for (number, from) in sent.iter().enumerate().rev() {
            // The second message of each pair is added first on purpose: order within a pair counts.
            let twin = &sent[number ^ 1];
            assert_eq!(from.len(), twin.len());
            group.send(twin, others[number / 2]).expect("a send");
        }
        group.run().expect("a group");
        for (number, into) in received.iter().enumerate() {
            let expected = elements(message(others[number / 2], rank, number % 2, len));
            assert!(bytes(into) == bytes(&expected), "message {number} of {len}");
        }
    }
}

/// Collectives and messages in one group, in another order on every rank as far as that is allowed.
pub fn a_group_of_collectives_and_messages(scene: &Scene) {
    let communicator = scene.world(|_| {});
    let (rank, size) = (scene.rank(), scene.size());
    for count in [1usize, 100, 50_000] {
        let (left, right) = ((rank + size - 1) % size, (rank + 1) % size);
        let mut sums = vec![rank as i64; count];
        let mut gathered = vec![0u8; size * count];
        let own = vec![rank as u8; count];
        let mut from_left = vec![0f64; count];
        let to_right = vec![rank as f64; count];
        let mut group = communicator.group();
        if rank % 2 == 0 {
            group.send(&to_right, right).expect("a send");
        }
        group.all_reduce(&mut sums, ReduceOp::Sum).expect("a collective");
        group.recv(&mut from_left, left).expect("a receive");
        group.all_gather(&own, &mut gathered).expect("a collective");
        if rank % 2 == 1 {
            group.send(&to_right, right).expect("a send");
        }
        group.run().expect("a group");
        assert!(sums.iter().all(|sum| *sum == (size * (size - 1) / 2) as i64));
        assert!(gathered.iter().enumerate().all(|(at, byte)| *byte as usize == at / count));
        assert!(from_left.iter().all(|value| *value == left as f64));
    }
}

/// One group over two communicators, in different order on different ranks.
pub fn a_group_on_several_communicators(scene: &Scene) {
    let (one, two) = (scene.world(|_| {}), scene.world(|_| {}));
    let mut chance = Chance::new(scene.seed, "several");
    for _ in 0..20 {
        let count = 1 + chance.below(40_000);
        let (mut first, mut second) = (vec![1i32; count], vec![scene.rank() as u64; count]);
        let mut group = one.group();
        if scene.rank().is_multiple_of(2) {
            group.all_reduce(&mut first, ReduceOp::Sum).expect("collected");
            group.on(&two).all_reduce(&mut second, ReduceOp::Max).expect("collected");
        } else {
            group.on(&two).all_reduce(&mut second, ReduceOp::Max).expect("collected");
            group.on(&one).all_reduce(&mut first, ReduceOp::Sum).expect("collected");
        }
        group.run().expect("a group");
        assert!(first.iter().all(|sum| *sum as usize == scene.size()));
        assert!(second.iter().all(|most| *most as usize == scene.size() - 1));
    }
}
