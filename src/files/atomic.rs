//! A file, replaced as a whole.

use std::fs::OpenOptions;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{TEMPORARY, directory_of, sync_directory};
use crate::console;
use crate::error::{Error, Result};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
