//! Sections of a report as tables.

use serde_json::{Map, Value};

use crate::eval::svg::{IntervalChart, IntervalRow, compact, escape, grouped};
use crate::eval::{CATALOGUE_METRICS, Interval, Metric, SLATE_METRICS};

/// A share as percents: `97.3 %`.
pub(super) fn percent(share: f64) -> String {
    // A share that is not all must not read as all.
    if share < 1.0 && share > 0.9994 {
        return format!("{:.3} %", (share * 1e5).floor() / 1e3);
    }
    format!("{:.1} %", share * 100.0)
}

/// Name of the ranker that was trained last.
pub(super) fn last_ranker(section: &Value) -> Option<String> {
    trained(section.as_object()?).last().map(|name| name.to_string())
}

/// Entries that are re-rankers, in their order.
fn trained(section: &Map<String, Value>) -> impl Iterator<Item = &str> {
    section.iter().filter(|(_, entry)| entry.get("valid_rate").is_some()).map(|(name, _)| name.as_str())
}

/// The re-ranking section: scores of every order, differences with intervals, and the rest of its numbers.
pub(super) fn rerank(section: &Value) -> String {
    let Some(section) = section.as_object() else { return String::new() };
    let is_order = |entry: &Value| entry.get(SLATE_METRICS[0].to_string()).is_some();
    let orders: Vec<(&str, &Value)> =
        section.iter().filter(|(_, entry)| is_order(entry)).map(|(name, entry)| (name.as_str(), entry)).collect();
    let shares = ["share_of_best", "share_of_gain"];
    let rest: Map<String, Value> = section
        .iter()
        .filter(|(name, entry)| !is_order(entry) && !shares.contains(&name.as_str()))
        .map(|(name, entry)| (name.clone(), entry.clone()))
        .collect();
    let table = scores(section, &orders);
    format!("{table}{}{}{}", deltas(section, "prerank"), between_rankers(section), plain(&rest.into()))
}

/// One row per order, one column per metric, then shares; the best trained or incoming order of each metric in bold.
fn scores(section: &Map<String, Value>, orders: &[(&str, &Value)]) -> String {
    let score = |entry: &Value, metric: Metric| entry[metric.to_string()].as_f64();
    let best = SLATE_METRICS.map(|metric| {
        let scores = orders.iter().filter(|(name, _)| !aside(name)).filter_map(|(_, entry)| score(entry, metric));
        scores.fold(f64::NEG_INFINITY, f64::max)
    });
    // Column heading, and where its share of an order is found.
    let own = |key: &'static str| move |_: &str, entry: &Value| entry[key].as_f64();
    let of = |key: &'static str| move |name: &str, _: &Value| section.get(key)?.get(name)?.as_f64();
    type Share<'a> = Box<dyn Fn(&str, &Value) -> Option<f64> + 'a>;
    let shares: [(&str, Share); 5] = [
        ("valid", Box::new(own("valid_rate"))),
        ("valid free", Box::new(own("free_valid_rate"))),
        ("copies", Box::new(own("order_copy_rate"))),
        ("of best", Box::new(of("share_of_best"))),
        ("of gain", Box::new(of("share_of_gain"))),
    ];
    let used = shares.iter().filter(|(_, share)| orders.iter().any(|(name, entry)| share(name, entry).is_some()));
    let used: Vec<_> = used.collect();
    let mut rows = String::new();
    for (name, entry) in orders {
        let metrics = SLATE_METRICS.iter().zip(best).map(|(&metric, best)| {
            let Some(score) = score(entry, metric) else { return "<td>–</td>".to_string() };
            // Ties at the printed precision are all best.
            let class = if !aside(name) && (score - best).abs() < 5e-5 { " class=\"best\"" } else { "" };
            format!("<td{class}>{score:.4}</td>")
        });
        let shares =
            used.iter().map(|(_, share)| format!("<td>{}</td>", share(name, entry).map_or("–".into(), percent)));
        let cells: String = metrics.chain(shares).collect();
        rows.push_str(&format!("<tr{}><th>{}</th>{cells}</tr>\n", row_class(name), escape(name)));
    }
    let names = SLATE_METRICS.iter().map(|m| m.to_string()).chain(used.iter().map(|(name, _)| name.to_string()));
    let head: String = names.map(|name| format!("<th>{name}</th>")).collect();
    table("Scores inside the slate; the best of each metric in bold.", &format!("<th>order</th>{head}"), &rows)
}

