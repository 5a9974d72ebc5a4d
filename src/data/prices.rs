//! Prices as shops write them: `$12.99`, `from 14.99`, `1.299,00 €`, `$1,024.00 - $2,000.00`.
//!
//! A comma with one or two digits after it can only be a decimal comma. `1,299` and `1.299` can be either: they are read
//! in the way of the file, that is with decimal commas if some price of it has one and none a decimal point.

use super::fields::Slot;

/// Currencies that stand before or after a number.
const CURRENCIES: [&str; 20] = [
    "USD", "US", "EUR", "GBP", "CHF", "CAD", "AUD", "JPY", "INR", "SEK", "NOK", "DKK", "PLN", "Rs.", "Rs", "kr", "$",
    "£", "€", "¥",
];
/// Blanks that group thousands, beside the two signs.
const GROUPS: [char; 4] = ['\u{a0}', '\u{202f}', '\u{2009}', '\''];

/// The way of a file of prices, learnt as it is read.
#[derive(Debug, Default)]
pub(super) struct Prices {
    points: u64,
    commas: u64,
    /// What the price read last would be with decimal commas, where it can be either.
    other: Option<f32>,
    /// The same for each slot.
    others: Vec<(u32, f32)>,
}

/// A price, and which sign it shows to be the decimal one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reading {
    Neither(f32),
    Point(f32),
    Comma(f32),
    Either { point: f32, comma: f32 },
}

impl Prices {
    /// The price of a text, the lower end of a range, and whether it has a decimal comma; `None` if it says none.
    pub(super) fn read(&mut self, text: &str) -> Option<(f32, bool)> {
        self.other = None;
        match parse(text)? {
            Reading::Neither(price) => Some((price, false)),
            Reading::Point(price) => {
                self.points += 1;
                Some((price, false))
            }
            Reading::Comma(price) => {
                self.commas += 1;
                Some((price, true))
            }
            Reading::Either { point, comma } => {
                self.other = Some(comma);
                Some((point, false))
            }
        }
    }

    /// The price read last is that of the item in this slot.
    pub(super) fn settle(&mut self, slot: u32) {
        self.others.extend(self.other.take().map(|other| (slot, other)));
    }

    /// The last price belongs to an item that is not taken.
    pub(super) fn forget(&mut self) {
        self.other = None;
    }

    /// Reads what can be either in the way of the whole file.
    pub(super) fn correct(&mut self, slots: &mut [Slot]) {
        if self.commas == 0 || self.points > 0 {
            return;
        }
        for (slot, other) in self.others.drain(..) {
            if let Some(Slot::Usable(item)) = slots.get_mut(slot as usize) {
                item.price = Some(other);
            }
        }
    }
}

