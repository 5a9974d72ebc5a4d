//! The choice of the next token: Hugging Face's processors in Hugging Face's order, then one draw.

use crate::error::{Error, Result};
use crate::tensor::Tensor;
use gr2_kernels::logprob::{Chunk, Stats, stats};
use gr2_kernels::sampling;
use gr2_kernels::{Buffer, Device};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How the next token is chosen. A checkpoint's `generation_config.json` is never read: what is here is what happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplerConfig {
    /// Draws a token; otherwise takes the most probable one. False: transformers.
    pub do_sample: bool,
    /// What logits are divided by before the draw. 1: transformers.
    pub temperature: f32,
    /// Keeps the k largest logits and every tie with the k-th; 0 keeps all. 0: TRL (transformers: 50).
    pub top_k: usize,
    /// Keeps the most probable tokens whose probabilities reach this sum, at least one. 1: transformers.
    pub top_p: f32,
    /// Drops tokens less probable than this share of the most probable one. 0: transformers.
    pub min_p: f32,
    /// Divides positive logits of tokens that have appeared by this, and multiplies negative ones. 1: transformers.
    pub repetition_penalty: f32,
}

impl Default for SamplerConfig {
    fn default() -> SamplerConfig {
        SamplerConfig { do_sample: false, temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

impl SamplerConfig {
    /// Draws from `softmax(logits / temperature)` and changes nothing else.
    pub fn sampling(temperature: f32) -> SamplerConfig {
        SamplerConfig { do_sample: true, temperature, ..SamplerConfig::default() }
    }

    /// Takes the most probable token every time.
    pub fn greedy() -> SamplerConfig {
        SamplerConfig::default()
    }

    /// Errors: `Config` naming the field that is out of its range.
    pub fn validate(&self) -> Result<()> {
        let positive = |x: f32| x.is_finite() && x > 0.0;
        let share = |x: f32| (0.0..=1.0).contains(&x);
        let checks = [
            (
                "temperature",
                self.temperature,
                positive(self.temperature),
                "must be positive; greedy: do_sample = false",
            ),
            ("top_p", self.top_p, share(self.top_p), "must be between 0 and 1"),
            ("min_p", self.min_p, share(self.min_p), "must be between 0 and 1"),
            ("repetition_penalty", self.repetition_penalty, positive(self.repetition_penalty), "must be positive"),
        ];
        match checks.into_iter().find(|(_, _, good, _)| !good) {
            None => Ok(()),
            Some((field, value, _, range)) => {
                let field = format!("sampler.{field}");
                Err(Error::Config { field, problem: format!("{value}: {range}"), hint: None })
            }
        }
    }

    /// True if nothing but a temperature shapes the distribution, so that the device draws without sending logits.
    pub(super) fn plain(&self) -> bool {
        let filtered = self.do_sample && (self.top_k > 0 || self.top_p < 1.0 || self.min_p > 0.0);
        self.repetition_penalty == 1.0 && !filtered
    }
}

/// The effective sampler, in the order it is applied.
impl std::fmt::Display for SamplerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut steps = vec![];
        if self.repetition_penalty != 1.0 {
            steps.push(format!("repetition penalty {}", self.repetition_penalty));
        }
        if self.do_sample {
            steps.push(format!("temperature {}", self.temperature));
            let filters = [
                (self.top_k > 0, format!("top-k {}", self.top_k)),
                (self.top_p < 1.0, format!("top-p {}", self.top_p)),
                (self.min_p > 0.0, format!("min-p {}", self.min_p)),
            ];
            steps.extend(filters.into_iter().filter(|(on, _)| *on).map(|(_, step)| step));
        }
        steps.push(if self.do_sample { "draw" } else { "argmax" }.to_string());
        f.write_str(&steps.join(", "))
    }
}

/// Chooses tokens by a validated configuration.
#[derive(Debug, Clone)]
pub struct Sampler {
    config: SamplerConfig,
}

/// Tokens that were drawn and are still on the device.
pub(super) struct Drawn {
    /// (R) u32.
    pub(super) tokens: Tensor,
    /// (R).
    logps: Buffer,
}

impl Drawn {
    /// Tokens and log-probabilities of several draws, read back together.
    ///
    /// Errors: `Kernel` naming the row that has no distribution, in the order of the draws.
    pub(super) fn read(draws: &[Drawn]) -> Result<Vec<Vec<(u32, f32)>>> {
        let tokens: Vec<&Buffer> = draws.iter().map(|drawn| drawn.tokens.buffer()).collect();
        let logps: Vec<&Buffer> = draws.iter().map(|drawn| &drawn.logps).collect();
        let (tokens, logps) = (Buffer::concat(&tokens)?.to_vec::<u32>()?, Buffer::concat(&logps)?.to_vec::<f32>()?);
        let mut all = tokens.into_iter().zip(logps);
        let mut read = vec![];
        for drawn in draws {
            let (tokens, logps): (Vec<u32>, Vec<f32>) = all.by_ref().take(drawn.tokens.shape().len()).unzip();
            read.push(sampling::checked(tokens)?.into_iter().zip(logps).collect());
        }
        Ok(read)
    }
}

/// A token that is still in the running.
#[derive(Clone, Copy)]
struct Candidate {
    token: u32,
    logit: f32,
}

impl Sampler {
    /// A sampler of this configuration.
    ///
    /// Errors: `Config`.
    pub fn new(config: SamplerConfig) -> Result<Sampler> {
        config.validate()?;
        Ok(Sampler { config })
    }