/// Rows that are there to compare with, not to choose from.
fn aside(name: &str) -> bool {
    name == "random" || name == "oracle" || name.ends_with("_miss")
}

fn row_class(name: &str) -> &'static str {
    if aside(name) { " class=\"aside\"" } else { "" }
}

/// Differences of every entry that has `delta_vs_<base>`, as a chart and as a table.
fn deltas(section: &Map<String, Value>, base: &str) -> String {
    let key = format!("delta_vs_{base}");
    let compared: Vec<(&str, &Value)> =
        section.iter().filter_map(|(name, entry)| Some((name.as_str(), entry.get(&key)?))).collect();
    if compared.is_empty() {
        return String::new();
    }
    let (mut rows, mut chart) = (String::new(), Vec::new());
    for (name, delta) in compared {
        let mut cells = String::new();
        for metric in SLATE_METRICS.map(|m| m.to_string()) {
            let interval = interval(&delta[&metric]);
            cells.push_str(&difference(interval));
            // Recall at the size of the slate is the same for every order, and a _miss entry would double its ranker.
            if let Some(interval) = interval.filter(|i| !constant(i) && !aside(name)) {
                chart.push(IntervalRow { group: name.to_string(), label: metric, interval });
            }
        }
        rows.push_str(&format!("<tr{}><th>{}</th>{cells}</tr>\n", row_class(name), escape(name)));
    }
    let head: String = SLATE_METRICS.iter().map(|metric| format!("<th>{metric}</th>")).collect();
    let caption =
        "Mean difference and its 95 % interval by paired bootstrap; coloured where the interval excludes zero.";
    let table = table(caption, &format!("<th>order</th>{head}"), &rows);
    if base != "prerank" {
        return format!("<h3>Differences from {}</h3>\n{table}", escape(base));
    }
    let title = "Difference from the incoming order, 95 % interval".to_string();
    let chart = IntervalChart { title, rows: chart }.to_svg();
    format!("<h3>Differences from the incoming order</h3>\n{table}<figure class=\"wide\">{chart}</figure>\n")
}

fn difference(interval: Option<Interval>) -> String {
    match interval {
        None => "<td>–</td>".into(),
        Some(i) if constant(&i) => "<td>0</td>".into(),
        Some(Interval { mean, low, high }) => {
            let class = if low > 0.0 {
                " class=\"good\""
            } else if high < 0.0 {
                " class=\"bad\""
            } else {
                ""
            };
            format!("<td{class}>{mean:+.4}<small>{low:+.4} to {high:+.4}</small></td>")
        }
    }
}

fn constant(interval: &Interval) -> bool {
    interval.mean == 0.0 && interval.low == 0.0 && interval.high == 0.0
}

/// Differences of each ranker from the one trained before it.
fn between_rankers(section: &Map<String, Value>) -> String {
    trained(section).map(|name| deltas(section, name)).collect()
}

fn interval(value: &Value) -> Option<Interval> {
    let end = |key: &str| value[key].as_f64();
    Some(Interval { mean: end("mean")?, low: end("low")?, high: end("high")? })
}

