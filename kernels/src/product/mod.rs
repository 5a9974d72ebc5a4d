//! Matrix products of one thread, with any strides: the parts of larger products, and the heads of `(T, H, D)`.
//!
//! - a product and the way it takes (`mod.rs`)
//! - the ways that read both operands where they lie (`tile.rs`)
//! - few rows with rows of bf16 (`pairs.rs`)
//! - rows that collide in a cache, and how they are kept apart (`apart.rs`)

mod apart;
mod pairs;
mod tile;

pub(crate) use apart::{apart, collide, copied, pitch};
pub(crate) use pairs::{Pairs, are_words, dots};

use crate::real::Real;
use std::marker::PhantomData;
use std::ops::Range;

/// A matrix inside a slice: element (r, c) is `data[r * row_stride + c * col_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> View<'a, T> {
    /// `rows` rows of `cols` consecutive elements, `stride` apart, from the start of `data`.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize, stride: usize) -> View<'a, T> {
        View { data, rows, cols, row_stride: stride, col_stride: 1 }
    }

    /// The transposed matrix.
    pub(crate) fn t(self) -> View<'a, T> {
        let View { data, rows, cols, row_stride, col_stride } = self;
        View { data, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// Rows.
    pub(crate) fn height(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub(crate) fn width(&self) -> usize {
        self.cols
    }

    /// Elements from a row to the next.
    pub(crate) fn stride(&self) -> usize {
        self.row_stride
    }

    /// Some of the rows.
    pub(crate) fn rows(self, range: Range<usize>) -> View<'a, T> {
        let start = (range.start * self.row_stride).min(self.data.len());
        View { data: &self.data[start..], rows: range.len(), ..self }
    }

    /// Some of the columns.
    pub(crate) fn cols(self, range: Range<usize>) -> View<'a, T> {
        self.t().rows(range).t()
    }

    fn fits(&self) -> bool {
        let (rows, cols) = (self.rows, self.cols);
        rows == 0 || cols == 0 || (rows - 1) * self.row_stride + (cols - 1) * self.col_stride < self.data.len()
    }
}

impl<T: Copy> View<'_, T> {
    #[inline(always)]
    fn at(&self, row: usize, col: usize) -> T {
        self.data[row * self.row_stride + col * self.col_stride]
    }

    /// A row of consecutive elements.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &[T] {
        &self.data[row * self.row_stride..][..self.cols]
    }
}

/// Where a product is written: element (r, c) is `row_stride` times r and `col_stride` times c after the first. A copy
/// names the same places, so that threads can write different rows; to write is unsafe for that reason.
pub(crate) struct Target<'a, T> {
    first: *mut T,
    row_stride: usize,
    col_stride: usize,
    /// Holds the slice borrowed as long as there is a copy.
    _slice: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Target<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Target<'_, T> {}

// SAFETY: elements are reached through unsafe functions only, whose callers keep threads apart.
unsafe impl<T: Send> Send for Target<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Target<'_, T> {}

impl<'a, T: Real> Target<'a, T> {
    /// A matrix (rows, cols) in `data`.
    pub(crate) fn new(
        data: &'a mut [T],
        [rows, cols]: [usize; 2],
        [row_stride, col_stride]: [usize; 2],
    ) -> Target<'a, T> {
        assert!(View { data, rows, cols, row_stride, col_stride }.fits(), "invariant: the result holds its shape");
        Target { first: data.as_mut_ptr(), row_stride, col_stride, _slice: PhantomData }
    }

    /// The matrix from this element on.
    pub(crate) fn at(self, row: usize, col: usize) -> Target<'a, T> {
        Target { first: self.first.wrapping_add(row * self.row_stride + col * self.col_stride), ..self }
    }

    /// The transposed matrix.
    pub(crate) fn t(self) -> Target<'a, T> {
        Target { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// True if columns are consecutive elements, and places of a row collide.
    pub(crate) fn has_rows_that_collide(&self) -> bool {
        self.row_stride == 1 && collide::<T>(self.col_stride)
    }

    /// Writes a matrix, or adds it, column by column.
    ///
    /// Safety: columns of this one are consecutive elements, it has the places of `values`, and nothing else touches them
    /// meanwhile.
    pub(crate) unsafe fn put_columns(self, values: View<T>, keep: bool) {
        for c in 0..values.cols {
            // SAFETY: the caller vouches for the places
            let column = unsafe { std::slice::from_raw_parts_mut(self.at(0, c).first, values.rows) };
            let values = values.data[c * values.col_stride..].iter().step_by(values.row_stride);
            match keep {
                true => column.iter_mut().zip(values).for_each(|(y, &value)| *y += value),
                false => column.iter_mut().zip(values).for_each(|(y, &value)| *y = value),
            }
        }
    }

    /// Writes `values` to row `row` from column `col` on, or adds them.
    ///
    /// Safety: the matrix has these places, and nothing else touches them meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn put(self, row: usize, col: usize, values: &[T], keep: bool) {
        // SAFETY: the caller vouches for the places
        let first = unsafe { self.first.add(row * self.row_stride + col * self.col_stride) };
        let write = |y: &mut T, value: T| *y = if keep { *y + value } else { value };
        if self.col_stride == 1 {
            // SAFETY: as above; in this order they are one slice
            let y = unsafe { std::slice::from_raw_parts_mut(first, values.len()) };
            y.iter_mut().zip(values).for_each(|(y, &value)| write(y, value));
        } else {
            for (c, &value) in values.iter().enumerate() {
                // SAFETY: as above
                write(unsafe { &mut *first.add(c * self.col_stride) }, value);
            }
        }
    }
}

