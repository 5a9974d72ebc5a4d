//! Rotary position embedding, rotate-half layout, of heads that are normalised by their root mean square first.

use crate::buffer::{Buffer, Dtype, Float};
use crate::device::{Access, Device, Gpu, Kernel, Widths, split_rows};
use crate::error::{Error, Result};
use crate::reduce::column_sum;
use crate::rms_norm::block_rows;
use crate::{REDUCE_WIDTH, parallel, profile, rows};

const SOURCES: &[[&str; 6]; 2] = &rows::sources(rows::ONE, include_str!("../../shaders/rope.wgsl"));

const fn over_heads(name: &'static str, entry: &'static str, bindings: &'static [Access]) -> Widths {
    let (constants, params) = (&[REDUCE_WIDTH], size_of::<Params>());
    Widths::new(Kernel { name, sources: &[], entry, bindings, constants, params }, SOURCES)
}

pub(crate) const KERNELS: [&Widths; 3] = [&FORWARD, &BACKWARD, &WEIGHT_PARTIALS];

use Access::{Read, Write};
static FORWARD: Widths = over_heads("rope.forward", "forward", &[Read, Read, Read, Read, Write, Read, Read, Write]);
static BACKWARD: Widths = over_heads("rope.backward", "backward", &[Read, Read, Read, Read, Write, Read, Write]);
static WEIGHT_PARTIALS: Widths =
    over_heads("rope.weight_partials", "weight_partials", &[Read, Read, Read, Write, Read, Read]);

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    half: u32,
    positions: u32,
    span: u32,
    eps: f32,
    block: u32,
    first: u32,
}

/// Heads of queries or of keys, as their projection left them.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    /// (T, `count`, D).
    pub x: &'a Buffer,
    /// Weight of their norm (D).
    pub weight: &'a Buffer,
    /// Heads per token: H or K.
    pub count: usize,
}

/// The angles of every token.
#[derive(Clone, Copy)]
pub struct Rotation<'a> {
    /// (P, D) as [`angles`] lays it out.
    pub table: &'a Buffer,
    /// Row of the table of each token (T), u32.
    pub positions: &'a Buffer,
    /// D, even.
    pub width: usize,
}

/// The rows of a table for positions `range`: row `p` holds cos(p θ^(-2i/D)) for i < D/2, then the sines, computed
/// in f64.
pub fn angles(range: std::ops::Range<usize>, width: usize, theta: f64) -> Vec<f64> {
    let frequencies: Vec<f64> = (0..width / 2).map(|i| theta.powf(-2.0 * i as f64 / width as f64)).collect();
    let mut rows = vec![0.0; range.len() * width];
    parallel::rows(width, &mut rows, width, |r, row| {
        let (cosines, sines) = row.split_at_mut(width / 2);
        for ((c, s), f) in cosines.iter_mut().zip(sines).zip(&frequencies) {
            (*s, *c) = ((range.start + r) as f64 * f).sin_cos();
        }
    });
    rows
}

