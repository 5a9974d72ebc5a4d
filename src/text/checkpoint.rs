//! The tokenizer's files of a Hugging Face directory.
//!
//! | file | read | written |
//! |---|---|---|
//! | `tokenizer.json` | the tokenizer | the same, with the tokens added since |
//! | `tokenizer_config.json` | chat template, names of eos and pad | every field as it came; template, eos, pad, class and added tokens filled in |
//! | `chat_template.jinja` | chat template, before the one above | the same template |
//! | `generation_config.json`, `config.json` | ids of eos and pad | by the model, not here |

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::chat::{CHATML, named_template};
use super::{Tokenizer, refusal, refusal_with_hint};
use crate::error::{Error, Result};

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";

/// The two fields of `generation_config.json` and `config.json` that concern text.
#[derive(Default, Deserialize)]
struct ControlIds {
    eos_token_id: Option<OneOrMany>,
    pad_token_id: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(i64),
    Many(Vec<i64>),
}

impl ControlIds {
    /// Negative ids stand for "none" in old configs.
    fn eos(&self) -> Vec<u32> {
        let ids = match &self.eos_token_id {
            None => &[][..],
            Some(OneOrMany::One(id)) => std::slice::from_ref(id),
            Some(OneOrMany::Many(ids)) => ids,
        };
        ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect()
    }

    fn pad(&self) -> Option<u32> {
        u32::try_from(self.pad_token_id?).ok()
    }
}

