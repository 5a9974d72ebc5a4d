//! The mid-trained model as a pre-ranker: beams over the whole catalogue.

use crate::bounds::{MANY, SHARE, Section, WEIGHT};
use crate::console::{Progress, check_interrupt};
use crate::error::Result;
use crate::generate::{Beam, Constraint, beam_search};
use crate::model::Qwen3;
use crate::sid::{Node, SemanticIds, Trie};
use crate::text::{SidTokens, Tokenizer};
use crate::train::next_item_prompt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Histories handed to one beam search.
const BATCH: usize = 64;

/// Beams of all histories of one search at most, unless one has more: their logits lie in memory together.
const MOST_BEAMS: usize = 4096;

/// How a history is read.
///
/// `score(i) = P(i | history) + weight Σ_j decay^j P(i | the (j+1)-th last purchase alone)`: a model trained on few
/// purchases follows the last ones better one by one than all together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Contexts {
    /// Purchases of the history that are read together.
    pub window: usize,
    /// Beams of every search. 20 to 50: gr2 3.2.
    pub beams: usize,
    /// Recent purchases that are also read alone; 0: none.
    pub alone: usize,
    /// Weight of the most recent one's.
    pub weight: f64,
    /// Weight of each relative to the one after it.
    pub decay: f64,
}

impl Default for Contexts {
    fn default() -> Self {
        Contexts { window: 20, beams: 30, alone: 5, weight: 1.0, decay: 0.6 }
    }
}

impl Contexts {
    /// Errors: `Config` naming the field out of range; `section` is the dotted name of the table.
    pub fn validate(&self, section: &str) -> Result<()> {
        let at = Section::new(section);
        at.because("nothing is read").whole("window", self.window, 1..=MANY)?;
        at.because("recall@10 needs at least 10").whole("beams", self.beams, 10..=10_000)?;
        at.whole("alone", self.alone, 0..=MANY)?;
        at.number("weight", self.weight, WEIGHT)?;
        at.number("decay", self.decay, SHARE)
    }
}

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
    /// The most probable next items after every history, best first, all different, all in the catalogue: at least
    /// `contexts.beams` where it has as many.
    ///
    /// Errors: `Interrupted`; `Text` if the tokenizer has other semantic ids.
    pub fn recommend(&self, histories: &[&[u32]], contexts: &Contexts) -> Result<Vec<Vec<u32>>> {
        let trie = Trie::new(self.sids, |_| false)?;
        let alone = if contexts.weight > 0.0 { contexts.alone } else { 0 };
        let recent = |history: &[u32]| history.iter().rev().take(alone).copied().collect::<Vec<u32>>();
        let mut singles: Vec<u32> = histories.iter().flat_map(|history| recent(history)).collect();
        singles.sort_unstable();
        singles.dedup();
        let single_histories: Vec<&[u32]> = singles.iter().map(std::slice::from_ref).collect();
        let together = self.search(&trie, histories, contexts, "generate")?;
        let apart = self.search(&trie, &single_histories, contexts, "generate from one")?;
        let combine = |(history, found): (&&[u32], &Vec<(u32, f64)>)| {
            let mut scores: BTreeMap<u32, f64> = found.iter().copied().collect();
            let mut weight = contexts.weight;
            for item in recent(history) {
                let at = singles.binary_search(&item).expect("invariant: every recent purchase was searched from");
                for &(next, p) in &apart[at] {
                    *scores.entry(next).or_default() += weight * p;
                }
                weight *= contexts.decay;
            }
            let mut ranked: Vec<(u32, f64)> = scores.into_iter().collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            ranked.into_iter().map(|(item, _)| item).collect()
        };
        Ok(histories.iter().zip(&together).map(combine).collect())
    }

    /// Items and probabilities of the beams after every history.
    fn search(
        &self,
        trie: &Trie,
        histories: &[&[u32]],
        contexts: &Contexts,
        label: &str,
    ) -> Result<Vec<Vec<(u32, f64)>>> {
        let catalogue = TokenTrie { trie, tokens: self.tokens };
        let progress = Progress::new(label, histories.len() as u64, 0);
        let mut found = Vec::with_capacity(histories.len());
        // more beams than items find no more
        let beams = contexts.beams.min(self.sids.items()).max(1);
        for histories in histories.chunks((MOST_BEAMS / beams).clamp(1, BATCH)) {
            check_interrupt()?;
            let prompts: Vec<Vec<u32>> = histories
                .iter()
                .map(|history| next_item_prompt(history, contexts.window, self.sids, self.tokenizer, self.tokens))
                .collect::<Result<_>>()?;
            for beams in beam_search(self.model, &prompts, &catalogue, beams)? {
                let items = |beam: &Beam<Node>| {
                    let p = (beam.logp as f64).exp();
                    trie.items(beam.node).iter().map(move |&item| (item, p)).collect::<Vec<_>>()
                };
                found.push(beams.iter().flat_map(items).collect());
            }
            progress.advance(histories.len() as u64, "");
        }
        progress.finish(format_args!("{} histories, {} beams", histories.len(), contexts.beams));
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
