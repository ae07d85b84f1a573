//! Rows of text, and their columns by name or number.

use std::path::{Path, PathBuf};

use super::{DataError, TableFault, delimited::Record};

/// Rows of text, all of one length, that know where they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    path: PathBuf,
    names: Vec<String>,
    pub(super) records: Vec<Record>,
}

/// Which column: a name, or a number counted from zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnId {
    /// The column of this name.
    Name(String),
    /// The column of this number, counted from zero.
    Number(usize),
}

impl From<&str> for ColumnId {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<usize> for ColumnId {
    fn from(number: usize) -> Self {
        Self::Number(number)
    }
}

impl Rows {
    /// Records that all have as many fields as there are names.
    pub(super) fn new(path: &Path, names: Vec<String>, records: Vec<Record>) -> Self {
        Self { path: path.to_owned(), names, records }
    }

    /// How many rows there are, without the header.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The text of a column, a field for each row: to split by it, for example.
    ///
    /// # Errors
    /// [`DataError::Table`] when there is no such column, naming those there are.
    pub fn column(&self, column: impl Into<ColumnId>) -> Result<Vec<&str>, DataError> {
        let number = self.find(&column.into())?;
        Ok(self.fields(number).map(|(_, field)| field).collect())
    }

    /// The number of a column.
    pub(super) fn find(&self, column: &ColumnId) -> Result<usize, DataError> {
        let (found, wanted) = match column {
            ColumnId::Name(name) => {
                (self.names.iter().position(|other| other == name), format!("{name:?}"))
            }
            ColumnId::Number(number) => {
                (Some(*number).filter(|number| *number < self.names.len()), number.to_string())
            }
        };
        let possible = || self.names.clone();
        found.ok_or_else(|| self.faulty(TableFault::NoColumn { wanted, possible: possible() }))
    }

    /// Lines and fields of a column.
    pub(super) fn fields(&self, number: usize) -> impl Iterator<Item = (u64, &str)> {
        self.records
            .iter()
            .map(move |record| (record.line, record.fields.get(number).unwrap_or_default()))
    }

    /// Something wrong with all of them.
    pub(super) fn faulty(&self, reason: TableFault) -> DataError {
        DataError::Table { path: self.path.clone(), reason }
    }

    /// Something wrong in one line.
    pub(super) fn faulty_at(&self, line: u64, reason: TableFault) -> DataError {
        DataError::Row { path: self.path.clone(), line, reason }
    }

    /// More numbers than there is memory for would be made of them.
    pub(super) fn too_large(&self, shape: Vec<usize>) -> DataError {
        DataError::TooLarge { path: self.path.clone(), shape }
    }

    /// The rows of these numbers, all of which there are.
    pub(crate) fn picked(&self, numbers: &[usize]) -> Self {
        let records = numbers.iter().filter_map(|&n| self.records.get(n).cloned()).collect();
        Self { path: self.path.clone(), names: self.names.clone(), records }
    }
}
