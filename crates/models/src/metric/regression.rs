//! Metrics of numbers.

use super::{Metric, mean_of};
use shadegrad_graph::Tensor;

/// The mean of squared differences.
#[derive(Clone, Copy, Debug)]
pub struct MeanSquaredError;

/// The mean of absolute differences.
#[derive(Clone, Copy, Debug)]
pub struct MeanAbsoluteError;

/// The coefficient of determination: one less the squared differences over those from the targets' mean, of all outputs
/// together. One is perfect, zero as good as saying the mean.
#[derive(Clone, Copy, Debug)]
pub struct R2Score;

macro_rules! mean_error {
    ($metric:ident, $name:literal, $of:expr) => {
        impl Metric for $metric {
            fn name(&self) -> String {
                $name.to_string()
            }

            fn higher_is_better(&self) -> bool {
                false
            }

            #[track_caller]
            fn sums(&self, output: &Tensor, target: &Tensor, weight: &Tensor) -> Vec<Tensor> {
                let of: fn(&Tensor) -> Tensor = $of;
                mean_of(&of(&(output - target)), weight)
            }
        }
    };
}

mean_error!(MeanSquaredError, "mean_squared_error", Tensor::square);
mean_error!(MeanAbsoluteError, "mean_absolute_error", Tensor::abs);

impl Metric for R2Score {
    fn name(&self) -> String {
        "r2_score".to_string()
    }

    fn sizes(&self) -> Vec<usize> {
        vec![1; 4]
    }

    #[track_caller]
    fn sums(&self, output: &Tensor, target: &Tensor, weight: &Tensor) -> Vec<Tensor> {
        let of = |each: &Tensor| (each * weight).sum_all();
        let (total, count) = (of(target), weight.sum_all());
        // From the batch's own mean: squares of large numbers would cancel in f32.
        let mean = &total / count.clamp_min(1.0);
        let spread = of(&(target - &mean).square());
        vec![of(&(output - target).square()), spread, mean, count]
    }

    /// Squared errors, the spread of each batch and of the batches' means from zero, the means' sum, the number.
    fn added(&self, sums: &[f64]) -> Vec<f64> {
        let [error, spread, mean, count] = [0, 1, 2, 3].map(|sum| sums[sum]);
        vec![error, spread + count * mean * mean, count * mean, count]
    }

    fn value(&self, sums: &[f64]) -> f64 {
        let [error, squares, total, count] = [0, 1, 2, 3].map(|sum| sums[sum]);
        1.0 - error / (squares - total * total / count)
    }
}
