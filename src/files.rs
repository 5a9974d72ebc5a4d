//! Writing files so that a kill at any moment leaves the old or the new content, never half of one.
//!
//! [`write_atomic`] replaces a whole file; [`append_jsonl`] adds one record to a log of JSON lines, whose torn last line, if a
//! kill left one, is cut off by the next append and skipped by [`read_jsonl`].

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::console;
use crate::error::{Error, Result};

/// First characters of the names of files and directories that are being written.
pub const TEMPORARY: &str = ".writing-";
/// First characters of the name of a directory while another one takes its place.
const REPLACED: &str = ".replaced-";

/// Replaces `path` by `bytes`: written to a temporary file beside it, fsynced, renamed, and the directory fsynced.
///
/// Errors: `Io` with the path; the old content is then untouched and the temporary file removed. The directory must exist.
pub fn write_atomic(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    write_atomic_with(path, |out| out.write_all(bytes.as_ref()))
}

/// [`write_atomic`] for content that is produced piece by piece: `fill` gets a buffered writer.
///
/// A link goes on pointing at the file it points at; what is no regular file, as a device or a pipe, is written to.
///
/// Errors: as [`write_atomic`], and whatever `fill` returns.
pub fn write_atomic_with(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let replace = || -> std::io::Result<()> {
        let path = &match target(path)? {
            Target::File(file) => file,
            Target::Stream => return write_to(path, fill),
        };
        let _hold = console::hold();
        let directory = directory_of(path);
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY);
        // Temporary files are private by default; what is kept gets the permissions any new file would.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(directory)?;
        let mut out = BufWriter::new(file);
        fill(&mut out)?;
        let file = out.into_inner().map_err(|e| e.into_error())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        sync_directory(directory)
    };
    replace().map_err(Error::io(path))
}

/// [`write_atomic`], unless the file has this content already.
///
/// Errors: as [`write_atomic`].
pub fn write_if_changed(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    match std::fs::read(&path) {
        Ok(found) if found == bytes.as_ref() => Ok(()),
        _ => write_atomic(path, bytes),
    }
}

/// Where a path leads that is to be written.
enum Target {
    /// To this regular file, or to none yet.
    File(PathBuf),
    /// To a device, a pipe, or what this process was given open.
    Stream,
}

fn target(path: &Path) -> std::io::Result<Target> {
    // where they lead to a file, others may have it open as well: it is added to
    const OPEN: [&str; 4] = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"];
    if path.file_name().is_none() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, format!("`{}` names no file", path.display())));
    }
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(std::io::Error::new(ErrorKind::IsADirectory, "is a directory")),
        Ok(found) if !found.is_file() || OPEN.iter().any(|open| path.starts_with(open)) => Ok(Target::Stream),
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        found if path.is_symlink() => match found {
            Ok(_) => Ok(Target::File(std::fs::canonicalize(path)?)),
            // of a file that is still to be made
            Err(_) => target(&directory_of(path).join(std::fs::read_link(path)?)),
        },
        _ => Ok(Target::File(path.into())),
    }
}

fn write_to(stream: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut out = BufWriter::new(OpenOptions::new().append(true).open(stream)?);
    fill(&mut out)?;
    out.flush()
}

/// Refuses what [`write_atomic`] could not write, before the work whose result it is to hold.
///
/// Errors: `Io` with the path: a directory, a missing or unwritable one above it.
pub fn check_target(path: &Path) -> Result<()> {
    let check = || match target(path)? {
        Target::File(file) => tempfile::tempfile_in(directory_of(&file)).map(drop),
        Target::Stream => Ok(()),
    };
    check().map_err(Error::io(path))
}

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

/// What to do about a file that [`not_fetched`] knows.
pub const FETCH: &str = "fetch the file itself: `git lfs pull`, or `hf download REPOSITORY`";

/// What `bytes` are where a download left something else than the file: a pointer of Git LFS, a web page, nothing.
pub fn not_fetched(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    let page = [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|tag| start.get(..tag.len()).is_some_and(|s| s.eq_ignore_ascii_case(tag)));
    match start {
        [] => Some("empty"),
        _ if start.starts_with(b"version https://git-lfs") => Some("a Git LFS pointer"),
        _ if page => Some("an HTML page"),
        _ => None,
    }
}

/// Replaces a directory as a whole: `fill` writes into a fresh one beside it, every file is fsynced, and two renames put it in
/// place. A kill between the renames leaves the old one beside it, which [`recover_directory`] puts back.
///
/// Errors: `Io`, and whatever `fill` returns; the old directory is then untouched.
pub fn replace_directory(directory: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let _hold = console::hold();
    recover_directory(directory)?;
    let parent = directory_of(directory);
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let fresh = builder.tempdir_in(parent).map_err(Error::io(parent))?;
    fill(fresh.path())?;
    let replace = || -> std::io::Result<()> {
        let files: Vec<_> = std::fs::read_dir(fresh.path())?.collect::<std::io::Result<_>>()?;
        let permissions = std::fs::metadata(fresh.path())?.permissions();
        // together: a journal commits once for all that wait
        files.par_iter().try_for_each(|file| publish(&File::open(file.path())?, &permissions))?;
        let old = beside(directory);
        if directory.exists() {
            std::fs::rename(directory, &old)?;
        }
        std::fs::rename(fresh.keep(), directory)?;
        sync_directory(parent)?;
        if old.exists() {
            std::fs::remove_dir_all(old)?;
        }
        Ok(())
    };
    replace().map_err(Error::io(directory))
}

