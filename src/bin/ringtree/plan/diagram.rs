//! The space-time diagram: who does what when, and which message lets whom go on.
//!
//! ```text
//!   rank 0  ▐ put ▌░░░ wait ░░▐ reduce ▌
//!                 ╲           ╱
//!   rank 1  ▐ put ▌╲░░░░░░░░░▐ ...          time to the right
//! ```
//!
//! Up to [`MOST_LANES`] lanes every step is a box and every message an arrow; beyond, how many ranks do what is drawn against time.

use super::words::{Sort, brief, describe};
use crate::svg::{Anchor, Svg, colour};
use ringtree::sim::{History, Span};

/// More lanes than this can't be read one by one.
pub(super) const MOST_LANES: usize = 16;
/// More boxes a lane than this can't be told apart: the picture then shows the beginning.
const MOST_BOXES: usize = 64;
/// More arrows than this are drawn fainter.
const MANY_ARROWS: usize = 120;
/// Columns of the picture of many ranks.
const BINS: usize = 240;

const WIDTH: f64 = 1280.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 118.0;
const BOTTOM: f64 = 56.0;
const WAITING: &str = "#d5d5d5";
const BAND: &str = "#f5f5f5";
const ARROW: &str = "#555555";
const FAINT_ARROW: &str = "#b4b4b4";

/// What is drawn.
pub(super) struct Scene<'a> {
    pub(super) history: &'a History,
    pub(super) channels: u32,
    pub(super) ranks: u32,
    /// The domain of each rank.
    pub(super) domains: Vec<u32>,
    /// The call and the algorithm.
    pub(super) title: String,
    /// How long, and where.
    pub(super) subtitle: String,
}

fn sort_colour(sort: Sort) -> &'static str {
    match sort {
        Sort::Put => colour::SKY,
        Sort::Take => colour::GREEN,
        Sort::Reduce => colour::ORANGE,
        Sort::Copy => colour::PURPLE,
    }
}

/// Picoseconds to a place on the paper.
#[derive(Clone, Copy)]
struct Scale {
    end: u64,
}

impl Scale {
    fn at(&self, time: u64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * time as f64 / self.end.max(1) as f64
    }
}

/// Draws it.
pub(super) fn draw(scene: &Scene<'_>) -> String {
    if scene.ranks as usize * scene.channels as usize <= MOST_LANES { lanes(scene) } else { crowd(scene) }
}

fn frame(svg: &mut Svg, scene: &Scene<'_>, note: &str) {
    svg.heading((LEFT - 72.0, 30.0), 18.0, &scene.title);
    svg.text((LEFT - 72.0, 52.0), (13.0, colour::INK), Anchor::Start, &scene.subtitle);
    svg.text((LEFT - 72.0, 70.0), (13.0, colour::GREY), Anchor::Start, note);
}

/// A sample of each colour with its name.
fn legend(svg: &mut Svg, y: f64, entries: &[(&str, &str, f64)]) -> f64 {
    let mut x = LEFT - 72.0;
    for (fill, name, height) in entries {
        svg.rect((x, y - height), (22.0, *height), fill, "");
        svg.text((x + 28.0, y - 1.0), (13.0, colour::INK), Anchor::Start, name);
        x += 28.0 + 22.0 + 6.6 * name.len() as f64;
    }
    x
}

fn time_axis(svg: &mut Svg, scale: Scale, (top, bottom): (f64, f64)) {
    let (unit, name) = unit(scale.end);
    let step = tick(scale.end as f64 / unit);
    let mut value = 0.0;
    while value * unit <= scale.end as f64 * 1.0001 {
        let x = scale.at((value * unit) as u64);
        svg.line((x, top), (x, bottom), (colour::FAINT, 0.75), "");
        let digits = if step < 1.0 { 1 } else { 0 };
        svg.text((x, bottom + 18.0), (12.0, colour::INK), Anchor::Middle, &format!("{value:.digits$}"));
        value += step;
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    svg.text((middle, bottom + 38.0), (13.0, colour::INK), Anchor::Middle, &format!("time ({name}) →"));
}

/// The unit in which a time is a number of at most four digits.
fn unit(picoseconds: u64) -> (f64, &'static str) {
    match picoseconds {
        0..3_000_000 => (1e3, "ns"),
        3_000_000..3_000_000_000 => (1e6, "µs"),
        _ => (1e9, "ms"),
    }
}

/// 1, 2 or 5 times a power of ten, so that there are 5 to 12 ticks.
fn tick(range: f64) -> f64 {
    let rough = (range / 10.0).max(0.1);
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|part| part * power).into_iter().find(|&step| step >= rough).unwrap_or(rough)
}

