//! What a driver has compiled, handed out when the GPU is closed so that the next run need not compile it again.

use super::Gpu;

/// Takes what a driver has compiled.
type Keep = Box<dyn FnMut(&[u8]) + Send + Sync>;

pub(super) struct PipelineCache {
    cache: wgpu::PipelineCache,
    keep: Keep,
}

impl Drop for PipelineCache {
    /// A lost device has nothing to hand out.
    fn drop(&mut self) {
        if let Some(compiled) = self.cache.get_data() {
            (self.keep)(&compiled);
        }
    }
}

impl Gpu {
    /// Name of a file for what is compiled here (`wgpu::util::pipeline_cache_key`); none where the backend hands nothing out.
    pub fn pipeline_cache_key(&self) -> Option<&str> {
        self.0.pipeline_cache_key.as_deref()
    }

    /// Gives the driver what it compiled in an earlier run, and `keep` all it has compiled when the last clone of this GPU is
    /// dropped. The driver does not use what another of its versions compiled. Before the first kernel; the first call counts,
    /// and none does without a key.
    ///
    /// # Safety
    ///
    /// `before` is what an earlier `keep` was given, of a GPU with this key.
    pub unsafe fn set_pipeline_cache(&self, before: Option<&[u8]>, keep: impl FnMut(&[u8]) + Send + Sync + 'static) {
        if self.0.pipeline_cache_key.is_none() {
            return;
        }
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("gr2"), data: before, fallback: true };
        // SAFETY: the caller's; its feature is on, as there is a key.
        let cache = unsafe { self.0.device.create_pipeline_cache(&descriptor) };
        let _ = self.0.pipeline_cache.set(PipelineCache { cache, keep: Box::new(keep) });
    }

    pub(super) fn pipeline_cache(&self) -> Option<&wgpu::PipelineCache> {
        self.0.pipeline_cache.get().map(|kept| &kept.cache)
    }
}
