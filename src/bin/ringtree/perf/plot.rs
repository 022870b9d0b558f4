//! Bandwidth against size, both axes logarithmic: a straight line is a constant time, a level one a full link.

use super::row::Row;
use crate::bytes::short;
use crate::svg::{Anchor, Svg, colour};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 600.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 96.0;
const BOTTOM: f64 = 64.0;

/// One line of the plot.
struct Series<'a> {
    name: String,
    in_place: bool,
    rows: Vec<&'a Row>,
}

/// A logarithmic axis: the values at its ends, and where these are drawn.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let share = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }
}

/// Draws the rows of one collective; nothing when there is none that took any time.
pub(super) fn draw(rows: &[Row]) -> Option<String> {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.bus_bandwidth() > 0.0 && row.case.bytes > 0).collect();
    let first = rows.first()?;
    let series = series(&rows);
    let sizes = || rows.iter().map(|row| row.case.bytes as f64);
    let widths = || rows.iter().map(|row| row.bus_bandwidth());
    let (x, y) = (x_axis(sizes().fold(f64::MAX, f64::min), sizes().fold(0.0, f64::max)), {
        let (low, high) = (widths().fold(f64::MAX, f64::min), widths().fold(0.0, f64::max));
        // The next of 1, 2, 5, 10 … below and above, and never less than a decade.
        let low = ticks(low).take_while(|&tick| tick <= low * 1.0001).last().unwrap_or(low);
        let high = ticks(low).find(|&tick| tick >= high.max(low * 9.0)).unwrap_or(high);
        Axis { low, high, from: HEIGHT - BOTTOM, to: TOP }
    });
    let title = format!("{}, {} ranks: bus bandwidth by message size", first.case.kind, first.case.ranks);
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.heading((LEFT, 30.0), 18.0, &title);
    grid(&mut svg, &x, &y);
    for (index, series) in series.iter().enumerate() {
        draw_series(&mut svg, series, colour::SERIES[index % colour::SERIES.len()], (&x, &y));
    }
    legend(&mut svg, &series);
    Some(svg.finish(&title))
}

fn series<'a>(rows: &[&'a Row]) -> Vec<Series<'a>> {
    let several = rows.iter().any(|row| row.library != rows[0].library);
    let types =
        rows.iter().any(|row| (row.case.dtype, row.case.reduction) != (rows[0].case.dtype, rows[0].case.reduction));
    let mut all: Vec<Series<'a>> = Vec::new();
    for row in rows {
        let mut name = if row.in_place { "in place" } else { "out of place" }.to_string();
        if several {
            name = format!("{}, {name}", row.library);
        }
        if types {
            let redop = row.case.reduction.map_or(String::new(), |reduction| format!(" {reduction}"));
            name = format!("{name}, {}{redop}", row.case.dtype);
        }
        match all.iter_mut().find(|series| series.name == name) {
            Some(series) => series.rows.push(row),
            None => all.push(Series { name, in_place: row.in_place, rows: vec![row] }),
        }
    }
    all.iter_mut().for_each(|series| series.rows.sort_by_key(|row| row.case.bytes));
    all
}

/// Sizes that differ little still get an axis of some length.
fn x_axis(low: f64, high: f64) -> Axis {
    let (low, high) = if high < low * 4.0 { (low / 2.0, high * 2.0) } else { (low, high) };
    Axis { low, high, from: LEFT + 12.0, to: WIDTH - RIGHT - 12.0 }
}

fn grid(svg: &mut Svg, x: &Axis, y: &Axis) {
    let (left, right, bottom) = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM);
    for value in ticks(y.low).filter(|&value| value >= y.low * 0.999).take_while(|&value| value <= y.high * 1.001) {
        let at = y.at(value);
        let whole = value.log10().fract().abs() < 1e-6;
        svg.line((left, at), (right, at), (colour::FAINT, if whole { 1.5 } else { 0.75 }), "");
        svg.text((left - 8.0, at + 4.0), (12.0, colour::INK), Anchor::End, &plain(value));
    }
    // About ten labels: every power of two, every second, every third …
    let powers = (x.high / x.low).log2();
    let every = (powers / 12.0).ceil().max(1.0) as i32;
    let first = x.low.log2().ceil() as i32;
    for power in first..=x.high.log2().floor() as i32 {
        if (power - first) % every != 0 {
            continue;
        }
        let size = 2f64.powi(power);
        let at = x.at(size);
        svg.line((at, TOP), (at, bottom), (colour::FAINT, 0.75), "");
        svg.text((at, bottom + 18.0), (12.0, colour::INK), Anchor::Middle, &short(size as u64));
    }
    svg.line((left, bottom), (right, bottom), (colour::GREY, 1.0), "");
    svg.line((left, TOP), (left, bottom), (colour::GREY, 1.0), "");
    svg.text(((left + right) / 2.0, HEIGHT - 18.0), (14.0, colour::INK), Anchor::Middle, "message size (bytes)");
    svg.upright((22.0, (TOP + bottom) / 2.0), 14.0, "bus bandwidth (GB/s)");
}

