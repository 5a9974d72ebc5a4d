//! The account of an import: every record read is kept or stands under a named reason.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many records an import read, kept and left out, and why.
///
/// Three sums always hold, see [`ImportCounts::unaccounted`]: read = kept + left out, for interactions, users and items.
/// An interaction is counted under the first reason that removes it; the order of the fields is the order of the steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportCounts {
    /// Layout the records came in, as in the configuration.
    pub source: String,
    /// The k of the k-core that was applied; 0 = none.
    pub k_core: u32,
    /// Whether a user's second purchase of the same item was kept.
    pub repeats_kept: bool,

    /// Interactions (reviews, purchases) in the source.
    pub interactions_read: u64,
    /// Users with at least one interaction in the source.
    pub users_read: u64,
    /// Different items in the interactions, and in the item file where that is the catalogue (LC-Rec, shop).
    pub items_read: u64,

    /// Interactions left out because they name no item.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interactions_without_item: u64,
    /// Interactions left out because they have no time, which their order is made from.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interactions_without_time: u64,
    /// Interactions left out because the same user had the same item before.
    pub interactions_repeated: u64,
    /// Interactions left out because their item has no metadata.
    pub interactions_without_metadata: u64,
    /// Interactions left out because the title of their item is page markup.
    pub interactions_with_markup_title: u64,
    /// Interactions left out because their item has neither title nor description.
    pub interactions_without_text: u64,
    /// Interactions left out by the k-core.
    pub interactions_below_k_core: u64,
    /// Interactions left out because the user has more recent ones than `max_history` allows.
    pub interactions_over_max_history: u64,

    /// Users left out because their list of items is empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub users_without_items: u64,
    /// Users left out because no interaction of theirs remained, other than by the k-core.
    pub users_emptied: u64,
    /// Users left out by the k-core.
    pub users_below_k_core: u64,
    /// Users kept who lost their oldest interactions to `max_history`.
    pub users_over_max_history: u64,

    /// Items left out because they have no metadata.
    pub items_without_metadata: u64,
    /// Items left out because their title is page markup (`<span id`, a script), a known fault of the 2018 files.
    pub items_with_markup_title: u64,
    /// Items left out because they have neither title nor description.
    pub items_without_text: u64,
    /// Items left out by the k-core.
    pub items_below_k_core: u64,

    /// Metadata records in the source.
    pub metadata_read: u64,
    /// Metadata records of items that were not wanted, because nobody bought them or the k-core had removed them.
    pub metadata_not_wanted: u64,
    /// Metadata records of an item that already had one; the first usable one counts.
    pub metadata_repeated: u64,
    /// Prices of items that are not a number; the items are kept, without price.
    pub prices_unreadable: u64,
    /// Prices written with a decimal comma, as in `12,99`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prices_with_comma: u64,
    /// Records whose `details` are no object, nor the text of one; their brand may be missing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub details_unreadable: u64,
    /// Texts that say `nan`, `None` and the like, which is how a missing value is exported; read as empty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub texts_not_a_value: u64,
    /// Texts that lost page markup (tags, comments, style sheets, entities); the items are kept.
    pub texts_cleaned: u64,
    /// Texts that lost characters nobody sees: controls, marks of direction, of width nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub texts_with_hidden_characters: u64,
    /// Texts that are spelt like a control token somewhere, as in `<|im_end|>`, and lost its angle brackets.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub texts_with_control_tokens: u64,

    /// Items kept, that nobody among the users kept has bought.
    pub items_without_interactions: u64,
    /// Items kept.
    pub items: u64,
    /// Users kept.
    pub users: u64,
    /// Interactions kept.
    pub interactions: u64,
}

/// What is not there is not written: files of earlier versions, and of data without such cases, stay as they are.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl ImportCounts {
    /// Read minus kept minus left out: interactions, users, items. All zero, or the importer has lost something.
    pub fn unaccounted(&self) -> [i64; 3] {
        let rest = |read: u64, parts: &[u64]| read as i64 - parts.iter().sum::<u64>() as i64;
        [
            rest(
                self.interactions_read,
                &[
                    self.interactions,
                    self.interactions_without_item,
                    self.interactions_without_time,
                    self.interactions_repeated,
                    self.interactions_without_metadata,
                    self.interactions_with_markup_title,
                    self.interactions_without_text,
                    self.interactions_below_k_core,
                    self.interactions_over_max_history,
                ],
            ),
            rest(self.users_read, &[self.users, self.users_without_items, self.users_emptied, self.users_below_k_core]),
            rest(
                self.items_read,
                &[
                    self.items,
                    self.items_without_metadata,
                    self.items_with_markup_title,
                    self.items_without_text,
                    self.items_below_k_core,
                ],
            ),
        ]
    }

    /// What was left out or altered and how often, in words; only what happened.
    pub fn left_out(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("interactions that name no item", self.interactions_without_item),
            ("interactions without a time", self.interactions_without_time),
            ("interactions repeated by the same user", self.interactions_repeated),
            ("interactions with an item without metadata", self.interactions_without_metadata),
            ("interactions with an item titled by markup", self.interactions_with_markup_title),
            ("interactions with an item without text", self.interactions_without_text),
            ("interactions below the k-core", self.interactions_below_k_core),
            ("interactions over max_history", self.interactions_over_max_history),
            ("users with an empty list of items", self.users_without_items),
            ("users without any interaction left", self.users_emptied),
            ("users below the k-core", self.users_below_k_core),
            ("users shortened to max_history", self.users_over_max_history),
            ("items without metadata", self.items_without_metadata),
            ("items titled by markup", self.items_with_markup_title),
            ("items without text", self.items_without_text),
            ("items below the k-core", self.items_below_k_core),
            ("metadata records of items not wanted", self.metadata_not_wanted),
            ("metadata records repeated", self.metadata_repeated),
            ("prices unreadable", self.prices_unreadable),
            ("prices with a decimal comma", self.prices_with_comma),
            ("details unreadable", self.details_unreadable),
            ("texts that say nan or None, read as empty", self.texts_not_a_value),
            ("texts cleaned of markup", self.texts_cleaned),
            ("texts cleaned of hidden characters", self.texts_with_hidden_characters),
            ("texts spelt like control tokens, brackets taken out", self.texts_with_control_tokens),
        ];
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

impl fmt::Display for ImportCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: kept {} of {} users, {} of {} items, {} of {} interactions",
            self.source,
            self.users,
            self.users_read,
            self.items,
            self.items_read,
            self.interactions,
            self.interactions_read
        )?;
        for (reason, count) in self.left_out() {
            write!(f, "\n  {count} {reason}")?;
        }
        Ok(())
    }
}