/// Rows up to which an operand is read where it lies: by dot products, and by tiles of sums.
pub(crate) const DOT_ROWS: usize = 4;
pub(crate) const TILE_ROWS: usize = 16;

/// `y = scale a b`, or `y += scale a b` where `keep` says so; rows of `y` are `stride` apart.
pub(crate) fn product<T: Real>((y, stride): (&mut [T], usize), keep: bool, scale: T, a: View<T>, b: View<T>) {
    let (rows, inner, cols) = (a.rows, a.cols, b.cols);
    assert_eq!(inner, b.rows, "invariant: inner dimensions agree");
    assert!(stride >= cols, "invariant: rows of the result do not overlap");
    let target = Target::new(y, [rows, cols], [stride, 1]);
    // SAFETY: the slice of the result is borrowed here alone, holds its shape, and its rows do not overlap
    unsafe { product_into(target, keep, scale, a, b) }
}

/// As [`product`], to any places.
///
/// Safety: `y` has a place of its own for every element of the result, and nothing else touches those meanwhile.
pub(crate) unsafe fn product_into<T: Real>(y: Target<T>, keep: bool, scale: T, a: View<T>, b: View<T>) {
    assert!(a.cols == b.rows && a.fits() && b.fits(), "invariant: operands hold their shapes");
    let few = a.rows.min(b.cols);
    // SAFETY: the caller vouches for the places of the result, the assert for those of the operands
    unsafe {
        if few <= DOT_ROWS && a.col_stride == 1 && b.row_stride == 1 {
            tile::dots(y, keep, scale, a, b.t());
        } else if few <= TILE_ROWS && b.col_stride == 1 {
            tile::broadcast(y, keep, scale, a, b);
        } else {
            packed_into(y, keep, scale, a, b);
        }
    }
}

/// As [`product_into`], with both operands read where they lie, however many rows they have; those of `b` are consecutive
/// elements.
///
/// Safety: as of [`product_into`].
pub(crate) unsafe fn unpacked_into<T: Real>(y: Target<T>, keep: bool, scale: T, a: View<T>, b: View<T>) {
    assert!(a.cols == b.rows && a.fits() && b.fits() && b.col_stride == 1, "invariant: operands hold their shapes");
    // SAFETY: the caller vouches for the places of the result, the assert for those of the operands
    unsafe { tile::broadcast(y, keep, scale, a, b) }
}

/// As [`product_into`], always with operands copied into the layout of the `gemm` crate.
///
/// Safety: as of [`product_into`].
pub(crate) unsafe fn packed_into<T: Real>(y: Target<T>, keep: bool, scale: T, a: View<T>, b: View<T>) {
    assert!(a.cols == b.rows && a.fits() && b.fits(), "invariant: operands hold their shapes");
    // SAFETY: the caller vouches for the places of the result, the assert for those of the operands
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            y.first,
            y.col_stride as isize,
            y.row_stride as isize,
            keep,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::one(),
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_and_transposed_operands_give_the_plain_product() {
        // a is (2, 3) with stride 4, b is the transpose of (2, 3) with stride 3, y has stride 3 and a column untouched
        let a = [1.0f64, 2.0, 3.0, 99.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, 2.0, -1.0, 3.0, 1.0];
        let mut y = [10.0, 10.0, 7.0, 10.0, 10.0];
        let (a, b) = (View::new(&a, 2, 3, 4), View::new(&b, 2, 3, 3).t());
        product((&mut y, 3), true, 0.5, a, b);
        assert_eq!(y, [13.5, 14.0, 7.0, 18.0, 18.5 - 0.0]);
        product((&mut y, 3), false, 1.0, a, b);
        assert_eq!(y, [7.0, 8.0, 7.0, 16.0, 17.0]);
    }

    /// Every way, at every remainder of its tiles.
    #[test]
    fn few_rows_or_columns_give_the_plain_product() {
        let numbers = |n: usize| (0..n).map(|i| ((i * i + 3 * i) % 17) as f32 - 8.0).collect::<Vec<f32>>();
        for (rows, cols, inner) in [
            (1, 70, 9),
            (2, 35, 3),
            (3, 17, 20),
            (4, 5, 33),
            (5, 64, 7),
            (16, 3, 8),
            (13, 41, 40),
            (29, 8, 20),
            (31, 16, 9),
        ] {
            let (a_data, b_data) = (numbers(rows * (inner + 1)), numbers(inner * (cols + 2)));
            let a = View::new(&a_data, rows, inner, inner + 1);
            let (b, b_rows) = (View::new(&b_data, inner, cols, cols + 2), View::new(&b_data, cols, inner, inner).t());
            for b in [b, b_rows] {
                for columns_apart in [false, true] {
                    let strides = if columns_apart { [1, rows + 1] } else { [cols + 1, 1] };
                    let mut y = vec![1.0f32; (rows + 1) * (cols + 1)];
                    let target = Target::new(&mut y, [rows, cols], strides);
                    // SAFETY: the strides keep rows and columns apart, and y is used here alone
                    unsafe { product_into(target, true, 2.0, a, b) };
                    let mut expected = vec![1.0f32; y.len()];
                    for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                        let sum: f32 = (0..inner).map(|l| a.at(r, l) * b.at(l, c)).sum();
                        expected[r * strides[0] + c * strides[1]] += 2.0 * sum;
                    }
                    assert_eq!(y, expected, "({rows}, {cols}, {inner})");
                }
            }
        }
    }

    #[test]
    fn an_empty_inner_dimension_gives_zeros() {
        let mut y = [3.0f32; 4];
        product((&mut y, 2), false, 1.0, View::new(&[], 2, 0, 0), View::new(&[], 0, 2, 2));
        assert_eq!(y, [0.0; 4]);
    }
}
