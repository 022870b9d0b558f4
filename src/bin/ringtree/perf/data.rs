//! What goes in and what must come out: small numbers that depend on every bit of the position and on the rank, chosen so that every type
//! holds every result exactly, whatever the order of the reduction.

use ringtree::{Element, Reduction};

/// An element that can be made from, and compared as, a small number.
pub(super) trait Number: Element {
    fn from_number(number: f64) -> Self;
    fn number(self) -> f64;
}

macro_rules! numbers {
    ($($type:ty => $make:expr, $read:expr;)*) => {$(
        impl Number for $type {
            fn from_number(number: f64) -> Self {
                $make(number)
            }
            fn number(self) -> f64 {
                $read(self)
            }
        }
    )*};
}

numbers! {
    i8 => |x| x as i8, |x| x as f64;
    u8 => |x| x as u8, |x| x as f64;
    i32 => |x| x as i32, |x| x as f64;
    u32 => |x| x as u32, |x| x as f64;
    i64 => |x| x as i64, |x| x as f64;
    u64 => |x| x as u64, |x| x as f64;
    f32 => |x| x as f32, |x| x as f64;
    f64 => |x| x, |x| x;
    half::f16 => half::f16::from_f64, half::f16::to_f64;
    half::bf16 => half::bf16::from_f64, half::bf16::to_f64;
    float8::F8E4M3 => float8::F8E4M3::from_f64, |x: float8::F8E4M3| x.to_f64();
    float8::F8E5M2 => float8::F8E5M2::from_f64, |x: float8::F8E5M2| x.to_f64();
}

/// The scalar of a pre-multiplied sum, the same on all ranks here.
pub(super) const SCALAR: i64 = 2;

/// At most so many ranks add something at any one position, so that sums stay exact in 8-bit floats.
const MOST_ADDENDS: u32 = 4;

/// Some bits of a position and a rank.
fn mix(position: u64, rank: u32) -> u32 {
    let mixed =
        (position + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(rank + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
    (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as u32
}

/// What a rank puts at a position of its input.
pub(super) fn input(reduction: Option<Reduction>, rank: u32, ranks: u32, position: u64) -> f64 {
    let turn = (u64::from(rank) + position) % u64::from(ranks);
    let adds = turn < u64::from(MOST_ADDENDS);
    match reduction {
        None | Some(Reduction::Min | Reduction::Max) => f64::from(mix(position, rank) % 15),
        Some(Reduction::Sum | Reduction::PreMulSum) => f64::from(u32::from(adds) * (mix(position, rank) & 1)),
        Some(Reduction::Product) => f64::from(1 + u32::from(turn < 3) * (mix(position, rank) & 1)),
        // The same everywhere but for the position: the average is that number, exactly, even where the sum is rounded to a power of two.
        Some(Reduction::Average) => f64::from(mix(position, 0) & 1),
    }
}

/// What the reduction of all ranks' inputs at a position is.
pub(super) fn reduced(reduction: Reduction, ranks: u32, position: u64) -> f64 {
    let inputs = (0..ranks).map(|rank| input(Some(reduction), rank, ranks, position));
    match reduction {
        Reduction::Sum => inputs.sum(),
        Reduction::PreMulSum => SCALAR as f64 * inputs.sum::<f64>(),
        Reduction::Product => inputs.product(),
        Reduction::Max => inputs.fold(f64::MIN, f64::max),
        Reduction::Min => inputs.fold(f64::MAX, f64::min),
        Reduction::Average => inputs.sum::<f64>() / f64::from(ranks),
    }
}

/// What is written where a result is to come: nothing that is a result.
pub(super) const POISON: f64 = 111.0;
