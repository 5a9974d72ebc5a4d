//! A few rows, normalised, with several matrices in one launch of a GPU: the projections of a decoding step.

use super::methods::{Method, with_several};
use super::rule::method;
use super::{Layout, Matmul, Norm, OP};
use crate::buffer::{ALIGNMENT, Buffer, Dtype};
use crate::device::{Access, Gpu, Kernel};
use crate::error::Result;

use Access::{Read, Write};

const EACH_TEXTS: &[[[&str; 8]; 3]; 4] = &with_several(include_str!("../../../shaders/matmul_few_rows_each.wgsl"));
const SWIGLU_TEXTS: &[[[&str; 8]; 3]; 4] = &with_several(concat!(
    include_str!("../../../shaders/common/sigmoid.wgsl"),
    include_str!("../../../shaders/matmul_few_rows_swiglu.wgsl"),
));

const fn each_kernel(name: &'static str, sources: &'static [&'static str]) -> Kernel {
    const BINDINGS: &[Access] = &[Read, Read, Write, Read, Read, Read];
    Kernel { name, sources, entry: "each", bindings: BINDINGS, constants: &[], params: size_of::<EachParams>() }
}

const fn swiglu_kernel(name: &'static str, sources: &'static [&'static str]) -> Kernel {
    const BINDINGS: &[Access] = &[Read, Read, Write, Read, Read];
    Kernel { name, sources, entry: "swiglu", bindings: BINDINGS, constants: &[], params: size_of::<SwigluParams>() }
}

/// The kernels for up to 1, 4, 8 and 16 rows of a workgroup, then for rows of f32, f16 and bf16.
macro_rules! kernels {
    ($kernel:ident, $texts:ident, $name:literal) => {
        [
            kernels!($kernel, $texts, $name, "_1", 0),
            kernels!($kernel, $texts, $name, "_4", 1),
            kernels!($kernel, $texts, $name, "_8", 2),
            kernels!($kernel, $texts, $name, "_16", 3),
        ]
    };
    ($kernel:ident, $texts:ident, $name:literal, $rows:literal, $i:literal) => {
        [
            $kernel(concat!("matmul.", $name, $rows, ".f32"), &$texts[$i][0]),
            $kernel(concat!("matmul.", $name, $rows, ".f16"), &$texts[$i][1]),
            $kernel(concat!("matmul.", $name, $rows, ".bf16"), &$texts[$i][2]),
        ]
    };
}

pub(crate) static EACH: [[Kernel; 3]; 4] = kernels!(each_kernel, EACH_TEXTS, "few_rows_each");
pub(crate) static SWIGLU: [[Kernel; 3]; 4] = kernels!(swiglu_kernel, SWIGLU_TEXTS, "few_rows_swiglu");

/// Matrices of one launch at most.
const MOST: usize = 3;
/// Columns of a workgroup's sums, of one matrix or of both.
const COLS: usize = 4;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct EachParams {
    m: u32,
    k: u32,
    n: [u32; MOST],
    c: [u32; MOST - 1],
    eps: f32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct SwigluParams {
    m: u32,
    k: u32,
    n: u32,
    eps: f32,
}

/// True if products of `m` rows with rows of matrices are made here.
pub fn is_for(gpu: &Gpu, m: usize) -> bool {
    FEW.contains(&method(&Matmul::one(Layout::Nt, m, usize::MAX, 1), gpu.small_simd()))
}

/// `y bᵀ` for each `(b, n)`, `y` the normalised rows of `a`, or none where one launch cannot: sizes are checked.
pub fn each(
    gpu: &Gpu,
    a: &Buffer,
    norm: Norm,
    bs: &[(&Buffer, usize)],
    [m, k]: [usize; 2],
) -> Result<Option<Vec<Buffer>>> {
    match ways(gpu, a, norm, bs, [m, k]) {
        Some(way) if bs.len() <= MOST => by_each(gpu, way, a, norm, bs, [m, k]).map(Some),
        _ => Ok(None),
    }
}

/// `silu(y gateᵀ) (y upᵀ)`, `y` the normalised rows of `a`, or none where one launch cannot: sizes are checked.
pub fn swiglu(
    gpu: &Gpu,
    a: &Buffer,
    norm: Norm,
    weights: [&Buffer; 2],
    [m, n, k]: [usize; 3],
) -> Result<Option<Buffer>> {
    match ways(gpu, a, norm, &weights.map(|w| (w, n)), [m, k]) {
        Some(way) => by_swiglu(gpu, way, a, norm, weights, [m, n, k]).map(Some),
        None => Ok(None),
    }
}

/// Which of the kernels above, by rows and by dtype, multiplies all of these; none if they are not for few rows, or an operand
/// would have to be bound in pieces or within an aligned span.
fn ways(gpu: &Gpu, a: &Buffer, norm: Norm, bs: &[(&Buffer, usize)], [m, k]: [usize; 2]) -> Option<[usize; 2]> {
    let stored = bs.first()?.0.dtype();
    let widest = bs.iter().map(|&(_, n)| n).max()?;
    let way = FEW.iter().position(|&few| few == method(&Matmul::one(Layout::Nt, m, widest, k), gpu.small_simd()))?;
    fits([a, norm.weight], bs, [m, k], gpu).then_some([way, kind(stored)])
}

const FEW: [Method; 4] = [Method::OneRow, Method::FewRows4, Method::FewRows8, Method::FewRows16];

fn kind(stored: Dtype) -> usize {
    match stored {
        Dtype::F16 => 1,
        Dtype::Bf16 => 2,
        _ => 0,
    }
}

fn fits(inputs: [&Buffer; 2], bs: &[(&Buffer, usize)], [m, k]: [usize; 2], gpu: &Gpu) -> bool {
    let stored = bs[0].0.dtype();
    let results: usize = bs.iter().map(|&(_, n)| (m * n).next_multiple_of(ALIGNED)).sum();
    let longest = bs.iter().map(|(b, _)| b.len() * b.dtype().size()).max().unwrap_or(0).max(results * 4);
    bs.iter().all(|(b, _)| b.dtype() == stored && !b.is_empty())
        && inputs.into_iter().chain(bs.iter().map(|&(b, _)| b)).all(|x| x.bind_all().offset.is_multiple_of(ALIGNMENT))
        && (!stored.is_half() || k.is_multiple_of(PACK))
        && longest as u64 <= gpu.max_binding()
        && k <= gpu.turns() / 2
}

/// Elements of a read of two-byte rows.
const PACK: usize = 4;
/// f32 elements between places where a binding may start.
const ALIGNED: usize = ALIGNMENT as usize / 4;

fn by_each(
    gpu: &Gpu,
    way: [usize; 2],
    a: &Buffer,
    norm: Norm,
    bs: &[(&Buffer, usize)],
    [m, k]: [usize; 2],
) -> Result<Vec<Buffer>> {
    // results one after the other in one buffer, each where a binding may start
    let (mut n, mut spans, mut end) = ([0; MOST], vec![], 0);
    for (n, &(_, columns)) in n.iter_mut().zip(bs) {
        *n = columns as u32;
        spans.push(end..end + m * columns);
        end = (end + m * columns).next_multiple_of(ALIGNED);
    }
    let c = Buffer::uninit(a.device(), OP, Dtype::F32, end)?;
    let start = |i: usize| spans.get(i).map_or(0, |span| span.start as u32);
    let params = EachParams { m: m as u32, k: k as u32, n, c: [start(1), start(2)], eps: norm.eps };
    let last = bs[bs.len() - 1].0;
    let b = |i: usize| bs.get(i).map_or(last, |(b, _)| b).bind_all();
    let tiles: usize = bs.iter().map(|(_, n)| n.div_ceil(COLS)).sum();
    let groups = m.div_ceil(FEW[way[0]].tile(16).0) * tiles;
    let binds = [a.bind_all(), b(0), c.bind_all(), b(1), b(2), norm.weight.bind_all()];
    gpu.run(&EACH[way[0]][way[1]], &binds, &params, groups as u64)?;
    Ok(spans.into_iter().map(|span| c.view(span)).collect())
}

fn by_swiglu(
    gpu: &Gpu,
    way: [usize; 2],
    a: &Buffer,
    norm: Norm,
    [gate, up]: [&Buffer; 2],
    [m, n, k]: [usize; 3],
) -> Result<Buffer> {
    let c = Buffer::uninit(a.device(), OP, Dtype::F32, m * n)?;
    let params = SwigluParams { m: m as u32, k: k as u32, n: n as u32, eps: norm.eps };
    let groups = m.div_ceil(FEW[way[0]].tile(16).0) * n.div_ceil(COLS / 2);
    let binds = [a.bind_all(), gate.bind_all(), c.bind_all(), up.bind_all(), norm.weight.bind_all()];
    gpu.run(&SWIGLU[way[0]][way[1]], &binds, &params, groups as u64)?;
    Ok(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{gpu, numbers};
    use crate::matmul::{matmul, normed_matmul_each};
    use crate::narrow::narrowed;
    use crate::{rms_norm, swiglu};

    /// Every way, whatever the adapter would choose, against products one by one.
    #[test]
    fn several_matrices_at_once_are_the_norm_and_one_after_the_other() {
        let Some((device, gpu)) = gpu("few rows with several matrices") else { return };
        let single = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        for (way, ms) in [[1, 3], [4, 5], [7, 8], [16, 19]].into_iter().enumerate() {
            for (kind, dtype) in [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter().enumerate() {
                for (m, k, ns) in [(ms[0], 2100, [9, 5, 4]), (ms[1], 36, [7, 70, 3])] {
                    let a = Buffer::from_slice(&device, &single(numbers(1, m * k))).unwrap();
                    let norm = Norm { weight: &Buffer::from_slice(&device, &single(numbers(2, k))).unwrap(), eps: 0.1 };
                    let normed = rms_norm::forward(&a, norm.weight, m, k, norm.eps).unwrap().y;
                    let weights = |n: usize| narrowed(&device, &single(numbers(n as u64, n * k)), dtype).unwrap();
                    let b = ns.map(weights);
                    let pairs: Vec<(&Buffer, usize)> = b.iter().zip(ns).collect();
                    for pairs in [&pairs[..], &pairs[..2]] {
                        let found = by_each(&gpu, [way, kind], &a, norm, pairs, [m, k]).unwrap();
                        assert_eq!(found.len(), pairs.len());
                        for (found, &(b, n)) in found.iter().zip(pairs) {
                            let expected = matmul(&normed, b, &Matmul::one(Layout::Nt, m, n, k)).unwrap();
                            close(found, &expected, k);
                        }
                    }
                    let (gate, up) = (&b[0], weights(ns[0] + 1).view(0..ns[0] * k));
                    let found = by_swiglu(&gpu, [way, kind], &a, norm, [gate, &up], [m, ns[0], k]).unwrap();
                    let [g, u] =
                        [gate, &up].map(|b| matmul(&normed, b, &Matmul::one(Layout::Nt, m, ns[0], k)).unwrap());
                    close(&found, &swiglu::forward(&g, &u).unwrap(), k);
                }
            }
        }
    }

    fn close(found: &Buffer, expected: &Buffer, k: usize) {
        let (found, expected) = (found.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap());
        let largest = expected.iter().fold(1.0f32, |m, x| m.max(x.abs()));
        for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
            assert!((f - e).abs() <= 1e-6 * (k as f32).sqrt() * largest, "[{i}]: {f} for {e}");
        }
        assert_eq!(found.len(), expected.len());
    }

    #[test]
    fn what_one_launch_cannot_do_is_left_to_several() {
        let Some((device, gpu)) = gpu("few rows with several matrices") else { return };
        let on = |n: usize| Buffer::from_slice(&device, &vec![1.0f32; n]).unwrap();
        let (a, b, table) = (on(8), on(24), on(25));
        let norm = Norm { weight: &a, eps: 0.0 };
        let odd = table.view(1..25);
        let half = narrowed(&device, &[1.0; 24], Dtype::F16).unwrap();
        for (bs, allowed) in [([&b, &b], true), ([&b, &odd], false), ([&b, &half], false)] {
            assert_eq!(fits([&a, &a], &bs.map(|b| (b, 3)), [1, 8], &gpu), allowed);
            let found = normed_matmul_each(&a, norm, &bs.map(|b| (b, 3)), [1, 8]).unwrap();
            assert!(found.iter().all(|c| c.to_vec::<f32>().unwrap() == [8.0; 3]));
        }
        let (six, seven) = (a.view(0..6), a.view(1..8));
        assert!(!fits([&six; 2], &[(&half.view(0..18), 3)], [1, 6], &gpu), "rows of two bytes come in fours");
        assert!(!fits([&seven, &a], &[(&b.view(0..21), 3)], [1, 7], &gpu), "a starts between bindings");
    }
}