impl Tokenizer {
    /// Loads a checkpoint directory with the files beside its `tokenizer.json`, or a lone `tokenizer.json`.
    ///
    /// Errors: `Io` if it cannot be read, `Text` if a file is damaged or the directory has no `tokenizer.json`.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.is_dir() {
            let bytes = std::fs::read(path).map_err(Error::io(path))?;
            return Self::from_json(&bytes, &path.display().to_string());
        }
        let file = path.join(TOKENIZER);
        let Some(bytes) = read_if_there(&file)? else {
            return Err(refusal_with_hint(
                path.display(),
                "the directory has no tokenizer.json",
                "let transformers convert it: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
            ));
        };
        let mut tokenizer = Self::from_json(&bytes, &file.display().to_string())?;
        tokenizer.config = read_json::<Map<String, Value>>(&path.join(TOKENIZER_CONFIG))?.unwrap_or_default();
        let template = path.join(TEMPLATE);
        tokenizer.template_file = match read_if_there(&template)? {
            Some(bytes) => Some(String::from_utf8(bytes).map_err(|e| refusal(template.display(), e))?),
            None => None,
        };

        let generation: ControlIds = read_json(&path.join("generation_config.json"))?.unwrap_or_default();
        let model: ControlIds = read_json(&path.join("config.json"))?.unwrap_or_default();
        let named = |field| tokenizer.named_token(field).and_then(|t| tokenizer.token_id(t));
        let eos = [generation.eos(), model.eos(), named("eos_token").into_iter().collect()];
        let pad = generation.pad().or(model.pad()).or(named("pad_token"));
        if let Some(ids) = eos.into_iter().find(|ids| !ids.is_empty()) {
            tokenizer.eos = ids;
        }
        tokenizer.pad = pad.or(tokenizer.pad);
        Ok(tokenizer)
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` into `dir`, which exists, so that
    /// transformers' `AutoTokenizer` gives the same ids and the same chats. Each file is synced to disk; to replace a
    /// checkpoint at once, write into a temporary directory and rename it.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        let json = self.inner.to_string(true).map_err(|e| refusal(TOKENIZER, e))?;
        write_synced(&dir.join(TOKENIZER), &json)?;
        let config = serde_json::to_string_pretty(&self.config_to_save()).map_err(|e| refusal(TOKENIZER_CONFIG, e))?;
        write_synced(&dir.join(TOKENIZER_CONFIG), &config)?;
        if let Some(template) = self.template_source() {
            write_synced(&dir.join(TEMPLATE), template)?;
        }
        Ok(())
    }

    /// Source of the chat template that belongs to this tokenizer: `chat_template.jinja`, else `chat_template` of
    /// `tokenizer_config.json` (of several the one named `default`), else the built-in ChatML if the tokenizer has
    /// its two control tokens.
    pub(super) fn template_source(&self) -> Option<&str> {
        let configured = || self.config.get("chat_template").and_then(named_template);
        let built_in = || (self.im_start().is_some() && self.im_end().is_some()).then_some(CHATML);
        self.template_file.as_deref().or_else(configured).or_else(built_in)
    }

    /// Spelling that `tokenizer_config.json` gives for a role such as `eos_token`.
    pub(super) fn named_token(&self, field: &str) -> Option<&str> {
        let value = self.config.get(field)?;
        value.as_str().or_else(|| value.get("content")?.as_str())
    }

    fn config_to_save(&self) -> Map<String, Value> {
        let mut config = self.config.clone();
        let fill = |config: &mut Map<String, Value>, field: &str, value: Option<Value>| {
            if let Some(value) = value
                && config.get(field).is_none_or(Value::is_null)
            {
                config.insert(field.into(), value);
            }
        };
        // The generic class takes everything from tokenizer.json; a class that came with the model is kept.
        fill(&mut config, "tokenizer_class", Some(json!("PreTrainedTokenizerFast")));
        fill(&mut config, "clean_up_tokenization_spaces", Some(json!(false)));
        fill(&mut config, "eos_token", self.eos.first().and_then(|&id| self.token(id)).map(Value::String));
        fill(&mut config, "pad_token", self.pad.and_then(|id| self.token(id)).map(Value::String));
        fill(&mut config, "chat_template", self.template_source().map(|t| json!(t)));
        if let Some(Value::Object(listed)) = config.get_mut("added_tokens_decoder") {
            let mut added: Vec<_> = self.inner.get_added_tokens_decoder().into_iter().collect();
            added.sort_unstable_by_key(|(id, _)| *id);
            for (id, token) in added {
                listed.entry(id.to_string()).or_insert_with(|| json!(token));
            }
        }
        config
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path)(e)),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read_if_there(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| refusal(path.display(), e))
}

fn write_synced(path: &Path, text: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::super::bpe::tests::shop_tokenizer;
    use super::super::{ChatTemplate, Message};
    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        shop_tokenizer().save(dir.path()).unwrap();
        for name in [TOKENIZER_CONFIG, TEMPLATE] {
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn eos_and_pad_come_from_the_nearest_file() {
        let config = r#"{"eos_token": {"content": "<|endoftext|>"}, "pad_token": "!"}"#;
        let model = r#"{"eos_token_id": 5, "pad_token_id": -1, "hidden_size": 8}"#;
        for (files, eos, pad) in [
            (vec![], vec![2], 0),
            (vec![("tokenizer_config.json", config)], vec![0], 3),
            (vec![("tokenizer_config.json", config), ("config.json", model)], vec![5], 3),
            (vec![("config.json", model), ("generation_config.json", r#"{"eos_token_id": [2, 0]}"#)], vec![2, 0], 0),
            (vec![("config.json", r#"{"eos_token_id": null, "pad_token_id": 7}"#)], vec![2], 7),
        ] {
            let tokenizer = Tokenizer::load(directory(&files).path()).unwrap();
            assert_eq!((tokenizer.eos_ids(), tokenizer.pad_id()), (&eos[..], Some(pad)), "{files:?}");
        }
    }

    #[test]
    fn saving_keeps_what_the_model_came_with() {
        let config = r#"{"zeta": 1, "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": null,
                         "added_tokens_decoder": {"0": {"content": "<|endoftext|>", "special": true, "mine": 1}},
                         "chat_template": [{"name": "default", "template": "T"}, {"name": "rag", "template": "R"}]}"#;
        let dir = directory(&[("tokenizer_config.json", config)]);
        let mut tokenizer = Tokenizer::load(dir.path()).unwrap();
        tokenizer.add_tokens(&["<x>".into()]).unwrap();
        tokenizer.save(dir.path()).unwrap();

        let saved: Value = read_json(&dir.path().join(TOKENIZER_CONFIG)).unwrap().unwrap();
        let given: Value = serde_json::from_str(config).unwrap();
        for field in ["zeta", "tokenizer_class", "eos_token", "chat_template"] {
            assert_eq!(saved[field], given[field]);
        }
        assert_eq!(saved["pad_token"], "<|endoftext|>");
        assert_eq!(saved["added_tokens_decoder"]["0"]["mine"], 1);
        assert_eq!(saved["added_tokens_decoder"]["340"]["content"], "<x>");
        assert_eq!(saved["added_tokens_decoder"]["340"]["special"], false);

        let again = Tokenizer::load(dir.path()).unwrap();
        assert_eq!((again.token_id("<x>"), again.vocab_size()), (Some(340), 341));
        assert_eq!(ChatTemplate::of(&again).unwrap().render(&[], false, true).unwrap(), "T");
    }

    #[test]
    fn a_tokenizer_of_our_own_gets_every_file() {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = shop_tokenizer();
        tokenizer.save(dir.path()).unwrap();
        let config: Value = read_json(&dir.path().join(TOKENIZER_CONFIG)).unwrap().unwrap();
        assert_eq!((&config["eos_token"], &config["pad_token"]), (&json!("<|im_end|>"), &json!("<|endoftext|>")));
        assert_eq!(config["chat_template"], CHATML);
        assert_eq!(std::fs::read_to_string(dir.path().join(TEMPLATE)).unwrap(), CHATML);
        let again = Tokenizer::load(dir.path()).unwrap();
        let chat = [Message::user("tape or paper?")];
        let ids = |t: &Tokenizer| ChatTemplate::of(t).unwrap().encode_prompt(t, &chat, false).unwrap();
        assert_eq!(ids(&tokenizer), ids(&again));
        // A lone file has the tokens, and nothing else.
        assert_eq!(Tokenizer::load(dir.path().join(TOKENIZER)).unwrap().vocab_size(), 340);
    }

    #[test]
    fn the_template_file_goes_before_the_field() {
        let dir = directory(&[
            ("chat_template.jinja", "F{{ eos_token }}"),
            ("tokenizer_config.json", r#"{"chat_template": "T"}"#),
        ]);
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        assert_eq!(ChatTemplate::of(&tokenizer).unwrap().render(&[], false, true).unwrap(), "F<|im_end|>");
    }

    #[test]
    fn damaged_directories_are_refused_by_file() {
        let empty = tempfile::tempdir().unwrap();
        let missing = Tokenizer::load(empty.path()).unwrap_err().to_string();
        assert!(missing.contains("the directory has no tokenizer.json\n  hint: "), "{missing}");
        assert!(matches!(Tokenizer::load(empty.path().join("none.json")), Err(Error::Io { .. })));
        let dir = directory(&[("generation_config.json", r#"{"eos_token_id": "two"}"#)]);
        let broken = Tokenizer::load(dir.path()).unwrap_err().to_string();
        assert!(broken.contains("generation_config.json: "), "{broken}");
    }
}
