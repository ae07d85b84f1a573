//! Before clusters form: copies where a later stage needs a value in memory of its own, and what
//! lies behind a chain of movement.

use crate::ops::{Lowering, Op, Reshape};
use crate::{Node, Nodes, Type, Value};
use shadegrad_device::View;
use std::collections::BTreeSet;

/// Inserts copies where a later stage needs a value in memory of its own: outputs, assigned values
/// and packed values that are variables, views or generated, or that are wanted in two places.
pub(super) fn prepare(nodes: &Nodes) -> (Nodes, BTreeSet<Value>) {
    let mut out = Nodes { variables: nodes.variables.clone(), ..Nodes::default() };
    let mut copied = BTreeSet::new();
    let mut moved = Vec::with_capacity(nodes.nodes.len());
    // Values that have been given memory of a pack or a variable.
    let mut owned = BTreeSet::new();
    for node in &nodes.nodes {
        let mut node = node.clone();
        node.inputs = node.inputs.iter().map(|v: &Value| moved[v.index()]).collect();
        let lowering = lowering_of(&out, &node);
        match &lowering {
            Lowering::Pack => {
                node.inputs = node
                    .inputs
                    .iter()
                    .map(|&v| own(&mut out, &mut copied, &mut owned, v, true))
                    .collect();
            }
            Lowering::View(movement) => {
                // A view that can't be expressed on top of the views before it needs memory.
                let expressed = resolve(&out, &copied, node.inputs[0])
                    .and_then(|(_, view)| movement.apply(&view))
                    .is_some();
                if !expressed {
                    node.inputs[0] = copy(&mut out, &mut copied, node.inputs[0]);
                }
            }
            Lowering::Gather(_) => {
                // Only a plain view can be indexed.
                let plain = resolve(&out, &copied, node.inputs[0]).is_some_and(|(base, view)| {
                    let stored = match lowering_of(&out, &out.nodes[base.index()]) {
                        Lowering::Leaf => matches!(out.nodes[base.index()].op, Op::Leaf(_)),
                        Lowering::Pointwise(_) => false,
                        _ => true,
                    };
                    stored && !view.is_masked()
                });
                if !plain {
                    node.inputs[0] = copy(&mut out, &mut copied, node.inputs[0]);
                }
            }
            Lowering::Window(window, role, _) => {
                let [h, w] = if role.is_gradient() { window.output } else { window.input };
                for input in &mut node.inputs {
                    *input = flat(&mut out, &mut copied, *input, &[window.planes, h, w]);
                }
            }
            Lowering::Scatter([outer, _, inner], count) => {
                for input in &mut node.inputs {
                    *input = flat(&mut out, &mut copied, *input, &[*outer, *count, *inner]);
                }
            }
            _ => {}
        }
        moved.push(push(&mut out, node));
    }
    out.assigns = nodes
        .assigns
        .iter()
        .map(|(id, v)| (*id, own(&mut out, &mut copied, &mut owned, moved[v.index()], true)))
        .collect();
    out.outputs = nodes
        .outputs
        .iter()
        .map(|v| own(&mut out, &mut copied, &mut owned, moved[v.index()], false))
        .collect();
    (out, copied)
}

fn push(out: &mut Nodes, node: Node) -> Value {
    out.nodes.push(node);
    Value(out.nodes.len() as u32 - 1)
}

fn copy(out: &mut Nodes, copied: &mut BTreeSet<Value>, value: Value) -> Value {
    let node = &out.nodes[value.index()];
    let shape = node.ty.shape.clone();
    let ty = Type::new(&shape, node.ty.dtype.loaded());
    let value = push(out, Node { op: Reshape(shape).into(), inputs: vec![value], ty, at: node.at });
    copied.insert(value);
    value
}

/// The value, or a copy of it, such that a reshape of it is a view.
fn flat(out: &mut Nodes, copied: &mut BTreeSet<Value>, value: Value, shape: &[usize]) -> Value {
    match resolve(out, copied, value).and_then(|(_, view)| view.reshape(shape)) {
        Some(_) => value,
        None => copy(out, copied, value),
    }
}

/// The value that is stored when this one is asked for, or a copy of it. `exclusive` memory can be
/// promised only once.
fn own(
    out: &mut Nodes,
    copied: &mut BTreeSet<Value>,
    owned: &mut BTreeSet<Value>,
    value: Value,
    exclusive: bool,
) -> Value {
    let base = resolve(out, copied, value).filter(|(base, view)| {
        let computed = copied.contains(base)
            || matches!(
                lowering_of(out, &out.nodes[base.index()]),
                Lowering::Reduce(..)
                    | Lowering::Contract(_)
                    | Lowering::Window(..)
                    | Lowering::Scatter(..)
                    | Lowering::Gather(_)
            )
            || matches!(out.nodes[base.index()].op, Op::Pointwise(_)) && !is_generated(out, *base);
        computed && view.is_contiguous() && (!exclusive || !owned.contains(base))
    });
    let value = match base {
        Some((base, _)) => base,
        None => copy(out, copied, value),
    };
    if exclusive {
        owned.insert(value);
    }
    value
}

/// Whether a value depends on nothing but constants, coordinates and single words.
fn is_generated(nodes: &Nodes, value: Value) -> bool {
    let (mut open, mut seen) = (vec![value], BTreeSet::from([value]));
    while let Some(value) = open.pop() {
        let node = &nodes.nodes[value.index()];
        let fine = match &node.op {
            Op::Leaf(_) => node.ty.numel() <= 1,
            Op::Full(_) | Op::Iota(_) | Op::Pointwise(_) => true,
            _ => matches!(lowering_of(nodes, node), Lowering::View(_)),
        };
        if !fine {
            return false;
        }
        open.extend(node.inputs.iter().copied().filter(|v| seen.insert(*v)));
    }
    true
}

pub(super) fn lowering_of(nodes: &Nodes, node: &Node) -> Lowering {
    let types: Vec<&Type> = node.inputs.iter().map(|v| &nodes.nodes[v.index()].ty).collect();
    node.op.lower(&types)
}

/// The value that isn't movement behind a value, and the view of it; `None` if no view does.
pub(super) fn resolve(
    nodes: &Nodes,
    copied: &BTreeSet<Value>,
    value: Value,
) -> Option<(Value, View)> {
    let node = &nodes.nodes[value.index()];
    match lowering_of(nodes, node) {
        Lowering::View(movement) if !copied.contains(&value) => {
            let (base, view) = resolve(nodes, copied, node.inputs[0])?;
            Some((base, movement.apply(&view)?))
        }
        _ => Some((value, View::contiguous(&node.ty.shape))),
    }
}
