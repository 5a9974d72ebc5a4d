//! A user's own item embeddings: `.npy` or `.safetensors`, row i for item i.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::embeddings::Embeddings;
use crate::error::{Error, Result};
use crate::files::write_atomic_with;

/// The largest `.npy` header taken as one; NumPy's are 128 bytes.
const LONGEST_HEADER: u64 = 1 << 20;

/// Reads one vector per item from a `.npy` file (versions 1 to 3, C or Fortran order) or a `.safetensors` file.
///
/// `tensor` names the tensor of a safetensors file; it may be left out where there is only one.
///
/// Shapes: (items, dims). Dtypes: f32, f64 and f16 in both; bf16 in safetensors.
/// Errors: `Io`; `Data` if the file is damaged, is not of such a shape and dtype, has another number of rows than the
/// catalogue has items, or holds a value that is not finite.
pub fn read_embeddings(path: &Path, tensor: Option<&str>, items: usize) -> Result<Embeddings> {
    let file = File::open(path).map_err(Error::io(path))?;
    let (dims, values) = match path.extension().and_then(|e| e.to_str()) {
        Some("npy") => read_npy(path, file, items)?,
        Some("safetensors") => read_safetensors(path, &file, tensor, items)?,
        _ => return Err(bad(path, "unknown kind of file, expected .npy or .safetensors")),
    };
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        let problem = format!("row {}, column {} is {}, expected a finite number", at / dims, at % dims, values[at]);
        return Err(bad(path, problem));
    }
    Embeddings::new(dims, values)
}

/// Writes embeddings as a `.npy` file that [`read_embeddings`] and NumPy read; the file appears whole or not at all.
///
/// Errors: `Io`.
pub fn write_embeddings(path: &Path, embeddings: &Embeddings) -> Result<()> {
    write_atomic_with(path, |file| {
        let shape = format!("({}, {})", embeddings.rows(), embeddings.dims());
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        // The header ends in a line feed at a multiple of 64 bytes, magic and length included.
        header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
        header.push('\n');
        file.write_all(b"\x93NUMPY\x01\x00")?;
        file.write_all(&(header.len() as u16).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        embeddings.values().iter().try_for_each(|v| file.write_all(&v.to_le_bytes()))
    })
}

fn bad(path: &Path, problem: impl Into<String>) -> Error {
    Error::Data { path: path.into(), line: None, problem: problem.into(), hint: None }
}

/// The width of a matrix of `shape`, if it has two dimensions and a row per item.
fn width_for(path: &Path, shape: &[usize], items: usize) -> Result<usize> {
    match *shape {
        [rows, dims] if dims > 0 && rows == items => Ok(dims),
        [rows, dims] if dims > 0 => Err(Error::Data {
            path: path.into(),
            line: None,
            problem: format!("{rows} rows of {dims}, the catalogue has {items} items"),
            hint: Some("row i must be item i of the catalogue, after its filters".into()),
        }),
        _ => Err(bad(path, format!("shape is {shape:?}, expected [items, dims]"))),
    }
}

fn read_npy(path: &Path, file: File, items: usize) -> Result<(usize, Vec<f32>)> {
    let length = file.metadata().map_err(Error::io(path))?.len();
    let mut file = BufReader::new(file);
    let cut = || bad(path, "the file ends inside its header");
    let mut start = [0u8; 8];
    file.read_exact(&mut start).map_err(|_| cut())?;
    if &start[..6] != b"\x93NUMPY" {
        return Err(bad(path, "no .npy file: it does not begin with \\x93NUMPY"));
    }
    let size_bytes = match start[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(bad(path, format!(".npy version {version}, expected 1, 2 or 3"))),
    };
    let mut size = [0u8; 4];
    file.read_exact(&mut size[..size_bytes]).map_err(|_| cut())?;
    let size = u64::from(u32::from_le_bytes(size));
    if size > LONGEST_HEADER {
        return Err(bad(path, format!("a header of {size} bytes, expected at most {LONGEST_HEADER}")));
    }
    let mut header = Vec::new();
    file.by_ref().take(size).read_to_end(&mut header).map_err(Error::io(path))?;
    if (header.len() as u64) < size {
        return Err(cut());
    }
    let header = String::from_utf8_lossy(&header).into_owned();
    let header = NpyHeader::parse(&header).ok_or_else(|| bad(path, format!("cannot read the header {header:?}")))?;
    let (bytes, decode): (usize, fn(&[u8]) -> f32) = match header.descr.as_str() {
        "<f4" => (4, f32_at),
        "<f8" => (8, f64_at),
        "<f2" => (2, f16_at),
        other => return Err(bad(path, format!("dtype is {other}, expected <f4, <f8 or <f2"))),
    };
    let dims = width_for(path, &header.shape, items)?;
    let there = length.saturating_sub(8 + size_bytes as u64 + size);
    // Before any memory is taken: the header may claim whatever it likes.
    let expected = items as u128 * dims as u128 * bytes as u128;
    if u128::from(there) != expected {
        return Err(bad(path, format!("{there} bytes of values, shape and dtype say {expected}")));
    }
    let mut values = Vec::with_capacity(items * dims);
    // A row, or in Fortran order a column.
    let (lines, length) = if header.fortran { (dims, items) } else { (items, dims) };
    let mut line = vec![0u8; length * bytes];
    for _ in 0..lines {
        file.read_exact(&mut line).map_err(Error::io(path))?;
        values.extend(line.chunks_exact(bytes).map(decode));
    }
    if header.fortran {
        let columns = values;
        values = (0..items).flat_map(|row| columns.iter().skip(row).step_by(items).copied()).collect();
    }
    Ok((dims, values))
}

/// The three entries of a `.npy` header, a Python dictionary literal.
struct NpyHeader {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl NpyHeader {
    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let at = text.find(&format!("'{key}'"))? + key.len() + 2;
            Some(text[at..].trim_start().strip_prefix(':')?.trim_start())
        };
        let descr = value("descr")?.strip_prefix('\'')?.split('\'').next()?.to_string();
        let fortran = match value("fortran_order")? {
            v if v.starts_with("True") => true,
            v if v.starts_with("False") => false,
            _ => return None,
        };
        let inside = value("shape")?.strip_prefix('(')?.split(')').next()?;
        let sizes = inside.split(',').map(str::trim).filter(|s| !s.is_empty());
        let shape = sizes.map(|s| s.trim_end_matches('L').parse().ok()).collect::<Option<_>>()?;
        Some(NpyHeader { descr, fortran, shape })
    }
}

