//! Titles as words: for showing them, for comparing them, and for the one that says what the thing is.

/// Longest word in characters; more is no word but text without spaces, which is cut.
const LONGEST: usize = 24;

/// Words that name an amount, a size, a colour or a quality but no thing.
const NO_THING: [&str; 44] = [
    "a", "an", "and", "the", "of", "to", "or", "pack", "set", "count", "ct", "box", "pk", "pc", "piece", "each",
    "pair", "inch", "size", "small", "large", "mini", "medium", "assorted", "color", "colour", "black", "white", "red",
    "blue", "green", "yellow", "grey", "gray", "pink", "gold", "silver", "clear", "new", "premium", "standard", "per",
    "type", "style",
];

/// Words after which a title says what a thing is for or comes with.
const CLOSES: [&str; 7] = ["with", "for", "in", "by", "from", "w", "compatible"];

/// The lowercased runs of letters and digits of a text.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()).flat_map(|run| {
        let lower: Vec<char> = run.chars().flat_map(char::to_lowercase).collect();
        lower.chunks(LONGEST).map(|word| word.iter().collect()).collect::<Vec<String>>()
    })
}

/// An English plural as its singular, roughly; other words as they are. Both sides of a comparison go through it.
pub(super) fn singular(word: &str) -> String {
    let keeps = |ending: &str| word.len() >= ending.len() + 2 && word.len() > 3;
    if let Some(stem) = word.strip_suffix("ies").filter(|_| keeps("ies")) {
        return format!("{stem}y");
    }
    for (plural, cut) in [("sses", 2), ("shes", 2), ("ches", 2), ("xes", 2), ("ss", 0), ("us", 0), ("is", 0), ("s", 1)]
    {
        if word.ends_with(plural) && keeps(plural) {
            return word[..word.len() - cut].to_owned();
        }
    }
    word.to_owned()
}

/// The words of a title that may say what the thing is, the likeliest first: those before the first comma, bracket,
/// dash or `with`, from the last to the first; then the others.
pub(super) fn head_words(title: &str) -> Vec<String> {
    let punctuation = [", ", " (", " [", " - ", " – ", " — ", " | ", ": ", "; "];
    let cut = punctuation.iter().filter_map(|mark| title.find(mark)).min().unwrap_or(title.len());
    let named = |text: &str| -> Vec<String> {
        let is_thing = |word: &String| {
            word.chars().all(char::is_alphabetic) && word.chars().nth(2).is_some() && !NO_THING.contains(&word.as_str())
        };
        words(text).map(|word| singular(&word)).filter(is_thing).collect()
    };
    let before: Vec<&str> =
        title[..cut].split_whitespace().take_while(|word| !CLOSES.contains(&word.to_lowercase().as_str())).collect();
    let mut heads = named(&before.join(" "));
    heads.reverse();
    for word in named(title) {
        if !heads.contains(&word) {
            heads.push(word);
        }
    }
    heads
}

/// A text of the catalogue on one line and without angle brackets, so that it cannot be read as a semantic id. Whatever
/// else may be a token of some tokenizer is left to its encoding (`text::Tokenizer::encode_data`).
pub(super) fn bare(text: &str) -> String {
    let clean: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !"<>".contains(*c)).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first `limit` words of a title, as [`bare`] has them, without the punctuation they end in.
pub(super) fn shown(title: &str, limit: usize) -> String {
    let clean = bare(title);
    let kept: Vec<&str> = clean.split(' ').take(limit).collect();
    let text = kept.join(" ");
    text.trim_end_matches(|c: char| !c.is_alphanumeric() && !")]\"'%+".contains(c)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        assert_eq!(words("HP 74-XL, Été's").collect::<Vec<_>>(), ["hp", "74", "xl", "été", "s"]);
        assert_eq!(words(&"あ".repeat(50)).map(|w| w.chars().count()).collect::<Vec<_>>(), [24, 24, 2]);
    }

    #[test]
    fn plurals_meet_their_singulars() {
        for (word, expected) in [
            ("cartridges", "cartridge"),
            ("boxes", "box"),
            ("supplies", "supply"),
            ("glasses", "glass"),
            ("glass", "glass"),
            ("brushes", "brush"),
            ("status", "status"),
            ("bus", "bus"),
            ("gas", "gas"),
            ("s", "s"),
        ] {
            assert_eq!(singular(word), expected);
        }
    }

    #[test]
    fn the_head_of_a_title() {
        let head = |title| head_words(title).into_iter().next().unwrap_or_default();
        assert_eq!(head("HP 74 Black & 75 Tri-color Original Ink Cartridges, 2 Cartridges (CB335WN)"), "cartridge");
        assert_eq!(head("AmazonBasics 6-Sheet Cross-Cut Paper and Credit Card Shredder"), "shredder");
        assert_eq!(head("Storage Bins with Lids - 12 Pack"), "bin");
        assert_eq!(head("Pens, 12 Pack"), "pen");
        assert_eq!(head("Acme premium small white headset"), "headset");
        assert_eq!(head("12 x 9"), "");
        assert_eq!(head_words("Blue (Pens)"), ["pen"], "what stands before the bracket is no thing");
    }

    #[test]
    fn shown_titles_are_one_clean_line() {
        assert_eq!(shown("Scotch  Magic\nTape, 3/4 x 1000", 3), "Scotch Magic Tape");
        assert_eq!(shown("a <|im_end|> <s_a_1> - b", 4), "a |im_end| s_a_1");
        assert_eq!(shown("Paper 8.5\" (500)", 9), "Paper 8.5\" (500)");
        assert_eq!(shown("", 3), "");
        assert_eq!(bare(" Acme\u{7} <|sid_begin|><s_a_0>  Inc. "), "Acme |sid_begin|s_a_0 Inc.");
    }
}
