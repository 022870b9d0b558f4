//! What a plan promises besides its steps: sizes, names, refusals, and the number that ranks compare.

use super::*;
use crate::types::{DataType, Reduction};
use alloc::format;
use alloc::string::ToString;
use alloc::vec;

fn call(collective: Collective, count: u64) -> Call {
    Call::new(collective, DataType::F32, Reduction::Sum, 0, count)
}

fn forced(algorithm: Algorithm) -> Tuning {
    Tuning { algorithm: Some(algorithm), ..Tuning::default() }
}

fn plan(world: &World, call: &Call, tuning: &Tuning) -> Plan {
    Plan::new(world, call, tuning).expect("a plan")
}

fn refused(world: &World, call: &Call, tuning: &Tuning) -> PlanError {
    Plan::new(world, call, tuning).expect_err("no plan")
}

#[test]
fn algorithms_keep_their_numbers_and_names() {
    for (number, algorithm) in Algorithm::ALL.into_iter().enumerate() {
        assert_eq!(algorithm as usize, number);
        assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        assert_eq!(format!("{algorithm:>10}").trim(), algorithm.name());
    }
    assert_eq!(Algorithm::from_name("magic"), None);
    assert_eq!((Algorithm::Ring as u8, Algorithm::Hierarchy as u8), (3, 9));
}

#[test]
fn buffers_are_as_long_as_the_collective_says() {
    let world = World::flat(3);
    let lens = |collective, rank| {
        let mut call = call(collective, 10);
        call.root = if collective.has_root() { 1 } else { 0 };
        let plan = plan(&world, &call, &Tuning::default());
        (plan.input_len(rank), plan.output_len(rank))
    };
    assert_eq!(lens(Collective::AllReduce, 0), (10, 10));
    assert_eq!(lens(Collective::AllGather, 0), (10, 30));
    assert_eq!(lens(Collective::ReduceScatter, 0), (30, 10));
    assert_eq!(lens(Collective::AllToAll, 0), (30, 30));
    assert_eq!((lens(Collective::Broadcast, 0), lens(Collective::Broadcast, 1)), ((0, 10), (10, 10)));
    assert_eq!((lens(Collective::Reduce, 0), lens(Collective::Reduce, 1)), ((10, 0), (10, 10)));
    assert_eq!((lens(Collective::Gather, 0), lens(Collective::Gather, 1)), ((10, 0), (10, 30)));
    assert_eq!((lens(Collective::Scatter, 0), lens(Collective::Scatter, 1)), ((0, 10), (30, 10)));
}

#[test]
fn unequal_blocks_are_packed_one_after_the_other() {
    let world = World::flat(3);
    let mut call = call(Collective::AllGather, 0);
    call.counts = Some(vec![5, 0, 7]);
    let gather = plan(&world, &call, &Tuning::default());
    assert_eq!((gather.input_len(2), gather.output_len(1)), (7, 12));
    call.collective = Collective::AllToAll;
    call.receive_counts = Some(vec![1, 2, 3]);
    let exchange = plan(&world, &call, &Tuning::default());
    assert_eq!((exchange.input_len(0), exchange.output_len(0)), (12, 6));
}

#[test]
fn a_step_past_the_end_a_rank_or_a_channel_too_many_are_nothing() {
    for algorithm in Algorithm::ALL {
        for collective in Collective::ALL {
            for world in [World::flat(1), World::flat(5), World::domains(&[3, 2])] {
                let count = if collective == Collective::Barrier { 0 } else { 100 };
                let tuning = Tuning { windows: true, ..forced(algorithm) };
                let Ok(plan) = Plan::new(&world, &call(collective, count), &tuning) else { continue };
                for rank in 0..world.size() {
                    for channel in 0..plan.channels() {
                        let count = plan.step_count(rank, channel);
                        assert_eq!(plan.steps(rank, channel).count() as u64, count);
                        assert_eq!(plan.step(rank, channel, count), None);
                        assert_eq!(plan.step(rank, channel, u64::MAX), None);
                    }
                }
                let channels = plan.channels();
                assert_eq!((plan.step(world.size(), 0, 0), plan.step(0, channels, 0)), (None, None));
                assert_eq!((plan.step_count(world.size(), 0), plan.scratch_len(world.size())), (0, 0));
            }
        }
    }
}

