//! Chat templates: the Jinja programs that turn messages into the text a model was trained on.
//!
//! Templates run in `minijinja` set up as transformers sets up Jinja2: blocks trimmed, Python's string methods, Python's
//! JSON separators, loop controls, `raise_exception`. There is no `strftime_now`: a prompt must not depend on the day.

use std::collections::BTreeMap;
use std::io;

use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter};

use super::{Tokenizer, refusal, refusal_with_hint};
use crate::error::Result;

/// The template of models that bring none. Renders as Qwen3's does, except that no turn is ever rewritten.
pub(super) const CHATML: &str = include_str!("chatml.jinja");

const NAME: &str = "chat_template";

/// One turn of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// The instructions.
    pub fn system(content: impl Into<String>) -> Self {
        Message { role: "system".into(), content: content.into() }
    }

    /// The question.
    pub fn user(content: impl Into<String>) -> Self {
        Message { role: "user".into(), content: content.into() }
    }

    /// The answer.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message { role: "assistant".into(), content: content.into() }
    }
}

/// A compiled chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token` and its like, as templates know them.
    tokens: BTreeMap<&'static str, String>,
}

impl ChatTemplate {
    /// The template that came with the tokenizer, else the built-in ChatML.
    ///
    /// Errors: `Text` if the template does not compile, or if there is none and the tokenizer lacks ChatML's tokens.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self> {
        let Some(source) = tokenizer.template_source() else {
            return Err(refusal_with_hint(
                "chat template",
                "the model brings none, and its tokenizer has no <|im_start|> and <|im_end|> for the built-in one",
                "put a chat_template.jinja beside tokenizer.json",
            ));
        };
        let mut template = Self::new(source)?;
        for field in ["bos_token", "eos_token", "pad_token", "unk_token"] {
            let spelling = tokenizer.named_token(field).map(str::to_owned).or_else(|| match field {
                "eos_token" => tokenizer.token(*tokenizer.eos_ids().first()?),
                "pad_token" => tokenizer.token(tokenizer.pad_id()?),
                _ => None,
            });
            template.tokens.extend(spelling.map(|s| (field, s)));
        }
        Ok(template)
    }

    /// Compiles a template.
    ///
    /// `{% generation %}`, which marks answers for transformers, becomes a block without effect.
    pub fn new(source: &str) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
        // In Jinja2 `none` is not iterable; templates rely on it to skip tools.
        environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment.add_template_owned(NAME, without_generation_tags(source)).map_err(template_error)?;
        Ok(ChatTemplate { environment, tokens: BTreeMap::new() })
    }

    /// Text of `messages`; with `add_generation_prompt` it ends where the answer begins.
    ///
    /// `enable_thinking` has the meaning that Qwen3 gave it: without, the generation prompt closes an empty thinking
    /// block at once. The built-in template writes the same block before an answer that has none of its own, so that
    /// what is trained on continues what is asked.
    /// Source: transformers `apply_chat_template(..., tokenize=False)`.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool, enable_thinking: bool) -> Result<String> {
        let template = self.environment.get_template(NAME).map_err(template_error)?;
        let arguments = context! {
            messages => messages,
            tools => (),
            documents => (),
            add_generation_prompt,
            enable_thinking,
        };
        template.render(context! { ..arguments, ..Value::from_serialize(&self.tokens) }).map_err(template_error)
    }
}

/// The template in the `chat_template` field of a `tokenizer_config.json`: a string, or a list of named ones.
pub(super) fn named_template(field: &serde_json::Value) -> Option<&str> {
    let named = |entry: &&serde_json::Value| entry.get("name").and_then(|n| n.as_str()) == Some("default");
    field.as_str().or_else(|| field.as_array()?.iter().find(named)?.get("template")?.as_str())
}

fn template_error(error: minijinja::Error) -> crate::error::Error {
    let mut problem = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    if let Some(line) = error.line() {
        problem = format!("line {line}: {problem}");
    }
    refusal(NAME.replace('_', " "), problem)
}