fn lanes(scene: &Scene<'_>) -> String {
    let count = (scene.ranks * scene.channels) as usize;
    let spans = &scene.history.spans[..scene.history.spans.len().min(MOST_BOXES * count)];
    let whole = spans.len() == scene.history.spans.len() && scene.history.left_out == 0;
    let end = if whole { scene.history.end } else { spans.iter().map(|span| span.end).max().unwrap_or(1) };
    let lane = if count <= 4 { 76.0 } else { 46.0 };
    let height = TOP + lane * count as f64 + BOTTOM;
    let mut svg = Svg::new(WIDTH, height);
    let scale = Scale { end };
    let note = if whole {
        let lane = if scene.channels == 1 { "rank" } else { "rank and channel" };
        let bands = if scene.domains.iter().any(|&domain| domain > 0) { " Shading shows the domains." } else { "" };
        format!(
            "Each lane is a {lane}.{bands} An arrow is a message: from when its writer published it to when its reader could see it."
        )
    } else {
        format!(
            "Only the first {} steps are shown; the whole takes {} as long.",
            spans.len(),
            times(scene.history.end, end)
        )
    };
    frame(&mut svg, scene, &note);
    let entries: Vec<(&str, &str, f64)> = Sort::ALL
        .iter()
        .filter(|&&sort| spans.iter().any(|span| Sort::of(&span.step) == sort))
        .map(|&sort| (sort_colour(sort), sort.name(), 14.0))
        .chain([(WAITING, "wait", 6.0)])
        .collect();
    let x = legend(&mut svg, 98.0, &entries);
    let key = "→1: to rank 1 · ←3: from rank 3 · +3: combined with what rank 3 sent";
    svg.text((WIDTH - RIGHT, 97.0), (13.0, colour::GREY), Anchor::End, key);
    if spans.iter().any(puts_too) {
        svg.rect((x, 84.0), (22.0, 14.0), colour::ORANGE, "");
        svg.rect((x, 93.0), (22.0, 5.0), colour::SKY, "");
        svg.text((x + 28.0, 97.0), (13.0, colour::INK), Anchor::Start, "and puts the result");
    }
    let middle = |rank: u32, channel: u32| TOP + lane * (rank as f64 * scene.channels as f64 + channel as f64 + 0.5);
    let bottom = height - BOTTOM;
    let several = scene.domains.iter().any(|&domain| domain > 0);
    let band = lane * scene.channels as f64;
    for rank in 0..scene.ranks {
        let shaded = if several { scene.domains.get(rank as usize).copied().unwrap_or(0) } else { rank };
        if shaded % 2 == 0 && (several || scene.channels > 1) {
            svg.rect((0.0, TOP + band * rank as f64), (WIDTH, band), BAND, "");
        }
    }
    time_axis(&mut svg, scale, (TOP, bottom));
    for rank in 0..scene.ranks {
        for channel in 0..scene.channels {
            let y = middle(rank, channel);
            let name = if scene.channels == 1 { format!("rank {rank}") } else { format!("rank {rank}.{channel}") };
            svg.line((LEFT, y), (WIDTH - RIGHT, y), (colour::FAINT, 1.0), "");
            svg.text((LEFT - 12.0, y + 4.0), (13.0, colour::INK), Anchor::End, &name);
        }
    }
    let half = if count <= 4 { 15.0 } else { 11.0 };
    // One measure for all, so that equal boxes are labelled alike.
    let label = spans.iter().map(|span| brief(&span.step).chars().count()).max().unwrap_or(0) as f64 * 7.2 + 5.0;
    // Below the boxes, where an arrow that crosses many lanes would run through their labels.
    arrows(&mut svg, scene, scale, half, &middle);
    spans.iter().for_each(|span| step_box(&mut svg, span, scale, (middle(span.rank, span.channel), half, label)));
    svg.finish(&scene.title)
}

/// How many times as long: `40 times`.
fn times(whole: u64, part: u64) -> String {
    let factor = whole as f64 / part.max(1) as f64;
    if factor < 10.0 { format!("{factor:.1} times") } else { format!("{factor:.0} times") }
}

