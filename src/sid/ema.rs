//! One level's codebook, moved by exponential averages of the vectors it is chosen for.

use crate::error::Result;
use gr2_kernels::{Buffer, quantize};

/// Codewords with their running counts and sums.
///
/// `N ← γN + (1−γ)n, m ← γm + (1−γ)Σr, e = m / ((N+ε)/(ΣN+Kε)·ΣN)`.
/// Source: van den Oord et al. 2017, appendix A.1, with Laplace smoothing.
pub(super) struct EmaCodebook {
    codes: usize,
    dims: usize,
    codewords: Buffer,
    counts: Vec<f64>,
    sums: Vec<f64>,
    /// Batches since a code was last chosen.
    idle: Vec<u32>,
}

const EPSILON: f64 = 1e-5;

impl EmaCodebook {
    /// Starts from k-means: codewords (K, D) and the share of vectors each was chosen for.
    pub(super) fn new(start: Buffer, dims: usize, chosen: &[f64]) -> Result<EmaCodebook> {
        let words = start.to_vec::<f32>()?;
        let sums = words.chunks_exact(dims).zip(chosen).flat_map(|(w, &n)| w.iter().map(move |&x| x as f64 * n));
        Ok(EmaCodebook {
            codes: chosen.len(),
            dims,
            sums: sums.collect(),
            counts: chosen.to_vec(),
            idle: vec![0; chosen.len()],
            codewords: start,
        })
    }

    /// Codewords (K, D).
    pub(super) fn codewords(&self) -> &Buffer {
        &self.codewords
    }

    /// Moves the codewords towards the vectors `r` (R, D) that chose them.
    pub(super) fn update(&mut self, r: &Buffer, chosen: &[u32], decay: f64) -> Result<()> {
        let (sums, counts) = quantize::segment_sum(r, chosen, self.codes, self.dims)?;
        let (sums, counts) = (sums.to_vec::<f32>()?, counts.to_vec::<f32>()?);
        for (mean, &n) in self.counts.iter_mut().zip(&counts) {
            *mean = decay * *mean + (1.0 - decay) * n as f64;
        }
        for (mean, &s) in self.sums.iter_mut().zip(&sums) {
            *mean = decay * *mean + (1.0 - decay) * s as f64;
        }
        for (idle, &n) in self.idle.iter_mut().zip(&counts) {
            *idle = if n > 0.0 { 0 } else { *idle + 1 };
        }
        self.publish()
    }

    /// Gives codes unused for `limit` batches the vectors farthest from their codewords, farthest first.
    ///
    /// Source: gr2 2.3, dead-code reset.
    pub(super) fn revive(&mut self, r: &Buffer, distances: &[f32], limit: u32) -> Result<()> {
        let dead: Vec<usize> = (0..self.codes).filter(|&k| self.idle[k] >= limit).collect();
        if dead.is_empty() {
            return Ok(());
        }
        let mut farthest: Vec<usize> = (0..distances.len()).collect();
        farthest.sort_by(|&a, &b| distances[b].total_cmp(&distances[a]).then(a.cmp(&b)));
        let rows = r.to_vec::<f32>()?;
        for (&k, &row) in dead.iter().zip(&farthest) {
            self.counts[k] = 1.0;
            let vector = &rows[row * self.dims..(row + 1) * self.dims];
            self.sums[k * self.dims..(k + 1) * self.dims].iter_mut().zip(vector).for_each(|(s, &x)| *s = x as f64);
            self.idle[k] = 0;
        }
        self.publish()
    }

    fn publish(&mut self) -> Result<()> {
        let total: f64 = self.counts.iter().sum();
        let smoothed = |n: f64| (n + EPSILON) / (total + self.codes as f64 * EPSILON) * total;
        let words: Vec<f32> = self
            .sums
            .chunks_exact(self.dims)
            .zip(&self.counts)
            .flat_map(|(s, &n)| s.iter().map(move |&x| (x / smoothed(n)) as f32))
            .collect();
        self.codewords = Buffer::from_slice(self.codewords.device(), &words)?;
        Ok(())
    }
}
