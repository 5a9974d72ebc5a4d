//! Reading and writing identifiers: own JSON lines, and the index.json of LC-Rec and MiniOneRec.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::codes::{SemanticIds, level_name, too_large};
use crate::error::{Error, Result};

const REMADE: &str = "the file was made with another tokenizer; rerun `gr2 sid`";

/// First line of a JSON lines file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    levels: usize,
    codes_per_level: usize,
    items: usize,
}

/// Every further line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<C> {
    item: usize,
    codes: C,
}

/// Writes a line `{"levels":4,"codes_per_level":256,"items":3459}`, then one line `{"item":0,"codes":[57,7,23,4]}` per
/// item in order. The file appears whole or not at all.
///
/// Errors: `Io`.
pub fn write_jsonl(path: &Path, ids: &SemanticIds) -> Result<()> {
    replace_file(path, |file| {
        let header = Header { levels: ids.levels(), codes_per_level: ids.codes_per_level(), items: ids.items() };
        json_line(file, &header)?;
        (0..ids.items()).try_for_each(|item| json_line(file, &Record { item, codes: ids.get(item) }))
    })
}

/// Reads what [`write_jsonl`] wrote.
///
/// Errors: `Io`; `Data` with the line if it is not such a record, an item is missing, repeated or out of order, or a code
/// does not exist at its level.
pub fn read_jsonl(path: &Path) -> Result<SemanticIds> {
    let mut lines = BufReader::new(File::open(path).map_err(Error::io(path))?).lines();
    let bad = |line: u64, problem: String, hint: Option<&str>| {
        Err(Error::Data { path: path.into(), line: Some(line), problem, hint: hint.map(Into::into) })
    };
    let first = lines.next().transpose().map_err(Error::io(path))?.unwrap_or_default();
    let header: Header = match serde_json::from_str(&first) {
        Ok(header) => header,
        Err(e) => return bad(1, format!("expected {{\"levels\", \"codes_per_level\", \"items\"}}: {e}"), None),
    };
    let Header { levels, codes_per_level, items } = header;
    let mut codes: Vec<u16> = Vec::new();
    let mut line = 1;
    for text in lines {
        line += 1;
        let text = match text {
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return bad(line, "not UTF-8".into(), None),
            text => text.map_err(Error::io(path))?,
        };
        let record: Record<Vec<u16>> = match serde_json::from_str(&text) {
            Ok(record) => record,
            Err(e) => return bad(line, format!("expected {{\"item\", \"codes\"}}: {e}"), None),
        };
        let expected = line as usize - 2;
        if record.item != expected || expected >= items {
            return bad(line, format!("item {}, expected item {expected} of {items}", record.item), None);
        }
        if record.codes.len() != levels {
            return bad(line, format!("{} codes, the header says {levels} levels", record.codes.len()), Some(REMADE));
        }
        if record.codes.iter().any(|&c| usize::from(c) >= codes_per_level) {
            return bad(line, too_large(&record.codes, codes_per_level), Some(REMADE));
        }
        codes.extend(record.codes);
    }
    if line as usize - 1 != items {
        return bad(line, format!("{} items, the header says {items}", line - 1), Some("the file was cut short"));
    }
    SemanticIds::new(levels, codes_per_level, codes)
}

/// Writes `{"0": ["<a_60>", "<b_159>", "<c_203>"], …}`, the index.json of LC-Rec. The file appears whole or not at all.
///
/// Errors: `Io`.
/// Source: RUCAIBox/LC-Rec, index/generate_indices.py.
pub fn write_index_json(path: &Path, ids: &SemanticIds) -> Result<()> {
    replace_file(path, |file| {
        for item in 0..ids.items() {
            file.write_all(if item == 0 { b"{" } else { b", " })?;
            let tokens: Vec<String> =
                ids.get(item).iter().enumerate().map(|(l, c)| format!("\"<{}_{c}>\"", level_name(l))).collect();
            write!(file, "\"{item}\": [{}]", tokens.join(", "))?;
        }
        file.write_all(if ids.items() == 0 { b"{}" } else { b"}" })
    })
}

