//! The four tasks of mid-training, as token sequences with loss masks.

use crate::bounds::{MANY, SHARE, Section, WEIGHT, above};
use crate::data::{Catalogue, Example, Examples, Item, Split};
use crate::error::Result;
use crate::sid::SemanticIds;
use crate::tensor::{Rng, stream};
use crate::text::{ENDOFTEXT, SidTokens, Tokenizer};
use rand::RngExt;
use rand::seq::index::sample;
use serde::{Deserialize, Serialize};

/// Opens a history of semantic ids.
const PURCHASES: &str = "Purchases:";
/// Opens a list of semantic ids to copy.
const CANDIDATES: &str = "Candidates:";
/// Sequences of other tasks for each history at most.
const MOST_FOR_EACH: f64 = 1000.0;
/// Ids of such a list.
const LISTED: usize = 10;

/// Share of each task among the training sequences.
///
/// Defaults: OneRec-Think's mixture (65.7 % sequential, 24.3 % persona, 4.9 % caption, 5.0 % general), rounded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskMix {
    /// Semantic ids of a history, in order: the next one is predicted everywhere.
    pub sequence: f64,
    /// From a semantic id to the item's text, and from the text to the id.
    pub caption: f64,
    /// Histories that mix semantic ids with titles and categories.
    pub persona: f64,
    /// Texts of the catalogue.
    pub general: f64,
    /// Ten semantic ids, then the same ones as a list with up to two of them in front: how lists are copied, which a
    /// small model has to learn before it can re-rank any. 0: GR2.
    pub list: f64,
}

impl Default for TaskMix {
    fn default() -> Self {
        TaskMix { sequence: 0.66, caption: 0.05, persona: 0.24, general: 0.05, list: 0.0 }
    }
}

/// How histories are varied from epoch to epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Probability that a history is thinned: the next purchase is then learnt from those further back, as a Markov
    /// recommender with skips does.
    pub thin: f64,
    /// Probability that a purchase of a thinned history is left out.
    pub drop_item: f64,
    /// Probability that a history is learnt backwards.
    pub reverse: f64,
    /// Epochs in which histories may be learnt backwards; the last ones should not be among them.
    pub reverse_epochs: u64,
    /// Longest history; a longer one is cut at a random place.
    pub window: usize,
}

impl Default for Augment {
    fn default() -> Self {
        Augment { thin: 0.9, drop_item: 0.5, reverse: 0.0, reverse_epochs: 0, window: 50 }
    }
}

impl TaskMix {
    /// Errors: `Config` if a share is no number or negative, no history is learnt, or so few that an epoch would hold far more
    /// sequences than there are histories.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("midtrain.mix");
        at.because("no history would be learnt").number("sequence", self.sequence, above(0.0, *WEIGHT.end()))?;
        let others =
            [("caption", self.caption), ("persona", self.persona), ("general", self.general), ("list", self.list)];
        for (field, share) in others {
            at.number(field, share, WEIGHT)?;
        }
        let for_each = others.iter().map(|(_, share)| share).sum::<f64>() / self.sequence;
        let (largest, share) = others.into_iter().fold(("", 0.0), |a, b| if b.1 > a.1 { b } else { a });
        if for_each > MOST_FOR_EACH {
            let problem = format!(
                "{share}: with midtrain.mix.sequence = {:?} there would be {for_each:.0} other sequences for each history, \
                 expected at most {MOST_FOR_EACH}",
                self.sequence
            );
            return at.refuse(largest, problem);
        }
        Ok(())
    }
}

impl Augment {
    /// Errors: `Config` naming the field out of range.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("midtrain.augment");
        at.number("thin", self.thin, SHARE)?;
        at.number("drop_item", self.drop_item, SHARE)?;
        at.number("reverse", self.reverse, SHARE)?;
        at.whole("reverse_epochs", self.reverse_epochs, 0..=MANY)?;
        at.because("nothing follows anything").whole("window", self.window, 2..=MANY)
    }
}

