//! Files of images that are decoded when they are asked for, so that of a folder larger than memory only paths and labels are
//! held.

use std::path::PathBuf;

use rayon::prelude::*;

use super::{DataError, ImageFolder};
use crate::Statistics;

/// Files of images with a label each, from [`ImageFolder::files`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFiles {
    pub(super) reader: ImageFolder,
    /// `[channels, height, width]` that images are brought to.
    pub(super) shape: [usize; 3],
    pub(super) files: Vec<PathBuf>,
    pub(super) labels: Vec<u8>,
}

impl ImageFiles {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// `[channels, height, width]` that images are brought to.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// One class for each file.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The pixels of image `index`, `[channels, height, width]`.
    ///
    /// # Errors
    /// [`DataError::Sample`] for a number that no image has; as [`ImageFolder::image`], naming the file.
    pub fn image(&self, index: usize) -> Result<Vec<u8>, DataError> {
        self.reader.image(self.file(index)?)
    }

    fn file(&self, index: usize) -> Result<&PathBuf, DataError> {
        let none = DataError::Sample { number: index, count: self.len() };
        self.files.get(index).ok_or(none)
    }

    /// Writes the pixels of an image to a place of their size.
    pub(crate) fn put(&self, index: usize, place: &mut [u8]) -> Result<(), DataError> {
        self.reader.decode(self.file(index)?, place)
    }

    /// Mean and deviation over all pixels, in units of a byte. Decodes every image once, on all cores, so that a
    /// damaged one is found before training.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub fn statistics(&self) -> Result<Statistics, DataError> {
        let sums = |path: &PathBuf| {
            let pixels = self.reader.image(path)?;
            let wide = || pixels.iter().map(|&pixel| u64::from(pixel));
            let squares = wide().map(|pixel| pixel * pixel).sum::<u64>();
            Ok((wide().sum::<u64>(), squares, pixels.len()))
        };
        let add =
            |a: (u64, u64, usize), b: (u64, u64, usize)| Ok((a.0 + b.0, a.1 + b.1, a.2 + b.2));
        let (sum, squares, count) =
            self.files.par_iter().map(sums).try_reduce(|| (0, 0, 0), add)?;
        Ok(Statistics::of(sum as f64, squares as f64, count))
    }
}
