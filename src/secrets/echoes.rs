//! [`Secrets`]: known secrets taken out of what a server has sent back, however it spells them.

use std::collections::HashSet;
use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::MASK;
use crate::checksum::hex;

/// Characters of a secret at least; what is shorter (`EMPTY`, `x`) keeps nobody out, and stands in many words. From four
/// characters on it is masked in messages, where it is a word of its own.
const SHORTEST: usize = 8;
const SHORTEST_WORD: usize = 4;
/// Characters in a row that give a secret away.
const PIECE: usize = 8;

/// What percent codes are for: all but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Secrets that were sent, in every spelling in which they may come back.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// Each secret plainly, in percent codes, as JSON and HTML write it, in hexadecimal digits, and in base64 wherever it
    /// stands among other bytes. Longest first.
    spellings: Vec<String>,
    /// Every run of [`PIECE`] characters of those, in lower case.
    pieces: HashSet<String>,
    /// Secrets too short to be looked for inside of words.
    words: Vec<String>,
}

impl Secrets {
    /// Knows these secrets.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let (mut spellings, mut words) = (vec![], vec![]);
        for secret in secrets {
            let secret = secret.as_ref().trim();
            // "Bearer KEY" may come back as KEY
            let word = secret.rsplit(' ').next().unwrap_or(secret);
            for secret in [secret, word] {
                match secret.chars().count() {
                    SHORTEST.. => spellings.extend(spellings_of(secret)),
                    SHORTEST_WORD.. => words.push(secret.to_owned()),
                    _ => {}
                }
            }
        }
        spellings.retain(|spelling| spelling.chars().count() >= PIECE);
        spellings.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
        spellings.dedup();
        let pieces = spellings.iter().flat_map(|spelling| {
            let lower: Vec<char> = spelling.to_ascii_lowercase().chars().collect();
            lower.windows(PIECE).map(|run| run.iter().collect()).collect::<Vec<String>>()
        });
        Secrets { pieces: pieces.collect(), spellings, words }
    }

    /// A text with [`MASK`] for every secret and every part of one, eight characters of it or more: a server or a limit may have
    /// cut it. All else stays as it is.
    pub fn mask(&self, text: &str) -> String {
        let masked = self.without_pieces(text);
        // escapes are undone only where they hide something
        let plain = plain_escapes(&masked);
        let again = self.without_pieces(&plain);
        if again == plain { masked } else { again }
    }

    /// [`Secrets::mask`] for messages: short secrets are taken out as well, where they are words.
    pub fn mask_message(&self, text: &str) -> String {
        let text = self.words.iter().fold(plain_escapes(text), |text, word| mask_word(text, word));
        self.without_pieces(&text)
    }

    fn without_pieces(&self, text: &str) -> String {
        let text = self.spellings.iter().fold(text.to_owned(), |text, spelling| text.replace(spelling.as_str(), MASK));
        if self.pieces.is_empty() {
            return text;
        }
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut secret: Vec<Range<usize>> = vec![];
        for run in places.windows(PIECE + 1) {
            let range = run[0]..run[PIECE];
            if self.pieces.contains(&text[range.clone()].to_ascii_lowercase()) {
                match secret.last_mut().filter(|last| range.start <= last.end) {
                    Some(last) => last.end = range.end,
                    None => secret.push(range),
                }
            }
        }
        let (mut out, mut from) = (String::new(), 0);
        for range in secret {
            out += &text[from..range.start];
            out += MASK;
            from = range.end;
        }
        out + &text[from..]
    }
}

/// A text with [`MASK`] for a word, where no letter or digit stands beside it.
fn mask_word(text: String, word: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let joined = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let alone = !joined(before.chars().next_back().or(out.chars().next_back())) && !joined(after.chars().next());
        out += before;
        out += if alone { MASK } else { word };
        rest = after;
    }
    out + rest
}

fn spellings_of(secret: &str) -> Vec<String> {
    let json = serde_json::Value::from(secret).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let hex = hex(secret.as_bytes());
    let mut all = vec![
        secret.to_owned(),
        utf8_percent_encode(secret, RESERVED).to_string(),
        json.replace('/', "\\/"),
        json,
        html,
        hex.to_ascii_uppercase(),
        hex,
    ];
    for before in 0..3 {
        let base64 = base64_within(secret.as_bytes(), before);
        all.push(base64.replace('+', "-").replace('/', "_"));
        all.push(base64);
    }
    all
}

