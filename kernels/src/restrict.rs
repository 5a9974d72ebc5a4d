//! Bars every token of a row of logits but those on a list: what a grammar leaves to choose from.

use crate::buffer::{Buffer, Dtype};
use crate::device::{Access, Device, Kernel, REDUCE, split_rows};
use crate::error::{Error, Result};
use crate::profile;
use crate::sampling::MASKED;
use crate::{REDUCE_WIDTH, parallel};

pub(crate) static RESTRICT: Kernel = Kernel {
    name: "restrict",
    sources: &[include_str!("../../shaders/common/grid.wgsl"), REDUCE, include_str!("../../shaders/restrict.wgsl")],
    entry: "main",
    bindings: &[Access::Write, Access::Read, Access::Read],
    constants: &[REDUCE_WIDTH],
    params: size_of::<Params>(),
};

/// Columns of a lane: `TURNS` of the shader.
const TURNS: usize = 16;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
}

/// Masks the logits of row r that are not on `allowed[r]`; an empty list allows every token.
///
/// Shapes: `logits` (R, V) in place; `allowed` R lists, each ascending. Dtypes: f32.
/// Errors: `Shape` (also for a list that is not ascending or names a token past the last), `Dtype`.
pub fn restrict(logits: &mut Buffer, allowed: &[&[u32]], cols: usize) -> Result<()> {
    const OP: &str = "restrict";
    let _span = profile::span(OP);
    logits.expect_dtype(OP, "logits", Dtype::F32)?;
    logits.expect_len(OP, "logits", allowed.len() * cols)?;
    for (row, list) in allowed.iter().enumerate() {
        if !list.is_sorted_by(|a, b| a < b) || list.last().is_some_and(|&last| last as usize >= cols) {
            let problem = format!("row {row}: {list:?} is no ascending list of tokens below {cols}");
            return Err(Error::shape(OP, problem));
        }
    }
    if allowed.iter().all(|list| list.is_empty()) {
        return Ok(());
    }
    logits.make_unique(OP)?;
    let device = logits.device().clone();
    match &device {
        Device::Cpu => cpu::restrict(logits.as_mut_slice(), allowed, cols),
        Device::Gpu(gpu) => {
            let mut offsets = vec![0u32];
            offsets.extend(allowed.iter().scan(0, |end, list| {
                *end += list.len() as u32;
                Some(*end)
            }));
            let offsets = Buffer::from_slice(&device, &offsets)?;
            let tokens = Buffer::from_slice(&device, &allowed.concat())?;
            for r in split_rows(OP, allowed.len(), &[cols * 4], gpu.max_binding())? {
                let params = Params { rows: r.len() as u32, cols: cols as u32 };
                let spans = cols.div_ceil(TURNS * REDUCE_WIDTH.on(gpu));
                let row = logits.bind(r.start * cols..r.end * cols);
                gpu.run(
                    &RESTRICT,
                    &[row, offsets.bind(r.start..r.end + 1), tokens.bind_all()],
                    &params,
                    (r.len() * spans) as u64,
                )?;
            }
        }
    }
    Ok(())
}

mod cpu {
    use super::{MASKED, parallel};

    pub fn restrict(logits: &mut [f32], allowed: &[&[u32]], cols: usize) {
        parallel::rows(
            cols,
            logits,
            cols,
            #[inline(always)]
            |r, row| {
                if allowed[r].is_empty() {
                    return;
                }
                let mut next = 0;
                for &token in allowed[r] {
                    row[next..token as usize].fill(MASKED);
                    next = token as usize + 1;
                }
                row[next..].fill(MASKED);
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_tokens_keep_their_logits() {
        let mut logits = Buffer::from_slice(&Device::Cpu, &[1.0f32, 2.0, 3.0].repeat(3)).unwrap();
        restrict(&mut logits, &[&[0, 2], &[], &[1]], 3).unwrap();
        let m = MASKED;
        assert_eq!(logits.to_vec::<f32>().unwrap(), [1.0, m, 3.0, 1.0, 2.0, 3.0, m, 2.0, m]);
    }

    #[test]
    fn lists_that_are_none_are_refused() {
        let mut logits = Buffer::from_slice(&Device::Cpu, &[0.0f32; 3]).unwrap();
        for list in [&[1u32, 1][..], &[2, 0], &[3]] {
            let message = restrict(&mut logits, &[list], 3).unwrap_err().to_string();
            assert_eq!(message, format!("restrict: row 0: {list:?} is no ascending list of tokens below 3"));
        }
    }
}
