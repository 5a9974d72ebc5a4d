//! The body of a response as a completion, in whatever dress servers send it: content as text or as parts, odd usage, a
//! stream of events.

use serde_json::{Value, json};

use crate::rerank::Reply;
use crate::rerank::lenient::mended;

/// Ends of an answer at the limit of tokens.
const CUT: [&str; 3] = ["length", "max_tokens", "model_length"];
/// Ends of an answer that a filter took away.
const FILTERED: [&str; 5] = ["content_filter", "refusal", "safety", "prohibited_content", "recitation"];
/// Largest whole number that every float below it represents.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// The answer in the body of a response with a good status.
///
/// Errors: why the body is no completion.
pub(super) fn read(text: &str) -> Result<Reply, String> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let streamed = text.starts_with("data:") || text.starts_with("event:") || text.starts_with(": ");
    let body = match streamed {
        true => events(text)?,
        false => parsed(text)?,
    };
    let Some(choices) = body.get("choices").and_then(Value::as_array) else {
        return Err("the response is no chat completion".into());
    };
    let choice = choices.first().ok_or("the response has no choices")?;
    let message = choice.get("message").filter(|message| message.is_object()).ok_or("the response has no message")?;
    let finish = choice.get("finish_reason").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    if finish == "error" || choice.get("error").is_some_and(|error| !error.is_null()) {
        return Err("the completion ended in an error".into());
    }
    let content = message.get("content").unwrap_or(&Value::Null);
    let text = text_of(content);
    let said = |field: &str| message.get(field).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
    let blank = text.trim().is_empty();
    let refused = FILTERED.contains(&finish.as_str()) || blank && (said("refusal") || has_part(content, "refusal"));
    let truncated = CUT.contains(&finish.as_str());
    let thought = said("reasoning_content") || said("reasoning") || has_part(content, "thinking");
    let usage = |field: &str| body.get("usage").and_then(|usage| usage.get(field)).and_then(figure);
    // an answer without words that is paid for is an answer
    let paid = usage("completion_tokens").is_some_and(|tokens| tokens > 0);
    if blank && !refused && !truncated && !thought && !paid {
        return Err("the completion is empty".into());
    }
    Ok(Reply {
        text,
        truncated,
        refused,
        prompt_tokens: usage("prompt_tokens"),
        completion_tokens: usage("completion_tokens"),
        cached: false,
    })
}

/// The body as JSON, halves of characters and raw control characters inside its strings mended: servers that cut texts by
/// tokens write the former.
fn parsed(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).or_else(|e| {
        let mended = mended(text).and_then(|text| serde_json::from_str(&text).ok());
        mended.ok_or_else(|| format!("the response is no chat completion: {e}"))
    })
}

/// The text of a content: itself, or that of its parts which are text; what was thought, called or drawn is left out.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(text_of).collect(),
        Value::Object(part) => {
            let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
            let text = part.get("text").and_then(|text| text.as_str().or_else(|| text.get("value")?.as_str()));
            text.filter(|_| ["text", "output_text"].contains(&kind)).unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}

fn has_part(content: &Value, kind: &str) -> bool {
    content
        .as_array()
        .is_some_and(|parts| parts.iter().any(|part| part.get("type").and_then(Value::as_str) == Some(kind)))
}

/// A count of tokens: whole and not negative, however it is spelt; anything else counts as not given.
fn figure(value: &Value) -> Option<u64> {
    let float = |value: f64| (value.fract() == 0.0 && (0.0..WHOLE).contains(&value)).then_some(value as u64);
    match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().and_then(float)),
        Value::String(text) => text.trim().parse().ok().or_else(|| text.trim().parse().ok().and_then(float)),
        _ => None,
    }
}

