//! The command stream of a GPU: dispatches go into one open compute pass; copies close it, so order is kept.

use super::gpu::{Gpu, lock};
use super::memory::GpuMemory;
use super::pipeline::{Access, Kernel};
use super::submit::{Recorded, Submitted, Submitter};
use super::timestamps::Timestamps;
use crate::buffer::Bind;
use crate::error::{Error, Result};
use crate::profile;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;
use wgpu::util::StagingBelt;

/// Dispatches recorded before a submission: enough to hide its cost, few enough to stay far from any watchdog and to have the
/// GPU begin soon.
const DISPATCHES_PER_SUBMIT: usize = 128;
/// Submissions queued before the host waits for the oldest, which bounds memory held by commands.
const SUBMITS_IN_FLIGHT: usize = 4;
/// Why a GPU is of no use any more when `submit.rs`'s thread has panicked.
const NO_SUBMITTER: &str = "the thread that submits commands has ended";
/// Workgroups WebGPU allows along one dimension of a grid.
const MAX_GROUPS: u64 = 65_535;

#[derive(Default)]
pub(super) struct Stream {
    // declared before the encoder it belongs to, so that it is dropped first
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    recorded: usize,
    /// While profiling is on and the adapter has timestamps.
    timestamps: Option<Timestamps>,
    submitter: Option<Submitter>,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    /// What short uploads since the last submission lie in, and those that earlier ones lay in.
    belt: Option<StagingBelt>,
    idle_belts: Vec<StagingBelt>,
}

impl Stream {
    fn encoder(&mut self, gpu: &Gpu) -> &mut wgpu::CommandEncoder {
        self.pass = None;
        self.encoder.get_or_insert_with(|| gpu.0.device.create_command_encoder(&Default::default()))
    }

    fn pass(&mut self, gpu: &Gpu) -> &mut wgpu::ComputePass<'static> {
        if self.pass.is_none() {
            let pass = self.encoder(gpu).begin_compute_pass(&Default::default()).forget_lifetime();
            self.pass = Some(pass);
        }
        self.pass.as_mut().expect("invariant: just opened")
    }

    /// The pass of one dispatch of `name`: the open one, or one of its own with timestamps.
    fn pass_for(&mut self, gpu: &Gpu, name: &'static str) -> &mut wgpu::ComputePass<'static> {
        if !(gpu.0.timestamps && profile::is_on()) {
            return self.pass(gpu);
        }
        let mut timestamps = self.timestamps.take().unwrap_or_else(|| Timestamps::new(gpu, DISPATCHES_PER_SUBMIT));
        let pass = timestamps.pass(self.encoder(gpu), name);
        self.timestamps = Some(timestamps);
        self.pass.insert(pass)
    }

    /// Hands on what was recorded, and waits while too much is in flight.
    fn submit(&mut self, gpu: &Gpu) {
        self.pass = None;
        self.recorded = 0;
        if let Some(mut encoder) = self.encoder.take() {
            if let Some(timestamps) = &mut self.timestamps {
                timestamps.resolve(gpu, &mut encoder);
            }
            let mut belt = self.belt.take();
            belt.iter_mut().for_each(StagingBelt::finish);
            let submitter = self.submitter.get_or_insert_with(|| Submitter::new(gpu.0.queue.clone()));
            if !submitter.submit(Recorded { encoder, belt }) {
                gpu.lose(NO_SUBMITTER);
            }
        }
        while self.in_flight.len() + self.under_way() > SUBMITS_IN_FLIGHT {
            let Some(oldest) = self.in_flight.pop_front() else {
                self.settle(gpu, self.under_way() - 1);
                continue;
            };
            // a failure to wait is a lost device, which the health check after this reports
            let _ = gpu.poll(wgpu::PollType::Wait { submission_index: Some(oldest), timeout: None });
        }
    }

    fn under_way(&self) -> usize {
        self.submitter.as_ref().map_or(0, Submitter::under_way)
    }

    /// Waits until all but `left` of what was handed on is submitted, the oldest first.
    fn settle(&mut self, gpu: &Gpu, left: usize) {
        let Some(submitter) = &mut self.submitter else { return };
        let start = Instant::now();
        while submitter.under_way() > left {
            match submitter.next() {
                Some(Submitted { index, belt, encoding }) => {
                    gpu.0.encoding_nanos.fetch_add(encoding.as_nanos() as u64, Ordering::Relaxed);
                    self.in_flight.push_back(index);
                    self.idle_belts.extend(belt);
                }
                None => {
                    gpu.lose(NO_SUBMITTER);
                    break;
                }
            }
        }
        gpu.count_wait(start);
    }

    /// Copies a few bytes, a multiple of four, to a buffer.
    fn upload(&mut self, gpu: &Gpu, op: &'static str, to: &wgpu::Buffer, data: &[u8]) -> Result<()> {
        let Some(size) = wgpu::BufferSize::new(data.len() as u64) else { return Ok(()) };
        let idle = self.belt.take().or_else(|| self.idle_belts.pop());
        let mut belt = idle.unwrap_or_else(|| StagingBelt::new(gpu.0.device.clone(), BELT));
        let place = belt.allocate(size, const { wgpu::BufferSize::new(wgpu::COPY_BUFFER_ALIGNMENT).unwrap() });
        // what could not be allocated is not mapped either; its belt is given up
        let mut mapped = place.get_mapped_range_mut().map_err(|_| gpu.no_mappable_memory(op, BELT))?;
        mapped.copy_from_slice(data);
        drop(mapped);
        self.encoder(gpu).copy_buffer_to_buffer(place.buffer(), place.offset(), to, 0, size.get());
        self.belt = Some(belt);
        Ok(())
    }
}

