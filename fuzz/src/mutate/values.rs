//! Where the values of a text are: strings, numbers, words and what stands in brackets, as JSON, TOML, Python and Jinja write
//! them. A text that is none of these has values all the same, of numbers and words.

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In quotes.
    Text,
    /// Digits, with what belongs to a number.
    Number,
    /// A name.
    Word,
    /// In brackets.
    Nested,
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) kind: Kind,
    pub(super) start: usize,
    /// After its last byte.
    pub(super) end: usize,
    /// Whether a colon or an equals sign follows.
    pub(super) key: bool,
}

/// The values of a text, those in brackets before the brackets.
pub(super) fn values(text: &[u8]) -> Vec<Value> {
    let mut found = Vec::new();
    let mut open = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let start = at;
        at += 1;
        let kind = match text[start] {
            quote @ (b'"' | b'\'') => {
                let Some(end) = end_of_string(&text[at..], quote) else { continue };
                at += end;
                Kind::Text
            }
            b'{' | b'[' | b'(' => {
                open.push(start);
                continue;
            }
            b'}' | b']' | b')' => {
                let Some(start) = open.pop() else { continue };
                found.push(value(text, Kind::Nested, start, at));
                continue;
            }
            b'-' | b'0'..=b'9' => {
                at += run(&text[at..], |c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'+' | b'-' | b'_'));
                Kind::Number
            }
            c if c.is_ascii_alphabetic() => {
                at += run(&text[at..], |c| c.is_ascii_alphanumeric() || c == b'_');
                Kind::Word
            }
            _ => continue,
        };
        found.push(value(text, kind, start, at));
    }
    found
}

fn value(text: &[u8], kind: Kind, start: usize, end: usize) -> Value {
    let blanks = run(&text[end..], |c| c == b' ');
    Value { kind, start, end, key: matches!(text.get(end + blanks), Some(b':' | b'=')) }
}

fn run(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|c| belongs(**c)).count()
}

/// Length up to and with the closing quote.
fn end_of_string(text: &[u8], quote: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        match *text.get(at)? {
            b'\\' => at += 2,
            c if c == quote => return Some(at + 1),
            b'\n' => return None,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found() {
        let text = br#"{"a\"b": [-1.5e3, true], 'c': "x"} y = 2"#;
        let shown = |v: &Value| (String::from_utf8_lossy(&text[v.start..v.end]).into_owned(), v.kind, v.key);
        let found: Vec<_> = values(text).iter().map(shown).collect();
        let expected = [
            (r#""a\"b""#, Kind::Text, true),
            ("-1.5e3", Kind::Number, false),
            ("true", Kind::Word, false),
            ("[-1.5e3, true]", Kind::Nested, false),
            ("'c'", Kind::Text, true),
            ("\"x\"", Kind::Text, false),
            (r#"{"a\"b": [-1.5e3, true], 'c': "x"}"#, Kind::Nested, false),
            ("y", Kind::Word, true),
            ("2", Kind::Number, false),
        ];
        assert_eq!(found, expected.map(|(text, kind, key)| (text.to_owned(), kind, key)));
        assert_eq!(values(b"]}' \"\\"), []);
    }
}
