//! The JSON objects in what a chat model wrote: between words, in a fence, with line breaks inside strings.

use crate::text::{THINK, THINK_END};

/// Longest text that is looked through in bytes; no model writes as much about a slate.
const LONGEST: usize = 1 << 20;
/// Beginnings of an object that are tried.
const TRIED: usize = 64;

/// The objects of a text, in the order they begin, one inside another included; written as strict JSON.
pub(super) struct Objects<'t> {
    text: &'t str,
    tried: usize,
    /// Whether one of them did not end.
    pub(super) unclosed: bool,
}

impl<'t> Objects<'t> {
    /// Those behind the thinking.
    pub(super) fn of(text: &'t str) -> Self {
        let text = match text.rsplit_once(THINK_END) {
            Some((_, after)) => after,
            // what is thought is no answer, even if it never comes to one
            None if text.trim_start().starts_with(THINK) => "",
            None => text,
        };
        let text = if text.len() > LONGEST { "" } else { text };
        Objects { text, tried: 0, unclosed: false }
    }
}

impl Iterator for Objects<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        while self.tried < TRIED {
            let start = self.text.find('{')?;
            let rest = &self.text[start + 1..];
            self.text = rest;
            // a brace of prose, as in {nothing}, is none of an object that has a field
            if !rest.trim_start().starts_with(['"', '/']) {
                continue;
            }
            self.tried += 1;
            match object(rest) {
                Some(found) => return Some(found),
                None => self.unclosed = true,
            }
        }
        None
    }
}

/// The object that a text begins with, as strict JSON; `None` if it begins with none or the object does not end.
pub(super) fn mended(text: &str) -> Option<String> {
    object(text.strip_prefix('{')?)
}

/// The object whose first brace stands before `rest`, as strict JSON: control characters inside strings escaped, escapes that
/// JSON does not know as the characters they are of, comments and last commas taken out. `None` if it does not end.
fn object(rest: &str) -> Option<String> {
    let mut out = String::from("{");
    let (mut depth, mut inside) = (1usize, false);
    let mut at = rest.char_indices().peekable();
    while let Some((place, c)) = at.next() {
        match c {
            '"' => {
                inside = !inside;
                out.push(c);
            }
            '\\' if inside => {
                let (_, next) = at.next()?;
                let digits = rest.get(place + 2..place + 6).filter(|_| next == 'u');
                match (next, digits.and_then(|digits| u32::from_str_radix(digits, 16).ok())) {
                    ('u', Some(code)) => {
                        at.nth(3);
                        push_escape(&mut out, code, &rest[place + 6..], &mut at);
                    }
                    ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't', _) => out.extend(['\\', next]),
                    (letter, _) if letter.is_alphanumeric() => out.extend(['\\', '\\', letter]),
                    (other, _) => push_inside(&mut out, other),
                }
            }
            c if inside => push_inside(&mut out, c),
            '{' | '[' => {
                depth += 1;
                out.push(c);
            }
            '}' | ']' => {
                let kept = out.trim_end().len();
                out.truncate(kept);
                if out.ends_with(',') {
                    out.pop();
                }
                out.push(c);
                depth -= 1;
                if depth == 0 {
                    return Some(out);
                }
            }
            '/' if at.next_if(|(_, next)| *next == '/').is_some() => while at.next_if(|(_, c)| *c != '\n').is_some() {},
            '/' if at.next_if(|(_, next)| *next == '*').is_some() => {
                let end = place + 2 + rest.get(place + 2..)?.find("*/")?;
                while at.next_if(|(here, _)| *here < end + 2).is_some() {}
            }
            c if c.is_whitespace() => out.push(' '),
            c => out.push(c),
        }
    }
    None
}

fn push_inside(out: &mut String, c: char) {
    match c.is_control() {
        true => *out += &format!("\\u{:04x}", u32::from(c)),
        false => out.push(c),
    }
}

/// A character by its code, with the second half of it where it has two; halves without the other become U+FFFD.
fn push_escape(out: &mut String, code: u32, after: &str, at: &mut std::iter::Peekable<std::str::CharIndices<'_>>) {
    let low = after.strip_prefix("\\u").and_then(|after| u32::from_str_radix(after.get(..4)?, 16).ok());
    match (code, low) {
        (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
            at.nth(5);
            *out += &format!("\\u{code:04x}\\u{low:04x}");
        }
        (0xd800..0xe000, _) => out.push(char::REPLACEMENT_CHARACTER),
        _ => *out += &format!("\\u{code:04x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn all(text: &str) -> Vec<Value> {
        Objects::of(text).filter_map(|object| serde_json::from_str(&object).ok()).collect()
    }

    #[test]
    fn objects_are_found_between_words() {
        let object = json!({ "a": "b", "c": [1] });
        for text in [
            r#"{"a": "b", "c": [1]}"#,
            r#"First {nothing}, then {}: {"a": "b", "c": [1]} and so on {"#,
            "```jsonc\n{\n  // note }\n  \"a\": \"b\", /* { */ \"c\": [1,],\n}\n```",
            "<think>{\"x\": 1}</think>{\"a\":\u{a0}\"b\",\"c\":[1]}",
        ] {
            assert_eq!(all(text), std::slice::from_ref(&object), "{text}");
        }
        assert_eq!(
            all(r#"{"x": {"y": 1}} {"z": 2}"#),
            [json!({ "x": { "y": 1 } }), json!({ "y": 1 }), json!({ "z": 2 })]
        );
        assert!(all("<think>{\"x\": 1}").is_empty() && all("").is_empty());
    }

    #[test]
    fn strings_are_mended() {
        let one = |text: &str| all(&format!("{{\"a\": \"{text}\"}}"))[0]["a"].as_str().unwrap().to_owned();
        assert_eq!(one("x\ny\tz\u{1b}"), "x\ny\tz\u{1b}");
        assert_eq!(one(r#"it\'s \_one\_ \"q\" \\ \/ \alpha"#), r#"it's _one_ "q" \ / \alpha"#);
        assert_eq!(one(r"\u00e9 \ud83d\ude00 \ud83d \ude00x \u12"), "é 😀 \u{fffd} \u{fffd}x \\u12");
        assert_eq!(one("{[}//"), "{[}//");
    }

    #[test]
    fn hostile_texts_end_soon() {
        for text in
            ["{\"".repeat(1 << 19), "{\"a\":".repeat(200_000), "{".repeat(1 << 20), "{\"a\": \"\\".into(), "{/*".into()]
        {
            let mut objects = Objects::of(&text);
            assert_eq!(objects.by_ref().count(), 0);
        }
        let mut cut = Objects::of("{\"a\": \"b");
        assert!(cut.next().is_none() && cut.unclosed);
    }
}
