//! A table that grows by a row for each record.

use std::{fmt::Display, fs, fs::OpenOptions, path::Path};

use super::{LogError, append::Appended};
use crate::data::table::Delimited;

/// Writes a file of comma-separated values (RFC 4180) with a header, a row for each record.
///
/// ```no_run
/// use shadegrad_train::log::CsvLog;
///
/// # fn main() -> Result<(), shadegrad_train::log::LogError> {
/// let mut log = CsvLog::open("loss.csv")?;
/// for (epoch, loss) in [2.3, 1.1, 0.7].into_iter().enumerate() {
///     log.row(&[("epoch", &epoch), ("loss", &loss)])?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// Each row is handed to the system at once. A file that is there already goes on with the same columns.
#[derive(Debug)]
pub struct CsvLog {
    file: Appended,
    /// None yet in a file without a header.
    columns: Vec<String>,
}

impl CsvLog {
    /// Opens or makes a file. The columns are those that it has, else those of the first row.
    ///
    /// # Errors
    /// [`LogError::Io`] when it can't be opened, [`LogError::Table`] naming the line when one of its rows doesn't have
    /// its columns, [`LogError::Unended`] when the last one may have been cut.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let path = path.as_ref();
        let io = |source| LogError::Io { path: path.to_owned(), source };
        let file = Appended::open(path, OpenOptions::new().create(true)).map_err(io)?;
        let columns = if file.is_empty() { vec![] } else { columns(path)? };
        Ok(Self { file, columns })
    }

    /// Opens or makes a file that has these columns, in this order.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`LogError::Columns`] when it has others, [`LogError::Names`] when two are the same.
    pub fn with_columns(path: impl AsRef<Path>, columns: &[&str]) -> Result<Self, LogError> {
        let mut log = Self::open(path)?;
        let columns: Vec<String> = columns.iter().map(|name| name.trim().to_owned()).collect();
        if log.columns.is_empty() {
            log.begin(columns)?;
        } else if log.columns != columns {
            return Err(log.other(columns));
        }
        Ok(log)
    }

    /// The columns; none before the first row of a new file.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Appends a row: the value of each column, in any order. Space around names is no part of them.
    ///
    /// # Errors
    /// [`LogError::Columns`] when the columns are not exactly those of the file, [`LogError::Names`] when two of the
    /// first row are the same, [`LogError::Io`]. The file is then as it was.
    pub fn row(&mut self, values: &[(&str, &dyn Display)]) -> Result<(), LogError> {
        let names: Vec<String> = values.iter().map(|(name, _)| name.trim().to_owned()).collect();
        if self.columns.is_empty() {
            self.begin(names.clone())?;
        }
        let place = |column| names.iter().position(|name| name == column);
        let places: Option<Vec<usize>> = self.columns.iter().map(place).collect();
        match places {
            Some(places) if names.len() == self.columns.len() => {
                let fields = places.iter().map(|&place| values[place].1.to_string());
                self.put(fields.collect())
            }
            _ => Err(self.other(names)),
        }
    }

    /// Waits until all rows are on the disk.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.file.sync()
    }

    /// Writes the header.
    fn begin(&mut self, columns: Vec<String>) -> Result<(), LogError> {
        let mut sorted = columns.clone();
        sorted.sort_unstable();
        if sorted.is_empty() || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(LogError::Names { path: self.file.path().to_owned(), found: columns });
        }
        self.put(columns.clone())?;
        self.columns = columns;
        Ok(())
    }

    fn put(&mut self, fields: Vec<String>) -> Result<(), LogError> {
        let mut line = csv::Writer::from_writer(Vec::new());
        // Nothing fails in memory.
        let _ = line.write_record(fields);
        self.file.put(&line.into_inner().unwrap_or_default())
    }

    fn other(&self, found: Vec<String>) -> LogError {
        let (path, columns) = (self.file.path().to_owned(), self.columns.clone());
        LogError::Columns { path, columns, found }
    }
}

/// The columns of a file in which every row has them.
fn columns(path: &Path) -> Result<Vec<String>, LogError> {
    let bytes = fs::read(path).map_err(|source| LogError::Io { path: path.to_owned(), source })?;
    let records = Delimited::commas().parse(&bytes, path)?;
    match bytes.last() {
        Some(b'\n') => {}
        _ => return Err(LogError::Unended { path: path.to_owned() }),
    }
    let header = records.first().map(|record| record.fields.iter().map(str::to_owned).collect());
    Ok(header.unwrap_or_default())
}

#[cfg(test)]
mod tests;
