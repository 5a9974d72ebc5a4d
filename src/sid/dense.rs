//! The little dense algebra under the SVD, in f64: Gram matrix, orthonormal columns, symmetric eigenvalues.

use rayon::prelude::*;

/// Pieces a tall matrix is cut into for its Gram matrix. Fixed, so that the order of the sums never depends on threads.
const PIECES: usize = 32;

/// G = YᵀY, f64, full symmetric storage.
///
/// Shapes: y (rows, k), G (k, k).
pub(super) fn gram(y: &[f32], k: usize) -> Vec<f64> {
    let rows = y.len() / k;
    let piece = rows.div_ceil(PIECES).max(1) * k;
    let parts: Vec<Vec<f64>> = y
        .par_chunks(piece)
        .map(|part| {
            let mut g = vec![0f64; k * k];
            let mut wide = vec![0f64; k];
            for row in part.chunks_exact(k) {
                wide.iter_mut().zip(row).for_each(|(w, &v)| *w = f64::from(v));
                for i in 0..k {
                    let left = wide[i];
                    g[i * k + i..(i + 1) * k].iter_mut().zip(&wide[i..]).for_each(|(g, right)| *g += left * right);
                }
            }
            g
        })
        .collect();
    let mut g = vec![0f64; k * k];
    for part in parts {
        g.iter_mut().zip(part).for_each(|(g, p)| *g += p);
    }
    for i in 0..k {
        for j in 0..i {
            g[i * k + j] = g[j * k + i];
        }
    }
    g
}

/// y ← y m, row by row in f64.
///
/// Shapes: y (rows, k), m (k, width); the result is (rows, width).
pub(super) fn times_small(y: &[f32], m: &[f64], k: usize, width: usize) -> Vec<f32> {
    let rows = y.len() / k;
    let mut out = vec![0f32; rows * width];
    let zeros = || vec![0f64; width];
    out.par_chunks_mut(width).zip(y.par_chunks(k)).for_each_init(zeros, |sum, (out, row)| {
        sum.fill(0.0);
        for (&v, m_row) in row.iter().zip(m.chunks_exact(width)) {
            sum.iter_mut().zip(m_row).for_each(|(s, m)| *s += f64::from(v) * m);
        }
        out.iter_mut().zip(sum.iter()).for_each(|(o, s)| *o = *s as f32);
    });
    out
}

/// Replaces the columns of `y` by an orthonormal basis of their span; a column that depends on those before it becomes zero.
///
/// Cholesky of the Gram matrix, done twice: the first pass leaves an error of the squared condition number times the
/// precision of f64, the second removes it.
///
/// Shapes: y (rows, k).
/// Source: Yamamoto et al. 2015, "Roundoff error analysis of the CholeskyQR2 algorithm".
pub(super) fn orthonormalise(y: &mut Vec<f32>, k: usize) {
    for _ in 0..2 {
        let inverse = inverse_cholesky(&gram(y, k), k);
        *y = times_small(y, &inverse, k, k);
    }
}

/// M with (Y M)ᵀ(Y M) = I given G = YᵀY: the inverse of the upper Cholesky factor, with a zero column where a pivot vanishes.
fn inverse_cholesky(g: &[f64], k: usize) -> Vec<f64> {
    // A column whose part outside the earlier ones is below 1e-5 of its length is only the rounding of f32 input.
    const DEPENDENT: f64 = 1e-10;
    let mut r = vec![0f64; k * k];
    let mut kept = vec![true; k];
    for j in 0..k {
        for i in 0..=j {
            let mut sum = g[i * k + j];
            for t in 0..i {
                sum -= r[t * k + i] * r[t * k + j];
            }
            if i < j {
                r[i * k + j] = if kept[i] { sum / r[i * k + i] } else { 0.0 };
            } else if sum > DEPENDENT * g[j * k + j] && sum > f64::MIN_POSITIVE {
                r[j * k + j] = sum.sqrt();
            } else {
                kept[j] = false;
            }
        }
    }
    let mut m = vec![0f64; k * k];
    for j in (0..k).filter(|&j| kept[j]) {
        m[j * k + j] = 1.0 / r[j * k + j];
        for i in (0..j).rev().filter(|&i| kept[i]) {
            let sum: f64 = (i + 1..=j).map(|t| r[i * k + t] * m[t * k + j]).sum();
            m[i * k + j] = -sum / r[i * k + i];
        }
    }
    m
}

