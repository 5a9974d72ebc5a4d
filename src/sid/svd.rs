//! Randomised truncated SVD of a sparse matrix.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::csr::Csr;
use super::dense::{gram, orthonormalise, symmetric_eigen, times_small};
use super::embeddings::Embeddings;
use super::sample::subset;
use crate::bounds::{MANY, MOST_DIMS, Section};
use crate::error::{Error, Result};
use crate::tensor::stream;

/// Settings of the truncated SVD.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SvdConfig {
    /// Width of the embedding; less where the matrix has fewer rows or columns.
    pub dims: usize,
    /// Extra directions followed and dropped at the end (Halko et al. suggest 5 to 10).
    pub oversample: usize,
    /// Power iterations; each sharpens the subspace for one more pass over the matrix and its transpose.
    pub iterations: usize,
    /// The directions are found on a random part of so many items, the others only projected.
    pub fit_items: usize,
    /// Rows scaled to length 1 afterwards.
    pub normalise: bool,
    /// Seed of the random start.
    pub seed: u64,
}

impl Default for SvdConfig {
    fn default() -> Self {
        SvdConfig { dims: 128, oversample: 10, iterations: 3, fit_items: 65_536, normalise: true, seed: 0 }
    }
}

impl SvdConfig {
    /// Errors: `Config` naming the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("sid.svd");
        at.whole("dims", self.dims, 1..=MOST_DIMS)?;
        at.whole("oversample", self.oversample, 0..=MOST_DIMS)?;
        at.whole("iterations", self.iterations, 0..=1000)?;
        at.whole("fit_items", self.fit_items, 1..=MANY)
    }
}

/// A truncated SVD A ≈ U Σ Vᵀ.
#[derive(Debug, Clone)]
pub struct Svd {
    /// A V = U Σ, rows scaled to length 1 if asked for.
    pub embeddings: Embeddings,
    /// Share of the sum of squares of A in each direction, largest first; of the rows the directions were found on.
    pub explained: Vec<f64>,
}

/// A V = U Σ of the `dims` largest singular values, by a random range finder with power iterations.
///
/// The range is re-orthonormalised after every iteration; the small problem is solved in f64.
/// Memory: beside the matrix the rows it is fitted on twice, and (rows + columns) · (dims + oversample) floats.
///
/// Shapes: A (items, features); embeddings (items, min(dims, items, features)).
/// Errors: `Config` if the settings are out of range; `Run` if the matrix holds nothing.
/// Source: Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.1.
pub fn truncated_svd(a: &Csr, config: &SvdConfig) -> Result<Svd> {
    config.validate()?;
    let sample;
    let fitted = if a.rows() <= config.fit_items {
        a
    } else {
        let rows = subset(&mut stream(config.seed, "sid.svd.sample", 0, 0), a.rows(), config.fit_items);
        sample = a.selected(&rows);
        &sample
    };
    let total = fitted.squared_norm();
    if total == 0.0 {
        return Err(Error::Run {
            stage: "sid".into(),
            problem: format!("the texts of {} items share no word", fitted.rows()),
            hint: Some("check that titles and descriptions are read, or lower sid.tfidf.min_items".into()),
        });
    }
    let smaller = fitted.rows().min(fitted.width());
    let dims = config.dims.min(smaller);
    let k = (dims + config.oversample).min(smaller);
    let transposed = fitted.transposed();

    let mut q = fitted.times_dense(&random_signs(fitted.width() * k, config.seed), k);
    orthonormalise(&mut q, k);
    for _ in 0..config.iterations {
        q = fitted.times_dense(&transposed.times_dense(&q, k), k);
        orthonormalise(&mut q, k);
    }
    // B = Qᵀ A has the singular values of A inside the range: B Bᵀ = W Σ² Wᵀ, so that V = Bᵀ W Σ⁻¹.
    let b = transposed.times_dense(&q, k);
    let (values, w) = symmetric_eigen(gram(&b, k), k);
    let values: Vec<f64> = values[..dims].iter().map(|v| v.max(0.0)).collect();
    let mut turn = vec![0f64; k * dims];
    for (row, to) in turn.chunks_exact_mut(dims).enumerate() {
        // Directions that hold nothing but rounding are left out: dividing by their length would blow it up.
        let held = (0..dims).filter(|&j| values[j] > 1e-10 * values[0]);
        held.for_each(|j| to[j] = w[row * k + j] / values[j].sqrt());
    }
    let v = times_small(&b, &turn, k, dims);
    let mut embeddings = Embeddings::new(dims, a.times_dense(&v, dims))?;
    if config.normalise {
        embeddings.normalise_rows();
    }
    Ok(Svd { embeddings, explained: values.iter().map(|v| v / total).collect() })
}

