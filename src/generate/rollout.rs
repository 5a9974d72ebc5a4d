//! Sampling: several continuations of several prompts.

use super::batch::Batch;
use super::grammar::Grammar;
use crate::error::{Error, Result};
use crate::generate::SamplerConfig;
use crate::model::Qwen3;
use gr2_kernels::{Device, Dtype};

/// What to generate.
#[derive(Debug, Clone)]
pub struct RolloutConfig {
    /// G, continuations of each prompt.
    pub samples: usize,
    /// Tokens of a continuation at most, the stop token included.
    pub max_new_tokens: usize,
    /// Tokens that end a continuation.
    pub stop: Vec<u32>,
    /// How tokens are drawn.
    pub sampler: SamplerConfig,
    /// Ids from this one on are never drawn: rows of a padded embedding.
    pub vocab_limit: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Purpose-specific counter of the draws, as the training step.
    pub step: u64,
    /// Continuations decoded together at most.
    pub max_rows: usize,
    /// What keys and values of earlier tokens are stored in: f32, or f16, which takes half the memory and rounds them.
    pub kv_cache: Dtype,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Index of its prompt.
    pub prompt: usize,
    /// New token ids, the stop token included.
    pub tokens: Vec<u32>,
    /// Log-probability of each under the distribution it was drawn from.
    pub logps: Vec<f32>,
    /// Tokens that the grammar left to choose from at each; empty where it left all.
    pub allowed: Vec<Vec<u32>>,
    /// True if it ended with a stop token.
    pub finished: bool,
}

/// Generates `config.samples` continuations of every prompt, in order of prompts.
///
/// The draws of continuation `g` of prompt `p` depend on (seed, step, p·G + g) only, not on what shares its batch.
/// Errors: `Shape` for an empty prompt or a list of the grammar that is not ascending, `Config` for a bad sampler,
/// `Kernel`.
pub fn rollout(
    model: &Qwen3,
    prompts: &[Vec<u32>],
    grammar: &dyn Grammar,
    config: &RolloutConfig,
) -> Result<Vec<Rollout>> {
    if let Some(empty) = prompts.iter().position(|p| p.is_empty()) {
        return Err(Error::Shape { op: "generate", problem: format!("prompt {empty} is empty") });
    }
    if prompts.is_empty() || config.samples == 0 {
        return Ok(vec![]);
    }
    Batch::new(model, prompts, grammar, config, tokens_ahead(model.device()))?.run()
}

