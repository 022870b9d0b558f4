//! Every type, reduction and level against a slow model made of plain Rust and the `half` and `float8` crates.

use super::*;
use float8::{F8E4M3, F8E5M2};
use half::{bf16, f16};

/// A number outside the kernels. Integers are kept modulo 2^128, which keeps them modulo 2^64.
#[derive(Clone, Copy, Debug)]
enum Value {
    Integer(i128),
    Single(f32),
    Double(f64),
}

fn read(dtype: DataType, bytes: &[u8]) -> Value {
    let mut all = [0u8; 8];
    all[..dtype.size()].copy_from_slice(&bytes[..dtype.size()]);
    let bits = u64::from_le_bytes(all);
    match dtype {
        DataType::I8 => Value::Integer((bits as i8).into()),
        DataType::U8 | DataType::U32 | DataType::U64 => Value::Integer(bits.into()),
        DataType::I32 => Value::Integer((bits as i32).into()),
        DataType::I64 => Value::Integer((bits as i64).into()),
        DataType::F16 => Value::Single(f16::from_bits(bits as u16).to_f32()),
        DataType::Bf16 => Value::Single(bf16::from_bits(bits as u16).to_f32()),
        DataType::F8E4M3 => Value::Single(F8E4M3::from_bits(bits as u8).to_f32()),
        DataType::F8E5M2 => Value::Single(F8E5M2::from_bits(bits as u8).to_f32()),
        DataType::F32 => Value::Single(f32::from_bits(bits as u32)),
        DataType::F64 => Value::Double(f64::from_bits(bits)),
    }
}

fn write(dtype: DataType, value: Value) -> Vec<u8> {
    let bits = match (value, dtype) {
        (Value::Integer(x), _) => x as u64,
        (Value::Double(x), _) if x.is_nan() => 0x7FF8_0000_0000_0000,
        (Value::Single(x), _) if x.is_nan() => canonical_nan(dtype),
        (Value::Double(x), _) => x.to_bits(),
        (Value::Single(x), DataType::F32) => x.to_bits().into(),
        (Value::Single(x), DataType::F16) => f16::from_f32(x).to_bits().into(),
        (Value::Single(x), DataType::Bf16) => bf16::from_f32(x).to_bits().into(),
        (Value::Single(x), DataType::F8E4M3) => F8E4M3::from_f32(x).to_bits().into(),
        (Value::Single(x), DataType::F8E5M2) => F8E5M2::from_f32(x).to_bits().into(),
        (Value::Single(_), _) => unreachable!("{dtype} is not combined in f32"),
    };
    bits.to_le_bytes()[..dtype.size()].to_vec()
}

/// The one NaN of a type that is combined in `f32`, as the documentation gives it.
fn canonical_nan(dtype: DataType) -> u64 {
    match dtype {
        DataType::F32 => 0x7FC0_0000,
        DataType::F16 => 0x7E00,
        DataType::Bf16 => 0x7FC0,
        DataType::F8E4M3 => 0x7F,
        _ => 0x7E,
    }
}

/// IEEE 754-2019 `minimum`, from its definition.
fn minimum(a: f64, b: f64) -> f64 {
    match (a.is_nan() || b.is_nan(), a == 0.0 && b == 0.0) {
        (true, _) => f64::NAN,
        (_, true) => {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        }
        _ => {
            if a < b {
                a
            } else {
                b
            }
        }
    }
}

fn combine(reduction: Reduction, a: Value, b: Value) -> Value {
    let sums = matches!(reduction, Reduction::Sum | Reduction::Average | Reduction::PreMulSum);
    match (a, b) {
        (Value::Integer(a), Value::Integer(b)) => Value::Integer(match reduction {
            _ if sums => a.wrapping_add(b),
            Reduction::Product => a.wrapping_mul(b),
            Reduction::Min => a.min(b),
            _ => a.max(b),
        }),
        (Value::Single(a), Value::Single(b)) => Value::Single(match reduction {
            _ if sums => a + b,
            Reduction::Product => a * b,
            Reduction::Min => minimum(a.into(), b.into()) as f32,
            _ => -minimum((-a).into(), (-b).into()) as f32,
        }),
        (Value::Double(a), Value::Double(b)) => Value::Double(match reduction {
            _ if sums => a + b,
            Reduction::Product => a * b,
            Reduction::Min => minimum(a, b),
            _ => -minimum(-a, -b),
        }),
        _ => unreachable!("one type"),
    }
}

