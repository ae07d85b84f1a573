//! Losses of comparisons between samples.

use super::{Reduction, same_shape};
use shadegrad_graph::Tensor;
use shadegrad_graph::case;
use shadegrad_graph::catalog::{Case, truth, wide};

/// For a target of 1 the input, for -1 how much less than a margin it is (PyTorch's default margin is 1).
#[track_caller]
pub fn hinge_embedding_loss(
    x: &Tensor,
    target: &Tensor,
    margin: f64,
    reduction: Reduction,
) -> Tensor {
    if !same_shape("hinge_embedding_loss", &[x, target]) {
        return x.clone();
    }
    let alike = target.greater(&target.zeros_like());
    reduction.of(&alike.select(x, &(-x + margin).relu()))
}

/// How much less than a margin `a` is above `b` where the target is 1, or below it where it is -1 (PyTorch's default
/// margin is 0).
#[track_caller]
pub fn margin_ranking_loss(
    a: &Tensor,
    b: &Tensor,
    target: &Tensor,
    margin: f64,
    reduction: Reduction,
) -> Tensor {
    match same_shape("margin_ranking_loss", &[a, b, target]) {
        true => reduction.of(&(target * (b - a) + margin).relu()),
        false => a.clone(),
    }
}

/// One less the cosine between rows of `[batch, width]` where the target `[batch]` is 1, and how much it is above a
/// margin where the target is -1 (PyTorch's default margin is 0).
#[track_caller]
pub fn cosine_embedding_loss(
    a: &Tensor,
    b: &Tensor,
    target: &Tensor,
    margin: f64,
    reduction: Reduction,
) -> Tensor {
    let shape = a.shape();
    if shape.len() != 2 || b.shape() != shape || target.shape() != shape[..1] {
        let reason = "takes two tensors [batch, width] and a target for each row";
        return a.graph().refuse("cosine_embedding_loss", &[a, b, target], reason);
    }
    let square = |x: &Tensor| x.square().sum(&[1]) + 1e-12;
    let cosine = (a * b).sum(&[1]) / (square(a) * square(b)).sqrt();
    let alike = target.greater(&target.zeros_like());
    reduction.of(&alike.select(&(-&cosine + 1.0), &(cosine - margin).relu()))
}

/// How much less than a margin the negative is further from the anchor than the positive, for rows of `[batch,
/// width]` (Balntas et al., BMVC 2016; PyTorch's default margin is 1). Distances are of `a - b + 1e-6`.
#[track_caller]
pub fn triplet_margin_loss(
    anchor: &Tensor,
    positive: &Tensor,
    negative: &Tensor,
    margin: f64,
    reduction: Reduction,
) -> Tensor {
    if !same_shape("triplet_margin_loss", &[anchor, positive, negative]) {
        return anchor.clone();
    }
    let distance = |other: &Tensor| (anchor - other + 1e-6).norm(2.0, &[-1]);
    reduction.of(&(distance(positive) - distance(negative) + margin).relu())
}

/// Truth values as 1 and -1.
fn signs(truth: &Tensor) -> Tensor {
    truth.to(shadegrad_device::DType::F32) * 2.0 - 1.0
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("hinge_embedding_loss", [wide(&[65]), truth(&[65])], |_, x| {
            hinge_embedding_loss(&x[0], &signs(&x[1]), 1.0, Reduction::Mean)
        }),
        case!("margin_ranking_loss", [wide(&[65]), wide(&[65]), truth(&[65])], |_, x| {
            margin_ranking_loss(&x[0], &x[1], &signs(&x[2]), 0.3, Reduction::Sum)
        }),
        case!("cosine_embedding_loss", [wide(&[7, 5]), wide(&[7, 5]), truth(&[7])], |_, x| {
            cosine_embedding_loss(&x[0], &x[1], &signs(&x[2]), 0.1, Reduction::None)
        }),
        case!("triplet_margin_loss", [wide(&[7, 5]), wide(&[7, 5]), wide(&[7, 5])], |_, x| {
            triplet_margin_loss(&x[0], &x[1], &x[2], 1.0, Reduction::Mean)
        }),
    ]
}
