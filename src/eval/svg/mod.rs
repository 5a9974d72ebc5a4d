//! Small charts as SVG text, without a script: they stand alone and sit in a page, on a light or a dark ground.
//!
//! Axes and text take the colour of the text around them (`currentColor`), series a mid-tone that is at least 3:1 against white
//! and against near-black.

mod axis;
mod interval;
mod line;

pub use interval::{IntervalChart, IntervalRow};
pub use line::{LineChart, Series};

/// Colours of the series, in order; told apart also with the common forms of colour blindness.
const PALETTE: [&str; 6] = ["#3987c9", "#d5771e", "#2e9e73", "#c2568f", "#8d78d6", "#a08a1f"];

fn colour(series: usize) -> &'static str {
    PALETTE[series % PALETTE.len()]
}

/// The opening tag, with the accessible name, and the style that every chart shares.
fn open(width: f64, height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"currentColor\">\n",
        escape(title)
    )
}

/// Text made safe inside HTML and SVG, in content and in quoted attributes; characters that XML forbids become U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\t' | '\n' | '\r' => safe.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// A number in about four significant digits: `0.5234`, `12.3`, `41,200`, `3e-5`.
pub(super) fn compact(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "–".into()
    } else if size >= 1e9 || (size > 0.0 && size < 1e-3) {
        let text = format!("{value:.2e}");
        // 3.00e-5 reads better as 3e-5.
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{}e{exponent}", trim_zeros(mantissa))
    } else if size >= 1000.0 {
        grouped(value.round() as i64)
    } else {
        let decimals = if size >= 100.0 {
            1
        } else if size >= 10.0 {
            2
        } else if size >= 1.0 {
            3
        } else {
            4
        };
        trim_zeros(&format!("{value:.decimals$}")).into()
    }
}

/// A whole number with its thousands apart: `1,234,567`.
pub(super) fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes() {
        assert_eq!(escape("<a href='x'>\"&\u{0}\u{1b}\n"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\u{fffd}\u{fffd}\n");
    }

    #[test]
    fn numbers_read_well() {
        let texts = [0.0, 0.52341, 12.345, 41234.4, 3e-5, -1234567.0, 2.0, 100.0, f64::NAN].map(compact);
        assert_eq!(texts, ["0", "0.5234", "12.35", "41,234", "3e-5", "-1,234,567", "2", "100", "–"]);
    }
}
