//! Product texts as people read them: without the page markup that shops leave in their exports, nor what is meant for
//! machines alone.

use crate::data::entities::reference;

/// Longest tag looked for; a `<` without its `>` within this distance is a less-than sign.
const LONGEST_TAG: usize = 1000;

/// Rounds of cleaning at most. A shop that encodes twice needs three; what is left after these is a text like any other.
const ROUNDS: usize = 16;

/// Longest name between the marks of a control token.
const LONGEST_CONTROL: usize = 64;

/// What a text was cleaned of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Tags, comments, style sheets, scripts or entities.
    pub markup: bool,
    /// Characters that nobody sees: controls, marks of direction, of width nothing, and those that mean nothing.
    pub hidden: bool,
    /// The angle brackets of what is spelt like a control token, `<|im_end|>`.
    pub control: bool,
}

/// Removes tags, comments, style sheets, scripts and hidden characters, resolves entities, takes the angle brackets of
/// control tokens out, and joins white space to single blanks, again and again until nothing changes: shops export entities
/// of entities, and tags as entities.
///
/// Also says what there was (white space alone does not count). A comment, style sheet or script that is cut off before its
/// end reaches to the end of the text. Linear in the length of the text.
pub fn clean(text: &str) -> (String, Cleaned) {
    let mut cleaned = Cleaned::default();
    let mut current = round(text, &mut cleaned);
    for _ in 1..ROUNDS {
        let next = round(&current, &mut cleaned);
        if next == current {
            break;
        }
        current = next;
    }
    (current, cleaned)
}

/// One pass from the left to the right; what it writes is not looked at again.
fn round(text: &str, cleaned: &mut Cleaned) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['<', '&']) {
        push_words(&mut out, &rest[..at], cleaned);
        rest = &rest[at..];
        if let Some(inside) = control_token(rest) {
            cleaned.control = true;
            push_words(&mut out, inside, cleaned);
            rest = &rest[inside.len() + 2..];
            continue;
        }
        let found = match rest.starts_with('<') {
            true => skip_tag(rest).map(|length| (length, " ".to_owned())),
            false => reference(rest),
        };
        match found {
            Some((length, replacement)) => {
                cleaned.markup = true;
                push_words(&mut out, &replacement, cleaned);
                rest = &rest[length..];
            }
            None => {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    push_words(&mut out, rest, cleaned);
    out.truncate(out.trim_end().len());
    out
}

/// Of a text that begins with `<|name|>`, what stands between the angle brackets.
fn control_token(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("<|")?;
    let end = rest.char_indices().take(LONGEST_CONTROL).find(|(_, c)| c.is_whitespace() || matches!(c, '<' | '>'))?.0;
    (rest[end..].starts_with('>') && rest[..end].ends_with('|')).then(|| &text[1..2 + end])
}

fn push_words(out: &mut String, text: &str, cleaned: &mut Cleaned) {
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if c.is_whitespace() {
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
            }
        } else if is_hidden(c, out.chars().next_back(), characters.peek().copied()) {
            cleaned.hidden = true;
        } else {
            out.push(c);
        }
    }
}

/// Whether nobody sees a character. The two joiners are part of the spelling in scripts other than Latin, and of emoji.
fn is_hidden(c: char, before: Option<char>, after: Option<char>) -> bool {
    let foreign = |c: Option<char>| c.is_some_and(|c| !c.is_ascii() && !c.is_whitespace());
    match c {
        '\u{200c}' | '\u{200d}' => !(foreign(before) && foreign(after)),
        // Marks of direction and their overrides; zero width; soft hyphen; annotations, invisible operators and tags.
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        // No characters, by definition.
        '\u{fdd0}'..='\u{fdef}' => true,
        _ => c.is_control() || u32::from(c) & 0xfffe == 0xfffe,
    }
}

/// Length of the markup that `text`, which starts with `<`, begins with; `None` if it is only a sign.
fn skip_tag(text: &str) -> Option<usize> {
    if let Some(comment) = text.strip_prefix("<!--") {
        return Some(comment.find("-->").map_or(text.len(), |end| 4 + end + 3));
    }
    let name = &text.as_bytes()[1..];
    if !name.first().is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, b'/' | b'!')) {
        return None;
    }
    for element in ["style", "script"] {
        let is_it = name.get(..element.len()).is_some_and(|start| start.eq_ignore_ascii_case(element.as_bytes()));
        if is_it && name.get(element.len()).is_none_or(|c| !c.is_ascii_alphanumeric()) {
            return Some(end_of_element(text, element));
        }
    }
    let window = &text.as_bytes()[..text.len().min(LONGEST_TAG)];
    window.iter().position(|&c| c == b'>').map(|end| end + 1)
}

