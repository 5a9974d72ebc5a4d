//! Every setting of every section, set to numbers and texts that cannot be: refused before anything is made, by name.

use gr2::pipeline::RunConfig;
use std::panic::catch_unwind;
use toml::Value;

/// Settings that any number fits, and why.
const ANY: &[(&str, &str)] = &[
    ("seed", "picks random streams"),
    ("data.shop.seed", "picks random streams"),
    ("sid.svd.seed", "picks random streams"),
    ("traces.scripted.seed", "picks random streams"),
    ("traces.http.seed", "picks random streams"),
    ("checkpoint_seconds", "a time between checkpoints, however long"),
];

/// Settings that may be negative, and why.
const SIGNED: &[(&str, &str)] =
    &[("traces.scripted.weights", "evidence may speak against a candidate"), ("dapo.reward.invalid", "a punishment")];

/// With every optional number, and each kind of teacher.
fn configs() -> Vec<String> {
    // tables without defaults of their own stand there whole
    let fields = ["title", "brand", "categories", "description"]
        .map(|field| format!("[sid.tfidf.{field}]\nweight = 1.0\nwords = 8\ncharacters = false\n"))
        .concat();
    ["scripted", "http", "local"]
        .map(|teacher| {
            format!(
                "[data]\nsource = \"lcrec\"\ndir = \"d\"\nprefix = \"p\"\nk_core = 2\nmax_history = 9\n\
                 [dapo.clip]\ndual = 3.0\n\
                 [slates.source.file]\ntrain = \"a.jsonl\"\ntest = \"b.jsonl\"\n\
                 {fields}[traces]\nteacher = \"{teacher}\"\nhttp.model = \"m\"\nlocal.path = \"l\"\n"
            )
        })
        .to_vec()
}

/// Dotted names and values of the leaves; a list is a leaf.
fn leaves(value: &Value, name: &str, found: &mut Vec<(String, Value)>) {
    let Some(table) = value.as_table() else { return found.push((name.into(), value.clone())) };
    for (key, value) in table {
        leaves(value, &if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, found);
    }
}

fn settings(text: &str) -> Vec<(String, Value)> {
    let config = RunConfig::parse(text, "test.toml", &[]).expect("a good configuration");
    let mut found = vec![];
    leaves(&Value::try_from(&config).expect("serialises"), "", &mut found);
    assert!(found.len() > 100, "only {} settings were found", found.len());
    found
}

fn listed(list: &[(&str, &str)], name: &str) -> bool {
    list.iter().any(|(listed, _)| {
        name == *listed || name.starts_with(&format!("{listed}.")) || name.ends_with(&format!(".{listed}"))
    })
}

/// The refusal of a setting, or none; a panic fails the test.
fn refusal(text: &str, name: &str, value: &str) -> Option<String> {
    let setting = format!("{name}={value}");
    let parsed = catch_unwind(|| RunConfig::parse(text, "test.toml", std::slice::from_ref(&setting)));
    parsed.unwrap_or_else(|_| panic!("{setting}: panics")).err().map(|error| error.to_string())
}

/// The refusal names the setting, with or without its section.
fn names(message: &str, name: &str) -> bool {
    // a variant of a choice is no table to the parser
    let parsed = name.replace("slates.source.file.", "slates.source.");
    message.contains(name)
        || message.contains(&parsed)
        || name.rsplit('.').next().is_some_and(|last| message.contains(&format!("`{last}`")))
}

/// What is wrong with how a setting's value is met, if it must be refused or may be.
fn complaint(text: &str, name: &str, value: &str, may_be_taken: bool) -> Option<String> {
    match refusal(text, name, value) {
        Some(message) if !names(&message, name) => Some(format!("{name}={value}: does not name it: {message}")),
        None if !may_be_taken => Some(format!("{name}={value}: accepted")),
        _ => None,
    }
}

/// Whether these settings are read at all; the endpoint's are whole only where it is asked.
fn is_read(text: &str, name: &str) -> bool {
    !name.starts_with("traces.http") || text.contains("teacher = \"http\"")
}

