//! The words of every prompt. No other file of the crate writes any.
//!
//! The student's prompt is short, since a small model pays for every token of it. Candidates come last: in a causal model
//! what stands later is read in the light of what stands before, so each candidate is judged against purchases and hints
//! while it is read. (GR2's technical report puts candidates first to share their prefix between users; here every user
//! has candidates of their own.) For the same reason a title stands before its semantic id: the id, which the answer must
//! copy, then carries what the title says.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::evidence::{Mark, marks};
use super::words::{shown, singular, words};
use super::{Attributes, Habits, ItemSids, Knowledge, KnowledgeConfig, Question};
use crate::bounds::{MANY, Section};
use crate::data::Catalogue;
use crate::error::{Error, Result};
use crate::text::Message;

/// What of the user's message comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptOrder {
    /// Purchases, hints, candidates.
    #[default]
    HistoryFirst,
    /// Candidates, purchases, hints.
    CandidatesFirst,
}

/// What of an item comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryOrder {
    /// Title and attributes, semantic id.
    #[default]
    TextFirst,
    /// Semantic id, title and attributes.
    SidFirst,
}

/// What a prompt shows. The defaults are choices of this project; GR2 shows semantic id, title and category of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptConfig {
    /// Most recent purchases shown.
    pub history_items: usize,
    /// First words of a title shown.
    pub title_words: usize,
    /// Show the topic (category) where the title does not say it.
    pub topic: bool,
    /// Show the brand where the title does not say it.
    pub brand: bool,
    /// Show the price band where it is known and the title does not say it.
    pub price: bool,
    /// Give hints on what goes well after what (knowledge priming).
    pub knowledge: bool,
    /// Which hints.
    pub hints: KnowledgeConfig,
    /// Mark the candidates that stand out: bought before; bought together with the purchases, or next after them, most
    /// often by other customers; with the most similar title.
    pub marks: bool,
    /// Show the place of each candidate in the incoming order, as `#2`, before its semantic id. A reason that ends with the
    /// place is then followed by the same id as the place is in the prompt, which is the first thing a small model learns.
    pub places: bool,
    /// Order of the parts.
    pub order: PromptOrder,
    /// Order within an item.
    pub entry: EntryOrder,
}

impl Default for PromptConfig {
    fn default() -> Self {
        PromptConfig {
            history_items: 8,
            title_words: 8,
            topic: true,
            brand: true,
            price: true,
            knowledge: true,
            hints: KnowledgeConfig::default(),
            marks: true,
            places: true,
            order: PromptOrder::default(),
            entry: EntryOrder::default(),
        }
    }
}

impl PromptConfig {
    /// Checks the ranges; `section` is the dotted name of this table in the configuration file.
    ///
    /// Errors: `Config` naming the field.
    pub fn validate(&self, section: &str) -> Result<()> {
        let at = Section::new(section).because("a prompt shows at least one");
        at.whole("history_items", self.history_items, 1..=MANY)?;
        at.whole("title_words", self.title_words, 1..=MANY)?;
        self.hints.validate(&format!("{section}.hints"))
    }
}

/// Writes the prompts for one catalogue.
#[derive(Debug, Clone)]
pub struct Prompter<'a> {
    /// What is shown.
    pub config: PromptConfig,
    /// The items' texts.
    pub catalogue: &'a Catalogue,
    /// Their attributes.
    pub attributes: &'a Attributes,
    /// Their semantic ids.
    pub sids: &'a ItemSids,
    /// What training purchases say of them.
    pub habits: &'a Habits,
    /// What goes well after what.
    pub knowledge: &'a Knowledge,
}