/// Reads an index.json of LC-Rec: item number to tokens, spelled `<a_60>` or `<s_a_60>`.
///
/// The file does not say how many codes a level has: `codes_per_level` does.
///
/// Errors: `Io`; `Data` if it is no such file, a token is not of its level or not below `codes_per_level`, or the items
/// are not exactly 0 to `items` − 1.
pub fn read_index_json(path: &Path, items: usize, codes_per_level: usize) -> Result<SemanticIds> {
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut reader = serde_json::Deserializer::from_reader(file);
    let data = |line: Option<u64>, problem: String, hint: Option<&str>| Error::Data {
        path: path.into(),
        line,
        problem,
        hint: hint.map(Into::into),
    };
    let index = reader.deserialize_map(IndexVisitor { items, codes_per_level }).and_then(|i| reader.end().map(|()| i));
    let Index { levels, codes, given } = index.map_err(|e| match e.is_io() {
        true => Error::Io { path: path.into(), source: e.into() },
        false => data(Some(e.line() as u64), e.to_string(), None),
    })?;
    if let Some(item) = given.iter().position(|given| !given) {
        let there = given.iter().filter(|given| **given).count();
        let problem = format!("{there} items, the catalogue has {items}; the first without an identifier is {item}");
        return Err(data(None, problem, Some(REMADE)));
    }
    SemanticIds::new(levels.max(1), codes_per_level, codes)
}

struct Index {
    levels: usize,
    codes: Vec<u16>,
    given: Vec<bool>,
}

struct IndexVisitor {
    items: usize,
    codes_per_level: usize,
}

impl<'de> Visitor<'de> for IndexVisitor {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of item numbers, each with its list of tokens")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Index, M::Error> {
        use serde::de::Error as _;
        let mut index = Index { levels: 0, codes: Vec::new(), given: vec![false; self.items] };
        while let Some((key, tokens)) = map.next_entry::<String, Vec<String>>()? {
            let item = match key.parse::<usize>() {
                Ok(item) if item < self.items => item,
                _ => return Err(M::Error::custom(format!("item {key:?}, the catalogue has {} items", self.items))),
            };
            if index.levels == 0 {
                index.levels = tokens.len();
                index.codes = vec![0; self.items * tokens.len()];
            }
            if index.levels != tokens.len() || tokens.is_empty() {
                let (found, first) = (tokens.len(), index.levels);
                return Err(M::Error::custom(format!("item {item}: {found} tokens, the first item has {first}")));
            }
            if std::mem::replace(&mut index.given[item], true) {
                return Err(M::Error::custom(format!("item {item} is there twice")));
            }
            for (level, token) in tokens.iter().enumerate() {
                let code = code_of(token, level).ok_or_else(|| {
                    let name = level_name(level.min(25));
                    M::Error::custom(format!("item {item}: token {token:?}, expected one like \"<{name}_60>\""))
                })?;
                if usize::from(code) >= self.codes_per_level {
                    let (name, n) = (level_name(level), self.codes_per_level);
                    return Err(M::Error::custom(format!("item {item}: token {token}: level {name} has {n} codes")));
                }
                index.codes[item * index.levels + level] = code;
            }
        }
        Ok(index)
    }
}

