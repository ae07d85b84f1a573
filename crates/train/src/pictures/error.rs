//! What can go wrong with a picture: it does not fit together, is too large, or cannot be written.

use std::path::PathBuf;

/// Why a picture was not drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file could not be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// Where the picture should have gone.
        path: PathBuf,
        /// What the encoder or the operating system said.
        source: image::ImageError,
    },
    /// A confusion matrix is square, with a row and a column per class.
    #[error(
        "a confusion matrix of {classes} classes takes {} counts, found {found}",
        classes * classes
    )]
    Counts {
        /// How many classes are named.
        classes: usize,
        /// How many counts there are.
        found: usize,
    },
    /// An image of a sheet does not have the pixels of its shape, or neither 1 nor 3 channels.
    #[error("tile {index}: {found} bytes are no image of {shape:?}, with 1 or 3 channels")]
    Tile {
        /// Which image.
        index: usize,
        /// The channels, height and width it should have.
        shape: [usize; 3],
        /// How many bytes it has.
        found: usize,
    },
    /// The picture would have more pixels than anyone could look at.
    #[error("a picture of {width} x {height} pixels is over the limit of {limit} pixels")]
    TooLarge {
        /// Its width in pixels.
        width: usize,
        /// Its height in pixels.
        height: usize,
        /// How many pixels a picture may have.
        limit: usize,
    },
}
