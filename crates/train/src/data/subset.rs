//! Samples picked from data sets in memory by their numbers.

use super::{
    DataError, ImageFiles, Images,
    table::{Classes, Rows, Table, Targets, Values},
    text::{Sequences, Texts},
};

/// Data sets of which samples can be picked: [`Images`], [`ImageFiles`], [`Texts`], [`Sequences`], [`Rows`] and [`Table`]s.
pub trait Subset: Sized {
    /// How many samples there are.
    fn samples(&self) -> usize;

    /// The samples of these numbers in this order, as a data set of its own. A number may come more than once, or not
    /// at all.
    ///
    /// # Errors
    /// [`DataError::Sample`] at a number that is not below [`samples`](Self::samples).
    fn subset(&self, numbers: &[usize]) -> Result<Self, DataError>;
}

/// Refuses numbers that no sample has.
fn check(numbers: &[usize], count: usize) -> Result<(), DataError> {
    match numbers.iter().find(|&&number| number >= count) {
        None => Ok(()),
        Some(&number) => Err(DataError::Sample { number, count }),
    }
}

/// Of things that come in groups of `width`, those of these numbers, which were checked.
fn picked<T: Clone>(things: &[T], width: usize, numbers: &[usize]) -> Vec<T> {
    let group = |&number: &usize| things.get(number * width..(number + 1) * width);
    numbers.iter().filter_map(group).flatten().cloned().collect()
}

impl Subset for Images {
    fn samples(&self) -> usize {
        self.labels.len()
    }

    fn subset(&self, numbers: &[usize]) -> Result<Self, DataError> {
        check(numbers, self.samples())?;
        let pixels = picked(&self.pixels, self.image_len(), numbers);
        Self::new(pixels, picked(&self.labels, 1, numbers), self.shape(), self.classes)
    }
}

impl Subset for ImageFiles {
    fn samples(&self) -> usize {
        self.len()
    }

    fn subset(&self, numbers: &[usize]) -> Result<Self, DataError> {
        check(numbers, self.samples())?;
        let (files, labels) = (picked(&self.files, 1, numbers), picked(&self.labels, 1, numbers));
        Ok(Self { files, labels, ..self.clone() })
    }
}

impl Subset for Texts {
    fn samples(&self) -> usize {
        self.texts.len()
    }

    fn subset(&self, numbers: &[usize]) -> Result<Self, DataError> {
        check(numbers, self.samples())?;
        let (texts, labels) = (picked(&self.texts, 1, numbers), picked(&self.labels, 1, numbers));
        Self::new(texts, labels, self.classes.clone())
    }
}

/// How many texts were cut is not known of a part of them: it is zero.
impl Subset for Sequences {
    fn samples(&self) -> usize {
        self.tokens.len()
    }

    fn subset(&self, numbers: &[usize]) -> Result<Self, DataError> {
        check(numbers, self.samples())?;
        let (tokens, labels) = (picked(&self.tokens, 1, numbers), picked(&self.labels, 1, numbers));
        Ok(Self { tokens, labels, classes: self.classes, cut: 0 })
    }
}

impl Subset for Rows {
    fn samples(&self) -> usize {
        self.len()
    }

    fn subset(&self, numbers: &[usize]) -> Result<Self, DataError> {
        check(numbers, self.samples())?;
        Ok(self.picked(numbers))
    }
}

impl Subset for Classes {
    fn samples(&self) -> usize {
        self.labels.len()
    }

    fn subset(&self, numbers: &[usize]) -> Result<Self, DataError> {
        check(numbers, self.samples())?;
        Ok(Self { labels: picked(&self.labels, 1, numbers), names: self.names.clone() })
    }
}

impl Subset for Values {
    fn samples(&self) -> usize {
        self.0.len()
    }

    fn subset(&self, numbers: &[usize]) -> Result<Self, DataError> {
        check(numbers, self.samples())?;
        Ok(Self(picked(&self.0, 1, numbers)))
    }
}

impl<T: Targets> Subset for Table<T> {
    fn samples(&self) -> usize {
        self.targets.samples()
    }

    fn subset(&self, numbers: &[usize]) -> Result<Self, DataError> {
        let targets = self.targets.subset(numbers)?;
        Self::new(picked(&self.features, self.width(), numbers), self.columns.clone(), targets)
    }
}

#[cfg(test)]
mod tests;
