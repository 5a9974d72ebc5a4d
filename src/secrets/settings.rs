//! Settings without the secrets in them: by the name of a setting, and by the look of its value.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::MASK;

/// How keys of well-known services begin.
const KEY_BEGINNINGS: [&str; 18] = [
    "sk-",
    "sk_",
    "pk-",
    "hf_",
    "gsk_",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "xai-",
    "pplx-",
    "nvapi-",
    "r8_",
    "tgp_",
    "AIza",
    "AKIA",
    "xoxb-",
    "eyJ",
];
/// Characters of a key at least; shorter texts only look like one.
const SHORTEST_KEY: usize = 16;
/// Names that end in `token` or `key` and hold none.
const NO_SECRET: [&str; 11] = [
    "eostoken",
    "bostoken",
    "padtoken",
    "unktoken",
    "stoptoken",
    "pertoken",
    "cachekey",
    "idempotencykey",
    "sortkey",
    "nexttoken",
    "pagetoken",
];

/// Whether a setting of this name holds a secret, as `api_key`, `X-Auth-Token`, `client_secret`; `max_tokens` does not.
pub fn is_secret_name(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let has = |part: &str| name.contains(part);
    if NO_SECRET.iter().any(|harmless| name.ends_with(harmless)) {
        return false;
    }
    ["apikey", "secret", "passw", "passphrase", "authorization", "credential", "bearer", "cookie", "signature"]
        .iter()
        .any(|part| has(part))
        || ["token", "key", "keys", "pwd", "auth", "jwt"].iter().any(|end| name.ends_with(end))
        || ["pass", "sig", "tokens", "accesstokens", "apitokens", "authtokens"].contains(&name.as_str())
}

/// Whether a text looks like a key whatever it is called: an authorization, or the beginning of a well-known kind.
pub fn looks_like_key(text: &str) -> bool {
    let text = text.trim();
    let begins = |start: &str| text.get(..start.len()).is_some_and(|own| own.eq_ignore_ascii_case(start));
    text.len() >= SHORTEST_KEY
        && (KEY_BEGINNINGS.iter().any(|b| text.starts_with(b)) && !text.contains(char::is_whitespace))
        || text.len() >= 12 && (begins("Bearer ") || begins("Basic "))
}

/// A copy of settings in which [`MASK`] stands for every secret, numbers and switches aside.
pub fn masked(value: &Value) -> Value {
    walk(value, false, &mut |text, secret| if secret { MASK.to_owned() } else { masked_url(text) })
}

/// Every text of settings that [`masked`] takes out whole.
pub fn secrets_in(value: &Value) -> Vec<String> {
    let mut found = vec![];
    walk(value, false, &mut |text, secret| {
        if secret {
            found.push(text.to_owned());
        }
        String::new()
    });
    found
}

/// Whether settings hold what [`masked`] has written: they come from a file that keeps no secrets.
pub fn has_mask(value: &Value) -> bool {
    let mut found = false;
    walk(value, false, &mut |text, _| {
        found |= text == MASK;
        String::new()
    });
    found
}

