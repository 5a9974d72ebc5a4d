//! Matrix products: plain, with either operand transposed, batched, into a part of a larger matrix.
//!
//! - the CPU twin (`cpu.rs`), and its way with few rows (`thin.rs`)
//! - the GPU's kernels (`methods.rs`), their launches in pieces (`gpu.rs`), and a few rows, normalised, with several matrices in
//!   one launch (`few.rs`); operands rounded to f16 in memory (`rounded.rs`)
//! - which of those kernels, by a rule (`rule.rs`) unless it was measured (`choices.rs`)

mod choices;
mod cpu;
mod few;
mod gpu;
mod methods;
mod rounded;
mod rule;
mod thin;

pub use choices::{Tunable, Way, use_choices};
pub(crate) use few::{EACH, SWIGLU};
pub(crate) use methods::{HALVES, KERNELS, OF_ROUNDED};
pub(crate) use rounded::ROUND;

use crate::buffer::{Buffer, Dtype, Element, Float};
use crate::device::{Device, Gpu};
use crate::error::{Error, Result};
use crate::narrow::Stored;
use crate::profile;
use crate::real::Real;
use crate::{rms_norm, swiglu};
use half::{bf16, f16};

/// Which operand is stored transposed. The names are those of BLAS: c = op(a) op(b).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `a` (m, k), `b` (k, n).
    Nn,
    /// `a` (m, k), `b` (n, k): `c = a bᵀ`.
    Nt,
    /// `a` (k, m), `b` (k, n): `c = aᵀ b`.
    Tn,
}

impl Layout {
    /// All three.
    pub const ALL: [Layout; 3] = [Layout::Nn, Layout::Nt, Layout::Tn];

    /// Its name in lower case, as in those of kernels.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Nn => "nn",
            Layout::Nt => "nt",
            Layout::Tn => "tn",
        }
    }
}

/// Sizes of a product `c (m, n) = op(a) op(b)` over k, for each of `batch` matrices that lie one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matmul {
    /// Matrices in each operand.
    pub batch: usize,
    /// Rows of c.
    pub m: usize,
    /// Columns of c.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// How `a` and `b` are stored.
    pub layout: Layout,
}

impl Matmul {
    /// One product of these sizes.
    pub fn one(layout: Layout, m: usize, n: usize, k: usize) -> Matmul {
        Matmul { batch: 1, m, n, k, layout }
    }
}

/// `op(a) op(b)` for every matrix of the batch.
///
/// Shapes: `a`, `b` as [`Layout`] says with B before, result (B, m, n). Dtypes: f32; f64 on the CPU; `b` of one product
/// `a bᵀ` in f32 may be f16 or bf16.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn matmul(a: &Buffer, b: &Buffer, spec: &Matmul) -> Result<Buffer> {
    if let Device::Gpu(gpu) = a.device() {
        let _span = profile::span(OP);
        check(a, b, spec)?;
        a.expect_dtype(OP, "a", Dtype::F32)?;
        return gpu::product(gpu, a, b, spec);
    }
    let mut c = Buffer::uninit(a.device(), OP, a.dtype(), spec.batch * spec.m * spec.n)?;
    matmul_into(&mut c, 0, a, b, spec, false)?;
    Ok(c)
}

