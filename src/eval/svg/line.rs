//! Curves over steps.

use std::fmt::Write;

use super::axis::Axis;
use super::{colour, compact, escape, open};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 58.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = HEIGHT - 42.0;
/// More points than this are averaged into as many stretches.
const MOST_POINTS: usize = 300;
/// From so many points on the trend is drawn over the raw curve.
const SMOOTHED_FROM: usize = 40;
/// Points per curve that show their value under the pointer.
const HOVERED: usize = 40;

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it shows, written at its end.
    pub name: String,
    /// (x, y) with rising x; a y that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// Curves with common axes.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// Written above the chart.
    pub title: String,
    /// Written below the horizontal axis, as in `step`.
    pub x_label: String,
    /// The vertical range to be shown at least, as in `(0.0, 1.0)` for shares; none to fit the data.
    pub y_range: Option<(f64, f64)>,
    /// The curves.
    pub series: Vec<Series>,
}

impl LineChart {
    /// The chart as one `<svg>` element.
    ///
    /// Long curves are averaged into 300 stretches. From 40 points on the raw curve is drawn faintly and its trend, a straight
    /// line fitted to the nearest eighth, on top. Each curve carries its name and the value where it ends.
    pub fn to_svg(&self) -> String {
        let mut svg = open(WIDTH, HEIGHT, &self.title);
        let _ =
            writeln!(svg, "<text x=\"2\" y=\"17\" font-size=\"15\" font-weight=\"600\">{}</text>", escape(&self.title));
        let series: Vec<Series> = self.series.iter().map(thinned).collect();
        let finite = || series.iter().flat_map(|s| &s.points).filter(|p| p.0.is_finite() && p.1.is_finite());
        let Some(first) = finite().next() else {
            let _ = write!(
                svg,
                "<text x=\"{LEFT}\" y=\"{}\" opacity=\"0.7\">no finite value was logged</text>\n</svg>",
                HEIGHT / 2.0
            );
            return svg;
        };
        let span = |pick: fn(&(f64, f64)) -> f64| {
            finite().map(pick).fold((pick(first), pick(first)), |(low, high), v| (low.min(v), high.max(v)))
        };
        let (x_low, x_high) = span(|p| p.0);
        let (mut y_low, mut y_high) = span(|p| p.1);
        if let Some((low, high)) = self.y_range {
            (y_low, y_high) = (y_low.min(low), y_high.max(high));
        }
        let ends: Vec<String> = series.iter().map(end_label).collect();
        let widest = ends.iter().map(|e| e.chars().count()).max().unwrap_or(0) as f64;
        let right = WIDTH - (widest * 7.0 + 16.0).clamp(40.0, 230.0);
        let x = Axis::exact(x_low, x_high, LEFT, right, 5);
        let y = Axis::covering(y_low, y_high, BOTTOM, TOP, 5);
        y.draw_y(&mut svg, LEFT, right);
        x.draw_x(&mut svg, BOTTOM);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" opacity=\"0.7\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            escape(&self.x_label)
        );
        for (at, series) in series.iter().enumerate() {
            draw_curve(&mut svg, series, colour(at), &x, &y);
        }
        draw_ends(&mut svg, &series, &ends, right, &y);
        svg.push_str("</svg>");
        svg
    }
}

fn draw_curve(svg: &mut String, series: &Series, colour: &str, x: &Axis, y: &Axis) {
    let smooth = series.points.len() >= SMOOTHED_FROM;
    let mut stroke = |points: &[(f64, f64)], width: f64, opacity: f64| {
        let _ = writeln!(
            svg,
            "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-opacity=\"{opacity}\" \
             stroke-linejoin=\"round\" stroke-linecap=\"round\"/>",
            path(points, x, y)
        );
    };
    stroke(&series.points, if smooth { 1.0 } else { 2.0 }, if smooth { 0.35 } else { 1.0 });
    if smooth {
        stroke(&trend(&series.points, series.points.len() / 16), 2.2, 1.0);
    }
    for &(px, py) in series.points.iter().step_by(series.points.len().div_ceil(HOVERED).max(1)) {
        if px.is_finite() && py.is_finite() {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"7\" fill-opacity=\"0\"><title>{} at {}: {}</title></circle>",
                x.at(px),
                y.at(py),
                escape(&series.name),
                compact(px),
                compact(py)
            );
        }
    }
}

/// Names and last values, each beside the end of its curve, moved apart where they would overlap.
fn draw_ends(svg: &mut String, series: &[Series], labels: &[String], right: f64, y: &Axis) {
    const APART: f64 = 16.0;
    let mut ends: Vec<(usize, f64)> =
        series.iter().enumerate().filter_map(|(at, s)| Some((at, y.at(last_value(s)?)))).collect();
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut next = TOP + 4.0;
    for end in &mut ends {
        end.1 = end.1.max(next);
        next = end.1 + APART;
    }
    let mut limit = BOTTOM;
    for end in ends.iter_mut().rev() {
        end.1 = end.1.min(limit);
        limit = end.1 - APART;
    }
    for (at, y) in ends {
        let (fill, label) = (colour(at), escape(&labels[at]));
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{fill}\">{label}</text>", right + 8.0, y + 4.5);
    }
}

fn end_label(series: &Series) -> String {
    let value = last_value(series).map(compact).unwrap_or_default();
    let name: String = series.name.chars().take(22).collect();
    format!("{name} {value}").trim().to_string()
}

/// Where the curve that is drawn strongest ends.
fn last_value(series: &Series) -> Option<f64> {
    let points = &series.points;
    let drawn = if points.len() >= SMOOTHED_FROM { trend(points, points.len() / 16) } else { points.clone() };
    drawn.iter().rev().map(|p| p.1).find(|y| y.is_finite())
}

