//! Causal grouped-query attention over packed segments.

use crate::autograd::{Backward, Tape, Var};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use gr2_kernels::attention::{self as kernel, Attended, Heads, Operands, Segments};

/// `out_t = Σ_s softmax_s(q_t·k_s / √D) v_s` over the tokens `s` that `segments` lets `t` see.
///
/// Shapes: `q` and the result (T, H, D); `k`, `v` (T, K, D), H a multiple of K. Keeps its inputs, its output and one
/// number per query.
/// Errors: `Shape` if the three disagree with each other or with the segments.
/// Source: torch.nn.functional.scaled_dot_product_attention with `enable_gqa`.
pub fn attention(tape: &Tape, q: &Var, k: &Var, v: &Var, segments: &Segments) -> Result<Var> {
    const OP: &str = "attention";
    let (tokens, query, dim) = q.tensor().shape().dims3(OP)?;
    let (_, kv, _) = k.tensor().shape().dims3(OP)?;
    let keys = [tokens, kv, dim].into();
    if *k.tensor().shape() != keys || *v.tensor().shape() != keys {
        let problem = format!("q is {}, k {}, v {}", q.tensor().shape(), k.tensor().shape(), v.tensor().shape());
        return Err(Error::Shape { op: OP, problem });
    }
    if tokens != segments.tokens() {
        return Err(Error::Shape {
            op: OP,
            problem: format!("q has {tokens} tokens, the segments {}", segments.tokens()),
        });
    }
    let op = Attention {
        q: q.tensor().clone(),
        k: k.tensor().clone(),
        v: v.tensor().clone(),
        segments: segments.clone(),
        heads: Heads { query, kv, dim },
    };
    let y = kernel::forward(&op.operands())?;
    let out = Tensor::new(y.out.clone(), q.tensor().shape().clone())?;
    Ok(tape.record(out, &[q, k, v], || Saved { op, y }))
}

struct Attention {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    segments: Segments,
    heads: Heads,
}

impl Attention {
    fn operands(&self) -> Operands<'_> {
        let Attention { q, k, v, segments, heads } = self;
        let (q, k, v) = (q.buffer(), k.buffer(), v.buffer());
        Operands { q, k, v, segments, heads: *heads, scale: heads.scale(), half: false }
    }
}

struct Saved {
    op: Attention,
    y: Attended,
}

impl Backward for Saved {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let gradients = kernel::backward(&self.op.operands(), &self.y, dy.buffer())?;
        let like = |buffer, x: &Tensor| Tensor::new(buffer, x.shape().clone()).map(Some);
        let Attention { q, k, v, .. } = &self.op;
        Ok(vec![like(gradients.dq, q)?, like(gradients.dk, k)?, like(gradients.dv, v)?])
    }
}
