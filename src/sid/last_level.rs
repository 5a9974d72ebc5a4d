//! Unique identifiers: the last code is chosen inside each prefix so that no two items share an identifier.

use std::cmp::Reverse;
use std::ops::Range;

use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::codes::SemanticIds;
use super::hash::Hash;
use crate::error::{Error, Result};
use crate::tensor::stream;

/// How the last code is chosen among the items of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastLevel {
    /// Random codes without replacement, seeded by the prefix: GR2's random last level, exact instead of probable.
    Random {
        /// Seed of the draws.
        seed: u64,
    },
    /// The nearest codes: of all (item, code) pairs of a prefix the closest is taken first.
    Nearest,
}

/// What [`assign_last_level`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastLevelReport {
    /// Distinct prefixes (all codes but the last).
    pub prefixes: usize,
    /// Items of the fullest prefix.
    pub largest_prefix: usize,
    /// Items moved to another code at each level before the last, because their prefix held more items than identifiers.
    pub moved: Vec<usize>,
    /// Items whose last code is not the one they came with.
    pub last_changed: usize,
}

/// Gives every item an identifier of its own, changing as little as possible before the last level.
///
/// Level by level from the first, a prefix that holds more items than identifiers passes the ones that lose least on to the
/// nearest sibling prefix with room, their later codes chosen anew; then the last codes are dealt out inside each prefix.
/// This succeeds whenever items ≤ codes_per_level^levels. Items with equal vectors are separated too, the lower number
/// choosing first.
///
/// `distances(item, prefix, out)` writes the distance of the item's residual after `prefix` to each code of the next
/// level (see `Codebooks::distances`). The given codes are expected to be the nearest ones.
///
/// Errors: `Config` if there are more items than identifiers.
/// Source: Liang et al. 2026, arXiv:2602.07774, 2.3 (random last level), here without replacement inside a prefix.
pub fn assign_last_level(
    ids: &mut SemanticIds,
    how: LastLevel,
    distances: &(impl Fn(usize, &[u16], &mut [f32]) + Sync),
) -> Result<LastLevelReport> {
    let (items, levels, n) = (ids.items(), ids.levels(), ids.codes_per_level());
    let room = |free_levels: usize| n.checked_pow(free_levels as u32).unwrap_or(usize::MAX);
    if items > room(levels) {
        return Err(Error::Config {
            field: "sid.codes_per_level".into(),
            problem: format!("{n} with {levels} levels gives {} identifiers for {items} items", room(levels)),
            hint: Some("raise sid.codes_per_level or sid.levels".into()),
        });
    }
    let moved = (1..levels).map(|depth| relieve(ids, depth, room(levels - depth), distances)).collect();

    let order = ids.order();
    let prefixes = runs(ids, &order, levels - 1);
    let chosen: Vec<Vec<u16>> = prefixes
        .par_iter()
        .map(|run| {
            let members = &order[run.clone()];
            let prefix = &ids.get(members[0] as usize)[..levels - 1];
            match how {
                LastLevel::Random { seed } => random_codes(members.len(), prefix, n, seed),
                LastLevel::Nearest => nearest_codes(members, prefix, n, distances),
            }
        })
        .collect();
    let mut last_changed = 0;
    for (run, chosen) in prefixes.iter().zip(&chosen) {
        for (&item, &code) in order[run.clone()].iter().zip(chosen) {
            let last = &mut ids.codes_mut()[item as usize * levels + levels - 1];
            last_changed += usize::from(*last != code);
            *last = code;
        }
    }
    let largest_prefix = prefixes.iter().map(Range::len).max().unwrap_or(0);
    Ok(LastLevelReport { prefixes: prefixes.len(), largest_prefix, moved, last_changed })
}

/// The runs of `order` whose items share their first `depth` codes.
fn runs(ids: &SemanticIds, order: &[u32], depth: usize) -> Vec<Range<usize>> {
    let mut start = 0;
    order
        .chunk_by(|&i, &j| ids.get(i as usize)[..depth] == ids.get(j as usize)[..depth])
        .map(|run| {
            start += run.len();
            start - run.len()..start
        })
        .collect()
}

