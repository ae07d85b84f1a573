//! Metrics: how good outputs are, as sums over targets that the device adds up batch by batch, and what the sums mean.
//!
//! A metric of all data is computed from the sums of all batches, so it doesn't depend on how the data was cut. Outputs are
//! scores `[batch, classes, ..]` with targets `[batch, ..]`, `U32`, or numbers with targets of the same shape.

mod classification;
mod confusion;
mod regression;

pub use classification::{Accuracy, Auroc, Average, F1Score, Perplexity, Precision, Recall, TopK};
pub use confusion::ConfusionMatrix;
pub use regression::{MeanAbsoluteError, MeanSquaredError, R2Score};

use shadegrad_graph::Tensor;

/// Sums for the mean of a value.
#[track_caller]
fn mean_of(value: &Tensor, weight: &Tensor) -> Vec<Tensor> {
    vec![(value * weight).sum_all(), weight.sum_all()]
}

/// How good outputs are.
pub trait Metric {
    /// Its name in logs, such as `accuracy`.
    fn name(&self) -> String;

    /// Whether more is better.
    fn higher_is_better(&self) -> bool {
        true
    }

    /// How many numbers each of its sums is; of a mean, what is added up and how often.
    fn sizes(&self) -> Vec<usize> {
        vec![1, 1]
    }

    /// The sums over some targets, of these sizes, a single number as a scalar. `weight`, floats in the shape of the targets, is one for what counts
    /// and zero for what doesn't.
    fn sums(&self, output: &Tensor, target: &Tensor, weight: &Tensor) -> Vec<Tensor>;

    /// What is added up over batches, from the sums of one batch: these themselves, unless something else adds up more
    /// exactly. As many numbers.
    fn added(&self, sums: &[f64]) -> Vec<f64> {
        sums.to_vec()
    }

    /// The metric, from what was added up: a mean, unless it says otherwise. NaN where nothing counts.
    fn value(&self, sums: &[f64]) -> f64 {
        sums[0] / sums[1]
    }
}
