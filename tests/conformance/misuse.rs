//! Calls that can't be done: refused on the spot, nothing is sent, the communicator goes on.

use crate::worlds::Scene;
use ringtree::plan::{Algorithm, Costs};
use ringtree::{Config, Domains, Error, Protection, ReduceOp, Result, Scalar, Work};
use std::sync::Arc;

fn refused(result: Result<()>, word: &str) {
    match result {
        Err(Error::Misuse { what, advice }) => {
            assert!(what.contains(word) && !advice.is_empty(), "'{what}' does not say '{word}'");
        }
        other => panic!("expected a misuse with '{word}', got {other:?}"),
    }
}

/// Wrong lengths, roots, peers, counts and factors, on one rank or on all.
pub fn refused_calls_leave_the_communicator_alone(scene: &Scene) {
    let comm = scene.world(|_| {});
    let (rank, size) = (scene.rank(), scene.size());
    for round in 0..3 {
        // In the second round only one rank makes mistakes: nothing may have been sent, and no number used up.
        if round != 1 || rank == 0 {
            let (short, mut long) = (vec![1f32; 3], vec![7f32; 3 * size + 1]);
            refused(comm.all_reduce_into(&short, &mut long, ReduceOp::Sum), "output");
            refused(comm.all_gather(&short, &mut long), "output");
            refused(comm.reduce_scatter(&long, &mut [0.0; 3], ReduceOp::Sum), "input");
            refused(comm.scatter(&long, &mut [0.0; 3], rank), "input");
            refused(comm.gather(&short, &mut long, rank), "output");
            refused(comm.broadcast_into(&short, &mut long, rank), "input");
            refused(comm.reduce_into(&short, &mut long, ReduceOp::Sum, rank), "output");
            refused(comm.broadcast(&mut long, size), "root");
            refused(comm.reduce(&mut long, ReduceOp::Sum, usize::MAX), "root");
            refused(comm.send(&short, rank), "itself");
            refused(comm.recv(&mut long, rank), "itself");
            refused(comm.send(&short, size), "peer");
            refused(comm.all_gather_v(&short, &mut long, &vec![1; size + 1]), "counts");
            refused(comm.all_gather_v(&short, &mut long, &vec![1; size]), "input");
            refused(comm.scatter_v(&long, &mut [0.0; 3], &vec![3; size], rank), "input");
            refused(comm.reduce_scatter_v(&long, &mut [0.0; 2], &vec![3; size], ReduceOp::Sum), "input");
            refused(comm.all_to_all_v(&short, &vec![0; size], &mut long, &vec![0; size]), "input");
            refused(comm.all_to_all_v(&[], &vec![0; size], &mut long, &vec![0; size + 1]), "receive");
            refused(comm.send_recv(&short, rank, &mut long, rank), "itself");
            refused(comm.all_reduce(&mut [1i8; 4], ReduceOp::PreMulSum(Scalar::Float(0.5))), "factor");
            refused(comm.all_reduce(&mut long, ReduceOp::PreMulSum(Scalar::Integer((1 << 60) + 1))), "factor");
            if size > 1 {
                refused(comm.all_gather_in_place(&mut long), "blocks");
                refused(comm.reduce_scatter_in_place(&mut long, ReduceOp::Sum), "blocks");
                refused(comm.all_to_all(&long.clone(), &mut long), "blocks");
            }
            let mut into = [0u8; 2];
            let mut group = comm.group();
            refused(group.recv(&mut into, rank), "itself");
            group.run().expect("an empty group");
            let mut lent = [1u32, 2];
            let begun = comm.scope(|scope| scope.broadcast(&mut lent, size).map(drop)).expect("a scope");
            refused(begun, "root");
            let begun = comm.all_reduce_async(vec![1u8; 4], ReduceOp::PreMulSum(Scalar::Float(300.0)));
            refused(begun.and_then(Work::wait).map(drop), "factor");
            assert!(long.iter().all(|x| *x == 7.0), "a refused call has written");
            assert!(comm.error().is_none());
        }
        let mut data = [rank as u64; 5];
        comm.all_reduce(&mut data, ReduceOp::Sum).expect("the communicator goes on");
        assert!(data.iter().all(|sum| *sum == (size * (size - 1) / 2) as u64));
    }
}