fn read_safetensors(path: &Path, file: &File, tensor: Option<&str>, items: usize) -> Result<(usize, Vec<f32>)> {
    // SAFETY: the map is read-only and lives in this function; as with every memory map, another program that cuts the
    // file short meanwhile ends this one.
    let map = unsafe { Mmap::map(file) }.map_err(Error::io(path))?;
    let tensors = SafeTensors::deserialize(&map).map_err(|e| bad(path, format!("no valid safetensors file: {e}")))?;
    let mut names = tensors.names();
    names.sort_unstable();
    let name = match (tensor, names.as_slice()) {
        (Some(name), _) => name,
        (None, &[name]) => name,
        (None, _) => {
            let problem = format!("{} tensors ({}), expected one or its name", names.len(), shortened(&names));
            return Err(bad(path, problem));
        }
    };
    let view = tensors.tensor(name).map_err(|_| bad(path, format!("no tensor {name}, found {}", shortened(&names))))?;
    let (bytes, decode): (usize, fn(&[u8]) -> f32) = match view.dtype() {
        Dtype::F32 => (4, f32_at),
        Dtype::F64 => (8, f64_at),
        Dtype::F16 => (2, f16_at),
        Dtype::BF16 => (2, bf16_at),
        other => return Err(bad(path, format!("{name}: dtype is {other:?}, expected F32, F64, F16 or BF16"))),
    };
    let dims = width_for(path, view.shape(), items)?;
    Ok((dims, view.data().chunks_exact(bytes).map(decode).collect()))
}

fn shortened(names: &[&str]) -> String {
    let some = names[..names.len().min(5)].join(", ");
    if names.len() > 5 { format!("{some}, …") } else { some }
}

/// The first `N` bytes; every caller cuts chunks of exactly that size.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0u8; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

fn f32_at(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(first(bytes))
}

fn f64_at(bytes: &[u8]) -> f32 {
    f64::from_le_bytes(first(bytes)) as f32
}

fn f16_at(bytes: &[u8]) -> f32 {
    f16::from_le_bytes(first(bytes)).to_f32()
}

