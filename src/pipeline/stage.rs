//! The stages: their names, their order, and whose results each of them reads.

use serde::{Deserialize, Serialize};

/// A stage, in the order they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Imports items and histories.
    Data,
    /// Gives items semantic ids.
    Sid,
    /// Trains or takes a base model.
    Base,
    /// Teaches it semantic ids and the catalogue.
    Midtrain,
    /// Draws up the slates to re-rank.
    Slates,
    /// Collects reasoning traces.
    Traces,
    /// Fine-tunes on the traces.
    Sft,
    /// Reinforces with verifiable rewards.
    Dapo,
    /// Measures and reports.
    Eval,
}

/// Every stage, in the order they run.
pub const STAGES: &[Stage] = &[
    Stage::Data,
    Stage::Sid,
    Stage::Base,
    Stage::Midtrain,
    Stage::Slates,
    Stage::Traces,
    Stage::Sft,
    Stage::Dapo,
    Stage::Eval,
];

impl Stage {
    /// Its name on the command line and in the run directory.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Data => "data",
            Stage::Sid => "sid",
            Stage::Base => "base",
            Stage::Midtrain => "midtrain",
            Stage::Slates => "slates",
            Stage::Traces => "traces",
            Stage::Sft => "sft",
            Stage::Dapo => "dapo",
            Stage::Eval => "eval",
        }
    }

    /// The files and directories in its folder, beside the manifest: all else there is its user's.
    pub fn writes(self) -> &'static [&'static str] {
        const TRAINED: &[&str] = &["checkpoint", "metrics.jsonl", "non_finite_batch.json", "results.json"];
        match self {
            Stage::Data => &["counts.json", "items.jsonl", "users.jsonl"],
            Stage::Sid => &["metrics.jsonl", "results.json", "sids.jsonl"],
            Stage::Base | Stage::Midtrain | Stage::Sft => TRAINED,
            Stage::Slates => &["practice.jsonl", "results.json", "test.jsonl", "train.jsonl", "validation.jsonl"],
            Stage::Traces => &["results.json", "traces.jsonl"],
            Stage::Dapo => &[
                "best",
                "checkpoint",
                "metrics.jsonl",
                "model",
                "non_finite_batch.json",
                "results.json",
                "validation.jsonl",
            ],
            Stage::Eval => &["answers.jsonl", "report.html", "report.json"],
        }
    }

    /// The stages that its result rests on, in the order they run.
    pub fn earlier(self) -> impl Iterator<Item = Stage> {
        fn rests(of: Stage, on: Stage) -> bool {
            of.inputs().iter().any(|&input| input == on || rests(input, on))
        }
        STAGES.iter().copied().filter(move |&stage| rests(self, stage))
    }

    /// The stages whose results it reads.
    pub fn inputs(self) -> &'static [Stage] {
        match self {
            Stage::Data => &[],
            Stage::Sid | Stage::Base => &[Stage::Data],
            Stage::Midtrain => &[Stage::Data, Stage::Sid, Stage::Base],
            Stage::Slates => &[Stage::Data, Stage::Sid, Stage::Midtrain],
            Stage::Traces => &[Stage::Data, Stage::Sid, Stage::Midtrain, Stage::Slates],
            Stage::Sft => &[Stage::Data, Stage::Sid, Stage::Midtrain, Stage::Slates, Stage::Traces],
            Stage::Dapo => &[Stage::Data, Stage::Sid, Stage::Slates, Stage::Sft],
            Stage::Eval => &STAGES[..8],
        }
    }
}
