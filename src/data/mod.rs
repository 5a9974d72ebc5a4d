//! Purchase histories and item texts: importers, filters, the split, and a synthetic shop.
//!
//! | file | what |
//! |---|---|
//! | `dataset` | `Item`, `Catalogue`, `User`, `Dataset`: what every later stage reads |
//! | `config` | `DataConfig`, and `import`, which dispatches on the layout |
//! | `lcrec`, `amazon2014`, `amazon2018`, `amazon2023` | one importer a layout; `amazon` holds what the three share |
//! | [`lines`], `entries`, `loose_json` | files as lines, as the entries of one JSON object, and JSON as Python writes it |
//! | `fields`, `prices`, `clean`, `entities`, `python_literal`, `ratings`, `times` | reading records: fields of changing type, prices, markup, literals, CSV, times |
//! | `assemble`, `kcore`, `counts` | filters, and the account of everything they leave out |
//! | `split` | leave-one-out, and the `Protocol` printed beside metrics |
//! | `files` | `Dataset::write` and `Dataset::read` |
//! | [`shop`] | the synthetic shop, whose best possible ranking is known exactly |

mod amazon;
mod amazon2014;
mod amazon2018;
mod amazon2023;
mod assemble;
mod clean;
mod config;
mod counts;
mod dataset;
mod entities;
mod entries;
mod fields;
mod files;
mod kcore;
mod lcrec;
pub mod lines;
mod loose_json;
mod packing;
mod prices;
mod python_literal;
mod ratings;
pub mod shop;
mod split;
mod times;

pub use config::{DataConfig, MissingText, Repeats, Source, import};
pub use counts::ImportCounts;
pub use dataset::{Catalogue, Dataset, Item, User};
pub use entries::each_entry;
pub use kcore::{KCore, k_core};
pub use packing::{Batch, Example, Examples, batches};
pub use shop::{Shop, ShopConfig};
pub use split::{Part, Protocol, Split};