fn bf16_at(bytes: &[u8]) -> f32 {
    bf16::from_le_bytes(first(bytes)).to_f32()
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{TensorView, serialize_to_file};

    use super::*;

    fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn read(name: &str, bytes: &[u8], tensor: Option<&str>, items: usize) -> std::result::Result<Embeddings, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let prefix = format!("data: {}: ", path.display());
        read_embeddings(&path, tensor, items).map_err(|e| e.to_string().replace(&prefix, ""))
    }

    const TWO_BY_TWO: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n";

    #[test]
    fn reads_every_npy_version_and_dtype() {
        let numbers = [1.5f32, -2.0, 0.25, 8.0];
        let f32s: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        let f64s: Vec<u8> = numbers.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect();
        let f16s: Vec<u8> = numbers.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        for (version, descr, data) in [(1, "<f4", &f32s), (2, "<f8", &f64s), (3, "<f2", &f16s)] {
            let header = TWO_BY_TWO.replace("<f4", descr);
            let e = read("e.npy", &npy(version, &header, data), None, 2).unwrap();
            assert_eq!((e.dims(), e.values()), (2, &numbers[..]));
        }
    }

    #[test]
    fn columns_of_fortran_become_rows() {
        let header = TWO_BY_TWO.replace("False", "True").replace("(2, 2)", "(2, 3)");
        let data: Vec<u8> = [1.0f32, 4.0, 2.0, 5.0, 3.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let e = read("e.npy", &npy(1, &header, &data), None, 2).unwrap();
        assert_eq!((e.dims(), e.values()), (3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..]));
    }

    #[test]
    fn no_cut_and_no_flipped_byte_is_a_panic() {
        let whole = npy(1, TWO_BY_TWO, &[0; 16]);
        let view = TensorView::new(Dtype::F32, vec![2, 2], &[0; 16]).unwrap();
        let tensors = safetensors::serialize([("items", view)], None).unwrap();
        for (name, whole) in [("e.npy", whole), ("e.safetensors", tensors)] {
            for at in 0..whole.len() {
                assert!(read(name, &whole[..at], None, 2).is_err());
                for byte in [0, b'9', 0xff] {
                    let mut flipped = whole.clone();
                    flipped[at] = byte;
                    let _ = read(name, &flipped, None, 2);
                }
            }
        }
    }

    #[test]
    fn refuses_what_disagrees() {
        let ok = npy(1, TWO_BY_TWO, &[0; 16]);
        let rows = read("e.npy", &ok, None, 3).unwrap_err();
        assert!(rows.starts_with("2 rows of 2, the catalogue has 3 items\n  hint: row i"), "{rows}");
        assert_eq!(
            read("e.npy", &ok[..ok.len() - 1], None, 2).unwrap_err(),
            "15 bytes of values, shape and dtype say 16"
        );
        assert_eq!(read("e.npy", &ok[..20], None, 2).unwrap_err(), "the file ends inside its header");
        let error = |header: String| read("e.npy", &npy(1, &header, &[0; 16]), None, 2).unwrap_err();
        assert_eq!(
            error(TWO_BY_TWO.replace("(2, 2)", "(2, 1152921504606846976)")),
            "16 bytes of values, shape and dtype say 9223372036854775808"
        );
        for shape in
            ["(2, 18446744073709551615)", "(18446744073709551615, 2)", "(2, 99999999999999999999)", "(2, -1)", "(2, 0)"]
        {
            error(TWO_BY_TWO.replace("(2, 2)", shape));
        }
        let mut long = npy(2, TWO_BY_TWO, &[0; 16]);
        long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            read("e.npy", &long, None, 2).unwrap_err(),
            "a header of 4294967295 bytes, expected at most 1048576"
        );
        assert_eq!(error(TWO_BY_TWO.replace("<f4", "<i4")), "dtype is <i4, expected <f4, <f8 or <f2");
        assert_eq!(error(TWO_BY_TWO.replace("(2, 2)", "(4,)")), "shape is [4], expected [items, dims]");
        assert!(error("{}".into()).starts_with("cannot read the header"));
        let nan: Vec<u8> = [0.0f32, 0.0, f32::NAN, 0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let message = read("e.npy", &npy(1, TWO_BY_TWO, &nan), None, 2).unwrap_err();
        assert_eq!(message, "row 1, column 0 is NaN, expected a finite number");
        assert!(read("e.csv", &ok, None, 2).unwrap_err().starts_with("unknown kind of file"));
    }

    #[test]
    fn reads_safetensors_by_name_or_the_only_tensor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.safetensors");
        let data: Vec<u8> = [1.0f32, -0.5, 2.0, 4.0].iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        let view = || TensorView::new(Dtype::BF16, vec![2, 2], &data).unwrap();
        serialize_to_file([("items", view())], None, &path).unwrap();
        assert_eq!(read_embeddings(&path, None, 2).unwrap().values(), [1.0, -0.5, 2.0, 4.0]);
        serialize_to_file([("items", view()), ("users", view())], None, &path).unwrap();
        assert_eq!(read_embeddings(&path, Some("users"), 2).unwrap().rows(), 2);
        let several = read_embeddings(&path, None, 2).unwrap_err().to_string();
        assert!(several.ends_with("2 tensors (items, users), expected one or its name"), "{several}");
        let missing = read_embeddings(&path, Some("shops"), 2).unwrap_err().to_string();
        assert!(missing.ends_with("no tensor shops, found items, users"), "{missing}");
        std::fs::write(&path, b"12").unwrap();
        assert!(read_embeddings(&path, None, 2).unwrap_err().to_string().contains("no valid safetensors file"));
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.npy");
        let e = Embeddings::new(3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.5]).unwrap();
        write_embeddings(&path, &e).unwrap();
        assert_eq!(read_embeddings(&path, None, 2).unwrap(), e);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes.len() - 6 * 4) % 64, 0);
    }
}
