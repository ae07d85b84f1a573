//! Operations of views: transposed, strided, shifted and repeated operands, and upstream gradients
//! that are views themselves. Fused kernels read through such views, so their strides must be
//! right in both directions.

use super::{Call, Outputs, y};
use crate::vectors::Case;
use shadegrad::graph::{
    Array, ConvOptions, Graph, PadMode, Padding, PoolOptions, Tensor, Type, check,
};

/// An input as a variable. The one that a batched product names by `aT` or `bT` lies transposed in
/// memory, so the case's tensor is a view of it.
pub(super) fn input(graph: &Graph, case: &Case, name: &str, array: &Array) -> Tensor {
    let view = case.attrs["view"].as_str().and_then(|view| view.strip_suffix('T'));
    match case.op == "layout_bmm" && view == Some(name) {
        true => graph.variable(&check::variable(name, &transposed(array))).transpose(-1, -2),
        false => graph.variable(&check::variable(name, array)),
    }
}

/// The array with its last two axes exchanged.
fn transposed(array: &Array) -> Array {
    let mut shape = array.ty.shape.clone();
    let last = shape.len() - 1;
    shape.swap(last, last - 1);
    Array::from_fn(&Type::new(&shape, array.ty.dtype), |at| {
        let mut from = at.to_vec();
        from.swap(last, last - 1);
        array.at(&from)
    })
}

pub(super) fn build(call: &Call<'_>) -> Option<Outputs> {
    let op = call.op().strip_prefix("layout_")?;
    if op == "bmm" {
        return Some(y(batched_product(call)));
    }
    let x = view(call.input("x"), call.text("view"));
    let (w, b) = (call.find("w"), call.find("b"));
    match op {
        "conv2d" => {
            let padding = Padding::Zeros([call.count("padding"); 2]);
            let options = ConvOptions { padding, ..ConvOptions::default() };
            return Some(y(x.conv2d(w?, b, &options)));
        }
        "batch_norm_affine" => return Some(y(x.batch_norm_train(w, b, 1e-5).0)),
        _ => {}
    }
    let result = function(call.graph, op, &x)?;
    let (name, after) = call.text("then").split_once(", ").unwrap_or((call.text("then"), ""));
    assert_eq!(name, op);
    Some(y(match after {
        "" => result,
        "output dims reversed (strided upstream gradient)" => {
            let order: Vec<usize> = (0..result.shape().len()).rev().collect();
            result.permute(&order)
        }
        ".sum() (zero-stride upstream gradient)" => result.sum_all(),
        other => panic!("nothing is called `{other}`"),
    }))
}

/// The view of an input that a case computes with.
fn view(x: &Tensor, name: &str) -> Tensor {
    let stepped = |x: &Tensor, axis: usize, start: usize, step: usize| {
        let len = (x.shape()[axis] - start).div_ceil(step);
        x.slice(axis, start, step as isize, len)
    };
    match name {
        "none" => x.clone(),
        "x.permute(0,3,1,2)" | "NHWC memory (x.permute(0,3,1,2))" => x.permute(&[0, 3, 1, 2]),
        "x.transpose(-1,-2)" => x.transpose(-1, -2),
        "x[:, ::2, :, 1::2]" => stepped(&stepped(x, 1, 0, 2), 3, 1, 2),
        "x[:,:,::2,::2]" => stepped(&stepped(x, 2, 0, 2), 3, 0, 2),
        "x[1:,1:,1:,1:]" => (0..4).fold(x.clone(), |x, axis| stepped(&x, axis, 1, 1)),
        "x.expand(3,4,5,6) of shape (3,1,5,1)" => x.expand(&[3, 4, 5, 6]),
        "expand of (1,3,6,7)" => x.expand(&[2, 3, 6, 7]),
        other => panic!("no view is called `{other}`"),
    }
}

/// What is computed of a view; the numbers are the case's own and stand in no argument.
fn function(graph: &Graph, name: &str, x: &Tensor) -> Option<Tensor> {
    let shape = x.shape();
    let windows = PoolOptions { stride: [1, 1], ..PoolOptions::new([2, 2]) };
    Some(match name {
        "tanh" => x.tanh(),
        "sigmoid" => x.sigmoid(),
        "silu" => x.silu(),
        "gelu" => x.gelu(),
        "softplus" => x.softplus(),
        "exp" => x.exp(),
        "mul_self" => x * x,
        "softmax_last" => x.softmax(-1),
        "softmax_1" => x.softmax(1),
        "log_softmax_last" => x.log_softmax(-1),
        "sum_1" => x.sum(&[1]),
        "mean_last" => x.mean(&[-1]),
        "amax_1" => x.amax(&[1]),
        "cumsum_2" => x.cumsum(2),
        "layer_norm" => x.layer_norm(&shape[3..], None, None, 1e-5),
        "batch_norm_train" => x.batch_norm_train(None, None, 1e-5).0,
        "group_norm_1" => x.group_norm(1, None, None, 1e-5),
        "max_pool2d" => x.max_pool2d(&windows),
        "avg_pool2d" => x.avg_pool2d(&windows),
        "matmul_self" => x.matmul(&x.transpose(-1, -2)),
        "pad" => x.pad_with(&[(1, 2), (0, 1)], PadMode::Constant(0.0)),
        "cat_self" => graph.concat(&[x, &(x * 2.0)], 1),
        // Each element has a weight of its own, so that none can change places.
        "reshape_flat" => {
            let count = shape.iter().product::<usize>() as f64;
            x.flatten(0) * (graph.arange(1.0, count + 1.0, 1.0) / count)
        }
        // The sum of squared magnitudes.
        "abs_sum_all" => x.square().sum_all(),
        _ => return None,
    })
}

/// Batched products of operands that lie transposed, or whose batches or columns are repeated.
fn batched_product(call: &Call<'_>) -> Tensor {
    let (a, b) = (call.input("a"), call.input("b"));
    match call.text("view") {
        "aT" | "bT" => a.matmul(b),
        "a-expanded" | "a-row-expanded" => {
            let (batch, rows, inner) = (b.shape()[0], a.shape()[1], b.shape()[1]);
            a.expand(&[batch, rows, inner]).matmul(b)
        }
        other => panic!("no view is called `{other}`"),
    }
}
