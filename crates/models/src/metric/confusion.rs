//! The confusion matrix: how often each class was taken for which.

use super::Metric;
use shadegrad_device::DType;
use shadegrad_graph::Tensor;

/// Most targets of a batch: up to here every whole number is an `f32`, so counts are exact.
const EXACT: usize = 1 << 24;

/// Most classes: a word numbers the cells.
const CLASSES: usize = 1 << 15;

/// How often each class was said to be which: counts `[target, predicted]` as scikit-learn's `confusion_matrix`, a row for
/// each true class. The predicted class has the highest score, the first of equals; a target that is none of the classes
/// doesn't count. Counts are exact.
///
/// An evaluation has the whole matrix. The number that it comes down to in logs is Matthews's correlation coefficient,
/// `matthews_corrcoef`, in the form for any number of classes (Gorodkin, Computational Biology and Chemistry 28, 2004):
/// 1 if all is right, about 0 for answers that don't depend on the target, however unlike in number the classes are. It
/// is 0 where all targets or all answers are of one class.
#[derive(Clone, Copy, Debug)]
pub struct ConfusionMatrix {
    classes: usize,
}

impl ConfusionMatrix {
    /// The name of the metric, by which an evaluation finds the counts.
    pub const NAME: &'static str = "matthews_corrcoef";

    /// Of so many classes.
    pub fn new(classes: usize) -> ConfusionMatrix {
        ConfusionMatrix { classes }
    }

    fn cells(&self) -> usize {
        self.classes.saturating_mul(self.classes)
    }
}

impl Metric for ConfusionMatrix {
    fn name(&self) -> String {
        ConfusionMatrix::NAME.to_string()
    }

    fn sizes(&self) -> Vec<usize> {
        vec![self.cells()]
    }

    #[track_caller]
    fn sums(&self, output: &Tensor, target: &Tensor, weight: &Tensor) -> Vec<Tensor> {
        let (graph, count, classes) = (output.graph(), target.ty().numel(), self.classes);
        let cells = self.cells();
        let reason = match output.shape().get(1) {
            Some(&found) if found != classes => Some(format!("is of {classes} classes")),
            None => Some(format!("takes scores of {classes} classes, [batch, classes, ..]")),
            _ if classes > CLASSES => Some(format!("is of at most {CLASSES} classes")),
            _ if count > EXACT => {
                Some(format!("counts at most {EXACT} targets in a batch exactly, not {count}"))
            }
            _ => None,
        };
        if let Some(reason) = reason {
            let refused = graph.refuse("confusion_matrix", &[output, target], &reason);
            return vec![refused.expand(&[cells])];
        }
        let known = target.less(&target.full_like(classes as f64));
        let cell = target * classes as f64 + output.argmax(1);
        // One past the last cell is in none.
        let cell = known.select(&cell, &cell.full_like(cells as f64)).reshape(&[count]);
        let empty = graph.full(&[cells], DType::F32, 0.0);
        vec![empty.scatter_add(0, &cell, &weight.reshape(&[count]))]
    }

    fn value(&self, sums: &[f64]) -> f64 {
        let classes = self.classes;
        let row = |c: usize| sums[c * classes..][..classes].iter().sum::<f64>();
        let column = |c: usize| sums.iter().skip(c).step_by(classes).sum::<f64>();
        let over = |of: &dyn Fn(usize) -> f64| (0..classes).map(of).sum::<f64>();
        let (total, right) = (over(&row), over(&|c| sums[c * classes + c]));
        if total == 0.0 {
            return f64::NAN;
        }
        let covariance = right * total - over(&|c| row(c) * column(c));
        let spread = |of: &dyn Fn(usize) -> f64| total * total - over(&|c| of(c).powi(2));
        // Before the root, the product of two large spreads could overflow.
        let scale = spread(&row).sqrt() * spread(&column).sqrt();
        if scale > 0.0 { covariance / scale } else { 0.0 }
    }
}