    /// What it does.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// The next token of every row, with its log-probability under the distribution it was drawn from; a greedy token's
    /// is that under the plain softmax of the (penalised) logits. `histories` are the tokens the penalty is for: in
    /// transformers prompt and continuation.
    ///
    /// Shapes: `logits` (B, V) f32; `uniforms` B numbers in [0, 1); `histories` B.
    /// Errors: `Shape` for other sizes; `Kernel` naming the row for logits that are no distribution.
    pub fn draw(&self, logits: &Tensor, uniforms: &[f32], histories: &[&[u32]]) -> Result<Vec<(u32, f32)>> {
        const OP: &str = "sample";
        let (rows, cols) = logits.shape().dims2(OP)?;
        if uniforms.len() != rows || histories.len() != rows {
            let problem = format!("{rows} rows, {} uniforms, {} histories", uniforms.len(), histories.len());
            return Err(Error::Shape { op: OP, problem });
        }
        if self.config.plain() {
            let drawn = Drawn::read(&[self.draw_on_device(logits, uniforms)?])?;
            return Ok(drawn.into_iter().flatten().collect());
        }
        let mut host = logits.to_vec::<f32>()?;
        let rows = host.par_chunks_mut(cols.max(1)).zip(uniforms).zip(histories).enumerate();
        rows.map(|(row, ((logits, &uniform), history))| {
            self.penalise(logits, history);
            let named = |problem| Error::Shape { op: OP, problem: format!("row {row}: {problem}") };
            self.choose(logits, uniform).map_err(named)
        })
        .collect()
    }

    /// As [`Self::draw`] for a [plain](SamplerConfig::plain) configuration, the tokens left on the device.
    pub(super) fn draw_on_device(&self, logits: &Tensor, uniforms: &[f32]) -> Result<Drawn> {
        let (rows, cols) = logits.shape().rows();
        let (device, x) = (logits.device(), logits.buffer());
        let (tokens, logps) = if self.config.do_sample {
            let uniforms = Tensor::from_slice(device, uniforms, [rows])?;
            let drawn = sampling::sample(x, uniforms.buffer(), rows, cols, self.config.temperature)?;
            (drawn.tokens, drawn.logp)
        } else {
            let best = sampling::argmax(x, rows, cols)?;
            if let Device::Cpu = device {
                // a row without a token is an error here already, where nothing waits for it
                sampling::read(&best)?;
            }
            let mut out = Stats::uninit(device, logits.dtype(), rows)?;
            stats(x, &best, &Chunk { first: 0, rows, cols, temperature: 1.0 }, &mut out)?;
            (best, out.logp)
        };
        Ok(Drawn { tokens: Tensor::new(tokens, [rows])?, logps })
    }

    /// Applies the repetition penalty to one row: once per token that is in `history`, however often.
    pub fn penalise(&self, logits: &mut [f32], history: &[u32]) {
        let penalty = self.config.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        let mut seen: Vec<u32> = history.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            // a token past a shortened vocabulary cannot be drawn anyway
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
        }
    }