/// The digits of base64 that `bytes` alone decide where they stand after `before` other bytes.
fn base64_within(bytes: &[u8], before: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (first, end) = (before * 8, (before + bytes.len()) * 8);
    let bit = |at: usize| usize::from(bytes[(at - first) / 8] >> (7 - (at - first) % 8) & 1);
    let digit = |start: usize| char::from(DIGITS[(start..start + 6).fold(0, |all, at| all << 1 | bit(at))]);
    (first.div_ceil(6)..end / 6).map(|at| digit(at * 6)).collect()
}

/// A text with the escapes `\u0020` to `\u007e` of JSON as the characters they stand for.
fn plain_escapes(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("\\u00") {
        let code = rest.get(at + 4..at + 6).and_then(|code| u8::from_str_radix(code, 16).ok());
        out += &rest[..at];
        match code.filter(|code| (0x20..0x7f).contains(code)) {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 6..];
            }
            None => {
                out += "\\u00";
                rest = &rest[at + 4..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-SECRET+12/345678\"90abcdef";

    #[test]
    fn a_secret_is_found_in_every_spelling() {
        let secrets = Secrets::new([KEY]);
        for text in [
            KEY.to_owned(),
            "sk-SECRET%2B12%2F345678%2290abcdef".into(),
            r#"sk-SECRET+12/345678\"90abcdef"#.into(),
            r#"sk-SECRET+12\/345678\"90abcdef"#.into(),
            "sk-SECRET+12/345678&quot;90abcdef".into(),
            "736b2d5345435245542b31322f333435363738223930616263646566".into(),
        ] {
            assert_eq!(secrets.mask(&format!("a {text} b")), "a *** b");
        }
        // base64 of the key, of ":" + key, of "u:" + key, of the key + "\n"
        for text in [
            "c2stU0VDUkVUKzEyLzM0NTY3OCI5MGFiY2RlZg==",
            "OnNrLVNFQ1JFVCsxMi8zNDU2NzgiOTBhYmNkZWY=",
            "dTpzay1TRUNSRVQrMTIvMzQ1Njc4IjkwYWJjZGVm",
            "c2stU0VDUkVUKzEyLzM0NTY3OCI5MGFiY2RlZgo=",
        ] {
            let masked = secrets.mask(text);
            assert!(masked.len() <= MASK.len() + 6 && masked.contains(MASK), "{masked}");
        }
    }

    #[test]
    fn pieces_of_a_secret_are_found_too() {
        let secrets = Secrets::new(["sk-SECRET-1234567890abcdef"]);
        for (text, expected) in [
            ("key sk-SECRET-1234…", "key ***…"),
            ("key SK-secret-1234567890ABCDEF.", "key ***."),
            ("key sk-SECRET-\n1234567890abcdef", "key ***\n***"),
            ("\\u0073k-SECRET-1234567890abcde\\u0066", "***"),
            ("a sk-*** b\\u00e9", "a sk-*** b\\u00e9"),
            ("é 1234567", "é 1234567"),
        ] {
            assert_eq!(secrets.mask_message(text), expected);
        }
    }

    #[test]
    fn what_keeps_nobody_out_is_left_alone() {
        let secrets = Secrets::new(["ink-1", "x", ""]);
        assert_eq!(secrets.mask("an ink-1 box"), "an ink-1 box", "answers stay whole");
        assert_eq!(secrets.mask_message("ink-1, ink-12 or pink-1: ink-1"), "***, ink-12 or pink-1: ***");
        let bearer = Secrets::new(["Bearer abcdefghi"]);
        assert_eq!(bearer.mask("key abcdefghi"), "key ***");
    }

    #[test]
    fn answers_lose_parts_and_escapes_of_secrets_and_nothing_else() {
        let secrets = Secrets::new(["sk-ABCDEFGH-12345678"]);
        for text in
            ["sk-ABCDEFGH-1234567", "SK-abcdefgh-12345678", "sk-ABCDEFG H-12345678", "\\u0073k-ABCDEFGH-12345678"]
        {
            let masked = secrets.mask(text);
            assert!(masked.contains(MASK) && !masked.to_ascii_lowercase().contains("defgh-1"), "{masked}");
        }
        let answer = r#"{"explanation": "a \u0022quoted\u0022 title", "ranking": [1]}"#;
        assert_eq!(secrets.mask(answer), answer);
    }
}
