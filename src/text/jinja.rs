//! `minijinja` set up as transformers sets up Jinja2: blocks trimmed, Python's string methods, Python's JSON separators, loop
//! controls, `raise_exception`. There is no `strftime_now`: a prompt must not depend on the day.

use std::io;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, ErrorKind, State, Value};
use minijinja_contrib::pycompat;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

/// Steps of a rendering. A chat of 1,000 messages takes about 50,000; each may put a list into another, to be freed one
/// inside the other.
const STEPS: u64 = 1_000_000;

/// Jinja as transformers sets it up.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(STEPS));
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", tojson);
    // In Jinja2 `none` is not iterable; templates rely on it to skip tools.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment
}

/// Python's methods. `count` of an empty string, for which the library's loop does not end, is one more than there are
/// characters.
fn method(
    state: &State,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> std::result::Result<Value, minijinja::Error> {
    match (value.as_str(), name, arguments) {
        (Some(text), "count", [of]) if of.kind() == ValueKind::String && of.as_str() == Some("") => {
            Ok(Value::from(text.chars().count() + 1))
        }
        _ => pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

/// What went wrong, with the line.
pub(super) fn problem_of(error: &minijinja::Error) -> String {
    let mut problem = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.kind() {
        ErrorKind::OutOfFuel => problem = format!("does not end within {STEPS} steps"),
        ErrorKind::UnknownFunction if problem.starts_with("strftime_now") => {
            problem = "calls strftime_now, which is not there: a prompt must not depend on the day".into();
        }
        _ => {}
    }
    match error.line() {
        Some(line) => format!("line {line}: {problem}"),
        None => problem,
    }
}

/// Replaces the tags `generation` and `endgeneration` by `if true` and `endif`, keeping their whitespace control.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let start = open + 2;
        let Some(length) = rest[start..].find("%}") else { break };
        let end = start + length;
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
    use super::super::chat::LONGEST;
    use super::super::{ChatTemplate, Message, clipped};
    use crate::error::Result;

    fn render(source: &str) -> Result<String> {
        ChatTemplate::new(source)?.render(&[Message::system("Rank."), Message::user("A or B?")], true, false)
    }

    #[test]
    fn no_template_runs_past_its_limits() {
        let long = |piece: &str, end: &str| format!("{}{end}", piece.repeat((LONGEST - 60) / piece.len()));
        let growing =
            |step: &str| format!("{{% set n = namespace(x='ab') %}}{{% for i in range(99) %}}{step}{{% endfor %}}");
        let held = "{% set n = namespace() %}{% set n.a = n %}";
        // freed level by level when the steps are used up
        let nested = |step: &str| {
            let steps = step.repeat(40);
            format!("{{% set n = namespace(x=1) %}}{{% for i in range(99999) %}}{steps}{{% endfor %}}")
        };
        for source in [
            // no end
            "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}".into(),
            "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}".into(),
            "{% for i in [[]] recursive %}{{ loop([[]]) }}{% endfor %}".into(),
            "{% include 'chat_template' %}".into(),
            "{% extends 'chat_template' %}".into(),
            "{% import 'chat_template' as x %}".into(),
            // no bottom
            format!("{held}{{{{ n }}}}"),
            format!("{held}{{{{ n|tojson }}}}"),
            format!("{held}{{{{ n|pprint }}}}"),
            format!("{held}{{{{ [n, n]|sort }}}}{{{{ {{n: 1}} }}}}"),
            format!("{held}{{% set m = namespace() %}}{{% set m.a = m %}}{{{{ n == m }}}}{{{{ [n]|string }}}}"),
            format!("{held}{{{{ raise_exception(n) }}}}"),
            // no memory
            "{{ messages|tojson(indent=10000000000) }}".into(),
            "{{ messages|tojson(indent=18446744073709551615) }}".into(),
            "{{ 'a' * 10**10 }}".into(),
            "{{ ('a' * 10**8).replace('a', 'aaaaaaaaaaaa') }}".into(),
            "{{ range(100000)|join('a' * 10**6) }}".into(),
            "{{ '%1000000000d'|format(1) }}{{ '{:>10000000000}'.format(1) }}{{ '%*d'|format(10**10, 1) }}".into(),
            "{{ messages|indent(10**10) }}".into(),
            "{{ ([1] * 10**12)|list }}".into(),
            "{{ range(100000)|batch(10**12, 1)|list }}".into(),
            "{{ range(10**12) }}".into(),
            growing("{% set n.x = n.x ~ n.x %}"),
            growing("{% set n.x = n.x + n.x %}"),
            growing("{% set n.x = [n.x, n.x] %}") + "{{ n.x }}",
            growing("{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}"),
            "{% for i in range(100000) %}{{ 'a' * 10000 }}{% endfor %}".into(),
            // nested too deeply, or as deeply as the source allows
            long("not ", "1 }}{{ raise_exception('x') }}").replacen("not", "{{ not", 1),
            long("-", "1 }}{{ raise_exception('x') }}").replacen('-', "{{ -", 1),
            long("[", "").replacen('[', "{{ [", 1),
            long("(", "").replacen('(', "{{ (", 1),
            long("a[", "").replacen('a', "{{ a", 1),
            long("1 if 1 else ", "1 }}{{ raise_exception('x') }}").replacen('1', "{{ 1", 1),
            long("1~", "1 }}{{ raise_exception('x') }}").replacen('1', "{{ 1", 1),
            long("x.", "x }}").replacen('x', "{{ x", 1),
            long("x|e|", "e }}{{ raise_exception('x') }}").replacen('x', "{{ x", 1),
            long("{% elif x %}", "{% endif %}{{ raise_exception('x') }}").replacen("elif", "if", 1),
            long("{% if x %}", ""),
            long("{% for x in x %}", ""),
            long("{% macro a() %}", ""),
            " ".repeat(LONGEST + 1),
            // each list inside another: freed level by level
            "{% set n = namespace(x=1) %}{% for i in range(100000) %}{% set n.x = [n.x] %}{% endfor %}{{ raise_exception('x') }}"
                .into(),
            nested("{% set n.x = {1: n.x} %}"),
            nested("{% set n.x = dict(a=n.x) %}"),
            nested("{% set n.x = namespace(a=n.x) %}"),
            nested("{% set n.x = [n.x]|list %}"),
            nested("{% set x = (x, x) %}"),
            "{% set n = namespace(x=[]) %}{% for i in range(90000) %}{% set n.x = n.x[1:] %}{% endfor %}{{ n.x|list }}\
             {{ raise_exception('x') }}"
                .into(),
            "{% set n = namespace(x=[]) %}{% for i in range(90000) %}{% set n.x = n.x + [1] %}{% endfor %}\
             {{ raise_exception('x') }}"
                .into(),
            "{{ 'abcdefgh'[2::-5] }}{{ 'abc'[1:5:-1] }}{{ raise_exception('x') }}".into(),
        ] {
            let shown = clipped(&source, 60);
            let message = render(&source).expect_err(&shown).to_string();
            assert!(message.starts_with("text: chat template: ") && message.len() < 900, "{shown}: {message}");
        }
        assert_eq!(render("{{ 'abc'.count('') }}{{ 'abcb'.count('b') }}").unwrap(), "42");
    }
}
