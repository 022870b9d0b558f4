//! The table that nccl-tests prints: same columns, same footer, so that people and scripts can read it.

use super::row::{Case, Row};
use ringtree::{DataType, Reduction};
use std::fmt::Write;

/// The lines above the columns.
pub(super) fn header(settings: &[String]) -> String {
    let mut out = String::new();
    for line in settings {
        let _ = writeln!(out, "# {line}");
    }
    let _ = writeln!(out, "# Times are medians over batches of the slowest rank's time for one call.");
    let _ = writeln!(out, "#");
    let side = |name: &str| format!("{name:^33}");
    let _ = writeln!(out, "#{:57}{}  {}", "", side("out-of-place"), side("in-place").trim_end());
    let columns = format!("{:>8}{:>8}{:>8}{:>9}", "time", "algbw", "busbw", "#wrong");
    let _ = writeln!(
        out,
        "#{:>11}{:>14}{:>10}{:>8}{:>8}      {columns}  {columns}",
        "size", "count", "type", "redop", "root"
    );
    let units = format!("{:>8}{:>8}{:>8}{:>9}", "(us)", "(GB/s)", "(GB/s)", "");
    let _ = writeln!(out, "#{:>11}{:>14}{:>32}{}  {}", "(B)", "(elements)", "", units, units.trim_end());
    out
}

/// One line: what was measured out of place and in place for the same case.
pub(super) fn line(out_of_place: Option<&Row>, in_place: Option<&Row>) -> String {
    let Some(case) = out_of_place.or(in_place).map(|row| row.case) else { return String::new() };
    let sides = [side(out_of_place), side(in_place)].join("  ");
    format!("{}{}\n", call(&case), sides.trim_end())
}

/// The line of a case that is not measured.
pub(super) fn planned(case: &Case) -> String {
    let sides = [side(None), side(None)].join("  ");
    format!("{}{}\n", call(case), sides.trim_end())
}

fn call(case: &Case) -> String {
    let redop = case.reduction.map_or("none", Reduction::name);
    let root = case.root.map_or("-1".to_string(), |root| root.to_string());
    let (size, count, name) = (case.bytes, case.count, long_name(case.dtype));
    format!("{size:>12}{count:>14}{name:>10}{redop:>8}{root:>8}      ")
}

fn side(row: Option<&Row>) -> String {
    let Some(row) = row else { return format!("{:>8}{:>8}{:>8}{:>9}", "-", "-", "-", "-") };
    let wrong = row.timing.wrong.map_or("N/A".to_string(), |wrong| wrong.to_string());
    let (algorithm, bus) = (row.algorithm_bandwidth(), row.bus_bandwidth());
    format!("{:>8}{:>8}{:>8}{wrong:>9}", number(row.timing.median), number(algorithm), number(bus))
}

/// At most six characters, two decimals where there is room.
fn number(value: f64) -> String {
    match value {
        v if v >= 9_999.5 => format!("{v:.0}"),
        v if v >= 99.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// The lines below.
pub(super) fn footer(rows: &[Row]) -> String {
    let wrong: u64 = rows.iter().filter_map(|row| row.timing.wrong).sum();
    let verdict = if wrong == 0 { "OK" } else { "FAILED" };
    let sum: f64 = rows.iter().map(Row::bus_bandwidth).sum();
    let average = if rows.is_empty() { 0.0 } else { sum / rows.len() as f64 };
    let unchecked = rows.iter().filter(|row| row.timing.wrong.is_none()).count();
    let unchecked =
        if unchecked == 0 { String::new() } else { format!(" ({unchecked} of {} not checked)", rows.len()) };
    format!("# Out of bounds values : {wrong} {verdict}{unchecked}\n# Avg bus bandwidth    : {average:.6}\n#\n")
}

/// nccl-tests' name of a type.
pub(super) fn long_name(dtype: DataType) -> &'static str {
    match dtype {
        DataType::I8 => "int8",
        DataType::U8 => "uint8",
        DataType::I32 => "int32",
        DataType::U32 => "uint32",
        DataType::I64 => "int64",
        DataType::U64 => "uint64",
        DataType::F16 => "half",
        DataType::F32 => "float",
        DataType::F64 => "double",
        DataType::Bf16 => "bfloat16",
        DataType::F8E4M3 => "f8e4m3",
        DataType::F8E5M2 => "f8e5m2",
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn the_table_reads_as_that_of_nccl_tests() {
        let (small, small_in) = (row(8, false, 0.15), row(8, true, 0.149));
        let large = row(128 << 20, false, 23573.0);
        let mut wrong = row(128 << 20, true, 10042.0);
        wrong.timing.wrong = Some(3);
        let text = header(&["all_reduce, 4 ranks".to_string()])
            + &line(Some(&small), Some(&small_in))
            + &line(Some(&large), Some(&wrong))
            + &footer(&[small.clone(), small_in.clone(), large.clone(), wrong.clone()]);
        let expected = "\
# all_reduce, 4 ranks
# Times are medians over batches of the slowest rank's time for one call.
#
#                                                                   out-of-place                         in-place
#       size         count      type   redop    root          time   algbw   busbw   #wrong      time   algbw   busbw   #wrong
#        (B)    (elements)                                    (us)  (GB/s)  (GB/s)               (us)  (GB/s)  (GB/s)
           8             2     float     sum      -1          0.15    0.05    0.08        0      0.15    0.05    0.08        0
   134217728      33554432     float     sum      -1         23573    5.69    8.54        0     10042   13.37   20.05        3
# Out of bounds values : 3 FAILED
# Avg bus bandwidth    : 7.187388
#
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_was_not_measured_or_not_checked_says_so() {
        let mut unchecked = row(64, true, 1.0);
        unchecked.timing.wrong = None;
        let text = line(None, Some(&unchecked));
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words[5..], ["-", "-", "-", "-", "1.00", "0.06", "0.10", "N/A"]);
        assert!(footer(&[unchecked]).contains("0 OK (1 of 1 not checked)"));
    }
}
