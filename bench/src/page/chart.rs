//! Line charts as SVG: enough for latencies and rates, and nothing that needs a script.
//!
//! ```text
//!   figure ─┬─ caption, legend          words: they wrap as a page does
//!           ├─ svg.wide                 for a desk
//!           └─ svg.narrow               for a phone; a style sheet shows the one that fits, so letters keep their size
//! ```

use std::fmt::Write as _;

use super::html::Html;
use axis::Axis;

/// From values to places.
pub(super) mod axis;

/// Lines over two axes.
#[derive(Debug)]
pub(super) struct Chart {
    /// Unique in its page; letters, digits and hyphens.
    pub(super) id: String,
    pub(super) title: String,
    /// What the chart shows, for those who do not see it.
    pub(super) description: String,
    /// What one should know to read it; may be empty.
    pub(super) note: String,
    /// As wide as the page instead of half of it.
    pub(super) whole: bool,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// In the order in which they are drawn: the last is on top.
    pub(super) series: Vec<Series>,
    pub(super) dots: Vec<Dot>,
    pub(super) limits: Vec<Limit>,
    pub(super) band: Option<Band>,
    pub(super) spans: Vec<Span>,
}

/// A line.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) look: Look,
    /// Left to right. Where y is no number, the line is broken.
    pub(super) points: Vec<(f64, f64)>,
}

/// Told apart by their dashes too, not by colours alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    First,
    Second,
    Third,
    Fourth,
    /// What there could have been, behind the others: a filled area.
    Ground,
}

/// A single value.
#[derive(Debug)]
pub(super) struct Dot {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) kind: DotKind,
    pub(super) title: String,
}

/// Told apart by shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DotKind {
    Met,
    Missed,
    /// Not known to be one or the other.
    Plain,
}

/// A line across the chart: what must not be exceeded.
#[derive(Debug)]
pub(super) struct Limit {
    pub(super) y: f64,
    pub(super) label: String,
}

/// From one x to another: where the truth is.
#[derive(Debug)]
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) label: String,
}

/// Part of the x axis that tells its values when it is pointed at.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) title: String,
}

/// Places in one of the two drawings, in its own units, which are pixels where it is shown at its size.
#[derive(Debug, Clone, Copy)]
struct Frame {
    class: &'static str,
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x_ticks: usize,
    y_ticks: usize,
}

impl Chart {
    /// Nothing but lines, half as wide as the page.
    pub(super) fn new(id: String, title: &str, x: Axis, y: Axis, series: Vec<Series>) -> Self {
        Self {
            id,
            title: title.to_owned(),
            description: String::new(),
            note: String::new(),
            whole: false,
            x,
            y,
            series,
            dots: Vec::new(),
            limits: Vec::new(),
            band: None,
            spans: Vec::new(),
        }
    }

    pub(super) fn draw(&self, html: &mut Html) {
        let class = if self.whole { "chart whole" } else { "chart" };
        html.element("figure", &[("class", class)], |html| {
            html.element("figcaption", &[], |html| {
                html.leaf("b", &[], &self.title);
                if !self.note.is_empty() {
                    html.text(" ");
                    html.leaf("span", &[("class", "note")], &self.note);
                }
            });
            self.legend(html);
            let desk = if self.whole { WHOLE } else { HALF };
            for frame in [desk, NARROW] {
                self.svg(html, frame);
            }
        });
    }

