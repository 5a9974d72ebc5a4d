//! The modules of `gr2` form layers: each uses only modules listed before it in `src/lib.rs`.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("readable directory") {
        let path = entry.expect("readable entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Names after `crate::` in a source text, comments and strings included: a mention in a doc link counts as well.
fn mentioned(text: &str) -> Vec<String> {
    let mut names = vec![];
    for part in text.split("crate::").skip(1) {
        let list = part.strip_prefix('{').map(|p| p.split('}').next().unwrap_or("")).unwrap_or(part);
        let name = |s: &str| s.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match part.starts_with('{') {
            // `use crate::{files, ops::{a, b}}`: only the first name of each entry is a module
            true => names.extend(list.split(',').map(name)),
            false => names.push(name(list)),
        }
    }
    names
}

#[test]
fn modules_use_only_modules_listed_before_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(root.join("lib.rs")).expect("lib.rs");
    let order: Vec<&str> = lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(order.len() > 10, "the list of modules was not found");
    let mut broken = vec![];
    for (at, module) in order.iter().enumerate() {
        let mut files = vec![];
        match root.join(module).is_dir() {
            true => sources(&root.join(module), &mut files),
            false => files.push(root.join(format!("{module}.rs"))),
        }
        for file in files {
            let text = fs::read_to_string(&file).expect("readable source");
            for name in mentioned(&text) {
                if let Some(used) = order.iter().position(|m| *m == name).filter(|used| *used > at) {
                    broken.push(format!("{}: {module} uses {}, which comes after it", file.display(), order[used]));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
