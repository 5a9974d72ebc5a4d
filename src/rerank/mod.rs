//! The re-ranking task: slates, prompts, answers, and the teachers whose reasoning the student learns.
//!
//! | file | holds |
//! |---|---|
//! | `slate`, `import`, `leaks` | [`Slate`]: candidates in their incoming order and the next purchase; those of a user's own ranker, and what of the test they must not tell |
//! | `sids` | [`ItemSids`]: the semantic id of every item as text, and back |
//! | `words`, `attributes` | [`Attributes`]: topic, brand, price band and title words of every item |
//! | `markov`, `together`, `habits` | [`Markov`], [`Habits`]: what training purchases say about items and attributes |
//! | `knowledge` | [`Knowledge`]: hints on what goes well after what |
//! | `prompt` | [`Prompter`]: the words of every prompt |
//! | `answer` | [`Answer`]: the JSON object, rendered, parsed, and why a text is none |
//! | `grammar` | [`AnswerGrammar`]: an answer in writing names only items of its slate |
//! | `example` | [`Example`]: prompt and answer as token ids with their weights in the loss |
//! | `candidates` | [`CatalogueGenerator`]: the mid-trained model as pre-ranker |
//! | `student` | [`Student`]: slates to prompts, generated tokens to answers |
//! | `template_check` | [`check_student`]: whether a checkpoint's chat template will do, before anything is trained |
//! | `teacher` | [`Teacher`]: how any of the following is asked |
//! | `evidence`, `choice`, `scripted` | [`Scripted`]: reasons by rule from metadata; what speaks for a candidate, how much, and the marks a prompt shows |
//! | `http`, `local` | [`HttpTeacher`], [`LocalTeacher`]: language models elsewhere and here |
//! | `answers`, `cache` | [`Answers`], [`Cached`]: answers kept on disk |
//! | `lenient`, `control` | the answer in what a chat model wrote; [`ControlTokens`]: what it must not hold |
//! | `standing` | whether a teacher is there, and understands what it is asked |
//! | `traces`, `sampling`, `round` | [`Trace`], [`sample_traces`]: rejection and targeted sampling, distillation |
//! | `unpaid` | [`unpaid()`]: what is still to be paid |
//!
//! Statistics are learnt from training purchases only, and a [`Question`] holds no target: what a teacher says
//! who is not shown the answer, the student can find from the same prompt.

mod answer;
mod answers;
mod attributes;
mod cache;
mod candidates;
mod choice;
mod control;
mod evidence;
mod example;
mod grammar;
mod habits;
mod http;
mod import;
mod knowledge;
mod leaks;
mod lenient;
mod local;
mod markov;
mod prompt;
mod round;
mod sampling;
mod scripted;
mod sids;
mod slate;
mod standing;
mod student;
mod teacher;
mod template_check;
mod together;
mod traces;
mod unpaid;
mod words;

use std::path::Path;

pub use answer::{Answer, AnswerReader, Form, Invalid, InvalidCounts, Rendered, parse, render};
pub use answers::Answers;
pub use attributes::Attributes;
pub use cache::Cached;
pub use candidates::{CatalogueGenerator, Contexts};
pub use control::ControlTokens;
pub use evidence::{EvidenceKind, Weights};
pub use example::{Example, LossWeights, answer_weights};
pub use grammar::AnswerGrammar;
pub use habits::{Habits, Successor};
pub use http::{HttpConfig, HttpTeacher};
pub use import::{ImportedSlates, import_slates};
pub use knowledge::{Knowledge, KnowledgeConfig, Rule};
pub use leaks::refuse_leaks;
pub use local::{LocalPrompts, LocalTeacher};
pub use markov::Markov;
pub use prompt::{EntryOrder, PromptConfig, PromptOrder, Prompter};
pub use sampling::{Sampled, sample_traces};
pub use scripted::{Scripted, ScriptedConfig};
pub use sids::{ItemSids, between_sids};
pub use slate::{Question, Slate, SlateCounts, read_slates, write_slates};
pub use student::{Decoding, Ranked, Student};
pub use teacher::{Problem, PromptStyle, Reply, Response, Teacher, TeacherRequest};
pub use template_check::{check_prompt, check_student, check_vocabulary};
pub use traces::{Sampling, Trace, TraceConfig, TraceCounts, read_traces, write_traces};
pub use unpaid::{Unpaid, unpaid};

use crate::error::Error;

fn bad_file(path: &Path, line: Option<u64>, problem: &str, hint: Option<&str>) -> Error {
    Error::Data { path: path.into(), line, problem: problem.into(), hint: hint.map(str::to_owned) }
}
