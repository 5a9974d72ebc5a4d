//! Models to measure.

use crate::model::Qwen3Config;
use clap::ValueEnum;

/// A model with the batches it is measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Six layers of 256, a vocabulary of 4,096: 5.8 million parameters.
    Nano,
    /// The shape of Qwen/Qwen3-0.6B.
    #[value(name = "qwen3-0.6b")]
    Qwen3Small,
    /// The shape of Qwen/Qwen3-1.7B.
    #[value(name = "qwen3-1.7b")]
    Qwen3Medium,
}

/// How much a measurement takes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Sequences of a training step.
    pub batch: usize,
    /// Tokens of each.
    pub length: usize,
    /// Sequences sampled side by side.
    pub samples: usize,
    /// Tokens of each prompt.
    pub prompt: usize,
    /// Tokens sampled after it.
    pub new_tokens: usize,
}

impl Preset {
    /// As `--preset` spells it.
    pub fn name(self) -> String {
        self.to_possible_value().expect("invariant: no preset is hidden").get_name().to_string()
    }

    /// Its sizes.
    pub fn config(self) -> Qwen3Config {
        match self {
            Preset::Nano => Qwen3Config::small(4096, 256, 6, (4, 2, 64), 768),
            Preset::Qwen3Small => Qwen3Config::small(151_936, 1024, 28, (16, 8, 128), 3072),
            Preset::Qwen3Medium => Qwen3Config::small(151_936, 2048, 28, (16, 8, 128), 6144),
        }
    }

    /// The batches it is measured with, unless others are asked for.
    pub fn load(self) -> Load {
        match self {
            Preset::Nano => Load { batch: 8, length: 256, samples: 16, prompt: 128, new_tokens: 64 },
            _ => Load { batch: 1, length: 2048, samples: 64, prompt: 128, new_tokens: 64 },
        }
    }
}
