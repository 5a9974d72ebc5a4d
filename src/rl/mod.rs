//! Reinforcement learning by DAPO: its arithmetic as pure functions over slices, and one loop that calls them.
//!
//! In the order of one step: G rollouts per prompt are scored ([`reward`]), the too long ones lose some of it
//! ([`Overlong::penalty`]), groups whose raw outcomes are all the same are set aside ([`DynamicSampling`]), rewards become
//! advantages inside each group ([`group_advantages`]), and [`dapo_loss`] gives the loss and its gradient with respect to the
//! log-probability of every generated token. [`rollout_stats`] sums the step up for the log.
//!
//! Three files hold a model: `sample` generates and judges, `policy` computes log-probabilities and gradients of packed groups,
//! `trainer` is the loop.

mod advantage;
mod config;
mod dapo;
mod filter;
mod monitor;
mod overlong;
mod policy;
mod reward;
mod sample;
mod signal;
mod trainer;

pub use advantage::{ADV_EPS, Advantages, group_advantages};
pub use config::{Credit, DapoConfig};
pub use dapo::{Branch, Clip, ClippedTerm, DapoBatch, DapoLoss, DapoMetrics, PolicyStats, clipped_term, dapo_loss};
pub use filter::{DynamicSampling, SamplingStats, SamplingVerdict, has_signal};
pub use monitor::{LogprobGap, RolloutRecord, RolloutStats, logprob_gap, rollout_stats};
pub use overlong::Overlong;
pub use policy::{Group, Logps, PolicyPass, Response, policy_gradients, response_logps};
pub use reward::{Outcome, Reward, RewardConfig, RewardKind, reward};
pub use sample::{Task, Verdict};
pub use trainer::DapoTrainer;
