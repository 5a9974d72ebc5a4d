//! Which way a product on a GPU goes, if none was measured to be better (`choices.rs`), and what matrix units are trusted with.

use super::choices::chosen;
use super::gpu::whole;
use super::methods::Method;
use super::{Layout, Matmul, OP, rounded};
use crate::buffer::{ALIGNMENT, Buffer, Dtype};
use crate::device::{Device, Gpu, Matrices};
use crate::error::Result;
use crate::narrow::narrowed;

/// Workgroups that keep a large GPU busy: with fewer large tiles than this, smaller ones are faster.
const BUSY: usize = 128;
/// Rows up to which tiles of 64 rows would be half empty.
const HALF: usize = 32;
/// Products of a slice of a sum at least; half as many in a single row of tiles.
const SLICE: usize = 256;

/// The method that was measured to be best for an operand b of this dtype, or else the one the rule takes.
pub(super) fn best_method(gpu: &Gpu, spec: &Matmul, b: Dtype) -> Method {
    chosen(gpu, spec, b).unwrap_or_else(|| by_rule(gpu, spec, b))
}

/// The method for these sizes and an operand b of this dtype, matrix units considered.
pub(super) fn by_rule(gpu: &Gpu, spec: &Matmul, b: Dtype) -> Method {
    let Matmul { batch, m, n, .. } = *spec;
    let plain = method(spec, gpu.small_simd());
    // few rows wait for memory, not for products
    if plain.reads_packs() || !whole_eights(spec) {
        return plain;
    }
    let Some(matrices) = matrices(gpu) else { return plain };
    if rounded::pays(spec) && rounds(gpu, spec, b) {
        return Method::CooperativeRounded;
    }
    let side = matrices.side as usize;
    if batch == 1 && m <= Method::CooperativeLow.tile(side).0 {
        return Method::CooperativeLow;
    }
    let (rows, cols) = Method::Cooperative4.tile(side);
    match batch * m.div_ceil(rows) * n.div_ceil(cols) >= 4 * BUSY {
        true => Method::Cooperative4,
        false => Method::Cooperative8,
    }
}

/// The matrix units, if they compute products right.
pub(super) fn matrices(gpu: &Gpu) -> Option<Matrices> {
    gpu.matrices_for(OP, |_| matrices_work(gpu, &KINDS, &ON_MATRICES))
}

/// Whether operands can be rounded in memory, an operand b of this dtype, and such products are right.
pub(super) fn rounds(gpu: &Gpu, spec: &Matmul, b: Dtype) -> bool {
    let kinds = Layout::ALL.map(|layout| (layout, Dtype::F32));
    let work = |_| matrices_work(gpu, &kinds, &[Method::CooperativeRounded]);
    rounded::possible(spec, b, gpu.max_binding()) && gpu.matrices_for("matmul of rounded operands", work).is_some()
}

/// How operands b may lie, and in what.
pub(super) const KINDS: [(Layout, Dtype); 5] = [
    (Layout::Nn, Dtype::F32),
    (Layout::Nt, Dtype::F32),
    (Layout::Tn, Dtype::F32),
    (Layout::Nt, Dtype::F16),
    (Layout::Nt, Dtype::Bf16),
];
/// The methods that take all of them.
pub(super) const ON_MATRICES: [Method; 3] = [Method::Cooperative4, Method::Cooperative8, Method::CooperativeLow];

