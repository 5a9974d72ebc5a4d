//! What drivers have compiled, on disk: one file for each GPU, written anew when another version of the kernels comes. Drivers that
//! keep caches of their own gain little by it.

use super::hash_of_kernels;
use crate::error::{Error, Result};
use crate::files::write_atomic_with;
use gr2_kernels::Gpu;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Bytes of a hash. A file has that of the kernels, that of what was compiled, and what was compiled: drivers trust what they read.
const HASH: usize = 32;

/// Gives a GPU what its driver compiled in earlier runs, from `directory`, where all it has compiled is written when the GPU is
/// closed. A file that is damaged or of other kernels counts as none; one that cannot be written is warned of. Nothing happens where
/// the backend hands nothing out.
pub fn keep(directory: &Path, gpu: &Gpu) {
    let Some(key) = gpu.pipeline_cache_key() else { return };
    let directory = directory.join("pipelines");
    let path = directory.join(format!("{key}.bin"));
    let kernels: [u8; HASH] = hash_of_kernels().finalize().into();
    let before = std::fs::read(&path).ok().and_then(|bytes| parse(bytes, &kernels));
    tracing::debug!("{}: {} bytes of compiled kernels", path.display(), before.as_ref().map_or(0, Vec::len));
    let known = before.clone();
    let keep = move |compiled: &[u8]| {
        if known.as_deref() == Some(compiled) {
            return;
        }
        let written = std::fs::create_dir_all(&directory).map_err(Error::io(&directory));
        if let Err(problem) = written.and_then(|()| write(&path, &kernels, compiled)) {
            tracing::warn!("{problem}; the next run compiles its kernels again");
        }
    };
    // SAFETY: whole by its hash, it is what `keep` wrote, in the user's own directory.
    unsafe { gpu.set_pipeline_cache(before.as_deref(), keep) };
}

fn parse(mut bytes: Vec<u8>, kernels: &[u8; HASH]) -> Option<Vec<u8>> {
    let compiled = (bytes.len() >= 2 * HASH).then(|| bytes.split_off(2 * HASH))?;
    let whole = bytes[..HASH] == kernels[..] && bytes[HASH..] == Sha256::digest(&compiled)[..];
    whole.then_some(compiled)
}

fn write(path: &Path, kernels: &[u8; HASH], compiled: &[u8]) -> Result<()> {
    write_atomic_with(path, |out| {
        out.write_all(kernels)?;
        out.write_all(&Sha256::digest(compiled))?;
        out.write_all(compiled)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::gpu;
    use gr2_kernels::{Buffer, Device};

    #[test]
    fn what_was_compiled_is_written_when_the_gpu_is_closed_and_read_when_it_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let Some((device, gpu)) = gpu("compiled kernels on disk") else { return };
        let Some(key) = gpu.pipeline_cache_key().map(str::to_string) else {
            return println!("compiled kernels on disk: skipped, {device} hands nothing out");
        };
        let path = directory.path().join("pipelines").join(format!("{key}.bin"));
        let run = |device: Device, gpu: Gpu| {
            keep(directory.path(), &gpu);
            let sum = gr2_kernels::reduce::sum(&Buffer::from_slice(&device, &[1.0f32, 2.5]).unwrap()).unwrap();
            assert_eq!(sum.to_vec::<f32>().unwrap(), [3.5]);
        };
        run(device, gpu);
        let first = std::fs::read(&path).expect("written");
        let kernels: [u8; HASH] = hash_of_kernels().finalize().into();
        let compiled = parse(first.clone(), &kernels).expect("whole");
        assert!(!compiled.is_empty());

        let (device, gpu) = crate::check::gpu("opened before").unwrap();
        run(device, gpu);
        let again = parse(std::fs::read(&path).unwrap(), &kernels).expect("whole");
        assert!(again.len() >= compiled.len());

        let mut damaged = first.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(parse(damaged.clone(), &kernels).is_none());
        assert!(parse(first[..HASH].to_vec(), &kernels).is_none());
        assert!(parse(first, &[0; HASH]).is_none());
        std::fs::write(&path, damaged).unwrap();
        let (device, gpu) = crate::check::gpu("opened before").unwrap();
        run(device, gpu);
        assert!(parse(std::fs::read(&path).unwrap(), &kernels).is_some(), "written anew");
    }
}
