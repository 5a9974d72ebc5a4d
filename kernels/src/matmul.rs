//! Matrix products: plain, with either operand transposed, batched, into a part of a larger matrix.

mod cpu;
mod thin;

use crate::buffer::{ALIGNMENT, Buffer, Dtype, Float};
use crate::device::{Access, Constant, Device, Gpu, Kernel};
use crate::error::{Error, Result};
use std::ops::Range;

const SOURCES: &[&str] = &[include_str!("../../shaders/common/grid.wgsl"), include_str!("../../shaders/matmul.wgsl")];

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
/// Shapes: `a`, `b` as [`Layout`] says with B before, result (B, m, n). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn matmul(a: &Buffer, b: &Buffer, spec: &Matmul) -> Result<Buffer> {
    let mut c = Buffer::uninit(a.device(), OP, a.dtype(), spec.batch * spec.m * spec.n)?;
    matmul_into(&mut c, 0, a, b, spec, false)?;
    Ok(c)
}

/// Writes `op(a) op(b)` to the elements of `c` from `offset` on, or adds it to them. Rows r0.. of a matrix with n
/// columns start at `r0 * n`.
///
/// Shapes: `a`, `b` as [`Layout`] says with B before, the part of `c` (B, m, n). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape` if an operand has another size or `c` ends before the result; `Dtype`, `DeviceMismatch`.
pub fn matmul_into(
    c: &mut Buffer,
    offset: usize,
    a: &Buffer,
    b: &Buffer,
    spec: &Matmul,
    accumulate: bool,
) -> Result<()> {
    let Matmul { batch, m, n, k, .. } = *spec;
    c.device().expect_all(OP, &[a, b])?;
    a.expect_len(OP, "a", batch * m * k)?;
    b.expect_len(OP, "b", batch * k * n)?;
    a.expect_dtype(OP, "a", c.dtype())?;
    b.expect_dtype(OP, "b", c.dtype())?;
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
            let method = method(spec, gpu.small_simd());
            let product = Product { gpu: &gpu, a, b, c, offset, spec, method, limit: gpu.max_binding() };
            product.run(&Piece { batch: 0..batch, m: 0..m, n: 0..n, k: 0..k, accumulate })
        }
    }
}

const OP: &str = "matmul";

/// The ways to compute a product on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Through workgroup memory, 128 x 128 of c per workgroup.
    Tiled128,
    /// Through workgroup memory, 64 x 64 of c per workgroup.
    Tiled64,
    /// In registers, 8 x 64 of c per workgroup of 16.
    Direct,
}

impl Method {
    /// Rows and columns of c per workgroup.
    fn tile(self) -> (usize, usize) {
        match self {
            Method::Tiled128 => (128, 128),
            Method::Tiled64 => (64, 64),
            Method::Direct => (8, 64),
        }
    }

    fn kernel(self, layout: Layout) -> &'static Kernel {
        &KERNELS[self as usize][layout as usize]
    }
}

/// Workgroups that keep a large GPU busy: fewer large tiles than this, and small ones are faster.
const BUSY: usize = 128;

fn method(spec: &Matmul, small_simd: bool) -> Method {
    if small_simd {
        return Method::Direct;
    }
    let tiles = spec.batch * spec.m.div_ceil(128) * spec.n.div_ceil(128);
    if tiles >= BUSY && spec.m > 64 && spec.n > 64 { Method::Tiled128 } else { Method::Tiled64 }
}

const fn constants(a_rows_are_k: f64, b_rows_are_n: f64) -> [Constant; 2] {
    [
        Constant { name: "A_ROWS_ARE_K", wide: a_rows_are_k, small: a_rows_are_k },
        Constant { name: "B_ROWS_ARE_N", wide: b_rows_are_n, small: b_rows_are_n },
    ]
}
const NN: &[Constant] = &constants(0.0, 0.0);
const NT: &[Constant] = &constants(0.0, 1.0);
const TN: &[Constant] = &constants(1.0, 0.0);

const fn kernel(name: &'static str, entry: &'static str, constants: &'static [Constant]) -> Kernel {
    const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write];
    Kernel { name, sources: SOURCES, entry, bindings: BINDINGS, constants, params: size_of::<Params>() }
}

