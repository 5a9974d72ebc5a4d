//! What speaks for each candidate: eleven numbers from metadata and training purchases, and the marks that a prompt shows
//! of some of them.

use serde::{Deserialize, Serialize};

use super::{Attributes, Habits, Question};
use crate::bounds::{LARGE, Section};
use crate::error::Result;

/// Kinds of evidence.
pub(super) const KINDS: usize = 11;

/// Evidence for one candidate, in the order of [`Weights`] and of [`EvidenceKind`].
pub(super) type Evidence = [f64; KINDS];

/// A kind of evidence; [`Weights`] says what each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// [`Weights::topic`]
    Topic,
    /// [`Weights::brand`]
    Brand,
    /// [`Weights::price`]
    Price,
    /// [`Weights::words`]
    Words,
    /// [`Weights::follows`]
    Follows,
    /// [`Weights::repeat`]
    Repeat,
    /// [`Weights::together`]
    Together,
    /// [`Weights::order`]
    Order,
    /// [`Weights::most_together`]
    MostTogether,
    /// [`Weights::most_next`]
    MostNext,
    /// [`Weights::most_similar`]
    MostSimilar,
}

/// How much of the topic evidence comes from each of the last purchases, the most recent first.
const TRAIL: [f64; 3] = [1.0, 0.3, 0.1];
/// Purchases at random that are imagined beside those counted, so that a few of them prove nothing.
const PRIOR_TOPICS: f64 = 5.0;
const PRIOR_TASTE: f64 = 2.0;
const PRIOR_FOLLOWS: f64 = 1.0;
const PRIOR_TOGETHER: f64 = 0.01;
/// Weight of a purchase's words relative to the one after it.
const WORD_DECAY: f64 = 0.7;

/// What each kind of evidence counts. All but `words` and `repeat` are logarithms of probabilities or ratios of them,
/// so 1 is what Bayes' rule gives to evidence that is independent of the rest; related kinds start lower.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// ln lift of the candidate's topic after the topics of the last purchases.
    pub topic: f64,
    /// ln of how much more often than others this customer takes the brand.
    pub brand: f64,
    /// The same for the price band.
    pub price: f64,
    /// Cosine of title words, weighted by how rare they are, with those of the history.
    pub words: f64,
    /// ln probability that the item follows the last purchases.
    pub follows: f64,
    /// 1 if the item was bought before.
    pub repeat: f64,
    /// ln of how much the item is bought by the customers of the history's items ([`Together::score`]), relative to none.
    ///
    /// [`Together::score`]: super::together::Together::score
    pub together: f64,
    /// −ln of the position in the incoming order.
    pub order: f64,
    /// 1 for [`Mark::Together`].
    pub most_together: f64,
    /// 1 for [`Mark::Next`].
    pub most_next: f64,
    /// 1 for [`Mark::Similar`].
    pub most_similar: f64,
}

impl Default for Weights {
    fn default() -> Self {
        let (topic, brand, price) = (1.0, 1.0, 1.0);
        let (most_together, most_next, most_similar) = (0.3, 0.3, 0.3);
        let (words, follows, repeat, together, order) = (0.5, 0.3, 0.0, 0.1, 0.3);
        Weights { topic, brand, price, words, follows, repeat, together, order, most_together, most_next, most_similar }
    }
}

impl Weights {
    pub(super) fn to_array(self) -> Evidence {
        [
            self.topic,
            self.brand,
            self.price,
            self.words,
            self.follows,
            self.repeat,
            self.together,
            self.order,
            self.most_together,
            self.most_next,
            self.most_similar,
        ]
    }

    pub(super) fn from_array(
        [topic, brand, price, words, follows, repeat, together, order, most_together, most_next, most_similar]: Evidence,
    ) -> Self {
        Weights { topic, brand, price, words, follows, repeat, together, order, most_together, most_next, most_similar }
    }

