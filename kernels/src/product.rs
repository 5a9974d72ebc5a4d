//! Small matrix products of the CPU twins: one thread, any strides, so that one head of `(T, H, D)` needs no copy.

use crate::real::Real;

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

    fn fits(&self) -> bool {
        let (rows, cols) = (self.rows, self.cols);
        rows == 0 || cols == 0 || (rows - 1) * self.row_stride + (cols - 1) * self.col_stride < self.data.len()
    }
}

/// `y = scale a b`, or `y += scale a b` where `keep` says so; rows of `y` are `stride` apart.
pub(crate) fn product<T: Real>((y, stride): (&mut [T], usize), keep: bool, scale: T, a: View<T>, b: View<T>) {
    let (rows, inner, cols) = (a.rows, a.cols, b.cols);
    assert_eq!(inner, b.rows, "invariant: inner dimensions agree");
    assert!(a.fits() && b.fits() && View::new(y, rows, cols, stride).fits(), "invariant: operands hold their shapes");
    assert!(stride >= cols, "invariant: rows of the result do not overlap");
    // SAFETY: the asserts above keep every element that the three shapes and strides name inside its slice, `y` is
    // borrowed mutably and its rows do not overlap.
    unsafe {
        gemm::gemm(
            rows,
            cols,
            inner,
            y.as_mut_ptr(),
            1,
            stride as isize,
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

    #[test]
    fn an_empty_inner_dimension_gives_zeros() {
        let mut y = [3.0f32; 4];
        product((&mut y, 2), false, 1.0, View::new(&[], 2, 0, 0), View::new(&[], 0, 2, 2));
        assert_eq!(y, [0.0; 4]);
    }
}
