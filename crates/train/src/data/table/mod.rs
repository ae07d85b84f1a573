//! Tables: files of rows and columns, and the numbers a network can be trained on.
//!
//! * [`Delimited`] reads a file of comma- or tab-separated values as [`Rows`] of text.
//! * [`Preparation`] says what the columns mean and is fitted to the rows that are trained on.
//! * [`Columns`] is what it finds: which columns are numbers, with mean and deviation, and which are categories. It
//!   makes a [`Table`] of these rows and of any others, and is kept as text beside the weights.
//! * [`TextColumns`] reads texts with a class each from rows instead.
//!
//! ```no_run
//! use shadegrad_train::data::{Split, table::{Delimited, Preparation}};
//!
//! # fn main() -> Result<(), shadegrad_train::DataError> {
//! let rows = Delimited::commas().read("iris.csv")?;
//! let (train, test) = Split::stratified(&rows.column("species")?, 0.2, 7)?.of(&rows)?;
//! let columns = Preparation::classify("species").fit(&train)?;
//! let (train, test) = (columns.classification(&train)?, columns.classification(&test)?);
//! assert_eq!(train.width(), test.width());
//! # Ok(())
//! # }
//! ```
//!
//! It assumes that a table fits in memory as text, and refuses rows of another length than the first, missing values
//! (unless they are to be filled), categories that were not there when it was fitted, and text where numbers stood.

mod columns;
mod delimited;
mod fault;
mod kept;
mod preparation;
mod rows;
mod texts;

pub use columns::Columns;
pub use delimited::Delimited;
pub use fault::TableFault;
pub use preparation::Preparation;
pub use rows::{ColumnId, Rows};
pub use texts::TextColumns;

use super::{DataError, Subset, check_classes, check_labels};

/// Rows of features with a target each: [`Classes`] to classify, or [`Values`] for a regression.
///
/// The fields are public so that they can be read as they are; building one with [`Table::new`] is what guarantees
/// that they fit together.
#[derive(Clone, Debug, PartialEq)]
pub struct Table<T> {
    /// All features, `[rows, columns]` in row-major order.
    pub features: Vec<f32>,
    /// What the features are called, one name for each column.
    pub columns: Vec<String>,
    /// The target of each row.
    pub targets: T,
}

/// Targets that are classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    /// The class of each row, an index of [`names`](Self::names).
    pub labels: Vec<u8>,
    /// The names of the classes, 256 at most.
    pub names: Vec<String>,
}

/// Targets that are numbers, in their own unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Values(pub Vec<f32>);

/// What a table can have for targets: [`Classes`] and [`Values`].
pub trait Targets: Subset {
    /// Refuses targets that don't fit together.
    ///
    /// # Errors
    /// [`DataError::Classes`] or [`DataError::Label`].
    fn check(&self) -> Result<(), DataError>;
}

impl Targets for Classes {
    fn check(&self) -> Result<(), DataError> {
        check_classes(&self.names)?;
        check_labels("labels", &self.labels, self.names.len())
    }
}

impl Targets for Values {
    fn check(&self) -> Result<(), DataError> {
        Ok(())
    }
}

impl<T: Targets> Table<T> {
    /// A table of `[rows, columns]` features, as many rows as there are targets.
    ///
    /// # Errors
    /// [`DataError::Features`] when the features don't add up to that, and what is wrong with the targets:
    /// [`DataError::Classes`], [`DataError::Label`].
    pub fn new(features: Vec<f32>, columns: Vec<String>, targets: T) -> Result<Self, DataError> {
        let (rows, width) = (targets.samples(), columns.len());
        if rows.checked_mul(width) != Some(features.len()) {
            return Err(DataError::Features { rows, columns: width, found: features.len() });
        }
        targets.check()?;
        Ok(Self { features, columns, targets })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.targets.samples()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Features of a row.
    pub fn width(&self) -> usize {
        self.columns.len()
    }
}

#[cfg(test)]
mod tests;