/// One line per item: what a general text of the catalogue is.
pub fn catalogue_texts(catalogue: &Catalogue) -> Vec<String> {
    catalogue.items.iter().map(Item::text).collect()
}

/// Training sequences of all tasks: every user's history once an epoch, the other tasks drawn to their shares.
pub struct MidtrainExamples<'a> {
    /// Items.
    pub catalogue: &'a Catalogue,
    /// Histories; only their training part is read.
    pub split: Split<'a>,
    /// Users who have a training part of at least two.
    pub users: Vec<u32>,
    /// Semantic ids of the items.
    pub sids: &'a SemanticIds,
    /// Tokenizer with semantic-id tokens.
    pub tokenizer: &'a Tokenizer,
    /// Their ids.
    pub sid_tokens: &'a SidTokens,
    /// Shares.
    pub mix: TaskMix,
    /// Variation.
    pub augment: Augment,
    /// Words of an item's text.
    pub text_words: usize,
    /// Seed of draws and variation.
    pub seed: u64,
}

impl Examples for MidtrainExamples<'_> {
    fn len(&self) -> usize {
        let TaskMix { sequence, caption, persona, general, list } = self.mix;
        let total = sequence + caption + persona + general + list;
        (self.users.len() as f64 * total / sequence).round() as usize
    }

    fn get(&self, epoch: u64, index: usize) -> Result<Example> {
        let mut rng = stream(self.seed, "midtrain example", epoch, index as u64);
        if let Some(&user) = self.users.get(index) {
            return self.sequence(user, epoch, &mut rng);
        }
        let rest = [self.mix.caption, self.mix.persona, self.mix.list, self.mix.general];
        let mut at = rng.random::<f64>() * rest.iter().sum::<f64>();
        let task = rest.iter().position(|share| {
            at -= share;
            at < 0.0
        });
        let item = rng.random_range(0..self.catalogue.items.len());
        match task {
            Some(0) => self.caption(item, &mut rng),
            Some(1) => {
                let user = self.users[rng.random_range(0..self.users.len())];
                self.persona(user, epoch, &mut rng)
            }
            Some(2) => self.list(&mut rng),
            _ => self.text(item),
        }
    }
}

