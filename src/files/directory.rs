//! A directory, replaced as a whole; what a kill left of that, and what is in it.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rayon::prelude::*;

use super::{REPLACED, TEMPORARY, directory_of, is_temporary, sync_directory};
use crate::console;
use crate::error::{Error, Result};

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

/// Removes what killed processes left in `directory` while they wrote there, and finishes replacements of the directories `replaced`.
/// No other process may be writing in it.
///
/// Errors: `Io`.
pub fn sweep(directory: &Path, replaced: &[&str]) -> Result<()> {
    sweep_older(directory, Duration::ZERO)?;
    replaced.iter().try_for_each(|name| recover_directory(&directory.join(name)))
}

/// [`sweep`] of files and directories that were being written, where other processes may be writing: what was changed within `age` is
/// theirs and stays.
///
/// Errors: `Io`.
pub fn sweep_older(directory: &Path, age: Duration) -> Result<()> {
    for entry in std::fs::read_dir(directory).map_err(Error::io(directory))? {
        let entry = entry.map_err(Error::io(directory))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let left = || {
            let changed = entry.metadata().and_then(|found| found.modified());
            // a time that lies ahead is of now
            age.is_zero() || changed.is_ok_and(|then| then.elapsed().unwrap_or_default() > age)
        };
        if is_temporary(&name) && left() {
            let removed = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            match removed {
                // whoever wrote it was faster
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(&path)(e)),
                _ => {}
            }
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
                _ if is_temporary(&name) || name.starts_with(REPLACED) => {}
                true => folders.push((format!("{above}{name}/"), path)),
                false if path.is_file() => found.push((format!("{above}{name}"), path)),
                false => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kill_left_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let make = |names: &[&str]| {
            for name in names {
                std::fs::create_dir_all(dir.path().join(name)).unwrap();
                std::fs::write(dir.path().join(name).join("file"), name).unwrap();
            }
        };
        make(&[
            "a",
            "a.old",
            ".replaced-a",
            ".replaced-b",
            ".replaced-c",
            ".writing-Xy12zQ",
            ".writing-novel",
            "notes",
        ]);
        std::fs::write(dir.path().join(".writing-File00"), "half").unwrap();
        sweep(dir.path(), &["a", "b", "d"]).unwrap();
        let names: Vec<String> = walk(dir.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [".writing-novel/file", "a.old/file", "a/file", "b/file", "notes/file"]);
        assert_eq!(std::fs::read_to_string(dir.path().join("a/file")).unwrap(), "a");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 6, "one of them .replaced-c");
    }

    #[test]
    fn what_others_may_be_writing_is_not_swept() {
        let dir = tempfile::tempdir().unwrap();
        let (old, young) = (dir.path().join(".writing-old000"), dir.path().join(".writing-young0"));
        for path in [&old, &young] {
            std::fs::write(path, "half").unwrap();
        }
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        sweep_older(dir.path(), Duration::from_secs(600)).unwrap();
        assert_eq!((old.exists(), young.exists()), (false, true));
    }
}