/// The code of a token `<a_60>` or `<s_a_60>` of the given level.
fn code_of(token: &str, level: usize) -> Option<u16> {
    let inside = token.strip_prefix('<')?.strip_suffix('>')?;
    let inside = inside.strip_prefix("s_").filter(|rest| rest.contains('_')).unwrap_or(inside);
    let (letter, digits) = inside.split_once('_')?;
    let of_level = level < 26 && letter.chars().eq([level_name(level)]);
    let digits = Some(digits).filter(|d| of_level && d.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

fn json_line(file: &mut BufWriter<File>, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *file, value)?;
    file.write_all(b"\n")
}

/// Writes a file beside `path`, flushes it to the disk and renames it over `path`; on failure nothing is left behind.
pub(super) fn replace_file(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = File::create(&partial).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.into_inner().map_err(|e| e.into_error())?.sync_all()?;
        std::fs::rename(&partial, path)
    });
    written.map_err(|source| {
        // The write has already failed; a file that cannot be removed either changes nothing about that.
        let _ = std::fs::remove_file(&partial);
        Error::Io { path: path.into(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SemanticIds {
        SemanticIds::new(3, 256, vec![60, 159, 203, 0, 255, 7]).unwrap()
    }

    fn with_text<T>(text: &str, read: impl Fn(&Path) -> Result<T>) -> std::result::Result<T, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, text).unwrap();
        let prefix = format!("data: {}", path.display());
        read(&path).map_err(|e| e.to_string().replace(&prefix, ""))
    }

    #[test]
    fn both_formats_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let (lines, index) = (dir.path().join("sids.jsonl"), dir.path().join("index.json"));
        write_jsonl(&lines, &sample()).unwrap();
        assert_eq!(read_jsonl(&lines).unwrap(), sample());
        write_index_json(&index, &sample()).unwrap();
        assert_eq!(read_index_json(&index, 2, 256).unwrap(), sample());
        let text = std::fs::read_to_string(&index).unwrap();
        assert_eq!(text, r#"{"0": ["<a_60>", "<b_159>", "<c_203>"], "1": ["<a_0>", "<b_255>", "<c_7>"]}"#);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn lines_that_disagree_are_named() {
        let head = "{\"levels\":2,\"codes_per_level\":256,\"items\":2}\n";
        let read = |rest: &str| with_text(&format!("{head}{rest}"), read_jsonl).unwrap_err();
        let zero = "{\"item\":0,\"codes\":[1,2]}\n";
        assert_eq!(
            read(&format!("{zero}{{\"item\":1,\"codes\":[12,260]}}\n")),
            format!(":3: semantic id <s_a_12><s_b_260>: level b has 256 codes\n  hint: {REMADE}")
        );
        assert_eq!(read(zero), ":2: 1 items, the header says 2\n  hint: the file was cut short");
        assert_eq!(read(&zero.repeat(2)), ":3: item 0, expected item 1 of 2");
        assert!(read("{\"item\":0,\"codes\":[1]}\n").starts_with(":2: 1 codes, the header says 2 levels"));
        assert!(read("{\"item\":0,\"codes\":[1,").starts_with(":2: expected {\"item\", \"codes\"}: EOF"));
        assert!(with_text("", read_jsonl).unwrap_err().starts_with(":1: expected {\"levels\""));
    }

    #[test]
    fn an_index_that_disagrees_is_named() {
        let read = |text: &str| with_text(text, |p| read_index_json(p, 2, 256)).unwrap_err();
        assert!(read(r#"{"0": ["<a_1>", "<b_260>"]}"#).contains(":1: item 0: token <b_260>: level b has 256 codes"));
        assert!(read(r#"{"0": ["<a_1>", "<c_1>"]}"#).contains("token \"<c_1>\", expected one like \"<b_60>\""));
        assert!(
            read(r#"{"0": ["<a_1>"], "1": ["<a_1>", "<b_1>"]}"#).contains("item 1: 2 tokens, the first item has 1")
        );
        assert!(read(r#"{"0": ["<a_1>"], "0": ["<a_1>"]}"#).contains("item 0 is there twice"));
        assert!(read(r#"{"2": ["<a_1>"]}"#).contains("item \"2\", the catalogue has 2 items"));
        assert!(
            read(r#"{"1": ["<a_1>"]}"#)
                .contains(": 1 items, the catalogue has 2; the first without an identifier is 0")
        );
        assert!(read(r#"{"0": ["<a_1>""#).contains("EOF"));
        let spelled = with_text(r#"{"1": ["<s_a_3>"], "0": ["<s_a_2>"]}"#, |p| read_index_json(p, 2, 256)).unwrap();
        assert_eq!(spelled.codes(), [2, 3]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "old").unwrap();
        let failed = replace_file(&path, |file| {
            file.write_all(b"new")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().ends_with("f: disk full"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
