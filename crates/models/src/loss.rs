//! Losses.

use shadegrad_device::DType;
use shadegrad_graph::Tensor;

/// What training makes small: outputs and targets to one loss for each sample.
pub trait Loss {
    /// The loss of each sample, `[batch]`.
    fn each(&self, output: &Tensor, target: &Tensor) -> Tensor;
}

/// Cross-entropy of logits `[batch, classes]` with class indices `[batch]`, `U32`.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy;

impl Loss for CrossEntropy {
    #[track_caller]
    fn each(&self, output: &Tensor, target: &Tensor) -> Tensor {
        cross_entropy(output, target)
    }
}

/// Mean squared error: of `[batch, ..]`, the mean over everything but the batch.
#[derive(Clone, Copy, Debug)]
pub struct Mse;

impl Loss for Mse {
    #[track_caller]
    fn each(&self, output: &Tensor, target: &Tensor) -> Tensor {
        let error = output - target;
        let axes: Vec<usize> = (1..error.shape().len()).collect();
        let squared = &error * &error;
        if axes.is_empty() { squared } else { squared.mean(&axes) }
    }
}

/// `-log softmax(logits)[target]` for each row of `[batch, classes]`.
///
/// A target that is no class gives NaN, so that it can't pass unseen.
#[track_caller]
pub fn cross_entropy(logits: &Tensor, target: &Tensor) -> Tensor {
    let shape = logits.shape();
    let (&[batch, classes], true) =
        (shape.as_slice(), target.shape() == shape.get(..1).unwrap_or_default())
    else {
        let reason = "takes logits [batch, classes] and class indices [batch]";
        return logits.graph().refuse("cross_entropy", &[logits, target], reason);
    };
    let logs = logits.log_softmax(1);
    let hit = logs.along(1).equal(&target.reshape(&[batch, 1]));
    let picked = -hit.select(&logs, &logs.like(0.0)).sum(&[1]);
    let valid = target.less(&target.like(classes as f64));
    valid.select(&picked, &picked.like(f64::NAN))
}

/// The mean of the squared difference over all elements.
#[track_caller]
pub fn mse(output: &Tensor, target: &Tensor) -> Tensor {
    let error = output - target;
    (&error * &error).mean_all()
}

/// How many rows of logits are largest at the target, as `F32`.
#[track_caller]
pub fn correct(logits: &Tensor, target: &Tensor) -> Tensor {
    logits.argmax(1).equal(target).to(DType::F32).sum_all()
}