/// The completion that a stream of events adds up to, for servers that stream unasked.
///
/// Errors: why it does not add up to one.
fn events(text: &str) -> Result<Value, String> {
    let (mut content, mut finish, mut usage, mut done) = (String::new(), Value::Null, Value::Null, false);
    for line in text.lines() {
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
        if data == "[DONE]" {
            done = true;
            break;
        }
        let event: Value = serde_json::from_str(data).map_err(|e| format!("an event of the stream is broken: {e}"))?;
        if event.get("error").is_some_and(|error| !error.is_null()) {
            return Err("the stream ended in an error".into());
        }
        if let Some(counts) = event.get("usage").filter(|usage| !usage.is_null()) {
            usage = counts.clone();
        }
        let Some(choice) = event.get("choices").and_then(|choices| choices.get(0)) else { continue };
        let message = choice.get("delta").or(choice.get("message"));
        content += &message.and_then(|message| message.get("content")).map(text_of).unwrap_or_default();
        if let Some(reason) = choice.get("finish_reason").filter(|reason| !reason.is_null()) {
            finish = reason.clone();
        }
    }
    if !done && finish.is_null() {
        return Err("the stream ends in the middle".into());
    }
    Ok(json!({ "choices": [{ "message": { "content": content }, "finish_reason": finish }], "usage": usage }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(content: Value) -> String {
        json!({ "choices": [{ "message": { "role": "assistant", "content": content }, "finish_reason": "stop" }] })
            .to_string()
    }

    fn text(content: Value) -> String {
        read(&body(content)).unwrap().text
    }

    #[test]
    fn parts_that_are_text_are_joined() {
        assert_eq!(text(json!("ab")), "ab");
        assert_eq!(text(json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }])), "ab");
        assert_eq!(text(json!([{ "type": "thinking", "thinking": [{ "type": "text", "text": "hm" }] }, "ab"])), "ab");
        assert_eq!(
            text(
                json!([{ "type": "reasoning", "text": "hm {" }, { "type": "output_text", "text": "a" }, { "text": "b" }])
            ),
            "ab"
        );
        assert_eq!(text(json!({ "type": "text", "text": { "value": "ab" } })), "ab");
    }

    #[test]
    fn half_characters_and_raw_line_breaks_are_mended() {
        let reply = read("{\"choices\": [{\"message\": {\"content\": \"a \\ud83d b\n\"}}]}").unwrap();
        assert_eq!(reply.text, "a \u{fffd} b\n");
    }

    #[test]
    fn bodies_that_are_no_completion_say_why() {
        for (body, expected) in [
            ("<html>", "the response is no chat completion: expected value"),
            ("", "the response is no chat completion: EOF"),
            ("{\"choices\": [{\"mess", "the response is no chat completion: EOF"),
            ("null", "the response is no chat completion"),
            ("[1]", "the response is no chat completion"),
            (r#"{"error": {"message": "x", "code": 502}}"#, "the response is no chat completion"),
            (r#"{"choices": null}"#, "the response is no chat completion"),
            (r#"{"choices": []}"#, "the response has no choices"),
            (r#"{"choices": [null]}"#, "the response has no message"),
            (r#"{"choices": [{"finish_reason": "error"}]}"#, "the response has no message"),
            (r#"{"choices": [{"message": {"content": "a"}, "finish_reason": "error"}]}"#, "the completion ended in an"),
            (r#"{"choices": [{"message": {"content": "a"}, "error": {}}]}"#, "the completion ended in an error"),
            (r#"{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}"#, "the completion is empty"),
            (r#"{"choices": [{"message": {"role": "assistant"}}]}"#, "the completion is empty"),
        ] {
            let problem = read(body).unwrap_err();
            assert!(problem.starts_with(expected), "{body}: {problem}");
        }
        assert!(read(&"[".repeat(1 << 20)).is_err());
    }

    #[test]
    fn cut_refused_and_thoughtful_answers_are_replies() {
        let reply = |choice: &str| {
            let reply = read(&format!("\u{feff} {{\"error\": null, \"choices\": [{choice}]}}")).unwrap();
            (reply.text, reply.truncated, reply.refused)
        };
        assert_eq!(reply(r#"{"message": {"content": null}, "finish_reason": "length"}"#), ("".into(), true, false));
        assert_eq!(reply(r#"{"message": {"content": "", "refusal": "no"}}"#), ("".into(), false, true));
        let part = r#"{"message": {"content": [{"type": "refusal", "refusal": "no"}]}}"#;
        assert_eq!(reply(part), ("".into(), false, true));
        let filtered = r#"{"message": {"content": "a"}, "finish_reason": "content_filter"}"#;
        assert_eq!(reply(filtered), ("a".into(), false, true));
        assert_eq!(reply(r#"{"message": {"content": "", "reasoning_content": "hm"}}"#), ("".into(), false, false));
        let paid = r#"{"choices": [{"message": {"content": ""}}], "usage": {"completion_tokens": 900}}"#;
        assert_eq!(read(paid).unwrap().completion_tokens, Some(900));
        let both = r#"{"message": {"content": "a", "reasoning": "hm", "refusal": null}}"#;
        assert_eq!(reply(both), ("a".into(), false, false));
    }

    #[test]
    fn odd_usage_counts_as_not_given() {
        let tokens = |usage: Value| {
            let mut whole: Value = serde_json::from_str(&body(json!("a"))).unwrap();
            whole["usage"] = usage;
            let reply = read(&whole.to_string()).unwrap();
            (reply.prompt_tokens, reply.completion_tokens)
        };
        let both = |prompt: Value, completion: Value| {
            tokens(json!({ "prompt_tokens": prompt, "completion_tokens": completion }))
        };
        assert_eq!(both(json!(10), json!(10.0)), (Some(10), Some(10)));
        assert_eq!(both(json!("10"), json!("10.0")), (Some(10), Some(10)));
        assert_eq!(both(json!(1.5), json!(-1)), (None, None));
        assert_eq!(both(json!(1e300), json!("-3")), (None, None));
        assert_eq!(both(Value::Null, json!([1])), (None, None));
        assert_eq!(
            (tokens(Value::Null), tokens(json!("x")), tokens(json!([]))),
            ((None, None), (None, None), (None, None))
        );
    }

    #[test]
    fn streams_add_up() {
        let event = |value: Value| format!("data: {value}\n\n");
        let delta = |text: &str| event(json!({ "choices": [{ "delta": { "content": text } }] }));
        let end =
            event(json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }], "usage": { "prompt_tokens": 3 } }));
        let whole = format!(": ping\n\n{}{}{end}data: [DONE]\n", delta("a"), delta("b"));
        let reply = read(&whole).unwrap();
        assert_eq!((reply.text.as_str(), reply.prompt_tokens), ("ab", Some(3)));
        assert_eq!(read(&delta("a")).unwrap_err(), "the stream ends in the middle");
        assert!(read("data: {\"choi").unwrap_err().starts_with("an event of the stream is broken"));
        assert_eq!(read("data: {\"error\": \"x\"}").unwrap_err(), "the stream ended in an error");
    }
}
