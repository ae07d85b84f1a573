//! How files of texts and word vectors are read, and what was skipped on the way.

use std::{fmt, mem};

use super::TextFault;

/// How to read: which labels there are, and what happens to what can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub(super) classes: Vec<String>,
    pub(super) skip_bad: bool,
}

impl Default for Reading {
    /// Labels `0` and `1`; what can't be used is an error.
    fn default() -> Self {
        Self { classes: ["0", "1"].map(str::to_owned).to_vec(), skip_bad: false }
    }
}

impl Reading {
    /// The labels of a [TSV file](super::Texts::tsv), exactly as they are written there; a label's
    /// place in this list is its class. [Folders](super::Texts::folder) name their own.
    #[must_use]
    pub fn classes<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.classes = names.into_iter().map(Into::into).collect();
        self
    }

    /// Whether lines (or files of one text) that can't be used are skipped and counted in the
    /// [`Report`], rather than being an error.
    #[must_use]
    pub fn skip_bad(mut self, skip: bool) -> Self {
        self.skip_bad = skip;
        self
    }
}

/// What was read and what was skipped. Its text is made for printing: "skipped 3 lines: 2 without
/// a tab (first at line 17), 1 of unknown label (first at line 40)".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many lines (or files of one text) were used.
    pub used: usize,
    /// What was skipped, by its kind of fault, in the order the kinds were met.
    pub skipped: Vec<Skipped>,
    /// What is counted, in the singular.
    unit: &'static str,
}

/// Lines (or files of one text) that were skipped for the same kind of fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// What was wrong with the first of them.
    pub fault: TextFault,
    /// How many there were.
    pub count: usize,
    /// Where the first of them is: "line 17", or the name of a file.
    pub first: String,
}

impl Report {
    /// Nothing read yet, of what is called `unit`.
    pub(super) fn of(unit: &'static str) -> Self {
        Self { used: 0, skipped: Vec::new(), unit }
    }

    /// How many lines (or files of one text) were skipped.
    pub fn count(&self) -> usize {
        self.skipped.iter().map(|skipped| skipped.count).sum()
    }

    /// Counts something skipped.
    pub(super) fn skip(&mut self, fault: TextFault, place: impl FnOnce() -> String) {
        let kind = mem::discriminant(&fault);
        match self.skipped.iter_mut().find(|other| mem::discriminant(&other.fault) == kind) {
            Some(same) => same.count += 1,
            None => self.skipped.push(Skipped { fault, count: 1, first: place() }),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit;
        match self.count() {
            0 => write!(f, "skipped no {unit}s")?,
            1 => write!(f, "skipped 1 {unit}")?,
            count => write!(f, "skipped {count} {unit}s")?,
        }
        let mut separator = ": ";
        for Skipped { fault, count, first } in &self.skipped {
            write!(f, "{separator}{count} {} (first at {first})", fault.kind())?;
            separator = ", ";
        }
        Ok(())
    }
}