/// Whether a step that takes also puts.
fn puts_too(span: &Span) -> bool {
    matches!(Sort::of(&span.step), Sort::Take | Sort::Reduce) && span.step.put != ringtree::plan::Put::Nothing
}

fn step_box(svg: &mut Svg, span: &Span, scale: Scale, (y, half, label): (f64, f64, f64)) {
    let (asked, start, end) = (scale.at(span.asked), scale.at(span.start), scale.at(span.end));
    let nanoseconds = |from: u64, to: u64| (to - from) / 1000;
    if start - asked > 0.5 {
        let tip = format!("rank {} waits {} ns", span.rank, nanoseconds(span.asked, span.start));
        svg.rect((asked, y - 3.0), (start - asked, 6.0), WAITING, &tip);
    }
    // Something that takes no time is still there. The gap keeps neighbours apart.
    let width = (end - start - 0.6).max(1.2);
    let took = nanoseconds(span.start, span.end);
    let tip = format!("rank {}, step {}: {} [{took} ns]", span.rank, span.index, describe(&span.step));
    svg.rect((start, y - half), (width, 2.0 * half), sort_colour(Sort::of(&span.step)), &tip);
    if puts_too(span) {
        svg.rect((start, y + half - 6.0), (width, 6.0), colour::SKY, "");
    }
    if width > label {
        let base = if puts_too(span) { y + 1.0 } else { y + 4.0 };
        svg.text((start + width / 2.0, base), (11.0, colour::INK), Anchor::Middle, &brief(&span.step));
    }
}

fn arrows(svg: &mut Svg, scene: &Scene<'_>, scale: Scale, half: f64, middle: &dyn Fn(u32, u32) -> f64) {
    let messages = scene.history.messages.iter().filter(|message| message.arrived <= scale.end);
    let faint = messages.clone().count() > MANY_ARROWS;
    for message in messages {
        let (from, to) = (middle(message.from, message.channel), middle(message.to, message.channel));
        let side = if to > from { half } else { -half };
        let start = (scale.at(message.sent), from + side);
        let end = (scale.at(message.arrived), to - side);
        if faint {
            svg.line(start, end, (FAINT_ARROW, 0.6), "");
        } else {
            svg.arrow(start, end, ARROW);
        }
    }
}

/// What a rank can be doing, in the order in which it is stacked.
const DOING: usize = 5;

/// How much of each bin's time the ranks spent on each sort of step, the last being waiting.
fn occupancy(scene: &Scene<'_>, end: u64) -> Vec<[f64; DOING]> {
    let mut bins = vec![[0.0; DOING]; BINS];
    let width = end.max(1) as f64 / BINS as f64;
    let mut spread = |what: usize, from: u64, to: u64| {
        let (from, to) = (from as f64 / width, (to as f64 / width).min(BINS as f64));
        let mut at = from.floor();
        while at < to {
            bins[at as usize][what] += to.min(at + 1.0) - from.max(at);
            at += 1.0;
        }
    };
    for span in &scene.history.spans {
        spread(Sort::of(&span.step) as usize, span.start.min(end), span.end.min(end));
        spread(DOING - 1, span.asked.min(end), span.start.min(end));
    }
    bins
}

/// Each bin with its neighbours: steps that are about as long as a bin would show as stripes that mean nothing.
fn smooth(bins: &[[f64; DOING]]) -> Vec<[f64; DOING]> {
    const REACH: usize = 4;
    let around = |at: usize| &bins[at.saturating_sub(REACH)..(at + REACH + 1).min(bins.len())];
    let mean = |at: usize, what: usize| around(at).iter().map(|bin| bin[what]).sum::<f64>() / around(at).len() as f64;
    (0..bins.len()).map(|at| std::array::from_fn(|what| mean(at, what))).collect()
}