    /// Checks that every weight is a number; `section` is the dotted name of this table in the configuration file.
    ///
    /// Errors: `Config`.
    pub fn validate(&self, section: &str) -> Result<()> {
        let at = Section::new(section);
        let fields = [
            ("topic", self.topic),
            ("brand", self.brand),
            ("price", self.price),
            ("words", self.words),
            ("follows", self.follows),
            ("repeat", self.repeat),
            ("together", self.together),
            ("order", self.order),
            ("most_together", self.most_together),
            ("most_next", self.most_next),
            ("most_similar", self.most_similar),
        ];
        fields.into_iter().try_for_each(|(field, weight)| at.number(field, weight, -LARGE..=LARGE))
    }
}

/// What a history and other customers say of a candidate, before it is weighed.
struct Signal {
    /// Weight with which it followed the last purchases.
    follows: f64,
    /// [`Together::score`](super::together::Together::score).
    together: f64,
    /// Cosine of its title with those of the history.
    words: f64,
    /// Bought before.
    again: bool,
}

/// The signals of every candidate, and the total weight of all items that followed.
fn signals(question: &Question, taste: &Taste, attributes: &Attributes, habits: &Habits) -> (Vec<Signal>, f64) {
    let follows = habits.next_of_others(question.user, question.history);
    let of = |&item: &u32| Signal {
        follows: follows.binary_search_by_key(&item, |pair| pair.0).map_or(0.0, |at| follows[at].1),
        together: habits.together.score(question.user, question.history, item),
        words: taste.word_cosine(item, attributes),
        again: question.history.contains(&item),
    };
    (question.candidates.iter().map(of).collect(), follows.iter().map(|pair| pair.1).sum())
}

/// Evidence for every candidate of a question, in the incoming order.
pub(super) fn weigh(question: &Question, attributes: &Attributes, habits: &Habits) -> Vec<Evidence> {
    let taste = Taste::of(question.history, attributes);
    let (signals, all_follow) = signals(question, &taste, attributes, habits);
    let marks = marks_of(&signals);
    let of = |(position, (&item, signal)): (usize, (&u32, &Signal))| {
        let topic = attributes.topic(item).map_or(0.0, |topic| taste.topic_evidence(topic, habits));
        let brand = attributes.brand(item).map_or(0.0, |b| taste.share(&taste.brands, b, habits.brand_share(b)));
        let band = attributes.band(item).map_or(0.0, |b| taste.share(&taste.bands, b, habits.band_share(b)));
        let next = (signal.follows + PRIOR_FOLLOWS * habits.item_share(item)) / (all_follow + PRIOR_FOLLOWS);
        let again = f64::from(u8::from(signal.again));
        let together = (1.0 + signal.together / PRIOR_TOGETHER).ln();
        let order = -((position + 1) as f64).ln();
        let [most_together, most_next, most_similar] = [Mark::Together, Mark::Next, Mark::Similar]
            .map(|mark| f64::from(u8::from(marks[position].contains(&mark))));
        [topic, brand, band, signal.words, next.ln(), again, together, order, most_together, most_next, most_similar]
    };
    question.candidates.iter().zip(&signals).enumerate().map(of).collect()
}

/// What stands out of a candidate, as a prompt says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Bought before.
    Again,
    /// Of the candidates not bought before, bought most by the customers of the history's items.
    Together,
    /// Of those, followed the last purchases most often.
    Next,
    /// Of those, its title is the most similar to those of the history.
    Similar,
}

impl Mark {
    /// The words for it.
    pub(super) fn phrase(self) -> &'static str {
        match self {
            Mark::Again => "bought before",
            Mark::Together => "bought together",
            Mark::Next => "bought next",
            Mark::Similar => "similar",
        }
    }
}

/// The marks of every candidate. Nothing is marked where nothing is known; of equal candidates the first is.
pub(super) fn marks(question: &Question, attributes: &Attributes, habits: &Habits) -> Vec<Vec<Mark>> {
    marks_of(&signals(question, &Taste::of(question.history, attributes), attributes, habits).0)
}

