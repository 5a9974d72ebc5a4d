//! Element-wise arithmetic.

mod cpu;

use crate::buffer::{Bind, Buffer, Dtype, Float};
use crate::device::{Access, Constant, Device, FOURS, Gpu, Kernel, ONES, Widths, split_rows};
use crate::error::{Error, Result};
use crate::profile;
use crate::real::Real;

/// Workgroup size of kernels that use `common/elements.wgsl`.
pub(crate) const ELEMENT_WIDTH: Constant = Constant { name: "WG", wide: 256.0, small: 32.0 };
/// Accesses of one invocation, `ELEMENTS` in `common/elements.wgsl`.
const ELEMENTS_PER_LANE: usize = 2;

/// The two texts of an element-wise kernel; see [`Widths`].
pub(crate) const fn sources(op: &'static str) -> [[&'static str; 4]; 2] {
    const GRID: &str = include_str!("../../../shaders/common/grid.wgsl");
    const ELEMENTS: &str = include_str!("../../../shaders/common/elements.wgsl");
    [[GRID, ONES, ELEMENTS, op], [GRID, FOURS, ELEMENTS, op]]
}

/// An element-wise kernel with parameters `P`.
pub(crate) const fn element_kernel<P>(
    name: &'static str,
    sources: &'static [[&'static str; 4]; 2],
    entry: &'static str,
    bindings: &'static [Access],
) -> Widths {
    let kernel = Kernel { name, sources: &[], entry, bindings, constants: &[ELEMENT_WIDTH], params: size_of::<P>() };
    Widths::new(kernel, sources)
}

const SOURCES: &[[&str; 4]; 2] = &sources(include_str!("../../../shaders/elementwise.wgsl"));

const fn kernel(name: &'static str, entry: &'static str, bindings: &'static [Access]) -> Widths {
    element_kernel::<Params>(name, SOURCES, entry, bindings)
}

const IN_IN_OUT: &[Access] = &[Access::Read, Access::Read, Access::Write];
const IN_OUT: &[Access] = &[Access::Read, Access::Write];

static ADD: Widths = kernel("elementwise.add", "add", IN_IN_OUT);
static SUB: Widths = kernel("elementwise.sub", "sub", IN_IN_OUT);
static MUL: Widths = kernel("elementwise.mul", "mul", IN_IN_OUT);
static ADD_BIAS: Widths = kernel("elementwise.add_bias", "add_bias", IN_IN_OUT);
static SCALE_BY: Widths = kernel("elementwise.scale_by", "scale_by", IN_IN_OUT);
static SCALE: Widths = kernel("elementwise.scale", "scale", IN_OUT);
static AXPY: Widths = kernel("elementwise.axpy", "axpy", IN_OUT);
static BROADCAST: Widths = kernel("elementwise.broadcast", "broadcast", IN_OUT);
static SCALE_ASSIGN: Widths = kernel("elementwise.scale_assign", "scale_assign", &[Access::Write]);
static FILL: Widths = kernel("elementwise.fill", "fill", &[Access::Write]);

pub(crate) static KERNELS: [&Widths; 10] =
    [&ADD, &SUB, &MUL, &ADD_BIAS, &SCALE_BY, &SCALE, &AXPY, &BROADCAST, &SCALE_ASSIGN, &FILL];

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    cols: u32,
    first: u32,
    s: f32,
}

