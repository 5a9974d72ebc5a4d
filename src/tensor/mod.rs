//! Tensors: a device buffer with a shape, row-major and contiguous; their initialisation and random streams.

mod init;
mod rng;
mod shape;

pub use init::{normal, uniform};
pub use rng::{Rng, stream};
pub use shape::Shape;

use crate::error::{Error, Result};
use gr2_kernels::narrow::narrowed;
use gr2_kernels::{Buffer, Device, Dtype, Element};
use std::ops::Range;

/// A contiguous row-major array on a device. Cloning shares the memory; writing copies it first if it is shared.
#[derive(Debug, Clone)]
pub struct Tensor {
    buffer: Buffer,
    shape: Shape,
}

impl Tensor {
    /// Wraps a buffer that has as many elements as `shape`.
    ///
    /// Errors: `Shape` if it has not.
    pub fn new(buffer: Buffer, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        if buffer.len() != shape.len() {
            let problem = format!("{} elements do not make {shape}", buffer.len());
            return Err(Error::Shape { op: "tensor", problem });
        }
        Ok(Tensor { buffer, shape })
    }

    /// Copies host data to the device.
    ///
    /// Errors: `Shape` if the lengths differ.
    pub fn from_slice<T: Element>(device: &Device, data: &[T], shape: impl Into<Shape>) -> Result<Tensor> {
        Tensor::new(Buffer::from_slice(device, data)?, shape)
    }

    /// Copies f64 host data to the device as `dtype`, by way of f32 where it is narrower than f64.
    ///
    /// Errors: `Shape` if the lengths differ or a value does not fit; `Dtype` if the dtype is no float.
    pub fn from_f64(device: &Device, dtype: Dtype, data: &[f64], shape: impl Into<Shape>) -> Result<Tensor> {
        match dtype {
            Dtype::F64 => Tensor::from_slice(device, data, shape),
            _ => {
                let rounded: Vec<f32> = data.iter().map(|&x| x as f32).collect();
                Tensor::new(narrowed(device, &rounded, dtype)?, shape)
            }
        }
    }

    /// All zeros.
    pub fn zeros(device: &Device, dtype: Dtype, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        Tensor::new(Buffer::zeros(device, "zeros", dtype, shape.len())?, shape)
    }

    /// Copies the elements to the host.
    ///
    /// Errors: `Kernel` if `T` is not the stored dtype.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        Ok(self.buffer.to_vec()?)
    }

    /// Copies the elements to the host as f64, whatever float dtype they have.
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        Ok(match self.dtype() {
            Dtype::F64 => self.buffer.to_vec::<f64>()?,
            Dtype::F32 => self.buffer.to_vec::<f32>()?.into_iter().map(f64::from).collect(),
            Dtype::U32 => self.buffer.to_vec::<u32>()?.into_iter().map(f64::from).collect(),
            Dtype::F16 => self.buffer.to_vec::<half::f16>()?.into_iter().map(f64::from).collect(),
            Dtype::Bf16 => self.buffer.to_vec::<half::bf16>()?.into_iter().map(f64::from).collect(),
        })
    }

    /// The same contents on another device.
    pub fn to_device(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor { buffer: self.buffer.to_device(device)?, shape: self.shape.clone() })
    }

    /// The memory.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// The memory, for kernels that write in place.
    pub fn buffer_mut(&mut self) -> &mut Buffer {
        &mut self.buffer
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.buffer.dtype()
    }

    /// Where the memory is.
    pub fn device(&self) -> &Device {
        self.buffer.device()
    }

    /// The same elements under another shape.
    ///
    /// Errors: `Shape` if the number of elements differs.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        Tensor::new(self.buffer.clone(), shape)
    }

    /// Rows `range` of the first dimension, sharing memory.
    ///
    /// Errors: `Shape` if out of range or a scalar.
    pub fn narrow(&self, range: Range<usize>) -> Result<Tensor> {
        let Some((&rows, inner)) = self.shape.split_first().filter(|(rows, _)| range.end <= **rows) else {
            return Err(Error::Shape { op: "narrow", problem: format!("rows {range:?} of {}", self.shape) });
        };
        let width = self.shape.len() / rows.max(1);
        let mut shape = vec![range.len()];
        shape.extend_from_slice(inner);
        Tensor::new(self.buffer.view(range.start * width..range.end * width), shape)
    }
}
