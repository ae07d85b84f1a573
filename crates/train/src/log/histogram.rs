//! Histograms with the buckets of TensorFlow: limits that grow by a tenth from 1e-12 on, on both sides of zero, so that
//! weights and gradients of any size show their shape.

use super::event::Message;

const SMALLEST: f64 = 1e-12;
const LARGEST: f64 = 1e20;
const GROWTH: f64 = 1.1;

/// How many values are in which bucket, and what else is shown of them.
#[derive(Debug, PartialEq)]
pub(super) struct Histogram {
    min: f64,
    max: f64,
    count: f64,
    sum: f64,
    squares: f64,
    /// Upper ends of the buckets, ascending; they are below the next and not in the bucket itself.
    limits: Vec<f64>,
    buckets: Vec<f64>,
}

impl Histogram {
    /// The histogram of finite values, of which there is at least one.
    pub(super) fn of(values: &[f32]) -> Self {
        let mut limits = limits();
        let mut buckets = vec![0.0; limits.len()];
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut sum, mut squares) = (0.0, 0.0);
        for value in values.iter().map(|&value| f64::from(value)) {
            buckets[limits.partition_point(|&limit| limit <= value)] += 1.0;
            (min, max) = (min.min(value), max.max(value));
            sum += value;
            squares += value * value;
        }
        // An empty bucket remains in front: its end is where the first begins.
        let used = |bucket: &f64| *bucket > 0.0;
        let end = buckets.iter().rposition(used).map_or(0, |last| last + 1);
        let start = buckets.iter().position(used).unwrap_or(0).saturating_sub(1);
        let (limits, buckets) =
            (limits.drain(start..end).collect(), buckets.drain(start..end).collect());
        Self { min, max, count: values.len() as f64, sum, squares, limits, buckets }
    }

    /// As `HistogramProto` of TensorFlow's `summary.proto`.
    pub(super) fn message(&self) -> Message {
        let numbers = [self.min, self.max, self.count, self.sum, self.squares];
        let fields = (1..).zip(numbers);
        let message = fields.fold(Message::default(), |m, (field, number)| m.double(field, number));
        message.doubles(6, &self.limits).doubles(7, &self.buckets)
    }
}

/// The upper ends of all buckets, the last above every number.
fn limits() -> Vec<f64> {
    let sizes = std::iter::successors(Some(SMALLEST), |size| Some(size * GROWTH));
    let above: Vec<f64> = sizes.take_while(|size| *size < LARGEST).chain([f64::MAX]).collect();
    let below = above.iter().rev().map(|limit| -limit);
    below.chain([0.0]).chain(above.iter().copied()).collect()
}

#[cfg(test)]
mod tests;
