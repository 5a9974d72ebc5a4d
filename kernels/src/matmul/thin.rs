//! Products `a bᵀ` where one operand has few rows, as in decoding: every row of the other is read once, where it lies,
//! and multiplied with all of them. Those rows may be stored in two bytes an element.

use crate::narrow::Stored;
use crate::pieces::pieces;
use crate::product::{DOT_ROWS, TILE_ROWS, Target, View, product_into, unpacked_into};
use crate::real::Real;
use rayon::prelude::*;

/// True where this way is the faster one: with shorter sums the transposition of the few rows costs more than it saves
/// (16 x 1024 x 32: 45 against 30 us); more rows gain only where `gemm` would copy an operand that is not in the second cache.
pub fn pays(m: usize, n: usize, k: usize) -> bool {
    let (few, many) = (m.min(n), m.max(n));
    match few {
        1..=TILE_ROWS => many >= 64 && k >= 64,
        _ => few > TILE_ROWS && few <= 64 && k >= 256 && many * k >= 3 << 16,
    }
}

/// Multiply-adds of one part at least.
const PART: usize = 1 << 17;
/// Terms of the sums taken at a time: the few rows, side by side, stay in the cache.
const DEPTH: usize = 2048;

/// `c = a bᵀ`, or `c += a bᵀ`; on all threads if it is large.
pub fn product<T: Real>(c: &mut [T], a: &[T], b: &[T], [m, n, k]: [usize; 3], accumulate: bool) {
    let (a, b) = (View::new(a, m, k, k), View::new(b, n, k, k));
    match n < m {
        true => products(b, &[(a, Target::new(c, [m, n], [n, 1]))], accumulate),
        false => products(a, &[(b, Target::new(c, [n, m], [1, n]))], accumulate),
    }
}

/// `cᵢ = a bᵢᵀ`, or `cᵢ += a bᵢᵀ`, for operands and results `(bᵢ, cᵢ)`, where `a` (m, k) has the few rows.
pub fn each<T: Real, W: Stored<T> + Send>(
    a: &[T],
    b_and_c: Vec<(&[W], &mut [T])>,
    [m, k]: [usize; 2],
    accumulate: bool,
) {
    let mut many = vec![];
    for (b, c) in b_and_c {
        let n = c.len() / m;
        many.push((View::new(b, n, k, k), Target::new(c, [n, m], [1, n])));
    }
    products(View::new(a, m, k, k), &many, accumulate);
}

/// `y = many fewᵀ`, or `y += many fewᵀ`, for each pair of them.
fn products<T: Real, W: Stored<T> + Send>(few: View<T>, many_and_y: &[(View<W>, Target<T>)], accumulate: bool) {
    let k = few.width();
    let matrices = many_and_y.iter().map(|&(many, _)| many);
    let pairs = if few.height() <= DOT_ROWS { W::pairs(few, matrices) } else { None };
    let side_by_side = (few.height() > DOT_ROWS).then(|| SideBySide::new(few));
    let columns = side_by_side.as_ref().map_or(few.t(), SideBySide::view);
    let part = PART.div_ceil(few.height() * k).next_multiple_of(12);
    let mut parts = vec![];
    for &(many, y) in many_and_y {
        parts.extend(pieces(0..many.height(), part).map(|rows| (many.rows(rows.clone()), y.at(rows.start, 0))));
    }
    parts.into_par_iter().for_each_init(<(Vec<T>, Vec<T>)>::default, |(room, sums), (rows, y)| {
        if let Some(pairs) = &pairs {
            for terms in pieces(0..k, DEPTH) {
                let (words, keep) = (terms.start / 2..terms.end / 2, accumulate || terms.start > 0);
                // SAFETY: as below
                unsafe { W::dots(y.t(), keep, pairs, words, rows.cols(terms)) };
            }
            return;
        }
        // sums of rows whose places collide are put there column by column
        let aside = few.height() > DOT_ROWS && y.has_rows_that_collide();
        let (to, kept) = if aside {
            sums.resize(rows.height() * few.height(), T::zero());
            (Target::new(sums, [rows.height(), few.height()], [few.height(), 1]), false)
        } else {
            (y, accumulate)
        };
        // a tile has six rows, or twice as many where they are short
        let depth = DEPTH.min(W::AT_ONCE / 6);
        for terms in pieces(0..k, depth) {
            let columns = columns.rows(terms.clone());
            let at_once = (W::AT_ONCE / terms.len()).clamp(1, rows.height());
            for r in pieces(0..rows.height(), at_once) {
                let (to, keep) = (to.at(r.start, 0), kept || terms.start > 0);
                let taken = W::open(rows.rows(r).cols(terms.clone()), room);
                // SAFETY: the parts are different rows of the results, whose slices are borrowed as long as the targets live
                unsafe {
                    match few.height() {
                        // dot products of four of the many rows at a time, where two would leave the multiply-adds waiting
                        1..=DOT_ROWS => product_into(to.t(), keep, T::one(), columns.t(), taken.t()),
                        _ => unpacked_into(to, keep, T::one(), taken, columns),
                    }
                };
            }
        }
        if aside {
            let sums = View::new(sums, rows.height(), few.height(), few.height());
            // SAFETY: as above
            unsafe { y.put_columns(sums, accumulate) };
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
        // of all rows at a time: their columns stay in the first cache until they are complete
        const TERMS: usize = 64;
        let (few, stride) = (rows.height(), rows.height().next_multiple_of(LANES));
        let mut data = vec![T::zero(); rows.width() * stride];
        for (i, data) in data.chunks_mut(TERMS * stride).enumerate() {
            for r in 0..few {
                data[r..].iter_mut().step_by(stride).zip(&rows.row(r)[i * TERMS..]).for_each(|(y, &x)| *y = x);
            }
        }
        SideBySide { data, few, stride }
    }

    fn view(&self) -> View<'_, T> {
        View::new(&self.data, self.data.len() / self.stride, self.few, self.stride)
    }
}
