//! Losses. Functions give a number for each element or sample and reduce it as they are told; a [`Loss`]
//! is what a trainer is given.

mod classification;
mod comparison;
mod ctc;
mod regression;

pub use classification::{
    CrossEntropyOptions, binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy,
    cross_entropy_with, kl_div, multi_margin_loss, nll_loss,
};
pub use comparison::{
    cosine_embedding_loss, hinge_embedding_loss, margin_ranking_loss, triplet_margin_loss,
};
pub use ctc::ctc_loss;
pub use regression::{
    gaussian_nll_loss, huber_loss, l1_loss, mse_loss, poisson_nll_loss, smooth_l1_loss,
};

use crate::{Accuracy, MeanAbsoluteError, Metric, R2Score};
use shadegrad_graph::Tensor;
use shadegrad_graph::catalog::Section;

/// What becomes of the losses of elements or samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// They stay as they are.
    None,
}

impl Reduction {
    #[track_caller]
    fn of(self, each: &Tensor) -> Tensor {
        match self {
            Reduction::Mean => each.mean_all(),
            Reduction::Sum => each.sum_all(),
            Reduction::None => each.clone(),
        }
    }
}

/// What training makes small: outputs and targets to one loss for each sample.
pub trait Loss {
    /// The loss of each sample, `[batch]`.
    fn each(&self, output: &Tensor, target: &Tensor) -> Tensor;

    /// What people want to know besides; the first says which weights are best.
    fn metrics(&self) -> Vec<Box<dyn Metric>> {
        vec![]
    }

    /// The class that is predicted for each target, if outputs are scores of classes along axis 1.
    #[track_caller]
    fn classes(&self, output: &Tensor) -> Option<Tensor> {
        Some(output.argmax(1))
    }
}

/// Every function of outputs and targets that gives a loss for each sample.
impl<F: Fn(&Tensor, &Tensor) -> Tensor> Loss for F {
    #[track_caller]
    fn each(&self, output: &Tensor, target: &Tensor) -> Tensor {
        self(output, target)
    }
}

/// Cross-entropy of logits `[batch, classes]` with class indices `[batch]`, `U32`.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy;

impl Loss for CrossEntropy {
    #[track_caller]
    fn each(&self, output: &Tensor, target: &Tensor) -> Tensor {
        cross_entropy(output, target)
    }

    fn metrics(&self) -> Vec<Box<dyn Metric>> {
        vec![Box::new(Accuracy)]
    }
}

/// Mean squared error: of `[batch, ..]`, the mean over everything but the batch.
#[derive(Clone, Copy, Debug)]
pub struct Mse;

impl Loss for Mse {
    #[track_caller]
    fn each(&self, output: &Tensor, target: &Tensor) -> Tensor {
        let squared = mse_loss(output, target, Reduction::None);
        let axes: Vec<usize> = (1..squared.shape().len()).collect();
        if axes.is_empty() { squared } else { squared.mean(&axes) }
    }

    fn metrics(&self) -> Vec<Box<dyn Metric>> {
        vec![Box::new(R2Score), Box::new(MeanAbsoluteError)]
    }

    fn classes(&self, _: &Tensor) -> Option<Tensor> {
        None
    }
}

/// Keeps a mistake unless all shapes are equal; whether they are.
#[track_caller]
fn same_shape(operation: &str, tensors: &[&Tensor]) -> bool {
    let same = tensors.iter().all(|t| t.shape() == tensors[0].shape());
    if !same {
        tensors[0].graph().refuse(operation, tensors, "takes tensors of one shape");
    }
    same
}

/// The losses of this crate, for tests and documentation.
pub fn sections() -> Vec<Section> {
    vec![
        Section::new(
            "Losses of classes",
            include_str!("classification.rs"),
            classification::cases(),
        ),
        Section::new("Losses of numbers", include_str!("regression.rs"), regression::cases()),
        Section::new("Losses of comparisons", include_str!("comparison.rs"), comparison::cases()),
        Section::new("Losses of sequences", include_str!("ctc.rs"), ctc::cases()),
    ]
}