/// Eigenvalues, largest first, and the matrix whose columns are the eigenvectors of a symmetric matrix.
///
/// Shapes: a (k, k); returns (k) and (k, k).
/// Source: cyclic Jacobi rotations, Golub and Van Loan, Matrix Computations, 8.5.
pub(super) fn symmetric_eigen(mut a: Vec<f64>, k: usize) -> (Vec<f64>, Vec<f64>) {
    const SWEEPS: usize = 40;
    // Rows of `vectors` are the eigenvectors until the end, so that a rotation touches two contiguous rows.
    let mut vectors = vec![0f64; k * k];
    (0..k).for_each(|i| vectors[i * k + i] = 1.0);
    let scale: f64 = a.iter().map(|v| v * v).sum();
    for _ in 0..SWEEPS {
        let off: f64 = (0..k).map(|p| a[p * k + p + 1..(p + 1) * k].iter().map(|v| v * v).sum::<f64>()).sum();
        if off <= 1e-28 * scale {
            break;
        }
        for p in 0..k {
            for q in p + 1..k {
                if a[p * k + q] == 0.0 {
                    continue;
                }
                let theta = (a[q * k + q] - a[p * k + p]) / (2.0 * a[p * k + q]);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                rotate_rows(&mut a, k, p, q, c, s);
                for i in 0..k {
                    let (x, y) = (a[i * k + p], a[i * k + q]);
                    a[i * k + p] = c * x - s * y;
                    a[i * k + q] = s * x + c * y;
                }
                rotate_rows(&mut vectors, k, p, q, c, s);
            }
        }
    }
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|&i, &j| a[j * k + j].total_cmp(&a[i * k + i]));
    let values = order.iter().map(|&i| a[i * k + i]).collect();
    let mut columns = vec![0f64; k * k];
    for (to, &from) in order.iter().enumerate() {
        for i in 0..k {
            columns[i * k + to] = vectors[from * k + i];
        }
    }
    (values, columns)
}

fn rotate_rows(a: &mut [f64], k: usize, p: usize, q: usize, c: f64, s: f64) {
    let (head, tail) = a.split_at_mut(q * k);
    for (x, y) in head[p * k..(p + 1) * k].iter_mut().zip(&mut tail[..k]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_diagonalise_and_are_orthonormal() {
        let a = vec![4.0, 1.0, -2.0, 1.0, 2.0, 0.5, -2.0, 0.5, 3.0];
        let (values, vectors) = symmetric_eigen(a.clone(), 3);
        assert!(values[0] >= values[1] && values[1] >= values[2]);
        for (column, value) in values.iter().enumerate() {
            for i in 0..3 {
                let av: f64 = (0..3).map(|j| a[i * 3 + j] * vectors[j * 3 + column]).sum();
                assert!((av - value * vectors[i * 3 + column]).abs() < 1e-12);
            }
            let norm: f64 = (0..3).map(|i| vectors[i * 3 + column].powi(2)).sum();
            assert!((norm - 1.0).abs() < 1e-12);
        }
        assert!((values.iter().sum::<f64>() - 9.0).abs() < 1e-12);
    }

    #[test]
    fn orthonormal_columns_survive_bad_conditioning_and_dependence() {
        // Columns: u, u + 1e-3 v, 2u (dependent).
        let rows = 50;
        let mut y = Vec::new();
        for i in 0..rows {
            let (u, v) = (((i * 7) % 13) as f32 - 6.0, ((i * 5) % 11) as f32 - 5.0);
            y.extend([u, u + 1e-3 * v, 2.0 * u]);
        }
        orthonormalise(&mut y, 3);
        let g = gram(&y, 3);
        for i in 0..3 {
            for j in 0..3 {
                let expected = if i == j && i < 2 { 1.0 } else { 0.0 };
                assert!((g[i * 3 + j] - expected).abs() < 1e-6, "{g:?}");
            }
        }
    }
}
