//! MNIST (LeCun, Cortes and Burges): 60 000 handwritten digits to train on and 10 000 to test on,
//! 28x28 grey.
//!
//! Read from the four published files (gzipped or not), which may also be those of a data set made
//! to replace them, such as Fashion-MNIST. It refuses images that are not 28x28, labels above 9
//! and files that do not belong together. Downloads are pinned by SHA-256.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    DataError, Images, check_labels,
    download::{Pinned, Progress, fetch},
    drawn, idx,
};

const CLASSES: usize = 10;
const SIDE: usize = 28;

/// Plain http is sound here: what arrives is used only if its SHA-256 is the one written below, so
/// nobody on the way can change a byte, and there is nothing to keep secret. It spares every user
/// a TLS stack, which is larger than the rest of this crate.
const MIRRORS: [&str; 2] = [
    "http://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://storage.googleapis.com/cvdf-datasets/mnist/",
];

/// The published files: size and digest of their *unpacked* contents, because mirrors are free to
/// compress them in their own way.
const FILES: [Pinned; 4] = [
    Pinned {
        name: "train-images-idx3-ubyte.gz",
        bytes: 47_040_016,
        sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    },
    Pinned {
        name: "train-labels-idx1-ubyte.gz",
        bytes: 60_008,
        sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    },
    Pinned {
        name: "t10k-images-idx3-ubyte.gz",
        bytes: 7_840_016,
        sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    },
    Pinned {
        name: "t10k-labels-idx1-ubyte.gz",
        bytes: 10_008,
        sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
];

/// The handwritten digits of MNIST.
#[derive(Clone, Copy, Debug)]
pub struct Mnist;

/// Where the digits that [`Mnist::find`] returned come from. Its text is made for printing.
#[derive(Debug)]
#[non_exhaustive]
pub enum Source {
    /// The folder that was asked for.
    Directory(PathBuf),
    /// Files of an earlier download.
    Cache(PathBuf),
    /// Files downloaded just now, into this folder.
    Downloaded(PathBuf),
    /// Digits drawn by the program, for want of the real ones.
    Drawn {
        /// Why the real ones could not be had.
        reason: DataError,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(dir) => write!(f, "MNIST from {}", dir.display()),
            Self::Cache(dir) => write!(f, "MNIST from the cache, {}", dir.display()),
            Self::Downloaded(dir) => write!(f, "MNIST, downloaded to {}", dir.display()),
            Self::Drawn { reason } => {
                write!(f, "digits drawn by the program, NOT MNIST ({reason})")
            }
        }
    }
}

impl Mnist {
    /// The training images in `dir`: 60 000 of `[1, 28, 28]`.
    ///
    /// Files may be gzipped or not, and named `train-images-idx3-ubyte` or
    /// `train-images.idx3-ubyte`, each with or without `.gz`.
    ///
    /// # Errors
    ///
    /// When a file is missing, damaged, or not a data set of 28x28 images in ten classes.
    pub fn train(dir: impl AsRef<Path>) -> Result<Images, DataError> {
        load(dir.as_ref(), "train")
    }

    /// The test images in `dir`: 10 000 of `[1, 28, 28]`. Files are named as for
    /// [`train`](Self::train), but `t10k-...`.
    ///
    /// # Errors
    ///
    /// As [`train`](Self::train).
    pub fn test(dir: impl AsRef<Path>) -> Result<Images, DataError> {
        load(dir.as_ref(), "t10k")
    }

    /// The folder downloads are kept in: `mnist` within `$SHADEGRAD_CACHE`, else within
    /// `shadegrad` in `$XDG_CACHE_HOME`, `%LOCALAPPDATA%` (on Windows) or `~/.cache`.
    ///
    /// `None` when the environment names none of these.
    pub fn cache_dir() -> Option<PathBuf> {
        Some(shadegrad_device::cache_dir()?.join("mnist"))
    }