fn divide(dtype: DataType, sum: Value, ranks: u32) -> Value {
    match sum {
        // Wrapped to the type first.
        Value::Integer(_) => match read(dtype, &write(dtype, sum)) {
            Value::Integer(wrapped) => Value::Integer(wrapped / i128::from(ranks)),
            other => other,
        },
        Value::Single(sum) => Value::Single(sum / ranks as f32),
        Value::Double(sum) => Value::Double(sum / f64::from(ranks)),
    }
}

fn scale(value: Value, scalar: Scalar) -> Value {
    match (value, scalar) {
        (Value::Integer(x), Scalar::Integer(factor)) => Value::Integer(x.wrapping_mul(factor.into())),
        (Value::Single(x), Scalar::Float(factor)) => Value::Single(x * factor as f32),
        (Value::Double(x), Scalar::Float(factor)) => Value::Double(x * factor),
        _ => unreachable!("the tests give each type its kind of scalar"),
    }
}

/// What a fold must give: element by element, from the documentation.
fn model(dtype: DataType, op: ReduceOp, ranks: u32, operands: &[(&[u8], bool)], finish: bool) -> Vec<u8> {
    let size = dtype.size();
    let element = |i: usize| {
        let raw_bytes = |k: usize| &operands[k].0[i * size..(i + 1) * size];
        let divides = finish && op == ReduceOp::Average;
        let scales = |raw: bool| match op {
            ReduceOp::PreMulSum(scalar) if raw => Some(scalar),
            _ => None,
        };
        if operands.len() == 1 && !divides && scales(operands[0].1).is_none() {
            return raw_bytes(0).to_vec();
        }
        let value = |k: usize| {
            let value = read(dtype, raw_bytes(k));
            // Rounded at once: elsewhere the same contribution is a message.
            scales(operands[k].1).map_or(value, |scalar| read(dtype, &write(dtype, scale(value, scalar))))
        };
        let all = (1..operands.len()).fold(value(0), |sum, k| combine(op.reduction(), sum, value(k)));
        write(dtype, if divides { divide(dtype, all, ranks) } else { all })
    };
    (0..operands[0].0.len() / size).flat_map(element).collect()
}

/// SplitMix64: a failing case is found again because the seed is part of the case.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }
}

/// Elements for one operand. By position: tame numbers, any bits at all, or a mix of zeros, subnormals, infinities and
/// NaNs.
fn elements(dtype: DataType, count: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = Vec::with_capacity(count * dtype.size());
    for i in 0..count {
        let bits = random.next();
        let tame = (bits % 4001) as f64 / 1000.0 - 2.0;
        let value = match (i % 3, dtype) {
            (0, DataType::F64) => Value::Double(tame),
            (0, _) if dtype.is_float() => Value::Single(tame as f32),
            (1, DataType::F64) => Value::Double([0.0, -0.0, f64::INFINITY, 5e-324, f64::NAN, 1.0][(bits % 6) as usize]),
            (1, _) if dtype.is_float() => {
                Value::Single([0.0, -0.0, f32::INFINITY, 6e-8, -1.5e-3, f32::NAN, 1e-40][(bits % 7) as usize])
            }
            _ => {
                bytes.extend_from_slice(&bits.to_le_bytes()[..dtype.size()]);
                continue;
            }
        };
        bytes.extend_from_slice(&write(dtype, value));
    }
    bytes
}

/// Memory with guard bytes round the part that is used, at a chosen distance from a cache line.
struct Guarded {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

const GUARD: usize = 128;
const FILL: u8 = 0xA5;

impl Guarded {
    fn new(length: usize, misaligned: usize) -> Guarded {
        let bytes = vec![FILL; length + 3 * GUARD];
        let start = GUARD + bytes.as_ptr().wrapping_add(GUARD).align_offset(64) + misaligned;
        Guarded { bytes, start, length }
    }

    fn of(content: &[u8], misaligned: usize) -> Guarded {
        let mut guarded = Guarded::new(content.len(), misaligned);
        guarded.bytes[guarded.start..guarded.start + content.len()].copy_from_slice(content);
        guarded
    }

    fn at(&mut self) -> *mut u8 {
        self.bytes[self.start..].as_mut_ptr()
    }

