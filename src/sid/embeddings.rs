//! One vector per item, row-major.

use rayon::prelude::*;

use crate::error::{Error, Result};

/// One dense vector per item.
///
/// Shapes: values (items, dims).
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    dims: usize,
    values: Vec<f32>,
}

impl Embeddings {
    /// Takes row-major values.
    ///
    /// Errors: `Shape` if `dims` is 0, the values do not fill whole rows, or a value is not finite.
    pub fn new(dims: usize, values: Vec<f32>) -> Result<Self> {
        if dims == 0 || !values.len().is_multiple_of(dims) {
            let problem = format!("{} values do not fill rows of {dims}", values.len());
            return Err(Error::Shape { op: "embeddings", problem });
        }
        if let Some(at) = values.par_iter().position_first(|v| !v.is_finite()) {
            let problem =
                format!("row {}, column {} is {}, expected a finite number", at / dims, at % dims, values[at]);
            return Err(Error::Shape { op: "embeddings", problem });
        }
        Ok(Embeddings { dims, values })
    }

    /// Number of items.
    pub fn rows(&self) -> usize {
        self.values.len() / self.dims
    }

    /// Width of a vector.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The vector of one item.
    pub fn row(&self, item: usize) -> &[f32] {
        &self.values[item * self.dims..(item + 1) * self.dims]
    }

    /// All values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Number of different vectors.
    pub fn distinct(&self) -> usize {
        // +0 and -0 are one number of two spellings
        let bits = |item: usize| self.row(item).iter().map(|v| (v + 0.0).to_bits()).collect::<Vec<u32>>();
        (0..self.rows()).map(bits).collect::<std::collections::HashSet<_>>().len()
    }

    /// Rows of both, one after the other, those of `other` times `weight`.
    ///
    /// Shapes: (items, D) and (items, E) give (items, D + E).
    /// Errors: `Shape` if the numbers of items differ.
    pub fn beside(&self, other: &Embeddings, weight: f32) -> Result<Embeddings> {
        if self.rows() != other.rows() {
            let problem = format!("{} items beside {}", self.rows(), other.rows());
            return Err(Error::Shape { op: "embeddings", problem });
        }
        let row = |i: usize| self.row(i).iter().copied().chain(other.row(i).iter().map(|x| x * weight));
        Embeddings::new(self.dims + other.dims, (0..self.rows()).flat_map(row).collect())
    }

    /// Scales every row to length 1; rows of zeros stay as they are.
    pub fn normalise_rows(&mut self) {
        self.values.par_chunks_mut(self.dims).for_each(normalise);
    }
}

/// Scales a vector to length 1 unless it is zero.
pub(super) fn normalise(row: &mut [f32]) {
    let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    if norm > 0.0 {
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_ragged_and_non_finite_values() {
        let ragged = Embeddings::new(2, vec![0.0; 3]).unwrap_err().to_string();
        assert_eq!(ragged, "embeddings: 3 values do not fill rows of 2");
        let nan = Embeddings::new(2, vec![0.0, 1.0, 2.0, f32::NAN]).unwrap_err().to_string();
        assert_eq!(nan, "embeddings: row 1, column 1 is NaN, expected a finite number");
    }

    #[test]
    fn equal_vectors_count_once() {
        let e = Embeddings::new(2, vec![0.0, 1.0, -0.0, 1.0, 1.0, 0.0]).unwrap();
        assert_eq!(e.distinct(), 2);
    }

    #[test]
    fn normalising_keeps_zero_rows() {
        let mut e = Embeddings::new(2, vec![3.0, 4.0, 0.0, 0.0]).unwrap();
        e.normalise_rows();
        assert_eq!(e.values(), [0.6, 0.8, 0.0, 0.0]);
    }
}
