use super::super::reference::{Agreement, noise, spread, sum_tolerance};
use super::super::{Case, Opened, Work};
use super::{VOCABULARY, bytes};
use crate::buffer::{Buffer, Dtype};
use crate::logprob::{Chunk, Stats, gradient_in_place, stats};

const ROWS: usize = 256;

pub fn cases() -> Vec<Case> {
    vec![forward(), backward()]
}

/// Logits, targets and log-normalisers of the rows in f64.
struct Expected {
    logits: Vec<f32>,
    targets: Vec<u32>,
}

impl Expected {
    fn new() -> Expected {
        let targets = (0..ROWS).map(|r| (r * 593 % VOCABULARY) as u32).collect();
        Expected { logits: noise(1, ROWS * VOCABULARY), targets }
    }

    fn row(&self, r: usize) -> &[f32] {
        &self.logits[r * VOCABULARY..(r + 1) * VOCABULARY]
    }

    fn norm(&self, r: usize) -> f64 {
        self.row(r).iter().map(|&x| (x as f64).exp()).sum::<f64>().ln()
    }
}

const CHUNK: Chunk = Chunk { first: 0, rows: ROWS, cols: VOCABULARY, temperature: 1.0 };

fn forward() -> Case {
    let open = |device: &crate::Device| {
        let expected = Expected::new();
        let (logits, targets) =
            (Buffer::from_slice(device, &expected.logits)?, Buffer::from_slice(device, &expected.targets)?);
        Ok(Opened {
            run: Box::new(move || {
                let mut out = Stats::uninit(logits.device(), Dtype::F32, ROWS)?;
                stats(&logits, &targets, &CHUNK, &mut out)?;
                Ok(vec![out.logp])
            }),
            check: Box::new(move |found| {
                let found = found[0].to_vec::<f32>()?;
                let compared = spread(ROWS, 16).map(|r| {
                    let logit = expected.row(r)[expected.targets[r] as usize] as f64;
                    (found[r] as f64, logit - expected.norm(r))
                });
                Ok(Agreement::of(compared, sum_tolerance(VOCABULARY)))
            }),
        })
    };
    Case {
        name: format!("cross-entropy {ROWS}x{VOCABULARY}"),
        work: Work::Bytes(4.0 * (ROWS * VOCABULARY) as f64),
        memory: bytes(ROWS * VOCABULARY),
        open: Box::new(open),
    }
}

fn backward() -> Case {
    let open = |device: &crate::Device| {
        let expected = Expected::new();
        let mut logits = Buffer::from_slice(device, &expected.logits)?;
        let targets = Buffer::from_slice(device, &expected.targets)?;
        let mut out = Stats::uninit(device, Dtype::F32, ROWS)?;
        stats(&logits, &targets, &CHUNK, &mut out)?;
        let g = Buffer::from_slice(device, &[1.0f32; ROWS])?;
        let mut first = true;
        Ok(Opened {
            run: Box::new(move || {
                // what it overwrites are no longer the logits of these statistics after the first run: the work is
                // the same
                gradient_in_place(&mut logits, &targets, &out.norm, &g, &CHUNK)?;
                let result =
                    if std::mem::take(&mut first) { vec![logits.to_device(&crate::Device::Cpu)?] } else { vec![] };
                Ok(result)
            }),
            check: Box::new(move |found| {
                let found = found[0].to_vec::<f32>()?;
                let compared = spread(ROWS, 4).flat_map(|r| {
                    let (norm, found, expected) = (expected.norm(r), &found, &expected);
                    (0..VOCABULARY).map(move |v| {
                        let hit = if v as u32 == expected.targets[r] { 1.0 } else { 0.0 };
                        (found[r * VOCABULARY + v] as f64, hit - (expected.row(r)[v] as f64 - norm).exp())
                    })
                });
                Ok(Agreement::of(compared, sum_tolerance(VOCABULARY)))
            }),
        })
    };
    Case {
        name: format!("cross-entropy backward {ROWS}x{VOCABULARY}"),
        work: Work::Bytes(8.0 * (ROWS * VOCABULARY) as f64),
        memory: bytes(ROWS * VOCABULARY),
        open: Box::new(open),
    }
}
