//! Checksums of messages: CRC-32C, as storage and iSCSI have it.
//!
//! ```text
//!   published ── sum ──> kept with the message ──> sum again as it is sent: the same ──> header ──> wire ──> sum of what came: the same
//!                                                        no: its memory changed                        no: it changed on the way
//! ```

use super::frame::{Frame, HEADER};
use super::peer::Nonsense;

/// Bytes of a header with checksums: the frame's own, the payload's sum, and the sum of both.
pub(super) const SUMMED: usize = HEADER + 8;

/// The checksum of a message.
///
/// # Safety
/// `at` is valid for reads of `len` bytes, which nobody writes meanwhile.
pub(super) unsafe fn sum(at: *const u8, len: usize) -> u32 {
    if len == 0 {
        return 0;
    }
    // SAFETY: the caller's contract.
    crc32c::crc32c(unsafe { std::slice::from_raw_parts(at, len) })
}

/// A frame's header as it goes over a carrier, and how long it is.
pub(super) fn header(frame: &Frame, checked: bool) -> ([u8; SUMMED], usize) {
    let plain = frame.encode();
    if checked {
        return (with_sums(&plain, frame.sum), SUMMED);
    }
    let mut bytes = [0; SUMMED];
    bytes[..HEADER].copy_from_slice(&plain);
    (bytes, HEADER)
}

/// What is said of a header that can't be believed in anything.
pub(super) fn broken_header(over: &str, index: u8) -> Nonsense {
    let what = format!(
        "a header over {over} {index} whose checksum is wrong: it was changed on the way, in the network, a device, a kernel, or memory \
         there or here"
    );
    Nonsense(what.into())
}

/// A frame's header with the sum of its payload, and with one of its own: lengths and numbers are read before the payload has come.
fn with_sums(header: &[u8; HEADER], payload: u32) -> [u8; SUMMED] {
    let mut bytes = [0; SUMMED];
    bytes[..HEADER].copy_from_slice(header);
    bytes[HEADER..HEADER + 4].copy_from_slice(&payload.to_le_bytes());
    let own = crc32c::crc32c(&bytes[..HEADER + 4]);
    bytes[HEADER + 4..].copy_from_slice(&own.to_le_bytes());
    bytes
}

/// The header without its sums, and the one of its payload; nothing if its own is wrong.
pub(super) fn without_sums(bytes: &[u8; SUMMED]) -> Option<([u8; HEADER], u32)> {
    let (checked, own) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(checked) != u32::from_le_bytes(*own) {
        return None;
    }
    let (header, payload) = checked.split_first_chunk::<HEADER>()?;
    Some((*header, u32::from_le_bytes(*payload.first_chunk()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_one_that_everybody_calls_crc_32c() {
        let text = b"123456789";
        // SAFETY: nobody writes to a constant.
        assert_eq!(unsafe { sum(text.as_ptr(), text.len()) }, 0xe306_9283);
        // SAFETY: nothing is read.
        assert_eq!(unsafe { sum(std::ptr::null(), 0) }, 0);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let header = std::array::from_fn(|at| at as u8);
        let bytes = with_sums(&header, 7);
        assert_eq!(without_sums(&bytes), Some((header, 7)));
        for bit in 0..8 * SUMMED {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(without_sums(&flipped), None, "bit {bit}");
        }
    }
}