/// Writes `op(a) op(b)` to the elements of `c` from `offset` on, or adds it to them. Rows r0.. of a matrix with n
/// columns start at `r0 * n`.
///
/// Shapes: `a`, `b` as [`Layout`] says with B before, the part of `c` (B, m, n). Dtypes: as of [`matmul`].
/// Errors: `Shape` if an operand has another size or `c` ends before the result; `Dtype`, `DeviceMismatch`.
pub fn matmul_into(
    c: &mut Buffer,
    offset: usize,
    a: &Buffer,
    b: &Buffer,
    spec: &Matmul,
    accumulate: bool,
) -> Result<()> {
    let _span = profile::span(OP);
    let Matmul { batch, m, n, .. } = *spec;
    a.expect_dtype(OP, "a", c.dtype())?;
    check(a, b, spec)?;
    a.device().expect_all(OP, &[c])?;
    if offset + batch * m * n > c.len() {
        let problem = format!("({batch}, {m}, {n}) from element {offset} on ends past c, which has {}", c.len());
        return Err(Error::shape(OP, problem));
    }
    if batch * m * n == 0 {
        return Ok(());
    }
    match c.device().clone() {
        Device::Cpu => {
            let part = offset..offset + batch * m * n;
            match c.expect_float(OP, "c")? {
                Float::Single if b.dtype().is_half() => {
                    let (c, a, sizes) = (&mut c.as_mut_slice()[part], a.as_slice(), [m, n, spec.k]);
                    match b.dtype() {
                        Dtype::F16 => cpu::narrow::<f16>(c, a, b.as_slice(), sizes, accumulate),
                        _ => cpu::narrow::<bf16>(c, a, b.as_slice(), sizes, accumulate),
                    }
                }
                Float::Single => {
                    cpu::matmul::<f32>(&mut c.as_mut_slice()[part], a.as_slice(), b.as_slice(), spec, accumulate)
                }
                Float::Double => {
                    cpu::matmul::<f64>(&mut c.as_mut_slice()[part], a.as_slice(), b.as_slice(), spec, accumulate)
                }
            }
            Ok(())
        }
        Device::Gpu(gpu) => {
            c.expect_dtype(OP, "c", Dtype::F32)?;
            c.make_unique(OP)?;
            gpu::matmul(&gpu, [a, b, c], offset, spec, accumulate)
        }
    }
}

/// `a bᵀ` for several matrices `b`: the projections of one input. On the CPU they share what is made of `a`.
///
/// Shapes: `a` (m, k), each `b` (n, k) with an `n` of its own, results (m, n). Dtypes: as of [`matmul`].
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn matmul_each(a: &Buffer, bs: &[(&Buffer, usize)], [m, k]: [usize; 2]) -> Result<Vec<Buffer>> {
    let specs = || bs.iter().map(|&(_, n)| Matmul::one(Layout::Nt, m, n, k));
    let stored = bs.first().map_or(a.dtype(), |(b, _)| b.dtype());
    let on_cpu = matches!(a.device(), Device::Cpu);
    if on_cpu && !bs.iter().all(|&(b, n)| m <= n && thin::pays(m, n, k) && b.dtype() == stored) {
        return bs.iter().zip(specs()).map(|((b, _), spec)| matmul(a, b, &spec)).collect();
    }
    let _span = profile::span(OP);
    bs.iter().zip(specs()).try_for_each(|((b, _), spec)| check(a, b, &spec))?;
    if let Device::Gpu(gpu) = a.device() {
        a.expect_dtype(OP, "a", Dtype::F32)?;
        return bs.iter().zip(specs()).map(|((b, _), spec)| gpu::product(gpu, a, b, &spec)).collect();
    }
    let room = |&(_, n): &(_, usize)| Buffer::uninit(a.device(), OP, a.dtype(), m * n);
    let mut cs: Vec<Buffer> = bs.iter().map(room).collect::<Result<_>>()?;
    match a.expect_float(OP, "a")? {
        Float::Single => match stored {
            Dtype::F16 => each::<f32, f16>(a, bs, &mut cs, [m, k]),
            Dtype::Bf16 => each::<f32, bf16>(a, bs, &mut cs, [m, k]),
            _ => each::<f32, f32>(a, bs, &mut cs, [m, k]),
        },
        Float::Double => each::<f64, f64>(a, bs, &mut cs, [m, k]),
    }
    Ok(cs)
}

/// A normalisation before a product: `y = x / sqrt(mean(x²) + eps) weight` along rows.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// (k).
    pub weight: &'a Buffer,
    /// Added to the mean.
    pub eps: f32,
}

/// True if products of `rows` normalised rows wait for memory and for launches on this device, so that
/// [`normed_matmul_each`] and [`normed_matmul_swiglu`] are one launch, and a sum is best added up where it is.
pub fn are_few(device: &Device, rows: usize) -> bool {
    match device {
        Device::Cpu => false,
        Device::Gpu(gpu) => few::is_for(gpu, rows),
    }
}

