//! Nearest code of a codebook, and what the rows of each code add up to: the two halves of k-means and of codebooks
//! that follow moving averages.

use crate::REDUCE_WIDTH;
use crate::buffer::{Buffer, Dtype, Float};
use crate::device::{Access, Device, Kernel, REDUCE, limit_of_rows, split_rows};
use crate::error::{Error, Result};
use crate::profile;
use crate::segment::{self, Groups};

pub(crate) static NEAREST: Kernel = Kernel {
    name: "quantize.nearest",
    sources: &[
        include_str!("../../shaders/common/grid.wgsl"),
        REDUCE,
        include_str!("../../shaders/common/best.wgsl"),
        include_str!("../../shaders/quantize.wgsl"),
    ],
    entry: "nearest",
    bindings: &[Access::Read, Access::Read, Access::Write, Access::Write],
    constants: &[REDUCE_WIDTH],
    params: size_of::<Params>(),
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    codes: u32,
    first: u32,
}

/// The index of a row that is near no code because it has a NaN.
pub const NO_CODE: u32 = u32::MAX;

/// The code nearest to each row by squared Euclidean distance: returns its index, the lowest on a tie and [`NO_CODE`]
/// for a row with a NaN, and `Σ (x - e)²`, summed over differences so that it is exact where a row is close to its code.
///
/// Shapes: `x` (R, D); `codes` (N, D), N at least 1; index (R) u32, distance (R). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn nearest(x: &Buffer, codes: &Buffer, rows: usize, width: usize) -> Result<(Buffer, Buffer)> {
    const OP: &str = "nearest";
    let _span = profile::span(OP);
    x.device().expect_all(OP, &[codes])?;
    codes.expect_dtype(OP, "codes", x.dtype())?;
    x.expect_len(OP, "x", rows * width)?;
    if width == 0 || !codes.len().is_multiple_of(width) || codes.is_empty() {
        return Err(Error::shape(OP, format!("codes has {} elements: not rows of {width}", codes.len())));
    }
    let mut index = Buffer::uninit(x.device(), OP, Dtype::U32, rows)?;
    let mut distance = Buffer::uninit(x.device(), OP, x.dtype(), rows)?;
    match x.device() {
        Device::Cpu => match x.expect_float(OP, "x")? {
            Float::Single => cpu::nearest::<f32>(x, codes, &mut index, &mut distance, width),
            Float::Double => cpu::nearest::<f64>(x, codes, &mut index, &mut distance, width),
        },
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            // so many codes that a lane's share of them stays within the turns of the adapter's loops
            let most = (gpu.turns() / (width + 2)).saturating_mul(REDUCE_WIDTH.on(gpu));
            let code_limit = limit_of_rows(gpu.max_binding(), most, width * 4);
            for r in split_rows(OP, rows, &[width * 4], gpu.max_binding())? {
                for n in split_rows(OP, codes.len() / width, &[width * 4], code_limit)? {
                    let params = Params {
                        rows: r.len() as u32,
                        width: width as u32,
                        codes: n.len() as u32,
                        first: n.start as u32,
                    };
                    let row = x.bind(r.start * width..r.end * width);
                    let code = codes.bind(n.start * width..n.end * width);
                    let binds = [row, code, index.bind(r.clone()), distance.bind(r.clone())];
                    gpu.run(&NEAREST, &binds, &params, r.len() as u64)?;
                }
            }
        }
    }
    Ok((index, distance))
}

/// The sum of the rows that share an index, zero where there are none, and their number: `(sums, counts)`.
///
/// Shapes: `x` (R, D); `index` R numbers below N; sums (N, D), counts (N) f32. Dtypes: f32; f64 on the CPU.
/// Errors: `Shape` naming the row for an index past N, as [`NO_CODE`] is.
pub fn segment_sum(x: &Buffer, index: &[u32], codes: usize, width: usize) -> Result<(Buffer, Buffer)> {
    let groups = Groups::by_key(index, codes)?;
    Ok((segment::sum(x, &groups, width)?, counts(x.device(), &groups)?))
}

/// As [`segment_sum`] with the mean of the rows.
pub fn segment_mean(x: &Buffer, index: &[u32], codes: usize, width: usize) -> Result<(Buffer, Buffer)> {
    let groups = Groups::by_key(index, codes)?;
    Ok((segment::mean(x, &groups, width)?, counts(x.device(), &groups)?))
}

fn counts(device: &Device, groups: &Groups) -> Result<Buffer> {
    let counts: Vec<f32> = groups.counts().into_iter().map(|n| n as f32).collect();
    Buffer::from_slice(device, &counts)
}

mod cpu {
    use super::{Buffer, NO_CODE};
    use crate::real::{Real, simd};
    use rayon::prelude::*;

    /// Codes whose distances are summed side by side: a loop long enough that the compiler vectorises it.
    const CODES: usize = 128;
    /// Rows of one task, which go through a tile of codes while it is in the cache.
    const ROWS: usize = 64;

