//! What to import and how to filter it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bounds::{MANY, Section};
use crate::data::shop::{Shop, ShopConfig};
use crate::data::{Dataset, amazon, amazon2014, amazon2018, amazon2023, lcrec};
use crate::error::{Error, Result};

/// The layout that the data come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// `X.inter.json` and `X.item.json`, as LC-Rec and MiniOneRec publish them.
    LcRec,
    /// `reviews_X_5.json.gz` and `meta_X.json.gz` with metadata as Python literals.
    Amazon2014,
    /// `X_5.json.gz` and `meta_X.json.gz`, JSON lines.
    Amazon2018,
    /// `X.jsonl.gz` and `meta_X.jsonl.gz`, JSON lines; or the published 5-core as CSV.
    Amazon2023,
    /// The built-in synthetic shop; reads nothing.
    #[default]
    Shop,
}

impl Source {
    /// The name in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Source::LcRec => "lcrec",
            Source::Amazon2014 => "amazon2014",
            Source::Amazon2018 => "amazon2018",
            Source::Amazon2023 => "amazon2023",
            Source::Shop => "shop",
        }
    }
}

/// What to do with an item that has no metadata, or neither title nor description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingText {
    /// Leave the item and its interactions out, and count them.
    #[default]
    Drop,
    /// Stop with an error that names the item.
    Error,
}

/// What to do when a user buys the same item again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repeats {
    /// Keep every purchase.
    Keep,
    /// Keep the first one, count the others as left out.
    First,
}

/// Configuration of the `data` stage.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Layout. Default: the shop, which needs no files.
    pub source: Source,
    /// Directory that holds the files; not for the shop.
    pub dir: Option<PathBuf>,
    /// LC-Rec: the X of `X.inter.json`. Default: the only one in `dir`.
    pub prefix: Option<String>,
    /// Amazon: the file of reviews or ratings, inside `dir` unless absolute. Default: the only one in `dir`.
    pub reviews: Option<PathBuf>,
    /// Amazon: the file of metadata, inside `dir` unless absolute. Default: the only `meta_*` in `dir`.
    pub metadata: Option<PathBuf>,
    /// Fewest interactions of a user and of an item. Default: 5 for Amazon (the 5-core of SASRec, TIGER, LC-Rec), 0 = none
    /// for LC-Rec (published after its own 5-core) and the shop.
    pub k_core: Option<u32>,
    /// Second purchases of an item. Default: `first` for Amazon (LC-Rec's preprocessing), `keep` for LC-Rec (as published).
    pub repeats: Option<Repeats>,
    /// Items without text. Default: `drop`, as LC-Rec's preprocessing does; the counts are reported.
    pub missing_text: MissingText,
    /// Most recent interactions kept of each user. Default: all (OneRec-Think publishes Beauty capped at 50).
    pub max_history: Option<u32>,
    /// The synthetic shop.
    pub shop: ShopConfig,
}

impl DataConfig {
    /// The k of the k-core, by default that of the layout.
    pub fn k_core(&self) -> u32 {
        self.k_core.unwrap_or(match self.source {
            Source::LcRec | Source::Shop => 0,
            Source::Amazon2014 | Source::Amazon2018 | Source::Amazon2023 => 5,
        })
    }

    /// Treatment of repeated purchases, by default that of the layout.
    pub fn repeats(&self) -> Repeats {
        self.repeats.unwrap_or(match self.source {
            Source::LcRec | Source::Shop => Repeats::Keep,
            Source::Amazon2014 | Source::Amazon2018 | Source::Amazon2023 => Repeats::First,
        })
    }

