//! Products `a bᵀ` where one operand has few rows, as in decoding: every row of the other is read once, where it lies,
//! and multiplied with all of them.

use crate::product::{DOT_ROWS, TILE_ROWS, Target, View, product_into};
use crate::real::Real;
use rayon::prelude::*;

/// True where this way is the faster one. One row is left to `gemm`, which has a loop of its own for it.
pub fn pays(m: usize, n: usize, k: usize) -> bool {
    (2..=TILE_ROWS).contains(&m.min(n)) && m.max(n) >= 64 && k >= 16
}

/// Multiply-adds of one part at least.
const PART: usize = 1 << 17;
/// Terms of the sums taken at a time: the few rows, side by side, stay in the cache.
const DEPTH: usize = 2048;

/// `c = a bᵀ`, or `c += a bᵀ`; on all threads if it is large.
pub fn product<T: Real>(c: &mut [T], a: &[T], b: &[T], [m, n, k]: [usize; 3], accumulate: bool) {
    let (a, b) = (View::new(a, m, k, k), View::new(b, n, k, k));
    let (many, few, y) = match n < m {
        true => (a, b, Target::new(c, [m, n], [n, 1])),
        false => (b, a, Target::new(c, [n, m], [1, n])),
    };
    let side_by_side = (few.height() > DOT_ROWS).then(|| SideBySide::new(few));
    let columns = side_by_side.as_ref().map_or(few.t(), SideBySide::view);
    let part = PART.div_ceil(few.height() * k).next_multiple_of(6);
    let starts: Vec<usize> = (0..many.height()).step_by(part).collect();
    starts.into_par_iter().for_each(|start| {
        let rows = many.rows(start..(start + part).min(many.height()));
        for l in (0..k).step_by(DEPTH) {
            let terms = l..(l + DEPTH).min(k);
            let (rows, columns) = (rows.cols(terms.clone()), columns.rows(terms));
            // SAFETY: the parts are different rows of y, which are different places of c, and c is borrowed here alone
            unsafe { product_into(y.at(start, 0), accumulate || l > 0, T::one(), rows, columns) };
        }
    });
}

/// Few rows as columns, side by side, each row of them padded with zeros to whole vectors.
struct SideBySide<T> {
    data: Vec<T>,
    few: usize,
    stride: usize,
}

impl<T: Real> SideBySide<T> {
    fn new(rows: View<T>) -> SideBySide<T> {
        const LANES: usize = 16;
        let (few, stride) = (rows.height(), rows.height().next_multiple_of(LANES));
        let mut data = vec![T::zero(); rows.width() * stride];
        for r in 0..few {
            data[r..].iter_mut().step_by(stride).zip(rows.row(r)).for_each(|(y, &x)| *y = x);
        }
        SideBySide { data, few, stride }
    }

    fn view(&self) -> View<'_, T> {
        View::new(&self.data, self.data.len() / self.stride, self.few, self.stride)
    }
}
