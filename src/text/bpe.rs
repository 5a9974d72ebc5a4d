//! Training a byte-level BPE of our own, in the manner of Qwen's: NFC, Qwen's split into words, 256 bytes as alphabet.
//!
//! Merging is exact and deterministic: of the pairs with the highest count the one with the lowest ids is merged next,
//! whatever the order in which texts, words or hash tables come.
//! Source: Sennrich et al. 2016, arXiv:1508.07909, algorithm 1; ids and ties as in `tokenizers`' `BpeTrainer`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use rayon::prelude::*;
use serde_json::{Map, Value, json};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{NormalizedString, Normalizer, PreTokenizedString, PreTokenizer};
use tokenizers::{OffsetReferential, OffsetType, SplitDelimiterBehavior};

use super::byte_level::byte_char;
use super::{ENDOFTEXT, IM_END, IM_START, THINK, THINK_END, Tokenizer, refusal};
use crate::error::Result;

/// How Qwen2 and Qwen3 cut text into words before merging.
const QWEN_SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const SPECIAL: [&str; 3] = [ENDOFTEXT, IM_START, IM_END];
const ORDINARY: [&str; 2] = [THINK, THINK_END];

/// Vocabulary without a single merge: control tokens and bytes.
pub const BPE_MIN_VOCAB: usize = SPECIAL.len() + 256 + ORDINARY.len();

/// Texts counted at a time, in parallel.
const BATCH: usize = 1024;

type Pair = (u32, u32);

/// Trains a tokenizer with `vocab_size` ids, fewer if the texts have no more pairs that occur twice.
///
/// Ids: `<|endoftext|>`, `<|im_start|>`, `<|im_end|>` (special), the 256 bytes, merges in order, then `<think>` and
/// `</think>` (ordinary).
/// Errors: `Text` if `vocab_size` is below [`BPE_MIN_VOCAB`].
pub fn train_bpe<S: AsRef<str> + Sync>(texts: impl IntoIterator<Item = S>, vocab_size: usize) -> Result<Tokenizer> {
    if vocab_size < BPE_MIN_VOCAB {
        let problem = format!("vocabulary of {vocab_size}: control tokens and bytes alone are {BPE_MIN_VOCAB}");
        return Err(refusal("byte-level BPE", problem));
    }
    let mut vocabulary = Vocabulary::of_bytes();
    let merges = merge_words(&mut vocabulary, count_words(texts)?, vocab_size - ORDINARY.len());
    let json = tokenizer_json(&vocabulary, &merges);
    Tokenizer::from_json(json.to_string().as_bytes(), "byte-level BPE")
}

