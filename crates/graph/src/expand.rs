//! Expand: operations that a device has no kernel for, or computes faster as others.
//!
//! The gradient of attention has a kernel on the CPU only: adapters go through its matrices with products, which they compute
//! faster than rows. Long reductions to a few results have two levels, because a row is reduced by one workgroup or one core. Products
//! with a vector would leave most of a tile empty on GPUs, which sum them in rows instead. Of convolutions see [`convolution`].

mod convolution;

use crate::ops::{
    AttendGradient, Conv2d, Conv2dInputGradient, Conv2dWeightGradient, MatMul, Op, Reduce, Slice,
};
use crate::{Graph, GraphError, Node, Nodes, Tensor, Value};
use shadegrad_device::{Combine, Conv, ConvRole, DeviceClass, Limits, numel};
use std::borrow::Cow;
use std::collections::HashMap;

/// What stands for a node.
enum Instead<'n> {
    /// The matrices of attention's gradient.
    Matrices(&'n AttendGradient),
    /// A reduction of so many parts of an axis, and one of their results.
    Levels(&'n Reduce, usize, usize),
    /// A product with the filters, or with their transpose.
    Product(&'n Conv, bool),
    /// Convolutions of pixels that are a stride apart, which may be sums over the elements of the filter.
    Phases(&'n Conv, bool),
    /// Sums over the elements of the filter.
    Shifts(&'n Conv, ConvRole),
    /// Rows of products with a vector, which are summed.
    Rows,
}

impl Instead<'_> {
    fn of<'n>(
        node: &'n Node,
        nodes: &Nodes,
        filled: &[bool],
        limits: &Limits,
    ) -> Option<Instead<'n>> {
        let on_adapter = limits.class != DeviceClass::Cpu;
        // What waits as halves is a product's result on all devices, so that all round the same.
        let on_gpu = limits.class.is_gpu() && !node.half;
        let shifts = |conv, role| {
            let pays = on_gpu && convolution::has_shifts(conv, role);
            pays.then_some(Instead::Shifts(conv, role))
        };
        match &node.op {
            Op::AttendGradient(op) if on_adapter => Some(Instead::Matrices(op)),
            Op::Reduce(reduce) => {
                let input = node.inputs[0].index();
                if filled[input] {
                    return None;
                }
                let [axis, parts] = levels(reduce, &nodes.nodes[input].ty.shape, limits)?;
                Some(Instead::Levels(reduce, axis, parts))
            }
            Op::MatMul(MatMul) => {
                let [a, b] = [0, 1].map(|side| &nodes.nodes[node.inputs[side].index()].ty.shape);
                let [m, k, n] = [a[a.len() - 2], a[a.len() - 1], b[b.len() - 1]];
                // A long sum is cut into parts if it is a product's, and keeps a device busy that way.
                let busy = k < LONG || node.ty.numel() >= FULL * limits.class.full_groups();
                let vector = k == 1 || busy && (m == 1 || n == 1);
                (on_gpu && vector).then_some(Instead::Rows)
            }
            Op::Conv2d(Conv2d(conv)) => match convolution::is_product(conv) {
                true => Some(Instead::Product(conv, false)),
                false => shifts(conv, ConvRole::Forward),
            },
            Op::Conv2dInputGradient(Conv2dInputGradient(conv)) => {
                match convolution::is_product(conv) {
                    true => Some(Instead::Product(conv, true)),
                    false if on_adapter && convolution::has_phases(conv) => {
                        Some(Instead::Phases(conv, on_gpu))
                    }
                    false => shifts(conv, ConvRole::InputGradient),
                }
            }
            Op::Conv2dWeightGradient(Conv2dWeightGradient(conv)) => {
                shifts(conv, ConvRole::WeightGradient)
            }
            _ => None,
        }
    }
}

/// Nodes that the device computes one by one.
///
/// # Errors
/// A mistake in what an operation is made of.
pub(crate) fn expand<'n>(nodes: &'n Nodes, limits: &Limits) -> Result<Cow<'n, Nodes>, GraphError> {
    let filled = filled(nodes);
    let instead = |node| Instead::of(node, nodes, &filled, limits);
    if !nodes.nodes.iter().any(|node| instead(node).is_some()) {
        return Ok(Cow::Borrowed(nodes));
    }
    let graph = Graph::new();
    let mut moved: Vec<Value> = Vec::with_capacity(nodes.nodes.len());
    let mut parts: HashMap<Value, (&AttendGradient, [Tensor; 3])> = HashMap::new();
    for (number, node) in nodes.nodes.iter().enumerate() {
        let inputs: Vec<Value> = node.inputs.iter().map(|v| moved[v.index()]).collect();
        if let Some(part) = node.inputs.first().and_then(|v| part(node, parts.get(v)?)) {
            moved.push(part.value());
            continue;
        }
        let Some(instead) = instead(node) else {
            moved.push(graph.keep(Node { inputs, ..node.clone() }));
            continue;
        };
        let of: Vec<Tensor> = inputs.iter().map(|&v| Tensor::new(&graph, v)).collect();
        let whole = graph.like(node, || match instead {
            Instead::Matrices(op) => {
                let made = op.parts(&of);
                let whole = graph.concat(&made.each_ref(), -1);
                parts.insert(Value(number as u32), (op, made));
                whole
            }
            Instead::Levels(reduce, axis, parts) => two_levels(reduce, &of[0], axis, parts),
            Instead::Product(conv, transposed) => {
                convolution::product(conv, &of[1], &of[0], transposed)
            }
            Instead::Phases(conv, shifts) => convolution::phases(conv, &of[0], &of[1], shifts),
            Instead::Shifts(conv, role) => convolution::shifted_sum(conv, role, &of[0], &of[1]),
            Instead::Rows => rows(&of[0], &of[1]),
        });
        moved.push(whole.value());
    }
    if let Some(error) = graph.error() {
        return Err(error);
    }
    let to = |value: &Value| moved[value.index()];
    Ok(Cow::Owned(Nodes {
        nodes: graph.inner.borrow().record.nodes.clone(),
        variables: nodes.variables.clone(),
        assigns: nodes.assigns.iter().map(|(id, value)| (*id, to(value))).collect(),
        outputs: nodes.outputs.iter().map(to).collect(),
    }))
}

