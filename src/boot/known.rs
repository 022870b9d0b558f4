//! What ranks know of each other that have met before, in another communicator or by the way they were started.

use super::failure::Failure;

/// What a rank knows of the others before it has met them.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    /// The rank whose process made the id.
    pub(crate) creator: Option<usize>,
    /// A rank that is gone, and how that was noticed: asked again and again while this one waits for the others to come.
    pub(crate) lost: &'a dyn Fn() -> Option<(usize, String)>,
}

impl Known<'_> {
    pub(crate) fn nothing() -> Known<'static> {
        Known { creator: None, lost: &|| None }
    }

    /// The failure of a start that one of them will not come to.
    pub(super) fn failure(&self) -> Option<Failure> {
        (self.lost)().map(|(rank, how)| Failure::Lost { rank, how })
    }
}
