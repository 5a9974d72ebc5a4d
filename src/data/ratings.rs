//! Ratings-only CSV files of Amazon Reviews: four columns, whose order differs between the releases.
//!
//! Fields may be quoted as in RFC 4180, all or some of them; the separator may also be `;` or a tab. A first line that
//! names the columns decides their order.

use std::borrow::Cow;

use crate::data::amazon::Review;
use crate::data::lines::Line;
use crate::data::times::Time;
use crate::error::Result;

/// What columns are called in the files of several people; ours first.
const USER: [&str; 6] = ["user", "user_id", "userid", "reviewerid", "reviewer_id", "customer_id"];
const ITEM: [&str; 8] = ["item", "parent_asin", "asin", "item_id", "itemid", "product_id", "productid", "parentasin"];
const TIMESTAMP: [&str; 6] = ["timestamp", "time", "unixreviewtime", "unix_review_time", "unixtime", "date"];
const SEPARATORS: [char; 3] = [',', ';', '\t'];

/// Columns of a ratings file that does not name them.
pub(super) struct Columns {
    /// All four names in their order; the names used are `user`, `item` and `timestamp`.
    pub(super) names: [&'static str; 4],
}

/// Reads the lines of one file.
pub(super) struct Ratings {
    names: Vec<String>,
    separator: Option<char>,
    /// Where user, item and timestamp stand.
    places: [usize; 3],
}

impl Ratings {
    pub(super) fn new(columns: &Columns) -> Self {
        let names: Vec<String> = columns.names.iter().map(|name| (*name).to_owned()).collect();
        let place = |wanted: &str| names.iter().position(|name| name == wanted).unwrap_or_default();
        Ratings { places: ["user", "item", "timestamp"].map(place), names, separator: None }
    }

    /// The rating of a line, or `None` for a first line that names the columns.
    ///
    /// Errors: `Data` for another number of columns, a quoted field that does not end, or a time that is no number.
    pub(super) fn read<'a>(&mut self, line: &Line<'a>) -> Result<Option<Review<'a>>> {
        let first = self.separator.is_none();
        let separator = *self.separator.get_or_insert_with(|| separator(line.text, self.names.len()));
        let values = fields(line.text, separator).map_err(|problem| line.error(problem))?;
        if first && let Some(places) = places(&values) {
            self.names = values.into_iter().map(Cow::into_owned).collect();
            self.places = places;
            return Ok(None);
        }
        let expected = || self.names.join(&separator.to_string());
        if values.len() != self.names.len() {
            return Err(line.error(format!("expected the columns {}, found {} columns", expected(), values.len())));
        }
        let [user, item, time] = self.places;
        let Some(time) = Time::parse(&values[time]) else {
            let problem = format!("expected the columns {}, found the timestamp `{}`", expected(), values[time]);
            return Err(line.error(problem));
        };
        Ok(Some(Review { user: values[user].clone(), item: values[item].clone(), time }))
    }
}

/// The separator that divides a line into as many columns as are expected; else the first that gives enough to be read.
fn separator(text: &str, columns: usize) -> char {
    let divides = |separator: char, wanted: &dyn Fn(usize) -> bool| {
        fields(text, separator).is_ok_and(|values| wanted(values.len()))
    };
    let exact = SEPARATORS.into_iter().find(|separator| divides(*separator, &|count| count == columns));
    let enough = || SEPARATORS.into_iter().find(|separator| divides(*separator, &|count| count > 2));
    exact.or_else(enough).unwrap_or(',')
}

/// Where user, item and timestamp stand, if a line names all three.
fn places(values: &[Cow<str>]) -> Option<[usize; 3]> {
    let names: Vec<String> = values.iter().map(|value| value.trim().to_lowercase()).collect();
    // Of several names of one thing the one that is listed first: `parent_asin` before `asin`.
    let place = |known: &[&str]| known.iter().find_map(|wanted| names.iter().position(|name| name == wanted));
    Some([place(&USER)?, place(&ITEM)?, place(&TIMESTAMP)?])
}

/// The fields of a line; white space around a field is no part of it, unless it is quoted.
///
/// Source: RFC 4180, but for quotes inside a field that does not begin with one, which are taken as they stand.
fn fields(text: &str, separator: char) -> std::result::Result<Vec<Cow<'_, str>>, String> {
    let mut values = Vec::new();
    let mut rest = text;
    loop {
        let blank = |c: char| c.is_whitespace() && c != separator;
        let start = rest.trim_start_matches(blank);
        let (value, after) = match start.strip_prefix('"') {
            Some(inside) => {
                let number = values.len() + 1;
                let (value, after) = quoted(inside)
                    .ok_or_else(|| format!("column {number} begins with a quote, and no quote ends it on this line"))?;
                (value, after.trim_start_matches(blank))
            }
            None => {
                let end = start.find(separator).unwrap_or(start.len());
                (Cow::Borrowed(start[..end].trim_end_matches(blank)), &start[end..])
            }
        };
        values.push(value);
        if after.is_empty() {
            return Ok(values);
        }
        let Some(next) = after.strip_prefix(separator) else {
            let found = after.chars().next().unwrap_or(' ');
            return Err(format!(
                "column {}: expected `{separator}` after its closing quote, found `{found}`",
                values.len()
            ));
        };
        rest = next;
    }
}

