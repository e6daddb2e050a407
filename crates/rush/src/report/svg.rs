//! Small plots as inline SVG, coloured by the style of the page. They scale with their column, and the text stays readable on a phone.

use std::fmt::Write;

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 30.0;
/// Number of intervals between tick labels. With more, the labels would touch.
const TICKS: f64 = 4.0;

pub enum PlotShape {
    /// One box for each (begin, end, height), from the axis upwards.
    Boxes(Vec<(f64, f64, f64)>),
    /// Lines through points. A gap without measurements starts a new line.
    Lines(Vec<Vec<(f64, f64)>>),
}

pub struct Series<'a> {
    /// CSS class in the style of the page.
    pub class: &'a str,
    pub shape: PlotShape,
}

impl Series<'_> {
    fn highest(&self) -> f64 {
        match &self.shape {
            PlotShape::Boxes(boxes) => boxes.iter().map(|(_, _, height)| *height).fold(0.0, f64::max),
            PlotShape::Lines(lines) => lines.iter().flatten().map(|(_, height)| *height).fold(0.0, f64::max),
        }
    }
}

/// A mark on the horizontal axis.
pub type Tick = (f64, String);

/// Draws a plot over a linear horizontal axis from 0 to `x_max`.
pub fn plot(label: &str, series: &[Series<'_>], x_ticks: &[Tick], x_max: f64) -> String {
    let highest = series.iter().map(Series::highest).fold(0.0, f64::max);
    let step = nice_step(highest / TICKS);
    let y_max = (highest / step).ceil().max(1.0) * step;
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * if x_max > 0.0 { value / x_max } else { 0.0 };
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / y_max;
    let mut svg = format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">"#);
    let mut tick = 0.0;
    while tick <= y_max + step / 2.0 {
        let at = y(tick);
        let _ = write!(svg, r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/>"#, WIDTH - RIGHT);
        let _ = write!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#, LEFT - 6.0, at + 3.5, short(tick));
        tick += step;
    }
    for (value, text) in x_ticks {
        let _ = write!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{text}</text>"#, x(*value), HEIGHT - 10.0);
    }
    let at = |(across, up): (f64, f64)| format!("{:.1},{:.1}", x(across), y(up));
    for Series { class, shape } in series {
        match shape {
            PlotShape::Boxes(boxes) => {
                let Some(((first, ..), (_, last, _))) = boxes.first().zip(boxes.last()) else { continue };
                let mut outline = vec![at((*first, 0.0))];
                outline.extend(boxes.iter().flat_map(|(begin, end, height)| [at((*begin, *height)), at((*end, *height))]));
                outline.push(at((*last, 0.0)));
                let _ = write!(svg, r#"<polygon class="{class}" points="{}"/>"#, outline.join(" "));
            }
            PlotShape::Lines(lines) => lines.iter().for_each(|line| match line.as_slice() {
                [] => {}
                [(across, up)] => {
                    let _ = write!(svg, r#"<circle class="{class}" cx="{:.1}" cy="{:.1}" r="2"/>"#, x(*across), y(*up));
                }
                points => {
                    let points: Vec<String> = points.iter().copied().map(at).collect();
                    let _ = write!(svg, r#"<polyline class="{class}" points="{}"/>"#, points.join(" "));
                }
            }),
        }
    }
    svg.push_str("</svg>");
    svg
}

/// Rounds `rough` up to 1, 2 or 5 times a power of ten.
fn nice_step(rough: f64) -> f64 {
    if rough <= 0.0 || !rough.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * 0.999_999);
    nice.unwrap_or(10.0) * power
}

/// Evenly spaced ticks in seconds.
pub fn seconds(x_max: f64) -> Vec<Tick> {
    let step = nice_step(x_max / TICKS);
    let mut ticks = Vec::new();
    let mut at = 0.0;
    while at <= x_max * 1.000_001 && ticks.len() < 12 {
        ticks.push((at, format!("{} s", short(at))));
        at += step;
    }
    ticks
}

/// Formats a number in at most five characters.
pub fn short(value: f64) -> String {
    let trimmed = |text: String| if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    match value {
        value if value >= 1e6 => trimmed(format!("{:.1}", value / 1e6)) + "M",
        value if value >= 1e3 => trimmed(format!("{:.1}", value / 1e3)) + "k",
        value if value >= 10.0 => trimmed(format!("{value:.1}")),
        value => trimmed(format!("{value:.3}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (rough, nice) in [(0.0, 1.0), (0.3, 0.5), (1.0, 1.0), (1.1, 2.0), (2_400.0, 5_000.0), (7_000.0, 10_000.0)] {
            assert!((nice_step(rough) - nice).abs() < 1e-9 * nice.max(1.0), "{rough}: {}", nice_step(rough));
        }
        assert_eq!([0.0, 0.05, 12.0, 12.5, 1_500.0, 20_000.0, 2_000_000.0].map(short), ["0", "0.05", "12", "12.5", "1.5k", "20k", "2M"]);
    }

    #[test]
    fn no_plot_contains_an_invalid_number() {
        let shapes = [
            PlotShape::Boxes(vec![]),
            PlotShape::Boxes(vec![(0.0, 0.0, 0.0)]),
            PlotShape::Lines(vec![]),
            PlotShape::Lines(vec![vec![], vec![(0.0, 0.0)], vec![(0.0, 5.0), (1.0, 3.0)]]),
        ];
        for shape in shapes {
            let svg = plot("x", &[Series { class: "a", shape }], &seconds(0.0), 0.0);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