impl Prompter<'_> {
    /// The student's prompt: a short system message and the question.
    ///
    /// Errors: `Shape` for an item that the catalogue does not have.
    pub fn student(&self, question: &Question) -> Result<Vec<Message>> {
        let system = format!(
            "You are a shop's expert and re-rank {} candidates: pattern, need, match. Cite items by SID. Answer in JSON: \
             explanation, recommendations (all, best first).",
            question.candidates.len()
        );
        Ok(vec![Message::system(system), Message::user(self.body(question)?)])
    }

    /// The prompt for a language model as teacher who is to find the answer (rejection sampling).
    ///
    /// Errors: as [`Prompter::student`].
    pub fn rejection(&self, question: &Question) -> Result<Vec<Message>> {
        let task = "Re-rank the candidates by how likely each is to be the customer's next purchase.";
        Ok(vec![
            Message::system(self.instructions(question)),
            Message::user(format!("{}\n\n{task}", self.body(question)?)),
        ])
    }

    /// The prompt for a language model as teacher who is shown the answer (targeted sampling); `target` is the position
    /// of the next purchase among the candidates.
    ///
    /// Errors: as [`Prompter::student`], and if there is no such candidate.
    pub fn targeted(&self, question: &Question, target: usize) -> Result<Vec<Message>> {
        let Some(&item) = question.candidates.get(target) else {
            let problem = format!("target {target} of {} candidates", question.candidates.len());
            return Err(Error::Shape { op: "targeted prompt", problem });
        };
        let sid = self.sids.text(item)?;
        let task = format!(
            "The customer's next purchase is known: {sid}. Put it first, leave the others in the order given, and \
             explain from the purchases and the candidates alone why it comes first. Write as if you had found it \
             yourself: never mention that it was given."
        );
        Ok(vec![
            Message::system(self.instructions(question)),
            Message::user(format!("{}\n\n{task}", self.body(question)?)),
        ])
    }

    /// Role, the five principles of GR2's prompts, and the form of the answer.
    fn instructions(&self, question: &Question) -> String {
        let n = question.candidates.len();
        let levels = self.sids.shape().levels();
        let example: Vec<u16> = vec![0; levels];
        // A zero code of every level can always be spelt.
        let sid = self.sids.shape().text(&example).unwrap_or_default();
        format!(
            "You are an analyst of a shop and re-rank {n} candidate products for one customer.\n\
             1. Task: order all {n} candidates by how well each continues the customer's purchases, best first.\n\
             2. Read purchases and candidates as a whole: compare the candidates with each other, not each for itself. \
             Purchases are listed from the oldest to the most recent; candidates in the order of a simpler ranker, which \
             is a weak hint.\n\
             3. Use what you know of products: which are complements, which are used up and bought again, which follow \
             each other. Hints and remarks on candidates, where given, were learnt from other customers.\n\
             4. Constraints: name products by their SID only, copied exactly, such as {sid}; recommend every candidate \
             exactly once and nothing else; describe facts, do not persuade.\n\
             5. Reason in three short steps: the pattern in the purchases (kinds, brands, prices); what need follows; \
             which candidates meet it and why.\n\
             Answer with one JSON object and nothing else:\n\
             {{\"explanation\": \"<the three steps in at most 80 words, citing SIDs>\", \
             \"recommendations\": [\"<SID of the best>\", …, \"<SID of the last>\"]}}"
        )
    }

    /// Purchases, hints and candidates.
    fn body(&self, question: &Question) -> Result<String> {
        let start = question.history.len().saturating_sub(self.config.history_items);
        let mut history = "Purchases:".to_owned();
        for &item in &question.history[start..] {
            let _ = write!(history, "\n{}", self.line(item, &[], None)?);
        }
        let shown = Question { history: &question.history[start..], ..*question };
        let hints = self.config.knowledge.then(|| self.knowledge.hints(&shown, self.attributes)).flatten();
        if let Some(hints) = hints {
            let _ = write!(history, "\nHints: {hints}");
        }
        let mut candidates = "Candidates:".to_owned();
        for (place, (&item, marks)) in question.candidates.iter().zip(&self.marks(&shown)).enumerate() {
            let _ = write!(candidates, "\n{}", self.line(item, marks, self.place(place))?);
        }
        Ok(match self.config.order {
            PromptOrder::HistoryFirst => format!("{history}\n{candidates}"),
            PromptOrder::CandidatesFirst => format!("{candidates}\n{history}"),
        })
    }

    /// The marks of every candidate, as far as prompts show any.
    pub(super) fn marks(&self, question: &Question) -> Vec<Vec<Mark>> {
        match self.config.marks {
            true => marks(question, self.attributes, self.habits),
            false => vec![vec![]; question.candidates.len()],
        }
    }

    /// The place of a candidate in the incoming order, counted from 0, as prompts and explanations write it; none if they
    /// do not.
    pub(super) fn place(&self, place: usize) -> Option<String> {
        self.config.places.then(|| format!("#{}", place + 1))
    }

    /// One item: its title, whatever attributes the title leaves out, its marks, its place among the candidates, its
    /// semantic id.
    ///
    /// The line is indented by a space, which becomes part of the first word's token: the word is then the same token
    /// here as inside a sentence. No space stands before a semantic id, where it would be a token of its own.
    fn line(&self, item: u32, marks: &[Mark], place: Option<String>) -> Result<String> {
        let sid = self.sids.text(item)?;
        let marks = marks.iter().map(|mark| mark.phrase().to_owned());
        let parts = std::iter::once(self.describe(item)).filter(|text| !text.is_empty());
        let text = parts.chain(marks).chain(place).collect::<Vec<_>>().join(", ");
        Ok(match (text.is_empty(), self.config.entry) {
            (true, _) => sid,
            (false, EntryOrder::TextFirst) => format!(" {text}{sid}"),
            (false, EntryOrder::SidFirst) => format!("{sid} {text}"),
        })
    }

    fn describe(&self, item: u32) -> String {
        let title = self.catalogue.get(item).map_or("", |item| item.title.as_str());
        let mut text = shown(title, self.config.title_words);
        let attributes = self.attributes;
        let brand = attributes.brand(item).filter(|_| self.config.brand).map(|b| &attributes.brands()[b]);
        let topic = attributes.topic(item).filter(|_| self.config.topic).map(|t| &attributes.topics()[t]);
        let band = attributes.band(item).filter(|_| self.config.price).map(|b| &attributes.bands()[b]);
        for name in [brand, topic, band].into_iter().flatten() {
            let said: Vec<String> = words(&text).map(|word| singular(&word)).collect();
            if words(name).any(|word| !said.contains(&singular(&word))) {
                let _ = write!(text, "{}{}", if text.is_empty() { "" } else { ", " }, shown(name, usize::MAX));
            }
        }
        text
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::Item;
    use crate::rerank::Habits;
    use crate::sid::SemanticIds;

    /// Five items and what can be known of them, for the tests of this module.
    pub(in crate::rerank) struct Corner {
        pub(in crate::rerank) catalogue: Catalogue,
        pub(in crate::rerank) attributes: Attributes,
        pub(in crate::rerank) sids: ItemSids,
        pub(in crate::rerank) habits: Habits,
        pub(in crate::rerank) knowledge: Knowledge,
    }

    impl Corner {
        pub(in crate::rerank) fn new() -> Self {
            let item = |title: &str, brand: &str, topic: &str, price: f32| Item {
                title: title.into(),
                brand: brand.into(),
                categories: vec![topic.into()],
                price: Some(price),
                ..Item::default()
            };
            let catalogue = Catalogue {
                items: vec![
                    item("Laser <b>printer</b> one, with a very long name", "Acme", "printer", 90.0),
                    item("Printer two", "Borea", "printer", 100.0),
                    item("Acme ink black", "Acme", "ink", 10.0),
                    item("Inks blue", "Borea", "ink", 11.0),
                    item("", "Cedar", "lamp", 30.0),
                ],
            };
            let attributes = Attributes::learn(&catalogue);
            let codes = vec![0, 0, 0, 1, 1, 0, 1, 1, 2, 0];
            let sids = ItemSids::new(SemanticIds::new(2, 3, codes).unwrap()).unwrap();
            let habits = Habits::learn(&vec![vec![0, 2]; 6], &attributes).unwrap();
            let knowledge = Knowledge::learn(&attributes, &habits, &KnowledgeConfig::default());
            Corner { catalogue, attributes, sids, habits, knowledge }
        }

        pub(in crate::rerank) fn prompter(&self, config: PromptConfig) -> Prompter<'_> {
            let Corner { catalogue, attributes, sids, habits, knowledge } = self;
            Prompter { config, catalogue, attributes, sids, habits, knowledge }
        }
    }

    const QUESTION: Question = Question { user: 0, history: &[1, 0], candidates: &[3, 2, 4] };

    #[test]
    fn a_prompt_shows_each_attribute_once() {
        let corner = Corner::new();
        let prompter = corner.prompter(PromptConfig { title_words: 3, ..PromptConfig::default() });
        let user = &prompter.student(&QUESTION).unwrap()[1].content;
        let expected = "Purchases:\n\
            \x20Printer two, Borea, high price<|sid_begin|><s_a_0><s_b_1><|sid_end|>\n\
            \x20Laser bprinter/b one, Acme, printer, high price<|sid_begin|><s_a_0><s_b_0><|sid_end|>\n\
            Hints: After printer: ink.\n\
            Candidates:\n\
            \x20Inks blue, Borea, low price, #1<|sid_begin|><s_a_1><s_b_1><|sid_end|>\n\
            \x20Acme ink black, low price, bought together, bought next, #2<|sid_begin|><s_a_1><s_b_0><|sid_end|>\n\
            \x20Cedar, mid price, #3<|sid_begin|><s_a_2><s_b_0><|sid_end|>";
        assert_eq!(user, expected);
    }

    #[test]
    fn switches_and_orders() {
        let corner = Corner::new();
        let config = PromptConfig {
            history_items: 1,
            knowledge: false,
            marks: false,
            places: false,
            price: false,
            brand: false,
            topic: false,
            order: PromptOrder::CandidatesFirst,
            entry: EntryOrder::SidFirst,
            ..PromptConfig::default()
        };
        let user = &corner.prompter(config).student(&Question { candidates: &[4, 2], ..QUESTION }).unwrap()[1].content;
        let expected = "Candidates:\n\
            <|sid_begin|><s_a_2><s_b_0><|sid_end|>\n\
            <|sid_begin|><s_a_1><s_b_0><|sid_end|> Acme ink black\n\
            Purchases:\n\
            <|sid_begin|><s_a_0><s_b_0><|sid_end|> Laser bprinter/b one, with a very long name";
        assert_eq!(user, expected);
    }

    #[test]
    fn teachers_are_told_more_and_the_answer_only_when_targeted() {
        let corner = Corner::new();
        let prompter = corner.prompter(PromptConfig::default());
        let (rejection, targeted) = (prompter.rejection(&QUESTION).unwrap(), prompter.targeted(&QUESTION, 2).unwrap());
        assert_eq!(rejection[0], targeted[0]);
        assert!(rejection[0].content.contains("re-rank 3 candidate products"));
        assert!(rejection[0].content.contains("<|sid_begin|><s_a_0><s_b_0><|sid_end|>"));
        let lamp = "<|sid_begin|><s_a_2><s_b_0><|sid_end|>";
        assert_eq!(rejection[1].content.matches(lamp).count(), 1);
        assert_eq!(targeted[1].content.matches(lamp).count(), 2);
        assert!(prompter.targeted(&QUESTION, 3).unwrap_err().to_string().contains("target 3 of 3 candidates"));
        let outside = Question { candidates: &[5], ..QUESTION };
        assert!(prompter.student(&outside).unwrap_err().to_string().contains("item 5, the catalogue has 5 items"));
    }

    #[test]
    fn wrong_values_name_their_field() {
        let wrong = PromptConfig { title_words: 0, ..Default::default() }.validate("prompt").unwrap_err().to_string();
        assert_eq!(wrong, "config: prompt.title_words: 0: expected 1 to 4294967295 (a prompt shows at least one)");
        assert!(toml::from_str::<PromptConfig>("kp = true").is_err());
        let config: PromptConfig = toml::from_str("order = \"candidates_first\"\nentry = \"sid_first\"").unwrap();
        assert_eq!((config.order, config.entry), (PromptOrder::CandidatesFirst, EntryOrder::SidFirst));
    }
}
