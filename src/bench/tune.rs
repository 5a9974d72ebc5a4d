//! Which way of each product of a model is the fastest on a GPU.

use crate::console::check_interrupt;
use crate::error::Result;
use crate::model::Qwen3Config;
use gr2_kernels::bench::{Tuned, tune};
use gr2_kernels::matmul::{Layout, Matmul, Tunable};
use gr2_kernels::{Dtype, Gpu};

/// What to tune for.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    /// Rows of products: sequences of a decoding step, tokens of a batch. Each stands for all numbers past its half.
    pub rows: Vec<usize>,
    /// What weights are stored in for prompts and sampling.
    pub weights: Dtype,
    /// Seconds for each way.
    pub budget: f64,
}

/// Rows from which on products are those of training too, whose gradients are products as well.
const TRAINING: usize = 256;

/// The products of a model, each once.
pub fn products(config: &Qwen3Config, tuning: &Tuning) -> Vec<Tunable> {
    let Qwen3Config { hidden_size: c, intermediate_size: f, vocab_size: v, head_dim: d, .. } = *config;
    let (q, kv) = (config.num_attention_heads * d, config.num_key_value_heads * d);
    let mut found: Vec<Tunable> = vec![];
    let mut add = |layout, m, n, k, stored| {
        let of = Tunable { spec: Matmul::one(layout, m, n, k), stored };
        if !found.contains(&of) {
            found.push(of);
        }
    };
    for &rows in &tuning.rows {
        for (out, inner) in [(q, c), (kv, c), (c, q), (f, c), (c, f), (v, c)] {
            add(Layout::Nt, rows, out, inner, tuning.weights);
            // the head of a batch in training goes in pieces of its own
            if rows >= TRAINING && out != v {
                add(Layout::Nt, rows, out, inner, Dtype::F32);
                add(Layout::Nn, rows, inner, out, Dtype::F32);
                add(Layout::Tn, out, inner, rows, Dtype::F32);
            }
        }
    }
    found
}

/// The head of the lines that [`tune_products`] hands on.
pub fn tuning_head() -> String {
    format!("{:<34} {:>14} {:>10}   {:<16} {:>10} {:>8}", "", "rule", "ms", "choice", "ms", "gain")
}

/// Measures them, each handed to `done` with a line that tells of it as soon as it is.
///
/// Errors: `Interrupted`, `Kernel`, and those of `done`.
pub fn tune_products(
    gpu: &Gpu,
    of: &[Tunable],
    budget: f64,
    mut done: impl FnMut(&str, Tuned) -> Result<()>,
) -> Result<()> {
    for of in of {
        check_interrupt()?;
        let tuned = tune(gpu, *of, budget)?;
        let ms = |way| 1e3 * tuned.seconds(way).unwrap_or(f64::NAN);
        let (rule, choice) = (ms(tuned.rule), ms(tuned.choice));
        let line = format!(
            "{:<34} {:>14} {rule:>10.3}   {:<16} {choice:>10.3} {:>8.2}",
            name(of),
            tuned.rule.name(),
            tuned.choice.name(),
            rule / choice
        );
        done(&line, tuned)?;
    }
    Ok(())
}

/// As `nt 16x3072x1024 bf16`.
fn name(of: &Tunable) -> String {
    let Matmul { m, n, k, layout, .. } = of.spec;
    format!("{} {m}x{n}x{k} {}", layout.name(), of.stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_decoding_and_of_training_each_once() {
        let config = Qwen3Config::small(100, 16, 2, (4, 2, 8), 48);
        let tuning = |rows: &[usize]| Tuning { rows: rows.into(), weights: Dtype::Bf16, budget: 1.0 };
        let decoding = products(&config, &tuning(&[4]));
        let sizes: Vec<[usize; 3]> = decoding.iter().map(|of| [of.spec.m, of.spec.n, of.spec.k]).collect();
        // keys and values are as wide as the stream
        assert_eq!(sizes, [[4, 32, 16], [4, 16, 16], [4, 16, 32], [4, 48, 16], [4, 16, 48], [4, 100, 16]]);
        assert!(decoding.iter().all(|of| of.stored == Dtype::Bf16 && of.spec.layout == Layout::Nt));
        let training = products(&config, &tuning(&[512]));
        assert_eq!(training.len(), 6 + 3 * 5);
        assert!(training.iter().filter(|of| of.spec.layout == Layout::Tn).all(|of| of.spec.k == 512));
        assert_eq!(name(&training[0]), "nt 512x32x16 bf16");
    }
}
