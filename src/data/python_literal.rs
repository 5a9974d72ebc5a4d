//! Python literals, as the metadata of Amazon 2014 are written: one `repr(dict)` a line.

use serde_json::{Map, Number, Value};

/// Deepest nesting of lists, tuples and dicts; far beyond any real record, and safe for the stack.
const DEEPEST: usize = 64;

/// Reads a Python literal: strings in single or double quotes with prefix `u`, `b` or `r` and escapes, numbers, `True`,
/// `False`, `None`, lists, tuples and dicts. JSON's `true`, `false`, `null`, `\/` and surrogate pairs are understood too.
///
/// Tuples become arrays; keys that are numbers become text; the last of two equal keys counts, as in Python.
///
/// Errors: what was expected and the column, in characters from 1. Never evaluates anything.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0);
    let value = value.and_then(|value| {
        parser.skip_blanks();
        if parser.at == text.len() { Ok(value) } else { Err("expected the end of the record".to_owned()) }
    });
    value.map_err(|problem| {
        let found = text[parser.at..].chars().next().map_or("the end".to_owned(), |c| format!("`{c}`"));
        format!("{problem}, found {found} (column {})", text[..parser.at].chars().count() + 1)
    })
}

struct Parser<'a> {
    text: &'a str,
    /// Byte offset, always at a character boundary.
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Takes `c` after blanks, if it is next.
    fn take(&mut self, c: u8) -> bool {
        self.skip_blanks();
        let next = self.peek() == Some(c);
        self.at += usize::from(next);
        next
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err(format!("nested deeper than {DEEPEST}"));
        }
        self.skip_blanks();
        match self.peek() {
            Some(b'{') => self.dict(depth),
            Some(b'[') => self.list(b']', depth).map(|(values, _)| Value::Array(values)),
            Some(b'(') => {
                let (mut values, commas) = self.list(b')', depth)?;
                // (x) is x in brackets, (x,) a tuple of one.
                if values.len() == 1 && commas == 0 { Ok(values.remove(0)) } else { Ok(Value::Array(values)) }
            }
            Some(b'\'' | b'"') => self.string(false).map(Value::String),
            Some(b'-' | b'+') if self.text[self.at + 1..].starts_with(['i', 'I', 'n', 'N']) => {
                self.at += 1;
                self.word()
            }
            Some(c) if c.is_ascii_digit() || matches!(c, b'-' | b'+' | b'.') => self.number().map(Value::Number),
            Some(c) if c.is_ascii_alphabetic() => self.word(),
            _ => Err("expected a value".to_owned()),
        }
    }

    fn word(&mut self) -> Result<Value, String> {
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
        let word = &rest[..length];
        let quote_follows = matches!(rest.as_bytes().get(length), Some(b'\'' | b'"'));
        if quote_follows && matches!(word.to_ascii_lowercase().as_str(), "u" | "b" | "r" | "br" | "rb" | "ur") {
            self.at += length;
            return self.string(word.contains(['r', 'R'])).map(Value::String);
        }
        let value = match word {
            "True" | "true" => Value::Bool(true),
            "False" | "false" => Value::Bool(false),
            // no number of JSON, and nothing that can be reckoned with
            "None" | "null" | "nan" | "NaN" | "inf" | "Infinity" => Value::Null,
            _ => return Err("expected a string, number, True, False, None, list, tuple or dict".to_owned()),
        };
        self.at += length;
        Ok(value)
    }

    /// Values up to `close`, and how many commas stood between or after them.
    fn list(&mut self, close: u8, depth: usize) -> Result<(Vec<Value>, usize), String> {
        self.at += 1;
        let mut values = Vec::new();
        let mut commas = 0;
        loop {
            if self.take(close) {
                return Ok((values, commas));
            }
            if values.len() > commas {
                return Err(format!("expected `,` or `{}`", close as char));
            }
            values.push(self.value(depth + 1)?);
            commas += usize::from(self.take(b','));
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut entries = Map::new();
        let mut separated = true;
        loop {
            if self.take(b'}') {
                return Ok(Value::Object(entries));
            }
            if !separated {
                return Err("expected `,` or `}`".to_owned());
            }
            let start = self.at;
            let key = match self.value(depth + 1)? {
                Value::String(key) => key,
                Value::Number(number) => number.to_string(),
                _ => {
                    self.at = start;
                    return Err("expected a string or number as key".to_owned());
                }
            };
            if !self.take(b':') {
                return Err("expected `:` after a key".to_owned());
            }
            let value = self.value(depth + 1)?;
            entries.insert(key, value);
            separated = self.take(b',');
        }
    }

    fn number(&mut self) -> Result<Number, String> {
        let rest = &self.text[self.at..];
        let mut length = 0;
        for (i, c) in rest.bytes().enumerate() {
            let sign_of_exponent = i > 0 && matches!(rest.as_bytes()[i - 1], b'e' | b'E');
            let part = c.is_ascii_digit() || matches!(c, b'.' | b'e' | b'E' | b'_');
            if !(part || (matches!(c, b'+' | b'-') && (i == 0 || sign_of_exponent))) {
                break;
            }
            length = i + 1;
        }
        let digits = rest[..length].replace('_', "");
        let number = match digits.parse::<i64>() {
            Ok(whole) => Number::from(whole),
            Err(_) => {
                digits.parse().ok().and_then(Number::from_f64).ok_or_else(|| "expected a finite number".to_owned())?
            }
        };
        self.at += length;
        // The long integers of Python 2.
        self.at += usize::from(matches!(self.peek(), Some(b'L' | b'l')));
        Ok(number)
    }

    fn string(&mut self, raw: bool) -> Result<String, String> {
        let quote = self.text.as_bytes()[self.at];
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(plain) = rest.bytes().position(|c| c == quote || c == b'\\') else {
                self.at = start;
                return Err("a string without its closing quote".to_owned());
            };
            out.push_str(&rest[..plain]);
            self.at += plain + 1;
            if rest.as_bytes()[plain] == quote {
                return Ok(out);
            }
            if raw {
                // In a raw string the backslash stays, and still protects a quote.
                out.push('\\');
                if let Some(c) = self.text[self.at..].chars().next() {
                    out.push(c);
                    self.at += c.len_utf8();
                }
            } else {
                self.escape(&mut out)?;
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, out: &mut String) -> Result<(), String> {
        let Some(c) = self.text[self.at..].chars().next() else {
            return Err("expected an escape after `\\`".to_owned());
        };
        if ('0'..='7').contains(&c) {
            let digits = self.text[self.at..].bytes().take(3).take_while(|c| (b'0'..=b'7').contains(c)).count();
            let code = self.code(digits, 8)?;
            out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            return Ok(());
        }
        self.at += c.len_utf8();
        match c {
            '\n' => {}
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'v' => out.push('\x0b'),
            '\\' | '\'' | '"' | '/' => out.push(c),
            'x' => {
                let code = self.code(2, 16)?;
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            'u' => {
                let code = self.code(4, 16)?;
                let code = self.low_surrogate_after(code)?.unwrap_or(code);
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            'U' => {
                let code = self.code(8, 16)?;
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            // Python keeps an escape that it does not know as it stands.
            _ => out.extend(['\\', c]),
        }
        Ok(())
    }

    /// The character of a surrogate pair whose first half has just been read; nothing is taken if there is no second.
    fn low_surrogate_after(&mut self, high: u32) -> Result<Option<u32>, String> {
        let start = self.at;
        if (0xd800..0xdc00).contains(&high) && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            let low = self.code(4, 16)?;
            if (0xdc00..0xe000).contains(&low) {
                return Ok(Some(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)));
            }
            self.at = start;
        }
        Ok(None)
    }

    fn code(&mut self, digits: usize, base: u32) -> Result<u32, String> {
        let code =
            self.text.get(self.at..self.at + digits).filter(|code| code.bytes().all(|c| c.is_ascii_alphanumeric()));
        let code = code.and_then(|code| u32::from_str_radix(code, base).ok());
        let code = code.ok_or_else(|| format!("expected {digits} digits of base {base} in an escape"))?;
        self.at += digits;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parse;

    #[test]
    fn a_record_of_2014() {
        let line = r#"{'asin': '0205616461', 'description': "As we age, it's \"dry\"", 'title': u'Bio L\'Or\xe9al', 'price': 26.95,
            'related': {'also_bought': ['B001', 'B002'], 'n': (1, -2L, ), 'one': (1)}, 'salesRank': {'Beauty': 461765},
            'categories': [['Beauty', 'Skin Care'],], 'x': None, 'y': True, 3: 1e-3}"#;
        let expected = json!({
            "asin": "0205616461", "description": "As we age, it's \"dry\"", "title": "Bio L'Oréal", "price": 26.95,
            "related": {"also_bought": ["B001", "B002"], "n": [1, -2], "one": 1}, "salesRank": {"Beauty": 461765},
            "categories": [["Beauty", "Skin Care"]], "x": null, "y": true, "3": 0.001
        });
        assert_eq!(parse(line).unwrap(), expected);
    }

    #[test]
    fn floats_that_are_no_numbers_are_none() {
        assert_eq!(
            parse("[nan, -inf, inf, +inf, NaN, -Infinity, 'nan']").unwrap(),
            json!([(), (), (), (), (), (), "nan"])
        );
    }

    #[test]
    fn escapes() {
        let cases = [
            (r"'\n\t\\\'\x41\101\0\u00e9\U0001F600'", "\n\t\\'AA\0é😀"),
            (r#""\ud83d\ude00 \/ \q""#, "😀 / \\q"),
            (r"'\ud83d \ud83d\u0041'", "\u{fffd} \u{fffd}A"),
            (r"r'a\n\'b'", r"a\n\'b"),
            (r"b'\xff'", "ÿ"),
            ("'ü→'", "ü→"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap(), json!(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_and_where() {
        let cases = [
            ("{'a': 1", "expected `,` or `}`, found the end (column 8)"),
            ("{'a' 1}", "expected `:` after a key, found `1` (column 6)"),
            ("{'ü': x}", "expected a string, number, True, False, None, list, tuple or dict, found `x` (column 7)"),
            ("['a' 'b']", "expected `,` or `]`, found `'` (column 6)"),
            ("{'a': 'b", "a string without its closing quote, found `'` (column 7)"),
            ("'\\x4'", "expected 2 digits of base 16 in an escape, found `4` (column 4)"),
            ("'\\x+1'", "expected 2 digits of base 16 in an escape, found `+` (column 4)"),
            ("{None: 1}", "expected a string or number as key, found `N` (column 2)"),
            ("[1] 2", "expected the end of the record, found `2` (column 5)"),
            ("1e999", "expected a finite number, found `1` (column 1)"),
            ("na", "expected a string, number, True, False, None, list, tuple or dict, found `n` (column 1)"),
            ("", "expected a value, found the end (column 1)"),
            ("[,]", "expected a value, found `,` (column 2)"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse(&deep).unwrap_err().starts_with("nested deeper than 64"));
    }

    #[test]
    fn every_cut_of_a_record_is_an_error_and_none_a_panic() {
        let line = "{'a': u'é\\u00e9', 'b': [1.5, (True, None)], \"c\": {'d': -3}}";
        for end in (0..line.len()).filter(|&end| line.is_char_boundary(end)) {
            assert!(parse(&line[..end]).is_err(), "{}", &line[..end]);
        }
        assert!(parse(line).is_ok());
        for at in (0..line.len()).filter(|&at| line.is_char_boundary(at)) {
            for c in ["'", "\"", "\\", "(", "]", "}", ",", "ü", "\0", "-", "\\x", "\\u", "r'"] {
                // Any outcome but a panic.
                let _ = parse(&format!("{}{c}{}", &line[..at], &line[at..]));
            }
        }
    }
}