    /// Chooses from one row of penalised logits; minus infinity bars a token. `Err` says what is wrong with the row.
    fn choose(&self, logits: &[f32], uniform: f32) -> std::result::Result<(u32, f32), String> {
        if let Some(token) = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY) {
            return Err(format!("the logit of token {token} is {}", logits[token]));
        }
        let candidate = |(token, &logit): (u32, &f32)| Candidate { token, logit };
        let mut candidates: Vec<Candidate> =
            (0u32..).zip(logits).map(candidate).filter(|c| c.logit > sampling::MASKED).collect();
        if candidates.is_empty() {
            return Err("every token is barred".to_string());
        }
        if !self.config.do_sample {
            let best = candidates.iter().fold(candidates[0], |best, c| if c.logit > best.logit { *c } else { best });
            let total: f64 = candidates.iter().map(|c| weight(c, best.logit)).sum();
            return Ok((best.token, -total.ln() as f32));
        }
        for c in &mut candidates {
            c.logit /= self.config.temperature;
        }
        self.keep_top_k(&mut candidates);
        self.keep_top_p(&mut candidates);
        let largest = largest(&candidates);
        candidates.retain(|c| weight(c, largest) >= self.config.min_p as f64);
        candidates.sort_unstable_by_key(|c| c.token);
        Ok(pick(&candidates, largest, uniform))
    }

    fn keep_top_k(&self, candidates: &mut Vec<Candidate>) {
        let k = self.config.top_k;
        if k == 0 || k >= candidates.len() {
            return;
        }
        let (_, kth, _) = candidates.select_nth_unstable_by(k - 1, |a, b| b.logit.total_cmp(&a.logit));
        let kth = kth.logit;
        candidates.retain(|c| c.logit >= kth);
    }

    fn keep_top_p(&self, candidates: &mut Vec<Candidate>) {
        if self.config.top_p >= 1.0 {
            return;
        }
        candidates.sort_unstable_by(|a, b| a.logit.total_cmp(&b.logit).then(a.token.cmp(&b.token)));
        let largest = largest(candidates);
        let total: f64 = candidates.iter().map(|c| weight(c, largest)).sum();
        let limit = (1.0 - self.config.top_p as f64) * total;
        let mut cumulative = 0.0;
        let dropped = candidates.iter().take_while(|c| {
            cumulative += weight(c, largest);
            cumulative <= limit
        });
        let dropped = dropped.count().min(candidates.len() - 1);
        candidates.drain(..dropped);
    }
}

fn largest(candidates: &[Candidate]) -> f32 {
    candidates.iter().fold(f32::NEG_INFINITY, |m, c| m.max(c.logit))
}

/// `e^(logit - largest)`: the probability relative to that of the most probable token.
fn weight(c: &Candidate, largest: f32) -> f64 {
    (c.logit as f64 - largest as f64).exp()
}