/// `y bᵀ` for several matrices `b`, `y` the normalised rows of `x`.
///
/// Shapes: `x` (m, k), each `b` (n, k) with an `n` of its own, results (m, n). Dtypes: as of [`matmul`].
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
/// Source: [`rms_norm::forward`], then [`matmul_each`].
pub fn normed_matmul_each(x: &Buffer, norm: Norm, bs: &[(&Buffer, usize)], [m, k]: [usize; 2]) -> Result<Vec<Buffer>> {
    if let Some(gpu) = check_normed(x, norm, bs, [m, k])? {
        let _span = profile::span(OP);
        if let Some(cs) = few::each(gpu, x, norm, bs, [m, k])? {
            return Ok(cs);
        }
    }
    matmul_each(&rms_norm::forward(x, norm.weight, m, k, norm.eps)?.y, bs, [m, k])
}

/// `silu(y gateᵀ) (y upᵀ)`, `silu(x) = x / (1 + exp(-x))`, `y` the normalised rows of `x`.
///
/// Shapes: `x` (m, k), `gate` and `up` (n, k), result (m, n). Dtypes: as of [`matmul`].
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
/// Source: [`normed_matmul_each`], then [`swiglu::forward`].
pub fn normed_matmul_swiglu(x: &Buffer, norm: Norm, [gate, up]: [&Buffer; 2], [m, n, k]: [usize; 3]) -> Result<Buffer> {
    let bs = [(gate, n), (up, n)];
    if let Some(gpu) = check_normed(x, norm, &bs, [m, k])? {
        let _span = profile::span(OP);
        if let Some(c) = few::swiglu(gpu, x, norm, [gate, up], [m, n, k])? {
            return Ok(c);
        }
    }
    let products = normed_matmul_each(x, norm, &bs, [m, k])?;
    swiglu::forward(&products[0], &products[1])
}

/// The GPU, if that is where the operands are. Fails unless they have the sizes of products of normalised rows.
fn check_normed<'a>(x: &'a Buffer, norm: Norm, bs: &[(&Buffer, usize)], [m, k]: [usize; 2]) -> Result<Option<&'a Gpu>> {
    bs.iter().try_for_each(|&(b, n)| check(x, b, &Matmul::one(Layout::Nt, m, n, k)))?;
    x.device().expect_all(OP, &[norm.weight])?;
    norm.weight.expect_len(OP, "norm", k)?;
    norm.weight.expect_dtype(OP, "norm", x.dtype())?;
    match x.device() {
        Device::Cpu => Ok(None),
        Device::Gpu(gpu) => x.expect_dtype(OP, "x", Dtype::F32).map(|()| Some(gpu)),
    }
}

fn each<T: Real, W: Stored<T> + Element>(a: &Buffer, bs: &[(&Buffer, usize)], cs: &mut [Buffer], sizes: [usize; 2]) {
    let b_and_c = bs.iter().zip(cs).map(|((b, _), c)| (b.as_slice::<W>(), c.as_mut_slice::<T>()));
    thin::each(a.as_slice(), b_and_c.collect(), sizes, false);
}

const OP: &str = "matmul";

