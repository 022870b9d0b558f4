//! What every call must give, worked out element by element from small integers that every type holds exactly, in whatever order they are
//! combined.

use half::{bf16, f16};
use ringtree::exec::Request;
use ringtree::types::Call;
use ringtree::{Collective, DataType, ReduceOp, Scalar};

/// One collective as all ranks call it: one call a rank, equal but for an unequal all-to-all and for a rank that is out of step.
#[derive(Clone, Debug)]
pub struct Joint {
    pub calls: Vec<Call>,
    pub op: ReduceOp,
    pub in_place: bool,
    /// Makes the contents of the inputs.
    pub seed: u64,
    /// Ranks do not make the same call: no result is right.
    pub torn: bool,
}

/// The factor of pre-multiplied sums.
pub const FACTOR: i64 = 2;

/// The operation of that number, with its factor.
pub fn operation(number: u64, dtype: DataType) -> ReduceOp {
    let factor = if dtype.is_float() { Scalar::Float(FACTOR as f64) } else { Scalar::Integer(FACTOR) };
    let all = [ReduceOp::Sum, ReduceOp::Product, ReduceOp::Max, ReduceOp::Min, ReduceOp::Average];
    all.get(number as usize % 6).copied().unwrap_or(ReduceOp::PreMulSum(factor))
}

/// An element of what a rank puts in.
pub fn element(seed: u64, op: Option<ReduceOp>, rank: u32, index: u64) -> i64 {
    let word = |rank: u32| {
        (seed ^ u64::from(rank) << 40 ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd134_2543_de82_ef95)
    };
    let word = |rank| (word(rank) >> 40) as i64;
    match op {
        Some(ReduceOp::Sum | ReduceOp::PreMulSum(_)) => word(rank) % 2,
        Some(ReduceOp::Product) => 1 + word(rank) % 2,
        // Of equal numbers, so that the average is one too; a lost or a doubled contribution still shows.
        Some(ReduceOp::Average) => 1 + word(0) % 2,
        Some(ReduceOp::Max | ReduceOp::Min) | None => word(rank) % 9,
    }
}

/// An element in memory.
pub fn encode(dtype: DataType, value: i64) -> Vec<u8> {
    let float = value as f32;
    match dtype {
        DataType::I8 => (value as i8).to_ne_bytes().to_vec(),
        DataType::U8 => (value as u8).to_ne_bytes().to_vec(),
        DataType::I32 => (value as i32).to_ne_bytes().to_vec(),
        DataType::U32 => (value as u32).to_ne_bytes().to_vec(),
        DataType::I64 => value.to_ne_bytes().to_vec(),
        DataType::U64 => (value as u64).to_ne_bytes().to_vec(),
        DataType::F16 => f16::from_f32(float).to_ne_bytes().to_vec(),
        DataType::F32 => float.to_ne_bytes().to_vec(),
        DataType::F64 => (value as f64).to_ne_bytes().to_vec(),
        DataType::Bf16 => bf16::from_f32(float).to_ne_bytes().to_vec(),
        DataType::F8E4M3 => vec![float8::F8E4M3::from_f32(float).to_bits()],
        DataType::F8E5M2 => vec![float8::F8E5M2::from_f32(float).to_bits()],
    }
}

/// Where each rank's block begins, and the end.
pub fn starts(call: &Call, size: u32) -> Vec<u64> {
    let block = |rank: u32| call.counts.as_ref().map_or(call.count, |counts| counts[rank as usize]);
    (0..=size).map(|end| (0..end).map(block).sum()).collect()
}

impl Joint {
    pub fn size(&self) -> u32 {
        self.calls.len() as u32
    }

    fn reduces(&self) -> Option<ReduceOp> {
        self.calls[0].collective.reduces().then_some(self.op)
    }

    pub fn input(&self, rank: u32, index: u64) -> i64 {
        element(self.seed, self.reduces(), rank, index)
    }

    fn reduced(&self, index: u64) -> i64 {
        let mut inputs = (0..self.size()).map(|rank| self.input(rank, index));
        match self.op {
            ReduceOp::Sum => inputs.sum(),
            ReduceOp::PreMulSum(_) => inputs.map(|x| x * FACTOR).sum(),
            ReduceOp::Product => inputs.product(),
            ReduceOp::Max => inputs.max().unwrap_or(0),
            ReduceOp::Min => inputs.min().unwrap_or(0),
            ReduceOp::Average => inputs.next().unwrap_or(0),
        }
    }

    /// What element `index` of a rank's output holds afterwards.
    pub fn output(&self, rank: u32, index: u64) -> i64 {
        let call = &self.calls[rank as usize];
        let starts = starts(call, self.size());
        match call.collective {
            Collective::AllReduce | Collective::Reduce => self.reduced(index),
            Collective::ReduceScatter => self.reduced(starts[rank as usize] + index),
            Collective::Broadcast => self.input(call.root, index),
            Collective::Scatter => self.input(call.root, starts[rank as usize] + index),
            Collective::AllGather | Collective::Gather => {
                let from = starts[1..].partition_point(|end| *end <= index);
                self.input(from as u32, index - starts[from])
            }
            Collective::AllToAll => {
                let received = |from: u32| self.sent(from, rank).1;
                let mut begin = 0;
                let mut from = 0;
                while index >= begin + received(from) {
                    begin += received(from);
                    from += 1;
                }
                self.input(from, self.sent(from, rank).0 + index - begin)
            }
            Collective::Barrier => 0,
        }
    }

