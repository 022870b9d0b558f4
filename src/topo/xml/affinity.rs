//! Masks of processors as the kernel and NCCL write them: groups of 32 bits, the highest first: `00000000,0000ffff`.

use crate::topo::graph::{CpuSet, MAX_CPUS};

/// Reads a mask; nothing when it is none.
pub(super) fn parse(text: &str) -> Option<CpuSet> {
    let mut cpus = Vec::new();
    for (group, digits) in text.trim().rsplit(',').enumerate() {
        let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u32::from_str_radix(digits, 16).ok().filter(|_| fits)?;
        for bit in (0..32).filter(|bit| bits >> bit & 1 == 1) {
            let cpu = u32::try_from(group).ok()?.checked_mul(32)? + bit;
            if cpu >= MAX_CPUS {
                return None;
            }
            cpus.push(cpu);
        }
    }
    Some(cpus.into_iter().collect())
}

/// Writes one.
pub(super) fn text(cpus: &CpuSet) -> String {
    let groups = cpus.last().unwrap_or(0) / 32;
    let group = |group: u32| {
        let bits = (0..32).filter(|bit| cpus.contains(group * 32 + bit)).fold(0u32, |bits, bit| bits | 1 << bit);
        format!("{bits:08x}")
    };
    (0..=groups).rev().map(group).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read_and_written() {
        for (mask, list) in [
            ("00000000", ""),
            ("0000ffff", "0-15"),
            ("000000ff,00000000", "32-39"),
            ("80000000,00000000,00000001", "0,95"),
        ] {
            let cpus = parse(mask).unwrap();
            assert_eq!(cpus.to_string(), list, "{mask}");
            assert_eq!(parse(&text(&cpus)), Some(cpus), "{mask}");
        }
        assert_eq!(parse("0000,000fffff").unwrap().to_string(), "0-19");
        for wrong in ["", "xyz", "0,,1", "123456789", "-1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
