//! From a type, a reduction and a level to the one loop that does it: chosen when the call is made, not for each step.

use super::fold::{Work, run};
#[cfg(target_arch = "aarch64")]
use super::level::Neon;
#[cfg(target_arch = "x86_64")]
use super::level::{Avx2, Avx512};
use super::level::{Level, Portable};
use super::number::{Combine, Least, Most, Number, Product, Sum};
use crate::types::{DataType, Reduction};
use float8::{F8E4M3, F8E5M2};
use half::{bf16, f16};

/// A loop. Its caller keeps the contract of [`super::Kernel::fold`] and has seen that its level is available.
pub(super) type Run = unsafe fn(&Work<'_>);

/// The loop for a type and a reduction at a level. A level of another architecture gets the portable one.
pub(super) fn select(level: Level, dtype: DataType, reduction: Reduction) -> Run {
    match dtype {
        DataType::I8 => for_type::<i8>(level, reduction),
        DataType::U8 => for_type::<u8>(level, reduction),
        DataType::I32 => for_type::<i32>(level, reduction),
        DataType::U32 => for_type::<u32>(level, reduction),
        DataType::I64 => for_type::<i64>(level, reduction),
        DataType::U64 => for_type::<u64>(level, reduction),
        DataType::F16 => for_type::<f16>(level, reduction),
        DataType::F32 => for_type::<f32>(level, reduction),
        DataType::F64 => for_type::<f64>(level, reduction),
        DataType::Bf16 => for_type::<bf16>(level, reduction),
        DataType::F8E4M3 => for_type::<F8E4M3>(level, reduction),
        DataType::F8E5M2 => for_type::<F8E5M2>(level, reduction),
    }
}

fn for_type<T: Number>(level: Level, reduction: Reduction) -> Run {
    match reduction {
        Reduction::Sum | Reduction::Average | Reduction::PreMulSum => for_combination::<T, Sum>(level),
        Reduction::Product => for_combination::<T, Product>(level),
        Reduction::Min => for_combination::<T, Least>(level),
        Reduction::Max => for_combination::<T, Most>(level),
    }
}

fn for_combination<T: Number, O: Combine>(level: Level) -> Run {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => run_avx512::<T, O>,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => run_avx2::<T, O>,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => run_neon::<T, O>,
        _ => run_portable::<T, O>,
    }
}

unsafe fn run_portable<T: Number, O: Combine>(work: &Work<'_>) {
    // SAFETY: the caller's contract.
    unsafe { run::<T, O, Portable>(work) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
unsafe fn run_avx2<T: Number, O: Combine>(work: &Work<'_>) {
    // SAFETY: the caller's contract.
    unsafe { run::<T, O, Avx2>(work) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c")]
unsafe fn run_avx512<T: Number, O: Combine>(work: &Work<'_>) {
    // SAFETY: the caller's contract.
    unsafe { run::<T, O, Avx512>(work) }
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn run_neon<T: Number, O: Combine>(work: &Work<'_>) {
    // SAFETY: the caller's contract.
    unsafe { run::<T, O, Neon>(work) }
}
