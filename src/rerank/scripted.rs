//! [`Scripted`]: the built-in teacher, which reasons from metadata and training purchases by rule.
//!
//! Score of a candidate = weighted sum of the kinds of evidence, as a logarithm of how likely it is to be next. Which
//! item comes first is drawn with Gumbel noise, so that at temperature 1 it is drawn from those likelihoods; the others
//! follow by their scores without noise, since no sampling judges them and noise would only be harder to learn.
//!
//! The weights are those of the configuration, or fitted to training slates: then those for the slates of customers
//! with an even number come from the customers with an odd one and the other way round, so that no slate's target has a
//! part in what is said of it.

use std::fmt::Write;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::choice::{Choice, dot, fit};
use super::evidence::{Evidence, EvidenceKind, KINDS, Mark, Taste, Weights, weigh};
use super::{Answer, Form, PromptStyle, Prompter, Question, Reply, Response, Teacher, TeacherRequest, render};
use crate::bounds::{LARGE, MANY, Section};
use crate::error::Result;
use crate::tensor::stream;

/// Slates that the weights are fitted to at most, half of them of each kind of customers.
const FIT_SLATES: usize = 20_000;
/// Pull of the configured weights, in slates or so.
const RIDGE: f64 = 1.0;

/// Settings of the scripted teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScriptedConfig {
    /// Seed of the noise.
    pub seed: u64,
    /// Scale of the Gumbel noise; 0 = always the most likely item first. Default 0.7, as language models are sampled.
    pub temperature: f64,
    /// Items that the explanation names, 1 or 2.
    pub cited: usize,
    /// Items put in the order of the evidence; the others follow in the incoming order, which a small student copies
    /// without fault long before it can sort ten items.
    pub promoted: usize,
    /// Kinds of evidence that count; none named: all. A student learns the faster the less its teacher knows that no
    /// prompt shows: the marks, the place and purchases before are words in it, other kinds are numbers behind it.
    pub evidence: Vec<EvidenceKind>,
    /// Weights of the evidence, and where fitting starts from.
    pub weights: Weights,
}

impl Default for ScriptedConfig {
    fn default() -> Self {
        ScriptedConfig {
            seed: 1,
            temperature: 0.7,
            cited: 1,
            promoted: 2,
            evidence: vec![],
            weights: Weights::default(),
        }
    }
}

impl ScriptedConfig {
    /// Checks the ranges; `section` is the dotted name of this table in the configuration file.
    ///
    /// Errors: `Config` naming the field.
    pub fn validate(&self, section: &str) -> Result<()> {
        let at = Section::new(section);
        at.number("temperature", self.temperature, 0.0..=LARGE)?;
        at.because("the incoming order would be copied").whole("promoted", self.promoted, 1..=MANY)?;
        at.whole("cited", self.cited, 1..=2)?;
        self.weights.validate(&format!("{section}.weights"))
    }
}

/// The built-in teacher.
#[derive(Debug, Clone)]
pub struct Scripted<'a> {
    config: ScriptedConfig,
    /// What is known of items and customers, and what of it a prompt shows.
    prompter: Prompter<'a>,
    /// For customers with an even number, and for those with an odd one.
    weights: [Evidence; 2],
}

impl<'a> Scripted<'a> {
    /// A teacher with the configured weights, who speaks of the marks and places that the prompter's prompts show.
    ///
    /// Errors: `Config`.
    pub fn new(config: ScriptedConfig, prompter: Prompter<'a>) -> Result<Self> {
        config.validate("traces.scripted")?;
        let weights = [counted(config.weights.to_array(), &config.evidence); 2];
        Ok(Scripted { config, prompter, weights })
    }

