//! Linear layer and cross-entropy in one: log-probabilities without the whole matrix of logits.

use crate::autograd::{Backward, Tape, Var};
use crate::error::{Error, Result};
use crate::ops::refuse_narrow;
use crate::tensor::Tensor;
use gr2_kernels::logprob::{self as kernel, Chunk, Stats};
use gr2_kernels::matmul::{Layout, Matmul, matmul, matmul_into};
use gr2_kernels::{Buffer, Device};
use std::cell::RefCell;

/// What [`linear_logprob`] gives for each row.
#[derive(Debug, Clone)]
pub struct LogProbs {
    /// Log-probability of the row's target (R).
    pub logp: Var,
    /// Entropy of the row's tempered distribution in nats (R). No gradient flows through it.
    pub entropy: Tensor,
}

/// `log softmax(h wᵀ / temperature)[target]` of every row, and the entropy of that distribution.
///
/// Logits are made a chunk of rows at a time and made again on the way back, except the last chunk's, which are kept:
/// they are there at the peak of memory anyway.
///
/// Shapes: `h` (R, C), `w` (V, C), `targets` (R), results (R).
/// Errors: `Shape` for sizes that disagree, a target past V, or a temperature that is not positive.
/// Source: torch.nn.functional.cross_entropy on h wᵀ, negated, with reduction "none".
pub fn linear_logprob(tape: &Tape, h: &Var, w: &Var, targets: &[u32], temperature: f32) -> Result<LogProbs> {
    const OP: &str = "logprob";
    let (rows, inner) = h.tensor().shape().dims2(OP)?;
    let (vocabulary, w_inner) = w.tensor().shape().dims2(OP)?;
    refuse_narrow(OP, w)?;
    let fail = |problem: String| Err(Error::Shape { op: OP, problem });
    if inner != w_inner || rows != targets.len() {
        let shapes = format!("h is {}, w is {}", h.tensor().shape(), w.tensor().shape());
        return fail(format!("{shapes}, with {} targets", targets.len()));
    }
    if let Some(at) = targets.iter().position(|t| *t as usize >= vocabulary) {
        return fail(format!("target {} of row {at} is past the vocabulary of {vocabulary}", targets[at]));
    }
    if !(temperature.is_finite() && temperature > 0.0) {
        return fail(format!("temperature {temperature} must be positive"));
    }
    let device = h.tensor().device();
    let head = Head {
        h: h.tensor().clone(),
        w: w.tensor().clone(),
        targets: Buffer::from_slice(device, targets)?,
        chunk_rows: chunk_rows(device, vocabulary, h.tensor().dtype().size()),
        temperature,
    };
    let mut stats = Stats::uninit(device, h.tensor().dtype(), rows)?;
    let mut last = None;
    for chunk in head.chunks() {
        drop(last.take());
        let logits = head.logits(&chunk)?;
        kernel::stats(&logits, &head.targets, &chunk, &mut stats)?;
        last = Some(logits);
    }
    let Stats { logp, entropy, norm } = stats;
    let op = || LogProb { head, norm, last: RefCell::new(last), wants: (h.tracked(), w.tracked()) };
    let logp = tape.record(Tensor::new(logp, [rows])?, &[h, w], op);
    Ok(LogProbs { logp, entropy: Tensor::new(entropy, [rows])? })
}

/// Bytes of logits made at a time.
const CPU_CHUNK: usize = 32 << 20;
const GPU_CHUNK: usize = 512 << 20;
/// Fewer rows than this would leave the gradient of `w` to memory bandwidth.
const CPU_ROWS: usize = 256;

fn chunk_rows(device: &Device, vocabulary: usize, element: usize) -> usize {
    let fit = |bytes: usize| bytes / (vocabulary * element).max(1) / 64 * 64;
    match device {
        Device::Cpu => fit(CPU_CHUNK).max(CPU_ROWS),
        Device::Gpu(gpu) => fit(GPU_CHUNK.min(gpu.max_binding() as usize)).max(64),
    }
}

/// The linear layer that makes logits, and what they are judged by.
struct Head {
    h: Tensor,
    w: Tensor,
    targets: Buffer,
    chunk_rows: usize,
    temperature: f32,
}

impl Head {
    fn chunks(&self) -> impl DoubleEndedIterator<Item = Chunk> + use<> {
        let (total, cols) = (self.h.shape()[0], self.w.shape()[0]);
        let (step, temperature) = (self.chunk_rows, self.temperature);
        let starts = (0..total.div_ceil(step)).map(move |i| i * step);
        starts.map(move |first| Chunk { first, rows: step.min(total - first), cols, temperature })
    }

    fn rows(&self, chunk: &Chunk) -> Result<Tensor> {
        self.h.narrow(chunk.first..chunk.first + chunk.rows)
    }

