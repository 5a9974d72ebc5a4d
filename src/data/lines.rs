//! Lines of a file, plain or gzip, one at a time with their numbers.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;

use super::loose_json::loosened;
use crate::console::check_interrupt;
use crate::error::{Error, Result};

/// Lines after which an interrupt is looked for.
const EVERY: u64 = 4096;
/// The longest line taken as a record; a longer one is no line-by-line file.
const LONGEST_LINE: u64 = 64 << 20;

/// Reader of the lines of a file. Gzip is recognised by its first bytes, not by the name; blank lines are passed over.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    number: u64,
    buffer: Vec<u8>,
}

/// One line, without its end, and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// The file.
    pub path: &'a Path,
    /// Number in the (uncompressed) file, from 1.
    pub number: u64,
    /// What it says.
    pub text: &'a str,
}

impl Lines {
    /// Opens a file.
    ///
    /// Errors: `Io` if it cannot be opened or read.
    pub fn open(path: impl Into<PathBuf>) -> Result<Lines> {
        let path = path.into();
        Ok(Lines { reader: open_bytes(&path)?, path, number: 0, buffer: Vec::new() })
    }

    /// The next line that is not blank, or `None` at the end.
    ///
    /// Errors: `Data` with the line for a compressed file that ends early or is damaged, a line that is not UTF-8 or
    /// has no end; `Io` for a plain file that cannot be read; `Interrupted`.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>> {
        loop {
            self.buffer.clear();
            self.number += 1;
            let read = self.reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|source| read_error(&self.path, self.number, source))?;
            if self.number.is_multiple_of(EVERY) {
                check_interrupt()?;
            }
            if read == 0 {
                return Ok(None);
            }
            if read as u64 == LONGEST_LINE && self.buffer.last() != Some(&b'\n') {
                return Err(Error::Data {
                    path: self.path.clone(),
                    line: Some(self.number),
                    problem: format!("a line of more than {LONGEST_LINE} bytes, expected one record a line"),
                    hint: None,
                });
            }
            if self.number == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") {
                self.buffer.drain(..3);
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        let bytes = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(Line { path: &self.path, number: self.number, text })),
            Err(e) => Err(Error::Data {
                path: self.path.clone(),
                line: Some(self.number),
                problem: format!("byte {} of the line is not UTF-8", e.valid_up_to() + 1),
                hint: None,
            }),
        }
    }
}

/// The bytes of a file, those of a gzip file decompressed. Gzip is recognised by its first bytes, not by the name.
pub(super) fn open_bytes(path: &Path) -> Result<Box<dyn BufRead>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let gzip = reader.fill_buf().map_err(Error::io(path))?.starts_with(&[0x1f, 0x8b]);
    match gzip {
        true => Ok(Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(reader)))),
        false => Ok(Box::new(reader)),
    }
}

/// What went wrong while a file was read, near a line of it; 0: before the first.
pub(super) fn read_error(path: &Path, line: u64, source: io::Error) -> Error {
    let download = "the download was cut off or altered; fetch the file again";
    let (problem, hint) = match source.kind() {
        io::ErrorKind::UnexpectedEof => ("the compressed file ends early".to_owned(), Some(download)),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            (format!("the compressed file is damaged: {source}"), Some(download))
        }
        io::ErrorKind::FileTooLarge => (source.to_string(), None),
        _ => return Error::Io { path: path.to_owned(), source },
    };
    let line = Some(line).filter(|line| *line > 0);
    Error::Data { path: path.to_owned(), line, problem, hint: hint.map(str::to_owned) }
}

impl Line<'_> {
    /// An error at this line.
    pub fn error(&self, problem: impl Into<String>) -> Error {
        Error::Data { path: self.path.to_owned(), line: Some(self.number), problem: problem.into(), hint: None }
    }

    /// An error at this line, with its remedy.
    pub fn error_with_hint(&self, problem: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Data {
            path: self.path.to_owned(),
            line: Some(self.number),
            problem: problem.into(),
            hint: Some(hint.into()),
        }
    }

    /// What serde_json says of this line, as an error that names what was `expected`.
    pub fn json_error(&self, expected: &str, source: &serde_json::Error) -> Error {
        let said = source.to_string();
        let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
        let problem = format!("expected {expected}: {said} (column {})", source.column());
        match self.text.trim_start().as_bytes().first() {
            Some(b'[') => self.error_with_hint(problem, "the file is a JSON array; write one object a line"),
            _ => self.error(problem),
        }
    }

    /// The line read as JSON, `NaN` and `Infinity` as null; `expected` says in words what it should be.
    ///
    /// Errors: `Data` with file, line and column.
    pub fn json<T: DeserializeOwned>(&self, expected: &str) -> Result<T> {
        serde_json::from_str(self.text)
            .or_else(|source| self.loosened().map_or(Err(source), |text| serde_json::from_str(&text)))
            .map_err(|source| self.json_error(expected, &source))
    }

    /// The line with what Python writes into JSON and JSON does not know replaced, if there is any of it.
    pub(super) fn loosened(&self) -> Option<String> {
        loosened(self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<(u64, String)>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        std::fs::write(&path, bytes).unwrap();
        let mut lines = Lines::open(path)?;
        let mut all = Vec::new();
        while let Some(line) = lines.next_line()? {
            all.push((line.number, line.text.to_owned()));
        }
        Ok(all)
    }

    #[test]
    fn plain_and_gzip_give_the_same_numbered_lines() {
        let bytes = b"\xef\xbb\xbfone\r\n\n  \ntwo\nlast";
        let expected = vec![(1, "one".to_owned()), (4, "two".to_owned()), (5, "last".to_owned())];
        assert_eq!(read(bytes).unwrap(), expected);
        assert_eq!(read(&gzip(bytes)).unwrap(), expected);
        // Several gzip members after one another are one file, as `cat a.gz b.gz` makes it.
        let joined = [gzip(&bytes[..9]), gzip(&bytes[9..])].concat();
        assert_eq!(read(&joined).unwrap(), expected);
        assert_eq!(read(b"").unwrap(), vec![]);
    }

    #[test]
    fn damage_is_named_with_its_line() {
        let mut text = String::new();
        for i in 0..2000u64 {
            text += &format!("{}\n", i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        let whole = gzip(text.as_bytes());
        let error = read(&whole[..whole.len() / 2]).unwrap_err().to_string();
        assert!(error.contains("ends early") && error.contains("hint: "), "{error}");
        let error = read(b"fine\nbad \xff byte\n").unwrap_err().to_string();
        assert!(error.ends_with("x.json:2: byte 5 of the line is not UTF-8"), "{error}");
    }

    #[test]
    fn json_errors_say_what_was_expected_and_where() {
        #[derive(Debug, serde::Deserialize)]
        struct Row {
            #[serde(rename = "n")]
            _n: u32,
        }
        let line = |text| Line { path: Path::new("rows.jsonl"), number: 3, text };
        let error = line(r#"{"n": "x"}"#).json::<Row>("an object with n").unwrap_err().to_string();
        assert_eq!(
            error,
            "data: rows.jsonl:3: expected an object with n: invalid type: string \"x\", expected u32 (column 9)"
        );
        let error = line("[").json::<Row>("an object with n").unwrap_err().to_string();
        assert!(error.contains("hint: the file is a JSON array"), "{error}");
    }
}
