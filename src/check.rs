//! What the unit tests of several modules share.

use crate::model::{Qwen3, Qwen3Config, save_weights};
use gr2_kernels::{Device, Gpu, GpuOptions};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A GPU with shader checks on. Without an adapter the test is skipped aloud, or fails if `REQUIRE_GPU=1`.
pub fn gpu(test: &str) -> Option<(Device, Gpu)> {
    match Device::open("gpu", GpuOptions::for_tests()) {
        Ok(Device::Gpu(gpu)) => Some((Device::Gpu(gpu.clone()), gpu)),
        _ => {
            assert!(std::env::var("REQUIRE_GPU").as_deref() != Ok("1"), "REQUIRE_GPU=1 and no adapter");
            println!("{test}: skipped, no Vulkan, Metal or DX12 adapter");
            None
        }
    }
}

/// A checkpoint in a directory of its own, to be damaged.
pub struct Directory {
    directory: tempfile::TempDir,
}

/// Shape and values of every tensor.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

impl Directory {
    /// A small tied model.
    pub fn new() -> Directory {
        let directory = tempfile::tempdir().unwrap();
        let model = Qwen3::random(Qwen3Config::small(19, 16, 1, (2, 1, 8), 24), &Device::Cpu, 3).unwrap();
        save_weights(&model, directory.path(), usize::MAX).unwrap();
        Directory { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join("model.safetensors")
    }

    fn tensors(&self) -> Tensors {
        let bytes = std::fs::read(self.file()).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let read = |(name, view): (String, TensorView)| {
            (name, (view.shape().to_vec(), bytemuck::pod_collect_to_vec(view.data())))
        };
        tensors.tensors().into_iter().map(read).collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.tensors().into_keys().collect()
    }

    pub fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        self.tensors().remove(name).unwrap()
    }

    /// Writes the tensors anew as `change` leaves them.
    pub fn edit(&self, change: impl FnOnce(&mut Tensors)) {
        let mut tensors = self.tensors();
        change(&mut tensors);
        let views = tensors.iter().map(|(name, (shape, values))| {
            (name, TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).unwrap())
        });
        safetensors::serialize_to_file(views, None, &self.file()).unwrap();
    }
}