/// By method, then by layout.
pub(crate) static KERNELS: [[Kernel; 3]; 3] = [
    [
        kernel("matmul.tiled_128.nn", "tiled_128", NN),
        kernel("matmul.tiled_128.nt", "tiled_128", NT),
        kernel("matmul.tiled_128.tn", "tiled_128", TN),
    ],
    [
        kernel("matmul.tiled_64.nn", "tiled_64", NN),
        kernel("matmul.tiled_64.nt", "tiled_64", NT),
        kernel("matmul.tiled_64.tn", "tiled_64", TN),
    ],
    [
        kernel("matmul.direct.nn", "direct", NN),
        kernel("matmul.direct.nt", "direct", NT),
        kernel("matmul.direct.tn", "direct", TN),
    ],
];

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    m: u32,
    n: u32,
    k: u32,
    batch: u32,
    lda: u32,
    ldb: u32,
    ldc: u32,
    a_start: u32,
    b_start: u32,
    c_start: u32,
    a_stride: u32,
    b_stride: u32,
    c_stride: u32,
    accumulate: u32,
}

/// A product on a GPU, run in pieces whose operands fit the adapter's bindings.
struct Product<'a> {
    gpu: &'a Gpu,
    a: &'a Buffer,
    b: &'a Buffer,
    c: &'a Buffer,
    offset: usize,
    spec: &'a Matmul,
    method: Method,
    limit: u64,
}

/// Part of the batch, of c, and of the sums.
#[derive(Debug, Clone)]
struct Piece {
    batch: Range<usize>,
    m: Range<usize>,
    n: Range<usize>,
    k: Range<usize>,
    accumulate: bool,
}

/// Elements of an operand a piece touches, from the first to the last, and its row length.
struct Span {
    elements: Range<usize>,
    row: usize,
}