/// Runs an element-wise kernel over `n` elements in pieces that fit the adapter's bindings: `piece` gives the bindings
/// and parameters of a range of elements.
pub(crate) fn launch<'a, P: bytemuck::Pod, const N: usize>(
    gpu: &Gpu,
    kernel: &'static Widths,
    n: usize,
    piece: impl Fn(std::ops::Range<usize>) -> ([Bind<'a>; N], P),
) -> Result<()> {
    launch_rows(gpu, kernel, n, n, piece)
}

/// As [`launch`], where an access must not leave a row of `cols` elements.
fn launch_rows<'a, P: bytemuck::Pod, const N: usize>(
    gpu: &Gpu,
    kernel: &'static Widths,
    n: usize,
    cols: usize,
    piece: impl Fn(std::ops::Range<usize>) -> ([Bind<'a>; N], P),
) -> Result<()> {
    let (kernel, width) = kernel.of(cols);
    let per_group = width * ELEMENTS_PER_LANE * ELEMENT_WIDTH.on(gpu);
    for range in split_rows(kernel.name, n, &[4], gpu.max_binding())? {
        let groups = range.len().div_ceil(per_group) as u64;
        let (binds, params) = piece(range);
        gpu.run(kernel, &binds, &params, groups)?;
    }
    Ok(())
}

/// A CPU twin in its two float types.
type Twins<const N: usize> = (fn([&[f32]; N], &mut [f32], f32), fn([&[f64]; N], &mut [f64], f64));

/// A kernel whose inputs and output all have the output's elements.
struct Map<const N: usize> {
    op: &'static str,
    kernel: &'static Widths,
    twins: Twins<N>,
}

impl<const N: usize> Map<N> {
    fn run<const M: usize>(&self, inputs: [(&'static str, &Buffer); N], s: f64) -> Result<Buffer> {
        let op = self.op;
        let _span = profile::span(op);
        let (_, first) = inputs[0];
        first.device().expect_all(op, &inputs.map(|(_, x)| x))?;
        for (name, x) in inputs {
            x.expect_len(op, name, first.len())?;
            x.expect_dtype(op, name, first.dtype())?;
        }
        let mut y = Buffer::uninit(first.device(), op, first.dtype(), first.len())?;
        match first.device() {
            Device::Cpu => match first.expect_float(op, inputs[0].0)? {
                Float::Single => (self.twins.0)(inputs.map(|(_, x)| x.as_slice()), y.as_mut_slice(), s as f32),
                Float::Double => (self.twins.1)(inputs.map(|(_, x)| x.as_slice()), y.as_mut_slice(), s),
            },
            Device::Gpu(gpu) => {
                first.expect_dtype(op, inputs[0].0, Dtype::F32)?;
                launch(gpu, self.kernel, y.len(), |r| {
                    // inputs, then the output: M = N + 1 bindings
                    let bind = |i: usize| if i < N { inputs[i].1.bind(r.clone()) } else { y.bind(r.clone()) };
                    (std::array::from_fn::<_, M, _>(bind), Params { n: r.len() as u32, cols: 0, first: 0, s: s as f32 })
                })?;
            }
        }
        Ok(y)
    }
}

/// `a + b`.
///
/// Shapes: equal. Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn add(a: &Buffer, b: &Buffer) -> Result<Buffer> {
    Map { op: "add", kernel: &ADD, twins: (cpu::add, cpu::add) }.run::<3>([("a", a), ("b", b)], 1.0)
}

/// `a - b`. As [`add`].
pub fn sub(a: &Buffer, b: &Buffer) -> Result<Buffer> {
    Map { op: "sub", kernel: &SUB, twins: (cpu::sub, cpu::sub) }.run::<3>([("a", a), ("b", b)], 1.0)
}

/// `a b`, element by element. As [`add`].
pub fn mul(a: &Buffer, b: &Buffer) -> Result<Buffer> {
    Map { op: "mul", kernel: &MUL, twins: (cpu::mul, cpu::mul) }.run::<3>([("a", a), ("b", b)], 1.0)
}

/// `s x`. Dtypes: f32; f64 on the CPU.
pub fn scale(x: &Buffer, s: f64) -> Result<Buffer> {
    Map { op: "scale", kernel: &SCALE, twins: (cpu::scale, cpu::scale) }.run::<2>([("x", x)], s)
}

/// `y += x`. As [`axpy`].
pub fn add_assign(y: &mut Buffer, x: &Buffer) -> Result<()> {
    axpy(y, 1.0, x)
}

/// `y += s x`.
///
/// Shapes: equal. Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn axpy(y: &mut Buffer, s: f64, x: &Buffer) -> Result<()> {
    const OP: &str = "axpy";
    let _span = profile::span(OP);
    y.device().expect_all(OP, &[x])?;
    x.expect_len(OP, "x", y.len())?;
    x.expect_dtype(OP, "x", y.dtype())?;
    match y.device().clone() {
        Device::Cpu => match x.expect_float(OP, "x")? {
            Float::Single => cpu::axpy(y.as_mut_slice(), s as f32, x.as_slice()),
            Float::Double => cpu::axpy(y.as_mut_slice(), s, x.as_slice()),
        },
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            y.make_unique(OP)?;
            launch(&gpu, &AXPY, y.len(), |r| {
                let params = Params { n: r.len() as u32, cols: 0, first: 0, s: s as f32 };
                ([x.bind(r.clone()), y.bind(r)], params)
            })?;
        }
    }
    Ok(())
}

/// `y *= s`. Dtypes: f32; f64 on the CPU.
pub fn scale_assign(y: &mut Buffer, s: f64) -> Result<()> {
    in_place("scale", &SCALE_ASSIGN, (cpu::scale_assign, cpu::scale_assign), y, s)
}

/// `y = s` everywhere. Dtypes: f32; f64 on the CPU.
pub fn fill(y: &mut Buffer, s: f64) -> Result<()> {
    in_place("fill", &FILL, (cpu::fill, cpu::fill), y, s)
}

/// A CPU twin that has its output alone, in its two float types.
type TwinsInPlace = (fn(&mut [f32], f32), fn(&mut [f64], f64));

fn in_place(op: &'static str, kernel: &'static Widths, twins: TwinsInPlace, y: &mut Buffer, s: f64) -> Result<()> {
    let _span = profile::span(op);
    match y.device().clone() {
        Device::Cpu => match y.expect_float(op, "y")? {
            Float::Single => (twins.0)(y.as_mut_slice(), s as f32),
            Float::Double => (twins.1)(y.as_mut_slice(), s),
        },
        Device::Gpu(gpu) => {
            y.expect_dtype(op, "y", Dtype::F32)?;
            y.make_unique(op)?;
            launch(&gpu, kernel, y.len(), |r| {
                let params = Params { n: r.len() as u32, cols: 0, first: 0, s: s as f32 };
                ([y.bind(r)], params)
            })?;
        }
    }
    Ok(())
}

/// `s factor x` for a factor that is on the device, as the gradient of a scalar loss is.
///
/// Shapes: `factor` (1), `x` any. Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`, `DeviceMismatch`.
pub fn scale_by(x: &Buffer, factor: &Buffer, s: f64) -> Result<Buffer> {
    const OP: &str = "scale by";
    let _span = profile::span(OP);
    x.device().expect_all(OP, &[factor])?;
    factor.expect_len(OP, "factor", 1)?;
    factor.expect_dtype(OP, "factor", x.dtype())?;
    let Device::Gpu(gpu) = x.device() else {
        return scale(x, s * scalar(OP, factor)?);
    };
    x.expect_dtype(OP, "x", Dtype::F32)?;
    let y = Buffer::uninit(x.device(), OP, x.dtype(), x.len())?;
    launch(gpu, &SCALE_BY, x.len(), |r| {
        let params = Params { n: r.len() as u32, cols: 0, first: 0, s: s as f32 };
        ([x.bind(r.clone()), factor.bind_all(), y.bind(r)], params)
    })?;
    Ok(y)
}

/// `n` elements of `s factor`.
///
/// Shapes: `factor` (1). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `Dtype`.
pub fn broadcast(factor: &Buffer, s: f64, n: usize) -> Result<Buffer> {
    const OP: &str = "broadcast";
    let _span = profile::span(OP);
    factor.expect_len(OP, "factor", 1)?;
    let mut y = Buffer::uninit(factor.device(), OP, factor.dtype(), n)?;
    match factor.device() {
        Device::Cpu => fill(&mut y, s * scalar(OP, factor)?)?,
        Device::Gpu(gpu) => {
            factor.expect_dtype(OP, "factor", Dtype::F32)?;
            launch(gpu, &BROADCAST, n, |r| {
                let params = Params { n: r.len() as u32, cols: 0, first: 0, s: s as f32 };
                ([factor.bind_all(), y.bind(r)], params)
            })?;
        }
    }
    Ok(y)
}

/// The one element of a CPU buffer.
fn scalar(op: &'static str, x: &Buffer) -> Result<f64> {
    Ok(match x.expect_float(op, "factor")? {
        Float::Single => x.as_slice::<f32>()[0].wide(),
        Float::Double => x.as_slice::<f64>()[0],
    })
}

/// `x + bias`, the bias added to every row.
///
/// Shapes: `x` (R, C), `bias` (C). Dtypes: f32; f64 on the CPU.
/// Errors: `Shape` if `x` is not whole rows; `Dtype`, `DeviceMismatch`.
pub fn add_bias(x: &Buffer, bias: &Buffer) -> Result<Buffer> {
    const OP: &str = "add bias";
    let _span = profile::span(OP);
    x.device().expect_all(OP, &[bias])?;
    bias.expect_dtype(OP, "bias", x.dtype())?;
    if !x.len().is_multiple_of(bias.len().max(1)) || (bias.is_empty() && !x.is_empty()) {
        return Err(Error::shape(OP, format!("x has {} elements, bias has {}", x.len(), bias.len())));
    }
    let mut y = Buffer::uninit(x.device(), OP, x.dtype(), x.len())?;
    match x.device() {
        Device::Cpu => match x.expect_float(OP, "x")? {
            Float::Single => cpu::add_bias::<f32>(x.as_slice(), bias.as_slice(), y.as_mut_slice()),
            Float::Double => cpu::add_bias::<f64>(x.as_slice(), bias.as_slice(), y.as_mut_slice()),
        },
        Device::Gpu(gpu) => {
            x.expect_dtype(OP, "x", Dtype::F32)?;
            let cols = bias.len();
            launch_rows(gpu, &ADD_BIAS, x.len(), cols, |r| {
                let params = Params { n: r.len() as u32, cols: cols as u32, first: (r.start % cols) as u32, s: 0.0 };
                ([x.bind(r.clone()), bias.bind_all(), y.bind(r)], params)
            })?;
        }
    }
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{gpu, numbers};

    fn upload(x: &[f64]) -> Buffer {
        Buffer::from_slice(&Device::Cpu, x).unwrap()
    }

    /// Past one block of the parallel loop, with a remainder.
    const LONG: usize = 20_011;

    #[test]
    fn every_block_is_computed_once() {
        let (a, b) = (numbers(1, LONG), numbers(2, LONG));
        let (x, z) = (upload(&a), upload(&b));
        let check = |y: Buffer, f: &dyn Fn(f64, f64) -> f64| {
            let y = y.to_vec::<f64>().unwrap();
            assert!((0..LONG).all(|i| (y[i] - f(a[i], b[i])).abs() < 1e-15));
        };
        check(add(&x, &z).unwrap(), &|a, b| a + b);
        check(sub(&x, &z).unwrap(), &|a, b| a - b);
        check(mul(&x, &z).unwrap(), &|a, b| a * b);
        check(scale(&x, -3.0).unwrap(), &|a, _| -3.0 * a);
        check(scale_by(&x, &upload(&[0.5]), 3.0).unwrap(), &|a, _| 1.5 * a);
        check(broadcast(&upload(&[0.5]), 3.0, LONG).unwrap(), &|_, _| 1.5);
        let mut y = x.clone();
        axpy(&mut y, 2.0, &z).unwrap();
        check(y.clone(), &|a, b| a + 2.0 * b);
        scale_assign(&mut y, 0.25).unwrap();
        check(y.clone(), &|a, b| 0.25 * a + 0.5 * b);
        fill(&mut y, 7.0).unwrap();
        check(y, &|_, _| 7.0);
        check(x.clone(), &|a, _| a);
    }

    #[test]
    fn the_bias_goes_to_every_row() {
        let y = add_bias(&upload(&[1.0, 2.0, 3.0, 4.0]), &upload(&[10.0, 20.0])).unwrap();
        assert_eq!(y.to_vec::<f64>().unwrap(), [11.0, 22.0, 13.0, 24.0]);
        let empty = add_bias(&upload(&[]), &upload(&[1.0])).unwrap();
        assert!(empty.is_empty());
    }

    #[test]
    fn lengths_that_disagree_are_named() {
        let message = add(&upload(&[1.0]), &upload(&[1.0, 2.0])).unwrap_err().to_string();
        assert_eq!(message, "add: b has 2 elements, its shape needs 1");
        let message = add_bias(&upload(&[1.0]), &upload(&[1.0, 2.0])).unwrap_err().to_string();
        assert_eq!(message, "add bias: x has 1 elements, bias has 2");
    }

    #[test]
    fn the_gpu_writes_in_place_what_it_holds_alone() {
        let Some((device, _)) = gpu("elementwise") else { return };
        let values: Vec<f32> = numbers(3, 300).iter().map(|&x| x as f32).collect();
        let whole = Buffer::from_slice(&device, &values).unwrap();
        // a shared part that starts at an odd element, then one that is no longer shared
        let mut part = whole.view(1..200);
        axpy(&mut part, 2.0, &whole.view(0..199)).unwrap();
        let expected = |i: usize| values[i + 1] + 2.0 * values[i];
        let found = part.to_vec::<f32>().unwrap();
        assert!((0..199).all(|i| (found[i] - expected(i)).abs() < 1e-6));
        assert_eq!(whole.to_vec::<f32>().unwrap(), values);
        let mut alone = whole.view(3..5);
        drop(whole);
        scale_assign(&mut alone, 2.0).unwrap();
        assert_eq!(alone.to_vec::<f32>().unwrap(), [2.0 * values[3], 2.0 * values[4]]);
        fill(&mut alone, 7.0).unwrap();
        assert_eq!(alone.to_vec::<f32>().unwrap(), [7.0, 7.0]);
    }
}
