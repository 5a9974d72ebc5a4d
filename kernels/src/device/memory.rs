//! GPU memory: one wgpu buffer per allocation, recycled by size class, with out-of-memory as a typed error.

use super::gpu::{Gpu, lock};
use super::host::size_class;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashMap};

/// Bytes every allocation is a multiple of: the largest offset alignment WebGPU allows.
const GRANULE: usize = 256;

/// A GPU buffer that returns to the pool when dropped.
pub(crate) struct GpuMemory {
    gpu: Gpu,
    pub(super) buffer: wgpu::Buffer,
    pub(super) id: u64,
}

impl GpuMemory {
    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpu
    }
}

impl Drop for GpuMemory {
    fn drop(&mut self) {
        let size = self.buffer.size();
        let mut pool = lock(&self.gpu.0.pool);
        pool.in_use -= size;
        pool.idle += size;
        pool.free.entry(size).or_default().insert(self.id, self.buffer.clone());
    }
}

/// Idle buffers by size and age, and the books. The oldest is handed out first: steps that allocate and free alike then work
/// in the same buffers, whose bind groups are cached.
pub(super) struct Pool {
    free: HashMap<u64, BTreeMap<u64, wgpu::Buffer>>,
    next_id: u64,
    in_use: u64,
    idle: u64,
    peak: u64,
    limit: Option<u64>,
}

impl Pool {
    pub(super) fn new(limit: Option<u64>) -> Pool {
        Pool { free: HashMap::new(), next_id: 0, in_use: 0, idle: 0, peak: 0, limit }
    }

    fn take(&mut self, size: u64) -> Option<(u64, wgpu::Buffer)> {
        let found = self.free.get_mut(&size)?.pop_first()?;
        self.idle -= size;
        Some(found)
    }

    fn count(&mut self, size: u64) {
        self.in_use += size;
        self.peak = self.peak.max(self.in_use + self.idle);
    }
}

impl Gpu {
    /// Bytes in live buffers, and the most ever held (idle ones included).
    pub fn memory(&self) -> (u64, u64) {
        let pool = lock(&self.0.pool);
        (pool.in_use, pool.peak)
    }

    /// Changes the allocation limit of [`super::GpuOptions`].
    pub fn set_memory_limit(&self, limit: Option<u64>) {
        lock(&self.0.pool).limit = limit;
    }

    /// A buffer of at least `bytes` with unspecified contents.
    pub(crate) fn allocate(&self, op: &'static str, bytes: u64) -> Result<GpuMemory> {
        self.check(op)?;
        let largest = self.0.limits.max_buffer_size;
        let size = if bytes > largest { bytes } else { size_class(bytes as usize, GRANULE) as u64 };
        // the class may round past the largest buffer where the bytes themselves still fit
        let size = if size > largest && bytes <= largest { largest / 4 * 4 } else { size };
        let refuse = |limit: String| Error::OutOfMemory { op, bytes, in_use: self.memory().0, limit };
        if size > largest {
            return Err(refuse(format!("the adapter's largest buffer is {largest}")));
        }
        {
            let mut pool = lock(&self.0.pool);
            let over = pool.limit.is_some_and(|limit| pool.in_use + size > limit);
            if let Some(limit) = pool.limit.filter(|_| over) {
                drop(pool);
                return Err(refuse(format!("the limit is {limit}")));
            }
            if let Some((id, buffer)) = pool.take(size) {
                pool.count(size);
                return Ok(GpuMemory { gpu: self.clone(), buffer, id });
            }
        }
        let buffer = self.create(size).or_else(|| {
            self.trim();
            self.create(size)
        });
        let Some(buffer) = buffer else {
            self.check(op)?;
            return Err(refuse("the driver has no more".to_string()));
        };
        let mut pool = lock(&self.0.pool);
        pool.next_id += 1;
        pool.count(size);
        Ok(GpuMemory { gpu: self.clone(), buffer, id: pool.next_id })
    }

    fn create(&self, size: u64) -> Option<wgpu::Buffer> {
        let scope = self.0.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        pollster::block_on(scope.pop()).is_none().then_some(buffer)
    }

    /// Gives idle buffers back to the driver.
    pub fn trim(&self) {
        lock(&self.0.pipelines).forget_bind_groups();
        let freed = {
            let mut pool = lock(&self.0.pool);
            pool.idle = 0;
            std::mem::take(&mut pool.free)
        };
        drop(freed);
        // the driver frees what no submission uses any more; a failure here shows at the next command
        let _ = self.synchronize();
    }
}
