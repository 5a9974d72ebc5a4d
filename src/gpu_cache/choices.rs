//! Measured choices on disk: one file for each adapter, driver, version of the kernels and precision.

use super::{HASH, KERNELS};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use gr2_kernels::bench::Tuned;
use gr2_kernels::matmul::{Layout, Matmul, Tunable, use_choices};
use gr2_kernels::{Dtype, Gpu};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// What a file is for: choices of another key are not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    adapter: String,
    driver: String,
    /// Of every kernel's text and sizes.
    kernels: String,
    matrix_units: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Saved {
    key: Key,
    products: Vec<Product>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Product {
    layout: String,
    m: usize,
    n: usize,
    k: usize,
    stored: String,
    way: String,
    ms: Option<f64>,
    rule: String,
    rule_ms: Option<f64>,
}

/// Where they are in the cache directory.
const CHOICES: &str = "tuned";

const STORED: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];

impl Key {
    fn of(gpu: &Gpu) -> Key {
        let summary = gpu.summary();
        Key {
            adapter: format!("{} ({})", summary.name, summary.backend),
            driver: summary.driver.clone(),
            kernels: short_hash(*KERNELS),
            matrix_units: gpu.mixed(),
        }
    }

    fn file(&self) -> String {
        let text = serde_json::to_vec(self).expect("invariant: strings serialise");
        format!("{}.json", short_hash(Sha256::digest(text).into()))
    }
}

/// Enough of a hash to tell a few files apart.
fn short_hash(hash: [u8; HASH]) -> String {
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Product {
    fn of(tuned: &Tuned) -> Product {
        let Tunable { spec: Matmul { m, n, k, layout, .. }, stored } = tuned.of;
        let ms = |way| tuned.seconds(way).map(|seconds| 1e3 * seconds);
        Product {
            layout: layout.name().to_string(),
            m,
            n,
            k,
            stored: stored.to_string(),
            way: tuned.choice.name().to_string(),
            ms: ms(tuned.choice),
            rule: tuned.rule.name().to_string(),
            rule_ms: ms(tuned.rule),
        }
    }

    fn tunable(&self) -> Option<Tunable> {
        let layout = Layout::ALL.into_iter().find(|layout| layout.name() == self.layout)?;
        let stored = STORED.into_iter().find(|dtype| dtype.to_string() == self.stored)?;
        Some(Tunable { spec: Matmul::one(layout, self.m, self.n, self.k), stored })
    }
}

/// Adds what was measured of a GPU to its file below `directory`, and returns where that is.
///
/// Errors: `Io`.
pub fn save(directory: &Path, gpu: &Gpu, tuned: &[Tuned]) -> Result<PathBuf> {
    let key = Key::of(gpu);
    let directory = directory.join(CHOICES);
    let path = directory.join(key.file());
    let mut products: Vec<Product> = tuned.iter().map(Product::of).collect();
    let before = read(&path, &key).map(|saved| saved.products).unwrap_or_default();
    let new = |product: &Product| !products.iter().any(|other| other.tunable() == product.tunable());
    let kept: Vec<Product> = before.into_iter().filter(new).collect();
    products.extend(kept);
    std::fs::create_dir_all(&directory).map_err(Error::io(&directory))?;
    write_atomic(&path, serde_json::to_vec_pretty(&Saved { key, products }).expect("invariant: numbers and strings"))?;
    Ok(path)
}

/// Gives a GPU the choices that `directory` has for it: how many. A file that cannot be read or is of another key counts as none.
pub fn load(directory: &Path, gpu: &Gpu) -> usize {
    let directory = directory.join(CHOICES);
    // before the kernels are hashed
    if !directory.is_dir() {
        return 0;
    }
    let key = Key::of(gpu);
    let Some(saved) = read(&directory.join(key.file()), &key) else { return 0 };
    let choices = choices_of(saved);
    let count = choices.len();
    use_choices(gpu, choices);
    count
}

/// The choices in the text of a file, whatever its key; products that this version does not know are left out.
///
/// Errors: what serde_json finds wrong.
pub fn parse(text: &[u8]) -> serde_json::Result<Vec<(Tunable, String)>> {
    serde_json::from_slice(text).map(choices_of)
}

fn choices_of(saved: Saved) -> Vec<(Tunable, String)> {
    saved.products.into_iter().filter_map(|product| Some((product.tunable()?, product.way))).collect()
}

fn read(path: &Path, key: &Key) -> Option<Saved> {
    let saved: Saved = match serde_json::from_slice(&std::fs::read(path).ok()?) {
        Ok(saved) => saved,
        Err(problem) => {
            tracing::warn!("{}: not read, {problem}; `gr2 tune` writes it anew", path.display());
            return None;
        }
    };
    (saved.key == *key).then_some(saved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::gpu;
    use gr2_kernels::bench::tune;

    #[test]
    fn choices_come_back_for_the_same_gpu_alone_and_grow() {
        let Some((_, gpu)) = gpu("choices on disk") else { return };
        let directory = tempfile::tempdir().unwrap();
        let of = |m| Tunable { spec: Matmul::one(Layout::Nt, m, 8, 12), stored: Dtype::F32 };
        assert_eq!(load(directory.path(), &gpu), 0);
        let tuned = tune(&gpu, of(2), 1e-4).unwrap();
        let path = save(directory.path(), &gpu, &[tuned.clone(), tuned.clone()]).unwrap();
        let again = Tuned { choice: tuned.ways.last().expect("several ways").0, ..tuned.clone() };
        save(directory.path(), &gpu, &[again.clone(), Tuned { of: of(8), ..tuned.clone() }]).unwrap();
        let saved = read(&path, &Key::of(&gpu)).unwrap();
        assert_eq!(saved.products.len(), 2);
        assert_eq!(saved.products[0].way, again.choice.name());
        assert_eq!(saved.products.iter().map(Product::tunable).collect::<Vec<_>>(), [Some(of(2)), Some(of(8))]);
        assert_eq!(load(directory.path(), &gpu), 2);

        let other = Key { driver: "another".into(), ..Key::of(&gpu) };
        assert!(read(&path, &other).is_none() && other.file() != Key::of(&gpu).file());
        std::fs::write(&path, "{").unwrap();
        assert_eq!(load(directory.path(), &gpu), 0);
    }
}