/// The first candidate whose cumulative probability exceeds `uniform`, and its log-probability.
fn pick(candidates: &[Candidate], largest: f32, uniform: f32) -> (u32, f32) {
    let total: f64 = candidates.iter().map(|c| weight(c, largest)).sum();
    let (mut chosen, mut cumulative) = (candidates[0], 0.0);
    for c in candidates.iter().filter(|c| weight(c, largest) > 0.0) {
        chosen = *c;
        cumulative += weight(c, largest);
        if cumulative > uniform as f64 * total {
            break;
        }
    }
    (chosen.token, ((chosen.logit as f64 - largest as f64) - total.ln()) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every token the sampler can draw from a row, with its probability.
    fn support(config: SamplerConfig, logits: &[f32]) -> Vec<(u32, f32)> {
        let sampler = Sampler::new(config).unwrap();
        let mut found: Vec<(u32, f32)> = vec![];
        for i in 0..2000 {
            let (token, logp) = sampler.choose(logits, i as f32 / 2000.0).unwrap();
            if found.last().is_none_or(|(last, _)| *last != token) {
                found.push((token, logp.exp()));
            }
        }
        found
    }

    fn close(found: &[(u32, f32)], expected: &[(u32, f32)]) -> bool {
        let same = |(a, b): (&(u32, f32), &(u32, f32))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-5;
        found.len() == expected.len() && found.iter().zip(expected).all(same)
    }

    /// Logits of probabilities 0.1, 0.4, 0.2, 0.2, 0.1.
    fn row() -> Vec<f32> {
        [0.1f32, 0.4, 0.2, 0.2, 0.1].iter().map(|p| p.ln()).collect()
    }

    fn config(change: impl FnOnce(&mut SamplerConfig)) -> SamplerConfig {
        let mut config = SamplerConfig::sampling(1.0);
        change(&mut config);
        config
    }

    #[test]
    fn top_k_keeps_every_tie_with_the_kth() {
        // k = 2 ends inside the tie at 0.2
        let found = support(config(|c| c.top_k = 2), &row());
        assert!(close(&found, &[(1, 0.5), (2, 0.25), (3, 0.25)]), "{found:?}");
        assert!(close(&support(config(|c| c.top_k = 1), &row()), &[(1, 1.0)]));
        assert_eq!(support(config(|c| c.top_k = 9), &row()).len(), 5);
    }

    #[test]
    fn top_p_drops_from_the_bottom_while_the_sum_is_within_one_minus_p() {
        // ascending 0.1, 0.1, 0.2, 0.2, 0.4: cumulative 0.1, 0.2, 0.4, 0.6, 1
        let found = support(config(|c| c.top_p = 0.79), &row());
        assert!(close(&found, &[(1, 0.5), (2, 0.25), (3, 0.25)]), "{found:?}");
        // 0.1 and 0.2 are within 0.3; of the tie at 0.2 the later token stays when the limit passes 0.4
        let found = support(config(|c| c.top_p = 0.55), &row());
        assert!(close(&found, &[(1, 2.0 / 3.0), (3, 1.0 / 3.0)]), "{found:?}");
        assert!(close(&support(config(|c| c.top_p = 0.0), &row()), &[(1, 1.0)]));
    }

    #[test]
    fn min_p_is_relative_to_the_most_probable_token() {
        let found = support(config(|c| c.min_p = 0.3), &row());
        assert!(close(&found, &[(1, 0.5), (2, 0.25), (3, 0.25)]), "{found:?}");
        assert!(close(&support(config(|c| c.min_p = 1.0), &row()), &[(1, 1.0)]));
    }

    #[test]
    fn temperature_comes_before_the_filters() {
        // at T = 0.5 probabilities are squared: 0.01, 0.16, 0.04, 0.04, 0.01 of 0.26; 0.16 / 0.26 = 0.615 reaches 0.6
        let found = support(config(|c| (c.temperature, c.top_p) = (0.5, 0.6)), &row());
        assert!(close(&found, &[(1, 1.0)]), "{found:?}");
        let found = support(config(|c| c.temperature = 0.5), &row());
        let p = |x: f32| x / 0.26;
        assert!(close(&found, &[(0, p(0.01)), (1, p(0.16)), (2, p(0.04)), (3, p(0.04)), (4, p(0.01))]), "{found:?}");
    }

    #[test]
    fn the_penalty_moves_seen_tokens_once_towards_less_probable() {
        let sampler = Sampler::new(config(|c| c.repetition_penalty = 2.0)).unwrap();
        let mut logits = [3.0, -1.0, 3.0, f32::NEG_INFINITY];
        sampler.penalise(&mut logits, &[1, 0, 0, 3, 99]);
        assert_eq!(logits, [1.5, -2.0, 3.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn barred_tokens_are_never_drawn_and_bad_rows_are_errors() {
        let sampler = Sampler::new(SamplerConfig::sampling(1.0)).unwrap();
        for uniform in [0.0, 0.5, 0.999_999_94] {
            assert_eq!(sampler.choose(&[f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY], uniform).unwrap().0, 1);
        }
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY; 2], 0.5).unwrap_err(), "every token is barred");
        assert_eq!(sampler.choose(&[0.0, f32::NAN], 0.5).unwrap_err(), "the logit of token 1 is NaN");
    }

    #[test]
    fn host_and_device_draw_the_same() {
        let logits: Vec<f32> = (0..600).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
        let tensor = Tensor::from_slice(&Device::Cpu, &logits, [3, 200]).unwrap();
        let uniforms = [0.123, 0.5, 0.987];
        let histories: [&[u32]; 3] = [&[]; 3];
        for plain in [SamplerConfig::sampling(0.7), SamplerConfig::greedy()] {
            // a penalty with nothing to penalise takes the way through the host
            let filtered = SamplerConfig { repetition_penalty: 1.5, ..plain.clone() };
            assert!(plain.plain() && !filtered.plain());
            let draw = |c: SamplerConfig| Sampler::new(c).unwrap().draw(&tensor, &uniforms, &histories).unwrap();
            for (a, b) in draw(plain).iter().zip(&draw(filtered)) {
                assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-5, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn fields_out_of_range_are_named_and_the_effective_sampler_is_told() {
        let message = |c: SamplerConfig| c.validate().unwrap_err().to_string();
        let zero = message(SamplerConfig::sampling(0.0));
        assert_eq!(zero, "config: sampler.temperature: 0: must be positive; greedy: do_sample = false");
        assert_eq!(message(config(|c| c.top_p = 1.5)), "config: sampler.top_p: 1.5: must be between 0 and 1");
        let all = SamplerConfig {
            do_sample: true,
            temperature: 0.6,
            top_k: 20,
            top_p: 0.95,
            min_p: 0.1,
            repetition_penalty: 1.1,
        };
        let steps = "repetition penalty 1.1, temperature 0.6, top-k 20, top-p 0.95, min-p 0.1, draw";
        assert_eq!(all.to_string(), steps);
        assert_eq!(SamplerConfig { do_sample: false, ..all }.to_string(), "repetition penalty 1.1, argmax");
    }
}
