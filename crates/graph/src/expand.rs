//! Expand: operations that a device has no kernel for, or computes faster as others.
//!
//! The gradient of attention has a kernel on the CPU only: adapters go through its matrices with products, which they compute
//! faster than rows. Long reductions to a few results have two levels, because a row is reduced by one workgroup or one core.
//! Convolutions with filters of one element are products. Of a convolution with strides, most pairs of a pixel and an element of the
//! filter give nothing to the input's gradient: adapters compute pixels that are a stride apart together, without those pairs. The
//! CPU's kernel does that itself.

use crate::ops::{AttendGradient, Conv2d, Conv2dInputGradient, Op, Reduce, Slice};
use crate::{Graph, GraphError, Node, Nodes, Tensor, Value};
use shadegrad_device::{Combine, Conv, DeviceClass, Limits, numel};
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
    /// Convolutions of pixels that are a stride apart.
    Phases(&'n Conv),
}

impl Instead<'_> {
    fn of<'n>(
        node: &'n Node,
        nodes: &Nodes,
        filled: &[bool],
        limits: &Limits,
    ) -> Option<Instead<'n>> {
        let on_adapter = limits.class != DeviceClass::Cpu;
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
            Op::Conv2d(Conv2d(conv)) if is_product(conv) => Some(Instead::Product(conv, false)),
            Op::Conv2dInputGradient(Conv2dInputGradient(conv)) => match is_product(conv) {
                true => Some(Instead::Product(conv, true)),
                false => (on_adapter && has_phases(conv)).then_some(Instead::Phases(conv)),
            },
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
            Instead::Product(conv, transposed) => product(conv, &of[1], &of[0], transposed),
            Instead::Phases(conv) => phases(conv, &of[0], &of[1]),
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

/// Pixels of an image from which on its product fills tiles.
const PIXELS: usize = 32;

/// Whether a convolution and its input's gradient are products of the channels of pixels with one matrix, and large enough: of images
/// of one pixel all together.
fn is_product(conv: &Conv) -> bool {
    let pixels = conv.input[0] * conv.input[1];
    let plain = conv.kernel == [1, 1] && conv.stride == [1, 1] && conv.groups == 1;
    plain
        && conv.padding == [0, 0]
        && conv.input == conv.output
        && (pixels == 1 || pixels >= PIXELS)
}

/// The product of a convolution's filters of one element, or of their transpose, with the pixels of all images.
fn product(conv: &Conv, weight: &Tensor, images: &Tensor, transposed: bool) -> Tensor {
    let [from, to] = match transposed {
        true => [conv.out_channels, conv.in_channels],
        false => [conv.in_channels, conv.out_channels],
    };
    let pixels = conv.input[0] * conv.input[1];
    let matrix = weight.reshape(&[conv.out_channels, conv.in_channels]);
    let matrix = if transposed { matrix.transpose(0, 1) } else { matrix };
    let products = if pixels == 1 {
        images.reshape(&[conv.batch, from]).matmul(&matrix.transpose(0, 1))
    } else {
        let matrices = matrix.unsqueeze(0).expand(&[conv.batch, to, from]);
        matrices.matmul(&images.reshape(&[conv.batch, from, pixels]))
    };
    products.reshape(&[conv.batch, to, conv.input[0], conv.input[1]])
}

/// Most convolutions that stand for one: each is a shader.
const PHASES: usize = 4;

/// Whether a convolution has strides, and where it has, no dilation.
fn has_phases(conv: &Conv) -> bool {
    let of = |axis: usize| conv.stride[axis] == 1 || conv.dilation[axis] == 1;
    (2..=PHASES).contains(&(conv.stride[0] * conv.stride[1])) && of(0) && of(1)
}

/// The gradient of a convolution's input: pixels whose distance is a multiple of the stride see the same elements of the filter, each
/// for the next output, as in a convolution without strides.
fn phases(conv: &Conv, slope: &Tensor, weight: &Tensor) -> Tensor {
    let Conv { batch, in_channels, input, kernel, stride, padding, .. } = *conv;
    let extents = [0, 1].map(|axis| input[axis].div_ceil(stride[axis]));
    let mut parts = Vec::new();
    for number in 0..stride[0] * stride[1] {
        let phase = [number / stride[1], number % stride[1]];
        // The first element of the filter that meets an output, and at which output that is.
        let first = [0, 1].map(|axis| (phase[axis] + padding[axis]) % stride[axis]);
        let reached = [0, 1].map(|axis| (phase[axis] + padding[axis]) / stride[axis]);
        let seen =
            [0, 1].map(|axis| kernel[axis].saturating_sub(first[axis]).div_ceil(stride[axis]));
        if seen.contains(&0) {
            parts.push(slope.graph().full(
                &[batch, in_channels, 1, extents[0], extents[1]],
                slope.dtype().loaded(),
                0.0,
            ));
            continue;
        }
        let mut elements = weight.clone();
        for axis in 0..2 {
            elements = elements.slice(axis + 2, first[axis], stride[axis] as isize, seen[axis]);
        }
        let of_phase =
            Conv { input: extents, kernel: seen, stride: [1, 1], padding: reached, ..*conv };
        let part = match is_product(&of_phase) {
            true => product(&of_phase, &elements, slope, true),
            false => slope.record(Conv2dInputGradient(of_phase), &[slope, &elements]),
        };
        parts.push(part.unsqueeze(2));
    }
    let parts: Vec<&Tensor> = parts.iter().collect();
    let [h, w] = extents;
    slope
        .graph()
        .concat(&parts, 2)
        .reshape(&[batch, in_channels, stride[0], stride[1], h, w])
        .permute(&[0, 1, 4, 2, 5, 3])
        .reshape(&[batch, in_channels, h * stride[0], w * stride[1]])
        .narrow(2, 0, input[0])
        .narrow(3, 0, input[1])
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
