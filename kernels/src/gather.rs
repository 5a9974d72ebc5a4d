//! Rows picked by index.

use crate::buffer::{Buffer, Dtype};
use crate::device::{Access, Device, FOURS, Kernel, ONES, Widths, split_rows};
use crate::elementwise::ELEMENT_WIDTH;
use crate::error::{Error, Result};
use crate::narrow::{BF16, F16};
use crate::profile;
use half::{bf16, f16};

const GRID: &str = include_str!("../../shaders/common/grid.wgsl");
const SHADER: &str = include_str!("../../shaders/gather.wgsl");

pub(crate) static GATHER: Widths = Widths::new(
    Kernel {
        name: "gather.gather",
        sources: &[],
        entry: "gather",
        bindings: &[Access::Read, Access::Read, Access::Write],
        constants: &[ELEMENT_WIDTH],
        params: size_of::<Params>(),
    },
    &[[GRID, ONES, SHADER], [GRID, FOURS, SHADER]],
);

const NARROW: &str = include_str!("../../shaders/gather_narrow.wgsl");

const fn narrow(name: &'static str, sources: &'static [&'static str]) -> Kernel {
    Kernel {
        name,
        sources,
        entry: "gather_narrow",
        bindings: &[Access::Read, Access::Read, Access::Write],
        constants: &[ELEMENT_WIDTH],
        params: size_of::<Params>(),
    }
}

/// For f16 and bf16.
pub(crate) static GATHER_NARROW: [Kernel; 2] =
    [narrow("gather.f16", &[GRID, F16, NARROW]), narrow("gather.bf16", &[GRID, BF16, NARROW])];

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    count: u32,
    cols: u32,
    first: u32,
    rows: u32,
    total: u32,
}

/// `y[t] = x[index[t]]`.
///
/// Shapes: `x` (V, C), `index` (T), `y` (T, C), where C is `cols`. Dtypes: `x` any, `index` u32; `y` as `x`, f32 for f16 and
/// bf16.
/// Errors: `Shape` if `x` is not made of rows of `cols`, or for an index past its last row; on a GPU, where indices
/// cannot be looked at, such a row is NaN.
pub fn rows(x: &Buffer, index: &Buffer, cols: usize) -> Result<Buffer> {
    const OP: &str = "gather_rows";
    let _span = profile::span(OP);
    x.device().expect_all(OP, &[index])?;
    index.expect_dtype(OP, "index", Dtype::U32)?;
    if !x.len().is_multiple_of(cols.max(1)) {
        return Err(Error::shape(OP, format!("{} elements are not rows of {cols}", x.len())));
    }
    let source_rows = x.len() / cols.max(1);
    let wide = if x.dtype().is_half() { Dtype::F32 } else { x.dtype() };
    let mut y = Buffer::uninit(x.device(), OP, wide, index.len() * cols)?;
    match x.device() {
        Device::Cpu => {
            let index = index.as_slice::<u32>();
            if let Some(far) = index.iter().find(|i| **i as usize >= source_rows) {
                return Err(Error::shape(OP, format!("index {far} of {source_rows} rows")));
            }
            match x.dtype() {
                Dtype::F32 => cpu::rows::<f32>(x.as_slice(), index, y.as_mut_slice(), cols),
                Dtype::F64 => cpu::rows::<f64>(x.as_slice(), index, y.as_mut_slice(), cols),
                Dtype::U32 => cpu::rows::<u32>(x.as_slice(), index, y.as_mut_slice(), cols),
                Dtype::F16 => cpu::wide_rows::<f16>(x.as_slice(), index, y.as_mut_slice(), cols),
                Dtype::Bf16 => cpu::wide_rows::<bf16>(x.as_slice(), index, y.as_mut_slice(), cols),
            }
        }
        Device::Gpu(gpu) => {
            let (kernel, width) = match x.dtype() {
                Dtype::F16 => (&GATHER_NARROW[0], 1),
                Dtype::Bf16 => (&GATHER_NARROW[1], 1),
                _ => GATHER.of(cols),
            };
            for t in split_rows(OP, index.len(), &[cols * 4], gpu.max_binding())? {
                for r in split_rows(OP, source_rows, &[cols * 4], gpu.max_binding())? {
                    let params = Params {
                        count: t.len() as u32,
                        cols: cols as u32,
                        first: r.start as u32,
                        rows: r.len() as u32,
                        total: source_rows as u32,
                    };
                    let (from, to) = (r.start * cols..r.end * cols, t.start * cols..t.end * cols);
                    let groups = to.len().div_ceil(width * ELEMENT_WIDTH.on(gpu)) as u64;
                    gpu.run(kernel, &[x.bind(from), index.bind(t.clone()), y.bind(to)], &params, groups)?;
                }
            }
        }
    }
    Ok(y)
}

mod cpu {
    use crate::Element;
    use crate::parallel;

    pub fn wide_rows<H: Element + Into<f32>>(x: &[H], index: &[u32], y: &mut [f32], cols: usize) {
        parallel::rows(cols, y, cols, |t, y| {
            let x = &x[index[t] as usize * cols..][..cols];
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = x.into());
        });
    }

    pub fn rows<T: Element>(x: &[T], index: &[u32], y: &mut [T], cols: usize) {
        parallel::rows(cols, y, cols, |t, y| y.copy_from_slice(&x[index[t] as usize * cols..][..cols]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_picked_in_order_and_far_indices_named() {
        let x = Buffer::from_slice(&Device::Cpu, &[1u32, 2, 3, 4, 5, 6]).unwrap();
        let at = |index: &[u32]| rows(&x, &Buffer::from_slice(&Device::Cpu, index).unwrap(), 2);
        assert_eq!(at(&[2, 0, 2]).unwrap().to_vec::<u32>().unwrap(), [5, 6, 1, 2, 5, 6]);
        assert!(at(&[]).unwrap().is_empty());
        assert_eq!(at(&[3]).unwrap_err().to_string(), "gather_rows: index 3 of 3 rows");
    }
}
