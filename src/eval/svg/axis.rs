//! A linear axis: range, round ticks, and where a value falls.

use std::fmt::Write;

/// Values mapped onto pixels.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    step: f64,
}

impl Axis {
    /// Covers `low..=high` with room at both ends, drawn between the pixels `from` and `to`, with about `ticks` ticks.
    ///
    /// Both ends must be finite; equal ends are moved apart.
    pub(super) fn covering(low: f64, high: f64, from: f64, to: f64, ticks: usize) -> Self {
        let (low, high) = if high > low {
            (low, high)
        } else {
            let half = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low - half, high + half)
        };
        let step = round_step((high - low) / ticks.max(1) as f64);
        // Ends move out to a tick only if one is near, so that the curve fills its frame.
        let end = |value: f64, up: bool| {
            let tick = if up { (value / step).ceil() } else { (value / step).floor() } * step;
            if (tick - value).abs() <= 0.45 * step {
                tick
            } else {
                value + if up { 0.06 } else { -0.06 } * (high - low)
            }
        };
        Self { low: end(low, false), high: end(high, true), from, to, step }
    }

    /// Exactly `low..=high`.
    pub(super) fn exact(low: f64, high: f64, from: f64, to: f64, ticks: usize) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, from, to, step: round_step((high - low) / ticks.max(1) as f64) }
    }

    /// Pixel of `value`.
    pub(super) fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Ticks with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        // A tick just past the end is shown: a run of 1000 steps ends at 999.
        let slack = 0.02 * self.step;
        let first = ((self.low - slack) / self.step).ceil() as i64;
        let last = ((self.high + slack) / self.step).floor() as i64;
        (first..=last).map(|i| (i as f64 * self.step, self.label(i as f64 * self.step))).collect()
    }

    fn label(&self, value: f64) -> String {
        if value == 0.0 {
            return "0".into();
        }
        // Digits after the point of `value / unit`, so that neighbouring ticks differ.
        let decimals = |unit: f64| (-((self.step / unit).log10() + 1e-9).floor()).max(0.0) as usize;
        let largest = self.low.abs().max(self.high.abs());
        for (from, unit, suffix) in [(1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")] {
            if largest >= from {
                return format!("{:.*}{suffix}", decimals(unit), value / unit);
            }
        }
        if self.step >= 1e-4 {
            return format!("{value:.*}", decimals(1.0));
        }
        let power = value.abs().log10().floor();
        format!("{value:.*e}", decimals(10f64.powf(power)))
    }

    /// Horizontal grid lines with their labels left of `x0`, for an axis that runs upwards.
    pub(super) fn draw_y(&self, svg: &mut String, x0: f64, x1: f64) {
        for (value, label) in self.ticks() {
            let y = self.at(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{x0:.1} {y:.1}H{x1:.1}\" stroke=\"currentColor\" stroke-opacity=\"0.13\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" opacity=\"0.7\">{label}</text>",
                x0 - 7.0,
                y + 4.5
            );
        }
    }

    /// Ticks with their labels below `y`, for an axis that runs to the right.
    pub(super) fn draw_x(&self, svg: &mut String, y: f64) {
        for (value, label) in self.ticks() {
            let x = self.at(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {y:.1}v4\" stroke=\"currentColor\" stroke-opacity=\"0.4\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" opacity=\"0.7\">{label}</text>",
                y + 18.0
            );
        }
    }
}

/// The nearest, by ratio, of 1, 2, 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let rounded = match step / power {
        x if x < 1.42 => 1.0,
        x if x < 3.17 => 2.0,
        x if x < 7.08 => 5.0,
        _ => 10.0,
    };
    rounded * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(&Axis::covering(0.03, 0.97, 0.0, 100.0, 5)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&Axis::exact(0.0, 40_000.0, 0.0, 100.0, 4)), ["0", "10k", "20k", "30k", "40k"]);
        assert_eq!(labels(&Axis::exact(0.0, 1e-5, 0.0, 100.0, 2)), ["0", "5e-6", "1.0e-5"]);
        assert_eq!(labels(&Axis::exact(-0.1, 0.1, 0.0, 1.0, 4)), ["-0.10", "-0.05", "0", "0.05", "0.10"]);
        assert_eq!(
            labels(&Axis::exact(9e-4, 1.1e-3, 0.0, 1.0, 4)),
            ["9.0e-4", "9.5e-4", "1.00e-3", "1.05e-3", "1.10e-3"]
        );
        assert_eq!(labels(&Axis::exact(1e6, 1e6 + 200.0, 0.0, 1.0, 2)), ["1.0000M", "1.0001M", "1.0002M"]);
    }

    #[test]
    fn equal_ends_are_moved_apart() {
        for value in [0.0, -3.0, 1e-9] {
            let axis = Axis::covering(value, value, 0.0, 100.0, 4);
            let at = axis.at(value);
            assert!((10.0..=90.0).contains(&at), "{value} falls at {at}");
            assert!(axis.ticks().len() >= 2, "{value}: {:?}", axis.ticks());
        }
    }
}
