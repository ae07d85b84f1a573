//! What the columns of a table mean, as far as it is said, and the rest found in the rows that are trained on.

use std::collections::BTreeSet;

use super::{
    ColumnId, Columns, DataError, Rows, TableFault,
    columns::{Column, Encoding, Target},
};
use crate::data::text::excerpt;

/// Most categories of a column that nobody called categorical; with more, it is rather one of names or of texts.
const INFERRED: usize = 256;
/// Most classes that labels can tell apart.
const CLASSES: usize = 256;

/// How a table is prepared: the target, and what is to be known about the other columns.
///
/// A column in which every value is a finite number is one of numbers, a column in which none is has categories; one
/// that has both is refused until it is said what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preparation {
    target: ColumnId,
    classify: bool,
    categorical: Vec<ColumnId>,
    omitted: Vec<ColumnId>,
    marks: Vec<String>,
    fill: bool,
}

impl Preparation {
    /// The target is a column of classes, by its name or number; they are numbered in the order of their names, or by
    /// size where all are numbers.
    pub fn classify(target: impl Into<ColumnId>) -> Self {
        Self {
            target: target.into(),
            classify: true,
            categorical: vec![],
            omitted: vec![],
            marks: vec![String::new()],
            fill: false,
        }
    }

    /// The target is a column of numbers, by its name or number. They keep their unit.
    pub fn regress(target: impl Into<ColumnId>) -> Self {
        Self { classify: false, ..Self::classify(target) }
    }

    /// A column whose values are categories even where they are numbers, such as a code.
    #[must_use]
    pub fn categorical(mut self, column: impl Into<ColumnId>) -> Self {
        self.categorical.push(column.into());
        self
    }

    /// A column that is not learnt from, such as the number of a customer.
    #[must_use]
    pub fn omit(mut self, column: impl Into<ColumnId>) -> Self {
        self.omitted.push(column.into());
        self
    }

    /// Text that stands where a value is missing, such as `NA` or `?`. An empty field always does.
    #[must_use]
    pub fn missing_mark(mut self, mark: impl Into<String>) -> Self {
        self.marks.push(mark.into());
        self
    }

    /// Missing numbers become the mean of their column and missing categories one of their own, which every column
    /// of categories then has. Without this they are refused, and in the target they always are.
    #[must_use]
    pub fn fill_missing(mut self) -> Self {
        self.fill = true;
        self
    }

    /// Finds categories, and mean and deviation of numbers, in the rows to train on.
    ///
    /// # Errors
    /// [`DataError::Table`] when there are no rows, no such column, no column to learn from, a column of too many
    /// categories or classes, without a value or with numbers too large; [`DataError::Row`] with the line of
    /// a missing value, of a target that is no number where one is needed, and of the first text in a column of numbers.
    pub fn fit(&self, rows: &Rows) -> Result<Columns, DataError> {
        if rows.is_empty() {
            return Err(rows.faulty(TableFault::Empty));
        }
        let target = rows.find(&self.target)?;
        let numbers = |columns: &[ColumnId]| {
            columns.iter().map(|column| rows.find(column)).collect::<Result<Vec<_>, _>>()
        };
        let (categorical, omitted) = (numbers(&self.categorical)?, numbers(&self.omitted)?);
        let mut features = Vec::new();
        for (number, name) in rows.names().iter().enumerate() {
            if number != target && !omitted.contains(&number) {
                let encoding = self.encoding(rows, number, categorical.contains(&number))?;
                features.push(Column { name: name.clone(), encoding });
            }
        }
        if features.is_empty() {
            return Err(rows.faulty(TableFault::NoFeatures));
        }
        Ok(Columns {
            target: self.target(rows, target)?,
            features,
            marks: self.marks.clone(),
            fill: self.fill,
        })
    }

    /// Finds the classes of the target alone.
    pub(super) fn fit_target(&self, rows: &Rows) -> Result<Columns, DataError> {
        if rows.is_empty() {
            return Err(rows.faulty(TableFault::Empty));
        }
        Ok(Columns::of_target(self.target(rows, rows.find(&self.target)?)?))
    }

    fn target(&self, rows: &Rows, number: usize) -> Result<Target, DataError> {
        let column = rows.names()[number].clone();
        let values = self.values(rows, number, false)?;
        if !self.classify {
            // Whether they are numbers is found when they are read, with the line.
            return Ok(Target::Value { column });
        }
        let names = categories(&values);
        match names.len() {
            0..=CLASSES => Ok(Target::Class { column, names }),
            found => Err(rows.faulty(TableFault::TooManyClasses { column, found, limit: CLASSES })),
        }
    }

    fn encoding(
        &self,
        rows: &Rows,
        number: usize,
        categorical: bool,
    ) -> Result<Encoding, DataError> {
        let column = || rows.names()[number].clone();
        let values = self.values(rows, number, self.fill)?;
        if values.is_empty() {
            return Err(rows.faulty(TableFault::NoValues { column: column() }));
        }
        let numbers: Vec<f64> = values.iter().filter_map(|(_, field)| finite(field)).collect();
        if categorical || numbers.is_empty() {
            let names = categories(&values);
            if !categorical && names.len() > INFERRED {
                let (found, limit) = (names.len(), INFERRED);
                let column = column();
                return Err(rows.faulty(TableFault::TooManyCategories { column, found, limit }));
            }
            return Ok(Encoding::Categories { names });
        }
        if let Some((line, field)) = values.iter().find(|(_, field)| finite(field).is_none()) {
            let found = excerpt(field);
            return Err(rows.faulty_at(*line, TableFault::Mixed { column: column(), found }));
        }
        standard(&numbers).ok_or_else(|| rows.faulty(TableFault::TooLarge { column: column() }))
    }

    /// Lines and fields of the values of a column; a missing one is passed over if it may be.
    fn values<'r>(
        &self,
        rows: &'r Rows,
        number: usize,
        fill: bool,
    ) -> Result<Vec<(u64, &'r str)>, DataError> {
        let mut values = Vec::with_capacity(rows.len());
        for (line, field) in rows.fields(number) {
            match self.marks.iter().any(|mark| mark == field) {
                false => values.push((line, field)),
                true if fill => {}
                true => {
                    let (column, found) = (rows.names()[number].clone(), field.to_owned());
                    return Err(rows.faulty_at(line, TableFault::Missing { column, found }));
                }
            }
        }
        Ok(values)
    }
}

/// The number that a field is.
pub(super) fn finite(field: &str) -> Option<f64> {
    field.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Every value once, sorted: by size if all are numbers.
fn categories(values: &[(u64, &str)]) -> Vec<String> {
    let names: BTreeSet<&str> = values.iter().map(|(_, field)| *field).collect();
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let sizes: Option<Vec<f64>> = names.iter().map(|name| finite(name)).collect();
    if sizes.is_some() {
        names
            .sort_by(|a, b| finite(a).partial_cmp(&finite(b)).unwrap_or(std::cmp::Ordering::Equal));
    }
    names
}

/// Mean and deviation over all numbers; none if they are not finite.
fn standard(numbers: &[f64]) -> Option<Encoding> {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let squares = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>();
    // The mean of equal numbers may be rounded; what they deviate from it then is no deviation.
    let constant = numbers.windows(2).all(|pair| pair[0] == pair[1]);
    let deviation = (squares / count).sqrt();
    let deviation = if constant || deviation == 0.0 { 1.0 } else { deviation };
    (mean.is_finite() && deviation.is_finite()).then_some(Encoding::Numbers { mean, deviation })
}
