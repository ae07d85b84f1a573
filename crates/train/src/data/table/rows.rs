//! Files of comma- or tab-separated values (RFC 4180) as rows of text.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};

use super::{DataError, TableFault};

/// Follows the file: the first ends a last row that doesn't end itself, the second is read only within a quote that is
/// never closed.
const END: &[u8] = b"\n\n";

/// How a file of separated values is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delimited {
    delimiter: u8,
    header: bool,
}

impl Delimited {
    /// Values separated by commas, below a row of names.
    pub fn commas() -> Self {
        Self::by(b',')
    }

    /// Values separated by tabs, below a row of names.
    pub fn tabs() -> Self {
        Self::by(b'\t')
    }

    /// Values separated by an ASCII character such as `b';'`, below a row of names.
    pub fn by(delimiter: u8) -> Self {
        Self { delimiter, header: true }
    }

    /// The first row is data too; columns are called by their numbers, from 0.
    #[must_use]
    pub fn without_header(mut self) -> Self {
        self.header = false;
        self
    }

    /// The rows of a file, which must be UTF-8.
    ///
    /// A field may stand in double quotes, and may then hold delimiters, line breaks and, doubled, quotes. Space around
    /// fields is no part of them; empty lines are passed over. A byte order mark is no part of the first name.
    ///
    /// # Errors
    /// * [`DataError::Setting`] for a delimiter that can't be one,
    /// * [`DataError::Io`] when the file can't be read,
    /// * [`DataError::Row`] with the line of the first row that has another number of fields than the first, is not
    ///   UTF-8, or has a quote that is never closed,
    /// * [`DataError::Table`] when there are no rows, or two columns of one name.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Rows, DataError> {
        let path = path.as_ref();
        if !self.delimiter.is_ascii() || b"\"\r\n".contains(&self.delimiter) {
            let expected = "an ASCII character other than a quote or a line break";
            let value = format!("the byte {:#04x}", self.delimiter);
            return Err(DataError::setting("the delimiter", value, expected));
        }
        let bytes = fs::read(path).map_err(DataError::at(path))?;
        let mut records = self.parse(&bytes, path)?;
        let faulty = |reason| DataError::Table { path: path.to_owned(), reason };
        let names: Vec<String> = match records.first() {
            Some(first) if self.header => first.fields.iter().map(str::to_owned).collect(),
            Some(first) => (0..first.fields.len()).map(|number| number.to_string()).collect(),
            None => return Err(faulty(TableFault::Empty)),
        };
        if self.header {
            records.remove(0);
        }
        if records.is_empty() {
            return Err(faulty(TableFault::Empty));
        }
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort_unstable();
        if let Some(same) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(faulty(TableFault::SameName { column: same[0].clone() }));
        }
        Ok(Rows { path: path.to_owned(), names, records })
    }

    /// All rows, the header among them.
    pub(crate) fn parse(&self, bytes: &[u8], path: &Path) -> Result<Vec<Record>, DataError> {
        let mut reader = ReaderBuilder::new()
            .delimiter(self.delimiter)
            .has_headers(false)
            .flexible(true)
            .trim(Trim::All)
            .from_reader(bytes.chain(END));
        let (mut records, mut expected) = (Vec::new(), None);
        let mut fields = StringRecord::new();
        loop {
            // The reader is still before empty lines, which it skips, and may be within the end of a line.
            let start = usize::try_from(reader.position().byte()).unwrap_or(usize::MAX);
            let rest = bytes.get(start..).unwrap_or_default();
            let Some(empty) = rest.iter().position(|byte| !b"\r\n".contains(byte)) else {
                return Ok(records);
            };
            let passed = rest.iter().take(empty).filter(|byte| **byte == b'\n').count();
            let line = reader.position().line() + passed as u64;

            let faulty = |reason| DataError::Row { path: path.to_owned(), line, reason };
            reader.read_record(&mut fields).map_err(|error| match error.into_kind() {
                ErrorKind::Utf8 { err, .. } => {
                    faulty(TableFault::NotUtf8 { field: err.field() + 1 })
                }
                // Slices don't fail, and rows of any length are taken here.
                other => DataError::at(path)(io::Error::other(format!("{other:?}"))),
            })?;
            if reader.position().byte() > bytes.len() as u64 + 1 {
                return Err(faulty(TableFault::OpenQuote));
            }
            let (found, expected) = (fields.len(), *expected.get_or_insert(fields.len()));
            if found != expected {
                return Err(faulty(TableFault::Fields { expected, found }));
            }
            records.push(Record { line, fields: fields.clone() });
        }
    }
}

/// One row of text and the line it begins in, counted from one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(super) line: u64,
    pub(crate) fields: StringRecord,
}

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

#[cfg(test)]
mod tests;
