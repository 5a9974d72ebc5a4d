//! Reading and writing identifiers as JSON lines.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::codes::SemanticIds;
use crate::data::lines::Lines;
use crate::error::{Error, Result};
use crate::files::{json_line, write_atomic_with};
use crate::text::SidShape;

const HEADER: &str = r#"{"levels", "codes_per_level", "items"}"#;

/// First line of the file.
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
    write_atomic_with(path, |file| {
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
    let mut lines = Lines::open(path)?;
    let (shape, items) = match lines.next_line()? {
        Some(line) => {
            let Header { levels, codes_per_level, items } = line.json(HEADER)?;
            let shape = SidShape::new(levels, codes_per_level).map_err(|e| at_line(e, path, line.number))?;
            (shape, items)
        }
        None => {
            let problem = format!("empty, expected a first line {HEADER}");
            return Err(Error::Data { path: path.into(), line: None, problem, hint: None });
        }
    };
    let mut codes: Vec<u16> = Vec::new();
    let mut found = 0;
    while let Some(line) = lines.next_line()? {
        let record: Record<Vec<u16>> = line.json(r#"{"item", "codes"}"#)?;
        if record.item != found || found >= items {
            return Err(line.error(format!("item {}, expected item {found} of {items}", record.item)));
        }
        shape.check(&record.codes).map_err(|e| at_line(e, path, line.number))?;
        codes.extend(record.codes);
        found += 1;
    }
    if found != items {
        let problem = format!("{found} items, the first line says {items}");
        let hint = Some("the file was cut off; rerun `gr2 sid`".into());
        return Err(Error::Data { path: path.into(), line: None, problem, hint });
    }
    SemanticIds::new(shape.levels(), shape.codes(), codes)
}

/// A refused spelling with the line it stands in.
fn at_line(refused: Error, path: &Path, line: u64) -> Error {
    match refused {
        Error::Text { what, problem, hint } => {
            Error::Data { path: path.into(), line: Some(line), problem: format!("{what}: {problem}"), hint }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> std::result::Result<SemanticIds, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sids.jsonl");
        std::fs::write(&path, text).unwrap();
        let prefix = format!("data: {}", path.display());
        read_jsonl(&path).map_err(|e| e.to_string().replace(&prefix, ""))
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sids.jsonl");
        let ids = SemanticIds::new(3, 256, vec![60, 159, 203, 0, 255, 7]).unwrap();
        write_jsonl(&path, &ids).unwrap();
        assert_eq!(read_jsonl(&path).unwrap(), ids);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().last().unwrap(), r#"{"item":1,"codes":[0,255,7]}"#);
    }

    #[test]
    fn lines_that_disagree_are_named() {
        let head = "{\"levels\":2,\"codes_per_level\":256,\"items\":2}\n";
        let refused = |rest: &str| read(&format!("{head}{rest}")).unwrap_err();
        let zero = "{\"item\":0,\"codes\":[1,2]}\n";
        let other_tokenizer = refused(&format!("{zero}{{\"item\":1,\"codes\":[12,260]}}\n"));
        assert_eq!(
            other_tokenizer,
            ":3: semantic id <s_a_12><s_b_260>: level b has 256 codes\n  \
             hint: the file was made with another tokenizer; rerun `gr2 sid`"
        );
        assert!(refused(zero).starts_with(": 1 items, the first line says 2"));
        assert_eq!(refused(&zero.repeat(2)), ":3: item 0, expected item 1 of 2");
        assert!(refused("{\"item\":0,\"codes\":[1]}\n").starts_with(":2: semantic id <s_a_1>: has 1 levels"));
        assert!(refused("{\"item\":0,\"codes\":[1,").starts_with(":2: expected {\"item\", \"codes\"}: EOF"));
        assert!(read("").unwrap_err().starts_with(": empty, expected a first line"));
        let huge = "{\"levels\":40,\"codes_per_level\":256,\"items\":2}\n";
        assert!(read(huge).unwrap_err().starts_with(":1: semantic ids: 40 levels"));
    }
}
