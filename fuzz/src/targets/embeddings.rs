//! A user's own embeddings.

use std::path::Path;

use gr2::sid::read_embeddings;
use safetensors::Dtype;

use super::tensors;
use crate::{SLOW, Scratch, Target, Verdict, join, parts};

const ITEMS: usize = 3;

fn judged(path: &Path, tensor: Option<&str>) -> Verdict {
    let read = read_embeddings(path, tensor, ITEMS);
    if let Ok(embeddings) = &read {
        assert_eq!(embeddings.rows(), ITEMS);
        assert!(embeddings.values().iter().all(|value| value.is_finite()), "a number that is none was accepted");
    }
    Verdict::of(read, |embeddings| embeddings.dims())
}

/// `.npy`: version, header and numbers; the length before the header is made to fit, or the file is as it is.
pub const NPY: Target = Target {
    name: "embeddings_npy",
    seeds: || {
        let header = |descr: &str, shape: &str| {
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}       \n").into_bytes()
        };
        let f4 = 0.5f32.to_le_bytes().repeat(6);
        let f8 = (-1.25f64).to_le_bytes().repeat(6);
        let whole = [&b"\x93NUMPY\x01\x00\x40\x00"[..], &[header("<f4", "(3, 2)"), vec![b' '; 64]].concat()[..64], &f4];
        vec![
            join(&[b"\x01", &header("<f4", "(3, 2)"), &f4]),
            join(&[b"\x02", &header("<f8", "(3, 2)"), &f8]),
            join(&[b"\x03", &header("<f2", "(3L, 2L)"), &[0; 12]]),
            join(&[b"raw", b"", &whole.concat()]),
        ]
    },
    slow: SLOW,
    words: &[
        "'descr'",
        "'fortran_order'",
        "'shape'",
        "True",
        "False",
        "<f4",
        "<f8",
        "<f2",
        ">f4",
        "<i4",
        "|O",
        "(3,)",
        "(3, 0)",
        "(0, 2)",
        "()",
        "(3, 18446744073709551615)",
        "(3, 4611686018427387904)",
        "L",
    ],
    reader: || {
        let folder = Scratch::new();
        Box::new(move |input| {
            let [version, header, data] = parts(input);
            let length = header.len() as u32;
            let path = match version {
                b"raw" => folder.put("e.npy", data),
                [1, ..] => {
                    let start = [b"\x93NUMPY\x01\x00", &(length as u16).to_le_bytes()[..]].concat();
                    folder.put("e.npy", &[&start, header, data].concat())
                }
                _ => {
                    let version = version.first().copied().unwrap_or(2);
                    let start = [b"\x93NUMPY", &[version, 0][..], &length.to_le_bytes()].concat();
                    folder.put("e.npy", &[&start, header, data].concat())
                }
            };
            judged(&path, None)
        })
    },
};

/// `.safetensors`.
pub const SAFETENSORS: Target = Target {
    name: "embeddings_safetensors",
    seeds: || {
        let dtypes = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::BF16];
        let mut seeds: Vec<Vec<u8>> =
            dtypes.iter().map(|&dtype| tensors::input(&tensors::one("items", dtype, &[ITEMS, 2]))).collect();
        seeds.push(tensors::raw(&tensors::one("items", Dtype::F32, &[ITEMS, 2])));
        seeds
    },
    slow: SLOW,
    words: &[
        "items",
        "dtype",
        "shape",
        "data_offsets",
        "F32",
        "F64",
        "F16",
        "BF16",
        "I64",
        "U8",
        "BOOL",
        "F8_E4M3",
        "__metadata__",
        "[3,0]",
        "[0,2]",
        "[3]",
        "[3,18446744073709551615]",
    ],
    reader: || {
        let folder = Scratch::new();
        Box::new(move |input| {
            let path = folder.put("e.safetensors", &tensors::file(input));
            judged(&path, None);
            judged(&path, Some("items"))
        })
    },
};
