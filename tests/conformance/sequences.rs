//! Programs by chance: operations on several communicators at once, the same program on all ranks, everything checked on the way.

use crate::memory::Memory;
use crate::numbers::{Chance, hash};
use crate::trial::{Compare, Kind, Places, Trial, Via};
use crate::worlds::{Ranks, Scene};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use ringtree::{Communicator, DataType, ReduceOp, Reduction};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One thing that all ranks do. Numbers are taken modulo what there is when it is done.
#[derive(Clone, Debug)]
pub enum Action {
    /// A collective on a communicator.
    Collective {
        on: usize,
        kind: usize,
        dtype: usize,
        reduction: usize,
        count: usize,
        root: usize,
        places: usize,
        via: usize,
    },
    /// Everybody sends to the one at that distance.
    Shift {
        on: usize,
        distance: usize,
        count: usize,
    },
    /// Collectives on two communicators and a shift, in one group; odd ranks add them in another order.
    Group {
        on: [usize; 2],
        count: usize,
    },
    /// An operation begun on one communicator while another runs on a second one, if there are two.
    Overlap {
        on: [usize; 2],
        count: usize,
    },
    /// A new communicator of those with the same remainder.
    Split {
        on: usize,
        colors: usize,
        reverse: bool,
    },
    Duplicate {
        on: usize,
    },
    Drop {
        on: usize,
    },
    Barrier {
        on: usize,
    },
}

/// Any program.
pub fn programs() -> impl Strategy<Value = Vec<Action>> {
    let on = || 0..8usize;
    let count = || prop_oneof![4 => 0..40usize, 2 => 0..2000usize, 1 => 0..40_000usize];
    let collective = (on(), 0..19usize, 0..12usize, 0..6usize, count(), 0..8usize, 0..3usize, 0..3usize);
    let collective = collective.prop_map(|(on, kind, dtype, reduction, count, root, places, via)| Action::Collective {
        on,
        kind,
        dtype,
        reduction,
        count,
        root,
        places,
        via,
    });
    let action = prop_oneof![
        8 => collective,
        2 => (on(), 0..8usize, count()).prop_map(|(on, distance, count)| Action::Shift { on, distance, count }),
        2 => ([on(), on()], count()).prop_map(|(on, count)| Action::Group { on, count }),
        2 => ([on(), on()], count()).prop_map(|(on, count)| Action::Overlap { on, count }),
        1 => (on(), 1..4usize, any::<bool>()).prop_map(|(on, colors, reverse)| Action::Split { on, colors, reverse }),
        1 => on().prop_map(|on| Action::Duplicate { on }),
        1 => on().prop_map(|on| Action::Drop { on }),
        1 => on().prop_map(|on| Action::Barrier { on }),
    ];
    proptest::collection::vec(action, 1..30)
}

/// A communicator of a program, with this rank's memory for it.
struct Member {
    communicator: Communicator,
    memory: Memory,
}

impl Member {
    fn new(communicator: Communicator) -> Member {
        let memory = Memory::with_registered(&communicator);
        Member { communicator, memory }
    }
}

/// Runs a program on this rank.
pub fn run(scene: &Scene, program: &[Action]) {
    // The world first. Every rank has as many communicators, but after a split with other members.
    let mut members = vec![Member::new(scene.world(|_| {}))];
    for (number, action) in program.iter().enumerate() {
        perform(scene, &mut members, number, action);
    }
}

