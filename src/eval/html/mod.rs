//! The readable report: one HTML file without scripts or anything fetched.

mod curves;
mod guide;
mod samples;
mod tables;

use serde_json::{Map, Value};

use super::svg::{compact, escape};

pub use curves::StageLog;
pub use samples::{AnswerView, SampleView};

/// Keys of the report that are conditions of the run, not results of a stage.
const CONDITIONS: [&str; 6] = ["name", "protocol", "seed", "device", "versions", "config"];

/// The page for the `root` object of a report, with curves of the stages' logs and some answers to read.
///
/// Every text that comes from data is escaped. Sections that the page does not know are shown as tables of their keys.
pub fn render_html(root: &Map<String, Value>, logs: &[StageLog], samples: &[SampleView]) -> String {
    let name = text(root, "name");
    let title = if name.is_empty() { "gr2 report".to_string() } else { format!("{} · gr2 report", escape(name)) };
    let mut sections: Vec<(&str, String, String)> = Vec::new();
    let mut add = |id: &'static str, heading: &str, body: String| {
        if !body.is_empty() {
            sections.push((id, heading.to_string(), body));
        }
    };
    add("rerank", "Re-ranking", root.get("rerank").map(tables::rerank).unwrap_or_default());
    add("curves", "Curves", curves::render(logs));
    add("samples", "Answers", samples::render(samples));
    add("generator", "Generator", root.get("midtrain").map(tables::generator).unwrap_or_default());
    add("sid", "Semantic IDs", root.get("sid").map(tables::plain).unwrap_or_default());
    let known = |key: &str| CONDITIONS.contains(&key) || ["rerank", "midtrain", "sid"].contains(&key);
    let other: String = root
        .iter()
        .filter(|(key, _)| !known(key))
        .map(|(key, section)| format!("<h3>{}</h3>\n{}", escape(key), tables::plain(section)))
        .collect();
    add("stages", "Other stages", other);
    add("guide", "How to read this", guide::render());
    add("conditions", "Conditions", conditions(root));

    let links: String = sections.iter().map(|(id, heading, _)| format!("<a href=\"#{id}\">{heading}</a>")).collect();
    let bodies: String = sections
        .iter()
        .map(|(id, heading, body)| format!("<section id=\"{id}\">\n<h2>{heading}</h2>\n{body}</section>\n"))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n\
         <p class=\"protocol\"><b>Protocol:</b> {}</p>\n{}<nav>{links}</nav>\n{}</header>\n{bodies}</main>\n</body>\n</html>\n",
        include_str!("page.css"),
        escape(text(root, "protocol")),
        chips(root),
        tiles(root),
    )
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn chips(root: &Map<String, Value>) -> String {
    let mut chips = Vec::new();
    if let Some(version) = root.get("versions").and_then(|v| v["gr2"].as_str()) {
        chips.push(format!("gr2 {version}"));
    }
    if !text(root, "device").is_empty() {
        chips.push(text(root, "device").to_string());
    }
    if let Some(seed) = root.get("seed") {
        chips.push(format!("seed {seed}"));
    }
    let users = root.get("rerank").and_then(|r| r["users"].as_u64());
    chips.extend(users.map(|users| format!("{users} test slates")));
    let items: String = chips.iter().map(|chip| format!("<li>{}</li>", escape(chip))).collect();
    format!("<ul class=\"chips\">{items}</ul>\n")
}

