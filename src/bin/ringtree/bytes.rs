//! Sizes, read and printed. K, M, G and T are powers of 1024, as in nccl-tests.

const UNITS: [(&str, u64); 4] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];

/// Reads `8`, `64K`, `1.5M`, `2GiB`, `128m`. For clap: an error says what would be right.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no size; write bytes with K, M, G or T behind them, as 8, 64K, 1.5M or 2G");
    let lower = text.trim().to_ascii_lowercase();
    let bare = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let unit = UNITS.iter().find(|(name, _)| bare.ends_with(&name.to_ascii_lowercase()));
    let (digits, unit) = unit.map_or((bare, 1), |(name, unit)| (&bare[..bare.len() - name.len()], *unit));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(part) || part.len() > 9 || digits.ends_with('.') {
        return Err(wrong());
    }
    let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(unit)).ok_or_else(wrong)?;
    let part = part.parse::<u64>().unwrap_or(0) as u128 * unit as u128 / 10u128.pow(part.len() as u32);
    whole.checked_add(part as u64).ok_or_else(wrong)
}

/// `8 B`, `64 KiB`, `1.5 MiB`: short, for people.
pub(crate) fn human(bytes: u64) -> String {
    match scaled(bytes) {
        (number, "") => format!("{number} B"),
        (number, unit) => format!("{number} {unit}iB"),
    }
}

/// `8`, `64K`, `1.5M`: shorter still, for axes and options.
pub(crate) fn short(bytes: u64) -> String {
    let (number, unit) = scaled(bytes);
    format!("{number}{unit}")
}

/// Megabits a second, for people: `25 Gb/s`, `100 Mb/s`; nothing when it is unknown.
pub(crate) fn bit_rate(megabits: u32) -> Option<String> {
    match megabits {
        0 => None,
        rate if rate >= 1_000 => Some(format!("{} Gb/s", f64::from(rate) / 1e3)),
        rate => Some(format!("{rate} Mb/s")),
    }
}

fn scaled(bytes: u64) -> (String, &'static str) {
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        None => (bytes.to_string(), ""),
        Some((name, unit)) if bytes.is_multiple_of(*unit) => ((bytes / unit).to_string(), name),
        Some((name, unit)) => {
            let text = format!("{:.1}", bytes as f64 / *unit as f64);
            (text.strip_suffix(".0").unwrap_or(&text).to_string(), name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_nccl_tests_does() {
        for (text, bytes) in [
            ("8", 8),
            ("1K", 1024),
            ("1k", 1024),
            ("32M", 32 << 20),
            ("2G", 2 << 30),
            ("1.5M", 3 << 19),
            ("64KiB", 65536),
            ("64KB", 65536),
            ("12B", 12),
            ("1T", 1 << 40),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for text in ["", "K", "-1", "1.K", "1e6", "12X", "1.2.3", "99999999999T", "0x10", " ", "1,5M", "¼"] {
            assert!(parse(text).unwrap_err().contains("64K"), "{text}");
        }
    }

    #[test]
    fn sizes_are_printed_short() {
        for (bytes, short_form, human_form) in [
            (0, "0", "0 B"),
            (1023, "1023", "1023 B"),
            (1024, "1K", "1 KiB"),
            (1536, "1.5K", "1.5 KiB"),
            (1025, "1K", "1 KiB"),
            (128 << 20, "128M", "128 MiB"),
            (5 << 40, "5T", "5 TiB"),
        ] {
            assert_eq!((short(bytes).as_str(), human(bytes).as_str()), (short_form, human_form));
        }
    }
}
