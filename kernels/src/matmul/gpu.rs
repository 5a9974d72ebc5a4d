//! Products on a GPU, in pieces that fit its bindings.

use super::methods::Method;
use super::rule::{best_method, slices};
use super::{Layout, Matmul, OP, rounded};
use crate::buffer::{ALIGNMENT, Buffer, Dtype};
use crate::device::Gpu;
use crate::error::{Error, Result};
use crate::reduce;
use std::ops::Range;

/// `op(a) op(b)` to c from element `offset` on; sizes are checked, c is held alone.
pub fn matmul(gpu: &Gpu, [a, b, c]: [&Buffer; 3], offset: usize, spec: &Matmul, accumulate: bool) -> Result<()> {
    let method = best_method(gpu, spec, b.dtype());
    match slice_length(gpu, spec, method).filter(|_| !accumulate) {
        Some(length) => {
            let found = in_slices(gpu, a, b, spec, method, length)?;
            let (from, to) = (found.bind_all(), c.bind(offset..offset + found.len()));
            gpu.copy(OP, from.memory, from.offset, to.memory, to.offset, from.bytes)
        }
        None => whole(gpu, [a, b, c], offset, spec, method, accumulate),
    }
}

/// `op(a) op(b)`; sizes are checked.
pub fn product(gpu: &Gpu, a: &Buffer, b: &Buffer, spec: &Matmul) -> Result<Buffer> {
    by_method(gpu, a, b, spec, best_method(gpu, spec, b.dtype()))
}

/// [`product`] by this method.
pub(super) fn by_method(gpu: &Gpu, a: &Buffer, b: &Buffer, spec: &Matmul, method: Method) -> Result<Buffer> {
    if let Some(length) = slice_length(gpu, spec, method) {
        return in_slices(gpu, a, b, spec, method, length);
    }
    let c = Buffer::uninit(a.device(), OP, Dtype::F32, spec.batch * spec.m * spec.n)?;
    if !c.is_empty() {
        whole(gpu, [a, b, &c], 0, spec, method, false)?;
    }
    Ok(c)
}

/// Terms of each slice, if there are too few sums to keep the GPU busy unless they are made in slices.
fn slice_length(gpu: &Gpu, spec: &Matmul, method: Method) -> Option<usize> {
    let slices = slices(spec, method, gpu.max_binding());
    (slices > 1).then(|| spec.k.div_ceil(slices).next_multiple_of(32))
}

/// `op(a) op(b)` by this method to c from element `offset` on.
pub(super) fn whole(
    gpu: &Gpu,
    [a, b, c]: [&Buffer; 3],
    offset: usize,
    spec: &Matmul,
    method: Method,
    accumulate: bool,
) -> Result<()> {
    let run = |a, b, spec: &Matmul| {
        let Matmul { batch, m, n, k, .. } = *spec;
        let product = Product { gpu, a, b, c, offset, spec, method, limit: gpu.max_binding() };
        product.run(&Piece { batch: 0..batch, m: 0..m, n: 0..n, k: 0..k, accumulate })
    };
    if method != Method::CooperativeRounded {
        return run(a, b, spec);
    }
    let [a, b] = rounded::operands(gpu, a, b, spec)?;
    run(&a, &b, &Matmul { layout: Layout::Tn, ..*spec })
}