/// The few numbers to look at first.
fn tiles(root: &Map<String, Value>) -> String {
    let number = |pointer: &str| {
        let (section, rest) = pointer.split_once('/').unwrap_or((pointer, ""));
        root.get(section).and_then(|s| s.pointer(&format!("/{rest}"))).and_then(Value::as_f64)
    };
    let mut tiles = String::new();
    let mut tile = |value: String, label: String| {
        tiles.push_str(&format!("<div class=\"tile\"><b>{value}</b><span>{label}</span></div>\n"))
    };
    let last = root.get("rerank").and_then(tables::last_ranker);
    if let Some(ranker) = &last {
        if let (Some(score), Some(before)) =
            (number(&format!("rerank/{ranker}/ndcg@5")), number("rerank/prerank/ndcg@5"))
        {
            let label = format!("NDCG@5 of {} in the slate; the incoming order has {before:.4}", escape(ranker));
            tile(format!("{score:.4}"), label);
        }
        let end = |end| number(&format!("rerank/{ranker}/delta_vs_prerank/ndcg@5/{end}"));
        if let (Some(mean), Some(low), Some(high)) = (end("mean"), end("low"), end("high")) {
            tile(format!("{mean:+.4}"), format!("its gain in NDCG@5, 95 % interval {low:+.4} to {high:+.4}"));
        }
        if let Some(valid) = number(&format!("rerank/{ranker}/valid_rate")) {
            tile(tables::percent(valid), format!("valid answers of {}", escape(ranker)));
        }
        if let Some(share) = number(&format!("rerank/share_of_best/{ranker}")) {
            tile(tables::percent(share), "of the best possible NDCG@5".into());
        }
    }
    if let Some(recall) = number("midtrain/recall@10") {
        tile(compact(recall), "Recall@10 of the generator, full catalogue".into());
    }
    if let Some(unique) = number("sid/unique_items") {
        tile(tables::percent(unique), "items alone on their semantic ID".into());
    }
    if tiles.is_empty() { tiles } else { format!("<div class=\"tiles\">\n{tiles}</div>\n") }
}

fn conditions(root: &Map<String, Value>) -> String {
    let mut body = root.get("versions").map(tables::plain).unwrap_or_default();
    if let Some(config) = root.get("config") {
        let config = escape(&format!("{config:#}"));
        body.push_str(&format!("<details><summary>Configuration</summary>\n<pre>{config}</pre></details>\n"));
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{AnswerView, Bootstrap, Ranker, RankerAnswer, Report, RerankEvaluation, Run, SlateCase};
    use serde_json::json;

    const EVIL: &str = "<script>alert('1')</script>";

    fn evil_page() -> String {
        let run = Run {
            name: EVIL.into(),
            protocol: EVIL.into(),
            seed: 1,
            device: EVIL.into(),
            versions: [(EVIL.to_string(), EVIL.to_string())].into(),
            config: json!({EVIL: EVIL}),
        };
        let mut report = Report::new(&run);
        let evaluation = RerankEvaluation {
            slates: vec![SlateCase { size: 10, rank_pre: 2 }; 3],
            rankers: ["sft", EVIL]
                .map(|name| Ranker {
                    name: name.into(),
                    answers: vec![RankerAnswer::Valid { rank: 1, copied: false }; 3],
                    free_valid_rate: Some(0.5),
                })
                .into(),
            oracle: Some(vec![1; 3]),
            bootstrap: Bootstrap { resamples: 10, seed: 0 },
        };
        report.section("rerank", &evaluation.section().unwrap()).unwrap();
        report.section("midtrain", &json!({"recall@10": 0.1, EVIL: EVIL})).unwrap();
        report.section("sid", &json!({"unique_items": 0.99, "levels": [{"level": EVIL}]})).unwrap();
        report.section(EVIL, &json!({"x": [EVIL]})).unwrap();
        let logs = [StageLog { stage: EVIL.into(), records: vec![json!({"step": 1, EVIL: 2.0, "loss": 1.0})] }];
        let samples = [SampleView {
            title: EVIL.into(),
            history: vec![EVIL.into()],
            candidates: vec![EVIL.into(), "b".into()],
            target: Some(1),
            answers: vec![AnswerView { ranker: EVIL.into(), text: EVIL.into(), order: Some(vec![1, 0]) }],
        }];
        render_html(report.root(), &logs, &samples)
    }

    #[test]
    fn nothing_from_data_becomes_markup() {
        let page = evil_page();
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        // Every place that data reaches is in the page.
        assert!(page.matches("&lt;script&gt;").count() >= 17, "{}", page.matches("&lt;script&gt;").count());
    }

    #[test]
    fn tags_are_closed_in_order() {
        let page = evil_page();
        let mut open = Vec::new();
        let body = page.split("</head>").nth(1).unwrap().trim_end().strip_suffix("</html>").unwrap();
        for piece in body.split('<').skip(1) {
            let tag = piece.split('>').next().unwrap();
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "before </{name}>");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }

    #[test]
    fn an_empty_report_is_a_page_too() {
        let page = render_html(&Map::new(), &[], &[]);
        assert!(page.contains("How to read this") && !page.contains("id=\"rerank\""));
    }
}
