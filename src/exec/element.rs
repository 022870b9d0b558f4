//! The Rust types that stand for the element types of a call.

use crate::types::DataType;
use float8::{F8E4M3, F8E5M2};
use half::{bf16, f16};

/// A Rust type whose values in memory are elements of a [`DataType`].
///
/// # Safety
///
/// The type has the size and the meaning of [`Element::TYPE`], has no padding, and every bit pattern is a value of it:
/// the library fills slices of it with bytes that came from other ranks.
pub unsafe trait Element: Copy + Send + Sync + 'static {
    /// The element type that a call states to the other ranks.
    const TYPE: DataType;
}

macro_rules! elements {
    ($($rust:ty => $name:ident,)*) => {$(
        // SAFETY: a primitive number, or a transparent wrapper of an unsigned integer; the size is compared below.
        unsafe impl Element for $rust {
            const TYPE: DataType = DataType::$name;
        }
        const _: () = assert!(size_of::<$rust>() == DataType::$name.size());
    )*};
}

elements! {
    i8 => I8,
    u8 => U8,
    i32 => I32,
    u32 => U32,
    i64 => I64,
    u64 => U64,
    f16 => F16,
    f32 => F32,
    f64 => F64,
    bf16 => Bf16,
    F8E4M3 => F8E4M3,
    F8E5M2 => F8E5M2,
}