    /// All-to-all: where what goes from one rank to another lies in its input, and how much it is.
    fn sent(&self, from: u32, to: u32) -> (u64, u64) {
        let starts = starts(&self.calls[from as usize], self.size());
        (starts[to as usize], starts[to as usize + 1] - starts[to as usize])
    }
}

/// The byte that lies around every buffer and in every output before the call.
const FILL: u8 = 0xa5;

/// Bytes before and after a buffer that nobody may touch.
const GUARD: usize = 64;

/// A buffer of a call between guards.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    begin: usize,
    len: usize,
}

impl Buffer {
    /// At an odd address if `shift` says so.
    pub fn new(len: usize, shift: usize) -> Buffer {
        Buffer { bytes: vec![FILL; len + 2 * GUARD + shift], begin: GUARD + shift, len }
    }

    pub fn at(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr().wrapping_add(self.begin)
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[self.begin + at..][..bytes.len()].copy_from_slice(bytes);
    }

    pub fn get(&self, at: usize, len: usize) -> &[u8] {
        assert!(at + len <= self.len);
        &self.bytes[self.begin + at..][..len]
    }

    /// Nothing was written before its beginning or past its end.
    pub fn guards_hold(&self) -> bool {
        let (before, after) = (&self.bytes[..self.begin], &self.bytes[self.begin + self.len..]);
        before.iter().chain(after).all(|byte| *byte == FILL)
    }

    /// Takes the buffer away from its operation: who writes to it from now on is found out.
    pub fn poison(&mut self) {
        self.bytes.fill(FILL);
        self.len = 0;
    }
}

/// A rank's part of a joint call, with its memory.
#[derive(Debug)]
pub struct Part {
    pub input: Buffer,
    /// None: in place.
    pub output: Option<Buffer>,
    input_at: usize,
    output_at: usize,
    output_len: u64,
}

impl Part {
    /// With `input_len` and `output_len` elements, as the plan says.
    pub fn new(joint: &Joint, rank: u32, input_len: u64, output_len: u64, shift: usize) -> Part {
        let call = &joint.calls[rank as usize];
        let item = call.dtype.size();
        let bytes = |elements: u64| elements as usize * item;
        let block = bytes(starts(call, joint.size())[rank as usize]);
        let (mut input_at, mut output_at) = (0, 0);
        let whole = if joint.in_place {
            match call.collective {
                Collective::AllGather | Collective::Gather if output_len > 0 => input_at = block,
                Collective::ReduceScatter | Collective::Scatter if input_len > 0 => output_at = block,
                _ => {}
            }
            bytes(input_len.max(output_len))
        } else {
            bytes(input_len)
        };
        let mut input = Buffer::new(whole, shift);
        for index in 0..input_len {
            input.put(input_at + bytes(index), &encode(call.dtype, joint.input(rank, index)));
        }
        let output = (!joint.in_place).then(|| Buffer::new(bytes(output_len), shift));
        Part { input, output, input_at, output_at, output_len }
    }

    pub fn request(&mut self, joint: &Joint, rank: u32) -> Request {
        let input = self.input.at().wrapping_add(self.input_at);
        let output = self.output.as_mut().map_or(self.input.at(), Buffer::at).wrapping_add(self.output_at);
        // SAFETY: the buffers have the lengths of this rank's part, which whoever submits the request keeps.
        unsafe { Request::collective(joint.calls[rank as usize].clone(), joint.op, input, output) }
    }

    /// What is wrong with the result.
    pub fn verdict(&self, joint: &Joint, rank: u32) -> Result<(), String> {
        let call = &joint.calls[rank as usize];
        let output = self.output.as_ref().unwrap_or(&self.input);
        if !self.guards_hold() {
            return Err(format!("rank {rank} wrote outside its buffers: {call:?}"));
        }
        if joint.torn {
            return Ok(());
        }
        let item = call.dtype.size();
        for index in 0..self.output_len {
            let want = encode(call.dtype, joint.output(rank, index));
            let have = output.get(self.output_at + index as usize * item, item);
            if have != want {
                return Err(format!(
                    "rank {rank}, element {index}: {have:x?} instead of {want:x?}: {call:?} {:?}",
                    joint.op
                ));
            }
        }
        Ok(())
    }

    pub fn guards_hold(&self) -> bool {
        self.input.guards_hold() && self.output.as_ref().is_none_or(Buffer::guards_hold)
    }

    pub fn poison(&mut self) {
        self.input.poison();
        if let Some(output) = &mut self.output {
            output.poison();
        }
    }
}
