//! Reductions, scans, searches, and what normalises along an axis.

use super::{Call, Outputs, named, y};
use shadegrad::graph::Tensor;

/// The axes that `dim` names: one, several, or, if null, all.
fn axes(call: &Call<'_>, x: &Tensor) -> Vec<isize> {
    match call.attr("dim").is_null() {
        true => (0..x.shape().len() as isize).collect(),
        false => call.list("dim"),
    }
}

pub(super) fn build(call: &Call<'_>) -> Option<Outputs> {
    let x = call.find("x")?;
    reduced(call, x).or_else(|| along_an_axis(call, x)).map(y).or_else(|| with_indices(call, x))
}

/// Reductions over axes, which disappear or, with `keepdim`, stay with extent one.
fn reduced(call: &Call<'_>, x: &Tensor) -> Option<Tensor> {
    let axes = axes(call, x);
    let y = match call.op() {
        "sum" => x.sum(&axes),
        "mean" => x.mean(&axes),
        "amax" => x.amax(&axes),
        "amin" => x.amin(&axes),
        // The unbiased variance divides by one less than the count, PyTorch's default.
        "var" => x.var(&axes, 1),
        "var0" => x.var(&axes, 0),
        "std" => x.std(&axes, 1),
        "logsumexp" => x.logsumexp(&axes),
        "norm1" => x.norm(1.0, &axes),
        "norm2" => x.norm(2.0, &axes),
        "prod" => x.prod(&axes),
        _ => return None,
    };
    match call.attr("keepdim").as_bool() {
        Some(true) => Some(y.keepdim(&axes)),
        _ => Some(y),
    }
}

/// Functions of one axis with one result.
fn along_an_axis(call: &Call<'_>, x: &Tensor) -> Option<Tensor> {
    let axis = || call.signed("dim");
    Some(match call.op() {
        "cumsum" => x.cumsum(axis()),
        "cumprod" => x.cumprod(axis()),
        "argmax" => x.argmax(axis()),
        "argmin" => x.argmin(axis()),
        "softmax" => x.softmax(axis()),
        "log_softmax" => x.log_softmax(axis()),
        _ => return None,
    })
}

/// Values, and where along the axis they came from.
fn with_indices(call: &Call<'_>, x: &Tensor) -> Option<Outputs> {
    let axis = || call.signed("dim");
    let (values, indices) = match call.op() {
        // Unlike `amax`, the gradient goes to the index that is returned and not to its equals.
        "max_dim" => x.max(axis()),
        // The largest, in falling order.
        "topk" => x.topk(call.count("k"), axis(), true),
        "sort" => x.sort(axis(), call.flag("descending")),
        _ => return None,
    };
    Some(named([("y", values), ("indices", indices)]))
}
