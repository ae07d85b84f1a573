//! CIFAR-10 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009): 50 000 colour images of 32x32
//! to train on and 10 000 to test on, in ten classes.
//!
//! Read from the "binary version" of <https://www.cs.toronto.edu/~kriz/cifar.html>, unpacked: a record is the class as
//! one byte and then the red, the green and the blue plane, each row by row. It refuses files that don't end with a
//! record and classes above 9.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{DataError, ImageFault, Images, check_classes, check_labels};

const CLASSES: usize = 10;
const SHAPE: [usize; 3] = [3, 32, 32];
const RECORD: usize = 1 + 3 * 32 * 32;

/// The tiny images of CIFAR-10.
#[derive(Clone, Copy, Debug)]
pub struct Cifar10;

impl Cifar10 {
    /// The training images in `dir`, `[3, 32, 32]` each: those of `data_batch_1.bin` to `data_batch_5.bin` one after the
    /// other, 50 000 as published.
    ///
    /// # Errors
    /// [`DataError::Io`] when a file can't be read, [`DataError::Image`] when it is empty or doesn't end with a
    /// record, [`DataError::Label`] when a class is not below 10.
    pub fn train(dir: impl AsRef<Path>) -> Result<Images, DataError> {
        let name = |number| dir.as_ref().join(format!("data_batch_{number}.bin"));
        read(&[1, 2, 3, 4, 5].map(name))
    }

    /// The test images in `dir`, `[3, 32, 32]` each: those of `test_batch.bin`, 10 000 as published.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn test(dir: impl AsRef<Path>) -> Result<Images, DataError> {
        read(&[dir.as_ref().join("test_batch.bin")])
    }

    /// The names of the ten classes, from `batches.meta.txt` in `dir`.
    ///
    /// # Errors
    /// [`DataError::Io`] when the file can't be read, [`DataError::Image`] when it doesn't hold ten names, a line each,
    /// [`DataError::Classes`] when two are the same.
    pub fn classes(dir: impl AsRef<Path>) -> Result<Vec<String>, DataError> {
        let path = dir.as_ref().join("batches.meta.txt");
        let text = fs::read_to_string(&path).map_err(DataError::at(&path))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let names: Vec<String> = lines.map(str::to_owned).collect();
        if names.len() != CLASSES {
            let reason = ImageFault::Names { expected: CLASSES, found: names.len() };
            return Err(DataError::Image { path, reason });
        }
        check_classes(&names)?;
        Ok(names)
    }
}

fn read(paths: &[PathBuf]) -> Result<Images, DataError> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
        let bytes = fs::read(path).map_err(DataError::at(path))?;
        if bytes.is_empty() || bytes.len() % RECORD != 0 {
            let reason = ImageFault::Records { record: RECORD, found: bytes.len() };
            return Err(DataError::Image { path: path.clone(), reason });
        }
        let before = labels.len();
        for record in bytes.chunks_exact(RECORD) {
            labels.extend(record.first());
            pixels.extend(record.iter().skip(1));
        }
        check_labels(&path.display().to_string(), &labels[before..], CLASSES)?;
    }
    Images::new(pixels, labels, SHAPE, CLASSES)
}

#[cfg(test)]
mod tests;
