//! Item embeddings from a language model: the mean of its final states over an item's text.

use super::Embeddings;
use crate::autograd::Tape;
use crate::console::{Progress, check_interrupt};
use crate::error::Result;
use crate::model::Qwen3;
use crate::nn::Packed;
use crate::text::Tokenizer;
use gr2_kernels::Segments;

/// Tokens of one text that are read.
const LONGEST: usize = 512;
/// Tokens run through the model together.
const BATCH: usize = 4096;

/// Mean-pooled final hidden states, rows of unit length: (N, C). Texts are data: nothing they spell is a control token.
///
/// A text that gives no token has a row of zeros.
/// Errors: `Text`, `Kernel`, `Interrupted`.
pub fn embed_with_model(model: &Qwen3, tokenizer: &Tokenizer, texts: &[String]) -> Result<Embeddings> {
    let width = model.config().hidden_size;
    let progress = Progress::new("embed", texts.len() as u64, 0);
    let mut values: Vec<f32> = vec![0.0; texts.len() * width];
    // Tokens that wait to be run, and whose they are: (item, tokens).
    let (mut ids, mut waiting): (Vec<u32>, Vec<(usize, usize)>) = (vec![], vec![]);
    for (item, text) in texts.iter().enumerate() {
        check_interrupt()?;
        let mut tokens = tokenizer.encode_data_whole(text)?;
        tokens.truncate(LONGEST);
        if !tokens.is_empty() {
            waiting.push((item, tokens.len()));
            ids.extend(tokens);
        }
        if ids.len() >= BATCH || item + 1 == texts.len() && !waiting.is_empty() {
            let tape = Tape::inference();
            let lengths: Vec<usize> = waiting.iter().map(|(_, length)| *length).collect();
            let hidden = model.hidden(&tape, &ids, &mut Packed::new(Segments::packed(&lengths)?))?;
            let hidden = hidden.tensor().to_vec::<f32>()?;
            let mut start = 0;
            for &(item, length) in &waiting {
                let states = &hidden[start * width..(start + length) * width];
                for (c, value) in values[item * width..][..width].iter_mut().enumerate() {
                    *value = states.iter().skip(c).step_by(width).sum::<f32>() / length as f32;
                }
                start += length;
            }
            progress.advance(waiting.len() as u64, "");
            ids.clear();
            waiting.clear();
        }
    }
    progress.finish(format_args!("{} items", texts.len()));
    let mut embeddings = Embeddings::new(width, values)?;
    embeddings.normalise_rows();
    Ok(embeddings)
}
