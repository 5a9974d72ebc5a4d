//! GPU time of every dispatch, while profiling is on: a pass for each, with a timestamp at its beginning and its end.

use super::gpu::Gpu;
use crate::profile;

/// Bytes of a timestamp.
const TICK: u64 = 8;

/// Queries of the open command encoder, and results that the GPU still owes.
pub(super) struct Timestamps {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    /// Kernels dispatched since the last submission, in order.
    names: Vec<&'static str>,
    owed: Vec<Owed>,
    nanos_per_tick: f64,
    /// A tick of the GPU's clock and the host's nanoseconds that are taken to be the same moment.
    origin: Option<(u64, u64)>,
}

struct Owed {
    names: Vec<&'static str>,
    ticks: wgpu::Buffer,
    submitted: u64,
}

impl Timestamps {
    /// Room for `dispatches` between two submissions.
    pub(super) fn new(gpu: &Gpu, dispatches: usize) -> Timestamps {
        let device = &gpu.0.device;
        let descriptor =
            wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 * dispatches as u32 };
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        Timestamps {
            set: device.create_query_set(&descriptor),
            resolved: buffer(gpu, 2 * dispatches as u64 * TICK, usage),
            names: vec![],
            owed: vec![],
            nanos_per_tick: gpu.0.queue.get_timestamp_period() as f64,
            origin: None,
        }
    }

    /// Opens the pass of one dispatch of `name`.
    pub(super) fn pass(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        name: &'static str,
    ) -> wgpu::ComputePass<'static> {
        let first = 2 * self.names.len() as u32;
        self.names.push(name);
        let writes = wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        };
        let descriptor = wgpu::ComputePassDescriptor { label: Some(name), timestamp_writes: Some(writes) };
        encoder.begin_compute_pass(&descriptor).forget_lifetime()
    }

    /// Has the ticks of this encoder copied to where the host can read them.
    pub(super) fn resolve(&mut self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder) {
        if self.names.is_empty() {
            return;
        }
        let count = 2 * self.names.len() as u32;
        let bytes = count as u64 * TICK;
        let ticks = buffer(gpu, bytes, wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ);
        encoder.resolve_query_set(&self.set, 0..count, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &ticks, 0, bytes);
        self.owed.push(Owed { names: std::mem::take(&mut self.names), ticks, submitted: profile::now() });
    }

    /// Asks for everything owed; the next wait brings it.
    pub(super) fn ask(&self) {
        self.owed.iter().for_each(|owed| owed.ticks.map_async(wgpu::MapMode::Read, .., |_| {}));
    }

    /// Takes what a wait has brought.
    pub(super) fn collect(&mut self) {
        for Owed { names, ticks, submitted } in self.owed.drain(..) {
            let Ok(bytes) = ticks.get_mapped_range(..) else { continue };
            let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
            for (name, span) in names.into_iter().zip(ticks.chunks_exact(2)) {
                let (tick, host) = *self.origin.get_or_insert((span[0], submitted));
                let nanos = |ticks: u64| (ticks as f64 * self.nanos_per_tick) as u64;
                profile::add_gpu(
                    name,
                    host + nanos(span[0].saturating_sub(tick)),
                    nanos(span[1].saturating_sub(span[0])),
                );
            }
        }
    }
}

fn buffer(gpu: &Gpu, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    let descriptor = wgpu::BufferDescriptor { label: Some("timestamps"), size, usage, mapped_at_creation: false };
    gpu.0.device.create_buffer(&descriptor)
}
