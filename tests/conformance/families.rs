//! Communicators made from others.

use crate::memory::Memory;
use crate::numbers::Chance;
use crate::trial::Trial;
use crate::worlds::Scene;
use ringtree::plan::Algorithm;
use ringtree::{Error, ReduceOp};

/// Splits by color and key, some ranks without a color, and splits of splits.
pub fn splits_are_worlds_of_their_own(scene: &Scene) {
    let world = scene.world(|_| {});
    let (rank, size) = (scene.rank(), scene.size());
    // Two halves, in reverse order.
    let half = world.split(Some((rank % 2) as u32), -(rank as i32)).expect("a split").expect("everybody has a color");
    let members: Vec<usize> = (0..size).rev().filter(|other| other % 2 == rank % 2).collect();
    assert_eq!((half.size(), half.rank()), (members.len(), members.iter().position(|other| *other == rank).unwrap()));
    let mut seen = vec![0u32; half.size()];
    half.all_gather(&[rank as u32], &mut seen).expect("all_gather");
    assert_eq!(seen, members.iter().map(|other| *other as u32).collect::<Vec<_>>());
    let mut memory = Memory::new();
    let mut chance = Chance::new(scene.seed, "halves");
    for _ in 0..20 {
        Trial::random(&mut chance, half.size(), 2000).run(scene, &half, &mut memory);
    }
    let few = world.split((rank == 0).then_some(7), 0).expect("a split");
    assert_eq!(few.as_ref().map(|few| (few.rank(), few.size())), (rank == 0).then_some((0, 1)));
    let single = half.split(Some(rank as u32), 0).expect("a split").expect("a color");
    let mut data = [rank as i64];
    single.all_reduce(&mut data, ReduceOp::Sum).expect("alone");
    assert_eq!((single.size(), data[0]), (1, rank as i64));
    assert!(single.name().starts_with(half.name()) && half.name().starts_with(world.name()), "{}", single.name());
    // Halves end one after the other; the world goes on.
    drop(half);
    world.barrier().expect("the world goes on");
}

/// A duplicate has an order of operations of its own, and an end of its own.
pub fn duplicates_do_not_mix(scene: &Scene) {
    let world = scene.world(|_| {});
    let copy = world.duplicate().expect("a duplicate");
    assert_eq!((copy.rank(), copy.size()), (world.rank(), world.size()));
    let (mut first, mut second) = (vec![1i32; 1000], vec![2i32; 1000]);
    // Different orders on different ranks: what would be a disagreement on one communicator is none on two.
    if scene.rank() == 0 {
        let begun = world.all_reduce_async(first, ReduceOp::Sum).expect("begun");
        copy.all_reduce(&mut second, ReduceOp::Sum).expect("all_reduce");
        first = begun.wait().expect("all_reduce");
    } else {
        let begun = copy.all_reduce_async(second, ReduceOp::Sum).expect("begun");
        world.all_reduce(&mut first, ReduceOp::Sum).expect("all_reduce");
        second = begun.wait().expect("all_reduce");
    }
    assert!(first.iter().all(|x| *x == scene.size() as i32) && second.iter().all(|x| *x == 2 * scene.size() as i32));
    copy.abort("only this one");
    let ended = copy.all_reduce(&mut second, ReduceOp::Sum).and_then(|()| copy.barrier());
    assert!(matches!(ended, Err(Error::Aborted { .. })), "{ended:?}");
    world.barrier().expect("the world goes on");
}

/// A forced algorithm binds the user's calls, not those by which communicators are made and memory is registered.
pub fn splits_work_under_a_forced_algorithm(scene: &Scene) {
    for algorithm in [Algorithm::Tree, Algorithm::Pairwise, Algorithm::Owner] {
        let world = scene.world(|config| config.algorithm = Some(algorithm));
        let half = world.split(Some(0), 0).expect("a split").expect("a color");
        assert_eq!(half.size(), world.size());
        let buffer = world.alloc::<u64>(100).expect("registered memory");
        assert_eq!(buffer.len(), 100);
        let refused = world.gather(&[1u8], &mut vec![0; world.size()], 0);
        assert!(matches!(refused, Err(Error::Choice { .. })), "the user's calls stay bound: {refused:?}");
    }
}