/// Where `</element>` ends, or the end of the text.
fn end_of_element(text: &str, element: &str) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find("</") {
        let name = from + at + 2;
        let close = name + element.len();
        if text.as_bytes().get(name..close).is_some_and(|name| name.eq_ignore_ascii_case(element.as_bytes())) {
            return text[close..].find('>').map_or(text.len(), |end| close + end + 1);
        }
        from = name;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::{Cleaned, clean};

    #[test]
    fn markup_goes_and_words_stay() {
        let cases = [
            ("plain  text\n here ", "plain text here", false),
            ("<b>Bold</b> &amp; <br/>new", "Bold & new", true),
            ("a <!-- .x {color:red} --> b", "a b", true),
            ("cut off <!-- .x {color:re", "cut off", true),
            ("a<STYLE type=x>p{}</Style >b<script>1<2</script>c", "a b c", true),
            ("<styled>x", "x", true),
            ("open <style>p{} forever", "open", true),
            ("L&#39;Or&#xe9;al &quot;x&quot;&nbsp;y", "L'Oréal \"x\" y", true),
            ("3 < 5 & 6 > 2, <3, A&B; x<", "3 < 5 & 6 > 2, <3, A&B; x<", false),
            ("a <b never closed", "a <b never closed", false),
            ("&#0; &#x110000; &é;", "\u{fffd} \u{fffd} &é;", true),
            ("<é></é>", "<é>", true),
            ("AT&T, R&D &Scan &copy 2012 &rsquo x", "AT&T, R&D &Scan © 2012 &rsquo x", true),
            ("a &lt; b &gt c &ltd", "a < b > c <d", true),
            ("Tom&rsquo;s caf&eacute; &hellip;", "Tom’s café …", true),
        ];
        for (text, expected, markup) in cases {
            assert_eq!(clean(text), (expected.to_owned(), Cleaned { markup, ..Cleaned::default() }), "{text}");
        }
    }

    #[test]
    fn what_is_encoded_often_is_decoded_as_often() {
        let encode = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&#62;");
        for (text, expected) in [("<b>Bold</b> ink", "Bold ink"), ("Salt &amp; caf&eacute;", "Salt & café")] {
            let mut text = text.to_owned();
            for _ in 0..8 {
                assert_eq!(clean(&text).0, expected, "{text}");
                text = encode(&text);
            }
        }
        assert_eq!(clean("&lt;scr<b></b>ipt&gt;x&lt;/script&gt;y").0, "x y");
        assert_eq!(clean("&am\u{200b}p;l\u{200b}t;b&gt;x").0, "x");
    }

    #[test]
    fn control_tokens_lose_their_brackets() {
        let control = Cleaned { control: true, ..Cleaned::default() };
        assert_eq!(clean("Tape <|im_end|> roll"), ("Tape |im_end| roll".into(), control));
        assert_eq!(clean("<|<|a|>|>"), ("||a||".into(), control));
        let both = Cleaned { markup: true, ..control };
        assert_eq!(
            clean("A &lt;|sid_begin|&gt;&lt;s_a_0&gt;&lt;|sid_end|&gt;"),
            ("A |sid_begin| |sid_end|".into(), both)
        );
        for text in ["a <| b |> c", "<|", "<|>", "x <|y> z", "<||"] {
            assert_eq!(clean(text), (text.into(), Cleaned::default()), "{text}");
        }
    }

    #[test]
    fn hidden_characters_go() {
        let hidden = Cleaned { hidden: true, ..Cleaned::default() };
        for c in ['\0', '\x07', '\x1b', '\u{85}', '\u{ad}', '\u{200b}', '\u{202e}', '\u{2066}', '\u{feff}', '\u{fdd0}']
        {
            let (text, found) = clean(&format!("ta{c}pe"));
            match c.is_whitespace() {
                true => assert_eq!((text.as_str(), found), ("ta pe", Cleaned::default())),
                false => assert_eq!((text.as_str(), found), ("tape", hidden), "{c:?}"),
            }
        }
        assert_eq!(
            clean("ta\u{200d}pe \u{1f469}\u{200d}\u{1f527} می\u{200c}خ").0,
            "tape \u{1f469}\u{200d}\u{1f527} می\u{200c}خ"
        );
    }

    #[test]
    fn what_is_clean_stays_as_it_is() {
        let parts = [
            "<b", ">", "&amp", ";", "lt;", "<|", "|>", "a", " ", "\u{200b}", "<!--", "-->", "&#6", "0;", "</", "s", "&",
        ];
        let mut number: u64 = 1;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..8 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text += parts[(number >> 33) as usize % parts.len()];
            }
            let (once, _) = clean(&text);
            assert_eq!(clean(&once), (once.clone(), Cleaned::default()), "{text:?}");
        }
    }

    #[test]
    fn a_long_row_of_signs_takes_linear_time() {
        let text = "<a".repeat(200_000);
        assert_eq!(clean(&text), (text.clone(), Cleaned::default()));
        assert_eq!(clean(&"&lt;".repeat(100_000)).0, "<".repeat(100_000));
        assert_eq!(clean(&"<|".repeat(100_000)).0, "<|".repeat(100_000));
    }
}