    /// Checks every value and that the fields go together.
    ///
    /// Errors: `Config` naming the field.
    pub fn validate(&self) -> Result<()> {
        let at = Section::new("data");
        for (field, path) in [("dir", &self.dir), ("reviews", &self.reviews), ("metadata", &self.metadata)] {
            at.path(field, path.as_deref())?;
        }
        at.text("prefix", self.prefix.as_deref())?;
        if let Some(most) = self.max_history {
            at.because("a test, a validation and a training item need 3").whole("max_history", most, 3..=MANY)?;
        }
        if let Some(fewest) = self.k_core {
            at.whole("k_core", fewest, 0..=1_000_000)?;
        }
        self.shop.validate()?;
        let given = [
            ("data.dir", self.dir.is_some()),
            ("data.prefix", self.prefix.is_some()),
            ("data.reviews", self.reviews.is_some()),
            ("data.metadata", self.metadata.is_some()),
            ("data.k_core", self.k_core.unwrap_or(0) > 0),
            ("data.repeats", self.repeats.is_some()),
            ("data.max_history", self.max_history.is_some()),
        ];
        let foreign: &[&str] = match self.source {
            // Its oracle speaks of the shop's own items and whole histories.
            Source::Shop => &given.map(|(field, _)| field),
            Source::LcRec => &["data.reviews", "data.metadata"],
            Source::Amazon2014 | Source::Amazon2018 | Source::Amazon2023 => &["data.prefix"],
        };
        if let Some((field, _)) = given.iter().find(|(field, given)| *given && foreign.contains(field)) {
            return Err(Error::Config {
                field: (*field).to_owned(),
                problem: format!("has no meaning with data.source = \"{}\"", self.source.name()),
                hint: Some("remove it, or set data.source".to_owned()),
            });
        }
        match self.source {
            Source::Shop => Ok(()),
            _ if self.dir.is_none() && (self.reviews.is_none() || self.metadata.is_none()) => Err(Error::Config {
                field: "data.dir".to_owned(),
                problem: format!("is not set, and data.source = \"{}\" reads files", self.source.name()),
                hint: Some("set data.dir to the directory of the data".to_owned()),
            }),
            _ => Ok(()),
        }
    }

    /// The files that [`import`] will read, for hashing and messages; none for the shop.
    ///
    /// Errors: `Config`, or `Data` if they cannot be told apart or are not there.
    pub fn inputs(&self) -> Result<Vec<PathBuf>> {
        self.validate()?;
        if let Some(dir) = self.dir.as_deref().filter(|dir| self.source != Source::Shop && !dir.exists()) {
            return Err(Error::not_there("data.dir", dir));
        }
        match self.source {
            Source::Shop => Ok(Vec::new()),
            Source::LcRec => lcrec::find(self).map(|files| vec![files.inter, files.item]),
            _ => amazon::find(self).map(|files| vec![files.reviews, files.metadata]),
        }
    }
}

/// Imports what the configuration names, filtered and counted.
///
/// Users and items stand in the order of their first appearance in the source, purchases in order of time (ties by
/// their order in the file); the same input gives the same data set.
///
/// Errors: `Config`; `Io`; `Data` with file and line for a record that is not what it should be, and if nothing is left.
pub fn import(config: &DataConfig) -> Result<Dataset> {
    config.validate()?;
    match config.source {
        Source::LcRec => lcrec::import(config),
        Source::Amazon2014 => amazon::import(config, &amazon2014::LAYOUT),
        Source::Amazon2018 => amazon::import(config, &amazon2018::LAYOUT),
        Source::Amazon2023 => amazon::import(config, &amazon2023::LAYOUT),
        Source::Shop => Ok(Shop::build(&config.shop)?.dataset()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(toml: &str) -> DataConfig {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn defaults_depend_on_the_layout() {
        let config = parse("source = \"lcrec\"\ndir = \"office\"");
        config.validate().unwrap();
        assert_eq!((config.k_core(), config.repeats()), (0, Repeats::Keep));
        let config = parse("source = \"amazon2018\"\ndir = \"x\"\nrepeats = \"keep\"");
        config.validate().unwrap();
        assert_eq!((config.k_core(), config.repeats()), (5, Repeats::Keep));
        assert_eq!(parse(""), DataConfig::default());
        DataConfig::default().validate().unwrap();
    }

    #[test]
    fn a_config_survives_being_written() {
        let config =
            parse("source = \"amazon2014\"\nreviews = \"r\"\nmetadata = \"m\"\nk_core = 3\nmissing_text = \"error\"");
        config.validate().unwrap();
        assert_eq!(parse(&toml::to_string(&config).unwrap()), config);
    }

    #[test]
    fn wrong_values_name_their_field() {
        let field = |toml| parse(toml).validate().unwrap_err().to_string();
        assert!(field("source = \"lcrec\"").starts_with("config: data.dir: is not set"));
        assert!(field("k_core = 5").starts_with("config: data.k_core: has no meaning with data.source = \"shop\""));
        assert!(field("source = \"lcrec\"\ndir = \"x\"\nreviews = \"y\"").starts_with("config: data.reviews"));
        assert!(field("source = \"lcrec\"\ndir = \"x\"\nmax_history = 2").starts_with("config: data.max_history: 2:"));
        assert!(toml::from_str::<DataConfig>("kcore = 5").unwrap_err().to_string().contains("unknown field `kcore`"));
    }
}