    fn legend(&self, html: &mut Html) {
        html.element("ul", &[("class", "legend")], |html| {
            for series in &self.series {
                let sample = |html: &mut Html| match series.look {
                    Look::Ground => html.empty(
                        "rect",
                        &[("width", "22"), ("height", "10"), ("class", "ground")],
                    ),
                    look => html.empty("path", &[("d", "M1 5h20"), ("class", look.class())]),
                };
                entry(html, &series.name, sample);
            }
            for kind in [DotKind::Met, DotKind::Missed, DotKind::Plain] {
                if self.dots.iter().any(|dot| dot.kind == kind) {
                    entry(html, kind.name(), |html| kind.draw(html, 11.0, 5.0, ""));
                }
            }
            for limit in &self.limits {
                let sample =
                    |html: &mut Html| html.empty("path", &[("d", "M1 5h20"), ("class", "limit")]);
                entry(html, &limit.label, sample);
            }
            if let Some(band) = &self.band {
                let sample = |html: &mut Html| {
                    html.empty(
                        "rect",
                        &[("width", "22"), ("height", "10"), ("class", "band")],
                    )
                };
                entry(html, &band.label, sample);
            }
        });
    }

    fn svg(&self, html: &mut Html, frame: Frame) {
        let (title, description) = (
            format!("{}-{}-t", self.id, frame.class),
            format!("{}-{}-d", self.id, frame.class),
        );
        let attributes = [
            ("class", frame.class),
            ("viewBox", &format!("0 0 {} {}", frame.width, frame.height)),
            ("role", "img"),
            ("aria-labelledby", &format!("{title} {description}")),
        ];
        html.element("svg", &attributes, |html| {
            html.leaf("title", &[("id", &title)], &self.title);
            html.leaf("desc", &[("id", &description)], &self.description);
            self.draw_axes(html, frame);
            self.draw_band(html, frame);
            for series in &self.series {
                self.draw_series(html, frame, series);
            }
            self.draw_limits(html, frame);
            for dot in &self.dots {
                if let Some((x, y)) = self.place(frame, dot.x, dot.y) {
                    dot.kind.draw(html, x, y, &dot.title);
                }
            }
            self.draw_spans(html, frame);
        });
    }

    fn draw_axes(&self, html: &mut Html, frame: Frame) {
        let (left, bottom) = (frame.left, frame.height - frame.bottom);
        for tick in self.y.ticks(frame.y_ticks) {
            let y = bottom - tick.at * frame.inner_height();
            let line = format!("M{} {}h{}", left, at(y), at(frame.inner_width()));
            html.empty("path", &[("class", "grid"), ("d", &line)]);
            label(html, "y", left - 6.0, y + 4.0, &tick.label);
        }
        for tick in self.x.ticks(frame.x_ticks) {
            let x = left + tick.at * frame.inner_width();
            let line = format!("M{} {}v5", at(x), at(bottom));
            html.empty("path", &[("class", "axis"), ("d", &line)]);
            // A label at the very end would be cut off.
            let class = if tick.at > 0.96 { "x last" } else { "x" };
            let x = if tick.at > 0.96 { x + frame.right } else { x };
            label(html, class, x, bottom + 18.0, &tick.label);
        }
        let line = format!("M{} {}h{}", left, at(bottom), at(frame.inner_width()));
        html.empty("path", &[("class", "axis"), ("d", &line)]);
        let middle = left + frame.inner_width() / 2.0;
        label(html, "name", middle, frame.height - 4.0, self.x.label);
        label(
            html,
            "name y-name",
            left - 6.0,
            frame.top - 10.0,
            self.y.label,
        );
    }

    fn draw_band(&self, html: &mut Html, frame: Frame) {
        let Some(band) = &self.band else { return };
        let (Some(from), Some(to)) = (self.x.at(band.from), self.x.at(band.to)) else {
            return;
        };
        let width = ((to - from) * frame.inner_width()).max(2.0);
        let attributes = [
            ("class", "band"),
            ("x", &at(frame.left + from * frame.inner_width())),
            ("y", &at(frame.top)),
            ("width", &at(width)),
            ("height", &at(frame.inner_height())),
        ];
        html.element("rect", &attributes, |html| {
            html.leaf("title", &[], &band.label)
        });
    }