fn marks_of(signals: &[Signal]) -> Vec<Vec<Mark>> {
    let best = |value: fn(&Signal) -> f64| {
        let fresh = (0..signals.len()).filter(|&at| !signals[at].again && value(&signals[at]) > 0.0);
        fresh.max_by(|&a, &b| value(&signals[a]).total_cmp(&value(&signals[b])).then(b.cmp(&a)))
    };
    let mut marks: Vec<Vec<Mark>> =
        signals.iter().map(|signal| if signal.again { vec![Mark::Again] } else { vec![] }).collect();
    let firsts =
        [(Mark::Together, best(|s| s.together)), (Mark::Next, best(|s| s.follows)), (Mark::Similar, best(|s| s.words))];
    for (mark, first) in firsts {
        if let Some(at) = first {
            marks[at].push(mark);
        }
    }
    marks
}

/// What a history says of a customer.
pub(super) struct Taste {
    purchases: usize,
    /// Topics of the last purchases, the most recent first; those without one left out.
    pub(super) topics: Vec<usize>,
    /// Brands with the number of purchases, most often first, then most recent first.
    pub(super) brands: Vec<(usize, usize)>,
    /// Price bands in the same way.
    pub(super) bands: Vec<(usize, usize)>,
    /// Title words with their weights, ascending.
    words: Vec<(u32, f64)>,
    norm: f64,
}

impl Taste {
    pub(super) fn of(history: &[u32], attributes: &Attributes) -> Self {
        let recent = || history.iter().rev();
        let topics = recent().filter_map(|&item| attributes.topic(item)).collect();
        let mut met: Vec<(u32, f64)> = Vec::new();
        let mut weight = 1.0;
        for &item in recent() {
            met.extend(attributes.title_words(item).iter().map(|&word| (word, weight * attributes.idf(word))));
            weight *= WORD_DECAY;
        }
        met.sort_by_key(|pair| pair.0);
        let words: Vec<(u32, f64)> =
            met.chunk_by(|a, b| a.0 == b.0).map(|same| (same[0].0, same.iter().map(|pair| pair.1).sum())).collect();
        Taste {
            purchases: history.len(),
            topics,
            brands: tally(recent().filter_map(|&item| attributes.brand(item))),
            bands: tally(recent().filter_map(|&item| attributes.band(item))),
            norm: words.iter().map(|(_, w)| w * w).sum::<f64>().sqrt(),
            words,
        }
    }

    /// The attributes that stand out: the first of a tally with two purchases at least and a third of all, and another
    /// that has as many or nearly so.
    pub(super) fn favourites(&self, tally: &[(usize, usize)]) -> Vec<usize> {
        let stands_out = |&&(_, count): &&(usize, usize)| count >= 2 && count * 3 >= self.purchases;
        tally.iter().take(2).filter(stands_out).map(|&(value, _)| value).collect()
    }

    /// Weight that a title word has in the history.
    pub(super) fn word_weight(&self, word: u32) -> f64 {
        self.words.binary_search_by_key(&word, |pair| pair.0).map_or(0.0, |at| self.words[at].1)
    }

    fn topic_evidence(&self, topic: usize, habits: &Habits) -> f64 {
        let trail = || self.topics.iter().zip(TRAIL);
        let total: f64 = trail().map(|(_, weight)| weight).sum();
        let sum: f64 = trail().map(|(&last, weight)| weight * habits.transition(last, topic, PRIOR_TOPICS)).sum();
        if total > 0.0 { sum / total } else { 0.0 }
    }

    /// ln of (share of this customer's purchases / share of all), as if a few more had been made at random.
    fn share(&self, tally: &[(usize, usize)], value: usize, of_all: f64) -> f64 {
        let total: usize = tally.iter().map(|pair| pair.1).sum();
        let count = tally.iter().find(|pair| pair.0 == value).map_or(0, |pair| pair.1);
        ((count as f64 + PRIOR_TASTE * of_all) / ((total as f64 + PRIOR_TASTE) * of_all)).ln()
    }

    fn word_cosine(&self, item: u32, attributes: &Attributes) -> f64 {
        let (mut dot, mut square) = (0.0, 0.0);
        for &word in attributes.title_words(item) {
            let idf = attributes.idf(word);
            dot += idf * self.word_weight(word);
            square += idf * idf;
        }
        let norm = self.norm * square.sqrt();
        if norm > 0.0 { dot / norm } else { 0.0 }
    }
}