fn parse(text: &str) -> Option<Reading> {
    let text = text.trim();
    let text = text.strip_prefix("from ").unwrap_or(text);
    let text = without_currency(text);
    let is_part = |(at, c): (usize, char)| {
        let digit_follows = || text[at + c.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        c.is_ascii_digit() || matches!(c, '.' | ',') || GROUPS.contains(&c) && digit_follows()
    };
    let end = text.char_indices().find(|&found| !is_part(found)).map_or(text.len(), |(at, _)| at);
    let (number, rest) = text.split_at(end);
    let rest = without_currency(rest);
    if !(rest.is_empty() || rest.starts_with(['-', '–', '—'])) {
        return None;
    }
    read_number(number)
}

fn without_currency(text: &str) -> &str {
    let strip = |text: &'_ str| CURRENCIES.iter().find_map(|currency| text.strip_prefix(currency)).map(str::len);
    let mut text = text.trim_start();
    while let Some(left) = strip(text) {
        text = text[text.len() - left..].trim_start();
    }
    text
}

fn read_number(number: &str) -> Option<Reading> {
    let whole_or_cut = number.trim_end_matches(['.', ',']);
    // ".99" is a number, "." none.
    let plain: String = whole_or_cut.chars().filter(|c| !GROUPS.contains(c)).collect();
    let grouped = plain.len() < whole_or_cut.len();
    let signs: Vec<(usize, char)> = plain.char_indices().filter(|(_, c)| !c.is_ascii_digit()).collect();
    let value = |decimal: Option<usize>| -> Option<f32> {
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        let (whole, fraction) = decimal.map_or((plain.as_str(), ""), |at| (&plain[..at], &plain[at + 1..]));
        format!("{}.{}", digits(whole), digits(fraction)).parse().ok()
    };
    let thousands = |signs: &[(usize, char)], end: usize| {
        let ends = signs.iter().skip(1).map(|(at, _)| *at).chain([end]);
        let first = signs.first().is_none_or(|(at, _)| (1..=3).contains(at));
        first && signs.iter().zip(ends).all(|((at, _), end)| end - at == 4)
    };
    let by = |sign: char, value: f32| if sign == ',' { Reading::Comma(value) } else { Reading::Point(value) };
    match signs[..] {
        [] => value(None).filter(|_| !plain.is_empty()).map(Reading::Neither),
        [(at, sign)] => {
            let decimal = value(Some(at))?;
            let whole = &plain[..at];
            if grouped || plain.len() - at != 4 || !thousands(&signs, plain.len()) || whole == "0" {
                return Some(by(sign, decimal));
            }
            let all = value(None)?;
            let (point, comma) = if sign == ',' { (all, decimal) } else { (decimal, all) };
            Some(Reading::Either { point, comma })
        }
        [.., (last, sign)] => {
            let before = &signs[..signs.len() - 1];
            let other = before[0].1;
            let same = before.iter().all(|(_, c)| *c == other);
            if !same || grouped {
                return None;
            }
            if other == sign {
                // Only thousands stand more than once, so the other sign is the decimal one.
                let all = value(None)?;
                return thousands(&signs, plain.len()).then(|| by(if sign == ',' { '.' } else { ',' }, all));
            }
            thousands(before, last).then(|| value(Some(last))).flatten().map(|price| by(sign, price))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Item;

    #[test]
    fn numbers_show_their_decimal_sign() {
        use Reading::*;
        let cases = [
            ("12", Some(Neither(12.0))),
            ("12.", Some(Neither(12.0))),
            ("$12.99", Some(Point(12.99))),
            (".99", Some(Point(0.99))),
            ("US$ 1,024.00 - $2,000.00", Some(Point(1024.0))),
            ("from 14.99", Some(Point(14.99))),
            ("12,99", Some(Comma(12.99))),
            ("12,9 €", Some(Comma(12.9))),
            ("EUR 12,99", Some(Comma(12.99))),
            ("€1.299,00", Some(Comma(1299.0))),
            ("1.024.000,5", Some(Comma(1_024_000.5))),
            ("1,024,000", Some(Point(1_024_000.0))),
            ("1.024.000", Some(Comma(1_024_000.0))),
            ("1\u{a0}299,00 €", Some(Comma(1299.0))),
            ("1'299.00 CHF", Some(Point(1299.0))),
            ("1,299", Some(Either { point: 1299.0, comma: 1.299 })),
            ("1.299", Some(Either { point: 1.299, comma: 1299.0 })),
            ("0,999", Some(Comma(0.999))),
            ("1234,567", Some(Comma(1234.567))),
            ("1,29,9", None),
            ("1,299.00.1", None),
            ("1.2,3.4", None),
            ("12 monkeys", None),
            (".a-box-inner{color:red}", None),
            ("", None),
            (".", None),
            ("$", None),
            (",,,", None),
            ("-3", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_file_decides_what_can_be_either() {
        let priced = |texts: &[&str]| -> Vec<Option<f32>> {
            let mut prices = Prices::default();
            let mut slots = vec![];
            for text in texts {
                let price = prices.read(text).map(|(price, _)| price);
                prices.settle(slots.len() as u32);
                slots.push(Slot::Usable(Box::new(Item { price, ..Item::default() })));
            }
            prices.correct(&mut slots);
            let price = |slot: Slot| match slot {
                Slot::Usable(item) => item.price,
                _ => None,
            };
            slots.into_iter().map(price).collect()
        };
        assert_eq!(priced(&["1.299", "12,99", "5"]), [Some(1299.0), Some(12.99), Some(5.0)]);
        assert_eq!(priced(&["1,299", "12.99"]), [Some(1299.0), Some(12.99)]);
        assert_eq!(priced(&["1,299", "12,99", "3.50"]), [Some(1299.0), Some(12.99), Some(3.5)], "both: as it stands");
        assert_eq!(priced(&["1,299"]), [Some(1299.0)]);
    }

    #[test]
    fn no_text_is_a_panic() {
        let parts = ["1", "23", "456", ".", ",", "'", "\u{a0}", "$", "-", " ", "€", "e"];
        let mut number: u64 = 7;
        for _ in 0..50_000 {
            let mut text = String::new();
            for _ in 0..6 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text += parts[(number >> 33) as usize % parts.len()];
            }
            if let Some((price, _)) = Prices::default().read(&text) {
                assert!(price.is_finite() && price >= 0.0, "{text}: {price}");
            }
        }
    }
}