/// Whether matrix units agree with the plain kernels on products of small integers, which are exact in both.
fn matrices_work(gpu: &Gpu, kinds: &[(Layout, Dtype)], methods: &[Method]) -> bool {
    let device = Device::Gpu(gpu.clone());
    let integers = |n: usize, step: usize| (0..n).map(|i| (i * step % 17) as f32 - 8.0).collect::<Vec<f32>>();
    let agrees = |&(layout, stored): &(Layout, Dtype)| -> Result<bool> {
        let (m, n, k) = (40, 72, 48);
        let spec = Matmul::one(layout, m, n, k);
        let (a, b) =
            (Buffer::from_slice(&device, &integers(m * k, 5))?, narrowed(&device, &integers(k * n, 7), stored)?);
        let by = |method| {
            let c = Buffer::zeros(&device, OP, Dtype::F32, m * n)?;
            whole(gpu, [&a, &b, &c], 0, &spec, method, false)?;
            c.to_vec::<f32>()
        };
        let expected = by(Method::Tiled64)?;
        methods.iter().try_fold(true, |all, &method| Ok(all && expected == by(method)?))
    };
    kinds.iter().all(|kind| agrees(kind).unwrap_or(false))
}

/// The method in f32.
pub(super) fn method(spec: &Matmul, small_simd: bool) -> Method {
    let Matmul { batch, m, n, layout, .. } = *spec;
    if small_simd {
        if m <= Method::Direct.tile(16).0 / 2 { Method::DirectFew } else { Method::Direct }
    } else if layout == Layout::Nt && m <= HALF {
        match m {
            ..=1 => Method::OneRow,
            2..=4 => Method::FewRows4,
            5..=8 => Method::FewRows8,
            _ => Method::FewRows16,
        }
    } else if m > 64 && n > 64 && batch * m.div_ceil(128) * n.div_ceil(128) >= BUSY {
        Method::Tiled128
    } else {
        Method::Tiled64
    }
}

/// True if all rows of a and b start at multiples of eight elements.
pub(super) fn whole_eights(spec: &Matmul) -> bool {
    let Matmul { m, n, k, layout, .. } = *spec;
    let (a_row, b_row) = (if layout == Layout::Tn { m } else { k }, if layout == Layout::Nt { k } else { n });
    a_row % 8 == 0 && b_row % 8 == 0
}

/// In how many slices the sums of a product with few results are made side by side, as those of weight gradients are.
pub(super) fn slices(spec: &Matmul, method: Method, limit: u64) -> usize {
    let Matmul { batch, m, n, k, .. } = *spec;
    let (rows, cols) = method.tile(16);
    let tiles = m.div_ceil(rows) * n.div_ceil(cols);
    if batch != 1 || tiles == 0 || !matches!(method, Method::Tiled64 | Method::Cooperative8 | Method::CooperativeLow) {
        return 1;
    }
    // one row of tiles is the product of a decoding step, which waits for memory: shorter slices wait side by side
    let (groups, shortest) = if m <= 64 { (4 * BUSY, SLICE / 2) } else { (2 * BUSY, SLICE) };
    let slices = (groups / tiles).min(k / shortest);
    let longest = (m * k).max(k * n).max(slices * m * n);
    if (longest * 4) as u64 + ALIGNMENT > limit { 1 } else { slices.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_results_of_long_sums_are_sliced_and_nothing_else_is() {
        let one = |m, n, k| Matmul::one(Layout::Tn, m, n, k);
        let slices = |spec: &Matmul, small, limit| slices(spec, method(spec, small), limit);
        assert_eq!(slices(&one(256, 768, 2048), false, 1 << 30), 5);
        assert_eq!(slices(&one(256, 256, 1 << 20), false, 1 << 31), 16);
        assert_eq!(slices(&one(4096, 4096, 2048), false, 1 << 31), 1);
        assert_eq!(slices(&one(256, 256, 256), false, 1 << 30), 1);
        assert_eq!(slices(&one(256, 768, 2048), true, 1 << 30), 1);
        // one row of tiles
        assert_eq!(slices(&Matmul::one(Layout::Nt, 64, 3072, 1024), false, 1 << 30), 8);
        assert_eq!(slices(&Matmul::one(Layout::Nt, 64, 6144, 2048), false, 1 << 30), 5);
        assert_eq!(slices(&Matmul::one(Layout::Nt, 64, 151_936, 1024), false, 1 << 30), 1);
        // an operand past the binding limit is split instead
        assert_eq!(slices(&one(256, 768, 2048), false, 1 << 20), 1);
    }
}
