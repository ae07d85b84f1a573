//! Data sets in memory one after the other.

use super::{
    DataError, Images,
    table::{Classes, Table, Targets, Values},
    text::{Sequences, Texts},
};

/// Data sets in memory that can follow each other: [`Images`], [`Texts`], [`Sequences`] and [`Table`]s. What comes out
/// is a data set like any other, of one part where these are of one, so batches hold samples of both.
pub trait Join: Sized {
    /// The samples of this data set, and then those of another one.
    ///
    /// # Errors
    /// [`DataError::Unlike`] when samples of the two differ in shape, or their classes are not the same.
    fn join(&self, other: &Self) -> Result<Self, DataError>;
}

/// Refuses what is not the same in both.
fn alike<T: PartialEq + std::fmt::Debug>(
    what: &'static str,
    first: &T,
    second: &T,
) -> Result<(), DataError> {
    match first == second {
        true => Ok(()),
        false => {
            let [first, second] = [first, second].map(|value| format!("{value:?}"));
            Err(DataError::Unlike { what, first, second })
        }
    }
}

fn joined<T: Clone>(first: &[T], second: &[T]) -> Vec<T> {
    [first, second].concat()
}

impl Join for Images {
    fn join(&self, other: &Self) -> Result<Self, DataError> {
        alike("shapes", &self.shape(), &other.shape())?;
        alike("numbers of classes", &self.classes, &other.classes)?;
        let labels = joined(&self.labels, &other.labels);
        Self::new(joined(&self.pixels, &other.pixels), labels, self.shape(), self.classes)
    }
}

impl Join for Texts {
    fn join(&self, other: &Self) -> Result<Self, DataError> {
        alike("classes", &self.classes, &other.classes)?;
        let labels = joined(&self.labels, &other.labels);
        Self::new(joined(&self.texts, &other.texts), labels, self.classes.clone())
    }
}

/// They must have been encoded with the same vocabulary, which isn't known any more.
impl Join for Sequences {
    fn join(&self, other: &Self) -> Result<Self, DataError> {
        alike("numbers of classes", &self.classes, &other.classes)?;
        Ok(Self {
            tokens: joined(&self.tokens, &other.tokens),
            labels: joined(&self.labels, &other.labels),
            classes: self.classes,
            cut: self.cut + other.cut,
        })
    }
}

impl Join for Classes {
    fn join(&self, other: &Self) -> Result<Self, DataError> {
        alike("classes", &self.names, &other.names)?;
        Ok(Self { labels: joined(&self.labels, &other.labels), names: self.names.clone() })
    }
}

impl Join for Values {
    fn join(&self, other: &Self) -> Result<Self, DataError> {
        Ok(Self(joined(&self.0, &other.0)))
    }
}

impl<T: Targets + Join> Join for Table<T> {
    fn join(&self, other: &Self) -> Result<Self, DataError> {
        alike("columns", &self.columns, &other.columns)?;
        let features = joined(&self.features, &other.features);
        Self::new(features, self.columns.clone(), self.targets.join(&other.targets)?)
    }
}

#[cfg(test)]
mod tests;
