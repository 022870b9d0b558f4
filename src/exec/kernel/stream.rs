//! Copies, and stores that go round the caches.
//!
//! A plain store first reads the line that it will overwrite. A non-temporal store of a whole line does not, which
//! saves a third of the memory traffic of `a + b` where the sink is larger than the caches (EPYC 9005, f32, 64 MiB:
//! 14.6 GB/s in place of 10.4), and costs half of the speed where it is not (256 KiB: 48 in place of 96). So the caller
//! decides.

use super::Sink;
use super::level::Isa;
#[cfg(target_arch = "x86_64")]
use super::level::Level;
use super::short::{SHORT, copy_line, copy_short};
use crate::sys::cache::fetch;
use std::ptr;

/// Bytes of a cache line: non-temporal stores write whole ones, at their alignment.
pub(super) const LINE: usize = 64;

/// Bytes that are taken at a time where there are several sinks, so that the source comes from memory once.
const SPAN: usize = 8192;

/// Copies `bytes` bytes to every sink, with non-temporal stores where the sink asks for them. Bits are kept as they
/// are.
///
/// # Safety
///
/// `source` is valid for reads and every sink for writes of `bytes` bytes, and nobody else writes the source or touches
/// a sink meanwhile. A sink is exactly the source (it is left alone) or does not overlap it; sinks do not overlap each
/// other.
#[inline]
pub unsafe fn copy(source: *const u8, sinks: &[Sink], bytes: usize) {
    if bytes <= SHORT && sinks.iter().all(|sink| !sink.stream) {
        for sink in sinks {
            // SAFETY: the caller's contract.
            unsafe { copy_to_one(source, *sink, bytes) };
        }
        return;
    }
    // SAFETY: the caller's contract.
    unsafe { copy_lines(source, sinks, bytes) }
}

/// The same for one sink.
///
/// # Safety
///
/// As for [`copy`].
#[inline(always)]
pub unsafe fn copy_to_one(source: *const u8, sink: Sink, bytes: usize) {
    // The order counts: with the shortest first, 10 instructions less, an all-reduce of 1 KiB between two near cores takes 189 ns, not 183.
    // SAFETY: the caller's contract; nothing is longer than it may be, and a sink that is not the source does not overlap it.
    unsafe {
        if bytes > SHORT || sink.stream {
            copy_lines(source, &[sink], bytes);
        } else if ptr::eq(source, sink.at) {
        } else if bytes > LINE {
            copy_short(source, sink.at, bytes);
        } else {
            copy_line(source, sink.at, bytes);
        }
    }
}

/// What is long, or goes round the caches.
///
/// # Safety
///
/// As for [`copy`].
#[inline(never)]
unsafe fn copy_lines(source: *const u8, sinks: &[Sink], bytes: usize) {
    let span = if sinks.len() == 1 { bytes } else { SPAN };
    let mut at = 0;
    while at < bytes {
        let length = span.min(bytes - at);
        // SAFETY: `at + length <= bytes`; the caller vouches for that many bytes at each pointer.
        unsafe { put(source.add(at), sinks, at, length) };
        at += length;
    }
    fence(sinks);
}

/// Copies `length` bytes to the place `at` of every sink. [`fence`] must follow, once.
///
/// # Safety
///
/// As for [`copy`], with `source` readable for `length` bytes and the sinks writable up to `at + length`.
#[inline]
pub(super) unsafe fn put(source: *const u8, sinks: &[Sink], at: usize, length: usize) {
    for sink in sinks {
        // SAFETY: the caller vouches for `at + length` bytes of the sink.
        let to = unsafe { sink.at.add(at) };
        if ptr::eq(source, to) {
            continue;
        }
        if sink.stream {
            // SAFETY: the sink is not the source, so it does not overlap it.
            unsafe { stream(source, to, length, ahead_of(sink, at)) };
        } else {
            // SAFETY: as above.
            unsafe { ptr::copy_nonoverlapping(source, to, length) };
        }
    }
}

/// Makes non-temporal stores visible before any later store: without it, a peer could see the flag before the data.
#[inline(always)]
pub(super) fn fence(sinks: &[Sink]) {
    #[cfg(target_arch = "x86_64")]
    if sinks.iter().any(|sink| sink.stream) {
        // SAFETY: every x86-64 processor has it.
        unsafe { std::arch::x86_64::_mm_sfence() };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = sinks;
}

/// Whole lines of `to` with non-temporal stores, what is before and after them with plain ones.
///
/// # Safety
///
/// `from` is valid for reads, `to` for writes of `length` bytes; they do not overlap.
unsafe fn stream(from: *const u8, to: *mut u8, length: usize, ahead: *const u8) {
    let head = to.align_offset(LINE).min(length);
    let lines = (length - head) / LINE;
    let tail = head + lines * LINE;
    // SAFETY: head, lines and tail are consecutive and end at `length`. `to + head` is aligned to a line where there is
    // a line.
    unsafe {
        ptr::copy_nonoverlapping(from, to, head);
        for i in 0..lines {
            let at = head + i * LINE;
            // Copies of 16 MiB through slots, out of place between two near cores of a Zen 2: 2.68 ms in place of 3.00.
            if !ahead.is_null() {
                fetch(ahead.wrapping_add(at));
            }
            store_line::<super::level::Portable>(to.add(at), from.add(at));
        }
        ptr::copy_nonoverlapping(from.add(tail), to.add(tail), length - tail);
    }
}

/// What to fetch while byte `at` of a sink and what follows it are written, or null.
#[inline(always)]
pub(super) fn ahead_of(sink: &Sink, at: usize) -> *const u8 {
    if sink.ahead.is_null() { sink.ahead } else { sink.ahead.wrapping_add(at) }
}

/// One line from anywhere to an aligned place, with a non-temporal store.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of [`LINE`] bytes; `to` is aligned to them.
#[inline(always)]
pub(super) unsafe fn store_line<L: Isa>(to: *mut u8, from: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: each level stores exactly LINE bytes at `to`, whose alignment the caller vouches for; loads take any
        // alignment; the level is available, as it is for all code that is generic over an `Isa`.
        unsafe {
            match L::LEVEL {
                Level::Avx512 => _mm512_stream_si512(to.cast(), _mm512_loadu_si512(from.cast())),
                Level::Avx2 => {
                    let (low, high) = (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast()));
                    _mm256_stream_si256(to.cast(), low);
                    _mm256_stream_si256(to.add(32).cast(), high);
                }
                _ => {
                    // Written out: as a loop over an array it was once compiled to calls.
                    let from: *const __m128i = from.cast();
                    let to: *mut __m128i = to.cast();
                    let (a, b) = (_mm_loadu_si128(from), _mm_loadu_si128(from.add(1)));
                    let (c, d) = (_mm_loadu_si128(from.add(2)), _mm_loadu_si128(from.add(3)));
                    _mm_stream_si128(to, a);
                    _mm_stream_si128(to.add(1), b);
                    _mm_stream_si128(to.add(2), c);
                    _mm_stream_si128(to.add(3), d);
                }
            }
        }
    }
    // Stable Rust has no non-temporal store for other processors; a plain one gives the same bytes.
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller vouches for LINE bytes at both.
    unsafe {
        ptr::copy_nonoverlapping(from, to, LINE)
    };
}