#[test]
fn nothing_to_do_is_no_step() {
    for collective in Collective::ALL.into_iter().filter(|&collective| collective != Collective::Barrier) {
        for size in [1, 4] {
            let plan = plan(&World::flat(size), &call(collective, 0), &Tuning::default());
            assert_eq!((plan.step_count(0, 0), plan.slot_len(), plan.scratch_len(0)), (0, 0, 0));
        }
    }
}

#[test]
fn a_message_is_64_kib_or_128_where_the_vector_is_long_and_256_over_sockets_unless_asked_otherwise() {
    let world = World::flat(2);
    let short = call(Collective::AllReduce, (1 << 18) - 1);
    assert_eq!(plan(&world, &short, &Tuning::default()).slot_len(), 16384);
    let call = call(Collective::AllReduce, 1 << 18);
    assert_eq!(plan(&world, &call, &Tuning::default()).slot_len(), 32768);
    let larger = Tuning { chunk_bytes: Some(MOST_SLOT_BYTES), ..Tuning::default() };
    assert_eq!(plan(&world, &short, &larger).slot_len(), 32768);
    let sockets = Tuning { inside: Medium::Loopback, between: Medium::Loopback, ..Tuning::default() };
    assert_eq!(plan(&world, &call, &sockets).slot_len(), 65536);
    let hosts = Tuning { between: Medium::Network, ..Tuning::default() };
    assert_eq!(plan(&world, &call, &hosts).slot_len(), 32768, "some messages go through memory");
    let tiny = Tuning { chunk_bytes: Some(1), ..Tuning::default() };
    assert_eq!(plan(&world, &call, &tiny).slot_len(), 1);
    for chunk_bytes in [0, MOST_SLOT_BYTES + 1] {
        let error = refused(&world, &call, &Tuning { chunk_bytes: Some(chunk_bytes), ..Tuning::default() });
        assert_eq!(error.to_string(), format!("chunk_bytes is {chunk_bytes}, it must be from 1 to 131072"));
    }
}

/// How many messages a rank sends before it takes the first.
fn sent_before_any_is_taken(plan: &Plan) -> usize {
    plan.steps(0, 0).take_while(|step| step.take == Take::Nothing).filter(|step| step.put != Put::Nothing).count()
}

#[test]
fn over_sockets_two_mib_are_sent_before_anything_is_taken() {
    let sockets = Tuning { inside: Medium::Loopback, between: Medium::Loopback, ..Tuning::default() };
    let hosts = Tuning { between: Medium::Network, ..Tuning::default() };
    let forced = |tuning: &Tuning, algorithm| Tuning { algorithm: Some(algorithm), ..tuning.clone() };
    for (collective, algorithm, in_memory) in [
        (Collective::AllGather, Algorithm::OneShot, 2),
        (Collective::ReduceScatter, Algorithm::TwoShot, 2),
        (Collective::AllReduce, Algorithm::Halving, 1),
    ] {
        let of = |ranks, tuning: &Tuning| {
            let tuning = Tuning { channels: Some(1), ..forced(tuning, algorithm) };
            sent_before_any_is_taken(&plan(&World::flat(ranks), &call(collective, 16 << 20), &tuning))
        };
        assert_eq!(of(2, &sockets), 8, "{collective:?}: messages of 256 KiB");
        assert_eq!(of(2, &Tuning::default()), in_memory, "{collective:?}: slots of memory are few");
        assert!(of(4, &hosts) <= 6, "{collective:?}: some go through memory: two to each other rank at most");
        assert!(of(64, &sockets) <= 126, "{collective:?}: two to each other rank at most");
    }
}

/// Ranks do not know each other's counts, and must still cut alike.
#[test]
fn the_messages_of_an_unequal_all_to_all_do_not_depend_on_its_counts() {
    let world = World::flat(2);
    let lens = [1, 1 << 20].map(|count| {
        let mut call = call(Collective::AllToAll, 0);
        call.counts = Some(vec![count; 2]);
        call.receive_counts = Some(vec![count; 2]);
        plan(&world, &call, &Tuning::default()).slot_len()
    });
    assert_eq!(lens[0], lens[1]);
}