    /// Fits the weights to training slates, each a question and the position of its target among the candidates; see
    /// the page of this file. Where choices carry no information the weights go to zero, and so does what is taught.
    pub fn fit<'q>(&mut self, slates: impl IntoIterator<Item = (Question<'q>, usize)>) {
        let mut halves: [Vec<(Question, usize)>; 2] = Default::default();
        for (question, target) in slates {
            halves[question.user as usize % 2].push((question, target));
        }
        for (half, slates) in halves.iter().enumerate() {
            let every = slates.len().div_ceil(FIT_SLATES / 2).max(1);
            let choice = |(question, target): &(Question, usize)| {
                let evidence = weigh(question, self.prompter.attributes, self.prompter.habits).into_iter();
                Choice { candidates: evidence.map(|e| counted(e, &self.config.evidence)).collect(), chosen: *target }
            };
            let choices: Vec<Choice<KINDS>> = slates.iter().step_by(every).map(choice).collect();
            let prior = counted(self.config.weights.to_array(), &self.config.evidence);
            self.weights[1 - half] = fit(&choices, prior, RIDGE);
        }
    }

    /// The weights for customers with an even number, and for those with an odd one.
    pub fn weights(&self) -> [Weights; 2] {
        self.weights.map(Weights::from_array)
    }

    /// Scores of the candidates without noise, in the incoming order.
    pub fn scores(&self, question: &Question) -> Vec<f64> {
        let weights = &self.weights[question.user as usize % 2];
        weigh(question, self.prompter.attributes, self.prompter.habits)
            .iter()
            .map(|evidence| dot(evidence, weights))
            .collect()
    }

    /// The ranking of an attempt, with its explanation.
    ///
    /// Errors: `Shape` for an item that the catalogue does not have.
    pub fn answer(&self, request: &TeacherRequest, attempt: u32) -> Result<Answer> {
        let question = &request.question;
        let ranking = match request.shown {
            Some(target) => target_first(target, question.candidates.len()),
            None => self.draw(question, request.slate, attempt),
        };
        let explanation = self.explain(question, &ranking)?;
        Ok(Answer { explanation, ranking })
    }

    /// The ranking without noise.
    pub fn ranking(&self, question: &Question) -> Vec<usize> {
        self.promote(&self.scores(question), None)
    }

    fn draw(&self, question: &Question, slate: u64, attempt: u32) -> Vec<usize> {
        let scores = self.scores(question);
        let mut rng = stream(self.config.seed, "scripted teacher", slate, u64::from(attempt));
        let mut noisy = |score: &f64| {
            // Gumbel(0, 1); the smallest uniform number keeps the logarithm finite.
            let u: f64 = rng.random::<f64>().max(f64::MIN_POSITIVE);
            score - self.config.temperature * (-u.ln()).ln()
        };
        let drawn: Vec<f64> = scores.iter().map(&mut noisy).collect();
        let first = (0..scores.len()).max_by(|&a, &b| drawn[a].total_cmp(&drawn[b]).then(b.cmp(&a)));
        self.promote(&scores, first)
    }

    /// The order of the scores, but `first` first; after those promoted the incoming order.
    fn promote(&self, scores: &[f64], first: Option<usize>) -> Vec<usize> {
        let mut ranking: Vec<usize> = (0..scores.len()).collect();
        ranking.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        if let Some(place) = first.and_then(|first| ranking.iter().position(|&at| at == first)) {
            ranking[..=place].rotate_right(1);
        }
        ranking[self.config.promoted.min(scores.len())..].sort_unstable();
        ranking
    }

    /// Four steps in a closed vocabulary: the pattern of the history, the need that follows, which candidates stand out,
    /// how the first items match. What stands out is written as the prompt has it, so that it is copied before it is
    /// weighed: a small model weighs what stands close together far better than what is spread over ten lines.
    /// Reasons stand before the item they speak for: what is chosen follows from what was said.
    fn explain(&self, question: &Question, ranking: &[usize]) -> Result<String> {
        let attributes = self.prompter.attributes;
        let taste = Taste::of(question.history, attributes);
        let topic_name = |topic: &usize| attributes.topics()[*topic].as_str();
        let brands = taste.favourites(&taste.brands);
        let band = taste.favourites(&taste.bands).into_iter().next();
        let mut pattern: Vec<String> = brands.iter().map(|&brand| attributes.brands()[brand].clone()).collect();
        pattern.extend(band.map(|band| attributes.bands()[band].clone()));
        pattern.extend(taste.topics.first().map(|topic| format!("last {}", topic_name(topic))));
        let weights = &self.weights[question.user as usize % 2];
        let marks = self.prompter.marks(question);
        let needed = taste.topics.first().map_or(&[][..], |&topic| self.prompter.knowledge.after(topic));
        let need: Vec<&str> = needed.iter().map(topic_name).collect();
        let stand_out = marks.iter().enumerate().filter(|(_, marks)| !marks.is_empty()).map(|(position, marks)| {
            let phrases = marks.iter().map(|mark| mark.phrase().to_owned());
            phrases.chain(self.prompter.place(position)).collect::<Vec<String>>().join(", ")
        });
        let stand_out: Vec<String> = stand_out.collect();
        let mut text =
            format!("Pattern: {}. Need: {}.", or(&pattern.join(", "), "mixed"), or(&need.join(", "), "similar"));
        if self.prompter.config.marks {
            let _ = write!(text, " Compare: {}.", or(&stand_out.join("; "), "alike"));
        }
        text += " Match:";

        for (place, &position) in ranking.iter().take(self.config.cited).enumerate() {
            let item = question.candidates[position];
            let mut reasons: Vec<&str> = Vec::new();
            reasons.extend(attributes.topic(item).filter(|topic| needed.contains(topic)).as_ref().map(topic_name));
            let brand = attributes.brand(item).filter(|brand| brands.contains(brand));
            reasons.extend(brand.map(|brand| attributes.brands()[brand].as_str()));
            let band = attributes.band(item).filter(|own| band == Some(*own));
            reasons.extend(band.map(|band| attributes.bands()[band].as_str()));
            let again = question.history.contains(&item);
            if again && weights[EvidenceKind::Repeat as usize] > 0.0 {
                reasons.push("again");
            } else if !again
                && weights[EvidenceKind::Repeat as usize] < 0.0
                && question.candidates.iter().any(|other| question.history.contains(other))
            {
                reasons.push("new");
            }
            reasons.extend(self.shared_word(item, &taste, &reasons));
            // last and all of them, as the candidate's line in the prompt ends
            let standing_out = marks[position].iter().filter(|&&mark| mark != Mark::Again);
            reasons.extend(standing_out.map(|mark| mark.phrase()));
            let separator = if place == 0 { "" } else { ";" };
            let why = or(&reasons.join(", "), "plausible").to_owned();
            let why = std::iter::once(why).chain(self.prompter.place(position)).collect::<Vec<_>>().join(", ");
            let _ = write!(text, "{separator} {why}{}", self.prompter.sids.text(item)?);
        }
        Ok(text)
    }

    /// The title word that a candidate shares with the history and that tells most, if fewer than two reasons are known.
    fn shared_word(&self, item: u32, taste: &Taste, reasons: &[&str]) -> Option<&'a str> {
        if reasons.len() >= 2 {
            return None;
        }
        let attributes = self.prompter.attributes;
        let telling = |word: u32| taste.word_weight(word) * attributes.idf(word);
        let said = |word: &str| reasons.iter().any(|reason| reason.to_lowercase().contains(word));
        let is_word = |word: &&u32| attributes.word(**word).chars().all(char::is_alphabetic);
        let words = attributes.title_words(item).iter().filter(is_word).filter(|word| !said(attributes.word(**word)));
        let best = words.max_by(|a, b| telling(**a).total_cmp(&telling(**b)).then(b.cmp(a)))?;
        (telling(*best) > 0.0).then(|| attributes.word(*best))
    }
}

