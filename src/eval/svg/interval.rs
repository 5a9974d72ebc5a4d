//! Differences with their intervals, one row each, against a line at zero.

use std::fmt::Write;

use super::axis::Axis;
use super::{colour, escape, open};
use crate::eval::Interval;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 176.0;
const RIGHT: f64 = WIDTH - 226.0;
const TOP: f64 = 34.0;
const ROW: f64 = 21.0;
const BETWEEN_GROUPS: f64 = 9.0;

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct IntervalRow {
    /// Rows of the same group have the same colour and stand together.
    pub group: String,
    /// What is compared, as in `ndcg@5`.
    pub label: String,
    /// The difference.
    pub interval: Interval,
}

/// Intervals above one another.
#[derive(Debug, Clone, PartialEq)]
pub struct IntervalChart {
    /// Written above the chart.
    pub title: String,
    /// The rows, from the top.
    pub rows: Vec<IntervalRow>,
}

impl IntervalChart {
    /// The chart as one `<svg>` element; rows whose interval is not finite are left out.
    pub fn to_svg(&self) -> String {
        let rows: Vec<&IntervalRow> = self.rows.iter().filter(|r| finite(&r.interval)).collect();
        let groups = rows.chunk_by(|a, b| a.group == b.group).count() as f64;
        let bottom = TOP + rows.len() as f64 * ROW + (groups - 1.0).max(0.0) * BETWEEN_GROUPS;
        let mut svg = open(WIDTH, bottom + 32.0, &self.title);
        let _ =
            writeln!(svg, "<text x=\"2\" y=\"17\" font-size=\"15\" font-weight=\"600\">{}</text>", escape(&self.title));
        let low = rows.iter().map(|r| r.interval.low.min(r.interval.mean)).fold(0.0, f64::min);
        let high = rows.iter().map(|r| r.interval.high.max(r.interval.mean)).fold(0.0, f64::max);
        let axis = Axis::covering(low, high, LEFT, RIGHT, 6);
        for (value, _) in axis.ticks() {
            let opacity = if value == 0.0 { 0.75 } else { 0.13 };
            let x = axis.at(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {TOP}V{bottom:.1}\" stroke=\"currentColor\" stroke-opacity=\"{opacity}\"/>"
            );
        }
        axis.draw_x(&mut svg, bottom);
        let mut y = TOP + ROW / 2.0;
        for (at, group) in rows.chunk_by(|a, b| a.group == b.group).enumerate() {
            for row in group {
                draw_row(&mut svg, row, colour(at), &axis, y);
                y += ROW;
            }
            y += BETWEEN_GROUPS;
        }
        svg.push_str("</svg>");
        svg
    }
}

fn draw_row(svg: &mut String, row: &IntervalRow, colour: &str, axis: &Axis, y: f64) {
    let Interval { mean, low, high } = row.interval;
    let (x0, x, x1) = (axis.at(low), axis.at(mean), axis.at(high));
    let text = y + 4.5;
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\"><tspan fill=\"{colour}\">{}</tspan> {}</text>",
        LEFT - 14.0,
        escape(&row.group),
        escape(&row.label)
    );
    let _ = writeln!(
        svg,
        "<path d=\"M{x0:.1} {y:.1}H{x1:.1}M{x0:.1} {:.1}v8M{x1:.1} {:.1}v8\" stroke=\"{colour}\" stroke-width=\"2\"/>\
         <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{colour}\"/>",
        y - 4.0,
        y - 4.0
    );
    // The weight says at a glance which differences chance does not explain.
    let weight = if low > 0.0 || high < 0.0 { "600" } else { "400" };
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{text:.1}\" font-weight=\"{weight}\">{mean:+.4} [{low:+.4}, {high:+.4}]</text>",
        RIGHT + 14.0
    );
}

fn finite(interval: &Interval) -> bool {
    interval.mean.is_finite() && interval.low.is_finite() && interval.high.is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_always_in_sight_and_only_clear_differences_are_bold() {
        let row = |label: &str, low, high| IntervalRow {
            group: "a<b".into(),
            label: label.into(),
            interval: Interval { mean: (low + high) / 2.0, low, high },
        };
        let rows = vec![row("one", 0.02, 0.05), row("two", -0.01, 0.03), row("three", f64::NAN, 1.0)];
        let svg = IntervalChart { title: "t".into(), rows }.to_svg();
        assert!(svg.contains("stroke-opacity=\"0.75\""));
        assert_eq!(svg.matches("font-weight=\"600\">+").count(), 1);
        assert!(svg.contains("a&lt;b") && svg.contains("+0.0350 [+0.0200, +0.0500]") && !svg.contains("three"));
        assert!(!IntervalChart { title: "t".into(), rows: vec![] }.to_svg().contains("NaN"));
    }
}
