//! Item embeddings from a language model: the mean of its final states over an item's text.

use super::Embeddings;
use crate::autograd::Tape;
use crate::console::{Progress, interrupted};
use crate::error::{Error, Result};
use crate::model::Qwen3;
use crate::nn::Packed;
use crate::text::Tokenizer;
use gr2_kernels::Segments;

/// Tokens of one text that are read.
const LONGEST: usize = 512;
/// Tokens run through the model together.
const BATCH: usize = 4096;

/// Mean-pooled final hidden states, rows of unit length: (N, C).
///
/// Errors: `Run` for an item whose text gives no token.
pub fn embed_with_model(model: &Qwen3, tokenizer: &Tokenizer, texts: &[String]) -> Result<Embeddings> {
    let width = model.config().hidden_size;
    let progress = Progress::new("embed", texts.len() as u64, 0);
    let mut values: Vec<f32> = Vec::with_capacity(texts.len() * width);
    let (mut ids, mut lengths) = (vec![], vec![]);
    for (item, text) in texts.iter().enumerate() {
        if interrupted() {
            return Err(Error::Interrupted { stage: "sid".into() });
        }
        let mut tokens = tokenizer.encode(text)?;
        tokens.truncate(LONGEST);
        if tokens.is_empty() {
            let problem = format!("item {item}: its text gives no token");
            return Err(Error::Run { stage: "sid".into(), problem, hint: None });
        }
        lengths.push(tokens.len());
        ids.extend(tokens);
        if ids.len() >= BATCH || item + 1 == texts.len() {
            let tape = Tape::inference();
            let hidden = model.hidden(&tape, &ids, &mut Packed::new(Segments::packed(&lengths)?))?;
            let hidden = hidden.tensor().to_vec::<f32>()?;
            let mut start = 0;
            for &length in &lengths {
                let states = &hidden[start * width..(start + length) * width];
                values.extend((0..width).map(|c| states.iter().skip(c).step_by(width).sum::<f32>() / length as f32));
                start += length;
            }
            progress.advance(lengths.len() as u64, "");
            ids.clear();
            lengths.clear();
        }
    }
    progress.finish(format_args!("{} items", texts.len()));
    let mut embeddings = Embeddings::new(width, values)?;
    embeddings.normalise_rows();
    Ok(embeddings)
}
