//! How fast one core reduces and copies: `cargo bench --bench kernels`. The rate counts every byte read or written
//! once.
//!
//! `RINGTREE_SIMD=avx2` or `portable` shows a lower level.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringtree::exec::kernel::{Kernel, Operand, Sink, copy};
use ringtree::{DataType, ReduceOp};
use std::time::Duration;

/// What a call costs at all; in the cache; beyond it.
const SIZES: [(&str, usize); 3] = [("64B", 64), ("256KiB", 256 << 10), ("16MiB", 16 << 20)];

/// Memory of its own whose bytes are finite in every type and lie at the start of a line.
struct Buffer {
    words: Vec<u64>,
    start: usize,
}

impl Buffer {
    fn new(bytes: usize) -> Buffer {
        let words = vec![0x3131_3131_3131_3131; bytes / 8 + 8];
        let start = words.as_ptr().cast::<u8>().align_offset(64);
        Buffer { words, start }
    }

    fn at(&mut self) -> *mut u8 {
        self.words.as_mut_ptr().cast::<u8>().wrapping_add(self.start)
    }
}

fn sums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sum");
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    // A message of 0 leaves the sum as it is, however often it is taken.
    for dtype in [DataType::F32, DataType::Bf16, DataType::F16, DataType::F8E4M3] {
        for (size, bytes) in SIZES {
            for (kind, stream, operands) in [("plain", false, 2), ("stream", true, 2), ("fold8", false, 8)] {
                let kernel = Kernel::new(dtype, ReduceOp::Sum, 8).expect("a level");
                let mut memory: Vec<Buffer> = (0..operands).map(|_| Buffer::new(bytes)).collect();
                for buffer in &mut memory[1..] {
                    buffer.words.fill(0);
                }
                let operands: Vec<Operand> = memory.iter_mut().map(|b| Operand { at: b.at(), raw: false }).collect();
                let sinks = [Sink::new(operands[0].at.cast_mut(), stream)];
                group.throughput(Throughput::Bytes(((operands.len() + 1) * bytes) as u64));
                group.bench_function(BenchmarkId::new(format!("{dtype}/{kind}"), size), |bench| {
                    // SAFETY: every buffer has `bytes` bytes, and the sink is the first operand.
                    bench.iter(|| unsafe { kernel.fold(&operands, &sinks, bytes / dtype.size(), false) })
                });
            }
        }
    }
}

fn copies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("copy");
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    for (size, bytes) in SIZES {
        for (kind, stream) in [("plain", false), ("stream", true)] {
            let (mut source, mut sink) = (Buffer::new(bytes), Buffer::new(bytes));
            let (from, sinks) = (source.at(), [Sink::new(sink.at(), stream)]);
            group.throughput(Throughput::Bytes(2 * bytes as u64));
            group.bench_function(BenchmarkId::new(kind, size), |bench| {
                // SAFETY: two buffers of `bytes` bytes.
                bench.iter(|| unsafe { copy(from, &sinks, bytes) })
            });
        }
    }
}

criterion_group!(benches, sums, copies);
criterion_main!(benches);