impl Gpu {
    /// Records one dispatch of `groups` workgroups, folded to a 2-D grid (the shader unfolds and guards it with
    /// `common/grid.wgsl`).
    ///
    /// Errors: `Binding` for an operand past the adapter's limit, `DeviceLost`, `Gpu`.
    pub(crate) fn run<P: bytemuck::Pod>(
        &self,
        kernel: &'static Kernel,
        binds: &[Bind],
        params: &P,
        groups: u64,
    ) -> Result<()> {
        let op = kernel.name;
        assert_eq!(binds.len(), kernel.bindings.len(), "invariant: {op} is launched with its own bindings");
        assert_eq!(size_of::<P>(), kernel.params, "invariant: {op} is launched with its own Params");
        if groups == 0 {
            return Ok(());
        }
        self.check(op)?;
        let limit = self.max_binding();
        if let Some(long) = binds.iter().find(|b| b.bytes > limit) {
            return Err(Error::Binding { op, bytes: long.bytes, limit });
        }
        if binds.iter().any(|bind| !self.aligned(bind.offset)) {
            let copies = self.align(op, kernel, binds)?;
            let aligned = binds.iter().zip(&copies).map(|(bind, copy)| match copy {
                Some(memory) => Bind { memory, offset: 0, bytes: bind.bytes },
                None => *bind,
            });
            return self.record(kernel, &aligned.collect::<Vec<Bind>>(), params, groups);
        }
        self.record(kernel, binds, params, groups)
    }

