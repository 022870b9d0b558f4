//! Memory of one message: grows to the longest one that it has held, and begins on a cache line. That of a long message to be sent is known, so
//! that an RDMA device may read it where it lies.

use crate::sys::known::Own;

/// From so many bytes on a message has pages of its own.
const PAGES_FROM: usize = 8 << 10;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Room for a message.
#[derive(Default)]
pub(super) struct Room {
    lines: Vec<Line>,
    /// In place of the lines.
    pages: Option<Own>,
    to_send: bool,
}

impl Room {
    /// For messages that are sent.
    pub(super) fn to_send() -> Room {
        Room { to_send: true, ..Room::default() }
    }

    /// Its first byte, of at least `len`, until it is asked for more.
    pub(super) fn of(&mut self, len: usize) -> *mut u8 {
        let room = self.pages.as_ref().map_or(size_of_val(&self.lines[..]), Own::bytes);
        if room < len.max(1) {
            self.grow(len.max(1));
        }
        self.start().cast_mut()
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        (self.lines, self.pages) = (Vec::new(), None);
        if self.to_send && len >= PAGES_FROM {
            self.pages = Own::new(len).ok();
        }
        if self.pages.is_none() {
            self.lines.resize(len.div_ceil(size_of::<Line>()), Line([0; 64]));
        }
    }

    /// Its first byte, to read what was written.
    pub(super) fn start(&self) -> *const u8 {
        match &self.pages {
            Some(pages) => pages.base(),
            None => self.lines.as_ptr().cast(),
        }
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.pages.as_ref().map_or(size_of_val(&self.lines[..]), Own::bytes);
        write!(f, "Room({bytes} bytes)")
    }
}
