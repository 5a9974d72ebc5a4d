//! Opening an adapter: which there are, what they offer, and whether one is still alive.

use super::choices::Choices;
use super::exchange::Exchange;
use super::matrices::Matrices;
use super::memory::Pool;
use super::pipeline::Pipelines;
use super::pipeline_cache::PipelineCache;
use super::stream::Stream;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

/// What `gr2 devices` says of an adapter.
#[derive(Debug, Clone)]
pub struct AdapterSummary {
    /// Marketing name, as in `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub name: String,
    /// `Vulkan`, `Metal` or `Dx12`.
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` or `Other`.
    pub kind: String,
    /// False for software rasterisers.
    pub hardware: bool,
    /// Largest binding in bytes.
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// f16 arithmetic in shaders.
    pub f16: bool,
    /// Subgroup operations.
    pub subgroups: bool,
    /// Matrix units that kernels can use.
    pub matrices: Option<Matrices>,
}

/// How to open a GPU.
#[derive(Debug, Clone, Copy, Default)]
pub struct GpuOptions {
    /// Keeps bounds checks, loop bounds and workgroup zeroing in shaders. Slow; for tests.
    pub checked: bool,
    /// Refuses allocations beyond this many bytes.
    pub memory_limit: Option<u64>,
    /// Which of the tuned sizes kernels run with.
    pub tuning: Tuning,
    /// Does without optional features, as the plainest adapter has to.
    pub plain: bool,
    /// How products are computed.
    pub precision: Precision,
}

/// How a GPU computes products of matrices. Parameters, activations and sums are f32 in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// In f32.
    #[default]
    F32,
    /// On matrix units: the operands rounded to f16 as they are read, the sums f32. Magnitudes past 65,504 overflow.
    Mixed,
}

/// Sets of tuned sizes; see [`Constant`](super::Constant).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tuning {
    /// What suits the adapter.
    #[default]
    Adapter,
    /// For hardware GPUs.
    Wide,
    /// For software adapters.
    Small,
}

impl GpuOptions {
    /// For tests: with checks, and so tuned that every variant of a kernel can be tested on any adapter: the environment
    /// variable `GR2_TEST_GPU` may have the words `wide` or `small`, and `plain`.
    pub fn for_tests() -> GpuOptions {
        let words = std::env::var("GR2_TEST_GPU").unwrap_or_default();
        let has = |word: &str| words.split_whitespace().any(|w| w == word);
        let tuning = match (has("wide"), has("small")) {
            (true, _) => Tuning::Wide,
            (false, true) => Tuning::Small,
            (false, false) => Tuning::Adapter,
        };
        GpuOptions { checked: true, tuning, plain: has("plain"), ..GpuOptions::default() }
    }
}

/// What a GPU was asked to do since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Dispatches recorded.
    pub dispatches: u64,
    /// Bind groups made: none in a step that finds those of the step before.
    pub bind_groups: u64,
    /// Time the host spent waiting for the GPU, or for what it recorded to be submitted.
    pub waited: Duration,
    /// Time another thread spent making the driver's commands of what was recorded.
    pub encoding: Duration,
}

/// One opened GPU: device, queue, pools and caches. Clones share it.
#[derive(Clone)]
pub struct Gpu(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: wgpu::Limits,
    pub(super) checked: bool,
    pub(super) small_simd: bool,
    pub(super) exchange: Exchange,
    pub(super) matrices: Option<Matrices>,
    /// Whether kernels on them compute right, for those that were tried.
    matrices_work: Mutex<HashMap<&'static str, bool>>,
    /// Kernels on matrix units are given as SPIR-V.
    pub(super) own_spirv: bool,
    pub(super) timestamps: bool,
    pub(super) choices: OnceLock<Choices>,
    pub(super) pipeline_cache_key: Option<String>,
    pub(super) pipeline_cache: OnceLock<PipelineCache>,
    pub(super) pool: Mutex<Pool>,
    pub(super) stream: Mutex<Stream>,
    pub(super) pipelines: Mutex<Pipelines>,
    pub(super) dispatches: AtomicU64,
    pub(super) bind_groups: AtomicU64,
    pub(super) waited_nanos: AtomicU64,
    pub(super) encoding_nanos: AtomicU64,
    summary: AdapterSummary,
    health: Arc<Health>,
}

/// The first thing that went wrong, set by wgpu's callbacks.
#[derive(Default)]
struct Health {
    /// False as long as nothing did: every operation asks.
    ill: AtomicBool,
    symptoms: Mutex<Symptoms>,
}

#[derive(Default)]
struct Symptoms {
    lost: Option<String>,
    fault: Option<String>,
}

impl Health {
    fn is_lost(&self, reason: String) {
        lock(&self.symptoms).lost.get_or_insert(reason);
        self.ill.store(true, Ordering::Release);
    }

    fn has_fault(&self, message: String) {
        lock(&self.symptoms).fault.get_or_insert(message);
        self.ill.store(true, Ordering::Release);
    }
}

/// Every adapter of this machine that can run the kernels' backends, best first.
pub fn adapters() -> Vec<(AdapterSummary, wgpu::Adapter)> {
    let Some(instance) = instance() else { return vec![] };
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let rank = |kind: wgpu::DeviceType| match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    let mut found: Vec<_> = found.into_iter().map(|adapter| (adapter.get_info(), adapter)).collect();
    found.sort_by_key(|(info, _)| rank(info.device_type));
    found.into_iter().map(|(info, adapter)| (summarise(&info, &adapter), adapter)).collect()
}

/// The backends, for computing only.
#[cfg(not(all(unix, not(target_vendor = "apple"), not(target_os = "android"))))]
fn instance() -> Option<wgpu::Instance> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.flags = wgpu::InstanceFlags::empty();
    Some(wgpu::Instance::new(descriptor))
}

/// Vulkan, for computing only: without the extension that has Mesa's layers ask a Wayland compositor which adapter it shows its
/// desktop on, and complain on standard error where there is none.
#[cfg(all(unix, not(target_vendor = "apple"), not(target_os = "android")))]
fn instance() -> Option<wgpu::Instance> {
    use wgpu::hal::{InstanceDescriptor, vulkan};
    let descriptor = InstanceDescriptor {
        name: "gr2",
        flags: wgpu::InstanceFlags::empty(),
        memory_budget_thresholds: Default::default(),
        backend_options: Default::default(),
        telemetry: None,
        display: None,
    };
    let without_desktop = |arguments: vulkan::CreateInstanceCallbackArgs| {
        arguments.extensions.retain(|name| *name != c"VK_KHR_wayland_surface");
    };
    // SAFETY: what is left out is an extension that `vulkan` does without where a system lacks it, as those without Wayland do; no
    // surface is ever made.
    unsafe {
        let vulkan = vulkan::Instance::init_with_callback(&descriptor, Some(Box::new(without_desktop)));
        let vulkan = vulkan.inspect_err(|reason| tracing::debug!("no Vulkan: {reason}")).ok()?;
        Some(wgpu::Instance::from_hal::<wgpu::hal::api::Vulkan>(vulkan))
    }
}

fn summarise(info: &wgpu::AdapterInfo, adapter: &wgpu::Adapter) -> AdapterSummary {
    let (limits, features) = (adapter.limits(), adapter.features());
    AdapterSummary {
        name: info.name.clone(),
        backend: format!("{:?}", info.backend),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        kind: format!("{:?}", info.device_type),
        hardware: info.device_type != wgpu::DeviceType::Cpu,
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        matrices: Matrices::of(adapter),
    }
}

impl Gpu {
    /// Opens the `index`-th adapter of [`adapters`] with all its limits.
    ///
    /// Errors: `NoAdapter`; `Unsupported` without immediates (push constants), without matrix units where the precision asks
    /// for them, or for a refused device.
    pub fn open(index: usize, options: GpuOptions) -> Result<Gpu> {
        let Some((summary, adapter)) = adapters().into_iter().nth(index) else {
            return Err(Error::NoAdapter { wanted: format!("GPU number {index}") });
        };
        let unsupported =
            |feature: &str| Error::Unsupported { adapter: summary.name.clone(), feature: feature.to_string() };
        let offered = adapter.features();
        if !offered.contains(wgpu::Features::IMMEDIATES) || adapter.limits().max_immediate_size < 128 {
            return Err(unsupported("128 bytes of immediates (push constants)"));
        }
        let optional = match options.plain {
            true => wgpu::Features::empty(),
            false => wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP | wgpu::Features::PIPELINE_CACHE,
        };
        let matrices = match options.precision {
            Precision::F32 => None,
            Precision::Mixed => {
                Some(summary.matrices.ok_or_else(|| unsupported("matrix units (cooperative f16 matrices)"))?)
            }
        };
        let (required, experimental_features) = match matrices {
            None => (wgpu::Features::IMMEDIATES, wgpu::ExperimentalFeatures::disabled()),
            Some(_) => {
                let own_spirv = match adapter.get_info().backend {
                    wgpu::Backend::Vulkan => offered & wgpu::Features::PASSTHROUGH_SHADERS,
                    _ => wgpu::Features::empty(),
                };
                // SAFETY: of what is experimental only cooperative matrices are used, and SPIR-V that naga made of their
                // kernels, which the parity tests run.
                let experimental = unsafe { wgpu::ExperimentalFeatures::enabled() };
                (wgpu::Features::IMMEDIATES | Matrices::FEATURES | own_spirv, experimental)
            }
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("gr2"),
            required_features: required | (offered & optional),
            experimental_features,
            required_limits: adapter.limits(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|refusal| unsupported(&format!("device: {refusal}")))?;

        let health = Arc::new(Health::default());
        let on_loss = health.clone();
        device.set_device_lost_callback(move |reason, message| {
            on_loss.is_lost(format!("{reason:?} {message}").trim().to_string());
        });
        let on_fault = health.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            on_fault.has_fault(error.to_string());
        }));
        let pool = Pool::new(options.memory_limit);
        let features = device.features();
        let small_simd = match options.tuning {
            Tuning::Adapter => !summary.hardware,
            Tuning::Wide => false,
            Tuning::Small => true,
        };
        let subgroups = features.contains(wgpu::Features::SUBGROUP);
        let smallest_subgroup = subgroups.then(|| adapter.get_info().subgroup_min_size);
        let caches = features.contains(wgpu::Features::PIPELINE_CACHE);
        let pipeline_cache_key = caches.then(|| wgpu::util::pipeline_cache_key(&adapter.get_info())).flatten();
        Ok(Gpu(Arc::new(Inner {
            limits: device.limits(),
            checked: options.checked,
            small_simd,
            exchange: Exchange::of(smallest_subgroup, small_simd),
            matrices,
            matrices_work: Mutex::default(),
            own_spirv: features.contains(wgpu::Features::PASSTHROUGH_SHADERS),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            choices: OnceLock::new(),
            pipeline_cache_key,
            pipeline_cache: OnceLock::new(),
            pool: Mutex::new(pool),
            stream: Mutex::default(),
            pipelines: Mutex::default(),
            dispatches: AtomicU64::new(0),
            bind_groups: AtomicU64::new(0),
            waited_nanos: AtomicU64::new(0),
            encoding_nanos: AtomicU64::new(0),
            device,
            queue,
            summary,
            health,
        })))
    }

    /// Name, driver and limits of the adapter.
    pub fn summary(&self) -> &AdapterSummary {
        &self.0.summary
    }

    /// True if both are the same opened device.
    pub fn same(&self, other: &Gpu) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Largest binding in bytes, a multiple of 256: launchers split longer operands.
    pub fn max_binding(&self) -> u64 {
        self.0.limits.max_storage_buffer_binding_size / 256 * 256
    }

    /// True for software adapters: kernels then use small workgroups without shared memory.
    pub fn small_simd(&self) -> bool {
        self.0.small_simd
    }

    /// Turns that all loops of one invocation may take together; launchers whose turns grow with an operand take it in pieces.
    /// llvmpipe of Mesa 22 leaves every loop after 65,535 of them and says nothing.
    pub(crate) fn turns(&self) -> usize {
        if self.0.summary.hardware { usize::MAX } else { 65_535 }
    }

    /// The matrix units for `kernels`: those of a GPU opened for [`Precision::Mixed`], unless `test`, which is run the first
    /// time, finds that these kernels do not compute what they should.
    pub(crate) fn matrices_for(&self, kernels: &'static str, test: impl FnOnce(Matrices) -> bool) -> Option<Matrices> {
        let matrices = self.0.matrices?;
        let known = lock(&self.0.matrices_work).get(kernels).copied();
        let work = known.unwrap_or_else(|| {
            let work = test(matrices);
            if !work {
                tracing::warn!(
                    "{}: {kernels} on matrix units is wrong, and is left to other kernels",
                    self.summary().name
                );
            }
            lock(&self.0.matrices_work).insert(kernels, work);
            work
        });
        work.then_some(matrices)
    }

    /// True if it was opened for [`Precision::Mixed`].
    pub fn mixed(&self) -> bool {
        self.0.matrices.is_some()
    }

    /// Rows and columns of its matrices; 16, the usual, where it has none.
    pub(crate) fn matrix_side(&self) -> usize {
        self.0.matrices.map_or(16, |matrices| matrices.side as usize)
    }

    /// What it was asked to do since it was opened.
    pub(super) fn counters(&self) -> Counters {
        Counters {
            dispatches: self.0.dispatches.load(Ordering::Relaxed),
            bind_groups: self.0.bind_groups.load(Ordering::Relaxed),
            waited: Duration::from_nanos(self.0.waited_nanos.load(Ordering::Relaxed)),
            encoding: Duration::from_nanos(self.0.encoding_nanos.load(Ordering::Relaxed)),
        }
    }

    /// Destroys the device, as a driver reset would: everything after fails with `DeviceLost`.
    pub fn destroy(&self) {
        self.0.device.destroy();
        self.lose("destroyed");
    }

    /// Everything after fails with `DeviceLost`.
    pub(super) fn lose(&self, reason: &str) {
        self.0.health.is_lost(reason.to_string());
    }

    /// Fails if the device is lost or wgpu reported an error since the last check.
    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        let health = &self.0.health;
        if !health.ill.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut symptoms = lock(&health.symptoms);
        if let Some(reason) = &symptoms.lost {
            return Err(Error::DeviceLost { op, reason: reason.clone() });
        }
        health.ill.store(false, Ordering::Release);
        match symptoms.fault.take() {
            Some(message) => Err(Error::Gpu { op, message }),
            None => Ok(()),
        }
    }
}

/// Locks; a poisoned lock is taken as it is (the state behind it is only counters and caches).
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
