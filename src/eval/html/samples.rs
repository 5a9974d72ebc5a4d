//! Answers to read: what a user bought, what was offered, how each ranker argued and ordered.

use serde::{Deserialize, Serialize};

use crate::eval::svg::escape;

/// One slate with the answers of some rankers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleView {
    /// As in `user 17`.
    pub title: String,
    /// What the user bought, oldest first.
    pub history: Vec<String>,
    /// The candidates in the incoming order.
    pub candidates: Vec<String>,
    /// Place of the target among the candidates, from 0.
    pub target: Option<usize>,
    /// The answers.
    pub answers: Vec<AnswerView>,
}

/// One ranker's answer to a slate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerView {
    /// As in `dapo`.
    pub ranker: String,
    /// Its reasoning, or the whole output where no answer could be read from it.
    pub text: String,
    /// The candidates' places in the incoming order, from 0, in the answered order; none if the answer is invalid.
    pub order: Option<Vec<usize>>,
}

/// The samples, each with its lists side by side.
pub(super) fn render(samples: &[SampleView]) -> String {
    samples.iter().map(sample).collect()
}

fn sample(view: &SampleView) -> String {
    let history: String = view.history.iter().map(|item| format!("<li>{}</li>", escape(item))).collect();
    let incoming: String =
        view.candidates.iter().enumerate().map(|(at, item)| candidate(item, view.target == Some(at), "")).collect();
    let orders: String = view.answers.iter().map(|answer| column(view, answer)).collect();
    let texts: String = view
        .answers
        .iter()
        .map(|a| format!("<h3>{} says</h3>\n<pre class=\"answer\">{}</pre>\n", escape(&a.ranker), escape(&a.text)))
        .collect();
    format!(
        "<article class=\"sample\">\n<h3>{}</h3>\n\
         <details><summary>History: {} items, oldest first</summary><div class=\"columns\"><ol>{history}</ol></div></details>\n\
         <div class=\"columns\">\n<div><h4>Incoming order</h4><ol>{incoming}</ol></div>\n{orders}</div>\n{texts}</article>\n",
        escape(&view.title),
        view.history.len(),
    )
}

fn column(view: &SampleView, answer: &AnswerView) -> String {
    let ranker = escape(&answer.ranker);
    let Some(order) = &answer.order else {
        return format!(
            "<div><h4>{ranker}: <span class=\"bad\">no valid answer</span></h4>\
             <p class=\"soft\">The incoming order is served instead.</p></div>\n"
        );
    };
    let items: String = order
        .iter()
        .enumerate()
        .map(|(now, &before)| {
            let item = view.candidates.get(before).map_or("candidate outside the slate", String::as_str);
            candidate(item, view.target == Some(before), &movement(before, now))
        })
        .collect();
    format!("<div><h4>{ranker}{}</h4><ol>{items}</ol></div>\n", verdict(view.target, order))
}

fn candidate(item: &str, is_target: bool, moved: &str) -> String {
    let class = if is_target { " class=\"target\"" } else { "" };
    format!("<li{class}>{}{moved}</li>", escape(item))
}

fn movement(before: usize, now: usize) -> String {
    match before.cmp(&now) {
        std::cmp::Ordering::Greater => format!("<i>▲ {}</i>", before - now),
        std::cmp::Ordering::Less => format!("<i>▼ {}</i>", now - before),
        std::cmp::Ordering::Equal => String::new(),
    }
}

/// Where the target went, as part of the heading.
fn verdict(target: Option<usize>, order: &[usize]) -> String {
    let Some((before, now)) = target.and_then(|t| Some((t, order.iter().position(|&c| c == t)?))) else {
        return String::new();
    };
    let class = match before.cmp(&now) {
        std::cmp::Ordering::Greater => "good",
        std::cmp::Ordering::Less => "bad",
        std::cmp::Ordering::Equal => "soft",
    };
    format!(": <span class=\"{class}\">target {} → {}</span>", before + 1, now + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn movement_and_verdict() {
        let view = SampleView {
            title: "user 1".into(),
            history: vec!["tea".into()],
            candidates: ["cup", "pot", "mat"].map(String::from).into(),
            target: Some(2),
            answers: vec![
                AnswerView { ranker: "sft".into(), text: "?".into(), order: None },
                AnswerView { ranker: "dapo".into(), text: "a pot goes with tea".into(), order: Some(vec![2, 1, 0]) },
            ],
        };
        let html = render(&[view]);
        assert!(html.contains("<span class=\"good\">target 3 → 1</span>"));
        assert!(html.contains("<li class=\"target\">mat<i>▲ 2</i></li><li>pot</li><li>cup<i>▼ 2</i></li>"));
        assert!(html.contains("sft: <span class=\"bad\">no valid answer</span>"));
    }
}
