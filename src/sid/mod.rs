//! Semantic identifiers: from item texts to a short tuple of codes per item, shared prefixes meaning shared content.
//!
//! | file | does |
//! |---|---|
//! | `tfidf`, `svd` | built-in text embedding: hashed TF-IDF, then a randomised truncated SVD ([`embed_texts`] joins them) |
//! | `import` | a user's own embeddings from `.npy` or `.safetensors` |
//! | `cooccurrence` | items bought together, and vectors of that |
//! | `kmeans`, `codebooks` | k-means, residual k-means and the codebooks they give |
//! | `codes`, `sid_file`, `index_json` | the catalogue's identifiers, reading and writing them |
//! | `rqvae`, `mlp`, `ema` | the autoencoder that learns the codebooks |
//! | `pooled` | embeddings from a language model's states |
//! | `last_level` | makes every identifier unique by choosing last codes inside each prefix |
//! | `uniqueness` | how unique the identifiers are and how well each level is used |
//! | `trie` | which codes may follow a prefix, and which item an identifier stands for |
//! | `embeddings`, `csr`, `dense`, `tokens`, `hash`, `sample` | vectors, sparse and small dense algebra, words, hash and sampling under it |
//!
//! Everything here gives the same bits for the same seed, whatever the number of threads: sums run over pieces whose
//! borders depend on the data alone.

mod codebooks;
mod codes;
mod cooccurrence;
mod csr;
mod dense;
mod ema;
mod embeddings;
mod hash;
mod import;
mod index_json;
mod kmeans;
mod last_level;
mod mlp;
mod pooled;
mod rqvae;
mod sample;
mod sid_file;
mod svd;
mod tfidf;
mod tokens;
mod trie;
mod uniqueness;

pub use codebooks::Codebooks;
pub use codes::SemanticIds;
pub use cooccurrence::{CooccurrenceConfig, embed_neighbours, neighbours};
pub use csr::Csr;
pub use embeddings::Embeddings;
pub use import::{read_embeddings, write_embeddings};
pub use index_json::{IndexJson, read_index_json, write_index_json};
pub use kmeans::{Kmeans, KmeansConfig, ResidualKmeans, kmeans, residual_kmeans};
pub use last_level::{LastLevel, LastLevelReport, assign_last_level};
pub use pooled::embed_with_model;
pub use rqvae::{Quantised, RqVaeConfig, RqVaeMetrics, train_rqvae};
pub use sid_file::{read_jsonl, write_jsonl};
pub use svd::{Svd, SvdConfig, truncated_svd};
pub use tfidf::{FieldConfig, ItemText, TextReport, Tfidf, TfidfConfig, embed_texts, tfidf};
pub use trie::{Node, Trie};
pub use uniqueness::{LevelUsage, UniquenessReport, uniqueness};
