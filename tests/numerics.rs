//! The numeric contract: which bits come out, and what they may not depend on.
//!
//! Expected values are written down, or computed here in the plainest way; that all transports give them is the conformance suite's part.

use float8::{F8E4M3, F8E5M2};
use half::{bf16, f16};
use ringtree::exec::{Request, Session, Settings};
use ringtree::plan::{Algorithm, Tuning, World};
use ringtree::transport::local::LocalLinks;
use ringtree::transport::shm::POINT_TO_POINT;
use ringtree::types::Call;
use ringtree::{
    Collective, Communicator, Config, DataType, Element, Error, ReduceOp, Reduction, Result, Scalar, Transport,
};
use std::time::Duration;

const TRANSPORTS: [Transport; 2] = [Transport::Local, Transport::Shm];

fn config(transport: Transport) -> Config {
    Config { transport, timeout: Duration::from_secs(60), ..Config::default() }
}

/// What every rank returns.
fn on_each_rank<R: Send>(size: usize, config: &Config, body: impl Fn(&Communicator) -> R + Sync) -> Vec<R> {
    let communicators = Communicator::local_with(size, config).expect("a world of threads");
    std::thread::scope(|threads| {
        let body = &body;
        let ranks: Vec<_> = communicators.into_iter().map(|one| threads.spawn(move || body(&one))).collect();
        ranks.into_iter().map(|rank| rank.join().expect("a rank")).collect()
    })
}

/// The result of an all-reduce in which rank r has `inputs[r]`, the same on all ranks down to the bit.
fn reduced<T: Element + std::fmt::Debug>(
    inputs: &[Vec<T>],
    config: &Config,
    op: impl Fn(usize) -> ReduceOp + Sync,
) -> Vec<T> {
    let mut all = on_each_rank(inputs.len(), config, |comm| {
        let mut data = inputs[comm.rank()].clone();
        comm.all_reduce(&mut data, op(comm.rank())).expect("all_reduce");
        data
    });
    let first = all.swap_remove(0);
    assert!(all.iter().all(|other| bits(other) == bits(&first)), "ranks end with different bits: {first:?} {all:?}");
    first
}

fn bits<T: Element>(data: &[T]) -> Vec<u8> {
    // SAFETY: elements have no padding, so their bytes are initialised.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) }.to_vec()
}

fn always(op: ReduceOp) -> impl Fn(usize) -> ReduceOp + Sync {
    move |_| op
}

