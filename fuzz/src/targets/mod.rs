//! Every reader, with seeds, words and promises. One file for readers that belong together.

mod amazon;
mod answers;
mod checkpoint;
mod configs;
mod embeddings;
mod http;
mod lcrec;
mod logs;
mod shop;
mod sids;
mod slates;
mod state;
mod tensors;
mod text;

use crate::Target;

/// All of them.
pub static TARGETS: &[Target] = &[
    // model and tokenizer directories
    checkpoint::CONFIG_JSON,
    checkpoint::CHECKPOINT,
    checkpoint::SHARDED,
    text::TOKENIZER_JSON,
    text::TOKENIZER_FOLDER,
    text::CHAT_TEMPLATE,
    text::CHAT_MESSAGES,
    // data of users
    lcrec::LCREC,
    lcrec::MARKUP,
    amazon::AMAZON2014,
    amazon::AMAZON2018,
    amazon::AMAZON2023,
    amazon::PYTHON_LITERAL,
    amazon::RATINGS_CSV,
    logs::GZIP_LINES,
    embeddings::NPY,
    embeddings::SAFETENSORS,
    sids::INDEX_JSON,
    slates::IMPORT,
    // teachers and models that answer
    answers::STRICT,
    answers::LENIENT,
    answers::TOKENS,
    answers::CACHE,
    http::RESPONSE,
    // settings
    configs::RUN_CONFIG,
    // what a run directory and the cache directory hold
    configs::RUN_DIRECTORY,
    state::TRAIN_STATE,
    shop::DATASET,
    sids::SIDS_JSONL,
    sids::SEMANTIC_ID,
    slates::SLATES_JSONL,
    slates::TRACES_JSONL,
    logs::JSONL,
    configs::GPU_CHOICES,
];