/// Random signs: as good a test matrix as a Gaussian one, and exact on every machine.
fn random_signs(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = stream(seed, "sid.svd", 0, 0);
    let mut signs = Vec::with_capacity(n);
    while signs.len() < n {
        let bits = rng.next_u64();
        signs.extend((0..64.min(n - signs.len())).map(|b| if bits >> b & 1 == 1 { 1.0f32 } else { -1.0 }));
    }
    signs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix of the given singular values over cosine bases, dense but stored as sparse.
    fn with_singular_values(rows: usize, width: usize, values: &[f64]) -> Csr {
        let basis = |n: usize, i: usize, d: usize| {
            let scale = (2.0 / n as f64).sqrt();
            scale * (std::f64::consts::PI * (i as f64 + 0.5) * (d as f64 + 1.0) / n as f64).cos()
        };
        let mut a = Csr::with_width(width);
        for i in 0..rows {
            let value =
                |j| values.iter().enumerate().map(|(d, s)| s * basis(rows, i, d) * basis(width, j, d)).sum::<f64>();
            a.push_row(&(0..width).map(|j| (j as u32, value(j) as f32)).collect::<Vec<_>>());
        }
        a
    }

    fn config(dims: usize) -> SvdConfig {
        SvdConfig { dims, oversample: 4, normalise: false, ..SvdConfig::default() }
    }

    #[test]
    fn finds_the_singular_values_and_the_geometry() {
        let values = [9.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.25, 0.1];
        let a = with_singular_values(60, 40, &values);
        let svd = truncated_svd(&a, &config(3)).unwrap();
        let total: f64 = values.iter().map(|v| v * v).sum();
        for (explained, value) in svd.explained.iter().zip(values) {
            assert!((explained - value * value / total).abs() < 1e-6, "{:?}", svd.explained);
        }
        // Column norms of U Σ are the singular values.
        for (d, value) in values[..3].iter().enumerate() {
            let norm = (0..60).map(|i| f64::from(svd.embeddings.row(i)[d]).powi(2)).sum::<f64>().sqrt();
            assert!((norm - value).abs() < 1e-4, "{norm} {value}");
        }
    }

    #[test]
    fn rank_deficient_matrices_keep_all_their_weight() {
        let a = with_singular_values(30, 20, &[2.0, 1.0]);
        let svd = truncated_svd(&a, &config(6)).unwrap();
        assert_eq!(svd.embeddings.dims(), 6);
        assert!((svd.explained.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        assert!(svd.embeddings.values().iter().all(|v| v.is_finite()));
    }

    #[test]
    fn a_part_of_the_items_is_enough_for_the_directions() {
        let a = with_singular_values(200, 30, &[4.0, 2.0, 1.0]);
        let all = truncated_svd(&a, &config(3)).unwrap().embeddings;
        let part = truncated_svd(&a, &SvdConfig { fit_items: 50, ..config(3) }).unwrap().embeddings;
        assert_eq!(part.rows(), 200);
        // The span is the same, so that inner products are.
        let dot = |e: &Embeddings, i, j| e.row(i).iter().zip(e.row(j)).map(|(x, y)| x * y).sum::<f32>();
        for (i, j) in [(0, 0), (3, 150), (199, 20)] {
            assert!((dot(&all, i, j) - dot(&part, i, j)).abs() < 1e-5);
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let a = with_singular_values(300, 50, &[3.0, 2.0, 1.0, 0.5, 0.2]);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| truncated_svd(&a, &config(4)).unwrap().embeddings)
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn an_empty_matrix_and_a_width_of_zero_are_errors() {
        let mut a = Csr::with_width(2);
        a.push_row(&[]);
        let message = truncated_svd(&a, &config(2)).unwrap_err().to_string();
        assert!(message.starts_with("run: sid: the texts of 1 items share no word"), "{message}");
        let message = truncated_svd(&a, &config(0)).unwrap_err().to_string();
        assert_eq!(message, "config: sid.svd.dims: 0: expected 1 to 8192");
    }
}