    fn draw_series(&self, html: &mut Html, frame: Frame, series: &Series) {
        let mut path = String::new();
        let mut open = None;
        let ground = frame.height - frame.bottom;
        for (x, y) in &series.points {
            let Some((x, y)) = self.place(frame, *x, *y) else {
                series.look.close(&mut path, ground, open.take());
                continue;
            };
            // A line of no length has round ends, so a value between two holes is a dot.
            let _ = match open {
                None => write!(path, "M{} {}h0", at(x), at(y)),
                Some(_) => write!(path, "L{} {}", at(x), at(y)),
            };
            open = Some((open.map_or(x, |(first, _)| first), x));
        }
        series.look.close(&mut path, ground, open);
        if !path.is_empty() {
            html.empty("path", &[("class", series.look.class()), ("d", &path)]);
        }
    }

    fn draw_limits(&self, html: &mut Html, frame: Frame) {
        for limit in &self.limits {
            let Some((_, y)) = self.place(frame, f64::MAX, limit.y) else {
                continue;
            };
            let line = format!("M{} {}h{}", frame.left, at(y), at(frame.inner_width()));
            html.empty("path", &[("class", "limit"), ("d", &line)]);
            label(html, "limit-name", frame.left + 6.0, y - 5.0, &limit.label);
        }
    }

    fn draw_spans(&self, html: &mut Html, frame: Frame) {
        if self.spans.len() > SPANS_MAX {
            return;
        }
        for span in &self.spans {
            let (Some(from), Some(to)) = (self.x.at(span.from), self.x.at(span.to)) else {
                continue;
            };
            let attributes = [
                ("class", "span"),
                ("x", &at(frame.left + from * frame.inner_width())),
                ("y", &at(frame.top)),
                ("width", &at((to - from) * frame.inner_width())),
                ("height", &at(frame.inner_height())),
            ];
            html.element("rect", &attributes, |html| {
                html.leaf("title", &[], &span.title)
            });
        }
    }

    fn place(&self, frame: Frame, x: f64, y: f64) -> Option<(f64, f64)> {
        let x = frame.left + self.x.at(x)? * frame.inner_width();
        let y = frame.height - frame.bottom - self.y.at(y)? * frame.inner_height();
        Some((x, y))
    }
}

impl Look {
    /// Names of classes in the style sheet.
    const fn class(self) -> &'static str {
        match self {
            Self::First => "line s1",
            Self::Second => "line s2",
            Self::Third => "line s3",
            Self::Fourth => "line s4",
            Self::Ground => "ground",
        }
    }

    /// Ends a stretch from one x to another: an area goes down to the axis and back.
    fn close(self, path: &mut String, ground: f64, stretch: Option<(f64, f64)>) {
        if let (Self::Ground, Some((first, last))) = (self, stretch) {
            let _ = write!(path, "L{} {g}L{} {g}Z", at(last), at(first), g = at(ground));
        }
    }
}

impl DotKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Met => "trial that met the goals",
            Self::Missed => "trial that missed one",
            Self::Plain => "trial",
        }
    }

    fn draw(self, html: &mut Html, x: f64, y: f64, title: &str) {
        let (class, path) = match self {
            Self::Met => (
                "dot met",
                format!("M{} {}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z", at(x - 4.0), at(y)),
            ),
            Self::Plain => (
                "dot plain",
                format!("M{} {}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z", at(x - 4.0), at(y)),
            ),
            Self::Missed => (
                "dot missed",
                format!("M{} {}l8 8m0 -8l-8 8", at(x - 4.0), at(y - 4.0)),
            ),
        };
        html.element("path", &[("class", class), ("d", &path)], |html| {
            if !title.is_empty() {
                html.leaf("title", &[], title);
            }
        });
    }
}

impl Frame {
    fn inner_width(&self) -> f64 {
        self.width - self.left - self.right
    }

    fn inner_height(&self) -> f64 {
        self.height - self.top - self.bottom
    }
}