    fn logits(&self, chunk: &Chunk) -> Result<Buffer> {
        let spec = Matmul::one(Layout::Nt, chunk.rows, chunk.cols, self.w.shape()[1]);
        Ok(matmul(self.rows(chunk)?.buffer(), self.w.buffer(), &spec)?)
    }
}

struct LogProb {
    head: Head,
    norm: Buffer,
    last: RefCell<Option<Buffer>>,
    /// Whether `h` and `w` need a gradient.
    wants: (bool, bool),
}

impl Backward for LogProb {
    fn name(&self) -> &'static str {
        "logprob"
    }

    /// `dh = d w`, `dw = dᵀ h` with `d` the gradient of the logits, chunk by chunk from the last.
    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let Head { h, w, targets, .. } = &self.head;
        let inner = w.shape()[1];
        let room = |t: &Tensor| Tensor::zeros(t.device(), t.dtype(), t.shape().clone());
        let mut dh = self.wants.0.then(|| room(h)).transpose()?;
        let mut dw = self.wants.1.then(|| room(w)).transpose()?;
        for chunk in self.head.chunks().rev() {
            let kept = self.last.take();
            let mut d = kept.map_or_else(|| self.head.logits(&chunk), Ok)?;
            kernel::gradient_in_place(&mut d, targets, &self.norm, dy.buffer(), &chunk)?;
            if let Some(dh) = &mut dh {
                let spec = Matmul::one(Layout::Nn, chunk.rows, inner, chunk.cols);
                matmul_into(dh.buffer_mut(), chunk.first * inner, &d, w.buffer(), &spec, false)?;
            }
            if let Some(dw) = &mut dw {
                let spec = Matmul::one(Layout::Tn, chunk.cols, inner, chunk.rows);
                matmul_into(dw.buffer_mut(), 0, &d, self.head.rows(&chunk)?.buffer(), &spec, true)?;
            }
        }
        Ok(vec![dh, dw])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gr2_kernels::Dtype;

    #[test]
    fn chunks_change_nothing() {
        // 256 rows per chunk on the CPU for so wide a vocabulary, so 300 rows are two
        let (rows, vocabulary) = (300, 40_000);
        let values = |n: usize, f: f32| (0..n).map(|i| (i as f32 * f).sin()).collect::<Vec<_>>();
        let tensor = |v: &[f32], shape: [usize; 2]| Tensor::from_slice(&Device::Cpu, v, shape).unwrap();
        let (h, w) = (values(rows * 2, 0.7), values(vocabulary * 2, 1.3));
        let targets: Vec<u32> = (0..rows as u32).map(|r| r * 131).collect();
        assert_eq!(chunk_rows(&Device::Cpu, vocabulary, 4), 256);
        let run = |range: std::ops::Range<usize>| {
            let tape = Tape::new();
            let x = tape.leaf(tensor(&h[2 * range.start..2 * range.end], [range.len(), 2]));
            let w = tape.leaf(tensor(&w, [vocabulary, 2]));
            let out = linear_logprob(&tape, &x, &w, &targets[range.clone()], 0.8).unwrap();
            let seed = Tensor::from_slice(&Device::Cpu, &vec![1.0f32; range.len()], [range.len()]).unwrap();
            let gradients = tape.backward(&[(&out.logp, seed)]).unwrap();
            let [logp, entropy] = [out.logp.tensor(), &out.entropy].map(|t| t.to_vec::<f32>().unwrap());
            let [dh, dw] = [&x, &w].map(|v| gradients.get(v).unwrap().to_vec::<f32>().unwrap());
            (logp, entropy, dh, dw)
        };
        let (whole, first, second) = (run(0..rows), run(0..150), run(150..rows));
        assert_eq!(whole.0, [first.0, second.0].concat());
        assert_eq!(whole.1, [first.1, second.1].concat());
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs()));
        assert!(close(&whole.2, &[first.2, second.2].concat()));
        let dw: Vec<f32> = first.3.iter().zip(&second.3).map(|(a, b)| a + b).collect();
        assert!(close(&whole.3, &dw));
    }

    #[test]
    fn bad_targets_and_temperatures_are_named() {
        let tape = Tape::new();
        let zeros = |shape: [usize; 2]| tape.constant(Tensor::zeros(&Device::Cpu, Dtype::F32, shape).unwrap());
        let (h, w) = (zeros([2, 3]), zeros([5, 3]));
        let message = |targets: &[u32], t: f32| linear_logprob(&tape, &h, &w, targets, t).unwrap_err().to_string();
        assert_eq!(message(&[0, 5], 1.0), "logprob: target 5 of row 1 is past the vocabulary of 5");
        assert_eq!(message(&[0, 1], 0.0), "logprob: temperature 0 must be positive");
        assert_eq!(message(&[0], 1.0), "logprob: h is [2, 3], w is [5, 3], with 1 targets");
    }
}
