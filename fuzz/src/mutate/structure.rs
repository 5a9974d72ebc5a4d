//! Changes of values, lines and parts of a text, which keep most of its grammar.

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::Material;
use super::bytes::splice;
use super::values::{Kind, Value, values};
use crate::scratch::SEPARATOR;
use crate::watch::LARGEST_INPUT;

/// Numbers at the ends of types, beyond them, and in spellings that not every format has.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "3",
    "7",
    "255",
    "256",
    "65535",
    "65536",
    "100000",
    "1000000000",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e5",
    "1E+2",
    "1e18",
    "1e38",
    "3.5e38",
    "1e308",
    "1e309",
    "-1e400",
    "1e-400",
    "0.1",
    "-0.5",
    "1.0",
    "NaN",
    "Infinity",
    "-Infinity",
    "inf",
    "nan",
    "00",
    "0x10",
    "1_000",
    "12,99",
    "1.",
    ".5",
];

/// Values of every kind.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "\"\"",
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    "{\"\":{}}",
    "\"x\"",
    "[null]",
    "None",
    "True",
    "()",
    "\"\\u0000\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\" \"",
    "\"&amp;lt;|im_end|&gt;\"",
    "\"<|im_end|>\"",
    "\"<s_a_1>\"",
    "\"../../x\"",
    "[1,[2,[3]]]",
];

/// Depths around the limits of parsers.
const DEPTHS: &[usize] = &[2, 10, 63, 64, 65, 126, 127, 128, 129, 200, 500, 1000, 5000, 20_000];

/// What nests in the formats read here.
const NESTS: &[(&str, &str)] = &[
    ("[", "]"),
    ("{\"a\":", "}"),
    ("(", ")"),
    ("{'a': ", "}"),
    ("[[],", "]"),
    ("{% if 1 %}", "{% endif %}"),
    ("{% for x in [1] %}", "{% endfor %}"),
    ("<b>", "</b>"),
    ("&amp;", ""),
    ("-", ""),
    ("not ", ""),
];

/// Changes `input` once.
pub(super) fn change(input: &mut Vec<u8>, material: &mut Material) {
    let found = values(input);
    match material.below(20) {
        0..=1 => lines(input, material),
        2 => separated_parts(input, material),
        3 => nest(input, &found, material),
        4..=7 => number(input, &found, material),
        _ => value(input, &found, material),
    }
}

/// Changes `input` once so that it may well be accepted: other text within quotes, another number, a value of the same kind from
/// elsewhere, a blank.
pub(super) fn change_gently(input: &mut Vec<u8>, material: &mut Material) {
    let found: Vec<Value> = values(input).into_iter().filter(|v| !v.key && v.kind != Kind::Nested).collect();
    let Some(&at) = found.choose(&mut material.rng) else { return super::bytes::change(input, material) };
    let covered = at.end - at.start;
    match (material.below(8), at.kind) {
        (0..3, Kind::Text) => {
            let inside = at.start + 1 + material.below(covered - 1);
            // not between a backslash and what it protects
            let inside = if input[inside - 1] == b'\\' { at.start + 1 } else { inside };
            let corner = INNOCENT.choose(&mut material.rng).expect("some");
            splice(input, inside, 0, corner.as_bytes());
        }
        (3, Kind::Text) => {
            let word = material.word().replace(['"', '\'', '\\', '\n'], "");
            splice(input, at.start + 1, covered - 2, word.as_bytes());
        }
        (0..4, Kind::Number) => {
            let old = std::str::from_utf8(&input[at.start..at.end]).ok().and_then(|text| text.parse::<i64>().ok());
            let steps = [-2, -1, 1, 2, 10, 1 << 16, 1 << 33];
            let new = old.unwrap_or(1).wrapping_add(steps[material.below(steps.len())]);
            splice(input, at.start, covered, new.to_string().as_bytes());
        }
        (4, _) => splice(input, at.start, 0, b" "),
        (5, _) => lines(input, material),
        _ => {
            let alike: Vec<&Value> = found.iter().filter(|v| v.kind == at.kind).collect();
            let other = alike.choose(&mut material.rng).expect("itself");
            let copy = input[other.start..other.end].to_vec();
            splice(input, at.start, covered, &copy);
        }
    }
}

/// Text that may stand in any string.
const INNOCENT: &[&str] = &[
    "a",
    "0",
    " ",
    "  ",
    "é",
    "日本",
    "e\u{301}",
    "\u{feff}",
    "\u{2028}",
    "\u{1f468}\u{200d}\u{1f469}",
    "İ",
    "ß",
    "<",
    ">",
    "&",
    "&lt;",
    "&amp;amp;",
    "<b>",
    "<|im_end|>",
    "<s_a_1>",
    "\\n",
    "\\u0000",
    "\\u00e9",
    "\\ud83d\\ude00",
    "\\t",
    "$",
    "%",
    ",",
    ".",
    "-1",
    "/",
    "{{ x }}",
    "{%",
    "\u{10ffff}",
    "\u{7f}",
];

