//! The residual-quantised variational autoencoder that turns dense item embeddings into codes.

use super::ema::EmaCodebook;
use super::mlp::Mlp;
use super::{Codebooks, Embeddings, KmeansConfig, residual_kmeans};
use crate::autograd::{Param, Tape, Var};
use crate::bounds::{LEARNING_RATE, MANY, MOST_DIMS, MOST_TOKENS, Section, UNFELT, WEIGHT};
use crate::console::{Progress, check_interrupt};
use crate::error::{Error, Result};
use crate::ops;
use crate::optim::{AdamWConfig, Optimizer};
use crate::tensor::{Tensor, stream};
use gr2_kernels::{Device, Dtype, quantize};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// Hidden layers of the encoder at most.
const MOST_LAYERS: usize = 32;

/// Settings of the autoencoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RqVaeConfig {
    /// Widths of the encoder's hidden layers; the decoder mirrors them. 512-256-128: TIGER, RQ-VAE-Recommender.
    pub hidden: Vec<usize>,
    /// Width of the quantised vectors. 32: LC-Rec, TIGER.
    pub latent: usize,
    /// Weight of the commitment loss. 0.25: van den Oord et al. 2017, LC-Rec.
    pub beta: f64,
    /// Decay of the codebooks' averages. 0.99 of the range 0.95 to 0.99 GR2 gives.
    pub ema_decay: f64,
    /// Passes over the items.
    pub epochs: usize,
    /// Items of one update. 1024: LC-Rec.
    pub batch: usize,
    /// Learning rate of AdamW. 1e-3: LC-Rec.
    pub lr: f64,
    /// A code unused for this many batches takes the worst-served vector; 0: never (GR2 found resets to cost
    /// uniqueness).
    pub dead_after: u32,
    /// Lloyd iterations of the residual k-means that starts the codebooks.
    pub kmeans_iterations: usize,
}

impl Default for RqVaeConfig {
    fn default() -> Self {
        RqVaeConfig {
            hidden: vec![512, 256, 128],
            latent: 32,
            beta: 0.25,
            ema_decay: 0.99,
            epochs: 100,
            batch: 1024,
            lr: 1e-3,
            dead_after: 0,
            kmeans_iterations: 25,
        }
    }
}

impl RqVaeConfig {
    /// Errors: `Config` naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("sid.rqvae");
        at.whole("latent", self.latent, 1..=MOST_DIMS)?;
        if self.hidden.len() > MOST_LAYERS {
            return at.refuse("hidden", format!("{} layers: expected at most {MOST_LAYERS}", self.hidden.len()));
        }
        for &width in &self.hidden {
            at.whole("hidden", width, 1..=65_536)?;
        }
        at.number("beta", self.beta, WEIGHT)?;
        at.number("ema_decay", self.ema_decay, 0.0..1.0)?;
        at.whole("epochs", self.epochs, 1..=1_000_000)?;
        at.whole("batch", self.batch, 1..=MOST_TOKENS)?;
        at.because(UNFELT).number("lr", self.lr, LEARNING_RATE)?;
        at.whole("kmeans_iterations", self.kmeans_iterations, 0..=MANY)
    }
}

/// Means over one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RqVaeMetrics {
    /// From 1.
    pub epoch: usize,
    /// Mean squared error of the reconstruction.
    pub reconstruction: f64,
    /// Σ over levels of the mean squared residual.
    pub commitment: f64,
}

/// A trained quantiser: latents of the items it was trained on, and the codebooks.
pub struct Quantised {
    /// Encoder outputs (N, latent).
    pub latents: Embeddings,
    /// One codebook per level over the latent space.
    pub codebooks: Codebooks,
    /// Nearest codes of every item, (N, levels).
    pub codes: Vec<u16>,
}

struct RqVae {
    encoder: Mlp,
    decoder: Mlp,
    codebooks: Vec<EmaCodebook>,
}