/// Replaces the tags `generation` and `endgeneration` by `if true` and `endif`, keeping their whitespace control.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let Some(length) = rest[open..].find("%}") else { break };
        let (start, end) = (open + 2, open + length);
        let tag = &rest[start..end];
        let word = tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        out += &rest[..start];
        match word {
            "generation" => out += &tag.replace(word, "if true"),
            "endgeneration" => out += &tag.replace(word, "endif"),
            _ => out += tag,
        }
        rest = &rest[end..];
    }
    out + rest
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`; other options are refused.
fn tojson(value: &Value, options: Kwargs) -> std::result::Result<Value, minijinja::Error> {
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, "tojson writes Unicode as it is"));
    }
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let json = match indent {
        None => dump(value, PythonSeparators),
        Some(width) => dump(value, PrettyFormatter::with_indent(" ".repeat(width).as_bytes())),
    };
    let json = json.map_err(|e| minijinja::Error::new(ErrorKind::BadSerialization, "tojson").with_source(e))?;
    Ok(Value::from_safe_string(json))
}

fn dump(value: &Value, formatter: impl Formatter) -> serde_json::Result<String> {
    let mut out = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))?;
    Ok(String::from_utf8(out).expect("invariant: serde_json writes UTF-8"))
}

/// `", "` between elements and `": "` after keys.
struct PythonSeparators;

impl Formatter for PythonSeparators {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat() -> Vec<Message> {
        vec![Message::system("Rank."), Message::user("A or B?"), Message::assistant("B"), Message::user("Sure?")]
    }

    fn inline(source: &str) -> Result<String> {
        ChatTemplate::new(source)?.render(&chat(), true, false)
    }

    #[test]
    fn built_in_template_is_chatml() {
        let template = ChatTemplate::new(CHATML).unwrap();
        let turns = "<|im_start|>system\nRank.<|im_end|>\n<|im_start|>user\nA or B?<|im_end|>\n\
                     <|im_start|>assistant\nB<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n";
        assert_eq!(template.render(&chat(), false, true).unwrap(), turns);
        assert_eq!(template.render(&chat(), true, true).unwrap(), format!("{turns}<|im_start|>assistant\n"));
        let prompt = template.render(&chat()[..2], true, false).unwrap();
        assert!(prompt.ends_with("<|im_start|>assistant\n<think>\n\n</think>\n\n"), "{prompt}");
    }

    #[test]
    fn built_in_template_continues_its_prompts() {
        let template = ChatTemplate::new(CHATML).unwrap();
        for thinking in [true, false] {
            let prompt = template.render(&chat()[..2], true, thinking).unwrap();
            let whole = template.render(&chat(), false, thinking).unwrap();
            assert!(whole.starts_with(&format!("{prompt}B<|im_end|>\n")), "{whole}");
        }
        let thought = [Message::assistant("<think>\nB is near.\n</think>\n\nB")];
        let text = template.render(&thought, false, false).unwrap();
        assert_eq!(text, "<|im_start|>assistant\n<think>\nB is near.\n</think>\n\nB<|im_end|>\n");
    }

    #[test]
    fn templates_find_what_transformers_gives_them() {
        assert_eq!(inline("{{ [1, {'b': 'é', 'a': none}]|tojson }}").unwrap(), r#"[1, {"b": "é", "a": null}]"#);
        assert_eq!(inline("{{ messages[0]|tojson }}").unwrap(), r#"{"role": "system", "content": "Rank."}"#);
        assert_eq!(inline("{{ [1]|tojson(indent=2) }}").unwrap(), "[\n  1\n]");
        assert_eq!(inline("{{ messages[0].content.strip('.').upper() }}").unwrap(), "RANK");
        assert_eq!(inline("{% if tools %}t{% endif %}\n  {% if true %}\nx\n  {% endif %}\ny").unwrap(), "x\ny");
        assert_eq!(
            inline("{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}x{% endfor %}").unwrap(),
            "x"
        );
        assert_eq!(inline("{{ tools is iterable }} {{ messages is iterable }}").unwrap(), "False True");
        assert_eq!(inline("{{ bos_token }}|{{ enable_thinking }}").unwrap(), "|False");
    }

    #[test]
    fn generation_tags_have_no_effect_but_trimming() {
        let marked = "a {%- generation %}\nb{% endgeneration -%}\n c {% set generation = 1 %}{{ generation }}";
        assert_eq!(inline(marked).unwrap(), "abc 1");
        assert_eq!(without_generation_tags("{%+ generation -%}{{ x }} {%"), "{%+ if true -%}{{ x }} {%");
    }

    #[test]
    fn errors_say_what_and_where() {
        let raised = inline("{{ 1 }}\n{{ raise_exception('roles must alternate') }}").unwrap_err().to_string();
        assert_eq!(raised, "text: chat template: line 2: roles must alternate");
        let broken = inline("{% if %}").unwrap_err().to_string();
        assert!(broken.starts_with("text: chat template: line 1: "), "{broken}");
        assert!(inline("{{ 'é'|tojson(ensure_ascii=true) }}").is_err());
    }

    #[test]
    fn of_several_templates_the_default_is_taken() {
        let field = serde_json::json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
        assert_eq!(named_template(&field), Some("d"));
        assert_eq!(named_template(&serde_json::json!([{"name": "tool_use", "template": "t"}])), None);
    }
}
