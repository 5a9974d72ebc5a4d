//! Identifiers of LC-Rec and MiniOneRec: `X.index.json`.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::Deserializer;
use serde::de::{Error as _, MapAccess, Visitor};

use super::codes::SemanticIds;
use crate::data::Catalogue;
use crate::error::{Error, Result};
use crate::files::write_atomic_with;
use crate::text::level_letter;

/// Writes `{"0": ["<a_60>", "<b_159>", "<c_203>"], …}`, item keys to tokens. The file appears whole or not at all.
///
/// Errors: `Shape` if the identifiers are not those of the catalogue; `Io`.
/// Source: RUCAIBox/LC-Rec, index/generate_indices.py.
pub fn write_index_json(path: &Path, catalogue: &Catalogue, ids: &SemanticIds) -> Result<()> {
    if catalogue.len() != ids.items() {
        let problem = format!("{} identifiers, the catalogue has {} items", ids.items(), catalogue.len());
        return Err(Error::Shape { op: "index.json", problem });
    }
    write_atomic_with(path, |file| {
        file.write_all(b"{")?;
        for (number, item) in catalogue.items.iter().enumerate() {
            let token = |(level, code)| format!("\"<{}_{code}>\"", level_letter(level));
            let tokens: Vec<String> = ids.get(number).iter().enumerate().map(token).collect();
            let separator = if number == 0 { "" } else { ", " };
            write!(file, "{separator}{}: [{}]", serde_json::to_string(&item.key)?, tokens.join(", "))?;
        }
        file.write_all(b"}")
    })
}

/// Reads an index.json: item keys to tokens, spelled `<a_60>` or `<s_a_60>`. Also returns how many of its items the
/// catalogue does not have (left out by its filters).
///
/// The file does not say how many codes a level has: `codes_per_level` does.
///
/// Errors: `Io`; `Data` if it is no such file, a token is not of its level or not below `codes_per_level`, or an item of
/// the catalogue is missing or there twice.
pub fn read_index_json(path: &Path, catalogue: &Catalogue, codes_per_level: usize) -> Result<(SemanticIds, usize)> {
    let data = |line: Option<u64>, problem: String, hint: Option<&str>| Error::Data {
        path: path.into(),
        line,
        problem,
        hint: hint.map(Into::into),
    };
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut reader = serde_json::Deserializer::from_reader(file);
    let index = reader.deserialize_map(IndexVisitor { catalogue, codes_per_level });
    let index = index.and_then(|index| reader.end().map(|()| index)).map_err(|e| match e.is_io() {
        true => Error::Io { path: path.into(), source: e.into() },
        false => data(Some(e.line() as u64), e.to_string(), None),
    })?;
    if let Some(first) = index.given.iter().position(|given| !given) {
        let there = index.given.iter().filter(|given| **given).count();
        let (all, key) = (catalogue.len(), &catalogue.items[first].key);
        let problem = format!("identifiers for {there} of {all} items; the first without one is `{key}`");
        return Err(data(None, problem, Some("the file was made for another catalogue; rerun `gr2 sid`")));
    }
    let ids = SemanticIds::new(index.levels.max(1), codes_per_level, index.codes)?;
    Ok((ids, index.unknown))
}

struct Index {
    levels: usize,
    codes: Vec<u16>,
    given: Vec<bool>,
    unknown: usize,
}

struct IndexVisitor<'a> {
    catalogue: &'a Catalogue,
    codes_per_level: usize,
}

impl<'de> Visitor<'de> for IndexVisitor<'_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of items, each with its list of tokens")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Index, M::Error> {
        let items = &self.catalogue.items;
        let number: HashMap<&str, usize> = items.iter().enumerate().map(|(i, item)| (item.key.as_str(), i)).collect();
        let mut index = Index { levels: 0, codes: Vec::new(), given: vec![false; items.len()], unknown: 0 };
        while let Some((key, tokens)) = map.next_entry::<String, Vec<String>>()? {
            let codes = self.codes(&tokens).map_err(|problem| M::Error::custom(format!("item `{key}`: {problem}")))?;
            if index.levels == 0 {
                index.levels = codes.len();
                index.codes = vec![0; items.len() * codes.len()];
            }
            if index.levels != codes.len() {
                let (found, first) = (codes.len(), index.levels);
                return Err(M::Error::custom(format!("item `{key}`: {found} tokens, the first item has {first}")));
            }
            match number.get(key.as_str()) {
                None => index.unknown += 1,
                Some(&item) if index.given[item] => {
                    return Err(M::Error::custom(format!("item `{key}` is there twice")));
                }
                Some(&item) => {
                    index.given[item] = true;
                    index.codes[item * index.levels..][..index.levels].copy_from_slice(&codes);
                }
            }
        }
        Ok(index)
    }
}

