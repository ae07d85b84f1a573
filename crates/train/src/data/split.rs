//! Which samples are trained on and which are held back.
//!
//! Every sample is in exactly one of the two parts, and with folds held back exactly once. The same seed gives the same
//! parts on every platform.

use std::collections::BTreeMap;

use super::{DataError, Subset, rng::Rng};

/// The numbers of samples in two parts, each in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Those to train on.
    pub train: Vec<usize>,
    /// Those held back, to validate or to test with.
    pub held: Vec<usize>,
}

impl Split {
    /// Holds back a share of `count` samples, rounded to whole ones, whatever their classes.
    ///
    /// # Errors
    /// [`DataError::Setting`] when the share is not between 0 and 1, or leaves a part without samples.
    pub fn fraction(count: usize, held: f64, seed: u64) -> Result<Self, DataError> {
        Self::stratified(&vec![(); count], held, seed)
    }

    /// Holds back a share of the samples of each class. `classes` has the class of each sample: labels, or the text of
    /// a column. Of each class the share is rounded up or down such that it is right in total.
    ///
    /// # Errors
    /// As [`fraction`](Self::fraction).
    pub fn stratified<K: Ord>(classes: &[K], held: f64, seed: u64) -> Result<Self, DataError> {
        if !(held > 0.0 && held < 1.0) {
            return Err(DataError::setting("the share held back", held, "between 0 and 1"));
        }
        let total = (classes.len() as f64 * held).round() as usize;
        if total == 0 || total == classes.len() {
            let value = format!("{total} of {}", classes.len());
            let expected = "at least one, and not all";
            return Err(DataError::setting("the number of samples held back", value, expected));
        }
        let strata = strata(classes, seed);
        // Whole samples first; those that are missing in total come from the classes that lost most by rounding down.
        let exact: Vec<f64> = strata.iter().map(|stratum| stratum.len() as f64 * held).collect();
        let mut counts: Vec<usize> = exact.iter().map(|&share| share as usize).collect();
        let mut order: Vec<usize> = (0..strata.len()).collect();
        order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
        let missing = total.saturating_sub(counts.iter().sum());
        order.iter().take(missing).for_each(|&stratum| counts[stratum] += 1);
        let taken = strata.iter().zip(&counts).flat_map(|(stratum, &n)| stratum.iter().take(n));
        Ok(Self::holding(classes.len(), taken.copied()))
    }

    /// `folds` splits of `count` samples for cross-validation: each sample is held back in exactly one. They hold back
    /// as many samples as each other, or one more.
    ///
    /// # Errors
    /// [`DataError::Setting`] when there are fewer than two folds, or more than samples.
    pub fn folds(count: usize, folds: usize, seed: u64) -> Result<Vec<Self>, DataError> {
        Self::stratified_folds(&vec![(); count], folds, seed)
    }

    /// As [`folds`](Self::folds), with as many samples of each class in each fold, or one more.
    ///
    /// # Errors
    /// As [`folds`](Self::folds).
    pub fn stratified_folds<K: Ord>(
        classes: &[K],
        folds: usize,
        seed: u64,
    ) -> Result<Vec<Self>, DataError> {
        if folds < 2 || folds > classes.len() {
            let expected = format!("from 2 to the number of samples, {}", classes.len());
            return Err(DataError::setting("the number of folds", folds, &expected));
        }
        // Dealt out class after class without a break, neither a class nor the whole is off by more than one.
        let dealt = strata(classes, seed).concat();
        let fold = |first: usize| dealt.iter().skip(first).step_by(folds).copied();
        Ok((0..folds).map(|first| Self::holding(classes.len(), fold(first))).collect())
    }

    /// The two parts of a data set, as many samples as were split: those to train on, and those held back.
    ///
    /// # Errors
    /// [`DataError::Setting`] when it has more or fewer samples.
    pub fn of<D: Subset>(&self, data: &D) -> Result<(D, D), DataError> {
        let (split, found) = (self.train.len() + self.held.len(), data.samples());
        if split != found {
            let expected = format!("{split}, as many as were split");
            return Err(DataError::setting("the number of samples", found, &expected));
        }
        Ok((data.subset(&self.train)?, data.subset(&self.held)?))
    }

    /// Holds back these of `count` samples.
    fn holding(count: usize, held: impl Iterator<Item = usize>) -> Self {
        let mut is_held = vec![false; count];
        held.for_each(|number| is_held[number] = true);
        let (held, train) = (0..count).partition(|&number| is_held[number]);
        Self { train, held }
    }
}

/// The samples of each class in a random order, the classes in ascending order.
fn strata<K: Ord>(classes: &[K], seed: u64) -> Vec<Vec<usize>> {
    let mut strata = BTreeMap::<&K, Vec<usize>>::new();
    for (number, class) in classes.iter().enumerate() {
        strata.entry(class).or_default().push(number);
    }
    let mut strata: Vec<Vec<usize>> = strata.into_values().collect();
    for (stream, stratum) in strata.iter_mut().enumerate() {
        Rng::new(seed, stream as u64).shuffle(stratum);
    }
    strata
}

#[cfg(test)]
mod tests;
