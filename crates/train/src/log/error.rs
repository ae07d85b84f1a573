//! What can go wrong with a log.

use std::path::PathBuf;

use crate::DataError;

/// Why a log could not be opened or a record not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The system stopped the reading or writing.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A table that is there already can't be read.
    #[error(transparent)]
    Table(#[from] DataError),
    /// A table whose last row is not whole, or not known to be.
    #[error("{}: the last row doesn't end with a line break: complete or remove it", path.display())]
    Unended {
        /// The file.
        path: PathBuf,
    },
    /// A row that doesn't have the columns of the table.
    #[error("{}: the columns are {}, found {}", path.display(), columns.join(", "), found.join(", "))]
    Columns {
        /// The file.
        path: PathBuf,
        /// Its columns.
        columns: Vec<String>,
        /// Those that were given.
        found: Vec<String>,
    },
    /// Columns that can't be told apart, or none.
    #[error("{}: the columns {found:?} must be different, and at least one", path.display())]
    Names {
        /// The file.
        path: PathBuf,
        /// Those that were given.
        found: Vec<String>,
    },
    /// Pixels that are no image.
    #[error("image {tag:?}: {found} bytes are no image of {shape:?}, with 1 or 3 channels")]
    Image {
        /// What it was to be called.
        tag: String,
        /// The channels, height and width it should have.
        shape: [usize; 3],
        /// How many bytes it has.
        found: usize,
    },
    /// An image that can't be encoded.
    #[error("image {tag:?}: {source}")]
    Encode {
        /// What it was to be called.
        tag: String,
        /// What the encoder said.
        source: image::ImageError,
    },
    /// Values that have no histogram.
    #[error("histogram {tag:?}: value {index} is {value}: all must be finite")]
    NotFinite {
        /// What it was to be called.
        tag: String,
        /// Which value is the first that is not finite, counted from zero.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// No values, which have no histogram either.
    #[error("histogram {tag:?}: there are no values")]
    NoValues {
        /// What it was to be called.
        tag: String,
    },
}