impl MidtrainExamples<'_> {
    /// `Purchases: {SID}{SID}…`; every semantic id is predicted from those before it.
    fn sequence(&self, user: u32, epoch: u64, rng: &mut Rng) -> Result<Example> {
        let mut example = Example::default();
        self.push_text(&mut example, PURCHASES, 0.0)?;
        for item in self.varied(user, epoch, rng) {
            self.push_sid(&mut example, item, 1.0)?;
        }
        Ok(example)
    }

    /// `{SID} text` or `text {SID}`, the second half predicted.
    fn caption(&self, item: usize, rng: &mut Rng) -> Result<Example> {
        let mut example = Example::default();
        let text = self.short(item);
        if rng.random::<bool>() {
            self.push_sid(&mut example, item as u32, 0.0)?;
            self.push_text(&mut example, &format!(" {text}"), 1.0)?;
        } else {
            self.push_text(&mut example, &format!("{text} "), 0.0)?;
            self.push_sid(&mut example, item as u32, 1.0)?;
        }
        self.push_end(&mut example)?;
        Ok(example)
    }

    /// `Purchases:\n{SID} text\n{SID} text…`, all predicted.
    fn persona(&self, user: u32, epoch: u64, rng: &mut Rng) -> Result<Example> {
        let mut example = Example::default();
        self.push_text(&mut example, PURCHASES, 0.0)?;
        for item in self.varied(user, epoch, rng) {
            self.push_text(&mut example, "\n", 1.0)?;
            self.push_sid(&mut example, item, 1.0)?;
            self.push_text(&mut example, &format!(" {}", self.short(item as usize)), 1.0)?;
        }
        Ok(example)
    }

    /// `Candidates:\n{SID}\n{SID}…\n["{SID}","{SID}",…]`: the second list is the first with up to two ids in front, and is
    /// predicted from the id after those on.
    fn list(&self, rng: &mut Rng) -> Result<Example> {
        let items = self.catalogue.items.len();
        let candidates = sample(rng, items, LISTED.min(items)).into_vec();
        let front = rng.random_range(0..=2.min(candidates.len() - 1));
        let front = sample(rng, candidates.len(), front).into_vec();
        let mut example = Example::default();
        self.push_text(&mut example, CANDIDATES, 0.0)?;
        for &item in &candidates {
            self.push_text(&mut example, "\n", 0.0)?;
            self.push_sid(&mut example, item as u32, 0.0)?;
        }
        self.push_text(&mut example, "\n[\"", 0.0)?;
        let others = (0..candidates.len()).filter(|place| !front.contains(place));
        for (at, place) in front.iter().copied().chain(others).enumerate() {
            if at > 0 {
                self.push_text(&mut example, "\",\"", 0.0)?;
            }
            self.push_sid(&mut example, candidates[place] as u32, if at < front.len() { 0.0 } else { 1.0 })?;
        }
        Ok(example)
    }

    fn text(&self, item: usize) -> Result<Example> {
        let mut example = Example::default();
        self.push_text(&mut example, &self.catalogue.items[item].text(), 1.0)?;
        self.push_end(&mut example)?;
        Ok(example)
    }

    /// The training part of a history, cut to the window at a random place, perhaps thinned, perhaps turned round.
    fn varied(&self, user: u32, epoch: u64, rng: &mut Rng) -> Vec<u32> {
        let Augment { thin, drop_item, reverse, reverse_epochs, window } = self.augment;
        let train = self.split.train(user);
        let start = match train.len() > window {
            true => rng.random_range(0..=train.len() - window),
            false => 0,
        };
        let mut history = train[start..train.len().min(start + window)].to_vec();
        if history.len() > 2 && rng.random::<f64>() < thin {
            let kept: Vec<u32> = history.iter().copied().filter(|_| rng.random::<f64>() >= drop_item).collect();
            if kept.len() > 1 {
                history = kept;
            }
        }
        if epoch < reverse_epochs && rng.random::<f64>() < reverse {
            history.reverse();
        }
        history
    }

    fn short(&self, item: usize) -> String {
        let text = self.catalogue.items[item].text();
        text.split_whitespace().take(self.text_words).collect::<Vec<_>>().join(" ")
    }

    fn push_sid(&self, example: &mut Example, item: u32, weight: f32) -> Result<()> {
        let ids = self.sid_tokens.ids(self.sids.get(item as usize))?;
        example.weights.extend(vec![weight; ids.len()]);
        example.tokens.extend(ids);
        Ok(())
    }

    /// Words of our own or of the catalogue: no control token and no semantic id, whatever they spell.
    fn push_text(&self, example: &mut Example, text: &str, weight: f32) -> Result<()> {
        let ids = self.tokenizer.encode_data(text)?;
        example.weights.extend(vec![weight; ids.len()]);
        example.tokens.extend(ids);
        Ok(())
    }

    fn push_end(&self, example: &mut Example) -> Result<()> {
        let end = self.tokenizer.token_id(ENDOFTEXT);
        example.tokens.extend(end);
        example.weights.extend(end.map(|_| 1.0));
        Ok(())
    }
}

/// The prompt after which the next purchase is generated: the history as in mid-training, and the opening of an id.
///
/// Errors: `Text` if the history holds an id the tokenizer has no token for.
pub fn next_item_prompt(
    history: &[u32],
    window: usize,
    sids: &SemanticIds,
    tokenizer: &Tokenizer,
    tokens: &SidTokens,
) -> Result<Vec<u32>> {
    let mut prompt = tokenizer.encode_rendered(PURCHASES)?;
    for &item in &history[history.len().saturating_sub(window)..] {
        prompt.extend(tokens.ids(sids.get(item as usize))?);
    }
    prompt.push(tokens.begin);
    Ok(prompt)
}
