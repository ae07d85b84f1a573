//! Fitted columns as text, to be kept beside the weights: separated values again, a row for each column.
//!
//! ```text
//! shadegrad columns,1
//! missing,refuse,,NA
//! class,species,setosa,versicolor,virginica
//! number,petal length,3.758,1.7594
//! category,colour,blue,white
//! ```

use csv::{ReaderBuilder, StringRecord, WriterBuilder};

use super::{
    Columns, DataError,
    columns::{Column, Encoding, Target},
    preparation::finite,
};
use crate::data::{check_classes, text::excerpt};

/// The first row, with the version of what follows.
const TITLE: [&str; 2] = ["shadegrad columns", "1"];

impl Columns {
    /// The columns as text, which [`from_text`](Self::from_text) reads; numbers keep every digit.
    pub fn to_text(&self) -> String {
        let mut text = WriterBuilder::new().flexible(true).from_writer(Vec::new());
        let mut row = |kind: &str, name: &str, more: &[String]| {
            let start = [kind, name].into_iter();
            // Nothing fails in memory.
            let _ = text.write_record(start.chain(more.iter().map(String::as_str)));
        };
        row(TITLE[0], TITLE[1], &[]);
        row("missing", if self.fill { "fill" } else { "refuse" }, &self.marks);
        match &self.target {
            Target::Class { column, names } => row("class", column, names),
            Target::Value { column } => row("value", column, &[]),
        }
        for Column { name, encoding } in &self.features {
            match encoding {
                Encoding::Numbers { mean, deviation } => {
                    row("number", name, &[mean, deviation].map(f64::to_string));
                }
                Encoding::Categories { names } => row("category", name, names),
            }
        }
        String::from_utf8(text.into_inner().unwrap_or_default()).unwrap_or_default()
    }

    /// The columns that [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// [`DataError::Kept`] with the row of the first thing that it can't have written.
    pub fn from_text(text: &str) -> Result<Self, DataError> {
        let mut rows = KeptRows::of(text);
        rows.next(|row| match row.iter().eq(TITLE) {
            true => Ok(()),
            false => Err("`shadegrad columns,1`"),
        })?;
        let (fill, marks) = rows.next(|row| {
            let marks = row.iter().skip(2).map(str::to_owned).collect();
            match (row.get(0), row.get(1)) {
                (Some("missing"), Some("fill")) => Ok((true, marks)),
                (Some("missing"), Some("refuse")) => Ok((false, marks)),
                _ => Err("`missing,fill` or `missing,refuse`, and the marks of missing values"),
            }
        })?;
        let target = rows.next(|row| match (row.get(0), row.get(1), row.len()) {
            (Some("class"), Some(column), 3..) => match names(row) {
                Some(names) if check_classes(&names).is_ok() => {
                    Ok(Target::Class { column: column.to_owned(), names })
                }
                _ => Err("at most 256 different classes"),
            },
            (Some("value"), Some(column), 2) => Ok(Target::Value { column: column.to_owned() }),
            _ => Err("`class,column,classes...` or `value,column`"),
        })?;
        let mut features: Vec<Column> = Vec::new();
        while !rows.is_empty() || features.is_empty() {
            let column = rows.next(column)?;
            let (Target::Class { column: target, .. } | Target::Value { column: target }) = &target;
            if column.name == *target || features.iter().any(|other| other.name == column.name) {
                return Err(rows.wrong("columns of different names"));
            }
            features.push(column);
        }
        Ok(Self { target, features, marks, fill })
    }
}

/// A column to learn from.
fn column(row: &StringRecord) -> Result<Column, &'static str> {
    let number = |place| row.get(place).and_then(finite);
    let encoding = match (row.get(0), row.len()) {
        (Some("number"), 4) => match (number(2), number(3)) {
            (Some(mean), Some(deviation)) if deviation > 0.0 => {
                Encoding::Numbers { mean, deviation }
            }
            _ => return Err("two finite numbers, mean and deviation, the second above zero"),
        },
        (Some("category"), 3..) => match names(row) {
            Some(names) => Encoding::Categories { names },
            None => return Err("different categories"),
        },
        _ => return Err("`number,column,mean,deviation` or `category,column,categories...`"),
    };
    Ok(Column { name: row.get(1).unwrap_or_default().to_owned(), encoding })
}

/// The names from the third field on, if no two are the same.
fn names(row: &StringRecord) -> Option<Vec<String>> {
    let names: Vec<String> = row.iter().skip(2).map(str::to_owned).collect();
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    (!sorted.windows(2).any(|pair| pair[0] == pair[1])).then_some(names)
}

/// Rows of kept text, of which the first ones have been read.
struct KeptRows {
    rows: Vec<StringRecord>,
    read: usize,
}

impl KeptRows {
    fn of(text: &str) -> Self {
        let mut reader = ReaderBuilder::new();
        let reader = reader.has_headers(false).flexible(true).from_reader(text.as_bytes());
        // Text in memory is UTF-8 and rows of any length are taken, so none fails.
        Self { rows: reader.into_records().map_while(Result::ok).collect(), read: 0 }
    }

    fn is_empty(&self) -> bool {
        self.read >= self.rows.len()
    }

    /// What is made of the next row, or what is expected there.
    fn next<T>(
        &mut self,
        make: impl FnOnce(&StringRecord) -> Result<T, &'static str>,
    ) -> Result<T, DataError> {
        let nothing = StringRecord::new();
        let made = make(self.rows.get(self.read).unwrap_or(&nothing));
        self.read += 1;
        made.map_err(|expected| self.wrong(expected))
    }

    /// The row read last is not what is expected.
    fn wrong(&self, expected: &'static str) -> DataError {
        let row = self.rows.get(self.read.saturating_sub(1));
        let found = row.map(|row| row.iter().collect::<Vec<_>>().join(","));
        let found = found.map_or("nothing".to_owned(), |row| format!("`{}`", excerpt(&row)));
        DataError::Kept { row: self.read, found, expected }
    }
}

#[cfg(test)]
mod tests;
