//! What an element holds, told without numbers: whose contributions, how many, and in which order they were combined.
//!
//! Two 64-bit fingerprints stand for a set of contributions and for a tree of combinations, so that a value is 24 bytes at any number
//! of ranks. A wrong value passes for a right one with a chance of 2⁻⁶⁴ an element.

use crate::types::{DataType, Reduction};

/// How far a value has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Nothing was ever written here.
    Unset = 0,
    /// As the user gave it: not yet scaled by a pre-multiplied sum.
    Raw = 1,
    /// One contribution, or several combined.
    Partial = 2,
    /// Finished: an average has been divided.
    Final = 3,
}

/// One element. `writer` and `reader` belong to the memory cell that holds it (see `memory`), not to the value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    /// The sum of the contributions' fingerprints, modulo 2⁶⁴.
    pub sum: u64,
    /// The tree of combinations.
    pub order: u64,
    /// How many contributions.
    pub count: u32,
    /// How far it has come.
    pub kind: Kind,
    /// The channel that wrote this cell last, from 1; 0: none.
    pub writer: u8,
    /// The channel that read this cell since, from 1; 0: none; [`MANY`]: several.
    pub reader: u8,
}

/// More than one channel.
pub(super) const MANY: u8 = u8::MAX;

const _: () = assert!(size_of::<Value>() == 24);

/// The finaliser of splitmix64: every bit of the argument moves every bit of the result.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const FINISHED: u64 = 0x243f_6a88_85a3_08d3;
const ROUNDED: u64 = 0x1319_8a2e_0370_7344;

/// The fingerprint of element `at` of the input of `rank`.
pub(super) const fn fingerprint(rank: u32, at: u64) -> u64 {
    mix(at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mix(rank as u64 + 0x5851_f42d_4c95_7f2d))
}

/// The order of `left ⊕ right`. Not symmetric, not associative.
pub(super) const fn joined(left: u64, right: u64) -> u64 {
    mix(left.rotate_left(23).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ right)
}

impl Value {
    /// What memory holds before anything is written to it.
    pub const UNSET: Value = Value { sum: 0, order: 0, count: 0, kind: Kind::Unset, writer: 0, reader: 0 };

    /// Element `at` of the input of `rank`, as the user gave it.
    #[inline]
    pub const fn raw(rank: u32, at: u64) -> Value {
        let print = fingerprint(rank, at);
        Value { sum: print, order: print, count: 1, kind: Kind::Raw, writer: 0, reader: 0 }
    }

    /// `self ⊕ right`.
    #[inline]
    pub const fn join(self, right: Value) -> Value {
        Value {
            sum: self.sum.wrapping_add(right.sum),
            order: joined(self.order, right.order),
            count: self.count.saturating_add(right.count),
            kind: Kind::Partial,
            writer: 0,
            reader: 0,
        }
    }
}

/// How the call's arithmetic shows in the order of a value: two results with the same order have the same bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arithmetic {
    /// Whether the collective combines elements at all.
    pub reduces: bool,
    /// Whether a step rounds what it accumulated wider: 16- and 8-bit floats, unless the reduction picks one operand.
    rounds: bool,
}

impl Arithmetic {
    /// The arithmetic of a reduction of that type.
    pub fn of(reduces: bool, dtype: DataType, reduction: Reduction) -> Arithmetic {
        let narrow = dtype.is_float() && dtype.size() < 4;
        Arithmetic { reduces, rounds: narrow && !matches!(reduction, Reduction::Max | Reduction::Min) }
    }

    /// What a step that combined operands, or finished them, leaves behind.
    #[inline]
    pub const fn stored(self, mut value: Value, finish: bool) -> Value {
        if finish {
            value.order = mix(value.order ^ FINISHED);
            value.kind = Kind::Final;
        }
        if self.rounds {
            value.order = mix(value.order ^ ROUNDED);
        }
        value
    }

    /// The order of a plain left fold of element `at` over all ranks in ascending order, made and finished by one step.
    pub fn left_fold(self, ranks: u32, at: u64) -> u64 {
        let mut value = Value::raw(0, at);
        for rank in 1..ranks {
            value = value.join(Value::raw(rank, at));
        }
        self.stored(value, true).order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_value_tells_trees_apart_that_have_the_same_contributions() {
        let [a, b, c] = [0, 1, 2].map(|rank| Value::raw(rank, 5));
        let left = a.join(b).join(c);
        let right = a.join(b.join(c));
        let turned = b.join(a).join(c);
        assert_eq!((left.sum, left.count), (right.sum, right.count));
        assert_eq!(left.sum, turned.sum);
        assert_ne!(left.order, right.order);
        assert_ne!(left.order, turned.order);
        assert_ne!(right.order, turned.order);
    }

    #[test]
    fn narrow_floats_tell_how_often_they_were_rounded() {
        let narrow = Arithmetic::of(true, DataType::Bf16, Reduction::Sum);
        let wide = Arithmetic::of(true, DataType::F32, Reduction::Sum);
        let [a, b, c] = [0, 1, 2].map(|rank| Value::raw(rank, 5));
        let in_two_steps = |how: Arithmetic| how.stored(how.stored(a.join(b), false).join(c), true).order;
        assert_eq!(in_two_steps(wide), wide.left_fold(3, 5));
        assert_ne!(in_two_steps(narrow), narrow.left_fold(3, 5));
    }
}
