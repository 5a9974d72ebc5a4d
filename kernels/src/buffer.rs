//! A typed span of device memory: the operand of every kernel.

use crate::device::host::HostMemory;
use crate::device::{Device, Gpu, GpuMemory};
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Storage type of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// 64-bit float: CPU only, for gradient checks.
    F64,
    /// 32-bit unsigned integer: token ids, offsets, codes.
    U32,
    /// 16-bit float of 11 significant bits, up to 65,504: weights, which are widened to f32 as they are read.
    F16,
    /// 16-bit float of 8 significant bits and the range of f32: weights, as f16.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 | Dtype::U32 => 4,
            Dtype::F64 => 8,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
            Dtype::U32 => "u32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        }
    }

    /// True for f16 and bf16.
    pub fn is_half(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::Bf16)
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type with a [`Dtype`].
pub trait Element: bytemuck::Pod + Send + Sync + PartialEq + std::fmt::Debug {
    /// The storage type.
    const DTYPE: Dtype;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}
impl Element for f64 {
    const DTYPE: Dtype = Dtype::F64;
}
impl Element for u32 {
    const DTYPE: Dtype = Dtype::U32;
}
impl Element for half::f16 {
    const DTYPE: Dtype = Dtype::F16;
}
impl Element for half::bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
}

#[derive(Clone)]
enum Storage {
    Cpu(Arc<HostMemory>),
    Gpu(Arc<GpuMemory>),
}

/// A span of `len` elements of one dtype on one device. Cloning shares the memory; writing through a clone copies
/// it first, so no holder ever sees another's writes.
#[derive(Clone)]
pub struct Buffer {
    device: Device,
    storage: Storage,
    dtype: Dtype,
    offset: usize,
    len: usize,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}] on {}", self.dtype, self.len, self.device)
    }
}

impl Buffer {
    /// Memory for `len` elements with unspecified contents: the caller writes all of it.
    ///
    /// Errors: `OutOfMemory`, `DeviceLost`; `Dtype` for f64 on a GPU.
    pub fn uninit(device: &Device, op: &'static str, dtype: Dtype, len: usize) -> Result<Buffer> {
        // what overflows is past any machine
        let bytes = len.saturating_mul(dtype.size());
        let storage = match device {
            Device::Cpu => Storage::Cpu(Arc::new(HostMemory::allocate(op, bytes)?)),
            Device::Gpu(_) if dtype == Dtype::F64 => {
                return Err(Error::Dtype { op, operand: "output", found: dtype, expected: "f32 or u32 on a GPU" });
            }
            Device::Gpu(gpu) => Storage::Gpu(Arc::new(gpu.allocate(op, bytes as u64)?)),
        };
        Ok(Buffer { device: device.clone(), storage, dtype, offset: 0, len })
    }

    /// `len` zeros.
    pub fn zeros(device: &Device, op: &'static str, dtype: Dtype, len: usize) -> Result<Buffer> {
        let mut buffer = Buffer::uninit(device, op, dtype, len)?;
        match &mut buffer.storage {
            Storage::Cpu(memory) => {
                let memory = Arc::get_mut(memory).expect("invariant: fresh memory has one holder");
                memory.bytes_mut()[..len * dtype.size()].fill(0);
            }
            Storage::Gpu(memory) => memory.gpu().clear(op, memory)?,
        }
        Ok(buffer)
    }

    /// Copies a slice to the device.
    pub fn from_slice<T: Element>(device: &Device, data: &[T]) -> Result<Buffer> {
        const OP: &str = "upload";
        let mut buffer = Buffer::uninit(device, OP, T::DTYPE, data.len())?;
        match &mut buffer.storage {
            Storage::Cpu(memory) => {
                let memory = Arc::get_mut(memory).expect("invariant: fresh memory has one holder");
                memory.bytes_mut()[..size_of_val(data)].copy_from_slice(bytemuck::cast_slice(data));
            }
            Storage::Gpu(memory) => memory.gpu().upload(OP, memory, bytemuck::cast_slice(data))?,
        }
        Ok(buffer)
    }