/// Trains on item embeddings (N, dims) and quantises them to `levels` codes of `codes_per_level`.
///
/// `h = enc(x); r_1 = h; z_k = argmin ‖r_k − e_k‖²; r_{k+1} = r_k − e_{k,z_k}; x̂ = dec(h + sg[Σ e − h])`,
/// `L = mean (x − x̂)² + β Σ_k mean (r_k − sg[e_{k,z_k}])²`, codebooks by exponential averages.
///
/// Errors: `Config`; `Interrupted`; `Kernel`.
/// Source: Lee et al. 2022, arXiv:2203.01941; gr2 section 4.2.
pub fn train_rqvae(
    items: &Embeddings,
    (levels, codes_per_level): (usize, usize),
    config: &RqVaeConfig,
    device: &Device,
    seed: u64,
    mut log: impl FnMut(&RqVaeMetrics) -> Result<()>,
) -> Result<Quantised> {
    config.validate()?;
    let mut widths = vec![items.dims()];
    widths.extend(&config.hidden);
    widths.push(config.latent);
    let encoder = Mlp::new(device, "encoder", &widths, seed)?;
    widths.reverse();
    let decoder = Mlp::new(device, "decoder", &widths, seed)?;
    let mut model = RqVae { encoder, decoder, codebooks: vec![] };
    // the mean squared error of unit-length rows is tiny in every coordinate: bring coordinates to unit scale
    let square = items.values().iter().map(|&x| (x as f64).powi(2)).sum::<f64>() / items.values().len() as f64;
    // vectors of zeros alone stay what they are
    let scale = if square > 0.0 { 1.0 / square.sqrt() } else { 1.0 };
    let scaled: Vec<f32> = items.values().iter().map(|&x| (x as f64 * scale) as f32).collect();
    let items = Embeddings::new(items.dims(), scaled)?;
    model.start_codebooks(&items, (levels, codes_per_level), config, device, seed)?;

    let adamw = AdamWConfig { weight_decay: 0.0, beta2: 0.999, ..AdamWConfig::default() };
    let mut optimizer = Optimizer::new(adamw, &model.params())?;
    let progress = Progress::new("rq-vae", config.epochs as u64, 0);
    let mut order: Vec<usize> = (0..items.rows()).collect();
    for epoch in 1..=config.epochs {
        check_interrupt()?;
        order.shuffle(&mut stream(seed, "rq-vae order", epoch as u64, 0));
        let (mut reconstruction, mut commitment, mut batches) = (0.0, 0.0, 0.0);
        for members in order.chunks(config.batch) {
            let rows: Vec<f32> = members.iter().flat_map(|&i| items.row(i)).copied().collect();
            let x = Tensor::from_slice(device, &rows, [members.len(), items.dims()])?;
            let (r, c) = model.update(&x, config, &mut optimizer)?;
            reconstruction += r;
            commitment += c;
            batches += 1.0;
        }
        let metrics =
            RqVaeMetrics { epoch, reconstruction: reconstruction / batches, commitment: commitment / batches };
        log(&metrics)?;
        progress.advance(1, format_args!("reconstruction {:.4}", metrics.reconstruction));
    }
    progress.finish(format_args!("{} epochs over {} items", config.epochs, items.rows()));
    model.quantise(&items, config, device)
}

impl RqVae {
    fn params(&self) -> Vec<&Param> {
        self.encoder.params().chain(self.decoder.params()).collect()
    }

    fn params_mut(&mut self) -> Vec<&mut Param> {
        self.encoder.params_mut().chain(self.decoder.params_mut()).collect()
    }

    /// Residual k-means on the untrained encoder's outputs.
    fn start_codebooks(
        &mut self,
        items: &Embeddings,
        (levels, codes): (usize, usize),
        config: &RqVaeConfig,
        device: &Device,
        seed: u64,
    ) -> Result<()> {
        let latents = self.encode(items, config, device)?;
        let kmeans = KmeansConfig { codes, iterations: config.kmeans_iterations, seed, ..KmeansConfig::default() };
        let start = residual_kmeans(&latents, levels, &kmeans)?;
        for level in 0..levels {
            let mut chosen = vec![0.0; codes];
            start.codes.iter().skip(level).step_by(levels).for_each(|&z| chosen[usize::from(z)] += 1.0);
            let share = config.batch.min(items.rows()) as f64 / items.rows() as f64;
            chosen.iter_mut().for_each(|n| *n *= share);
            let words = gr2_kernels::Buffer::from_slice(device, start.codebooks.level(level))?;
            self.codebooks.push(EmaCodebook::new(words, config.latent, &chosen)?);
        }
        Ok(())
    }

