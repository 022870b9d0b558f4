//! Hints to the caches. They change nothing that a program can see but its speed, and any address will do.
//!
//! Tried for the slots of short messages and dropped, since nothing became faster: to fetch the next one while this one is read, and to
//! claim it for writing (prefetchw) once this one is published. On a Zen 2 a claim does nothing to a line that this core has and another
//! one has a copy of, which is what a line is that was only read; and lines that are handed back (`transport::shm::handback`) move fast
//! enough without.

/// Asks for a line that is read soon.
#[inline(always)]
pub fn fetch(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address, valid or not, changes nothing that a program can see.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
