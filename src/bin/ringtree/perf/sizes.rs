//! Which sizes are measured, and how many elements each is.

use super::row::Kind;
use ringtree::Collective;

/// How one size follows from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stride {
    /// So many bytes more.
    Add(u64),
    /// So many times as much.
    Multiply(u64),
}

/// The sizes from the first to the last, as nccl-tests goes through them: the last is included only where the stride hits it.
pub(super) fn sizes(first: u64, last: u64, stride: Stride) -> impl Iterator<Item = u64> {
    let next = move |&size: &u64| match stride {
        Stride::Add(step) => size.checked_add(step),
        Stride::Multiply(factor) => size.checked_mul(factor),
    };
    std::iter::successors(Some(first), next).take_while(move |&size| size <= last)
}

/// Elements of a call of that size: of the whole vector, or of one rank's block where the vector is made of blocks. At least one, so that
/// 8 bytes between 4 ranks move 16.
pub(super) fn elements(kind: Kind, bytes: u64, element: u64, ranks: u64) -> u64 {
    (bytes / element / blocks(kind, ranks)).max(1)
}

/// Blocks of the whole vector.
fn blocks(kind: Kind, ranks: u64) -> u64 {
    match kind {
        Kind::Collective(collective) if collective.has_blocks() => ranks.max(1),
        _ => 1,
    }
}

/// The size that a call of so many elements has: what was asked for, rounded down to whole elements, as nccl-tests does. Sizes below the
/// smallest call stay as they were asked for, so that rows of different numbers of ranks can be compared.
pub(super) fn whole_elements(kind: Kind, bytes: u64, element: u64, ranks: u64) -> u64 {
    let blocks = blocks(kind, ranks);
    bytes.min(elements(kind, bytes, element, ranks).saturating_mul(element).saturating_mul(blocks))
}

/// busbw = algbw × this: what the links carry for each byte of the vector.
pub(super) fn bus_factor(kind: Kind, ranks: u64) -> f64 {
    let share = if ranks == 0 { 0.0 } else { (ranks - 1) as f64 / ranks as f64 };
    match kind {
        Kind::Collective(Collective::AllReduce) => 2.0 * share,
        Kind::Collective(collective) if collective.has_blocks() => share,
        Kind::Collective(_) | Kind::SendRecv => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(first: u64, last: u64, stride: Stride) -> Vec<u64> {
        sizes(first, last, stride).collect()
    }

    #[test]
    fn sizes_go_by_factor_or_by_step_and_stop_at_the_last() {
        assert_eq!(list(8, 64, Stride::Multiply(2)), [8, 16, 32, 64]);
        assert_eq!(list(8, 100, Stride::Multiply(3)), [8, 24, 72]);
        assert_eq!(list(1 << 20, 4 << 20, Stride::Add(1 << 20)), [1 << 20, 2 << 20, 3 << 20, 4 << 20]);
        assert_eq!(list(32 << 20, 32 << 20, Stride::Add(1 << 20)), [32 << 20]);
        assert!(list(9, 8, Stride::Multiply(2)).is_empty());
    }

    #[test]
    fn sizes_end_where_numbers_do() {
        assert_eq!(list(u64::MAX / 2, u64::MAX, Stride::Multiply(2)), [u64::MAX / 2, u64::MAX - 1]);
        assert_eq!(list(u64::MAX, u64::MAX, Stride::Add(1)), [u64::MAX]);
    }

    #[test]
    fn blocks_share_the_vector_and_have_at_least_one_element() {
        let blocks = |bytes, ranks| elements(Kind::Collective(Collective::AllGather), bytes, 4, ranks);
        assert_eq!((blocks(64, 4), blocks(8, 4), blocks(66, 4)), (4, 1, 4));
        assert_eq!(elements(Kind::Collective(Collective::AllReduce), 64, 4, 4), 16);
        assert_eq!(elements(Kind::SendRecv, 64, 4, 4), 16);
    }

    #[test]
    fn sizes_are_those_of_whole_elements_but_never_above_what_was_asked_for() {
        let size = |bytes, ranks| whole_elements(Kind::Collective(Collective::AllGather), bytes, 4, ranks);
        assert_eq!((size(64, 4), size(66, 4), size(79, 4), size(8, 4), size(3, 1)), (64, 64, 64, 8, 3));
        assert_eq!(whole_elements(Kind::SendRecv, 10, 4, 2), 8);
    }

    #[test]
    fn bus_factors_are_those_of_nccl_tests() {
        let factor = |collective| bus_factor(Kind::Collective(collective), 4);
        assert_eq!(factor(Collective::AllReduce), 1.5);
        for collective in [Collective::AllGather, Collective::ReduceScatter, Collective::AllToAll, Collective::Gather] {
            assert_eq!(factor(collective), 0.75);
        }
        assert_eq!((factor(Collective::Broadcast), factor(Collective::Reduce)), (1.0, 1.0));
        assert_eq!(bus_factor(Kind::SendRecv, 2), 1.0);
    }
}
