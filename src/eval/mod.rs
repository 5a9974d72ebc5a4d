//! Ranking metrics, paired bootstrap intervals, and the reports made of them.
//!
//! [`Metric`] turns the rank of a user's one relevant item into Recall@k or NDCG@k; [`paired_bootstrap`] says how far the
//! difference of two rankers could be chance; [`RerankEvaluation`] does both for the incoming order, random order and every
//! trained re-ranker over the same slates. [`Report`] collects what the stages found and writes `report.json` and, with the
//! curves of the stages' logs and some answers to read, `report.html`.

mod bootstrap;
mod html;
mod metrics;
mod report;
mod rerank;
mod svg;

pub use bootstrap::{Bootstrap, Interval, paired_bootstrap};
pub use html::{AnswerView, SampleView, StageLog, render_html};
pub use metrics::{
    CATALOGUE_METRICS, Metric, SLATE_METRICS, mean_metrics, random_order_expectation, random_order_ranks,
};
pub use report::{Report, Run};
pub use rerank::{Ranker, RankerAnswer, RerankEvaluation, SlateCase};
pub use svg::{IntervalChart, IntervalRow, LineChart, Series};
