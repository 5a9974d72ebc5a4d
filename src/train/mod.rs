//! One training loop for pretraining, mid-training and SFT: packed batches, weighted next-token loss, checkpoints
//! that resume bit for bit, metrics as JSON lines.

mod checkpoint;
mod config;
mod guard;
mod tasks;
mod trainer;

pub use checkpoint::{Cursor, Snapshot, restore, save};
pub use config::TrainConfig;
pub use guard::NonFiniteGuard;
pub use tasks::{Augment, MidtrainExamples, TaskMix, catalogue_texts, next_item_prompt};
pub use trainer::{Trainer, loss_and_gradients};