fn entry(html: &mut Html, name: &str, sample: impl FnOnce(&mut Html)) {
    html.element("li", &[], |html| {
        let attributes = [
            ("viewBox", "0 0 22 10"),
            ("width", "22"),
            ("height", "10"),
            ("aria-hidden", "true"),
        ];
        html.element("svg", &attributes, sample);
        html.leaf("span", &[], name);
    });
}

fn label(html: &mut Html, class: &str, x: f64, y: f64, text: &str) {
    if !text.is_empty() {
        html.leaf(
            "text",
            &[("class", class), ("x", &at(x)), ("y", &at(y))],
            text,
        );
    }
}

/// A place to a tenth of a pixel.
fn at(place: f64) -> String {
    let mut text = format!("{place:.1}");
    if text.ends_with(".0") {
        text.truncate(text.len() - 2);
    }
    text
}

/// Half of the page on a desk.
const HALF: Frame = Frame {
    class: "wide",
    width: 520.0,
    height: 290.0,
    left: 62.0,
    right: 14.0,
    top: 26.0,
    bottom: 40.0,
    x_ticks: 6,
    y_ticks: 6,
};

/// All of it.
const WHOLE: Frame = Frame {
    class: "wide",
    width: 1064.0,
    height: 380.0,
    x_ticks: 10,
    y_ticks: 8,
    ..HALF
};

/// The width of a phone.
const NARROW: Frame = Frame {
    class: "narrow",
    width: 358.0,
    height: 270.0,
    left: 54.0,
    right: 12.0,
    x_ticks: 4,
    y_ticks: 6,
    ..HALF
};

/// With more, one could not point at one.
const SPANS_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::axis::{Scale, Unit};
    use super::*;

    fn chart(points: &[(f64, f64)], look: Look) -> String {
        let axis = |unit, values: Vec<f64>| Axis::fit("", Scale::Linear, unit, values.into_iter());
        let series = Series {
            name: "s".to_owned(),
            look,
            points: points.to_vec(),
        };
        let last = points.last().unwrap();
        let x = axis(Unit::Seconds, points.iter().map(|point| point.0).collect()).ending_at(last.0);
        let y = axis(Unit::Rate, points.iter().map(|point| point.1).collect()).ending_at(last.1);
        let chart = Chart::new("c".to_owned(), "t", x, y, vec![series]);
        let mut html = Html::default();
        chart.draw(&mut html);
        html.into_string()
    }

    #[test]
    fn a_line_goes_from_corner_to_corner_of_its_frame() {
        let drawn = chart(&[(0.0, 0.0), (10.0, 50.0)], Look::First);
        let (x, y) = (HALF.width - HALF.right, HALF.height - HALF.bottom);
        let expected = format!("M{} {}h0L{} {}", HALF.left, y, x, HALF.top);
        assert!(drawn.contains(&expected), "{expected} is not in {drawn}");
    }

    #[test]
    fn a_hole_in_the_values_is_a_hole_in_the_line() {
        let points = [
            (0.0, 1.0),
            (1.0, 1.0),
            (2.0, f64::NAN),
            (3.0, 1.0),
            (4.0, 1.0),
        ];
        let moves = |drawn: &str| {
            let line = drawn
                .split("class=\"line s2\" d=\"M")
                .nth(1)
                .map(str::to_owned);
            line.unwrap()
                .split('"')
                .next()
                .unwrap()
                .matches('M')
                .count()
                + 1
        };
        assert_eq!(moves(&chart(&points, Look::Second)), 2);
        let whole = [(0.0, 1.0), (1.0, 1.0)];
        assert_eq!(moves(&chart(&whole, Look::Second)), 1);
        // Each part of an area is closed for itself.
        assert_eq!(chart(&points, Look::Ground).matches('Z').count(), 2 * 2);
    }

    #[test]
    fn what_is_no_number_is_not_drawn() {
        let drawn = chart(&[(f64::NAN, f64::NAN), (1.0, f64::INFINITY)], Look::First);
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }
}
