//! A random part of a catalogue.

use rand::RngExt;

use crate::tensor::Rng;

/// `count` of 0..n, each subset equally likely, ascending; all of them if `count` is at least n.
/// Source: Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S.
pub(super) fn subset(rng: &mut Rng, n: usize, count: usize) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(count.min(n));
    for i in 0..n {
        if rng.random_range(0..(n - i) as u64) < count.saturating_sub(chosen.len()) as u64 {
            chosen.push(i);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::stream;

    #[test]
    fn subsets_are_ascending_of_the_size_asked_for_and_even() {
        let mut rng = stream(7, "test", 0, 0);
        let mut times = [0usize; 6];
        for _ in 0..600 {
            let chosen = subset(&mut rng, 6, 2);
            assert!(chosen.len() == 2 && chosen[0] < chosen[1]);
            chosen.iter().for_each(|&i| times[i] += 1);
        }
        assert!(times.iter().all(|&n| (150..250).contains(&n)), "{times:?}");
        assert_eq!(subset(&mut rng, 3, 9), [0, 1, 2]);
    }
}
