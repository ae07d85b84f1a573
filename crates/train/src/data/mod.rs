//! Data sets held in memory: images or texts with one label each, and where to get some.
//!
//! * [`Images`]: bytes of pixels and labels, checked once, so that nothing after it has to.
//! * [`Mnist`]: the handwritten digits, from a folder, the cache or the network.
//! * [`Cifar10`]: tiny colour images, from a folder; [`ImageFolder`]: images of any size, a folder for each class, and
//!   [`ImageFiles`]: the same left on disk.
//! * [`drawn`]: digits drawn by the program, for machines without either.
//! * [`idx`]: the file format MNIST is published in.
//! * [`table`]: rows of numbers and categories, from files of separated values.
//! * [`text`]: labelled texts, their words as numbers, and vectors of words.
//! * [`Subset`], [`Split`]: samples picked by number, and numbers picked at random, one part for training and one held
//!   back; [`class_weights`] and [`weighted_order`] make up for rare classes; [`Join`]: one data set after
//!   another.
//!
//! It assumes that a data set fits in memory as bytes, but for [`ImageFiles`], and refuses labels outside its classes and
//! pixels that do not add up to its shape.

pub mod drawn;
pub mod idx;
pub mod table;
pub mod text;

mod balance;
mod cifar;
mod download;
mod error;
mod folder;
mod image_fault;
mod image_files;
mod image_folder;
mod join;
mod mnist;
mod rng;
mod split;
mod subset;

pub use balance::{class_weights, weighted_order};
pub use cifar::Cifar10;
pub use download::Progress;
pub use error::DataError;
pub use image_fault::ImageFault;
pub use image_files::ImageFiles;
pub use image_folder::{Colour, ImageFolder};
pub use join::Join;
pub use mnist::{Mnist, Source};
pub use split::Split;
pub use subset::Subset;

/// An image classification data set in memory.
///
/// The fields are public so that they can be read (and uploaded) as they are; building one with
/// [`Images::new`] is what guarantees that they fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// All pixels, `[images, channels, height, width]` in row-major order, 0 to 255.
    pub pixels: Vec<u8>,
    /// One class per image, each below [`classes`](Self::classes).
    pub labels: Vec<u8>,
    /// Channels of an image: 1 for grey, 3 for red, green and blue.
    pub channels: usize,
    /// Height of an image in pixels.
    pub height: usize,
    /// Width of an image in pixels.
    pub width: usize,
    /// How many classes the labels tell apart.
    pub classes: usize,
}

impl Images {
    /// A data set of `labels.len()` images.
    ///
    /// `pixels` holds them one after the other, each `shape` = `[channels, height, width]`.
    ///
    /// # Errors
    ///
    /// [`DataError::Pixels`] when the number of pixels does not match the shape and the number of
    /// labels, [`DataError::Label`] when a label is not below `classes`.
    pub fn new(
        pixels: Vec<u8>,
        labels: Vec<u8>,
        shape: [usize; 3],
        classes: usize,
    ) -> Result<Self, DataError> {
        let needed = shape.iter().try_fold(labels.len(), |n, &side| n.checked_mul(side));
        if needed != Some(pixels.len()) {
            return Err(DataError::Pixels { images: labels.len(), shape, found: pixels.len() });
        }
        check_labels("labels", &labels, classes)?;
        let [channels, height, width] = shape;
        Ok(Self { pixels, labels, channels, height, width, classes })
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// `[channels, height, width]` of one image.
    pub fn shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The pixels of image `index`, `[channels, height, width]`.
    ///
    /// # Panics
    ///
    /// When `index` is not below [`len`](Self::len), as indexing a slice does.
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.image_len();
        &self.pixels[index * size..][..size]
    }

    /// The first `count` images (all of them when there are fewer), for a quick run.
    #[must_use]
    pub fn first(mut self, count: usize) -> Self {
        self.labels.truncate(count);
        self.pixels.truncate(self.labels.len() * self.image_len());
        self
    }
}

/// Refuses the first label that is not below `classes`, naming the `origin` of the labels.
pub(crate) fn check_labels(origin: &str, labels: &[u8], classes: usize) -> Result<(), DataError> {
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        None => Ok(()),
        Some(index) => Err(DataError::Label {
            origin: origin.to_owned(),
            index,
            label: labels[index],
            classes,
        }),
    }
}

/// Refuses classes of one name, and more of them than a byte can tell apart.
pub(crate) fn check_classes(names: &[String]) -> Result<(), DataError> {
    let refused = |reason| Err(DataError::Classes { names: names.to_vec(), reason });
    if names.len() > usize::from(u8::MAX) + 1 {
        return refused("more than 256 of them");
    }
    match names.iter().enumerate().any(|(i, name)| names.iter().skip(i + 1).any(|n| n == name)) {
        true => refused("two have the same name"),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn images_are_found_by_index() {
        let images = Images::new((0..12).collect(), vec![0, 1], [1, 2, 3], 2).unwrap();
        assert_eq!((images.len(), images.shape()), (2, [1, 2, 3]));
        assert_eq!(images.image(1), [6, 7, 8, 9, 10, 11]);
        let one = images.first(1);
        assert_eq!((one.len(), one.pixels.len(), one.is_empty()), (1, 6, false));
        assert_eq!(one.clone().first(9), one);
        assert!(one.first(0).is_empty());
    }

    #[test]
    fn pixels_must_add_up() {
        let error = Images::new(vec![0; 5], vec![0], [1, 2, 3], 2).unwrap_err();
        assert_eq!(error.to_string(), "1 images of [1, 2, 3] do not take 5 bytes");
        let huge = Images::new(vec![], vec![0, 0], [usize::MAX, 2, 2], 2);
        assert!(matches!(huge, Err(DataError::Pixels { .. })));
    }

    #[test]
    fn labels_must_name_a_class() {
        let error = Images::new(vec![0; 3], vec![0, 1, 2], [1, 1, 1], 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "labels: label 2 at index 2 is not below the number of classes, 2"
        );
    }
}
