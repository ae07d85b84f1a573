//! Files of comma- or tab-separated values (RFC 4180) as rows of text.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};

use super::{DataError, Rows, TableFault};

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
        Ok(Rows::new(path, names, records))
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

#[cfg(test)]
mod tests;
