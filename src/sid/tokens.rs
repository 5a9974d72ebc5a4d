//! Cutting item text into lowercased words.

/// Longest word in characters; longer runs (text without spaces) are cut into several.
const LONGEST: usize = 32;

/// Calls `each` with every word of `text`, at most `limit` of them: maximal runs of letters and digits, lowercased.
///
/// Markup (`<b>`, `</b>`, `<!-- … -->`) is passed over, also where the text was cut off inside of it.
pub(super) fn words(text: &str, limit: usize, mut each: impl FnMut(&[char])) {
    let mut word: Vec<char> = Vec::new();
    let mut given = 0;
    let mut rest = text;
    let mut flush = |word: &mut Vec<char>| {
        if !word.is_empty() && given < limit {
            each(word);
            given += 1;
        }
        word.clear();
        given < limit
    };
    while let Some(c) = rest.chars().next() {
        if c == '<'
            && let Some(skip) = markup(rest)
        {
            rest = &rest[skip..];
            if !flush(&mut word) {
                return;
            }
            continue;
        }
        rest = &rest[c.len_utf8()..];
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
            if word.len() < LONGEST {
                continue;
            }
        }
        if !flush(&mut word) {
            return;
        }
    }
    flush(&mut word);
}

/// Bytes of the tag or comment `text` starts with, if its `<` opens one.
fn markup(text: &str) -> Option<usize> {
    if text.starts_with("<!--") {
        return Some(text.find("-->").map_or(text.len(), |at| at + 3));
    }
    let opens = text[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
    opens.then(|| text.find('>').map_or(text.len(), |at| at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, limit: usize) -> Vec<String> {
        let mut out = Vec::new();
        words(text, limit, |w| out.push(w.iter().collect()));
        out
    }

    #[test]
    fn splits_lowercases_and_limits() {
        assert_eq!(all("HP 74 Black & Tri-color, ÉTÉ!", 99), ["hp", "74", "black", "tri", "color", "été"]);
        assert_eq!(all("one two three", 2), ["one", "two"]);
        assert_eq!(all("  ", 5), [""; 0]);
        assert_eq!(all("word", 0), [""; 0]);
    }

    #[test]
    fn passes_over_markup_but_not_comparisons() {
        assert_eq!(all("big<br/>box <!-- .css {x} --> red", 99), ["big", "box", "red"]);
        assert_eq!(all("ink <!-- .headerM {color", 99), ["ink"]);
        assert_eq!(all("5 < 6 <3", 99), ["5", "6", "3"]);
    }

    #[test]
    fn cuts_text_without_spaces() {
        let cut = all(&"あ".repeat(70), 99);
        assert_eq!(cut.iter().map(|w| w.chars().count()).collect::<Vec<_>>(), [32, 32, 6]);
    }
}
