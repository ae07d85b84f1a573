//! A file that grows by whole records.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use super::LogError;

/// A file at whose end records are put.
#[derive(Debug)]
pub(super) struct Appended {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Appended {
    /// Opens a file as `options` say, and to append to it.
    pub(super) fn open(path: &Path, options: &mut OpenOptions) -> std::io::Result<Self> {
        let file = options.append(true).open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, len })
    }

    /// Puts a record at the end, all of it or none.
    pub(super) fn put(&mut self, record: &[u8]) -> Result<(), LogError> {
        if let Err(source) = self.file.write_all(record) {
            // If the part that was written can't be taken back either, the first error is the one to tell.
            let _ = self.file.set_len(self.len);
            return Err(self.failed(source));
        }
        self.len += record.len() as u64;
        Ok(())
    }

    /// Waits until the disk has all records.
    pub(super) fn sync(&self) -> Result<(), LogError> {
        self.file.sync_data().map_err(|source| self.failed(source))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn failed(&self, source: std::io::Error) -> LogError {
        LogError::Io { path: self.path.clone(), source }
    }
}
