//! The mid-trained model as a pre-ranker: beams over the whole catalogue.

use crate::console::{Progress, interrupted};
use crate::error::{Error, Result};
use crate::generate::{Constraint, beam_search};
use crate::model::Qwen3;
use crate::sid::{Node, SemanticIds, Trie};
use crate::text::{SidTokens, Tokenizer};
use crate::train::next_item_prompt;

/// Histories handed to one beam search.
const BATCH: usize = 64;

/// A model that generates semantic ids, with what gives them meaning.
pub struct CatalogueGenerator<'a> {
    /// The model.
    pub model: &'a Qwen3,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Its semantic-id tokens.
    pub tokens: &'a SidTokens,
    /// Semantic ids of the catalogue.
    pub sids: &'a SemanticIds,
}

impl CatalogueGenerator<'_> {
    /// The most probable next items after every history, best first: at most `beams`, all different, all in the
    /// catalogue. The last `window` purchases of a history are read.
    ///
    /// Errors: `Interrupted`; `Text` if the tokenizer has other semantic ids.
    pub fn recommend(&self, histories: &[&[u32]], window: usize, beams: usize) -> Result<Vec<Vec<u32>>> {
        let trie = Trie::new(self.sids, |_| false)?;
        let catalogue = TokenTrie { trie: &trie, tokens: self.tokens };
        let progress = Progress::new("generate", histories.len() as u64, 0);
        let mut found = Vec::with_capacity(histories.len());
        for histories in histories.chunks(BATCH) {
            if interrupted() {
                return Err(Error::Interrupted { stage: "generate".into() });
            }
            let prompts: Vec<Vec<u32>> = histories
                .iter()
                .map(|history| next_item_prompt(history, window, self.sids, self.tokenizer, self.tokens))
                .collect::<Result<_>>()?;
            for beams in beam_search(self.model, &prompts, &catalogue, beams)? {
                found.push(beams.iter().flat_map(|beam| trie.items(beam.node)).copied().collect());
            }
            progress.advance(histories.len() as u64, "");
        }
        progress.finish(format_args!("{} histories, {beams} beams", histories.len()));
        Ok(found)
    }
}

/// The catalogue's trie in token ids.
struct TokenTrie<'a> {
    trie: &'a Trie,
    tokens: &'a SidTokens,
}

impl Constraint for TokenTrie<'_> {
    type Node = Node;

    fn depth(&self) -> usize {
        self.trie.levels()
    }

    fn root(&self) -> Node {
        self.trie.root()
    }

    fn children(&self, node: Node, mut visit: impl FnMut(u32, Node)) {
        for &code in self.trie.children(node) {
            let token = self.tokens.code_id(node.depth(), code);
            if let (Some(token), Some(child)) = (token, self.trie.step(node, code)) {
                visit(token, child);
            }
        }
    }
}
