//! Collectives: every form, type and reduction, sizes around every border, every algorithm, every place of buffers.

use crate::memory::Memory;
use crate::numbers::Chance;
use crate::trial::{Compare, Kind, Places, Trial, Via};
use crate::worlds::Scene;
use ringtree::plan::{Algorithm, BORDER_BYTES, CHUNK_BYTES};
use ringtree::{DataType, Error, Reduction};

/// All reductions for calls that reduce, one for the others.
fn reductions(kind: Kind) -> &'static [Reduction] {
    if kind.reduces() { &Reduction::ALL } else { &Reduction::ALL[..1] }
}

/// The full product: every form, type, reduction; a few counts, and a root that changes.
pub fn every_type_and_reduction(scene: &Scene) {
    let communicator = scene.world(|_| {});
    let mut memory = Memory::new();
    let mut turn = 0;
    for kind in Kind::ALL {
        for dtype in DataType::ALL {
            for reduction in reductions(kind) {
                for count in [0, 1, 5, 131] {
                    let mut trial = Trial::new(kind, dtype, *reduction, count);
                    turn += 1;
                    trial.root = turn % scene.size();
                    trial.compare = [Compare::Exact, Compare::Near][turn / 4 % 2];
                    trial.via = [Via::Call, Via::Group, Via::Scope][turn / 8 % 3];
                    trial.run(scene, &communicator, &mut memory);
                }
            }
        }
    }
}

/// Byte counts around every border that transports and plans have.
pub fn every_border(scene: &Scene) {
    let communicator = scene.world(|_| {});
    let mut memory = Memory::new();
    let border = BORDER_BYTES as usize;
    let chunk = CHUNK_BYTES as usize;
    let mut bytes = vec![0, 1, 2, 4, 8, 11, 12, 13];
    for center in [48, border, 2 * border, 4096, chunk, 2 * chunk, 3 * chunk + 640] {
        bytes.extend([center - 8, center - 4, center - 1, center, center + 1, center + 4, center + 8]);
    }
    for kind in Kind::ALL {
        for (number, bytes) in bytes.iter().enumerate() {
            for dtype in [DataType::I8, DataType::Bf16, DataType::F32, DataType::F64] {
                // Of the long ones each type takes a part; together they take all.
                if *bytes > 4096 && !(number + dtype as usize + kind as usize).is_multiple_of(4) {
                    continue;
                }
                let mut trial = Trial::new(kind, dtype, Reduction::Sum, bytes / dtype.size());
                trial.root = number % scene.size();
                trial.run(scene, &communicator, &mut memory);
            }
        }
    }
}

/// Anything, with any number of ranks.
pub fn a_seeded_sample(scene: &Scene) {
    let communicator = scene.world(|_| {});
    let mut memory = Memory::new();
    let mut chance = Chance::new(scene.seed, "sample");
    let trials = 400 / scene.size();
    for number in 0..trials {
        let most = if number % 8 == 0 { 400_000 / scene.size() } else { 3000 };
        Trial::random(&mut chance, scene.size(), most).run(scene, &communicator, &mut memory);
        if chance.below(5) == 0 {
            communicator.barrier().expect("a barrier");
        }
    }
}

/// Every algorithm does what it accepts, and refuses the rest in the same way on all ranks without harm.
pub fn every_algorithm(scene: &Scene) {
    for algorithm in Algorithm::ALL {
        let communicator = scene.world(|config| config.algorithm = Some(algorithm));
        let mut memory = Memory::new();
        let mut chance = Chance::new(scene.seed, algorithm.name());
        let mut done = 0;
        for kind in Kind::ALL {
            for count in [0, 1, 7, 100, 3000, 40_000] {
                let dtype = chance.of(&DataType::ALL);
                let mut trial = Trial::new(kind, dtype, chance.of(&Reduction::ALL), count);
                trial.root = chance.below(scene.size());
                trial.compare = chance.of(&[Compare::Exact, Compare::Near]);
                trial.salt = chance.next();
                match trial.try_run(scene, &communicator, &mut memory) {
                    Ok(()) => done += 1,
                    Err(Error::Choice { what, .. }) => assert!(what.contains(algorithm.name()), "{what}"),
                    Err(error) => panic!("{algorithm}: {trial:?}: {error}"),
                }
            }
        }
        let never = algorithm == Algorithm::Hierarchy && !has_domains(scene)
            || algorithm == Algorithm::Owner && memory_is_private(scene);
        assert_eq!(done == 0, never, "{algorithm} did {done} calls");
    }
}

fn has_domains(scene: &Scene) -> bool {
    scene.base.domains().iter().any(|domain| *domain != 0)
}

/// The forced hierarchy in every form that it has, in one message and in many, with any root; all else, and one domain, it refuses.
pub fn the_hierarchy(scene: &Scene) {
    let communicator = scene.world(|config| config.algorithm = Some(Algorithm::Hierarchy));
    let mut memory = Memory::with_registered(&communicator);
    let mut chance = Chance::new(scene.seed, "hierarchy");
    let mut done = Vec::new();
    for kind in Kind::ALL {
        for count in [0, 1, 2, 7, 33, 500, 1025, 5000, 20_000] {
            let mut trial = Trial::new(kind, chance.of(&DataType::ALL), chance.of(&Reduction::ALL), count);
            (trial.root, trial.salt) = (chance.below(scene.size()), chance.next());
            trial.compare = chance.of(&[Compare::Exact, Compare::Near]);
            trial.via = chance.of(&[Via::Call, Via::Group, Via::Scope]);
            trial.places = chance.of(&[Places::Plain, Places::Registered, Places::Mixed]);
            match trial.try_run(scene, &communicator, &mut memory) {
                Ok(()) => done.push(kind),
                Err(Error::Choice { what, .. }) => {
                    assert!(what.contains("hierarchy"), "{what}");
                    break;
                }
                Err(error) => panic!("{trial:?}: {error}"),
            }
        }
    }
    done.dedup();
    let forms = Kind::ALL.into_iter().filter(|kind| kind.has_layers() && has_domains(scene));
    assert_eq!(done, forms.collect::<Vec<_>>());
}