/// Values with how often each occurs, most often first, equal ones in the order of their first occurrence.
fn tally(values: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let mut counts: Vec<(usize, usize)> = Vec::new();
    for value in values {
        match counts.iter_mut().find(|pair| pair.0 == value) {
            Some(pair) => pair.1 += 1,
            None => counts.push((value, 1)),
        }
    }
    counts.sort_by_key(|pair| std::cmp::Reverse(pair.1));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rerank::prompt::tests::Corner;

    #[test]
    fn each_kind_by_hand() {
        let corner = Corner::new();
        // Items: printers of Acme and Borea, inks of Acme and Borea, a lamp of Cedar; printer 0 → ink 2, six times.
        let question = Question { user: 0, history: &[2, 0], candidates: &[3, 2, 4] };
        let evidence = weigh(&question, &corner.attributes, &corner.habits);
        let [ink_borea, ink_acme, lamp] = [evidence[0], evidence[1], evidence[2]];
        assert!(ink_acme[0] > 0.3 && ink_acme[0] == ink_borea[0] && lamp[0] < 0.0, "{evidence:?}");
        let acme = corner.habits.brand_share(0);
        assert!((ink_acme[1] - ((2.0 + 2.0 * acme) / (4.0 * acme)).ln()).abs() < 1e-12);
        assert!(ink_borea[1] < 0.0 && ink_borea[2] == ink_acme[2]);
        assert!(ink_acme[3] > 0.3 && ink_borea[3] == 0.0 && lamp[3] == 0.0, "{evidence:?}");
        // After printer 0, the last purchase, ink 2 was counted six times, five of them by others than customer 0.
        let share = corner.habits.item_share(2);
        assert!((ink_acme[4] - ((5.0 + share) / 6.0).ln()).abs() < 1e-12);
        assert!(lamp[4] < -3.0);
        assert_eq!((ink_acme[5], ink_borea[5]), (1.0, 0.0));
        // Customers 1 to 5 bought printer 0 and ink 2, customer 0 does not count; the ink itself is no evidence for it.
        assert!((ink_acme[6] - (1.0 + 5.0 / 6.0 / PRIOR_TOGETHER).ln()).abs() < 1e-12 && ink_borea[6] == 0.0);
        assert_eq!((ink_borea[7], ink_acme[7]), (0.0, -(2f64.ln())));
    }

    #[test]
    fn favourites_stand_out() {
        let corner = Corner::new();
        let favourites = |history: &[u32]| {
            let taste = Taste::of(history, &corner.attributes);
            taste.favourites(&taste.brands)
        };
        assert_eq!(favourites(&[0, 1]), [0; 0], "one purchase each is no favour");
        assert_eq!(favourites(&[0, 1, 2]), [0]);
        assert_eq!(favourites(&[0, 2, 1, 3]), [1, 0], "the more recent of equal ones first");
        assert_eq!(tally([5, 3, 3, 5, 1].into_iter()), [(5, 2), (3, 2), (1, 1)]);
    }

    #[test]
    fn marks_say_what_stands_out() {
        let corner = Corner::new();
        let marks = |user, history: &[u32], candidates: &[u32]| {
            marks(&Question { user, history, candidates }, &corner.attributes, &corner.habits)
        };
        assert_eq!(marks(6, &[0], &[3, 2, 0]), [vec![], vec![Mark::Together, Mark::Next], vec![Mark::Again]]);
        assert_eq!(marks(6, &[2, 0], &[2, 3]), [vec![Mark::Again], vec![]]);
        assert_eq!(marks(6, &[3], &[1, 2, 4]), [vec![], vec![], vec![]], "titles have no word in common");
        assert_eq!(marks(6, &[1], &[4, 0, 0]), [vec![], vec![Mark::Similar], vec![]], "the first of equals");
    }

    #[test]
    fn nothing_known_is_no_evidence() {
        let corner = Corner::new();
        let question = Question { user: 0, history: &[], candidates: &[4] };
        let evidence = weigh(&question, &corner.attributes, &corner.habits)[0];
        assert!(evidence.iter().all(|value| value.is_finite()), "{evidence:?}");
        assert_eq!((evidence[0], evidence[3]), (0.0, 0.0));
        assert!(evidence[1].abs() < 1e-12 && evidence[2].abs() < 1e-12);
    }
}
