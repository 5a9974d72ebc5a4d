//! Safetensors files as inputs of two parts, header and numbers, so that a changed header keeps the length that stands before
//! it; an input whose first part is `raw` is a file as it is.

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::{SEPARATOR, join, parts};

/// The file that an input stands for.
pub fn file(input: &[u8]) -> Vec<u8> {
    let [header, data] = parts(input);
    if header == b"raw" {
        return data.to_vec();
    }
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend_from_slice(data);
    file
}

/// The two parts that make a file.
pub fn input(file: &[u8]) -> Vec<u8> {
    let mut length = [0; 8];
    length.copy_from_slice(&file[..8]);
    let (header, data) = file[8..].split_at(u64::from_le_bytes(length) as usize);
    join(&[header.trim_ascii_end(), data])
}

/// The input that is `file` as it is.
pub fn raw(file: &[u8]) -> Vec<u8> {
    [b"raw", SEPARATOR, file].concat()
}

/// A file of one tensor, of small numbers.
pub fn one(name: &str, dtype: Dtype, shape: &[usize]) -> Vec<u8> {
    let numbers = (0..shape.iter().product()).map(|i| (i % 7) as f32 * 0.25 - 0.5);
    let data: Vec<u8> = match dtype {
        Dtype::F64 => numbers.flat_map(|x| f64::from(x).to_le_bytes()).collect(),
        Dtype::F16 => numbers.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
        Dtype::BF16 => numbers.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect(),
        _ => numbers.flat_map(f32::to_le_bytes).collect(),
    };
    let view = TensorView::new(dtype, shape.to_vec(), &data).expect("the data fill the shape");
    safetensors::serialize([(name, view)], None).expect("serialises")
}
