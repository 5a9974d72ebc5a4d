//! [`Knowledge`]: hints on what goes well after what, learnt from training purchases and metadata.

use serde::{Deserialize, Serialize};

use super::{Attributes, Habits, Question};
use crate::bounds::{LARGE, MANY, Section};
use crate::error::Result;

/// Which rules are worth a hint. The defaults are choices of this project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnowledgeConfig {
    /// Fewest times that a topic must have followed.
    pub min_support: u32,
    /// Least lift: 1 = as often as anywhere.
    pub min_lift: f64,
    /// Successors named for a topic at most.
    pub successors: usize,
    /// Topics of the recent history that get a hint at most.
    pub hints: usize,
}

impl Default for KnowledgeConfig {
    fn default() -> Self {
        KnowledgeConfig { min_support: 5, min_lift: 1.5, successors: 2, hints: 2 }
    }
}

impl KnowledgeConfig {
    /// Checks the ranges; `section` is the dotted name of this table in the configuration file.
    ///
    /// Errors: `Config` naming the field.
    pub fn validate(&self, section: &str) -> Result<()> {
        let at = Section::new(section);
        at.because("a hint must say more than chance").number("min_lift", self.min_lift, 1.0..=LARGE)?;
        let at = at.because("switch hints off by prompt.knowledge instead");
        at.whole("successors", self.successors, 1..=MANY)?;
        at.whole("hints", self.hints, 1..=MANY)
    }
}

/// Topics and what is bought after them more often than elsewhere.
#[derive(Debug, Clone)]
pub struct Knowledge {
    names: Vec<String>,
    /// Per topic its successors, the most telling first.
    successors: Vec<Vec<usize>>,
    hints: usize,
}

/// One rule, for reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rule {
    /// Topic of a purchase.
    pub after: String,
    /// Topics of the next one.
    pub then: Vec<String>,
}

impl Knowledge {
    /// Picks the successors of every topic by share · ln lift, the part each has in the divergence of what comes next
    /// from what is bought anywhere; equal ones by topic number.
    pub fn learn(attributes: &Attributes, habits: &Habits, config: &KnowledgeConfig) -> Self {
        let names = attributes.topics().to_vec();
        let telling = |topic: usize| {
            let rules = habits.after(topic).filter(|s| s.count >= config.min_support && s.lift >= config.min_lift);
            let mut rules: Vec<(f64, usize)> = rules.map(|s| (s.share * s.lift.ln(), s.topic)).collect();
            rules.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            rules.into_iter().map(|(_, topic)| topic).take(config.successors).collect()
        };
        Knowledge { successors: (0..names.len()).map(telling).collect(), names, hints: config.hints }
    }

    /// Topics expected after `topic`, the most telling first.
    pub fn after(&self, topic: usize) -> &[usize] {
        &self.successors[topic]
    }

    /// Every rule, by topic number.
    pub fn rules(&self) -> Vec<Rule> {
        let name = |topic: &usize| self.names[*topic].clone();
        let rules = self.successors.iter().enumerate().filter(|(_, then)| !then.is_empty());
        rules.map(|(topic, then)| Rule { after: name(&topic), then: then.iter().map(name).collect() }).collect()
    }

    /// The hints for a question, as `After ink: paper. After printer: ink, paper.`, the most recent topic first; `None`
    /// where nothing is known of its topics.
    pub fn hints(&self, question: &Question, attributes: &Attributes) -> Option<String> {
        let mut topics: Vec<usize> = Vec::new();
        for topic in question.history.iter().rev().filter_map(|&item| attributes.topic(item)) {
            if topics.len() < self.hints && !topics.contains(&topic) && !self.successors[topic].is_empty() {
                topics.push(topic);
            }
        }
        let hint = |&topic: &usize| {
            let then: Vec<&str> = self.successors[topic].iter().map(|&next| self.names[next].as_str()).collect();
            format!("After {}: {}.", self.names[topic], then.join(", "))
        };
        (!topics.is_empty()).then(|| topics.iter().map(hint).collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Shop, ShopConfig};

    #[test]
    fn the_ring_of_the_shop_is_found() {
        let shop = Shop::build(&ShopConfig { users: 400, ..ShopConfig::default() }).unwrap();
        let data = shop.dataset();
        let attributes = Attributes::learn(&data.catalogue);
        let sequences: Vec<&[u32]> = (0..400).map(|user| data.split().train(user)).collect();
        let habits = Habits::learn(&sequences, &attributes).unwrap();
        let knowledge = Knowledge::learn(&attributes, &habits, &KnowledgeConfig::default());
        let rules = knowledge.rules();
        assert_eq!(rules.len(), 12);
        for rule in &rules {
            let complement = shop.complements().into_iter().find(|pair| pair.0 == rule.after).unwrap().1;
            assert_eq!(rule.then, [complement], "{rule:?}");
        }
        let of = |category: &str| {
            let found = data.catalogue.items.iter().position(|item| item.categories[0] == category);
            found.unwrap() as u32
        };
        let hints = |history: &[u32]| knowledge.hints(&Question { user: 0, history, candidates: &[] }, &attributes);
        let (ink, printer) = (of("ink"), of("printer"));
        assert_eq!(hints(&[ink]).unwrap(), "After ink: paper.");
        assert_eq!(hints(&[of("desk"), printer, ink, ink]).unwrap(), "After ink: paper. After printer: ink.");
        assert_eq!(hints(&[]), None);
        let shuffled =
            Knowledge::learn(&attributes, &habits, &KnowledgeConfig { min_support: 100_000, ..Default::default() });
        assert!(shuffled.rules().is_empty());
    }

    #[test]
    fn wrong_values_name_their_field() {
        let wrong =
            KnowledgeConfig { min_lift: 0.5, ..Default::default() }.validate("prompt.kp").unwrap_err().to_string();
        assert!(wrong.starts_with("config: prompt.kp.min_lift: 0.5"), "{wrong}");
        let wrong = KnowledgeConfig { hints: 0, ..Default::default() }.validate("prompt.kp").unwrap_err().to_string();
        assert!(wrong.starts_with("config: prompt.kp.hints: 0: expected 1 to "), "{wrong}");
    }
}