impl Product<'_> {
    fn spans(&self, piece: &Piece) -> [Span; 3] {
        let Matmul { m, n, k, layout, .. } = *self.spec;
        let span = |rows: (&Range<usize>, usize), cols: (&Range<usize>, usize), offset: usize| {
            let (size, row) = (rows.1 * cols.1, cols.1);
            let start = offset + piece.batch.start * size + rows.0.start * row + cols.0.start;
            let last = |r: &Range<usize>| r.end.saturating_sub(1);
            let end = offset + last(&piece.batch) * size + last(rows.0) * row + cols.0.end;
            Span { elements: start..end.max(start), row }
        };
        let (pm, pn, pk) = ((&piece.m, m), (&piece.n, n), (&piece.k, k));
        let a = if layout == Layout::Tn { span(pk, pm, 0) } else { span(pm, pk, 0) };
        let b = if layout == Layout::Nt { span(pn, pk, 0) } else { span(pk, pn, 0) };
        [a, b, span(pm, pn, self.offset)]
    }

    fn run(&self, piece: &Piece) -> Result<()> {
        let spans = self.spans(piece);
        let bytes = |span: &Span| (span.elements.len() * 4) as u64 + ALIGNMENT;
        let Some(long) = spans.iter().position(|span| bytes(span) > self.limit) else {
            return self.dispatch(piece, &spans);
        };
        let (mut first, mut second) = (piece.clone(), piece.clone());
        let halve = |first: &mut Range<usize>, second: &mut Range<usize>| {
            let middle = first.start + first.len() / 2;
            (first.end, second.start) = (middle, middle);
        };
        if piece.batch.len() > 1 {
            halve(&mut first.batch, &mut second.batch);
        } else {
            // along the rows of the operand that is too long
            let (axis, left, right) = match (long, self.spec.layout) {
                (0, Layout::Tn) | (1, Layout::Nn | Layout::Tn) => (&piece.k, &mut first.k, &mut second.k),
                (1, Layout::Nt) => (&piece.n, &mut first.n, &mut second.n),
                _ => (&piece.m, &mut first.m, &mut second.m),
            };
            if axis.len() < 2 {
                return Err(Error::Binding { op: OP, bytes: bytes(&spans[long]), limit: self.limit });
            }
            halve(left, right);
            second.accumulate |= first.k.end < piece.k.end;
        }
        self.run(&first)?;
        self.run(&second)
    }

    fn dispatch(&self, piece: &Piece, spans: &[Span; 3]) -> Result<()> {
        let Matmul { m, n, k, .. } = *self.spec;
        let [a, b, c] = spans;
        let ((a_bind, a_start), (b_bind, b_start), (c_bind, c_start)) = (
            self.a.bind_aligned(a.elements.clone()),
            self.b.bind_aligned(b.elements.clone()),
            self.c.bind_aligned(c.elements.clone()),
        );
        let params = Params {
            m: piece.m.len() as u32,
            n: piece.n.len() as u32,
            k: piece.k.len() as u32,
            batch: piece.batch.len() as u32,
            lda: a.row as u32,
            ldb: b.row as u32,
            ldc: c.row as u32,
            a_start,
            b_start,
            c_start,
            a_stride: (m * k) as u32,
            b_stride: (k * n) as u32,
            c_stride: (m * n) as u32,
            accumulate: piece.accumulate as u32,
        };
        let (rows, cols) = self.method.tile();
        let groups = piece.batch.len() * piece.m.len().div_ceil(rows) * piece.n.len().div_ceil(cols);
        let kernel = self.method.kernel(self.spec.layout);
        self.gpu.run(kernel, &[a_bind, b_bind, c_bind], &params, groups as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{gpu, numbers};

    const LAYOUTS: [Layout; 3] = [Layout::Nn, Layout::Nt, Layout::Tn];

    /// The definition, in f64.
    fn plain(a: &[f64], b: &[f64], spec: &Matmul) -> Vec<f64> {
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

    fn operands(spec: &Matmul) -> (Vec<f64>, Vec<f64>) {
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
            for layout in LAYOUTS {
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
    fn an_empty_sum_is_zero_or_leaves_c() {
        let empty = Buffer::from_slice::<f32>(&Device::Cpu, &[]).unwrap();
        let spec = Matmul::one(Layout::Nt, 2, 2, 0);
        let mut c = Buffer::from_slice(&Device::Cpu, &[1.0f32; 4]).unwrap();
        matmul_into(&mut c, 0, &empty, &empty, &spec, true).unwrap();
        assert_eq!(c.to_vec::<f32>().unwrap(), [1.0; 4]);
        matmul_into(&mut c, 0, &empty, &empty, &spec, false).unwrap();
        assert_eq!(c.to_vec::<f32>().unwrap(), [0.0; 4]);
    }

    /// Every method on whatever adapter is here, in one piece and in as many as a small binding limit makes.
    #[test]
    fn every_gpu_method_is_the_definition_whole_and_in_pieces() {
        let Some((device, gpu)) = gpu("matmul") else { return };
        for method in [Method::Tiled128, Method::Tiled64, Method::Direct] {
            for layout in LAYOUTS {
                for (spec, limit) in [
                    (Matmul { batch: 2, m: 131, n: 67, k: 35, layout }, gpu.max_binding()),
                    (Matmul { batch: 2, m: 23, n: 19, k: 21, layout }, 1024),
                ] {
                    let (a, b) = operands(&spec);
                    let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
                    // one element before and after, as views at odd offsets
                    let padded = |x: &[f64]| [vec![7.0f32], narrow(x), vec![7.0]].concat();
                    let upload = |x: &[f64]| Buffer::from_slice(&device, &padded(x)).unwrap().view(1..x.len() + 1);
                    let expected = plain(&a, &b, &spec);
                    let c = Buffer::from_slice(&device, &vec![1.0f32; expected.len() + 10]).unwrap();
                    let (a, b) = (upload(&a), upload(&b));
                    let Matmul { batch, m, n, k, .. } = spec;
                    let product = Product { gpu: &gpu, a: &a, b: &b, c: &c, offset: 3, spec: &spec, method, limit };
                    for accumulate in [false, true] {
                        product.run(&Piece { batch: 0..batch, m: 0..m, n: 0..n, k: 0..k, accumulate }).unwrap();
                        let found = c.to_vec::<f32>().unwrap();
                        assert!(found[..3].iter().chain(&found[expected.len() + 3..]).all(|&x| x == 1.0));
                        for (i, (found, expected)) in found[3..].iter().zip(&expected).enumerate() {
                            let expected = if accumulate { 2.0 * expected } else { *expected };
                            // 35 products of numbers below one, each sum rounded
                            let error = (*found as f64 - expected).abs();
                            assert!(error < 2e-5, "{method:?} {spec:?} [{i}]: {found} for {expected}");
                        }
                    }
                }
            }
        }
    }
}
