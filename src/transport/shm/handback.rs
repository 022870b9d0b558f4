//! What has been read is handed back written: the only reader of a message writes a word to each line of it before it releases it.
//!
//! ```text
//!   a line that was only read                     a line that was read and written
//!   writer has it, reader has a copy              reader has it
//!   writer writes: asks for all copies to go      writer writes: it moves over
//!        140 ns between far cores                      80 ns
//!   reader reads: gets a copy again               reader reads: it moves over, and may be written at once
//! ```
//!
//! A processor that moves a written line to whoever reads it, as Zen does, takes a line that two cores write by turns for what it is. The
//! reader's store costs next to nothing, since the line has come to it whole, and the writer's next one costs less. One way between two
//! near cores of a Zen 2: 4 KiB 241 -> 181 ns, 16 KiB 757 -> 540, 64 KiB 2570 -> 2170. What goes to and fro in shuttles is like that
//! anyway: whoever has read a shuttle writes it next.
//!
//! Lines that several ranks read are left as they are: they would pull them from each other.

use super::ring::Line;

/// Bytes of a cache line.
const LINE: usize = size_of::<Line>();

/// Bytes of a message up to which its lines are handed back: of a longer one many have left the reader's caches by the time that it is
/// read. Broadcast of 1 MiB in messages of 128 KiB: 33 us without, 38 with.
const MOST: usize = 64 << 10;

/// Hands the lines of a message back.
///
/// # Safety
/// `len` bytes at `at`, which is the beginning of a line, have been read for the last time, lie in memory that this rank may write, and
/// nobody else reads or writes their lines until this rank has released the message.
#[inline]
pub(super) unsafe fn hand_back(at: *mut u8, len: usize) {
    let len = if len > MOST { 0 } else { len };
    for line in (0..len).step_by(LINE) {
        // SAFETY: the line begins inside the message, which begins at one.
        unsafe { at.add(line).cast::<u64>().write(0) };
    }
}
