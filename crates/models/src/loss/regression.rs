//! Losses of numbers.

use super::{Reduction, same_shape};
use shadegrad_graph::Tensor;
use shadegrad_graph::case;
use shadegrad_graph::catalog::{Case, distinct, positive, wide};

/// The squared difference.
#[track_caller]
pub fn mse_loss(output: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    match same_shape("mse_loss", &[output, target]) {
        true => reduction.of(&(output - target).square()),
        false => output.clone(),
    }
}

/// The absolute difference.
#[track_caller]
pub fn l1_loss(output: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    match same_shape("l1_loss", &[output, target]) {
        true => reduction.of(&(output - target).abs()),
        false => output.clone(),
    }
}

/// `d² / (2 beta)` for differences below `beta`, else `|d| - beta / 2` (Girshick, arXiv 1504.08083; PyTorch's default
/// beta is 1).
#[track_caller]
pub fn smooth_l1_loss(output: &Tensor, target: &Tensor, beta: f64, reduction: Reduction) -> Tensor {
    if !same_shape("smooth_l1_loss", &[output, target]) {
        return output.clone();
    }
    if beta.is_nan() || beta < 0.0 {
        let reason = format!("beta is at least 0, not {beta}");
        return output.graph().refuse("smooth_l1_loss", &[output, target], &reason);
    }
    if beta == 0.0 {
        return l1_loss(output, target, reduction);
    }
    reduction.of(&(huber(&(output - target), beta) * (1.0 / beta)))
}

/// `d² / 2` for differences below `delta`, else `delta (|d| - delta / 2)` (Huber, Ann. Math. Stat. 35, 1964; PyTorch's
/// default delta is 1).
#[track_caller]
pub fn huber_loss(output: &Tensor, target: &Tensor, delta: f64, reduction: Reduction) -> Tensor {
    if !same_shape("huber_loss", &[output, target]) {
        return output.clone();
    }
    if delta.is_nan() || delta <= 0.0 {
        let reason = format!("delta is above 0, not {delta}");
        return output.graph().refuse("huber_loss", &[output, target], &reason);
    }
    reduction.of(&huber(&(output - target), delta))
}

#[track_caller]
fn huber(difference: &Tensor, delta: f64) -> Tensor {
    let size = difference.abs();
    let small = size.less(&size.full_like(delta));
    small.select(&(difference.square() * 0.5), &((size - 0.5 * delta) * delta))
}

/// `exp(x) - y x`, the negative logarithm of a Poisson probability but for a constant, of logarithms of rates.
#[track_caller]
pub fn poisson_nll_loss(x: &Tensor, target: &Tensor, reduction: Reduction) -> Tensor {
    match same_shape("poisson_nll_loss", &[x, target]) {
        true => reduction.of(&(x.exp() - target * x)),
        false => x.clone(),
    }
}

/// `(log v + (x - y)² / v) / 2`, the negative logarithm of a normal probability but for a constant, of means and
/// variances; variances count as at least `eps` (Nix and Weigend, ICNN 1994; PyTorch's default eps is 1e-6).
#[track_caller]
pub fn gaussian_nll_loss(
    x: &Tensor,
    target: &Tensor,
    var: &Tensor,
    eps: f64,
    reduction: Reduction,
) -> Tensor {
    if !same_shape("gaussian_nll_loss", &[x, target, var]) {
        return x.clone();
    }
    // No slope is lost below eps.
    let var = var + (var.clamp_min(eps) - var).detach();
    reduction.of(&((var.log() + (x - target).square() / &var) * 0.5))
}

pub(super) fn cases() -> Vec<Case> {
    let pair = || vec![distinct(&[65]), distinct(&[65])];
    let of = |case: Case| Case { inputs: pair(), ..case };
    vec![
        of(case!("mse_loss", [], |_, x| mse_loss(&x[0], &x[1], Reduction::Mean))),
        of(case!("l1_loss", [], |_, x| l1_loss(&x[0], &x[1], Reduction::Sum))),
        of(case!("smooth_l1_loss", [], |_, x| smooth_l1_loss(&x[0], &x[1], 0.7, Reduction::None))),
        of(case!("huber_loss", [], |_, x| huber_loss(&x[0], &x[1], 0.8, Reduction::Mean))),
        of(case!("poisson_nll_loss", [], |_, x| poisson_nll_loss(&x[0], &x[1], Reduction::Mean))),
        case!("gaussian_nll_loss", [wide(&[65]), wide(&[65]), positive(&[65])], |_, x| {
            gaussian_nll_loss(&x[0], &x[1], &x[2], 1e-6, Reduction::Mean)
        }),
    ]
}
