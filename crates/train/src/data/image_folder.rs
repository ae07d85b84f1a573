//! Images from a folder with one folder for each class, the layout of torchvision's `ImageFolder`:
//! `root/cat/12.png`, `root/dog/ear/3.jpg`.
//!
//! It refuses what can't be decoded, classes without an image, and images in formats that it doesn't read; other
//! files are passed over.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use image::{DynamicImage, ImageFormat, ImageReader, imageops::FilterType};
use rayon::prelude::*;

use super::{DataError, ImageFault, ImageFiles, Images, check_classes, folder::entries};

/// The channels that images are decoded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// One channel: the luma of ITU-R BT.709 for images with colours.
    Grey,
    /// Red, green and blue, three times the same for grey images. Transparency is ignored.
    Rgb,
}

/// How folders of images are read: the size and the channels they are brought to.
///
/// ```no_run
/// use shadegrad_train::data::{Colour, ImageFolder};
///
/// # fn main() -> Result<(), shadegrad_train::DataError> {
/// let (images, classes) = ImageFolder::new(64, 64, Colour::Rgb).read("flowers/train")?;
/// assert_eq!(images.shape(), [3, 64, 64]);
/// println!("{} images of {classes:?}", images.len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFolder {
    height: usize,
    width: usize,
    colour: Colour,
}

/// Memory for the pixels of so many images, or the error that names them.
fn room(count: usize, shape: [usize; 3], path: &Path) -> Result<Vec<u8>, DataError> {
    let shape = [&[count], &shape[..]].concat();
    let total = shape.iter().try_fold(1_usize, |all, &extent| all.checked_mul(extent));
    let mut pixels = Vec::new();
    match total.map(|total| (total, pixels.try_reserve_exact(total))) {
        Some((total, Ok(()))) => pixels.resize(total, 0),
        _ => return Err(DataError::TooLarge { path: path.to_owned(), shape }),
    }
    Ok(pixels)
}

impl ImageFolder {
    /// Images resized to this many pixels, whatever their shape: smoothed where they shrink, linear where they grow, as
    /// Pillow's bilinear filter does.
    pub fn new(height: usize, width: usize, colour: Colour) -> Self {
        Self { height, width, colour }
    }

    /// All images within the folders in `root`, and the names of these folders: each is a class, numbered in the order
    /// of their names. Within a class, images of folders in it count too, in the order of names. What an image's camera
    /// says about its orientation is ignored, as torchvision does.
    ///
    /// PNG, JPEG, BMP and PNM files are decoded, on all cores; what they hold is told by their contents, not by their
    /// names. Names that begin with a dot, files next to the classes, and files whose names are not those of images
    /// are passed over. All images are held in memory, `channels * height * width` bytes each.
    ///
    /// # Errors
    /// * [`DataError::Setting`] when the size has no pixels, [`DataError::TooLarge`] when there is no memory for them,
    /// * [`DataError::NoClasses`] when there is no folder in `root`, [`DataError::Classes`] when there are more than 256,
    /// * [`DataError::Image`] when a class has no image, at an image of another format, such as WebP, and naming a file
    ///   that can't be decoded or ends early,
    /// * [`DataError::Io`] when a folder can't be read.
    pub fn read(&self, root: impl AsRef<Path>) -> Result<(Images, Vec<String>), DataError> {
        let root = root.as_ref();
        let (found, classes) = self.files(root)?;
        let pixels = self.decode_all(&found.files, found.shape, root)?;
        Ok((Images::new(pixels, found.labels, found.shape, classes.len())?, classes))
    }

    /// The same images where they lie, to be decoded when they are asked for: for folders that don't fit in memory, which
    /// [`Streaming`](crate::Streaming) trains on.
    ///
    /// # Errors
    /// As [`read`](Self::read), but for what is within the files.
    pub fn files(&self, root: impl AsRef<Path>) -> Result<(ImageFiles, Vec<String>), DataError> {
        let root = root.as_ref();
        let shape = self.shape()?;
        let folders = entries(root, |_, path| path.is_dir())?;
        if folders.is_empty() {
            return Err(DataError::NoClasses { path: root.to_owned() });
        }
        let classes: Vec<String> = folders.iter().map(|(name, _)| name.clone()).collect();
        check_classes(&classes)?;

        let (mut files, mut labels) = (Vec::new(), Vec::new());
        for ((_, folder), label) in folders.iter().zip(0..=u8::MAX) {
            let before = files.len();
            collect(folder, &mut files)?;
            if files.len() == before {
                return Err(DataError::Image { path: folder.clone(), reason: ImageFault::Empty });
            }
            labels.resize(files.len(), label);
        }
        Ok((ImageFiles { reader: *self, shape, files, labels }, classes))
    }

