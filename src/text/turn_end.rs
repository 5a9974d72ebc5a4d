//! The token that a chat template ends an answer with.

use super::{ChatTemplate, Message, Tokenizer};
use std::time::{Duration, Instant};

/// A text that no template writes.
const ANSWER: &str = "qzanswerqz";

/// The first special token (or, where there is none, added token) behind an answer in a rendered chat: what fine-tuning
/// teaches to write at its end. `None` if the template cannot be used, or writes no such token.
pub(super) fn turn_end(tokenizer: &Tokenizer) -> Option<u32> {
    let template = ChatTemplate::of(tokenizer).ok()?;
    let chat = [Message::system("s"), Message::user("u"), Message::assistant(ANSWER)];
    let started = Instant::now();
    let text = match template.render(&chat, false, false) {
        Ok(text) => text,
        // some templates refuse a system message; one that takes its time is not asked twice
        Err(_) if started.elapsed() < Duration::from_millis(500) => template.render(&chat[1..], false, false).ok()?,
        Err(_) => return None,
    };
    let end = text.rfind(ANSWER)? + ANSWER.len();
    let (ids, offsets) = tokenizer.encode_with_offsets(&text).ok()?;
    let behind = || ids.iter().zip(&offsets).filter(|(_, token)| token.start >= end).map(|(id, _)| *id);
    let added = tokenizer.inner.get_added_tokens_decoder();
    behind().find(|id| tokenizer.is_special(*id)).or_else(|| behind().find(|id| added.contains_key(id)))
}

#[cfg(test)]
mod tests {
    use super::super::bpe::tests::shop_tokenizer;
    use super::*;

    /// What ends a turn in a template over a tokenizer with these tokens beside ChatML's.
    fn end(tokens: &[&str], template: &str) -> Option<String> {
        let mut tokenizer = shop_tokenizer();
        tokenizer.add_tokens(&tokens.iter().map(|t| t.to_string()).collect::<Vec<_>>()).unwrap();
        tokenizer.template_file = Some(template.into());
        tokenizer.token(turn_end(&tokenizer)?)
    }

    #[test]
    fn it_is_found_by_rendering() {
        let chatml = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
        assert_eq!(end(&[], chatml).as_deref(), Some("<|im_end|>"));
        // Llama 3, Gemma (which refuses a system message), Mistral
        let llama = "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}<|stop|>\n\n{{ m.content|trim }}<|eot|>{% endfor %}";
        assert_eq!(end(&["<|start|>", "<|stop|>", "<|eot|>"], llama).as_deref(), Some("<|eot|>"));
        let gemma = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
                     {% for m in messages %}<turn>{{ m.role }}\n{{ m.content|trim }}</turn>\n{% endfor %}";
        assert_eq!(end(&["<turn>", "</turn>"], gemma).as_deref(), Some("</turn>"));
        let mistral = "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}{{ eos_token }}\
                       {% else %}[I] {{ m.content }} [/I]{% endif %}{% endfor %}";
        assert_eq!(end(&["[I]", "[/I]"], mistral).as_deref(), Some("<|im_end|>"));
    }

    #[test]
    fn without_one_there_is_none() {
        for template in
            ["{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "{{ x() }}", "{%", "<|im_end|>"]
        {
            assert_eq!(end(&[], template), None, "{template}");
        }
    }
}