/// Which values have elements that were filled in, such as those that were put together of several: cut somewhere else they are no
/// views, and would be stored.
fn filled(nodes: &Nodes) -> Vec<bool> {
    let mut filled: Vec<bool> = Vec::with_capacity(nodes.nodes.len());
    for node in &nodes.nodes {
        let passes = matches!(
            node.op,
            Op::Reshape(_)
                | Op::Permute(_)
                | Op::Expand(_)
                | Op::Slice(_)
                | Op::Detach(_)
                | Op::Pointwise(_)
        );
        let of_inputs = || node.inputs.iter().any(|input| filled[input.index()]);
        filled.push(matches!(node.op, Op::Pad(_)) || passes && of_inputs());
    }
    filled
}

/// Most results of a reduction in two levels. With more, each of which has a workgroup or is a core's, such as the channels of a batch
/// normalisation, the sums stay in the kernel of what is done with them.
const RESULTS: usize = 8;

/// Elements of a part of a reduction, at least.
const PART: usize = 1 << 12;

/// Into how many parts a long reduction is cut, and along which axis: the longest of those that are reduced.
fn levels(reduce: &Reduce, shape: &[usize], limits: &Limits) -> Option<[usize; 2]> {
    let reduced = |axis: &usize| reduce.axes.contains(axis);
    let axis = (0..shape.len()).filter(reduced).max_by_key(|&axis| shape[axis])?;
    let len: usize = reduce.axes.iter().map(|&axis| shape[axis]).product();
    let results = numel(shape).checked_div(len).filter(|results| *results > 0)?;
    // Parts that keep the largest devices of a class busy, and elements from which on a kernel more pays.
    let (most, long) = match limits.class {
        DeviceClass::Discrete => (limits.class.full_groups(), 1 << 16),
        DeviceClass::Integrated => (2 * limits.class.full_groups(), 1 << 16),
        // There an invocation goes through a part.
        DeviceClass::Software => (1024, 1 << 16),
        DeviceClass::Cpu => (64, 1 << 18),
    };
    // The CPU multiplies in f64, which parts would not.
    let exact = limits.class == DeviceClass::Cpu && reduce.combine == Combine::Prod;
    if results > RESULTS || len < long || exact {
        return None;
    }
    let extent = shape[axis];
    let wanted = (most / results).min(len / PART).min(extent);
    // Parts are equal: what is filled up is no view of what is computed, and would be stored.
    let mut near = (wanted..=(2 * wanted).min(extent)).chain((wanted / 4..wanted).rev());
    let parts = near.find(|parts| *parts > 1 && extent.is_multiple_of(*parts))?;
    Some([axis, parts])
}

/// A reduction of so many parts of an axis, and one of their results.
fn two_levels(reduce: &Reduce, x: &Tensor, axis: usize, parts: usize) -> Tensor {
    let shape = x.shape();
    let combine =
        |x: &Tensor, axes: Vec<usize>| x.record(Reduce { combine: reduce.combine, axes }, &[x]);
    let cut = [&shape[..axis], &[parts, shape[axis] / parts], &shape[axis + 1..]].concat();
    // Axes behind the one that is cut are one further on.
    let axes = reduce.axes.iter().map(|&other| if other >= axis { other + 1 } else { other });
    let first = combine(&x.reshape(&cut), axes.collect());
    combine(&first, vec![(0..axis).filter(|other| !reduce.axes.contains(other)).count()])
}

/// Terms of a sum that is cut into parts as a product's, and rows for each workgroup of a large device from which on it is busy without.
const LONG: usize = 2048;
const FULL: usize = 8;

/// A product of matrices of which one is a vector: its rows times the vector, which are summed.
fn rows(a: &Tensor, b: &Tensor) -> Tensor {
    let products = &a.unsqueeze(-1) * &b.unsqueeze(-3);
    products.sum(&[products.shape().len() - 2])
}

/// What a node takes of a gradient, if that is one of its parts: then nothing has to be put together.
fn part(node: &Node, (op, parts): &(&AttendGradient, [Tensor; 3])) -> Option<Tensor> {
    match node.op {
        Op::Slice(Slice { axis, start, step: 1, len }) if axis == op.0.batch.len() => {
            op.part(start, len).map(|part| parts[part].clone())
        }
        _ => None,
    }
}
