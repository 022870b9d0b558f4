//! Reductions.

use core::fmt;

/// How operands are combined, without the scalar of a pre-multiplied sum. The numbers are NCCL's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reduction {
    /// `a + b`; integers wrap.
    Sum = 0,
    /// `a * b`; integers wrap.
    Product = 1,
    /// The larger; a NaN anywhere makes the result NaN.
    Max = 2,
    /// The smaller; a NaN anywhere makes the result NaN.
    Min = 3,
    /// The sum divided by the number of ranks; integers divide the wrapped sum and truncate towards zero.
    Average = 4,
    /// Each rank's input multiplied by that rank's scalar, then summed.
    PreMulSum = 5,
}

impl Reduction {
    /// Every reduction, in the order of its number.
    pub const ALL: [Reduction; 6] =
        [Reduction::Sum, Reduction::Product, Reduction::Max, Reduction::Min, Reduction::Average, Reduction::PreMulSum];

    /// The name that nccl-tests uses.
    pub const fn name(self) -> &'static str {
        match self {
            Reduction::Sum => "sum",
            Reduction::Product => "prod",
            Reduction::Max => "max",
            Reduction::Min => "min",
            Reduction::Average => "avg",
            Reduction::PreMulSum => "mulsum",
        }
    }

    /// The whole of it, where no scalar belongs to it.
    pub const fn without_scalar(self) -> Option<ReduceOp> {
        match self {
            Reduction::Sum => Some(ReduceOp::Sum),
            Reduction::Product => Some(ReduceOp::Product),
            Reduction::Max => Some(ReduceOp::Max),
            Reduction::Min => Some(ReduceOp::Min),
            Reduction::Average => Some(ReduceOp::Average),
            Reduction::PreMulSum => None,
        }
    }

    /// The reduction of that number, or nothing.
    pub fn from_number(number: u8) -> Option<Reduction> {
        Reduction::ALL.get(number as usize).copied()
    }

    /// Reads nccl-tests' names and the long ones.
    pub fn from_name(name: &str) -> Option<Reduction> {
        Some(match name {
            "sum" => Reduction::Sum,
            "prod" | "product" => Reduction::Product,
            "max" => Reduction::Max,
            "min" => Reduction::Min,
            "avg" | "average" => Reduction::Average,
            "mulsum" | "premulsum" => Reduction::PreMulSum,
            _ => return None,
        })
    }
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The factor of a pre-multiplied sum. It may differ from rank to rank. For float elements it is taken as given; an integer
/// element type multiplies by the integer, wrapping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// For float elements; 32-bit and narrower types multiply in `f32`.
    Float(f64),
    /// For integer elements.
    Integer(i64),
}

/// What a user asks for: a reduction, with its scalar where it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReduceOp {
    /// See [`Reduction::Sum`].
    Sum,
    /// See [`Reduction::Product`].
    Product,
    /// See [`Reduction::Max`].
    Max,
    /// See [`Reduction::Min`].
    Min,
    /// See [`Reduction::Average`].
    Average,
    /// See [`Reduction::PreMulSum`].
    PreMulSum(Scalar),
}

impl ReduceOp {
    /// The reduction without its scalar: what ranks must agree on.
    pub const fn reduction(self) -> Reduction {
        match self {
            ReduceOp::Sum => Reduction::Sum,
            ReduceOp::Product => Reduction::Product,
            ReduceOp::Max => Reduction::Max,
            ReduceOp::Min => Reduction::Min,
            ReduceOp::Average => Reduction::Average,
            ReduceOp::PreMulSum(_) => Reduction::PreMulSum,
        }
    }
}