/// 1, 2, 5 times powers of ten, from the decade of that value on.
fn ticks(from: f64) -> impl Iterator<Item = f64> {
    let first = from.log10().floor() as i32;
    (first..first + 30).flat_map(|power| [1.0, 2.0, 5.0].map(|part| part * 10f64.powi(power)))
}

/// `0.001`, `0.5`, `20`, without a float's tail.
fn plain(value: f64) -> String {
    let digits = (-value.log10().floor()).max(0.0) as usize;
    format!("{value:.digits$}")
}

fn draw_series(svg: &mut Svg, series: &Series<'_>, stroke: &str, (x, y): (&Axis, &Axis)) {
    let at = |row: &Row| (x.at(row.case.bytes as f64), y.at(row.bus_bandwidth()));
    let points: Vec<(f64, f64)> = series.rows.iter().map(|row| at(row)).collect();
    svg.polyline(&points, stroke, dash(series));
    for row in &series.rows {
        let (size, time) = (short(row.case.bytes), row.timing.median);
        let tip = format!("{}: {size}, {time:.2} us, {:.2} GB/s", series.name, row.bus_bandwidth());
        svg.dot(at(row), stroke, series.in_place, &tip);
    }
}

fn dash(series: &Series<'_>) -> &'static str {
    if series.in_place { "6 4" } else { "" }
}

fn legend(svg: &mut Svg, all: &[Series<'_>]) {
    let (mut x, mut y) = (LEFT, 58.0);
    for (index, series) in all.iter().enumerate() {
        let stroke = colour::SERIES[index % colour::SERIES.len()];
        let width = 60.0 + 7.2 * series.name.len() as f64;
        if x + width > WIDTH - RIGHT && x > LEFT {
            (x, y) = (LEFT, y + 20.0);
        }
        svg.polyline(&[(x, y - 4.0), (x + 36.0, y - 4.0)], stroke, dash(series));
        svg.dot((x + 18.0, y - 4.0), stroke, series.in_place, &series.name);
        svg.text((x + 44.0, y), (13.0, colour::INK), Anchor::Start, &series.name);
        x += width;
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;
    use crate::svg::well_formed::elements;

    fn rows() -> Vec<Row> {
        let sizes = (3..=27).map(|power| 1u64 << power);
        sizes
            .flat_map(|bytes| [false, true].map(|in_place| row(bytes, in_place, 0.2 + bytes as f64 / 9000.0)))
            .collect()
    }

    #[test]
    fn every_row_is_a_point_on_one_of_two_lines() {
        let counts = elements(&draw(&rows()).unwrap());
        // The legend shows one point and one line for each.
        assert_eq!((counts["circle"], counts["polyline"]), (50 + 2, 2 + 2));
    }

    #[test]
    fn libraries_are_told_apart() {
        let mut rows = rows();
        rows.iter_mut().take(10).for_each(|row| row.library = "<gloo>".to_string());
        let svg = draw(&rows).unwrap();
        assert_eq!(elements(&svg)["polyline"], 4 + 4);
        assert!(svg.contains("&lt;gloo&gt;, in place"));
    }

    #[test]
    fn points_lie_inside_and_larger_is_higher() {
        let x = x_axis(8.0, 128.0);
        assert!(x.at(8.0) < x.at(16.0) && x.at(128.0) <= WIDTH - RIGHT);
        let step = x.at(16.0) - x.at(8.0);
        assert!((x.at(64.0) - x.at(32.0) - step).abs() < 1e-9, "a factor of two is the same width everywhere");
    }

    #[test]
    fn one_size_and_no_row_are_fine() {
        assert!(elements(&draw(&[row(8, false, 1.0)]).unwrap())["circle"] >= 1);
        assert_eq!(draw(&[]), None);
        assert_eq!(draw(&[row(8, false, 0.0)]), None);
    }

    #[test]
    fn axis_numbers_have_no_tail() {
        assert_eq!([0.001, 0.5, 0.02, 1.0, 20.0].map(plain), ["0.001", "0.5", "0.02", "1", "20"]);
    }
}
