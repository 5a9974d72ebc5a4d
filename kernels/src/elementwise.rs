//! Element-wise kernels.

use crate::buffer::{Buffer, Float};
use crate::device::Device;
use crate::error::Result;

/// `y += x`.
///
/// Shapes: equal. Dtypes: f32; f64 on the CPU.
/// Errors: `Shape`, `DeviceMismatch`.
pub fn add_assign(y: &mut Buffer, x: &Buffer) -> Result<()> {
    const OP: &str = "add";
    x.expect_len(OP, "x", y.len())?;
    x.expect_dtype(OP, "x", y.dtype())?;
    y.device().expect_all(OP, &[x])?;
    match y.device().clone() {
        Device::Cpu => match x.expect_float(OP, "x")? {
            Float::Single => cpu::add_assign::<f32>(y.as_mut_slice(), x.as_slice()),
            Float::Double => cpu::add_assign::<f64>(y.as_mut_slice(), x.as_slice()),
        },
        Device::Gpu(_) => unimplemented!(),
    }
    Ok(())
}

mod cpu {
    use crate::parallel;
    use crate::real::Real;

    pub fn add_assign<T: Real>(y: &mut [T], x: &[T]) {
        parallel::blocks(
            y,
            #[inline(always)]
            |start, y| {
                for (y, &x) in y.iter_mut().zip(&x[start..]) {
                    *y += x;
                }
            },
        );
    }
}
