//! Residual codebooks: a vector as a sum of one codeword per level.

use crate::error::{Error, Result};

/// Codewords of every level.
///
/// Shapes: each level (codes_per_level, dims), row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Codebooks {
    dims: usize,
    codes_per_level: usize,
    levels: Vec<Vec<f32>>,
}

impl Codebooks {
    /// Takes row-major codewords, one vector per level.
    ///
    /// Errors: `Shape` if a level does not hold `codes_per_level` (1 to 65,536) rows of `dims`.
    pub fn new(dims: usize, codes_per_level: usize, levels: Vec<Vec<f32>>) -> Result<Self> {
        let expected = dims * codes_per_level;
        let fits = expected > 0 && codes_per_level <= 1 << 16;
        if let Some((level, values)) = levels.iter().enumerate().find(|(_, v)| !fits || v.len() != expected) {
            let found = values.len();
            let problem = format!("level {level} has {found} values, expected {codes_per_level} codes of {dims}");
            return Err(Error::Shape { op: "codebooks", problem });
        }
        Ok(Codebooks { dims, codes_per_level, levels })
    }

    /// Width of a codeword.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Codes of every level.
    pub fn codes_per_level(&self) -> usize {
        self.codes_per_level
    }

    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// All codewords of one level, row-major.
    pub fn level(&self, level: usize) -> &[f32] {
        &self.levels[level]
    }

    /// One codeword.
    pub fn codeword(&self, level: usize, code: u16) -> &[f32] {
        &self.levels[level][usize::from(code) * self.dims..][..self.dims]
    }

    /// Subtracts the codewords of `prefix` (levels 0, 1, …) from `point`.
    pub fn subtract(&self, point: &mut [f32], prefix: &[u16]) {
        for (level, &code) in prefix.iter().enumerate() {
            point.iter_mut().zip(self.codeword(level, code)).for_each(|(p, c)| *p -= c);
        }
    }

    /// Squared distances from the residual of `point` after `prefix` to every codeword of the next level.
    ///
    /// Shapes: point (dims), out (codes_per_level).
    pub fn distances(&self, point: &[f32], prefix: &[u16], out: &mut [f32]) {
        let mut residual = point.to_vec();
        self.subtract(&mut residual, prefix);
        let codewords = self.levels[prefix.len()].chunks_exact(self.dims);
        out.iter_mut().zip(codewords).for_each(|(o, c)| *o = squared_distance(&residual, c));
    }

    /// The nearest codeword of each level in turn: z_l = argmin_j ‖r_l − e_lj‖², r_{l+1} = r_l − e_{l, z_l}.
    ///
    /// Shapes: point (dims), codes (levels).
    pub fn quantise(&self, point: &[f32], codes: &mut [u16]) {
        let mut residual = point.to_vec();
        for (level, code) in codes.iter_mut().enumerate() {
            *code = nearest(&residual, &self.levels[level]).0;
            residual.iter_mut().zip(self.codeword(level, *code)).for_each(|(r, c)| *r -= c);
        }
    }
}

/// ‖a − b‖², summed in eight lanes so that the compiler may use vector registers; the order never changes.
pub(super) fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| (x - y) * (x - y)).sum();
    for (x, y) in a8.zip(b8) {
        for lane in 0..8 {
            let d = x[lane] - y[lane];
            lanes[lane] += d * d;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The nearest of the rows of `codewords` and its squared distance; the lowest of equals.
pub(super) fn nearest(point: &[f32], codewords: &[f32]) -> (u16, f32) {
    let mut best = (0u16, f32::INFINITY);
    for (code, codeword) in codewords.chunks_exact(point.len()).enumerate() {
        let distance = squared_distance(point, codeword);
        if distance < best.1 {
            best = (code as u16, distance);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Codebooks {
        Codebooks::new(2, 2, vec![vec![0.0, 0.0, 10.0, 0.0], vec![0.0, 1.0, 0.0, -1.0]]).unwrap()
    }

    #[test]
    fn quantises_level_by_level() {
        let mut codes = [9, 9];
        sample().quantise(&[9.0, -0.5], &mut codes);
        assert_eq!(codes, [1, 1]);
        let mut out = [0.0; 2];
        sample().distances(&[9.0, -0.5], &[1], &mut out);
        assert_eq!(out, [1.0 + 2.25, 1.0 + 0.25]);
    }

    #[test]
    fn distance_agrees_with_the_plain_sum_for_every_length() {
        for n in 0..20 {
            let a: Vec<f32> = (0..n).map(|i| i as f32 * 0.5).collect();
            let b: Vec<f32> = (0..n).map(|i| (i % 3) as f32).collect();
            let plain: f32 = a.iter().zip(&b).map(|(x, y)| (x - y) * (x - y)).sum();
            assert!((squared_distance(&a, &b) - plain).abs() <= 1e-5 * plain);
        }
    }

    #[test]
    fn refuses_levels_of_other_sizes() {
        let message = Codebooks::new(2, 2, vec![vec![0.0; 4], vec![0.0; 6]]).unwrap_err().to_string();
        assert_eq!(message, "codebooks: level 1 has 6 values, expected 2 codes of 2");
    }
}
