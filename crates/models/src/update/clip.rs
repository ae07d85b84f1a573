//! Norms of gradients, and clipping by them.

use shadegrad_device::{DType, numel};
use shadegrad_graph::{Graph, Tensor};

/// The norm of all numbers of some tensors together, a scalar, as PyTorch's `get_total_norm`. The
/// type is 1 for the sum of magnitudes, 2 for the root of the sum of squares, infinity for the
/// largest magnitude; others are refused.
#[track_caller]
pub fn get_total_norm(graph: &Graph, tensors: &[Tensor], norm_type: f64) -> Tensor {
    type Part = fn(&Tensor) -> Tensor;
    type Join = fn(&Tensor, &Tensor) -> Tensor;
    let (of, join): (Part, Join) = if norm_type == 1.0 {
        (|x| rows(&x.abs()).sum(&[1]).sum_all(), |a, b| a + b)
    } else if norm_type == 2.0 {
        (|x| rows(&(x * x)).sum(&[1]).sum_all(), |a, b| a + b)
    } else if norm_type == f64::INFINITY {
        (|x| rows(&x.abs()).amax(&[1]).amax(&[0]), |a, b| a.maximum(b))
    } else {
        let inputs: Vec<&Tensor> = tensors.iter().collect();
        let reason = format!("the type of a norm is 1, 2 or infinity, not {norm_type}");
        return graph.refuse("norm", &inputs, &reason);
    };
    // Without numbers there is nothing to take the largest of.
    let all = tensors.iter().filter(|tensor| numel(&tensor.shape()) > 0).map(of);
    let total = all.reduce(|a, b| join(&a, &b)).unwrap_or_else(|| graph.full(&[], DType::F32, 0.0));
    if norm_type == 2.0 { total.sqrt() } else { total }
}

/// Two levels, where the length allows: a row for each of up to 4096 groups of invocations.
fn rows(x: &Tensor) -> Tensor {
    let count = numel(&x.shape());
    let rows = (1..=count.min(4096)).rev().find(|rows| count.is_multiple_of(*rows)).unwrap_or(1);
    x.reshape(&[rows, count / rows])
}

/// Gradients scaled by `max_norm / (total_norm + 1e-6)` where that is less than one, as PyTorch's
/// `clip_grads_with_norm_`: afterwards their norm is at most `max_norm`.
#[track_caller]
pub fn clip_grads_with_norm(
    gradients: &[Tensor],
    max_norm: f64,
    total_norm: &Tensor,
) -> Vec<Tensor> {
    let scale =
        (total_norm.full_like(max_norm) / (total_norm + 1e-6)).minimum(&total_norm.full_like(1.0));
    gradients.iter().map(|gradient| gradient * &scale).collect()
}