    /// Downloads the four files to `dir`, which is made if need be. Files already there and whole
    /// are kept. Each file appears in `dir` only when complete and verified.
    ///
    /// # Errors
    ///
    /// When no mirror delivers a file with the published contents, or `dir` cannot be written.
    pub fn download(dir: impl AsRef<Path>, progress: Progress) -> Result<(), DataError> {
        download_from(&MIRRORS, dir.as_ref(), progress)
    }

    /// The training and test images from wherever they can be had, and where that was.
    ///
    /// With `data`, they are read from that folder and nowhere else. Without, from the
    /// [cache](Self::cache_dir), after a download if need be; and where there is no network
    /// either, 12 000 and 2 000 [digits are drawn](drawn::digits) instead.
    ///
    /// # Errors
    ///
    /// Only with `data`: as [`train`](Self::train).
    pub fn find(data: Option<&Path>) -> Result<(Images, Images, Source), DataError> {
        find_from(&MIRRORS, data, Self::cache_dir())
    }
}

fn find_from(
    mirrors: &[&str],
    data: Option<&Path>,
    cache: Option<PathBuf>,
) -> Result<(Images, Images, Source), DataError> {
    let both = |dir: &Path| Ok::<_, DataError>((Mnist::train(dir)?, Mnist::test(dir)?));
    if let Some(dir) = data {
        let (train, test) = both(dir)?;
        return Ok((train, test, Source::Directory(dir.to_owned())));
    }
    let real = cache.ok_or(DataError::NoCacheDir).and_then(|dir| {
        if let Ok((train, test)) = both(&dir) {
            return Ok((train, test, Source::Cache(dir)));
        }
        download_from(mirrors, &dir, Progress::Bar)?;
        let (train, test) = both(&dir)?;
        Ok((train, test, Source::Downloaded(dir)))
    });
    Ok(real.unwrap_or_else(|reason| {
        (drawn::digits(12_000, 1), drawn::digits(2_000, 2), Source::Drawn { reason })
    }))
}

fn download_from(mirrors: &[&str], dir: &Path, progress: Progress) -> Result<(), DataError> {
    FILES.iter().try_for_each(|file| fetch(file, mirrors, dir, progress))
}

fn load(dir: &Path, part: &str) -> Result<Images, DataError> {
    let image_path = locate(dir, &format!("{part}-images"), "idx3-ubyte")?;
    let label_path = locate(dir, &format!("{part}-labels"), "idx1-ubyte")?;
    let labels = idx::read_if(&label_path, |shape| match shape {
        [_] => Ok(()),
        _ => Err(wrong_shape(&label_path, "[count]", shape)),
    })?;
    // The few labels come first: with their number known, a hostile file of images cannot make
    // the reader unpack more than that many.
    let count = labels.data.len();
    let images = idx::read_if(&image_path, |shape| match *shape {
        [images, SIDE, SIDE] if images == count => Ok(()),
        [images, SIDE, SIDE] => Err(DataError::Count {
            images: image_path.clone(),
            image_count: images,
            labels: label_path.clone(),
            label_count: count,
        }),
        _ => Err(wrong_shape(&image_path, "[count, 28, 28]", shape)),
    })?;
    check_labels(&label_path.display().to_string(), &labels.data, CLASSES)?;
    Images::new(images.data, labels.data, [1, SIDE, SIDE], CLASSES)
}

fn wrong_shape(path: &Path, expected: &'static str, found: &[usize]) -> DataError {
    DataError::Shape { path: path.to_owned(), expected, found: found.to_vec() }
}

/// The file of that name in one of its usual spellings.
fn locate(dir: &Path, stem: &str, kind: &str) -> Result<PathBuf, DataError> {
    let names =
        ["-", "."].map(|dot| ["", ".gz"].map(|gz| format!("{stem}{dot}{kind}{gz}"))).concat();
    match names.iter().map(|name| dir.join(name)).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => Err(DataError::Missing { dir: dir.to_owned(), names }),
    }
}

#[cfg(test)]
mod tests;
