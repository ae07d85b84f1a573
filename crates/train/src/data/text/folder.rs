//! Texts from a folder with one folder for each class and one file for each text, the layout of
//! the Large Movie Review Dataset (Maas et al., "Learning word vectors for sentiment analysis",
//! 2011): `train/neg/0_3.txt`, `train/pos/0_9.txt`, and `train/unsup` without labels.

use std::{fs, path::Path};

use super::{DataError, Reading, Report, TextFault, Texts, check_classes, lines::decode};
use crate::data::folder::entries;

/// The folder of texts that nobody labelled.
const UNLABELLED: &str = "unsup";

impl Texts {
    /// The texts of the files `*.txt` in the folders within `path`: each of these is a class of
    /// that name. Classes are sorted by name, and so are the texts of a class.
    ///
    /// The texts of a class stand together, so they must be shuffled before a part of them is
    /// taken. Passed over are the folder `unsup`, names that begin with a dot, and other files.
    ///
    /// # Errors
    ///
    /// * [`DataError::Io`] when a folder or a file can't be read,
    /// * [`DataError::NoClasses`] when there is no folder of a class, [`DataError::Classes`] when
    ///   there are more than 256,
    /// * [`DataError::Text`] at the first file that is not UTF-8 or empty, unless those are
    ///   [skipped](Reading::skip_bad) and counted,
    /// * [`DataError::Nothing`] when a class has no text (left).
    pub fn folder(path: impl AsRef<Path>, reading: &Reading) -> Result<(Self, Report), DataError> {
        let path = path.as_ref();
        let folders = entries(path, |name, path| name != UNLABELLED && path.is_dir())?;
        if folders.is_empty() {
            return Err(DataError::NoClasses { path: path.to_owned() });
        }
        let classes: Vec<String> = folders.iter().map(|(name, _)| name.clone()).collect();
        check_classes(&classes)?;

        let (mut texts, mut labels) = (Vec::new(), Vec::new());
        let mut report = Report::of("file");
        for ((class, folder), label) in folders.iter().zip(0..=u8::MAX) {
            let used = report.used;
            for (name, file) in
                entries(folder, |name, path| name.ends_with(".txt") && path.is_file())?
            {
                let bytes = fs::read(&file).map_err(DataError::at(&file))?;
                match parse(&bytes) {
                    Ok(text) => {
                        texts.push(text.to_owned());
                        labels.push(label);
                        report.used += 1;
                    }
                    Err(fault) if reading.skip_bad => {
                        report.skip(fault, || format!("{class}/{name}"));
                    }
                    Err(reason) => return Err(DataError::Text { path: file, reason }),
                }
            }
            if report.used == used {
                return Err(DataError::Nothing { path: folder.clone(), report });
            }
        }
        Ok((Self::new(texts, labels, classes)?, report))
    }
}

/// The text of a file.
fn parse(bytes: &[u8]) -> Result<&str, TextFault> {
    let text = decode(bytes)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() { Err(TextFault::Empty) } else { Ok(text) }
}

#[cfg(test)]
mod tests;
