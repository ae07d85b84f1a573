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
        let mut pixels = vec![0; self.shape.iter().product()];
        self.put(index, &mut pixels)?;
        Ok(pixels)
    }

    /// Writes the pixels of an image to a place of their size.
    pub(crate) fn put(&self, index: usize, place: &mut [u8]) -> Result<(), DataError> {
        let none = DataError::Sample { number: index, count: self.len() };
        self.reader.decode(self.files.get(index).ok_or(none)?, place)
    }

    /// Mean and deviation over all pixels, in units of a byte. Decodes every image once, on all cores, so that a
    /// damaged one is found before training.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub fn statistics(&self) -> Result<Statistics, DataError> {
        let bytes = self.shape.iter().product();
        let sums = |pixels: &mut Vec<u8>, path: &PathBuf| {
            self.reader.decode(path, pixels)?;
            let wide = || pixels.iter().map(|&pixel| u64::from(pixel));
            Ok((wide().sum::<u64>(), wide().map(|pixel| pixel * pixel).sum::<u64>()))
        };
        let (sum, squares) = self
            .files
            .par_iter()
            .map_init(|| vec![0; bytes], sums)
            .try_reduce(|| (0, 0), |a, b| Ok((a.0 + b.0, a.1 + b.1)))?;
        Ok(Statistics::of(sum as f64, squares as f64, bytes * self.len()))
    }
}