/// Numbers that round in every sum, of many sizes.
fn rough(rank: usize, at: usize) -> f32 {
    let mut z = (rank as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (at as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^= z >> 32;
    let scale = [1e-6, 1e-3, 1.0, 1e3][(z % 4) as usize];
    ((z >> 8) as u32 as f32 / u32::MAX as f32 - 0.5) * scale
}

#[test]
fn repeated_runs_give_the_same_bits_whoever_comes_first() {
    for transport in TRANSPORTS {
        for algorithm in Algorithm::ALL {
            let config = Config { algorithm: Some(algorithm), ..config(transport) };
            for size in [2usize, 3, 5, 8] {
                let run = |late: usize| -> Option<Vec<Vec<u8>>> {
                    let run = on_each_rank(size, &config, |comm| -> Result<Vec<u8>> {
                        let mut data: Vec<f32> = (0..20_000).map(|at| rough(comm.rank(), at)).collect();
                        for _ in 0..3 {
                            if comm.rank() == late % size {
                                // No result depends on this, which is the point.
                                std::thread::sleep(Duration::from_micros(300));
                            }
                            comm.all_reduce(&mut data, ReduceOp::Sum)?;
                            data.iter_mut().for_each(|x| *x /= 3.7);
                        }
                        Ok(bits(&data))
                    });
                    run.into_iter().map(Result::ok).collect()
                };
                let first = run(0);
                assert_eq!(first.is_some(), can_all_reduce(algorithm), "{algorithm} {transport:?}");
                for late in 1..3 {
                    assert!(run(late) == first, "{algorithm}, {size} ranks over {transport:?}");
                }
            }
        }
    }
}

fn can_all_reduce(algorithm: Algorithm) -> bool {
    // The owner needs registered memory; the others have no form of it.
    use Algorithm::*;
    matches!(algorithm, OneShot | TwoShot | Ring | Tree | Halving)
}

/// Minimum and maximum of some floats: (inputs of the ranks, minimum, maximum) as bits.
fn check_extremes<T: Element + std::fmt::Debug>(table: &[(&[T], T, T)]) {
    for transport in TRANSPORTS {
        for (inputs, least, most) in table {
            let inputs: Vec<Vec<T>> = inputs.iter().map(|x| vec![*x; 9]).collect();
            for (op, expected) in [(ReduceOp::Min, least), (ReduceOp::Max, most)] {
                let got = reduced(&inputs, &config(transport), always(op));
                assert_eq!(bits(&got), bits(&[*expected; 9]), "{op:?} of {inputs:?} over {transport:?}: {got:?}");
            }
        }
    }
}

#[test]
fn minimum_and_maximum_keep_nan_and_order_zeros() {
    let nan = f32::from_bits(0x7fc0_0000);
    // Quiet and signalling NaNs with payloads and signs: the result is always the one NaN.
    let odd = [f32::from_bits(0xffc0_1234), f32::from_bits(0x7f80_0001)];
    check_extremes::<f32>(&[
        (&[1.0, odd[0], 3.0], nan, nan),
        (&[odd[1], 2.0], nan, nan),
        (&[f32::INFINITY, odd[0], odd[1]], nan, nan),
        (&[0.0, -0.0], -0.0, 0.0),
        (&[-0.0, 0.0, -0.0], -0.0, 0.0),
        (&[-0.0, -0.0], -0.0, -0.0),
        (&[f32::NEG_INFINITY, 5.0, f32::INFINITY], f32::NEG_INFINITY, f32::INFINITY),
        (&[1e-45, -1e-45, 0.0], -1e-45, 1e-45),
    ]);
    let nan = f64::from_bits(0x7ff8_0000_0000_0000);
    check_extremes::<f64>(&[
        (&[1.0, -f64::NAN], nan, nan),
        (&[-0.0, 0.0], -0.0, 0.0),
        (&[1e300, -1e300], -1e300, 1e300),
    ]);
    let half = f16::from_f32;
    let nan = f16::from_bits(0x7e00);
    check_extremes::<f16>(&[
        (&[half(1.0), f16::from_bits(0xfc01)], nan, nan),
        (&[half(0.0), half(-0.0)], half(-0.0), half(0.0)),
    ]);
    let nan = bf16::from_bits(0x7fc0);
    let brain = bf16::from_f32;
    check_extremes::<bf16>(&[
        (&[brain(1.0), bf16::from_bits(0xff81)], nan, nan),
        (&[brain(-2.0), brain(3.0)], brain(-2.0), brain(3.0)),
    ]);
    let byte = F8E4M3::from_bits;
    check_extremes::<F8E4M3>(&[
        (&[byte(0x38), byte(0xff)], byte(0x7f), byte(0x7f)),
        (&[byte(0x80), byte(0)], byte(0x80), byte(0)),
    ]);
    let byte = F8E5M2::from_bits;
    check_extremes::<F8E5M2>(&[
        (&[byte(0x3c), byte(0xfd)], byte(0x7e), byte(0x7e)),
        (&[byte(0xbc), byte(0x3c)], byte(0xbc), byte(0x3c)),
    ]);
}

#[test]
fn a_sum_of_zeros_is_positive_unless_all_are_negative() {
    for transport in TRANSPORTS {
        for (inputs, expected) in [([0.0f32, -0.0], 0.0f32), ([-0.0, -0.0], -0.0), ([1.5, -1.5], 0.0)] {
            let got = reduced(&inputs.map(|x| vec![x; 5]), &config(transport), always(ReduceOp::Sum));
            assert_eq!(bits(&got), bits(&[expected; 5]), "{inputs:?}");
        }
        let nans = [vec![f32::from_bits(0xffc0_0001); 3], vec![1.0; 3]];
        let got = reduced(&nans, &config(transport), always(ReduceOp::Sum));
        assert_eq!(bits(&got), bits(&[f32::from_bits(0x7fc0_0000); 3]), "a NaN loses its payload and sign");
    }
}

#[test]
fn averages_divide_the_wrapped_sum_and_truncate_towards_zero() {
    let average = always(ReduceOp::Average);
    for transport in TRANSPORTS {
        let config = config(transport);
        let signed = [vec![-5i8, 5, 100, -128, -1, 127], vec![-2, 2, 100, -1, 0, 1]];
        // 100 + 100 wraps to -56; -128 - 1 wraps to 127; 127 + 1 wraps to -128.
        assert_eq!(reduced(&signed, &config, &average), [-3, 3, -28, 63, 0, -64]);
        let unsigned = [vec![255u8, 7, 0], vec![255, 0, 1], vec![255, 1, 1]];
        // 765 wraps to 253; 253 / 3 is 84.
        assert_eq!(reduced(&unsigned, &config, &average), [84, 2, 0]);
        assert_eq!(reduced(&[vec![i64::MIN, -7], vec![0, 0]], &config, &average), [i64::MIN / 2, -3]);
        assert_eq!(reduced(&[vec![u32::MAX], vec![1], vec![5]], &config, &average), [1]);
        assert_eq!(reduced(&[vec![-7i32], vec![-7], vec![-7]], &config, &average), [-7]);
        // A true division, not a multiplication by the rounded inverse: 5/3 and 7/5 differ between the two.
        for size in [3usize, 5, 7, 11] {
            let inputs: Vec<Vec<f32>> = (0..size).map(|rank| (0..99).map(|at| rough(rank, at)).collect()).collect();
            let one_shot = Config { algorithm: Some(Algorithm::OneShot), ..config.clone() };
            let expected: Vec<f32> =
                (0..99).map(|at| inputs.iter().map(|x| x[at]).reduce(|a, b| a + b).unwrap() / size as f32).collect();
            assert_eq!(bits(&reduced(&inputs, &one_shot, &average)), bits(&expected), "{size} ranks");
        }
    }
}

#[test]
fn narrow_floats_accumulate_in_f32_and_round_once() {
    for transport in TRANSPORTS {
        for algorithm in [Algorithm::OneShot, Algorithm::TwoShot] {
            let config = Config { algorithm: Some(algorithm), ..config(transport) };
            let sum = always(ReduceOp::Sum);
            // Each small one alone is lost beside the large one; together they are not.
            let halves: Vec<Vec<f16>> = [2048.0, 1.0, 1.0, 1.0].map(|x| vec![f16::from_f32(x); 40]).to_vec();
            assert_eq!(
                reduced(&halves, &config, &sum),
                vec![f16::from_f32(2052.0); 40],
                "2051 is half-way and 2052 even"
            );
            let brains: Vec<Vec<bf16>> = [256.0, 1.0, 1.0].map(|x| vec![bf16::from_f32(x); 40]).to_vec();
            assert_eq!(reduced(&brains, &config, &sum), vec![bf16::from_f32(258.0); 40]);
            let bytes: Vec<Vec<F8E4M3>> = [0x58, 0x38, 0x38].map(|x| vec![F8E4M3::from_bits(x); 40]).to_vec();
            assert_eq!(bits(&reduced(&bytes, &config, &sum)), vec![0x59; 40], "16 + 1 + 1 = 18");
            let bytes: Vec<Vec<F8E5M2>> = [0x48, 0x3c, 0x3c].map(|x| vec![F8E5M2::from_bits(x); 40]).to_vec();
            assert_eq!(bits(&reduced(&bytes, &config, &sum)), vec![0x49; 40], "8 + 1 + 1 = 10");
            // Too large in between, but not at the end.
            let bytes: Vec<Vec<F8E4M3>> = [0x7e, 0x7e, 0xfe].map(|x| vec![F8E4M3::from_bits(x); 40]).to_vec();
            assert_eq!(bits(&reduced(&bytes, &config, &sum)), vec![0x7e; 40], "448 + 448 - 448 = 448");
            let bytes: Vec<Vec<F8E4M3>> = [0x7e, 0x7e].map(|x| vec![F8E4M3::from_bits(x); 40]).to_vec();
            assert_eq!(bits(&reduced(&bytes, &config, &sum)), vec![0x7e; 40], "896 saturates to 448");
        }
    }
}

#[test]
fn each_rank_multiplies_by_its_own_factor() {
    for transport in TRANSPORTS {
        for algorithm in
            [None, Some(Algorithm::OneShot), Some(Algorithm::Ring), Some(Algorithm::Tree), Some(Algorithm::Halving)]
        {
            let config = Config { algorithm, ..config(transport) };
            for count in [1usize, 100, 30_000] {
                let float = |rank: usize| ReduceOp::PreMulSum(Scalar::Float([0.5, 2.0, -3.0][rank]));
                let got = reduced(&[vec![4.0f32; count], vec![8.0; count], vec![1.0; count]], &config, float);
                assert!(got.iter().all(|x| *x == 2.0 + 16.0 - 3.0), "{algorithm:?}");
                let integer = |rank: usize| ReduceOp::PreMulSum(Scalar::Integer([100, -7, 1][rank]));
                let got = reduced(&[vec![3i8; count], vec![9; count], vec![5; count]], &config, integer);
                assert!(got.iter().all(|x| *x == 300i32.wrapping_sub(63).wrapping_add(5) as i8), "integers wrap");
            }
        }
        // The product is made in f32 from the unrounded factor, and rounded with the sum.
        let config = Config { algorithm: Some(Algorithm::OneShot), ..config(transport) };
        let third = |_| ReduceOp::PreMulSum(Scalar::Float(1.0 / 3.0));
        let inputs = [vec![bf16::from_f32(1.0); 50], vec![bf16::from_f32(2.0); 50]];
        assert_eq!(reduced(&inputs, &config, third), vec![bf16::from_f32(1.0); 50]);
    }
}

/// The reproducible result of some elements, which lie at `offset` of a vector of `len`.
fn window_of_result(config: &Config, size: usize, len: usize, offset: usize) -> Vec<u8> {
    let inputs: Vec<Vec<f32>> = (0..size)
        .map(|rank| {
            let mut data = vec![1.0; len];
            let inside = (0..PROBE).map(|at| rough(rank, at));
            data[offset..offset + PROBE].iter_mut().zip(inside).for_each(|(to, x)| *to = x);
            data
        })
        .collect();
    bits(&reduced(&inputs, config, always(ReduceOp::Sum))[offset..offset + PROBE])
}

/// Elements that are looked for at many places.
const PROBE: usize = 50;

/// What the bits must be: the order of rank, in f32.
fn in_order_of_rank(size: usize) -> Vec<u8> {
    let sum = |at: usize| (0..size).map(|rank| rough(rank, at)).reduce(|a, b| a + b).unwrap();
    bits(&(0..PROBE).map(sum).collect::<Vec<f32>>())
}

#[test]
fn reproducible_bits_do_not_depend_on_length_place_chunk_or_transport() {
    for size in [2usize, 3, 5, 8] {
        let expected = in_order_of_rank(size);
        for transport in TRANSPORTS {
            for chunk_bytes in [None, Some(64), Some(1000), Some(128 << 10)] {
                let config = Config { reproducible: true, chunk_bytes, ..config(transport) };
                for (len, offset) in [(50, 0), (51, 1), (200, 77), (3000, 1234), (20_000, 16_360), (100_000, 99_950)] {
                    let got = window_of_result(&config, size, len, offset);
                    assert_eq!(
                        got, expected,
                        "{size} ranks over {transport:?}, chunks of {chunk_bytes:?}, at {offset} of {len}"
                    );
                }
            }
        }
    }
}

#[test]
fn reproducible_bits_do_not_depend_on_the_algorithm_and_others_are_refused() {
    let size = 5;
    let expected = in_order_of_rank(size);
    for algorithm in Algorithm::ALL {
        let transport = Transport::Shm;
        let config = Config { reproducible: true, algorithm: Some(algorithm), ..config(transport) };
        match algorithm {
            Algorithm::OneShot | Algorithm::TwoShot => {
                for (len, offset) in [(50, 0), (70_000, 33_333)] {
                    assert_eq!(window_of_result(&config, size, len, offset), expected, "{algorithm}");
                }
            }
            _ => {
                let errors =
                    on_each_rank(size, &config, |comm| comm.all_reduce(&mut [1f32; 50], ReduceOp::Sum).unwrap_err());
                for error in errors {
                    let Error::Choice { what, .. } = &error else { panic!("{error}") };
                    let by_order = matches!(algorithm, Algorithm::Ring | Algorithm::Tree | Algorithm::Halving);
                    assert!(what.contains(algorithm.name()) && what.contains("reproducible") == by_order, "{what}");
                }
            }
        }
    }
    // A reduce to one rank and a reduce-scatter give the bits of an all-reduce.
    let config = Config { reproducible: true, ..config(Transport::Shm) };
    let of_ranks = on_each_rank(size, &config, |comm| {
        let own: Vec<f32> = (0..PROBE).map(|at| rough(comm.rank(), at)).collect();
        let mut at_root = own.clone();
        comm.reduce(&mut at_root, ReduceOp::Sum, 3).expect("reduce");
        let mut part = vec![0f32; PROBE / 5];
        comm.reduce_scatter(&own, &mut part, ReduceOp::Sum).expect("reduce_scatter");
        (bits(&at_root), bits(&part))
    });
    assert_eq!(of_ranks[3].0, expected);
    assert_eq!(of_ranks.iter().flat_map(|(_, part)| part.clone()).collect::<Vec<u8>>(), expected);
}

#[test]
fn reproducible_bits_do_not_depend_on_registration() {
    for transport in TRANSPORTS {
        let config = Config { reproducible: true, ..config(transport) };
        let plain = on_each_rank(3, &config, |comm| sums_of(comm, false));
        let registered = on_each_rank(3, &config, |comm| sums_of(comm, true));
        let owner = Config { algorithm: Some(Algorithm::Owner), ..config };
        let owned = on_each_rank(3, &owner, |comm| sums_of(comm, true));
        assert_eq!(plain[0][..4 * PROBE], in_order_of_rank(3));
        assert!([&plain, &registered, &owned].into_iter().flatten().all(|bits| *bits == plain[0]));
    }
}

/// The bits of a sum in plain or registered memory.
fn sums_of(comm: &Communicator, registered: bool) -> Vec<u8> {
    let own: Vec<f32> = (0..9000).map(|at| rough(comm.rank(), at)).collect();
    if registered {
        let mut memory = comm.alloc::<f32>(9000).expect("registered memory");
        memory.copy_from_slice(&own);
        comm.all_reduce(&mut memory, ReduceOp::Sum).expect("all_reduce");
        bits(&memory)
    } else {
        let mut memory = own;
        comm.all_reduce(&mut memory, ReduceOp::Sum).expect("all_reduce");
        bits(&memory)
    }
}

/// An all-reduce by sessions over the reference links, with settings that a communicator doesn't offer.
fn by_sessions(world: &World, tuning: &Tuning, count: usize) -> Vec<Vec<u8>> {
    let links = LocalLinks::world_of(world, ringtree::plan::MIN_SLOTS);
    let settings = Settings {
        name: "sessions".into(),
        world: world.clone(),
        tuning: tuning.clone(),
        timeout: Duration::from_secs(60),
        point_lane: POINT_TO_POINT.max(ringtree::plan::MOST_CHANNELS),
        cache: ringtree::exec::USUAL_CACHE,
    };
    std::thread::scope(|threads| {
        let ranks: Vec<_> = links
            .into_iter()
            .enumerate()
            .map(|(rank, links)| {
                let settings = settings.clone();
                threads.spawn(move || {
                    let mut data: Vec<f32> = (0..count).map(|at| rough(rank, at)).collect();
                    let call = Call::new(Collective::AllReduce, DataType::F32, Reduction::Sum, 0, count as u64);
                    let at = data.as_mut_ptr();
                    // SAFETY: `data` has the call's length and lives until it has been performed.
                    let request = unsafe { Request::collective(call, ReduceOp::Sum, at.cast(), at.cast()) };
                    Session::new(links, settings).perform(&request).expect("all_reduce");
                    bits(&data)
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().expect("a rank")).collect()
    })
}

#[test]
fn reproducible_bits_do_not_depend_on_channels() {
    let count = 10_000;
    let sum = |at: usize| (0..4).map(|rank| rough(rank, at)).reduce(|a, b| a + b).unwrap();
    let expected = bits(&(0..count).map(sum).collect::<Vec<f32>>());
    for channels in [1, 2, 3, 7] {
        for algorithm in [Algorithm::OneShot, Algorithm::TwoShot] {
            let tuning = Tuning {
                channels: Some(channels),
                algorithm: Some(algorithm),
                reproducible: true,
                ..Tuning::default()
            };
            // Nor on where ranks are.
            for world in [World::flat(4), World::in_order(&[1, 2, 1, 0], &[vec![1]])] {
                for got in by_sessions(&world, &tuning, count) {
                    assert!(got == expected, "{algorithm} on {channels} channels");
                }
            }
        }
    }
}

#[test]
fn ranks_in_domains_end_with_the_same_bits_near_the_exact_sum() {
    let racks = World::in_order(&[2, 0, 1, 2, 0, 3], &[vec![0, 2]]);
    let hierarchy = [&[2u32, 2][..], &[3, 1, 2], &[4, 4]].map(|sizes| (World::domains(sizes), Algorithm::Hierarchy));
    let in_racks = [Algorithm::Hierarchy, Algorithm::Ring, Algorithm::Tree, Algorithm::Halving];
    for (world, algorithm) in hierarchy.into_iter().chain(in_racks.map(|algorithm| (racks.clone(), algorithm))) {
        let tuning = Tuning { algorithm: Some(algorithm), ..Tuning::default() };
        let ranks = world.size() as usize;
        for count in [1, 100, 40_000] {
            let all = by_sessions(&world, &tuning, count);
            assert!(all.iter().all(|other| *other == all[0]), "{algorithm} {world:?}: ranks end with different bits");
            for (at, got) in all[0].chunks(4).enumerate() {
                let got = f64::from(f32::from_ne_bytes(got.try_into().unwrap()));
                let inputs = (0..ranks).map(|rank| f64::from(rough(rank, at)));
                let (exact, size) = inputs.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
                assert!((got - exact).abs() <= ranks as f64 * f64::from(f32::EPSILON) * size, "{got} {exact}");
            }
        }
    }
}