/// At most [`MOST_POINTS`] points, each the mean of a stretch of equally many.
fn thinned(series: &Series) -> Series {
    let per_stretch = series.points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |stretch: &[(f64, f64)]| {
        let count = stretch.len() as f64;
        (stretch.iter().map(|p| p.0).sum::<f64>() / count, stretch.iter().map(|p| p.1).sum::<f64>() / count)
    };
    Series { name: series.name.clone(), points: series.points.chunks(per_stretch).map(mean).collect() }
}

/// At each point the height there of the straight line that fits the finite values at most `half` places away best: away from
/// the ends their mean, and at the ends neither behind a slope nor at the mercy of one value.
fn trend(points: &[(f64, f64)], half: usize) -> Vec<(f64, f64)> {
    let fitted = |at: usize| {
        let x = points[at].0;
        let window = &points[at.saturating_sub(half)..points.len().min(at + half + 1)];
        let finite = || window.iter().filter(|p| p.1.is_finite());
        let count = finite().count() as f64;
        let (mean_x, mean_y) = finite().fold((0.0, 0.0), |(sx, sy), p| (sx + p.0 / count, sy + p.1 / count));
        let (mut square, mut product) = (0.0, 0.0);
        for p in finite() {
            square += (p.0 - mean_x).powi(2);
            product += (p.0 - mean_x) * (p.1 - mean_y);
        }
        let slope = if square > 0.0 { product / square } else { 0.0 };
        // Held inside what was logged, so that a share never ends above 1.
        let (low, high) =
            finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p.1), high.max(p.1)));
        (x, if count > 0.0 { (mean_y + slope * (x - mean_x)).max(low).min(high) } else { f64::NAN })
    };
    (0..points.len()).map(fitted).collect()
}

fn path(points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let (mut path, mut pen) = (String::new(), 'M');
    for &(px, py) in points {
        if px.is_finite() && py.is_finite() {
            let _ = write!(path, "{pen}{:.1} {:.1}", x.at(px), y.at(py));
            pen = 'L';
        } else {
            pen = 'M';
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> LineChart {
        LineChart {
            title: "a < b".into(),
            x_label: "step".into(),
            y_range: None,
            series: vec![Series { name: "loss".into(), points }],
        }
    }

    #[test]
    fn gaps_break_the_line() {
        let points = [(0.0, 0.0), (1.0, f64::NAN), (2.0, 1.0), (3.0, 1.0)];
        let axis = Axis::exact(0.0, 10.0, 0.0, 10.0, 5);
        assert_eq!(path(&points, &axis, &axis), "M0.0 0.0M2.0 1.0L3.0 1.0");
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_mean() {
        let long = Series { name: String::new(), points: (0..10_000).map(|i| (i as f64, (i % 2) as f64)).collect() };
        let short = thinned(&long);
        assert!(short.points.len() <= MOST_POINTS);
        assert!(short.points.iter().all(|p| (p.1 - 0.5).abs() < 0.02));
    }

    #[test]
    fn the_trend_keeps_slopes_up_to_the_ends_and_passes_over_gaps() {
        let slope: Vec<(f64, f64)> = (0..50).map(|i| (i as f64, 3.0 * i as f64)).collect();
        assert!(trend(&slope, 4).iter().zip(&slope).all(|(a, b)| (a.1 - b.1).abs() < 1e-9));
        let flat = trend(&[(0.0, 1.0), (1.0, f64::NAN), (2.0, 4.0)], 1);
        assert_eq!(flat, [(0.0, 1.0), (1.0, 2.5), (2.0, 4.0)]);
        assert!(trend(&[(0.0, f64::NAN)], 1)[0].1.is_nan());
        // One outlier at the very end of forty moves the end of the trend by a part of itself only.
        let mut noisy = vec![0.0; 40];
        noisy[39] = 1.0;
        let noisy: Vec<(f64, f64)> = noisy.into_iter().enumerate().map(|(x, y)| (x as f64, y)).collect();
        assert!(trend(&noisy, 8)[39].1 < 0.5);
        let full: Vec<(f64, f64)> = (0..20).map(|x| (x as f64, (x as f64 / 10.0).min(1.0))).collect();
        assert!(trend(&full, 15).iter().all(|p| p.1 <= 1.0));
    }

    #[test]
    fn titles_are_escaped_and_empty_charts_say_so() {
        let svg = chart(vec![(0.0, 1.0), (1.0, 2.0)]).to_svg();
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b") && svg.ends_with("</svg>"));
        assert!(chart(vec![]).to_svg().contains("no finite value"));
        assert!(chart(vec![(0.0, f64::NAN)]).to_svg().contains("no finite value"));
        for points in [vec![(5.0, 1.0)], vec![(0.0, 2.0); 400]] {
            let svg = chart(points).to_svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn end_labels_do_not_overlap() {
        let series: Vec<Series> =
            (0..5).map(|i| Series { name: format!("s{i}"), points: vec![(0.0, 0.0), (1.0, 1.0)] }).collect();
        let svg = LineChart { series, ..chart(vec![]) }.to_svg();
        let mut at: Vec<f64> = svg
            .lines()
            .filter(|l| l.contains("<text") && PALETTE_TEXT.iter().any(|c| l.contains(c)))
            .map(|l| l.split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        at.sort_by(f64::total_cmp);
        assert_eq!(at.len(), 5);
        assert!(at.windows(2).all(|w| w[1] - w[0] > 15.0), "{at:?}");
    }

    const PALETTE_TEXT: [&str; 6] = super::super::PALETTE;
}