/// Every text replaced by what `change` makes of it, which is told whether the text is a secret.
fn walk(value: &Value, secret: bool, change: &mut dyn FnMut(&str, bool) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text, (secret || looks_like_key(text)) && !text.is_empty())),
        Value::Array(list) => list.iter().map(|value| walk(value, secret, change)).collect(),
        Value::Object(fields) => {
            // { name = "Authorization", value = "..." }
            let of_secret = ["name", "header", "field"]
                .iter()
                .any(|name| fields.get(*name).and_then(Value::as_str).is_some_and(is_secret_name));
            let is_secret = |name: &str| secret || is_secret_name(name) || of_secret && name.starts_with("value");
            let field = |(name, value): (&String, &Value)| (name.clone(), walk(value, is_secret(name), change));
            Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// Whether an address has a user or a password in it, spelt plainly or in percent codes. An `@` that begins a part of the
/// path is none; one before the first `/` is, even where a `?` or `#` in the password ends the host's part by the letter.
pub fn has_userinfo(url: &str) -> bool {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    let plain = percent_decode_str(after).decode_utf8_lossy();
    let path = plain.split(['?', '#']).next().unwrap_or_default();
    path.match_indices('@').any(|(at, _)| !path[..at].ends_with('/'))
        || plain.split('/').next().unwrap_or_default().contains('@')
}

/// An address without user, password, the values of its query that are secrets, and what looks like a key. Other texts stay
/// as they are.
pub fn masked_url(url: &str) -> String {
    let Some((scheme, after)) = url.split_once("://") else {
        return if looks_like_key(url) { MASK.to_owned() } else { url.to_owned() };
    };
    let after = match has_userinfo(url) {
        true => {
            let plain = percent_decode_str(after).decode_utf8_lossy();
            format!("{MASK}@{}", plain.rsplit_once('@').map_or("", |(_, rest)| rest))
        }
        false => after.to_owned(),
    };
    let (path, query) = after.split_at(after.find('?').unwrap_or(after.len()));
    let path = path.split('/').map(|part| if looks_like_key(part) { MASK } else { part }).collect::<Vec<_>>().join("/");
    // `code` is the key of an Azure function
    let is_secret = |name: &str| is_secret_name(name) || name.eq_ignore_ascii_case("code");
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if is_secret(name) || looks_like_key(value) => {
            let end = if pair.ends_with(['&', ';']) { &pair[pair.len() - 1..] } else { "" };
            format!("{name}={MASK}{end}")
        }
        _ => pair.to_owned(),
    };
    let query = query.strip_prefix('?').map(|query| query.split_inclusive(['&', ';']).map(pair).collect::<String>());
    format!("{scheme}://{path}{}", query.map(|query| format!("?{query}")).unwrap_or_default())
}

/// A message about settings without their secrets: the rest of a line after `api_key =` and its like, users and passwords
/// of addresses, and words that look like keys.
pub fn scrubbed(message: &str) -> String {
    message.split('\n').map(scrubbed_line).collect::<Vec<_>>().join("\n")
}