    pub fn nearest<T: Real>(x: &Buffer, codes: &Buffer, index: &mut Buffer, distance: &mut Buffer, width: usize) {
        let (x, codes) = (x.as_slice::<T>(), codes.as_slice::<T>());
        let count = codes.len() / width;
        let tiles = tiles(codes, width);
        let out = index.as_mut_slice::<u32>().par_chunks_mut(ROWS);
        let tasks = out.zip(distance.as_mut_slice::<T>().par_chunks_mut(ROWS)).zip(x.par_chunks(ROWS * width));
        tasks.for_each(|((index, distance), x)| {
            simd(
                #[inline(always)]
                || {
                    index.fill(NO_CODE);
                    distance.fill(T::infinity());
                    for (t, tile) in tiles.chunks_exact(CODES * width).enumerate() {
                        let real = CODES.min(count - t * CODES);
                        for (r, x) in x.chunks_exact(width).enumerate() {
                            let sums = distances(x, tile);
                            for (n, &sum) in sums[..real].iter().enumerate() {
                                if sum < distance[r] {
                                    (index[r], distance[r]) = ((t * CODES + n) as u32, sum);
                                }
                            }
                        }
                    }
                },
            )
        });
    }

    /// Codes in groups, each group with its dimensions outermost: (N / CODES, D, CODES), padded with zeros.
    fn tiles<T: Real>(codes: &[T], width: usize) -> Vec<T> {
        let mut tiles = vec![T::zero(); (codes.len() / width).next_multiple_of(CODES) * width];
        for (n, code) in codes.chunks_exact(width).enumerate() {
            let tile = &mut tiles[n / CODES * CODES * width..];
            for (d, &e) in code.iter().enumerate() {
                tile[d * CODES + n % CODES] = e;
            }
        }
        tiles
    }

    /// Squared distances of one row to the codes of a tile, four dimensions at a time.
    #[inline(always)]
    fn distances<T: Real>(x: &[T], tile: &[T]) -> [T; CODES] {
        let mut sums = [T::zero(); CODES];
        let square = |x: T, e: T| (x - e) * (x - e);
        let (fours, rest) = x.as_chunks::<4>();
        let (codes, last) = tile.as_chunks::<CODES>().0.split_at(fours.len() * 4);
        for (x, e) in fours.iter().zip(codes.as_chunks::<4>().0) {
            for n in 0..CODES {
                let low = square(x[0], e[0][n]) + square(x[1], e[1][n]);
                let high = square(x[2], e[2][n]) + square(x[3], e[3][n]);
                sums[n] += low + high;
            }
        }
        for (&x, e) in rest.iter().zip(last) {
            for n in 0..CODES {
                sums[n] += square(x, e[n]);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::numbers;

    #[test]
    fn every_row_finds_the_code_a_plain_search_finds() {
        for (rows, count, width) in [(1, 1, 1), (67, 5, 3), (70, 33, 8), (3, 100, 17)] {
            let (x, e) = (numbers(1, rows * width), numbers(2, count * width));
            let upload = |v: &[f64]| Buffer::from_slice(&Device::Cpu, v).unwrap();
            let (index, distance) = nearest(&upload(&x), &upload(&e), rows, width).unwrap();
            let (index, distance) = (index.to_vec::<u32>().unwrap(), distance.to_vec::<f64>().unwrap());
            for r in 0..rows {
                let apart = |n: usize| (0..width).map(|d| (x[r * width + d] - e[n * width + d]).powi(2)).sum::<f64>();
                let least = (0..count).map(apart).fold(f64::INFINITY, f64::min);
                assert!((distance[r] - least).abs() < 1e-12 && (apart(index[r] as usize) - least).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn ties_go_to_the_lowest_index_and_nan_to_none() {
        let upload = |v: &[f32]| Buffer::from_slice(&Device::Cpu, v).unwrap();
        let codes: Vec<f32> = (0..70).flat_map(|n| [(n % 2) as f32, 1.0]).collect();
        let x = upload(&[1.0, 3.0, 0.5, 1.0, f32::NAN, 0.0]);
        let (index, distance) = nearest(&x, &upload(&codes), 3, 2).unwrap();
        let index = index.to_vec::<u32>().unwrap();
        assert_eq!(index, [1, 0, NO_CODE]);
        assert_eq!(distance.to_vec::<f32>().unwrap()[..2], [4.0, 0.25]);
        let message = segment_sum(&x, &index, 70, 2).unwrap_err().to_string();
        assert_eq!(message, "segments: row 2 has key 4294967295 of 70");
    }

    #[test]
    fn rows_add_up_by_index_with_their_counts() {
        let upload = |v: &[f32]| Buffer::from_slice(&Device::Cpu, v).unwrap();
        let x = upload(&[1.0, 2.0, 3.0, 4.0, 5.0, 7.0]);
        let (sums, counts) = segment_sum(&x, &[2, 0, 2], 3, 2).unwrap();
        assert_eq!(sums.to_vec::<f32>().unwrap(), [3.0, 4.0, 0.0, 0.0, 6.0, 9.0]);
        assert_eq!(counts.to_vec::<f32>().unwrap(), [1.0, 0.0, 2.0]);
        let (means, _) = segment_mean(&x, &[2, 0, 2], 3, 2).unwrap();
        assert_eq!(means.to_vec::<f32>().unwrap(), [3.0, 4.0, 0.0, 0.0, 3.0, 4.5]);
    }
}