/// Fails unless both operands are of one kind and have the sizes of `spec`.
fn check(a: &Buffer, b: &Buffer, spec: &Matmul) -> Result<()> {
    let Matmul { batch, m, n, k, layout } = *spec;
    a.device().expect_all(OP, &[b])?;
    a.expect_len(OP, "a", batch * m * k)?;
    b.expect_len(OP, "b", batch * k * n)?;
    if b.dtype().is_half() && a.dtype() == Dtype::F32 && layout == Layout::Nt && batch == 1 {
        return Ok(());
    }
    b.expect_dtype(OP, "b", a.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::numbers;

    /// The definition, in f64.
    pub fn plain(a: &[f64], b: &[f64], spec: &Matmul) -> Vec<f64> {
        let Matmul { batch, m, n, k, layout } = *spec;
        let mut c = vec![];
        for t in 0..batch {
            let (a, b) = (&a[t * m * k..], &b[t * k * n..]);
            let at = |i: usize, l: usize| if layout == Layout::Tn { a[l * m + i] } else { a[i * k + l] };
            let bt = |l: usize, j: usize| if layout == Layout::Nt { b[j * k + l] } else { b[l * n + j] };
            for i in 0..m {
                c.extend((0..n).map(|j| (0..k).map(|l| at(i, l) * bt(l, j)).sum::<f64>()));
            }
        }
        c
    }

    /// Operands of these sizes.
    pub fn operands(spec: &Matmul) -> (Vec<f64>, Vec<f64>) {
        (numbers(1, spec.batch * spec.m * spec.k), numbers(2, spec.batch * spec.k * spec.n))
    }

    #[test]
    fn every_layout_is_the_definition() {
        for (batch, m, n, k) in [
            (1, 1, 1, 1),
            (3, 5, 7, 9),
            (2, 1, 33, 17),
            (1, 130, 65, 70),
            (40, 8, 8, 8),
            (1, 200, 150, 600),
            (1, 3, 900, 500),
        ] {
            for layout in Layout::ALL {
                let spec = Matmul { batch, m, n, k, layout };
                let (a, b) = operands(&spec);
                let upload = |x: &[f64]| Buffer::from_slice(&Device::Cpu, x).unwrap();
                let c = matmul(&upload(&a), &upload(&b), &spec).unwrap().to_vec::<f64>().unwrap();
                for (found, expected) in c.iter().zip(plain(&a, &b, &spec)) {
                    assert!((found - expected).abs() < 1e-12, "{spec:?}: {found} for {expected}");
                }
            }
        }
    }

    /// Rows of an operand, or of the result, a multiple of 2048 bytes apart.
    #[test]
    fn rows_that_collide_in_a_cache_give_the_definition() {
        let upload = |x: &[f64]| Buffer::from_slice(&Device::Cpu, x).unwrap();
        for (m, n, k) in [(66, 2052, 768), (70, 5, 256), (16, 256, 70), (40, 768, 256)] {
            let spec = Matmul::one(Layout::Nt, m, n, k);
            let (a, b) = operands(&spec);
            let expected = plain(&a, &b, &spec);
            let (a, b) = (upload(&a), upload(&b));
            let mut c = matmul(&a, &b, &spec).unwrap();
            for factor in [1.0, 2.0] {
                let near = |(found, expected): (&f64, &f64)| (found - factor * expected).abs() < 1e-11;
                assert!(c.as_slice::<f64>().iter().zip(&expected).all(near), "{spec:?}, {factor} times");
                matmul_into(&mut c, 0, &a, &b, &spec, true).unwrap();
            }
        }
    }

    #[test]
    fn writes_its_part_of_c_only_and_accumulates() {
        let upload = |x: &[f64]| Buffer::from_slice(&Device::Cpu, x).unwrap();
        let spec = Matmul::one(Layout::Nn, 1, 2, 2);
        let (a, b) = (upload(&[1.0, 2.0]), upload(&[3.0, 4.0, 5.0, 6.0]));
        let mut c = upload(&[9.0; 5]);
        matmul_into(&mut c, 2, &a, &b, &spec, false).unwrap();
        assert_eq!(c.to_vec::<f64>().unwrap(), [9.0, 9.0, 13.0, 16.0, 9.0]);
        matmul_into(&mut c, 2, &a, &b, &spec, true).unwrap();
        assert_eq!(c.to_vec::<f64>().unwrap(), [9.0, 9.0, 26.0, 32.0, 9.0]);
        let message = matmul_into(&mut c, 4, &a, &b, &spec, true).unwrap_err().to_string();
        assert_eq!(message, "matmul: (1, 1, 2) from element 4 on ends past c, which has 5");
    }

    #[test]
    fn each_is_one_by_one() {
        let upload = |x: &[f64]| Buffer::from_slice(&Device::Cpu, x).unwrap();
        // few rows and many; a right operand too small for the shared way
        for (m, ns, k) in [(7, [64, 130], 65), (40, [64, 130], 65), (40, [768, 800], 257), (7, [64, 5], 65)] {
            let a = upload(&numbers(1, m * k));
            let bs = ns.map(|n| upload(&numbers(n as u64, n * k)));
            let pairs = [(&bs[0], ns[0]), (&bs[1], ns[1])];
            let cs = matmul_each(&a, &pairs, [m, k]).unwrap();
            for ((b, n), c) in pairs.into_iter().zip(cs) {
                let spec = Matmul::one(Layout::Nt, m, n, k);
                let expected = plain(&a.to_vec::<f64>().unwrap(), &b.to_vec::<f64>().unwrap(), &spec);
                let found = c.to_vec::<f64>().unwrap();
                assert!(found.len() == m * n && found.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-12));
            }
            let message = matmul_each(&a, &[(&bs[0], ns[0] + 1)], [m, k]).unwrap_err().to_string();
            assert!(message.starts_with("matmul: b has "), "{message}");
        }
    }

    /// Weights of two bytes: what they are rounded to is what counts, on the CPU and by every method of a GPU.
    #[test]
    fn narrow_weights_are_what_they_were_rounded_to() {
        let gpu = crate::check::gpu("matmul with narrow weights").map(|(device, _)| device);
        for device in std::iter::once(Device::Cpu).chain(gpu) {
            for dtype in [Dtype::F16, Dtype::Bf16] {
                for (m, n, k) in [
                    (1, 67, 200),
                    (3, 130, 64),
                    (7, 64, 65),
                    (16, 70, 2500),
                    (20, 5, 36),
                    (40, 33, 20),
                    (40, 800, 256),
                    (70, 300, 48),
                    (70, 9, 1024),
                ] {
                    let spec = Matmul::one(Layout::Nt, m, n, k);
                    let (a, b) = operands(&spec);
                    let single = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
                    let a_on = Buffer::from_slice(&device, &single(&a)).unwrap();
                    // a row before, as of a slice of a larger table
                    let table = [vec![7.0; k], single(&b)].concat();
                    let weights = crate::narrow::narrowed(&device, &table, dtype).unwrap().view(k..k + n * k);
                    let rounded: Vec<f64> = match dtype {
                        Dtype::F16 => weights.to_vec::<f16>().unwrap().iter().map(|x| x.to_f64()).collect(),
                        _ => weights.to_vec::<bf16>().unwrap().iter().map(|x| x.to_f64()).collect(),
                    };
                    let expected = plain(&a, &rounded, &spec);
                    let whole = matmul(&a_on, &weights, &spec).unwrap();
                    let twice = matmul_each(&a_on, &[(&weights, n), (&weights, n)], [m, k]).unwrap();
                    let mut added = Buffer::from_slice(&device, &vec![1.0f32; m * n + 1]).unwrap();
                    matmul_into(&mut added, 1, &a_on, &weights, &spec, true).unwrap();
                    let added = added.to_vec::<f32>().unwrap();
                    assert_eq!(added[0], 1.0);
                    let added = added[1..].iter().map(|x| x - 1.0).collect();
                    let all = [whole.to_vec::<f32>().unwrap(), twice[1].to_vec().unwrap(), added];
                    for (found, expected) in all.iter().flat_map(|found| found.iter().zip(&expected)) {
                        let error = (*found as f64 - expected).abs();
                        assert!(error < 1e-6 * k.max(20) as f64, "{device} {dtype} {spec:?}: {found} for {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn narrow_weights_are_for_products_with_their_rows() {
        let of = |dtype| crate::narrow::narrowed(&Device::Cpu, &[1.0; 4], dtype).unwrap();
        let refusal = |layout, a, b| matmul(&of(a), &of(b), &Matmul::one(layout, 2, 2, 2)).unwrap_err().to_string();
        assert_eq!(refusal(Layout::Nn, Dtype::F32, Dtype::F16), "matmul: b is f16, expected f32");
        assert!(refusal(Layout::Nt, Dtype::Bf16, Dtype::Bf16).starts_with("matmul: "));
    }

    #[test]
    fn an_empty_sum_is_zero_or_leaves_c() {
        let empty = Buffer::from_slice::<f32>(&Device::Cpu, &[]).unwrap();
        let spec = Matmul::one(Layout::Nt, 2, 2, 0);
        let mut c = Buffer::from_slice(&Device::Cpu, &[1.0f32; 4]).unwrap();
        matmul_into(&mut c, 0, &empty, &empty, &spec, true).unwrap();
        assert_eq!(c.to_vec::<f32>().unwrap(), [1.0; 4]);
        matmul_into(&mut c, 0, &empty, &empty, &spec, false).unwrap();
        assert_eq!(c.to_vec::<f32>().unwrap(), [0.0; 4]);
    }
}
