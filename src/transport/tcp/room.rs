//! Memory of one message: grows to the longest one that it has held, and begins on a cache line.

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Room for a message.
#[derive(Default)]
pub(super) struct Room(Vec<Line>);

impl Room {
    /// Its first byte, of at least `len`.
    pub(super) fn of(&mut self, len: usize) -> *mut u8 {
        let lines = len.div_ceil(size_of::<Line>()).max(1);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0; 64]));
        }
        self.0.as_mut_ptr().cast()
    }

    /// Its first byte, to read what was written.
    pub(super) fn start(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Room({} lines)", self.0.len())
    }
}