    /// The pixels of one image, `[channels, height, width]`, brought to size.
    ///
    /// # Errors
    /// As [`read`](Self::read), for this file.
    pub fn image(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, DataError> {
        let mut pixels = room(1, self.shape()?, path.as_ref())?;
        self.decode(path.as_ref(), &mut pixels)?;
        Ok(pixels)
    }

    /// `[channels, height, width]`.
    fn shape(&self) -> Result<[usize; 3], DataError> {
        let [height, width] = [self.height, self.width];
        let sound = |side: usize| side > 0 && u32::try_from(side).is_ok();
        if !(sound(height) && sound(width)) {
            let expected = "at least one pixel each way, and less than 2^32";
            let value = format!("{height} x {width}");
            return Err(DataError::setting("the size of images", value, expected));
        }
        Ok([if self.colour == Colour::Grey { 1 } else { 3 }, height, width])
    }

    fn decode_all(
        &self,
        files: &[PathBuf],
        shape: [usize; 3],
        root: &Path,
    ) -> Result<Vec<u8>, DataError> {
        let mut pixels = room(files.len(), shape, root)?;
        let places = pixels.par_chunks_mut(shape.iter().product());
        places.zip(files).try_for_each(|(place, path)| self.decode(path, place))?;
        Ok(pixels)
    }

    /// Puts the pixels of a file into their place, plane by plane.
    pub(super) fn decode(&self, path: &Path, place: &mut [u8]) -> Result<(), DataError> {
        let faulty = |reason| DataError::Image { path: path.to_owned(), reason };
        let bytes = fs::read(path).map_err(DataError::at(path))?;
        let reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format();
        let reader = reader.map_err(DataError::at(path))?;
        if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_ends(&bytes) {
            return Err(faulty(ImageFault::EndsEarly));
        }
        let image = reader.decode().map_err(|error| faulty(error.into()))?;
        let image = match self.colour {
            Colour::Grey => DynamicImage::ImageLuma8(image.into_luma8()),
            Colour::Rgb => DynamicImage::ImageRgb8(image.into_rgb8()),
        };
        let [height, width] = [self.height, self.width];
        // Sides were checked to fit.
        let resized = image.resize_exact(width as u32, height as u32, FilterType::Triangle);
        let channels = place.len() / (height * width);
        for (at, pixel) in resized.as_bytes().chunks_exact(channels).enumerate() {
            for (channel, &value) in pixel.iter().enumerate() {
                place[channel * height * width + at] = value;
            }
        }
        Ok(())
    }
}

/// Adds all images in a folder and those in it, in the order of names.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    for (_, path) in entries(folder, |_, _| true)? {
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Ok(format) = ImageFormat::from_path(&path) {
            if !format.reading_enabled() {
                let expected = "PNG, JPEG, BMP or PNM";
                let reason = ImageFault::Format { found: format!("{format:?}"), expected };
                return Err(DataError::Image { path, reason });
            }
            files.push(path);
        }
    }
    Ok(())
}

/// Whether a JPEG file holds the marker of its end. The decoder paints what is missing of a shorter one grey.
///
/// Segments before the first scan are skipped by their lengths, for they may hold a whole JPEG image, a thumbnail.
/// Within a scan `ff` is followed by zero or by the number of a restart (ITU-T T.81, B.1.1).
fn jpeg_ends(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let [0xff, marker, high, low, ..] = *rest {
        if marker == START_OF_SCAN {
            return rest.windows(2).any(|pair| pair == [0xff, 0xd9]);
        }
        // Markers may be preceded by any number of fill bytes.
        let skip =
            if marker == 0xff { 1 } else { 2 + usize::from(u16::from_be_bytes([high, low])) };
        rest = rest.get(skip..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests;