impl IndexVisitor<'_> {
    fn codes(&self, tokens: &[String]) -> std::result::Result<Vec<u16>, String> {
        if !(1..=26).contains(&tokens.len()) {
            return Err(format!("{} tokens, expected 1 to 26", tokens.len()));
        }
        let code = |(level, token): (usize, &String)| {
            let letter = level_letter(level);
            let code = code_of(token, letter)
                .ok_or_else(|| format!("token {token:?}, expected one like \"<{letter}_60>\""))?;
            let fits = u16::try_from(code).ok().filter(|_| code < self.codes_per_level as u64);
            fits.ok_or_else(|| format!("token {token}: level {letter} has {} codes", self.codes_per_level))
        };
        tokens.iter().enumerate().map(code).collect()
    }
}

/// The code of a token `<a_60>` or `<s_a_60>` of the level with this letter.
fn code_of(token: &str, letter: char) -> Option<u64> {
    let inside = token.strip_prefix('<')?.strip_suffix('>')?;
    let digits = inside.strip_prefix("s_").unwrap_or(inside).strip_prefix(letter).or(inside.strip_prefix(letter));
    let digits = digits?.strip_prefix('_')?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Item;

    fn catalogue(keys: &[&str]) -> Catalogue {
        Catalogue { items: keys.iter().map(|&key| Item { key: key.into(), ..Item::default() }).collect() }
    }

    fn read(text: &str, keys: &[&str]) -> std::result::Result<(SemanticIds, usize), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("X.index.json");
        std::fs::write(&path, text).unwrap();
        let prefix = format!("data: {}", path.display());
        read_index_json(&path, &catalogue(keys), 256).map_err(|e| e.to_string().replace(&prefix, ""))
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("X.index.json");
        let ids = SemanticIds::new(3, 256, vec![60, 159, 203, 0, 255, 7]).unwrap();
        write_index_json(&path, &catalogue(&["0", "B\"1"]), &ids).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, r#"{"0": ["<a_60>", "<b_159>", "<c_203>"], "B\"1": ["<a_0>", "<b_255>", "<c_7>"]}"#);
        assert_eq!(read_index_json(&path, &catalogue(&["0", "B\"1"]), 256).unwrap(), (ids.clone(), 0));
        let refused = write_index_json(&path, &catalogue(&["0"]), &ids).unwrap_err().to_string();
        assert_eq!(refused, "index.json: 2 identifiers, the catalogue has 1 items");
    }

    #[test]
    fn keys_decide_and_items_left_out_are_counted() {
        let (ids, unknown) = read(r#"{"7": ["<s_a_3>"], "x": ["<s_a_9>"], "2": ["<a_2>"]}"#, &["2", "7"]).unwrap();
        assert_eq!((ids.codes(), unknown), (&[2u16, 3][..], 1));
        let (ids, _) = read(&format!("{{\"2\": {:?}}}", all_letters()), &["2"]).unwrap();
        assert_eq!(ids.codes(), (0..26).collect::<Vec<u16>>());
    }

    /// `<a_0>` to `<z_25>`: the letter s stands in the spelling with a prefix, too.
    fn all_letters() -> Vec<String> {
        (0..26).map(|level| format!("<{}_{level}>", level_letter(level))).collect()
    }

    #[test]
    fn what_disagrees_is_named() {
        let refused = |text: &str| read(text, &["0", "1"]).unwrap_err();
        let large = refused(r#"{"0": ["<a_1>", "<b_260>"]}"#);
        assert!(large.starts_with(":1: item `0`: token <b_260>: level b has 256 codes"), "{large}");
        assert!(refused(r#"{"0": ["<a_1>", "<c_1>"]}"#).contains("token \"<c_1>\", expected one like \"<b_60>\""));
        assert!(refused(r#"{"0": ["<a_1x>"]}"#).contains("expected one like \"<a_60>\""));
        assert!(
            refused(r#"{"0": ["<a_1>"], "1": ["<a_1>", "<b_1>"]}"#).contains("`1`: 2 tokens, the first item has 1")
        );
        assert!(refused(r#"{"0": []}"#).contains("item `0`: 0 tokens, expected 1 to 26"));
        assert!(refused(r#"{"0": ["<a_1>"], "0": ["<a_1>"]}"#).contains("item `0` is there twice"));
        let missing = refused(r#"{"1": ["<a_1>"]}"#);
        assert!(missing.starts_with(": identifiers for 1 of 2 items; the first without one is `0`"), "{missing}");
        assert!(refused(r#"{"0": ["<a_1>""#).contains("EOF"));
    }
}
