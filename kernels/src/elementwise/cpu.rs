//! The CPU twins: one pass over the elements, in blocks that threads share.

use crate::parallel;
use crate::real::{self, Real};

#[inline(always)]
fn map1<T: Real>(x: &[T], y: &mut [T], f: impl Fn(T) -> T + Sync + Send) {
    parallel::blocks(
        y,
        #[inline(always)]
        |start, y| {
            for (y, &x) in y.iter_mut().zip(&x[start..]) {
                *y = f(x);
            }
        },
    );
}

#[inline(always)]
fn map2<T: Real>(a: &[T], b: &[T], y: &mut [T], f: impl Fn(T, T) -> T + Sync + Send) {
    parallel::blocks(
        y,
        #[inline(always)]
        |start, y| {
            for ((y, &a), &b) in y.iter_mut().zip(&a[start..]).zip(&b[start..]) {
                *y = f(a, b);
            }
        },
    );
}

pub fn add<T: Real>([a, b]: [&[T]; 2], y: &mut [T], _: T) {
    map2(
        a,
        b,
        y,
        #[inline(always)]
        |a, b| a + b,
    );
}

pub fn sub<T: Real>([a, b]: [&[T]; 2], y: &mut [T], _: T) {
    map2(
        a,
        b,
        y,
        #[inline(always)]
        |a, b| a - b,
    );
}

pub fn mul<T: Real>([a, b]: [&[T]; 2], y: &mut [T], _: T) {
    map2(
        a,
        b,
        y,
        #[inline(always)]
        |a, b| a * b,
    );
}

pub fn scale<T: Real>([x]: [&[T]; 1], y: &mut [T], s: T) {
    map1(
        x,
        y,
        #[inline(always)]
        |x| s * x,
    );
}

pub fn axpy<T: Real>(y: &mut [T], s: T, x: &[T]) {
    parallel::blocks(
        y,
        #[inline(always)]
        |start, y| real::axpy(s, &x[start..], y),
    );
}

pub fn scale_assign<T: Real>(y: &mut [T], s: T) {
    parallel::blocks(
        y,
        #[inline(always)]
        |_, y| {
            for y in y {
                *y *= s;
            }
        },
    );
}

pub fn fill<T: Real>(y: &mut [T], s: T) {
    parallel::blocks(
        y,
        #[inline(always)]
        |_, y| y.fill(s),
    );
}

pub fn add_bias<T: Real>(x: &[T], bias: &[T], y: &mut [T]) {
    let cols = bias.len();
    parallel::rows(
        cols,
        y,
        cols,
        #[inline(always)]
        |r, y| {
            for ((y, &x), &b) in y.iter_mut().zip(&x[r * cols..(r + 1) * cols]).zip(bias) {
                *y = x + b;
            }
        },
    );
}
