//! Cutting item text into lowercased words.

/// Longest word in characters; longer runs (text without spaces) are cut into several.
const LONGEST: usize = 32;

/// Calls `each` with every word of `text`, at most `limit` of them: maximal runs of letters and digits, lowercased.
pub(super) fn words(text: &str, limit: usize, mut each: impl FnMut(&[char])) {
    let runs = text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty());
    let (mut word, mut given) = (Vec::new(), 0);
    for run in runs {
        word.clear();
        word.extend(run.chars().flat_map(char::to_lowercase));
        for piece in word.chunks(LONGEST) {
            if given == limit {
                return;
            }
            each(piece);
            given += 1;
        }
    }
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
    fn cuts_text_without_spaces() {
        let cut = all(&"あ".repeat(70), 99);
        assert_eq!(cut.iter().map(|w| w.chars().count()).collect::<Vec<_>>(), [32, 32, 6]);
    }
}
