//! Nearest code of a codebook.

use crate::REDUCE_WIDTH;
use crate::buffer::{Buffer, Dtype, Float};
use crate::device::{Access, Device, Kernel, split_rows};
use crate::error::{Error, Result};

pub(crate) static NEAREST: Kernel = Kernel {
    name: "quantize.nearest",
    sources: &[
        include_str!("../../shaders/common/grid.wgsl"),
        include_str!("../../shaders/common/reduce.wgsl"),
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

/// The code nearest to each row.
#[derive(Debug, Clone)]
pub struct Nearest {
    /// Its index, the lowest on a tie (R) u32; [`NO_CODE`] for a row with a NaN.
    pub index: Buffer,
    /// `Σ (x - e)²` (R), summed over differences, so that it is exact where a row is close to its code.
    pub distance: Buffer,
}

/// The code nearest to each row by squared Euclidean distance.
///
/// Shapes: `x` (R, D); `codes` (N, D), N at least 1; results (R), where D is `width`. Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn nearest(x: &Buffer, codes: &Buffer, width: usize) -> Result<Nearest> {
    const OP: &str = "nearest";
    x.device().expect_all(OP, &[codes])?;
    codes.expect_dtype(OP, "codes", x.dtype())?;
    if width == 0 || x.len() % width != 0 || codes.len() % width != 0 || codes.is_empty() {
        let problem = format!("x has {} elements, codes {}: both must be rows of {width}", x.len(), codes.len());
        return Err(Error::shape(OP, problem));
    }
    let rows = x.len() / width;
    let mut index = Buffer::uninit(x.device(), OP, Dtype::U32, rows)?;
    let mut distance = Buffer::uninit(x.device(), OP, x.dtype(), rows)?;
    match x.device() {
        Device::Cpu => match x.expect_float(OP, "x")? {
            Float::Single => cpu::nearest::<f32>(x, codes, &mut index, &mut distance, width),
            Float::Double => cpu::nearest::<f64>(x, codes, &mut index, &mut distance, width),
        },
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            for r in split_rows(OP, rows, &[width * 4], gpu.max_binding())? {
                for n in split_rows(OP, codes.len() / width, &[width * 4], gpu.max_binding())? {
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
    Ok(Nearest { index, distance })
}

mod cpu {
    use super::{Buffer, NO_CODE};
    use crate::real::{Real, simd};
    use rayon::prelude::*;

    /// Codes and rows whose distances are summed side by side in registers.
    const CODES: usize = 32;
    const ROWS: usize = 4;
    /// Rows of one task.
    const TASK: usize = 64;

    pub fn nearest<T: Real>(x: &Buffer, codes: &Buffer, index: &mut Buffer, distance: &mut Buffer, width: usize) {
        let (x, codes) = (x.as_slice::<T>(), codes.as_slice::<T>());
        let count = codes.len() / width;
        let tiles = tiles(codes, width);
        let out = index.as_mut_slice::<u32>().par_chunks_mut(TASK);
        let tasks = out.zip(distance.as_mut_slice::<T>().par_chunks_mut(TASK)).zip(x.par_chunks(TASK * width));
        tasks.for_each(|((index, distance), x)| {
            simd(
                #[inline(always)]
                || {
                    for r in (0..index.len()).step_by(ROWS) {
                        let n = ROWS.min(index.len() - r);
                        // short groups repeat their last row
                        let rows: [&[T]; ROWS] = std::array::from_fn(|i| &x[(r + i.min(n - 1)) * width..][..width]);
                        let best = nearest_of(rows, &tiles, count, width);
                        for (i, (code, apart)) in best.into_iter().enumerate().take(n) {
                            (index[r + i], distance[r + i]) = (code, apart);
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

    #[inline(always)]
    fn nearest_of<T: Real>(rows: [&[T]; ROWS], tiles: &[T], count: usize, width: usize) -> [(u32, T); ROWS] {
        let mut best = [(NO_CODE, T::infinity()); ROWS];
        for (t, tile) in tiles.chunks_exact(CODES * width).enumerate() {
            let mut sums = [[T::zero(); CODES]; ROWS];
            for (d, e) in tile.chunks_exact(CODES).enumerate() {
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let x = row[d];
                    for (sum, &e) in sums.iter_mut().zip(e) {
                        let apart = x - e;
                        *sum += apart * apart;
                    }
                }
            }
            let real = CODES.min(count - t * CODES);
            for (best, sums) in best.iter_mut().zip(&sums) {
                for (n, &sum) in sums[..real].iter().enumerate() {
                    if sum < best.1 {
                        *best = ((t * CODES + n) as u32, sum);
                    }
                }
            }
        }
        best
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
            let found = nearest(&upload(&x), &upload(&e), width).unwrap();
            let (index, distance) = (found.index.to_vec::<u32>().unwrap(), found.distance.to_vec::<f64>().unwrap());
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
        let found = nearest(&upload(&[1.0, 3.0, 0.5, 1.0, f32::NAN, 0.0]), &upload(&codes), 2).unwrap();
        assert_eq!(found.index.to_vec::<u32>().unwrap(), [1, 0, NO_CODE]);
        assert_eq!(found.distance.to_vec::<f32>().unwrap()[..2], [4.0, 0.25]);
    }
}