    /// The elements of several buffers of f32, f64 or u32, one after the other.
    ///
    /// Errors: `Shape` for none; `Dtype`, `DeviceMismatch`.
    pub fn concat(parts: &[&Buffer]) -> Result<Buffer> {
        const OP: &str = "concat";
        let first = parts.first().ok_or_else(|| Error::shape(OP, "of no buffers"))?;
        first.device.expect_all(OP, parts)?;
        if first.dtype.is_half() {
            // copies on a device are of four bytes
            return Err(Error::Dtype { op: OP, operand: "part", found: first.dtype, expected: "f32, f64 or u32" });
        }
        parts.iter().try_for_each(|part| part.expect_dtype(OP, "part", first.dtype))?;
        if let [whole] = parts {
            return Ok((*whole).clone());
        }
        let mut all = Buffer::uninit(&first.device, OP, first.dtype, parts.iter().map(|part| part.len).sum())?;
        let mut to = 0;
        for part in parts {
            let (from, bytes) = (part.byte_offset(), part.len * part.dtype.size());
            match (&mut all.storage, &part.storage) {
                (Storage::Cpu(all), Storage::Cpu(part)) => {
                    let all = Arc::get_mut(all).expect("invariant: fresh memory has one holder");
                    all.bytes_mut()[to..to + bytes].copy_from_slice(&part.bytes()[from as usize..][..bytes]);
                }
                (Storage::Gpu(all), Storage::Gpu(part)) => {
                    part.gpu().copy(OP, part, from, all, to as u64, bytes as u64)?;
                }
                _ => unreachable!("invariant: all are on one device"),
            }
            to += bytes;
        }
        Ok(all)
    }

    /// Copies the elements to the host; on a GPU this waits for everything queued before.
    ///
    /// Errors: `Dtype` if `T` is not the stored type; `DeviceLost`.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.expect_dtype("download", "buffer", T::DTYPE)?;
        match &self.storage {
            Storage::Cpu(_) => Ok(self.as_slice::<T>().to_vec()),
            Storage::Gpu(memory) => {
                // transfers are of four bytes: 16-bit elements may need a neighbour at either end
                let per_word = (4 / size_of::<T>()).max(1);
                let before = self.offset % per_word;
                let mut out = vec![T::zeroed(); (before + self.len).next_multiple_of(per_word)];
                let start = ((self.offset - before) * size_of::<T>()) as u64;
                memory.gpu().download("download", memory, start, bytemuck::cast_slice_mut(&mut out))?;
                out.truncate(before + self.len);
                out.drain(..before);
                Ok(out)
            }
        }
    }

    /// The same contents on `device` (a shared handle if it is there already).
    pub fn to_device(&self, device: &Device) -> Result<Buffer> {
        if self.device.same(device) {
            return Ok(self.clone());
        }
        match self.dtype {
            Dtype::F32 => Buffer::from_slice(device, &self.to_vec::<f32>()?),
            Dtype::F64 => Buffer::from_slice(device, &self.to_vec::<f64>()?),
            Dtype::U32 => Buffer::from_slice(device, &self.to_vec::<u32>()?),
            Dtype::F16 => Buffer::from_slice(device, &self.to_vec::<half::f16>()?),
            Dtype::Bf16 => Buffer::from_slice(device, &self.to_vec::<half::bf16>()?),
        }
    }

    /// The device the memory is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Storage type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a buffer without elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A shared span of these elements. Panics if `range` is out of bounds, as slicing does.
    pub fn view(&self, range: Range<usize>) -> Buffer {
        assert!(range.start <= range.end && range.end <= self.len, "view {range:?} of {} elements", self.len);
        Buffer { offset: self.offset + range.start, len: range.len(), ..self.clone() }
    }

    /// The elements on the CPU device. Panics on a GPU buffer or another dtype: launchers have checked both.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        assert_eq!(self.dtype, T::DTYPE, "invariant: launchers check dtypes");
        let Storage::Cpu(memory) = &self.storage else { panic!("invariant: launchers check devices") };
        &bytemuck::cast_slice(&memory.bytes()[..(self.offset + self.len) * self.dtype.size()])[self.offset..]
    }

    /// The elements on the CPU device for writing, copied first if another handle shares them. Panics as
    /// [`Buffer::as_slice`] does.
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(self.dtype, T::DTYPE, "invariant: launchers check dtypes");
        let (offset, len) = (self.offset, self.len);
        let Storage::Cpu(memory) = &mut self.storage else { panic!("invariant: launchers check devices") };
        if Arc::get_mut(memory).is_none() {
            let mut copy = HostMemory::new(len * size_of::<T>());
            let span = offset * size_of::<T>()..(offset + len) * size_of::<T>();
            copy.bytes_mut()[..span.len()].copy_from_slice(&memory.bytes()[span]);
            *memory = Arc::new(copy);
            self.offset = 0;
        }
        let offset = self.offset;
        let memory = Arc::get_mut(memory).expect("invariant: just made unique");
        &mut bytemuck::cast_slice_mut(&mut memory.bytes_mut()[..(offset + len) * size_of::<T>()])[offset..]
    }

    /// The GPU and the binding of elements `range` of this buffer.
    pub(crate) fn bind(&self, range: Range<usize>) -> Bind<'_> {
        let Storage::Gpu(memory) = &self.storage else { panic!("invariant: launchers check devices") };
        let size = self.dtype.size();
        let start = (self.offset + range.start) * size;
        Bind { memory, offset: start as u64, bytes: self.whole_loads((range.len() * size) as u64) }
    }

    /// So many bytes, filled up to the four elements that shaders load at a time where they have two bytes; memory ends at a
    /// multiple of that.
    fn whole_loads(&self, bytes: u64) -> u64 {
        if self.dtype.is_half() { bytes.next_multiple_of(8) } else { bytes }
    }

    /// The binding of all elements.
    pub(crate) fn bind_all(&self) -> Bind<'_> {
        self.bind(0..self.len)
    }

    /// The binding of elements `range` of this buffer from an aligned address at or before the first, and how
    /// many elements come before it: for kernels that take a start, so that no operand needs copying to be bound.
    pub(crate) fn bind_aligned(&self, range: Range<usize>) -> (Bind<'_>, u32) {
        let bind = self.bind(range.clone());
        let size = self.dtype.size() as u64;
        let before = bind.offset % ALIGNMENT;
        let bytes = self.whole_loads(range.len() as u64 * size + before);
        (Bind { offset: bind.offset - before, bytes, ..bind }, (before / size) as u32)
    }

    /// Makes a GPU buffer safe to write in place: copies it if another handle shares its memory, or if it starts where
    /// no kernel may write.
    pub(crate) fn make_unique(&mut self, op: &'static str) -> Result<()> {
        let bytes = (self.len * self.dtype.size()) as u64;
        let offset = self.byte_offset();
        if let Storage::Gpu(memory) = &mut self.storage
            && (Arc::get_mut(memory).is_none() || !memory.gpu().aligned(offset))
        {
            let gpu: Gpu = memory.gpu().clone();
            let copy = gpu.allocate(op, bytes)?;
            gpu.copy(op, memory, offset, &copy, 0, bytes)?;
            *memory = Arc::new(copy);
            self.offset = 0;
        }
        Ok(())
    }

    fn byte_offset(&self) -> u64 {
        (self.offset * self.dtype.size()) as u64
    }

    /// Which float type the CPU twin runs in; fails for integers.
    pub(crate) fn expect_float(&self, op: &'static str, operand: &'static str) -> Result<Float> {
        match self.dtype {
            Dtype::F32 => Ok(Float::Single),
            Dtype::F64 => Ok(Float::Double),
            found => Err(Error::Dtype { op, operand, found, expected: "f32 or f64" }),
        }
    }

    /// Fails unless the dtype is `wanted`.
    pub(crate) fn expect_dtype(&self, op: &'static str, operand: &'static str, wanted: Dtype) -> Result<()> {
        if self.dtype == wanted {
            return Ok(());
        }
        Err(Error::Dtype { op, operand, found: self.dtype, expected: wanted.name() })
    }

    /// Fails unless there are exactly `wanted` elements.
    pub(crate) fn expect_len(&self, op: &'static str, operand: &'static str, wanted: usize) -> Result<()> {
        if self.len == wanted {
            return Ok(());
        }
        Err(Error::shape(op, format!("{operand} has {} elements, its shape needs {wanted}", self.len)))
    }
}

