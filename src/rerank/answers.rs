//! [`Answers`]: what teachers have answered, on disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::Reply;
use crate::checksum::sha256;
use crate::error::{Error, Result};
use crate::files::{FileLock, TEMPORARY, sweep_older, write_atomic};
use crate::text::Message;

/// Age from which a file half written is one that a kill has left, in whichever process.
const LEFT_BEHIND: Duration = Duration::from_secs(600);

/// First characters of the name of a lock on an answer that a process is asking for.
const CLAIM: &str = ".asking-";

/// A directory of answers, one file each, named by the SHA-256 of everything they depend on: the teacher's parameters, the
/// prompt, the attempt. Where a server has moved to does not matter, nor how it is asked. Nothing is ever taken out of it.
/// No file says what was asked, or under which key.
#[derive(Debug, Clone)]
pub struct Answers {
    directory: PathBuf,
    /// Directories that are read where this one lacks an answer.
    older: Vec<PathBuf>,
}

impl Answers {
    /// The answers in `directory`, which need not be there, and in `older` ones; nothing is written.
    pub fn look(directory: &Path, older: &[PathBuf]) -> Self {
        Answers { directory: directory.into(), older: older.into() }
    }

    /// As [`Answers::look`], to be added to: makes the directory and takes in what `older` ones have, so that it is kept when
    /// those are removed.
    ///
    /// Errors: `Io`, also if no file can be made in the directory: an answer that is paid for must not be lost to that.
    pub fn open(directory: &Path, older: &[PathBuf]) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let probe = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory);
        drop(probe.map_err(Error::io(directory))?);
        let answers = Answers::look(directory, older);
        sweep_older(directory, LEFT_BEHIND)?;
        for folder in folders(directory) {
            sweep_older(&folder, LEFT_BEHIND)?;
            let claim = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(CLAIM));
            // one that nobody holds goes with the lock on it
            files(&folder).iter().filter(|path| claim(path)).try_for_each(|path| FileLock::take(path).map(drop))?;
        }
        for older in older {
            answers.take_in(older)?;
        }
        Ok(answers)
    }

    /// The file of one answer.
    pub fn path(&self, parameters: &Value, messages: &[Message], attempt: u32) -> PathBuf {
        let name = sha256(json!([parameters, messages, attempt]).to_string());
        self.directory.join(&name[..2]).join(format!("{}.json", &name[2..]))
    }

    /// The answer that a file of [`Answers::path`] holds; `None` if there is none. A file that is no answer is as good as
    /// none.
    ///
    /// Errors: `Io`.
    pub fn find(&self, path: &Path) -> Result<Option<Reply>> {
        if let Some(reply) = read(path)? {
            return Ok(Some(reply));
        }
        let Ok(name) = path.strip_prefix(&self.directory) else { return Ok(None) };
        for older in &self.older {
            if let Some(reply) = read(&older.join(name))? {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// Makes this process the one that asks for the answer of `path`, until the lock is dropped; `None` if another is asking.
    ///
    /// Errors: `Io`.
    pub fn claim(&self, path: &Path) -> Result<Option<FileLock>> {
        let Some((directory, name)) = path.parent().zip(path.file_name()) else { return Ok(None) };
        std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
        FileLock::take(&directory.join(format!("{CLAIM}{}", name.to_string_lossy())))
    }

    /// Keeps an answer.
    ///
    /// Errors: `Io`.
    pub fn keep(&self, path: &Path, reply: &Reply) -> Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
        }
        write_atomic(path, json!(reply).to_string())
    }

    /// Moves the answers of another directory into this one, or copies them where it is on another file system; what is here
    /// already stays.
    fn take_in(&self, older: &Path) -> Result<()> {
        for folder in folders(older) {
            let Some(name) = folder.file_name() else { continue };
            let own = self.directory.join(name);
            for file in files(&folder) {
                let Some(name) = file.file_name().filter(|name| !name.to_string_lossy().starts_with('.')) else {
                    continue;
                };
                let target = own.join(name);
                if target.exists() {
                    continue;
                }
                std::fs::create_dir_all(&own).map_err(Error::io(&own))?;
                if std::fs::rename(&file, &target).is_err() {
                    match std::fs::read(&file) {
                        Ok(text) => write_atomic(&target, text)?,
                        // another process was faster
                        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                        Err(e) => return Err(Error::io(&file)(e)),
                    }
                }
            }
            // fails where something is left in it
            let _ = std::fs::remove_dir(&folder);
        }
        let _ = std::fs::remove_dir(older);
        Ok(())
    }
}

/// Folders of answers: those named by two digits of a hash. None if the directory cannot be read.
fn folders(directory: &Path) -> Vec<PathBuf> {
    let digits = |name: &str| name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|n| digits(&n.to_string_lossy())))
        .collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())).map(|entry| entry.path()).collect()
}

fn read(path: &Path) -> Result<Option<Reply>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path)(e)),
    };
    match serde_json::from_slice::<Reply>(&text) {
        Ok(reply) => Ok(Some(Reply { cached: true, ..reply })),
        Err(e) => {
            tracing::warn!("{}: damaged, asked for again: {e}", path.display());
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Reply {
        let (truncated, refused, cached) = (false, false, true);
        Reply { text: text.into(), truncated, refused, prompt_tokens: Some(1), completion_tokens: None, cached }
    }

    #[test]
    fn answers_of_an_older_version_are_taken_in_and_none_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let [new, old, older] =
            ["answers", "traces/answers", "traces.previous/answers"].map(|name| dir.path().join(name));
        let question = |answers: &Answers, word: &str| answers.path(&json!("m"), &[Message::user(word)], 0);
        for (directory, word) in [(&old, "a"), (&older, "b"), (&older, "c")] {
            let kept = Answers::open(directory, &[]).unwrap();
            // as versions wrote it that did not know `refused`
            let path = question(&kept, word);
            kept.keep(&path, &reply(word)).unwrap();
            let text = std::fs::read_to_string(&path).unwrap().replace("\"refused\":false,", "");
            assert!(!text.contains("refused"));
            std::fs::write(&path, text).unwrap();
        }
        let here = Answers::open(&new, &[]).unwrap();
        here.keep(&question(&here, "c"), &reply("newer")).unwrap();
        let both = [old.clone(), older.clone()];
        let texts = |answers: &Answers| {
            ["a", "b", "c", "d"].map(|w| answers.find(&question(answers, w)).unwrap().map(|r| r.text))
        };
        let expected = ["a", "b", "newer"].map(|text| Some(text.to_owned()));
        let looked = Answers::look(&new, &both);
        assert_eq!((&texts(&looked)[..3], &texts(&looked)[3]), (&expected[..], &None));
        assert_eq!(files(question(&here, "a").parent().unwrap()).len(), 0, "looking writes nothing");
        let opened = Answers::open(&new, &both).unwrap();
        assert_eq!(&texts(&opened)[..3], expected);
        assert!(!old.exists() && older.exists(), "what is there twice stays where it is");
        std::fs::remove_dir_all(older).unwrap();
        assert_eq!(&texts(&Answers::open(&new, &both).unwrap())[..3], expected);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_found_before_anything_is_paid() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(Answers::open(&file, &[]), Err(Error::Io { .. })));
    }
}
