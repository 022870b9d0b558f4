//! Communicators made from others.

use crate::memory::Memory;
use crate::numbers::Chance;
use crate::trial::Trial;
use crate::worlds::Scene;
use ringtree::plan::Algorithm;
use ringtree::{Error, ReduceOp, locate};

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
    // An abort ends what is under way on any rank.
    scene.base.barrier().expect("the base communicator goes on");
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

/// A duplicate follows the algorithm that it was made with, its parent goes on as before.
pub fn a_duplicate_may_follow_another_algorithm(scene: &Scene) {
    let world = scene.world(|_| {});
    let pairwise = world.duplicate_with_algorithm(Some(Algorithm::Pairwise)).expect("a duplicate");
    let size = world.size();
    let (mut data, mut blocks) = (vec![scene.rank() as u8; size], vec![0u8; size]);
    pairwise.all_to_all(&data, &mut blocks).expect("pairwise does that");
    assert!(blocks.iter().enumerate().all(|(rank, block)| *block == rank as u8));
    let refused = pairwise.all_reduce(&mut data, ReduceOp::Max);
    assert!(matches!(refused, Err(Error::Choice { .. })), "pairwise reduces nothing: {refused:?}");
    let free = pairwise.duplicate_with_algorithm(None).expect("a duplicate of the duplicate");
    for communicator in [&world, &free] {
        communicator.all_reduce(&mut data, ReduceOp::Max).expect("no algorithm in particular");
    }
    assert!(data.iter().all(|most| usize::from(*most) == size - 1));
}

/// A rank that asks for more than memory has hears so, and the others with it: nobody waits for it.
pub fn registered_memory_that_overflows_is_refused_on_all_ranks(scene: &Scene) {
    let world = scene.world(|_| {});
    let asks = if scene.rank() == 0 { usize::MAX / 4 } else { 1000 };
    let error = world.alloc::<u64>(asks).expect_err("more than memory has");
    let expected = if scene.rank() == 0 { "more than memory has" } else { "another rank" };
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(world.alloc::<u64>(1000).expect("as much as there is").len(), 1000);
}

/// In a split each rank is in the domain that it had, in whatever order, and the hierarchy runs where there is something to divide.
pub fn splits_keep_the_domains_of_their_members(scene: &Scene) {
    let world = scene.world(|_| {});
    let (rank, size) = (scene.rank(), scene.size());
    let before = world.domains();
    assert_eq!(world.duplicate().expect("a duplicate").domains(), before);
    // All of them backwards, so that domains are not numbered and not ordered as before; and all but the first.
    let backwards = world.split(Some(0), -(rank as i32)).expect("a split").expect("everybody has a color");
    let rest = world.split((rank > 0).then_some(1), 0).expect("a split");
    for (child, members) in
        [(Some(backwards), (0..size).rev().collect::<Vec<_>>()), (rest, (1..size).collect::<Vec<_>>())]
    {
        let Some(child) = child else { continue };
        let (inherited, domains) = (members.iter().map(|member| before[*member]).collect::<Vec<_>>(), child.domains());
        let pairs = || (0..domains.len()).flat_map(|one| (0..one).map(move |other| (one, other)));
        let together = |of: &[usize]| pairs().map(|(one, other)| of[one] == of[other]).collect::<Vec<_>>();
        // Where nobody has a neighbour there are no domains.
        let alone = !together(&inherited).contains(&true);
        assert!(together(&domains) == together(&inherited) || alone, "{domains:?} of {inherited:?}");
        // Those of one rank that there are all the same are in racks.
        assert!(!alone || domains.iter().all(|domain| *domain == 0) || !together(&domains).contains(&true));
        let mut memory = Memory::new();
        let mut chance = Chance::new(scene.seed, "domains");
        for round in 0..20 {
            let most = if round % 5 == 0 { 100_000 } else { 2000 };
            Trial::random(&mut chance, child.size(), most).run(scene, &child, &mut memory);
        }
    }
    // What is forced is inherited too: a split with domains goes on by the hierarchy, one without has none.
    let forced = scene.world(|config| config.algorithm = Some(Algorithm::Hierarchy));
    let child = forced.split(Some(0), (rank as i32 + 1) % size as i32).expect("a split").expect("a color");
    let divided = before.iter().any(|domain| *domain != before[0]);
    let mut data = vec![1i32; 5000];
    match child.all_reduce(&mut data, ReduceOp::Sum) {
        Ok(()) => assert!(divided && data.iter().all(|sum| *sum == size as i32)),
        Err(Error::Choice { what, .. }) => assert!(!divided && what.contains("one domain"), "{what}"),
        Err(error) => panic!("{error}"),
    }
}

/// Domains are numbered as rings visit them: those of one rack follow each other, in a split too, and what is reduced in that order has the
/// same bits on all ranks.
pub fn rings_visit_the_hosts_of_a_rack_together(scene: &Scene) {
    let world = scene.world(|config| config.algorithm = Some(Algorithm::Ring));
    let location = locate(|name| std::env::var(name).ok()).expect("a location").location;
    let own = location.mark().levels()[1];
    let backwards = world.split(Some(0), -(scene.rank() as i32)).expect("a split").expect("a color");
    for world in [world, backwards] {
        let mut racks = vec![0u64; world.size()];
        world.all_gather(&[own], &mut racks).expect("an all-gather");
        let domains = world.domains();
        let mut visited: Vec<(usize, u64)> = domains.into_iter().zip(racks).collect();
        visited.sort_unstable();
        let mut stretches: Vec<u64> = visited.into_iter().map(|(_, rack)| rack).collect();
        stretches.dedup();
        let many = stretches.len();
        stretches.sort_unstable();
        stretches.dedup();
        assert_eq!(stretches.len(), many, "a rack is left and entered again");
        let mut sum: Vec<f32> = (0..5000).map(|at| 1.0 / (1 + at + world.rank() * 7) as f32).collect();
        world.all_reduce(&mut sum, ReduceOp::Sum).expect("an all-reduce");
        let bits = sum.iter().fold(0u64, |bits, value| bits.wrapping_mul(31).wrapping_add(u64::from(value.to_bits())));
        scene.all_agree(bits, &"a ring over racks");
    }
}
