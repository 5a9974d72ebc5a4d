use super::super::reference::{Agreement, noise, spread, sum_tolerance};
use super::super::{Case, Open, Opened, Work};
use super::{GIBIBYTE, bytes};
use crate::buffer::Buffer;
use crate::{rms_norm, rope, softmax};

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, cols) in [(2048, 1024), (GIBIBYTE / 1024, 1024)] {
        cases.extend([softmax_case(rows, cols), rms_norm_case(rows, cols)]);
    }
    cases.push(rope_case(2048, [16, 8], 128));
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

/// Queries and keys of a layer, normalised and rotated.
fn rope_case(tokens: usize, heads: [usize; 2], width: usize) -> Case {
    const EPS: f32 = 1e-6;
    const THETA: f64 = 1e6;
    let open = move |device: &crate::Device| {
        let sides = heads.map(|count| noise(count as u64, tokens * count * width));
        let on = [Buffer::from_slice(device, &sides[0])?, Buffer::from_slice(device, &sides[1])?];
        let weights = noise(1, width);
        let weight = Buffer::from_slice(device, &weights)?;
        let angles: Vec<f32> = rope::angles(0..tokens, width, THETA).into_iter().map(|a| a as f32).collect();
        let table = Buffer::from_slice(device, &angles)?;
        let positions = Buffer::from_slice(device, &(0..tokens as u32).collect::<Vec<u32>>())?;
        Ok(Opened {
            run: Box::new(move || {
                let side = |i: usize| rope::Heads { x: &on[i], weight: &weight, count: heads[i] };
                let rotation = rope::Rotation { table: &table, positions: &positions, width };
                let (q, k) = rope::forward(side(0), side(1), rotation, EPS)?;
                Ok(vec![q, k])
            }),
            check: Box::new(move |found| {
                let mut compared = vec![];
                for ((found, x), count) in found.iter().zip(&sides).zip(heads) {
                    let found = found.to_vec::<f32>()?;
                    for head in spread(tokens * count, 16) {
                        let span = head * width..(head + 1) * width;
                        let row: Vec<f64> = x[span.clone()].iter().map(|&x| x as f64).collect();
                        let mean = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
                        let scale = 1.0 / (mean + EPS as f64).sqrt();
                        let normed: Vec<f64> = row.iter().zip(&weights).map(|(x, &w)| x * scale * w as f64).collect();
                        for (i, &found) in found[span].iter().enumerate() {
                            let pair = i % (width / 2);
                            let (a, b) = (normed[pair], normed[pair + width / 2]);
                            let angle = (head / count) as f64 * THETA.powf(-2.0 * pair as f64 / width as f64);
                            let (sin, cos) = angle.sin_cos();
                            let expected = if i < width / 2 { a * cos - b * sin } else { b * cos + a * sin };
                            compared.push((found as f64, expected));
                        }
                    }
                }
                Ok(Agreement::of(compared, sum_tolerance(width)))
            }),
        })
    };
    case("rope", tokens * (heads[0] + heads[1]), width, Box::new(open))
}
