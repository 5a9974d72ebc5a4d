//! JSON as Python and pandas write it, read as the JSON it stands for.
//!
//! `NaN`, `Infinity` and `-Infinity`, which are no JSON, become `null` outside of strings; half of a surrogate pair in a
//! string, which is no character, becomes U+FFFD. Everything else passes as it is.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
/// Bytes that decide what a word or an escape is: `\ud83d\ude00`.
const AHEAD: usize = 12;
const CHUNK: usize = 1 << 18;

/// The text as JSON, if anything in it had to be changed.
pub(super) fn loosened(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    Scanner::default().scan(text.as_bytes(), true, &mut out);
    String::from_utf8(out).ok().filter(|out| out != text)
}

/// Whether the scanner is inside a string.
#[derive(Default)]
struct Scanner {
    in_string: bool,
}

impl Scanner {
    /// Writes what `bytes` stand for and returns how many of them it has taken: all if they are the `last`, else perhaps
    /// a few less, where what follows decides.
    fn scan(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let special: fn(&u8) -> bool = match self.in_string {
                true => |b| matches!(b, b'"' | b'\\'),
                false => |b| matches!(b, b'"' | b'N' | b'I' | b'-'),
            };
            let plain = bytes[at..].iter().position(special).unwrap_or(bytes.len() - at);
            out.extend_from_slice(&bytes[at..at + plain]);
            at += plain;
            let rest = &bytes[at..];
            if rest.is_empty() || (rest.len() < AHEAD && !last && rest[0] != b'"') {
                break;
            }
            at += match rest[0] {
                b'"' => {
                    self.in_string = !self.in_string;
                    out.push(b'"');
                    1
                }
                b'\\' => escape(rest, out),
                _ => word(rest, out),
            };
        }
        at
    }
}

/// Writes the word or the single sign that `rest` begins with; its length.
fn word(rest: &[u8], out: &mut Vec<u8>) -> usize {
    match WORDS.iter().find(|word| rest.starts_with(word)) {
        Some(word) => {
            out.extend_from_slice(b"null");
            word.len()
        }
        None => {
            out.push(rest[0]);
            1
        }
    }
}

/// Writes the escape that `rest` begins with; its length.
fn escape(rest: &[u8], out: &mut Vec<u8>) -> usize {
    let length = match unit(rest) {
        Some(0xd800..0xdc00) if matches!(unit(&rest[6..]), Some(0xdc00..0xe000)) => 12,
        Some(0xd800..0xe000) => {
            out.extend_from_slice(b"\\ufffd");
            return 6;
        }
        // An escape of two characters, or one that is wrong and is left to the parser.
        _ => rest.len().min(2),
    };
    out.extend_from_slice(&rest[..length]);
    length
}

/// The code unit of `\uXXXX`.
fn unit(rest: &[u8]) -> Option<u16> {
    let digits = rest.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// [`loosened`] for a stream, a byte order mark at its beginning left out.
pub(super) struct LooseJson<R> {
    inner: R,
    scanner: Scanner,
    raw: Vec<u8>,
    ready: Vec<u8>,
    at: usize,
    started: bool,
    ended: bool,
    /// Bytes handed out since the owner last set it to zero.
    given: Rc<Cell<u64>>,
    most: u64,
}

impl<R: Read> LooseJson<R> {
    /// Reads `inner`; reading fails once more than `most` bytes have been handed out since `given` was last set to zero.
    pub(super) fn new(inner: R, given: Rc<Cell<u64>>, most: u64) -> Self {
        let (raw, ready) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
        LooseJson { inner, scanner: Scanner::default(), raw, ready, at: 0, started: false, ended: false, given, most }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.at = 0;
        while self.ready.is_empty() && !self.ended {
            let wanted = CHUNK - self.raw.len();
            let read = self.inner.by_ref().take(wanted as u64).read_to_end(&mut self.raw)?;
            self.ended = read < wanted;
            if !std::mem::replace(&mut self.started, true) && self.raw.starts_with(b"\xef\xbb\xbf") {
                self.raw.drain(..3);
            }
            let taken = self.scanner.scan(&self.raw, self.ended, &mut self.ready);
            self.raw.drain(..taken);
        }
        Ok(())
    }
}

impl<R: Read> Read for LooseJson<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.ready.len() {
            self.fill()?;
        }
        let read = buffer.len().min(self.ready.len() - self.at);
        buffer[..read].copy_from_slice(&self.ready[self.at..self.at + read]);
        self.at += read;
        let given = self.given.get() + read as u64;
        self.given.set(given);
        match given > self.most {
            true => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("an entry of more than {} MiB, expected a record or a list of items", self.most >> 20),
            )),
            false => Ok(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: [(&str, &str); 9] = [
        (r#"{"a": NaN, "b": [Infinity,-Infinity]}"#, r#"{"a": null, "b": [null,null]}"#),
        (r#"{"NaN": "x NaN", "-Infinity": -1}"#, r#"{"NaN": "x NaN", "-Infinity": -1}"#),
        (r#"["\" NaN", NaN]"#, r#"["\" NaN", null]"#),
        (r#"["\\", NaN]"#, r#"["\\", null]"#),
        (r#"["\ud83d\ude00 \ud83d \ude00\u00e9"]"#, r#"["\ud83d\ude00 \ufffd \ufffd\u00e9"]"#),
        (r#"["\ud83d\ud83d\ude00","\uD8"]"#, r#"["\ufffd\ud83d\ude00","\uD8"]"#),
        ("[Inf, Na, -1, nan", "[Inf, Na, -1, nan"),
        ("\"é\\", "\"é\\"),
        ("", ""),
    ];

    #[test]
    fn only_what_is_no_json_changes() {
        for (text, expected) in CASES {
            assert_eq!(loosened(text).as_deref().unwrap_or(text), expected);
            assert_eq!(loosened(text).is_some(), text != expected);
        }
    }

    /// Hands out a few bytes at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.0.len().min(self.1).min(buffer.len());
            buffer[..read].copy_from_slice(&self.0[..read]);
            self.0 = &self.0[read..];
            Ok(read)
        }
    }

    #[test]
    fn a_stream_gives_the_same_wherever_it_is_cut() {
        for (text, expected) in CASES {
            for size in 1..8 {
                let marked = format!("\u{feff}{text}");
                let mut read = String::new();
                let mut stream = LooseJson::new(Drops(marked.as_bytes(), size), Rc::default(), 1 << 20);
                stream.read_to_string(&mut read).unwrap();
                assert_eq!(read, expected);
            }
        }
        // Words across the border of a chunk.
        for shift in 0..16 {
            let text = format!("[\"{}\", NaN, -Infinity, \"\\ud83d\\ude00\\ud83d\"]", "x".repeat(CHUNK - 30 + shift));
            let mut read = String::new();
            LooseJson::new(text.as_bytes(), Rc::default(), 1 << 20).read_to_string(&mut read).unwrap();
            assert_eq!(read, loosened(&text).unwrap());
        }
    }

    #[test]
    fn an_endless_entry_is_refused() {
        let given = Rc::new(Cell::new(0));
        let mut stream = LooseJson::new(io::repeat(b' '), given.clone(), 1 << 20);
        let mut buffer = vec![0; 1 << 19];
        stream.read_exact(&mut buffer).unwrap();
        given.set(0);
        let error = stream.read_to_end(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("an entry of more than 1 MiB"), "{error}");
    }
}