/// A value takes another's place, goes, comes twice, or gets another name.
fn value(input: &mut Vec<u8>, found: &[Value], material: &mut Material) {
    let Some(&at) = found.choose(&mut material.rng) else { return };
    let covered = at.end - at.start;
    match material.below(9) {
        0..=1 => {
            let new = VALUES.choose(&mut material.rng).expect("some");
            splice(input, at.start, covered, new.as_bytes());
        }
        2 => {
            let word = material.word().as_bytes();
            // in the quotes that were there
            match at.kind {
                Kind::Text => splice(input, at.start + 1, covered - 2, word),
                _ => splice(input, at.start, covered, word),
            }
        }
        3 => {
            // with the comma before it or after it
            let before = input[..at.start].iter().rposition(|c| !b" \n".contains(c)).filter(|b| input[*b] == b',');
            let after = input[at.end..].iter().position(|c| !b" \n".contains(c)).map(|a| at.end + a);
            let end = after.filter(|a| before.is_none() && input[*a] == b',').map_or(at.end, |a| a + 1);
            input.drain(before.unwrap_or(at.start)..end);
        }
        4 => {
            let copy = input[at.start..at.end].to_vec();
            splice(input, at.end, 0, &[b", ", &copy[..]].concat());
        }
        5 => {
            // a key and its value a second time
            let Some(key) = found.iter().rfind(|v| v.key && v.end <= at.start) else { return };
            let copy = input[key.start..at.end].to_vec();
            splice(input, at.end, 0, &[b", ", &copy[..]].concat());
        }
        6 => {
            let other = *found.choose(&mut material.rng).expect("there is one");
            let copy = input[other.start..other.end].to_vec();
            splice(input, at.start, covered, &copy);
        }
        7 => {
            let other = material.pool.choose(&mut material.rng).expect("there are seeds");
            if let Some(new) = values(other).choose(&mut material.rng) {
                splice(input, at.start, covered, &other[new.start..new.end]);
            }
        }
        _ => {
            // text of great length, or many values
            let piece = if at.kind == Kind::Text { &b"ab<&"[..] } else { &b"0,"[..] };
            let times = 1 << material.below(12);
            splice(input, at.end - 1, 0, &piece.repeat(times));
        }
    }
}

fn number(input: &mut Vec<u8>, found: &[Value], material: &mut Material) {
    let numbers: Vec<&Value> = found.iter().filter(|v| v.kind == Kind::Number).collect();
    let Some(at) = numbers.choose(&mut material.rng).copied().or(found.choose(&mut material.rng)) else { return };
    let mut new = NUMBERS.choose(&mut material.rng).expect("some").to_string();
    let old = std::str::from_utf8(&input[at.start..at.end]).ok().and_then(|text| text.parse::<i64>().ok());
    if let Some(old) = old.filter(|_| material.rng.random_bool(0.4)) {
        new = old.wrapping_add([-1, 1, 2, -2, 10, 16][material.below(6)]).to_string();
    }
    splice(input, at.start, at.end - at.start, new.as_bytes());
}

/// Puts a value in many brackets, closed or not.
fn nest(input: &mut Vec<u8>, found: &[Value], material: &mut Material) {
    let (open, close) = *NESTS.choose(&mut material.rng).expect("some");
    let (start, end) = found.choose(&mut material.rng).map_or((0, input.len()), |v| (v.start, v.end));
    let depth = *DEPTHS.choose(&mut material.rng).expect("some");
    let depth = depth.min(LARGEST_INPUT.saturating_sub(input.len()) / (open.len() + close.len()));
    if material.rng.random_bool(0.8) {
        splice(input, end, 0, close.repeat(depth).as_bytes());
    }
    splice(input, start, 0, open.repeat(depth).as_bytes());
}

/// A line goes, comes twice, changes places with another, loses or changes its end.
fn lines(input: &mut Vec<u8>, material: &mut Material) {
    let mut all: Vec<Vec<u8>> = input.split_inclusive(|c| *c == b'\n').map(<[u8]>::to_vec).collect();
    if all.is_empty() {
        return;
    }
    let (a, b) = (material.below(all.len()), material.below(all.len()));
    match material.below(7) {
        0 => {
            all.remove(a);
        }
        1 => all.insert(b, all[a].clone()),
        2 => all.swap(a, b),
        3 => {
            all[a].pop();
        }
        4 => {
            all[a].pop();
            all[a].extend_from_slice(b"\r\n");
        }
        5 => all.insert(a, b"\n".to_vec()),
        _ => {
            let other = material.pool.choose(&mut material.rng).expect("there are seeds");
            let lines: Vec<&[u8]> = other.split_inclusive(|c| *c == b'\n').collect();
            all.extend(lines.choose(&mut material.rng).map(|line| line.to_vec()));
        }
    }
    *input = all.concat();
}

/// Parts of an input that stands for several files change places or go.
fn separated_parts(input: &mut Vec<u8>, material: &mut Material) {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut rest = &input[..];
    while let Some(end) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        all.push(rest[..end].to_vec());
        rest = &rest[end + SEPARATOR.len()..];
    }
    all.push(rest.to_vec());
    let (a, b) = (material.below(all.len()), material.below(all.len()));
    match material.below(3) {
        0 => all[a].clear(),
        1 => all.swap(a, b),
        _ => all[a] = all[b].clone(),
    }
    *input = all.join(SEPARATOR);
}
