use super::super::reference::{Agreement, noise, spread, sum_tolerance};
use super::super::{Case, Open, Opened, Work};
use super::{GIBIBYTE, bytes};
use crate::buffer::Buffer;
use crate::{rms_norm, softmax};

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, cols) in [(2048, 1024), (GIBIBYTE / 1024, 1024)] {
        cases.extend([softmax_case(rows, cols), rms_norm_case(rows, cols)]);
    }
    cases
}

/// A kernel that reads and writes every element of its rows.
fn case(kind: &str, rows: usize, cols: usize, open: Open) -> Case {
    let elements = rows * cols;
    let name = format!("{kind} {rows}x{cols}");
    Case { name, work: Work::Bytes(8.0 * elements as f64), memory: bytes(2 * elements), open }
}

fn softmax_case(rows: usize, cols: usize) -> Case {
    let open = move |device: &crate::Device| {
        let values = noise(1, rows * cols);
        let x = Buffer::from_slice(device, &values)?;
        Ok(Opened {
            run: Box::new(move || Ok(vec![softmax::forward(&x, rows, cols)?])),
            check: Box::new(move |found| {
                let found = found[0].to_vec::<f32>()?;
                let compared = spread(rows, 16).flat_map(|r| {
                    let e: Vec<f64> = values[r * cols..(r + 1) * cols].iter().map(|&x| (x as f64).exp()).collect();
                    let total: f64 = e.iter().sum();
                    let found = found[r * cols..(r + 1) * cols].to_vec();
                    found.into_iter().zip(e).map(move |(found, e)| (found as f64, e / total))
                });
                Ok(Agreement::of(compared, sum_tolerance(cols)))
            }),
        })
    };
    case("softmax", rows, cols, Box::new(open))
}

fn rms_norm_case(rows: usize, cols: usize) -> Case {
    const EPS: f32 = 1e-6;
    let open = move |device: &crate::Device| {
        let (values, weights) = (noise(1, rows * cols), noise(2, cols));
        let (x, w) = (Buffer::from_slice(device, &values)?, Buffer::from_slice(device, &weights)?);
        Ok(Opened {
            run: Box::new(move || Ok(vec![rms_norm::forward(&x, &w, rows, cols, EPS)?.y])),
            check: Box::new(move |found| {
                let found = found[0].to_vec::<f32>()?;
                let compared = spread(rows, 16).flat_map(|r| {
                    let row = &values[r * cols..(r + 1) * cols];
                    let mean = row.iter().map(|&x| (x as f64).powi(2)).sum::<f64>() / cols as f64;
                    let scale = 1.0 / (mean + EPS as f64).sqrt();
                    let expected = row.iter().zip(&weights).map(move |(&x, &w)| x as f64 * scale * w as f64);
                    found[r * cols..(r + 1) * cols].iter().map(|&y| y as f64).zip(expected)
                });
                Ok(Agreement::of(compared, sum_tolerance(cols)))
            }),
        })
    };
    case("rms_norm", rows, cols, Box::new(open))
}