#[test]
fn a_forced_choice_that_cannot_be_says_why() {
    let flat = World::flat(4);
    let why = |world: &World, call: &Call, tuning: &Tuning| refused(world, call, tuning).to_string();
    let reduce = call(Collective::AllReduce, 8);
    assert_eq!(
        why(&flat, &call(Collective::Gather, 8), &forced(Algorithm::Ring)),
        "algorithm ring can't do this gather: it has no form of this collective"
    );
    assert!(why(&flat, &reduce, &forced(Algorithm::Owner)).contains("can't be reached"));
    assert!(why(&flat, &reduce, &forced(Algorithm::Hierarchy)).contains("one domain"));
    assert!(why(&World::domains(&[1, 1]), &reduce, &forced(Algorithm::Hierarchy)).contains("one rank only"));
    for algorithm in [Algorithm::Ring, Algorithm::Tree, Algorithm::Halving, Algorithm::Hierarchy] {
        let tuning = Tuning { reproducible: true, ..forced(algorithm) };
        assert!(why(&World::domains(&[2, 2]), &reduce, &tuning).contains("one fold"));
    }
    let ring_gather = Tuning { reproducible: true, ..forced(Algorithm::Ring) };
    assert!(Plan::new(&flat, &call(Collective::AllGather, 8), &ring_gather).is_ok(), "nothing is reduced");
    let mut scaled = reduce.clone();
    scaled.reduction = Reduction::PreMulSum;
    assert!(why(&flat, &scaled, &Tuning { windows: true, ..forced(Algorithm::Owner) }).contains("factors"));
    let mut unequal = call(Collective::AllGather, 0);
    unequal.counts = Some(vec![1, 2, 3, 4]);
    assert!(why(&flat, &unequal, &forced(Algorithm::Bruck)).contains("equal length"));
}

#[test]
fn a_call_that_makes_no_sense_says_why() {
    let world = World::flat(2);
    let why = |call: &Call| refused(&world, call, &Tuning::default()).to_string();
    let mut bad = call(Collective::Broadcast, 1);
    bad.root = 2;
    assert_eq!(why(&bad), "root 2 is not a rank: there are 2, counted from 0");
    assert!(refused(&World::flat(0), &bad, &Tuning::default()).to_string().contains("without ranks"));
    let mut counts = call(Collective::AllReduce, 0);
    counts.counts = Some(vec![1, 1]);
    assert!(why(&counts).contains("no blocks"));
    counts.collective = Collective::AllGather;
    counts.counts = Some(vec![1]);
    assert!(why(&counts).contains("one entry a rank"));
    counts.counts = Some(vec![u64::MAX, 2]);
    assert!(why(&counts).contains("too long"));
    counts.counts = Some(vec![1, 1]);
    counts.receive_counts = Some(vec![1, 1]);
    assert!(why(&counts).contains("all-to-all only"));
    counts.collective = Collective::AllToAll;
    counts.receive_counts = None;
    assert!(why(&counts).contains("receive counts too"));
    assert!(why(&call(Collective::AllGather, MOST_ELEMENTS)).contains("too long"));
    assert!(Plan::new(&world, &call(Collective::AllReduce, MOST_ELEMENTS), &Tuning::default()).is_ok());
}