/// Tokens drawn before the host looks at them, where nothing but a stop token depends on it: a GPU then need not wait for the
/// host between them. What computes on the host itself gains nothing, and would lose what comes after a stop token.
fn tokens_ahead(device: &Device) -> usize {
    const AHEAD: usize = 8;
    match device {
        Device::Gpu(gpu) if gpu.summary().hardware => AHEAD,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::gpu;
    use crate::generate::Free;
    use crate::model::Qwen3Config;

    #[test]
    fn continuations_are_the_same_whatever_shares_their_batch_and_whenever_they_are_read() {
        let model = Qwen3::random(Qwen3Config::small(19, 16, 2, (2, 1, 8), 24), &Device::Cpu, 3).unwrap();
        let prompts: Vec<Vec<u32>> =
            (0..7u32).map(|p| (0..1 + p * 5 % 9).map(|i| (i * 7 + p) % 19).collect()).collect();
        for sampler in [SamplerConfig::sampling(1.0), SamplerConfig { top_k: 15, ..SamplerConfig::sampling(1.0) }] {
            let config = RolloutConfig {
                samples: 3,
                max_new_tokens: 11,
                // drawn now and then: continuations leave, and others come in their place
                stop: vec![4, 9],
                sampler,
                vocab_limit: 18,
                seed: 5,
                step: 2,
                max_rows: usize::MAX,
                kv_cache: Dtype::F32,
            };
            let expected = rollout(&model, &prompts, &Free, &config).unwrap();
            let lengths: Vec<usize> = expected.iter().map(|rollout| rollout.tokens.len()).collect();
            assert!(expected.iter().zip(0..).all(|(rollout, i)| rollout.prompt == i / 3));
            assert!(lengths.iter().min() < lengths.iter().max(), "{lengths:?}");
            for (max_rows, ahead) in [(1, 1), (7, 1), (7, 4), (usize::MAX, 5)] {
                let config = RolloutConfig { max_rows, ..config.clone() };
                let found = Batch::new(&model, &prompts, &Free, &config, ahead).unwrap().run().unwrap();
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!((found.prompt, &found.tokens), (expected.prompt, &expected.tokens));
                    assert_eq!(found.finished, expected.finished);
                    assert!(found.logps.iter().zip(&expected.logps).all(|(a, b)| (a - b).abs() < 1e-4));
                }
                assert_eq!(found.len(), expected.len());
            }
        }
    }

    #[test]
    fn a_gpu_is_fed_its_own_draws() {
        let Some((device, _)) = gpu("a gpu is fed its own draws") else { return };
        let model = Qwen3::random(Qwen3Config::small(19, 16, 2, (2, 1, 8), 24), &device, 3).unwrap();
        let prompts = [vec![1, 2, 3], vec![4], vec![5, 6]];
        for sampler in [SamplerConfig::sampling(1.0), SamplerConfig::greedy()] {
            let config = RolloutConfig {
                samples: 2,
                max_new_tokens: 7,
                stop: vec![4],
                sampler,
                vocab_limit: 18,
                seed: 5,
                step: 2,
                max_rows: 4,
                kv_cache: Dtype::F32,
            };
            let run = |ahead| Batch::new(&model, &prompts, &Free, &config, ahead).unwrap().run().unwrap();
            let (found, expected) = (run(4), run(1));
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!((&found.tokens, found.finished), (&expected.tokens, expected.finished));
                assert!(found.logps.iter().zip(&expected.logps).all(|(a, b)| (a - b).abs() < 1e-4));
            }
        }
    }

    #[test]
    fn a_continuation_past_the_first_room_of_its_slot_is_as_if_it_had_been_there() {
        let mut shape = Qwen3Config::small(19, 16, 1, (2, 1, 8), 24);
        shape.initializer_range = 0.5;
        let model = Qwen3::random(shape, &Device::Cpu, 3).unwrap();
        let config = RolloutConfig {
            samples: 2,
            max_new_tokens: 1 << 40,
            stop: vec![],
            sampler: SamplerConfig { repetition_penalty: 1.01, ..SamplerConfig::greedy() },
            vocab_limit: 19,
            seed: 0,
            step: 0,
            max_rows: 4,
            kv_cache: Dtype::F32,
        };
        let run = |prompt: Vec<u32>, max_new_tokens| {
            let config = RolloutConfig { max_new_tokens, ..config.clone() };
            rollout(&model, &[prompt], &Free, &config).unwrap()[1].tokens.clone()
        };
        let long = run(vec![1, 2], 1040);
        let again = run([&[1, 2], &long[..1000]].concat(), 40);
        assert_eq!(long[1000..], again);
        // and no more room is taken than is needed
        let stop = vec![long[5]];
        let ended = rollout(&model, &[vec![1, 2]], &Free, &RolloutConfig { stop, ..config.clone() }).unwrap();
        assert!(ended[0].finished && ended[0].tokens.len() <= 6);
    }

    #[test]
    fn nothing_asked_for_is_nothing_done() {
        let model = Qwen3::random(Qwen3Config::small(19, 16, 1, (2, 1, 8), 24), &Device::Cpu, 3).unwrap();
        let config = RolloutConfig {
            samples: 2,
            max_new_tokens: 0,
            stop: vec![],
            sampler: SamplerConfig::greedy(),
            vocab_limit: 19,
            seed: 0,
            step: 0,
            max_rows: 4,
            kv_cache: Dtype::F32,
        };
        let found = rollout(&model, &[vec![1, 2]], &Free, &config).unwrap();
        assert!(found.len() == 2 && found.iter().all(|rollout| rollout.tokens.is_empty() && !rollout.finished));
        assert!(
            rollout(&model, &[vec![1]], &Free, &RolloutConfig { samples: 0, ..config.clone() }).unwrap().is_empty()
        );
        assert!(rollout(&model, &[], &Free, &config).unwrap().is_empty());
    }
}