/// Normalises every head, `n = x / sqrt(mean(x²) + eps) * w`, and rotates each pair `(n[i], n[i + D/2])` by the angle of its
/// token's position: the queries and the keys of a layer.
///
/// Shapes: results as `q.x` and `k.x`; every position below P (on a GPU, where positions cannot be looked at, larger ones
/// count as P - 1).
/// Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`; `Binding` for a table past the adapter's binding.
/// Source: transformers Qwen3RMSNorm, apply_rotary_pos_emb.
pub fn forward(q: Heads, k: Heads, rotation: Rotation, eps: f32) -> Result<(Buffer, Buffer)> {
    const OP: &str = "rope";
    let _span = profile::span(OP);
    let Rotation { table, positions, width } = rotation;
    let tokens = positions.len();
    rotation.expect(OP, q.x)?;
    q.expect(OP, ["q", "q's weight"], rotation)?;
    k.expect(OP, ["k", "k's weight"], rotation)?;
    k.x.expect_dtype(OP, "k", q.x.dtype())?;
    let out = |heads: Heads| Buffer::uninit(heads.x.device(), OP, heads.x.dtype(), heads.x.len());
    let (mut q_out, mut k_out) = (out(q)?, out(k)?);
    match q.x.device() {
        Device::Cpu => match q.x.expect_float(OP, "q")? {
            Float::Single => cpu::forward::<f32>([q, k], [&mut q_out, &mut k_out], rotation, eps),
            Float::Double => cpu::forward::<f64>([q, k], [&mut q_out, &mut k_out], rotation, eps),
        },
        Device::Gpu(gpu) => {
            q.x.expect_dtype(OP, "q", Dtype::F32)?;
            let row = |heads: Heads| heads.count * width;
            for r in split_rows(OP, tokens, &[row(q) * 4, row(k) * 4], gpu.max_binding())? {
                let span = |heads: Heads| r.start * row(heads)..r.end * row(heads);
                let (kernel, params, groups) = grid(gpu, &FORWARD, r.len(), [q.count, k.count], rotation, eps);
                let binds = [
                    table.bind_all(),
                    positions.bind(r.clone()),
                    q.x.bind(span(q)),
                    q.weight.bind_all(),
                    q_out.bind(span(q)),
                    k.x.bind(span(k)),
                    k.weight.bind_all(),
                    k_out.bind(span(k)),
                ];
                gpu.run(kernel, &binds, &params, groups)?;
            }
        }
    }
    Ok((q_out, k_out))
}

/// The gradients of one side of [`forward`] from that of its result: `(dx, dw)`.
///
/// Shapes: `dy`, `dx` as `heads.x`; `dw` (D). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn backward(heads: Heads, dy: &Buffer, rotation: Rotation, eps: f32) -> Result<(Buffer, Buffer)> {
    const OP: &str = "rope backward";
    let _span = profile::span(OP);
    let (Heads { x, weight, count }, Rotation { table, positions, width }) = (heads, rotation);
    rotation.expect(OP, x)?;
    heads.expect(OP, ["x", "weight"], rotation)?;
    x.device().expect_all(OP, &[dy])?;
    dy.expect_len(OP, "dy", x.len())?;
    dy.expect_dtype(OP, "dy", x.dtype())?;
    let mut dx = Buffer::uninit(x.device(), OP, x.dtype(), x.len())?;
    match x.device() {
        Device::Cpu => {
            let mut dw = Buffer::uninit(x.device(), OP, x.dtype(), width)?;
            match x.expect_float(OP, "x")? {
                Float::Single => cpu::backward::<f32>(heads, dy, [&mut dx, &mut dw], rotation, eps),
                Float::Double => cpu::backward::<f64>(heads, dy, [&mut dx, &mut dw], rotation, eps),
            }
            Ok((dx, dw))
        }
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            let row = count * width;
            let pieces = split_rows(OP, positions.len(), &[row * 4], gpu.max_binding())?;
            let block = |tokens: usize| block_rows(tokens * count, width);
            let blocks = |tokens: usize| (tokens * count).div_ceil(block(tokens));
            let total: usize = pieces.iter().map(|r| blocks(r.len())).sum();
            let sums = Buffer::uninit(x.device(), OP, Dtype::F32, total * width)?;
            let mut first = 0;
            for r in pieces {
                let span = || r.start * row..r.end * row;
                let inv_rms = Buffer::uninit(x.device(), OP, Dtype::F32, r.len() * count)?;
                let (angles, at, inv) = (table.bind_all(), positions.bind(r.clone()), inv_rms.bind_all());
                let (x, dy) = (x.bind(span()), dy.bind(span()));
                let (kernel, params, groups) = grid(gpu, &BACKWARD, r.len(), [count, 0], rotation, eps);
                let binds = [angles, at, x, weight.bind_all(), dx.bind(span()), dy, inv];
                gpu.run(kernel, &binds, &params, groups)?;
                let params = Params { block: block(r.len()) as u32, first: first as u32, ..params };
                let (kernel, access) = WEIGHT_PARTIALS.of(width / 2);
                let groups = (blocks(r.len()) * (width / 2 / access)).div_ceil(REDUCE_WIDTH.on(gpu)) as u64;
                gpu.run(kernel, &[angles, at, x, sums.bind_all(), inv, dy], &params, groups)?;
                first += blocks(r.len());
            }
            Ok((dx, column_sum(&sums, total, width)?))
        }
    }
}

