//! Compressed sparse rows, with the two products a truncated SVD needs.

use rayon::prelude::*;

/// A sparse matrix by rows: row `i` holds `values[k]` at column `columns[k]` for `k` in `offsets[i]..offsets[i + 1]`.
///
/// Shapes: (rows, width); memory 8 bytes per stored value and 8 per row.
#[derive(Debug, Clone, PartialEq)]
pub struct Csr {
    width: usize,
    offsets: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Csr {
    /// A matrix without rows.
    pub(super) fn with_width(width: usize) -> Self {
        Csr { width, offsets: vec![0], columns: Vec::new(), values: Vec::new() }
    }

    /// Appends a row of (column, value) pairs.
    pub(super) fn push_row(&mut self, row: &[(u32, f32)]) {
        self.columns.extend(row.iter().map(|&(column, _)| column));
        self.values.extend(row.iter().map(|&(_, value)| value));
        self.offsets.push(self.columns.len());
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of stored values.
    pub fn stored(&self) -> usize {
        self.values.len()
    }

    /// Columns and values of one row.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.offsets[row]..self.offsets[row + 1];
        (&self.columns[range.clone()], &self.values[range])
    }

    /// The given rows, in that order.
    pub(super) fn selected(&self, rows: &[usize]) -> Csr {
        let mut part = Csr::with_width(self.width);
        for &row in rows {
            let (columns, values) = self.row(row);
            part.columns.extend_from_slice(columns);
            part.values.extend_from_slice(values);
            part.offsets.push(part.columns.len());
        }
        part
    }

    /// Sum of squares of all stored values.
    pub(super) fn squared_norm(&self) -> f64 {
        self.values.iter().map(|&v| f64::from(v) * f64::from(v)).sum()
    }

    /// The transposed matrix; entries of each of its rows stand in order of the original row.
    pub(super) fn transposed(&self) -> Csr {
        let mut offsets = vec![0usize; self.width + 1];
        for &column in &self.columns {
            offsets[column as usize + 1] += 1;
        }
        for i in 0..self.width {
            offsets[i + 1] += offsets[i];
        }
        let mut next = offsets.clone();
        let mut columns = vec![0u32; self.columns.len()];
        let mut values = vec![0f32; self.values.len()];
        for row in 0..self.rows() {
            let (row_columns, row_values) = self.row(row);
            for (&column, &value) in row_columns.iter().zip(row_values) {
                let at = &mut next[column as usize];
                columns[*at] = row as u32;
                values[*at] = value;
                *at += 1;
            }
        }
        Csr { width: self.rows(), offsets, columns, values }
    }

    /// y = A x for a dense x of `k` columns.
    ///
    /// Shapes: A (rows, width), x (width, k), y (rows, k).
    pub(super) fn times_dense(&self, x: &[f32], k: usize) -> Vec<f32> {
        let mut y = vec![0f32; self.rows() * k];
        y.par_chunks_mut(k).enumerate().for_each(|(row, out)| {
            let (columns, values) = self.row(row);
            for (&column, &value) in columns.iter().zip(values) {
                let source = &x[column as usize * k..][..k];
                out.iter_mut().zip(source).for_each(|(o, s)| *o += value * s);
            }
        });
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Csr {
        let mut a = Csr::with_width(3);
        a.push_row(&[(0, 1.0), (2, 2.0)]);
        a.push_row(&[]);
        a.push_row(&[(1, -3.0), (2, 4.0)]);
        a
    }

    #[test]
    fn multiplies_like_the_dense_matrix() {
        let a = sample();
        let y = a.times_dense(&[1.0, 10.0, 2.0, 20.0, 3.0, 30.0], 2);
        assert_eq!(y, [7.0, 70.0, 0.0, 0.0, 6.0, 60.0]);
        assert_eq!(a.squared_norm(), 30.0);
        assert_eq!(a.selected(&[2, 1]).times_dense(&[1.0, 2.0, 3.0], 1), [6.0, 0.0]);
    }

    #[test]
    fn transposing_twice_gives_the_matrix_back() {
        let a = sample();
        let t = a.transposed();
        assert_eq!(t.row(2), (&[0u32, 2][..], &[2.0f32, 4.0][..]));
        assert_eq!((t.rows(), t.width()), (3, 3));
        assert_eq!(t.transposed(), a);
    }
}
