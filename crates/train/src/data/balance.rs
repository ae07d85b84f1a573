//! What makes up for rare classes: weights, and an order in which samples come by their weight.

use super::{DataError, check_labels, rng::Rng};

/// A weight for each class such that all classes weigh the same together, and the mean over the samples is 1:
/// `samples / (classes * samples of the class)`, where only classes with samples count. A class without samples weighs
/// nothing.
///
/// # Errors
/// [`DataError::Label`] when a label is not below `classes`.
pub fn class_weights(labels: &[u8], classes: usize) -> Result<Vec<f64>, DataError> {
    check_labels("labels", labels, classes)?;
    let mut counts = vec![0_usize; classes];
    labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    let present = counts.iter().filter(|&&count| count > 0).count();
    let weight = |&count: &usize| match count {
        0 => 0.0,
        count => labels.len() as f64 / (present * count) as f64,
    };
    Ok(counts.iter().map(weight).collect())
}

/// The numbers of `count` samples, drawn one after the other with a probability proportional to their weight, which
/// may be drawn again: what [`Subset::subset`](super::Subset::subset) takes. The same seed gives the same numbers, and
/// the first of them whatever the `count`.
///
/// With `class_weights(labels)[label]` for each sample, all classes come equally often in the mean.
///
/// # Errors
/// [`DataError::Setting`] when a weight is negative or not finite, or all are zero.
pub fn weighted_order(weights: &[f64], count: usize, seed: u64) -> Result<Vec<usize>, DataError> {
    if let Some(wrong) = weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
        return Err(DataError::setting(
            "the weight of a sample",
            wrong,
            "zero or more, and finite",
        ));
    }
    let mut sum = 0.0;
    let sums: Vec<f64> = weights
        .iter()
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect();
    if !(sum.is_finite() && sum > 0.0) {
        return Err(DataError::setting("the sum of all weights", sum, "above zero, and finite"));
    }
    // The product may be rounded up to the sum, and sums beyond the last sample of weight are all the same.
    let last = weights.iter().rposition(|&weight| weight > 0.0).unwrap_or(0);
    let mut rng = Rng::new(seed, 0);
    let mut draw = || {
        let place = rng.fraction() * sum;
        sums.partition_point(|&upto| upto <= place).min(last)
    };
    Ok((0..count).map(|_| draw()).collect())
}

#[cfg(test)]
mod tests;
