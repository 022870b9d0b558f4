//! Bytes of several ranks into whole lines.

/// A line longer than this is broken, so that a rank that never ends its line can't fill our memory.
const MAX_LINE: usize = 1 << 20;

/// The unfinished line of one stream of one rank.
pub(super) struct Lines {
    prefix: String,
    unfinished: Vec<u8>,
}

impl Lines {
    pub(super) fn new(prefix: String) -> Lines {
        Lines { prefix, unfinished: Vec::new() }
    }

    /// Takes what a rank wrote; whole lines go to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.unfinished.extend_from_slice(part);
            if part.ends_with(b"\n") || self.unfinished.len() >= MAX_LINE {
                self.finish(out);
            }
        }
    }

    /// The stream is at its end: an unfinished line goes out as one.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.unfinished.is_empty() {
            return;
        }
        out.extend_from_slice(self.prefix.as_bytes());
        out.append(&mut self.unfinished);
        if !out.ends_with(b"\n") {
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(lines: &mut Lines, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        lines.push(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn half_a_line_waits_for_its_end() {
        let mut lines = Lines::new("[3] ".to_string());
        assert_eq!(pushed(&mut lines, b"one\ntw"), "[3] one\n");
        assert_eq!(pushed(&mut lines, b"o\n\nthree"), "[3] two\n[3] \n");
        let mut out = Vec::new();
        lines.finish(&mut out);
        lines.finish(&mut out);
        assert_eq!(out, b"[3] three\n");
    }

    #[test]
    fn an_endless_line_is_broken_and_memory_stays_bounded() {
        let mut lines = Lines::new(String::new());
        let mut out = Vec::new();
        for _ in 0..40 {
            lines.push(&[b'x'; 65536], &mut out);
            assert!(lines.unfinished.len() <= MAX_LINE);
        }
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 2);
    }
}