/// Whether ranks can't reach each other's plain buffers.
fn memory_is_private(scene: &Scene) -> bool {
    let communicator = scene.world(|config| config.algorithm = Some(Algorithm::Owner));
    matches!(communicator.all_reduce(&mut [0u8; 4], ringtree::ReduceOp::Sum), Err(Error::Choice { .. }))
}

/// Several chunks, and once so long that results are written past the caches.
pub fn long_vectors(scene: &Scene) {
    let communicator = scene.world(|_| {});
    let mut memory = Memory::new();
    for kind in [Kind::AllReduce, Kind::AllReduceInto, Kind::ReduceScatter, Kind::AllGather, Kind::Broadcast] {
        let trial = Trial::new(kind, DataType::I32, Reduction::Sum, 333_333);
        trial.run(scene, &communicator, &mut memory);
    }
    // Above 6 MiB on every rank.
    let streamed = (6 << 20) / 8 + 3;
    for kind in [Kind::AllReduceInto, Kind::ReduceScatterInPlace, Kind::AllToAll, Kind::Gather] {
        let count =
            if kind == Kind::AllReduceInto || kind == Kind::ReduceScatterInPlace { streamed } else { streamed / 2 };
        let mut trial = Trial::new(kind, DataType::I64, Reduction::Max, count);
        trial.root = scene.size() - 1;
        trial.run(scene, &communicator, &mut memory);
    }
}

/// Chunks so small that every ring and slot wraps many times.
pub fn small_chunks(scene: &Scene) {
    for chunk in [1, 64, 1000, 128 << 10] {
        let communicator = scene.world(|config| config.chunk_bytes = Some(chunk));
        let mut memory = Memory::new();
        let mut chance = Chance::new(scene.seed, "chunks");
        for kind in Kind::ALL {
            let mut trial = Trial::new(kind, chance.of(&DataType::ALL), chance.of(&Reduction::ALL), 700);
            trial.root = chance.below(scene.size());
            trial.salt = chance.next();
            trial.run(scene, &communicator, &mut memory);
        }
    }
}

/// Registered buffers on all ranks and on some, with inputs that change from call to call.
pub fn registered_buffers(scene: &Scene) {
    let communicator = scene.world(|_| {});
    let mut memory = Memory::with_registered(&communicator);
    let mut chance = Chance::new(scene.seed, "registered");
    for round in 0..3 {
        for kind in Kind::ALL {
            for places in [Places::Registered, Places::Mixed, Places::Plain] {
                let mut trial = Trial::random(&mut chance, scene.size(), if round == 0 { 200_000 } else { 5000 });
                (trial.kind, trial.places) = (kind, places);
                trial.run(scene, &communicator, &mut memory);
            }
        }
    }
}

/// The same where only the algorithm that works in place of the data is allowed.
pub fn registered_buffers_where_the_owner_is_forced(scene: &Scene) {
    let communicator = scene.world(|config| config.algorithm = Some(Algorithm::Owner));
    let mut memory = Memory::with_registered(&communicator);
    let mut chance = Chance::new(scene.seed, "owner");
    for places in [Places::Registered, Places::Mixed, Places::Plain] {
        let mut done = 0;
        for kind in Kind::ALL {
            for count in [0, 1, 15, 16, 17, 1000, 9000] {
                let mut trial = Trial::new(kind, chance.of(&DataType::ALL), Reduction::Sum, count);
                (trial.places, trial.salt, trial.root) = (places, chance.next(), chance.below(scene.size()));
                match trial.try_run(scene, &communicator, &mut memory) {
                    Ok(()) => done += 1,
                    Err(Error::Choice { what, .. }) => assert!(what.contains("owner"), "{what}"),
                    Err(error) => panic!("{trial:?}: {error}"),
                }
            }
        }
        assert!(done >= 9 * 7, "{places:?}: only {done} calls");
    }
}

/// With `reproducible` the bits are those of one fold in the order of rank, whatever the size, algorithm and place.
pub fn reproducible_results(scene: &Scene) {
    let one_fold = [Algorithm::OneShot, Algorithm::TwoShot, Algorithm::Owner, Algorithm::Star];
    for algorithm in [None].into_iter().chain(one_fold.map(Some)) {
        let communicator = scene.world(|config| (config.algorithm, config.reproducible) = (algorithm, true));
        let mut memory = Memory::with_registered(&communicator);
        let mut chance = Chance::new(scene.seed, "reproducible");
        for kind in Kind::ALL.into_iter().filter(|kind| kind.reduces()) {
            for count in [1, 10, 300, 20_000] {
                let floats = &DataType::ALL[DataType::F16 as usize..];
                let mut trial = Trial::new(kind, chance.of(floats), chance.of(&Reduction::ALL), count);
                (trial.salt, trial.root) = (chance.next(), chance.below(scene.size()));
                trial.compare = Compare::InOrder;
                trial.places = chance.of(&[Places::Plain, Places::Registered, Places::Mixed]);
                match trial.try_run(scene, &communicator, &mut memory) {
                    Ok(()) => {}
                    Err(Error::Choice { .. }) if algorithm.is_some() => {}
                    Err(error) => panic!("{trial:?}: {error}"),
                }
            }
        }
    }
}
