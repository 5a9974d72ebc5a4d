//! What the first attempt of a teacher would still cost.

use super::super::setting::Setting;
use super::super::slates::{self, SlateSource};
use super::{TeacherChoice, older_answers};
use crate::data::{Dataset, Part};
use crate::error::Result;
use crate::pipeline::key::outside_hash;
use crate::pipeline::{RunConfig, RunDir, STAGES, Stage};
use crate::rerank::{Answers, PromptStyle, import_slates, unpaid};

/// The requests of the first attempt that are still to be paid, as the plan tells it; `anew` tells that the slates are among
/// what is to be made. Empty for the built-in script.
///
/// Errors: as the stages whose results it reads.
pub(in crate::pipeline) fn to_be_paid(
    config: &RunConfig,
    run: &RunDir,
    dataset: &Dataset,
    anew: bool,
) -> Result<String> {
    let traces = &config.traces;
    let what = match traces.teacher {
        TeacherChoice::Scripted => return Ok(String::new()),
        TeacherChoice::Http => "to be paid",
        TeacherChoice::Local => "to be generated",
    };
    let before = STAGES.iter().copied().take_while(|stage| *stage != Stage::Traces);
    let made = match anew {
        true => before.map(|stage| run.is_made(stage, config)).collect::<Result<Vec<bool>>>()?.iter().all(|made| *made),
        false => run.stage(Stage::Slates).join("results.json").is_file(),
    };
    if !made {
        let most = most_lessons(config, dataset)?;
        return Ok(format!(", at most {most} requests of the first attempt {what} (the slates are not made yet)"));
    }
    let setting = Setting::load(config, run)?;
    let slates = slates::read(run, &setting.dataset)?;
    let parameters = match traces.teacher {
        TeacherChoice::Local => traces.local.parameters(&outside_hash(config, Stage::Traces)?, config.seed),
        _ => traces.http.parameters(),
    };
    let cache = traces.answers(run.root());
    let answers = Answers::look(&cache, &older_answers(run.root(), &cache));
    let asked = (PromptStyle::Instructed, &parameters);
    let found = unpaid(slates.lessons(), &setting.prompter(), asked, &answers, traces.sampling.sampling)?;
    let known = found.questions - found.unanswered;
    Ok(format!(
        ", {} requests of the first attempt {what} ({known} of {} are answered in {})",
        found.unanswered,
        found.questions,
        cache.display()
    ))
}

/// Slates that a teacher would be asked about at most.
fn most_lessons(config: &RunConfig, dataset: &Dataset) -> Result<usize> {
    let split = dataset.split();
    Ok(match &config.slates.source {
        SlateSource::File { train, .. } => {
            import_slates(train, dataset, Part::Validation, config.slates.size)?.slates.len()
        }
        _ if config.slates.practice == 0 => split.users(Part::Validation).count(),
        _ => {
            let practice = |user| split.train(user).len().saturating_sub(1).min(config.slates.practice);
            (0..dataset.users.len() as u32).map(practice).sum()
        }
    })
}
