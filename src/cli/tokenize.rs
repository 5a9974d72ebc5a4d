//! `gr2 tokenize`: text to token ids.

use crate::console::out;
use crate::error::Result;
use crate::text::Tokenizer;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct TokenizeArgs {
    /// Checkpoint directory, or a `tokenizer.json`.
    #[arg(long)]
    model: PathBuf,
    /// The text.
    #[arg(long)]
    text: String,
    /// Prints `{"ids": […]}`.
    #[arg(long)]
    json: bool,
}

impl TokenizeArgs {
    pub(super) fn run(self) -> Result<()> {
        let tokenizer = Tokenizer::load(&self.model)?;
        let ids = tokenizer.encode(&self.text)?;
        if self.json {
            return out!("{}", serde_json::json!({ "ids": ids }));
        }
        ids.into_iter().try_for_each(|id| out!("{id}\t{:?}", tokenizer.decode(&[id], false)?))
    }
}
