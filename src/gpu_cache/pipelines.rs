//! What drivers have compiled, on disk: one file for each GPU, written anew when another version of the kernels comes. Drivers that
//! keep caches of their own gain little by it.

use super::{HASH, KERNELS};
use crate::error::{Error, Result};
use crate::files::write_atomic_with;
use gr2_kernels::Gpu;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Gives a GPU what its driver compiled in earlier runs, from `directory`, where all it has compiled is written when the GPU is
/// closed. A file that is damaged or of other kernels counts as none; one that cannot be written is warned of. Nothing happens where
/// the backend hands nothing out.
pub fn keep(directory: &Path, gpu: &Gpu) {
    let Some(key) = gpu.pipeline_cache_key() else { return };
    let directory = directory.join("pipelines");
    let path = directory.join(format!("{key}.bin"));
    let (known, before) = std::fs::read(&path).ok().and_then(parse).unzip();
    tracing::debug!("{}: {} bytes of compiled kernels", path.display(), before.as_ref().map_or(0, Vec::len));
    let keep = move |compiled: &[u8]| {
        let header = header(compiled);
        if known == Some(header) {
            return;
        }
        let written = std::fs::create_dir_all(&directory).map_err(Error::io(&directory));
        if let Err(problem) = written.and_then(|()| write(&path, header, compiled)) {
            tracing::warn!("{problem}; the next run compiles its kernels again");
        }
    };
    // SAFETY: whole by its hash, it is what `keep` wrote, in the user's own directory.
    unsafe { gpu.set_pipeline_cache(before.as_deref(), keep) };
}

/// What a file begins with: the hash of the kernels, and that of what was compiled, which follows. Drivers trust what they read.
type Header = [[u8; HASH]; 2];

fn header(compiled: &[u8]) -> Header {
    [*KERNELS, Sha256::digest(compiled).into()]
}

/// The header of a file, and what was compiled.
fn parse(mut file: Vec<u8>) -> Option<(Header, Vec<u8>)> {
    let compiled = (file.len() >= size_of::<Header>()).then(|| file.split_off(size_of::<Header>()))?;
    let header = header(&compiled);
    (file == header.as_flattened()).then_some((header, compiled))
}

fn write(path: &Path, header: Header, compiled: &[u8]) -> Result<()> {
    write_atomic_with(path, |out| {
        out.write_all(header.as_flattened())?;
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
        let (_, compiled) = parse(first.clone()).expect("whole");
        assert!(!compiled.is_empty());

        let (device, gpu) = crate::check::gpu("opened before").unwrap();
        run(device, gpu);
        let (_, again) = parse(std::fs::read(&path).unwrap()).expect("whole");
        assert!(again.len() >= compiled.len());

        let mut damaged = first.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(parse(damaged.clone()).is_none());
        assert!(parse(first[..HASH].to_vec()).is_none());
        let mut of_other_kernels = first;
        of_other_kernels[..HASH].fill(0);
        assert!(parse(of_other_kernels).is_none());
        std::fs::write(&path, damaged).unwrap();
        let (device, gpu) = crate::check::gpu("opened before").unwrap();
        run(device, gpu);
        assert!(parse(std::fs::read(&path).unwrap()).is_some(), "written anew");
    }
}