/// The generator's section: its full-catalogue metrics in one table, then the rest.
pub(super) fn generator(section: &Value) -> String {
    let Some(section) = section.as_object() else { return String::new() };
    let metrics = CATALOGUE_METRICS.map(|m| m.to_string());
    let present: Vec<(&str, f64)> =
        metrics.iter().filter_map(|m| Some((m.as_str(), section.get(m)?.as_f64()?))).collect();
    let rest: Map<String, Value> =
        section.iter().filter(|(key, _)| !metrics.contains(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut body = String::new();
    if !present.is_empty() {
        let head: String = present.iter().map(|(name, _)| format!("<th>{name}</th>")).collect();
        let cells: String = present.iter().map(|(_, value)| format!("<td>{value:.4}</td>")).collect();
        let caption = "Trie-constrained beam search over the full catalogue, on the test items.";
        body = table(caption, &format!("<th>generator</th>{head}"), &format!("<tr><th>mid-trained</th>{cells}</tr>\n"));
    }
    body + &plain(&rest.into())
}

/// Any object: plain values as rows of one table, objects and lists of objects as tables of their own.
pub(super) fn plain(section: &Value) -> String {
    let Some(section) = section.as_object() else { return String::new() };
    let (mut rows, mut nested) = (String::new(), String::new());
    for (key, value) in section {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                nested.push_str(&format!("<h3>{}</h3>\n{}", escape(key), plain(value)));
            }
            Value::Array(list) if list.first().is_some_and(Value::is_object) => {
                nested.push_str(&format!("<h3>{}</h3>\n{}", escape(key), list_of_objects(list)));
            }
            _ => rows.push_str(&format!("<tr><th>{}</th>{}</tr>\n", escape(key), cell(value))),
        }
    }
    let own = if rows.is_empty() { String::new() } else { table("", "", &rows) };
    own + &nested
}

/// One row per object, one column per key of any of them.
fn list_of_objects(list: &[Value]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for key in list.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let head: String = keys.iter().map(|key| format!("<th>{}</th>", escape(key))).collect();
    let row = |entry: &Value| format!("<tr>{}</tr>\n", keys.iter().map(|key| cell(&entry[*key])).collect::<String>());
    table("", &head, &list.iter().map(row).collect::<String>())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<td>–</td>".into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => format!("<td>{}</td>", grouped(whole)),
            None => format!("<td>{}</td>", number.as_f64().map_or("–".into(), compact)),
        },
        Value::String(text) => format!("<td class=\"text\">{}</td>", escape(text)),
        other => format!("<td class=\"text\">{}</td>", escape(&other.to_string())),
    }
}

fn table(caption: &str, head: &str, rows: &str) -> String {
    let caption = if caption.is_empty() { String::new() } else { format!("<caption>{caption}</caption>") };
    let head = if head.is_empty() { String::new() } else { format!("<thead><tr>{head}</tr></thead>") };
    format!("<div class=\"scroll\"><table>{caption}{head}<tbody>\n{rows}</tbody></table></div>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn percents_are_never_rounded_up_to_all() {
        assert_eq!(
            [1.0, 0.99999, 0.9996, 0.973, 0.0].map(percent),
            ["100.0 %", "99.999 %", "99.960 %", "97.3 %", "0.0 %"]
        );
    }

    #[test]
    fn best_is_bold_and_clear_differences_are_coloured() {
        let delta = |low, high| json!({"ndcg@5": {"mean": 0.02, "low": low, "high": high}});
        let section = json!({
            "prerank": {"recall@1": 0.3, "ndcg@5": 0.5},
            "sft": {"recall@1": 0.2, "ndcg@5": 0.4, "valid_rate": 0.9, "delta_vs_prerank": delta(-0.01, 0.05)},
            "dapo": {"recall@1": 0.3, "ndcg@5": 0.52, "valid_rate": 1.0, "delta_vs_prerank": delta(0.01, 0.03), "delta_vs_sft": delta(0.1, 0.2)},
            "oracle": {"recall@1": 0.9, "ndcg@5": 0.9},
            "hit_rate": 0.4,
        });
        let html = rerank(&section);
        assert_eq!(html.matches("<td class=\"best\">0.3000</td>").count(), 2);
        assert!(html.contains("<td class=\"best\">0.5200</td>") && html.contains("<td>0.9000</td>"));
        assert_eq!(html.matches("<td class=\"good\">+0.0200").count(), 2);
        assert_eq!(html.matches("<td>+0.0200").count(), 1);
        assert!(html.contains("Differences from sft") && html.contains("hit_rate"));
        assert_eq!(last_ranker(&section).as_deref(), Some("dapo"));
    }

    #[test]
    fn unknown_shapes_are_shown() {
        let html =
            plain(&json!({"a": 12345, "levels": [{"x": 1}, {"y": "two"}], "inner": {"z": null}, "list": [1, 2]}));
        for part in ["12,345", "<th>x</th><th>y</th>", "two", "<h3>inner</h3>", "<td>–</td>", "[1,2]"] {
            assert!(html.contains(part), "{part} in {html}");
        }
    }
}
