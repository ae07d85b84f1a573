//! What can be wrong with a file or folder of images, apart from where it is: [`DataError`](super::DataError) says that.

/// Why a file or folder of images can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFault {
    /// A file of records of one size that is empty or doesn't end with a record.
    #[error("expected records of {record} bytes each, found {found} bytes")]
    Records {
        /// How many bytes a record has.
        record: usize,
        /// How many bytes there are.
        found: usize,
    },
    /// A file of names that holds more or fewer than there are classes.
    #[error("expected {expected} names, a line each, found {found}")]
    Names {
        /// How many classes there are.
        expected: usize,
        /// How many names there are.
        found: usize,
    },
    /// A file that is not the image that its name says, or a damaged one.
    #[error(transparent)]
    Decode(#[from] image::ImageError),
    /// A JPEG file without the marker of its end.
    #[error("the JPEG image ends early")]
    EndsEarly,
    /// A file of a format that is known, but not read.
    #[error("found {found}, expected {expected}")]
    Format {
        /// The format its name stands for.
        found: String,
        /// The formats that are read.
        expected: &'static str,
    },
    /// A folder of a class in which there is no image.
    #[error("a class without images")]
    Empty,
}