impl Rotation<'_> {
    /// Fails unless these are angles for `x`.
    fn expect(&self, op: &'static str, x: &Buffer) -> Result<()> {
        let Rotation { table, positions, width } = *self;
        x.device().expect_all(op, &[positions, table])?;
        positions.expect_dtype(op, "positions", Dtype::U32)?;
        table.expect_dtype(op, "table", x.dtype())?;
        if width == 0 || width % 2 != 0 || !table.len().is_multiple_of(width) {
            let problem = format!("head width {width} must be even, and divide a table of {} elements", table.len());
            return Err(Error::shape(op, problem));
        }
        if let Device::Cpu = x.device() {
            let rows = table.len() / width;
            if let Some(far) = positions.as_slice::<u32>().iter().find(|p| **p as usize >= rows) {
                return Err(Error::shape(op, format!("position {far} of a table with {rows}")));
            }
        }
        Ok(())
    }
}

impl Heads<'_> {
    /// Fails unless these are heads of the tokens that `rotation` is for.
    fn expect(&self, op: &'static str, [x, weight]: [&'static str; 2], rotation: Rotation) -> Result<()> {
        rotation.table.device().expect_all(op, &[self.x, self.weight])?;
        self.x.expect_len(op, x, rotation.positions.len() * self.count * rotation.width)?;
        self.weight.expect_len(op, weight, rotation.width)?;
        self.weight.expect_dtype(op, weight, self.x.dtype())
    }
}

/// The kernel for heads of this width, its parameters, and the workgroups of `tokens` tokens.
fn grid(
    gpu: &Gpu,
    kernel: &'static Widths,
    tokens: usize,
    [heads, kv_heads]: [usize; 2],
    rotation: Rotation,
    eps: f32,
) -> (&'static Kernel, Params, u64) {
    let half = rotation.width / 2;
    let (kernel, access) = kernel.of(half);
    let (span, groups) = rows::grid(gpu, rows::ONE, tokens * (heads + kv_heads), half / access);
    let [tokens, heads, kv_heads, half] = [tokens, heads, kv_heads, half].map(|n| n as u32);
    let positions = (rotation.table.len() / rotation.width) as u32;
    (kernel, Params { tokens, heads, kv_heads, half, positions, span, eps, ..Params::default() }, groups)
}

mod cpu {
    use super::{Buffer, Heads, Rotation, parallel};
    use crate::real::Real;
    use crate::rms_norm::cpu::{backward_row, backward_rows, inverse_rms, scale};

