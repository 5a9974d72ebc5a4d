//! What a response that is no answer means: to be tried again, this prompt refused, or a wrong setting.

use std::time::Duration;

use serde_json::Value;

use super::request::Field;
use super::send::Received;

/// Why a request came to nothing.
pub(super) enum Failure {
    /// It may succeed later, not before the given time has passed.
    Passing(String, Option<Duration>),
    /// A response that is no completion: it may succeed later, unless there never is a completion.
    NoCompletion(String, Option<&'static str>),
    /// The prompt is refused.
    Refused(String, Option<&'static str>),
    /// A field of the request is one that the endpoint does not take.
    Field(Field, String),
    /// It cannot succeed.
    Lasting(String, Option<&'static str>),
}

/// Bytes of a body that are looked through for its reason.
const LOOKED_AT: usize = 16 << 10;
/// What bodies say that refuse a prompt for itself.
const ABOUT_THE_PROMPT: [&str; 13] = [
    "context_length",
    "context length",
    "context window",
    "context size",
    "context_size",
    "maximum context",
    "prompt is too long",
    "too many tokens",
    "content_filter",
    "content filter",
    "content management policy",
    "content_policy",
    "moderation",
];
/// What bodies say of a field that is not taken.
const NOT_TAKEN: [&str; 12] = [
    "unsupported",
    "not supported",
    "does not support",
    "unrecognized",
    "unknown",
    "unexpected",
    "not permitted",
    "not allowed",
    "extra_forbidden",
    "extra inputs",
    "extra fields",
    "deprecated",
];

const ADDRESS: &str = "base_url must end where /chat/completions follows, usually in /v1";

/// What a response with another status than a good one means; `said` is its status and body as a message quotes them, `sent`
/// the fields of the request that may be left out.
pub(super) fn of_status(received: &Received, said: String, sent: &[Field]) -> Failure {
    let body = beginning(&received.body);
    let status = received.status;
    match status {
        300..400 => {
            let to = received.location.as_deref().map(|to| format!(" to {to}")).unwrap_or_default();
            Failure::NoCompletion(
                format!("status {status}: redirected{to}"),
                Some("set base_url to where the server is"),
            )
        }
        408 | 409 | 425 | 429 => Failure::Passing(said, received.wait),
        401 | 402 | 404 | 405 | 407 | 410 => Failure::Lasting(said, hint(status)),
        _ if about_the_prompt(&body) => Failure::Refused(said, hint(status)),
        403 => Failure::Lasting(said, hint(status)),
        400..500 => match sent.iter().find(|field| names(&received.body, &body, field.name())) {
            Some(&field) => Failure::Field(field, said),
            None => Failure::Refused(said, hint(status)),
        },
        _ => Failure::Passing(said, received.wait),
    }
}

/// What a good status with a body that is no completion means.
pub(super) fn of_body(body: &str, said: String) -> Failure {
    match about_the_prompt(&beginning(body)) {
        true => Failure::Refused(said, None),
        false => Failure::NoCompletion(said, Some(ADDRESS)),
    }
}

fn hint(status: u16) -> Option<&'static str> {
    match status {
        401 | 403 => Some(
            "set api_key_env to the name of the variable that holds the key, or api_key_file to the path of a file that does",
        ),
        404 | 405 => Some("check base_url, usually ending in /v1, and that the model is served there"),
        400..500 => Some("the endpoint refuses a field of the request; see send_seed, max_tokens and extra"),
        _ => None,
    }
}

fn beginning(body: &str) -> String {
    body.chars().take(LOOKED_AT).collect::<String>().to_lowercase()
}

fn about_the_prompt(body: &str) -> bool {
    ABOUT_THE_PROMPT.iter().any(|words| body.contains(words))
}

/// Whether a refusal is of this field of the request: by the parameter that it names, by the place in the request, or by the
/// words of its message. `lower` is the beginning of `body` in lower case.
fn names(body: &str, lower: &str, field: &str) -> bool {
    if !NOT_TAKEN.iter().any(|words| lower.contains(words)) {
        return false;
    }
    let parsed: Value = serde_json::from_str(body).unwrap_or_default();
    let error = parsed.get("error").unwrap_or(&parsed);
    if let Some(param) = error.get("param").and_then(Value::as_str) {
        return param == field;
    }
    if let Some(details) = parsed.get("detail").and_then(Value::as_array) {
        let place = |detail: &Value| detail.get("loc")?.as_array()?.last()?.as_str().map(str::to_owned);
        return details.iter().filter_map(place).any(|name| name == field);
    }
    let quotes = ['\'', '"', '`'];
    quotes.iter().any(|quote| lower.contains(&format!("{quote}{field}{quote}")))
        // of the names that are words of their own in English, only quoted ones count
        || field.contains('_') && lower.contains(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(status: u16, body: &str) -> &'static str {
        let received = Received { status, wait: None, location: Some("/x".into()), body: body.into() };
        match of_status(&received, String::new(), &Field::ALL) {
            Failure::Passing(..) => "passing",
            Failure::NoCompletion(..) => "no completion",
            Failure::Refused(..) => "refused",
            Failure::Field(field, _) => field.name(),
            Failure::Lasting(..) => "lasting",
        }
    }

    #[test]
    fn statuses_mean_what_they_say() {
        for (status, body, expected) in [
            (302, "", "no completion"),
            (308, "", "no completion"),
            (400, "prompt rejected", "refused"),
            (400, "<html><h1>400 Bad Request</h1>", "refused"),
            (413, "", "refused"),
            (422, r#"{"detail": [{"msg": "input blocked by policy"}]}"#, "refused"),
            (451, "", "refused"),
            (401, "content_filter", "lasting"),
            (402, "", "lasting"),
            (403, "forbidden", "lasting"),
            (403, "flagged by moderation", "refused"),
            (404, "", "lasting"),
            (408, "", "passing"),
            (429, "", "passing"),
            (500, "", "passing"),
            (500, "the request exceeds the available context size", "refused"),
            (503, "<html>", "passing"),
            (599, "", "passing"),
        ] {
            assert_eq!(meaning(status, body), expected, "{status} {body}");
        }
        assert!(matches!(of_body("{\"error\": \"overloaded\"}", String::new()), Failure::NoCompletion(..)));
        assert!(matches!(of_body("{\"error\": {\"code\": \"content_filter\"}}", String::new()), Failure::Refused(..)));
    }

    #[test]
    fn fields_that_are_not_taken_are_named() {
        for (body, expected) in [
            (
                r#"{"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use
                'max_completion_tokens' instead.", "param": "max_tokens", "code": "unsupported_parameter"}}"#,
                "max_tokens",
            ),
            (r#"{"error": {"message": "Unsupported value: 0.7", "param": "temperature"}}"#, "temperature"),
            (r#"{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}"#, "seed"),
            (r#"{"message": "unknown field `n`"}"#, "n"),
            (r#"{"error": "top_p is deprecated"}"#, "top_p"),
            (r#"{"error": {"message": "max_tokens is too large: 2048", "param": "max_tokens"}}"#, "refused"),
            (r#"{"error": {"message": "unknown role in messages", "param": "messages"}}"#, "refused"),
            ("unexpected end of seed", "refused"),
        ] {
            assert_eq!(meaning(400, body), expected, "{body}");
        }
    }
}