    fn content(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    fn guards_are_whole(&self) -> bool {
        let outside = self.bytes[..self.start].iter().chain(&self.bytes[self.start + self.length..]);
        outside.into_iter().all(|&byte| byte == FILL)
    }
}

fn levels() -> Vec<Level> {
    Level::ALL.into_iter().filter(|level| level.available()).collect()
}

fn ops(dtype: DataType) -> [ReduceOp; 6] {
    let scalar = if dtype.is_float() { Scalar::Float(0.37) } else { Scalar::Integer(-3) };
    [ReduceOp::Sum, ReduceOp::Product, ReduceOp::Max, ReduceOp::Min, ReduceOp::Average, ReduceOp::PreMulSum(scalar)]
}

/// How the operands and sinks of one fold lie in memory.
#[derive(Clone, Copy, Debug)]
struct Layout {
    sinks: usize,
    /// The operand that the first sink is.
    in_place: Option<usize>,
    /// Distance of operand `k` from a line is `k * misaligned`, that of the sinks likewise.
    misaligned: usize,
    /// Bit `k`: sink `k` is streamed to.
    streamed: usize,
}

/// Folds and compares every bit with `expected`.
fn check(kernel: &Kernel, inputs: &[Vec<u8>], layout: Layout, finish: bool, expected: &[u8], case: &str) {
    let size = kernel.dtype().size();
    let distance = |k: usize| (k + 1) * layout.misaligned % 64;
    let mut memory: Vec<Guarded> =
        inputs.iter().enumerate().map(|(k, bytes)| Guarded::of(bytes, distance(k))).collect();
    let operands: Vec<Operand> =
        memory.iter_mut().enumerate().map(|(k, m)| Operand { at: m.at(), raw: k % 2 == 0 }).collect();
    let mut outputs: Vec<Guarded> = (0..layout.sinks).map(|k| Guarded::new(expected.len(), distance(k + 2))).collect();
    let mut sinks: Vec<Sink> = outputs
        .iter_mut()
        .enumerate()
        .map(|(k, output)| Sink { ahead: output.at(), ..Sink::new(output.at(), layout.streamed >> k & 1 == 1) })
        .collect();
    if let Some(operand) = layout.in_place {
        sinks[0].at = memory[operand].at();
    }
    // SAFETY: each operand and sink is its own vector of `count` elements, but for the first sink, which may be one of
    // the operands.
    unsafe { kernel.fold(&operands, &sinks, expected.len() / size, finish) };
    if let Some(operand) = layout.in_place {
        outputs[0] = Guarded::of(memory[operand].content(), 0);
    }
    for (k, m) in memory.iter().enumerate() {
        assert!(m.guards_are_whole(), "{case}: wrote outside operand {k}");
        assert!(layout.in_place == Some(k) || m.content() == inputs[k], "{case}: operand {k} changed");
    }
    for (k, output) in outputs.iter().enumerate() {
        assert!(output.guards_are_whole(), "{case}: wrote outside sink {k}");
        assert_eq!(output.content(), outputs[0].content(), "{case}: sink {k} has other bits than sink 0");
    }
    let elements = outputs[0].content().chunks(size).zip(expected.chunks(size));
    for (i, (is, should)) in elements.enumerate() {
        assert!(is == should, "{case}: element {i} is {is:02x?}, expected {should:02x?}");
    }
}

fn every_layout_of(dtype: DataType, op: ReduceOp, inputs: &[Vec<u8>], ranks: u32) {
    let slices: Vec<(&[u8], bool)> = inputs.iter().enumerate().map(|(k, b)| (b.as_slice(), k % 2 == 0)).collect();
    for finish in [false, true] {
        let expected = model(dtype, op, ranks, &slices, finish);
        for level in levels() {
            let kernel = Kernel::at_level(level, dtype, op, ranks).unwrap();
            for (sinks, misaligned, streamed) in
                [(1, 0, 0), (1, 7, 0), (1, 0, 1), (1, 3, 1), (2, 0, 2), (2, 5, 1), (3, 0, 0), (3, 0, 7), (3, 1, 5)]
            {
                for in_place in [None, Some(0), Some(inputs.len() - 1)] {
                    let layout = Layout { sinks, in_place, misaligned, streamed };
                    let case = format!("{dtype} {op:?} {level} {} operands finish {finish} {layout:?}", inputs.len());
                    check(&kernel, inputs, layout, finish, &expected, &case);
                }
            }
        }
    }
}

fn every_case_of(dtype: DataType) {
    for op in ops(dtype) {
        // One span of sums is 512 to 4096 elements, so the largest count takes two of them for every type.
        for (operands, count) in [
            (1, 1),
            (1, 131),
            (2, 0),
            (2, 1),
            (2, 63),
            (2, 64),
            (2, 259),
            (3, 65),
            (3, 4161),
            (8, 127),
            (17, 67),
            (17, 579),
        ] {
            let inputs: Vec<Vec<u8>> =
                (0..operands).map(|k| elements(dtype, count, (count * 100 + k) as u64)).collect();
            every_layout_of(dtype, op, &inputs, operands as u32 + 1);
        }
    }
}

macro_rules! each_type {
    ($($name:ident: $dtype:ident,)*) => {$(
        #[test]
        fn $name() {
            every_case_of(DataType::$dtype);
        }
    )*};
}

each_type! {
    i8_folds_are_those_of_the_model: I8,
    u8_folds_are_those_of_the_model: U8,
    i32_folds_are_those_of_the_model: I32,
    u32_folds_are_those_of_the_model: U32,
    i64_folds_are_those_of_the_model: I64,
    u64_folds_are_those_of_the_model: U64,
    f16_folds_are_those_of_the_model: F16,
    f32_folds_are_those_of_the_model: F32,
    f64_folds_are_those_of_the_model: F64,
    bf16_folds_are_those_of_the_model: Bf16,
    f8e4m3_folds_are_those_of_the_model: F8E4M3,
    f8e5m2_folds_are_those_of_the_model: F8E5M2,
}

#[test]
fn a_fold_of_4096_operands_into_one_of_them_adds_them_all() {
    let mut memory: Vec<i32> = (0..4096 * 100).collect();
    let expected: Vec<i32> = (0..100).map(|i| (0..4096i32).map(|k| k * 100 + i).sum()).collect();
    let base: *mut u8 = memory.as_mut_ptr().cast();
    let operands: Vec<Operand> = (0..4096).map(|k| Operand { at: base.wrapping_add(k * 400), raw: false }).collect();
    let sinks: Vec<Sink> = operands.iter().map(|o| Sink::cached(o.at.cast_mut())).collect();
    let kernel = Kernel::new(DataType::I32, ReduceOp::Sum, 4096).unwrap();
    // SAFETY: operand and sink `k` are the same 100 elements, row `k` of the vector.
    unsafe { kernel.fold(&operands, &sinks, 100, false) };
    assert!(memory.chunks(100).all(|row| row == expected));
}

#[test]
fn a_copy_keeps_every_bit_with_plain_and_streaming_stores() {
    for length in
        [0usize, 1, 2, 3, 7, 15, 16, 31, 33, 63, 64, 65, 127, 128, 129, 1000, 4097, 16 << 10, (16 << 10) + 1, 20_001]
    {
        let content = elements(DataType::U8, length, length as u64);
        for misaligned in [0, 1, 31] {
            for (sinks, streamed, in_place) in [(1, 0, false), (1, 1, false), (2, 2, false), (3, 5, true), (1, 1, true)]
            {
                let mut source = Guarded::of(&content, misaligned);
                let mut outputs: Vec<Guarded> =
                    (0..sinks).map(|k| Guarded::new(length, (k + 2) * misaligned % 64)).collect();
                let mut to: Vec<Sink> = outputs
                    .iter_mut()
                    .enumerate()
                    .map(|(k, output)| Sink::new(output.at(), streamed >> k & 1 == 1))
                    .collect();
                if in_place {
                    to[0].at = source.at();
                }
                // SAFETY: each sink is its own vector of `length` bytes, or exactly the source.
                unsafe { copy(source.at(), &to, length) };
                assert!(source.content() == content && source.guards_are_whole());
                for output in outputs.iter().skip(usize::from(in_place)) {
                    assert!(output.content() == content && output.guards_are_whole(), "{length} bytes, {streamed:b}");
                }
            }
        }
    }
}

#[test]
fn one_operand_keeps_the_payload_of_its_nans() {
    let signalling = [0x7FA0_1234u32, 0xFF80_0001, 0x7F80_0000];
    let mut result = [0u32; 3];
    let kernel = Kernel::new(DataType::F32, ReduceOp::Max, 4).unwrap();
    let sink = Sink::cached(result.as_mut_ptr().cast());
    // SAFETY: two arrays of three elements.
    unsafe { kernel.fold(&[Operand { at: signalling.as_ptr().cast(), raw: true }], &[sink], 3, true) };
    assert_eq!(result, signalling);
}

#[test]
fn the_bits_of_a_result_do_not_depend_on_where_the_operands_lie() {
    for dtype in [DataType::F32, DataType::F64, DataType::F16, DataType::Bf16, DataType::F8E5M2] {
        let inputs: Vec<Vec<u8>> = (0..2).map(|k| elements(dtype, 333, 77 + k)).collect();
        for level in levels() {
            for op in ops(dtype) {
                let kernel = Kernel::at_level(level, dtype, op, 3).unwrap();
                let result = |misaligned: usize, streamed: bool| {
                    let mut memory: Vec<Guarded> = inputs.iter().map(|bytes| Guarded::of(bytes, misaligned)).collect();
                    let mut output = Guarded::new(inputs[0].len(), misaligned);
                    let operands: Vec<Operand> = memory.iter_mut().map(|m| Operand { at: m.at(), raw: true }).collect();
                    let sink = Sink::new(output.at(), streamed);
                    // SAFETY: three vectors of 333 elements.
                    unsafe { kernel.fold(&operands, &[sink], 333, true) };
                    output.content().to_vec()
                };
                let first = result(0, false);
                for (misaligned, streamed) in [(0, true), (1, false), (9, true), (40, false)] {
                    assert_eq!(result(misaligned, streamed), first, "{dtype} {op:?} {level} +{misaligned} {streamed}");
                }
            }
        }
    }
}

#[test]
fn a_factor_must_be_a_value_of_the_type() {
    let kernel = |dtype, scalar| Kernel::new(dtype, ReduceOp::PreMulSum(scalar), 2);
    for (dtype, scalar) in [
        (DataType::I32, Scalar::Float(0.5)),
        (DataType::U8, Scalar::Float(-1.0)),
        (DataType::I8, Scalar::Float(128.0)),
        (DataType::U64, Scalar::Float(f64::NAN)),
        (DataType::I64, Scalar::Float(9.3e18)),
        (DataType::F32, Scalar::Integer((1 << 24) + 1)),
        (DataType::F64, Scalar::Integer(i64::MAX)),
    ] {
        let error = kernel(dtype, scalar).expect_err(&format!("{dtype} {scalar:?}"));
        assert!(matches!(error, Error::Misuse { .. }), "{error}");
    }
    for (dtype, scalar) in [
        (DataType::I32, Scalar::Float(-7.0)),
        (DataType::U64, Scalar::Float(18446744073709549568.0)),
        (DataType::U8, Scalar::Integer(-1)),
        (DataType::Bf16, Scalar::Integer(-4)),
        (DataType::F64, Scalar::Integer(1 << 53)),
    ] {
        assert!(kernel(dtype, scalar).unwrap().needs_scaling());
    }
    assert!(!Kernel::new(DataType::F32, ReduceOp::Sum, 2).unwrap().needs_scaling());
    assert!(matches!(Kernel::new(DataType::F32, ReduceOp::Sum, 0), Err(Error::Misuse { .. })));
}

#[test]
fn a_whole_float_factor_multiplies_integers_and_a_whole_integer_factor_floats() {
    let (ints, floats) = ([5i32, -6], [5f32, -6.0]);
    let (mut int_result, mut float_result) = ([0i32; 2], [0f32; 2]);
    let by = |scalar| ReduceOp::PreMulSum(scalar);
    let raw = |at: *const u8| [Operand { at, raw: true }];
    let into = |at: *mut u8| [Sink::cached(at)];
    let kernel = Kernel::new(DataType::I32, by(Scalar::Float(-3.0)), 2).unwrap();
    // SAFETY: two arrays of two elements.
    unsafe { kernel.fold(&raw(ints.as_ptr().cast()), &into(int_result.as_mut_ptr().cast()), 2, true) };
    let kernel = Kernel::new(DataType::F32, by(Scalar::Integer(-3)), 2).unwrap();
    // SAFETY: two arrays of two elements.
    unsafe { kernel.fold(&raw(floats.as_ptr().cast()), &into(float_result.as_mut_ptr().cast()), 2, true) };
    assert_eq!((int_result, float_result), ([-15, 18], [-15.0, 18.0]));
}

#[test]
#[should_panic(expected = "a fold needs an operand")]
fn a_fold_of_nothing_is_a_bug_of_the_caller() {
    let kernel = Kernel::new(DataType::F32, ReduceOp::Sum, 2).unwrap();
    // SAFETY: no element is read or written.
    unsafe { kernel.fold(&[], &[], 0, false) };
}

#[test]
fn a_level_that_the_processor_lacks_is_refused() {
    for level in Level::ALL.into_iter().filter(|level| !level.available()) {
        let error = Kernel::at_level(level, DataType::F32, ReduceOp::Sum, 2).unwrap_err();
        assert!(matches!(error, Error::Choice { .. }), "{error}");
    }
}