    /// A table, the row of each token, and the width of a row.
    #[derive(Clone, Copy)]
    struct Angles<'a, T> {
        table: &'a [T],
        positions: &'a [u32],
        width: usize,
    }

    impl<'a, T: Real> Angles<'a, T> {
        fn new(rotation: Rotation<'a>) -> Angles<'a, T> {
            let (table, positions) = (rotation.table.as_slice(), rotation.positions.as_slice());
            Angles { table, positions, width: rotation.width }
        }

        /// Rotates a head of a token by its angle, or with `sign` -1 by its negative.
        #[inline(always)]
        fn rotate(&self, token: usize, head: &mut [T], sign: T) {
            let (cosines, sines) =
                self.table[self.positions[token] as usize * self.width..][..self.width].split_at(self.width / 2);
            let (first, second) = head.split_at_mut(self.width / 2);
            for ((a, b), (&cos, &sin)) in first.iter_mut().zip(second).zip(cosines.iter().zip(sines)) {
                let sin = sin * sign;
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }

    pub fn forward<T: Real>([q, k]: [Heads; 2], [q_out, k_out]: [&mut Buffer; 2], rotation: Rotation, eps: f32) {
        let (angles, width) = (Angles::<T>::new(rotation), rotation.width);
        let [(qx, qw, q_row), (kx, kw, k_row)] =
            [q, k].map(|heads| (heads.x.as_slice::<T>(), heads.weight.as_slice::<T>(), heads.count * width));
        parallel::rows2(
            q_row + k_row,
            (q_out.as_mut_slice::<T>(), q_row),
            (k_out.as_mut_slice::<T>(), k_row),
            #[inline(always)]
            |t, q, k| {
                for (y, x, w) in [(q, &qx[t * q_row..][..q_row], qw), (k, &kx[t * k_row..][..k_row], kw)] {
                    for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        scale(x, inverse_rms(x, eps), w, y);
                        angles.rotate(t, y, T::one());
                    }
                }
            },
        );
    }

    pub fn backward<T: Real>(heads: Heads, dy: &Buffer, [dx, dw]: [&mut Buffer; 2], rotation: Rotation, eps: f32) {
        let (angles, width) = (Angles::<T>::new(rotation), rotation.width);
        let (x, w, dy) = (heads.x.as_slice::<T>(), heads.weight.as_slice::<T>(), dy.as_slice::<T>());
        backward_rows(
            dx.as_mut_slice::<T>(),
            dw.as_mut_slice::<T>(),
            #[inline(always)]
            |head, dx, dw| {
                let span = head * width..(head + 1) * width;
                dx.copy_from_slice(&dy[span.clone()]);
                angles.rotate(head / heads.count, dx, -T::one());
                let x = &x[span];
                backward_row(x, w, inverse_rms(x, eps), dx, dw);
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::central_differences;

    fn upload<T: crate::Element>(v: &[T]) -> Buffer {
        Buffer::from_slice(&Device::Cpu, v).unwrap()
    }

    #[test]
    fn backward_equals_central_differences() {
        let (positions, table) = (upload(&[0u32, 7, 3]), upload(&angles(0..8, 6, 100.0)));
        let rotation = Rotation { table: &table, positions: &positions, width: 6 };
        let (keys, weight) = (upload(&[1.0; 18]), upload(&[1.0; 6]));
        let keys = Heads { x: &keys, weight: &weight, count: 1 };
        central_differences(
            &[36, 6],
            |x| Ok(forward(Heads { x: &x[0], weight: &x[1], count: 2 }, keys, rotation, 1e-3)?.0),
            |x, dy| {
                let (dx, dw) = backward(Heads { x: &x[0], weight: &x[1], count: 2 }, dy, rotation, 1e-3)?;
                Ok(vec![dx, dw])
            },
        );
    }

    #[test]
    fn pairs_are_half_a_head_apart_and_turn_by_their_own_frequency() {
        // D = 4, θ = 100: angles of position 2 are 2 and 2 / 10; heads of root mean square 1 and 2
        let (table, positions) = (upload(&angles(0..3, 4, 100.0)), upload(&[2u32]));
        let rotation = Rotation { table: &table, positions: &positions, width: 4 };
        let (q, k) = (upload(&[2f64.sqrt(), 0.0, 0.0, 2f64.sqrt()]), upload(&[2.0; 4]));
        let (qw, kw) = (upload(&[1.0, 1.0, 1.0, 3.0]), upload(&[5.0; 4]));
        let [q, k] = [(&q, &qw), (&k, &kw)].map(|(x, weight)| Heads { x, weight, count: 1 });
        let (q, k) = forward(q, k, rotation, 0.0).unwrap();
        let (r, [s, c]) = (2f64.sqrt(), [0.2f64.sin(), 0.2f64.cos()]);
        let turned = [r * 2.0f64.cos(), -3.0 * r * s, r * 2.0f64.sin(), 3.0 * r * c];
        let fives = [2f64, 0.2].map(|a| (5.0 * (a.cos() - a.sin()), 5.0 * (a.cos() + a.sin())));
        let fives = [fives[0].0, fives[1].0, fives[0].1, fives[1].1];
        let found = [q.to_vec::<f64>().unwrap(), k.to_vec().unwrap()].concat();
        for (y, e) in found.iter().zip([turned, fives].concat()) {
            assert!((y - e).abs() < 1e-14, "{y} {e}");
        }
    }

    #[test]
    fn a_position_past_the_table_is_an_error() {
        let (table, positions, x) = (upload(&angles(0..3, 2, 100.0)), upload(&[3u32]), upload(&[1.0, 0.0]));
        let heads = Heads { x: &x, weight: &x, count: 1 };
        let error =
            forward(heads, heads, Rotation { table: &table, positions: &positions, width: 2 }, 0.0).unwrap_err();
        assert_eq!(error.to_string(), "rope: position 3 of a table with 3");
    }
}
