//! Kernels as compiled pipelines: one compilation per kernel and device, one bind group per set of buffers.

use super::exchange::{Exchange, REDUCE, ROW_VALUES};
use super::gpu::{Gpu, Inner, lock};
use super::matrices::{MATRICES, Matrices};
use super::unroll::unroll;
use crate::buffer::Bind;
use crate::error::{Error, Result};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How a kernel uses a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// An `override` constant of a shader with its two tuned values.
#[derive(Debug, Clone, Copy)]
pub struct Constant {
    /// Its name in the shader.
    pub name: &'static str,
    /// Value on hardware GPUs.
    pub wide: f64,
    /// Value on software adapters, whose vectors are 4 to 16 lanes.
    pub small: f64,
}

impl Constant {
    /// Its value on this GPU, for launchers that size their grid by it.
    pub(crate) fn on(&self, gpu: &Gpu) -> usize {
        (if gpu.small_simd() { self.small } else { self.wide }) as usize
    }
}

/// An entry point of a shader file and how to bind it. Bindings are numbered from 0 in group 0, in this order.
#[derive(Debug)]
pub struct Kernel {
    /// Its name, `file.entry`.
    pub name: &'static str,
    /// WGSL texts put one after the other: files of `shaders/common/`, then the op's own.
    pub sources: &'static [&'static str],
    /// The entry point.
    pub entry: &'static str,
    /// Access of each binding.
    pub bindings: &'static [Access],
    /// Overrides.
    pub constants: &'static [Constant],
    /// Bytes of the `Params` struct in `var<immediate>`.
    pub params: usize,
}

impl Kernel {
    /// The whole WGSL text, unrolled, for adapters that exchange values in this way and have these matrix units.
    pub fn source(&self, exchange: Exchange, matrices: Option<Matrices>) -> String {
        let before = matrices.filter(|_| self.cooperates()).map(Matrices::text).unwrap_or_default();
        unroll(&(before + &self.sources.concat() + &exchange.texts(self.sources)))
    }

    /// True if it works on matrix units.
    pub fn cooperates(&self) -> bool {
        self.sources.contains(&MATRICES)
    }

    /// True if its text depends on how invocations exchange values.
    pub fn exchanges(&self) -> bool {
        [REDUCE, ROW_VALUES].iter().any(|text| self.sources.contains(text))
    }

    /// Tells it from every other: kernels are statics. Two texts of one kernel have the same name.
    fn id(&'static self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// The override values on this kind of device.
    pub fn constants(&self, small_simd: bool) -> Vec<(&'static str, f64)> {
        self.constants.iter().map(|c| (c.name, if small_simd { c.small } else { c.wide })).collect()
    }
}

pub(super) struct Compiled {
    pub(super) pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

#[derive(Default)]
pub(super) struct Pipelines {
    compiled: FxHashMap<usize, Arc<Compiled>>,
    /// By the kernel, and the memory, first byte and length of each binding.
    bind_groups: FxHashMap<Box<[u64]>, wgpu::BindGroup>,
}

/// Bindings of a kernel at most: WebGPU's default limit of storage buffers.
const MOST_BINDINGS: usize = 8;
/// Bind groups kept before the cache starts over; a training step of a large model uses a few thousand.
const BIND_GROUPS: usize = 16_384;

impl Pipelines {
    pub(super) fn forget_bind_groups(&mut self) {
        self.bind_groups.clear();
    }
}

impl Gpu {
    pub(super) fn compiled(&self, kernel: &'static Kernel) -> Result<Arc<Compiled>> {
        if let Some(found) = lock(&self.0.pipelines).compiled.get(&kernel.id()) {
            return Ok(found.clone());
        }
        let built = Arc::new(self.compile(kernel)?);
        self.check(kernel.name)?;
        lock(&self.0.pipelines).compiled.insert(kernel.id(), built.clone());
        Ok(built)
    }

    fn compile(&self, kernel: &Kernel) -> Result<Compiled> {
        let device = &self.0.device;
        // what is given as SPIR-V has its constants in it
        let (module, constants) = match self.0.own_spirv && kernel.cooperates() {
            true => (self.module_of_spirv(kernel)?, vec![]),
            false => (self.module_of_wgsl(kernel), kernel.constants(self.0.small_simd)),
        };
        let entries: Vec<_> = (0u32..)
            .zip(kernel.bindings)
            .map(|(binding, access)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: *access == Access::Read },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(kernel.name), entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: kernel.params as u32,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(kernel.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: self.0.checked,
            },
            cache: self.pipeline_cache(),
        });
        Ok(Compiled { pipeline, layout })
    }

    fn module_of_wgsl(&self, kernel: &Kernel) -> wgpu::ShaderModule {
        let source = wgpu::ShaderSource::Wgsl(kernel.source(self.0.exchange, self.0.matrices).into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(kernel.name), source };
        if self.0.checked {
            return self.0.device.create_shader_module(descriptor);
        }
        // SAFETY: every index a kernel forms is guarded by its parameters, which launchers derive from the sizes
        // they checked, and no loop is unbounded; the parity suite runs the same kernels in checked mode.
        unsafe { self.0.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    }

    fn module_of_spirv(&self, kernel: &Kernel) -> Result<wgpu::ShaderModule> {
        let Inner { exchange, matrices, small_simd, checked, .. } = *self.0;
        let spirv = kernel.spirv(exchange, matrices, small_simd, checked);
        let spirv = spirv.map_err(|message| Error::Gpu { op: kernel.name, message })?;
        let [x, y, z] = spirv.workgroup;
        let entry = wgpu::PassthroughShaderEntryPoint { name: kernel.entry.into(), workgroup_size: (x, y, z) };
        let descriptor = wgpu::ShaderModuleDescriptorPassthrough {
            label: Some(kernel.name),
            entry_points: vec![entry].into(),
            spirv: Some(spirv.words.into()),
            ..Default::default()
        };
        // SAFETY: naga validated and translated it; see `spirv.rs` for what was added. Indices are guarded as above.
        Ok(unsafe { self.0.device.create_shader_module_passthrough(descriptor) })
    }

    pub(super) fn bind_group(&self, kernel: &'static Kernel, compiled: &Compiled, binds: &[Bind]) -> wgpu::BindGroup {
        let mut key = [0; 1 + 3 * MOST_BINDINGS];
        let fields = binds.iter().flat_map(|b| [b.memory.id, b.offset, b.bytes]);
        key.iter_mut().zip(std::iter::once(kernel.id() as u64).chain(fields)).for_each(|(key, field)| *key = field);
        let key = &key[..1 + 3 * binds.len()];
        let mut pipelines = lock(&self.0.pipelines);
        if let Some(found) = pipelines.bind_groups.get(key) {
            return found.clone();
        }
        if pipelines.bind_groups.len() >= BIND_GROUPS {
            pipelines.bind_groups.clear();
        }
        self.0.bind_groups.fetch_add(1, Ordering::Relaxed);
        let entries: Vec<_> = (0u32..)
            .zip(binds)
            .map(|(binding, b)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &b.memory.buffer,
                    offset: b.offset,
                    // an empty operand still needs a legal binding; its kernel reads nothing of it
                    size: std::num::NonZeroU64::new(b.bytes.max(4)),
                }),
            })
            .collect();
        let made = self.0.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name),
            layout: &compiled.layout,
            entries: &entries,
        });
        pipelines.bind_groups.insert(key.into(), made.clone());
        made
    }
}
