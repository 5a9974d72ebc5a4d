//! Identifiers of LC-Rec and MiniOneRec: `X.index.json`.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::codes::SemanticIds;
use crate::data::{Catalogue, each_entry};
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

/// Semantic ids that were made elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexJson {
    /// Those of the catalogue's items; a level has as many codes as the highest code of any level asks for.
    pub ids: SemanticIds,
    /// Items of the file that the catalogue does not have (left out by its filters).
    pub unknown: usize,
}

/// Reads an index.json (plain or gzip): item keys to tokens, spelled `<a_60>` with whatever stands before the code, the
/// same at each level of every item.
///
/// Items may share an identifier, as they do in published files; `uniqueness` tells how many.
/// Errors: `Io`; `Data` if it is no such file, an item has another number of tokens than the first or a token that is not
/// spelt as there, or an item of the catalogue is missing or there twice; `Text` for more than 26 levels.
/// Source: RUCAIBox/LC-Rec, index/generate_indices.py.
pub fn read_index_json(path: &Path, catalogue: &Catalogue) -> Result<IndexJson> {
    let items = &catalogue.items;
    let number: HashMap<&str, usize> = items.iter().map(|item| item.key.as_str()).zip(0..).collect();
    let mut levels: Vec<String> = Vec::new();
    let (mut codes, mut given, mut unknown, mut highest) = (Vec::new(), vec![false; items.len()], HashSet::new(), 0);
    each_entry(path, "an object of items, each with its list of tokens", |key, tokens: Vec<String>| {
        let read = if levels.is_empty() { first(&tokens, &mut levels) } else { next(&tokens, &levels) };
        let own = read.map_err(|problem| format!("item `{key}`: {problem}"))?;
        highest = own.iter().copied().fold(highest, u16::max);
        codes.resize(items.len() * levels.len(), 0);
        match number.get(key.as_str()) {
            None if unknown.contains(&key) => return Err(format!("item `{key}` is there twice")),
            None => drop(unknown.insert(key)),
            Some(&item) if given[item] => return Err(format!("item `{key}` is there twice")),
            Some(&item) => {
                given[item] = true;
                codes[item * levels.len()..][..levels.len()].copy_from_slice(&own);
            }
        }
        Ok(())
    })?;
    let missing: Vec<&str> =
        items.iter().zip(&given).filter(|(_, given)| !**given).map(|(i, _)| i.key.as_str()).collect();
    if !missing.is_empty() {
        let (there, all, more) = (items.len() - missing.len(), items.len(), missing.len().saturating_sub(3));
        let named: Vec<String> = missing.iter().take(3).map(|key| format!("`{key}`")).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(Error::Data {
            path: path.into(),
            line: None,
            problem: format!("identifiers for {there} of {all} items; none for {}{more}", named.join(", ")),
            hint: Some("every item of the catalogue needs one: was the file made from the same items?".into()),
        });
    }
    let ids = SemanticIds::new(levels.len().max(1), usize::from(highest) + 1, codes)?;
    Ok(IndexJson { ids, unknown: unknown.len() })
}

/// The codes of the first item, which shows how the tokens of each level are spelt.
fn first(tokens: &[String], levels: &mut Vec<String>) -> std::result::Result<Vec<u16>, String> {
    // Other limits are the business of `SidShape`; this one keeps the table of codes in proportion to the file.
    if !(1..=26).contains(&tokens.len()) {
        return Err(format!("{} tokens, expected 1 to 26", tokens.len()));
    }
    let read = |token: &String| {
        let (level, code) = divide(token).ok_or_else(|| format!("token {token:?}, expected one like \"<a_60>\""))?;
        Ok((level.to_owned(), fits(token, code)?))
    };
    let (spelt, codes): (Vec<String>, Vec<u16>) =
        tokens.iter().map(read).collect::<std::result::Result<Vec<_>, String>>()?.into_iter().unzip();
    *levels = spelt;
    Ok(codes)
}

/// The codes of an item whose tokens are spelt as those of the first.
fn next(tokens: &[String], levels: &[String]) -> std::result::Result<Vec<u16>, String> {
    if tokens.len() != levels.len() {
        return Err(format!("{} tokens, the first item has {}", tokens.len(), levels.len()));
    }
    let read = |(token, level): (&String, &String)| match divide(token) {
        Some((own, code)) if own == level => fits(token, code),
        _ => Err(format!("token {token:?}, expected one like \"{level}60>\", as the first item has at this level")),
    };
    tokens.iter().zip(levels).map(read).collect()
}

/// What stands before the code of a token, and its digits: `<a_` and `60` of `<a_60>`.
fn divide(token: &str) -> Option<(&str, &str)> {
    let inside = token.strip_suffix('>').filter(|token| token.starts_with('<'))?;
    let before = inside.trim_end_matches(|c: char| c.is_ascii_digit());
    (before.len() > 1 && before.len() < inside.len()).then(|| inside.split_at(before.len()))
}

