//! How well identifiers tell items apart and how much of each level they use.

use serde::{Deserialize, Serialize};

use super::codes::SemanticIds;

/// Uniqueness of a catalogue's identifiers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UniquenessReport {
    /// Items.
    pub items: usize,
    /// Distinct identifiers per item: 1 − the collision rate of LC-Rec and MiniOneRec.
    pub unique_sids: f64,
    /// Share of the items that hold their identifier alone; never above `unique_sids`.
    pub unique_items: f64,
    /// Items on the most shared identifier.
    pub largest_collision: usize,
    /// Use of each level.
    pub levels: Vec<LevelUsage>,
}

/// Use of the codes of one level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LevelUsage {
    /// Codes there are.
    pub codes: usize,
    /// Codes at least one item has.
    pub used: usize,
    /// exp(−Σ p ln p) over the shares p of items per code: the number of codes if all were used equally.
    pub perplexity: f64,
    /// Distinct prefixes up to and including this level.
    pub prefixes: usize,
}

/// Counts distinct and unshared identifiers, and the codes in use per level. An empty catalogue counts as unique.
pub fn uniqueness(ids: &SemanticIds) -> UniquenessReport {
    let (items, levels) = (ids.items(), ids.levels());
    let order = ids.order();
    let (mut distinct, mut alone, mut largest_collision) = (0, 0, 0);
    for run in order.chunk_by(|&i, &j| ids.get(i as usize) == ids.get(j as usize)) {
        distinct += 1;
        alone += usize::from(run.len() == 1);
        largest_collision = largest_collision.max(run.len());
    }
    let share = |n: usize| if items == 0 { 1.0 } else { n as f64 / items as f64 };
    let usage = |level: usize| {
        let mut counts = vec![0usize; ids.codes_per_level()];
        (0..items).for_each(|item| counts[usize::from(ids.get(item)[level])] += 1);
        let entropy: f64 = counts.iter().filter(|&&n| n > 0).map(|&n| -share(n) * share(n).ln()).sum();
        let prefix = |i: u32| &ids.get(i as usize)[..=level];
        LevelUsage {
            codes: counts.len(),
            used: counts.iter().filter(|&&n| n > 0).count(),
            perplexity: entropy.exp(),
            prefixes: order.chunk_by(|&i, &j| prefix(i) == prefix(j)).count(),
        }
    };
    UniquenessReport {
        items,
        unique_sids: share(distinct),
        unique_items: share(alone),
        largest_collision,
        levels: (0..levels).map(usage).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_hand() {
        // Four items: two share (0, 1), one is (0, 2), one is (3, 1).
        let ids = SemanticIds::new(2, 4, vec![0, 1, 0, 2, 0, 1, 3, 1]).unwrap();
        let r = uniqueness(&ids);
        assert_eq!((r.items, r.unique_sids, r.unique_items, r.largest_collision), (4, 0.75, 0.5, 2));
        let used: Vec<_> = r.levels.iter().map(|l| (l.codes, l.used, l.prefixes)).collect();
        assert_eq!(used, [(4, 2, 2), (4, 2, 3)]);
        let expected = (-0.75 * 0.75f64.ln() - 0.25 * 0.25f64.ln()).exp();
        assert!(r.levels.iter().all(|l| (l.perplexity - expected).abs() < 1e-12));
    }

    #[test]
    fn an_even_level_has_the_perplexity_of_its_codes() {
        let r = uniqueness(&SemanticIds::new(1, 8, (0..8).collect()).unwrap());
        assert!((r.levels[0].perplexity - 8.0).abs() < 1e-12);
        assert_eq!((r.unique_sids, r.unique_items), (1.0, 1.0));
    }

    #[test]
    fn report_keys_are_the_ones_others_read() {
        let json = serde_json::to_value(uniqueness(&SemanticIds::new(1, 2, vec![0, 1]).unwrap())).unwrap();
        assert_eq!(json["unique_sids"], 1.0);
        assert_eq!(json["unique_items"], 1.0);
    }
}