/// Makes a finished file durable, and readable to whoever may read its directory: some writers make theirs private.
fn publish(file: &File, of_directory: &std::fs::Permissions) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(PermissionsExt::from_mode(of_directory.mode() & 0o666))?;
    }
    let _ = of_directory;
    file.sync_all()
}

/// Undoes a [`replace_directory`] that was killed between its renames.
///
/// Errors: `Io`.
pub fn recover_directory(directory: &Path) -> Result<()> {
    let old = beside(directory);
    let recover = || match (old.exists(), directory.exists()) {
        (true, true) => std::fs::remove_dir_all(&old),
        (true, false) => std::fs::rename(&old, directory),
        _ => Ok(()),
    };
    recover().map_err(Error::io(directory))
}

/// Name of the directory being replaced, while it is.
fn beside(directory: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(REPLACED);
    name.push(directory.file_name().unwrap_or_default());
    directory.with_file_name(name)
}

/// Removes what killed processes left in `directory` while they wrote there, and finishes their replacements. No other process may
/// be writing in it.
///
/// Errors: `Io`.
pub fn sweep(directory: &Path) -> Result<()> {
    for entry in std::fs::read_dir(directory).map_err(Error::io(directory))? {
        let entry = entry.map_err(Error::io(directory))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with(TEMPORARY) {
            let removed = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            removed.map_err(Error::io(&path))?;
        } else if let Some(replaced) = name.strip_prefix(REPLACED) {
            recover_directory(&directory.join(replaced))?;
        }
    }
    Ok(())
}

/// Every file below `directory`, in the order of the names: its path from there, with `/` between parts, and its whole path.
/// Links to directories are not followed; what is being written is left out.
///
/// Errors: `Io`.
pub fn walk(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let (mut found, mut folders) = (vec![], vec![(String::new(), directory.to_path_buf())]);
    while let Some((above, folder)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Error::io(&folder))? {
            let entry = entry.map_err(Error::io(&folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let (is_directory, path) = (entry.file_type().map_err(Error::io(&folder))?.is_dir(), entry.path());
            match is_directory {
                _ if name.starts_with(TEMPORARY) || name.starts_with(REPLACED) => {}
                true => folders.push((format!("{above}{name}/"), path)),
                false if path.is_file() => found.push((format!("{above}{name}"), path)),
                false => {}
            }
        }
    }
    found.sort();
    Ok(found)
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

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a rename inside `directory` durable; a no-op where directories cannot be opened as files (Windows) or fsynced.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    match File::open(directory)?.sync_all() {
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn atomic_write_replaces_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_atomic(&path, "old").unwrap();
        write_atomic(&path, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        let failed = write_atomic_with(&path, |out| {
            out.write_all(b"half")?;
            Err(std::io::Error::other("stop"))
        });
        assert!(failed.unwrap_err().to_string().contains("a.json: stop"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_kill_left_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let make = |names: &[&str]| {
            for name in names {
                std::fs::create_dir_all(dir.path().join(name)).unwrap();
                std::fs::write(dir.path().join(name).join("file"), name).unwrap();
            }
        };
        make(&["a", "a.old", ".replaced-a", ".replaced-b", ".writing-Xy12zQ", "notes"]);
        std::fs::write(dir.path().join(".writing-file"), "half").unwrap();
        sweep(dir.path()).unwrap();
        let names: Vec<String> = walk(dir.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.old/file", "a/file", "b/file", "notes/file"]);
        assert_eq!(std::fs::read_to_string(dir.path().join("a/file")).unwrap(), "a");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[cfg(unix)]
    #[test]
    fn links_go_on_pointing_and_what_is_no_file_is_written_to() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("there")).unwrap();
        std::fs::write(at("there/old"), "old").unwrap();
        symlink("there/old", at("link")).unwrap();
        symlink("there/new", at("dangling")).unwrap();
        symlink("dangling", at("chain")).unwrap();
        let text = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        write_atomic(at("link"), "a").unwrap();
        write_atomic(at("dangling"), "b").unwrap();
        assert_eq!((text("there/old"), text("there/new")), ("a".into(), "b".into()));
        write_atomic(at("chain"), "c").unwrap();
        assert_eq!(text("there/new"), "c");
        assert!(["link", "dangling", "chain"].iter().all(|name| at(name).is_symlink()));

        let fifo = at("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::read_to_string(fifo).unwrap()
        });
        check_target(&fifo).unwrap();
        write_atomic(&fifo, "through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(std::fs::metadata(&fifo).unwrap().file_type().is_fifo());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 5);
    }

    #[test]
    fn what_cannot_be_written_is_refused_with_its_path_before_the_work() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |path: &Path, part: &str| {
            for error in [check_target(path).unwrap_err(), write_atomic(path, "x").unwrap_err()] {
                let message = error.to_string();
                assert!(message.contains(&path.display().to_string()) && message.contains(part), "{message}");
            }
        };
        refused(dir.path(), "is a directory");
        refused(Path::new(""), "names no file");
        refused(Path::new(".."), "names no file");
        refused(&dir.path().join("missing/file"), "");
        std::fs::write(dir.path().join("file"), "").unwrap();
        refused(&dir.path().join("file/below"), "");
        check_target(&dir.path().join("fresh")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn written_files_are_not_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (ours, plain) = (dir.path().join("ours"), dir.path().join("plain"));
        write_atomic(&ours, "x").unwrap();
        std::fs::write(&plain, "x").unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

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