fn fits(token: &str, digits: &str) -> std::result::Result<u16, String> {
    digits.parse().map_err(|_| format!("token {token}: codes go from 0 to {}", u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Item;

    fn catalogue(keys: &[&str]) -> Catalogue {
        Catalogue { items: keys.iter().map(|&key| Item { key: key.into(), ..Item::default() }).collect() }
    }

    fn read(text: &str, keys: &[&str]) -> std::result::Result<IndexJson, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("X.index.json");
        std::fs::write(&path, text).unwrap();
        let prefix = format!("data: {}", path.display());
        read_index_json(&path, &catalogue(keys)).map_err(|e| e.to_string().replace(&prefix, ""))
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("X.index.json");
        let ids = SemanticIds::new(3, 256, vec![60, 159, 203, 0, 255, 7]).unwrap();
        write_index_json(&path, &catalogue(&["0", "B\"1"]), &ids).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, r#"{"0": ["<a_60>", "<b_159>", "<c_203>"], "B\"1": ["<a_0>", "<b_255>", "<c_7>"]}"#);
        let read = read_index_json(&path, &catalogue(&["0", "B\"1"])).unwrap();
        assert_eq!(read, IndexJson { ids: ids.clone(), unknown: 0 });
        let refused = write_index_json(&path, &catalogue(&["0"]), &ids).unwrap_err().to_string();
        assert_eq!(refused, "index.json: 2 identifiers, the catalogue has 1 items");
    }

    #[test]
    fn keys_decide_and_items_left_out_are_counted() {
        let found = read(r#"{"7": ["<s_a_3>"], "x": ["<s_a_9>"], "2": ["<s_a_2>"]}"#, &["2", "7"]).unwrap();
        assert_eq!((found.ids.codes(), found.unknown, found.ids.codes_per_level()), (&[2u16, 3][..], 1, 10));
    }

    #[test]
    fn any_letters_and_two_to_eight_levels() {
        for levels in 2..=8 {
            for spelling in ["<{}_#>", "<s_{}_#>", "<L{}-#>", "<|sid_{}_#>", "<{}#>"] {
                let token = |item: usize, level: usize| {
                    let letter = ["q", "B", "c", "z", "é", "f", "a", "h"][level];
                    spelling.replace("{}", letter).replace('#', &(item * 10 + level).to_string())
                };
                let tokens = |item: usize| (0..levels).map(|level| token(item, level)).collect::<Vec<_>>();
                let text = format!("\u{feff}{{\"0\": {:?}, \"1\": {:?}}}", tokens(0), tokens(1));
                let ids = read(&text, &["1", "0"]).unwrap().ids;
                let expected: Vec<u16> = (10..10 + levels as u16).chain(0..levels as u16).collect();
                assert_eq!((ids.levels(), ids.codes()), (levels, &expected[..]), "{text}");
            }
        }
    }

    #[test]
    fn items_may_share_an_identifier() {
        let ids = read(r#"{"0": ["<a_1>", "<b_2>"], "1": ["<a_1>", "<b_2>"]}"#, &["0", "1"]).unwrap().ids;
        assert_eq!(crate::sid::uniqueness(&ids).largest_collision, 2);
    }

    #[test]
    fn what_disagrees_is_named() {
        let refused = |text: &str| read(text, &["0", "1"]).unwrap_err();
        let large = refused("{\"0\": [\"<a_1>\",\n \"<b_65536>\"]}");
        assert!(large.starts_with(":2: item `0`: token <b_65536>: codes go from 0 to 65535"), "{large}");
        let other = refused(r#"{"0": ["<a_1>", "<b_1>"], "1": ["<a_1>", "<c_1>"]}"#);
        assert!(other.contains("item `1`: token \"<c_1>\", expected one like \"<b_60>\""), "{other}");
        for token in ["<a_1x>", "a_1", "<1>", "<a_>", "", "<a_1", "<>"] {
            assert!(refused(&format!("{{\"0\": [{token:?}]}}")).contains("expected one like \"<a_60>\""), "{token}");
        }
        assert!(
            refused(r#"{"0": ["<a_1>"], "1": ["<a_1>", "<b_1>"]}"#).contains("`1`: 2 tokens, the first item has 1")
        );
        assert!(refused(r#"{"0": []}"#).contains("item `0`: 0 tokens, expected 1 to 26"));
        assert!(refused(r#"{"0": ["<a_1>"], "0": ["<a_1>"]}"#).contains("item `0` is there twice"));
        assert!(refused(r#"{"x": ["<a_1>"], "x": ["<a_1>"]}"#).contains("item `x` is there twice"));
        let missing = refused(r#"{"1": ["<a_1>"]}"#);
        assert!(missing.starts_with(": identifiers for 1 of 2 items; none for `0`\n  hint: every item"), "{missing}");
        assert!(refused("{}").starts_with(": identifiers for 0 of 2 items; none for `0`, `1`"));
        assert!(refused(r#"{"0": ["<a_1>""#).contains("the file is cut off"));
        assert!(refused(r#"{"0": "<a_1>"}"#).contains("`0`: invalid type"));
    }
}
