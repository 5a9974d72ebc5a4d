//! Ratings-only CSV files of Amazon Reviews: four columns, whose order differs between the releases.

use std::borrow::Cow;

use crate::data::amazon::Review;
use crate::data::lines::Line;
use crate::error::Result;

/// Columns of a ratings file.
pub(super) struct Columns {
    /// All four names in their order; the names used are `user`, `item` and `timestamp`.
    pub(super) names: [&'static str; 4],
    /// The first line, where the release writes one.
    pub(super) header: Option<&'static str>,
}

impl Columns {
    /// The rating of a line, or `None` for the header.
    ///
    /// Errors: `Data` for another number of columns or a time that is not a whole number.
    pub(super) fn read<'a>(&self, line: &Line<'a>) -> Result<Option<Review<'a>>> {
        if line.number == 1 && self.header == Some(line.text) {
            return Ok(None);
        }
        let expected = self.header.map_or_else(|| self.names.join(","), str::to_owned);
        let values: Vec<&str> = line.text.split(',').collect();
        if values.len() != self.names.len() {
            return Err(line.error(format!("expected the columns {expected}, found {} columns", values.len())));
        }
        let value = |name| self.names.iter().position(|n| *n == name).map_or("", |column| values[column]);
        let time = value("timestamp");
        let Ok(time) = time.parse::<i64>() else {
            return Err(line.error(format!("expected the columns {expected}, found the timestamp `{time}`")));
        };
        Ok(Some(Review { user: Cow::Borrowed(value("user")), item: Cow::Borrowed(value("item")), time }))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::{amazon2014, amazon2018, amazon2023};

    #[test]
    fn columns_differ_between_releases() {
        let line = |number, text| Line { path: Path::new("r.csv"), number, text };
        let review = Some(Review { user: "U".into(), item: "I".into(), time: 7 });
        assert_eq!(amazon2014::LAYOUT.ratings.read(&line(1, "U,I,5.0,7")).unwrap(), review);
        assert_eq!(amazon2018::LAYOUT.ratings.read(&line(1, "I,U,5.0,7")).unwrap(), review);
        let columns = amazon2023::LAYOUT.ratings;
        assert_eq!(columns.read(&line(1, "user_id,parent_asin,rating,timestamp")).unwrap(), None);
        assert_eq!(columns.read(&line(2, "U,I,5.0,7")).unwrap(), review);
        let error = columns.read(&line(2, "U,I,5.0,7,history")).unwrap_err().to_string();
        assert_eq!(error, "data: r.csv:2: expected the columns user_id,parent_asin,rating,timestamp, found 5 columns");
        let error = columns.read(&line(3, "user_id,parent_asin,rating,timestamp")).unwrap_err().to_string();
        assert!(error.ends_with("found the timestamp `timestamp`"), "{error}");
    }
}
