//! Element types.

use core::fmt;

/// The type of one element. The numbers are NCCL's, so that the C ABI needs no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DataType {
    /// Signed 8-bit integer.
    I8 = 0,
    /// Unsigned 8-bit integer.
    U8 = 1,
    /// Signed 32-bit integer.
    I32 = 2,
    /// Unsigned 32-bit integer.
    U32 = 3,
    /// Signed 64-bit integer.
    I64 = 4,
    /// Unsigned 64-bit integer.
    U64 = 5,
    /// IEEE half precision.
    F16 = 6,
    /// IEEE single precision.
    F32 = 7,
    /// IEEE double precision.
    F64 = 8,
    /// The upper half of an `f32`.
    Bf16 = 9,
    /// 8-bit float, 4 bits of exponent, finite and NaN only.
    F8E4M3 = 10,
    /// 8-bit float, 5 bits of exponent, with infinities.
    F8E5M2 = 11,
}

impl DataType {
    /// Every type, in the order of its number.
    pub const ALL: [DataType; 12] = [
        DataType::I8,
        DataType::U8,
        DataType::I32,
        DataType::U32,
        DataType::I64,
        DataType::U64,
        DataType::F16,
        DataType::F32,
        DataType::F64,
        DataType::Bf16,
        DataType::F8E4M3,
        DataType::F8E5M2,
    ];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DataType::I8 | DataType::U8 | DataType::F8E4M3 | DataType::F8E5M2 => 1,
            DataType::F16 | DataType::Bf16 => 2,
            DataType::I32 | DataType::U32 | DataType::F32 => 4,
            DataType::I64 | DataType::U64 | DataType::F64 => 8,
        }
    }

    /// Whether the type is a floating-point one.
    pub const fn is_float(self) -> bool {
        (self as u8) >= DataType::F16 as u8
    }

    /// The name users write: `f32`, `bf16`, `f8e4m3`.
    pub const fn name(self) -> &'static str {
        match self {
            DataType::I8 => "i8",
            DataType::U8 => "u8",
            DataType::I32 => "i32",
            DataType::U32 => "u32",
            DataType::I64 => "i64",
            DataType::U64 => "u64",
            DataType::F16 => "f16",
            DataType::F32 => "f32",
            DataType::F64 => "f64",
            DataType::Bf16 => "bf16",
            DataType::F8E4M3 => "f8e4m3",
            DataType::F8E5M2 => "f8e5m2",
        }
    }

    /// The type of that number, or nothing: numbers that come from a peer or through the C ABI are never trusted.
    pub fn from_number(number: u8) -> Option<DataType> {
        DataType::ALL.get(number as usize).copied()
    }

    /// Reads both our names and the names of nccl-tests (`int8`, `float`, `half`, `bfloat16`, …).
    pub fn from_name(name: &str) -> Option<DataType> {
        Some(match name {
            "i8" | "int8" | "char" => DataType::I8,
            "u8" | "uint8" => DataType::U8,
            "i32" | "int32" | "int" => DataType::I32,
            "u32" | "uint32" => DataType::U32,
            "i64" | "int64" => DataType::I64,
            "u64" | "uint64" => DataType::U64,
            "f16" | "half" | "float16" => DataType::F16,
            "f32" | "float" | "float32" => DataType::F32,
            "f64" | "double" | "float64" => DataType::F64,
            "bf16" | "bfloat16" => DataType::Bf16,
            "f8e4m3" | "fp8_e4m3" => DataType::F8E4M3,
            "f8e5m2" | "fp8_e5m2" => DataType::F8E5M2,
            _ => return None,
        })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
