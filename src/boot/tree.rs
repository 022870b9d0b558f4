//! The tree in which news and data travel.
//!
//! ```text
//!                      root (a thread of the process that made the id)
//!            ┌───────────┬───┴────────────┐
//!          rank 0      rank 1     …     rank 31            each rank with children runs a hub like the root's
//!        ┌───┴───┐   ┌───┴───┐
//!       32  …   63   64  …  95   …
//! ```
//!
//! With the root as node 0 and rank r as node r + 1, the parent of node k is (k - 1) / 32.

/// How many children a node has at most.
pub(crate) const FAN_OUT: usize = 32;

/// The rank above; `None`: the root.
pub(crate) fn parent(rank: usize) -> Option<usize> {
    (rank / FAN_OUT).checked_sub(1)
}

/// The ranks right below a rank, or below the root.
pub(crate) fn children(of: Option<usize>, size: usize) -> std::ops::Range<usize> {
    let first = of.map_or(0, |rank| FAN_OUT * (rank + 1));
    first.min(size)..(first + FAN_OUT).min(size)
}

/// By which of its children (itself for its own rank) a hub reaches `rank`; `None`: it is not below this hub.
pub(crate) fn way_to(hub: Option<usize>, rank: usize) -> Option<usize> {
    if hub == Some(rank) {
        return hub;
    }
    let mut at = rank;
    loop {
        match (parent(at), hub) {
            (above, hub) if above == hub => return Some(at),
            (Some(above), _) => at = above,
            (None, _) => return None,
        }
    }
}

/// How many levels of hubs are below a hub.
pub(crate) fn depth_below(hub: Option<usize>, size: usize) -> u32 {
    let mut depth = 0;
    let mut first = children(hub, size).start;
    while !children(Some(first), size).is_empty() && first < size {
        depth += 1;
        first = children(Some(first), size).start;
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_is_the_child_of_its_parent_and_of_no_other() {
        for size in [1, 2, 32, 33, 64, 100, 1056, 1057, 5000] {
            let mut seen = vec![0; size];
            for hub in std::iter::once(None).chain((0..size).map(Some)) {
                for child in children(hub, size) {
                    seen[child] += 1;
                    assert_eq!(parent(child), hub);
                }
            }
            assert!(seen.iter().all(|&count| count == 1), "{size}");
        }
    }

    #[test]
    fn the_way_down_begins_with_a_child_of_the_hub() {
        for rank in 0..5000 {
            let top = way_to(None, rank).unwrap();
            assert_eq!(parent(top), None);
            assert_eq!(way_to(Some(rank), rank), Some(rank));
            if let Some(above) = parent(rank) {
                assert_eq!(way_to(Some(above), rank), Some(rank));
            }
        }
        assert_eq!(way_to(Some(1), 32), None);
        assert_eq!(way_to(Some(0), 1056), Some(32));
    }

    #[test]
    fn the_depth_grows_with_the_size() {
        let depth = |size| depth_below(None, size);
        assert_eq!([depth(1), depth(32), depth(33), depth(1056), depth(1057)], [0, 0, 1, 1, 2]);
        assert_eq!(depth_below(Some(0), 1056), 0);
        assert_eq!(depth_below(Some(0), 1057), 1);
    }
}
