//! The tokenizer's files of a Hugging Face directory.
//!
//! | file | read | written |
//! |---|---|---|
//! | `tokenizer.json` | the tokenizer | the same, with the tokens added since |
//! | `tokenizer_config.json` | chat template, names of eos and pad | every field as it came; template, eos, pad, class and added tokens filled in |
//! | `chat_template.jinja` | chat template, before the one above | the same template |
//! | `generation_config.json` | ids of eos and pad | every field as it came; all ids of eos, and pad, filled in |
//! | `config.json` | ids of eos and pad | by the model, not here |

use std::path::Path;

use serde_json::{Map, Value, json};

use super::chat::{CHATML, Origin, named_template};
use super::turn_end::turn_end;
use super::{Tokenizer, refusal, refusal_with_hint};
use crate::error::{Error, Result};
use crate::files;
use crate::model::{one_or_many, token_ids};

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";
const GENERATION: &str = "generation_config.json";

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
        tokenizer.directory = Some(path.into());
        tokenizer.config = read_json(&path.join(TOKENIZER_CONFIG))?;
        let template = path.join(TEMPLATE);
        tokenizer.template_file = match read_if_there(&template)? {
            Some(bytes) => Some(String::from_utf8(bytes).map_err(|e| {
                let hint = format!("delete or replace {}", template.display());
                refusal_with_hint(template.display(), format!("not UTF-8: {e}"), hint)
            })?),
            None => None,
        };

        tokenizer.generation = read_json(&path.join(GENERATION))?;
        let (eos, pad) = (stated(path, "eos_token_id")?, stated(path, "pad_token_id")?);
        let named = |field| tokenizer.named_token(field).and_then(|t| tokenizer.token_id(t));
        let eos: Vec<u32> = named("eos_token").into_iter().chain(eos).collect();
        tokenizer.pad = pad.first().copied().or(named("pad_token")).or(tokenizer.pad);
        tokenizer.end_with(eos);
        tokenizer.end_with(turn_end(&tokenizer).into_iter().chain(tokenizer.eos.clone()).collect());
        Ok(tokenizer)
    }

    /// Takes those of `ids` that have a token, each once, as what ends an answer; none of them changes nothing.
    fn end_with(&mut self, ids: Vec<u32>) {
        let mut eos: Vec<u32> = vec![];
        for id in ids {
            if self.has_token(id) && !eos.contains(&id) {
                eos.push(id);
            }
        }
        if !eos.is_empty() {
            self.eos = eos;
        }
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json`, `generation_config.json` and `chat_template.jinja` into `dir`,
    /// which exists, so that transformers gives the same ids and the same chats, and ends generations where they end here. The files
    /// are not synced to disk: `files::replace_directory` does that, and keeps an older checkpoint until all of them are.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        let json = self.inner.to_string(true).map_err(|e| refusal(TOKENIZER, e))?;
        write(&dir.join(TOKENIZER), &json)?;
        let config = Value::Object(self.config_to_save());
        write(&dir.join(TOKENIZER_CONFIG), &format!("{config:#}"))?;
        let generation = Value::Object(self.generation_to_save());
        write(&dir.join(GENERATION), &format!("{generation:#}"))?;
        if let Some((template, _)) = self.template_source() {
            write(&dir.join(TEMPLATE), template)?;
        }
        Ok(())
    }

    /// Source of the chat template that belongs to this tokenizer: `chat_template.jinja`, else `chat_template` of
    /// `tokenizer_config.json` (of several the one named `default`), else the built-in ChatML if the tokenizer has
    /// its two control tokens.
    pub(super) fn template_source(&self) -> Option<(&str, Origin)> {
        let file = |name: &str| match &self.directory {
            Some(directory) => directory.join(name).display().to_string(),
            None => name.to_owned(),
        };
        let configured = || self.config.get("chat_template").and_then(named_template);
        let built_in = self.im_start().is_some() && self.im_end().is_some();
        if let Some(source) = &self.template_file {
            let name = file(TEMPLATE);
            let without = match (configured().is_some(), built_in) {
                (true, _) => "the one in tokenizer_config.json",
                (false, true) => "the built-in ChatML",
                (false, false) => "none",
            };
            let remedy = format!("delete or replace {name}: without it, {without} is taken");
            Some((source, Origin { name, remedy }))
        } else if let Some(source) = configured() {
            let remedy =
                format!("put a chat template that works into {}, which goes before this field", file(TEMPLATE));
            Some((source, Origin { name: format!("{}: chat_template", file(TOKENIZER_CONFIG)), remedy }))
        } else {
            let remedy = format!("put a chat template that works into {}", file(TEMPLATE));
            built_in.then(|| (CHATML, Origin { name: "built-in chat template".into(), remedy }))
        }
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
        fill(&mut config, "chat_template", self.template_source().map(|(source, _)| json!(source)));
        if let Some(Value::Object(listed)) = config.get_mut("added_tokens_decoder") {
            let mut added: Vec<_> = self.inner.get_added_tokens_decoder().into_iter().collect();
            added.sort_unstable_by_key(|(id, _)| *id);
            for (id, token) in added {
                listed.entry(id.to_string()).or_insert_with(|| json!(token));
            }
        }
        config
    }

    fn generation_to_save(&self) -> Map<String, Value> {
        let mut generation = self.generation.clone();
        if !self.eos.is_empty() {
            generation.insert("eos_token_id".into(), one_or_many(&self.eos));
        }
        if let (Some(pad), None | Some(Value::Null)) = (self.pad, generation.get("pad_token_id")) {
            generation.insert("pad_token_id".into(), json!(pad));
        }
        generation
    }
}

/// The tokens that `generation_config.json` and `config.json` of a directory end a generation with, for a checkpoint without a
/// tokenizer.
///
/// Errors: `Io`; `Text` for a damaged file.
pub fn eos_of_files(directory: &Path) -> Result<Vec<u32>> {
    stated(directory, "eos_token_id")
}

/// The ids that `generation_config.json`, then `config.json` state under a key.
fn stated(directory: &Path, key: &str) -> Result<Vec<u32>> {
    let mut ids = vec![];
    for name in [GENERATION, "config.json"] {
        let file = directory.join(name);
        let found = token_ids(read_json(&file)?.get(key));
        ids.extend(found.map_err(|problem| refusal(file.display(), format!("{key}: {problem}")))?);
    }
    Ok(ids)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path)(e)),
    }
}

/// The object in a file of JSON; an empty one if there is no such file.
fn read_json(path: &Path) -> Result<Map<String, Value>> {
    let Some(bytes) = read_if_there(path)? else { return Ok(Map::new()) };
    if let Some(kind) = files::not_fetched(&bytes) {
        return Err(refusal_with_hint(path.display(), format!("is {kind}"), files::FETCH));
    }
    serde_json::from_slice(&bytes).map_err(|e| refusal(path.display(), e))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::super::bpe::tests::shop_tokenizer;
    use super::super::{ChatTemplate, Message};
    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        shop_tokenizer().save(dir.path()).unwrap();
        for name in [TOKENIZER_CONFIG, TEMPLATE, GENERATION] {
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn eos_is_of_every_file_and_pad_of_the_nearest() {
        let config = r#"{"eos_token": {"content": "<|endoftext|>"}, "pad_token": "!"}"#;
        let model = r#"{"eos_token_id": 5, "pad_token_id": -1, "hidden_size": 8}"#;
        for (files, eos, pad) in [
            (vec![], vec![2], 0),
            // the built-in template ends a turn with <|im_end|>, 2, whatever the files say
            (vec![("tokenizer_config.json", config)], vec![2, 0], 3),
            (vec![("tokenizer_config.json", config), ("config.json", model)], vec![2, 0, 5], 3),
            (vec![("config.json", model), ("generation_config.json", r#"{"eos_token_id": [0, 2]}"#)], vec![2, 0, 5], 0),
            (vec![("config.json", r#"{"eos_token_id": null, "pad_token_id": 7}"#)], vec![2], 7),
            // another end of turn is found by rendering; ids without a token end nothing
            (
                vec![("chat_template.jinja", "{{ messages[-1].content }}<|im_start|>"), ("config.json", model)],
                vec![1, 5],
                0,
            ),
            (
                vec![("chat_template.jinja", "{{ x() }}"), ("config.json", r#"{"eos_token_id": [-1, 400, 0]}"#)],
                vec![0],
                0,
            ),
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
        let generation = r#"{"eos_token_id": 0, "temperature": 0.6, "max_length": 9}"#;
        let dir = directory(&[("tokenizer_config.json", config), ("generation_config.json", generation)]);
        let mut tokenizer = Tokenizer::load(dir.path()).unwrap();
        tokenizer.add_tokens(&["<x>".into()]).unwrap();
        tokenizer.save(dir.path()).unwrap();

        let saved = read_json(&dir.path().join(TOKENIZER_CONFIG)).unwrap();
        let given: Value = serde_json::from_str(config).unwrap();
        for field in ["zeta", "tokenizer_class", "eos_token", "chat_template"] {
            assert_eq!(saved[field], given[field]);
        }
        assert_eq!(saved["pad_token"], "<|endoftext|>");
        assert_eq!(saved["added_tokens_decoder"]["0"]["mine"], 1);
        assert_eq!(saved["added_tokens_decoder"]["340"]["content"], "<x>");
        assert_eq!(saved["added_tokens_decoder"]["340"]["special"], false);

        let saved = Value::Object(read_json(&dir.path().join(GENERATION)).unwrap());
        let expected = json!({"eos_token_id": [2, 0], "temperature": 0.6, "max_length": 9, "pad_token_id": 0});
        assert_eq!(saved, expected);

        let again = Tokenizer::load(dir.path()).unwrap();
        assert_eq!((again.token_id("<x>"), again.vocab_size()), (Some(340), 341));
        assert_eq!(ChatTemplate::of(&again).unwrap().render(&[], false, true).unwrap(), "T");
    }

    #[test]
    fn a_tokenizer_of_our_own_gets_every_file() {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = shop_tokenizer();
        tokenizer.save(dir.path()).unwrap();
        let config = read_json(&dir.path().join(TOKENIZER_CONFIG)).unwrap();
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
        assert!(broken.contains("generation_config.json: eos_token_id: expected a token id"), "{broken}");
        for name in [TOKENIZER, TOKENIZER_CONFIG, GENERATION] {
            let dir = directory(&[(name, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")]);
            let pointer = Tokenizer::load(dir.path()).unwrap_err().to_string();
            assert!(pointer.contains(&format!("{name}: is a Git LFS pointer\n  hint: ")), "{pointer}");
        }
    }

    #[test]
    fn errors_of_a_template_name_its_file() {
        let broken = "{{ strftime_now('%d') }}";
        let field = json!({"chat_template": broken}).to_string();
        for (name, text, says) in [
            (TEMPLATE, broken, "chat_template.jinja: line 1: calls strftime_now"),
            (TOKENIZER_CONFIG, field.as_str(), "tokenizer_config.json: chat_template: line 1: calls strftime_now"),
        ] {
            let dir = directory(&[(name, text)]);
            let tokenizer = Tokenizer::load(dir.path()).unwrap();
            let message = ChatTemplate::of(&tokenizer).unwrap().render(&[], true, false).unwrap_err().to_string();
            assert!(message.contains(&dir.path().display().to_string()) && message.contains(says), "{message}");
            assert!(
                message.contains("chat_template.jinja: without it, the built-in ChatML") || name != TEMPLATE,
                "{message}"
            );
        }
    }
}
