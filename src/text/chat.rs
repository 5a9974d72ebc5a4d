//! Chat templates: the Jinja programs that turn messages into the text a model was trained on.
//!
//! A template is a program that came with a checkpoint. It is compiled and run within limits: steps by `minijinja`, stack,
//! memory and time by [`sandbox`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use minijinja::{Environment, Value, context};
use serde::{Deserialize, Serialize};

use super::jinja::{environment, problem_of, without_generation_tags};
use super::{Tokenizer, clipped, refusal_with_hint};
use crate::error::{Error, Result};
use crate::files;
use crate::sandbox::{self, Limits, Overrun};

/// The template of models that bring none. Renders as Qwen3's does, except that no turn is ever rewritten.
pub(super) const CHATML: &str = include_str!("chatml.jinja");

const NAME: &str = "chat_template";

/// Bytes of a template's source; the longest of released models have 30,000. The parser goes a level deeper for as little
/// as one byte, such as a minus sign.
pub(super) const LONGEST: usize = 128 << 10;

/// Stack that the parser may take for each byte of the source.
const STACK_PER_BYTE: usize = 4 << 10;

const LIMITS: Limits = Limits { stack: 256 << 20, memory: 256 << 20, time: Duration::from_secs(2) };

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
    environment: Arc<Environment<'static>>,
    /// It is this program's own, and runs where it is called.
    built_in: bool,
    /// `bos_token` and its like, as templates know them.
    tokens: BTreeMap<&'static str, String>,
    origin: Origin,
}

/// Where a template is from, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The file, and the field of it.
    pub(super) name: String,
    /// What to do about a template that cannot be used.
    pub(super) remedy: String,
}

/// What a rendering comes to on the other thread.
type Outcome<T> = std::result::Result<T, String>;

impl ChatTemplate {
    /// The template that came with the tokenizer, else the built-in ChatML.
    ///
    /// Errors: `Text` if the template does not compile, or if there is none and the tokenizer lacks ChatML's tokens.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self> {
        let Some((source, origin)) = tokenizer.template_source() else {
            return Err(refusal_with_hint(
                "chat template",
                "the model brings none, and its tokenizer has no <|im_start|> and <|im_end|> for the built-in one",
                "put a chat_template.jinja beside tokenizer.json",
            ));
        };
        let mut template = Self::compile(source, origin)?;
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
    /// Errors: `Text` if it does not compile, or not within the limits.
    pub fn new(source: &str) -> Result<Self> {
        Self::compile(source, Origin { name: "chat template".into(), remedy: "mend the template".into() })
    }

    fn compile(source: &str, origin: Origin) -> Result<Self> {
        if let Some(kind) = files::not_fetched(source.as_bytes()) {
            return Err(origin.refusal(&format!("is {kind}")));
        }
        if source.len() > LONGEST {
            let problem = format!("{} bytes, at most {LONGEST} are read", source.len());
            return Err(origin.refusal(&problem));
        }
        let limits = Limits { stack: LIMITS.stack + STACK_PER_BYTE * source.len(), ..LIMITS };
        let (built_in, source) = (source == CHATML, without_generation_tags(source));
        let compiled = sandbox::run(limits, move || -> Outcome<_> {
            let mut environment = environment();
            environment.add_template_owned(NAME, source).map_err(|e| problem_of(&e))?;
            Ok(environment)
        });
        let environment = Arc::new(origin.outcome(compiled)?);
        Ok(ChatTemplate { environment, built_in, tokens: BTreeMap::new(), origin })
    }

    /// Text of `messages`; with `add_generation_prompt` it ends where the answer begins.
    ///
    /// `enable_thinking` has the meaning that Qwen3 gave it: without, the generation prompt closes an empty thinking
    /// block at once. The built-in template writes the same block before an answer that has none of its own, so that
    /// what is trained on continues what is asked.
    /// Errors: `Text` naming the template, also if it does not end within the limits.
    /// Source: transformers `apply_chat_template(..., tokenize=False)`.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool, enable_thinking: bool) -> Result<String> {
        let (environment, tokens, messages) = (self.environment.clone(), self.tokens.clone(), messages.to_vec());
        let work = move || -> Outcome<String> {
            let template = environment.get_template(NAME).map_err(|e| problem_of(&e))?;
            let arguments = context! {
                messages => messages,
                tools => (),
                documents => (),
                add_generation_prompt,
                enable_thinking,
            };
            let arguments = context! { ..arguments, ..Value::from_serialize(&tokens) };
            template.render(arguments).map_err(|e| problem_of(&e))
        };
        self.origin.outcome(if self.built_in { Ok(work()) } else { sandbox::run(LIMITS, work) })
    }

    /// The file that the template is from, for messages.
    pub fn origin(&self) -> &str {
        &self.origin.name
    }

    /// An error about this template, with what to do about it.
    pub fn refusal(&self, problem: &str) -> Error {
        self.origin.refusal(problem)
    }
}

impl Origin {
    fn outcome<T>(&self, found: std::result::Result<Outcome<T>, Overrun>) -> Result<T> {
        match found {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(problem)) => Err(self.refusal(&problem)),
            Err(overrun) => Err(self.refusal(&overrun.to_string())),
        }
    }

    fn refusal(&self, problem: &str) -> Error {
        refusal_with_hint(&self.name, clipped(problem, 400), &self.remedy)
    }
}

/// The template in the `chat_template` field of a `tokenizer_config.json`: a string, or a list of named ones.
pub(super) fn named_template(field: &serde_json::Value) -> Option<&str> {
    let named = |entry: &&serde_json::Value| entry.get("name").and_then(|n| n.as_str()) == Some("default");
    field.as_str().or_else(|| field.as_array()?.iter().find(named)?.get("template")?.as_str())
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
        assert_eq!(without_generation_tags("{%}{{ x }}%}"), "{%}{{ x }}%}");
    }

    #[test]
    fn errors_say_what_and_where() {
        let raised = inline("{{ 1 }}\n{{ raise_exception('roles must alternate') }}").unwrap_err().to_string();
        assert!(raised.starts_with("text: chat template: line 2: roles must alternate\n  hint: "), "{raised}");
        let broken = inline("{% if %}").unwrap_err().to_string();
        assert!(broken.starts_with("text: chat template: line 1: "), "{broken}");
        assert!(inline("{{ 'é'|tojson(ensure_ascii=true) }}").is_err());
    }

    #[test]
    fn strftime_now_is_named_and_may_be_asked_for() {
        let message = inline("{{ strftime_now('%d') }}").unwrap_err().to_string();
        assert!(message.contains("line 1: calls strftime_now, which is not there"), "{message}");
        let guarded = "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26{% endif %}";
        assert_eq!(inline(guarded).unwrap(), "26");
    }

    #[test]
    fn of_several_templates_the_default_is_taken() {
        let field = serde_json::json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
        assert_eq!(named_template(&field), Some("d"));
        assert_eq!(named_template(&serde_json::json!([{"name": "tool_use", "template": "t"}])), None);
    }
}