fn crowd(scene: &Scene<'_>) -> String {
    let (height, lanes) = (560.0, (scene.ranks * scene.channels) as f64);
    let whole = scene.history.left_out == 0;
    let end = if whole { scene.history.end } else { scene.history.spans.last().map_or(1, |span| span.start) };
    let mut svg = Svg::new(WIDTH, height);
    let note = if whole {
        "Too many ranks to draw one by one: how many of them do what, against time (a moving average). White: already done."
    } else {
        "Too many ranks to draw one by one: how many of them do what, against time; only the beginning is shown."
    };
    frame(&mut svg, scene, note);
    let mut entries: Vec<(&str, &str, f64)> =
        Sort::ALL.iter().map(|&sort| (sort_colour(sort), sort.name(), 14.0)).collect();
    entries.push((WAITING, "wait", 14.0));
    legend(&mut svg, 98.0, &entries);
    let (top, bottom) = (TOP, height - BOTTOM);
    let scale = Scale { end };
    time_axis(&mut svg, scale, (top, bottom));
    let bins = smooth(&occupancy(scene, end));
    let column = (WIDTH - LEFT - RIGHT) / BINS as f64;
    for (index, bin) in bins.iter().enumerate() {
        let mut base = bottom;
        for (what, &share) in bin.iter().enumerate() {
            let tall = share / lanes * (bottom - top);
            if tall < 0.05 {
                continue;
            }
            let fill = Sort::ALL.get(what).map_or(WAITING, |&sort| sort_colour(sort));
            svg.rect((LEFT + column * index as f64, base - tall), (column + 0.1, tall), fill, "");
            base -= tall;
        }
    }
    for part in 0..=4 {
        let y = bottom - (bottom - top) * part as f64 / 4.0;
        svg.line((LEFT - 4.0, y), (LEFT, y), (colour::GREY, 1.0), "");
        let label = format!("{}", (lanes * part as f64 / 4.0).round());
        svg.text((LEFT - 8.0, y + 4.0), (12.0, colour::INK), Anchor::End, &label);
    }
    let what = if scene.channels == 1 { "ranks" } else { "ranks × channels" };
    svg.upright((34.0, (top + bottom) / 2.0), 13.0, what);
    svg.finish(&scene.title)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::well_formed::elements;
    use ringtree::plan::{Algorithm, Plan, Tuning, World};
    use ringtree::sim::{Fabric, history};
    use ringtree::types::Call;
    use ringtree::{Collective, DataType, Reduction};

    fn picture(ranks: u32, most: usize) -> (History, String) {
        let call = Call::new(Collective::AllReduce, DataType::F32, Reduction::Sum, 0, 4096);
        let tuning = Tuning { algorithm: Some(Algorithm::Ring), channels: Some(1), ..Tuning::default() };
        let plan = Plan::new(&World::flat(ranks), &call, &tuning).unwrap();
        let history = history(&plan, &Fabric::HOST, most).unwrap();
        let (title, subtitle) = ("a < b".to_string(), String::new());
        let svg = draw(&Scene { history: &history, channels: 1, ranks, domains: Vec::new(), title, subtitle });
        (history, svg)
    }

    #[test]
    fn every_step_is_a_box_and_every_message_an_arrow() {
        for ranks in [2, 5, 16] {
            let (history, svg) = picture(ranks, 10_000);
            let counts = elements(&svg);
            assert!(counts["rect"] >= history.spans.len(), "{ranks} ranks: {counts:?}");
            let heads = counts.get("polygon").copied().unwrap_or(0);
            let drawn = if history.messages.len() > MANY_ARROWS { 0 } else { history.messages.len() };
            assert_eq!(heads, drawn, "{ranks} ranks");
        }
    }

    #[test]
    fn many_ranks_are_drawn_as_a_crowd_whose_time_adds_up() {
        let (history, svg) = picture(24, 100_000);
        assert_eq!(elements(&svg).get("polygon"), None);
        let scene = Scene {
            history: &history,
            channels: 1,
            ranks: 24,
            domains: Vec::new(),
            title: String::new(),
            subtitle: String::new(),
        };
        let seen: f64 = occupancy(&scene, history.end).iter().flatten().sum();
        let spent: u64 = history.spans.iter().map(|span| span.end - span.asked).sum();
        let expected = spent as f64 / (history.end as f64 / BINS as f64);
        assert!((seen - expected).abs() < expected * 1e-6, "{seen} and {expected}");
    }

    #[test]
    fn a_history_that_was_cut_off_says_so() {
        assert!(picture(4, 10).1.contains("Only the first 10 steps"));
        assert!(picture(24, 10).1.contains("only the beginning"));
    }

    #[test]
    fn ticks_are_round_and_few() {
        for range in [3.0, 36.5, 980.0, 9_999.0] {
            let count = range / tick(range);
            assert!((2.0..=12.0).contains(&count), "{range}: {count}");
        }
        assert_eq!((unit(999_000).1, unit(99_000_000).1, unit(99_000_000_000).1), ("ns", "µs", "ms"));
    }
}
