//! Charts of what the stages logged, one per kind of quantity.

use std::path::Path;

use serde_json::Value;

use crate::error::Result;
use crate::eval::svg::{LineChart, Series, escape};
use crate::files::read_jsonl;

/// Curves in one chart at most; more go to the next chart.
const MOST_SERIES: usize = 5;

/// The metrics log of a stage, read back.
#[derive(Debug, Clone, PartialEq)]
pub struct StageLog {
    /// As in `sft`.
    pub stage: String,
    /// Its records, each an object of numbers with the key `step`. Where a step is there twice (a run that was resumed) the
    /// later record counts.
    pub records: Vec<Value>,
}

impl StageLog {
    /// Reads the log of `stage`, a file of JSON lines.
    ///
    /// Errors: as [`read_jsonl`].
    pub fn read(stage: &str, path: &Path) -> Result<Self> {
        Ok(Self { stage: stage.into(), records: read_jsonl(path)? })
    }
}

/// A kind of quantity: the chart's title, the keys that belong to it (`*` ends a prefix), and whether they are shares.
struct Kind {
    title: &'static str,
    keys: &'static [&'static str],
    shares: bool,
}

const fn kind(title: &'static str, keys: &'static [&'static str]) -> Kind {
    Kind { title, keys, shares: false }
}

const fn shares(title: &'static str, keys: &'static [&'static str]) -> Kind {
    Kind { title, keys, shares: true }
}

/// In the order of the page; the first that fits takes a key.
const KINDS: [Kind; 14] = [
    kind("Loss", &["loss", "loss_*", "*_loss", "nll*"]),
    kind("Reward", &["reward", "reward_rank", "reward_format", "reward_overlong"]),
    shares("Valid answers and copies of the order", &["valid_rate", "order_copy_rate", "truncated_share"]),
    shares("Target promoted or demoted", &["promoted_share", "demoted_share"]),
    shares("Groups and rollouts without news", &["zero_variance_share", "duplicate_share"]),
    kind("Entropy, nats per token", &["entropy*"]),
    kind("Response length, tokens", &["length_*"]),
    kind("Clipped tokens, share", &["clip_*"]),
    kind("Rollout against training log-prob", &["logprob_gap_*"]),
    kind("Divergence from the sampling policy", &["approx_kl"]),
    kind("Ranking metrics", &["recall@*", "ndcg@*", "valid_recall@*", "valid_ndcg@*"]),
    shares("Codebook use", &["unique_*", "codes_used*"]),
    kind("Gradient norm", &["grad_norm*"]),
    kind("Learning rate", &["lr", "learning_rate*"]),
];

/// A heading and its charts for every log that has something to draw.
pub(super) fn render(logs: &[StageLog]) -> String {
    let body: String = logs.iter().map(stage).collect();
    if body.is_empty() {
        return body;
    }
    let legend = "Of longer logs the faint line is what was logged and the bold one its trend (a straight line fitted to the \
                  nearest eighth of the steps); the number at the end of a line is the height at which it ends.";
    format!("<p class=\"soft\">{legend}</p>\n{body}")
}

fn stage(log: &StageLog) -> String {
    let curves = curves_of(&log.records);
    if curves.is_empty() {
        return String::new();
    }
    let (mut main, mut rest) = (String::new(), curves);
    for kind in &KINDS {
        let (taken, left): (Vec<Series>, Vec<Series>) = rest.into_iter().partition(|s| belongs(&s.name, kind));
        rest = left;
        for series in taken.chunks(MOST_SERIES) {
            main.push_str(&figure(kind.title, series, kind.shares));
        }
    }
    let other: String = rest.iter().map(|s| figure(&s.name, std::slice::from_ref(s), false)).collect();
    let mut body =
        format!("<h3>{} <span class=\"soft\">({} records)</span></h3>\n", escape(&log.stage), log.records.len());
    if !main.is_empty() {
        body.push_str(&format!("<div class=\"charts\">\n{main}</div>\n"));
    }
    if !other.is_empty() {
        let names = rest.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
        let summary = format!("Also logged by {}: {}", escape(&log.stage), escape(&names));
        body.push_str(&format!(
            "<details><summary>{summary}</summary>\n<div class=\"charts\">\n{other}</div></details>\n"
        ));
    }
    body
}

fn figure(title: &str, series: &[Series], shares: bool) -> String {
    let chart = LineChart {
        title: title.into(),
        x_label: "step".into(),
        y_range: shares.then_some((0.0, 1.0)),
        series: series.to_vec(),
    };
    format!("<figure>{}</figure>\n", chart.to_svg())
}

fn belongs(key: &str, kind: &Kind) -> bool {
    kind.keys.iter().any(|pattern| match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(prefix), _) => key.starts_with(prefix),
        (_, Some(suffix)) => key.ends_with(suffix),
        _ => key == *pattern,
    })
}

/// Every key that holds a number in some record, in order of first appearance, against `step` (or the record's number).
fn curves_of(records: &[Value]) -> Vec<Series> {
    let mut order: Vec<(f64, &Value)> =
        records.iter().enumerate().map(|(at, record)| (record["step"].as_f64().unwrap_or(at as f64), record)).collect();
    // Stable, so of two records of a step the later one comes last, and is the one that is kept.
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    order.reverse();
    order.dedup_by(|earlier, later| earlier.0 == later.0);
    order.reverse();
    let mut curves: Vec<Series> = Vec::new();
    for (step, record) in order {
        for (key, value) in record.as_object().into_iter().flatten().filter(|(key, _)| *key != "step") {
            // A number that was not finite is logged as null: a gap in a curve that is there.
            let at = curves.iter().position(|c| c.name == *key);
            let y = if value.is_null() && at.is_some() { Some(f64::NAN) } else { value.as_f64() };
            let Some(y) = y else { continue };
            match at {
                Some(at) => curves[at].points.push((step, y)),
                None => curves.push(Series { name: key.clone(), points: vec![(step, y)] }),
            }
        }
    }
    curves
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn resumed_steps_count_once_and_null_is_a_gap() {
        let records =
            [json!({"step": 1, "loss": 5.0}), json!({"step": 2, "loss": 4.0}), json!({"step": 2, "loss": 3.0})];
        assert_eq!(curves_of(&records)[0].points, [(1.0, 5.0), (2.0, 3.0)]);
        let records = [json!({"step": 0, "loss": 1.0}), json!({"step": 1, "loss": null, "note": "x"})];
        let curves = curves_of(&records);
        assert_eq!(curves.len(), 1);
        assert!(curves[0].points[1].1.is_nan());
    }

    #[test]
    fn keys_find_their_charts_and_unknown_ones_are_not_lost() {
        let record =
            json!({"step": 1, "loss": 1, "valid_loss": 1, "reward": 0, "valid_rate": 1, "reward_std": 2, "tokens": 3});
        let html = render(&[StageLog { stage: "dapo".into(), records: vec![record] }]);
        let (main, other) = html.split_once("<details>").unwrap();
        assert_eq!(main.matches("<svg").count(), 3);
        assert!(other.contains("reward_std, tokens</summary>") && other.matches("<svg").count() == 2);
        assert_eq!(render(&[StageLog { stage: "empty".into(), records: vec![] }]), "");
    }
}
