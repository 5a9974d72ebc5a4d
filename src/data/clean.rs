//! Product texts as people read them: without the page markup that shops leave in their exports.

/// Longest tag looked for; a `<` without its `>` within this distance is a less-than sign.
const LONGEST_TAG: usize = 1000;

/// Removes tags, comments, style sheets and scripts, resolves entities, and joins white space to single blanks.
///
/// Also says whether there was any markup (white space alone does not count). A comment, style sheet or script that is
/// cut off before its end reaches to the end of the text. Linear in the length of the text.
pub fn clean(text: &str) -> (String, bool) {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut markup = false;
    while let Some(at) = rest.find(['<', '&']) {
        push_words(&mut out, &rest[..at]);
        rest = &rest[at..];
        let found = if rest.starts_with('<') { skip_tag(rest).map(|len| (len, ' ')) } else { entity(rest) };
        match found {
            Some((len, replacement)) => {
                markup = true;
                push_char(&mut out, replacement);
                rest = &rest[len..];
            }
            None => {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    push_words(&mut out, rest);
    out.truncate(out.trim_end().len());
    (out, markup)
}

fn push_char(out: &mut String, c: char) {
    if !c.is_whitespace() {
        out.push(c);
    } else if !out.is_empty() && !out.ends_with(' ') {
        out.push(' ');
    }
}

fn push_words(out: &mut String, text: &str) {
    text.chars().for_each(|c| push_char(out, c));
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

/// Length and character of the entity that `text`, which starts with `&`, begins with.
fn entity(text: &str) -> Option<(usize, char)> {
    let end = text.as_bytes()[..text.len().min(12)].iter().position(|&c| c == b';')?;
    let name = &text[1..end];
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "ndash" | "mdash" => '-',
        "reg" => '®',
        "trade" => '™',
        "deg" => '°',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code).filter(|c| *c != '\0')?
        }
    };
    Some((end + 1, c))
}

#[cfg(test)]
mod tests {
    use super::clean;

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
            ("&#0; &#x110000; &é;", "&#0; &#x110000; &é;", false),
            ("<é></é>", "<é>", true),
        ];
        for (text, expected, markup) in cases {
            assert_eq!(clean(text), (expected.to_owned(), markup), "{text}");
        }
    }

    #[test]
    fn a_long_row_of_signs_takes_linear_time() {
        let text = "<a".repeat(200_000);
        assert_eq!(clean(&text), (text.clone(), false));
    }
}
