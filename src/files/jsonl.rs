//! Logs of JSON lines. A torn last line, left by a kill, is skipped by readers and cut off by the next append.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{write_atomic, write_atomic_with};
use crate::console;
use crate::error::{Error, Result};

/// Replaces `path` by one line of JSON for each record, as [`write_atomic`] does.
///
/// Errors: `Io` with the path, also for a record that has no JSON form (a map with keys that are not strings).
pub fn write_jsonl(path: impl AsRef<Path>, records: impl IntoIterator<Item = impl Serialize>) -> Result<()> {
    write_atomic_with(path, |out| records.into_iter().try_for_each(|record| json_line(out, &record)))
}

/// Writes one line of JSON.
pub(crate) fn json_line(out: &mut dyn Write, record: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}

/// Appends `record` as one line of JSON to `path` (made if absent) and flushes it to the disk.
///
/// One writer per file. A last line without its newline, left by a kill, is cut off first.
/// Errors: `Io` with the path, also for a record that has no JSON form (a map with keys that are not strings).
pub fn append_jsonl(path: impl AsRef<Path>, record: &impl Serialize) -> Result<()> {
    let path = path.as_ref();
    let _hold = console::hold();
    let append = || -> std::io::Result<()> {
        let mut line = vec![];
        json_line(&mut line, record)?;
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let end = end_of_last_line(&mut file)?;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.write_all(&line)?;
        file.sync_data()
    };
    append().map_err(Error::io(path))
}

/// Every record of a file of JSON lines, in order; blank lines and a torn last line (see [`append_jsonl`]) are passed over.
///
/// Errors: `Io` if the file cannot be read, `Data` with path and line for a complete line that is not a `T`.
pub fn read_jsonl<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<Vec<T>> {
    let path = path.as_ref();
    let mut records = Vec::new();
    for_each_line(path, |line, text| {
        records.push(parse_line(path, line, text)?);
        Ok(())
    })?;
    Ok(records)
}

/// Keeps the records of a file of JSON lines for which `keep` holds, atomically: what a resumed run does with its log, so that
/// steps after the checkpoint are not in it twice. An absent file stays absent. Returns how many records were removed.
///
/// Errors: as [`read_jsonl`].
pub fn retain_jsonl(path: impl AsRef<Path>, mut keep: impl FnMut(&Value) -> bool) -> Result<usize> {
    let path = path.as_ref();
    if !path.try_exists().map_err(Error::io(path))? {
        return Ok(0);
    }
    let (mut kept, mut removed) = (Vec::new(), 0);
    for_each_line(path, |line, text| {
        if keep(&parse_line(path, line, text)?) {
            kept.extend_from_slice(text);
        } else {
            removed += 1;
        }
        Ok(())
    })?;
    write_atomic(path, kept)?;
    Ok(removed)
}

fn parse_line<T: DeserializeOwned>(path: &Path, line: u64, text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|e| Error::Data {
        path: path.into(),
        line: Some(line),
        problem: format!("not a record of this log: {e}"),
        hint: None,
    })
}

/// Calls `visit` with the number (from 1) and the bytes, newline included, of every complete line that is not blank.
fn for_each_line(path: &Path, mut visit: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let mut reader = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let (mut text, mut line) = (Vec::new(), 0);
    loop {
        text.clear();
        reader.read_until(b'\n', &mut text).map_err(Error::io(path))?;
        if text.last() != Some(&b'\n') {
            if !text.is_empty() {
                tracing::warn!("{}:{}: last line is torn, skipped", path.display(), line + 1);
            }
            return Ok(());
        }
        line += 1;
        if !text.trim_ascii().is_empty() {
            visit(line, &text)?;
        }
    }
}

/// Offset just after the last newline of `file`; 0 if it has none.
fn end_of_last_line(file: &mut File) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = [0u8; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        if let Some(at) = block.iter().rposition(|&b| b == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn append_cuts_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        append_jsonl(&path, &json!({"step": 1})).unwrap();
        let torn = format!("{}{{\"step\": 2, \"x\": \"{}", std::fs::read_to_string(&path).unwrap(), "y".repeat(9000));
        std::fs::write(&path, torn).unwrap();
        assert_eq!(read_jsonl::<Value>(&path).unwrap(), vec![json!({"step": 1})]);
        append_jsonl(&path, &json!({"step": 3})).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"step\":1}\n{\"step\":3}\n");
    }

    #[test]
    fn bad_line_is_named_and_retain_rewinds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        assert_eq!(retain_jsonl(&path, |_| true).unwrap(), 0);
        for step in 0..5 {
            append_jsonl(&path, &json!({"step": step})).unwrap();
        }
        assert_eq!(retain_jsonl(&path, |r| r["step"].as_u64() <= Some(2)).unwrap(), 2);
        assert_eq!(read_jsonl::<Value>(&path).unwrap().len(), 3);
        std::fs::write(&path, "{}\n\nnonsense\n").unwrap();
        let message = read_jsonl::<Value>(&path).unwrap_err().to_string();
        assert!(message.contains("log.jsonl:3: not a record"), "{message}");
    }
}