/// Zero for every kind that is not named; none named: as it was.
fn counted(mut values: Evidence, kinds: &[EvidenceKind]) -> Evidence {
    if !kinds.is_empty() {
        let named = |at: usize| kinds.iter().any(|&kind| kind as usize == at);
        values.iter_mut().enumerate().filter(|(at, _)| !named(*at)).for_each(|(_, value)| *value = 0.0);
    }
    values
}

/// The label of targeted sampling: the target first, the others in the incoming order.
pub(super) fn target_first(target: usize, candidates: usize) -> Vec<usize> {
    std::iter::once(target).chain((0..candidates).filter(|&position| position != target)).collect()
}

fn or<'t>(text: &'t str, empty: &'t str) -> &'t str {
    if text.is_empty() { empty } else { text }
}

impl Teacher for Scripted<'_> {
    fn name(&self) -> &str {
        "scripted"
    }

    fn parameters(&self) -> Value {
        json!({ "teacher": "scripted", "config": self.config, "weights": self.weights() })
    }

    fn style(&self) -> PromptStyle {
        PromptStyle::Unread
    }

    fn form(&self) -> Form {
        Form::Strict
    }

    fn parallel(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn batch(&self) -> usize {
        64
    }

    fn ask(&self, request: &TeacherRequest, attempt: u32) -> Result<Response> {
        let answer = self.answer(request, attempt)?;
        let text = render(&answer, request.question.candidates, self.prompter.sids)?.text;
        Ok(Response::Answered(Reply {
            text,
            truncated: false,
            refused: false,
            prompt_tokens: Some(0),
            completion_tokens: Some(0),
            cached: false,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rerank::prompt::tests::Corner;
    use crate::rerank::{PromptConfig, parse};

    const QUESTION: Question = Question { user: 2, history: &[2, 0], candidates: &[4, 3, 2] };

    fn teacher(corner: &Corner, config: ScriptedConfig) -> Scripted<'_> {
        Scripted::new(config, corner.prompter(PromptConfig::default())).unwrap()
    }

    fn request(shown: Option<usize>) -> TeacherRequest<'static> {
        TeacherRequest { slate: 0, question: QUESTION, shown, messages: vec![] }
    }

    #[test]
    fn ranks_by_evidence_and_says_why() {
        let corner = Corner::new();
        let teacher = teacher(&corner, ScriptedConfig { temperature: 0.0, cited: 2, ..ScriptedConfig::default() });
        let answer = teacher.answer(&request(None), 0).unwrap();
        assert_eq!(answer.ranking, [2, 1, 0]);
        let expected = "Pattern: Acme, last printer. Need: ink. Compare: bought before, #3. Match: \
            ink, Acme, #3<|sid_begin|><s_a_1><s_b_0><|sid_end|>; \
            ink, #2<|sid_begin|><s_a_1><s_b_1><|sid_end|>";
        assert_eq!(answer.explanation, expected);
        let Response::Answered(reply) = teacher.ask(&request(None), 0).unwrap() else { panic!() };
        assert_eq!(parse(&reply.text, QUESTION.candidates, &corner.sids, Form::Strict), Ok(answer));
    }

    #[test]
    fn what_a_prompt_does_not_show_is_not_spoken_of() {
        let corner = Corner::new();
        let prompter = corner.prompter(PromptConfig { marks: false, places: false, ..PromptConfig::default() });
        let teacher =
            Scripted::new(ScriptedConfig { temperature: 0.0, ..ScriptedConfig::default() }, prompter).unwrap();
        let answer = teacher.answer(&request(None), 0).unwrap();
        let expected = "Pattern: Acme, last printer. Need: ink. Match: ink, Acme<|sid_begin|><s_a_1><s_b_0><|sid_end|>";
        assert_eq!(answer.explanation, expected);
    }

    #[test]
    fn purchases_again_count_as_the_weights_say() {
        let corner = Corner::new();
        let explanation = |repeat| {
            let weights = Weights { repeat, ..Weights::default() };
            let teacher = teacher(&corner, ScriptedConfig { temperature: 0.0, weights, ..ScriptedConfig::default() });
            let answer = teacher.answer(&request(None), 0).unwrap();
            answer.explanation.split_once("Match:").unwrap().1.to_owned()
        };
        assert_eq!(explanation(1.0), " ink, Acme, again, #3<|sid_begin|><s_a_1><s_b_0><|sid_end|>");
        assert_eq!(explanation(-9.0), " ink, new, #2<|sid_begin|><s_a_1><s_b_1><|sid_end|>");
    }

    #[test]
    fn only_the_evidence_named_counts() {
        let corner = Corner::new();
        let ranking = |evidence: &[EvidenceKind]| {
            let config = ScriptedConfig { evidence: evidence.to_vec(), ..ScriptedConfig::default() };
            teacher(&corner, config).ranking(&QUESTION)
        };
        assert_eq!(ranking(&[]), [2, 1, 0]);
        assert_eq!(ranking(&[EvidenceKind::Order]), [0, 1, 2]);
        assert_eq!(ranking(&[EvidenceKind::Topic, EvidenceKind::Order]), [1, 2, 0], "both inks, in the incoming order");
    }

    #[test]
    fn targeted_puts_the_target_first_and_keeps_the_rest() {
        let corner = Corner::new();
        let answer = teacher(&corner, ScriptedConfig::default()).answer(&request(Some(1)), 0).unwrap();
        assert_eq!(answer.ranking, [1, 0, 2]);
        assert!(
            answer.explanation.ends_with(" ink, #2<|sid_begin|><s_a_1><s_b_1><|sid_end|>"),
            "{}",
            answer.explanation
        );
        let odd = teacher(&corner, ScriptedConfig::default()).answer(&request(Some(0)), 0).unwrap();
        assert!(
            odd.explanation.ends_with(" plausible, #1<|sid_begin|><s_a_2><s_b_0><|sid_end|>"),
            "{}",
            odd.explanation
        );
    }

    #[test]
    fn noise_moves_one_item_to_the_front_as_often_as_it_is_likely() {
        let corner = Corner::new();
        let teacher = teacher(&corner, ScriptedConfig { temperature: 1.0, ..ScriptedConfig::default() });
        let scores = teacher.scores(&QUESTION);
        let total: f64 = scores.iter().map(|score| score.exp()).sum();
        let mut first = [0.0; 3];
        for attempt in 0..4000 {
            let answer = teacher.answer(&request(None), attempt).unwrap();
            first[answer.ranking[0]] += 1.0 / 4000.0;
            let rest = &answer.ranking[1..];
            assert!(scores[rest[0]] >= scores[rest[1]], "{answer:?}");
        }
        for (position, score) in scores.iter().enumerate() {
            assert!((first[position] - score.exp() / total).abs() < 0.04, "{first:?} {scores:?}");
        }
        assert_eq!(teacher.answer(&request(None), 3).unwrap(), teacher.answer(&request(None), 3).unwrap());
    }

    #[test]
    fn weights_come_from_the_other_half_of_the_customers() {
        let corner = Corner::new();
        let mut fitted = teacher(&corner, ScriptedConfig::default());
        // Customers with an even number always take the lamp, which nothing else speaks for.
        let even = (0..200).map(|user| (Question { user: user * 2, ..QUESTION }, 0));
        fitted.fit(even);
        assert_eq!(fitted.weights()[0], Weights::default(), "no odd customer was seen");
        let odd = Question { user: 1, ..QUESTION };
        let scores = fitted.scores(&odd);
        assert!(scores[0] > scores[1] && scores[0] > scores[2], "{scores:?}");
        assert_eq!(fitted.scores(&QUESTION), teacher(&corner, ScriptedConfig::default()).scores(&QUESTION));
    }

    #[test]
    fn wrong_values_name_their_field() {
        let wrong = |config: ScriptedConfig| config.validate("traces.scripted").unwrap_err().to_string();
        let message = wrong(ScriptedConfig { temperature: -1.0, ..Default::default() });
        assert_eq!(message, "config: traces.scripted.temperature: -1: expected at least 0, at most 1000000");
        let message = wrong(ScriptedConfig { cited: 3, ..Default::default() });
        assert_eq!(message, "config: traces.scripted.cited: 3: expected 1 to 2");
        let weights = Weights { topic: f64::NAN, ..Weights::default() };
        let message = wrong(ScriptedConfig { weights, ..Default::default() });
        assert!(
            message.starts_with("config: traces.scripted.weights.topic: NaN: expected at least -1000000"),
            "{message}"
        );
    }
}