#[test]
fn numbers_that_cannot_be_are_refused_by_name() {
    const BAD: [&str; 10] =
        ["nan", "inf", "-inf", "-1", "1e300", "1000000000000", "9223372036854775807", "0", "-1.5", "true"];
    let (mut tried, mut wrong) = (0, vec![]);
    for text in configs() {
        for (name, value) in settings(&text).iter().filter(|(name, _)| is_read(&text, name)) {
            let first = value.as_array().and_then(|list| list.first()).unwrap_or(value);
            if !first.is_integer() && !first.is_float() {
                continue;
            }
            for bad in BAD {
                let written = if value.is_array() { format!("[{bad}]") } else { bad.to_string() };
                let whole = bad.bytes().all(|b| b.is_ascii_digit());
                let may_be_taken = match bad {
                    // what a zero means is each setting's own
                    "0" => true,
                    "-1" | "-1.5" => listed(SIGNED, name),
                    _ => whole && first.is_integer() && listed(ANY, name),
                };
                wrong.extend(complaint(&text, name, &written, may_be_taken));
                tried += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 3000, "{tried}");
}

#[test]
fn texts_that_cannot_be_are_refused_by_name() {
    let mut wrong = vec![];
    for text in configs() {
        for (name, value) in settings(&text).iter().filter(|(name, _)| is_read(&text, name)) {
            let bad: &[&str] = match value {
                Value::String(_) => &["\"\"", "1.5"],
                Value::Boolean(_) => &["\"no\"", "1"],
                _ => &["\"many\"", "{}"],
            };
            for bad in bad {
                let may_be_taken = name == "traces.local.path" && !text.contains("teacher = \"local\"");
                wrong.extend(complaint(&text, name, bad, may_be_taken));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn settings_that_cannot_be_together_are_refused() {
    for (settings, expected) in [
        (
            &["slates.source=model", "slates.size=40"][..],
            "config: midtrain.contexts.beams: 30: fewer than the slates.size = 40",
        ),
        (&["eval.set=validation", "slates.held_back=0.0"], "config: eval.set: validation: with slates.held_back = 0"),
        (&["base.heads=6", "base.kv_heads=4"], "config: base.kv_heads: 4: base.heads = 6 cannot share so many"),
        (&["base.hidden=65536", "base.layers=1000"], "config: base.hidden: 65536: with base.layers = 1000"),
        (&["midtrain.mix.sequence=1e-9"], "config: midtrain.mix.persona: 0.24: with midtrain.mix.sequence = 1e-9"),
        (
            &["dapo.overlong.max_length=8", "dapo.overlong.buffer=9"],
            "config: dapo.overlong.buffer: 9: larger than max_length 8",
        ),
        (&["dapo.minibatches=33"], "config: dapo.minibatches: 33: expected 1 to 32"),
        (
            &["dapo.batch_prompts=65536", "dapo.group_size=4096"],
            "config: dapo.batch_prompts: 65536: with dapo.group_size = 4096",
        ),
        (
            &["dapo.clip.high=0.5", "dapo.clip.dual=1.2"],
            "config: dapo.clip.dual: 1.2: expected a number above 1 + high = 1.5",
        ),
        (&["sft.weights.output=0", "sft.weights.reasoning=0"], "config: sft.weights.output: 0"),
        (
            &["sid.levels=26", "sid.codes_per_level=65536", "sid.rqvae.latent=8192"],
            "config: sid.codes_per_level: 65536: 26 levels",
        ),
        (
            &["data.shop.users=3000000", "data.shop.max_purchases=1000"],
            "config: data.shop.users: 3000000: expected 1 to ",
        ),
        (&["data.shop.max_purchases=5"], "config: data.shop.max_purchases: 5: expected 6 to 1000"),
        (
            &["slates.source={file={train=\"a\",test=\"a\"}}"],
            "config: slates.source.file.test: a: is the file to train on",
        ),
        (&["dapo.group_size=1"], "config: dapo.group_size: 1: expected 2 to 4096 (a group of one has zero advantage)"),
        (&["sft.train.dropout=1.0"], "config: sft.train.dropout: 1: expected at least 0, below 1"),
        (
            &["midtrain.train.optimizer.beta2=nan"],
            "config: midtrain.train.optimizer.beta2: NaN: expected at least 0, below 1",
        ),
        (&["midtrain.mix.caption=1e300"], "config: midtrain.mix.caption: 1e300: expected at least 0, at most 1000000"),
    ] {
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        let message = RunConfig::parse("", "test.toml", &settings).expect_err("refused").to_string();
        assert!(message.starts_with(expected), "{settings:?}: {message}");
    }
}

#[test]
fn large_but_possible_settings_are_taken() {
    for settings in [
        // a model of eight thousand million parameters with a large vocabulary
        &[
            "base.vocab_size=151936",
            "base.hidden=4096",
            "base.layers=36",
            "base.heads=32",
            "base.kv_heads=8",
            "base.head_dim=128",
            "base.ffn=12288",
        ][..],
        &["base.train.epochs=100000", "midtrain.train.batch_tokens=1048576", "sft.train.max_length=131072"],
        &[
            "dapo.group_size=64",
            "dapo.batch_prompts=512",
            "dapo.max_new_tokens=32768",
            "dapo.overlong.max_length=32768",
            "dapo.max_rows=4096",
        ],
        &["data.shop.users=10000000", "dapo.temperature=1e-6", "eval.resamples=1000000", "sid.svd.dims=4096"],
        &["dapo.max_new_tokens=2", "dapo.overlong.max_length=2", "dapo.overlong.buffer=1", "dapo.steps=0"],
    ] {
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        RunConfig::parse("", "test.toml", &settings).unwrap_or_else(|e| panic!("{settings:?}: {e}"));
    }
}
