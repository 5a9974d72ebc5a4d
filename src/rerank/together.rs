//! [`Together`]: which items are bought by the same customers.

/// Weight of a purchase of a history relative to the one after it.
const DECAY: f64 = 0.8;

/// The customers of every item. Memory: 4 bytes per purchase and 8 per item.
#[derive(Debug, Clone)]
pub struct Together {
    starts: Vec<usize>,
    /// By item its customers, ascending, each once.
    customers: Vec<u32>,
}

impl Together {
    /// Reads the training sequences of customers 0, 1, … over items 0 to `items`.
    pub fn learn<S: AsRef<[u32]>>(sequences: &[S], items: usize) -> Self {
        let purchases = |(customer, sequence): (u32, &S)| -> Vec<(u32, u32)> {
            sequence.as_ref().iter().map(|&item| (item, customer)).collect()
        };
        let mut pairs: Vec<(u32, u32)> = (0u32..).zip(sequences).flat_map(purchases).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let starts = (0..=items as u32).map(|item| pairs.partition_point(|pair| pair.0 < item)).collect();
        Together { starts, customers: pairs.into_iter().map(|(_, customer)| customer).collect() }
    }

    /// `Σ_j 0.8^j both(h_j, item) / √((n(h_j) + 1) (n(item) + 1))` over the purchases h_0, h_1, … of a history from the
    /// most recent one back: `n` customers bought an item and `both` of them two different ones. `customer`, whose
    /// history it is, does not count, so that no purchase speaks for itself.
    ///
    /// Time: per purchase the customers of the rarer item, times the logarithm of those of the other.
    /// Source: item-based collaborative filtering with cosine similarity, Sarwar et al. 2001, WWW.
    pub fn score(&self, customer: u32, history: &[u32], item: u32) -> f64 {
        let here = self.of(item);
        let others = |of: &[u32]| (of.len() - usize::from(of.binary_search(&customer).is_ok())) as f64;
        let mut weight = 1.0;
        let mut score = 0.0;
        for &bought in history.iter().rev() {
            let there = self.of(bought);
            if bought != item {
                let both = common(here, there, customer) as f64;
                score += weight * both / ((others(here) + 1.0) * (others(there) + 1.0)).sqrt();
            }
            weight *= DECAY;
        }
        score
    }

    fn of(&self, item: u32) -> &[u32] {
        let item = item as usize;
        if item + 1 < self.starts.len() { &self.customers[self.starts[item]..self.starts[item + 1]] } else { &[] }
    }
}

/// How many numbers two ascending lists have in common, `without` left out.
fn common(a: &[u32], b: &[u32], without: u32) -> usize {
    let (few, many) = if a.len() < b.len() { (a, b) } else { (b, a) };
    few.iter().filter(|&&number| number != without && many.binary_search(&number).is_ok()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_by_hand() {
        // item 0: customers 0 1 2; item 1: 0 1 (twice) 3; item 2: 1
        let together = Together::learn(&[vec![0, 1], vec![1, 0, 1, 2], vec![0], vec![1]], 4);
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        near(together.score(9, &[0], 1), 2.0 / 4.0);
        near(together.score(0, &[0], 1), 1.0 / 3.0);
        near(together.score(9, &[1, 2], 0), 1.0 / (2.0f64 * 4.0).sqrt() + 0.8 * 2.0 / 4.0);
        near(together.score(9, &[0, 1], 1), 0.8 * 2.0 / 4.0);
        near(together.score(9, &[3, 99], 0), 0.0);
    }
}