/// Number of occurrences of every word, words in byte order.
fn count_words<S: AsRef<str> + Sync>(texts: impl IntoIterator<Item = S>) -> Result<Vec<(String, u64)>> {
    let split = Split::new(SplitPattern::Regex(QWEN_SPLIT.into()), SplitDelimiterBehavior::Isolated, false)
        .map_err(|e| refusal("byte-level BPE", e))?;
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut texts = texts.into_iter();
    loop {
        let batch: Vec<S> = texts.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        let parts: Vec<HashMap<String, u64>> =
            batch.par_iter().map(|text| words_of(text.as_ref(), &split)).collect::<Result<_>>()?;
        for (word, count) in parts.into_iter().flatten() {
            *counts.entry(word).or_default() += count;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable();
    Ok(counts)
}

fn words_of(text: &str, split: &Split) -> Result<HashMap<String, u64>> {
    let cut = || -> tokenizers::Result<HashMap<String, u64>> {
        let mut normalized = NormalizedString::from(text);
        NFC.normalize(&mut normalized)?;
        let mut pieces = PreTokenizedString::from(normalized);
        split.pre_tokenize(&mut pieces)?;
        let mut counts = HashMap::new();
        for (word, _, _) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
        Ok(counts)
    };
    cut().map_err(|e| refusal("byte-level BPE", e))
}

/// Tokens in the order of their ids.
struct Vocabulary {
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    fn of_bytes() -> Self {
        let mut alphabet: Vec<char> = (0..=u8::MAX).map(byte_char).collect();
        alphabet.sort_unstable();
        let mut vocabulary = Vocabulary { tokens: Vec::new(), ids: HashMap::new() };
        let specials = SPECIAL.into_iter().map(str::to_owned);
        for token in specials.chain(alphabet.into_iter().map(String::from)) {
            vocabulary.id_or_insert(token);
        }
        vocabulary
    }

    /// Two pairs can spell the same token, as `a`+`bc` and `ab`+`c`; it has one id.
    fn id_or_insert(&mut self, token: String) -> u32 {
        let next = self.tokens.len() as u32;
        *self.ids.entry(token).or_insert_with_key(|token| {
            self.tokens.push(token.clone());
            next
        })
    }
}

/// How often a pair occurs, and in which words it did at some time.
#[derive(Default)]
struct Occurrences {
    count: u64,
    words: Vec<u32>,
}

/// Merges pairs until the vocabulary has `target` tokens or no pair occurs twice.
///
/// The queue may hold outdated counts; a pair is merged only when its entry is true. Time and memory are linear in
/// the symbols of distinct words, times the logarithm of the queue.
fn merge_words(vocabulary: &mut Vocabulary, words: Vec<(String, u64)>, target: usize) -> Vec<Pair> {
    let (mut words, counts): (Vec<Vec<u32>>, Vec<u64>) = words
        .into_iter()
        .map(|(word, count)| (word.bytes().map(|b| vocabulary.ids[&byte_char(b).to_string()]).collect(), count))
        .unzip();
    let mut pairs: HashMap<Pair, Occurrences> = HashMap::new();
    for (w, word) in words.iter().enumerate() {
        for pair in word.windows(2) {
            let occurrences = pairs.entry((pair[0], pair[1])).or_default();
            occurrences.count += counts[w];
            if occurrences.words.last() != Some(&(w as u32)) {
                occurrences.words.push(w as u32);
            }
        }
    }
    let mut queue: BinaryHeap<(u64, Reverse<Pair>)> = pairs.iter().map(|(&pair, o)| (o.count, Reverse(pair))).collect();
    let mut merges = Vec::new();
    while vocabulary.tokens.len() < target
        && let Some((count, Reverse(pair))) = queue.pop()
    {
        let now = pairs.get(&pair).map_or(0, |o| o.count);
        if now != count {
            // Counts that rose were queued when they did; one that fell is queued again here.
            if 0 < now && now < count {
                queue.push((now, Reverse(pair)));
            }
            continue;
        }
        if count < 2 {
            break;
        }
        let token = format!("{}{}", vocabulary.tokens[pair.0 as usize], vocabulary.tokens[pair.1 as usize]);
        let id = vocabulary.id_or_insert(token);
        merges.push(pair);

        let mut touched = pairs.remove(&pair).unwrap_or_default().words;
        touched.sort_unstable();
        touched.dedup();
        let mut rose: Vec<Pair> = Vec::new();
        for &w in &touched {
            let word = &mut words[w as usize];
            let merged = merge_pair(word, pair, id);
            if merged.len() == word.len() {
                continue;
            }
            let count = counts[w as usize];
            for gone in word.windows(2) {
                if let Some(occurrences) = pairs.get_mut(&(gone[0], gone[1])) {
                    occurrences.count -= count;
                }
            }
            for here in merged.windows(2) {
                let occurrences = pairs.entry((here[0], here[1])).or_default();
                occurrences.count += count;
                if here.contains(&id) {
                    occurrences.words.push(w);
                    rose.push((here[0], here[1]));
                }
            }
            *word = merged;
        }
        rose.sort_unstable();
        rose.dedup();
        queue.extend(rose.into_iter().map(|pair| (pairs[&pair].count, Reverse(pair))));
    }
    merges
}

/// `word` with every `pair`, left to right, replaced by `id`.
fn merge_pair(word: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut merged = Vec::with_capacity(word.len());
    let mut i = 0;
    while i < word.len() {
        if word[i] == pair.0 && word.get(i + 1) == Some(&pair.1) {
            merged.push(id);
            i += 2;
        } else {
            merged.push(word[i]);
            i += 1;
        }
    }
    merged
}

fn tokenizer_json(vocabulary: &Vocabulary, merges: &[Pair]) -> Value {
    let token = |id: u32| vocabulary.tokens[id as usize].as_str();
    let added = |(id, content): (usize, &str), special: bool| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special })
    };
    let ordinary = (vocabulary.tokens.len()..).zip(ORDINARY);
    let added_tokens: Vec<Value> =
        SPECIAL.into_iter().enumerate().map(|t| added(t, true)).chain(ordinary.map(|t| added(t, false))).collect();
    let vocab: Map<String, Value> = vocabulary.tokens.iter().cloned().zip((0..).map(|id: u32| json!(id))).collect();
    let merges: Vec<[&str; 2]> = merges.iter().map(|&(a, b)| [token(a), token(b)]).collect();
    let byte_level =
        |prefix| json!({ "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": false, "use_regex": false });
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added_tokens,
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": QWEN_SPLIT }, "behavior": "Isolated", "invert": false },
            byte_level(false),
        ] },
        "post_processor": null,
        "decoder": byte_level(false),
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                   "vocab": vocab, "merges": merges },
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tokenizers::models::bpe::{BPE, BpeTrainer};

    const SHOP: [&str; 6] = [
        "Scotch Magic Tape, 3/4 x 1000 inches, 6 rolls in a box, for the office and the school",
        "Magic markers and paper for the office: naïve café colours, 日本語 labels, don't dry out",
        "Paper rolls, paper boxes, tape and markers\n\nfor schools\n  and offices\n\npaper",
        "banana bananas aaaa aaaaa abababab abcabc bcbc",
        "system user assistant explanation recommendations history candidates",
        "{\"explanation\": \"paper follows tape\", \"recommendations\": [\"tape\", \"paper\"]}",
    ];

    /// A tokenizer small enough to read, for the tests of this module.
    pub(in crate::text) fn shop_tokenizer() -> Tokenizer {
        train_bpe(SHOP, 340).unwrap()
    }

    #[test]
    fn ids_are_laid_out_as_promised() {
        let tokenizer = shop_tokenizer();
        assert_eq!(tokenizer.vocab_size(), 340);
        assert!(tokenizer.gaps().is_empty());
        let id = |token| tokenizer.token_id(token).unwrap();
        assert_eq!(
            [id(ENDOFTEXT), id(IM_START), id(IM_END), id("!"), id(THINK), id(THINK_END)],
            [0, 1, 2, 3, 338, 339]
        );
        assert_eq!(tokenizer.special_ids().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((tokenizer.eos_ids(), tokenizer.pad_id()), (&[2][..], Some(0)));
    }

    #[test]
    fn merges_agree_with_the_reference_trainer() {
        let words = count_words(SHOP).unwrap();
        for target in [270, 300, 338, 10_000] {
            let mut ours = Vocabulary::of_bytes();
            let merges = merge_words(&mut ours, words.clone(), target);

            let in_alphabet = |word: &str| word.bytes().map(byte_char).collect::<String>();
            let special = SPECIAL.map(|t| tokenizers::AddedToken::from(t, true)).to_vec();
            let trainer = BpeTrainer::builder()
                .vocab_size(target)
                .min_frequency(2)
                .show_progress(false)
                .special_tokens(special)
                .initial_alphabet((0..=u8::MAX).map(byte_char).collect())
                .build();
            let counted = words.iter().map(|(word, count)| (in_alphabet(word).into(), *count)).collect();
            let mut reference = BPE::default();
            trainer.do_train(&counted, &mut reference).unwrap();
            let reference: Value = serde_json::to_value(&reference).unwrap();

            let expected = reference["vocab"].as_object().unwrap();
            assert_eq!(ours.tokens.len(), expected.len(), "target {target}");
            for (id, token) in ours.tokens.iter().enumerate() {
                assert_eq!(expected[token], json!(id), "{token}");
            }
            let spelt: Vec<_> =
                merges.iter().map(|&(a, b)| json!([ours.tokens[a as usize], ours.tokens[b as usize]])).collect();
            assert_eq!(json!(spelt), reference["merges"], "target {target}");
        }
    }

    #[test]
    fn training_does_not_depend_on_the_order_of_texts() {
        let forwards = shop_tokenizer().inner.to_string(false).unwrap();
        let backwards = train_bpe(SHOP.into_iter().rev(), 340).unwrap().inner.to_string(false).unwrap();
        assert_eq!(forwards, backwards);
    }

    #[test]
    fn any_text_comes_back() {
        let tokenizer = shop_tokenizer();
        for text in ["", " ", "paper\r\n\t tape", "unseen ŽŠ 🖊️\u{200d}x", "1234.5%", "a <think> b </think>"] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap(), false).unwrap(), text);
        }
        assert_eq!(tokenizer.encode(" office").unwrap().len(), 1, "a frequent word is one token");
    }

    #[test]
    fn sizes_out_of_reach() {
        assert!(train_bpe(SHOP, BPE_MIN_VOCAB - 1).unwrap_err().to_string().contains("vocabulary of 260"));
        assert_eq!(train_bpe(SHOP, BPE_MIN_VOCAB).unwrap().vocab_size(), BPE_MIN_VOCAB);
        assert_eq!(train_bpe(["ab ab"], 1000).unwrap().vocab_size(), BPE_MIN_VOCAB + 1);
        assert_eq!(train_bpe(Vec::<String>::new(), 1000).unwrap().vocab_size(), BPE_MIN_VOCAB);
    }
}