fn scrubbed_line(line: &str) -> String {
    // the line of a file that a message quotes, `3 |   "value"`: what goes on from the line before may be a secret
    if let Some((number, quoted)) = line.split_once(" |")
        && !number.trim().is_empty()
        && number.trim().bytes().all(|b| b.is_ascii_digit())
        && !quoted.contains('=')
        && quoted.contains(['"', '\''])
    {
        return format!("{number} | {MASK}");
    }
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    for (at, _) in line.match_indices(['=', ':']) {
        let before = line[..at].trim_end().trim_end_matches(['"', '\'']);
        let start = before.rfind(|c| !part_of_name(c)).map_or(0, |end| end + 1);
        // the start of a character after the last that is none of a name
        let name = before.get(start..).unwrap_or_default().rsplit('.').next().unwrap_or_default();
        let value = line[at + 1..].trim();
        if is_secret_name(name) && !value.is_empty() && !value.starts_with("//") {
            return format!("{} {MASK}", &line[..=at]);
        }
    }
    let between = |c: char| c.is_whitespace() || "\"'`,;()[]{}<>".contains(c);
    let mut out = String::with_capacity(line.len());
    for piece in line.split_inclusive(between) {
        let word = piece.trim_end_matches(between);
        out += &masked_url(word);
        out += &piece[word.len()..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_that_hold_secrets() {
        for name in [
            "api_key",
            "api-key",
            "apiKey",
            "X-API-Key",
            "key",
            "subscription-key",
            "token",
            "hf_token",
            "access_token",
            "Authorization",
            "Proxy-Authorization",
            "password",
            "passwd",
            "db_pwd",
            "client_secret",
            "secret_id",
            "credentials",
            "Set-Cookie",
            "auth",
            "sig",
            "X-Auth",
            "jwt",
            "tokens",
            "access_keys",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "max_tokens",
            "max_completion_tokens",
            "eos_token",
            "stop_token_ids",
            "prompt_cache_key",
            "model",
            "author",
            "keep",
            "keyword",
            "top_p",
            "compass",
            "design",
            "skip_special_tokens",
            "api-version",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn settings_lose_their_secrets_and_nothing_else() {
        let settings = json!({
            "model": "m", "max_tokens": 7, "enable_thinking": false, "stop_token": "</s>", "note": "sk-proj-0123456789abcdef",
            "extra": {
                "api_key": "x1", "headers": { "Authorization": "Bearer abcdefgh", "X-Title": "shop" },
                "secret": { "a": ["b", 3] }, "proxy": "http://me:pa%40ss@host:1/v1", "empty_key": "",
            },
        });
        let expected = json!({
            "model": "m", "max_tokens": 7, "enable_thinking": false, "stop_token": "</s>", "note": "***",
            "extra": {
                "api_key": "***", "headers": { "Authorization": "***", "X-Title": "shop" },
                "secret": { "a": ["***", 3] }, "proxy": "http://***@host:1/v1", "empty_key": "",
            },
        });
        assert_eq!(masked(&settings), expected);
        assert_eq!(secrets_in(&settings), ["sk-proj-0123456789abcdef", "x1", "Bearer abcdefgh", "b"]);
        assert!(has_mask(&expected) && !has_mask(&settings));
    }

    #[test]
    fn addresses_lose_user_password_and_keys() {
        for (url, expected) in [
            ("http://host:8000/v1", "http://host:8000/v1"),
            ("https://host/@scope/v1?api-version=2", "https://host/@scope/v1?api-version=2"),
            ("http://user:SECRET@host/v1", "http://***@host/v1"),
            ("http://SECRET@host/v1", "http://***@host/v1"),
            ("http://user:SEC@RET@host/v1", "http://***@host/v1"),
            ("http://user:12/SECRET@host/v1", "http://***@host/v1"),
            ("http://user%3ASECRET%40host/v1", "http://***@host/v1"),
            ("http://host/v1?a=1&api-key=SECRET&token=SECRET", "http://host/v1?a=1&api-key=***&token=***"),
            ("http://host/v1?x=sk-SECRET-123456789", "http://host/v1?x=***"),
            ("http://host/sk-SECRET-123456789/v1", "http://host/***/v1"),
        ] {
            assert_eq!(masked_url(url), expected);
        }
        assert!(has_userinfo("user:SECRET@host/v1") && !has_userinfo("http://host/v1?mail=a@b"));
    }

    #[test]
    fn messages_lose_secrets() {
        for (message, expected) in [
            ("a.toml:\n2 | api_key = \"abc\"\n  | ^^^", "a.toml:\n2 | api_key = ***\n  | ^^^"),
            ("3 | extra = { \"api-key\" = 'abc', n = 1 }", "3 | extra = { \"api-key\" = ***"),
            ("--set traces.http.extra.token=abc: no", "--set traces.http.extra.token= ***"),
            ("base_url = \"http://u:p@h/v1", "base_url = \"http://***@h/v1"),
            ("string \"sk-0123456789abcdef\", expected f64", "string \"***\", expected f64"),
            ("unknown field `api_key`, expected `seed`", "unknown field `api_key`, expected `seed`"),
            ("nothing: é = ü", "nothing: é = ü"),
        ] {
            assert_eq!(scrubbed(message), expected);
        }
    }

    #[test]
    fn passwords_with_signs_and_secrets_named_beside_their_values() {
        for (url, shown) in [
            ("http://user:SECRET#pw@h/v1", "http://***@h/v1"),
            ("http://us?er:SECRETpw@h/v1", "http://***@h/v1"),
            ("http://u:p@h/v1?api_key=SECRET;x=1&code=SECRET", "http://***@h/v1?api_key=***;x=1&code=***"),
            ("http://h/v1/@me?api-version=2024-10-21", "http://h/v1/@me?api-version=2024-10-21"),
        ] {
            assert_eq!(masked_url(url), shown);
            assert_eq!(has_userinfo(url), url.contains(":p@") || url.contains("SECRET#") || url.contains("SECRETpw"));
        }
        let pair =
            json!({ "headers": [{ "name": "Authorization", "value": "x1" }, { "name": "X-Title", "value": "shop" }] });
        assert_eq!(secrets_in(&pair), ["x1"]);
        let quoted = scrubbed("TOML parse error at line 3\n  |\n3 | \"SECRETb123\"\n  |  ^\nexpected `,`");
        assert!(!quoted.contains("SECRET") && quoted.contains("line 3") && quoted.contains("expected `,`"), "{quoted}");
    }
}