/// Moves items between the prefixes of `depth` codes below each shorter prefix until none holds more than `room` items.
fn relieve(ids: &mut SemanticIds, depth: usize, room: usize, distances: &impl Fn(usize, &[u16], &mut [f32])) -> usize {
    if room >= ids.items() {
        return 0;
    }
    let order = ids.order();
    let full: Vec<Range<usize>> = runs(ids, &order, depth).into_iter().filter(|run| run.len() > room).collect();
    if full.is_empty() {
        return 0;
    }
    let mut moved = 0;
    for parent in runs(ids, &order, depth - 1) {
        // Both lists are in the order of the codes, so the full children of a parent are those inside its run.
        let from = full.partition_point(|run| run.start < parent.start);
        let children: Vec<&Range<usize>> = full[from..].iter().take_while(|run| run.end <= parent.end).collect();
        if children.is_empty() {
            continue;
        }
        let mut counts = vec![0usize; ids.codes_per_level()];
        for &item in &order[parent] {
            counts[usize::from(ids.get(item as usize)[depth - 1])] += 1;
        }
        for child in children {
            moved += relieve_child(ids, depth, room, &order[child.clone()], &mut counts, distances);
        }
    }
    moved
}

/// Moves the items of one overfull prefix that lose least, each to its nearest sibling with room.
fn relieve_child(
    ids: &mut SemanticIds,
    depth: usize,
    room: usize,
    members: &[u32],
    counts: &mut [usize],
    distances: &impl Fn(usize, &[u16], &mut [f32]),
) -> usize {
    let (levels, n) = (ids.levels(), ids.codes_per_level());
    let own = ids.get(members[0] as usize)[depth - 1];
    let parent = ids.get(members[0] as usize)[..depth - 1].to_vec();
    let mut to_codes = vec![0f32; n];
    let mut nearest_with_room = |item: u32, counts: &[usize]| {
        distances(item as usize, &parent, &mut to_codes);
        let open = (0..n).filter(|&code| counts[code] < room);
        let code = open.min_by(|&i, &j| to_codes[i].total_cmp(&to_codes[j]).then(i.cmp(&j)));
        code.map(|code| (code as u16, to_codes[code] - to_codes[usize::from(own)]))
    };
    let mut by_loss: Vec<(f32, u32)> = members
        .iter()
        .map(|&item| (nearest_with_room(item, counts).map_or(f32::INFINITY, |(_, loss)| loss), item))
        .collect();
    by_loss.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(Reverse(a.1).cmp(&Reverse(b.1))));
    let leaving = members.len() - room;
    for &(_, item) in &by_loss[..leaving] {
        let (code, _) = nearest_with_room(item, counts)
            .expect("invariant: the items of a parent fit into its children, so one of them has room");
        counts[usize::from(own)] -= 1;
        counts[usize::from(code)] += 1;
        let mut codes = ids.get(item as usize).to_vec();
        codes[depth - 1] = code;
        let mut out = vec![0f32; n];
        for level in depth..levels {
            distances(item as usize, &codes[..level], &mut out);
            let nearest = (0..n).min_by(|&i, &j| out[i].total_cmp(&out[j]).then(i.cmp(&j)));
            codes[level] = nearest.unwrap_or(0) as u16;
        }
        ids.codes_mut()[item as usize * levels..][..levels].copy_from_slice(&codes);
    }
    leaving
}

/// `count` distinct codes in random order, a stream per prefix: items elsewhere in the catalogue do not change them.
fn random_codes(count: usize, prefix: &[u16], n: usize, seed: u64) -> Vec<u16> {
    let key = prefix.iter().fold(Hash::new(), |h, &code| h.word(u64::from(code))).finish();
    let mut rng = stream(seed, "sid.last_level", key, 0);
    if count == 1 {
        return vec![rng.random_range(0..n as u64) as u16];
    }
    let mut codes: Vec<u16> = (0..n).map(|code| code as u16).collect();
    for i in 0..count {
        let j = rng.random_range(i as u64..n as u64) as usize;
        codes.swap(i, j);
    }
    codes.truncate(count);
    codes
}

