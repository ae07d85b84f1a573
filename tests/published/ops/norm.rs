//! Normalisation: `w` scales and `b` shifts what is normalised.

use super::{Call, Outputs, named, y};
use shadegrad::graph::Tensor;

pub(super) fn build(call: &Call<'_>) -> Option<Outputs> {
    let x = call.find("x")?;
    let (w, b) = (call.find("w"), call.find("b"));
    let eps = || call.number("eps");
    Some(y(match call.op() {
        "batch_norm_train" => return Some(batch_norm_train(call, x)),
        "batch_norm_eval" => {
            let (mean, var) = (call.input("rm"), call.input("rv"));
            let y = x.batch_norm(mean, var, w, b, eps());
            // The running statistics stay what they are.
            let [mean, var] = [mean, var].map(Tensor::clone);
            return Some(named([("y", y), ("running_mean", mean), ("running_var", var)]));
        }
        "layer_norm" => x.layer_norm(&call.sizes("normalized_shape"), w, b, eps()),
        "rms_norm" => x.rms_norm(&call.sizes("normalized_shape"), w, eps()),
        "group_norm" => x.group_norm(call.count("groups"), w, b, eps()),
        "instance_norm" => x.instance_norm(w, b, eps()),
        "normalize" => x.normalize(call.number("p"), call.signed("dim"), eps()),
        _ => return None,
    }))
}

/// Normalised by the statistics of the batch, which move the running ones. The output divides by
/// the root of the biased variance; the running one takes the unbiased.
fn batch_norm_train(call: &Call<'_>, x: &Tensor) -> Outputs {
    assert_eq!(call.text("running_var"), "unbiased");
    let (y, mean, var) = x.batch_norm_train(call.find("w"), call.find("b"), call.number("eps"));
    let momentum = call.number("momentum");
    let moved = |old: &Tensor, new: Tensor| old * (1.0 - momentum) + new * momentum;
    let (mean, var) = (moved(call.input("rm"), mean), moved(call.input("rv"), var));
    named([("y", y), ("running_mean", mean), ("running_var", var)])
}