#[test]
fn the_longest_vectors_do_not_overflow() {
    for algorithm in Algorithm::ALL {
        for collective in Collective::ALL {
            for world in [World::flat(1), World::flat(2), World::flat(48), World::domains(&[20, 28])] {
                let blocks = if collective.has_blocks() { u64::from(world.size()) } else { 1 };
                let count = if collective == Collective::Barrier { 0 } else { MOST_ELEMENTS / blocks };
                let tuning = Tuning { windows: true, ..forced(algorithm) };
                let mut call = call(collective, count);
                call.dtype = DataType::F64;
                let Ok(plan) = Plan::new(&world, &call, &tuning) else { continue };
                for rank in [0, world.size() - 1] {
                    let count = plan.step_count(rank, 0);
                    for index in [0, count / 3, count / 2, count.saturating_sub(1)] {
                        let Some(step) = plan.step(rank, 0, index) else { continue };
                        let end = |at: u64| at + u64::from(step.len);
                        for (space, at) in [(step.src(), step.src_at), (step.dst(), step.dst_at)] {
                            match space {
                                Space::Input => assert!(end(at) <= plan.input_len(rank), "{algorithm} {collective}"),
                                Space::Output => assert!(end(at) <= plan.output_len(rank), "{algorithm} {collective}"),
                                Space::Scratch => {
                                    assert!(end(at) <= plan.scratch_len(rank), "{algorithm} {collective}")
                                }
                                Space::Nothing => {}
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_digest_is_the_same_on_every_host_and_version() {
    let world = World::domains(&[2, 2]);
    let mut unequal = call(Collective::AllGather, 0);
    unequal.counts = Some(vec![1, 2, 3, 4]);
    let digest = |world: &World, call: &Call, tuning: &Tuning| plan(world, call, tuning).digest();
    let pinned = [
        digest(&World::flat(2), &call(Collective::AllReduce, 1024), &Tuning::default()),
        digest(&world, &call(Collective::Broadcast, 7), &forced(Algorithm::Tree)),
        digest(&world, &unequal, &forced(Algorithm::Ring)),
    ];
    assert_eq!(pinned, PINNED, "if the steps of plans changed, change VERSION and these numbers");
}

const PINNED: [u64; 3] = [3401187138217150540, 10594088764271756940, 1367936872726914714];

#[test]
fn every_field_that_ranks_must_agree_on_changes_the_digest() {
    let world = World::domains(&[2, 2]);
    let base = call(Collective::Reduce, 100);
    let star = forced(Algorithm::Star);
    let change = |change: &dyn Fn(&mut Call)| {
        let mut call = base.clone();
        change(&mut call);
        plan(&world, &call, &star).digest()
    };
    let tuned = |tuning: Tuning| plan(&world, &base, &tuning).digest();
    let mut all = vec![
        tuned(star.clone()),
        change(&|call| call.dtype = DataType::I32),
        change(&|call| call.reduction = Reduction::Average),
        change(&|call| call.root = 1),
        change(&|call| call.count = 101),
        change(&|call| call.collective = Collective::Gather),
        tuned(forced(Algorithm::Ring)),
        tuned(Tuning { chunk_bytes: Some(1024), ..star.clone() }),
        tuned(Tuning { channels: Some(2), ..star.clone() }),
        tuned(Tuning { reproducible: true, ..star.clone() }),
        plan(&World::flat(4), &base, &star).digest(),
        plan(&World::flat(5), &base, &star).digest(),
        plan(&World::domains(&[3, 1]), &base, &star).digest(),
        plan(&World::from_domains(&[0, 1, 0, 1]), &base, &star).digest(),
        plan(&World::in_order(&[1, 1, 0, 0], &[]), &base, &star).digest(),
        plan(&World::domains(&[1; 4]), &base, &star).digest(),
        plan(&World::in_order(&[0, 1, 2, 3], &[vec![0, 2]]), &base, &star).digest(),
        plan(&World::in_order(&[0, 1, 2, 3], &[vec![0, 1]]), &base, &star).digest(),
    ];
    for counts in [vec![100; 4], vec![100, 100, 100, 101], vec![0; 4]] {
        let mut unequal = call(Collective::Gather, 0);
        unequal.counts = Some(counts);
        all.push(plan(&world, &unequal, &star).digest());
    }
    let many = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), many);
    assert_eq!(tuned(Tuning { cores: 3, ..star.clone() }), tuned(star), "how a choice was made does not matter");
}

#[test]
fn a_plan_for_4096_ranks_is_small_and_quick_to_ask() {
    let world = World::domains(&[64; 64]);
    for algorithm in Algorithm::ALL {
        for collective in
            [Collective::AllReduce, Collective::AllGather, Collective::ReduceScatter, Collective::Broadcast]
        {
            let Ok(plan) = Plan::new(&world, &call(collective, 10_000), &forced(algorithm)) else { continue };
            let sum: u64 = (0..world.size()).map(|rank| plan.step_count(rank, 0)).sum();
            assert!(sum > 0);
            assert!(plan.step(4095, 0, plan.step_count(4095, 0) - 1).is_some());
        }
    }
}
