//! [`Habits`]: what training purchases say about topics, brands, price bands and items.

use super::Attributes;
use super::markov::Markov;
use super::together::Together;
use crate::error::Result;

/// Counts over training purchases, from which knowledge hints and the scripted teacher draw.
#[derive(Debug, Clone)]
pub struct Habits {
    /// Item to item.
    pub(super) markov: Markov,
    /// Items bought by the same customers.
    pub(super) together: Together,
    /// The training sequence of every customer.
    sequences: Vec<Vec<u32>>,
    /// Share of each topic, brand and price band among purchases, each known attribute at least a little.
    topic_shares: Vec<f64>,
    brand_shares: Vec<f64>,
    band_shares: Vec<f64>,
    /// Per topic where its successors begin in `transitions`.
    starts: Vec<usize>,
    /// Topic that came next, and how often; by topic.
    transitions: Vec<(u32, u32)>,
    /// Purchases, and half a one for each item.
    purchases: f64,
}

/// A topic that was bought next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Successor {
    /// The topic.
    pub topic: usize,
    /// Times it came next.
    pub count: u32,
    /// Share of all that came next.
    pub share: f64,
    /// share / share among all purchases.
    pub lift: f64,
}

impl Habits {
    /// Counts the purchases of the training sequences of customers 0, 1, …, oldest first; targets that are to be
    /// predicted must not be in them, but for those of the customer's own training part, which
    /// [`Habits::next_of_others`] and [`Together`] leave out again.
    ///
    /// Time and memory are linear in the purchases.
    /// Errors: `Shape` if a sequence names an item that the catalogue does not have.
    pub fn learn<S: AsRef<[u32]>>(sequences: &[S], attributes: &Attributes) -> Result<Self> {
        let markov = Markov::learn(sequences, attributes.items())?;
        let together = Together::learn(sequences, attributes.items());
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for sequence in sequences {
            let topics: Vec<Option<usize>> = sequence.as_ref().iter().map(|&item| attributes.topic(item)).collect();
            pairs.extend(topics.windows(2).filter_map(|pair| Some((pair[0]? as u32, pair[1]? as u32))));
        }
        pairs.sort_unstable();
        let (mut starts, mut transitions) = (vec![0], Vec::new());
        let mut rest = &pairs[..];
        for topic in 0..attributes.topics().len() as u32 {
            let (own, others) = rest.split_at(rest.partition_point(|pair| pair.0 == topic));
            transitions.extend(own.chunk_by(|a, b| a == b).map(|same| (same[0].1, same.len() as u32)));
            starts.push(transitions.len());
            rest = others;
        }
        let items = 0..attributes.items() as u32;
        let purchases: f64 = items.clone().map(|item| f64::from(markov.bought(item)) + 0.5).sum();
        let shares = |values: usize, of: &dyn Fn(u32) -> Option<usize>| {
            // Half a purchase for each, so that none is impossible.
            let mut counts = vec![0.5; values];
            for item in items.clone() {
                if let Some(value) = of(item) {
                    counts[value] += f64::from(markov.bought(item));
                }
            }
            let total: f64 = counts.iter().sum();
            counts.iter().map(|count| count / total).collect::<Vec<f64>>()
        };
        Ok(Habits {
            topic_shares: shares(attributes.topics().len(), &|item| attributes.topic(item)),
            brand_shares: shares(attributes.brands().len(), &|item| attributes.brand(item)),
            band_shares: shares(attributes.bands().len(), &|item| attributes.band(item)),
            markov,
            together,
            sequences: sequences.iter().map(|sequence| sequence.as_ref().to_vec()).collect(),
            starts,
            transitions,
            purchases,
        })
    }

    /// What was bought after a topic, by topic number.
    pub fn after(&self, topic: usize) -> impl Iterator<Item = Successor> {
        let row = self.row(topic);
        let total = f64::from(row.iter().map(|&(_, count)| count).sum::<u32>());
        row.iter().map(move |&(next, count)| {
            let share = f64::from(count) / total;
            Successor { topic: next as usize, count, share, lift: share / self.topic_shares[next as usize] }
        })
    }

    /// What other customers than this one bought after the last purchases: [`Markov::scores`].
    pub(super) fn next_of_others(&self, customer: u32, history: &[u32]) -> Vec<(u32, f64)> {
        let own = self.sequences.get(customer as usize).map_or(&[][..], Vec::as_slice);
        self.markov.scores_without(history, own)
    }

    /// ln of the lift of `next` after `last`, as if `prior` more purchases had been made at random.
    pub(super) fn transition(&self, last: usize, next: usize, prior: f64) -> f64 {
        let row = self.row(last);
        let total = f64::from(row.iter().map(|&(_, count)| count).sum::<u32>());
        let count = row.binary_search_by_key(&(next as u32), |pair| pair.0).map_or(0, |at| row[at].1);
        let share = self.topic_shares[next];
        ((f64::from(count) + prior * share) / ((total + prior) * share)).ln()
    }

    /// Share of an item among purchases, half a purchase added.
    pub(super) fn item_share(&self, item: u32) -> f64 {
        (f64::from(self.markov.bought(item)) + 0.5) / self.purchases
    }

    /// Share of a brand among purchases.
    pub(super) fn brand_share(&self, brand: usize) -> f64 {
        self.brand_shares[brand]
    }

    /// Share of a price band among purchases.
    pub(super) fn band_share(&self, band: usize) -> f64 {
        self.band_shares[band]
    }

    fn row(&self, topic: usize) -> &[(u32, u32)] {
        &self.transitions[self.starts[topic]..self.starts[topic + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Catalogue, Item};

    fn attributes(topics: &[&str]) -> Attributes {
        let item = |topic: &&str| Item { title: "x".into(), brand: (*topic).into(), ..Item::default() };
        Attributes::learn(&Catalogue { items: topics.iter().map(item).collect() })
    }

    #[test]
    fn transitions_by_hand() {
        let attributes = attributes(&["ink", "paper", "ink", "", "desk"]);
        let habits = Habits::learn(&[vec![0, 1, 2, 1], vec![0, 3, 1], vec![4]], &attributes).unwrap();
        let after: Vec<_> = habits.after(0).map(|s| (s.topic, s.count, s.share)).collect();
        assert_eq!(after, [(1, 2, 1.0)], "an item without topic breaks the chain");
        // Purchases with a topic: ink 3, paper 3, desk 1; half of one more each.
        let share = 3.5 / 8.5;
        assert!((habits.after(0).next().unwrap().lift - 1.0 / share).abs() < 1e-12);
        assert!((habits.transition(0, 1, 4.0) - ((2.0 + 4.0 * share) / (6.0 * share)).ln()).abs() < 1e-12);
        assert!(habits.transition(0, 2, 4.0) < 0.0);
        assert_eq!(habits.after(2).count(), 0);
        assert!(habits.transition(2, 1, 4.0).abs() < 1e-12, "nothing is known after a desk");
    }
}
