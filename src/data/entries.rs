//! One large JSON object, an entry at a time: the layout of LC-Rec's files.

use std::cell::Cell;
use std::fmt;
use std::io::BufReader;
use std::marker::PhantomData;
use std::path::Path;
use std::rc::Rc;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::lines::{open_bytes, read_error};
use super::loose_json::LooseJson;
use crate::console::check_interrupt;
use crate::error::{Error, Result};

/// The largest entry taken as a record; a larger one is no file of this layout.
const LARGEST_ENTRY: u64 = 64 << 20;

/// Calls `each` with every entry of the JSON object that a file (plain or gzip) consists of, without holding the whole.
///
/// `NaN`, `Infinity` and `-Infinity` are read as `null`.
/// Errors: `Io`; `Data` with the line for what is no such object, an entry that is no `V` or larger than 64 MiB, and for
/// whatever `each` finds wrong; `Interrupted`.
pub fn each_entry<V, F>(path: &Path, expected: &str, mut each: F) -> Result<()>
where
    V: DeserializeOwned,
    F: FnMut(String, V) -> std::result::Result<(), String>,
{
    let given = Rc::new(Cell::new(0));
    let loose = LooseJson::new(open_bytes(path)?, given.clone(), LARGEST_ENTRY);
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 18, loose));
    let mut stopped = Ok(());
    let mut entry = |key: String, value: V| {
        given.set(0);
        stopped = check_interrupt();
        if stopped.is_err() { Err(String::new()) } else { each(key, value) }
    };
    let entries = Entries { expected, each: &mut entry, value: PhantomData };
    let read = entries.deserialize(&mut json).and_then(|()| json.end());
    stopped?;
    read.map_err(|source| {
        let line = source.line() as u64;
        if source.is_io() {
            return read_error(path, line, source.into());
        }
        let said = source.to_string();
        let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
        Error::Data {
            path: path.to_owned(),
            line: Some(line),
            problem: format!("{said} (column {})", source.column()),
            hint: said.contains("EOF while parsing").then(|| "the file is cut off; fetch it again".to_owned()),
        }
    })
}

struct Entries<'a, V, F> {
    expected: &'a str,
    each: &'a mut F,
    value: PhantomData<V>,
}

impl<'de, V, F> DeserializeSeed<'de> for Entries<'_, V, F>
where
    V: Deserialize<'de>,
    F: FnMut(String, V) -> std::result::Result<(), String>,
{
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, V, F> Visitor<'de> for Entries<'_, V, F>
where
    V: Deserialize<'de>,
    F: FnMut(String, V) -> std::result::Result<(), String>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            // serde_json finds the position again in the text of the error it is given.
            let value = map.next_value().map_err(|source| de::Error::custom(format!("`{key}`: {source}")))?;
            (self.each)(key, value).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}
