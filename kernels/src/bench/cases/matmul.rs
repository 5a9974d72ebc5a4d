use super::super::reference::{Agreement, noise, rounding, spread, sum_tolerance};
use super::super::{Case, Opened, Work};
use super::{KEYS, QUERIES, QWEN3, VOCABULARY};
use crate::buffer::{Buffer, Dtype};
use crate::matmul::{Layout, Matmul, matmul};
use crate::narrow::narrowed;

pub fn cases() -> Vec<Case> {
    let plain = |[m, n, k]: [usize; 3]| case(String::new(), Layout::Nn, [m, n, k], Dtype::F32);
    let sizes = [[512, 512, 512], [2048, 256, 256], [2048, 768, 256], [1024, 1024, 1024], [4096, 4096, 4096]];
    let mut cases: Vec<Case> = sizes.into_iter().map(plain).collect();
    const ROWS: usize = 2048;
    for model in QWEN3 {
        let (name, c, f) = (model.name, model.hidden, model.ffn);
        let mut add =
            |what: &str, layout, sizes| cases.push(case(format!(" {name} {what}"), layout, sizes, Dtype::F32));
        add("q", Layout::Nt, [ROWS, QUERIES, c]);
        add("k", Layout::Nt, [ROWS, KEYS, c]);
        add("up", Layout::Nt, [ROWS, f, c]);
        add("down", Layout::Nt, [ROWS, c, f]);
        add("up dx", Layout::Nn, [ROWS, c, f]);
        add("up dw", Layout::Tn, [f, c, ROWS]);
        for rows in [1, 4, 16, 64] {
            add(&format!("up decode {rows}"), Layout::Nt, [rows, f, c]);
        }
        add("head decode 1", Layout::Nt, [1, VOCABULARY, c]);
        let mut narrow = |what: &str, sizes| {
            cases.push(case(format!(" {name} {what} bf16"), Layout::Nt, sizes, Dtype::Bf16));
        };
        for rows in [1, 4, 16, 64] {
            narrow(&format!("up decode {rows}"), [rows, f, c]);
        }
        narrow("head decode 1", [1, VOCABULARY, c]);
    }
    cases
}

/// A product whose operand b is stored as `dtype`.
fn case(of: String, layout: Layout, [m, n, k]: [usize; 3], dtype: Dtype) -> Case {
    let kind = match layout {
        Layout::Nn => "",
        Layout::Nt => " nt",
        Layout::Tn => " tn",
    };
    let moved = 4 * (m * k + m * n) + dtype.size() * k * n;
    // with so few rows reading the other operand takes longer than multiplying
    let work = match m < 32 {
        true => Work::Bytes(moved as f64),
        false => Work::Flops(2.0 * (m * n * k) as f64),
    };
    let open = move |device: &crate::Device| {
        let (a, mut b) = (noise(1, m * k), noise(2, k * n));
        let operands = [Buffer::from_slice(device, &a)?, narrowed(device, &b, dtype)?];
        if dtype == Dtype::Bf16 {
            b.iter_mut().for_each(|x| *x = half::bf16::from_f32(*x).to_f32());
        }
        let spec = Matmul::one(layout, m, n, k);
        let tolerance = sum_tolerance(k) + rounding(device);
        Ok(Opened {
            run: Box::new(move || Ok(vec![matmul(&operands[0], &operands[1], &spec)?])),
            check: Box::new(move |found| {
                let found = found[0].to_vec::<f32>()?;
                let a_at = |i, l| if layout == Layout::Tn { a[l * m + i] } else { a[i * k + l] } as f64;
                let b_at = |l, j| if layout == Layout::Nt { b[j * k + l] } else { b[l * n + j] } as f64;
                let pairs = spread(m, 17).flat_map(|i| spread(n, 17).map(move |j| (i, j)));
                let compared = pairs.map(|(i, j)| {
                    let expected: f64 = (0..k).map(|l| a_at(i, l) * b_at(l, j)).sum();
                    (found[i * n + j] as f64, expected)
                });
                Ok(Agreement::of(compared, tolerance))
            }),
        })
    };
    Case { name: format!("matmul{kind} {m}x{n}x{k}{of}"), work, memory: moved as u64, open: Box::new(open) }
}