/// A forced algorithm that can't do a call is refused with its reason, alike on all ranks, and does no harm.
pub fn a_forced_algorithm_that_cannot_says_why(scene: &Scene) {
    let sum = ReduceOp::Sum;
    let comm = scene.world(|config| config.algorithm = Some(Algorithm::Tree));
    for _ in 0..2 {
        let mut gathered = vec![0u8; 2 * scene.size()];
        match comm.all_gather(&[1, 2], &mut gathered) {
            Err(Error::Choice { what, advice }) => {
                assert!(what.contains("tree") && what.contains("all_gather") && what.contains("no form"), "{what}");
                assert!(advice.contains("RINGTREE_ALGORITHM"), "{advice}");
            }
            other => panic!("{other:?}"),
        }
        comm.all_reduce(&mut [1i32; 100], sum).expect("what the tree can do goes on");
    }
    let comm = scene.world(|config| (config.algorithm, config.reproducible) = (Some(Algorithm::Ring), true));
    for _ in 0..2 {
        match comm.all_reduce(&mut [1f32; 100], sum) {
            Err(Error::Choice { what, .. }) => {
                assert!(what.contains("reproducible") && what.contains("ring"), "{what}")
            }
            other => panic!("{other:?}"),
        }
        comm.broadcast(&mut [1f32; 100], 0).expect("what does not reduce goes by ring");
    }
    // A group goes on after a refused call, and so does the communicator.
    let mut data = [1u8; 40];
    let mut blocked = vec![0u8; scene.size()];
    let mut group = comm.group();
    group.broadcast(&mut data, 0).expect("collected");
    group.gather(&[1u8], &mut blocked, 0).expect("collected");
    let outcome = group.run();
    assert!(matches!(outcome, Err(Error::Choice { .. })), "{outcome:?}");
    comm.broadcast(&mut data, 0).expect("the communicator goes on");
}

/// What plans depend on must be the same on all ranks: each of them is told which setting is not, or that it makes no sense.
pub fn ranks_with_different_settings_are_refused_by_name(scene: &Scene) {
    let (size, last) = (scene.size() as u32, scene.rank() + 1 == scene.size());
    let meet = |change: &dyn Fn(&mut Config)| {
        let refused = scene.meet(change).expect_err("settings that differ");
        assert!(!matches!(refused, Error::Timeout { .. }), "{refused}");
        refused.to_string()
    };
    let one_each = Domains::Sizes(vec![1; size as usize]);
    let other = if last { Domains::Flat } else { one_each };
    let message = meet(&|config| config.domains = other.clone());
    assert!(message.contains("RINGTREE_DOMAINS") && message.contains("differs"), "{message}");
    let message = meet(&|config| config.chunk_bytes = last.then_some(4096));
    assert!(message.contains("RINGTREE_CHUNK") && message.contains("differs"), "{message}");
    let mut costs = Costs::default();
    assert!(costs.set("pair", "copy_ps", 12345));
    let message = meet(&|config| config.costs = last.then(|| Arc::new(costs)));
    assert!(message.contains("RINGTREE_PROFILE") && message.contains("differs"), "{message}");
    let message = meet(&|config| config.protection = if last { Protection::Encrypted } else { Protection::Checksum });
    assert!(message.contains("RINGTREE_PROTECTION") && message.contains("differs"), "{message}");
    let message = meet(&|config| config.domains = Domains::Sizes(vec![size, 2]));
    assert!(message.contains("RINGTREE_DOMAINS") && message.contains(&format!("{size},2")), "{message}");
    let fits =
        scene.meet(&|config| config.domains = Domains::Sizes(vec![1; size as usize])).expect("settings that agree");
    fits.barrier().expect("a communicator");
}