    /// [`Self::run`] for operands that are checked and can be bound where they lie.
    fn record<P: bytemuck::Pod>(&self, kernel: &'static Kernel, binds: &[Bind], params: &P, groups: u64) -> Result<()> {
        let compiled = self.compiled(kernel)?;
        let bind_group = self.bind_group(kernel, &compiled, binds);
        let (x, y) = fold(groups);
        let mut stream = lock(&self.0.stream);
        let pass = stream.pass_for(self, kernel.name);
        pass.set_pipeline(&compiled.pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.set_immediates(0, bytemuck::bytes_of(params));
        pass.dispatch_workgroups(x, y, 1);
        self.0.dispatches.fetch_add(1, Ordering::Relaxed);
        stream.recorded += 1;
        if stream.recorded >= DISPATCHES_PER_SUBMIT {
            stream.submit(self);
        }
        Ok(())
    }

    /// Copies of the operands that start at an offset the adapter cannot bind.
    fn align(&self, op: &'static str, kernel: &Kernel, binds: &[Bind]) -> Result<Vec<Option<GpuMemory>>> {
        let mut copies = Vec::with_capacity(binds.len());
        for (bind, access) in binds.iter().zip(kernel.bindings) {
            copies.push(if self.aligned(bind.offset) {
                None
            } else {
                assert_eq!(*access, Access::Read, "invariant: {op} writes at aligned offsets");
                let copy = self.allocate(op, bind.bytes)?;
                self.copy(op, bind.memory, bind.offset, &copy, 0, bind.bytes)?;
                Some(copy)
            });
        }
        Ok(copies)
    }

    /// True if the adapter can bind memory from this byte on.
    pub(crate) fn aligned(&self, offset: u64) -> bool {
        offset.is_multiple_of(self.0.limits.min_storage_buffer_offset_alignment as u64)
    }

    pub(crate) fn clear(&self, op: &'static str, memory: &GpuMemory) -> Result<()> {
        self.check(op)?;
        lock(&self.0.stream).encoder(self).clear_buffer(&memory.buffer, 0, None);
        Ok(())
    }

    pub(crate) fn copy(
        &self,
        op: &'static str,
        from: &GpuMemory,
        from_offset: u64,
        to: &GpuMemory,
        to_offset: u64,
        bytes: u64,
    ) -> Result<()> {
        self.check(op)?;
        if bytes > 0 {
            let mut stream = lock(&self.0.stream);
            stream.encoder(self).copy_buffer_to_buffer(&from.buffer, from_offset, &to.buffer, to_offset, bytes);
        }
        Ok(())
    }

    pub(crate) fn upload(&self, op: &'static str, to: &GpuMemory, data: &[u8]) -> Result<()> {
        self.check(op)?;
        if data.len() <= SHORT {
            lock(&self.0.stream).upload(self, op, &to.buffer, &whole_words(data))?;
            return self.check(op);
        }
        // through pieces, so that a large tensor does not need a second copy of itself in mappable memory
        for (i, piece) in data.chunks(STAGING).enumerate() {
            let piece = whole_words(piece);
            let staging = self.staging(op, piece.len() as u64, wgpu::BufferUsages::COPY_SRC, true)?;
            let mapped = staging.get_mapped_range_mut(..);
            mapped.map_err(|e| Error::Gpu { op, message: e.to_string() })?.copy_from_slice(&piece);
            staging.unmap();
            let mut stream = lock(&self.0.stream);
            let (offset, bytes) = ((i * STAGING) as u64, piece.len() as u64);
            stream.encoder(self).copy_buffer_to_buffer(&staging, 0, &to.buffer, offset, bytes);
            if data.len() > STAGING {
                stream.submit(self);
            }
        }
        self.check(op)
    }

    pub(crate) fn download(&self, op: &'static str, from: &GpuMemory, offset: u64, out: &mut [u8]) -> Result<()> {
        self.check(op)?;
        for (i, piece) in out.chunks_mut(STAGING).enumerate() {
            let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
            let staging = self.staging(op, piece.len() as u64, usage, false)?;
            {
                let mut stream = lock(&self.0.stream);
                let (start, bytes) = (offset + (i * STAGING) as u64, piece.len() as u64);
                stream.encoder(self).copy_buffer_to_buffer(&from.buffer, start, &staging, 0, bytes);
                stream.submit(self);
                stream.settle(self, 0);
            }
            staging.map_async(wgpu::MapMode::Read, .., |_| {});
            self.wait(op)?;
            let mapped = staging.get_mapped_range(..).map_err(|e| Error::Gpu { op, message: e.to_string() })?;
            piece.copy_from_slice(&mapped);
        }
        Ok(())
    }

    /// Submits what is recorded and waits for it.
    pub(crate) fn synchronize(&self) -> Result<()> {
        lock(&self.0.stream).submit(self);
        self.wait("synchronize")
    }

    fn wait(&self, op: &'static str) -> Result<()> {
        {
            let mut stream = lock(&self.0.stream);
            stream.settle(self, 0);
            if let Some(timestamps) = &stream.timestamps {
                timestamps.ask();
            }
        }
        let polled = self.poll(wgpu::PollType::wait_indefinitely());
        {
            let mut stream = lock(&self.0.stream);
            stream.in_flight.clear();
            if let Some(timestamps) = &mut stream.timestamps {
                timestamps.collect();
            }
        }
        self.check(op)?;
        polled.map(|_| ()).map_err(|e| Error::Gpu { op, message: e.to_string() })
    }

    /// Polls the device, the time counted.
    fn poll(&self, until: wgpu::PollType) -> std::result::Result<wgpu::PollStatus, wgpu::PollError> {
        let start = Instant::now();
        let polled = self.0.device.poll(until);
        self.count_wait(start);
        polled
    }

    fn count_wait(&self, start: Instant) {
        self.0.waited_nanos.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    fn staging(&self, op: &'static str, size: u64, usage: wgpu::BufferUsages, mapped: bool) -> Result<wgpu::Buffer> {
        let scope = self.0.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size: size.next_multiple_of(4),
            usage,
            mapped_at_creation: mapped,
        });
        match pollster::block_on(scope.pop()) {
            None => Ok(buffer),
            Some(_) => Err(self.no_mappable_memory(op, size)),
        }
    }

    fn no_mappable_memory(&self, op: &'static str, bytes: u64) -> Error {
        let limit = "the driver has no more mappable memory".to_string();
        Error::OutOfMemory { op, bytes, in_use: self.memory().0, limit }
    }
}

/// The bytes, an odd number of 16-bit elements filled up: transfers are of four.
fn whole_words(data: &[u8]) -> Cow<'_, [u8]> {
    match data.len() % 4 {
        0 => data.into(),
        over => [data, &[0; 4][over..]].concat().into(),
    }
}

/// Bytes moved through mappable memory at a time.
const STAGING: usize = 64 << 20;
/// Bytes of an upload that shares mappable memory with others of its submission, and of that memory.
const SHORT: usize = 1 << 14;
const BELT: u64 = 1 << 18;

/// `groups` workgroups as a grid of at most 65,535 along x.
fn fold(groups: u64) -> (u32, u32) {
    let y = groups.div_ceil(MAX_GROUPS);
    let x = groups.div_ceil(y);
    (x as u32, y as u32)
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn grids_fold_within_the_limit_and_cover_every_group() {
        for groups in [1, 65_535, 65_536, 70_001, 10_000_000u64] {
            let (x, y) = fold(groups);
            assert!(x <= 65_535 && y <= 65_535);
            assert!(x as u64 * y as u64 >= groups && x as u64 * (y as u64 - 1) < groups);
        }
    }
}
