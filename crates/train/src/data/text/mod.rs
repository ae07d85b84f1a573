//! Labelled texts, and what turns them into numbers a network can be trained on.
//!
//! * [`Texts`]: texts with one class each, from a [TSV file](Texts::tsv), from
//!   [folders of files](Texts::folder), or [`generated`] by a grammar.
//! * [`tokenize`]: the words of a text; [`Vocabulary`]: a number for each of them; [`Characters`]: one for each
//!   character.
//! * [`Sequences`]: texts as numbers, and [`Bucket`]s of like length to train in.
//! * [`WordVectors`]: vectors of words trained elsewhere, from a GloVe file.
//!
//! It assumes that a data set fits in memory, and refuses labels outside its classes, files that
//! are not UTF-8 and lines that do not hold what their format says; [`Reading`] can have those
//! skipped and counted instead.

mod buckets;
mod characters;
mod fault;
mod folder;
mod generated;
mod lines;
mod reading;
mod sequences;
mod tokenize;
mod tsv;
mod vectors;
mod vocabulary;

pub(super) use fault::excerpt;

pub use buckets::Bucket;
pub use characters::Characters;
pub use fault::TextFault;
pub use generated::generated;
pub use reading::{Reading, Report, Skipped};
pub use sequences::Sequences;
pub use tokenize::tokenize;
pub use vectors::WordVectors;
pub use vocabulary::Vocabulary;

use super::{DataError, check_classes, check_labels};

/// A text classification data set in memory.
///
/// The fields are public so that they can be read as they are; building one with [`Texts::new`] is
/// what guarantees that they fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// The texts, as they were read.
    pub texts: Vec<String>,
    /// One class per text, each an index of [`classes`](Self::classes).
    pub labels: Vec<u8>,
    /// The names of the classes.
    pub classes: Vec<String>,
}

impl Texts {
    /// A data set of texts with one label each, the labels being indices of `classes`.
    ///
    /// # Errors
    ///
    /// [`DataError::Texts`] when there are not as many labels as texts, [`DataError::Classes`] when
    /// two classes have one name or there are more than a label can tell apart (256), and
    /// [`DataError::Label`] when a label is not below the number of classes.
    pub fn new(
        texts: Vec<String>,
        labels: Vec<u8>,
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        if texts.len() != labels.len() {
            return Err(DataError::Texts { texts: texts.len(), labels: labels.len() });
        }
        check_classes(&classes)?;
        check_labels("labels", &labels, classes.len())?;
        Ok(Self { texts, labels, classes })
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The texts in order, as [`Vocabulary::build`] takes them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(String::as_str)
    }

    /// The first `count` texts (all of them when there are fewer), for a quick run.
    #[must_use]
    pub fn first(mut self, count: usize) -> Self {
        self.texts.truncate(count);
        self.labels.truncate(count);
        self
    }
}

#[cfg(test)]
mod tests;
