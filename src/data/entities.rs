//! Character references of HTML: `&eacute;`, `&#233;`, `&#xE9;`, and the names that count without their semicolon.

use std::collections::HashMap;
use std::sync::LazyLock;

/// All names of HTML 5, each with the characters it stands for as hexadecimal code points.
///
/// Source: WHATWG HTML, named character references; those without a semicolon are in it as such.
const NAMES: &str = include_str!("entities.txt");

/// The longest name, its semicolon included.
const LONGEST: usize = 32;

static TABLE: LazyLock<HashMap<&str, String>> = LazyLock::new(|| {
    let characters = |codes: &str| -> String {
        codes.split(' ').filter_map(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?)).collect()
    };
    NAMES.lines().filter_map(|line| line.split_once(' ')).map(|(name, codes)| (name, characters(codes))).collect()
});

/// Length of the reference that `text`, which starts with `&`, begins with, and what it stands for; `None` if the `&` is
/// a sign of its own.
///
/// Source: Python's `html.unescape`, which LC-Rec's preprocessing runs.
pub(super) fn reference(text: &str) -> Option<(usize, String)> {
    let rest = text.strip_prefix('&')?;
    if let Some(number) = rest.strip_prefix('#') {
        return numeric(number).map(|(length, c)| (2 + length, c.map(String::from).unwrap_or_default()));
    }
    let ends = |c: char| matches!(c, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';');
    let stop = rest.char_indices().enumerate().find(|(count, (_, c))| *count == LONGEST || ends(*c));
    let end = stop.map_or(rest.len(), |(_, (at, _))| at);
    let end = end + usize::from(rest[end..].starts_with(';'));
    let known = |length: usize| TABLE.get(rest.get(..length)?).map(|characters| (1 + length, characters.clone()));
    known(end).or_else(|| (2..end).rev().find_map(known))
}

/// Length of the digits after `&#`, semicolon included, and their character, if they stand for one.
fn numeric(text: &str) -> Option<(usize, Option<char>)> {
    let (prefix, base) = if text.starts_with(['x', 'X']) { (1, 16) } else { (0, 10) };
    let digits = text[prefix..].bytes().take_while(|c| char::from(*c).is_digit(base)).count();
    if digits == 0 {
        return None;
    }
    let end = prefix + digits;
    // A number that no u32 holds is beyond the last character, too.
    let code = u32::from_str_radix(&text[prefix..end], base).unwrap_or(u32::MAX);
    let character = match code {
        0x80..=0x9f => Some(windows_1252(code as u8)),
        1..=8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        _ if code & 0xfffe == 0xfffe && code <= 0x10_ffff => None,
        0 => Some(char::REPLACEMENT_CHARACTER),
        _ => Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)),
    };
    Some((end + usize::from(text[end..].starts_with(';')), character))
}

/// Pages written on Windows count its characters as if they were Unicode's.
fn windows_1252(code: u8) -> char {
    const CHARACTERS: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', //
        '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    CHARACTERS[usize::from(code & 0x1f)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_those_of_html_unescape() {
        let cases = [
            ("&eacute;x", Some((8, "é"))),
            ("&eacutex", Some((7, "é"))),
            ("&rsquo;", Some((7, "’"))),
            ("&rsquo ", None),
            ("&copy 2012", Some((5, "©"))),
            ("&copycat", Some((5, "©"))),
            ("&notit;", Some((4, "¬"))),
            ("&notin;", Some((7, "∉"))),
            ("&AMP;", Some((5, "&"))),
            ("&T and", None),
            ("& b", None),
            ("&B;", None),
            ("&;", None),
            ("&é;", None),
            ("&fjlig;", Some((7, "fj"))),
            ("&CounterClockwiseContourIntegral;", Some((33, "∳"))),
            ("&#37;", Some((5, "%"))),
            ("&#37x", Some((4, "%"))),
            ("&#xE9;", Some((6, "é"))),
            ("&#Xe9 ", Some((5, "é"))),
            ("&#150;", Some((6, "–"))),
            ("&#0;", Some((4, "\u{fffd}"))),
            ("&#xD800;", Some((8, "\u{fffd}"))),
            ("&#99999999999;", Some((14, "\u{fffd}"))),
            ("&#7;", Some((4, ""))),
            ("&#x1FFFE;", Some((9, ""))),
            ("&#;", None),
            ("&#x;", None),
            ("&#xg", None),
        ];
        for (text, expected) in cases {
            assert_eq!(reference(text), expected.map(|(length, c)| (length, c.to_owned())), "{text}");
        }
    }

    #[test]
    fn the_table_is_whole() {
        assert_eq!((TABLE.len(), TABLE.keys().filter(|name| !name.ends_with(';')).count()), (2231, 106));
        assert!(TABLE.iter().all(|(name, characters)| name.len() <= LONGEST && !characters.is_empty()));
    }
}
