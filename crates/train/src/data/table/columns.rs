//! Columns as they were found in the rows that were trained on, and the numbers that rows become by them.

use super::{
    Classes, ColumnId, DataError, Rows, Table, TableFault, Targets, Values, preparation::finite,
};
use crate::data::text::excerpt;

/// What is known of the columns of a table: kinds, categories, and mean and deviation of numbers.
///
/// A column of numbers becomes one feature, its distance from the mean in deviations. A column of categories becomes
/// one feature for each, 1 for the one that it is and 0 for the others. Columns are found by their names: their order
/// doesn't matter, and columns that were not there are not looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    pub(super) target: Target,
    pub(super) features: Vec<Column>,
    /// What stands where a value is missing.
    pub(super) marks: Vec<String>,
    /// Whether missing values are filled.
    pub(super) fill: bool,
}

/// The column to be predicted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    Class { column: String, names: Vec<String> },
    Value { column: String },
}

/// A column to learn from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) encoding: Encoding,
}

/// How the fields of a column become features.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Encoding {
    Numbers { mean: f64, deviation: f64 },
    Categories { names: Vec<String> },
}

impl Columns {
    /// A target without columns to learn from; an empty field has no value.
    pub(super) fn of_target(target: Target) -> Self {
        Self { target, features: vec![], marks: vec![String::new()], fill: false }
    }

    /// The features and classes of some rows.
    ///
    /// # Errors
    /// [`DataError::Table`] when a column is missing, or the target is one of numbers; [`DataError::Row`] with the line
    /// of a missing value (unless it is to be filled), a category or class that was not there when the columns were
    /// fitted, or text where a number should be.
    pub fn classification(&self, rows: &Rows) -> Result<Table<Classes>, DataError> {
        let Target::Class { column, names } = &self.target else {
            let (fitted, wanted) = ("a regression", "classification");
            return Err(rows.faulty(TableFault::OtherTarget { fitted, wanted }));
        };
        let number = rows.find(&ColumnId::Name(column.clone()))?;
        let mut labels = Vec::with_capacity(rows.len());
        for (line, field) in rows.fields(number) {
            let class = self.known(column, field, names);
            // Fitting and reading columns refuse more than 256 classes.
            labels.push(class.map_err(|reason| rows.faulty_at(line, reason))? as u8);
        }
        self.table(rows, Classes { labels, names: names.clone() })
    }

    /// The features and values of some rows.
    ///
    /// # Errors
    /// As [`classification`](Self::classification), but that the target must be one of numbers.
    pub fn regression(&self, rows: &Rows) -> Result<Table<Values>, DataError> {
        let Target::Value { column } = &self.target else {
            let (fitted, wanted) = ("classification", "a regression");
            return Err(rows.faulty(TableFault::OtherTarget { fitted, wanted }));
        };
        let number = rows.find(&ColumnId::Name(column.clone()))?;
        let mut values = Vec::with_capacity(rows.len());
        for (line, field) in rows.fields(number) {
            let value = self.number(column, field).and_then(|value| single(column, value));
            values.push(value.map_err(|reason| rows.faulty_at(line, reason))?);
        }
        self.table(rows, Values(values))
    }

    fn table<T: Targets>(&self, rows: &Rows, targets: T) -> Result<Table<T>, DataError> {
        Table::new(self.features(rows)?, self.names(), targets)
    }

    /// The features alone, `[rows, features]` in row-major order: what a model predicts from. The target need not be
    /// among the columns.
    ///
    /// # Errors
    /// As [`classification`](Self::classification), but for the target; [`DataError::TooLarge`] when there is no
    /// memory for so many.
    pub fn features(&self, rows: &Rows) -> Result<Vec<f32>, DataError> {
        let width = self.names().len();
        let find = |column: &Column| rows.find(&ColumnId::Name(column.name.clone()));
        let numbers: Vec<usize> = self.features.iter().map(find).collect::<Result<_, _>>()?;
        let mut features = Vec::new();
        let total = rows.len().checked_mul(width);
        if total.is_none_or(|total| features.try_reserve_exact(total).is_err()) {
            return Err(rows.too_large(vec![rows.len(), width]));
        }
        for record in &rows.records {
            for (column, &number) in self.features.iter().zip(&numbers) {
                let field = record.fields.get(number).unwrap_or_default();
                let done = self.encode(column, field, &mut features);
                done.map_err(|reason| rows.faulty_at(record.line, reason))?;
            }
        }
        Ok(features)
    }

    /// What the features are called: the column, and for categories `column=category`.
    pub fn names(&self) -> Vec<String> {
        let mut all = Vec::new();
        for Column { name, encoding } in &self.features {
            match encoding {
                Encoding::Numbers { .. } => all.push(name.clone()),
                Encoding::Categories { names } => {
                    all.extend(names.iter().map(|category| format!("{name}={category}")));
                    all.extend(self.fill.then(|| format!("{name} is missing")));
                }
            }
        }
        all
    }

    /// The names of the classes, in the order of their labels; none for a regression.
    pub fn classes(&self) -> &[String] {
        match &self.target {
            Target::Class { names, .. } => names,
            Target::Value { .. } => &[],
        }
    }

    fn encode(&self, column: &Column, field: &str, to: &mut Vec<f32>) -> Result<(), TableFault> {
        let missing = self.fill && self.is_missing(field);
        match &column.encoding {
            Encoding::Numbers { .. } if missing => to.push(0.0),
            Encoding::Numbers { mean, deviation } => {
                let value = self.number(&column.name, field)?;
                to.push(single(&column.name, (value - mean) / deviation)?);
            }
            Encoding::Categories { names } => {
                let own = match missing {
                    true => names.len(),
                    false => self.known(&column.name, field, names)?,
                };
                let width = names.len() + usize::from(self.fill);
                to.extend((0..width).map(|place| f32::from(u8::from(place == own))));
            }
        }
        Ok(())
    }

    /// The number that a field is.
    fn number(&self, column: &str, field: &str) -> Result<f64, TableFault> {
        self.refuse_missing(column, field)?;
        let (column, found) = (column.to_owned(), || excerpt(field));
        finite(field).ok_or_else(|| TableFault::NotANumber { column, found: found() })
    }

    /// The place of a field among the names that are known.
    fn known(&self, column: &str, field: &str, names: &[String]) -> Result<usize, TableFault> {
        self.refuse_missing(column, field)?;
        names.iter().position(|name| name == field).ok_or_else(|| TableFault::UnknownCategory {
            column: column.to_owned(),
            found: excerpt(field),
            known: names.to_vec(),
        })
    }

    fn refuse_missing(&self, column: &str, field: &str) -> Result<(), TableFault> {
        match self.is_missing(field) {
            true => Err(TableFault::Missing { column: column.to_owned(), found: field.to_owned() }),
            false => Ok(()),
        }
    }

    fn is_missing(&self, field: &str) -> bool {
        self.marks.iter().any(|mark| mark == field)
    }
}

/// A number as an `f32`, if there is one of about its size.
fn single(column: &str, value: f64) -> Result<f32, TableFault> {
    let single = value as f32;
    let too_large = || TableFault::TooLarge { column: column.to_owned() };
    single.is_finite().then_some(single).ok_or_else(too_large)
}

#[cfg(test)]
mod tests;