fn perform(scene: &Scene, members: &mut Vec<Member>, number: usize, action: &Action) {
    let there = members.len();
    match *action {
        Action::Collective { on, kind, dtype, reduction, count, root, places, via } => {
            let Member { communicator, memory } = &mut members[on % there];
            let mut trial = Trial::new(Kind::ALL[kind], DataType::ALL[dtype], Reduction::ALL[reduction], count);
            trial.root = root % communicator.size();
            trial.places = [Places::Plain, Places::Registered, Places::Mixed][places];
            trial.via = [Via::Call, Via::Group, Via::Scope][via];
            trial.compare = [Compare::Exact, Compare::Near][number % 2];
            trial.salt = hash(&[trial.salt, number as u64]);
            trial.run(scene, communicator, memory);
        }
        Action::Shift { on, distance, count } => shift(&members[on % there].communicator, distance, count),
        Action::Group { on, count } => {
            group(&members[on[0] % there].communicator, &members[on[1] % there].communicator, count);
        }
        Action::Overlap { on, count } => {
            let (first, second) = (&members[on[0] % there].communicator, &members[on[1] % there].communicator);
            let begun = first.all_reduce_async(vec![1i64; count], ReduceOp::Sum).expect("begun");
            let mut data = vec![second.rank() as i32; count];
            second.all_reduce(&mut data, ReduceOp::Max).expect("all_reduce");
            assert!(data.iter().all(|x| *x as usize == second.size() - 1));
            assert!(begun.wait().expect("all_reduce").iter().all(|x| *x as usize == first.size()));
        }
        // More would be slow to make and not tell more.
        Action::Split { .. } | Action::Duplicate { .. } if there >= 5 => {}
        Action::Split { on, colors, reverse } => {
            let parent = &members[on % there].communicator;
            let key = if reverse { -(parent.rank() as i32) } else { 0 };
            let part = parent.split(Some((parent.rank() % colors) as u32), key).expect("a split").expect("a color");
            assert_eq!(part.size(), (0..parent.size()).filter(|rank| rank % colors == parent.rank() % colors).count());
            members.push(Member::new(part));
        }
        Action::Duplicate { on } => {
            let copy = members[on % there].communicator.duplicate().expect("a duplicate");
            members.push(Member::new(copy));
        }
        Action::Drop { on } if on % there > 0 => drop(members.remove(on % there)),
        Action::Drop { .. } => {}
        Action::Barrier { on } => members[on % there].communicator.barrier().expect("a barrier"),
    }
}

fn shift(communicator: &Communicator, distance: usize, count: usize) {
    let (rank, size) = (communicator.rank(), communicator.size());
    let (to, from) = ((rank + distance) % size, (rank + size - distance % size) % size);
    let mut into = vec![u64::MAX; count];
    communicator.send_recv(&vec![rank as u64; count], to, &mut into, from).expect("send_recv");
    assert!(into.iter().all(|x| *x == from as u64));
}

fn group(first: &Communicator, second: &Communicator, count: usize) {
    let (rank, size) = (first.rank(), first.size());
    let mut sum = vec![1u32; count];
    let mut most = vec![second.rank() as f32; count];
    let (right, left) = ((rank + 1) % size, (rank + size - 1) % size);
    let (sent, mut received) = (vec![rank as i64; count], vec![-1i64; count]);
    let mut group = first.group();
    // Even ranks add their messages before the collectives, odd ones behind.
    if size > 1 && rank % 2 == 0 {
        group.send(&sent, right).expect("collected");
    }
    group.on(first).all_reduce(&mut sum, ReduceOp::Sum).expect("collected");
    group.on(second).all_reduce(&mut most, ReduceOp::Max).expect("collected");
    if size > 1 {
        group.on(first).recv(&mut received, left).expect("collected");
        if rank % 2 == 1 {
            group.on(first).send(&sent, right).expect("collected");
        }
    }
    group.run().expect("a group");
    let wrong = sum.iter().enumerate().find(|(_, x)| **x as usize != size);
    assert!(wrong.is_none(), "element {} of the sum of {size} ranks, each with ones", format_args!("{wrong:?}"));
    assert!(most.iter().all(|x| *x as usize == second.size() - 1));
    assert!(size == 1 || received.iter().all(|x| *x as usize == left));
}

fn runner(seed: u64, cases: u32) -> TestRunner {
    let bytes: Vec<u8> = (0..4).flat_map(|word| hash(&[seed, word]).to_le_bytes()).collect();
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Some programs from the seed, the same on all ranks: for ranks that are processes too.
pub fn a_seeded_program(scene: &Scene) {
    let mut runner = runner(Chance::new(scene.seed, "programs").next(), 1);
    for _ in 0..4 {
        let program = programs().new_tree(&mut runner).expect("a program").current();
        if scene.rank() == 0 {
            println!("{program:?}");
        }
        run(scene, &program);
    }
}

/// Many programs; one that fails is made as short as possible.
pub fn shrink(ranks: Ranks, seed: u64) {
    println!("RINGTREE_TEST_SEED={seed}");
    let outcome = runner(seed, 24).run(&(programs(), 1..6usize), |(program, size)| {
        let run = || ranks.run("sequences::shrink", |scene: &Scene| run(scene, &program), &[size]);
        catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            TestCaseError::fail(text.unwrap_or_else(|| "a rank failed".into()))
        })
    });
    if let Err(failure) = outcome {
        panic!("RINGTREE_TEST_SEED={seed} replays this: {failure}");
    }
}