    /// One update of all parts. Returns the reconstruction and commitment losses.
    fn update(&mut self, x: &Tensor, config: &RqVaeConfig, optimizer: &mut Optimizer) -> Result<(f64, f64)> {
        let tape = Tape::new();
        let x = tape.constant(x.clone());
        let h = self.encoder.forward(&tape, &x)?;
        let shape = h.tensor().shape().clone();
        let (rows, _) = shape.dims2("rq-vae")?;

        // residuals and their codes carry no gradient
        let off = Tape::inference();
        let mut residual = off.constant(h.tensor().clone());
        let mut sum: Option<Var> = None;
        let mut commitments: Vec<Var> = vec![];
        for codebook in &mut self.codebooks {
            let r = residual.tensor().buffer();
            let (codes, distances) = quantize::nearest(r, codebook.codewords(), rows, config.latent)?;
            let codes = codes.to_vec::<u32>()?;
            let words =
                Tensor::new(codebook.codewords().clone(), [codebook.codewords().len() / config.latent, config.latent])?;
            let chosen = ops::gather_rows(&off, &off.constant(words), &codes)?;
            codebook.update(r, &codes, config.ema_decay)?;
            if config.dead_after > 0 {
                codebook.revive(r, &distances.to_vec::<f32>()?, config.dead_after)?;
            }
            residual = ops::sub(&off, &residual, &chosen)?;
            let total = match &sum {
                Some(sum) => ops::add(&off, sum, &chosen)?,
                None => chosen,
            };
            // r_k − e_k = h − Σ_{j≤k} e_j, so that the gradient reaches h from every level
            commitments.push(ops::mean_squared(&tape, &h, &total)?);
            sum = Some(total);
        }
        let sum = sum.expect("invariant: at least one level");
        let step = ops::sub(&off, &sum, &off.constant(h.tensor().clone()))?;
        let decoded = self.decoder.forward(&tape, &ops::add(&tape, &h, &step)?)?;
        let reconstruction = ops::mean_squared(&tape, &decoded, &x)?;

        let one = |v: &Var, weight: f64| {
            Tensor::from_f64(v.tensor().device(), Dtype::F32, &[weight], v.tensor().shape().clone())
        };
        let mut seeds = vec![(&reconstruction, one(&reconstruction, 1.0)?)];
        for commitment in &commitments {
            seeds.push((commitment, one(commitment, config.beta)?));
        }
        let mut gradients = tape.backward_scaled(&seeds, optimizer.loss_scale().factor())?;
        let value = |v: &Var| Ok::<f64, Error>(v.tensor().to_f64()?[0]);
        let losses = (value(&reconstruction)?, commitments.iter().map(value).sum::<Result<f64>>()?);
        optimizer.step(self.params_mut(), &mut gradients, config.lr)?;
        Ok(losses)
    }

    fn encode(&self, items: &Embeddings, config: &RqVaeConfig, device: &Device) -> Result<Embeddings> {
        let mut latents = Vec::with_capacity(items.rows() * config.latent);
        for rows in items.values().chunks(config.batch * items.dims()) {
            let tape = Tape::inference();
            let x = tape.constant(Tensor::from_slice(device, rows, [rows.len() / items.dims(), items.dims()])?);
            latents.extend(self.encoder.forward(&tape, &x)?.tensor().to_vec::<f32>()?);
        }
        Embeddings::new(config.latent, latents)
    }

    fn quantise(&self, items: &Embeddings, config: &RqVaeConfig, device: &Device) -> Result<Quantised> {
        let latents = self.encode(items, config, device)?;
        let books: Vec<Vec<f32>> = self.codebooks.iter().map(|c| Ok(c.codewords().to_vec()?)).collect::<Result<_>>()?;
        let per_level = books[0].len() / config.latent;
        let codebooks = Codebooks::new(config.latent, per_level, books)?;
        let mut codes = vec![0; items.rows() * codebooks.levels()];
        for (item, codes) in codes.chunks_exact_mut(codebooks.levels()).enumerate() {
            codebooks.quantise(latents.row(item), codes);
        }
        Ok(Quantised { latents, codebooks, codes })
    }
}
