//! Expand: operations that a device has no kernel for, as others. The gradient of attention has one on the CPU only: adapters go
//! through its matrices with products, which they compute faster than rows.

use crate::ops::{AttendGradient, Op, Slice};
use crate::{Graph, GraphError, Node, Nodes, Tensor, Value};
use shadegrad_device::{DeviceClass, Limits};
use std::borrow::Cow;
use std::collections::HashMap;

/// Nodes of which the device has kernels.
///
/// # Errors
/// A mistake in what an operation is made of.
pub(crate) fn expand<'n>(nodes: &'n Nodes, limits: &Limits) -> Result<Cow<'n, Nodes>, GraphError> {
    let without_kernel = |node: &Node| matches!(node.op, Op::AttendGradient(_));
    if limits.class == DeviceClass::Cpu || !nodes.nodes.iter().any(without_kernel) {
        return Ok(Cow::Borrowed(nodes));
    }
    let graph = Graph::new();
    let mut moved: Vec<Value> = Vec::with_capacity(nodes.nodes.len());
    let mut parts: HashMap<Value, (&AttendGradient, [Tensor; 3])> = HashMap::new();
    for (number, node) in nodes.nodes.iter().enumerate() {
        let inputs: Vec<Value> = node.inputs.iter().map(|v| moved[v.index()]).collect();
        let part = node.inputs.first().and_then(|v| part(node, parts.get(v)?));
        moved.push(match (&node.op, part) {
            (_, Some(part)) => part.value(),
            (Op::AttendGradient(op), _) => {
                let of: Vec<Tensor> = inputs.iter().map(|&v| Tensor::new(&graph, v)).collect();
                let made = graph.like(node, || op.parts(&of));
                let whole = graph.like(node, || graph.concat(&made.each_ref(), -1));
                parts.insert(Value(number as u32), (op, made));
                whole.value()
            }
            _ => graph.keep(Node { inputs, ..node.clone() }),
        });
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

/// What a node takes of a gradient, if that is one of its parts: then nothing has to be put together.
fn part(node: &Node, (op, parts): &(&AttendGradient, [Tensor; 3])) -> Option<Tensor> {
    match node.op {
        Op::Slice(Slice { axis, start, step: 1, len }) if axis == op.0.batch.len() => {
            op.part(start, len).map(|part| parts[part].clone())
        }
        _ => None,
    }
}