/// A single product whose sums are made in slices of `length` terms, which are then added up in order.
fn in_slices(gpu: &Gpu, a: &Buffer, b: &Buffer, spec: &Matmul, method: Method, length: usize) -> Result<Buffer> {
    let Matmul { m, n, k, layout, .. } = *spec;
    let slices = k.div_ceil(length);
    let partial = Buffer::uninit(a.device(), OP, Dtype::F32, slices * m * n)?;
    let product = Product { gpu, a, b, c: &partial, offset: 0, spec, method, limit: gpu.max_binding() };
    let whole = Piece { batch: 0..1, m: 0..m, n: 0..n, k: 0..k, accumulate: false };
    let mut spans = product.spans(&whole);
    spans[2].elements.end = partial.len();
    let strides = [
        if layout == Layout::Tn { length * m } else { length },
        if layout == Layout::Nt { length } else { length * n },
        m * n,
    ];
    product.dispatch(&whole, &spans, Terms { matrices: slices, length, strides })?;
    reduce::column_sum(&partial, slices, m * n)
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Params {
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
    sum_k: u32,
}

impl Params {
    /// True if every row of a and b, stored along the sums, starts and ends at a multiple of four elements.
    fn in_fours(&self) -> bool {
        [self.a_start, self.b_start, self.a_stride, self.b_stride, self.lda, self.ldb, self.k]
            .iter()
            .all(|x| x % 4 == 0)
    }

    /// True if every row of a and b starts at a multiple of eight elements, and every sum along a row ends at one.
    fn in_eights(&self, layout: Layout) -> bool {
        let starts = [self.a_start, self.b_start, self.a_stride, self.b_stride, self.lda, self.ldb];
        let sums = if layout == Layout::Tn { [0, 0] } else { [self.k, self.sum_k] };
        starts.iter().chain(&sums).all(|x| x % 8 == 0)
    }
}

/// A product on a GPU, run in pieces whose operands fit the adapter's bindings and whose sums its loops.
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

/// The matrices of one dispatch: those of a batch, or slices of the sums of one product.
struct Terms {
    matrices: usize,
    /// Terms of each sum; the last slice may have fewer.
    length: usize,
    /// Elements from one matrix to the next in a, b and c.
    strides: [usize; 3],
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
        // as if b were f32 too: pieces of weights in two bytes are half as large as they might be
        let bytes = |span: &Span| (span.elements.len() * 4) as u64 + ALIGNMENT;
        let too_long = spans.iter().position(|span| bytes(span) > self.limit);
        // every method takes about a turn for a term, at most
        let endless = piece.k.len() > self.gpu.turns() / 2;
        if too_long.is_none() && !endless {
            let Matmul { m, n, k, .. } = *self.spec;
            let strides = [m * k, k * n, m * n];
            return self.dispatch(piece, &spans, Terms { matrices: piece.batch.len(), length: piece.k.len(), strides });
        }
        let (mut first, mut second) = (piece.clone(), piece.clone());
        let halve = |first: &mut Range<usize>, second: &mut Range<usize>| {
            let middle = first.start + first.len() / 2;
            (first.end, second.start) = (middle, middle);
        };
        if piece.batch.len() > 1 {
            halve(&mut first.batch, &mut second.batch);
        } else {
            // along the sums, or the rows of the operand that is too long
            let (axis, left, right) = match (too_long, self.spec.layout) {
                (None, _) | (Some(0), Layout::Tn) | (Some(1), Layout::Nn | Layout::Tn) => {
                    (&piece.k, &mut first.k, &mut second.k)
                }
                (Some(1), Layout::Nt) => (&piece.n, &mut first.n, &mut second.n),
                _ => (&piece.m, &mut first.m, &mut second.m),
            };
            if let Some(long) = too_long.filter(|_| axis.len() < 2) {
                return Err(Error::Binding { op: OP, bytes: bytes(&spans[long]), limit: self.limit });
            }
            halve(left, right);
            second.accumulate |= first.k.end < piece.k.end;
        }
        self.run(&first)?;
        self.run(&second)
    }

    fn dispatch(&self, piece: &Piece, spans: &[Span; 3], terms: Terms) -> Result<()> {
        let [a, b, c] = spans;
        let (a_bind, a_start) = self.a.bind_aligned(a.elements.clone());
        let (b_bind, b_start) = self.b.bind_aligned(b.elements.clone());
        let (c_bind, c_start) = self.c.bind_aligned(c.elements.clone());
        let [a_stride, b_stride, c_stride] = terms.strides.map(|s| s as u32);
        // the terms of all matrices of a batch: each then has its own length
        let all = if piece.batch.len() == 1 { piece.k.len() } else { terms.matrices * terms.length };
        let params = Params {
            m: piece.m.len() as u32,
            n: piece.n.len() as u32,
            k: terms.length as u32,
            batch: terms.matrices as u32,
            lda: a.row as u32,
            ldb: b.row as u32,
            ldc: c.row as u32,
            a_start,
            b_start,
            c_start,
            a_stride,
            b_stride,
            c_stride,
            sum_k: all as u32,
        };
        let method = match self.method {
            // a view or a piece that starts within an eight
            method if method.cooperates() && !params.in_eights(self.spec.layout) => Method::Tiled64,
            method if self.b.dtype().is_half() && method.reads_packs() && !params.in_fours() => Method::Tiled64,
            method => method,
        };
        let (rows, cols) = method.tile(self.gpu.matrix_side());
        let groups = terms.matrices * piece.m.len().div_ceil(rows) * piece.n.len().div_ceil(cols);
        let kernel = method.kernel(self.spec.layout, self.b.dtype(), piece.accumulate);
        self.gpu.run(kernel, &[a_bind, b_bind, c_bind], &params, groups as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{operands, plain};
    use super::*;
    use crate::check::{gpu, gpu_with_matrices};
    use crate::matmul::rule::{KINDS, ON_MATRICES, matrices, rounds};
    use crate::narrow::narrowed;

    use Method::*;
    const METHODS: [Method; 8] = [Tiled128, Tiled64, Direct, DirectFew, OneRow, FewRows4, FewRows8, FewRows16];

    /// Every method on whatever adapter is here, in one piece and in as many as a small binding limit makes.
    #[test]
    fn every_gpu_method_is_the_definition_whole_and_in_pieces() {
        let Some((device, gpu)) = gpu("matmul") else { return };
        for method in METHODS {
            for layout in Layout::ALL {
                for (spec, limit) in [
                    (Matmul { batch: 2, m: 131, n: 67, k: 35, layout }, gpu.max_binding()),
                    (Matmul { batch: 2, m: 23, n: 19, k: 21, layout }, 1024),
                    // whole steps of every way along k, and a rest
                    (Matmul { batch: 2, m: 5, n: 7, k: 1201, layout }, gpu.max_binding()),
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
                            // k products of numbers below one, each sum rounded: the error grows as √k √k
                            let error = (*found as f64 - expected).abs();
                            assert!(
                                error < 2e-5 / 35.0 * k.max(35) as f64,
                                "{method:?} {spec:?} [{i}]: {found} for {expected}"
                            );
                        }
                    }
                }
            }
        }
    }

    /// Rounded to f16 first, so that only the order of the f32 sums differs; edges, batches, pieces and odd views included.
    #[test]
    fn matrix_units_are_the_definition() {
        let Some((device, gpu)) = gpu_with_matrices("matmul on matrix units") else { return };
        for method in ON_MATRICES {
            for (layout, stored) in KINDS {
                for (spec, limit, view) in [
                    (Matmul { batch: 2, m: 136, n: 72, k: 40, layout }, gpu.max_binding(), 8),
                    (Matmul { batch: 1, m: 136, n: 264, k: 72, layout }, gpu.max_binding(), 8),
                    (Matmul { batch: 1, m: 24, n: 40, k: 56, layout }, gpu.max_binding(), 1),
                    (Matmul { batch: 1, m: 48, n: 56, k: 64, layout }, 8192, 0),
                ] {
                    let half = |x: &f64| half::f16::from_f64(*x).to_f64();
                    // of what f16 has, what bf16 has too
                    let of_b = |x: &f64| if stored == Dtype::Bf16 { (x * 128.0).round() / 128.0 } else { half(x) };
                    let (a, b) = operands(&spec);
                    let (a, b): (Vec<f64>, Vec<f64>) = (a.iter().map(half).collect(), b.iter().map(of_b).collect());
                    let expected = plain(&a, &b, &spec);
                    let upload = |x: &[f64], stored| {
                        let padded = (0..view).map(|_| 7.0).chain(x.iter().map(|&x| x as f32)).collect::<Vec<f32>>();
                        narrowed(&device, &padded, stored).unwrap().view(view..x.len() + view)
                    };
                    let (a, b) = (upload(&a, Dtype::F32), upload(&b, stored));
                    let c = Buffer::from_slice(&device, &vec![1.0f32; expected.len()]).unwrap();
                    let Matmul { batch, m, n, k, .. } = spec;
                    let product = Product { gpu: &gpu, a: &a, b: &b, c: &c, offset: 0, spec: &spec, method, limit };
                    for accumulate in [false, true] {
                        product.run(&Piece { batch: 0..batch, m: 0..m, n: 0..n, k: 0..k, accumulate }).unwrap();
                        for (i, (found, expected)) in c.to_vec::<f32>().unwrap().iter().zip(&expected).enumerate() {
                            let expected = if accumulate { 2.0 * expected } else { *expected };
                            let error = (*found as f64 - expected).abs();
                            assert!(error < 4e-5, "{method:?} {spec:?} [{i}]: {found} for {expected}");
                        }
                    }
                }
            }
        }
        assert!(matrices(&gpu).is_some());
    }

    /// In every layout, at edges of tiles, behind the start of c, for views and with accumulation.
    #[test]
    fn operands_rounded_in_memory_give_the_same() {
        let Some((device, gpu)) = gpu_with_matrices("matmul of rounded operands") else { return };
        for (layout, [m, n, k]) in Layout::ALL.into_iter().zip([[136, 72, 40], [40, 264, 136], [200, 16, 80]]) {
            let spec = Matmul::one(layout, m, n, k);
            let (a, b) = operands(&spec);
            let upload = |x: &[f64]| {
                let padded: Vec<f32> = [7.0; 3].into_iter().chain(x.iter().map(|&x| x as f32)).collect();
                Buffer::from_slice(&device, &padded).unwrap().view(3..x.len() + 3)
            };
            let round = |x: &[f64]| x.iter().map(|&x| half::f16::from_f64(x).to_f64()).collect::<Vec<_>>();
            let expected = plain(&round(&a), &round(&b), &spec);
            let (a, b) = (upload(&a), upload(&b));
            let c = Buffer::from_slice(&device, &vec![1.0f32; expected.len() + 5]).unwrap();
            for accumulate in [false, true] {
                assert!(rounds(&gpu, &spec, Dtype::F32));
                whole(&gpu, [&a, &b, &c], 5, &spec, Method::CooperativeRounded, accumulate).unwrap();
                let found = c.to_vec::<f32>().unwrap();
                assert_eq!(found[..5], [1.0; 5]);
                for (i, (found, expected)) in found[5..].iter().zip(&expected).enumerate() {
                    let expected = if accumulate { 2.0 * expected } else { *expected };
                    let error = (*found as f64 - expected).abs();
                    assert!(error < 4e-5, "{spec:?} [{i}]: {found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn sums_in_slices_are_the_definition() {
        let Some((device, gpu)) = gpu("matmul") else { return };
        for layout in Layout::ALL {
            let spec = Matmul::one(layout, 5, 9, 70);
            let (a, b) = operands(&spec);
            let expected = plain(&a, &b, &spec);
            let upload = |x: &[f64]| {
                let x: Vec<f32> = x.iter().map(|&x| x as f32).collect();
                Buffer::from_slice(&device, &x).unwrap()
            };
            // the last slice is shorter
            let c = in_slices(&gpu, &upload(&a), &upload(&b), &spec, Method::Tiled64, 32).unwrap();
            for (found, expected) in c.to_vec::<f32>().unwrap().iter().zip(&expected) {
                assert!((*found as f64 - expected).abs() < 1e-5, "{layout:?}: {found} for {expected}");
            }
        }
    }
}