/// The float types of the CPU twins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Float {
    /// f32.
    Single,
    /// f64.
    Double,
}

/// The largest alignment of a binding's start WebGPU allows, in bytes.
pub(crate) const ALIGNMENT: u64 = 256;

/// A span of GPU memory as a kernel binds it.
#[derive(Clone, Copy)]
pub(crate) struct Bind<'a> {
    pub(crate) memory: &'a GpuMemory,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_through_a_clone_leaves_the_original() {
        let a = Buffer::from_slice(&Device::Cpu, &[1.0f32, 2.0, 3.0]).unwrap();
        let mut b = a.view(1..3);
        b.as_mut_slice::<f32>()[0] = 9.0;
        assert_eq!(a.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(b.to_vec::<f32>().unwrap(), [9.0, 3.0]);
    }

    #[test]
    fn parts_follow_each_other() {
        let gpu = crate::check::gpu("concat").map(|(device, _)| device);
        for device in std::iter::once(Device::Cpu).chain(gpu) {
            let of = |x: &[u32]| Buffer::from_slice(&device, x).unwrap();
            let (a, b) = (of(&[1, 2, 3]), of(&[4]));
            let all = Buffer::concat(&[&a.view(1..3), &b, &of(&[]), &a]).unwrap();
            assert_eq!(all.to_vec::<u32>().unwrap(), [2, 3, 4, 1, 2, 3]);
            let message = Buffer::concat(&[&a, &Buffer::from_slice(&device, &[1.0f32]).unwrap()]).unwrap_err();
            assert_eq!(message.to_string(), "concat: part is f32, expected u32");
        }
    }

    #[test]
    fn reading_as_another_type_is_an_error() {
        let a = Buffer::from_slice(&Device::Cpu, &[1u32]).unwrap();
        let message = a.to_vec::<f32>().unwrap_err().to_string();
        assert_eq!(message, "download: buffer is u32, expected f32");
    }
}