/// A quoted field from behind its opening quote, two quotes for one, and what follows its closing quote.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut doubled = false;
    let mut from = 0;
    loop {
        let end = from + text[from..].find('"')?;
        if text[end + 1..].starts_with('"') {
            doubled = true;
            from = end + 2;
            continue;
        }
        let inside = &text[..end];
        let value = if doubled { Cow::Owned(inside.replace("\"\"", "\"")) } else { Cow::Borrowed(inside) };
        return Some((value, &text[end + 1..]));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::amazon::Layout;
    use crate::data::{amazon2014, amazon2018, amazon2023};

    fn line(number: u64, text: &str) -> Line<'_> {
        Line { path: Path::new("r.csv"), number, text }
    }

    fn review<'a>(user: &'a str, item: &'a str, time: f64) -> Option<Review<'a>> {
        Some(Review { user: user.into(), item: item.into(), time: Time(Some(time)) })
    }

    #[test]
    fn columns_differ_between_releases() {
        let read = |layout: &Layout, text: &'static str| Ratings::new(&layout.ratings).read(&line(1, text)).unwrap();
        assert_eq!(read(&amazon2014::LAYOUT, "U,I,5.0,7"), review("U", "I", 7.0));
        assert_eq!(read(&amazon2018::LAYOUT, "I,U,5.0,7"), review("U", "I", 7.0));
        let mut ratings = Ratings::new(&amazon2023::LAYOUT.ratings);
        assert_eq!(ratings.read(&line(1, "user_id,parent_asin,rating,timestamp")).unwrap(), None);
        assert_eq!(ratings.read(&line(2, "U,I,5.0,7")).unwrap(), review("U", "I", 7.0));
        let error = ratings.read(&line(2, "U,I,5.0,7,history")).unwrap_err().to_string();
        assert_eq!(error, "data: r.csv:2: expected the columns user_id,parent_asin,rating,timestamp, found 5 columns");
        let error = ratings.read(&line(3, "user_id,parent_asin,rating,timestamp")).unwrap_err().to_string();
        assert!(error.ends_with("found the timestamp `timestamp`"), "{error}");
    }

    #[test]
    fn quotes_separators_and_headers() {
        let read = |lines: &[&'static str]| -> Vec<Option<Review<'static>>> {
            let mut ratings = Ratings::new(&amazon2014::LAYOUT.ratings);
            (1..).zip(lines).map(|(number, text)| ratings.read(&line(number, text)).unwrap()).collect()
        };
        let expected = review("U", "I", 1.4e9);
        for text in [
            "\"U\",I,5,1400000000",
            "\"U\", \"I\" ,\"5\",\"1.4e9\"",
            " U ; I ; 5,0 ; 1400000000.0",
            "\"U\"\tI\t5\t1400000000",
        ] {
            assert_eq!(read(&[text]), std::slice::from_ref(&expected), "{text}");
        }
        assert_eq!(read(&["\"a \"\"b\"\", c\",I,5,1"]), [review("a \"b\", c", "I", 1.0)]);
        assert_eq!(read(&["5\"nail,I,5,1"]), [review("5\"nail", "I", 1.0)]);
        assert_eq!(read(&["\"\",I,5,1"]), [review("", "I", 1.0)]);
        assert_eq!(
            read(&["\"timestamp\";\"asin\";\"user_id\";\"parent_asin\";\"history\"", "1;\"x\";\"U\";\"I\";\"a b\""]),
            [None, review("U", "I", 1.0)]
        );
        assert_eq!(read(&["U,I,5,"]), [Some(Review { user: "U".into(), item: "I".into(), time: Time(None) })]);
    }

    #[test]
    fn a_line_that_is_no_csv_is_named() {
        let error = |text: &'static str| {
            Ratings::new(&amazon2014::LAYOUT.ratings).read(&line(4, text)).unwrap_err().to_string()
        };
        let open = error("U,\"I,5,1");
        assert!(open.starts_with("data: r.csv:4: column 2 begins with a quote, and no quote"), "{open}");
        let after = error("\"U\"x,I,5,1");
        assert!(after.ends_with("column 1: expected `,` after its closing quote, found `x`"), "{after}");
        assert!(error("U,I,5,inf").ends_with("found the timestamp `inf`"));
        assert!(error("U,I").ends_with("found 2 columns"));
    }

    #[test]
    fn no_line_is_a_panic() {
        let parts = ["\"", ",", ";", "\t", " ", "é", "1", "\"\"", "user", "asin", "\u{a0}"];
        let mut number: u64 = 3;
        for _ in 0..50_000 {
            let mut text = String::new();
            for _ in 0..8 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text += parts[(number >> 33) as usize % parts.len()];
            }
            let mut ratings = Ratings::new(&amazon2014::LAYOUT.ratings);
            let _ = ratings.read(&line(1, &text));
            let _ = ratings.read(&line(2, &text));
        }
    }
}
