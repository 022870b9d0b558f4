//! Pictures: just enough SVG for a plot and a diagram. Light background whatever the viewer's theme, no font from outside, and colours that
//! people who confuse red and green can tell apart (Okabe and Ito's palette).

use std::fmt::{Display, Write};

/// Colours that can be told apart.
pub(crate) mod colour {
    pub(crate) const BLUE: &str = "#0072b2";
    pub(crate) const ORANGE: &str = "#e69f00";
    pub(crate) const GREEN: &str = "#009e73";
    pub(crate) const VERMILION: &str = "#d55e00";
    pub(crate) const SKY: &str = "#56b4e9";
    pub(crate) const PURPLE: &str = "#cc79a7";
    pub(crate) const INK: &str = "#222222";
    pub(crate) const GREY: &str = "#767676";
    pub(crate) const FAINT: &str = "#e4e4e4";
    /// For series, in this order.
    pub(crate) const SERIES: [&str; 6] = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY];
}

/// Where a text is held.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture under way.
pub(crate) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// A coordinate with at most one decimal: a tenth of a pixel is enough, and files stay small.
struct At(f64);

impl Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.1}", self.0);
        f.write_str(text.strip_suffix(".0").unwrap_or(&text))
    }
}

impl Svg {
    pub(crate) fn new(width: f64, height: f64) -> Svg {
        Svg { width, height, body: String::new() }
    }

    /// A filled rectangle. `tip` is what a browser shows when the pointer rests on it; empty for none.
    pub(crate) fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str, tip: &str) {
        let (x, y, width, height) = (At(x), At(y), At(width), At(height));
        let _ = write!(self.body, r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}""#);
        let _ = match tip {
            "" => writeln!(self.body, "/>"),
            tip => writeln!(self.body, "><title>{}</title></rect>", escape(tip)),
        };
    }

    /// A line; `dash` as `4 3`, empty for a solid one.
    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), (stroke, width): (&str, f64), dash: &str) {
        let (x1, y1, x2, y2) = (At(from.0), At(from.1), At(to.0), At(to.1));
        let _ = write!(
            self.body,
            r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{stroke}" stroke-width="{width}""#
        );
        let _ = match dash {
            "" => writeln!(self.body, "/>"),
            dash => writeln!(self.body, r#" stroke-dasharray="{dash}"/>"#),
        };
    }

    /// A line with a head at its end.
    pub(crate) fn arrow(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str) {
        const HEAD: f64 = 5.0;
        self.line(from, to, (stroke, 1.0), "");
        let angle = (to.1 - from.1).atan2(to.0 - from.0);
        let corner = |turn: f64| (to.0 - HEAD * (angle + turn).cos(), to.1 - HEAD * (angle + turn).sin());
        let (a, b) = (corner(0.4), corner(-0.4));
        let points = [to, a, b].map(|(x, y)| format!("{},{}", At(x), At(y))).join(" ");
        let _ = writeln!(self.body, r#"<polygon points="{points}" fill="{stroke}"/>"#);
    }

    /// A line through many points.
    pub(crate) fn polyline(&mut self, points: &[(f64, f64)], stroke: &str, dash: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", At(*x), At(*y))).collect();
        let dash = if dash.is_empty() { String::new() } else { format!(r#" stroke-dasharray="{dash}""#) };
        let points = points.join(" ");
        let _ = writeln!(
            self.body,
            r#"<polyline points="{points}" fill="none" stroke="{stroke}" stroke-width="2"{dash}/>"#
        );
    }

    /// A point; hollow ones have the background inside.
    pub(crate) fn dot(&mut self, (x, y): (f64, f64), colour: &str, hollow: bool, tip: &str) {
        let fill = if hollow { "#ffffff" } else { colour };
        let (x, y) = (At(x), At(y));
        let tip = escape(tip);
        let _ = writeln!(
            self.body,
            r#"<circle cx="{x}" cy="{y}" r="3.5" fill="{fill}" stroke="{colour}" stroke-width="1.5"><title>{tip}</title></circle>"#
        );
    }

    /// A text. `y` is its base line.
    pub(crate) fn text(&mut self, at: (f64, f64), (size, fill): (f64, &str), anchor: Anchor, text: &str) {
        self.place_text(at, (size, fill), anchor, text, "");
    }

    /// A bold text.
    pub(crate) fn heading(&mut self, at: (f64, f64), size: f64, text: &str) {
        self.place_text(at, (size, colour::INK), Anchor::Start, text, r#" font-weight="bold""#);
    }

    /// A text that runs upwards.
    pub(crate) fn upright(&mut self, (x, y): (f64, f64), size: f64, text: &str) {
        let turn = format!(r#" transform="rotate(-90 {} {})""#, At(x), At(y));
        self.place_text((x, y), (size, colour::INK), Anchor::Middle, text, &turn);
    }

    fn place_text(&mut self, (x, y): (f64, f64), (size, fill): (f64, &str), anchor: Anchor, text: &str, more: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y, text) = (At(x), At(y), escape(text));
        let _ = writeln!(
            self.body,
            r#"<text x="{x}" y="{y}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{more}>{text}</text>"#
        );
    }

    /// The whole file. The title is what screen readers say.
    pub(crate) fn finish(self, title: &str) -> String {
        let (width, height, title) = (At(self.width), At(self.height), escape(title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif\" role=\"img\">\n\
             <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.body
        )
    }
}

/// Text as XML takes it; what XML has no place for is left out.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push('\n'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod well_formed {
    /// Checks that tags are closed in order and that no bare `<` or `&` is left, and counts the elements of each name.
    pub(crate) fn elements(xml: &str) -> std::collections::BTreeMap<String, usize> {
        let (mut open, mut counts, mut rest) = (Vec::new(), std::collections::BTreeMap::new(), xml);
        while let Some(start) = rest.find('<') {
            assert_text(&rest[..start]);
            let end = rest[start..].find('>').expect("a tag is not closed") + start;
            let tag = &rest[start + 1..end];
            assert!(!tag.contains('<') && tag.matches('"').count() % 2 == 0, "broken tag <{tag}>");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "closed in the wrong order");
            } else {
                let name = tag.split([' ', '/']).next().unwrap().to_string();
                *counts.entry(name.clone()).or_insert(0) += 1;
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
            rest = &rest[end + 1..];
        }
        assert_text(rest);
        assert!(open.is_empty(), "never closed: {open:?}");
        counts
    }

    fn assert_text(text: &str) {
        for part in text.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;"].iter().any(|name| part.starts_with(name));
            assert!(known, "a bare & before {part:?}");
        }
        assert!(!text.contains('\x1b'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text((1.0, 2.0), (10.0, colour::INK), Anchor::End, "<script>\"a\" & b</script>\x1b");
        svg.rect((0.0, 0.0), (1.0, 1.0), colour::BLUE, "a<b");
        let counts = well_formed::elements(&svg.finish("x & <y>"));
        assert_eq!((counts.get("script"), counts["text"], counts["title"]), (None, 1, 2));
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!(
            (At(1.0).to_string(), At(1.25).to_string(), At(-0.04).to_string()),
            ("1".into(), "1.2".into(), "-0".into())
        );
    }
}