/// Distinct codes, the closest (item, code) pair first; ties go to the lower item, then the lower code.
fn nearest_codes(
    members: &[u32],
    prefix: &[u16],
    n: usize,
    distances: &impl Fn(usize, &[u16], &mut [f32]),
) -> Vec<u16> {
    let mut out = vec![0f32; n];
    let mut pairs: Vec<(f32, u32, u16)> = Vec::with_capacity(members.len() * n);
    for (place, &item) in members.iter().enumerate() {
        distances(item as usize, prefix, &mut out);
        pairs.extend(out.iter().enumerate().map(|(code, &d)| (d, place as u32, code as u16)));
    }
    // Members stand in the order of their present last code; ties must go by item number.
    pairs.sort_unstable_by(|a, b| {
        a.0.total_cmp(&b.0).then(members[a.1 as usize].cmp(&members[b.1 as usize])).then(a.2.cmp(&b.2))
    });
    let mut chosen = vec![None; members.len()];
    let mut taken = vec![false; n];
    let mut left = members.len();
    for (_, place, code) in pairs {
        let place = place as usize;
        if chosen[place].is_none() && !taken[usize::from(code)] {
            chosen[place] = Some(code);
            taken[usize::from(code)] = true;
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    chosen.into_iter().map(|code| code.expect("invariant: a prefix holds no more items than codes")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::codebooks::Codebooks;
    use super::super::uniqueness::uniqueness;
    use super::*;

    /// `levels` codebooks on a line: code j of level l stands at j · 4^-l.
    fn line(levels: usize, n: usize) -> Codebooks {
        let level = |l: usize| (0..n).map(|j| j as f32 * 0.25f32.powi(l as i32)).collect();
        Codebooks::new(1, n, (0..levels).map(level).collect()).unwrap()
    }

    fn assigned(points: &[f32], levels: usize, n: usize, how: LastLevel) -> (SemanticIds, LastLevelReport) {
        let books = line(levels, n);
        let mut codes = vec![0; points.len() * levels];
        codes.chunks_exact_mut(levels).zip(points).for_each(|(codes, &p)| books.quantise(&[p], codes));
        let mut ids = SemanticIds::new(levels, n, codes).unwrap();
        let distances = |item: usize, prefix: &[u16], out: &mut [f32]| books.distances(&[points[item]], prefix, out);
        let report = assign_last_level(&mut ids, how, &distances).unwrap();
        (ids, report)
    }

    #[test]
    fn nearest_keeps_single_items_and_separates_equal_ones() {
        // Items 0, 1 and 3 are equal: residual 0.3 after code 1, nearest codes 1 (0.25), 2 (0.5), 0 (0).
        let (ids, report) = assigned(&[1.3, 1.3, 3.0, 1.3], 2, 4, LastLevel::Nearest);
        assert_eq!(ids.codes(), [1, 1, 1, 2, 3, 0, 1, 0]);
        let expected = LastLevelReport { prefixes: 2, largest_prefix: 3, moved: vec![0], last_changed: 2 };
        assert_eq!(report, expected);
    }

    #[test]
    fn the_closest_pair_chooses_first() {
        // Both are nearest to code 1 (0.25); item 1 is closer and keeps it.
        let (ids, _) = assigned(&[1.32, 1.26], 2, 4, LastLevel::Nearest);
        assert_eq!(ids.codes(), [1, 2, 1, 1]);
    }

    #[test]
    fn overflow_moves_the_items_that_lose_least() {
        // Five items at code 1 with room for four: 1.4 is nearest to the next sibling.
        let (ids, report) = assigned(&[1.0, 1.4, 1.1, 1.2, 0.9], 2, 4, LastLevel::Nearest);
        assert_eq!(report.moved, [1]);
        assert_eq!(ids.get(1), [2, 0]);
        assert_eq!(uniqueness(&ids).unique_items, 1.0);
    }

    #[test]
    fn a_full_catalogue_of_equal_items_is_still_unique() {
        for how in [LastLevel::Nearest, LastLevel::Random { seed: 5 }] {
            let (ids, report) = assigned(&[1.1; 64], 3, 4, how);
            assert_eq!(uniqueness(&ids).unique_items, 1.0);
            assert_eq!(report.moved, [48, 48]);
            assert_eq!((report.prefixes, report.largest_prefix), (16, 4));
        }
    }

    #[test]
    fn random_codes_depend_on_prefix_and_seed_only() {
        let crowd: Vec<f32> = (0..40).map(|i| (i % 4) as f32).collect();
        let run = |points: &[f32], seed| assigned(points, 3, 16, LastLevel::Random { seed }).0;
        let all = run(&crowd, 1);
        assert_eq!(uniqueness(&all).unique_sids, 1.0);
        assert_ne!(all, run(&crowd, 2));
        // The same prefix without the items of the others.
        let alone: Vec<f32> = crowd.iter().copied().filter(|&p| p == 1.0).collect();
        let alone = run(&alone, 1);
        for (i, item) in (0..40).filter(|i| i % 4 == 1).enumerate() {
            assert_eq!(alone.get(i), all.get(item));
        }
    }

    #[test]
    fn too_many_items_is_an_error() {
        let mut ids = SemanticIds::new(2, 2, vec![0; 10]).unwrap();
        let message =
            assign_last_level(&mut ids, LastLevel::Nearest, &|_, _, out| out.fill(0.0)).unwrap_err().to_string();
        assert!(
            message.starts_with("config: sid.codes_per_level: 2 with 2 levels gives 4 identifiers for 5 items"),
            "{message}"
        );
    }
}
